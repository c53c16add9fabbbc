//! What the homeserver says, as far as we read it.
//!
//! Invariant: one malformed event spoils nothing but itself: events are kept as JSON and read one by one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// An answer to `/sync`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Sync {
    pub next_batch: String,
    #[serde(default)]
    pub rooms: Rooms,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Rooms {
    #[serde(default)]
    pub join: BTreeMap<String, Joined>,
    #[serde(default)]
    pub invite: BTreeMap<String, Invited>,
    #[serde(default)]
    pub leave: BTreeMap<String, Value>,
}

/// News of a room that we are in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Joined {
    #[serde(default)]
    pub summary: Summary,
    #[serde(default)]
    pub state: Events,
    #[serde(default)]
    pub timeline: Timeline,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Summary {
    #[serde(rename = "m.joined_member_count")]
    pub joined: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Events {
    #[serde(default)]
    pub events: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Timeline {
    #[serde(default)]
    pub events: Vec<Value>,
    /// Events were left out between the last `/sync` and these.
    #[serde(default)]
    pub limited: bool,
    /// The token that what was left out is asked for with.
    pub prev_batch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Invited {
    #[serde(default)]
    pub invite_state: Events,
}

/// An answer to `/messages`: newest first.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub chunk: Vec<Value>,
    pub end: Option<String>,
}

/// The text at a path of keys; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |v, key| v.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether it is that membership of that user.
pub(super) fn is_membership(event: &Value, user: &str, membership: &str) -> bool {
    is_member(event, user) && text(event, &["content", "membership"]) == membership
}

/// Whether it says something of that user's membership.
pub(super) fn is_member(event: &Value, user: &str) -> bool {
    text(event, &["type"]) == "m.room.member" && text(event, &["state_key"]) == user
}
