//! Providers: who answers in a turn.
//!
//! Invariant: a provider's wire format stays in its own file. A call blocks at most until the deadline that it was given. It
//! fails with a [`Failure`], which says whether the user may have seen a part of the answer.

pub mod builtin;
pub mod openai;
mod sse;

use std::time::Duration;

use crate::base::error::{Error, Result};

/// Longest text of one answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Who says something in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatRole {
    /// We, about how to answer.
    System,
    /// The user.
    User,
    /// The agent, earlier.
    Assistant,
}

impl ChatRole {
    /// The role's name in the providers' APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            ChatRole::System => "system",
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
        }
    }
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What.
    pub text: String,
}

/// What is asked of a provider.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The model; `auto` is the provider's first.
    pub model: String,
    /// The prompt; its last message is the user's.
    pub messages: Vec<ChatMessage>,
    /// Bound of the answer in tokens; `None` leaves it to the provider.
    pub max_output_tokens: Option<u64>,
    /// When the turn's time is over (`Clock::mono`).
    pub deadline: Duration,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text; never blank.
    pub text: String,
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
