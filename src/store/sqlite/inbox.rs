//! The inbox: taking messages in, each outside id once; where users were seen; messages as people read them.
//!
//! Invariant: a message's row is written once; what changes of it stands in `work` and `ended`. Dedup rows are narrow and apart,
//! so that erasing or pruning texts doesn't lose them. Fails as any command of the store does.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::domain::{Accepted, InboundMessage, MessageState, NewInbound, Standing, TimelineEntry, own_id};
use crate::store::sqlite::journal::Journal;
use crate::store::sqlite::sql::{Fault, Ran, Sql, key63, not_found};
use crate::store::sqlite::{attachments, collect, cursors, outbox, sessions, turns};
use crate::store::{Listed, Page, Seen, StoreError};

/// A user's `seen` row is written anew after this time even where only the time changed.
const SEEN_STALE_MS: i64 = 10 * 60 * 1000;

/// Takes a message in, and the cursor behind it. Gives its session's number beside the answer.
pub(super) fn accept(sql: &Sql<'_>, m: &NewInbound) -> Ran<(Accepted, i64)> {
    if let Some(cursor) = &m.cursor {
        cursors::set(sql, &m.channel, cursor)?; // of a duplicate, too, or the service would give it again for ever
    }
    let hash = m.external_id.as_deref().map(|external| {
        let conversation = m.conversation.as_deref().unwrap_or_default();
        dedup_key(&m.channel, conversation, &m.peer, external)
    });
    let free = match (hash, &m.external_id) {
        (Some(hash), Some(external)) => match look_up(sql, m, external, hash)? {
            Lookup::Known(accepted, session) => return Ok((accepted, session)),
            Lookup::Free(hash) => Some(hash),
        },
        _ => None,
    };
    let renamed = match m.is_bare && is_anothers(sql, m)? {
        true => Some(NewInbound { user_id: own_id(&m.channel, &m.peer), ..m.clone() }),
        false => None,
    };
    let m = renamed.as_ref().unwrap_or(m);
    let (session, session_id) = sessions::find_or_make(sql, m)?;
    let seq = sql.insert(
        "INSERT INTO inbox (id, session, peer, external_id, received_ms, metadata, text, standing)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            &m.id,
            session,
            &m.peer,
            &m.external_id,
            m.received_ms,
            m.metadata.as_ref().map(ToString::to_string),
            &m.text,
            Standing::ALL.iter().position(|s| *s == m.standing).unwrap_or(0) as i64,
        ),
    )?;
    attachments::put(sql, seq, &m.attachments)?;
    if let Some(hash) = free {
        sql.insert("INSERT OR REPLACE INTO dedup (hash, seq) VALUES (?1, ?2)", (hash, seq))?;
    }
    turns::put_to_work(sql, (session, seq), 0, &Journal::default(), m.urgent, m.collect)?;
    let seen = (&m.channel, &m.peer, &m.conversation, m.received_ms);
    see(sql, &m.user_id, seen.0, seen.1, seen.2.as_deref(), seen.3)?;
    Ok((Accepted { id: m.id.clone(), session_id, duplicate: false }, session))
}

/// Whether a user of that id was seen, but never as this channel's sender. Where somebody was seen is never forgotten, so that what is
/// decided at the first contact stays so.
fn is_anothers(sql: &Sql<'_>, m: &NewInbound) -> Ran<bool> {
    let all =
        sql.all("SELECT channel = ?2 AND peer = ?3 FROM seen WHERE user_id = ?1", (&m.user_id, &m.channel, &m.peer), |row| {
            row.get::<_, bool>(0)
        })?;
    Ok(!all.is_empty() && !all.contains(&true))
}

enum Lookup {
    Known(Accepted, i64),
    Free(i64),
}

/// Finds the message of that outside id. Two ids may share a key by chance: then the next key is looked at.
fn look_up(sql: &Sql<'_>, m: &NewInbound, external: &str, mut hash: i64) -> Ran<Lookup> {
    loop {
        let first = sql.one(
            "SELECT i.id, i.session, s.id, i.external_id, s.channel, s.conversation, i.peer
             FROM dedup d JOIN inbox i ON i.seq = d.seq JOIN sessions s ON s.n = i.session WHERE d.hash = ?1",
            [hash],
            |row| {
                let accepted = Accepted { id: row.get(0)?, session_id: row.get(2)?, duplicate: true };
                let text = |i: usize| row.get_ref(i)?.as_str_or_null().map_err(rusqlite::Error::from);
                let conversation = text(5)?.unwrap_or_default();
                let scope = if conversation.is_empty() { text(6)?.unwrap_or_default() } else { conversation };
                let same = text(3)? == Some(external) && text(4)? == Some(&m.channel) && scope == scope_of(m);
                Ok((accepted, row.get(1)?, same))
            },
        )?;
        match first {
            None => return Ok(Lookup::Free(hash)),
            Some((accepted, session, true)) => return Ok(Lookup::Known(accepted, session)),
            Some(_) => hash = (hash + 1) & i64::MAX,
        }
    }
}

