//! The opening handshake: a request's head is judged, and its answer made.
//!
//! Invariant: nothing but a `GET` without a body, with the whole handshake of RFC 6455 in it, is taken; the answer never
//! carries a credential back. Pure: it fails by value, and the caller answers in its own shape.

use std::fmt;

use base64::Engine;
use tungstenite::handshake::derive_accept_key;

use crate::net::http::Head;

/// A subprotocol that begins so carries a bearer token, for browsers, which can't set headers.
pub const BEARER_PROTOCOL: &str = "bearer.";

/// A handshake that may be answered with 101.
pub struct Handshake {
    accept: String,
    protocols: Vec<String>,
}

/// Why a request is no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not a GET.
    Method,
    /// An ordinary request, or another protocol than `websocket`.
    NoUpgrade,
    /// Another version than 13.
    Version,
    /// `Sec-WebSocket-Key` is absent, repeated, or no 16 bytes in base64.
    Key,
    /// It announces a body, whose bytes would be taken for frames.
    Body,
}

impl HandshakeError {
    /// 400, 405 or 426.
    pub fn status(self) -> u16 {
        match self {
            HandshakeError::Method => 405,
            HandshakeError::NoUpgrade | HandshakeError::Version => 426,
            HandshakeError::Key | HandshakeError::Body => 400,
        }
    }

    /// Headers that the answer must bear.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            HandshakeError::Method => &[("Allow", "GET")],
            HandshakeError::NoUpgrade | HandshakeError::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            HandshakeError::Key | HandshakeError::Body => &[],
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandshakeError::Method => "A WebSocket begins with GET",
            HandshakeError::NoUpgrade => "This is a WebSocket: send Upgrade: websocket",
            HandshakeError::Version => "WebSocket version 13 is spoken here",
            HandshakeError::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            HandshakeError::Body => "A WebSocket handshake has no body",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Judges a request's head.
///
/// # Errors
/// What is wrong with it; the first thing found.
pub fn handshake(head: &Head) -> Result<Handshake, HandshakeError> {
    if head.method != "GET" {
        return Err(HandshakeError::Method);
    }
    let has = |name, token: &str| listed(head, name).any(|t| t.eq_ignore_ascii_case(token));
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(HandshakeError::NoUpgrade);
    }
    if head.header("transfer-encoding").is_some() || head.header("content-length").is_some_and(|v| v.trim() != "0") {
        return Err(HandshakeError::Body);
    }
    if only(head, "sec-websocket-version") != Some("13") {
        return Err(HandshakeError::Version);
    }
    let key = only(head, "sec-websocket-key").ok_or(HandshakeError::Key)?;
    if base64::engine::general_purpose::STANDARD.decode(key).map(|k| k.len()) != Ok(16) {
        return Err(HandshakeError::Key);
    }
    let protocols = listed(head, "sec-websocket-protocol").filter(|p| is_token(p)).map(str::to_string).collect();
    Ok(Handshake { accept: derive_accept_key(key.as_bytes()), protocols })
}

impl Handshake {
    /// The subprotocols offered, in the client's order.
    pub fn protocols(&self) -> &[String] {
        &self.protocols
    }

    /// The token offered as a subprotocol, if there is one: a secret.
    pub fn bearer(&self) -> Option<&str> {
        self.protocols.iter().find_map(|p| p.strip_prefix(BEARER_PROTOCOL)).filter(|t| !t.is_empty())
    }

    /// The answer: 101 with its headers, ready to be written. `selected` is named only if it was offered and is no token.
    pub fn response(&self, selected: Option<&str>, request_id: &str) -> Vec<u8> {
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        let mut add = |name: &str, value: &str| {
            if !value.bytes().any(|b| b < b' ' || b == 0x7f) {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        let offered = |p: &&str| self.protocols.iter().any(|o| o == p) && !p.starts_with(BEARER_PROTOCOL);
        if let Some(protocol) = selected.filter(offered) {
            add("Sec-WebSocket-Protocol", protocol);
        }
        add("X-Request-Id", request_id);
        answer.push_str("\r\n");
        answer.into_bytes()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake { .. }") // its protocols may hold a token
    }
}

/// The members of a header that is a list, of all its lines.
fn listed<'a>(head: &'a Head, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = head.headers.iter().filter(move |(n, _)| n == name);
    lines.flat_map(|(_, v)| v.split(',')).map(str::trim).filter(|v| !v.is_empty())
}

/// The value of a header that must stand there once.
fn only<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    let mut lines = head.headers.iter().filter(|(n, _)| n == name);
    let first = lines.next()?;
    lines.next().is_none().then(|| first.1.trim())
}

