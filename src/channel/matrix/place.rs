//! Where something was said: what the homeserver has to be asked for that.
//!
//! Invariant: a room is direct only for two, or for the one who made it a direct one; everybody else in it is in a group. A room of
//! which we can't learn how many are in it is a group. Fails with what the homeserver refused.

use serde_json::{Value, json};

use crate::base::cancel::Cancel;
use crate::base::error::{ErrorKind, Result};
use crate::channel::matrix::Shared;
use crate::channel::matrix::api::{Failure, Verb, encoded};
use crate::channel::matrix::read::Heard;
use crate::channel::matrix::wire::text;
use crate::channel::{Incoming, Place};

/// More than any room that is still a conversation.
const MANY: u64 = u64::MAX;

impl Shared {
    /// Whether a room is encrypted.
    pub(super) fn is_encrypted(&self, room: &str, cancel: Option<&Cancel>) -> Result<bool, Failure> {
        if let Some(known) = self.rooms.get(room).encrypted {
            return Ok(known);
        }
        let path = format!("/rooms/{}/state/m.room.encryption", encoded(room));
        let encrypted = match self.api.call(Verb::Get, &path, cancel) {
            Ok(_) => true,
            Err(f) if f.status == 404 => false,
            Err(f) => return Err(f),
        };
        self.rooms.set(room, |r| r.encrypted = Some(encrypted));
        Ok(encrypted)
    }

    fn joined(&self, room: &str, cancel: &Cancel) -> Result<u64, Failure> {
        if let Some(known) = self.rooms.get(room).joined {
            return Ok(known);
        }
        let path = format!("/rooms/{}/joined_members", encoded(room));
        let joined = match self.api.call(Verb::Get, &path, Some(cancel)) {
            Ok(said) => said["joined"].as_object().map_or(MANY, |all| all.len() as u64),
            // The answer was too long to be read.
            Err(f) if f.status == 0 && f.error.kind == ErrorKind::Permanent => MANY,
            Err(f) => return Err(f),
        };
        self.rooms.set(room, |r| r.joined = Some(joined));
        Ok(joined)
    }

    fn is_own_event(&self, room: &str, event: &str, cancel: &Cancel) -> Result<bool, Failure> {
        if self.rooms.is_own(event) {
            return Ok(true);
        }
        let path = format!("/rooms/{}/event/{}", encoded(room), encoded(event));
        match self.api.call(Verb::Get, &path, Some(cancel)) {
            Ok(said) => Ok(text(&said, &["sender"]) == self.api.user_id),
            Err(f) if f.error.is_passing() || f.error.kind == ErrorKind::Denied => Err(f),
            Err(_) => Ok(false), // not to be seen by us
        }
    }

    fn place(&self, room: &str, heard: &Heard, cancel: &Cancel) -> Result<Place, Failure> {
        if self.joined(room, cancel)? == 2 || self.rooms.is_direct(room, &heard.sender) {
            return Ok(Place::Direct);
        }
        let answers_us = match &heard.answers {
            Some(event) if !heard.names_us => self.is_own_event(room, event, cancel)?,
            _ => false,
        };
        Ok(Place::Group { id: room.to_string(), mentioned: heard.names_us || answers_us })
    }

    /// What was heard, as the inlet takes it.
    pub(super) fn incoming(&self, room: &str, heard: Heard, name: &str, cancel: &Cancel) -> Result<Incoming, Failure> {
        let place = self.place(room, &heard, cancel)?;
        let is_group = place != Place::Direct;
        Ok(Incoming {
            conversation: Some(match &heard.thread {
                Some(root) => format!("{room}/{root}"),
                None => room.to_string(),
            }),
            // Among many, a reply says what it answers; between two it is plain.
            metadata: is_group.then(|| json!({"matrix": {"eventId": heard.event_id}})),
            sender_name: if name.is_empty() { heard.sender.clone() } else { name.to_string() },
            sender: heard.sender,
            place,
            external_id: heard.event_id,
            text: heard.text,
            written_ms: heard.written_ms,
            cursor: None,
            attachments: heard.file.into_iter().collect(),
        })
    }

    /// Fetches whom we have direct rooms with.
    pub(super) fn load_direct(&self, cancel: Option<&Cancel>) -> Result<Value, Failure> {
        let content = match self.api.call(Verb::Get, &self.direct_path(), cancel) {
            Err(f) if f.status == 404 => json!({}),
            other => other?,
        };
        self.rooms.set_direct(&content);
        Ok(content)
    }

    /// Notes at the homeserver that this room is that user's with us; or that it is nobody's any more.
    pub(super) fn keep_direct(&self, room: &str, user: Option<&str>, cancel: Option<&Cancel>) -> Result<(), Failure> {
        let before = self.load_direct(cancel)?;
        let mut content = if before.is_object() { before.clone() } else { json!({}) };
        for rooms in content.as_object_mut().into_iter().flatten().filter_map(|(_, rooms)| rooms.as_array_mut()) {
            rooms.retain(|r| r.as_str() != Some(room));
        }
        if let Some(user) = user {
            match content[user].as_array_mut() {
                Some(rooms) => rooms.push(room.into()),
                None => content[user] = json!([room]),
            }
        }
        if content != before {
            self.api.call(Verb::Put(content.clone()), &self.direct_path(), cancel)?;
            self.rooms.set_direct(&content);
        }
        Ok(())
    }

    fn direct_path(&self) -> String {
        format!("/user/{}/account_data/m.direct", encoded(&self.api.user_id))
    }
}

/// A conversation's room and the event that its thread hangs on.
pub(super) fn parted(conversation: &str) -> (&str, Option<&str>) {
    match conversation.find("/$") {
        Some(at) => (&conversation[..at], Some(&conversation[at + 1..])),
        None => (conversation, None),
    }
}
