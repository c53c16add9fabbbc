//! The tables, by numbered migrations, and how a connection is set up.
//!
//! Invariant: a migration that was released never changes; a new one is added behind it, and all that are missing run in one
//! transaction. Fails where the file comes from a newer gatelet, from another program, or is damaged.
//!
//! What shapes the tables is bytes written per message. Texts are written once and stand apart from what changes: `inbox` and
//! `outbox` are only added to, `work` and `pending` hold the little that changes and only while it does, `ended`, `sent` and
//! `dead` say how it ended. A transcript is `inbox` joined with `ended`. A delivery whose text is its message's reply has none of
//! its own. Tokens go to rows that a turn's end writes anyway; what they add up to by day costs one row a turn.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::store::sqlite::sql::{Ran, conflict};

/// Marks the file as gatelet's (`gtlt`).
pub(super) const APPLICATION_ID: i64 = 0x6774_6c74;
/// The size of a page. A commit writes whole pages, and most rows are small: a message's whole life writes 15 KB with pages of
/// 512 bytes, 24 KB with 1 KiB and 74 KB with 4 KiB; the throughput is the same.
const PAGE_BYTES: i64 = 512;
/// Frames (a page and its head) in the log after which it is carried into the database: 3 MiB.
pub(super) const CHECKPOINT_FRAMES: i64 = 6_000;
/// How long a connection waits for another one's lock.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Bytes of the log's file that are kept for the next commits.
pub(super) const LOG_BYTES_KEPT: u64 = (CHECKPOINT_FRAMES * (PAGE_BYTES + 24)) as u64;

/// All migrations; the first brings an empty file to version 1.
pub(super) const MIGRATIONS: &[&str] = &[V1, V2, V3, V4, V5, V6];

const V1: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE deaths (at_ms INTEGER NOT NULL);

    CREATE TABLE sessions (n INTEGER PRIMARY KEY, id TEXT NOT NULL, user_id TEXT NOT NULL, channel TEXT NOT NULL,
        conversation TEXT NOT NULL, agent TEXT NOT NULL, created_ms INTEGER NOT NULL,
        state INTEGER NOT NULL); -- 0 in use, 1 ended, 2 erased
    CREATE INDEX sessions_erased ON sessions (n) WHERE state = 2;
    CREATE UNIQUE INDEX sessions_id ON sessions (id);
    CREATE INDEX sessions_key ON sessions (user_id, channel, conversation, agent);
    CREATE TABLE uses (session INTEGER PRIMARY KEY, updated_ms INTEGER NOT NULL, turns INTEGER NOT NULL);
    CREATE TABLE seen (user_id TEXT NOT NULL, channel TEXT NOT NULL, peer TEXT NOT NULL, conversation TEXT,
        at_ms INTEGER NOT NULL, PRIMARY KEY (user_id, channel)) WITHOUT ROWID;

    CREATE TABLE inbox (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, session INTEGER NOT NULL, peer TEXT NOT NULL,
        external_id TEXT, received_ms INTEGER NOT NULL, metadata TEXT, text TEXT NOT NULL);
    CREATE UNIQUE INDEX inbox_id ON inbox (id);
    CREATE TABLE dedup (hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL);

    CREATE TABLE work (session INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL, -- 0 queued, 1 running
        starts INTEGER NOT NULL, failures INTEGER NOT NULL, strikes INTEGER NOT NULL, not_before_ms INTEGER NOT NULL,
        journal TEXT NOT NULL, PRIMARY KEY (session, seq)) WITHOUT ROWID;
    CREATE TABLE steps (n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, detail TEXT NOT NULL);
    CREATE INDEX steps_seq ON steps (seq);
    CREATE TABLE ended (seq INTEGER PRIMARY KEY, session INTEGER NOT NULL, turn INTEGER, state INTEGER NOT NULL,
        starts INTEGER NOT NULL, ended_ms INTEGER NOT NULL, took_ms INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL, journal TEXT NOT NULL, text TEXT NOT NULL);
    CREATE INDEX ended_session ON ended (session, turn);
    CREATE INDEX ended_unanswered ON ended (state) WHERE state <> 3;

    CREATE TABLE outbox (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, handoff INTEGER NOT NULL, target INTEGER NOT NULL,
        channel TEXT NOT NULL, user_id TEXT NOT NULL, peer TEXT NOT NULL, conversation TEXT, session, reply_to,
        created_ms INTEGER NOT NULL, metadata TEXT, text TEXT); -- no text: the reply that is in `ended`
    CREATE UNIQUE INDEX outbox_id ON outbox (id);
    CREATE INDEX outbox_reply ON outbox (reply_to) WHERE reply_to IS NOT NULL;
    CREATE INDEX outbox_unasked ON outbox (user_id) WHERE reply_to IS NULL;
    CREATE TABLE pending (handoff INTEGER NOT NULL, target INTEGER NOT NULL, seq INTEGER NOT NULL,
        state INTEGER NOT NULL, -- 0 pending, 1 sending
        attempts INTEGER NOT NULL, keyed INTEGER NOT NULL, next_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, last_error TEXT,
        PRIMARY KEY (handoff, target, seq)) WITHOUT ROWID;
    CREATE TABLE sent (seq INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, at_ms INTEGER NOT NULL);
    CREATE TABLE dead (seq INTEGER PRIMARY KEY, unknown INTEGER NOT NULL, attempts INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        error TEXT NOT NULL);
    CREATE TABLE idempotency (n INTEGER PRIMARY KEY, caller TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL,
        ids TEXT NOT NULL, at_ms INTEGER NOT NULL);
    CREATE UNIQUE INDEX idempotency_key ON idempotency (caller, key);

    CREATE TABLE audit (n INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        detail TEXT NOT NULL);
