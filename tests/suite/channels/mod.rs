//! Channels that hold a connection, each with a conversation over the real thing or a faithful fake.

mod mqtt;
