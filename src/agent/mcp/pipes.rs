//! A connection over pipes: one JSON-RPC message a line. This is the side that callers hold; the pipes are [`Pump`]'s.
//!
//! Invariant: a caller only ever puts a line into a queue and waits for its answer, so that a server that does not read its input
//! holds nobody. The queue is bounded, and a request that was given up before it was written never is. Fails with [`Failure`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use serde_json::{Map, Value};

use crate::agent::mcp::calls::Calls;
use crate::agent::mcp::link::{Ask, Failure, Signals};
use crate::agent::mcp::pump::Pump;
use crate::agent::mcp::text::{Stderr, thread_name};
use crate::agent::mcp::wire::{self, Era};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::threads::{STACK, Threads};

/// Most bytes that wait to be written, and how much of it answers to the server's own requests may take.
const OUT_BYTES_MAX: usize = 1024 * 1024;
pub(super) const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Our ends of a server's streams.
pub struct Ends {
    /// Its input.
    pub stdin: OwnedFd,
    /// Its output.
    pub stdout: OwnedFd,
    /// Its log.
    pub stderr: Option<OwnedFd>,
}

/// The side that others hold.
pub struct Pipes {
    pub(super) calls: Arc<Calls>,
    out: Mutex<Out>,
    /// Wakes the pump.
    pub(super) bell: OwnedFd,
    pub(super) signals: Arc<Signals>,
    pub(super) clock: Clock,
}

/// What is to be written, and how far it is.
#[derive(Default)]
pub(super) struct Out {
    /// Lines, each with the id of its request if it is one.
    pub queue: VecDeque<(Option<u64>, Vec<u8>)>,
    /// Their sum.
    pub bytes: usize,
    /// How much of the first one is written.
    pub written: usize,
    /// The input is to be closed.
    pub closed: bool,
    /// The thread is to end.
    pub left: bool,
    /// The request for list changes, which has no answer while they come.
    pub subscription: Option<u64>,
}

fn deaf() -> Error {
    Error::new(ErrorKind::Transient, "it does not read its input")
}

impl Pipes {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system refuses what it needs.
    pub fn start(
        server: &str,
        ends: Ends,
        log: Stderr,
        signals: &Arc<Signals>,
        clock: &Clock,
        threads: &Threads,
    ) -> Result<Arc<Pipes>> {
        let refused = |e: Errno| Error::new(ErrorKind::Transient, format!("the system refused a pipe: {e}"));
        for fd in [Some(&ends.stdin), Some(&ends.stdout), ends.stderr.as_ref()].into_iter().flatten() {
            fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK)).map_err(refused)?;
        }
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused)?;
        let pipes = Arc::new(Pipes {
            calls: Arc::default(),
            out: Mutex::default(),
            bell,
            signals: signals.clone(),
            clock: clock.clone(),
        });
        let (pump, name) = (Pump::new(pipes.clone(), ends, log), thread_name("mcp>", server));
        threads.spawn_once(&name, STACK, move || pump.run())?;
        Ok(pipes)
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn request(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        let ticket = self.calls.open()?;
        let era = ask.protocol.map_or(Era::Legacy, |p| p.era);
        self.put(Some(ticket.id), wire::request(ticket.id, ask.method, ask.params, era), OUT_BYTES_MAX)?;
        let result = ticket.wait(ask.deadline.saturating_sub(self.clock.mono()), ask.cancel);
        let why = match &result {
            Err(Failure::Late) => "the time for it is over",
            Err(Failure::Cancelled) => "it is not wanted any more",
            _ => return result,
        };
        if self.withdraw(ticket.id) {
            return result.map_err(|failure| if matches!(failure, Failure::Late) { Failure::Unsent(deaf()) } else { failure });
        }
        // The two that settle the protocol must not be cancelled.
        if !matches!(ask.method, "initialize" | "server/discover") {
            let _ = self.put(None, wire::cancelled(ticket.id, why), OUT_BYTES_MAX); // full: the answer will be dropped as well
        }
        result
    }

    /// Tells something.
    ///
    /// # Errors
    /// `Unsent` where too much waits already.
    pub fn notify(&self, line: String) -> Result<(), Failure> {
        self.put(None, line, OUT_BYTES_MAX)
    }

    /// Asks for a stream of changes, whose answer nobody waits for.
    ///
    /// # Errors
    /// As [`Pipes::notify`].
    pub fn subscribe(&self, method: &str, params: &Map<String, Value>) -> Result<(), Failure> {
        let id = self.calls.fresh_id();
        self.lock().subscription = Some(id);
        self.put(None, wire::request(id, method, params, Era::Modern), OUT_BYTES_MAX)
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<Error> {
        self.calls.over()
    }

    /// Closes the server's input, for good, and fails all who wait with `why`.
    pub fn close(&self, why: Error) {
        self.calls.end(why);
        self.lock().closed = true;
        self.wake();
    }

    /// Ends the thread, whether or not the server has closed its side.
    pub fn leave(&self) {
        self.lock().left = true;
        self.wake();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes()); // full: it wakes anyway
    }

    pub(super) fn put(&self, id: Option<u64>, mut line: String, max: usize) -> Result<(), Failure> {
        line.push('\n');
        let mut out = self.lock();
        if out.bytes + line.len() > max {
            return Err(Failure::Unsent(deaf()));
        }
        out.bytes += line.len();
        out.queue.push_back((id, line.into_bytes()));
        drop(out);
        self.wake();
        Ok(())
    }

    /// Takes a request back; false where it was written, or a part of it.
    fn withdraw(&self, id: u64) -> bool {
        let mut out = self.lock();
        let Some(at) = out.queue.iter().position(|(queued, _)| *queued == Some(id)) else { return false };
        if at == 0 && out.written > 0 {
            return false;
        }
        if let Some((_, line)) = out.queue.remove(at) {
            out.bytes -= line.len();
        }
        true
    }
}
