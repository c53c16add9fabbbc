//! MQTT's packets as bytes, 3.1.1 and 5, as far as a client needs them that subscribes once and speaks QoS 0 and 1.
//!
//! Invariant: no I/O, and no trust in lengths: of a packet at most [`KEPT`] bytes are held, the rest of a longer message is
//! skipped as it comes. Fails with [`Malformed`], after which the connection is of no more use.

use super::reader::{Reader, Value};

/// The most that is held of one packet: a message of [`super::message::PAYLOAD_MAX`] with the longest topic, and properties.
pub const KEPT: usize = (256 + 64 + 16) * 1024;
/// What a broker may send besides messages.
const ANSWER_MAX: usize = 64 * 1024;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V4,
    /// 5.
    V5,
}

/// What the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The first packet.
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    pub keep_alive_s: u16,
    /// Topic and payload of the last will, which is retained.
    pub will: (&'a str, &'a str),
    /// How long the broker keeps the session (5 alone; 3.1.1 leaves it to the broker).
    pub session_expiry_s: u32,
    /// Messages without our acknowledgement (5 alone).
    pub receive_max: u16,
    /// The longest packet that we take (5 alone).
    pub packet_max: u32,
}

/// A message to the broker.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// Present for QoS 1.
    pub packet_id: Option<u16>,
    pub retain: bool,
    /// User properties (5 alone).
    pub properties: &'a [(&'a str, &'a str)],
}

/// What a broker said about itself when it accepted the connection; its absence is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub receive_max: u16,
    pub packet_max: u32,
    pub qos_max: u8,
    pub retains: bool,
    /// In place of ours.
    pub keep_alive_s: Option<u16>,
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    /// Present for QoS 1.
    pub packet_id: Option<u16>,
    /// The broker may have sent it before.
    pub is_again: bool,
    pub is_retained: bool,
    /// The user property `id`.
    pub id: Option<String>,
    /// It was longer than what is held, and the end of `payload` is missing.
    pub is_cut: bool,
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    ConnAck { has_session: bool, code: u8, limits: Limits, reason: String },
    Publish(Received),
    PubAck { packet_id: u16, code: u8, reason: String },
    SubAck { packet_id: u16, code: u8, reason: String },
    UnsubAck { packet_id: u16 },
    PingResp,
    Disconnect { code: u8, reason: String },
}

/// Appends a CONNECT that asks for a kept session.
pub fn connect(out: &mut Vec<u8>, version: Version, c: &Connect<'_>) {
    let is_v5 = version == Version::V5;
    let mut body = Vec::with_capacity(256);
    text(&mut body, "MQTT");
    body.push(if is_v5 { 5 } else { 4 });
    let user = if c.username.is_some() { 0x80 } else { 0 };
    let password = if c.password.is_some() { 0x40 } else { 0 };
    body.push(user | password | 0x20 | 0x08 | 0x04); // the will: retained, QoS 1
    body.extend(c.keep_alive_s.to_be_bytes());
    if is_v5 {
        let mut properties = vec![0x11];
        properties.extend(c.session_expiry_s.to_be_bytes());
        properties.push(0x21);
        properties.extend(c.receive_max.to_be_bytes());
        properties.push(0x27);
        properties.extend(c.packet_max.to_be_bytes());
        sized(&mut body, &properties);
    }
    text(&mut body, c.client_id);
    if is_v5 {
        body.push(0); // no properties of the will
    }
    text(&mut body, c.will.0);
    text(&mut body, c.will.1);
    c.username.iter().chain(&c.password).for_each(|t| text(&mut body, t));
    out.push(0x10);
    sized(out, &body);
}

