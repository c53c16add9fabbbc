//! The removal of what is past its time or beyond its size, kind by kind.
//!
//! Invariant: nothing that is still to be answered, delivered or decided is removed, nor what failed or is dead. Removal goes in small
//! steps, so that it never holds the writer for long; a step that a power cut takes back is done again. Fails as any command does.

use std::time::Duration;

use crate::config::{Kept, Retention};
use crate::store::sqlite::inbox::dedup_key;
use crate::store::sqlite::sql::{Ran, Sql};

/// Rows looked at in one step.
const STEP: i64 = 500;
/// The shortest time for which outside ids and idempotency keys are kept: what is promised.
const REPEATS_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most audit entries, and most approvals, that are kept.
const AUDIT_MAX: i64 = 50_000;
/// How many days of usage are kept.
const USAGE_DAYS: i64 = 800;

/// What can be past its time; messages that ended are `transcripts`', files `attachments`'.
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

/// The time before which something is older than `age`; nothing is where there is no such age.
pub(super) fn before(sql: &Sql<'_>, age: Option<Duration>) -> i64 {
    age.map_or(i64::MIN, |age| sql.now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// Removes one step's worth. Gives how many rows went, and whether another step may find more.
pub(super) fn prune(sql: &Sql<'_>, old: Old, keep: &Retention) -> Ran<(u64, bool)> {
    let repeats = before(sql, Some(keep.repeats.max(REPEATS_MIN)));
    let audit = before(sql, keep.audit.max_age);
    let gone = match old {
        Old::Dedup => return prune_dedup(sql, repeats),
        Old::Erased => prune_erased(sql, repeats)?,
        Old::Keys => sql.exec(
            "DELETE FROM idempotency WHERE n IN (SELECT n FROM idempotency ORDER BY n LIMIT ?2) AND at_ms < ?1",
            [repeats, STEP],
        )?,
        Old::Sent => prune_sent(sql, before(sql, keep.outbox.max_age), STEP)?.0,
        Old::Audit => sql.exec(
            "DELETE FROM audit WHERE n IN (SELECT n FROM audit ORDER BY n LIMIT ?2)
                AND (at_ms < ?1 OR n <= (SELECT max(n) FROM audit) - ?3)",
            [audit, STEP, AUDIT_MAX],
        )?,
        Old::Approvals => sql.exec(
            "DELETE FROM approvals WHERE n IN (SELECT n FROM approvals ORDER BY n LIMIT ?2) AND state <> 0
                AND (created_ms < ?1 OR n <= (SELECT max(n) FROM approvals) - ?3)
                AND NOT EXISTS (SELECT 1 FROM inbox i CROSS JOIN work w ON w.session = i.session AND w.seq = i.seq
                    WHERE i.seq = approvals.seq)",
            [audit, STEP, AUDIT_MAX],
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
    let from = sql.one("SELECT value FROM meta WHERE key = 'deduped'", (), |row| row.get::<_, i64>(0))?.unwrap_or(0);
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

/// Of the `most` oldest deliveries that were sent, those before `cutoff`. Gives how many went, and their bytes.
pub(super) fn prune_sent(sql: &Sql<'_>, cutoff: i64, most: i64) -> Ran<(usize, i64)> {
    let old = sql.all(
        "SELECT t.seq, octet_length(coalesce(o.text, '')) + octet_length(coalesce(o.metadata, ''))
         FROM (SELECT seq, at_ms FROM sent ORDER BY seq LIMIT ?2) t LEFT JOIN outbox o ON o.seq = t.seq WHERE t.at_ms < ?1",
        [cutoff, most],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?.unwrap_or(0))),
    )?;
    for (seq, _) in &old {
        forget_sent(sql, *seq)?;
    }
    Ok((old.len(), old.iter().map(|(_, bytes)| bytes).sum()))
}

/// Forgets a delivery that was sent. The newest row stays, without its text: its number must not be given out twice.
pub(super) fn forget_sent(sql: &Sql<'_>, seq: i64) -> Ran<()> {
    sql.exec("DELETE FROM sent WHERE seq = ?1", [seq])?;
    sql.exec("DELETE FROM unclear WHERE seq = ?1", [seq])?;
    if sql.exec("DELETE FROM outbox WHERE seq = ?1 AND seq < (SELECT max(seq) FROM outbox)", [seq])? == 0 {
        sql.exec("UPDATE outbox SET text = '', metadata = NULL WHERE seq = ?1", [seq])?;
    }
    Ok(())
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

/// Kinds whose bytes are counted where a bound on them is set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weighed {
    /// `retention.transcripts`; removing them is `transcripts`' work.
    Transcripts,
    /// `retention.outbox`.
    Outbox,
    /// `retention.audit`.
    Audit,
}

impl Weighed {
    /// All of them.
    pub(super) const ALL: [Weighed; 3] = [Weighed::Transcripts, Weighed::Outbox, Weighed::Audit];

    /// Its bounds. The audit trail, which nothing else makes shorter, never takes more than an eighth of all.
    pub(super) fn kept(self, keep: &Retention) -> Kept {
        match self {
            Weighed::Transcripts => keep.transcripts,
            Weighed::Outbox => keep.outbox,
            Weighed::Audit => {
                Kept { max_bytes: Some(keep.audit.max_bytes.unwrap_or(u64::MAX).min(keep.max_bytes / 8)), ..keep.audit }
            }
        }
    }
}

/// Bytes of up to 2,000 rows beyond `from`: how many rows they are, the last one's number, the bytes.
pub(super) fn weigh(sql: &Sql<'_>, kind: Weighed, from: i64) -> Ran<(i64, i64, i64)> {
    let rows = match kind {
        Weighed::Transcripts => {
            "SELECT e.seq AS n, octet_length(i.text) + octet_length(coalesce(i.metadata, '')) + octet_length(e.text)
                + octet_length(e.journal) AS bytes FROM ended e CROSS JOIN inbox i ON i.seq = e.seq WHERE e.seq > ?1 ORDER BY e.seq"
        }
        Weighed::Outbox => {
            "SELECT t.seq AS n, octet_length(coalesce(o.text, '')) + octet_length(coalesce(o.metadata, '')) AS bytes
             FROM sent t CROSS JOIN outbox o ON o.seq = t.seq WHERE t.seq > ?1 ORDER BY t.seq"
        }
        Weighed::Audit => {
            "SELECT n, octet_length(actor) + octet_length(action) + octet_length(detail) AS bytes FROM audit WHERE n > ?1 ORDER BY n"
        }
    };
    let statement = format!("SELECT count(*), coalesce(max(n), ?1), coalesce(sum(bytes), 0) FROM ({rows} LIMIT 2000)");
    let found = sql.one(&statement, [from], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(found.unwrap_or((0, from, 0)))
}

/// Removes the oldest audit entries, up to `excess` bytes of them. Gives how many, and their bytes.
pub(super) fn lighten_audit(sql: &Sql<'_>, excess: i64) -> Ran<(usize, i64)> {
    let oldest = sql.all(
        "SELECT n, octet_length(actor) + octet_length(action) + octet_length(detail) FROM audit ORDER BY n LIMIT ?1",
        [STEP],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let (mut bytes, mut last) = (0, 0);
    for (n, size) in oldest {
        if bytes >= excess {
            break;
        }
        (bytes, last) = (bytes + size, n);
    }
    Ok((sql.exec("DELETE FROM audit WHERE n <= ?1", [last])?, bytes))
}

/// The number of the newest row of a kind; 0 where there is none.
pub(super) fn newest(sql: &Sql<'_>, kind: Weighed) -> Ran<i64> {
    let statement = match kind {
        Weighed::Transcripts => "SELECT max(seq) FROM ended",
        Weighed::Outbox => "SELECT max(seq) FROM sent",
        Weighed::Audit => "SELECT max(n) FROM audit",
    };
    Ok(sql.one(statement, (), |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0))
}
