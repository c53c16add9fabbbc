//! A copy of the database while a gateway uses it, and what is done to one before it takes the place of another.
//!
//! Invariant: a copy is the state at one moment (one read transaction), is checked whole, and is a single file of mode 0600. Of a copy that
//! takes another's place, nothing is sent or answered by itself: what waited when it was made may have been settled since, so it
//! becomes `unknown` (deliveries) or `failed` (messages), for a person to look at and retry. Fails with a sentence; what was there
//! before is then as it was.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::domain::{JobRun, MessageState};
use crate::store::sqlite::sql::{Fault, Ran, Sql};
use crate::store::sqlite::turns::{self, Ending};
use crate::store::sqlite::{attachments, audit, cannot_open, files, jobs, outbox, place, schema};
use crate::store::{AuditEntry, StoreError};

/// Pages that are copied between two reports: 2 MiB.
const PAGES: i32 = 4_096;
/// Times in a row that the source may be busy, each after SQLite's own patience of 5 s.
const BUSY_MAX: u32 = 12;
/// Complaints of SQLite's that are told.
const COMPLAINTS: usize = 5;

/// What a restored copy no longer does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldBack {
    /// Deliveries that waited: now `unknown`.
    pub deliveries: u64,
    /// Messages that waited for their answer: now `failed`.
    pub messages: u64,
    /// Jobs whose time came between the copy and now: they wait for their next one.
    pub jobs: u64,
}

/// The lock of a database, as a gateway holds it; held as long as this is there.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of the database at `path`; its folder is made where it is missing.
///
/// # Errors
/// Where a gateway holds it, or the folder can't be written.
pub fn lock(path: &Path) -> Result<Lock> {
    place::prepare_folder(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    place::lock(path).map(|file| Lock { _file: file })
}

/// The process that uses the database at `path`, as it says itself in the lock; `None` where nobody holds the lock.
pub fn user_of(path: &Path) -> Option<u32> {
    let path = place::beside(path, ".lock");
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => std::fs::read_to_string(&path).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// The files that belong to the database at `path` beside it: its log, that log's index, its lock.
pub fn companions(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", ".lock"].map(|suffix| place::beside(path, suffix))
}

/// A file of an attachment that a row names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name in [`attachments_folder`].
    pub name: String,
    /// Its length, as it was kept.
    pub bytes: u64,
}

/// Where the files of the attachments of the database at `path` are; not there before the first one is kept.
pub fn attachments_folder(path: &Path) -> PathBuf {
    files::folder_of(path)
}

/// The files that the database at `path` names, of which some may be gone; as many as the store keeps, at most, and none whose name is not
/// of the store's making.
///
/// # Errors
/// Where it can't be opened or read.
pub fn attachments(path: &Path) -> Result<Vec<Named>> {
    let named = schema::open_reader(path).and_then(|conn| {
        schema::recognize(&conn, schema::MIGRATIONS.len())?;
        // A database of an older version may know of none yet.
        let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'attachments'";
        if conn.query_row(known, (), |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Vec::new());
        }
        let mut statement = conn.prepare("SELECT file, bytes FROM attachments WHERE file IS NOT NULL ORDER BY file LIMIT ?1")?;
        let found = statement.query_map([attachments::KEPT_MAX], |row| {
            let bytes = row.get::<_, Option<i64>>(1)?.and_then(|b| u64::try_from(b).ok()).unwrap_or(0);
            Ok(Named { name: row.get(0)?, bytes })
        })?;
        Ok(found.collect::<rusqlite::Result<Vec<_>>>()?)
    });
    let named = named.map_err(|fault| cannot_open(path, &fault))?;
    Ok(named.into_iter().filter(|file| files::is_ours(&file.name)).collect())
}

/// Copies the database at `source`, which a gateway may be using, to the new file `target`, and checks the copy. `report` is told how
/// many of how many bytes are copied.
///
/// # Errors
/// Where one of them can't be opened, the disk is full, or the copy is not whole.
pub fn copy(source: &Path, target: &Path, report: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let opened = schema::open_reader(source).and_then(|conn| {
        schema::recognize(&conn, schema::MIGRATIONS.len())?;
        // One transaction around all steps: what is committed meanwhile does not send us back to the beginning.
        conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
        Ok(conn)
    });
    let from = opened.map_err(|fault| cannot_open(source, &fault))?;
    place::prepare_file(target)?;
    copy_pages(&from, target, report).map_err(|fault| failed(target, &fault))?;
    check(target)?;
    File::open(target)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::new(ErrorKind::Transient, format!("the copy {} can't be written to the disk: {e}", target.display())))
}

