//! Approvals: turns that wait for a person, what is decided, what nobody decides in time; and the rules that decisions leave.
//!
//! Invariant: a message waits exactly as long as an approval of it is pending; the commit that settles the last one queues it
//! again at its place. The first decision counts. An erased one keeps no arguments. Fails as any command does.

use rusqlite::Row;

use crate::base::ids::new_id;
use crate::domain::{Approval, ApprovalState, Decision, LearnedRule, Step};
use crate::store::sqlite::dues::Due;
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::sqlite::turns::{self, Kept, Left, QUEUED, RUNNING, WAITING};
use crate::store::{Listed, Page};

/// Most approvals that are pending.
const PENDING_MAX: i64 = if cfg!(test) { 40 } else { 10_000 };
/// Most rules that decisions left.
const RULES_MAX: i64 = if cfg!(test) { 20 } else { 1_000 };

fn state_number(state: ApprovalState) -> i64 {
    ApprovalState::ALL.iter().position(|s| *s == state).unwrap_or(0) as i64
}

/// What letting a turn wait changed.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) kept: Kept,
    pub(super) dues: Vec<Due>,
}

/// Lets a running turn wait. Where all that it asks was decided before, it is queued instead; where it was stopped, it ends and
/// nobody is asked.
pub(super) fn park(sql: &Sql<'_>, message_id: &str, approvals: &[Approval], step: &Step) -> Ran<Parked> {
    let running = turns::running(sql, message_id)?;
    if let Some(kept) = turns::end_if_stopped(sql, &running)? {
        return Ok(Parked { kept, dues: Vec::new() });
    }
    let turns::Running { session, seq, urgent, mut journal } = running;
    let mut dues = Vec::new();
    for asked in approvals {
        let n = sql.one(
            "INSERT INTO approvals (id, seq, state, call_id, tool, digest, created_ms, expires_ms, question, arguments)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (seq, call_id) DO NOTHING RETURNING n",
            (
                &asked.id,
                seq,
                &asked.call_id,
                &asked.tool,
                &asked.digest,
                asked.created_ms,
                asked.expires_ms,
                &asked.question,
                asked.arguments.to_string(),
            ),
            |row| row.get(0),
        )?;
        dues.extend(n.map(|n| Due { n, created_ms: asked.created_ms, expires_ms: asked.expires_ms }));
    }
    let pending = sql.one("SELECT count(*) FROM approvals INDEXED BY approvals_pending WHERE state = 0", (), |row| row.get(0))?;
    if pending.unwrap_or(0i64) > PENDING_MAX {
        return conflict(format!("more than {PENDING_MAX} questions wait for a decision"));
    }
    journal.record(sql, seq, step)?;
    let state = if is_pending(sql, seq)? { WAITING } else { QUEUED };
    sql.exec(
        "UPDATE work SET state = ?3, strikes = 0, not_before_ms = 0, journal = ?4 WHERE session = ?1 AND seq = ?2",
        (session, seq, state, journal.text()),
    )?;
    turns::count_move(sql, urgent, Some(RUNNING), Some(state));
    Ok(Parked { kept: Kept { left: turns::left(sql, session)?, stopped: None }, dues })
}

fn is_pending(sql: &Sql<'_>, seq: i64) -> Ran<bool> {
    Ok(sql.one("SELECT 1 FROM approvals WHERE seq = ?1 AND state = 0 LIMIT 1", [seq], |_| Ok(()))?.is_some())
}

/// Pending approvals, as memory keeps them.
pub(super) fn dues(sql: &Sql<'_>) -> Ran<Vec<Due>> {
    sql.all(
        "SELECT n, created_ms, expires_ms FROM approvals INDEXED BY approvals_pending WHERE state = 0 LIMIT ?1",
        [PENDING_MAX],
        |row| Ok(Due { n: row.get(0)?, created_ms: row.get(1)?, expires_ms: row.get(2)? }),
    )
}

/// What settling an approval changed.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) n: i64,
    pub(super) approval: Approval,
    /// Its message's session, where that message is queued again.
    pub(super) left: Option<Left>,
}

