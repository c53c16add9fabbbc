//! What a start puts right after the process before it, and the marks by which it knows how that one ended.
//!
//! Invariant: a turn that was running is queued again at its place; it is set aside only where its own strikes explain the
//! deaths of the process better than an outside killer or a cut of the power does. A delivery between the send and the record is sent again where
//! that is harmless, else kept as `unknown`. What waits for a decision goes on waiting. All in one transaction. Fails like any write.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::base::clock::Clock;
use crate::domain::{MessageState, StepKind};
use crate::store::Recovery;
use crate::store::sqlite::journal::Journal;
use crate::store::sqlite::outbox::{self, HANDOFF_WORKER, SENDING};
use crate::store::sqlite::ready::{Next, Ready};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Deltas, Ran, Sql};
use crate::store::sqlite::turns::{self, Ending, QUEUED, RUNNING};
use crate::store::sqlite::{approvals, pairings};

/// Strikes from which a message may be set aside.
const STRIKES_MAX: i64 = 3;
/// The same where other turns ended with it: one of them may be the reason.
const STRIKES_MAX_BESIDE: i64 = 6;
/// Unclean ends that are remembered.
const DEATHS_MAX: i64 = 100;
/// The time over which unclean ends are compared with strikes.
const DEATHS_WINDOW_MS: i64 = 3_600_000;
/// At the start, a turn or delivery put off further than this comes from a wall clock that jumped: it is due now.
const PUT_OFF_MAX: Duration = Duration::from_secs(15 * 60);
/// The same later on, when the wall clock that wrote it is likely the one that reads it.
const PUT_OFF_MAX_LATER: Duration = Duration::from_secs(2 * 3600);

/// Puts right what the former process left, and marks this one as running. It doesn't wait for the disk: the next durable
/// commit takes it along, and if it is lost before, the next start does it again.
pub(super) fn recover(conn: &Connection, clock: &Clock) -> Ran<Recovery> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let sql = Sql::new(conn, clock);
    let found = put_right(&sql);
    conn.execute_batch(if found.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    found
}

fn put_right(sql: &Sql<'_>) -> Ran<Recovery> {
    let boot = sql.boot();
    let before: Option<String> = sql.one("SELECT CAST(value AS TEXT) FROM meta WHERE key = 'running'", (), |row| row.get(0))?;
    let mut recovery = Recovery { unclean: before.is_some(), ..Recovery::default() };
    // With the machine went down whatever ran on it: no message is to blame, and a bad power supply spends nobody's patience.
    let with_the_machine = before.is_some_and(|before| !boot.is_empty() && before != boot);
    sql.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('running', ?1)", [&boot])?;
    if recovery.unclean && !with_the_machine {
        sql.exec("INSERT INTO deaths (at_ms) VALUES (?1)", [sql.now_ms()])?;
        sql.exec("DELETE FROM deaths WHERE rowid <= (SELECT max(rowid) FROM deaths) - ?1", [DEATHS_MAX])?;
    }
    put_back_turns(sql, recovery.unclean && !with_the_machine, &mut recovery)?;
    put_back_deliveries(sql, &mut recovery)?;
    Ok(recovery)
}

/// `is_strike`: whether the end of the process counts against what ran.
fn put_back_turns(sql: &Sql<'_>, is_strike: bool, recovery: &mut Recovery) -> Ran<()> {
    let deaths = sql
        .one("SELECT count(*) FROM deaths WHERE abs(at_ms - ?1) <= ?2", [sql.now_ms(), DEATHS_WINDOW_MS], |row| row.get(0))?
        .unwrap_or(0i64);
    let running = sql.all("SELECT session, seq, strikes, journal FROM work WHERE state = ?1", [RUNNING], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, Journal::new(row.get(3)?)))
    })?;
    let most = if running.len() > 1 { STRIKES_MAX_BESIDE } else { STRIKES_MAX };
    for (session, seq, strikes, mut journal) in running {
        if let Some(why) = journal.stop() {
            turns::end(sql, session, seq, Ending::without(MessageState::Cancelled, why, &[]))?;
            continue;
        }
        let strikes = strikes + i64::from(is_strike);
        let missed = (deaths - strikes).max(0);
        if strikes >= most && strikes > missed {
            let error = format!("its turn ended the process {strikes} times");
            turns::end(sql, session, seq, Ending::without(MessageState::Failed, &error, &[]))?;
            recovery.set_aside += 1;
            continue;
        }
        journal.note(StepKind::Interrupted, sql.now_ms(), "the process ended");
        sql.exec(
            "UPDATE work SET state = ?3, strikes = ?4, journal = ?5 WHERE session = ?1 AND seq = ?2",
            (session, seq, QUEUED, strikes, journal.text()),
        )?;
        recovery.resumed += 1;
    }
    Ok(())
}

fn put_back_deliveries(sql: &Sql<'_>, recovery: &mut Recovery) -> Ran<()> {
    let sending = sql.all(
        "SELECT target, seq, keyed, attempts, last_ms FROM pending WHERE handoff = ?1 AND state = ?2",
        [HANDOFF_WORKER, SENDING],
        |row| {
            let (keyed, attempts): (bool, i64) = (row.get(2)?, row.get(3)?);
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, keyed, attempts, row.get::<_, i64>(4)?))
        },
    )?;
    for (target, seq, keyed, attempts, begun_ms) in sending {
        outbox::is_unclear(sql, seq, begun_ms)?;
        if keyed {
            sql.exec("UPDATE pending SET state = 0 WHERE handoff = 0 AND target = ?1 AND seq = ?2", [target, seq])?;
            recovery.resent += 1;
        } else {
            outbox::bury(sql, HANDOFF_WORKER, target, seq, true, attempts, "the process ended while it was being sent")?;
            recovery.unknown += 1;
        }
    }
    Ok(())
}