fn copy_pages(from: &Connection, target: &Path, report: &mut dyn FnMut(u64, u64)) -> Ran<()> {
    let mut to = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    to.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -256;")?; // it is synced once, at the end
    let page: i64 = from.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let bytes = |pages: i32| u64::try_from(i64::from(pages) * page).unwrap_or(0);
    {
        let backup = Backup::new(from, &mut to)?;
        let mut busy = 0;
        loop {
            let step = backup.step(PAGES)?;
            let progress = backup.progress();
            report(bytes(progress.pagecount - progress.remaining), bytes(progress.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => busy = 0,
                _ if busy < BUSY_MAX => busy += 1,
                _ => return Err(Fault::Refused(StoreError::Busy)),
            }
        }
    }
    // One file, whose log is in it.
    to.execute_batch("PRAGMA journal_mode = DELETE;")?;
    Ok(())
}

fn failed(target: &Path, fault: &Fault) -> Error {
    let why = match fault {
        Fault::Sql(e) => crate::store::sqlite::sql::sentence(e),
        Fault::Refused(e) => e.to_string(),
    };
    Error::new(ErrorKind::Transient, format!("{} can't be written: {why}", target.display()))
}

/// Looks through the whole database at `path` for damage; one in use, too.
///
/// # Errors
/// Where it can't be opened, or is damaged.
pub fn check(path: &Path) -> Result<()> {
    let complaints = schema::open_reader(path).and_then(|conn| {
        schema::recognize(&conn, schema::MIGRATIONS.len())?;
        let mut statement = conn.prepare("PRAGMA integrity_check")?;
        let found = statement.query_map([], |row| row.get::<_, String>(0))?.take(COMPLAINTS);
        Ok(found.collect::<rusqlite::Result<Vec<_>>>()?)
    });
    match complaints.map_err(|fault| cannot_open(path, &fault))? {
        fine if fine == ["ok"] => Ok(()),
        complaints => Err(Error::new(
            ErrorKind::Permanent,
            format!("the database {} is damaged: {}", path.display(), complaints.join("; ")),
        )
        .hint("restore a backup")),
    }
}

/// Makes the copy at `path` fit to take another database's place: brings it to this version, and holds back what may have been settled
/// since it was made. `made` is that moment for a person; `goes_on` tells of a channel's name whether its service gives by itself only what
/// was not confirmed to it, so that its cursor may stay.
///
/// # Errors
/// Where it can't be opened or written.
pub fn hold_back(path: &Path, clock: &Clock, made: &str, goes_on: &dyn Fn(&str) -> bool) -> Result<HeldBack> {
    let done = schema::open_writer(path).and_then(|conn| {
        schema::migrate(&conn, schema::MIGRATIONS)?;
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let held = hold_all(&Sql::new(&conn, clock), made, goes_on);
        conn.execute_batch(if held.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        conn.execute_batch("PRAGMA journal_mode = DELETE;")?;
        held
    });
    let held = done.map_err(|fault| cannot_open(path, &fault))?;
    File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::new(ErrorKind::Transient, format!("{} can't be written to the disk: {e}", path.display())))?;
    Ok(held)
}

fn hold_all(sql: &Sql<'_>, made: &str, goes_on: &dyn Fn(&str) -> bool) -> Ran<HeldBack> {
    let mut held = HeldBack::default();
    let waiting = sql.all("SELECT handoff, target, seq, attempts FROM pending", (), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    })?;
    let why = format!("it waited in the backup of {made} that was restored, and may have been delivered since");
    for (handoff, target, seq, attempts) in waiting {
        outbox::bury(sql, handoff, target, seq, true, attempts, &why)?;
        held.deliveries += 1;
    }
    // What joined another's turn ends with it.
    let heads = "SELECT session, seq FROM work WHERE NOT EXISTS (SELECT 1 FROM bundled b WHERE b.seq = work.seq)";
    let why = format!("it waited in the backup of {made} that was restored, and may have been answered since");
    for (session, seq) in sql.all(heads, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))? {
        turns::end(sql, session, seq, Ending::without(MessageState::Failed, &why, &[]))?;
        held.messages += 1;
    }
    // Where each channel was then is not where it is now: reading on from there would answer again what was answered since.
    for channel in sql.all("SELECT name FROM cursors", (), |row| row.get::<_, String>(0))?.iter().filter(|c| !goes_on(c)) {
        sql.exec("DELETE FROM cursors WHERE name = ?1", [channel])?;
    }
    let now_ms = sql.now_ms();
    let due = sql.all("SELECT id, next_ms FROM jobs WHERE enabled = 1 AND next_ms <= ?1", [now_ms], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    for (job_id, due_ms) in due {
        let detail = format!("its time came after the backup of {made} that was restored; it may have run");
        let run = JobRun { job_id, due_ms, at_ms: now_ms, outcome: "skipped".into(), detail };
        jobs::record(sql, &run, None)?;
        held.jobs += 1;
    }
    sql.exec("DELETE FROM meta WHERE key = 'running'", ())?; // nobody died: the copy was made of one that ran
    let detail = serde_json::json!({"madeAt": made, "heldBack": held});
    audit::add(sql, &AuditEntry { at_ms: now_ms, actor: "command line".into(), action: "store.restored".into(), detail })?;
    Ok(held)
}
