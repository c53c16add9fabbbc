//! One MQTT connection as a value: bytes and time in, bytes and events out.
//!
//! Order: CONNECT, CONNACK ([`Event::Accepted`]), SUBSCRIBE, SUBACK ([`Event::Subscribed`]); messages may come from the CONNACK on.
//! After PUBACKs a PINGREQ is sent: its answer proves that the broker has them ([`Event::Confirmed`]).
//!
//! Invariant: every answer that is awaited has a deadline, and what is under way is bounded in both directions: a broker that
//! breaks either is left. Fails with an error of the kind that the supervisor acts upon; it is of no more use then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::codec::{self, Decoder, Limits, Malformed, Packet, Publish, Received, Version};
use super::refusal;
use crate::base::error::{Error, ErrorKind, Result};

/// Messages that a broker may have under way to us.
pub const RECEIVE_MAX: u16 = 16;
/// Messages that we have under way to it.
const FLIGHTS_MAX: usize = 32;
/// The longest packet that a broker of version 5 is asked to send; what is beyond our own bound is then seen, and logged.
const PACKET_MAX: u32 = 1 << 20;
/// Bytes that wait to be written before publishing is refused.
const WAITING_MAX: usize = 1 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// For CONNACK and SUBACK.
const ANSWER: Duration = Duration::from_secs(15);
/// For PINGRESP.
const PONG: Duration = Duration::from_secs(20);
/// For PUBACK.
pub const RECEIPT: Duration = Duration::from_secs(20);

