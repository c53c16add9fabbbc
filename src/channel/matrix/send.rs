//! What goes out: replies, words to strangers, and signs of typing.
//!
//! Invariant: each part has a transaction id made of what it is, never a new one, so that sending it again gives the same event. Nothing
//! is sent into an encrypted room but that we can't read there, once a room. Fails as [`Channel::deliver`](crate::channel::Channel).

use serde_json::{Value, json};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::matrix::api::{Failure, Verb, encoded};
use crate::channel::matrix::markup::{self, Part};
use crate::channel::matrix::place::parted;
use crate::channel::matrix::{Shared, wire};
use crate::channel::repeats::marked;
use crate::channel::{Progress, sending};
use crate::domain::Delivery;

/// How long a sign of typing holds, in ms.
const TYPING_MS: u64 = 10_000;
/// What an encrypted room is told.
pub(super) const ENCRYPTED: &str = "This room is end-to-end encrypted, and this bot cannot read encrypted messages. \
    Please write to it in a room without encryption.";
/// The room's account data that says that it was told.
const TOLD: &str = "gatelet.encrypted_room_told";

impl Shared {
    /// Hands a delivery over.
    pub(super) fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let sent = match delivery.conversation_id.as_deref() {
            Some(conversation) => {
                let (room, thread) = parted(conversation);
                self.deliver_to(room, thread, delivery, progress)
            }
            None => match self.rooms.direct_with(&delivery.peer) {
                Some(room) => match self.deliver_to(&room, None, delivery, progress) {
                    // We are no longer in it: a new one, unless half of it was said already.
                    Err(f) if f.code == "M_FORBIDDEN" && progress.done == 0 => {
                        self.keep_direct(&room, None, None)?;
                        self.rooms.forget(&room);
                        self.deliver_to(&self.invite(&delivery.peer)?, None, delivery, progress)
                    }
                    other => other,
                },
                None => self.deliver_to(&self.room_for(&delivery.peer)?, None, delivery, progress),
            },
        };
        sent.map_err(|f| match f.code.as_str() {
            "M_FORBIDDEN" => f.error.hint("see whether the bot is in the room and may write there"),
            _ => f.error,
        })
    }

    fn deliver_to(&self, room: &str, thread: Option<&str>, delivery: &Delivery, progress: &Progress<'_>) -> Result<(), Failure> {
        if !room.starts_with('!') {
            let error = Error::new(ErrorKind::Permanent, "the conversation is no Matrix room");
            return Err(error.hint("a room's id begins with !").into());
        }
        if self.is_encrypted(room, None)? {
            let error = Error::new(ErrorKind::Permanent, "the room is end-to-end encrypted");
            return Err(error.hint("the bot speaks in rooms without encryption alone").into());
        }
        let answers = delivery.metadata.as_ref().map(|m| wire::text(m, &["matrix", "eventId"])).filter(|id| id.starts_with('$'));
        sending::in_order(&markup::parts(&delivery.message), progress, &self.stop, |n, part| {
            let relation = relation(thread, answers.filter(|_| n == 0));
            let mut content = content("m.text", part, relation);
            if progress.is_in_doubt(n) {
                mark(&mut content);
            }
            self.send(room, &format!("gatelet-{}-{n}", delivery.id), content, None)
        })
    }

    /// Sends one event; the same `key` is the same event.
    fn send(&self, room: &str, key: &str, content: Value, cancel: Option<&Cancel>) -> Result<(), Failure> {
        let path = format!("/rooms/{}/send/m.room.message/{}", encoded(room), encoded(key));
        let said = self.api.call(Verb::Send(content), &path, cancel)?;
        self.rooms.sent(wire::text(&said, &["event_id"]));
        Ok(())
    }

    /// The room of a user who has none that we know of: known to the homeserver, or a new one.
    fn room_for(&self, user: &str) -> Result<String, Failure> {
        self.load_direct(None)?;
        match self.rooms.direct_with(user) {
            Some(room) => Ok(room),
            None => self.invite(user),
        }
    }

    fn invite(&self, user: &str) -> Result<String, Failure> {
        let body = json!({"is_direct": true, "invite": [user], "preset": "trusted_private_chat"});
        let said = self.api.call(Verb::Post(body), "/createRoom", None)?;
        let room = wire::text(&said, &["room_id"]).to_string();
        if room.is_empty() {
            return Err(Error::new(ErrorKind::Transient, "the homeserver's answer names no room").into());
        }
        self.rooms.add_direct(&room, user);
        // It is there: a homeserver that can't note it costs another one after a restart at worst.
        if let Err(f) = self.keep_direct(&room, Some(user), None) {
            log::warn!(channel = self.parts.name.as_str(), room = room.as_str(); "a direct room could not be noted: {}", f.error);
            self.rooms.add_direct(&room, user);
        }
        Ok(room)
    }

    /// Says something in answer to an event that became no message; best effort.
    pub(super) fn tell(&self, conversation: &str, event: &str, words: &str, cancel: &Cancel) {
        let (room, thread) = parted(conversation);
        let part = Part { body: words.to_string(), html: markup::html(words) };
        let content = content("m.text", &part, relation(thread, None));
        if let Err(f) = self.send(room, &format!("gatelet-told-{event}"), content, Some(cancel)) {
            log::warn!(channel = self.parts.name.as_str(), room; "a sender could not be told something: {}", f.error);
        }
    }

    /// Tells an encrypted room, once in its life, that nothing is read there; best effort.
    pub(super) fn tell_encrypted(&self, room: &str, cancel: &Cancel) {
        if self.rooms.get(room).told {
            return;
        }
        let path = format!("/user/{}/rooms/{}/account_data/{TOLD}", encoded(&self.api.user_id), encoded(room));
        let tell = || -> Result<(), Failure> {
            match self.api.call(Verb::Get, &path, Some(cancel)) {
                Ok(_) => return Ok(()),
                Err(f) if f.status == 404 => {}
                Err(f) => return Err(f),
            }
            let part = Part { body: ENCRYPTED.to_string(), html: None };
            self.send(room, &format!("gatelet-encrypted-{room}"), content("m.notice", &part, None), Some(cancel))?;
            log::warn!(channel = self.parts.name.as_str(), room; "a room is encrypted: what is said there is not read");
            self.api.call(Verb::Put(json!({"told": true})), &path, Some(cancel)).map(|_| ())
        };
        match tell() {
            Ok(()) => self.rooms.set(room, |r| r.told = true),
            Err(f) => {
                log::warn!(channel = self.parts.name.as_str(), room; "an encrypted room could not be told so: {}", f.error);
                // What will fail the same way again is not tried at every message.
                self.rooms.set(room, |r| r.told = !f.error.is_passing());
            }
        }
    }

    /// Shows that an answer is being made; best effort.
    pub(super) fn typing(&self, peer: &str, conversation: Option<&str>) {
        let known = conversation.map(|c| parted(c).0.to_string());
        let Some(room) = known.or_else(|| self.rooms.direct_with(peer)) else { return };
        if !room.starts_with('!') || self.rooms.get(&room).encrypted == Some(true) {
            return;
        }
        let path = format!("/rooms/{}/typing/{}", encoded(&room), encoded(&self.api.user_id));
        let _ = self.api.hint(Verb::Put(json!({"typing": true, "timeout": TYPING_MS})), &path);
    }
}

fn relation(thread: Option<&str>, answers: Option<&str>) -> Option<Value> {
    match (thread, answers) {
        (Some(root), answers) => Some(json!({
            "rel_type": "m.thread",
            "event_id": root,
            "is_falling_back": answers.is_none(),
            "m.in_reply_to": {"event_id": answers.unwrap_or(root)},
        })),
        (None, Some(event)) => Some(json!({"m.in_reply_to": {"event_id": event}})),
        (None, None) => None,
    }
}

fn content(kind: &str, part: &Part, relation: Option<Value>) -> Value {
    let mut content = json!({"msgtype": kind, "body": part.body, "m.mentions": {}});
    if let Some(html) = &part.html {
        content["format"] = "org.matrix.custom.html".into();
        content["formatted_body"] = html.as_str().into();
    }
    if let Some(relation) = relation {
        content["m.relates_to"] = relation;
    }
    content
}

/// Marks a text as a possible repeat.
fn mark(content: &mut Value) {
    for key in ["body", "formatted_body"] {
        if let Some(text) = content[key].as_str().map(|text| marked(text, true).into_owned()) {
            content[key] = text.into();
        }
    }
}
