//! Discord, by a bot: direct messages, and channels where it is named or answered.
//!
//! Invariant: what comes in is on disk before its place in the session is; what is sent bears a nonce of the delivery's id, by which
//! Discord knows a repeat (for some minutes); nobody is called by what an agent writes. Rate limits are obeyed before Discord has to
//! refuse. Fails with the API's kinds: 403 and 404 for good, 429 with its pause.

mod api;
mod cursor;
mod gateway;
#[cfg(test)]
mod gateway_tests;
mod message;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::channel::counters::Counters;
use crate::channel::pieces::pieces;
use crate::channel::repeats::{MARK_BYTES, Repeats, marked};
use crate::channel::supervisor::Supervisor;
use crate::channel::{Channel, ChannelStatus, Parts, Progress};
use crate::config;
use crate::domain::{Delivery, Handoff};

use api::Api;

/// What Discord takes in one message, in its own count of characters (never more than UTF-16's), without the mark of a repeat.
const TEXT_MAX: usize = 2000 - MARK_BYTES;
/// How long Discord surely knows a nonce: it says "the past few minutes".
const NONCE_KNOWN: Duration = Duration::from_secs(120);
/// A pause between two pieces of one message is waited for up to this; a longer one is the delivery's.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Direct channels remembered.
const DIRECT_MAX: usize = 256;

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
        clock,
        stop: Stop::new(),
        direct: Mutex::default(),
    })
}

struct Discord {
    api: Arc<Api>,
    supervisor: Supervisor,
    counters: Arc<Counters>,
    clock: Clock,
    repeats: Repeats,
    stop: Stop,
    /// The direct channel with each user.
    direct: Mutex<BTreeMap<String, String>>,
}

impl Discord {
    fn send(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let channel = match &delivery.conversation_id {
            Some(channel) => channel.clone(),
            None => self.direct(&delivery.peer)?,
        };
        let reply_to = delivery.metadata.as_ref().and_then(|m| m["replyTo"].as_str());
        for (n, piece) in pieces(&delivery.message, TEXT_MAX, char::len_utf16).iter().enumerate().skip(progress.done as usize) {
            let key = format!("{}/{n}", delivery.id);
            let reply_to = reply_to.filter(|_| n == 0);
            let piece = marked(piece, progress.may_repeat && n == progress.done as usize);
            match self.api.post(&channel, &piece, &key, reply_to) {
                Err(Error { kind: ErrorKind::Throttled(Some(pause)), .. })
                    if n > progress.done as usize && pause <= PAUSE_MAX =>
                {
                    if self.stop.wait(pause) {
                        return Err(Error::new(ErrorKind::Stopped, "the channel ends"));
                    }
                    self.api.post(&channel, &piece, &key, reply_to)?;
                }
                done => done?,
            }
            (progress.record)(n as u32 + 1);
        }
        Ok(())
    }

    fn direct(&self, user: &str) -> Result<String> {
        let known = self.direct.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let opened = self.api.direct(user)?;
        let mut direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if direct.len() >= DIRECT_MAX {
            direct.clear(); // one more call each
        }
        direct.insert(user.to_string(), opened.clone());
        Ok(opened)
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
        let result = self.send(delivery, progress);
        match &result {
            Ok(()) => self.counters.delivered(self.clock.unix_ms()),
            Err(e) if e.kind == ErrorKind::Stopped => {} // our doing
            Err(_) => self.counters.undelivered(),
        }
        result
    }

    fn typing(&self, _: &str, conversation: Option<&str>) {
        if let Some(channel) = conversation {
            let _ = self.api.typing(channel); // a sign alone
        }
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
