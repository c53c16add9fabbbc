//! What we know of the rooms: a cache of what the homeserver says, filled as it is needed.
//!
//! Invariant: it decides nothing and is bounded; what is forgotten is asked for again. Who has a direct room with us is kept at the
//! homeserver (`m.direct` of the account's data), so that it outlives us. It cannot fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::channel::matrix::wire::{Joined, text};

/// Rooms that are remembered; beyond, all are asked for again.
const ROOMS_MAX: usize = 4096;
/// Events of our own that are remembered: whoever answers one speaks to us.
const OWN_EVENTS_MAX: usize = 1000;

/// One room; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// How many are in it, we included.
    pub joined: Option<u64>,
    /// Whether it is encrypted; there is no way back from it.
    pub encrypted: Option<bool>,
    /// Whether it was told that we can't read it.
    pub told: bool,
}

#[derive(Default)]
struct Held {
    rooms: HashMap<String, Room>,
    direct: BTreeMap<String, Vec<String>>,
    own_events: VecDeque<String>,
    display_name: String,
}

/// The rooms.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Held>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what may have changed while nobody listened.
    pub fn forget_all(&self) {
        self.lock().rooms.clear();
    }

    /// Forgets a room that we are no longer in.
    pub fn forget(&self, room: &str) {
        let mut held = self.lock();
        held.rooms.remove(room);
        held.direct.values_mut().for_each(|rooms| rooms.retain(|r| r != room));
    }

    /// What is known of a room.
    pub fn get(&self, room: &str) -> Room {
        self.lock().rooms.get(room).copied().unwrap_or_default()
    }

    /// Notes what was learnt of a room.
    pub fn set(&self, room: &str, change: impl FnOnce(&mut Room)) {
        let mut held = self.lock();
        if held.rooms.len() >= ROOMS_MAX && !held.rooms.contains_key(room) {
            held.rooms.clear();
        }
        change(held.rooms.entry(room.to_string()).or_default());
    }

    /// Notes what a `/sync` says of a room.
    pub fn note(&self, room: &str, news: &Joined) {
        self.set(room, |known| {
            for event in news.state.events.iter().chain(&news.timeline.events) {
                match text(event, &["type"]) {
                    "m.room.encryption" => known.encrypted = Some(true),
                    "m.room.member" => known.joined = None,
                    _ => {}
                }
            }
            if news.summary.joined.is_some() {
                known.joined = news.summary.joined;
            }
        });
    }

    /// Takes over the account's `m.direct`: user → rooms.
    pub fn set_direct(&self, content: &Value) {
        let rooms = |value: &Value| {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_string).collect::<Vec<_>>()
        };
        let all = content.as_object().into_iter().flatten();
        self.lock().direct = all.map(|(user, value)| (user.clone(), rooms(value))).collect();
    }

    /// Notes a room that a user has with us.
    pub fn add_direct(&self, room: &str, user: &str) {
        let mut held = self.lock();
        let rooms = held.direct.entry(user.to_string()).or_default();
        if !rooms.iter().any(|r| r == room) {
            rooms.push(room.to_string());
        }
    }

    /// The room that a user has with us, the latest one.
    pub fn direct_with(&self, user: &str) -> Option<String> {
        self.lock().direct.get(user)?.last().cloned()
    }

    /// Whether that room is that user's with us.
    pub fn is_direct(&self, room: &str, user: &str) -> bool {
        self.lock().direct.get(user).is_some_and(|rooms| rooms.iter().any(|r| r == room))
    }

    /// Notes an event of ours.
    pub fn sent(&self, event_id: &str) {
        let mut held = self.lock();
        if held.own_events.len() >= OWN_EVENTS_MAX {
            held.own_events.pop_front();
        }
        held.own_events.push_back(event_id.to_string());
    }

    /// Whether it is an event of ours, as far as we remember.
    pub fn is_own(&self, event_id: &str) -> bool {
        self.lock().own_events.iter().any(|e| e == event_id)
    }

    /// How we call ourselves.
    pub fn set_display_name(&self, name: &str) {
        self.lock().display_name = name.to_string();
    }

    /// How we call ourselves; may be empty.
    pub fn display_name(&self) -> String {
        self.lock().display_name.clone()
    }
}
