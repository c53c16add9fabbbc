//! The store on SQLite: a folder of one database, one thread that writes, a few connections that read.
//!
//! Invariant: SQL never leaves this folder. One process at a time uses a database. Opening either gives a whole, recovered store
//! or fails with a sentence for the person who has to act; see `writer` for what a write promises.
//!
//! `place` (files, lock) → `schema` (tables) → `recover` (what the last process left) → `writer` + `command` (group commit),
//! `readers`; `ready`, `dues`, `shared` and `settle` (what is next, in memory); `inbox`, `turns`, `collect`, `steering`, `journal`, `approvals`, `sessions`,
//! `notes` and `words`, `usage`, `outbox`, `delivering`, `attachments` and `files`, `cursors`, `pairings`, `jobs`, `audit` (what is done); `prune`, `transcripts` and
//! `space` (what goes, and how large all is); `claims` and `store` (the boundary).

mod approvals;
mod attachments;
mod audit;
pub mod backup;
mod claims;
mod collect;
mod command;
mod cursors;
mod delivering;
mod dues;
mod files;
mod inbox;
mod jobs;
mod journal;
mod notes;
mod outbox;
mod pairings;
mod place;
mod prune;
mod readers;
mod ready;
mod recent;
mod recover;
mod schema;
mod sessions;
mod settle;
mod shared;
mod space;
mod sql;
mod steering;
mod store;
#[cfg(test)]
mod tests;
mod transcripts;
mod turns;
mod usage;
mod words;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::handover::handover;
use crate::base::ids::new_id;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::store::sqlite::command::{Command, Ticket};
use crate::store::sqlite::files::Files;
use crate::store::sqlite::readers::Readers;
use crate::store::sqlite::shared::Shared;
pub use crate::store::sqlite::shared::Stats;
use crate::store::sqlite::sql::{Fault, Ran, Sql, sentence};
use crate::store::sqlite::writer::{Item, Writer};
use crate::store::{Done, Recovery, StoreError};
use crate::telemetry::metrics::Metrics;

/// Most commands that wait in the queue.
const QUEUE_MAX: usize = 1_024;
/// How long a caller waits for its command to begin.
const BEGIN_WAIT: Duration = Duration::from_secs(30);
/// How long it waits once it was begun: a disk that hangs.
const END_WAIT: Duration = Duration::from_secs(60);
/// How long closing and dropping wait for the writer.
const CLOSE_WAIT: Duration = Duration::from_secs(30);

/// The store.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    readers: Readers,
    queue: Option<Sender<Item>>,
    /// Disconnected once the writer's thread is over and the lock is free.
    over: Receiver<()>,
    recovery: Recovery,
    /// A folder that goes with the store.
    temporary: Option<PathBuf>,
}

impl SqliteStore {
    /// Opens the database at `path`, making it and its folder where they are missing, and puts right what the former process
    /// left. It doesn't wait for the disk; the first durable write does.
    ///
    /// # Errors
    /// Where the folder is not writable, another gatelet uses it, the file is damaged, of another program or of a newer gatelet.
    pub fn open(path: &Path, clock: Clock, threads: &Threads) -> Result<Arc<SqliteStore>> {
        Self::start(path, clock, threads, None).map(Arc::new)
    }

    /// A store for tests, in a temporary folder that goes with it: the same code, and the same threads.
    ///
    /// # Errors
    /// Where the temporary folder is not writable.
    pub fn memory(clock: Clock, threads: &Threads) -> Result<Arc<SqliteStore>> {
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let folder = folder.join(new_id("gatelet", clock.unix_ms()));
        Self::start(&folder.join("gatelet.db"), clock, threads, Some(folder)).map(Arc::new)
    }

