//! A WebSocket client: the handshake by hand, so that a test can send any, the frames by tungstenite.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use super::gateway::Gateway;
use super::http::{Answer, Connection};

/// What comes out of the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A text frame.
    Json(Value),
    /// A close frame with its code (1005 where it had none).
    Close(u16),
    /// The connection ended without one.
    Gone,
    /// Nothing came in time.
    Silence,
}

/// A connection.
pub struct Ws {
    socket: WebSocket<TcpStream>,
    /// The answer to the handshake.
    pub handshake: Answer,
    /// Pings that came.
    pub pings: usize,
}

impl Ws {
    /// Connects with a bearer token and waits for `ready`.
    #[track_caller]
    pub fn join(gateway: &Gateway, token: &str) -> Self {
        let mut ws = Ws::open(gateway, &[("Authorization", &format!("Bearer {token}"))]);
        ws.until("ready");
        ws
    }

    /// Connects with these headers; panics where it is refused.
    #[track_caller]
    pub fn open(gateway: &Gateway, headers: &[(&str, &str)]) -> Self {
        match Ws::dial(gateway, headers) {
            Ok(ws) => ws,
            Err(answer) => panic!("refused with {}: {}", answer.status, answer.text()),
        }
    }

    /// Connects with these headers; the answer where it is refused.
    pub fn dial(gateway: &Gateway, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        Ws::dial_path(gateway.port, "/ws", headers).expect("an answer to the handshake")
    }

    /// The same with any path.
    pub fn dial_path(port: u16, path: &str, headers: &[(&str, &str)]) -> io::Result<Result<Self, Answer>> {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n"
        );
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut connection = Connection::open(port)?;
        connection.send(request)?;
        let handshake = connection.answer()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if handshake.status != 101 {
            return Ok(Err(handshake));
        }
        assert_eq!(handshake.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455's own example");
        let (stream, rest) = connection.into_parts();
        Ok(Ok(Ws { socket: WebSocket::from_partially_read(stream, rest, Role::Client, None), handshake, pings: 0 }))
    }

    /// Sends an object.
    pub fn send(&mut self, value: Value) {
        self.send_raw(Message::text(value.to_string()));
    }

    /// Sends any frame; an error (the peer has closed) shows at the next read.
    pub fn send_raw(&mut self, message: Message) {
        let _ = self.socket.send(message);
    }

    /// The stream itself, for bytes that are no frame.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Says something and waits for `accepted`; gives the message's id.
    #[track_caller]
    pub fn say(&mut self, id: &str, text: &str) -> String {
        self.send(json!({"type": "message", "id": id, "message": text}));
        let mut before = Vec::new();
        let accepted = self.until_keeping("accepted", &mut before);
        let early = before.iter().find(|f| f["inReplyTo"] == accepted["messageId"]);
        assert!(accepted["id"] == id && early.is_none(), "{accepted}; its answer came before it: {early:?}");
        accepted["messageId"].as_str().expect("messageId").to_string()
    }

    /// Acknowledges a message frame.
    pub fn acknowledge(&mut self, message: &Value) {
        self.send(json!({"type": "ack", "messageId": message["messageId"]}));
    }

    /// The next frame within `limit`. Pings are answered and counted.
    pub fn next(&mut self, limit: Duration) -> Frame {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Frame::Silence;
            }
            self.socket.get_ref().set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a timeout");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Frame::Json(serde_json::from_str(text.as_str()).expect("a frame in JSON")),
                Ok(Message::Close(frame)) => return Frame::Close(frame.map_or(1005, |f| f.code.into())),
                Ok(Message::Ping(_)) => {
                    self.pings += 1;
                    let _ = self.socket.flush();
                }
                Ok(_) => {}
                Err(Error::Io(e)) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Frame::Silence;
                }
                Err(_) => return Frame::Gone,
            }
        }
    }

    /// The next frame of that type within 15 s; others are passed over. Panics where the socket closes first.
    #[track_caller]
    pub fn until(&mut self, kind: &str) -> Value {
        self.until_keeping(kind, &mut Vec::new())
    }

    /// The same; keeps all frames on the way, that one included.
    #[track_caller]
    pub fn until_keeping(&mut self, kind: &str, kept: &mut Vec<Value>) -> Value {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Frame::Json(value) => {
                    kept.push(value.clone());
                    if value["type"] == kind {
                        return value;
                    }
                }
                other => panic!("{other:?} while waiting for {kind:?}; before it: {kept:?}"),
            }
        }
    }

    /// The next frame of one of these types within 60 s.
    #[track_caller]
    pub fn until_any(&mut self, kinds: &[&str]) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Frame::Json(value) if kinds.iter().any(|k| value["type"] == *k) => return value,
                Frame::Json(_) => {}
                other => panic!("{other:?} while waiting for one of {kinds:?}"),
            }
        }
    }

    /// All text frames until nothing has come for `ms`.
    pub fn gather(&mut self, ms: u64) -> Vec<Value> {
        let mut all = Vec::new();
        while let Frame::Json(value) = self.next(Duration::from_millis(ms)) {
            all.push(value);
        }
        all
    }

    /// The code with which the gateway closes within `limit`; text frames before it are passed over. `None` where it does not.
    pub fn close_code(&mut self, limit: Duration) -> Option<u16> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Frame::Json(_) => {}
                Frame::Close(code) => return Some(code),
                Frame::Gone => return Some(1006),
                Frame::Silence => return None,
            }
        }
    }

    /// Ends the connection without a close frame.
    pub fn vanish(self) {
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
    }
}
