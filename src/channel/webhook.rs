//! The webhook channel: messages come in by `POST /webhook/NAME`, replies go out to `replyUrl`.
//!
//! Invariant: a request is verified before its body is looked into; a signature that is there and wrong is never made good by
//! another credential. Replies are Standard Webhooks requests whose `webhook-id` is the delivery's id at every try, so that a
//! receiver can tell a repeat. Fails with the client's error kinds; `Permanent` where there is no `replyUrl`.

pub mod body;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::counters::Counters;
use crate::channel::repeats::Repeats;
use crate::channel::standard_webhooks::{Key, Signed, verify_hub};
use crate::channel::{Channel, ChannelState, ChannelStatus, Progress};
use crate::config;
use crate::domain::{Delivery, Handoff};
use crate::net::client::{Call, Client, Deadlines};

use body::{Incoming, Problem};

const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);

/// What the credential of a request is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed by Standard Webhooks; with the verified `webhook-id`.
    Signed(String),
    /// Signed by `X-Hub-Signature-256`.
    Hub,
    /// It bears the channel's token.
    Token,
    /// The channel has no credential: it is for the caller to see whether that is good enough (auth mode `none`, or a token of
    /// the gateway).
    Unprotected,
    /// Refused: 401.
    Refused,
}

impl Verdict {
    /// The id that a signature vouches for.
    pub fn verified_id(&self) -> Option<&str> {
        match self {
            Verdict::Signed(id) => Some(id),
            _ => None,
        }
    }
}

/// A webhook channel.
pub struct Webhook {
    name: String,
    enabled: bool,
    config: config::Webhook,
    client: Arc<Client>,
    clock: Clock,
    pub(super) counters: Arc<Counters>,
}

impl Webhook {
    /// The channel `name`. `counters` is the record of the one that it replaces at a reload.
    pub fn new(
        name: &str,
        enabled: bool,
        config: config::Webhook,
        client: Arc<Client>,
        clock: Clock,
        counters: Option<Arc<Counters>>,
    ) -> Self {
        let state = if enabled { ChannelState::Connected } else { ChannelState::Stopped };
        let counters = counters.unwrap_or_else(|| Arc::new(Counters::new(state, clock.unix_ms())));
        if counters.status(name, "webhook").state == ChannelState::Stopped || !enabled {
            counters.set(state, clock.unix_ms());
        }
        Webhook { name: name.to_string(), enabled, config, client, clock, counters }
    }

    /// Whether it takes and sends messages.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether what comes in goes straight to its user, without an agent.
    pub fn is_deliver_only(&self) -> bool {
        self.config.deliver_only
    }

    /// What a request's credential is worth. `header` gives the first header of a lower-case name; `body` is the body as it
    /// came. Always looks at everything that is there, so that a refusal takes no shorter way for a guess that is nearer.
    pub fn verify<'a>(&self, header: impl Fn(&str) -> Option<&'a str>, body: &[u8]) -> Verdict {
        let signed =
            Signed { id: header("webhook-id"), timestamp: header("webhook-timestamp"), signature: header("webhook-signature") };
        let hub = header("x-hub-signature-256");
        let bearer = header("authorization").and_then(bearer);
        let secret = self.config.secret.as_ref();
        if secret.is_none() && self.config.token.is_none() {
            return Verdict::Unprotected;
        }
        // A channel with a token alone may well be called with headers that it does not ask for.
        if let Some(secret) = secret.filter(|_| signed.signature.is_some() || hub.is_some()) {
            let now_s = self.clock.unix_ms() / 1000;
            return match hub.filter(|_| signed.signature.is_none()) {
                Some(hub) if verify_hub(secret, hub, body) => Verdict::Hub,
                Some(_) => Verdict::Refused,
                None => Key::of(secret).and_then(|k| k.verify(signed, body, now_s)).map_or(Verdict::Refused, Verdict::Signed),
            };
        }
        match (&self.config.token, bearer) {
            (Some(token), Some(given)) if !token.reveal().is_empty() && token.matches(given) => Verdict::Token,
            _ => Verdict::Refused,
        }
    }

    /// Reads a verified request's body; see [`body::parse`].
    ///
    /// # Errors
    /// All problems of the body.
    pub fn parse(&self, body: &[u8], verdict: &Verdict, idempotency_key: Option<&str>) -> Result<Incoming, Vec<Problem>> {
        body::parse(&self.config, body, verdict.verified_id(), idempotency_key)
    }

    fn post(&self, url: &str, delivery: &Delivery) -> Result<()> {
        let body = reply_body(delivery).to_string();
        let now_s = self.clock.unix_ms() / 1000;
        let deadlines = Deadlines::within(CONNECT, TOTAL);
        let mut call = Call::post_json(url, body.as_str(), deadlines)
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", now_s.to_string());
        if let Some(secret) = self.config.reply_secret.as_ref().or(self.config.secret.as_ref()) {
            let key = Key::of(secret).ok_or_else(|| {
                Error::new(ErrorKind::Permanent, "the channel's secret is no key to sign with")
                    .hint("whsec_ must be followed by base 64")
            })?;
            call = call.header("webhook-signature", key.sign(&delivery.id, now_s, body.as_bytes()));
        }
        self.client.send(&call)?.accepted()?.settle(); // a 2xx is the receipt, whatever its body says
        Ok(())
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The body of a reply. `userId` is the user in the receiver's own terms, as it came in.
fn reply_body(delivery: &Delivery) -> serde_json::Value {
    let mut body = json!({"id": delivery.id});
    let mut put = |key: &str, value: Option<&String>| {
        if let Some(value) = value {
            body[key] = value.as_str().into();
        }
    };
    put("inReplyTo", delivery.in_reply_to.as_ref());
    put("sessionId", delivery.session_id.as_ref());
    put("userId", Some(&delivery.peer));
    put("conversationId", delivery.conversation_id.as_ref());
    put("message", Some(&delivery.message));
    if let Some(metadata) = &delivery.metadata {
        body["metadata"] = metadata.clone();
    }
    body
}

impl Channel for Webhook {
    fn handoff(&self) -> Option<Handoff> {
        self.config.reply_url.as_ref().map(|_| Handoff::Worker)
    }

    fn repeats(&self) -> Repeats {
        Repeats::KNOWN
    }

    fn deliver(&self, delivery: &Delivery, _: &Progress<'_>) -> Result<()> {
        if !self.enabled {
            let error = Error::new(ErrorKind::Transient, format!("the channel {} is switched off", self.name));
            return Err(error.hint("set its enabled to true"));
        }
        let Some(url) = &self.config.reply_url else {
            let error = Error::new(ErrorKind::Permanent, format!("the channel {} has no replyUrl", self.name));
            return Err(error.hint("set replyUrl, or read replies from /api/messages/ID"));
        };
        let result = self.post(url, delivery);
        match &result {
            Ok(()) => self.counters.sent(self.clock.unix_ms()),
            Err(e) if e.kind == ErrorKind::Stopped => {} // our doing, not the receiver's
            Err(e) => self.counters.failed(e, self.clock.unix_ms()),
        }
        result
    }

    fn status(&self) -> ChannelStatus {
        self.counters.status(&self.name, "webhook")
    }

    /// There is no connection to start: forgets the last error.
    fn note_received(&self) {
        self.counters.received(self.clock.unix_ms());
    }

    fn reconnect(&self) {
        if self.enabled {
            self.counters.set(ChannelState::Connected, self.clock.unix_ms());
        }
    }
}

#[cfg(test)]
mod tests;
