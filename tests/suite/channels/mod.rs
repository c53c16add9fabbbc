//! The adapters, each against a fake that speaks its service's protocol, or against a real server.

mod telegram;
