//! `session.history`: what was said earlier in this session.
//!
//! Invariant: reads the session of the turn alone; it can't be named in the arguments. What is given is data, each entry as one
//! line of JSON, shortened so that all of them fit. Fails as the store does.

use serde_json::{Map, Value, json};

use super::{About, Context, OUTPUT_BYTES_MAX, Tool, object};
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::telemetry::rfc3339;

/// Entries that one call gives, and without `limit`.
const LIMIT: (u64, u64) = (50, 20);
/// How far back it goes, in entries.
const SKIP_MAX: u64 = 500;

/// `session.history`.
pub struct History(About);

impl Default for History {
    fn default() -> Self {
        let whole = |most: u64| json!({"type": "integer", "maximum": most});
        let schema = object(json!({"limit": whole(LIMIT.0), "skip": whole(SKIP_MAX)}), &[]);
        let about = About::new("session.history", "Earlier messages of this chat; skip passes over the latest.", schema);
        History(About { idempotent: true, safe: true, ..about })
    }
}

impl Tool for History {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let number = |name: &str, usual: u64, most: u64| {
            // A whole number may come as 20.0.
            arguments.get(name).and_then(Value::as_f64).map_or(usual, |n| n as u64).min(most) as usize
        };
        let (limit, skip) = (number("limit", LIMIT.1, LIMIT.0).max(1), number("skip", 0, SKIP_MAX));
        let mut entries = context.store.history(context.session_id, limit + skip).map_err(|e| {
            log::warn!(session = context.session_id; "a history can't be read: {e}");
            Error::new(ErrorKind::Transient, "the history can't be read now").hint("try again later")
        })?;
        // The latest `limit + skip`, oldest first.
        entries.truncate(entries.len().saturating_sub(skip));
        if entries.is_empty() {
            return Ok("Nothing earlier.".to_string());
        }
        // 64 bytes for what is around each text, which JSON's escapes may double; where they do more, the door cuts.
        let room = ((OUTPUT_BYTES_MAX - 64) / entries.len()).saturating_sub(64) / 2;
        let line = |e: &crate::domain::Entry| {
            json!({"at": rfc3339(e.at_ms)[..16], "from": e.role.as_str(), "text": shorten(&e.text, room)}).to_string()
        };
        Ok(entries.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
