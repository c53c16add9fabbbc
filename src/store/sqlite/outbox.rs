//! The outbox: putting messages to it, and deliveries as people read them. Sending them is `delivering`.
//!
//! Invariant: a delivery's row is written once; where it stands is in `pending`, `sent` or `dead`, in one of them at a time.
//! What a receiver never confirms is bounded, and what is given up for that is a dead letter. Fails as any command does.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::Value;

use crate::domain::{Delivery, DeliveryState, Handoff, NewOutbound, TimelineEntry};
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql, conflict, key63, not_found};
use crate::store::{Listed, Page};

/// `Handoff::Worker` in the tables.
pub(super) const HANDOFF_WORKER: i64 = 0;
/// `Handoff::Receipt` in the tables.
pub(super) const HANDOFF_RECEIPT: i64 = 1;
/// What a timeline says of one that was sent although a former try may have arrived.
const REPEATED: &str = "a former try may have arrived as well";
/// A delivery's state in `pending`: a worker hands it over.
pub(super) const SENDING: i64 = 1;
/// Most deliveries that wait for one user's receipt on one channel.
pub(super) const RECEIPTS_MAX: i64 = 1_000;

/// A delivery that was put to the outbox.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) delivery: Delivery,
    /// Where a worker finds it.
    pub(super) offer: Option<(i64, Arc<str>)>,
}

/// The key of those that wait for a user's receipt. Two users whose keys met by chance would share a bound; their rows are told
/// apart all the same.
pub(super) fn receipt_target(channel: &str, user_id: &str) -> i64 {
    key63(&["receipt", channel, user_id])
}

/// The key of those that go to one place in order. Two places whose keys met by chance would wait for each other.
fn worker_target(o: &NewOutbound) -> i64 {
    key63(&["worker", &o.channel, o.conversation.as_deref().filter(|c| !c.is_empty()).unwrap_or(&o.peer)])
}

/// The message whose turn puts something to the outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered<'a> {
    pub(super) id: &'a str,
    pub(super) seq: i64,
    /// What `ended` has as its text.
    pub(super) text: &'a str,
}

/// Puts a message to the outbox.
pub(super) fn put(sql: &Sql<'_>, o: &NewOutbound, answers: Option<Answered<'_>>) -> Ran<Put> {
    let (handoff, target) = match o.handoff {
        Handoff::Worker => (HANDOFF_WORKER, worker_target(o)),
        Handoff::Receipt => (HANDOFF_RECEIPT, receipt_target(&o.channel, &o.user_id)),
    };
    let session = reference(sql, "SELECT n FROM sessions WHERE id = ?1", o.session_id.as_deref())?;
    let reply_to = match (o.in_reply_to.as_deref(), answers) {
        (Some(id), Some(answered)) if id == answered.id => Value::Integer(answered.seq),
        (id, _) => reference(sql, "SELECT seq FROM inbox WHERE id = ?1", id)?,
    };
    let created_ms = sql.now_ms();
    let is_the_reply = answers.is_some_and(|a| o.in_reply_to.as_deref() == Some(a.id) && o.text == a.text && !o.text.is_empty());
    let seq = sql.insert(
        "INSERT INTO outbox (id, handoff, target, channel, user_id, peer, conversation, session, reply_to, created_ms, metadata,
            text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        rusqlite::params![
            o.id,
            handoff,
            target,
            o.channel,
            o.user_id,
            o.peer,
            o.conversation,
            session,
            reply_to,
            created_ms,
            o.metadata.as_ref().map(ToString::to_string),
            (!is_the_reply).then_some(&o.text)
        ],
    )?;
    wait(sql, handoff, target, seq)?;
    let offer = (handoff == HANDOFF_WORKER).then(|| (target, Arc::from(o.channel.as_str())));
    let delivery = Delivery {
        id: o.id.clone(),
        state: DeliveryState::Pending,
        channel: o.channel.clone(),
        user_id: o.user_id.clone(),
        peer: o.peer.clone(),
        conversation_id: o.conversation.clone(),
        session_id: o.session_id.clone(),
        in_reply_to: o.in_reply_to.clone(),
        message: o.text.clone(),
        metadata: o.metadata.clone(),
        parts_sent: 0,
        unclear_ms: None,
        unclear_part: 0,
        attempts: 0,
        last_error: None,
        created_ms,
        sent_ms: None,
        next_attempt_ms: None,
    };
    Ok(Put { delivery, offer })
}

