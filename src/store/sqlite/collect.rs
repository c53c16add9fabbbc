//! Messages that are answered together: what one sender wrote while the session's turn ran, or in one go, joins the turn of the
//! oldest of them.
//!
//! Invariant: only messages of one sender and one standing that follow each other directly are joined; a turn that has taken a
//! step takes no more. Who joined stands in `bundled` until the turn ends, whatever becomes of it in between, is never looked
//! at as a message of its own, and ends with its head in one transaction; of a turn that failed it stays there, so that a retry
//! is whole. Nobody waits for silence longer than [`WAIT_MAX_MS`]. Fails as any command does.

use std::time::Duration;

use crate::domain::{Collected, StepKind};
use crate::store::sqlite::journal::Journal;
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::turns::{self, Ending, QUEUED};
use crate::store::sqlite::{attachments, outbox};

/// How long a sender must have been silent before its turn begins.
const QUIET_MS: i64 = 2_000;
/// The longest that the oldest message waits for that.
const WAIT_MAX_MS: i64 = 15_000;
/// Most messages that join a turn.
const JOINED_MAX: usize = 20;
/// Most bytes of text that one turn takes by joining.
const BYTES_MAX: i64 = 32 * 1024;

/// The state of the message in `work` row `row`, as people see it: who joined a turn is where that is.
pub(super) fn state_of(row: &str) -> String {
    format!(
        "COALESCE((SELECT h.state FROM bundled b CROSS JOIN work h ON h.session = {row}.session AND h.seq = b.head
            WHERE b.seq = {row}.seq), {row}.state)"
    )
}

struct Behind {
    seq: i64,
    received_ms: i64,
    bytes: i64,
    head: Option<i64>,
    /// Whether it may be joined to the head: queued, not urgent, of the same sender and standing, its channel collects.
    fits: bool,
}

/// Joins what follows a head that is about to start. Where its sender may still be writing, nothing is joined, and it gives how
/// long to wait.
pub(super) fn gather(sql: &Sql<'_>, session: i64, seq: i64, message_id: &str) -> Ran<Option<Duration>> {
    let behind = sql.all(
        "SELECT w.seq, i.received_ms, octet_length(i.text), b.head, w.state = ?3 AND w.urgent = 0 AND w.collect = 1
            AND i.peer = h.peer AND i.standing = h.standing
         FROM work w CROSS JOIN inbox i ON i.seq = w.seq CROSS JOIN inbox h ON h.seq = ?2 LEFT JOIN bundled b ON b.seq = w.seq
         WHERE w.session = ?1 AND w.seq > ?2 ORDER BY w.seq LIMIT ?4",
        (session, seq, QUEUED, JOINED_MAX as i64 + 1),
        |row| {
            let (seq, received_ms) = (row.get(0)?, row.get(1)?);
            Ok(Behind { seq, received_ms, bytes: row.get(2)?, head: row.get(3)?, fits: row.get(4)? })
        },
    )?;
    let first_ms = sql.one("SELECT received_ms FROM inbox WHERE seq = ?1", [seq], |row| row.get::<_, i64>(0))?.unwrap_or(0);
    let (mut joined, mut bytes, mut latest_ms, mut is_open) = (Vec::new(), 0, first_ms, true);
    for (n, one) in behind.iter().enumerate() {
        let is_in = one.head == Some(seq);
        let may_join = one.fits && n < JOINED_MAX && bytes + one.bytes <= BYTES_MAX;
        if !is_in && !may_join {
            is_open = false; // nothing that comes later can join
            break;
        }
        (bytes, latest_ms) = (bytes + one.bytes, latest_ms.max(one.received_ms));
        if !is_in {
            joined.push(one.seq);
        }
    }
    // A wall clock that jumped shows times to come, or long ago: then nobody waits.
    let since = |ms: i64, most: i64| Some(sql.now_ms() - ms).filter(|age| (0..most).contains(age));
    if let (true, Some(age), Some(_)) = (is_open, since(latest_ms, QUIET_MS), since(first_ms, WAIT_MAX_MS)) {
        return Ok(Some(Duration::from_millis((QUIET_MS - age) as u64)));
    }
    for seq_joined in joined {
        join(sql, session, seq_joined, seq, message_id)?;
    }
    Ok(None)
}

fn join(sql: &Sql<'_>, session: i64, seq: i64, head: i64, message_id: &str) -> Ran<()> {
    let journal = sql.one("SELECT journal FROM work WHERE session = ?1 AND seq = ?2", [session, seq], |row| row.get(0))?;
    let mut journal = Journal::new(journal.unwrap_or_default());
    journal.note(StepKind::Started, sql.now_ms(), &format!("together with {message_id}"));
    sql.exec(
        "UPDATE work SET starts = starts + 1, journal = ?3 WHERE session = ?1 AND seq = ?2",
        (session, seq, journal.text()),
    )?;
    sql.exec("INSERT INTO bundled (seq, head) VALUES (?1, ?2)", [seq, head]).map(drop)
}

/// What joined a head's turn, in order.
pub(super) fn joined(sql: &Sql<'_>, head: i64) -> Ran<Vec<Collected>> {
    let mut joined = sql.all(
        "SELECT i.id, i.text, i.metadata, i.received_ms, i.seq FROM bundled b CROSS JOIN inbox i ON i.seq = b.seq
         WHERE b.head = ?1 ORDER BY b.seq LIMIT ?2",
        (head, JOINED_MAX as i64),
        |row| {
            let metadata = outbox::metadata(row, 2)?;
            let (message_id, text, received_ms) = (row.get(0)?, row.get(1)?, row.get(3)?);
            Ok((Collected { message_id, text, metadata, attachments: Vec::new(), received_ms }, row.get::<_, i64>(4)?))
        },
    )?;
    for (one, seq) in &mut joined {
        one.attachments = attachments::of_message(sql, *seq)?;
    }
    Ok(joined.into_iter().map(|(one, _)| one).collect())
}

/// The head whose turn a message joined; itself where it joined none.
pub(super) fn head_of(sql: &Sql<'_>, seq: i64) -> Ran<i64> {
    Ok(sql.one("SELECT head FROM bundled WHERE seq = ?1", [seq], |row| row.get(0))?.unwrap_or(seq))
}

/// The numbers of what joined a head's turn, in order.
pub(super) fn rows(sql: &Sql<'_>, head: i64) -> Ran<Vec<i64>> {
    sql.all("SELECT seq FROM bundled WHERE head = ?1 ORDER BY seq", [head], |row| row.get(0))
}

/// Ends what joined a head's turn, with it.
pub(super) fn end(sql: &Sql<'_>, session: i64, head: i64, ending: Ending<'_>) -> Ran<()> {
    let rows = rows(sql, head)?;
    if rows.is_empty() {
        return Ok(());
    }
    for seq in rows {
        turns::end(sql, session, seq, ending.of_joined())?;
    }
    if ending.is_failure() { Ok(()) } else { forget(sql, head) }
}

/// Forgets what joined a head's turn: it will not be retried.
pub(super) fn forget(sql: &Sql<'_>, head: i64) -> Ran<()> {
    sql.exec("DELETE FROM bundled WHERE head = ?1", [head]).map(drop)
}
