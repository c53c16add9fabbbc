//! A small blocking WebSocket client: text frames, pongs, no extensions.
//!
//! Invariant: pings are answered while a frame is awaited; a close is an error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

/// One WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    /// Connects, upgrades, and reads the `ready` frame.
    pub fn open(address: SocketAddr, token: &str) -> Outcome<Socket> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut socket = Socket { stream, buffer: Vec::new() };
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes())?;
        let head = loop {
            if let Some(at) = socket.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            socket.more()?;
        };
        let rest = socket.buffer.split_off(head);
        let head = std::mem::replace(&mut socket.buffer, rest);
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(&head)).into());
        }
        socket.until("ready")?;
        Ok(socket)
    }

    /// Sends one JSON object.
    pub fn send(&mut self, value: &Value) -> Outcome<()> {
        self.frame(1, serde_json::to_string(value)?.as_bytes())
    }

    /// The next frame of a type; others are passed over.
    pub fn until(&mut self, kind: &str) -> Outcome<Value> {
        loop {
            let (code, body) = self.receive()?;
            match code {
                8 => return Err("the gateway closed the socket".into()),
                9 => self.frame(10, &body)?,
                1 => {
                    let value: Value = serde_json::from_slice(&body)?;
                    match value.get("type").and_then(Value::as_str) {
                        Some("error") => return Err(format!("an error frame: {value}").into()),
                        Some(found) if found == kind => return Ok(value),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// Writes a masked frame (the mask is zero: it hides nothing, and costs nothing).
    fn frame(&mut self, code: u8, body: &[u8]) -> Outcome<()> {
        let mut out = vec![0x80 | code];
        match body.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n @ 126..65536 => {
                out.push(0x80 | 126);
                out.extend((n as u16).to_be_bytes());
            }
            _ => return Err("a frame of over 64 KiB".into()),
        }
        out.extend([0; 4]);
        out.extend(body);
        Ok(self.stream.write_all(&out)?)
    }

    fn receive(&mut self) -> Outcome<(u8, Vec<u8>)> {
        loop {
            if let [first, second, rest @ ..] = self.buffer.as_slice() {
                let (code, length) = (first & 15, second & 127);
                let (skip, length) = match (length, rest) {
                    (126, [a, b, ..]) => (4, Some(u16::from_be_bytes([*a, *b]) as usize)),
                    (126, _) => (4, None),
                    (127, _) => return Err("a frame of over 64 KiB".into()),
                    (n, _) => (2, Some(n as usize)),
                };
                if let Some(length) = length
                    && self.buffer.len() >= skip + length
                {
                    let body = self.buffer[skip..skip + length].to_vec();
                    self.buffer.drain(..skip + length);
                    return Ok((code, body));
                }
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Outcome<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err("the gateway closed the connection".into()),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}
