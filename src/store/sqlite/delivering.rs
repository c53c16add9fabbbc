//! Handing deliveries over: taking the next, recording how a try ended, receipts, and what a person does about dead letters.
//!
//! Invariant: for each target the oldest goes first, and only when it is settled the next; a target whose head waits for its
//! retry waits with it. Only what is marked `sending` can be recorded. Fails as any command does.

use std::time::Duration;

use crate::domain::{Attempt, Delivery, Outcome};
use crate::store::sqlite::outbox::{self, HANDOFF_WORKER, SENDING};
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::recover::Look;
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};

/// Takes a target's head; `None` where there is none. `again`: whether it is put back should the process die now.
pub(super) fn claim(sql: &Sql<'_>, target: i64, again: bool) -> Ran<Option<Delivery>> {
    let head = sql.one(
        "SELECT p.seq, p.state, o.id FROM pending p CROSS JOIN outbox o ON o.seq = p.seq
         WHERE p.handoff = 0 AND p.target = ?1 ORDER BY p.seq LIMIT 1",
        [target],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)),
    )?;
    let Some((seq, 0, id)) = head else { return Ok(None) };
    sql.exec(
        "UPDATE pending SET state = 1, attempts = attempts + 1, keyed = ?3, next_ms = 0, last_ms = ?4
         WHERE handoff = 0 AND target = ?1 AND seq = ?2",
        (target, seq, again, sql.now_ms()),
    )?;
    outbox::delivery(sql, &id).map(Some)
}

struct Place {
    seq: i64,
    handoff: i64,
    target: i64,
    channel: String,
    /// State, attempts, and when the last one was begun, where it waits.
    pending: Option<(i64, i64, i64)>,
    dead: bool,
}

fn place(sql: &Sql<'_>, id: &str) -> Ran<Place> {
    let found = sql.one(
        "SELECT o.seq, o.handoff, o.target, o.channel, p.state, p.attempts, p.last_ms, d.seq IS NOT NULL FROM outbox o
         LEFT JOIN pending p ON p.handoff = o.handoff AND p.target = o.target AND p.seq = o.seq
         LEFT JOIN dead d ON d.seq = o.seq WHERE o.id = ?1",
        [id],
        |row| {
            let pending = match row.get::<_, Option<i64>>(4)? {
                Some(state) => Some((state, row.get(5)?, row.get(6)?)),
                None => None,
            };
            let (seq, handoff, target) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Place { seq, handoff, target, channel: row.get(3)?, pending, dead: row.get(7)? })
        },
    )?;
    found.map_or_else(not_found, Ok)
}

/// Records how a try ended. Gives when its target goes on, `now` being the monotonic time of `look`.
pub(super) fn record(sql: &Sql<'_>, attempt: &Attempt, look: Look) -> Ran<Next> {
    let Place { seq, handoff, target, pending, .. } = place(sql, &attempt.delivery_id)?;
    let Some((SENDING, attempts, begun_ms)) = pending else { return conflict("the delivery is not being sent") };
    let mut later = None;
    match &attempt.outcome {
        Outcome::Sent => {
            outbox::forget(sql, handoff, target, seq)?;
            outbox::forget_parts(sql, seq)?;
            sql.exec("INSERT OR REPLACE INTO sent VALUES (?1, ?2, ?3)", [seq, attempts, sql.now_ms()])?;
        }
        Outcome::Dead { reason } => outbox::bury(sql, handoff, target, seq, false, attempts, reason)?,
        Outcome::Unknown { reason } => {
            outbox::bury(sql, handoff, target, seq, true, attempts, reason)?;
            outbox::is_unclear(sql, seq, begun_ms)?;
        }
        Outcome::Retry { after, reason, is_unclear } => {
            if *is_unclear {
                outbox::is_unclear(sql, seq, begun_ms)?;
            }
            let next = sql.now_ms().saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
            sql.exec(
                "UPDATE pending SET state = 0, next_ms = ?4, last_ms = ?5, last_error = ?6
                 WHERE handoff = ?1 AND target = ?2 AND seq = ?3",
                (handoff, target, seq, next, sql.now_ms(), reason),
            )?;
            later = Some(*after);
        }
        Outcome::Held { after, reason } => {
            let next = sql.now_ms().saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
            sql.exec(
                "UPDATE pending SET state = 0, attempts = max(attempts - 1, 0), next_ms = ?4, last_error = ?5
                 WHERE handoff = ?1 AND target = ?2 AND seq = ?3",
                (handoff, target, seq, next, reason),
            )?;
            later = Some(*after);
        }
        Outcome::Untried => {
            sql.exec(
                "UPDATE pending SET state = 0, attempts = max(attempts - 1, 0) WHERE handoff = ?1 AND target = ?2 AND seq = ?3",
                [handoff, target, seq],
            )?;
        }
    }
    next(sql, target, seq, later, look)
}

