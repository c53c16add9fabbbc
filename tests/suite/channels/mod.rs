//! The channels that hold a connection, each against its real server, or one that speaks its documented protocol.

mod matrix;
mod mqtt;
mod telegram;
