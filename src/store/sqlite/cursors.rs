//! Cursors: how far each channel has read its service.
//!
//! Invariant: one that comes with a message is in the message's transaction, so that it is never ahead of the inbox. One that
//! says what is kept already writes nothing. Fails as any command does.

use crate::store::sqlite::sql::{Ran, Sql};

/// The cursor of that name.
pub(super) fn cursor(sql: &Sql<'_>, name: &str) -> Ran<Option<String>> {
    sql.one("SELECT value FROM cursors WHERE name = ?1", [name], |row| row.get(0))
}

/// Puts a cursor.
pub(super) fn set(sql: &Sql<'_>, name: &str, value: &str) -> Ran<()> {
    sql.exec(
        "INSERT INTO cursors (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        (name, value),
    )
    .map(drop)
}