    fn start(path: &Path, clock: Clock, threads: &Threads, temporary: Option<PathBuf>) -> Result<SqliteStore> {
        place::prepare_folder(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        let lock = place::lock(path)?;
        place::prepare_file(path)?;
        let new = schema::is_new(path);
        let shared = Arc::new(Shared::new(clock.clone(), threads, Files::beside(path)));
        let opened = schema::open_writer(path).and_then(|conn| {
            schema::migrate(&conn, schema::MIGRATIONS)?;
            let recovery = recover::recover(&conn, &clock)?;
            recover::fill(&conn, &shared)?;
            attachments::sweep(&conn, &shared)?;
            shared.meter.sample(&conn, path)?;
            Ok((conn, recovery))
        });
        let (conn, recovery) = opened.map_err(|fault| cannot_open(path, &fault))?;
        let (queue, commands) = crossbeam_channel::bounded(QUEUE_MAX);
        let (over_sign, over) = crossbeam_channel::bounded(0);
        let mut writer = Writer::new(conn, (path.to_path_buf(), new), lock, commands, over_sign, shared.clone());
        threads.spawn("store", STACK, &Stop::new(), move || writer.serve())?;
        let readers = Readers::new(path.to_path_buf(), clock);
        Ok(SqliteStore { shared, readers, queue: Some(queue), over, recovery, temporary })
    }

    /// Has its commits counted there; the first call holds.
    pub fn count_in(&self, metrics: &Arc<Metrics>) {
        let _ = self.shared.metrics.set(metrics.clone());
    }

    /// How much it did since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Hands a command to the writer without waiting; `done` is called in any case.
    fn submit<T: Send + 'static>(&self, soft: bool, work: impl FnOnce(&Sql<'_>) -> Ran<T> + Send + 'static, done: Done<T>) {
        self.try_hand_over(Command::new(&self.shared, soft, None, work, done));
    }

    fn try_hand_over(&self, mut command: Command) {
        match &self.queue {
            Some(queue) if !self.shared.is_closed() => match queue.try_send(Item::Write(command)) {
                Ok(()) => {}
                Err(TrySendError::Full(Item::Write(mut back))) => back.end(Some(&StoreError::Busy)),
                Err(_) => {} // dropped, which tells `done`
            },
            _ => command.end(Some(&StoreError::Stopped)),
        }
    }

    /// Hands a command to the writer and waits for its end. `after` is called on the writer's thread, in the order of the
    /// commits, and `orphaned` where nobody waits any more for what was done.
    fn ask<T: Send + 'static>(
        &self,
        soft: bool,
        work: impl FnOnce(&Sql<'_>) -> Ran<T> + Send + 'static,
        after: impl FnOnce(&Shared, &crate::store::Result<T>) + Send + 'static,
        orphaned: impl FnOnce(&Arc<Shared>, T) + Send + 'static,
    ) -> crate::store::Result<T> {
        let (giver, taker) = handover();
        let (ticket, shared) = (Arc::new(Ticket::default()), self.shared.clone());
        let done = Box::new(move |outcome| {
            after(&shared, &outcome);
            if let Err(Ok(value)) = giver.give(outcome) {
                orphaned(&shared, value);
            }
        });
        self.hand_over(Command::new(&self.shared, soft, Some(ticket.clone()), work, done))?;
        if let Some(outcome) = taker.take(BEGIN_WAIT) {
            return outcome;
        }
        if ticket.give_up() {
            return Err(StoreError::Unavailable(format!("the disk did not come to it within {} s", BEGIN_WAIT.as_secs())));
        }
        taker.take(END_WAIT).unwrap_or_else(|| Err(StoreError::Unavailable("the disk hangs".into())))
    }

    fn hand_over(&self, command: Command) -> crate::store::Result<()> {
        let Some(queue) = self.queue.as_ref().filter(|_| !self.shared.is_closed()) else { return Err(StoreError::Stopped) };
        queue.send_timeout(Item::Write(command), BEGIN_WAIT).map_err(|e| match e {
            SendTimeoutError::Timeout(_) => StoreError::Busy,
            SendTimeoutError::Disconnected(_) => StoreError::Stopped,
        })
    }

    /// The same where nothing hangs on its end but the answer.
    fn write<T: Send + 'static>(
        &self,
        soft: bool,
        work: impl FnOnce(&Sql<'_>) -> Ran<T> + Send + 'static,
    ) -> crate::store::Result<T> {
        self.ask(soft, work, |_, _| {}, |_, _| {})
    }

    fn read<T>(&self, work: impl FnOnce(&Sql<'_>) -> Ran<T>) -> crate::store::Result<T> {
        if self.shared.is_closed() {
            return Err(StoreError::Stopped);
        }
        self.readers.read(work)
    }

    /// Waits for the writer's end, unless this is the writer's own thread.
    fn wait_for_the_end(&self) {
        if self.shared.writer.get() != Some(&std::thread::current().id()) {
            let _ = self.over.recv_timeout(CLOSE_WAIT); // disconnects, or the disk hangs and the process ends without it
        }
    }

    fn shut(&self) {
        if self.shared.is_closed() {
            return;
        }
        self.shared.close();
        self.readers.close();
        if let Some(queue) = &self.queue {
            let _ = queue.send_timeout(Item::Close, CLOSE_WAIT); // fails only where the writer is gone or hangs
        }
        self.wait_for_the_end();
    }
}

impl Drop for SqliteStore {
    /// Without [`crate::store::Store::close`] before, it is as if the process had died: the next start recovers.
    fn drop(&mut self) {
        self.queue = None;
        self.wait_for_the_end();
        if let Some(folder) = &self.temporary {
            let _ = std::fs::remove_dir_all(folder); // a leftover in the temporary folder harms nobody
        }
    }
}

fn cannot_open(path: &Path, fault: &Fault) -> Error {
    let (why, code) = match fault {
        Fault::Sql(e) => (sentence(e), e.sqlite_error_code()),
        Fault::Refused(StoreError::Conflict(why)) => (why.clone(), None),
        Fault::Refused(e) => (e.to_string(), None),
    };
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    let hint = match code {
        Some(DatabaseCorrupt | NotADatabase) => {
            "restore a backup, or move the file and those beside it (-wal, -shm) away to begin with an empty store"
        }
        Some(DiskFull) => "free some space",
        None if why.contains("newer") => "run the newer gatelet, or restore a backup from before its first start",
        None => "set store.path to a file of gatelet's own, on a local disk",
        Some(_) => "look at the disk, the file's owner and its mode",
    };
    Error::new(ErrorKind::Permanent, format!("the database {} can't be opened: {why}", path.display())).hint(hint)
}