";

/// Tools, approvals, memory, usage. A message of before has no standing, and no message of before is urgent. The order of the
/// words of `usage` is the order in which it is asked: a day's tokens of an agent, of all or of one user.
///
/// The index of `notes` has no text of its own (`content=''`): it is fed with `words::indexed`, and a row leaves it by being
/// told the same words again. Marks belong to words (`M*`), or scripts that write vowels with them fall apart.
const V2: &str = "
    ALTER TABLE inbox ADD COLUMN standing INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE work ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX work_urgent ON work (seq) WHERE urgent = 1 AND state = 0;
    ALTER TABLE sessions ADD COLUMN model TEXT;
    ALTER TABLE uses ADD COLUMN tokens_in INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE uses ADD COLUMN tokens_out INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE approvals (n INTEGER PRIMARY KEY, id TEXT NOT NULL, seq INTEGER NOT NULL,
        state INTEGER NOT NULL, -- 0 pending, 1 allowed, 2 denied, 3 expired, 4 cancelled
        call_id TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
        decided_by TEXT, decided_ms INTEGER, question TEXT NOT NULL, arguments TEXT NOT NULL);
    CREATE UNIQUE INDEX approvals_id ON approvals (id);
    CREATE UNIQUE INDEX approvals_call ON approvals (seq, call_id);
    CREATE INDEX approvals_pending ON approvals (seq) WHERE state = 0;
    CREATE TABLE rules (n INTEGER PRIMARY KEY, id TEXT NOT NULL, tool TEXT NOT NULL, agent TEXT NOT NULL, channel TEXT NOT NULL,
        user_id TEXT NOT NULL, digest TEXT NOT NULL, created_ms INTEGER NOT NULL, made_by TEXT NOT NULL, arguments TEXT NOT NULL);
    CREATE UNIQUE INDEX rules_id ON rules (id);
    CREATE UNIQUE INDEX rules_call ON rules (digest, tool, agent, channel, user_id);

    CREATE TABLE notes (n INTEGER PRIMARY KEY, id TEXT NOT NULL, user_id TEXT NOT NULL, agent TEXT NOT NULL,
        created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE UNIQUE INDEX notes_id ON notes (id);
    CREATE INDEX notes_user ON notes (user_id, agent);
    CREATE VIRTUAL TABLE words USING fts5 (owner, text, content = '',
        tokenize = \"porter unicode61 remove_diacritics 2 categories 'L* N* M* Co'\");
    INSERT INTO words (words, rank) VALUES ('secure-delete', 1);

    CREATE TABLE summaries (session INTEGER PRIMARY KEY, until INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE TABLE usage (day INTEGER NOT NULL, agent TEXT NOT NULL, user_id TEXT NOT NULL, provider TEXT NOT NULL,
        tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, calls INTEGER NOT NULL,
        PRIMARY KEY (day, agent, user_id, provider)) WITHOUT ROWID;
";

/// Channels that hold a connection, jobs. A number of `pairings` is never given out twice: memory knows it for a moment longer than
/// the row is there. A delivery in several parts has a row of its own for them, since most have one part; a
/// message that may be answered together with others is marked in `work`, and one that is stands in `bundled` beside it.
const V3: &str = "
    CREATE TABLE cursors (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE parts (seq INTEGER PRIMARY KEY, sent INTEGER NOT NULL);
    CREATE TABLE pairings (n INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, channel TEXT NOT NULL, peer TEXT NOT NULL,
        name TEXT NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL);
    CREATE UNIQUE INDEX pairings_code ON pairings (code);
    CREATE UNIQUE INDEX pairings_sender ON pairings (channel, peer);
    CREATE TABLE paired (channel TEXT NOT NULL, peer TEXT NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (channel, peer)) WITHOUT ROWID;
    CREATE TABLE jobs (id TEXT PRIMARY KEY, made_by TEXT NOT NULL, schedule TEXT NOT NULL, timezone TEXT, work TEXT NOT NULL,
        user_id TEXT NOT NULL, channel TEXT, catch_up INTEGER NOT NULL, enabled INTEGER NOT NULL, next_ms INTEGER,
        updated_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE runs (n INTEGER PRIMARY KEY, job TEXT NOT NULL, due_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        outcome TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE INDEX runs_job ON runs (job);
    ALTER TABLE work ADD COLUMN collect INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE bundled (seq INTEGER PRIMARY KEY, head INTEGER NOT NULL);
    CREATE INDEX bundled_head ON bundled (head);
";

/// Files that came with messages: a row for each, whose bytes are a file of their own beside the database, once they were fetched.
const V4: &str = "
    CREATE TABLE attachments (seq INTEGER NOT NULL, n INTEGER NOT NULL, state INTEGER NOT NULL, -- 0 waiting, 1 stored, 2 failed, 3 removed
        bytes INTEGER, file TEXT, name TEXT NOT NULL, media_type TEXT NOT NULL, reference TEXT NOT NULL,
        PRIMARY KEY (seq, n)) WITHOUT ROWID;
    CREATE INDEX attachments_kept ON attachments (seq, bytes) WHERE file IS NOT NULL;
";

/// Sends of which it is not known whether they arrived: rare, so a row of their own.
const V5: &str = "
    CREATE TABLE unclear (seq INTEGER PRIMARY KEY, begun_ms INTEGER NOT NULL, -- when the first such try was begun
        part INTEGER NOT NULL); -- which part it was of
";

/// What was erased is passed over by the list of the latest without a look at its session.
const V6: &str = "UPDATE uses SET updated_ms = -1 WHERE session IN (SELECT n FROM sessions WHERE state = 2);";

/// Opens the one connection that writes. The file exists (see `place`). Its writes do not wait for the disk until
/// [`set_durable`] is called.
pub(super) fn open_writer(path: &Path) -> Ran<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.set_prepared_statement_cache_capacity(64);
    // SQLite carries the log over when its last connection closes: into a damaged file, too, or from a log that belongs to another one.
    // Only an orderly end does so here; a file that can't be opened stays as it is, for the person who has to save it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    stable_plans(&conn)?;
    recognize(&conn, MIGRATIONS.len())?; // before anything is written to it
    // Freed pages are overwritten, or what is erased would live on in those that its row had left before (a turn's details, a part of
    // the index); that costs half a percent of what is written. The log is carried over by the writer, after it has answered;
    // SQLite's own checkpoint inside a commit is only the net under that.
    conn.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA synchronous = OFF;")?;
    if is_new(path) {
        // The pages' size, and that they can be given back one by one (`space`). Where there are pages the second would be a commit of
        // its own that changes nothing, at every start.
        conn.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;"))?;
    }
    conn.execute_batch(&format!(
        "PRAGMA cache_size = -1024;
         PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;
         PRAGMA wal_autocheckpoint = {}; PRAGMA journal_size_limit = {LOG_BYTES_KEPT};",
        CHECKPOINT_FRAMES * 4,
    ))?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return conflict(format!(
            "SQLite can't keep a write-ahead log there (journal mode {mode}): is it a network file system?"
        ));
    }
    Ok(conn)
}

/// How far commits wait for the disk: durable ones for each, soft ones not at all; a checkpoint does in both.
pub(super) fn set_durable(conn: &Connection, durable: bool) -> Ran<()> {
    Ok(conn.execute_batch(if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?)
}

/// Whether the file has nothing in it yet.
pub(super) fn is_new(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
}

/// Without this, binding a new value to a cached statement makes SQLite parse and plan it anew (it might find a better plan with
/// STAT4): for every message that costs more than the message.
fn stable_plans(conn: &Connection) -> Ran<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Opens a connection that reads.
pub(super) fn open_reader(path: &Path) -> Ran<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    stable_plans(&conn)?;
    conn.execute_batch(
        "PRAGMA busy_timeout = 5000; PRAGMA cache_size = -128; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;",
    )?;
    Ok(conn)
}

/// Refuses a file that is another program's or a newer gatelet's. Gives its version, 0 where it is empty.
pub(super) fn recognize(conn: &Connection, newest: usize) -> Ran<usize> {
    let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    if application != APPLICATION_ID {
        let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        if tables > 0 || application != 0 {
            return conflict("it is another program's database");
        }
    }
    match usize::try_from(version) {
        Ok(version) if version <= newest => Ok(version),
        _ => conflict(format!("it comes from a newer gatelet (its version is {version}, ours {newest})")),
    }
}

/// Brings the file to the newest version.
pub(super) fn migrate(conn: &Connection, migrations: &[&str]) -> Ran<()> {
    let version = recognize(conn, migrations.len())?;
    let missing = migrations.get(version..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = conn.unchecked_transaction()?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(transaction.commit()?)
}
