//! The audit trail, and the removal of what is past its time.
//!
//! Invariant: nothing that is still to be done is removed, nor what failed or is dead, nor a transcript. Removal goes in small
//! steps, so that it never holds the writer for long. Fails as any command does.

use std::time::Duration;

use crossbeam_channel::TrySendError;

use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::command::Command;
use crate::store::sqlite::inbox::{dedup_key, listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::writer::Item;
use crate::store::{AuditEntry, Listed, Page, Result};

/// Rows looked at in one step.
const STEP: i64 = 500;
/// The shortest time for which outside ids and idempotency keys are kept.
const KEEP_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long audit entries are kept.
const AUDIT_KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
/// Most audit entries that are kept.
const AUDIT_MAX: i64 = 50_000;
/// How many days of usage are kept.
const USAGE_DAYS: i64 = 800;

impl SqliteStore {
    /// Hands an entry to the writer without waiting, beside its queue where that is full.
    pub(super) fn put_audit(&self, entry: AuditEntry) {
        let Some(queue) = self.queue.as_ref().filter(|_| !self.shared.is_closed()) else { return };
        let told = Box::new(|outcome: Result<()>| {
            if let Err(e) = outcome {
                log::warn!("an audit entry was dropped: {e}");
            }
        });
        let command = Command::new(&self.shared, true, None, move |sql| add(sql, &entry), told);
        if let Err(TrySendError::Full(Item::Write(command))) = queue.try_send(Item::Write(command))
            && self.shared.put_beside(command)
        {
            let _ = queue.try_send(Item::Nudge); // a queue that is full again is its own nudge
        }
    }
}

/// Adds an entry.
pub(super) fn add(sql: &Sql<'_>, entry: &AuditEntry) -> Ran<()> {
    sql.exec(
        "INSERT INTO audit (at_ms, actor, action, detail) VALUES (?1, ?2, ?3, ?4)",
        (entry.at_ms, &entry.actor, &entry.action, entry.detail.to_string()),
    )?;
    Ok(())
}

/// Takes out of the trail what a user said: the arguments of calls on their behalf, what was asked about them, what of them was refused,
/// and how they call themselves. Who did what when stays.
pub(super) fn redact(sql: &Sql<'_>, user_id: &str) -> Ran<()> {
    sql.exec(
        "UPDATE audit SET detail = json_remove(detail, '$.arguments', '$.question', '$.digest', '$.callId', '$.name',
             CASE action WHEN 'tool.refused' THEN '$.outcome' ELSE '$.arguments' END)
         WHERE CASE WHEN json_valid(detail) THEN json_extract(detail, '$.userId') = ?1 END",
        [user_id],
    )
    .map(drop)
}

/// The trail, newest first.
pub(super) fn trail(sql: &Sql<'_>, page: &Page) -> Ran<Listed<AuditEntry>> {
    let (before, limit) = page_of(page)?;
    let rows = sql.all(
        "SELECT n, at_ms, actor, action, detail FROM audit WHERE n < ?1 ORDER BY n DESC LIMIT ?2",
        (before, limit as i64 + 1),
        |row| {
            let detail = serde_json::from_str(row.get_ref(4)?.as_str()?).unwrap_or_default();
            Ok((row.get::<_, i64>(0)?, AuditEntry { at_ms: row.get(1)?, actor: row.get(2)?, action: row.get(3)?, detail }))
        },
    )?;
    Ok(listed(rows, limit, |(n, _)| n.to_string(), |(_, entry)| entry))
}

/// What can be past its time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Old {
    /// Outside ids of messages.
    Dedup,
    /// Idempotency keys of callers.
    Keys,
    /// Deliveries that were sent.
    Sent,
    /// Messages of erased sessions.
    Erased,
    /// Audit entries.
    Audit,
    /// Approvals of messages that ended: kept as long as audit entries.
    Approvals,
    /// Accounts of what was used.
    Usage,
}

impl Old {
    /// All of them.
    pub(super) const ALL: [Old; 7] = [Old::Dedup, Old::Keys, Old::Sent, Old::Erased, Old::Audit, Old::Approvals, Old::Usage];
}

/// Removes one step's worth. Gives how many rows went, and whether another step may find more.
pub(super) fn prune(sql: &Sql<'_>, old: Old, keep: Duration) -> Ran<(u64, bool)> {
    let before = |keep: Duration| sql.now_ms().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let cutoff = before(keep.max(KEEP_MIN));
    let gone = match old {
        Old::Dedup => return prune_dedup(sql, cutoff),
        Old::Erased => prune_erased(sql, cutoff)?,
        Old::Keys => sql.exec(
            "DELETE FROM idempotency WHERE n IN (SELECT n FROM idempotency ORDER BY n LIMIT ?2) AND at_ms < ?1",
            [cutoff, STEP],
        )?,
        Old::Sent => prune_sent(sql, cutoff)?,
        Old::Audit => sql.exec(
            "DELETE FROM audit WHERE n IN (SELECT n FROM audit ORDER BY n LIMIT ?2)
                AND (at_ms < ?1 OR n <= (SELECT max(n) FROM audit) - ?3)",
            [before(AUDIT_KEEP.max(keep)), STEP, AUDIT_MAX],
        )?,
        Old::Approvals => sql.exec(
            "DELETE FROM approvals WHERE n IN (SELECT n FROM approvals ORDER BY n LIMIT ?2) AND state <> 0
                AND (created_ms < ?1 OR n <= (SELECT max(n) FROM approvals) - ?3)
                AND NOT EXISTS (SELECT 1 FROM inbox i CROSS JOIN work w ON w.session = i.session AND w.seq = i.seq
                    WHERE i.seq = approvals.seq)",
            [before(AUDIT_KEEP.max(keep)), STEP, AUDIT_MAX],
        )?,
        Old::Usage => {
            sql.exec("DELETE FROM usage WHERE day = (SELECT min(day) FROM usage) AND day < ?1", [sql.today() - USAGE_DAYS])?
        }
    };
    Ok((gone as u64, gone > 0))
}

