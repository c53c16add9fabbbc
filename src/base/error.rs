//! One error for two readers: a kind for the program to branch on, a sentence and a hint for the person.
//!
//! Invariant: neither text holds a secret. Text that comes from a peer is shortened where it enters.

use std::fmt;
use std::time::Duration;

/// What the program does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// May pass by itself: try again later.
    Transient,
    /// The peer asks for a pause, of this length if it said so.
    Throttled(Option<Duration>),
    /// Will fail the same way again: do not retry.
    Permanent,
    /// A credential was refused: a person must look.
    Denied,
    /// The input is wrong.
    Invalid,
    /// It took too long. May be tried again.
    Timeout,
    /// The peer was asked to do something that a repeat would do twice, and did not say whether it did. Not tried again but by
    /// whoever knows that a repeat is harmless, or wishes for it.
    Unclear,
    /// The gateway is stopping: nothing is wrong.
    Stopped,
    /// An assumption of ours does not hold.
    Bug,
}

/// An error with words for a person.
#[derive(Clone, Debug)]
pub struct Error {
    /// The branch to take.
    pub kind: ErrorKind,
    /// What happened, as a sentence without a final stop.
    pub text: String,
    /// What to do about it, or empty.
    pub hint: String,
}

/// A result with our error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Error { kind, text: text.into(), hint: String::new() }
    }

    /// The same error with a hint on what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether trying again can help.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, ErrorKind::Transient | ErrorKind::Throttled(_) | ErrorKind::Timeout | ErrorKind::Stopped)
    }
}

impl AsRef<Error> for Error {
    fn as_ref(&self) -> &Error {
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.hint.is_empty() {
            write!(f, ". {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// At most `max` bytes of `text`, cut at a character, with `…` where something was cut.
pub fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_string();
    }
    let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &text[..end])
}