/// Appends a PUBLISH. The topic has at most 65,535 bytes, the whole at most 256 MiB.
pub fn publish(out: &mut Vec<u8>, version: Version, p: &Publish<'_>) {
    let mut head = Vec::with_capacity(p.topic.len() + 128);
    text(&mut head, p.topic);
    p.packet_id.iter().for_each(|id| head.extend(id.to_be_bytes()));
    if version == Version::V5 {
        let mut properties = vec![0x01, 1]; // the payload is UTF-8
        for (name, value) in p.properties {
            properties.push(0x26);
            text(&mut properties, name);
            text(&mut properties, value);
        }
        sized(&mut head, &properties);
    }
    out.push(0x30 | if p.packet_id.is_some() { 0x02 } else { 0 } | u8::from(p.retain));
    number(out, head.len() + p.payload.len());
    out.extend(head);
    out.extend_from_slice(p.payload);
}

/// Appends a PUBACK.
pub fn acknowledge(out: &mut Vec<u8>, packet_id: u16) {
    out.extend([0x40, 2]);
    out.extend(packet_id.to_be_bytes());
}

/// Appends a SUBSCRIBE with QoS 1. In version 5 nothing retained is wanted, and, where `no_local`, nothing of our own.
pub fn subscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str, no_local: bool) {
    let mut body = packet_id.to_be_bytes().to_vec();
    let mut options = 1;
    if version == Version::V5 {
        body.push(0); // no properties
        options |= 0x20 | if no_local { 0x04 } else { 0 };
    }
    text(&mut body, filter);
    body.push(options);
    out.push(0x82);
    sized(out, &body);
}

/// Appends an UNSUBSCRIBE.
pub fn unsubscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str) {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0); // no properties
    }
    text(&mut body, filter);
    out.push(0xA2);
    sized(out, &body);
}

/// Appends a PINGREQ.
pub fn ping(out: &mut Vec<u8>) {
    out.extend([0xC0, 0]);
}

/// Appends a DISCONNECT: we leave in order, and the last will is not sent.
pub fn disconnect(out: &mut Vec<u8>) {
    out.extend([0xE0, 0]);
}

fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))]; // callers refuse longer ones
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push((n % 0x80) as u8 | 0x80);
        n /= 0x80;
    }
    out.push(n as u8);
}

/// Bytes from the broker, put together to packets.
pub struct Decoder {
    version: Version,
    buffer: Vec<u8>,
    /// Where the next packet begins in `buffer`.
    at: usize,
    /// Bytes still to come of a message of which no more is held.
    skip: usize,
}

impl Decoder {
    /// One that has read nothing.
    pub fn new(version: Version) -> Self {
        Decoder { version, buffer: Vec::new(), at: 0, skip: 0 }
    }

    /// Takes bytes in. Between two calls [`Decoder::next`] is to be called until it gives nothing, which bounds what is held.
    pub fn feed(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(&bytes[skipped..]);
        if self.buffer.capacity() > 64 * 1024 && self.buffer.len() < 4 * 1024 {
            self.buffer.shrink_to(16 * 1024);
        }
    }

    /// The next packet, once it is there whole.
    ///
    /// # Errors
    /// Where it is none.
    pub fn next(&mut self) -> Result<Option<Packet>, Malformed> {
        let bytes = &self.buffer[self.at..];
        // What is no broker is told by its first byte, without waiting for the length that it seems to have.
        if bytes.first().is_some_and(|first| first >> 4 != 3 && (first & 0x0F != 0 || !(2..=14).contains(&(first >> 4)))) {
            return Err(Malformed("a packet that a broker doesn't send"));
        }
        let Some((length, head)) = remaining_length(bytes)? else { return Ok(None) };
        let kind = bytes[0] >> 4;
        if kind != 3 && length > ANSWER_MAX {
            return Err(Malformed("a packet beyond all bounds"));
        }
        let held = length.min(KEPT);
        let Some(body) = bytes.get(head..head + held) else { return Ok(None) };
        let packet = read(self.version, bytes[0], body, held < length)?;
        self.at += head + held;
        let beyond = length - held;
        let there = beyond.min(self.buffer.len() - self.at);
        self.at += there;
        self.skip = beyond - there;
        Ok(Some(packet))
    }
}

