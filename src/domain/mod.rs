//! The words: messages, users, sessions, turns, deliveries, principals. See `docs/ARCHITECTURE.md` for each in one line.
//!
//! Invariant: plain values, without I/O and without a lock. Times are milliseconds since 1970 (`_ms`) for people and peers.

mod delivery;
mod message;
mod principal;
mod session;

pub use delivery::{Attempt, Delivery, DeliveryState, Handoff, NewOutbound, Outcome};
pub use message::{Accepted, InboundMessage, MessageState, NewInbound, TimelineEntry};
pub use principal::{Principal, Role};
pub use session::{Claim, Entry, FinishedTurn, Said, SessionInfo, Step, StepKind};

/// The name of the built-in channel that the WebSocket chat is.
pub const WEBSOCKET_CHANNEL: &str = "websocket";
/// Longest user, conversation and external message id, in bytes.
pub const ID_BYTES_MAX: usize = 256;
