//! What `tests/fuzz` calls, compiled for it alone (`cfg(fuzzing)`): handshakes and frames.
//!
//! Invariant: it panics where a bound is passed, or an answer could be read as two.

use std::io::{Cursor, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::handshake::{BEARER_PROTOCOL, handshake};
use super::wire::codec;
use crate::net::http::{Head, Peer};

/// Headers, a line each.
pub fn handshakes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let headers = text.lines().filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string())).collect();
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let head = Head {
        method: "GET".into(),
        path: "/ws".into(),
        query: None,
        headers,
        peer: Peer::Tcp { ip: here, local: here },
        request_id: "r".into(),
        received: Duration::ZERO,
    };
    let Ok(shake) = handshake(&head) else { return };
    for selected in shake.protocols().iter().map(String::as_str).map(Some).chain([None]) {
        let answer = shake.response(selected, "r");
        let ends = answer.windows(4).enumerate().filter(|(_, w)| w == b"\r\n\r\n").map(|(at, _)| at + 4);
        assert_eq!(ends.collect::<Vec<_>>(), [answer.len()], "one answer");
        // A protocol that merely holds the same letters is no token: the value alone is looked at.
        let answer = String::from_utf8_lossy(&answer);
        let mut named = answer.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert!(named.all(|protocol| !protocol.starts_with(BEARER_PROTOCOL)), "a token is given back");
    }
}

/// A stream that gives these bytes and takes all.
struct Tape<'a>(Cursor<&'a [u8]>);

impl Read for Tape<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        Ok(from.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Frames, as they come from a client.
pub fn frames(data: &[u8]) {
    let (mut codec, mut tape) = (codec(), Tape(Cursor::new(data)));
    while let Ok(message) = codec.read(&mut tape) {
        assert!(message.len() <= super::MESSAGE_BYTES, "{} bytes", message.len());
    }
}
