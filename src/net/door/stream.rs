//! A streamed answer: the part that every thread may write to, and what the door does about it.
//!
//! Whoever sends writes to the socket itself as long as that takes all, as for a whole answer. What it does not take waits here,
//! within a bound, and is the door's to write when epoll says that there is room. One lock keeps the two apart; it is held for a
//! push or one non-blocking write. The door looks at the state and never at the order of its news, so a note too many is
//! harmless.
//!
//! Invariant: a sender never blocks and no thread is held by an open stream. A client that reads too slowly (more than
//! [`WAITING_MAX`] bytes behind, or without progress for `requestTimeout`) is dropped. A stream that was not finished never looks
//! as if it had been: chunks without their end, or a reset in HTTP/1.0. It fails by telling the sender that the client is gone.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::net::door::conn::After;
use crate::net::door::head::Persist;
use crate::net::door::reply::{About, Core, DoorReply, Line, News, write_now};
use crate::net::door::run::{Armed, Loop, Slot};
use crate::net::door::slab::Key;
use crate::net::door::write::Body;
use crate::net::http::{Response, Service, Sink};

/// Bytes that may wait for a client that reads too slowly; a single piece may be longer, if none waits before it.
const WAITING_MAX: usize = 256 * 1024;
/// The buffer is kept up to this size.
const KEPT: usize = 16 * 1024;

/// What a piece is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrap {
    /// A chunk.
    Chunk,
    /// Nothing: the body ends with the connection.
    Bare,
    /// It is not sent at all (HEAD).
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// All pieces are here.
    Whole,
    /// There will be no more, and the client is to see that.
    Broken,
}

struct Out {
    bytes: Vec<u8>,
    sent: usize,
    end: End,
    /// `None` once it is over, so that the handle of a dead stream doesn't hold its socket open.
    line: Option<Arc<Line>>,
}

/// The shared part of a stream.
pub(super) struct Streamed {
    out: Mutex<Out>,
    wrap: Wrap,
    /// Close the connection after it.
    close: bool,
}

/// What the door finds when it has written what it could.
enum Flushed {
    /// All that was sent went out; more is to come.
    Flowing,
    /// Something waits; whether the socket took a part of it.
    Stalled { moved: bool },
    /// It is over and all went out.
    Whole,
    /// It is over, not whole, or the socket is broken.
    Broken,
}

impl Out {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Writes what the socket takes; gives how much, or `None` where it is broken.
    fn write(&mut self, stream: &TcpStream) -> Option<usize> {
        let count = write_now(stream, &self.bytes[self.sent..])?;
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        } else if self.sent > WAITING_MAX {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Some(count)
    }

    fn add(&mut self, piece: &[u8], wrap: Wrap) {
        match wrap {
            Wrap::Chunk if !piece.is_empty() => {
                self.bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                self.bytes.extend_from_slice(piece);
                self.bytes.extend_from_slice(b"\r\n");
            }
            Wrap::Bare => self.bytes.extend_from_slice(piece),
            Wrap::Chunk | Wrap::Nothing => {}
        }
    }

    /// Sends what is new, if nothing waits before it. True where the door has to go on.
    fn go(&mut self, waited: bool) -> bool {
        if waited {
            return false; // the door writes it with the rest
        }
        let line = self.line.clone();
        match line.and_then(|l| self.write(&l.stream)) {
            Some(_) => self.waiting() > 0,
            None => {
                self.break_off();
                true
            }
        }
    }

    fn break_off(&mut self) {
        (self.end, self.line, self.bytes, self.sent) = (End::Broken, None, Vec::new(), 0);
    }
}

impl Streamed {
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece: whether it was taken, and whether the door has to look.
    fn send(&self, piece: &[u8]) -> (bool, bool) {
        let mut out = self.lock();
        let waiting = out.waiting();
        if out.end != End::Open {
            return (false, false);
        }
        if waiting > 0 && waiting + piece.len() > WAITING_MAX {
            out.break_off();
            return (false, true);
        }
        out.add(piece, self.wrap);
        let look = out.go(waiting > 0);
        (out.end == End::Open, look)
    }

