//! The way of a message: accepted once, answered once, delivered at least once.

mod accept;
mod anthropic;
mod bounds;
mod builtin;
mod delivery;
mod jobs;
mod order;
mod proactive;
mod provider;
mod seen;
mod sessions;

use serde_json::{Value, json};

use crate::support::sink::Sink;

/// The token of the channel `door`.
pub const DOOR: &str = "door-token-0123456789abcdef";

/// A configuration with the webhook channel `door`, whose replies go to `sink`, beside `default`.
pub fn with_door(config: Value, sink: &Sink) -> Value {
    let channels = json!({"channels": {
        "default": {"type": "webhook"},
        "door": {"type": "webhook", "token": DOOR, "replyUrl": sink.url}}});
    crate::support::merged(config, channels)
}

/// A configuration that tries again quickly.
pub fn impatient(config: Value, retries: u32, delay_ms: u64) -> Value {
    crate::support::merged(config, json!({"gateway": {"retry": {"maxRetries": retries, "delay": delay_ms}}}))
}
