//! The network's edge: the door (HTTP), WebSockets, the client, the local socket.
//!
//! Invariant: bytes become typed requests here and nowhere else, within bounds and deadlines; nothing here knows a route, a
//! role or a message. Failures are answered where the protocol allows it and end the connection where it doesn't.

pub mod client;
pub mod door;
pub mod guard;
pub mod hosts;
pub mod http;
pub mod local;
pub mod mdns;
pub mod reach;
#[cfg(test)]
pub mod scripted;
pub mod stream;
pub mod tls;
mod unix_client;
pub mod websocket;
