//! Attachments: which files came with a message, and where their bytes are.
//!
//! Invariant: a row names a file only after the file is on the disk, and a file goes only after the commit that took its name away; what
//! lies between is a file that no row names, which the next start removes. All kept files together are bounded: the oldest make
//! room, never those of a message that is still to be answered. Fails as any command does; a disk that takes no file is
//! `Unavailable`.

use std::io;

use rusqlite::Connection;

use crate::base::crash;
use crate::config::Retention;
use crate::domain::{ATTACHMENTS_MAX, Attached, Attachment, AttachmentState};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::sqlite::{SqliteStore, prune as pruning};
use crate::store::{Result, StoreError};

/// How many they are at most.
pub(super) const KEPT_MAX: i64 = 10_000;
/// Files that make room at a time.
const STEP: i64 = 100;

impl SqliteStore {
    /// Keeps the bytes of an attachment, on the caller's thread but for the row.
    pub(super) fn keep_file(&self, message_id: &str, n: usize, bytes: &[u8]) -> Result<()> {
        if self.shared.is_closed() {
            return Err(StoreError::Stopped);
        }
        let unavailable = |e: io::Error| StoreError::Unavailable(format!("an attachment can't be kept: {e}"));
        let file = self.shared.files.put(bytes, self.shared.clock.unix_ms()).map_err(unavailable)?;
        crash::point("attachment.written");
        let (id, name, size) = (message_id.to_string(), file.clone(), bytes.len() as i64);
        let after = |shared: &Shared, outcome: &Result<(Vec<String>, i64)>| {
            if let Ok((gone, kept)) = outcome {
                shared.files.remove_all(gone);
                shared.meter.set_files(*kept);
            }
        };
        let most = most_bytes(&self.shared.meter.keep.get());
        let work = move |sql: &Sql<'_>| Ok((keep(sql, &id, n, (&name, size), most)?, kept_bytes(sql)?));
        let kept = self.ask(true, work, after, |_, _| {});
        match kept {
            Ok(_) => Ok(()),
            Err(e) => {
                // Should a disk that hung have written the row all the same, the next start puts it right.
                self.shared.files.remove_all(&[file]);
                Err(e)
            }
        }
    }

    /// The bytes that were kept.
    pub(super) fn file(&self, message_id: &str, n: usize) -> Result<Vec<u8>> {
        let name = self.read(|sql| {
            sql.one(
                "SELECT a.file FROM inbox i CROSS JOIN attachments a ON a.seq = i.seq WHERE i.id = ?1 AND a.n = ?2",
                (message_id, n as i64),
                |row| row.get::<_, Option<String>>(0),
            )
        })?;
        let Some(name) = name.flatten() else { return Err(StoreError::NotFound) };
        self.shared.files.read(&name).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound,
            _ => StoreError::Unavailable(format!("an attachment can't be read: {e}")),
        })
    }
}

/// Puts what came with a message.
pub(super) fn put(sql: &Sql<'_>, seq: i64, attachments: &[Attachment]) -> Ran<()> {
    for (n, a) in attachments.iter().take(ATTACHMENTS_MAX).enumerate() {
        let bytes = a.bytes.map(|b| i64::try_from(b).unwrap_or(i64::MAX));
        sql.exec(
            "INSERT INTO attachments (seq, n, state, bytes, name, media_type, reference) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6)",
            (seq, n as i64, bytes, &a.name, &a.media_type, &a.reference),
        )?;
    }
    Ok(())
}

/// What came with a message, in order.
pub(super) fn of_message(sql: &Sql<'_>, seq: i64) -> Ran<Vec<Attached>> {
    sql.all("SELECT state, bytes, name, media_type, reference FROM attachments WHERE seq = ?1 ORDER BY n", [seq], |row| {
        let bytes = row.get::<_, Option<i64>>(1)?.map(|b| b.max(0) as u64);
        let file = Attachment { name: row.get(2)?, media_type: row.get(3)?, reference: row.get(4)?, bytes };
        Ok(Attached { file, state: AttachmentState::ALL.get(row.get::<_, u8>(0)? as usize).copied().unwrap_or_default() })
    })
}

/// Notes that one could not be had.
pub(super) fn miss(sql: &Sql<'_>, message_id: &str, n: usize) -> Ran<()> {
    sql.exec(
        "UPDATE attachments SET state = 2 WHERE seq = (SELECT seq FROM inbox WHERE id = ?1) AND n = ?2 AND file IS NULL",
        (message_id, n as i64),
    )
    .map(drop)
}

/// Names the file of one; gives the files that go for it, where all may have `most` bytes.
fn keep(sql: &Sql<'_>, message_id: &str, n: usize, (file, bytes): (&str, i64), most: i64) -> Ran<Vec<String>> {
    let before = sql.one(
        "SELECT a.seq, a.file FROM inbox i CROSS JOIN attachments a ON a.seq = i.seq WHERE i.id = ?1 AND a.n = ?2",
        (message_id, n as i64),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)),
    )?;
    let Some((seq, before)) = before else { return not_found() };
    sql.exec("UPDATE attachments SET state = 1, file = ?3, bytes = ?4 WHERE seq = ?1 AND n = ?2", (seq, n as i64, file, bytes))?;
    let mut gone: Vec<String> = before.into_iter().collect();
    make_room(sql, most, KEPT_MAX, &mut gone)?;
    Ok(gone)
}