/// Takes the mark of a running process away, in a transaction of its own.
pub(super) fn mark_closed(conn: &Connection) -> Ran<()> {
    conn.execute("DELETE FROM meta WHERE key = 'running'", ())?;
    Ok(())
}

/// Fills the counts and both indexes; once, at the start.
pub(super) fn fill(conn: &Connection, shared: &Shared) -> Ran<()> {
    let sql = Sql::new(conn, &shared.clock);
    let count = |statement: &str| Ran::Ok(sql.one(statement, (), |row| row.get(0))?.unwrap_or(0i64));
    let waiting = count("SELECT count(*) FROM work WHERE state = 2")?;
    shared.add(Deltas {
        queued: count("SELECT count(*) FROM work")? - waiting,
        running: 0,
        waiting,
        urgent: count("SELECT count(*) FROM work INDEXED BY work_urgent WHERE urgent = 1 AND state = 0")?,
        pending: count("SELECT count(*) FROM pending WHERE handoff = 0")?,
        unacknowledged: count("SELECT count(*) FROM pending WHERE handoff = 1")?,
    });
    approvals::dues(&sql)?.into_iter().for_each(|due| shared.approvals().put(due, &shared.clock));
    pairings::fill(&sql, shared)?;
    let look = Look { now: shared.clock.mono(), wall_ms: sql.now_ms(), put_off_max: PUT_OFF_MAX };
    let asked = shared.turns().refill_from(look.now);
    if let Some((from, most)) = asked {
        take_in(&mut shared.turns(), waiting_sessions(&sql, look, from, most)?);
    }
    let asked = shared.deliveries().refill_from(look.now);
    if let Some((from, most)) = asked {
        take_in(&mut shared.deliveries(), waiting_targets(&sql, look, from, most)?);
    }
    Ok(())
}

/// By which times a look at the disk tells what is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    now: Duration,
    wall_ms: i64,
    put_off_max: Duration,
}

impl Look {
    /// A look of a running store.
    pub(super) fn later(clock: &Clock) -> Self {
        Look { now: clock.mono(), wall_ms: clock.unix_ms(), put_off_max: PUT_OFF_MAX_LATER }
    }

    /// That long after this look.
    pub(super) fn after(&self, pause: Duration) -> Next {
        Next::At(self.now + pause)
    }

    /// By the wall clock, what is put off beyond the first time and up to the second is not due.
    pub(super) fn bounds_ms(&self) -> (i64, i64) {
        (self.wall_ms, self.wall_ms.saturating_add(i64::try_from(self.put_off_max.as_millis()).unwrap_or(i64::MAX)))
    }

    /// When something that was put off by the wall clock is due by the monotonic one.
    pub(super) fn next(&self, not_before_ms: i64) -> Next {
        match u64::try_from(not_before_ms.saturating_sub(self.wall_ms)).map(Duration::from_millis) {
            Ok(pause) if !pause.is_zero() && pause <= self.put_off_max => Next::At(self.now + pause),
            _ => Next::Now,
        }
    }
}

/// What a look at the disk found for an index.
pub(super) struct Found<T> {
    from: i64,
    keys: Vec<(i64, T, Next)>,
    last: i64,
    whole: bool,
}

/// Puts what was found to the index.
pub(super) fn take_in<T: Clone>(ready: &mut Ready<T>, found: Found<T>) {
    ready.refill(found.from, found.keys, found.last, found.whole);
}

/// Sessions whose oldest message is queued, beyond `from`, at most `most`: one whose head runs or waits has nothing to be taken,
/// whatever is queued behind it, and would be looked at again and again.
pub(super) fn waiting_sessions(sql: &Sql<'_>, look: Look, from: i64, most: usize) -> Ran<Found<()>> {
    let rows = sql.all(
        "SELECT session, min(seq), not_before_ms, state AS head FROM work
         WHERE session > ?1 AND NOT (urgent = 1 AND state = 1) GROUP BY session HAVING head = 0 LIMIT ?2",
        (from, most as i64),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, ())),
    )?;
    Ok(found(rows, look, from, most))
}

/// Targets with deliveries for workers, beyond `from`, at most `most`.
pub(super) fn waiting_targets(sql: &Sql<'_>, look: Look, from: i64, most: usize) -> Ran<Found<Arc<str>>> {
    let rows = sql.all(
        "SELECT p.target, p.seq, p.next_ms, o.channel FROM
            (SELECT target, min(seq) AS seq, next_ms FROM pending WHERE handoff = 0 AND target > ?1 GROUP BY target LIMIT ?2) p
            CROSS JOIN outbox o ON o.seq = p.seq",
        (from, most as i64),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, Arc::from(row.get_ref(3)?.as_str()?))),
    )?;
    Ok(found(rows, look, from, most))
}

type Head<T> = (i64, i64, i64, T);

fn found<T>(mut rows: Vec<Head<T>>, look: Look, from: i64, most: usize) -> Found<T> {
    let whole = rows.len() < most;
    let last = rows.iter().map(|row| row.0).max().unwrap_or(from);
    rows.sort_unstable_by_key(|row| row.1); // the oldest waits first in line
    let keys = rows.into_iter().map(|(key, _, not_before_ms, about)| (key, about, look.next(not_before_ms))).collect();
    Found { from, keys, last, whole }
}
