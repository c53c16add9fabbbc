//! A channel that does nothing: it is switched off.
//!
//! Invariant: nothing of it is connected, and nothing of its configuration was fetched. What is to be sent by it waits in the outbox.

use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::counters::Counters;
use crate::channel::repeats::Repeats;
use crate::channel::{Channel, ChannelStatus, Progress};
use crate::domain::{Delivery, Handoff};

/// The channel.
pub struct Off {
    name: String,
    kind: &'static str,
    counters: Arc<Counters>,
}

impl Off {
    /// The channel `name` of that type.
    pub(super) fn new(name: &str, kind: &'static str, counters: Arc<Counters>) -> Self {
        Off { name: name.to_string(), kind, counters }
    }
}

impl Channel for Off {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }

    fn repeats(&self) -> Repeats {
        Repeats::KNOWN
    }

    fn deliver(&self, _: &Delivery, _: &Progress<'_>) -> Result<()> {
        let error = Error::new(ErrorKind::Transient, format!("the channel {} is switched off", self.name));
        Err(error.hint("set its enabled to true"))
    }

    fn status(&self) -> ChannelStatus {
        self.counters.status(&self.name, self.kind)
    }

    fn note_received(&self) {}

    fn reconnect(&self) {}
}