fn scope_of(m: &NewInbound) -> &str {
    m.conversation.as_deref().filter(|c| !c.is_empty()).unwrap_or(&m.peer)
}

/// Where the dedup row of an outside id stands, or some keys further on. The number at the id's end leads, since most services
/// count: ids that come together stand together, and one page takes many of them.
pub(super) fn dedup_key(channel: &str, conversation: &str, peer: &str, external: &str) -> i64 {
    let digits = external.bytes().rev().take(9).take_while(u8::is_ascii_digit).count();
    let number: i64 = external[external.len() - digits..].parse().unwrap_or(0);
    let hash = key63(&[channel, if conversation.is_empty() { peer } else { conversation }, external]);
    (number << 32) | (hash & 0xffff_ffff)
}

/// Notes where a user is. Nothing is written where the row says it already, is the user's latest and fresh enough: most
/// messages come from where the last one came from.
pub(super) fn see(sql: &Sql<'_>, user_id: &str, channel: &str, peer: &str, conversation: Option<&str>, at_ms: i64) -> Ran<()> {
    let known = sql.one(
        "SELECT channel, peer, conversation, at_ms FROM seen WHERE user_id = ?1 ORDER BY at_ms DESC LIMIT 1",
        [user_id],
        |row| {
            let same = row.get_ref(0)?.as_str()? == channel && row.get_ref(1)?.as_str()? == peer;
            Ok(same
                && row.get_ref(2)?.as_str_or_null()? == conversation
                && (0..SEEN_STALE_MS).contains(&(at_ms - row.get::<_, i64>(3)?)))
        },
    )?;
    if known != Some(true) {
        sql.exec("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, ?4, ?5)", (user_id, channel, peer, conversation, at_ms))?;
    }
    Ok(())
}

/// Where a user was seen, the latest first.
pub(super) fn seen(sql: &Sql<'_>, user_id: &str) -> Ran<Vec<Seen>> {
    sql.all(
        "SELECT channel, peer, conversation, at_ms FROM seen WHERE user_id = ?1 ORDER BY at_ms DESC LIMIT 100",
        [user_id],
        |row| Ok(Seen { channel: row.get(0)?, peer: row.get(1)?, conversation: row.get(2)?, at_ms: row.get(3)? }),
    )
}

const COLUMNS: &str = "i.seq, i.id, i.external_id, i.received_ms, i.text, s.id, s.channel, s.user_id, s.conversation, s.agent,
    COALESCE((SELECT h.state FROM bundled b CROSS JOIN work h ON h.session = w.session AND h.seq = b.head WHERE b.seq = w.seq),
        w.state, e.state), COALESCE(w.starts, e.starts), e.text, COALESCE(w.journal, e.journal), e.ended_ms, e.took_ms";
const JOINS: &str = "CROSS JOIN sessions s ON s.n = i.session LEFT JOIN work w ON w.session = i.session AND w.seq = i.seq
    LEFT JOIN ended e ON e.seq = i.seq";

struct Read {
    seq: i64,
    message: InboundMessage,
    journal: Journal,
    ended: Option<(i64, i64)>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Read> {
    let state = state_of(row.get(10)?)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(10, Type::Integer, "a message without a known state".into()))?;
    let text = row.get::<_, Option<String>>(12)?.filter(|text| !text.is_empty());
    let (reply, error) = if state == MessageState::Answered { (text, None) } else { (None, text) };
    let message = InboundMessage {
        id: row.get(1)?,
        state,
        channel: row.get(6)?,
        user_id: row.get(7)?,
        conversation_id: row.get::<_, Option<String>>(8)?.filter(|c| !c.is_empty()),
        external_id: row.get(2)?,
        session_id: row.get(5)?,
        agent: row.get(9)?,
        message: row.get(4)?,
        received_ms: row.get(3)?,
        attempts: row.get(11)?,
        reply,
        error,
        attachments: Vec::new(),
        deliveries: Vec::new(),
        timeline: Vec::new(),
    };
    let ended = row.get::<_, Option<i64>>(14)?.zip(row.get(15)?);
    Ok(Read { seq: row.get(0)?, message, journal: Journal::new(row.get::<_, Option<String>>(13)?.unwrap_or_default()), ended })
}

