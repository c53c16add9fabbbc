//! Notes: what agents keep about users, and the index by which they are found.
//!
//! Invariant: a note and its words in the index change in one transaction; what is forgotten leaves no byte in the file. Whose
//! note it is is checked on its row, not only in the index. Fails as any command does.

use rusqlite::Row;

use crate::domain::{NOTE_BYTES_MAX, NOTES_MAX, Note};
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::sqlite::words;
use crate::store::{Listed, Page};

/// From so many notes on it is cheaper to write the index anew than to look for each of their words in it.
const MANY: usize = 16;
/// Most notes that a search gives.
const FOUND_MAX: usize = 100;

const COLUMNS: &str = "n.n, n.id, n.user_id, n.agent, n.text, n.created_ms, n.updated_ms";

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Note)> {
    let note = Note {
        id: row.get(1)?,
        user_id: row.get(2)?,
        agent: row.get(3)?,
        text: row.get(4)?,
        created_ms: row.get(5)?,
        updated_ms: row.get(6)?,
    };
    Ok((row.get(0)?, note))
}

fn find(sql: &Sql<'_>, id: &str) -> Ran<Option<(i64, Note)>> {
    sql.one(&format!("SELECT {COLUMNS} FROM notes n WHERE n.id = ?1"), [id], read)
}

fn fits(text: &str) -> Ran<()> {
    if text.len() > NOTE_BYTES_MAX { conflict(format!("a note takes at most {NOTE_BYTES_MAX} bytes")) } else { Ok(()) }
}

/// Keeps a note, once.
pub(super) fn add(sql: &Sql<'_>, note: &Note) -> Ran<()> {
    if find(sql, &note.id)?.is_some() {
        return Ok(());
    }
    fits(&note.text)?;
    let kept = sql.one("SELECT count(*) FROM notes WHERE user_id = ?1 AND agent = ?2", (&note.user_id, &note.agent), |row| {
        row.get::<_, i64>(0)
    })?;
    if kept.unwrap_or(0) >= NOTES_MAX as i64 {
        return conflict(format!("{NOTES_MAX} notes are kept of this user already: forget one first"));
    }
    let n = sql.insert(
        "INSERT INTO notes (id, user_id, agent, text, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (&note.id, &note.user_id, &note.agent, &note.text, note.created_ms, note.updated_ms),
    )?;
    index(sql, n, note)
}

fn index(sql: &Sql<'_>, n: i64, note: &Note) -> Ran<()> {
    let words = (n, words::owner(&note.user_id, &note.agent), words::indexed(&note.text));
    sql.exec("INSERT INTO words (rowid, owner, text) VALUES (?1, ?2, ?3)", words).map(drop)
}

fn take_from_index(sql: &Sql<'_>, n: i64, note: &Note) -> Ran<()> {
    let words = (n, words::owner(&note.user_id, &note.agent), words::indexed(&note.text));
    sql.exec("INSERT INTO words (words, rowid, owner, text) VALUES ('delete', ?1, ?2, ?3)", words).map(drop)
}

/// Changes a note's text.
pub(super) fn change(sql: &Sql<'_>, id: &str, text: &str) -> Ran<Note> {
    let Some((n, before)) = find(sql, id)? else { return not_found() };
    fits(text)?;
    let after = Note { text: text.to_string(), updated_ms: sql.now_ms(), ..before.clone() };
    sql.erase_log();
    take_from_index(sql, n, &before)?;
    sql.exec("UPDATE notes SET text = ?2, updated_ms = ?3 WHERE n = ?1", (n, &after.text, after.updated_ms))?;
    index(sql, n, &after)?;
    Ok(after)
}

/// Forgets a note.
pub(super) fn forget(sql: &Sql<'_>, id: &str) -> Ran<()> {
    let Some((n, note)) = find(sql, id)? else { return not_found() };
    sql.erase_log();
    remove(sql, n, &note)
}

fn remove(sql: &Sql<'_>, n: i64, note: &Note) -> Ran<()> {
    take_from_index(sql, n, note)?;
    sql.exec("DELETE FROM notes WHERE n = ?1", [n]).map(drop)
}

/// Forgets all notes of a user.
pub(super) fn erase_user(sql: &Sql<'_>, user_id: &str) -> Ran<()> {
    let all = sql.all(&format!("SELECT {COLUMNS} FROM notes n WHERE n.user_id = ?1"), [user_id], read)?;
    if all.len() < MANY {
        return all.iter().try_for_each(|(n, note)| remove(sql, *n, note));
    }
    const SECURE: &str = "INSERT INTO words (words, rank) VALUES ('secure-delete', ?1)";
    sql.exec(SECURE, [0])?;
    all.iter().try_for_each(|(n, note)| remove(sql, *n, note))?;
    sql.exec("INSERT INTO words (words) VALUES ('optimize')", ())?;
    sql.exec(SECURE, [1]).map(drop)
}

/// One note.
pub(super) fn note(sql: &Sql<'_>, id: &str) -> Ran<Note> {
    match find(sql, id)? {
        Some((_, note)) => Ok(note),
        None => not_found(),
    }
}

/// A user's notes, newest first, with one agent or all.
pub(super) fn notes(sql: &Sql<'_>, user_id: &str, agent: Option<&str>, page: &Page) -> Ran<Listed<Note>> {
    let (before, limit) = page_of(page)?;
    let statement = format!(
        "SELECT {COLUMNS} FROM notes n WHERE n.user_id = ?1 AND (?2 IS NULL OR n.agent = ?2) AND n.n < ?3 ORDER BY n.n DESC LIMIT ?4"
    );
    let rows = sql.all(&statement, (user_id, agent, before, limit as i64 + 1), read)?;
    Ok(listed(rows, limit, |(n, _)| n.to_string(), |(_, note)| note))
}

/// The notes that fit a text best.
pub(super) fn search(sql: &Sql<'_>, user_id: &str, agent: &str, text: &str, limit: usize) -> Ran<Vec<Note>> {
    let Some(sought) = words::sought(&words::owner(user_id, agent), text) else { return Ok(Vec::new()) };
    let statement = format!(
        "SELECT {COLUMNS} FROM words CROSS JOIN notes n ON n.n = words.rowid
         WHERE words MATCH ?1 AND n.user_id = ?2 AND n.agent = ?3 ORDER BY bm25(words, 0.0, 1.0), n.n DESC LIMIT ?4"
    );
    sql.all(&statement, (sought, user_id, agent, limit.min(FOUND_MAX) as i64), |row| Ok(read(row)?.1))
}
