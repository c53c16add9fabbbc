//! Outbound messages: what is to be handed to a channel, and how that went.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// How a channel takes what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handoff {
    /// A delivery worker hands it over and the channel's answer settles it.
    Worker,
    /// It is pushed to who is connected, and settled by the receiver's own receipt (the WebSocket chat's `ack`); no worker
    /// claims it, and it waits without attempts.
    Receipt,
}

/// An outbound message as it is put to the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutbound {
    /// Our id, the same at every try: `dlv_…`.
    pub id: String,
    /// The channel that it leaves by.
    pub channel: String,
    /// How that channel takes it.
    pub handoff: Handoff,
    /// The canonical user id.
    pub user_id: String,
    /// The user in the channel's own terms.
    pub peer: String,
    /// The channel's conversation.
    pub conversation: Option<String>,
    /// The session that it belongs to, where it is known.
    pub session_id: Option<String>,
    /// The inbound message that it answers.
    pub in_reply_to: Option<String>,
    /// What to send.
    pub text: String,
    /// What the inbound message had attached.
    pub metadata: Option<Value>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be sent, now or at `nextAttemptMs`.
    Pending,
    /// A worker is handing it over.
    Sending,
    /// The channel or the receiver confirmed it.
    Sent,
    /// Given up: a dead letter.
    Dead,
    /// It left, and whether it arrived is not known, on a channel where sending again could double it: a person looks.
    Unknown,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [DeliveryState; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Dead, Self::Unknown];

    /// The state's name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Sending => "sending",
            DeliveryState::Sent => "sent",
            DeliveryState::Dead => "dead",
            DeliveryState::Unknown => "unknown",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// An outbound message with how its delivery went so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Our id: the idempotency key wherever the channel takes one.
    pub id: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// The channel that it leaves by.
    pub channel: String,
    /// The canonical user id.
    pub user_id: String,
    /// The user in the channel's own terms.
    #[serde(skip)]
    pub peer: String,
    /// The channel's conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The session that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The inbound message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    /// What to send.
    pub message: String,
    /// What the inbound message had attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Tries so far.
    pub attempts: u32,
    /// Parts that the service confirmed, of a message that goes in several.
    #[serde(skip_serializing_if = "is_zero")]
    pub parts_sent: u32,
    /// When the first try was made of which it is not known whether it arrived: what is sent after it may be a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unclear_ms: Option<i64>,
    /// The part, counted from 0, of which that is so.
    #[serde(skip)]
    pub unclear_part: u32,
    /// Why the last try failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it was put to the outbox.
    pub created_ms: i64,
    /// When it was confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ms: Option<i64>,
    /// When the next try is due, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
}

impl Delivery {
    /// Since when the part that goes next may have arrived, in ms since 1970, if it may.
    pub fn in_doubt_since(&self) -> Option<i64> {
        self.unclear_ms.filter(|_| self.unclear_part == self.parts_sent)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// How one try to deliver ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Confirmed.
    Sent,
    /// Failed; try again after this pause.
    Retry {
        /// The pause.
        after: Duration,
        /// Why it failed.
        reason: String,
        /// Whether it may have arrived all the same.
        is_unclear: bool,
    },
    /// It left, it is not known whether it arrived, and it is not to be sent again but by a person's decision.
    Unknown {
        /// Why it isn't known.
        reason: String,
    },
    /// Failed for good: a dead letter.
    Dead {
        /// Why it failed.
        reason: String,
    },
    /// Not tried, or interrupted before anything left: back to pending, the try not counted.
    Untried,
    /// Not tried, since its channel can't take it now: back to pending after this pause, the try not counted.
    Held {
        /// The pause.
        after: Duration,
        /// Why.
        reason: String,
    },
}

/// The record of one try.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The delivery.
    pub delivery_id: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// What becomes of a delivery that the death of the process cuts off between its send and its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// It is put back to be sent again, which is harmless or wished for. That it was begun survives the process, not the power.
    Resent,
    /// It is put back, and may be sent again as long as the service would know a repeat. That it was begun survives the power.
    Looked,
    /// It is kept as unknown. That it was begun survives the power.
    Held,
}