fn is_token(text: &str) -> bool {
    // RFC 6455 asks for a token; `=` and `/` are let through, since bearer tokens in base64 hold them.
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~=/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::Peer;
    use std::time::Duration;

    const GOOD: &[(&str, &str)] = &[
        ("host", "127.0.0.1"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The good head with some headers replaced (`None`: removed) and one of each further name added.
    fn head(method: &str, changes: &[(&str, Option<&str>)]) -> Head {
        let mut headers: Vec<_> = GOOD.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        for (name, value) in changes {
            if !name.starts_with('+') {
                headers.retain(|(n, _)| n != name);
            }
            headers.extend(value.map(|v| (name.trim_start_matches('+').to_string(), v.to_string())));
        }
        let (peer, received) = (Peer::Local, Duration::ZERO);
        Head { method: method.into(), path: "/ws".into(), query: None, headers, peer, request_id: "r1".into(), received }
    }

    #[test]
    fn heads() {
        use HandshakeError::*;
        let check = |what: &str, method: &str, changes: &[(&str, Option<&str>)], expected: Option<HandshakeError>| {
            assert_eq!(handshake(&head(method, changes)).err(), expected, "{what}");
        };
        check("the sample of the RFC", "GET", &[], None);
        check("names in any case", "GET", &[("upgrade", Some("WebSocket")), ("connection", Some("UPGRADE"))], None);
        check("an empty body announced", "GET", &[("content-length", Some("0"))], None);
        check("another method", "POST", &[], Some(Method));
        check("methods are case-sensitive", "get", &[], Some(Method));
        check("no upgrade", "GET", &[("upgrade", None)], Some(NoUpgrade));
        check("another protocol", "GET", &[("upgrade", Some("h2c"))], Some(NoUpgrade));
        check("no connection header", "GET", &[("connection", None)], Some(NoUpgrade));
        check("connection without upgrade", "GET", &[("connection", Some("close"))], Some(NoUpgrade));
        check("a part of a word is no word", "GET", &[("connection", Some("upgraded"))], Some(NoUpgrade));
        check("an old version", "GET", &[("sec-websocket-version", Some("8"))], Some(Version));
        check("no version", "GET", &[("sec-websocket-version", None)], Some(Version));
        check("two versions", "GET", &[("+sec-websocket-version", Some("13"))], Some(Version));
        check("no key", "GET", &[("sec-websocket-key", None)], Some(Key));
        check("two keys", "GET", &[("+sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ=="))], Some(Key));
        check("15 bytes", "GET", &[("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25j"))], Some(Key));
        check("no base64", "GET", &[("sec-websocket-key", Some("!!!!!!!!!!!!!!!!!!!!!!=="))], Some(Key));
        check("a body", "GET", &[("content-length", Some("5"))], Some(Body));
        check("a body in chunks", "GET", &[("transfer-encoding", Some("chunked"))], Some(Body));
    }

    #[test]
    fn answers_carry_no_token_and_no_foreign_line() {
        let head =
            head("GET", &[("sec-websocket-protocol", Some("gatelet.v1, bearer.abc=")), ("+sec-websocket-protocol", Some("x"))]);
        let ours = handshake(&head).unwrap();
        assert_eq!(
            (ours.protocols(), ours.bearer()),
            (&["gatelet.v1".into(), "bearer.abc=".into(), "x".into()][..], Some("abc="))
        );
        assert!(!format!("{ours:?}").contains("abc"));
        let answer = |selected, id| String::from_utf8(ours.response(selected, id)).unwrap();
        let whole = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: gatelet.v1\r\nX-Request-Id: r1\r\n\r\n";
        assert_eq!(answer(Some("gatelet.v1"), "r1"), whole);
        for (selected, id) in [(Some("bearer.abc="), "r1"), (Some("other"), "r1"), (None, "r\r\nX-Evil: 1")] {
            let answer = answer(selected, id);
            assert!(!answer.contains("Protocol:") && !answer.contains("Evil") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }

    #[test]
    fn refusals_say_what_is_spoken_here() {
        for error in [HandshakeError::NoUpgrade, HandshakeError::Version] {
            assert_eq!((error.status(), error.headers().contains(&("Sec-WebSocket-Version", "13"))), (426, true));
        }
    }
}
