//! Pairings: unknown senders who wait to be let in, and those who were.
//!
//! Invariant: a code is good once, for one sender, and never longer than its life by the monotonic clock, however the wall clock
//! jumps; wrong codes are counted on disk. Memory knows who was let in and when codes are over; it changes on the writer's thread after
//! the commit (see `settle`). Fails as any command does.

use std::collections::{HashMap, HashSet};

use rusqlite::Row;

use crate::domain::{PAIRING_TRIES, PAIRINGS_MAX, Pairing};
use crate::store::sqlite::dues::Due;
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::{Listed, Page};

/// Most senders that are let in, on all channels together: memory has them.
const PAIRED_MAX: i64 = if cfg!(test) { 20 } else { 10_000 };
/// Most codes that are looked at in one list.
const WAITING_MAX: usize = 10_000;

/// Who was let in, by channel: it is asked for every message of a channel that pairs.
#[derive(Debug, Default)]
pub(super) struct Paired(HashMap<String, HashSet<String>>);

impl Paired {
    /// Whether that sender was.
    pub(super) fn has(&self, channel: &str, peer: &str) -> bool {
        self.0.get(channel).is_some_and(|peers| peers.contains(peer))
    }

    /// Lets one in.
    pub(super) fn add(&mut self, channel: &str, peer: &str) {
        self.0.entry(channel.to_string()).or_default().insert(peer.to_string());
    }

    /// Takes that back.
    pub(super) fn remove(&mut self, channel: &str, peer: &str) {
        if let Some(peers) = self.0.get_mut(channel) {
            peers.remove(peer);
            if peers.is_empty() {
                self.0.remove(channel);
            }
        }
    }
}

/// What a command did to those who wait.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Rows that are gone: decided, withdrawn, over.
    pub(super) gone: Vec<i64>,
    /// The code that was given, or the one that stands.
    pub(super) asked: Option<(Due, Pairing)>,
    /// Who was decided, and whether they were let in.
    pub(super) decided: Option<(Pairing, bool)>,
}

const SELECT: &str = "SELECT n, code, channel, peer, name, created_ms, expires_ms FROM pairings";

fn read(row: &Row<'_>) -> rusqlite::Result<(Due, Pairing)> {
    let pairing = Pairing {
        code: row.get(1)?,
        channel: row.get(2)?,
        user_id: row.get(3)?,
        name: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
    };
    Ok((Due { n: row.get(0)?, created_ms: pairing.created_ms, expires_ms: pairing.expires_ms }, pairing))
}

