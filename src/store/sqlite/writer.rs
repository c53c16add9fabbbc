//! The one thread that writes: it takes all commands that wait, and commits them as one transaction.
//!
//! Invariant: nobody is told of a write before its commit; a batch with one durable command waits for the disk, a batch of soft
//! ones does not. One bad command fails alone. After an error of the database the connection is closed and opened anew, and
//! after an I/O error the log is carried into the database before anything more is promised: pages that a failed fsync dropped
//! would tear the log under later commits. At rest the thread sleeps and nothing is written. A batch that can't be written is
//! answered `Unavailable`; the next one tries again.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use crate::base::crash;
use crate::store::StoreError;
use crate::store::sqlite::command::{Command, End};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Deltas, Fault, Ran, Sql};
use crate::store::sqlite::{recover, schema, space};

/// The longest that a batch with its checkpoint may take before the writer counts as stuck: a worn SD card stalls for half a minute.
const BATCH_TIME_MAX: Duration = Duration::from_secs(300);
/// Frames that the log grows by until the sizes are taken anew: 128 KiB.
const SAMPLED_FRAMES: i64 = 256;
/// Most commands in one transaction.
const BATCH_MAX: usize = 256;

/// What the queue carries.
pub(super) enum Item {
    /// Something to write.
    Write(Command),
    /// Something waits beside the queue.
    Nudge,
    /// Give back what a burst left, if nothing else is to be done.
    Tidy,
    /// Let go of memory that only makes it faster.
    Shrink,
    /// Write what waits, then close.
    Close,
}

/// The writer. Its fields are dropped in this order: the connection, then the lock, then the sign that it is over.
pub(super) struct Writer {
    conn: Option<Connection>,
    _lock: File,
    _over: Sender<()>,
    queue: Receiver<Item>,
    shared: Arc<Shared>,
    path: PathBuf,
    /// Whether commits wait for the disk, as the connection is set now.
    durable: Option<bool>,
    /// Whether what the file and its log say may not be on the disk: the file was just made, or an I/O error may have dropped
    /// pages.
    unsettled: bool,
    /// Inside a transaction: were it found set at the start of a pass, a panic went through the last one.
    busy: bool,
    /// Frames in the log below which no checkpoint is tried.
    checkpoint_at: i64,
    /// Frames in the log when the sizes were last taken.
    sampled_at: i64,
}

impl Writer {
    /// A writer over an open, recovered database.
    pub(super) fn new(
        conn: Connection,
        (path, new): (PathBuf, bool),
        lock: File,
        queue: Receiver<Item>,
        over: Sender<()>,
        shared: Arc<Shared>,
    ) -> Self {
        Writer {
            conn: Some(conn),
            _lock: lock,
            _over: over,
            queue,
            shared,
            path,
            durable: None,
            unsettled: new,
            busy: false,
            checkpoint_at: schema::CHECKPOINT_FRAMES,
            sampled_at: 0,
        }
    }

    /// Writes until the store is closed or dropped. May be called again after a panic.
    pub(super) fn serve(&mut self) {
        let _ = self.shared.writer.set(std::thread::current().id());
        if std::mem::take(&mut self.busy) {
            self.conn = None;
        }
        if self.unsettled
            && let Err(fault) = self.connection(true)
        {
            self.give_up(fault); // tried again with the first batch
        }
        let mut closing = false;
        while let Some(batch) = self.next(&mut closing) {
            if !batch.is_empty() {
                self.busy = true;
                self.shared.pulse.works(self.shared.clock.mono(), BATCH_TIME_MAX);
                self.pass(batch);
                self.shared.pulse.rests();
                self.busy = false;
            }
            if closing && self.queue.is_empty() {
                self.close();
                break;
            }
        }
    }

