//! The gateway speaks first: a message to a user without one to answer.
//!
//! Invariant: it goes where the user was last seen and can be reached, or to the channel that the caller names; a repeat with
//! the same key is the same message. Fails with `NotFound` for a user never seen, `Conflict` for a key used for another message.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::base::ids::new_id;
use crate::domain::{Delivery, NewOutbound, WEBSOCKET_CHANNEL};
use crate::flow::{Flow, turns};
use crate::store::{Result, Seen, StoreError};

/// A message that the gateway is to send.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// To whom.
    pub user_id: String,
    /// What.
    pub text: String,
    /// By which channel; `None`: where they were last seen.
    pub channel: Option<String>,
    /// The caller and its key for this message.
    pub key: Option<(String, String)>,
}

impl Flow {
    /// Puts an announcement to the outbox and sends it off. Reads the store first: not for the door's thread. `done` runs after
    /// the commit.
    pub fn announce(self: &Arc<Self>, what: Announcement, done: impl FnOnce(Result<Vec<Delivery>>) + Send + 'static) {
        self.announce_as(new_id("dlv", self.clock.unix_ms()), what, done);
    }

    /// The same with the delivery's id chosen by the caller, who then knows a repeat by another one's id.
    pub fn announce_as(
        self: &Arc<Self>,
        id: String,
        what: Announcement,
        done: impl FnOnce(Result<Vec<Delivery>>) + Send + 'static,
    ) {
        let place = match self.place_of(&what.user_id, what.channel.as_deref()) {
            Ok(place) => place,
            Err(e) => return done(Err(e)),
        };
        let handoff = self.channels.get().get(&place.channel).and_then(|c| c.handoff());
        let Some(handoff) = handoff else {
            return done(Err(StoreError::Conflict(format!("nothing can be sent by channel {}", place.channel))));
        };
        let digest = Sha256::digest(format!("{}\0{}\0{}", what.user_id, what.channel.as_deref().unwrap_or(""), what.text));
        let key = what.key.map(|(caller, key)| (caller, key, digest.iter().map(|b| format!("{b:02x}")).collect()));
        let message = NewOutbound {
            id,
            channel: place.channel,
            handoff,
            user_id: what.user_id,
            peer: place.peer,
            conversation: place.conversation,
            session_id: None,
            in_reply_to: None,
            text: what.text,
            metadata: None,
        };
        let (flow, id) = (self.clone(), message.id.clone());
        self.store.enqueue(
            vec![message],
            key,
            Box::new(move |result| {
                if let Ok(deliveries) = &result
                    && deliveries.iter().any(|d| d.id == id)
                {
                    turns::send_off(&flow, deliveries); // a repeat was sent off the first time
                }
                done(result);
            }),
        );
    }

    /// Where to reach a user.
    pub(super) fn place_of(&self, user_id: &str, channel: Option<&str>) -> Result<Seen> {
        let seen = self.store.seen(user_id)?;
        let channels = self.channels.get();
        let can_send = |name: &str| channels.get(name).is_some_and(|c| c.handoff().is_some());
        let chat = || Seen { channel: WEBSOCKET_CHANNEL.into(), peer: user_id.into(), conversation: None, at_ms: 0 };
        if seen.is_empty() && !self.hub.is_connected(user_id) {
            return Err(StoreError::NotFound);
        }
        match channel {
            Some(WEBSOCKET_CHANNEL) => Ok(chat()),
            Some(name) if channels.get(name).is_none() => Err(StoreError::Conflict(format!("there is no channel {name}"))),
            Some(name) => seen.into_iter().find(|s| s.channel == name).ok_or(StoreError::NotFound),
            // A user seen only where nothing can be sent finds the message at their next chat connection.
            None => Ok(seen.into_iter().find(|s| can_send(&s.channel)).unwrap_or_else(chat)),
        }
    }
}
