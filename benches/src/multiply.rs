//! Makes a big store of a small one: the rows that a gateway left for a few messages, again and again, with numbers, ids, users and
//! times of their own.
//!
//! Invariant: no row is made up. Every value that is no number, id, user or time is the gateway's own, in the gateway's own tables and
//! indexes; a table that holds rows and isn't known here is an error, so that a store of a later version is not filled by half.
//! Sessions take turns with every message, which is how their rows lie apart on the disk as they would after months. Fails where
//! the file is no store at rest (`SIGTERM` closes one).

use std::collections::HashMap;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Outcome;

/// Tables whose rows don't come with messages.
const APART: [&str; 2] = ["meta", "deaths"];
/// Tables with a row for each session, by the column that leads to it.
const OF_SESSIONS: [(&str, &str); 4] = [("sessions", "n"), ("uses", "session"), ("seen", "user_id"), ("usage", "user_id")];
/// Tables with a row for each message, or for some of them.
const OF_MESSAGES: [&str; 5] = ["inbox", "ended", "dedup", "outbox", "sent"];
/// Between two messages, so that a million of them are about ten days.
const PAUSE_MS: i64 = 850;

/// The user of session number `n` (from 0). Even ones wrote over the webhook, odd ones over a WebSocket.
pub fn user(n: u64) -> String {
    format!("sender-{n}")
}

/// One row of the gateway's.
#[derive(Clone)]
struct Row(Vec<Value>);

/// What a session of the gateway's left: its own rows, and the rows of one of its messages.
struct Pattern {
    user: String,
    of_session: Vec<(usize, Row)>,
    of_message: Vec<(usize, Row)>,
}

/// How rows are put to a table.
struct Table {
    name: &'static str,
    columns: Vec<String>,
}

impl Table {
    fn look(store: &Connection, name: &'static str) -> Outcome<Table> {
        let statement = store.prepare(&format!("SELECT * FROM {name}"))?;
        Ok(Table { name, columns: statement.column_names().map(String::from).collect() })
    }

    fn insert(&self) -> String {
        let marks = vec!["?"; self.columns.len()].join(",");
        format!("INSERT INTO {} ({}) VALUES ({marks})", self.name, self.columns.join(","))
    }

    /// The first row where `column` is `value`, if any is.
    fn row(&self, store: &Connection, column: &str, value: &Value) -> Outcome<Option<Row>> {
        let mut statement = store.prepare(&format!("SELECT * FROM {} WHERE {column} = ? LIMIT 1", self.name))?;
        let mut rows = statement.query([value])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Row((0..self.columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?)))
    }

    fn value<'a>(&self, row: &'a Row, column: &str) -> Option<&'a Value> {
        self.columns.iter().position(|name| name == column).map(|at| &row.0[at])
    }
}

/// What is new in a row.
struct New<'a> {
    /// Of the session, from 1.
    session: i64,
    /// Of the message in the inbox.
    seq: i64,
    /// Of the message in the outbox.
    sent: i64,
    /// Of the message in its session, from 1.
    turn: i64,
    turns: i64,
    at_ms: i64,
    user: &'a str,
}