    /// The next batch; `None` where the store was dropped.
    fn next(&mut self, closing: &mut bool) -> Option<Vec<Command>> {
        let mut batch = self.shared.take_beside(BATCH_MAX / 2);
        if batch.is_empty() && !*closing {
            match self.queue.recv().ok()? {
                Item::Write(command) => batch.push(command),
                Item::Nudge => {}
                Item::Tidy => self.tidy(),
                Item::Shrink => self.shrink(),
                Item::Close => *closing = true,
            }
        }
        while batch.len() < BATCH_MAX {
            match self.queue.try_recv() {
                Ok(Item::Write(command)) => batch.push(command),
                Ok(Item::Nudge | Item::Tidy) => {} // no time for that
                Ok(Item::Shrink) => self.shrink(),
                Ok(Item::Close) => *closing = true,
                Err(_) => break,
            }
        }
        Some(batch)
    }

    fn pass(&mut self, mut batch: Vec<Command>) {
        let durable = batch.iter().any(|command| !command.soft);
        let begun = self.shared.clock.mono();
        match self.transact(&mut batch, durable) {
            Ok(written) => {
                self.shared.add(written.deltas);
                if written.changed {
                    self.shared.committed(batch.len(), durable, self.shared.clock.mono().saturating_sub(begun));
                    self.shared.set_trouble(None);
                    self.shared.meter.wrote(begun);
                }
                batch.iter_mut().for_each(|command| command.end(None));
                if written.changed {
                    self.carry_over(written.erased);
                }
            }
            Err(fault) => {
                if let Some(metrics) = self.shared.metrics.get() {
                    metrics.commit_failed();
                }
                let error = self.give_up(fault);
                batch.iter_mut().for_each(|command| command.end(Some(&error)));
            }
        }
    }

    fn transact(&mut self, batch: &mut [Command], durable: bool) -> Ran<Written> {
        let shared = self.shared.clone();
        let alone = batch.len() == 1;
        let conn = self.connection(durable)?;
        let before = conn.total_changes();
        let _rollback = Rollback(conn);
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let sql = Sql::new(conn, &shared.clock);
        let mut deltas = Deltas::default();
        for command in batch {
            if !alone {
                conn.prepare_cached("SAVEPOINT command")?.execute([])?;
            }
            let end = command.run(&sql);
            let counted = sql.take_deltas();
            match end {
                End::Broken(fault) => return Err(fault),
                // Some errors end the transaction by themselves, and take the commands before with them.
                _ if conn.is_autocommit() => return Err(lost()),
                End::Kept => deltas += counted,
                End::Undone if alone => return Ok(Written::default()),
                End::Undone => drop(conn.prepare_cached("ROLLBACK TO command")?.execute([])?),
            }
            if !alone {
                conn.prepare_cached("RELEASE command")?.execute([])?;
            }
        }
        shared.recent.note(&sql.take_uses());
        crash::point("store.commit");
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(Written { deltas, changed: conn.total_changes() > before, erased: sql.has_erased() })
    }