    /// Takes the last piece.
    fn finish(&self, last: &[u8]) {
        let mut out = self.lock();
        if out.end != End::Open {
            return;
        }
        let waited = out.waiting() > 0;
        out.add(last, self.wrap);
        if self.wrap == Wrap::Chunk {
            out.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        out.end = End::Whole;
        out.go(waited);
    }

    /// No more comes, and the client is to see that.
    pub fn break_off(&self) {
        let mut out = self.lock();
        if out.end != End::Whole || out.waiting() > 0 {
            out.break_off();
        }
    }

    /// Writes what the socket takes of what waits.
    fn flush(&self, stream: &TcpStream) -> Flushed {
        let mut out = self.lock();
        if out.end == End::Broken {
            return Flushed::Broken;
        }
        let moved = match out.waiting() {
            0 => 0,
            _ => match out.write(stream) {
                Some(count) => count,
                None => return Flushed::Broken,
            },
        };
        match out.end {
            _ if out.waiting() > 0 => Flushed::Stalled { moved: moved > 0 },
            End::Whole => Flushed::Whole,
            _ => Flushed::Flowing,
        }
    }
}

/// The sender's side.
struct DoorStream<S: Service> {
    core: Arc<Core<S>>,
    key: Key,
    about: About,
    status: u16,
    streamed: Arc<Streamed>,
}

/// Turns a way back into a stream; its head goes out at once.
pub(super) fn begin<S: Service>(reply: DoorReply<S>, head: &Response) -> Box<dyn Sink> {
    let DoorReply { core, line, key, about } = reply;
    let asked = about.asked();
    let no_body = asked.method == "HEAD" || matches!(head.status, 204 | 304);
    let wrap = match asked.modern {
        _ if no_body => Wrap::Nothing,
        true => Wrap::Chunk,
        false => Wrap::Bare,
    };
    let close = wrap == Wrap::Bare || core.closes(&asked, head);
    let persist = if close { Persist::Close } else { asked.persist };
    let framing = if asked.modern { Body::Chunked } else { Body::None };
    let mut out = Out { bytes: Vec::new(), sent: 0, end: End::Open, line: Some(line) };
    core.dates.write_head(&mut out.bytes, head, asked.request_id, core.clock.unix_ms(), persist, framing);
    out.go(false);
    let streamed = Arc::new(Streamed { out: Mutex::new(out), wrap, close });
    core.push(News::Stream(key, streamed.clone()));
    Box::new(DoorStream { core, key, about, status: head.status, streamed })
}

impl<S: Service> Sink for DoorStream<S> {
    fn send(&self, piece: &[u8]) -> bool {
        let (taken, look) = self.streamed.send(piece);
        if look {
            self.core.push(News::Look(self.key));
        }
        taken
    }

    fn finish(self: Box<Self>, last: &[u8]) {
        let (broken, line) = {
            let out = self.streamed.lock();
            (out.end != End::Open, out.line.clone())
        };
        drop(line.and_then(|l| l.take_watch()));
        // Before the write: who has a whole answer finds it counted.
        self.core.served(&self.about.asked(), self.status, !broken);
        self.streamed.finish(last);
        self.core.push(News::Look(self.key));
    }

    fn abort(self: Box<Self>) {
        self.streamed.break_off();
        self.core.served(&self.about.asked(), self.status, false);
        self.core.push(News::Look(self.key));
    }
}

impl<S: Service> Loop<S> {
    /// An answer is being streamed from now on: the connection is ours again.
    pub fn on_stream(&mut self, key: Key, streamed: Arc<Streamed>) {
        let Some(slot) = self.slots.get_mut(key) else { return streamed.break_off() };
        slot.line.end();
        slot.stream = Some(streamed);
        slot.conn.stream(false, true, self.now);
        self.look(key);
    }

    /// An event came while an answer is on its way from another thread, which hands the connection back.
    pub fn on_busy_event(&mut self, key: Key, flags: EventFlags) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let line = slot.line.clone();
        let left = is_end(flags);
        self.arm(key, if !left && line.is_watched() { Armed::End } else { Armed::No });
        if left && let Some(tell) = line.take_watch() {
            self.core.guard("gone", |_| tell());
        }
    }

    /// An event came for a connection whose answer is being streamed.
    pub fn on_stream_event(&mut self, key: Key, flags: EventFlags) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let closed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if closed || (is_end(flags) && slot.line.is_watched()) {
            return self.drop_slot(key);
        }
        if slot.armed == Armed::Read {
            self.arm(key, Armed::No); // it was armed for the next request, which waits
        }
        self.look(key);
    }

    /// Does what a connection's stream, or its watcher, wants.
    pub fn look(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let watched = slot.line.is_watched();
        let Some(stream) = slot.stream.clone() else {
            // Disarmed since something waits there: the client's end has still to be seen.
            if slot.conn.is_busy() && slot.armed == Armed::No && watched && slot.line.ask_back() {
                self.arm(key, Armed::End);
            }
            return;
        };
        let flushed = stream.flush(&slot.line.stream);
        match flushed {
            Flushed::Flowing => {
                slot.conn.stream(false, true, self.now);
                self.arm(key, if watched { Armed::End } else { Armed::No });
            }
            Flushed::Stalled { moved } => {
                slot.conn.stream(true, moved, self.now);
                let deadline = slot.conn.deadline(&self.limits).map(|(at, _)| at);
                self.note(deadline);
                self.arm(key, if watched { Armed::WriteOrEnd } else { Armed::Write });
            }
            Flushed::Whole => {
                slot.stream = None;
                let after = if stream.close { After::Close { unread: true } } else { After::Keep };
                self.follow(key, after);
                self.advance(key);
            }
            Flushed::Broken => {
                if stream.wrap == Wrap::Bare {
                    // Its end is the connection's: only a reset says that it is not the whole.
                    let _ = set_socket_linger(&slot.line.stream, Some(Duration::ZERO));
                }
                self.drop_slot(key);
            }
        }
    }

    /// A connection goes: whoever streams to it or wants to know is told.
    pub fn let_go(&self, slot: &Slot<S::Context>) {
        if let Some(stream) = &slot.stream {
            stream.break_off();
        }
        if let Some(tell) = slot.line.take_watch() {
            self.core.guard("gone", |_| tell());
        }
    }
}

fn is_end(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}
