//! Threads with a name, a small stack, a count and an owner that joins them.
//!
//! Invariant: no other file starts a thread. A panic ends one pass of a thread's work, not the thread's duty: it is caught,
//! counted and reported, and the work starts again after a pause, until the stop is set. Joining has a deadline: a thread that
//! doesn't come in time is named in the answer and left behind. Fails where the system refuses a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::pulse::{Overdue, Pulse, Pulses};
use crate::base::stop::Stop;

/// Stack of an ordinary worker: SQLite, rustls and JSON nested as deep as serde_json takes it (127 levels: 90 KiB, unoptimised
/// 380 KiB) stay well below it. What is never touched costs no memory.
pub const STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 256 * 1024 };
/// Stack of a thread that only moves frames.
pub const STACK_SMALL: usize = 64 * 1024;
/// Pause before work that panicked starts again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The register of this process's threads; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    inner: Arc<Register>,
}

#[derive(Debug, Default)]
struct Register {
    running: Mutex<Vec<Running>>,
    pulses: Pulses,
    live: AtomicUsize,
    panics: AtomicU64,
}

#[derive(Debug)]
struct Running {
    name: String,
    handle: JoinHandle<()>,
    /// Disconnects when the thread is over: joining with a deadline waits here.
    over: Receiver<()>,
}

impl Threads {
    /// An empty register.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `work` on a thread of its own. After a panic it is called again, unless `stop` is set. `name` has at most 15
    /// bytes, as Linux cuts the rest.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn spawn(&self, name: &str, stack: usize, stop: &Stop, mut work: impl FnMut() + Send + 'static) -> Result<()> {
        let (register, stop, label) = (self.inner.clone(), stop.clone(), name.to_string());
        self.start(name, stack, move || {
            while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
                register.panics.fetch_add(1, Ordering::Relaxed);
                log::error!(thread = label.as_str(); "a panic was caught in thread {label}; its work starts again");
                if stop.wait(RESTART_PAUSE) {
                    break;
                }
            }
        })
    }

    /// Starts `work` once on a thread of its own, for what cannot be started again (one socket, say); a panic ends it and is
    /// counted.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn spawn_once(&self, name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let (register, label) = (self.inner.clone(), name.to_string());
        self.start(name, stack, move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                register.panics.fetch_add(1, Ordering::Relaxed);
                log::error!(thread = label.as_str(); "a panic was caught in thread {label}");
            }
        })
    }

    fn start(&self, name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> Result<()> {
        debug_assert!(name.len() <= 15, "Linux cuts thread names after 15 bytes: {name}");
        let (alive, over) = crossbeam_channel::bounded::<()>(0);
        let register = self.inner.clone();
        register.live.fetch_add(1, Ordering::Relaxed);
        let started = Builder::new().name(name.to_string()).stack_size(stack).spawn(move || {
            body();
            register.live.fetch_sub(1, Ordering::Relaxed);
            drop(alive);
        });
        match started {
            Ok(handle) => {
                let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.retain(|r| !r.handle.is_finished()); // short-lived threads (sockets) don't pile up
                running.push(Running { name: name.to_string(), handle, over });
                Ok(())
            }
            Err(e) => {
                self.inner.live.fetch_sub(1, Ordering::Relaxed);
                Err(Error::new(ErrorKind::Transient, format!("the system refused a thread ({name}): {e}"))
                    .hint("raise its limit on tasks (TasksMax in the unit)"))
            }
        }
    }

    /// The pulse of a vital thread: one without which nothing is taken in, answered or sent.
    pub fn pulse(&self, name: &str) -> Pulse {
        self.inner.pulses.add(name)
    }

    /// Vital threads that took longer than they said, at `now` (`Clock::mono`).
    pub fn overdue(&self, now: Duration) -> Vec<Overdue> {
        self.inner.pulses.overdue(now)
    }

    /// Threads running now.
    pub fn live(&self) -> usize {
        self.inner.live.load(Ordering::Relaxed)
    }

    /// Panics caught so far.
    pub fn panics(&self) -> u64 {
        self.inner.panics.load(Ordering::Relaxed)
    }

    /// Counts a panic that was caught elsewhere (one request's, one turn's).
    pub fn count_panic(&self) {
        self.inner.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for all threads, together at most `timeout`; gives the names of those that did not come.
    pub fn join(&self, timeout: Duration) -> Vec<String> {
        let running = std::mem::take(&mut *self.inner.running.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = crossbeam_channel::after(timeout);
        let mut late = Vec::new();
        let mut expired = false;
        for r in running {
            if !expired {
                crossbeam_channel::select! {
                    recv(r.over) -> _ => {}
                    recv(deadline) -> _ => expired = true,
                }
            }
            if r.over.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                let _ = r.handle.join(); // its panics were caught and counted inside
            } else {
                late.push(r.name);
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_restarts_the_work_and_is_counted() {
        let (threads, stop) = (Threads::new(), Stop::new());
        let (tx, rx) = crossbeam_channel::bounded(1);
        let mut pass = 0;
        threads
            .spawn("worker", STACK, &stop, move || {
                pass += 1;
                if pass == 1 {
                    panic!("first pass");
                }
                tx.send(pass).unwrap();
            })
            .unwrap();
        assert_eq!(rx.recv_timeout(Duration::from_secs(5)), Ok(2));
        assert_eq!(threads.join(Duration::from_secs(5)), Vec::<String>::new());
        assert_eq!((threads.panics(), threads.live()), (1, 0));
    }

    #[test]
    fn a_thread_that_does_not_come_is_named() {
        let (threads, stop) = (Threads::new(), Stop::new());
        let waits = stop.clone();
        threads.spawn_once("hung", STACK, move || while !waits.wait(Duration::from_secs(60)) {}).unwrap();
        assert_eq!(threads.join(Duration::from_millis(10)), ["hung"]);
        stop.set();
    }
}