/// Who connects.
pub struct Hello<'a> {
    pub version: Version,
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    /// The topic that says `offline` when we are gone.
    pub status: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub enum Event {
    /// The broker let us in; whether it kept our session.
    Accepted { has_session: bool },
    /// The broker does not speak this version.
    OtherVersion,
    /// It is subscribed.
    Subscribed,
    /// A message; one of QoS 1 is to be acknowledged.
    Message(Received),
    /// How a publication with that ticket ended.
    Settled { ticket: u64, outcome: Result<()> },
    /// The broker has our acknowledgements up to that serial.
    Confirmed { serial: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting(Duration),
    Accepted,
    Subscribing(Duration, u16),
    Open,
}

/// The connection.
pub struct Protocol {
    version: Version,
    phase: Phase,
    decoder: Decoder,
    out: Vec<u8>,
    limits: Limits,
    last_id: u16,
    /// Packet id → ticket, deadline.
    flights: BTreeMap<u16, (u64, Duration)>,
    /// Packet ids that we have not acknowledged.
    owed: BTreeSet<u16>,
    every: Duration,
    next_ping: Duration,
    pinged: Option<Duration>,
    /// Serials acknowledged since the last PINGREQ, and before it.
    acknowledged: Option<u64>,
    confirming: Option<u64>,
}

impl Protocol {
    /// A connection that says hello.
    pub fn new(hello: &Hello<'_>, now: Duration) -> Self {
        let mut out = Vec::new();
        let connect = codec::Connect {
            client_id: hello.client_id,
            username: hello.username,
            password: hello.password,
            keep_alive_s: KEEP_ALIVE.as_secs() as u16,
            will: (hello.status, "offline"),
            session_expiry_s: SESSION_EXPIRY.as_secs() as u32,
            receive_max: RECEIVE_MAX,
            packet_max: PACKET_MAX,
        };
        codec::connect(&mut out, hello.version, &connect);
        let limits = Limits { receive_max: u16::MAX, packet_max: u32::MAX, qos_max: 2, retains: true, keep_alive_s: None };
        Protocol {
            version: hello.version,
            phase: Phase::Greeting(now + ANSWER),
            decoder: Decoder::new(hello.version),
            out,
            limits,
            last_id: 0,
            flights: BTreeMap::new(),
            owed: BTreeSet::new(),
            every: KEEP_ALIVE / 2,
            next_ping: Duration::MAX,
            pinged: None,
            acknowledged: None,
            confirming: None,
        }
    }

    /// Bytes to be written; what is written is to be taken away.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the broker said that it takes us.
    pub fn is_greeted(&self) -> bool {
        !matches!(self.phase, Phase::Greeting(_))
    }

    /// Whether messages can be published.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// What the bytes mean, one thing at a time.
    ///
    /// # Errors
    /// Where the broker refuses something that all depends on, ends the connection, or breaks the protocol.
    pub fn next(&mut self, now: Duration) -> Result<Option<Event>> {
        while let Some(packet) = self.decoder.next().map_err(broken)? {
            if let Some(event) = self.handle(packet, now)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn handle(&mut self, packet: Packet, now: Duration) -> Result<Option<Event>> {
        match (self.phase, packet) {
            (Phase::Greeting(_), Packet::ConnAck { code, .. }) if refusal::is_version(code) => Ok(Some(Event::OtherVersion)),
            (Phase::Greeting(_), Packet::ConnAck { has_session, code: 0, limits, .. }) => {
                if limits.qos_max == 0 {
                    return Err(Error::new(ErrorKind::Permanent, "the MQTT broker takes no QoS 1, which is needed"));
                }
                self.every = match limits.keep_alive_s {
                    Some(s) if s > 0 => (Duration::from_secs(s.into()) / 2).min(self.every),
                    _ => self.every,
                };
                (self.limits, self.phase, self.next_ping) = (limits, Phase::Accepted, now + self.every);
                Ok(Some(Event::Accepted { has_session }))
            }
            (Phase::Greeting(_), Packet::ConnAck { code, reason, .. }) => Err(refusal::of_connect(self.version, code, &reason)),
            (Phase::Greeting(_), _) | (_, Packet::ConnAck { .. }) => Err(broken(Malformed("a packet out of order"))),
            (_, Packet::Publish(message)) => self.message(message),
            (_, Packet::PubAck { packet_id, code, reason }) => Ok(self.flights.remove(&packet_id).map(|(ticket, _)| {
                let outcome = if code < 0x80 { Ok(()) } else { Err(refusal::of_publish(code, &reason)) };
                Event::Settled { ticket, outcome }
            })),
            (Phase::Subscribing(_, id), Packet::SubAck { packet_id, code, reason }) if id == packet_id => {
                if code >= 0x80 {
                    return Err(refusal::of_subscribe("its filter", code, &reason));
                }
                self.phase = Phase::Open;
                Ok(Some(Event::Subscribed))
            }
            (_, Packet::SubAck { .. } | Packet::UnsubAck { .. }) => Ok(None),
            (_, Packet::PingResp) => {
                self.pinged = None;
                Ok(self.confirming.take().map(|serial| Event::Confirmed { serial }))
            }
            (_, Packet::Disconnect { code, reason }) => Err(refusal::of_disconnect(code, &reason)),
        }
    }

    fn message(&mut self, message: Received) -> Result<Option<Event>> {
        if let Some(id) = message.packet_id {
            if !self.owed.insert(id) {
                // A try of what we have in hands already; without DUP it would be another message of the same id.
                return if message.is_again { Ok(None) } else { Err(broken(Malformed("a packet id that is in use"))) };
            }
            if self.version == Version::V5 && self.owed.len() > usize::from(RECEIVE_MAX) {
                return Err(broken(Malformed("more messages than were asked for")));
            }
        }
        Ok(Some(Event::Message(message)))
    }

    /// Subscribes, and leaves what was subscribed to before.
    pub fn subscribe(&mut self, filter: &str, no_local: bool, former: Option<&str>, now: Duration) {
        if let Some(former) = former {
            let id = self.free_id();
            codec::unsubscribe(&mut self.out, self.version, id, former);
        }
        let id = self.free_id();
        codec::subscribe(&mut self.out, self.version, id, filter, no_local);
        self.phase = Phase::Subscribing(now + ANSWER, id);
    }

    /// Acknowledges a message that is on disk; `serial` as the ledger gave it, 0 for one that got none.
    pub fn acknowledge(&mut self, packet_id: u16, serial: u64) {
        if self.owed.remove(&packet_id) {
            codec::acknowledge(&mut self.out, packet_id);
            self.acknowledged = self.acknowledged.max(Some(serial).filter(|s| *s > 0));
        }
    }

    /// Publishes with QoS 1; [`Event::Settled`] tells how it ended.
    ///
    /// # Errors
    /// `Throttled` while too much is under way, `Permanent` for what is too long.
    pub fn publish(&mut self, ticket: u64, publish: &Publish<'_>, now: Duration) -> Result<()> {
        let most = FLIGHTS_MAX.min(self.limits.receive_max.into());
        if self.flights.len() >= most || self.out.len() > WAITING_MAX {
            return Err(Error::new(ErrorKind::Throttled(None), "the MQTT broker has not yet taken what was sent before"));
        }
        let packet_id = Some(self.free_id());
        let before = self.out.len();
        codec::publish(&mut self.out, self.version, &Publish { packet_id, ..*publish });
        if self.out.len() - before > self.limits.packet_max as usize {
            self.out.truncate(before);
            return Err(Error::new(ErrorKind::Permanent, "the message is longer than the MQTT broker takes"));
        }
        self.flights.extend(packet_id.map(|id| (id, (ticket, now + RECEIPT))));
        Ok(())
    }

    /// Has the broker retain a text, as far as it does that, without a receipt.
    pub fn retain(&mut self, topic: &str, text: &str) {
        if self.limits.retains && self.out.len() <= WAITING_MAX {
            let publish = Publish { topic, payload: text.as_bytes(), packet_id: None, retain: true, properties: &[] };
            codec::publish(&mut self.out, self.version, &publish);
        }
    }

    /// Says goodbye.
    pub fn leave(&mut self, status: &str) {
        if self.is_greeted() {
            self.retain(status, "offline");
            codec::disconnect(&mut self.out);
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// `Timeout` where an answer is late.
    pub fn tick(&mut self, now: Duration) -> Result<()> {
        let late = |what: &str| Err(Error::new(ErrorKind::Timeout, format!("the MQTT broker {what} in time")));
        match self.phase {
            Phase::Greeting(until) if now >= until => return late("did not answer"),
            Phase::Subscribing(until, _) if now >= until => return late("did not answer the subscription"),
            _ => {}
        }
        if self.pinged.is_some_and(|at| now >= at + PONG) {
            return late("did not answer the ping");
        }
        if self.flights.values().any(|(_, until)| now >= *until) {
            return late("did not acknowledge a message");
        }
        let has_news = self.is_greeted() && self.acknowledged.is_some();
        if self.pinged.is_none() && (now >= self.next_ping || has_news) {
            codec::ping(&mut self.out);
            (self.pinged, self.next_ping) = (Some(now), now + self.every);
            self.confirming = self.acknowledged.take();
        } else if now >= self.next_ping {
            self.next_ping = now + self.every; // one is under way
        }
        Ok(())
    }

    /// Nothing was read because we are busy: the broker's silence is our doing.
    pub fn unread(&mut self, now: Duration) {
        self.pinged = self.pinged.map(|_| now);
        if now >= self.next_ping {
            codec::ping(&mut self.out); // the broker must hear of us all the same
            self.next_ping = now + self.every;
        }
        self.flights.values_mut().for_each(|(_, until)| *until = (*until).max(now + RECEIPT));
    }

    /// When [`Protocol::tick`] is due next.
    pub fn due(&self) -> Duration {
        let phase = match self.phase {
            Phase::Greeting(until) | Phase::Subscribing(until, _) => until,
            _ => Duration::MAX,
        };
        let pong = self.pinged.map_or(Duration::MAX, |at| at + PONG);
        let receipt = self.flights.values().map(|(_, until)| *until).min().unwrap_or(Duration::MAX);
        phase.min(pong).min(receipt).min(self.next_ping)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.flights.contains_key(&self.last_id) {
                return self.last_id; // at most FLIGHTS_MAX are taken
            }
        }
    }
}

fn broken(Malformed(what): Malformed) -> Error {
    Error::new(ErrorKind::Transient, format!("the MQTT broker broke the protocol: {what}"))
        .hint("does an MQTT broker listen there, and with TLS or without as the url says?")
}