/// The row's number behind an id, or the id itself where there is no such row.
fn reference(sql: &Sql<'_>, statement: &str, id: Option<&str>) -> Ran<Value> {
    let Some(id) = id else { return Ok(Value::Null) };
    Ok(sql.one(statement, [id], |row| row.get(0))?.map_or_else(|| Value::Text(id.to_string()), Value::Integer))
}

/// Lets a delivery wait from its beginning.
pub(super) fn wait(sql: &Sql<'_>, handoff: i64, target: i64, seq: i64) -> Ran<()> {
    sql.exec("INSERT INTO pending VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0, NULL)", [handoff, target, seq])?;
    if handoff == HANDOFF_WORKER {
        sql.count(|depths| depths.pending += 1);
        return Ok(());
    }
    sql.count(|depths| depths.unacknowledged += 1);
    let beyond = "SELECT seq FROM pending WHERE handoff = 1 AND target = ?1 ORDER BY seq DESC LIMIT -1 OFFSET ?2";
    for oldest in sql.all(beyond, [target, RECEIPTS_MAX], |row| row.get(0))? {
        let error = format!("more than {RECEIPTS_MAX} messages wait for this user's receipt");
        bury(sql, handoff, target, oldest, false, 0, &error)?;
    }
    Ok(())
}

/// Makes a dead letter of a pending delivery, or one whose outcome is unknown.
pub(super) fn bury(sql: &Sql<'_>, handoff: i64, target: i64, seq: i64, unknown: bool, attempts: i64, error: &str) -> Ran<()> {
    forget(sql, handoff, target, seq)?;
    sql.exec("INSERT OR REPLACE INTO dead VALUES (?1, ?2, ?3, ?4, ?5)", (seq, unknown, attempts, sql.now_ms(), error))?;
    Ok(())
}

/// Takes a delivery out of those that wait.
pub(super) fn forget(sql: &Sql<'_>, handoff: i64, target: i64, seq: i64) -> Ran<bool> {
    let gone = sql.exec("DELETE FROM pending WHERE handoff = ?1 AND target = ?2 AND seq = ?3", [handoff, target, seq])? > 0;
    if gone {
        sql.count(|depths| if handoff == HANDOFF_WORKER { depths.pending -= 1 } else { depths.unacknowledged -= 1 });
    }
    Ok(gone)
}

/// Forgets which of its parts were confirmed. A row that goes must not leave them to the one that gets its number.
pub(super) fn forget_parts(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    sql.exec("DELETE FROM parts WHERE seq = ?1", [seq]).map(drop)
}

/// Notes that it is not known whether a try that was begun then arrived, behind the parts that were confirmed; of several tries of one
/// part the first counts.
pub(super) fn is_unclear(sql: &Sql<'_>, seq: i64, begun_ms: i64) -> Ran<()> {
    sql.exec(
        "INSERT INTO unclear VALUES (?1, ?2, coalesce((SELECT sent FROM parts WHERE seq = ?1), 0))
         ON CONFLICT (seq) DO UPDATE SET begun_ms = excluded.begun_ms, part = excluded.part WHERE part <> excluded.part",
        [seq, begun_ms],
    )
    .map(drop)
}

/// Takes that back, as for the row that gets its number.
pub(super) fn forget_unclear(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    sql.exec("DELETE FROM unclear WHERE seq = ?1", [seq]).map(drop)
}

