//! Slack, by an app in Socket Mode: direct messages, channels where the bot is named, threads.
//!
//! Invariant: what comes in is on disk before Slack is told; a text is sent in pieces that Slack shows whole, and a piece that it
//! confirmed is not sent again. Slack takes no idempotency key: what a cut-off send becomes is for `onUnknown`. Permanent refusals
//! (`not_in_channel`, say) are told apart from passing ones.

mod api;
mod files;
mod frame;
mod mrkdwn;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

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

/// What Slack shows of one message, without the mark of a repeat.
const TEXT_MAX: usize = 4000 - MARK_BYTES;

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
        directs: Directs::new(clock.clone()),
        clock,
        stop: Stop::new(),
    })
}

struct Slack {
    api: Api,
    repeats: Repeats,
    supervisor: Supervisor,
    counters: Arc<Counters>,
    clock: Clock,
    stop: Stop,
    directs: Directs,
}

impl Slack {
    fn send(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let conversation = self.directs.place(delivery, |user| self.api.direct(user))?;
        let parts = pieces(&delivery.message, TEXT_MAX, mrkdwn::weigh);
        sending::in_order(&parts, progress, &self.stop, |n, part| {
            self.api.post(&conversation, &marked(&mrkdwn::from_markdown(part), progress.is_in_doubt(n)))
        })
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
        self.counters.tried(self.send(delivery, progress), self.clock.unix_ms())
    }

    fn fetch(&self, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        self.api.file(&file.reference, wanted)
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

/// For `tests/fuzz`: a frame, and markup.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    let _ = frame::read(text, &frame::Me { user: "U1".into() });
    let _ = mrkdwn::to_plain(text, "U1");
    let _ = mrkdwn::from_markdown(text);
}
