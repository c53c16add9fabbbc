//! One connection as a value: bytes and the time go in, what to do comes out.
//!
//! Invariant: no socket and no clock here. One request at a time: while one is answered nothing is read, so what is kept ahead
//! is at most one read's worth beside one head or one body. A connection that waits for a request keeps no buffer. Deadlines
//! are totals from a stage's first byte, not pauses between bytes. Fails with the status to answer.

use std::time::Duration;

use crate::config::Limits;
use crate::net::door::chunked::Chunked;
use crate::net::door::head::{self, Framing, Parsed, Scan, Scanned};

/// After an answer that leaves something unread, so long ...
const LINGER: Duration = Duration::from_secs(1);
/// ... and so much is read and thrown away, so that the client sees the answer and not a reset.
const LINGER_BYTES: usize = 256 * 1024;

/// What a connection asks for next.
#[derive(Debug)]
pub(super) enum Step {
    /// More bytes, or nothing at all while it is answered.
    Wait,
    /// A decision on this head. Then `read_body`, or an answer.
    Head(Box<Parsed>),
    /// The request whose body this is can be handled.
    Body(Vec<u8>),
    /// Refuse with this status, and close.
    Refuse(u16),
}

/// What follows an answer's last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Keep,
    /// The end. `unread` says that the client may still be sending.
    Close {
        /// Something was or may be left unread.
        unread: bool,
    },
}

/// What a deadline that has passed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Close without a word.
    Close,
    /// Refuse with 408, then close.
    Refuse,
    /// The client had its time to read the last answer: close.
    Lingered,
}

#[derive(Debug)]
enum Stage {
    Head(Scan),
    Body(Box<Body>),
    Busy,
    Writing(Box<Writing>),
    Streaming { stalled: bool },
    Lingering { left: usize },
}

#[derive(Debug)]
struct Body {
    framing: Left,
    bytes: Vec<u8>,
    max: usize,
}

#[derive(Debug)]
enum Left {
    Length(usize),
    Chunked(Chunked),
}

#[derive(Debug)]
struct Writing {
    bytes: Vec<u8>,
    sent: usize,
    after: After,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Conn {
    stage: Stage,
    /// Read and not used.
    input: Vec<u8>,
    /// When what the deadline counts from began.
    since: Duration,
    /// When the client last did something.
    touched: Duration,
    /// A request of it was answered.
    proved: bool,
}

impl Conn {
    /// A connection accepted at `now`.
    pub fn new(now: Duration) -> Self {
        Conn { stage: Stage::Head(Scan::default()), input: Vec::new(), since: now, touched: now, proved: false }
    }

    /// Takes bytes in. Only while it [`reads`](Self::reads).
    pub fn feed(&mut self, bytes: &[u8], now: Duration) {
        self.touched = now;
        if let Stage::Lingering { left } = &mut self.stage {
            *left = left.saturating_sub(bytes.len());
            return;
        }
        if matches!(self.stage, Stage::Head(_)) && self.input.is_empty() {
            self.since = now;
        }
        self.input.extend_from_slice(bytes);
    }

    /// What to do next. After `Head`, `Body` and `Refuse` it is busy until told otherwise.
    pub fn next(&mut self, limits: &Limits) -> Step {
        match &mut self.stage {
            Stage::Head(_) if self.input.is_empty() => Step::Wait,
            Stage::Head(scan) => match scan.next(&self.input, limits.max_header_bytes) {
                Scanned::More => Step::Wait,
                Scanned::Bad(status) => self.refuse(status),
                Scanned::End { start, end } => match head::parse(&self.input[start..end]) {
                    Err(status) => self.refuse(status),
                    Ok(parsed) => {
                        self.used(end);
                        self.stage = Stage::Busy;
                        Step::Head(Box::new(parsed))
                    }
                },
            },
            Stage::Body(_) => self.next_of_body(),
            Stage::Busy | Stage::Writing(_) | Stage::Streaming { .. } | Stage::Lingering { .. } => Step::Wait,
        }
    }

    fn next_of_body(&mut self) -> Step {
        let Stage::Body(body) = &mut self.stage else { return Step::Wait };
        let (used, done) = match &mut body.framing {
            Left::Length(left) => {
                let take = (*left).min(self.input.len());
                body.bytes.extend_from_slice(&self.input[..take]);
                *left -= take;
                (take, *left == 0)
            }
            Left::Chunked(decoder) => match decoder.feed(&self.input, &mut body.bytes, body.max) {
                Ok(used) => (used, decoder.is_done()),
                Err(status) => return self.refuse(status),
            },
        };
        let bytes = if done { std::mem::take(&mut body.bytes) } else { Vec::new() };
        self.used(used);
        if !done {
            return Step::Wait;
        }
        self.stage = Stage::Busy;
        Step::Body(bytes)
    }

    fn refuse(&mut self, status: u16) -> Step {
        self.stage = Stage::Busy;
        Step::Refuse(status)
    }

