//! How large all is that the store keeps, how it is held below its bound, and what is given back while nothing is to be done.
//!
//! Invariant: what counts is the database without its free pages, its log, and the attachments. Room is made before the bound is reached, by
//! removing the oldest that is settled; what is still to be answered, delivered or decided never goes, so that there may be none to be made.
//! At rest nothing is written: pages and the log are given back once after a burst. Fails as any command does.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::base::live::Live;
use crate::config::Retention;
use crate::store::sqlite::place::beside;
use crate::store::sqlite::prune::{self, Old, Weighed};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::transcripts::{self, Shed};
use crate::store::sqlite::writer::Item;
use crate::store::sqlite::{SqliteStore, attachments, schema};
use crate::store::{Result, Space, Upkeep};

/// How long nothing must have been written before something is given back.
const QUIET: Duration = Duration::from_secs(10);
/// Free bytes of the database that are not worth giving back.
const FREE_FEW: u64 = 1 << 20;
/// Pages given back at a time: 64 KiB.
const PAGES: u32 = 128;
/// Steps of that in one go.
const STEPS: u32 = 16;
/// A database made without a list of what its pages are for gets one while it is this small: it is written anew for that.
const ANEW_MAX: u64 = 4 << 20;
/// Where a step goes on that is through with the messages, and not with what was sent.
const BEYOND: i64 = i64::MAX - 1;
/// Rows of the outbox looked at beside a step of messages.
const SENT: i64 = 100;

/// The sizes as they were last seen, and what is to be kept.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) keep: Live<Retention>,
    /// Bytes of the database's pages that are in use, and of those that are free.
    used: AtomicU64,
    free: AtomicU64,
    log: AtomicU64,
    files: AtomicU64,
    /// Whether the database lists what its pages are for, so that free ones can be given back.
    listed: AtomicU64,
    /// When something was last written, in ms of the monotonic clock.
    wrote_ms: AtomicU64,
    /// The message behind which making room goes on.
    shed_from: AtomicI64,
    /// The newest row of each kind at which it was weighed and found light enough.
    weighed: [AtomicI64; 3],
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            keep: Live::new(Retention::default()),
            used: AtomicU64::default(),
            free: AtomicU64::default(),
            log: AtomicU64::default(),
            files: AtomicU64::default(),
            listed: AtomicU64::default(),
            wrote_ms: AtomicU64::default(),
            shed_from: AtomicI64::default(),
            weighed: Default::default(),
        }
    }
}

