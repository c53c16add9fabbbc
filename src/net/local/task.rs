//! One request of the local socket, from its head to its end.
//!
//! Invariant: a request is dropped only where its body is over, since tiny_http drains what is left with a buffer of the announced
//! size; otherwise it is given up, which leaks what it holds. Fails with the status to answer.

use std::io::{Read, Write};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::net::door::head::{Framing, Persist, persistence, request_id};
use crate::net::http::{Head, Peer, Response};

/// Of a body that nobody wants, so much is read and thrown away.
const DISCARD_MAX: usize = 1 << 20;

/// A request with what is to be done about it. Never simply dropped: see [`Task::give_up`].
pub(super) struct Task {
    pub raw: tiny_http::Request,
    /// Emptied once the handler has it.
    pub head: Option<Head>,
    pub about: About,
    pub todo: Todo,
    pub body: BodyKind,
    /// Bytes of the body that were read.
    pub consumed: usize,
}

/// How tiny_http frames the body, whatever we think of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// Not at all: `Connection: upgrade`.
    Raw,
    /// By the first `Content-Length`.
    Length,
    /// In chunks: any `Transfer-Encoding`.
    Chunked,
    /// In chunks that broke off: nobody knows where it ends.
    Broken,
}

impl BodyKind {
    fn of(headers: &[(String, String)]) -> Self {
        let first = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        match (first("connection"), first("transfer-encoding")) {
            (Some(connection), _) if connection.to_ascii_lowercase().contains("upgrade") => BodyKind::Raw,
            (_, Some(_)) => BodyKind::Chunked,
            _ => BodyKind::Length,
        }
    }
}

/// What the answer needs of its request.
#[derive(Clone)]
pub(super) struct About {
    pub method: String,
    pub path: String,
    pub request_id: String,
    pub received: Duration,
    pub persist: Persist,
}

pub(super) enum Todo {
    /// Plan it and go on.
    Handle,
    /// Write this.
    Answer(Response),
}

impl Task {
    /// A request that tiny_http read the head of.
    pub fn new(raw: tiny_http::Request, clock: &Clock) -> Self {
        let headers: Vec<(String, String)> = raw
            .headers()
            .iter()
            .map(|h| (h.field.as_str().as_str().to_ascii_lowercase(), h.value.as_str().to_string()))
            .collect();
        let modern = *raw.http_version() >= tiny_http::HTTPVersion(1, 1);
        let (path, query) = match raw.url().split_once('?') {
            Some((path, query)) => (path.to_string(), Some(query.to_string())),
            None => (raw.url().to_string(), None),
        };
        let (method, received) = (raw.method().as_str().to_string(), clock.mono());
        let request_id = request_id(&headers, clock.unix_ms());
        let persist = persistence(&headers, modern);
        let about = About { method: method.clone(), path: path.clone(), request_id: request_id.clone(), received, persist };
        let head = Head { method, path, query, headers, peer: Peer::Local, request_id, received };
        Task { raw, body: BodyKind::of(&head.headers), head: Some(head), about, todo: Todo::Handle, consumed: 0 }
    }

    /// Reads the body whole; 413 where it exceeds `max`, nothing where it broke off.
    pub fn read_body(&mut self, framing: Framing, max: usize) -> std::result::Result<Vec<u8>, Option<u16>> {
        let (limit, exact) = match framing {
            Framing::Empty => return Ok(Vec::new()),
            Framing::Length(n) => match usize::try_from(n) {
                Ok(n) if n <= max => (n as u64, Some(n)),
                _ => return Err(Some(413)),
            },
            Framing::Chunked => (max as u64 + 1, None),
        };
        let mut body = Vec::new();
        let read = self.raw.as_reader().take(limit).read_to_end(&mut body);
        self.consumed = body.len();
        match (read, exact) {
            (Err(_), None) => {
                self.body = BodyKind::Broken;
                Err(Some(400))
            }
            (Err(_), Some(_)) => Err(None),
            (Ok(count), Some(n)) if count < n => Err(None),
            (Ok(count), None) if count > max => Err(Some(413)),
            (Ok(_), _) => Ok(body),
        }
    }

    /// Whether the body is at its end, or so near that it was read to it, so that dropping the request neither blocks nor drains.
    pub fn body_is_over(&mut self) -> bool {
        let left = match self.body {
            BodyKind::Raw => 0, // tiny_http gives the bare stream, and drops it undrained
            BodyKind::Length => self.raw.body_length().unwrap_or(0).saturating_sub(self.consumed),
            BodyKind::Chunked => DISCARD_MAX,
            BodyKind::Broken => return false,
        };
        if left == 0 || left > DISCARD_MAX {
            return left == 0;
        }
        let taken = std::io::copy(&mut self.raw.as_reader().take(left as u64), &mut std::io::sink());
        match self.body {
            BodyKind::Chunked => taken.is_ok_and(|count| count < DISCARD_MAX as u64),
            _ => true, // or broken off, and then there is nothing to wait for
        }
    }

    /// Answers with `bytes` and lets go of the request without draining it: tiny_http would make a buffer of the announced size.
    /// The stream that an upgrade gives out is forgotten, so its descriptors stay open until the process ends. A 100 goes before,
    /// since tiny_http hands the stream out behind an answer of its own alone.
    pub fn give_up(self, bytes: &[u8]) {
        let mut stream = self.raw.upgrade("close", tiny_http::Response::empty(100));
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        std::mem::forget(stream);
    }
}
