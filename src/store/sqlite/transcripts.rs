//! The removal of whole messages that ended: with their replies, what was sent of those, their files and approvals.
//!
//! Invariant: only messages that were answered or cancelled go, and only where all that answers them was sent; a turn goes as a whole, the
//! oldest first. Where a repeat of a message must still be known, its row stays without its texts (a tombstone), out of every
//! transcript, until that is over. The newest row stays: its number must not be given out twice. Fails as any command does.

use crate::domain::MessageState;
use crate::store::sqlite::inbox::state_number;
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::{attachments, prune};

/// Messages looked at in one step.
const STEP: i64 = 100;
/// Bytes of texts that one step takes away, and what its last message has beyond: their pages are overwritten, which takes its time.
const STEP_BYTES: i64 = 128 * 1024;
/// Sessions looked at in one step.
const SESSIONS: i64 = 500;

/// What one step removed.
#[derive(Debug, Default)]
pub(super) struct Shed {
    /// Messages and deliveries that went or became tombstones.
    pub(super) gone: u64,
    /// Bytes of their texts.
    pub(super) bytes: i64,
    /// Where the next step goes on; `None` where there is nothing beyond.
    pub(super) next: Option<i64>,
    /// Files that nothing names any more.
    pub(super) files: Vec<String>,
}

struct Row {
    seq: i64,
    session: i64,
    turn: Option<i64>,
    state: i64,
    received_ms: i64,
    ended_ms: i64,
    /// Bytes of its texts; 0 of a tombstone.
    bytes: i64,
    has_outside_id: bool,
}

const ROWS: &str = "SELECT e.seq, e.session, e.turn, e.state, i.received_ms, e.ended_ms, octet_length(i.text)
        + octet_length(coalesce(i.metadata, '')) + octet_length(e.text) + octet_length(e.journal), i.external_id IS NOT NULL
    FROM ended e CROSS JOIN inbox i ON i.seq = e.seq";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: row.get(0)?,
        session: row.get(1)?,
        turn: row.get(2)?,
        state: row.get(3)?,
        received_ms: row.get(4)?,
        ended_ms: row.get(5)?,
        bytes: row.get(6)?,
        has_outside_id: row.get(7)?,
    })
}

/// The numbers up to which something is settled.
struct Marks {
    /// Outside ids up to this message are forgotten.
    deduped: i64,
    /// The newest message.
    newest: i64,
    /// There may be tombstones up to this message.
    shed: i64,
}