/// Erases the deliveries that `filter` names: those not yet sent go, of the others the texts. What a worker is handing over
/// goes as well, and its record finds nothing. Gives the targets of workers whose heads may be gone.
pub(super) fn erase(sql: &Sql<'_>, filter: &str, param: impl rusqlite::ToSql) -> Ran<Vec<i64>> {
    let found = sql.all(
        &format!(
            "SELECT o.seq, o.handoff, o.target, d.seq IS NOT NULL FROM outbox o LEFT JOIN dead d ON d.seq = o.seq WHERE o.{filter}"
        ),
        [param],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, bool>(3)?)),
    )?;
    let mut targets = Vec::new();
    for (seq, handoff, target, dead) in found {
        let waits = forget(sql, handoff, target, seq)?;
        if waits || dead {
            sql.exec("DELETE FROM dead WHERE seq = ?1", [seq])?;
            forget_parts(sql, seq)?;
            forget_unclear(sql, seq)?;
            sql.exec("DELETE FROM outbox WHERE seq = ?1", [seq])?;
        } else {
            sql.exec("UPDATE outbox SET text = '', metadata = NULL WHERE seq = ?1", [seq])?;
        }
        if waits && handoff == HANDOFF_WORKER {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Puts messages to the outbox, once for each key of a caller's.
pub(super) fn enqueue(sql: &Sql<'_>, outbound: &[NewOutbound], key: Option<&(String, String, String)>) -> Ran<Vec<Put>> {
    if let Some((caller, key, digest)) = key {
        let first = sql.one("SELECT digest, ids FROM idempotency WHERE caller = ?1 AND key = ?2", (caller, key), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        if let Some((known, ids)) = first {
            if known != *digest {
                return conflict("this idempotency key was used for another request");
            }
            // One that was dropped since is not there any more, and is not sent again.
            let found = ids.split(' ').map(|id| sql.one(&one_statement(), [id], read)).collect::<Ran<Vec<_>>>()?;
            return Ok(found.into_iter().flatten().map(|read| Put { delivery: read.delivery, offer: None }).collect());
        }
        let ids: Vec<&str> = outbound.iter().map(|o| o.id.as_str()).collect();
        sql.exec(
            "INSERT INTO idempotency (caller, key, digest, ids, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            (caller, key, digest, ids.join(" "), sql.now_ms()),
        )?;
    }
    outbound.iter().map(|o| put(sql, o, None)).collect()
}

const COLUMNS: &str = "o.seq, o.id, o.channel, o.user_id, o.peer, o.conversation, CAST(COALESCE(s.id, o.session) AS TEXT),
    CAST(COALESCE(i.id, o.reply_to) AS TEXT), COALESCE(o.text, e.text, ''), o.metadata, o.created_ms, p.state, p.attempts, p.next_ms, p.last_ms,
    p.last_error, d.unknown, d.attempts, d.at_ms, d.error, t.attempts, t.at_ms, m.sent, u.begun_ms, u.part";
const JOINS: &str = "LEFT JOIN pending p ON p.handoff = o.handoff AND p.target = o.target AND p.seq = o.seq
    LEFT JOIN dead d ON d.seq = o.seq LEFT JOIN sent t ON t.seq = o.seq
    LEFT JOIN sessions s ON s.n = o.session LEFT JOIN inbox i ON i.seq = o.reply_to
    LEFT JOIN ended e ON e.seq = o.reply_to LEFT JOIN parts m ON m.seq = o.seq LEFT JOIN unclear u ON u.seq = o.seq";

struct Read {
    seq: i64,
    delivery: Delivery,
    /// When what `state` says came about.
    at_ms: Option<i64>,
}

/// JSON that came with a message.
pub(super) fn metadata(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<serde_json::Value>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(|text| serde_json::from_str(text).ok()))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Read> {
    let pending: Option<i64> = row.get(11)?;
    let unknown: Option<bool> = row.get(16)?;
    let (state, attempts, last_error, at_ms): (_, Option<u32>, _, _) = match (pending, unknown) {
        (Some(state), _) => {
            let state = if state == SENDING { DeliveryState::Sending } else { DeliveryState::Pending };
            (state, row.get(12)?, row.get(15)?, row.get(14)?)
        }
        (None, Some(unknown)) => {
            let state = if unknown { DeliveryState::Unknown } else { DeliveryState::Dead };
            (state, row.get(17)?, row.get(19)?, row.get(18)?)
        }
        (None, None) => (DeliveryState::Sent, row.get(20)?, None, row.get(21)?),
    };
    let sent_ms = if state == DeliveryState::Sent { at_ms } else { None };
    let delivery = Delivery {
        id: row.get(1)?,
        state,
        channel: row.get(2)?,
        user_id: row.get(3)?,
        peer: row.get(4)?,
        conversation_id: row.get(5)?,
        session_id: row.get(6)?,
        in_reply_to: row.get(7)?,
        message: row.get(8)?,
        metadata: metadata(row, 9)?,
        parts_sent: row.get::<_, Option<u32>>(22)?.unwrap_or(0),
        unclear_ms: row.get(23)?,
        unclear_part: row.get::<_, Option<u32>>(24)?.unwrap_or(0),
        attempts: attempts.unwrap_or(0),
        last_error,
        created_ms: row.get(10)?,
        sent_ms,
        next_attempt_ms: row.get::<_, Option<i64>>(13)?.filter(|at_ms| *at_ms > 0),
    };
    Ok(Read { seq: row.get(0)?, delivery, at_ms })
}

fn one_statement() -> String {
    format!("SELECT {COLUMNS} FROM outbox o {JOINS} WHERE o.id = ?1")
}

/// One delivery.
pub(super) fn delivery(sql: &Sql<'_>, id: &str) -> Ran<Delivery> {
    match sql.one(&one_statement(), [id], read)? {
        Some(read) => Ok(read.delivery),
        None => not_found(),
    }
}

/// What answers a message, in order, with what its timeline says of it.
pub(super) fn answering(sql: &Sql<'_>, seq: i64) -> Ran<Vec<(Delivery, Vec<TimelineEntry>)>> {
    let statement = format!("SELECT {COLUMNS} FROM outbox o {JOINS} WHERE o.reply_to = ?1 ORDER BY o.seq LIMIT 1000");
    Ok(sql.all(&statement, [seq], read)?.into_iter().map(|read| (read.event(), read.delivery)).map(|(e, d)| (d, e)).collect())
}

impl Read {
    fn event(&self) -> Vec<TimelineEntry> {
        let event = match self.delivery.state {
            DeliveryState::Sent => "delivery_sent",
            DeliveryState::Dead => "delivery_dead",
            DeliveryState::Unknown => "delivery_unknown",
            DeliveryState::Pending | DeliveryState::Sending if self.delivery.last_error.is_some() => "delivery_failed",
            DeliveryState::Pending | DeliveryState::Sending => return Vec::new(),
        };
        let is_repeat = self.delivery.state == DeliveryState::Sent && self.delivery.unclear_ms.is_some();
        let detail = if is_repeat { REPEATED.to_string() } else { self.delivery.last_error.clone().unwrap_or_default() };
        vec![TimelineEntry { at_ms: self.at_ms.unwrap_or(self.delivery.created_ms), event: event.into(), detail }]
    }
}

/// Deliveries, newest first.
pub(super) fn deliveries(sql: &Sql<'_>, state: Option<DeliveryState>, page: &Page) -> Ran<Listed<Delivery>> {
    let (before, limit) = page_of(page)?;
    let (from, order, filter) = match state {
        None => ("outbox o", "o.seq", ""),
        Some(DeliveryState::Pending) => ("pending x CROSS JOIN outbox o ON o.seq = x.seq", "x.seq", "AND x.state = 0"),
        Some(DeliveryState::Sending) => ("pending x CROSS JOIN outbox o ON o.seq = x.seq", "x.seq", "AND x.state = 1"),
        Some(DeliveryState::Sent) => ("sent x CROSS JOIN outbox o ON o.seq = x.seq", "x.seq", ""),
        Some(DeliveryState::Dead) => ("dead x CROSS JOIN outbox o ON o.seq = x.seq", "x.seq", "AND x.unknown = 0"),
        Some(DeliveryState::Unknown) => ("dead x CROSS JOIN outbox o ON o.seq = x.seq", "x.seq", "AND x.unknown = 1"),
    };
    let statement = format!("SELECT {COLUMNS} FROM {from} {JOINS} WHERE {order} < ?1 {filter} ORDER BY {order} DESC LIMIT ?2");
    let rows = sql.all(&statement, (before, limit as i64 + 1), read)?;
    Ok(listed(rows, limit, |read| read.seq.to_string(), |read| read.delivery))
}

/// What waits for a user's receipt, oldest first.
pub(super) fn unacknowledged(sql: &Sql<'_>, channel: &str, user_id: &str, limit: usize) -> Ran<Vec<Delivery>> {
    let statement = format!(
        "SELECT {COLUMNS} FROM pending x CROSS JOIN outbox o ON o.seq = x.seq {JOINS}
         WHERE x.handoff = {HANDOFF_RECEIPT} AND x.target = ?1 AND o.channel = ?2 AND o.user_id = ?3 ORDER BY x.seq LIMIT ?4"
    );
    let limit = limit.min(RECEIPTS_MAX as usize) as i64;
    sql.all(&statement, (receipt_target(channel, user_id), channel, user_id, limit), |row| Ok(read(row)?.delivery))
}
