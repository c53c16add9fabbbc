//! Slack, by an app in Socket Mode: direct messages, channels where the bot is named, threads.
//!
//! Invariant: what comes in is on disk before Slack is told; a text is sent in pieces that Slack shows whole, and a piece that it
//! confirmed is not sent again. Slack takes no idempotency key: what a cut-off send becomes is for `onUnknown`. Permanent refusals
//! (`not_in_channel`, say) are told apart from passing ones.

mod api;
mod frame;
mod mrkdwn;
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

/// What Slack shows of one message, without the mark of a repeat.
const TEXT_MAX: usize = 4000 - MARK_BYTES;
/// A pause that Slack asks for between two pieces of one message is waited for up to this; a longer one is the delivery's.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Direct conversations remembered.
const DIRECT_MAX: usize = 256;

/// The channel, being connected from now on.
pub(super) fn open(
    parts: Parts,
    config: config::Slack,
    common: &config::ChannelCommon,
    counters: Arc<Counters>,
) -> Arc<dyn Channel> {
    let api = Api::new(parts.client.clone(), config);
    let (clock, connection) = (parts.clock.clone(), socket::SocketMode { api: api.clone() });
    Arc::new(Slack {
        repeats: Repeats::unknown(common),
        supervisor: Supervisor::start(parts, counters.clone(), connection),
        api,
        counters,
        clock,
        stop: Stop::new(),
        direct: Mutex::default(),
    })
}

struct Slack {
    api: Api,
    repeats: Repeats,
    supervisor: Supervisor,
    counters: Arc<Counters>,
    clock: Clock,
    stop: Stop,
    /// The direct conversation with each user.
    direct: Mutex<BTreeMap<String, String>>,
}

impl Slack {
    fn send(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let conversation = match &delivery.conversation_id {
            Some(conversation) => conversation.clone(),
            None => self.direct(&delivery.peer)?,
        };
        for (n, piece) in pieces(&delivery.message, TEXT_MAX, mrkdwn::weigh).iter().enumerate().skip(progress.done as usize) {
            let is_first = n == progress.done as usize;
            let text = marked(&mrkdwn::from_markdown(piece), progress.may_repeat && is_first).into_owned();
            match self.api.post(&conversation, &text) {
                Err(Error { kind: ErrorKind::Throttled(Some(pause)), .. }) if !is_first && pause <= PAUSE_MAX => {
                    if self.stop.wait(pause) {
                        return Err(Error::new(ErrorKind::Stopped, "the channel ends"));
                    }
                    self.api.post(&conversation, &text)?;
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

impl Channel for Slack {
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

    fn status(&self) -> ChannelStatus {
        self.supervisor.status("slack")
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