/// Outside ids go in the order in which they came, from where the last step ended: no index by time is needed. One that seems
/// old because the wall clock was behind when it came is kept as long as those before it.
fn prune_dedup(sql: &Sql<'_>, cutoff: i64) -> Ran<(u64, bool)> {
    let from = sql.one("SELECT value FROM meta WHERE key = 'deduped'", [], |row| row.get::<_, i64>(0))?.unwrap_or(0);
    let rows = sql.all(
        "SELECT i.seq, i.received_ms, s.channel, s.conversation, i.peer, i.external_id
         FROM inbox i CROSS JOIN sessions s ON s.n = i.session WHERE i.seq > ?1 ORDER BY i.seq LIMIT ?2",
        [from, STEP],
        |row| {
            let text = |i: usize| row.get_ref(i)?.as_str().map_err(rusqlite::Error::from);
            let external: Option<String> = row.get(5)?;
            let scope = (text(2)?, text(3)?, text(4)?);
            let key = external.map(|external| dedup_key(scope.0, scope.1, scope.2, &external));
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, key))
        },
    )?;
    let old: Vec<_> = rows.iter().take_while(|(_, received_ms, _)| *received_ms < cutoff).collect();
    let Some((last, ..)) = old.last() else { return Ok((0, false)) };
    let mut gone = 0;
    for (seq, _, key) in &old {
        if let Some(hash) = key {
            // By chance it may stand a few keys further on.
            gone += sql.exec("DELETE FROM dedup WHERE hash BETWEEN ?1 AND ?1 + 8 AND seq = ?2", [*hash, *seq])?;
        }
    }
    sql.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('deduped', ?1)", [last])?;
    Ok((gone as u64, old.len() == rows.len()))
}

fn prune_sent(sql: &Sql<'_>, cutoff: i64) -> Ran<usize> {
    let old =
        sql.all("SELECT seq FROM (SELECT seq, at_ms FROM sent ORDER BY seq LIMIT ?2) WHERE at_ms < ?1", [cutoff, STEP], |row| {
            row.get::<_, i64>(0)
        })?;
    for seq in &old {
        sql.exec("DELETE FROM sent WHERE seq = ?1", [seq])?;
        sql.exec("DELETE FROM unclear WHERE seq = ?1", [seq])?;
        sql.exec("DELETE FROM outbox WHERE seq = ?1 AND seq < (SELECT max(seq) FROM outbox)", [seq])?;
    }
    Ok(old.len())
}

/// Rows of erased sessions go once their outside ids did, the oldest first. The newest row stays: its number must not be given
/// out twice.
fn prune_erased(sql: &Sql<'_>, cutoff: i64) -> Ran<usize> {
    let sessions = sql.all(
        "SELECT n FROM (SELECT n FROM sessions WHERE state = 2 AND n < (SELECT max(n) FROM sessions) ORDER BY n LIMIT ?2) s
         WHERE NOT EXISTS (SELECT 1 FROM ended e WHERE e.session = s.n AND (e.ended_ms >= ?1 OR e.seq >
                COALESCE((SELECT value FROM meta WHERE key = 'deduped'), 0)))
            AND NOT EXISTS (SELECT 1 FROM ended e WHERE e.session = s.n AND e.seq = (SELECT max(seq) FROM inbox))",
        [cutoff, STEP],
        |row| row.get::<_, i64>(0),
    )?;
    let mut gone = 0;
    for session in sessions {
        let most = STEP - gone as i64;
        let old = sql.all("SELECT seq FROM ended WHERE session = ?1 LIMIT ?2", [session, most], |row| row.get::<_, i64>(0))?;
        for seq in &old {
            sql.exec("DELETE FROM inbox WHERE seq = ?1", [seq])?;
            sql.exec("DELETE FROM ended WHERE seq = ?1", [seq])?;
            sql.exec("DELETE FROM approvals WHERE seq = ?1", [seq])?;
        }
        gone += old.len();
        if (old.len() as i64) == most {
            return Ok(gone); // it may have more, and the step is done
        }
        sql.exec("DELETE FROM uses WHERE session = ?1", [session])?;
        sql.exec("DELETE FROM sessions WHERE n = ?1", [session])?;
        gone += 1;
    }
    Ok(gone)
}