/// The numbers by which states are stored.
const STATES: [MessageState; 6] = [
    MessageState::Queued,
    MessageState::Running,
    MessageState::WaitingApproval,
    MessageState::Answered,
    MessageState::Failed,
    MessageState::Cancelled,
];

/// A state's number.
pub(super) fn state_number(state: MessageState) -> i64 {
    STATES.iter().position(|s| *s == state).unwrap_or(0) as i64
}

fn state_of(number: Option<i64>) -> Option<MessageState> {
    STATES.get(usize::try_from(number?).ok()?).copied()
}

/// A message with its life.
pub(super) fn message(sql: &Sql<'_>, id: &str) -> Ran<InboundMessage> {
    let found = sql.one(&format!("SELECT {COLUMNS} FROM inbox i {JOINS} WHERE i.id = ?1"), [id], read)?;
    let Some(Read { seq, mut message, journal, ended }) = found else { return not_found() };
    message.attachments = attachments::of_message(sql, seq)?;
    let mut timeline = vec![TimelineEntry { at_ms: message.received_ms, event: "accepted".into(), detail: String::new() }];
    timeline.extend(journal.timeline());
    if let Some((at_ms, took_ms)) = ended {
        let detail = match message.state {
            MessageState::Answered => format!("in {took_ms} ms"),
            _ => message.error.clone().unwrap_or_default(),
        };
        timeline.push(TimelineEntry { at_ms, event: message.state.as_str().into(), detail });
    }
    for (delivery, events) in outbox::answering(sql, seq)? {
        timeline.extend(events);
        message.deliveries.push(delivery);
    }
    message.timeline = timeline;
    Ok(message)
}

/// Messages, newest first.
pub(super) fn messages(sql: &Sql<'_>, state: Option<MessageState>, page: &Page) -> Ran<Listed<InboundMessage>> {
    let (before, limit) = page_of(page)?;
    // The list is driven by the table that holds few other states than the one asked for.
    let (from, filter) = match state {
        None => ("inbox i", String::new()),
        Some(state @ (MessageState::Queued | MessageState::Running | MessageState::WaitingApproval)) => {
            ("work t CROSS JOIN inbox i ON i.seq = t.seq", format!("AND {} = {}", collect::state_of("t"), state_number(state)))
        }
        Some(MessageState::Answered) => ("ended t CROSS JOIN inbox i ON i.seq = t.seq", "AND t.state = 3".to_string()),
        Some(state @ (MessageState::Failed | MessageState::Cancelled)) => (
            "ended t INDEXED BY ended_unanswered CROSS JOIN inbox i ON i.seq = t.seq",
            format!("AND t.state = {} AND t.state <> 3", state_number(state)),
        ),
    };
    let order = if state.is_some() { "t.seq" } else { "i.seq" };
    let statement = format!("SELECT {COLUMNS} FROM {from} {JOINS} WHERE {order} < ?1 {filter} ORDER BY {order} DESC LIMIT ?2");
    let rows = sql.all(&statement, (before, limit as i64 + 1), read)?;
    Ok(listed(rows, limit, |read| read.seq.to_string(), |read| read.message))
}

/// Where a page begins (below this number), and how long it is.
pub(super) fn page_of(page: &Page) -> Ran<(i64, usize)> {
    let before = match &page.cursor {
        None => i64::MAX,
        Some(cursor) => match cursor.parse() {
            Ok(before) => before,
            Err(_) => return bad_cursor(),
        },
    };
    Ok((before, page.limit.clamp(1, 500)))
}

/// The refusal of a cursor that we did not give.
pub(super) fn bad_cursor<T>() -> Ran<T> {
    Err(Fault::Refused(StoreError::BadCursor))
}

/// A page of at most `limit`, from up to one more row than that.
pub(super) fn listed<R, T>(mut rows: Vec<R>, limit: usize, cursor: impl Fn(&R) -> String, item: impl Fn(R) -> T) -> Listed<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(cursor) } else { None };
    Listed { items: rows.into_iter().map(item).collect(), next }
}
