//! The audit trail.
//!
//! Invariant: an entry is never waited for, and never changed but to take out what a user said, where that user is erased. Fails as any command
//! does.

use crossbeam_channel::TrySendError;

use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::command::Command;
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::writer::Item;
use crate::store::{AuditEntry, Listed, Page, Result};

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
