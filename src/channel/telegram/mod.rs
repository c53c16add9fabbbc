//! Telegram bots, by long polling.
//!
//! Invariant: the token, which is part of every address of the Bot API, is in no text, log or `Debug`; see [`api`]. What is sent goes in
//! parts, each recorded when it was confirmed, and a part that was confirmed is not sent again. Telegram takes no idempotency key: what
//! left without an answer is `Unclear`, and `onUnknown` decides. Deliveries that fail are counted; whether the channel works is told by the
//! polls alone. Fails with the call's error kinds; a blocked bot or a chat that is gone is `Permanent`.
//!
//! Edited messages are not taken again: the one that was accepted first is what was answered.

mod api;
mod files;
mod html;
mod poll;
mod preview;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::channel::counters::Counters;
use crate::channel::pieces::pieces;
use crate::channel::repeats::{MARK_BYTES, Repeats, marked};
use crate::channel::supervisor::Supervisor;
use crate::channel::{Channel, ChannelStatus, Parts, Preview, Progress, Wanted, sending};
use crate::config;
use crate::domain::{Attachment, Delivery, Handoff};

use api::{Api, Refusal};

/// Deadline of what nothing hangs on: a typing sign, a word to a stranger.
const HINT: Duration = Duration::from_secs(5);
/// Most UTF-16 units of one message. Telegram counts what is left when the markup is read, which is never more than was written.
const TEXT_MAX: usize = 4096 - MARK_BYTES;

/// The channel, being connected from now on.
pub(super) fn open(
    parts: Parts,
    config: config::Telegram,
    common: &config::ChannelCommon,
    counters: Arc<Counters>,
) -> Arc<dyn Channel> {
    let previews = config.preview;
    let api = Arc::new(Api::new(parts.client.clone(), config.api_root, config.token));
    let (clock, repeats) = (parts.clock.clone(), Repeats::unknown(common));
    let poll = poll::Poll { api: api.clone() };
    let supervisor = Supervisor::start(parts, counters.clone(), poll);
    Arc::new(Telegram { api, clock, counters, supervisor, repeats, previews, stop: Stop::new() })
}

struct Telegram {
    api: Arc<Api>,
    clock: Clock,
    counters: Arc<Counters>,
    supervisor: Supervisor,
    repeats: Repeats,
    previews: bool,
    stop: Stop,
}

/// Where something is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    chat: i64,
    thread: Option<i64>,
}

impl Target {
    /// The place of a conversation (`chat` or `chat/topic`), else the user's own chat.
    fn of(peer: &str, conversation: Option<&str>) -> Result<Target> {
        let (chat, thread) = match conversation {
            Some(place) => place.split_once('/').map_or((place, None), |(chat, thread)| (chat, Some(thread))),
            None => (peer, None),
        };
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| {
                Error::new(ErrorKind::Permanent, "the recipient is no chat of Telegram")
                    .hint("a user's or chat's number is needed")
            })
        };
        Ok(Target { chat: number(chat)?, thread: thread.map(number).transpose()? })
    }

    fn body(&self, mut more: Value) -> Value {
        more["chat_id"] = self.chat.into();
        if let Some(thread) = self.thread {
            more["message_thread_id"] = thread.into();
        }
        more
    }
}

/// Says something to somebody, best effort.
fn send_hint(api: &Api, target: &Target, text: &str) {
    for part in pieces(text, TEXT_MAX, char::len_utf16) {
        api.hint("sendMessage", &target.body(json!({"text": part})), HINT);
    }
}

impl Telegram {
    fn send(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let mut target = Target::of(&delivery.peer, delivery.conversation_id.as_deref())?;
        let parts = pieces(&delivery.message, TEXT_MAX, char::len_utf16);
        if parts.is_empty() {
            return Err(Error::new(ErrorKind::Permanent, "the message is blank, and Telegram takes no such"));
        }
        let answered = preview::answered(delivery.metadata.as_ref(), delivery.conversation_id.as_deref());
        let mut shown = if progress.done == 0 { self.shown(delivery, &target)? } else { None };
        sending::in_order(&parts, progress, &self.stop, |n, part| {
            let mut place = if n == 0 { shown.take() } else { None };
            // An edit may be tried again, whatever became of it.
            let part = marked(part, place.is_none() && progress.is_in_doubt(n));
            self.part(&mut target, &part, answered.filter(|_| n == 0), &mut place).map_err(Error::from)
        })
    }

    /// Sends one part; as plain text where the markup is refused, to its new place where the group has moved. In the place of the
    /// message `shown`, unless that can't be: then it is none any more.
    fn part(&self, target: &mut Target, part: &str, answered: Option<i64>, shown: &mut Option<i64>) -> Result<(), Refusal> {
        let (mut is_plain, mut has_moved) = (false, false);
        loop {
            let mut body = json!({"link_preview_options": {"is_disabled": true}});
            if is_plain {
                body["text"] = part.into();
            } else {
                body["text"] = html::html(part).into();
                body["parse_mode"] = "HTML".into();
            }
            let sent = if let Some(message) = *shown {
                body["message_id"] = message.into();
                self.api.call("editMessageText", &target.body(body), None).map(drop)
            } else {
                if let Some(id) = answered.filter(|_| !has_moved) {
                    body["reply_parameters"] = json!({"message_id": id, "allow_sending_without_reply": true});
                }
                self.api.send(&target.body(body))
            };
            match sent {
                Ok(_) => return Ok(()),
                Err(refused) if shown.is_some() && preview::is_unmodified(&refused) => return Ok(()),
                Err(refused) if refused.is_markup && !is_plain => is_plain = true,
                // Deleted, too old, or left behind where the group was: it is sent anew.
                Err(refused) if shown.is_some() && refused.error.kind == ErrorKind::Permanent => *shown = None,
                Err(refused) => match refused.moved_to.filter(|_| !has_moved) {
                    Some(chat) => {
                        has_moved = true;
                        target.chat = chat;
                    }
                    None => return Err(refused),
                },
            }
        }
    }
}

impl Channel for Telegram {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }

    fn repeats(&self) -> Repeats {
        self.repeats
    }

    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        self.counters.tried(self.send(delivery, progress), self.clock.unix_ms())
    }

    fn typing(&self, peer: &str, conversation: Option<&str>) {
        if let Ok(target) = Target::of(peer, conversation) {
            self.api.hint("sendChatAction", &target.body(json!({"action": "typing"})), HINT);
        }
    }

    fn fetch(&self, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        files::fetch(&self.api, file, wanted)
    }

    fn preview_every(&self, conversation: Option<&str>) -> Option<Duration> {
        self.previews.then(|| preview::every(conversation))
    }

    fn preview(&self, preview: &Preview<'_>) -> Result<Value> {
        self.show(preview)
    }

    fn unpreview(&self, peer: &str, conversation: Option<&str>, message: &Value) {
        self.unshow(peer, conversation, message);
    }

    fn status(&self) -> ChannelStatus {
        self.supervisor.status("telegram")
    }

    fn note_received(&self) {
        self.counters.received(self.clock.unix_ms());
    }

    fn reconnect(&self) {
        self.supervisor.reconnect();
    }

    fn stop(&self) {
        self.stop.set();
        self.supervisor.stop();
    }
}

/// For `tests/fuzz`: an update, read.
#[cfg(fuzzing)]
pub(super) fn fuzz(update: &serde_json::Value) {
    let me = update::Me { id: 1, username: "bot".into() };
    let _ = update::read(update, 1, &me);
    let _ = html::html(update["text"].as_str().unwrap_or_default());
}
