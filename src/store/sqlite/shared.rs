//! What the writer's thread and the callers share: the indexes of what may be done, the counts, how the disk is.
//!
//! Invariant: it changes only on the writer's thread, after a commit (`recent`: before it), in the order of the commits; what
//! callers do here is to take a key in hand and to read. No lock is held during a write. It cannot fail.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::pulse::Pulse;
use crate::base::threads::Threads;
use crate::store::sqlite::command::Command;
use crate::store::sqlite::dues::Dues;
use crate::store::sqlite::files::Files;
use crate::store::sqlite::pairings::Paired;
use crate::store::sqlite::ready::{KEYS_MAX, Ready};
use crate::store::sqlite::recent::Recent;
use crate::store::sqlite::space::Meter;
use crate::store::sqlite::sql::Deltas;
use crate::store::{Depths, Result, StoreError};
use crate::telemetry::metrics::Metrics;

/// Most commands that wait beside the queue.
const EXTRA_MAX: usize = 1_024;

/// How much the store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands that were written.
    pub commands: u64,
    /// Transactions that carried them.
    pub commits: u64,
    /// Those of them that waited for the disk.
    pub durable: u64,
}

/// The shared state.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) threads: Threads,
    /// The writer's.
    pub(super) pulse: Pulse,
    /// How large all is, and what is to be kept.
    pub(super) meter: Meter,
    /// Where attachments' bytes are.
    pub(super) files: Files,
    /// The sessions that were used last.
    pub(super) recent: Recent,
    turns: Mutex<Ready<()>>,
    deliveries: Mutex<Ready<Arc<str>>>,
    approvals: Mutex<Dues>,
    pairings: Mutex<Dues>,
    paired: Mutex<Paired>,
    counts: Mutex<Deltas>,
    trouble: Mutex<Option<String>>,
    extra: Mutex<VecDeque<Command>>,
    closed: AtomicBool,
    stats: [AtomicU64; 3],
    pub(super) writer: OnceLock<ThreadId>,
    /// Where commits are counted, once that is known.
    pub(super) metrics: OnceLock<Arc<Metrics>>,
    /// What tests set to fill the disk: the database's pages at most.
    #[cfg(test)]
    pub(super) pages_max: AtomicU64,
}

impl Shared {
    /// The state of a store that is about to open.
    pub(super) fn new(clock: Clock, threads: &Threads, files: Files) -> Self {
        Shared {
            clock,
            threads: threads.clone(),
            pulse: threads.pulse("store"),
            meter: Meter::default(),
            files,
            recent: Recent::default(),
            turns: Mutex::new(Ready::new(KEYS_MAX)),
            deliveries: Mutex::new(Ready::new(KEYS_MAX)),
            approvals: Mutex::default(),
            pairings: Mutex::default(),
            paired: Mutex::default(),
            counts: Mutex::default(),
            trouble: Mutex::default(),
            extra: Mutex::default(),
            closed: AtomicBool::default(),
            stats: Default::default(),
            writer: OnceLock::new(),
            metrics: OnceLock::new(),
            #[cfg(test)]
            pages_max: AtomicU64::new(0),
        }
    }

    /// Sessions with messages to be answered, by session number.
    pub(super) fn turns(&self) -> MutexGuard<'_, Ready<()>> {
        locked(&self.turns)
    }

    /// Targets with deliveries for workers; beside each its channel.
    pub(super) fn deliveries(&self) -> MutexGuard<'_, Ready<Arc<str>>> {
        locked(&self.deliveries)
    }

    /// When pending approvals expire.
    pub(super) fn approvals(&self) -> MutexGuard<'_, Dues> {
        locked(&self.approvals)
    }

    /// When pairing codes are over.
    pub(super) fn pairings(&self) -> MutexGuard<'_, Dues> {
        locked(&self.pairings)
    }

    /// Who was let in.
    pub(super) fn paired(&self) -> MutexGuard<'_, Paired> {
        locked(&self.paired)
    }

    /// Whether an urgent message is queued.
    pub(super) fn has_urgent(&self) -> bool {
        locked(&self.counts).urgent > 0
    }

    /// Adds what a commit changed.
    pub(super) fn add(&self, deltas: Deltas) {
        *locked(&self.counts) += deltas;
    }

    /// The counts.
    pub(super) fn depths(&self) -> Depths {
        let counts = *locked(&self.counts);
        let count = |n: i64| n.max(0) as u64;
        Depths {
            queued: count(counts.queued),
            running: count(counts.running),
            waiting_approval: count(counts.waiting),
            pending: count(counts.pending),
            unacknowledged: count(counts.unacknowledged),
        }
    }

    /// Counts a commit.
    pub(super) fn committed(&self, commands: usize, durable: bool, took: Duration) {
        if let Some(metrics) = self.metrics.get() {
            metrics.commit(commands, took);
        }
        for (stat, by) in self.stats.iter().zip([commands as u64, 1, u64::from(durable)]) {
            stat.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// What was counted.
    pub(super) fn stats(&self) -> Stats {
        let [commands, commits, durable] = [0, 1, 2].map(|i| self.stats[i].load(Ordering::Relaxed));
        Stats { commands, commits, durable }
    }

    /// Notes how the last write went; says it to the log where that changed.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        let mut now = locked(&self.trouble);
        match (&*now, &trouble) {
            (None, Some(why)) => log::error!("the store can't write: {why}"),
            (Some(_), None) => log::info!("the store can write again"),
            _ => {}
        }
        *now = trouble;
    }

    /// How the last write went.
    pub(super) fn health(&self) -> Result<()> {
        locked(&self.trouble).clone().map_or(Ok(()), |why| Err(StoreError::Unavailable(why)))
    }

    /// Puts a command beside the queue; false where too many are there.
    pub(super) fn put_beside(&self, command: Command) -> bool {
        let mut extra = locked(&self.extra);
        let room = extra.len() < EXTRA_MAX;
        if room {
            extra.push_back(command);
        }
        drop(extra);
        room
    }

    /// Takes what is beside the queue.
    pub(super) fn take_beside(&self, most: usize) -> Vec<Command> {
        let mut extra = locked(&self.extra);
        let count = extra.len().min(most);
        extra.drain(..count).collect()
    }

    /// No further call is let in.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
