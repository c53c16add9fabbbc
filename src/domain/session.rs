//! Sessions, their transcripts, and the turns that write them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::attachment::Attached;
use crate::domain::delivery::NewOutbound;
use crate::domain::memory::Spent;
use crate::domain::principal::Standing;
use crate::domain::tool::Approval;

/// Who said something in a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// The user.
    User,
    /// The agent.
    Assistant,
}

impl Said {
    /// The name in answers, in the store and in the providers' APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Said::User => "user",
            Said::Assistant => "assistant",
        }
    }
}

/// One entry of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Who said it.
    pub role: Said,
    /// What.
    pub text: String,
    /// When.
    pub at_ms: i64,
    /// The inbound message of whose turn it is, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The number of that turn in its session, from 1.
    #[serde(skip)]
    pub turn: u64,
}

/// A session, as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// Its id: `ses_…`.
    pub id: String,
    /// Its user.
    pub user_id: String,
    /// The channel.
    pub channel: String,
    /// The channel's conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The agent.
    pub agent: String,
    /// When it began.
    pub created_ms: i64,
    /// When something was last added.
    pub updated_ms: i64,
    /// Turns finished so far.
    pub turns: u64,
    /// Tokens that they used: of prompts and of answers.
    pub tokens_in: u64,
    /// See `tokens_in`.
    pub tokens_out: u64,
    /// The model that the session was switched to (`/model`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The latest entries, oldest first; empty in lists of sessions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<Entry>,
}

/// A message that a turn worker took: all that its turn needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The message.
    pub message_id: String,
    /// Its session.
    pub session_id: String,
    /// The channel it came by.
    pub channel: String,
    /// Its author.
    pub user_id: String,
    /// The author in the channel's own terms.
    pub peer: String,
    /// The channel's conversation.
    pub conversation: Option<String>,
    /// The agent that answers.
    pub agent: String,
    /// What was written.
    pub text: String,
    /// What the sender attached.
    pub metadata: Option<Value>,
    /// The files that came with it, in order.
    pub attachments: Vec<Attached>,
    /// When it was accepted.
    pub received_ms: i64,
    /// How far its author is known.
    pub standing: Standing,
    /// The model that the session was switched to (`/model`).
    pub model: Option<String>,
    /// How often its turn was started, this time included.
    pub attempts: u32,
    /// Tries of this message that failed in a way that may pass (the provider was down).
    pub failures: u32,
    /// The journal of former, cut-off tries, oldest first.
    pub steps: Vec<Step>,
    /// The approvals that this turn asked for, oldest first.
    pub approvals: Vec<Approval>,
    /// What its author wrote behind it and is answered in the same turn, in order (`queue: "collect"`). It ends with the turn; whoever
    /// waits for one of these waits for this turn's reply.
    pub more: Vec<Collected>,
}

impl Claim {
    /// What a reply needs: of messages that are answered together the latest says it.
    pub fn reply_metadata(&self) -> &Option<Value> {
        self.more.last().map_or(&self.metadata, |more| &more.metadata)
    }
}

/// A message that is answered in the turn of another, of the same author and standing.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// The message.
    pub message_id: String,
    /// What was written.
    pub text: String,
    /// What the sender attached.
    pub metadata: Option<Value>,
    /// The files that came with it, in order.
    pub attachments: Vec<Attached>,
    /// When it was accepted.
    pub received_ms: i64,
}

/// What a step of a turn was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The turn was taken by a worker.
    Started,
    /// A try failed in a way that may pass; the turn waits.
    Retried,
    /// A drain cut the turn short; it goes on at the next start.
    Interrupted,
    /// Its user asked to stop it: `detail` says why. It is cancelled by whoever has it in hand, or else by the next start.
    Stopped,
    /// The model asked for tools: `data` is its answer (`agent::turn`).
    Asked,
    /// A tool call is about to run: `data` is its id. Without a `Result` behind it its outcome is unknown.
    Called,
    /// What came of a tool call: `data` is a `CallResult`.
    Result,
    /// The turn waits for a person's decision.
    Parked,
}

impl StepKind {
    /// All of them.
    pub const ALL: [StepKind; 8] =
        [Self::Started, Self::Retried, Self::Interrupted, Self::Stopped, Self::Asked, Self::Called, Self::Result, Self::Parked];

    /// The name in the store and in timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Started => "started",
            StepKind::Retried => "retried",
            StepKind::Interrupted => "interrupted",
            StepKind::Stopped => "stopped",
            StepKind::Asked => "tools_asked",
            StepKind::Called => "tool_called",
            StepKind::Result => "tool_result",
            StepKind::Parked => "waiting_approval",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == name)
    }
}

/// One entry in a turn's journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it was.
    pub kind: StepKind,
    /// What a person reads in the timeline: a tool's name, a failure's sentence; short.
    pub detail: String,
    /// What the turn goes on from, as JSON, of any length; empty where the kind says it all. Never shown.
    pub data: String,
    /// When.
    pub at_ms: i64,
}

/// The end of a turn: written in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedTurn {
    /// The message that was answered.
    pub message_id: String,
    /// The reply; enters the transcript behind the message's text.
    pub reply: String,
    /// Whether the session ends with this turn: the user's next message opens a new one (`/new`).
    pub ends_session: bool,
    /// What is to be sent.
    pub outbound: Vec<NewOutbound>,
    /// How long the turn took, for its timeline.
    pub took: Duration,
    /// What it used, by provider.
    pub spent: Vec<Spent>,
    /// Whether nothing of it is to be kept: the session and its texts are erased with it.
    pub forget: bool,
}
