//! The services behind the adapters, each as what a test asks of it: somebody writes, and what arrived there, in order.
//!
//! Invariant: what arrived is the service's own truth, read outside of the gateway; what it knows as a repeat counts once.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::discord::Discord;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::mosquitto::{Listener, Mosquitto};
use crate::support::sink::Sink;
use crate::support::slack::Slack;
use crate::support::synapse::{Person, Synapse};
use crate::support::telegram::Telegram;

/// The channel's name in every configuration here.
pub const CHANNEL: &str = "c";
/// The credential of the webhook channel.
const DOOR: &str = "door-token-0123456789abcdef";
/// What a text that may be a repeat begins with.
const MARK: &str = "(This may be a repeat.)\n";

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub text: String,
    /// It says that it may be a repeat.
    pub is_marked: bool,
}

impl Arrived {
    fn of(text: &str) -> Self {
        let rest = text.strip_prefix(MARK);
        Arrived { text: rest.unwrap_or(text).to_string(), is_marked: rest.is_some() }
    }
}

/// A service.
pub trait Counterpart {
    /// The channel's configuration.
    fn channel(&self) -> Value;
    /// Whether it knows a delivery by its id.
    fn knows_repeats(&self) -> bool;
    /// Whether a long text goes in parts.
    fn has_parts(&self) -> bool {
        true
    }
    /// Whether it hands messages to us, and is told when they are taken.
    fn is_polled(&self) -> bool {
        true
    }
    /// Somebody writes.
    fn say(&self, gateway: &Gateway, text: &str);
    /// What arrived, oldest first.
    fn arrived(&self) -> Vec<Arrived>;
}

impl Counterpart for Telegram {
    fn channel(&self) -> Value {
        self.config(json!({}), json!({}))["channels"]["tg"].clone()
    }
    fn knows_repeats(&self) -> bool {
        false
    }
    fn say(&self, _: &Gateway, text: &str) {
        self.says(7, text);
    }
    fn arrived(&self) -> Vec<Arrived> {
        self.texts(7).iter().map(|t| Arrived::of(t)).collect()
    }
}

impl Counterpart for Slack {
    fn channel(&self) -> Value {
        self.config()
    }
    fn knows_repeats(&self) -> bool {
        false
    }
    fn say(&self, _: &Gateway, text: &str) {
        self.direct("U0ANA123", text);
    }
    fn arrived(&self) -> Vec<Arrived> {
        self.texts().iter().map(|t| Arrived::of(t)).collect()
    }
}

impl Counterpart for Discord {
    fn channel(&self) -> Value {
        self.config()
    }
    fn knows_repeats(&self) -> bool {
        true
    }
    fn say(&self, _: &Gateway, text: &str) {
        self.direct(900, 11, text);
    }
    fn arrived(&self) -> Vec<Arrived> {
        self.texts().iter().map(|t| Arrived::of(t)).collect()
    }
}

/// The broker with somebody who listens.
pub struct Mqtt {
    broker: Mosquitto,
    listener: Listener,
}

impl Mqtt {
    /// `None`, said loudly, where there is no broker.
    pub fn start() -> Option<Self> {
        let broker = Mosquitto::start(false)?;
        let listener = broker.listen("gatelet/out/+");
        Some(Mqtt { broker, listener })
    }

    pub fn port(&self) -> u16 {
        self.broker.port
    }
}

impl Counterpart for Mqtt {
    fn channel(&self) -> Value {
        self.broker.channel()
    }
    fn knows_repeats(&self) -> bool {
        false
    }
    fn has_parts(&self) -> bool {
        false
    }
    fn say(&self, _: &Gateway, text: &str) {
        self.broker.publish("gatelet/in/ana", text);
    }
    fn arrived(&self) -> Vec<Arrived> {
        let lines = self.listener.lines();
        let split = |line: &String| line.find("echo: ").map(|at| (line[..at].to_string(), line[at..].to_string()));
        lines.iter().filter_map(split).map(|(head, text)| Arrived { text, is_marked: head.contains("repeat:possible") }).collect()
    }
}

/// The homeserver with somebody in a room with the bot.
pub struct Matrix {
    synapse: Synapse,
    ana: Person,
    bot: Person,
    room: std::cell::OnceCell<String>,
}

impl Matrix {
    /// `None`, said loudly, where there is no homeserver.
    pub fn start() -> Option<Self> {
        let synapse = Synapse::start("crash points over Matrix")?;
        let (ana, bot) = (synapse.person("ana"), synapse.person("bot"));
        Some(Matrix { synapse, ana, bot, room: std::cell::OnceCell::new() })
    }
}

impl Counterpart for Matrix {
    fn channel(&self) -> Value {
        self.synapse.channel("bot")
    }
    fn knows_repeats(&self) -> bool {
        true
    }
    fn say(&self, _: &Gateway, text: &str) {
        let room = self.room.get_or_init(|| {
            let room = self.ana.room(&[&self.bot.id], true, json!({}));
            eventually("the bot to come", 40, || self.ana.members(&room).contains(&self.bot.id).then_some(()));
            room
        });
        self.ana.say(room, text);
    }
    fn arrived(&self) -> Vec<Arrived> {
        let Some(room) = self.room.get() else { return Vec::new() };
        self.ana.heard(room).iter().map(|s| Arrived::of(&s.body)).collect()
    }
}

/// A receiver that keeps each `webhook-id` once, as its specification asks for.
pub struct Hook(Sink);

impl Hook {
    pub fn start() -> Self {
        Hook(Sink::new())
    }
}

impl Counterpart for Hook {
    fn channel(&self) -> Value {
        json!({"type": "webhook", "token": DOOR, "replyUrl": self.0.url})
    }
    fn knows_repeats(&self) -> bool {
        true
    }
    fn has_parts(&self) -> bool {
        false
    }
    fn is_polled(&self) -> bool {
        false
    }
    fn say(&self, gateway: &Gateway, text: &str) {
        let body = json!({"userId": "ana", "message": text, "messageId": text});
        let call = gateway.call("POST", &format!("/webhook/{CHANNEL}")).token(DOOR).json(&body);
        let _ = call.attempt(); // it may die before it answers
    }
    fn arrived(&self) -> Vec<Arrived> {
        let mut known = HashSet::new();
        self.0.got().iter().filter(|d| known.insert(d.id.clone())).map(|d| Arrived::of(d.text())).collect()
    }
}
