//! What a command sees of the database: cached statements, the clock, and the counts that it changes.
//!
//! Invariant: no statement is prepared twice on a connection; counts reach the rest of the store only after the commit.
//! Fails with [`Fault`], which keeps apart what is wrong with the one command and what is wrong with the database.

use std::cell::{Cell, RefCell};
use std::ops::AddAssign;

use rusqlite::{Connection, ErrorCode, Row, ToSql};
use sha2::{Digest, Sha256};

use crate::base::clock::Clock;
use crate::store::StoreError;
use crate::store::sqlite::recent::Use;

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
    uses: RefCell<Vec<Use>>,
}

impl<'c> Sql<'c> {
    /// Wraps a connection whose transaction the caller holds.
    pub(super) fn new(conn: &'c Connection, clock: &'c Clock) -> Self {
        Sql { conn, clock, deltas: Cell::default(), erased: Cell::default(), uses: RefCell::default() }
    }

    /// Runs a statement; gives the rows it changed.
    pub(super) fn exec(&self, sql: &str, params: impl Binds) -> Ran<usize> {
        params.bound(|params| self.change(sql, params))
    }

    /// Runs an insertion; gives the row's number.
    pub(super) fn insert(&self, sql: &str, params: impl Binds) -> Ran<i64> {
        match params.bound(|params| self.change(sql, params))? {
            1 => Ok(self.conn.last_insert_rowid()),
            rows => Err(rusqlite::Error::StatementChangedRows(rows).into()),
        }
    }

    /// The first row, if there is one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Binds,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Ran<Option<T>> {
        let (mut map, mut found) = (Some(map), None);
        let mut take = |row: &Row<'_>| {
            found = map.take().map(|map| map(row)).transpose()?;
            Ok(false)
        };
        params.bound(|params| self.visit(sql, params, &mut take))?;
        Ok(found)
    }

    /// All rows: the statement bounds them.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Binds,
        mut map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Ran<Vec<T>> {
        let mut found = Vec::new();
        let mut take = |row: &Row<'_>| {
            found.push(map(row)?);
            Ok(true)
        };
        params.bound(|params| self.visit(sql, params, &mut take))?;
        Ok(found)
    }

    /// What all statements that change something share. Not generic, as [`Sql::visit`]: each of some hundred calls would be a copy.
    fn change(&self, sql: &str, params: &[&dyn ToSql]) -> Ran<usize> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)?)
    }

    /// Shows rows until one is the last that is wanted.
    fn visit(&self, sql: &str, params: &[&dyn ToSql], take: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<bool>) -> Ran<()> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            if !take(row)? {
                break;
            }
        }
        Ok(())
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

    /// Notes that a session is used now: [`Sql::take_uses`].
    pub(super) fn uses(&self, session: i64, at_ms: i64) {
        self.uses.borrow_mut().push((session, at_ms));
    }

    /// Takes which sessions were used since the last call.
    pub(super) fn take_uses(&self) -> Vec<Use> {
        self.uses.take()
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

/// What stands in a statement's places, in their order: nothing, an array, or a tuple.
pub(super) trait Binds {
    /// Calls `run` with them.
    fn bound<R>(&self, run: impl FnOnce(&[&dyn ToSql]) -> R) -> R;
}

impl Binds for () {
    fn bound<R>(&self, run: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        run(&[])
    }
}

impl<T: ToSql, const N: usize> Binds for [T; N] {
    fn bound<R>(&self, run: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        run(&self.each_ref().map(|value| value as &dyn ToSql))
    }
}

impl Binds for &[&dyn ToSql] {
    fn bound<R>(&self, run: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
        run(self)
    }
}

macro_rules! tuple {
    ($($value:ident)+) => {
        impl<$($value: ToSql),+> Binds for ($($value,)+) {
            fn bound<Z>(&self, run: impl FnOnce(&[&dyn ToSql]) -> Z) -> Z {
                #[allow(non_snake_case)]
                let ($($value,)+) = self;
                run(&[$($value),+])
            }
        }
    };
}
tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
tuple!(A B C D E F G);
tuple!(A B C D E F G H);
tuple!(A B C D E F G H I);
tuple!(A B C D E F G H I J);
tuple!(A B C D E F G H I J K);
tuple!(A B C D E F G H I J K L);
tuple!(A B C D E F G H I J K L M);
tuple!(A B C D E F G H I J K L M N);

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
