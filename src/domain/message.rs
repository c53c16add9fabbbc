//! Inbound messages and their life.

use serde::Serialize;
use serde_json::Value;

use crate::domain::attachment::{Attached, Attachment};
use crate::domain::delivery::Delivery;
use crate::domain::principal::Standing;

/// A message as it is put to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewInbound {
    /// Our id for it, made before the commit: `msg_…`.
    pub id: String,
    /// The channel's name.
    pub channel: String,
    /// The canonical user id (after `users` of the configuration).
    pub user_id: String,
    /// Whether `user_id` is nothing but the id of a channel whose ids say nothing of any other channel's: where a user of that id was
    /// seen elsewhere already, this one is another, and the store calls it `CHANNEL:ID`.
    pub is_bare: bool,
    /// The user's id in the channel's own terms: where replies go.
    pub peer: String,
    /// The channel's conversation (a room, a thread), where there is one.
    pub conversation: Option<String>,
    /// The id by which the outside knows it; the key of deduplication together with channel and conversation (or peer).
    pub external_id: Option<String>,
    /// The agent that the bindings chose.
    pub agent: String,
    /// What was written.
    pub text: String,
    /// What the sender attached; given back with the reply.
    pub metadata: Option<Value>,
    /// When it came in.
    pub received_ms: i64,
    /// How far its sender is known.
    pub standing: Standing,
    /// Whether it is handled at once, beside its session's turns (`/stop`, `/approve`, `/deny`).
    pub urgent: bool,
    /// Whether it may be answered in one turn with what its author writes before and behind it (`queue: "collect"`): its turn then
    /// begins once the author was silent for 2 s. Commands never are.
    pub collect: bool,
    /// The service's cursor behind it, committed with it: the channel's name is its key.
    pub cursor: Option<String>,
    /// Files that came with it, at most `ATTACHMENTS_MAX`; none of them is fetched yet.
    pub attachments: Vec<Attachment>,
}

/// The id of a channel's user, told apart from those who are called so elsewhere.
pub fn own_id(channel: &str, peer: &str) -> String {
    format!("{channel}:{peer}")
}

/// What became of putting a message to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message's id; of a duplicate, the first one's.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// Whether this external id had been accepted before.
    pub duplicate: bool,
}

/// Where an inbound message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// On disk, waiting for its turn.
    Queued,
    /// Its turn runs.
    Running,
    /// Its turn waits for a person's decision.
    WaitingApproval,
    /// Its turn is finished; its replies are in the outbox.
    Answered,
    /// Set aside; `error` says why. Can be retried.
    Failed,
    /// Withdrawn before it was answered.
    Cancelled,
}

impl MessageState {
    /// All of them.
    pub const ALL: [MessageState; 6] =
        [Self::Queued, Self::Running, Self::WaitingApproval, Self::Answered, Self::Failed, Self::Cancelled];

    /// The state's name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageState::Queued => "queued",
            MessageState::Running => "running",
            MessageState::WaitingApproval => "waiting_approval",
            MessageState::Answered => "answered",
            MessageState::Failed => "failed",
            MessageState::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether nothing more will happen to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, MessageState::Answered | MessageState::Failed | MessageState::Cancelled)
    }
}

/// One event in a message's life.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// When, by the wall clock.
    pub at_ms: i64,
    /// `accepted`, `started`, `retried`, `interrupted`, `answered`, `failed`, `delivery_sent`, `delivery_failed`, …
    pub event: String,
    /// What a person should know about it, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// An inbound message with all that is known of its life.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundMessage {
    /// Our id.
    pub id: String,
    /// Where it stands.
    pub state: MessageState,
    /// The channel it came by.
    pub channel: String,
    /// Its author.
    pub user_id: String,
    /// The channel's conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The sender's id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Its session.
    pub session_id: String,
    /// The agent it went to.
    pub agent: String,
    /// What was written.
    pub message: String,
    /// When it was accepted.
    pub received_ms: i64,
    /// How often its turn was started.
    pub attempts: u32,
    /// The reply, once it is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The files that came with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attached>,
    /// What was or is to be sent because of it.
    pub deliveries: Vec<Delivery>,
    /// Its life, oldest first.
    pub timeline: Vec<TimelineEntry>,
}
