//! The little HTTP/1.1 a client needs: requests as bytes, answers with a Content-Length, one at a time per connection.
//!
//! Invariant: an answer without a Content-Length, or one that isn't HTTP, is an error, never half an answer taken for a whole.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Outcome;

/// The request that the /health figures are made with, to every server alike.
pub const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Where an answer's parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The status code.
    pub status: u16,
    /// Bytes up to the body.
    pub head: usize,
    /// Bytes in all.
    pub total: usize,
}

/// Looks for a whole answer at the beginning of `bytes`; `None` where more is to come.
pub fn extent(bytes: &[u8]) -> Outcome<Option<Extent>> {
    let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head])?;
    let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or("not an HTTP answer")?;
    let length: usize = text
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or("an answer without Content-Length")?;
    Ok((bytes.len() >= head + length).then_some(Extent { status, head, total: head + length }))
}

/// Writes a POST with a JSON body to `out`.
pub fn post(out: &mut Vec<u8>, path: &str, token: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
}

/// A GET with a credential.
pub fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// A keep-alive connection that blocks.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; reads and writes then have 60 s each.
    pub fn open(address: SocketAddr) -> Outcome<Connection> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request.
    pub fn send(&mut self, request: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(request)?)
    }

    /// Receives one answer: its status and body.
    pub fn receive(&mut self) -> Outcome<(u16, Vec<u8>)> {
        let mut chunk = [0; 16384];
        loop {
            if let Some(found) = extent(&self.buffer)? {
                let rest = self.buffer.split_off(found.total);
                let mut whole = std::mem::replace(&mut self.buffer, rest);
                return Ok((found.status, whole.split_off(found.head)));
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err("the connection was closed before the answer".into()),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Sends a request and receives its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Outcome<(u16, Vec<u8>)> {
        self.send(request)?;
        self.receive()
    }
}

/// A member of a JSON answer, as text.
pub fn member(body: &[u8], name: &str) -> Outcome<String> {
    let value: serde_json::Value = serde_json::from_slice(body)?;
    Ok(value.get(name).and_then(|v| v.as_str()).ok_or_else(|| format!("no '{name}' in {value}"))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP";
        assert_eq!(extent(whole).unwrap(), Some(Extent { status: 200, head: 38, total: 40 }));
        assert_eq!(extent(&whole[..39]).unwrap(), None);
        assert!(extent(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