fn marks(sql: &Sql<'_>) -> Ran<Marks> {
    let meta = |key: &str| Ran::Ok(sql.one("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))?.unwrap_or(0));
    let newest = sql.one("SELECT max(seq) FROM inbox", (), |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0);
    Ok(Marks { deduped: meta("deduped")?, newest, shed: meta("shed")? })
}

/// Looks at the oldest messages beyond `from` and removes those that ended before `cutoff`, and tombstones that nothing needs any more.
pub(super) fn shed(sql: &Sql<'_>, from: i64, cutoff: i64) -> Ran<Shed> {
    let marks = marks(sql)?;
    let rows = sql.all(&format!("{ROWS} WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?2"), [from, STEP], read)?;
    let mut done = Shed { next: (rows.len() as i64 == STEP).then(|| rows[rows.len() - 1].seq), ..Shed::default() };
    let mut last = 0;
    for row in rows {
        // Numbers are given out in the order of arrival: nothing beyond is old, nor a tombstone.
        if row.received_ms >= cutoff && row.seq > marks.shed {
            done.next = None;
            break;
        }
        if is_tombstone(&row) {
            if row.seq <= marks.deduped && row.seq < marks.newest {
                remove(sql, row.seq)?;
                done.gone += 1;
            }
            continue;
        }
        let seq = row.seq;
        for row in whole_turn(sql, row, cutoff)? {
            last = last.max(row.seq);
            done.gone += 1;
            done.bytes += row.bytes;
            forget(sql, &row, &marks, &mut done.files)?;
        }
        if done.bytes >= STEP_BYTES {
            done.next = Some(seq);
            break;
        }
    }
    if last > marks.shed {
        sql.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('shed', ?1)", [last])?;
    }
    Ok(done)
}

fn is_tombstone(row: &Row) -> bool {
    row.bytes == 0 && row.turn.is_none()
}

fn is_settled(row: &Row) -> bool {
    [MessageState::Answered, MessageState::Cancelled].map(state_number).contains(&row.state)
}

/// The turn of that message, if all of it may go.
fn whole_turn(sql: &Sql<'_>, row: Row, cutoff: i64) -> Ran<Vec<Row>> {
    let rows = match row.turn {
        Some(turn) => sql.all(&format!("{ROWS} WHERE e.session = ?1 AND e.turn = ?2"), [row.session, turn], read)?,
        None => vec![row],
    };
    for row in &rows {
        let unsent = "SELECT 1 FROM outbox o WHERE o.reply_to = ?1
             AND (EXISTS (SELECT 1 FROM pending p WHERE p.handoff = o.handoff AND p.target = o.target AND p.seq = o.seq)
                OR EXISTS (SELECT 1 FROM dead d WHERE d.seq = o.seq)) LIMIT 1";
        if !is_settled(row) || row.ended_ms >= cutoff || sql.one(unsent, [row.seq], |_| Ok(()))?.is_some() {
            return Ok(Vec::new());
        }
    }
    Ok(rows)
}

fn forget(sql: &Sql<'_>, row: &Row, marks: &Marks, files: &mut Vec<String>) -> Ran<()> {
    files.extend(attachments::erase(sql, row.seq)?);
    for seq in sql.all("SELECT seq FROM outbox WHERE reply_to = ?1", [row.seq], |row| row.get::<_, i64>(0))? {
        prune::forget_sent(sql, seq)?;
    }
    sql.exec("DELETE FROM approvals WHERE seq = ?1", [row.seq])?;
    let is_known = row.has_outside_id && row.seq > marks.deduped;
    if !is_known && row.seq < marks.newest {
        return remove(sql, row.seq);
    }
    sql.exec("UPDATE inbox SET text = '', metadata = NULL WHERE seq = ?1", [row.seq])?;
    sql.exec("UPDATE ended SET text = '', journal = '', turn = NULL WHERE seq = ?1", [row.seq])?;
    Ok(())
}

fn remove(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    sql.exec("DELETE FROM inbox WHERE seq = ?1", [seq])?;
    sql.exec("DELETE FROM ended WHERE seq = ?1", [seq])?;
    Ok(())
}

/// Removes sessions beyond `from` of which no message is left. Gives how many, and where to go on.
pub(super) fn prune_sessions(sql: &Sql<'_>, from: i64) -> Ran<(u64, Option<i64>)> {
    let rows = sql.all(
        "SELECT s.n, s.state < 2 AND s.n < (SELECT max(n) FROM sessions)
            AND NOT EXISTS (SELECT 1 FROM ended e WHERE e.session = s.n) AND NOT EXISTS (SELECT 1 FROM work w WHERE w.session = s.n)
         FROM sessions s WHERE s.n > ?1 ORDER BY s.n LIMIT ?2",
        [from, SESSIONS],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
    )?;
    let next = (rows.len() as i64 == SESSIONS).then(|| rows[rows.len() - 1].0);
    let mut gone = 0;
    for (n, _) in rows.iter().filter(|(_, is_empty)| *is_empty) {
        sql.exec("DELETE FROM summaries WHERE session = ?1", [n])?;
        sql.exec("DELETE FROM uses WHERE session = ?1", [n])?;
        sql.exec("DELETE FROM sessions WHERE n = ?1", [n])?;
        gone += 1;
    }
    Ok((gone, next))
}
