//! The fixed pool that handles what may block.
//!
//! Invariant: the number of threads is the configured one, whatever comes; the queue to them is bounded. A handler that panics
//! costs its own request a 500. The workers end when the door, which alone holds the sending side, is gone. Fails at start where
//! the system refuses a thread.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::base::crash;
use crate::base::error::Result;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::net::door::reply::Core;
use crate::net::http::{Request, Responder, Service};

/// Requests that wait for a worker; one more is refused with 503.
pub(super) const QUEUE_MAX: usize = 1024;

/// One request for a worker.
pub(super) struct Job<C> {
    /// What the plan found out.
    pub context: C,
    /// The whole request.
    pub request: Request,
    /// Its way back.
    pub responder: Responder,
}

/// The way to the workers, and their end of it.
pub(super) type Ends<C> = (Sender<Box<Job<C>>>, Receiver<Box<Job<C>>>);

/// The queue to them.
pub(super) fn queue<C>() -> Ends<C> {
    crossbeam_channel::bounded(QUEUE_MAX)
}

/// Starts `count` workers (at least one), `http-0` and so on.
///
/// # Errors
/// Where the system refuses a thread; those that had started end with the door.
pub(super) fn start<S: Service>(
    core: &Arc<Core<S>>,
    rx: Receiver<Box<Job<S::Context>>>,
    count: usize,
    threads: &Threads,
    stop: &Stop,
) -> Result<()> {
    for i in 0..count.max(1) {
        let (core, jobs) = (core.clone(), rx.clone());
        threads.spawn(&format!("http-{i}"), STACK, stop, move || {
            while let Ok(job) = jobs.recv() {
                crash::point("http.call");
                let Job { context, request, responder } = *job;
                core.call(context, request, responder);
            }
        })?;
    }
    Ok(())
}
