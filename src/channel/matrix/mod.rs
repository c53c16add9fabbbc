//! Matrix, by its client-server API: `/sync` in a long poll, sends with transaction ids of our own.
//!
//! Invariant: no end-to-end encryption: what is said in an encrypted room is not read, and nothing is sent there but one sentence that
//! says so. A message is taken before the cursor behind it is committed; a repeated send is one event at the homeserver, since its
//! transaction id is made of the delivery's id. The access token stays in memory. Fails as [`Channel`] says.

mod api;
mod files;
mod invites;
mod markup;
mod place;
mod read;
mod rooms;
mod send;
mod session;
mod sync;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::stop::Stop;
use crate::channel::counters::Counters;
use crate::channel::repeats::Repeats;
use crate::channel::supervisor::Supervisor;
use crate::channel::{Channel, ChannelStatus, Parts, Progress, Wanted};
use crate::config;
use crate::domain::{Attachment, Delivery, Handoff};

use api::Api;
use rooms::Rooms;

const KIND: &str = "matrix";

/// How long a homeserver surely knows a transaction id: Synapse forgets it after a day.
const TRANSACTION_KNOWN: Duration = Duration::from_secs(20 * 3600);

/// How long the adapter waits for what; tests wait less.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long the homeserver may hold a `/sync` in which nothing happens.
    poll: Duration,
    /// What it may take on top of that, and all other calls.
    call: Duration,
    /// The pause after something could not be taken, or after an answer that came suspiciously fast.
    pause: Duration,
}

const PACE: Pace = Pace { poll: Duration::from_secs(30), call: Duration::from_secs(20), pause: Duration::from_secs(1) };

/// What the connection and the delivery workers share.
struct Shared {
    api: Api,
    rooms: Rooms,
    common: config::ChannelCommon,
    parts: Parts,
    pace: Pace,
    stop: Stop,
    repeats: Repeats,
}

struct Matrix {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    supervisor: Supervisor,
}

/// The channel, being connected from now on.
pub(super) fn open(
    parts: Parts,
    config: config::Matrix,
    common: &config::ChannelCommon,
    counters: Arc<Counters>,
) -> Arc<dyn Channel> {
    Arc::new(Matrix::open(parts, config, common, counters, PACE))
}

impl Matrix {
    fn open(parts: Parts, config: config::Matrix, common: &config::ChannelCommon, counters: Arc<Counters>, pace: Pace) -> Matrix {
        let api = Api::new(&parts, config, pace);
        let shared = Arc::new(Shared {
            api,
            rooms: Rooms::default(),
            common: common.clone(),
            parts: parts.clone(),
            pace,
            stop: Stop::new(),
            repeats: Repeats::known_for(TRANSACTION_KNOWN, common),
        });
        let supervisor = Supervisor::start(parts, counters.clone(), sync::Poll::new(shared.clone()));
        Matrix { shared, counters, supervisor }
    }
}

impl Channel for Matrix {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }

    fn repeats(&self) -> Repeats {
        self.shared.repeats
    }

    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        self.counters.tried(self.shared.deliver(delivery, progress), self.shared.parts.clock.unix_ms())
    }

    fn typing(&self, peer: &str, conversation: Option<&str>) {
        self.shared.typing(peer, conversation);
    }

    fn fetch(&self, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        files::fetch(&self.shared.api, file, wanted)
    }

    fn status(&self) -> ChannelStatus {
        self.counters.status(&self.shared.parts.name, KIND)
    }

    fn note_received(&self) {
        self.counters.received(self.shared.parts.clock.unix_ms());
    }

    fn reconnect(&self) {
        self.supervisor.reconnect();
    }

    fn stop(&self) {
        self.shared.stop.set();
        self.supervisor.stop();
    }
}

/// For `tests/fuzz`: an event of a room.
#[cfg(fuzzing)]
pub(super) fn fuzz(event: &serde_json::Value) {
    if let Some(heard) = read::read(event, "@bot:here", "bot") {
        assert!(heard.sender.starts_with('@') && heard.event_id.starts_with('$'), "{heard:?}");
    }
}
