//! Providers: who answers in a turn.
//!
//! Invariant: a provider's wire format stays in its own file. A call blocks at most until the deadline that it was given. It
//! fails with a [`Failure`], which says whether the user may have seen a part of the answer.

pub mod anthropic;
pub mod builtin;
mod draft;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod images;
pub mod openai;
mod refusals;
mod reported;
pub mod server;
pub(in crate::agent) mod sse;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::domain::{CallResult, ToolCall};

use images::Image;

/// Longest text of one answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Most tool calls in one answer.
pub const CALLS_MAX: usize = 16;
/// Longest arguments of one tool call, in bytes.
pub const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Who says something in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatRole {
    /// We, about how to answer.
    System,
    /// The user.
    User,
    /// The agent, earlier.
    Assistant,
    /// A tool: what came of a call of the assistant's before it.
    Tool,
}

impl ChatRole {
    /// The role's name in the providers' APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            ChatRole::System => "system",
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
            ChatRole::Tool => "tool",
        }
    }
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What; of a tool its output.
    pub text: String,
    /// Of the user: images that came with it.
    pub images: Vec<Image>,
    /// What the assistant called with it. Each call has its result in one of the tool messages that follow.
    pub calls: Vec<ToolCall>,
    /// Of a tool message: the call that it answers.
    pub call_id: String,
    /// Of a tool message: whether the call failed.
    pub is_error: bool,
}

impl ChatMessage {
    /// Plain words.
    pub fn new(role: ChatRole, text: impl Into<String>) -> Self {
        ChatMessage { role, text: text.into(), images: Vec::new(), calls: Vec::new(), call_id: String::new(), is_error: false }
    }

    /// What an assistant said and called.
    pub fn asked(text: impl Into<String>, calls: Vec<ToolCall>) -> Self {
        ChatMessage { calls, ..ChatMessage::new(ChatRole::Assistant, text) }
    }

    /// What came of a call.
    pub fn result(result: &CallResult) -> Self {
        ChatMessage {
            call_id: result.call_id.clone(),
            is_error: result.is_error,
            ..ChatMessage::new(ChatRole::Tool, result.content.as_str())
        }
    }
}

/// A tool as a model is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Our name, as `time.now` or `mcp.files.read_file`.
    pub name: String,
    /// The name on the wire: `[A-Za-z0-9_-]`, at most 64, unique among those of one request. A provider gives calls back under
    /// our name.
    pub wire: String,
    /// What it does, for the model.
    pub description: String,
    /// The JSON Schema of its arguments: an object.
    pub schema: Value,
}

/// How an answer is to be made, where somebody asked for that; all else is the server's choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Texts at which the answer ends; at most 4.
    pub stop: Vec<String>,
    /// OpenAI's `response_format`, as it was given (`{"type":"json_object"}`, a JSON Schema); other APIs do without.
    pub response_format: Option<Value>,
}

/// What is asked of a provider.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The model; `auto` is the provider's first.
    pub model: String,
    /// The prompt; its last message is the user's or a tool's.
    pub messages: Vec<ChatMessage>,
    /// What the model may call; empty for none.
    pub tools: Vec<Arc<ToolSpec>>,
    /// How the answer is to be made.
    pub sampling: Sampling,
    /// Bound of the answer in tokens; `None` leaves it to the provider.
    pub max_output_tokens: Option<u64>,
    /// When the turn's time is over (`Clock::mono`).
    pub deadline: Duration,
    /// Cuts the call short: it then fails with `Stopped` within milliseconds, also where it blocks.
    pub cancel: Cancel,
}

impl Completion {
    /// A plain question: no tools, nothing special.
    pub fn of(model: &str, messages: Vec<ChatMessage>, deadline: Duration) -> Self {
        Completion {
            model: model.to_string(),
            messages,
            tools: Vec::new(),
            sampling: Sampling::default(),
            max_output_tokens: None,
            deadline,
            cancel: Cancel::new(),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text; blank only where there are calls.
    pub text: String,
    /// The tools that it calls, in order; arguments not checked yet. At most [`CALLS_MAX`].
    pub calls: Vec<ToolCall>,
    /// Tokens of the prompt as the provider counted them; 0 where it doesn't.
    pub tokens_in: u64,
    /// Tokens of the answer, likewise.
    pub tokens_out: u64,
    /// Why it ended, in the provider's word: `stop`, `length`, …
    pub finish: String,
    /// The model that answered, as the provider names it.
    pub model: String,
}

/// Why there is no whole answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Whether a part of the text had been passed to `on_delta` already.
    pub after_first_byte: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, after_first_byte: false }
    }
}

/// Somebody who answers.
pub trait Provider: Send + Sync {
    /// Asks for an answer and blocks until it is whole. `on_delta` is given each piece of its text as it comes, never a part of
    /// a character.
    ///
    /// # Errors
    /// With the kinds of [`crate::base::error::ErrorKind`]; the caller decides on trying again.
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure>;

    /// The models that it offers, its first choice first.
    ///
    /// # Errors
    /// As [`Provider::complete`].
    fn models(&self) -> Result<Vec<String>>;
}

#[cfg(test)]
mod tests;
