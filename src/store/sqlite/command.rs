//! A command for the writer: the work inside the transaction, and who is told how it ended.
//!
//! Invariant: who waits is told exactly once, whatever happens in between: a failed commit, a panic in the work, a queue that
//! is thrown away. A panic ends its own command alone. A command that nobody waits for any more is not begun.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Fault, Ran, Sql};
use crate::store::{Done, Result, StoreError};

/// What became of a command's work inside the transaction.
pub(super) enum End {
    /// It is to be committed.
    Kept,
    /// It failed alone: what it wrote is to be taken back.
    Undone,
    /// The database failed: the transaction is lost.
    Broken(Fault),
}

/// A command for the writer.
pub(super) struct Command {
    /// Whether it is enough that it survives the process.
    pub(super) soft: bool,
    job: Box<dyn Job>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("soft", &self.soft).finish_non_exhaustive()
    }
}

trait Job: Send {
    fn run(&mut self, sql: &Sql<'_>) -> End;
    fn end(&mut self, failure: Option<&StoreError>);
}

impl Command {
    /// A command whose `done` gets what `work` gave, once that is committed.
    pub(super) fn new<T: Send + 'static>(
        shared: &Arc<Shared>,
        soft: bool,
        ticket: Option<Arc<Ticket>>,
        work: impl FnOnce(&Sql<'_>) -> Ran<T> + Send + 'static,
        done: Done<T>,
    ) -> Self {
        let task = Task { shared: shared.clone(), ticket, work: Some(work), outcome: None, done: Some(done) };
        Command { soft, job: Box::new(task) }
    }

    /// Does the work, once.
    pub(super) fn run(&mut self, sql: &Sql<'_>) -> End {
        self.job.run(sql)
    }

    /// Tells who waits: `failure`, or what the work gave.
    pub(super) fn end(&mut self, failure: Option<&StoreError>) {
        self.job.end(failure);
    }
}

struct Task<T, W> {
    shared: Arc<Shared>,
    ticket: Option<Arc<Ticket>>,
    work: Option<W>,
    outcome: Option<Result<T>>,
    done: Option<Done<T>>,
}

impl<T: Send, W: FnOnce(&Sql<'_>) -> Ran<T> + Send> Job for Task<T, W> {
    fn run(&mut self, sql: &Sql<'_>) -> End {
        let Some(work) = self.work.take() else { return End::Undone };
        if self.ticket.as_ref().is_some_and(|ticket| !ticket.begin()) {
            return End::Undone; // its caller's deadline passed: nobody would know that it was done
        }
        match catch_unwind(AssertUnwindSafe(|| work(sql))) {
            Ok(Ok(value)) => {
                self.outcome = Some(Ok(value));
                End::Kept
            }
            Ok(Err(fault)) if fault.is_of_the_database() => End::Broken(fault),
            Ok(Err(fault)) => {
                self.outcome = Some(Err(fault.into_error()));
                End::Undone
            }
            Err(_) => {
                self.outcome = Some(Err(panicked(&self.shared)));
                End::Undone
            }
        }
    }

    fn end(&mut self, failure: Option<&StoreError>) {
        let Some(done) = self.done.take() else { return };
        let outcome = match (failure, self.outcome.take()) {
            (None, Some(outcome)) => outcome,
            (failure, _) => Err(undone(failure, &self.shared)),
        };
        if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
            self.shared.threads.count_panic();
            log::error!("a panic was caught in what was to be told of a commit");
        }
    }
}

/// What is told of a panic in the work.
fn panicked(shared: &Shared) -> StoreError {
    shared.threads.count_panic();
    log::error!("a panic was caught in a command of the store's; it was taken back");
    StoreError::Unavailable("a fault of gatelet's own; see its log".into())
}

/// What is told where the work gave nothing.
fn undone(failure: Option<&StoreError>, shared: &Shared) -> StoreError {
    match failure {
        Some(failure) => failure.clone(),
        None if shared.is_closed() => StoreError::Stopped,
        None => StoreError::Unavailable("the command was not done".into()),
    }
}

impl<T, W> Drop for Task<T, W> {
    fn drop(&mut self) {
        let Some(done) = self.done.take() else { return };
        let error = match self.shared.is_closed() {
            true => StoreError::Stopped,
            false => StoreError::Unavailable("the writer was interrupted".into()),
        };
        let _ = catch_unwind(AssertUnwindSafe(|| done(Err(error)))); // a panic in a drop would end the process
    }
}

/// Settles who is first: the writer that begins a command, or its caller that gives it up.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Ticket {
    fn begin(&self) -> bool {
        self.0.compare_exchange(0, BEGUN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Gives the command up; false where it was begun already.
    pub(super) fn give_up(&self) -> bool {
        self.0.compare_exchange(0, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
