//! Sessions, their transcripts, and their erasure.
//!
//! Invariant: a session is found by agent, channel, conversation and user as long as it is in use; one that ended or was erased
//! is never found again. A transcript is what its answered messages said, in the order in which they were answered. Erasing
//! leaves the rows that deduplication needs, without texts; what was used is kept.

use rusqlite::Row;

use crate::base::ids::new_id;
use crate::domain::{Entry, MessageState, NewInbound, Said, SessionInfo, Summary};
use crate::store::sqlite::inbox::{bad_cursor, listed, page_of, state_number};
use crate::store::sqlite::recent::{KEPT, Recent};
use crate::store::sqlite::sql::{Ran, Sql, not_found};
use crate::store::sqlite::turns::{self, Ending};
use crate::store::sqlite::{approvals, attachments, audit, collect, jobs, notes, outbox};
use crate::store::{Listed, Page};

/// A session's state in the table.
pub(super) const IN_USE: i64 = 0;
/// It ended: the next message opens a new one.
pub(super) const ENDED: i64 = 1;
/// It was erased: lists do not show it.
pub(super) const ERASED: i64 = 2;

/// The session that a message belongs to: its number and its id.
pub(super) fn find_or_make(sql: &Sql<'_>, m: &NewInbound) -> Ran<(i64, String)> {
    let conversation = m.conversation.as_deref().unwrap_or_default();
    let latest = sql.one(
        "SELECT n, id, state FROM sessions WHERE user_id = ?1 AND channel = ?2 AND conversation = ?3 AND agent = ?4
         ORDER BY n DESC LIMIT 1",
        (&m.user_id, &m.channel, conversation, &m.agent),
        |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)),
    )?;
    if let Some((n, id, IN_USE)) = latest {
        return Ok((n, id));
    }
    let (now, id) = (sql.now_ms(), new_id("ses", sql.now_ms()));
    let n = sql.insert(
        "INSERT INTO sessions (id, user_id, channel, conversation, agent, created_ms, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
        (&id, &m.user_id, &m.channel, conversation, &m.agent, now),
    )?;
    sql.exec("INSERT INTO uses (session, updated_ms, turns) VALUES (?1, ?2, 0)", (n, now))?;
    sql.uses(n, now);
    Ok((n, id))
}

/// The latest entries of a transcript, oldest first.
pub(super) fn history(sql: &Sql<'_>, session_id: &str, limit: usize) -> Ran<Vec<Entry>> {
    match find(sql, session_id)? {
        (_, ERASED) => Ok(Vec::new()),
        (n, _) => transcript(sql, n, limit),
    }
}

/// A session's number and state.
fn find(sql: &Sql<'_>, session_id: &str) -> Ran<(i64, i64)> {
    match sql.one("SELECT n, state FROM sessions WHERE id = ?1", [session_id], |row| Ok((row.get(0)?, row.get(1)?)))? {
        Some(found) => Ok(found),
        None => not_found(),
    }
}

/// One that is not erased.
fn find_kept(sql: &Sql<'_>, session_id: &str) -> Ran<i64> {
    match find(sql, session_id)? {
        (_, ERASED) => not_found(),
        (n, _) => Ok(n),
    }
}

/// What its older turns came to.
pub(super) fn summary(sql: &Sql<'_>, session_id: &str) -> Ran<Option<Summary>> {
    let (n, _) = find(sql, session_id)?;
    sql.one("SELECT text, until FROM summaries WHERE session = ?1", [n], |row| {
        Ok(Summary { text: row.get(0)?, until: row.get::<_, i64>(1)? as u64 })
    })
}

/// Puts that.
pub(super) fn set_summary(sql: &Sql<'_>, session_id: &str, summary: &Summary) -> Ran<()> {
    let n = find_kept(sql, session_id)?;
    let until = i64::try_from(summary.until).unwrap_or(i64::MAX);
    sql.exec("INSERT OR REPLACE INTO summaries (session, until, text) VALUES (?1, ?2, ?3)", (n, until, &summary.text)).map(drop)
}

/// Switches a session to another model, or back.
pub(super) fn set_model(sql: &Sql<'_>, session_id: &str, model: Option<&str>) -> Ran<()> {
    let n = find_kept(sql, session_id)?;
    sql.exec("UPDATE sessions SET model = ?2 WHERE n = ?1", (n, model)).map(drop)
}