    /// The connection, opened anew where it had to be closed, its commits set to wait for the disk or not. Where what is in the
    /// file may not be on the disk, it is brought there first.
    fn connection(&mut self, durable: bool) -> Ran<&Connection> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                self.durable = None;
                schema::open_writer(&self.path)?
            }
        };
        let conn = self.conn.insert(conn);
        #[cfg(test)]
        limit_pages(conn, &self.shared)?;
        let durable = durable || self.unsettled;
        if self.durable != Some(durable) {
            schema::set_durable(conn, durable)?;
            self.durable = Some(durable);
        }
        if self.unsettled {
            let (held_up, _, _) = checkpoint(conn, "TRUNCATE")?;
            if held_up != 0 {
                return Err(StoreError::Unavailable("the log can't be carried over yet".into()).into());
            }
            self.unsettled = false;
        }
        Ok(conn)
    }

    /// Closes the connection after `fault`, and notes the trouble.
    fn give_up(&mut self, fault: Fault) -> StoreError {
        if let Fault::Sql(e) = &fault {
            self.unsettled |= e.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        }
        self.conn = None; // without a checkpoint (`open_writer`): the log may be torn
        let error = match fault.into_error() {
            error @ StoreError::Unavailable(_) => error,
            other => StoreError::Unavailable(other.to_string()),
        };
        self.shared.set_trouble(Some(match &error {
            StoreError::Unavailable(why) => why.clone(),
            other => other.to_string(),
        }));
        error
    }

    /// Carries the log into the database once it is long, after those who waited were told. Where texts were erased it is
    /// emptied at once, since it still holds them.
    fn carry_over(&mut self, erased: bool) {
        let Some(conn) = &self.conn else { return };
        let carried = (|| {
            if erased {
                return checkpoint(conn, "TRUNCATE");
            }
            let (_, frames, done) = checkpoint(conn, "NOOP")?;
            if (frames - self.sampled_at).abs() >= SAMPLED_FRAMES {
                self.shared.meter.sample(conn, &self.path)?;
                self.sampled_at = frames;
            }
            if frames - done < self.checkpoint_at {
                return Ok((0, frames, frames));
            }
            checkpoint(conn, "PASSIVE")
        })();
        match carried {
            // A reader held it up: try again when the log has grown by a quarter.
            Ok((_, frames, done)) if frames > done => self.checkpoint_at = frames - done + schema::CHECKPOINT_FRAMES / 4,
            Ok(_) => self.checkpoint_at = schema::CHECKPOINT_FRAMES,
            Err(fault) => drop(self.give_up(fault)),
        }
    }

    /// Gives back what a burst left.
    fn tidy(&mut self) {
        let (shared, path, queue) = (self.shared.clone(), self.path.clone(), self.queue.clone());
        shared.pulse.works(shared.clock.mono(), BATCH_TIME_MAX);
        let tidied = self.connection(false).and_then(|conn| space::tidy(conn, &shared, &path, || queue.is_empty()));
        if let Err(fault) = tidied {
            self.give_up(fault);
        }
        shared.pulse.rests();
    }

    /// Drops what SQLite keeps in memory beyond what it is using.
    fn shrink(&mut self) {
        if let Some(conn) = &self.conn {
            conn.flush_prepared_statement_cache();
            let _ = conn.execute_batch("PRAGMA shrink_memory"); // it only ever frees
        }
    }

    /// The orderly end: nothing waits any more.
    fn close(&mut self) {
        let closed = self.connection(true).and_then(|conn| {
            recover::mark_closed(conn)?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?; // the files beside it go then
            checkpoint(conn, "TRUNCATE")
        });
        if let Err(fault) = closed {
            log::warn!("the store was not closed in order, the next start will put it right: {}", fault.into_error());
        }
        self.conn = None;
    }
}

#[derive(Default)]
struct Written {
    deltas: Deltas,
    changed: bool,
    erased: bool,
}

/// Rolls back what was not committed: on errors, and when a panic goes through.
struct Rollback<'c>(&'c Connection);

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK"); // where it fails, the next BEGIN will, too, and close the connection
        }
    }
}

fn lost() -> Fault {
    Fault::Refused(StoreError::Unavailable("the transaction was lost".into()))
}

/// Runs a checkpoint: whether it was held up, frames in the log, frames carried over.
fn checkpoint(conn: &Connection, mode: &str) -> Ran<(i64, i64, i64)> {
    let pragma = match mode {
        "NOOP" => "PRAGMA wal_checkpoint(NOOP)",
        "PASSIVE" => "PRAGMA wal_checkpoint(PASSIVE)",
        _ => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    Ok(conn.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
}

#[cfg(test)]
fn limit_pages(conn: &Connection, shared: &Shared) -> Ran<()> {
    let most = match shared.pages_max.load(std::sync::atomic::Ordering::SeqCst) {
        0 => 1 << 30,
        most => most,
    };
    Ok(conn.query_row(&format!("PRAGMA max_page_count = {most}"), (), |_| Ok(()))?)
}