/// Records how many parts of a delivery that is being sent were confirmed. What was confirmed before stays so.
pub(super) fn record_part(sql: &Sql<'_>, id: &str, parts: u32) -> Ran<()> {
    let Place { seq, pending, .. } = place(sql, id)?;
    if !matches!(pending, Some((SENDING, ..))) {
        return conflict("the delivery is not being sent");
    }
    sql.exec(
        "INSERT INTO parts (seq, sent) SELECT ?1, ?2 WHERE ?2 > 0
         ON CONFLICT (seq) DO UPDATE SET sent = excluded.sent WHERE sent < excluded.sent",
        (seq, parts),
    )
    .map(drop)
}

fn next(sql: &Sql<'_>, target: i64, seq: i64, later: Option<Duration>, look: Look) -> Ran<Next> {
    let head =
        sql.one("SELECT seq, next_ms FROM pending WHERE handoff = 0 AND target = ?1 ORDER BY seq LIMIT 1", [target], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
    Ok(match (head, later) {
        (None, _) => Next::Nothing,
        (Some((head, _)), Some(after)) if head == seq => look.after(after),
        (Some((_, next_ms)), _) => look.next(next_ms),
    })
}

/// Settles what a user's receipt names: by its own id, or by the message that it answers. Gives how many.
pub(super) fn acknowledge(sql: &Sql<'_>, channel: &str, user_id: &str, id: &str) -> Ran<u64> {
    let target = outbox::receipt_target(channel, user_id);
    let settled = sql.all(
        "SELECT p.seq FROM pending p CROSS JOIN outbox o ON o.seq = p.seq
         WHERE p.handoff = 1 AND p.target = ?1 AND o.channel = ?2 AND o.user_id = ?3
            AND (o.id = ?4 OR o.reply_to = ?4 OR o.reply_to = (SELECT seq FROM inbox WHERE id = ?4))",
        (target, channel, user_id, id),
        |row| row.get::<_, i64>(0),
    )?;
    for &seq in &settled {
        outbox::forget(sql, outbox::HANDOFF_RECEIPT, target, seq)?;
        sql.exec("INSERT OR REPLACE INTO sent VALUES (?1, 1, ?2)", [seq, sql.now_ms()])?;
    }
    Ok(settled.len() as u64)
}

/// A target of workers', and its channel.
pub(super) type Offer = Option<(i64, String)>;

/// Revives a dead or unknown delivery, at its place and with all its tries, behind the parts that were confirmed.
pub(super) fn retry(sql: &Sql<'_>, id: &str) -> Ran<(Delivery, Offer)> {
    let Place { seq, handoff, target, channel, dead, .. } = place(sql, id)?;
    if !dead {
        return conflict("the delivery is neither dead nor unknown");
    }
    sql.exec("DELETE FROM dead WHERE seq = ?1", [seq])?;
    outbox::forget_unclear(sql, seq)?;
    outbox::wait(sql, handoff, target, seq)?;
    Ok((outbox::delivery(sql, id)?, (handoff == HANDOFF_WORKER).then_some((target, channel))))
}

/// Removes a delivery that is not being sent. Gives its target.
pub(super) fn remove(sql: &Sql<'_>, id: &str) -> Ran<Offer> {
    let Place { seq, handoff, target, channel, pending, .. } = place(sql, id)?;
    if pending.is_some_and(|(state, ..)| state == SENDING) {
        return conflict("the delivery is being sent");
    }
    outbox::forget(sql, handoff, target, seq)?;
    sql.exec("DELETE FROM dead WHERE seq = ?1", [seq])?;
    sql.exec("DELETE FROM sent WHERE seq = ?1", [seq])?;
    outbox::forget_parts(sql, seq)?;
    outbox::forget_unclear(sql, seq)?;
    sql.exec("DELETE FROM outbox WHERE seq = ?1", [seq])?;
    Ok((handoff == HANDOFF_WORKER).then_some((target, channel)))
}