/// Of a turn, what the user wrote stands together and before the reply; that is its head's, the oldest message.
fn transcript(sql: &Sql<'_>, session: i64, limit: usize) -> Ran<Vec<Entry>> {
    let limit = limit.min(10_000);
    // The turns of a session are numbered without a gap, and each has two entries at least.
    let said = sql.all(
        "SELECT i.id, i.received_ms, i.text, e.ended_ms, e.text, e.turn FROM ended e CROSS JOIN inbox i ON i.seq = e.seq
         WHERE e.session = ?1 AND e.turn > (SELECT max(turn) FROM ended WHERE session = ?1) - ?2 ORDER BY e.turn, e.seq",
        (session, limit.div_ceil(2) as i64),
        |row| {
            let (id, turn) = (row.get::<_, String>(0)?, row.get::<_, i64>(5)? as u64);
            let entry = |role, text, at_ms| Entry { role, text, at_ms, message_id: Some(id.clone()), turn };
            Ok((entry(Said::User, row.get(2)?, row.get(1)?), entry(Said::Assistant, row.get(4)?, row.get(3)?)))
        },
    )?;
    let mut entries: Vec<Entry> = Vec::with_capacity(said.len() * 2);
    for (asked, reply) in said {
        match entries.last() {
            Some(last) if last.turn == asked.turn => entries.insert(entries.len() - 1, asked),
            _ => entries.extend([asked, reply]),
        }
    }
    entries.drain(..entries.len().saturating_sub(limit));
    Ok(entries)
}

const COLUMNS: &str = "s.n, s.id, s.user_id, s.channel, s.conversation, s.agent, s.created_ms, u.updated_ms, u.turns,
    u.tokens_in, u.tokens_out, s.model";

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, SessionInfo)> {
    let info = SessionInfo {
        id: row.get(1)?,
        user_id: row.get(2)?,
        channel: row.get(3)?,
        conversation_id: row.get::<_, Option<String>>(4)?.filter(|c| !c.is_empty()),
        agent: row.get(5)?,
        created_ms: row.get(6)?,
        updated_ms: row.get(7)?,
        turns: row.get::<_, u32>(8)?.into(),
        tokens_in: row.get::<_, i64>(9)? as u64,
        tokens_out: row.get::<_, i64>(10)? as u64,
        model: row.get(11)?,
        transcript: Vec::new(),
    };
    Ok((row.get(0)?, info))
}

/// Sessions of all users, the latest used first.
pub(super) fn sessions(sql: &Sql<'_>, recent: &Recent, page: &Page) -> Ran<Listed<SessionInfo>> {
    let before = cursor_of(page)?;
    let (_, limit) = page_of(&Page { cursor: None, limit: page.limit })?;
    let rows = match page.cursor {
        None => latest(sql, recent, limit)?,
        Some(_) => scan(sql, before, limit)?,
    };
    Ok(listed(rows, limit, place, |(_, info)| info))
}

/// One user's, with transcripts of `entries`.
pub(super) fn sessions_of(sql: &Sql<'_>, user_id: &str, entries: usize, page: &Page) -> Ran<Listed<SessionInfo>> {
    let (used, n) = cursor_of(page)?;
    let (_, limit) = page_of(&Page { cursor: None, limit: page.limit })?;
    let mut rows = sql.all(
        &format!(
            "SELECT {COLUMNS} FROM sessions s CROSS JOIN uses u ON u.session = s.n
             WHERE s.state < {ERASED} AND (u.updated_ms, u.session) < (?1, ?2) AND s.user_id = ?4
             ORDER BY u.updated_ms DESC, u.session DESC LIMIT ?3"
        ),
        (used, n, limit as i64 + 1, user_id),
        read,
    )?;
    for (n, info) in rows.iter_mut().take(limit) {
        info.transcript = transcript(sql, *n, entries)?;
    }
    Ok(listed(rows, limit, place, |(_, info)| info))
}

/// A page and one more, of what is known in memory: where that does not suffice all is read, once.
fn latest(sql: &Sql<'_>, recent: &Recent, limit: usize) -> Ran<Vec<(i64, SessionInfo)>> {
    let mark = recent.mark();
    if let Some(rows) = known(sql, recent, limit)? {
        return Ok(rows);
    }
    let uses = sql.all(
        "SELECT session, updated_ms FROM uses WHERE updated_ms >= 0 ORDER BY updated_ms DESC, session DESC LIMIT ?1",
        [KEPT as i64],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    recent.learn(mark, &uses, uses.len() < KEPT);
    match known(sql, recent, limit)? {
        Some(rows) => Ok(rows),
        None => scan(sql, (i64::MAX, i64::MAX), limit),
    }
}

/// The same, where it is certain that no other session was used later than its last one.
fn known(sql: &Sql<'_>, recent: &Recent, limit: usize) -> Ran<Option<Vec<(i64, SessionInfo)>>> {
    // What this read sees stands before the memory is asked: what is committed later may be in the memory alone.
    sql.one("SELECT 1 FROM uses LIMIT 1", (), |_| Ok(()))?;
    let (uses, floor) = recent.latest();
    let statement = format!(
        "SELECT {COLUMNS} FROM uses u CROSS JOIN sessions s ON s.n = u.session
         WHERE u.session = ?1 AND u.updated_ms >= 0 AND s.state < {ERASED}"
    );
    let mut found: Vec<(i64, SessionInfo)> = Vec::with_capacity(limit + 1);
    for (i, (session, _)) in uses.iter().enumerate() {
        found.extend(sql.one(&statement, [session], read)?);
        let others = uses.get(i + 1).map_or(floor, |(_, at)| floor.max(*at));
        let is_last = i + 1 == uses.len() && floor == i64::MIN;
        if found.len() > limit || is_last {
            found.sort_unstable_by_key(|(n, info)| std::cmp::Reverse((info.updated_ms, *n)));
            if is_last || found[limit].1.updated_ms > others {
                found.truncate(limit + 1);
                return Ok(Some(found));
            }
        }
    }
    Ok((floor == i64::MIN).then_some(found))
}

/// A page and one more, of all. `uses` is narrow: to read all of it costs less than an index that every turn would have to write. Only
/// those of the page are looked up beyond it.
fn scan(sql: &Sql<'_>, (used, n): (i64, i64), limit: usize) -> Ran<Vec<(i64, SessionInfo)>> {
    sql.all(
        &format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM uses WHERE updated_ms >= 0 AND (updated_ms, session) < (?1, ?2)
             ORDER BY updated_ms DESC, session DESC LIMIT ?3) u CROSS JOIN sessions s ON s.n = u.session
             WHERE s.state < {ERASED} ORDER BY u.updated_ms DESC, u.session DESC LIMIT ?3"
        ),
        (used, n, limit as i64 + 1),
        read,
    )
}