/// Bytes that all files may have: never more than half of what all together may, or they could fill it while their messages wait.
fn most_bytes(keep: &Retention) -> i64 {
    i64::try_from(keep.attachments.max_bytes.unwrap_or(u64::MAX).min(keep.max_bytes / 2)).unwrap_or(i64::MAX)
}

/// Bytes of all files.
pub(super) fn kept_bytes(sql: &Sql<'_>) -> Ran<i64> {
    let sum = "SELECT COALESCE(sum(bytes), 0) FROM attachments INDEXED BY attachments_kept WHERE file IS NOT NULL";
    Ok(sql.one(sum, (), |row| row.get(0))?.unwrap_or(0))
}

/// Takes away one step's worth of files that are too old, or more than may be; gives them.
pub(super) fn prune(sql: &Sql<'_>, keep: &Retention) -> Ran<Vec<String>> {
    let cutoff = pruning::before(sql, keep.attachments.max_age);
    let excess = kept_bytes(sql)? - most_bytes(keep);
    let oldest = sql.all(
        "SELECT a.seq, a.n, a.bytes, a.file, i.received_ms < ?1 FROM attachments a INDEXED BY attachments_kept
            CROSS JOIN inbox i ON i.seq = a.seq
         WHERE a.file IS NOT NULL AND NOT EXISTS (SELECT 1 FROM work w WHERE w.session = i.session AND w.seq = i.seq)
         ORDER BY a.seq LIMIT ?2",
        [cutoff, STEP],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get::<_, bool>(4)?)),
    )?;
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for (seq, n, size, file, is_old) in oldest {
        if !is_old && bytes >= excess {
            continue;
        }
        sql.exec("UPDATE attachments SET state = 3, file = NULL WHERE seq = ?1 AND n = ?2", [seq, n])?;
        bytes += size;
        gone.push(file);
    }
    Ok(gone)
}

pub(super) fn make_room(sql: &Sql<'_>, bytes_max: i64, kept_max: i64, gone: &mut Vec<String>) -> Ran<()> {
    let sums = "SELECT COALESCE(sum(bytes), 0), count(*) FROM attachments INDEXED BY attachments_kept WHERE file IS NOT NULL";
    let sums = sql.one(sums, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let (mut bytes, mut kept) = sums.unwrap_or_default();
    while bytes > bytes_max || kept > kept_max {
        let oldest = sql.all(
            "SELECT a.seq, a.n, a.bytes, a.file FROM attachments a INDEXED BY attachments_kept
             WHERE a.file IS NOT NULL AND NOT EXISTS (SELECT 1 FROM inbox i CROSS JOIN work w ON w.session = i.session AND w.seq = i.seq
                WHERE i.seq = a.seq) ORDER BY a.seq LIMIT ?1",
            [STEP],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?)),
        )?;
        if oldest.is_empty() {
            return conflict("the attachments of messages that are to be answered fill all the room");
        }
        for (seq, n, size, file) in oldest {
            if bytes <= bytes_max && kept <= kept_max {
                break;
            }
            sql.exec("UPDATE attachments SET state = 3, file = NULL WHERE seq = ?1 AND n = ?2", [seq, n])?;
            (bytes, kept) = (bytes - size, kept - 1);
            gone.push(file);
        }
    }
    Ok(())
}

/// Forgets what came with a message; gives the files that nothing names any more.
pub(super) fn erase(sql: &Sql<'_>, seq: i64) -> Ran<Vec<String>> {
    let files = sql.all("SELECT file FROM attachments WHERE seq = ?1 AND file IS NOT NULL", [seq], |row| row.get(0))?;
    sql.exec("DELETE FROM attachments WHERE seq = ?1", [seq])?;
    Ok(files)
}

/// Removes files that no row names (what a former process left behind), and has those fetched again that are not there (a backup
/// without them); once, at the start.
pub(super) fn sweep(conn: &Connection, shared: &Shared) -> Ran<()> {
    let sql = Sql::new(conn, &shared.clock);
    let known = "SELECT file FROM attachments INDEXED BY attachments_kept WHERE file IS NOT NULL";
    let known = sql.all(known, (), |row| row.get(0))?.into_iter().collect();
    shared.meter.set_files(kept_bytes(&sql)?);
    let (gone, missing) = shared.files.sweep(&known);
    for file in missing {
        conn.execute("UPDATE attachments SET state = 0, file = NULL WHERE file = ?1", [file])?;
    }
    if gone > 0 {
        log::info!("{gone} unfinished attachments of a former process were removed");
    }
    Ok(())
}
