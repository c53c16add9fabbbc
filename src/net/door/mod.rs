//! The front door: HTTP/1.1 on TCP, for everybody who can reach the port.
//!
//! One thread, `door`, holds every connection in a level-triggered epoll, reads heads and bodies within bounds and total
//! deadlines, asks the [`Service`] for a plan, and either answers, calls the service itself (the quick lane) or hands the request
//! to the fixed pool `http-N` (see `workers.rs`). A responder may be kept and answered later by any thread (`reply.rs` tells how),
//! so that hundreds of callers wait without a thread; so is an answer that comes piece by piece (`stream.rs`).
//!
//! Invariant: the number of threads does not depend on who connects; the door's own thread never blocks on a peer, and one
//! request is never read as two or two as one (`head.rs`, `chunked.rs`). An error of `accept` costs a pause, never the door. Fails at
//! start alone; later failures end one connection each.

mod accept;
mod admit;
mod chunked;
mod conn;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub(super) mod head;
mod listen;
pub(super) mod reply;
mod run;
mod serve;
mod slab;
mod stream;
mod workers;
pub(super) mod write;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

pub use listen::{adopt, bind, raise_descriptor_limit};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::live::Live;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::config::Limits;
use crate::net::door::reply::Core;
use crate::net::door::run::Loop;
use crate::net::http::Service;

/// What the door counted since its start, and has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorStats {
    /// Connections now, those handed over to a WebSocket not among them.
    pub open: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned out to give another a place.
    pub evicted: u64,
    /// Connections refused with 503 for want of a place.
    pub refused: u64,
    /// Connections closed by a deadline.
    pub expired: u64,
    /// Connections handed over (WebSockets).
    pub handed_over: u64,
    /// Errors of `accept`.
    pub accept_errors: u64,
}

/// A running door. It closes when this is dropped.
pub struct Door {
    local_addr: SocketAddr,
    control: Arc<dyn Control>,
}

/// The part of the shared core that doesn't know the service's type.
trait Control: Send + Sync {
    fn stats(&self) -> DoorStats;
    fn ring(&self);
    fn close(&self, within: Duration);
}

impl Door {
    /// Starts the door's thread and `workers` more (at least one). `limits` are read anew at each pass. The door ends when `stop` is
    /// set (see [`wake`](Self::wake)) or by [`close`](Self::close); its threads are `threads`' to join.
    ///
    /// # Errors
    /// Where the system refuses a descriptor or a thread. Nothing is left running then.
    pub fn start<S: Service>(
        listener: TcpListener,
        service: Arc<S>,
        limits: Arc<Live<Limits>>,
        workers: usize,
        clock: Clock,
        threads: &Threads,
        stop: &Stop,
    ) -> Result<Door> {
        let no_door = |e: std::io::Error| Error::new(ErrorKind::Permanent, format!("the door could not be set up: {e}"));
        listener.set_nonblocking(true).map_err(no_door)?;
        let local_addr = listener.local_addr().map_err(no_door)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| no_door(e.into()))?;
        let core = Arc::new(Core::new(service, clock, threads.clone(), bell));
        let (jobs, taken) = workers::queue();
        let mut events = Loop::new(core.clone(), listener, local_addr.ip(), jobs, limits, stop.clone()).map_err(no_door)?;
        threads.spawn("door", STACK, stop, move || events.run())?;
        let door = Door { local_addr, control: core.clone() }; // closes what runs where a worker can't start
        workers::start(&core, taken, workers, threads, stop)?;
        Ok(door)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its counters.
    pub fn stats(&self) -> DoorStats {
        self.control.stats()
    }

    /// Lets it look at `stop` and at its limits now. Without that, a quiet door sees either with the next event.
    pub fn wake(&self) {
        self.control.ring();
    }

    /// Stops accepting, closes connections that wait for another request, lets the rest be answered within `within` (each answer
    /// closes its connection), a first request that comes within 200 ms, too, then ends. Returns at once; a second call can't
    /// lengthen the first one's time.
    pub fn close(&self, within: Duration) {
        self.control.close(within);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

impl<S: Service> Control for Core<S> {
    fn stats(&self) -> DoorStats {
        let c = &self.counters;
        DoorStats {
            open: c.open.load(Ordering::Relaxed),
            accepted: c.accepted.load(Ordering::Relaxed),
            evicted: c.evicted.load(Ordering::Relaxed),
            refused: c.refused.load(Ordering::Relaxed),
            expired: c.expired.load(Ordering::Relaxed),
            handed_over: c.handed_over.load(Ordering::Relaxed),
            accept_errors: c.accept_errors.load(Ordering::Relaxed),
        }
    }

    fn ring(&self) {
        Core::ring(self);
    }

    fn close(&self, within: Duration) {
        let end = (self.clock.mono() + within).as_micros().clamp(1, u128::from(u64::MAX - 1)) as u64;
        let earlier = |old: u64| (old == 0 || end < old).then_some(end);
        let _ = self.ends_at_us.fetch_update(Ordering::SeqCst, Ordering::SeqCst, earlier);
        Core::ring(self);
    }
}

#[cfg(test)]
mod tests;
