//! The way in for channels that hold a connection.
//!
//! Invariant: what it reports as taken is on disk. Fails with [`NotNow`], and nothing was taken then.

use std::sync::Arc;

use crate::channel::{ChannelState, Incoming, Inlet, NotNow, Place, Taken};
use crate::domain::Standing;
use crate::flow::Flow;
use crate::flow::ingress::Arrival;

impl Inlet for Arc<Flow> {
    fn take(&self, channel: &str, incoming: Incoming) -> Result<Taken, NotNow> {
        if incoming.place != Place::Direct {
            return Ok(Taken::Ignored("groups are not built yet"));
        }
        let arrival = Arrival {
            channel: channel.to_string(),
            peer: incoming.sender,
            conversation: incoming.conversation,
            external_id: Some(incoming.external_id),
            text: incoming.text,
            metadata: incoming.metadata,
            standing: Standing::User,
            cursor: incoming.cursor,
            ..Arrival::default()
        };
        let (told, outcome) = crossbeam_channel::bounded(1);
        self.accept(
            arrival,
            |_| {},
            move |result| {
                let _ = told.send(result); // who waits is there until it is told
            },
        );
        match outcome.recv() {
            Ok(Ok(accepted)) => Ok(Taken::Accepted(accepted)),
            Ok(Err(refused)) => Err(NotNow(format!("{refused:?}"))),
            Err(_) => Err(NotNow("the gateway stops".to_string())),
        }
    }

    fn cursor(&self, channel: &str) -> Result<Option<String>, NotNow> {
        self.store.cursor(channel).map_err(|e| NotNow(e.to_string()))
    }

    fn set_cursor(&self, channel: &str, cursor: &str) -> Result<(), NotNow> {
        self.store.set_cursor(channel, cursor).map_err(|e| NotNow(e.to_string()))
    }

    fn changed(&self, channel: &str, state: ChannelState, why: &str) {
        self.hub.event("channel.changed", serde_json::json!({"channel": channel, "state": state, "why": why}));
    }
}