/// The length that the head tells, and the head's own.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for i in 0..4 {
        let Some(byte) = bytes.get(1 + i) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((length, 2 + i)));
        }
    }
    Err(Malformed("a length of more than four bytes"))
}

fn read(version: Version, first: u8, body: &[u8], is_cut: bool) -> Result<Packet, Malformed> {
    let is_v5 = version == Version::V5;
    let mut r = Reader::new(body);
    match first >> 4 {
        2 => {
            let (flags, code) = (r.u8()?, r.u8()?);
            let (limits, reason) = greeting(&mut r)?;
            Ok(Packet::ConnAck { has_session: flags & 1 == 1, code, limits, reason })
        }
        3 => message(is_v5, first, &mut r, is_cut).map(Packet::Publish),
        4 => {
            let packet_id = r.id()?;
            let (code, reason) = if is_v5 { outcome(&mut r)? } else { (0, String::new()) };
            Ok(Packet::PubAck { packet_id, code, reason })
        }
        9 => {
            let packet_id = r.id()?;
            let reason = if is_v5 { reason(&mut r)? } else { String::new() };
            Ok(Packet::SubAck { packet_id, code: r.u8()?, reason })
        }
        11 => Ok(Packet::UnsubAck { packet_id: r.id()? }),
        13 if body.is_empty() => Ok(Packet::PingResp),
        14 if is_v5 => outcome(&mut r).map(|(code, reason)| Packet::Disconnect { code, reason }),
        _ => Err(Malformed("a packet that a broker doesn't send")),
    }
}

fn message(is_v5: bool, first: u8, r: &mut Reader<'_>, is_cut: bool) -> Result<Received, Malformed> {
    let topic = r.text()?.to_string();
    let packet_id = match (first >> 1) & 3 {
        0 => None,
        1 => Some(r.id()?),
        _ => return Err(Malformed("a message with a QoS that was not asked for")),
    };
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Malformed("a message without a topic"));
    }
    let mut id = None;
    if is_v5 {
        r.properties(|_, value| {
            if let Value::Pair("id", text) = value {
                id = Some(text.to_string());
            }
        })?;
    }
    let (is_again, is_retained) = (first & 0x08 != 0, first & 1 != 0);
    Ok(Received { topic, payload: r.rest().to_vec(), packet_id, is_again, is_retained, id, is_cut })
}

/// What stands behind a CONNACK's code; a broker that knows 3.1.1 alone answers so to version 5 too, without properties.
fn greeting(r: &mut Reader<'_>) -> Result<(Limits, String), Malformed> {
    let mut limits = Limits { receive_max: u16::MAX, packet_max: u32::MAX, qos_max: 2, retains: true, keep_alive_s: None };
    let mut reason = String::new();
    if r.is_empty() {
        return Ok((limits, reason));
    }
    r.properties(|id, value| match (id, value) {
        (0x13, Value::Number(n)) => limits.keep_alive_s = Some(n as u16),
        (0x21, Value::Number(n)) => limits.receive_max = n as u16,
        (0x24, Value::Number(n)) => limits.qos_max = n as u8,
        (0x25, Value::Number(n)) => limits.retains = n == 1,
        (0x27, Value::Number(n)) => limits.packet_max = n,
        (0x1F, Value::Text(text)) => reason = text.to_string(),
        _ => {}
    })?;
    if limits.receive_max == 0 || limits.packet_max == 0 {
        return Err(Malformed("a bound of nothing"));
    }
    Ok((limits, reason))
}

/// A code and its reason, which may both be left out.
fn outcome(r: &mut Reader<'_>) -> Result<(u8, String), Malformed> {
    let code = if r.is_empty() { 0 } else { r.u8()? };
    let reason = if r.is_empty() { String::new() } else { reason(r)? };
    Ok((code, reason))
}

fn reason(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let mut reason = String::new();
    r.properties(|id, value| {
        if let (0x1F, Value::Text(text)) = (id, value) {
            reason = text.to_string();
        }
    })?;
    Ok(reason)
}
