//! Tool calls, what came of them, and the approvals that some of them wait for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A model's wish to call a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's id for it, unique in its answer.
    pub id: String,
    /// Our name of the tool (`time.now`); what the model wrote, where we have none of that name.
    pub name: String,
    /// The arguments as the model wrote them: JSON text, not checked yet.
    pub arguments: String,
}

/// What came of a tool call, as the model is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResult {
    /// The id of the call.
    pub call_id: String,
    /// Whether it is an error, in words that the model can use.
    pub is_error: bool,
    /// The output, bounded.
    pub content: String,
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Pending,
    /// The call may run, once.
    Allowed,
    /// It may not.
    Denied,
    /// Nobody decided in time, which is a no.
    Expired,
    /// Its turn was stopped.
    Cancelled,
}

impl ApprovalState {
    /// All of them.
    pub const ALL: [ApprovalState; 5] = [Self::Pending, Self::Allowed, Self::Denied, Self::Expired, Self::Cancelled];

    /// The state's name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalState::Pending => "pending",
            ApprovalState::Allowed => "allowed",
            ApprovalState::Denied => "denied",
            ApprovalState::Expired => "expired",
            ApprovalState::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// What a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This call may run.
    Allow,
    /// It may not.
    Deny,
    /// It may, and so may every call that is exactly like it.
    Always,
}

impl Decision {
    /// The decision's name in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
            Decision::Always => "always",
        }
    }

    /// The decision of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Allow, Self::Deny, Self::Always].into_iter().find(|d| d.as_str() == name)
    }
}

/// A question to the operators: may this call run?
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Our id: `apr_…`.
    pub id: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// The tool.
    pub tool: String,
    /// The exact arguments.
    pub arguments: Value,
    /// What the person is shown: tool and arguments, with control, bidi and zero-width characters escaped.
    pub question: String,
    /// Of tool, arguments and what else the call is bound to; an approval of one digest never serves another.
    pub digest: String,
    /// The model's id of the call.
    pub call_id: String,
    /// The message whose turn waits.
    pub message_id: String,
    /// Its session.
    pub session_id: String,
    /// The agent that asks.
    pub agent: String,
    /// The channel that the message came by.
    pub channel: String,
    /// The message's author.
    pub user_id: String,
    /// When it was asked.
    pub created_ms: i64,
    /// When no answer becomes a no.
    pub expires_ms: i64,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_ms: Option<i64>,
}

/// A rule that an operator's `always` made: calls exactly like this one are allowed where the configuration says `ask`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedRule {
    /// Our id: `rul_…`.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The agent that may.
    pub agent: String,
    /// The channel by which.
    pub channel: String,
    /// The user for whom.
    pub user_id: String,
    /// Of tool, arguments and what else the call is bound to.
    pub digest: String,
    /// The arguments, for people.
    pub arguments: Value,
    /// When it was made.
    pub created_ms: i64,
    /// Who made it.
    pub by: String,
}
