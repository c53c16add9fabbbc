//! MQTT, 5 or 3.1.1 as the broker has it: a topic's level is the user, payloads are texts, QoS 1 both ways over a kept session.
//!
//! What is promised: a message that the broker took with QoS 1 is accepted at least once, and acknowledged after it is on disk.
//! One that carries an id (the user property `id`, or `id` or `messageId` in a JSON payload) is accepted once, however often it
//! is published. Without one, what the broker sends again is told by the ledger (see there); what a sender publishes twice, or
//! a broker that forgot our acknowledgement sends as new, are two messages. QoS 0 may be lost on the way. Answers are
//! published at least once and carry the delivery's id as the user property `id`, which 3.1.1 has no place for; one that may be a
//! repeat has the property `repeat`. What was handed to the connection and never acknowledged is `Unclear`.
//!
//! Invariant: no async runtime, one thread for the socket and one for taking in; all that waits has a deadline, all that grows a
//! bound. Fails with the supervisor's kinds: refused credentials, certificates and subscriptions make the channel misconfigured.

#[cfg(test)]
mod broker;
mod codec;
#[cfg(test)]
mod codec_tests;
mod discovery;
mod ledger;
mod line;
mod mailbox;
mod message;
mod protocol;
#[cfg(test)]
mod protocol_tests;
mod reader;
mod refusal;
mod stream;
mod taker;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::counters::Counters;
use crate::channel::off::Off;
use crate::channel::repeats::Repeats;
use crate::channel::supervisor::Supervisor;
use crate::channel::{Channel, ChannelState, ChannelStatus, Parts, Progress};
use crate::config;
use crate::domain::{Delivery, Handoff};

/// The type's name.
const KIND: &str = "mqtt";
/// For one delivery: more than the protocol's own deadline for a PUBACK.
const DELIVERY: Duration = Duration::from_secs(protocol::RECEIPT.as_secs() + 5);

/// The channel.
struct Mqtt {
    topics: message::Topics,
    mailbox: Arc<mailbox::Mailbox>,
    supervisor: Supervisor,
    counters: Arc<Counters>,
    parts: Parts,
    repeats: Repeats,
}

/// The channel, being connected from now on.
pub(super) fn open(
    parts: Parts,
    config: config::Mqtt,
    common: &config::ChannelCommon,
    counters: Arc<Counters>,
) -> Arc<dyn Channel> {
    let mailbox = match mailbox::Mailbox::new() {
        Ok(mailbox) => Arc::new(mailbox),
        Err(e) => {
            counters.change(ChannelState::Degraded, Some(&e), parts.clock.unix_ms());
            return Arc::new(Off::new(&parts.name, KIND, counters));
        }
    };
    let topics = message::Topics::new(&parts.name, &config.subscribe, &config.publish);
    let wire = line::Wire {
        config,
        topics: topics.clone(),
        mailbox: mailbox.clone(),
        counters: counters.clone(),
        version: codec::Version::V5,
        work: None,
        epoch: 0,
        is_greeted: false,
    };
    let supervisor = Supervisor::start(parts.clone(), counters.clone(), wire);
    Arc::new(Mqtt { topics, mailbox, supervisor, counters, parts, repeats: Repeats::unknown(common) })
}

impl Channel for Mqtt {
    fn handoff(&self) -> Option<Handoff> {
        Some(Handoff::Worker)
    }

    /// A broker knows no keys.
    fn repeats(&self) -> Repeats {
        self.repeats
    }

    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()> {
        let (outcome, settled) = crossbeam_channel::bounded(1);
        let mut properties = vec![("id", delivery.id.clone())];
        let optional = [("inReplyTo", &delivery.in_reply_to), ("conversationId", &delivery.conversation_id)];
        properties.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        properties.extend(progress.may_repeat.then(|| ("repeat", "possible".to_string())));
        let topic = self.topics.to(&delivery.peer)?;
        let left = Arc::new(AtomicBool::new(false));
        let payload = delivery.message.clone();
        self.mailbox.post(mailbox::Letter { topic, payload, properties, left: left.clone(), outcome })?;
        let text = match settled.recv_timeout(DELIVERY) {
            Ok(outcome) => return outcome,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => "the MQTT broker did not acknowledge the message in time",
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                "the connection to the MQTT broker broke before it acknowledged the message"
            }
        };
        let kind = if left.load(Ordering::SeqCst) { ErrorKind::Unclear } else { ErrorKind::Transient };
        Err(Error::new(kind, text))
    }

    fn status(&self) -> ChannelStatus {
        self.supervisor.status(KIND)
    }

    fn note_received(&self) {
        self.counters.received(self.parts.clock.unix_ms());
    }

    fn reconnect(&self) {
        self.supervisor.reconnect();
    }

    fn stop(&self) {
        self.supervisor.stop();
    }
}

/// For `tests/fuzz`: packets of a broker, whole and in pieces.
#[cfg(fuzzing)]
pub(super) fn fuzz(data: &[u8]) {
    for version in [codec::Version::V5, codec::Version::V4] {
        let read = |piece: usize| {
            let (mut decoder, mut all) = (codec::Decoder::new(version), Vec::new());
            for part in data.chunks(piece.max(1)) {
                decoder.feed(part);
                loop {
                    match decoder.next() {
                        Ok(Some(packet)) => all.push(format!("{packet:?}")),
                        Ok(None) => break,
                        Err(_) => return None,
                    }
                }
            }
            Some(all)
        };
        let whole = read(data.len());
        assert!(whole.is_none() || whole == read(3), "the same bytes in other pieces");
    }
}
