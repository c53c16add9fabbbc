//! The words: messages, users, sessions, turns, deliveries, principals. See `docs/ARCHITECTURE.md` for each in one line.
//!
//! Invariant: plain values, without I/O and without a lock. Times are milliseconds since 1970 (`_ms`) for people and peers.

mod attachment;
mod delivery;
mod job;
mod memory;
mod message;
mod pairing;
mod principal;
mod request;
mod schedule;
mod session;
mod tool;

pub use attachment::{ATTACHMENTS_MAX, Attached, Attachment, AttachmentState};
pub use delivery::{Attempt, CutOff, Delivery, DeliveryState, Handoff, NewOutbound, Outcome};
pub use job::{Job, JobRun, When, Work};
pub use memory::{NOTE_BYTES_MAX, NOTES_MAX, Note, Spent, Summary, Usage};
pub use message::{Accepted, InboundMessage, MessageState, NewInbound, TimelineEntry, own_id};
pub use pairing::{PAIRING_MS, PAIRING_TRIES, PAIRINGS_MAX, Pairing};
pub use principal::{Grant, Principal, Role, Standing};
pub use request::{Asked, Spoken};
pub use schedule::{Schedule, Unfit};
pub use session::{Claim, Collected, Entry, FinishedTurn, Said, SessionInfo, Step, StepKind};
pub use tool::{Approval, ApprovalState, CallResult, Decision, LearnedRule, ToolCall};

/// The name of the built-in channel that the WebSocket chat is.
pub const WEBSOCKET_CHANNEL: &str = "websocket";
/// The name under which the OpenAI-compatible API puts messages to the inbox; no channel: nothing can be sent by it.
pub const OPENAI_CHANNEL: &str = "openai";
/// Longest user, conversation and external message id, in bytes.
pub const ID_BYTES_MAX: usize = 256;
