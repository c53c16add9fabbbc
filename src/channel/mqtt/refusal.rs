//! The broker's codes, as errors.
//!
//! Invariant: what a broker says in words is shortened. Pure.

use super::codec::Version;
use crate::base::error::{Error, ErrorKind, shorten};

/// Whether a CONNACK's code says that this version of the protocol is not spoken there.
pub fn is_version(code: u8) -> bool {
    matches!(code, 0x01 | 0x84) // a broker of 3.1.1 answers with its own code
}

/// A CONNACK that refuses.
pub fn of_connect(version: Version, code: u8, reason: &str) -> Error {
    let code = match (version, code) {
        (_, 1) => 0x84,
        (_, 2) => 0x85,
        (_, 3) => 0x88,
        (_, 4) => 0x86,
        (_, 5) => 0x87,
        (_, code) => code,
    };
    let (kind, text, hint) = match code {
        0x84 => (ErrorKind::Permanent, "speaks neither MQTT 5 nor 3.1.1", ""),
        0x85 => (ErrorKind::Permanent, "refused the client id", "set another clientId"),
        0x86 => (ErrorKind::Denied, "refused the user name or password", "check username and password"),
        0x87 => (ErrorKind::Denied, "does not let this client in", "check username and password, and the broker's access list"),
        0x88 | 0x89 => (ErrorKind::Transient, "is not available now", ""),
        0x8A | 0x8C => (ErrorKind::Denied, "bans this client", "check the broker's access list"),
        0x97 | 0x9F => (ErrorKind::Throttled(None), "asks for a pause: too many connections", ""),
        0x9A | 0x9B => (ErrorKind::Permanent, "keeps no retained messages, or takes no QoS 1, and both are needed", ""),
        0x9C | 0x9D => (ErrorKind::Permanent, "sends its clients to another server", "set url to that one"),
        0x80..=0x83 | 0x90..=0x96 | 0x99 => (ErrorKind::Permanent, "refused the connection", ""),
        _ => (ErrorKind::Transient, "refused the connection", ""),
    };
    Error::new(kind, format!("the MQTT broker {text} ({})", words(code, reason))).hint(hint)
}

/// A DISCONNECT.
pub fn of_disconnect(code: u8, reason: &str) -> Error {
    let (kind, text, hint) = match code {
        0x87 => (ErrorKind::Denied, "does not let this client in any more", "check the broker's access list"),
        0x8E => (ErrorKind::Transient, "gave this client's place to another one", "give each gateway a clientId of its own"),
        0x97 | 0x96 | 0x9F => (ErrorKind::Throttled(None), "asks for a pause", ""),
        0x9C | 0x9D => (ErrorKind::Permanent, "sends its clients to another server", "set url to that one"),
        _ => (ErrorKind::Transient, "ended the connection", ""),
    };
    Error::new(kind, format!("the MQTT broker {text} ({})", words(code, reason))).hint(hint)
}

/// A PUBACK that refuses.
pub fn of_publish(code: u8, reason: &str) -> Error {
    let (kind, text) = match code {
        0x87 => (ErrorKind::Denied, "does not let this client publish there"),
        0x97 => (ErrorKind::Throttled(None), "takes no more for now"),
        _ => (ErrorKind::Permanent, "refused the message"),
    };
    let hint = if code == 0x87 { "check the broker's access list" } else { "" };
    Error::new(kind, format!("the MQTT broker {text} ({})", words(code, reason))).hint(hint)
}

/// A SUBACK that refuses.
pub fn of_subscribe(filter: &str, code: u8, reason: &str) -> Error {
    let (kind, hint) = match code {
        0x80 | 0x87 => (ErrorKind::Denied, "check the broker's access list"),
        0x97 => (ErrorKind::Throttled(None), ""),
        _ => (ErrorKind::Permanent, "check subscribe"),
    };
    let text = format!("the MQTT broker refused the subscription to {} ({})", shorten(filter, 100), words(code, reason));
    Error::new(kind, text).hint(hint)
}

fn words(code: u8, reason: &str) -> String {
    let plain: String = shorten(reason, 200).chars().filter(|c| !c.is_control()).collect();
    if plain.is_empty() { format!("0x{code:02X}") } else { format!("0x{code:02X}: {plain}") }
}