/// Fills the store in `folder`, which holds one session for each of `users` of at least one message, up to `sessions` and `messages`.
pub fn multiply(folder: &Path, users: [&str; 2], sessions: u64, messages: u64) -> Outcome<()> {
    let mut store = Connection::open(folder.join("gatelet.db"))?;
    // Nothing here has to outlive a crash.
    store.execute_batch(
        "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-262144; PRAGMA temp_store=MEMORY;",
    )?;
    refuse_unknown(&store)?;
    let tables: Vec<Table> = OF_SESSIONS
        .iter()
        .map(|(name, _)| *name)
        .chain(OF_MESSAGES)
        .map(|name| Table::look(&store, name))
        .collect::<Outcome<_>>()?;
    let patterns = [pattern(&store, &tables, users[0])?, pattern(&store, &tables, users[1])?];
    let last = |what: &str| store.query_row(&format!("SELECT COALESCE(max({what}"), (), |row| row.get::<_, i64>(0));
    let (session, inbox, outbox) = (last("n), 0) FROM sessions")?, last("seq), 0) FROM inbox")?, last("seq), 0) FROM outbox")?);
    let newest = last("received_ms), 0) FROM inbox")?;
    let transaction = store.transaction()?;
    {
        let mut inserts = tables.iter().map(|t| transaction.prepare(&t.insert())).collect::<Result<Vec<_>, _>>()?;
        let mut put = |rows: &[(usize, Row)], pattern: &Pattern, new: &New<'_>| -> Outcome<()> {
            for (table, row) in rows {
                inserts[*table].execute(params_from_iter(renew(&tables[*table], row, pattern, new)))?;
            }
            Ok(())
        };
        for message in 0..messages {
            let (of, turn) = (message % sessions, message / sessions);
            let (pattern, user) = (&patterns[(of % 2) as usize], user(of));
            let new = New {
                session: session + 1 + of as i64,
                seq: inbox + 1 + message as i64,
                sent: outbox + 1 + message as i64,
                turn: turn as i64 + 1,
                turns: (messages / sessions) as i64,
                at_ms: newest - (messages - message) as i64 * PAUSE_MS,
                user: &user,
            };
            if turn == 0 {
                put(&pattern.of_session, pattern, &new)?;
            }
            put(&pattern.of_message, pattern, &new)?;
        }
    }
    transaction.commit()?;
    Ok(store.execute_batch("PRAGMA journal_mode=WAL")?)
}

/// The size of a closed store, in bytes, and how many messages it holds.
pub fn size(folder: &Path) -> Outcome<(u64, u64)> {
    let file = folder.join("gatelet.db");
    let count = Connection::open(&file)?.query_row("SELECT count(*) FROM inbox", (), |row| row.get::<_, i64>(0))?;
    Ok((std::fs::metadata(file)?.len(), count as u64))
}

/// A row is in a table that is not known here: then what is made would not be what a gateway leaves.
fn refuse_unknown(store: &Connection) -> Outcome<()> {
    let mut statement = store
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'words%' AND name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = statement.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let known = APART.contains(&&*name) || OF_MESSAGES.contains(&&*name) || OF_SESSIONS.iter().any(|(of, _)| *of == name);
        let rows: i64 = store.query_row(&format!("SELECT count(*) FROM {name}"), (), |row| row.get(0))?;
        if rows > 0 && !known {
            return Err(format!("messages left rows in the table {name}, which this program doesn't know to multiply").into());
        }
    }
    Ok(())
}

/// Takes up what the session of `user` left.
fn pattern(store: &Connection, tables: &[Table], user: &str) -> Outcome<Pattern> {
    let number = store.query_row("SELECT n FROM sessions WHERE user_id = ?1", [user], |row| row.get::<_, i64>(0))?;
    let mut pattern = Pattern { user: user.to_string(), of_session: Vec::new(), of_message: Vec::new() };
    for (at, (name, column)) in OF_SESSIONS.iter().enumerate() {
        let key = if *column == "user_id" { Value::from(user.to_string()) } else { Value::from(number) };
        let row = tables[at].row(store, column, &key)?.ok_or_else(|| format!("the session of {user} has no row in {name}"))?;
        pattern.of_session.push((at, row));
    }
    let seq =
        Value::from(store.query_row("SELECT max(seq) FROM inbox WHERE session = ?1", [number], |row| row.get::<_, i64>(0))?);
    let mut keys = HashMap::from([("inbox", seq.clone()), ("ended", seq.clone()), ("dedup", seq.clone()), ("outbox", seq)]);
    for (at, table) in tables.iter().enumerate().skip(OF_SESSIONS.len()) {
        let Some(key) = keys.get(table.name) else { continue };
        let column = if table.name == "outbox" { "reply_to" } else { "seq" };
        let Some(row) = table.row(store, column, key)? else { continue };
        if let (true, Some(seq)) = (table.name == "outbox", table.value(&row, "seq")) {
            keys.insert("sent", seq.clone());
        }
        pattern.of_message.push((at, row));
    }
    Ok(pattern)
}