impl Meter {
    /// Takes the sizes of the database and its log.
    pub(super) fn sample(&self, conn: &Connection, path: &Path) -> Ran<()> {
        let pragma = |name: &str| Ran::Ok(conn.prepare_cached(name)?.query_row([], |row| row.get::<_, i64>(0))?.max(0) as u64);
        let (pages, free) = (pragma("PRAGMA page_count")?, pragma("PRAGMA freelist_count")?);
        let size = pragma("PRAGMA page_size")?;
        self.listed.store(pragma("PRAGMA auto_vacuum")?, Ordering::Relaxed);
        self.used.store(pages.saturating_sub(free) * size, Ordering::Relaxed);
        self.free.store(free * size, Ordering::Relaxed);
        let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |file| file.len());
        self.log.store(log, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the bytes of all attachments.
    pub(super) fn set_files(&self, bytes: i64) {
        self.files.store(bytes.max(0) as u64, Ordering::Relaxed);
    }

    /// Something was written.
    pub(super) fn wrote(&self, now: Duration) {
        self.wrote_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    fn is_quiet(&self, now: Duration) -> bool {
        now.saturating_sub(Duration::from_millis(self.wrote_ms.load(Ordering::Relaxed))) >= QUIET
    }

    /// What is counted, and the bound on it.
    pub(super) fn space(&self) -> Space {
        let [used, log, files] = [&self.used, &self.log, &self.files].map(|size| size.load(Ordering::Relaxed));
        // What the log has beyond that, removing rows would only make longer: it is cut at rest.
        Space { used: used + log.min(schema::LOG_BYTES_KEPT) + files, max: self.keep.get().max_bytes }
    }

    /// Whether more than a quarter of the database is free, and worth the writing.
    fn has_slack(&self) -> bool {
        let (used, free) = (self.used.load(Ordering::Relaxed), self.free.load(Ordering::Relaxed));
        free > FREE_FEW && free > used / 3
    }

    /// Whether the log is longer than it is kept.
    fn has_long_log(&self) -> bool {
        self.log.load(Ordering::Relaxed) > schema::LOG_BYTES_KEPT
    }
}

impl Upkeep for SqliteStore {
    fn keep(&self, retention: Retention) {
        self.shared.meter.keep.set(retention);
    }

    fn prune(&self) -> Result<u64> {
        let keep = *self.shared.meter.keep.get();
        let mut gone = 0;
        for old in Old::ALL {
            let mut more = true;
            while more {
                let step;
                (step, more) = self.write(true, move |sql| prune::prune(sql, old, &keep))?;
                gone += step;
            }
        }
        let max_age = keep.transcripts.max_age;
        gone += self.shed(0, i64::MAX, move |sql| prune::before(sql, max_age))?.0;
        for (kind, seen) in Weighed::ALL.into_iter().zip(&self.shared.meter.weighed) {
            gone += self.lighten(kind, &keep, seen)?;
        }
        gone += self.drop_files(&keep)?;
        self.drop_sessions(gone > 0)?;
        Ok(gone)
    }

    fn make_room(&self) -> Result<u64> {
        let meter = &self.shared.meter;
        let (mut gone, mut from) = (0, Some(meter.shed_from.load(Ordering::Relaxed)));
        while let Some(at) = from
            && meter.space().is_above_aim()
        {
            let step = self.step(at, |_| i64::MAX, true)?;
            gone += step.gone;
            from = step.next;
            meter.shed_from.store(step.next.filter(|at| *at < BEYOND).unwrap_or(0), Ordering::Relaxed);
        }
        self.drop_sessions(gone > 0)?;
        Ok(gone)
    }

    fn space(&self) -> Space {
        self.shared.meter.space()
    }

    fn tidy(&self) {
        let meter = &self.shared.meter;
        if meter.is_quiet(self.shared.clock.mono()) && (meter.has_slack() || meter.has_long_log()) {
            self.nudge(Item::Tidy);
        }
    }

    fn shrink(&self) {
        self.readers.rest();
        self.nudge(Item::Shrink);
    }
}

impl SqliteStore {
    /// Removes messages beyond `from` that ended before `cutoff`, until `enough` bytes of texts went. Gives how many messages, and bytes.
    fn shed(&self, from: i64, enough: i64, cutoff: impl Fn(&Sql<'_>) -> i64 + Clone + Send + 'static) -> Result<(u64, i64)> {
        let (mut gone, mut bytes, mut next) = (0, 0, Some(from));
        while let Some(at) = next.filter(|_| bytes < enough) {
            let step = self.step(at, cutoff.clone(), false)?;
            (gone, bytes, next) = (gone + step.gone, bytes + step.bytes, step.next);
        }
        Ok((gone, bytes))
    }

    /// One step of it. `with_sent`: the same share of what was sent unasked.
    fn step(&self, from: i64, cutoff: impl Fn(&Sql<'_>) -> i64 + Send + 'static, with_sent: bool) -> Result<Shed> {
        let work = move |sql: &Sql<'_>| {
            let mut step = transcripts::shed(sql, from, cutoff(sql))?;
            if with_sent {
                let (sent, bytes) = prune::prune_sent(sql, i64::MAX, SENT)?;
                (step.gone, step.bytes) = (step.gone + sent as u64, step.bytes + bytes);
                if sent as i64 == SENT {
                    step.next = step.next.or(Some(BEYOND));
                }
            }
            Ok((step, attachments::kept_bytes(sql)?))
        };
        let after = |shared: &Shared, outcome: &Result<(Shed, i64)>| {
            if let Ok((step, kept)) = outcome {
                shared.files.remove_all(&step.files);
                shared.meter.set_files(*kept);
            }
        };
        self.ask(true, work, after, |_, _| {}).map(|(step, _)| step)
    }

    /// Holds one kind to its bytes. It is weighed only where rows were added since it was last found light enough.
    fn lighten(&self, kind: Weighed, keep: &Retention, seen: &AtomicI64) -> Result<u64> {
        let Some(max) = kind.kept(keep).max_bytes else { return Ok(0) };
        let (mut from, mut bytes) = (0, 0);
        let newest = self.read(|sql| prune::newest(sql, kind))?;
        if newest == seen.load(Ordering::Relaxed) {
            return Ok(0);
        }
        loop {
            let (rows, last, some) = self.read(|sql| prune::weigh(sql, kind, from))?;
            (from, bytes) = (last, bytes + some);
            if rows == 0 {
                break;
            }
        }
        let mut excess = bytes - i64::try_from(max).unwrap_or(i64::MAX);
        let mut gone = 0;
        while excess > 0 {
            let (rows, some) = match kind {
                Weighed::Transcripts => self.shed(0, excess, |_| i64::MAX)?,
                Weighed::Outbox => self.write(true, |sql| prune::prune_sent(sql, i64::MAX, SENT)).map(|(n, b)| (n as u64, b))?,
                Weighed::Audit => self.write(true, move |sql| prune::lighten_audit(sql, excess)).map(|(n, b)| (n as u64, b))?,
            };
            (gone, excess) = (gone + rows, excess - some);
            if rows == 0 || matches!(kind, Weighed::Transcripts) {
                break;
            }
        }
        if excess <= 0 {
            seen.store(newest, Ordering::Relaxed);
        }
        Ok(gone)
    }

    /// Removes files that are too old, or too many.
    fn drop_files(&self, keep: &Retention) -> Result<u64> {
        let keep = *keep;
        let after = |shared: &Shared, outcome: &Result<(Vec<String>, i64)>| {
            if let Ok((files, kept)) = outcome {
                shared.files.remove_all(files);
                shared.meter.set_files(*kept);
            }
        };
        let work = move |sql: &Sql<'_>| Ok((attachments::prune(sql, &keep)?, attachments::kept_bytes(sql)?));
        let mut gone = 0;
        loop {
            let (files, _) = self.ask(true, work, after, |_, _| {})?;
            gone += files.len() as u64;
            if files.is_empty() {
                return Ok(gone);
            }
        }
    }

    fn drop_sessions(&self, may_be_empty: bool) -> Result<()> {
        let mut next = may_be_empty.then_some(0);
        while let Some(from) = next {
            (_, next) = self.write(true, move |sql| transcripts::prune_sessions(sql, from))?;
        }
        Ok(())
    }

    /// A full queue has something better to do.
    fn nudge(&self, item: Item) {
        if let Some(queue) = self.queue.as_ref().filter(|_| !self.shared.is_closed()) {
            let _ = queue.try_send(item);
        }
    }
}

/// Gives back what a burst left, as long as `goes_on`. Each step is a transaction of its own.
pub(super) fn tidy(conn: &Connection, shared: &Shared, path: &Path, goes_on: impl Fn() -> bool) -> Ran<()> {
    let meter = &shared.meter;
    if meter.has_slack() && meter.listed.load(Ordering::Relaxed) == 0 {
        if meter.used.load(Ordering::Relaxed) > ANEW_MAX {
            meter.free.store(0, Ordering::Relaxed); // its free pages are used again, and that is all
        } else {
            conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
        }
    }
    for _ in 0..STEPS {
        if !meter.has_slack() || !goes_on() {
            break;
        }
        // It gives back a page a row.
        let mut vacuum = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        meter.sample(conn, path)?;
    }
    if goes_on() && (meter.has_long_log() || !meter.has_slack()) {
        cut_log(conn)?;
    }
    meter.sample(conn, path)
}

/// Carries the log over and empties it, without waiting for those that read (a backup, say).
fn cut_log(conn: &Connection) -> Ran<()> {
    conn.busy_timeout(Duration::ZERO)?;
    let cut = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    conn.busy_timeout(schema::BUSY_WAIT)?;
    Ok(cut?)
}
