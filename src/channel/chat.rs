//! The WebSocket chat as a channel: it sends nothing by itself; what waits in the outbox is pushed to who is connected and
//! settled by the receiver's receipt.
//!
//! Invariant: it is always there and always connected. It fails only where something asks it to deliver, which is a bug.

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::counters::Counters;
use crate::channel::repeats::Repeats;
use crate::channel::{Channel, ChannelState, ChannelStatus, Progress};
use crate::domain::{Delivery, Handoff, WEBSOCKET_CHANNEL};

/// The built-in channel `websocket`.
pub struct Chat {
    counters: Counters,
    clock: Clock,
}

impl Chat {
    /// The channel, from now on.
    pub fn new(clock: Clock) -> Self {
        Chat { counters: Counters::new(ChannelState::Connected, clock.unix_ms()), clock }
    }

    /// A receiver's receipt settled deliveries.
    pub fn note_settled(&self) {
        self.counters.sent(self.clock.unix_ms());
    }
}

impl Channel for Chat {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Receipt)
    }

    fn repeats(&self) -> Repeats {
        Repeats::KNOWN
    }

    fn deliver(&self, _: &Delivery, _: &Progress<'_>) -> Result<()> {
        Err(Error::new(ErrorKind::Bug, "the WebSocket chat is pushed, not delivered"))
    }

    fn status(&self) -> ChannelStatus {
        self.counters.status(WEBSOCKET_CHANNEL, "websocket")
    }

    fn note_received(&self) {
        self.counters.received(self.clock.unix_ms());
    }

    fn reconnect(&self) {}
}