fn place((n, info): &(i64, SessionInfo)) -> String {
    format!("{}-{n}", info.updated_ms)
}

fn cursor_of(page: &Page) -> Ran<(i64, i64)> {
    let Some(cursor) = &page.cursor else { return Ok((i64::MAX, i64::MAX)) };
    match cursor.split_once('-').and_then(|(used, n)| Some((used.parse().ok()?, n.parse().ok()?))) {
        Some(place) => Ok(place),
        None => bad_cursor(),
    }
}

/// What an erasure touched beside its rows.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Targets whose heads may be gone.
    pub(super) targets: Vec<i64>,
    /// Files that nothing names any more.
    pub(super) files: Vec<String>,
}

/// What the erasure of a user touched.
#[derive(Debug, Default)]
pub(super) struct Erased {
    pub(super) sessions: Vec<i64>,
    pub(super) gone: Gone,
}

/// Erases a user's sessions, messages' texts, deliveries, notes, learned rules and jobs, and what the audit has of their words.
pub(super) fn erase_user(sql: &Sql<'_>, user_id: &str) -> Ran<Erased> {
    sql.erase_log();
    let sessions = sql.all("SELECT n FROM sessions WHERE user_id = ?1 AND state < 2", [user_id], |row| row.get(0))?;
    let mut gone = Gone::default();
    for &n in &sessions {
        erase(sql, n, &mut gone)?;
    }
    gone.targets.extend(outbox::erase(sql, "user_id = ?1 AND reply_to IS NULL", user_id)?);
    notes::erase_user(sql, user_id)?;
    approvals::erase_rules(sql, user_id)?;
    jobs::erase(sql, user_id)?;
    audit::redact(sql, user_id)?;
    Ok(Erased { sessions, gone })
}

/// Erases a session; what of it was not answered is cancelled. Adds to `gone` what went with it.
pub(super) fn erase(sql: &Sql<'_>, n: i64, gone: &mut Gone) -> Ran<()> {
    sql.exec("UPDATE sessions SET state = ?2, model = NULL WHERE n = ?1", [n, ERASED])?;
    sql.exec("UPDATE uses SET updated_ms = -1 WHERE session = ?1", [n])?; // no list looks there
    sql.exec("DELETE FROM summaries WHERE session = ?1", [n])?;
    for seq in sql.all(
        "SELECT w.seq FROM work w WHERE w.session = ?1 AND NOT EXISTS (SELECT 1 FROM bundled b WHERE b.seq = w.seq)",
        [n],
        |row| row.get(0),
    )? {
        turns::end(sql, n, seq, Ending::without(MessageState::Cancelled, "", &[]))?;
    }
    for seq in sql.all("SELECT seq FROM ended WHERE session = ?1", [n], |row| row.get::<_, i64>(0))? {
        sql.exec("UPDATE inbox SET text = '', metadata = NULL WHERE seq = ?1", [seq])?;
        sql.exec("DELETE FROM steps WHERE seq = ?1", [seq])?;
        collect::forget(sql, seq)?;
        approvals::erase(sql, seq)?;
        gone.files.extend(attachments::erase(sql, seq)?);
        gone.targets.extend(outbox::erase(sql, "reply_to = ?1", seq)?);
    }
    // A failed message must not come back to life without its text.
    sql.exec(
        "UPDATE ended SET text = '', journal = '', state = CASE state WHEN ?2 THEN ?3 ELSE state END WHERE session = ?1",
        [n, state_number(MessageState::Failed), state_number(MessageState::Cancelled)],
    )?;
    Ok(())
}
