//! `memory.save`, `memory.search`, `memory.forget`: what an agent keeps about a user.
//!
//! Invariant: whose notes they are is said by the gateway, not by the arguments: another user's or another agent's notes can
//! neither be read nor forgotten, and look like notes that don't exist. A repeat of the same call saves nothing twice. Fails as the
//! store does.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{About, Context, Tool, object, text};
use crate::base::error::{Error, ErrorKind, Result};
use crate::domain::{NOTE_BYTES_MAX, NOTES_MAX, Note};
use crate::store::StoreError;
use crate::telemetry::rfc3339;

/// Notes that one search gives.
const FOUND_MAX: usize = 6;

/// `memory.save`.
pub struct Save(About);

impl Default for Save {
    fn default() -> Self {
        let schema = object(json!({"text": {"type": "string"}}), &["text"]);
        let about = About::new("memory.save", "Keep a fact about the user for later conversations.", schema);
        Save(About { idempotent: true, ..about })
    }
}

impl Tool for Save {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let text = text(arguments, "text").trim();
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "the note is empty"));
        }
        if text.len() > NOTE_BYTES_MAX {
            let problem = format!("the note has {} bytes, a note may have {NOTE_BYTES_MAX}", text.len());
            return Err(Error::new(ErrorKind::Invalid, problem).hint("save the essence of it"));
        }
        let (id, now) = (id_of_call("not", context), context.clock.unix_ms());
        let note = Note {
            id: id.clone(),
            user_id: context.who.user_id.clone(),
            agent: context.who.agent.clone(),
            text: text.to_string(),
            created_ms: now,
            updated_ms: now,
        };
        match context.store.add_note(note) {
            Ok(()) => Ok(format!("Saved as {id}.")),
            Err(StoreError::Conflict(_)) => {
                let problem = format!("this user has {NOTES_MAX} notes already");
                Err(Error::new(ErrorKind::Invalid, problem).hint("forget some first"))
            }
            Err(e) => Err(broken(&e)),
        }
    }
}

/// `memory.search`.
pub struct Search(About);

impl Default for Search {
    fn default() -> Self {
        let schema = object(json!({"query": {"type": "string"}}), &["query"]);
        Search(About { idempotent: true, ..About::new("memory.search", "Find saved facts by their words.", schema) })
    }
}

impl Tool for Search {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let who = context.who;
        let found = context.store.search_notes(&who.user_id, &who.agent, text(arguments, "query"), FOUND_MAX);
        let found = found.map_err(|e| broken(&e))?;
        if found.is_empty() {
            return Ok("Nothing found.".to_string());
        }
        // The store was asked for this user's notes; that they are is held here once more.
        let own = found.iter().filter(|note| is_own(note, context)).take(FOUND_MAX);
        let shown: Vec<_> =
            own.map(|n| json!({"id": n.id, "saved": rfc3339(n.updated_ms)[..10], "text": n.text}).to_string()).collect();
        Ok(shown.join("\n"))
    }
}

/// `memory.forget`.
pub struct Forget(About);

impl Default for Forget {
    fn default() -> Self {
        let schema = object(json!({"id": {"type": "string"}}), &["id"]);
        Forget(About { idempotent: true, ..About::new("memory.forget", "Delete a saved fact by its id.", schema) })
    }
}

impl Tool for Forget {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let id = text(arguments, "id");
        match context.store.note(id) {
            Ok(note) if is_own(&note, context) => match context.store.forget_note(id) {
                Ok(()) | Err(StoreError::NotFound) => Ok("Forgotten.".to_string()),
                Err(e) => Err(broken(&e)),
            },
            Ok(_) | Err(StoreError::NotFound) => {
                Err(Error::new(ErrorKind::Invalid, "there is no such note").hint("memory search gives the ids"))
            }
            Err(e) => Err(broken(&e)),
        }
    }
}

fn is_own(note: &Note, context: &Context<'_>) -> bool {
    note.user_id == context.who.user_id && note.agent == context.who.agent
}

/// The id of what this call makes, the same whenever it is run. As other ids it begins with a time: the message's, whose id has it.
pub(super) fn id_of_call(prefix: &str, context: &Context<'_>) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let is_letter = |c: &char| c.is_ascii() && LETTERS.contains(&(*c as u8));
    let time: String = context.message_id.split_once('_').map_or("", |(_, id)| id).chars().filter(is_letter).take(10).collect();
    let digest = Sha256::digest(context.key.as_bytes());
    let rest: String = digest.iter().take(16).map(|b| char::from(LETTERS[usize::from(b & 31)])).collect();
    format!("{prefix}_{time:0>10}{rest}")
}

fn broken(e: &StoreError) -> Error {
    log::warn!("a note can't be read or written: {e}");
    Error::new(ErrorKind::Transient, "the memory can't be reached now").hint("try again later")
}
