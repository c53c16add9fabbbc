//! What people do about messages that don't run: cancelling what waits, retrying what failed.
//!
//! Invariant: what joined a turn is neither cancelled nor retried without it. Fails as any command does.

use crate::domain::{MessageState, StepKind};
use crate::store::Withdrawn;
use crate::store::sqlite::collect;
use crate::store::sqlite::inbox::state_number;
use crate::store::sqlite::journal::Journal;
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::sqlite::turns::{self, Ending, Left, RUNNING};

/// Cancels what of a session stands before a message and does not run; urgent ones that are queued go on. What joined a
/// turn stands and falls with it. What runs is noted as to be stopped, and told.
pub(super) fn cancel_waiting(sql: &Sql<'_>, session_id: &str, message_id: Option<&str>, reason: &str) -> Ran<(Withdrawn, Left)> {
    let Some(session) = sql.one("SELECT n FROM sessions WHERE id = ?1", [session_id], |row| row.get(0))? else {
        return not_found();
    };
    let before = match message_id {
        None => Some(i64::MAX),
        Some(id) => sql.one("SELECT seq FROM inbox WHERE id = ?1", [id], |row| row.get::<_, i64>(0))?,
    };
    let Some(before) = before else { return not_found() };
    let heads = |which: &str| {
        let text = format!(
            "SELECT w.seq, i.id FROM work w CROSS JOIN inbox i ON i.seq = w.seq WHERE w.session = ?1 AND w.seq < ?2 AND {which}
             AND NOT EXISTS (SELECT 1 FROM bundled b WHERE b.seq = w.seq) ORDER BY w.seq"
        );
        sql.all(&text, [session, before], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let running = heads(&format!("w.state = {RUNNING} AND w.urgent = 0"))?;
    let running: Vec<String> = running.into_iter().map(|(_, id): (i64, String)| id).collect();
    running.iter().try_for_each(|id| turns::note_stop(sql, id, reason))?;
    let (ended, left) = end_all(sql, session, heads(WAITS)?, reason)?;
    Ok((Withdrawn { ended, running }, left))
}

/// Cancels one message that does not run, with what joined its turn; nothing where it runs, has ended, or joined another's. Gives
/// the ids.
pub(super) fn cancel_one(sql: &Sql<'_>, message_id: &str, reason: &str) -> Ran<(Vec<String>, Option<Left>)> {
    let found = sql.one(
        &format!("SELECT w.seq, i.id, w.session FROM inbox i CROSS JOIN work w ON w.session = i.session AND w.seq = i.seq WHERE i.id = ?1 AND {WAITS}
             AND NOT EXISTS (SELECT 1 FROM bundled b WHERE b.seq = w.seq)"),
        [message_id],
        |row| Ok((row.get::<_, i64>(2)?, (row.get(0)?, row.get(1)?))),
    )?;
    let Some((session, one)) = found else { return Ok((Vec::new(), None)) };
    end_all(sql, session, vec![one], reason).map(|(ids, left)| (ids, Some(left)))
}

/// It is queued or waits for an approval. Urgent ones that are queued go on.
const WAITS: &str = "(w.state = 2 OR (w.state = 0 AND w.urgent = 0))";

fn end_all(sql: &Sql<'_>, session: i64, found: Vec<(i64, String)>, reason: &str) -> Ran<(Vec<String>, Left)> {
    let mut ids = Vec::with_capacity(found.len());
    for (seq, id) in found {
        let joined = collect::joined(sql, seq)?;
        turns::end(sql, session, seq, Ending::without(MessageState::Cancelled, reason, &[]))?;
        ids.push(id);
        ids.extend(joined.into_iter().map(|one| one.message_id));
    }
    Ok((ids, turns::left(sql, session)?))
}

/// Queues a failed message again, at its place, with all that was in its turn; one that was urgent is so no more. Gives its
/// session.
pub(super) fn retry(sql: &Sql<'_>, message_id: &str) -> Ran<i64> {
    let Some(seq) = sql.one("SELECT seq FROM inbox WHERE id = ?1", [message_id], |row| row.get(0))? else { return not_found() };
    let head = collect::head_of(sql, seq)?;
    let session = revive(sql, head)?;
    for seq in collect::rows(sql, head)? {
        revive(sql, seq)?;
    }
    Ok(session)
}

fn revive(sql: &Sql<'_>, seq: i64) -> Ran<i64> {
    let failed = sql.one(
        "SELECT session, starts, journal FROM ended WHERE seq = ?1 AND state = ?2",
        [seq, state_number(MessageState::Failed)],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, Journal::new(row.get(2)?))),
    )?;
    let Some((session, starts, mut journal)) = failed else { return conflict("the message has not failed") };
    journal.note(StepKind::Retried, sql.now_ms(), "queued again by a person");
    sql.exec("DELETE FROM ended WHERE seq = ?1", [seq])?;
    turns::put_to_work(sql, (session, seq), starts, &journal, false, false)?;
    Ok(session)
}