/// A row with all that has to be new.
fn renew<'a>(table: &'a Table, row: &'a Row, pattern: &'a Pattern, new: &'a New<'_>) -> impl Iterator<Item = Value> + use<'a> {
    table.columns.iter().zip(&row.0).map(move |(column, old)| match (table.name, column.as_str(), old) {
        ("sessions", "n", _) | (_, "session", Value::Integer(_)) => Value::from(new.session),
        ("sessions", "id", _) => Value::from(id("ses", new.session)),
        ("uses", "turns", _) | ("usage", "calls", _) => Value::from(new.turns),
        ("inbox", "id", _) => Value::from(id("msg", new.seq)),
        ("outbox", "id", _) => Value::from(id("out", new.sent)),
        ("outbox" | "sent", "seq", _) => Value::from(new.sent),
        (_, "seq" | "reply_to", _) => Value::from(new.seq),
        ("ended", "turn", _) => Value::from(new.turn),
        ("inbox", "external_id", Value::Text(_)) => Value::from(format!("g-{}", new.seq)),
        // By the number at the outside id's end, then by what is as good as chance.
        ("dedup", "hash", _) => Value::from((new.seq % 1_000_000_000) << 32 | chance(new.seq) & 0xffff_ffff),
        // Of a user: any number that is always the same.
        ("outbox", "target", _) => Value::from(chance(new.session)),
        ("uses", "updated_ms", _) => Value::from(new.at_ms + (new.turns - 1) * PAUSE_MS),
        (_, name, Value::Integer(_)) if name.ends_with("_ms") && name != "took_ms" => Value::from(new.at_ms),
        (_, _, Value::Text(text)) if *text == pattern.user => Value::from(new.user.to_string()),
        _ => old.clone(),
    })
}

/// An id as the gateway makes them: 26 characters that begin with a time, here long ago, and end with what is as good as chance.
fn id(prefix: &str, number: i64) -> String {
    format!("{prefix}_01{number:08x}{:016x}", chance(number))
}

/// Mixes a number well (splitmix64), 63 bits of it.
fn chance(number: i64) -> i64 {
    let mut z = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_the_gateways_and_are_in_order() {
        let ids: Vec<String> = (1..100).map(|n| id("msg", n)).collect();
        assert!(ids.iter().all(|id| id.len() == 30) && ids.is_sorted());
        assert!((0..1000).all(|n| chance(n) >= 0));
    }

    #[test]
    fn a_table_that_is_not_known_is_refused_where_it_has_rows() {
        let store = Connection::open_in_memory().unwrap();
        store.execute_batch("CREATE TABLE inbox (seq); INSERT INTO inbox VALUES (1); CREATE TABLE later (n);").unwrap();
        assert!(refuse_unknown(&store).is_ok());
        store.execute_batch("INSERT INTO later VALUES (1)").unwrap();
        assert!(refuse_unknown(&store).unwrap_err().to_string().contains("later"));
    }

    #[test]
    fn a_row_keeps_all_but_what_has_to_be_new() {
        let store = Connection::open_in_memory().unwrap();
        store
            .execute_batch(
                "CREATE TABLE ended (seq INTEGER, session INTEGER, turn INTEGER, ended_ms INTEGER, took_ms INTEGER, text TEXT, by TEXT);
                 INSERT INTO ended VALUES (7, 3, 9, 1000, 12, 'an answer', 'seed')",
            )
            .unwrap();
        let table = Table::look(&store, "ended").unwrap();
        let row = table.row(&store, "seq", &Value::from(7)).unwrap().unwrap();
        let pattern = Pattern { user: "seed".into(), of_session: Vec::new(), of_message: Vec::new() };
        let new = New { session: 5, seq: 70, sent: 71, turn: 2, turns: 10, at_ms: 500, user: "sender-4" };
        let made: Vec<Value> = renew(&table, &row, &pattern, &new).collect();
        let text = |t: &str| Value::from(t.to_string());
        let numbers = [70, 5, 2, 500, 12].map(Value::from);
        assert_eq!(made, [&numbers[..], &[text("an answer"), text("sender-4")]].concat());
    }
}
