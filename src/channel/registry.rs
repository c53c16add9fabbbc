//! The one file that names all adapters: configuration in, channels out.
//!
//! Invariant: built whole and replaced whole at a reload; a channel whose configuration didn't change stays as it is, with its
//! connection, and what was counted lives on under the channel's name. Cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::secret::{Fingerprint, Secret};
use crate::channel::counters::Counters;
use crate::channel::off::Off;
use crate::channel::webhook::Webhook;
use crate::channel::{Channel, ChannelState, ChannelStatus, Parts, discord, matrix, mqtt, slack, telegram};
use crate::config::{self, ChannelKind};

/// All channels by name.
#[derive(Default)]
pub struct Registry {
    channels: BTreeMap<String, Arc<dyn Channel>>,
    webhooks: BTreeMap<String, Arc<Webhook>>,
    /// Of channels that hold a connection: what they were made of.
    identities: BTreeMap<String, Fingerprint>,
    counters: BTreeMap<String, Arc<Counters>>,
}

impl Registry {
    /// The channels of a configuration (`Config::channels`), connected ones from now on. `former` are those that these replace;
    /// those of them that are not kept are stopped. `parts` is what all of them are made with.
    pub fn new(channels: &BTreeMap<String, config::Channel>, parts: &Parts, former: Option<&Registry>) -> Self {
        let mut registry = Registry::default();
        for (name, channel) in channels {
            registry.add(name, channel, &Parts { name: name.clone(), ..parts.clone() }, former);
        }
        for (name, channel) in former.iter().flat_map(|f| &f.channels) {
            let is_kept = registry.channels.get(name).is_some_and(|kept| Arc::ptr_eq(kept, channel));
            if !is_kept {
                channel.stop();
            }
        }
        registry
    }

    fn add(&mut self, name: &str, channel: &config::Channel, parts: &Parts, former: Option<&Registry>) {
        let now_ms = parts.clock.unix_ms();
        if let ChannelKind::Webhook(kind) = &channel.kind {
            let counters = former.and_then(|f| Some(f.webhooks.get(name)?.counters.clone()));
            let (client, clock) = (parts.client.clone(), parts.clock.clone());
            let webhook = Arc::new(Webhook::new(name, channel.enabled, kind.clone(), client, clock, counters));
            self.webhooks.insert(name.to_string(), webhook.clone());
            self.channels.insert(name.to_string(), webhook);
            return;
        }
        let identity = Fingerprint::of(&described(channel));
        let kept = former.filter(|f| f.identities.get(name).is_some_and(|i| i.matches(&identity)));
        let counters = former
            .and_then(|f| f.counters.get(name).cloned())
            .unwrap_or_else(|| Arc::new(Counters::new(ChannelState::Connecting, now_ms)));
        let made = kept.and_then(|f| f.channels.get(name).cloned()).unwrap_or_else(|| {
            if let Some(before) = former.and_then(|f| f.channels.get(name)) {
                before.stop(); // its place at the service must be free
            }
            open(channel, parts, counters.clone())
        });
        self.identities.insert(name.to_string(), identity);
        self.counters.insert(name.to_string(), counters);
        self.channels.insert(name.to_string(), made);
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

    /// Ends all that is connected; returns at once.
    pub fn stop(&self) {
        self.channels.values().for_each(|c| c.stop());
    }
}

fn open(channel: &config::Channel, parts: &Parts, counters: Arc<Counters>) -> Arc<dyn Channel> {
    let (parts, common) = (parts.clone(), &channel.common);
    match channel.kind.clone() {
        ChannelKind::Telegram(kind) => telegram::open(parts, kind, common, counters),
        ChannelKind::Matrix(kind) => matrix::open(parts, kind, common, counters),
        ChannelKind::Mqtt(kind) => mqtt::open(parts, kind, common, counters),
        ChannelKind::Discord(kind) => discord::open(parts, kind, common, counters),
        ChannelKind::Slack(kind) => slack::open(parts, kind, common, counters),
        ChannelKind::Off(kind) => off(&parts, kind, counters),
        ChannelKind::Webhook(_) => off(&parts, "webhook", counters), // made before this
    }
}

fn off(parts: &Parts, kind: &'static str, counters: Arc<Counters>) -> Arc<dyn Channel> {
    counters.set(ChannelState::Stopped, parts.clock.unix_ms());
    Arc::new(Off::new(&parts.name, kind, counters))
}

/// All that a channel is made of, its secrets included: never shown, only compared.
fn described(channel: &config::Channel) -> String {
    let secret = |s: Option<&Secret>| s.map(|s| s.reveal().to_string()).unwrap_or_default();
    let secrets = match &channel.kind {
        ChannelKind::Telegram(t) => secret(Some(&t.token)),
        ChannelKind::Matrix(m) => format!("{}\0{}", secret(m.access_token.as_ref()), secret(m.password.as_ref())),
        ChannelKind::Mqtt(m) => secret(m.password.as_ref()),
        ChannelKind::Discord(d) => secret(Some(&d.token)),
        ChannelKind::Slack(s) => format!("{}\0{}", secret(Some(&s.app_token)), secret(Some(&s.bot_token))),
        ChannelKind::Webhook(_) | ChannelKind::Off(_) => String::new(),
    };
    format!("{channel:?}\0{secrets}")
}