/// Decides a pending approval.
pub(super) fn decide(sql: &Sql<'_>, id: &str, decision: Decision, by: &str) -> Ran<Settled> {
    let Some(Read { n, seq, approval }) = sql.one(&format!("{SELECT} WHERE a.id = ?1"), [id], read)? else { return not_found() };
    match approval.state {
        ApprovalState::Pending if approval.expires_ms > sql.now_ms() => {}
        ApprovalState::Pending => return conflict("nobody decided in time"),
        ApprovalState::Allowed | ApprovalState::Denied => {
            let who = approval.decided_by.unwrap_or_default();
            return conflict(format!("it was {} before, by {who}", approval.state.as_str()));
        }
        ApprovalState::Expired => return conflict("nobody decided in time"),
        ApprovalState::Cancelled => return conflict("its turn was stopped"),
    }
    if decision == Decision::Always {
        learn(sql, &approval, by)?;
    }
    let state = if decision == Decision::Deny { ApprovalState::Denied } else { ApprovalState::Allowed };
    settle(sql, (n, seq), approval, state, Some(by))
}

/// Expires those of `rows` that are pending. Gives them, oldest first.
pub(super) fn expire(sql: &Sql<'_>, rows: &[i64]) -> Ran<Vec<Settled>> {
    let mut expired = Vec::new();
    for n in rows {
        let found = sql.one(&format!("{SELECT} WHERE a.n = ?1 AND a.state = 0"), [n], read)?;
        if let Some(Read { n, seq, approval }) = found {
            expired.push(settle(sql, (n, seq), approval, ApprovalState::Expired, None)?);
        }
    }
    expired.sort_by_key(|settled| settled.n);
    Ok(expired)
}

fn settle(sql: &Sql<'_>, (n, seq): (i64, i64), approval: Approval, state: ApprovalState, by: Option<&str>) -> Ran<Settled> {
    let now = sql.now_ms();
    sql.exec(
        "UPDATE approvals SET state = ?2, decided_by = ?3, decided_ms = ?4 WHERE n = ?1",
        (n, state_number(state), by, now),
    )?;
    let left = if is_pending(sql, seq)? { None } else { resume(sql, seq)? };
    let approval = Approval { state, decided_by: by.map(Into::into), decided_ms: Some(now), ..approval };
    Ok(Settled { n, approval, left })
}

fn resume(sql: &Sql<'_>, seq: i64) -> Ran<Option<Left>> {
    let waits = sql.one(
        "SELECT w.session, w.urgent FROM inbox i CROSS JOIN work w ON w.session = i.session AND w.seq = i.seq
         WHERE i.seq = ?1 AND w.state = 2",
        [seq],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
    )?;
    let Some((session, urgent)) = waits else { return Ok(None) };
    sql.exec("UPDATE work SET state = 0 WHERE session = ?1 AND seq = ?2", [session, seq])?;
    turns::count_move(sql, urgent, Some(WAITING), Some(QUEUED));
    turns::left(sql, session).map(Some)
}

/// Cancels what a message waits for.
pub(super) fn cancel(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    let cancelled = state_number(ApprovalState::Cancelled);
    sql.exec("UPDATE approvals SET state = ?2, decided_ms = ?3 WHERE seq = ?1 AND state = 0", [seq, cancelled, sql.now_ms()])?;
    Ok(())
}

/// Leaves of a message's approvals who asked what tool when, and how it was decided.
pub(super) fn erase(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    sql.exec("UPDATE approvals SET arguments = 'null', question = '', digest = '', call_id = id WHERE seq = ?1", [seq])?;
    Ok(())
}

const SELECT: &str =
    "SELECT a.n, a.seq, a.id, a.state, a.tool, a.arguments, a.question, a.digest, a.call_id, i.id, s.id, s.agent,
        s.channel, s.user_id, a.created_ms, a.expires_ms, a.decided_by, a.decided_ms
    FROM approvals a CROSS JOIN inbox i ON i.seq = a.seq CROSS JOIN sessions s ON s.n = i.session";

