//! Discord, by a bot: direct messages, and channels where it is named or answered.
//!
//! Invariant: what comes in is on disk before its place in the session is; what is sent bears a nonce of the delivery's id, by which
//! Discord knows a repeat (for some minutes); nobody is called by what an agent writes. Rate limits are obeyed before Discord has to
//! refuse. Fails with the API's kinds: 403 and 404 for good, 429 with its pause.

mod api;
mod cursor;
mod files;
mod gateway;
#[cfg(test)]
mod gateway_tests;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::stop::Stop;
use crate::channel::counters::Counters;
use crate::channel::pieces::pieces;
use crate::channel::repeats::{MARK_BYTES, Repeats, marked};
use crate::channel::sending::Directs;
use crate::channel::supervisor::Supervisor;
use crate::channel::{Channel, ChannelStatus, Parts, Progress, Wanted, sending};
use crate::config;
use crate::domain::{Attachment, Delivery, Handoff};

use api::Api;

/// What Discord takes in one message, in its own count of characters (never more than UTF-16's), without the mark of a repeat.
const TEXT_MAX: usize = 2000 - MARK_BYTES;
/// How long Discord surely knows a nonce: it says "the past few minutes".
const NONCE_KNOWN: Duration = Duration::from_secs(120);

/// The channel, being connected from now on.
pub(super) fn open(
    parts: Parts,
    config: config::Discord,
    common: &config::ChannelCommon,
    counters: Arc<Counters>,
) -> Arc<dyn Channel> {
    let clock = parts.clock.clone();
    let api = Arc::new(Api::new(parts.client.clone(), config, clock.clone()));
    Arc::new(Discord {
        supervisor: Supervisor::start(parts, counters.clone(), socket::Socket::new(api.clone())),
        repeats: Repeats::known_for(NONCE_KNOWN, common),
        api,
        counters,
        directs: Directs::new(clock.clone()),
        clock,
        stop: Stop::new(),
    })
}

struct Discord {
    api: Arc<Api>,
    supervisor: Supervisor,
    counters: Arc<Counters>,
    clock: Clock,
    repeats: Repeats,
    stop: Stop,
    directs: Directs,
}

impl Discord {
    fn send(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let channel = self.directs.place(delivery, |user| self.api.direct(user))?;
        let reply_to = delivery.metadata.as_ref().and_then(|m| m["replyTo"].as_str());
        let parts = pieces(&delivery.message, TEXT_MAX, char::len_utf16);
        sending::in_order(&parts, progress, &self.stop, |n, part| {
            let part = marked(part, progress.is_in_doubt(n));
            self.api.post(&channel, &part, &format!("{}/{n}", delivery.id), reply_to.filter(|_| n == 0))
        })
    }
}

impl Channel for Discord {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }

    fn repeats(&self) -> Repeats {
        self.repeats
    }

    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        self.counters.tried(self.send(delivery, progress), self.clock.unix_ms())
    }

    fn typing(&self, _: &str, conversation: Option<&str>) {
        if let Some(channel) = conversation {
            let _ = self.api.typing(channel); // a sign alone
        }
    }

    fn fetch(&self, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        self.api.file(&file.reference, wanted)
    }

    fn status(&self) -> ChannelStatus {
        self.supervisor.status("discord")
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

/// For `tests/fuzz`: a frame of the gateway's, and a message.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str, value: &serde_json::Value) {
    let now = std::time::Duration::from_secs(1);
    let mut gateway = gateway::Gateway::new(crate::base::secret::Secret::new("t"), None, "1".into(), now);
    text.lines().for_each(|line| drop(gateway.frame(line, now, 0)));
    let _ = message::read(value, "1", None);
    let cursor = cursor::Cursor::parse(text);
    assert!(cursor::Cursor::parse(&cursor.text()).text() == cursor.text(), "a cursor is read as it was written");
}
