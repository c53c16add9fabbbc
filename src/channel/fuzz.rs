//! What `tests/fuzz` calls, compiled for it alone (`cfg(fuzzing)`): what services and senders say to the channels.
//!
//! Invariant: it panics where a webhook is verified that nobody signed.

use std::sync::Arc;

use serde_json::Value;

use super::webhook::{Verdict, Webhook};
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::config;
use crate::net::client::Client;

/// An update, a message, an event, a frame of each chat service.
pub fn payloads(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    super::telegram::fuzz(&value);
    super::discord::fuzz(text, &value);
    super::slack::fuzz(text);
    super::matrix::fuzz(&value);
}

/// Packets of an MQTT broker.
pub fn mqtt(data: &[u8]) {
    super::mqtt::fuzz(data);
}

/// A webhook's request: headers, an empty line, the body. Nobody here knows the secret, so nothing may pass.
pub fn webhook(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let headers: Vec<(String, &str)> =
        head.lines().filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    for (secret, token) in [
        (Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="), None),
        (Some("a plain secret that nobody here knows"), None),
        (None, Some("a-token-that-nobody-here-knows")),
        (Some("a plain secret that nobody here knows"), Some("a-token-that-nobody-here-knows")),
    ] {
        let config = config::Webhook {
            secret: secret.map(Secret::new),
            token: token.map(Secret::new),
            reply_url: None,
            reply_secret: None,
            message_path: None,
            user_path: None,
            id_path: None,
            deliver_only: false,
        };
        let door = Webhook::new("door", true, config, Arc::new(Client::new(1)), Clock::manual(1_800_000_000_000), None);
        assert_eq!(door.verify(header, body.as_bytes()), Verdict::Refused, "nobody signed it");
        let _ = door.parse(body.as_bytes(), &Verdict::Hub, header("idempotency-key"));
    }
}