struct Read {
    n: i64,
    seq: i64,
    approval: Approval,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Read> {
    let approval = Approval {
        id: row.get(2)?,
        // What is in none of our states is none to be decided.
        state: ApprovalState::ALL.get(row.get::<_, u8>(3)? as usize).copied().unwrap_or(ApprovalState::Cancelled),
        tool: row.get(4)?,
        arguments: json(row, 5)?,
        question: row.get(6)?,
        digest: row.get(7)?,
        call_id: row.get(8)?,
        message_id: row.get(9)?,
        session_id: row.get(10)?,
        agent: row.get(11)?,
        channel: row.get(12)?,
        user_id: row.get(13)?,
        created_ms: row.get(14)?,
        expires_ms: row.get(15)?,
        decided_by: row.get(16)?,
        decided_ms: row.get(17)?,
    };
    Ok(Read { n: row.get(0)?, seq: row.get(1)?, approval })
}

fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<serde_json::Value> {
    Ok(serde_json::from_str(row.get_ref(column)?.as_str()?).unwrap_or_default())
}

/// One approval.
pub(super) fn approval(sql: &Sql<'_>, id: &str) -> Ran<Approval> {
    match sql.one(&format!("{SELECT} WHERE a.id = ?1"), [id], read)? {
        Some(read) => Ok(read.approval),
        None => not_found(),
    }
}

/// A message's approvals, oldest first.
pub(super) fn of_message(sql: &Sql<'_>, seq: i64) -> Ran<Vec<Approval>> {
    sql.all(&format!("{SELECT} WHERE a.seq = ?1 ORDER BY a.n LIMIT 1000"), [seq], |row| Ok(read(row)?.approval))
}

/// Approvals, newest first.
pub(super) fn approvals(sql: &Sql<'_>, state: Option<ApprovalState>, page: &Page) -> Ran<Listed<Approval>> {
    let (before, limit) = page_of(page)?;
    let filter = match state {
        None => String::new(),
        Some(ApprovalState::Pending) => {
            "AND a.n IN (SELECT n FROM approvals INDEXED BY approvals_pending WHERE state = 0)".to_string()
        }
        Some(state) => format!("AND a.state = {}", state_number(state)),
    };
    let statement = format!("{SELECT} WHERE a.n < ?1 {filter} ORDER BY a.n DESC LIMIT ?2");
    let rows = sql.all(&statement, (before, limit as i64 + 1), read)?;
    Ok(listed(rows, limit, |read| read.n.to_string(), |read| read.approval))
}

/// Puts a rule for exactly that call, once.
fn learn(sql: &Sql<'_>, approval: &Approval, by: &str) -> Ran<()> {
    let call = (&approval.digest, &approval.tool, &approval.agent, &approval.channel, &approval.user_id);
    let known = "SELECT 1 FROM rules WHERE digest = ?1 AND tool = ?2 AND agent = ?3 AND channel = ?4 AND user_id = ?5";
    if sql.one(known, call, |_| Ok(()))?.is_some() {
        return Ok(());
    }
    if sql.one("SELECT count(*) FROM rules", (), |row| row.get::<_, i64>(0))?.unwrap_or(0) >= RULES_MAX {
        return conflict(format!("{RULES_MAX} rules are kept already: forget one first, or allow this call alone"));
    }
    let now = sql.now_ms();
    sql.exec(
        "INSERT INTO rules (id, digest, tool, agent, channel, user_id, created_ms, made_by, arguments)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (new_id("rul", now), call.0, call.1, call.2, call.3, call.4, now, by, approval.arguments.to_string()),
    )?;
    Ok(())
}

/// The rules, oldest first.
pub(super) fn rules(sql: &Sql<'_>) -> Ran<Vec<LearnedRule>> {
    sql.all(
        "SELECT id, tool, agent, channel, user_id, digest, arguments, created_ms, made_by FROM rules ORDER BY n LIMIT ?1",
        [RULES_MAX],
        |row| {
            Ok(LearnedRule {
                id: row.get(0)?,
                tool: row.get(1)?,
                agent: row.get(2)?,
                channel: row.get(3)?,
                user_id: row.get(4)?,
                digest: row.get(5)?,
                arguments: json(row, 6)?,
                created_ms: row.get(7)?,
                by: row.get(8)?,
            })
        },
    )
}

/// Forgets a rule.
pub(super) fn forget_rule(sql: &Sql<'_>, id: &str) -> Ran<()> {
    if sql.exec("DELETE FROM rules WHERE id = ?1", [id])? == 0 { not_found() } else { Ok(()) }
}

/// Forgets a user's rules.
pub(super) fn erase_rules(sql: &Sql<'_>, user_id: &str) -> Ran<()> {
    sql.exec("DELETE FROM rules WHERE user_id = ?1", [user_id]).map(drop)
}
