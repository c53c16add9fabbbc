//! WebSockets over connections that the door hands over: one thread each, asleep until there is something to do.
//!
//! Invariant: there are never more than the settings allow, from [`Sockets::reserve`] on; a socket's handler is told of its
//! opening and its closing exactly once each, whatever happens between; the registry knows a socket exactly as long as its
//! thread runs. Fails where the system refuses a thread or a descriptor: the connection is then closed.

pub mod client;
pub mod dial;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod line;
mod socket;
#[cfg(test)]
mod tests;
mod timed;
mod wire;

use std::collections::HashMap;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::live::Live;
use crate::base::threads::Threads;

pub use handshake::{BEARER_PROTOCOL, Handshake, HandshakeError, handshake};
pub use socket::{QUEUE_BYTES, QUEUE_FRAMES, Socket};
pub use wire::{MESSAGE_BYTES, MESSAGE_BYTES_UNSETTLED};

use line::Line;
use socket::{Counters, count};
use wire::Wire;

/// Stack of a socket's thread. Whoever may send a frame may send JSON nested as deep as serde_json takes it (128 levels), and an
/// overflow ends the process: measured, that needs 88 KiB, and 384 KiB in a debug build. Untouched pages cost no memory.
const STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 256 * 1024 };

/// What happens on one socket. Called on the socket's own thread, one call at a time. A call that blocks delays this socket
/// alone; a panic closes it with 1011, is counted, and does no other harm.
pub trait Handler: Send {
    /// The answer to the handshake is about to be written; what is sent now follows it.
    fn opened(&mut self, socket: &Socket);

    /// A text frame came (fragments joined).
    fn text(&mut self, text: &str);

    /// All that was sent has been handed to the kernel: a long replay goes on piece by piece, by [`Socket::room`].
    fn drained(&mut self) {}

    /// It is over. Called once, after a panic, too.
    fn closed(&mut self);
}

/// What a reload may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `limits.maxWebSockets`.
    pub open_max: usize,
    /// `heartbeat.interval`: a ping each; a peer silent for two is closed.
    pub ping_interval: Duration,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sockets opened.
    pub opened: u64,
    /// Sockets closed.
    pub closed: u64,
    /// Dropped because they read too slowly.
    pub slow_dropped: u64,
    /// Closed because nothing came from them for two pings.
    pub silent_dropped: u64,
    /// Text messages in.
    pub frames_in: u64,
    /// Text frames out.
    pub frames_out: u64,
    /// Violations of the protocol or its bounds.
    pub protocol_errors: u64,
    /// Panics of handlers.
    pub panics: u64,
    /// Bytes that wait to be sent, now.
    pub waiting_bytes: usize,
}

/// The register of all sockets; clones share it.
#[derive(Clone)]
pub struct Sockets(Arc<Register>);

struct Register {
    clock: Clock,
    threads: Threads,
    settings: Live<Settings>,
    counters: Arc<Counters>,
    next_id: AtomicU64,
    places: AtomicUsize,
    live: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sockets: HashMap<u64, Socket>,
    draining: Option<(u16, &'static str)>,
}

/// A place for one socket, taken before the handshake is answered; free again when it is dropped.
pub struct Slot(Arc<Register>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sockets {
    /// An empty register.
    pub fn new(clock: Clock, threads: Threads, settings: Settings) -> Self {
        Sockets(Arc::new(Register {
            clock,
            threads,
            settings: Live::new(settings),
            counters: Arc::default(),
            next_id: AtomicU64::new(1),
            places: AtomicUsize::new(0),
            live: Mutex::default(),
        }))
    }

    /// Replaces the settings, for open sockets, too. A lower maximum closes none.
    pub fn set(&self, settings: Settings) {
        self.0.settings.set(settings);
        for socket in self.all() {
            socket.refresh();
        }
    }

    /// A place for one more socket; `None` (answer 503) where there are too many, or while draining.
    pub fn reserve(&self) -> Option<Slot> {
        let max = self.0.settings.get().open_max;
        if self.lock().draining.is_some() {
            return None;
        }
        let taken = self.0.places.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        taken.is_ok().then(|| Slot(self.0.clone()))
    }

    /// Starts a socket on a thread of its own. `answer` is the 101 (see [`Handshake::response`]), `rest` what came behind the
    /// request's head. Does not block.
    ///
    /// # Errors
    /// Where the system refuses a thread or a descriptor; the connection is closed and the handler was told nothing.
    pub fn start(
        &self,
        slot: Slot,
        stream: TcpStream,
        rest: Vec<u8>,
        answer: Vec<u8>,
        handler: Box<dyn Handler>,
    ) -> Result<Socket> {
        let wire = Wire::new(stream, answer, rest)
            .map_err(|e| Error::new(ErrorKind::Transient, format!("a connection can't become a WebSocket: {e}")))?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (socket, wake) = Socket::new(id, self.0.clock.clone(), self.0.counters.clone())?;
        let line = Line { wire, socket: socket.clone(), wake, register: self.0.clone() };
        let mut live = self.lock();
        live.sockets.insert(id, socket.clone());
        let draining = live.draining;
        drop(live);
        let started = self.0.threads.spawn_once(&format!("ws-{}", id % 1_000_000_000), STACK, move || run(line, handler, slot));
        if let Err(e) = started {
            self.lock().sockets.remove(&id);
            return Err(e);
        }
        if let Some((code, reason)) = draining {
            socket.close(code, reason);
        }
        Ok(socket)
    }

    /// Sockets whose threads run.
    pub fn open(&self) -> usize {
        self.lock().sockets.len()
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        let c = &self.0.counters;
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            opened: get(&c.opened),
            closed: get(&c.closed),
            slow_dropped: get(&c.slow_dropped),
            silent_dropped: get(&c.silent_dropped),
            frames_in: get(&c.frames_in),
            frames_out: get(&c.frames_out),
            protocol_errors: get(&c.protocol_errors),
            panics: get(&c.panics),
            waiting_bytes: c.waiting.load(Ordering::Relaxed),
        }
    }

    /// Closes all open sockets, each after what is queued on it.
    pub fn close_all(&self, code: u16, reason: &'static str) {
        for socket in self.all() {
            socket.close(code, reason);
        }
    }

    /// Closes all open sockets and takes no new ones, not even those whose place is reserved.
    pub fn drain(&self, code: u16, reason: &'static str) {
        self.lock().draining = Some((code, reason));
        self.close_all(code, reason);
    }

    fn all(&self) -> Vec<Socket> {
        self.lock().sockets.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of a socket's thread.
fn run(mut line: Line, mut handler: Box<dyn Handler>, slot: Slot) {
    let (register, id) = (line.register.clone(), line.socket.id());
    count(&register.counters.opened);
    let served = catch_unwind(AssertUnwindSafe(|| line.serve(&mut *handler)));
    drop(line); // the connection and its descriptors go first: what follows may take its time
    register.live.lock().unwrap_or_else(PoisonError::into_inner).sockets.remove(&id);
    let told = catch_unwind(AssertUnwindSafe(move || {
        handler.closed();
        drop(handler);
    }));
    drop(slot);
    count(&register.counters.closed);
    for _ in [served.is_err(), told.is_err()].iter().filter(|panicked| **panicked) {
        count(&register.counters.panics);
        register.threads.count_panic();
        log::error!(socket = id; "a panic was caught in a WebSocket's thread");
    }
}
