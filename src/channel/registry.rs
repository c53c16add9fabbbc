//! The one file that names all adapters: configuration in, channels out.
//!
//! Invariant: built whole and replaced whole at a reload; what was counted lives on under the channel's name. Cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::clock::Clock;
use crate::channel::webhook::Webhook;
use crate::channel::{Channel, ChannelStatus};
use crate::config::{self, ChannelKind};
use crate::net::client::Client;

/// All channels by name.
#[derive(Default)]
pub struct Registry {
    channels: BTreeMap<String, Arc<dyn Channel>>,
    webhooks: BTreeMap<String, Arc<Webhook>>,
}

impl Registry {
    /// The channels of a configuration (`Config::channels`). `former` are those that these replace.
    pub fn new(
        channels: &BTreeMap<String, config::Channel>,
        client: &Arc<Client>,
        clock: &Clock,
        former: Option<&Registry>,
    ) -> Self {
        let mut registry = Registry::default();
        for (name, channel) in channels {
            match &channel.kind {
                ChannelKind::Webhook(kind) => {
                    let counters = former.and_then(|f| Some(f.webhooks.get(name)?.counters.clone()));
                    let webhook = Webhook::new(name, channel.enabled, kind.clone(), client.clone(), clock.clone(), counters);
                    let webhook = Arc::new(webhook);
                    registry.webhooks.insert(name.clone(), webhook.clone());
                    registry.channels.insert(name.clone(), webhook);
                }
            }
        }
        registry
    }

    /// The same with one more channel, which is not made from the configuration (the WebSocket chat).
    pub fn with(mut self, name: impl Into<String>, channel: Arc<dyn Channel>) -> Self {
        self.channels.insert(name.into(), channel);
        self
    }

    /// The channel of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Channel>> {
        self.channels.get(name)
    }

    /// The webhook channel of that name, if it is enabled: for requests that come in.
    pub fn webhook(&self, name: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.get(name).filter(|w| w.is_enabled())
    }

    /// All channels, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Arc<dyn Channel>)> {
        self.channels.iter().map(|(name, channel)| (name.as_str(), channel))
    }

    /// How they all are.
    pub fn statuses(&self) -> Vec<ChannelStatus> {
        self.channels.values().map(|c| c.status()).collect()
    }
}
