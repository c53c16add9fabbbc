//! What is kept of a user beyond their sessions: notes, and what their turns used.

use serde::Serialize;

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 2000;
/// Most notes of one user with one agent.
pub const NOTES_MAX: usize = 1000;

/// Something that an agent keeps about a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Its id: `not_…`. Putting a note with an id that is there already changes nothing: a repeat is harmless.
    pub id: String,
    /// Whom it is about.
    pub user_id: String,
    /// Whose it is.
    pub agent: String,
    /// The note.
    pub text: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it was last changed.
    pub updated_ms: i64,
}

/// What turns used, by day, user, agent and provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The day, in UTC: days since 1970.
    pub day: i64,
    /// Whose turns.
    pub user_id: String,
    /// Whose answers.
    pub agent: String,
    /// Who was asked.
    pub provider: String,
    /// Tokens of prompts.
    pub tokens_in: u64,
    /// Tokens of answers.
    pub tokens_out: u64,
    /// Calls of the provider.
    pub calls: u64,
}

/// What one turn used of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The provider's label.
    pub provider: String,
    /// Tokens of prompts.
    pub tokens_in: u64,
    /// Tokens of answers.
    pub tokens_out: u64,
    /// Calls of it.
    pub calls: u64,
}

/// What older turns of a session came to, in the model's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The text, bounded.
    pub text: String,
    /// The last turn (`Entry::turn`) that it covers.
    pub until: u64,
}