/// All that is there at the start: codes, and who was let in.
pub(super) fn fill(sql: &Sql<'_>, shared: &Shared) -> Ran<()> {
    for (due, _) in sql.all(SELECT, (), read)? {
        shared.pairings().put(due, &shared.clock);
    }
    let all = sql.all("SELECT channel, peer FROM paired", (), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut paired = shared.paired();
    all.iter().for_each(|(channel, peer)| paired.add(channel, peer));
    Ok(())
}

/// Removes codes whose time is over, by either clock.
fn remove_over(sql: &Sql<'_>, shared: &Shared) -> Ran<Vec<i64>> {
    let over = shared.pairings().over(&shared.clock, usize::MAX);
    for n in &over {
        sql.exec("DELETE FROM pairings WHERE n = ?1", [n])?;
    }
    Ok(over)
}

/// Lets a sender wait; one who waits already keeps its code.
pub(super) fn ask(sql: &Sql<'_>, shared: &Shared, asked: &Pairing) -> Ran<Changed> {
    let gone = remove_over(sql, shared)?;
    let sender = (&asked.channel, &asked.user_id);
    let waits = sql.one(&format!("{SELECT} WHERE channel = ?1 AND peer = ?2"), sender, read)?;
    if waits.is_some() {
        return Ok(Changed { gone, asked: waits, decided: None });
    }
    if is_paired(sql, sender.0, sender.1)? {
        return conflict("this sender was let in already");
    }
    let count = sql.one("SELECT count(*) FROM pairings WHERE channel = ?1", [&asked.channel], |row| row.get::<_, i64>(0))?;
    if count.unwrap_or(0) >= PAIRINGS_MAX as i64 {
        return conflict(format!("{PAIRINGS_MAX} unknown senders of this channel wait already"));
    }
    let n = sql.insert(
        "INSERT INTO pairings (code, channel, peer, name, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (&asked.code, &asked.channel, &asked.user_id, &asked.name, asked.created_ms, asked.expires_ms),
    )?;
    let due = Due { n, created_ms: asked.created_ms, expires_ms: asked.expires_ms };
    Ok(Changed { gone, asked: Some((due, asked.clone())), decided: None })
}

fn is_paired(sql: &Sql<'_>, channel: &str, peer: &str) -> Ran<bool> {
    Ok(sql.one("SELECT 1 FROM paired WHERE channel = ?1 AND peer = ?2", [channel, peer], |_| Ok(()))?.is_some())
}

/// Decides who waits under a code. Where nobody does, it gives nobody and has counted the try: that must be committed, too.
pub(super) fn decide(sql: &Sql<'_>, shared: &Shared, code: &str, approve: bool) -> Ran<Changed> {
    let mut gone = remove_over(sql, shared)?;
    let Some((due, pairing)) = sql.one(&format!("{SELECT} WHERE code = ?1"), [code], read)? else {
        let wrong = sql.one("SELECT value FROM meta WHERE key = 'wrong_codes'", (), |row| row.get::<_, i64>(0))?.unwrap_or(0) + 1;
        if wrong < i64::from(PAIRING_TRIES) {
            sql.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('wrong_codes', ?1)", [wrong])?;
        } else {
            forget_wrong_codes(sql)?;
            gone.extend(sql.all("DELETE FROM pairings RETURNING n", (), |row| row.get::<_, i64>(0))?);
        }
        return Ok(Changed { gone, asked: None, decided: None });
    };
    if approve {
        if sql.one("SELECT count(*) FROM paired", (), |row| row.get::<_, i64>(0))?.unwrap_or(0) >= PAIRED_MAX {
            return conflict(format!("{PAIRED_MAX} senders are let in already: take one back first, or open the channel"));
        }
        let now = sql.now_ms();
        sql.exec(
            "INSERT OR REPLACE INTO paired (channel, peer, at_ms) VALUES (?1, ?2, ?3)",
            (&pairing.channel, &pairing.user_id, now),
        )?;
    }
    forget_wrong_codes(sql)?;
    sql.exec("DELETE FROM pairings WHERE n = ?1", [due.n])?;
    gone.push(due.n);
    Ok(Changed { gone, asked: None, decided: Some((pairing, approve)) })
}

fn forget_wrong_codes(sql: &Sql<'_>) -> Ran<()> {
    sql.exec("DELETE FROM meta WHERE key = 'wrong_codes'", ()).map(drop)
}

/// Who waits, newest first.
pub(super) fn pairings(sql: &Sql<'_>, shared: &Shared, page: &Page) -> Ran<Listed<Pairing>> {
    let (before, limit) = page_of(page)?;
    let over: HashSet<i64> = shared.pairings().over(&shared.clock, usize::MAX).into_iter().collect();
    let statement = format!("{SELECT} WHERE n < ?1 ORDER BY n DESC LIMIT ?2");
    let mut rows = sql.all(&statement, (before, WAITING_MAX as i64), read)?;
    rows.retain(|(due, _)| !over.contains(&due.n) && due.expires_ms > sql.now_ms());
    rows.truncate(limit + 1);
    Ok(listed(rows, limit, |(due, _)| due.n.to_string(), |(_, pairing)| pairing))
}

/// Takes back that a sender was let in.
pub(super) fn unpair(sql: &Sql<'_>, channel: &str, peer: &str) -> Ran<()> {
    if sql.exec("DELETE FROM paired WHERE channel = ?1 AND peer = ?2", [channel, peer])? == 0 { not_found() } else { Ok(()) }
}