    fn used(&mut self, count: usize) {
        if count == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..count);
        }
    }

    /// Reads the body of the head just given, at most `max` bytes of it, from `now` on.
    ///
    /// # Errors
    /// 413 where the head announces more.
    pub fn read_body(&mut self, framing: Framing, max: usize, now: Duration) -> Result<(), u16> {
        let framing = match framing {
            Framing::Empty => Left::Length(0),
            Framing::Length(n) => Left::Length(usize::try_from(n).ok().filter(|n| *n <= max).ok_or(413u16)?),
            Framing::Chunked => Left::Chunked(Chunked::new()),
        };
        self.stage = Stage::Body(Box::new(Body { framing, bytes: Vec::new(), max }));
        self.since = now;
        Ok(())
    }

    /// Its request was answered at `at`, and it goes on.
    pub fn answered(&mut self, at: Duration) {
        self.stage = Stage::Head(Scan::default());
        (self.since, self.touched, self.proved) = (at, at, true);
    }

    /// The part of an answer that the socket did not take.
    pub fn write_later(&mut self, bytes: Vec<u8>, sent: usize, after: After, now: Duration) {
        self.stage = Stage::Writing(Box::new(Writing { bytes, sent, after }));
        self.touched = now;
    }

    /// What is still to be written; empty where nothing is.
    pub fn unwritten(&self) -> &[u8] {
        match &self.stage {
            Stage::Writing(w) => &w.bytes[w.sent..],
            _ => &[],
        }
    }

    /// So much more was written; gives what follows once that was all.
    pub fn wrote(&mut self, count: usize, now: Duration) -> Option<After> {
        let Stage::Writing(writing) = &mut self.stage else { return None };
        if count > 0 {
            self.touched = now;
        }
        writing.sent += count;
        let whole = writing.sent >= writing.bytes.len();
        whole.then_some(writing.after)
    }

    /// Its answer is being streamed. `stalled`: pieces wait, and the socket takes none; `moved`: it took some just now.
    pub fn stream(&mut self, stalled: bool, moved: bool, now: Duration) {
        if moved || !matches!(self.stage, Stage::Streaming { stalled: true }) {
            self.touched = now;
        }
        self.stage = Stage::Streaming { stalled };
    }

    /// From now on what comes is thrown away.
    pub fn linger(&mut self, now: Duration) {
        self.stage = Stage::Lingering { left: LINGER_BYTES };
        self.input = Vec::new();
        (self.since, self.touched) = (now, now);
    }

    /// Whether it lingers and has had enough.
    pub fn has_lingered(&self) -> bool {
        matches!(self.stage, Stage::Lingering { left: 0 })
    }

    /// Whether bytes are welcome.
    pub fn reads(&self) -> bool {
        matches!(self.stage, Stage::Head(_) | Stage::Body(_) | Stage::Lingering { .. })
    }

    /// Whether a request is being handled.
    pub fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Busy)
    }

    /// Whether it waits for a request of which nothing has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head(_)) && self.input.is_empty()
    }

    /// Whether a request of it was answered.
    pub fn is_proved(&self) -> bool {
        self.proved
    }

    /// Whether bytes wait behind the present request.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes what is read and not used, for whoever takes the connection over.
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Whether, and since when without progress, its place could be given to another: its request is not whole, or it lingers.
    /// `proved` in the answer: it had a request answered before, or this one's head was accepted.
    pub fn yields(&self) -> Option<(Duration, bool)> {
        match self.stage {
            Stage::Head(_) => Some((self.touched, self.proved)),
            Stage::Body(_) => Some((self.touched, true)),
            Stage::Lingering { .. } => Some((self.touched, false)),
            Stage::Busy | Stage::Writing(_) | Stage::Streaming { .. } => None,
        }
    }

    /// When it is too late for what it waits for, and what then. A busy one, and a stream whose pieces all went out, have no
    /// deadline here: the service's own bound them.
    pub fn deadline(&self, limits: &Limits) -> Option<(Duration, Expiry)> {
        match self.stage {
            Stage::Head(_) if !self.input.is_empty() => Some((self.since + limits.request_timeout, Expiry::Refuse)),
            Stage::Head(_) if self.proved => Some((self.since + limits.idle_timeout, Expiry::Close)),
            Stage::Head(_) => Some((self.since + limits.request_timeout, Expiry::Close)),
            Stage::Body(_) => Some((self.since + limits.request_timeout, Expiry::Refuse)),
            Stage::Writing(_) | Stage::Streaming { stalled: true } => {
                Some((self.touched + limits.request_timeout, Expiry::Close))
            }
            Stage::Lingering { .. } => Some((self.since + LINGER, Expiry::Lingered)),
            Stage::Busy | Stage::Streaming { stalled: false } => None,
        }
    }

    /// Gives the refusal of a deadline its turn.
    pub fn expire(&mut self) {
        self.stage = Stage::Busy;
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
