//! What a command sees of the database: cached statements, the clock, and the counts that it changes.
//!
//! Invariant: no statement is prepared twice on a connection; counts reach the rest of the store only after the commit.
//! Fails with [`Fault`], which keeps apart what is wrong with the one command and what is wrong with the database.

use std::cell::Cell;
use std::ops::AddAssign;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row};
use sha2::{Digest, Sha256};

use crate::base::clock::Clock;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The command itself can't be done: it fails alone.
    Refused(StoreError),
    /// SQLite reports an error.
    Sql(rusqlite::Error),
}

/// What a command gives.
pub(super) type Ran<T> = Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        Fault::Sql(e)
    }
}

impl From<StoreError> for Fault {
    fn from(e: StoreError) -> Self {
        Fault::Refused(e)
    }
}

/// A refusal because of the state that something is in.
pub(super) fn conflict<T>(why: impl Into<String>) -> Ran<T> {
    Err(Fault::Refused(StoreError::Conflict(why.into())))
}

/// A refusal because it is not there.
pub(super) fn not_found<T>() -> Ran<T> {
    Err(Fault::Refused(StoreError::NotFound))
}

impl Fault {
    /// Whether the whole transaction is in doubt, not only this command.
    pub(super) fn is_of_the_database(&self) -> bool {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed, NotADatabase,
            OutOfMemory, ReadOnly, SystemIoFailure,
        };
        match self {
            Fault::Refused(_) => false,
            Fault::Sql(e) => matches!(
                e.sqlite_error_code(),
                Some(
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseCorrupt
                        | DatabaseLocked
                        | DiskFull
                        | FileLockingProtocolFailed
                        | NotADatabase
                        | OutOfMemory
                        | ReadOnly
                        | SystemIoFailure
                )
            ),
        }
    }

    /// The same for a caller.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Fault::Refused(e) => e,
            Fault::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                StoreError::Conflict("this id exists already".into())
            }
            Fault::Sql(e) => StoreError::Unavailable(sentence(&e)),
        }
    }
}

/// What an error of SQLite's means, for a person.
pub(super) fn sentence(e: &rusqlite::Error) -> String {
    let plain = match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "the database is read-only",
        Some(ErrorCode::SystemIoFailure) => "the disk failed",
        Some(ErrorCode::CannotOpen) => "the database file can't be opened",
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged",
        Some(ErrorCode::NotADatabase) => "the file is not a database, or its head is damaged",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds the database",
        Some(ErrorCode::OutOfMemory) => "memory ran out",
        Some(ErrorCode::TooBig) => "the text is larger than the database takes",
        _ => return format!("SQLite: {e}"),
    };
    match e.sqlite_extended_error_code() {
        Some(code) => format!("{plain} (SQLite code {code})"),
        None => plain.to_string(),
    }
}

/// Changes of the counts that [`crate::store::Depths`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deltas {
    pub(super) queued: i64,
    pub(super) running: i64,
    pub(super) waiting: i64,
    /// Of the queued ones, those that are urgent.
    pub(super) urgent: i64,
    pub(super) pending: i64,
    pub(super) unacknowledged: i64,
}

impl AddAssign for Deltas {
    fn add_assign(&mut self, other: Self) {
        self.queued += other.queued;
        self.running += other.running;
        self.waiting += other.waiting;
        self.urgent += other.urgent;
        self.pending += other.pending;
        self.unacknowledged += other.unacknowledged;
    }
}

/// A connection inside a transaction.
pub(super) struct Sql<'c> {
    conn: &'c Connection,
    clock: &'c Clock,
    deltas: Cell<Deltas>,
    erased: Cell<bool>,
}

impl<'c> Sql<'c> {
    /// Wraps a connection whose transaction the caller holds.
    pub(super) fn new(conn: &'c Connection, clock: &'c Clock) -> Self {
        Sql { conn, clock, deltas: Cell::default(), erased: Cell::default() }
    }

    /// Runs a statement; gives the rows it changed.
    pub(super) fn exec(&self, sql: &str, params: impl Params) -> Ran<usize> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)?)
    }

    /// Runs an insertion; gives the row's number.
    pub(super) fn insert(&self, sql: &str, params: impl Params) -> Ran<i64> {
        Ok(self.conn.prepare_cached(sql)?.insert(params)?)
    }

    /// The first row, if there is one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Ran<Option<T>> {
        Ok(self.conn.prepare_cached(sql)?.query_row(params, map).optional()?)
    }

    /// All rows: the statement bounds them.
    pub(super) fn all<T>(&self, sql: &str, params: impl Params, map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Ran<Vec<T>> {
        Ok(self.conn.prepare_cached(sql)?.query_map(params, map)?.collect::<rusqlite::Result<_>>()?)
    }

    /// This boot of the machine, as [`Clock::boot`] says it.
    pub(super) fn boot(&self) -> String {
        self.clock.boot()
    }

    /// The wall clock, in ms since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    /// The day by the wall clock in UTC: days since 1970.
    pub(super) fn today(&self) -> i64 {
        self.now_ms().div_euclid(24 * 3_600_000)
    }

    /// Both clocks.
    pub(super) fn clock(&self) -> &Clock {
        self.clock
    }

    /// Changes counts, once this command is committed.
    pub(super) fn count(&self, change: impl FnOnce(&mut Deltas)) {
        let mut deltas = self.deltas.get();
        change(&mut deltas);
        self.deltas.set(deltas);
    }

    /// Takes what was counted since the last call.
    pub(super) fn take_deltas(&self) -> Deltas {
        self.deltas.take()
    }

    /// Asks that the log is emptied after the commit: texts were erased, and it still holds them.
    pub(super) fn erase_log(&self) {
        self.erased.set(true);
    }

    /// Whether a command erased texts.
    pub(super) fn has_erased(&self) -> bool {
        self.erased.get()
    }
}

/// A 63-bit key of several texts. Two keys meet by chance once in some billion pairs of a million each; whoever uses it says
/// what that would do.
pub(super) fn key63(parts: &[&str]) -> i64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let digest = digest.finalize();
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_le_bytes(first) & i64::MAX
}
