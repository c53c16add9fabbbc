//! Turns: claiming the next message, its journal, and the ways in which a turn ends.
//!
//! Invariant: a message is answered only out of `running`, and the row that says so goes in the same transaction as the
//! transcript and the replies; a turn that was ended elsewhere writes nothing. Nothing here decides whose turn it is: see
//! `ready`.

use std::time::Duration;

use crate::base::error::shorten;
use crate::domain::{Claim, Delivery, FinishedTurn, MessageState, NewOutbound, Step, StepKind, TimelineEntry};
use crate::store::sqlite::inbox::state_number;
use crate::store::sqlite::outbox::{self, Answered, Put};
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::sessions::ENDED;
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};

/// A message's state in `work`.
pub(super) const QUEUED: i64 = 0;
/// Its turn runs.
pub(super) const RUNNING: i64 = 1;
/// Most entries of a journal; beyond it the oldest go.
const JOURNAL_MAX: usize = 64;
/// Longest detail that stands in the journal itself.
const DETAIL_BYTES: usize = 200;

/// A turn's journal, as it is stored beside the message's state: one line a step, `<kind's letter><ms> <row of its long detail,
/// or -> <detail>`. One text in a row that changes anyway costs no further page.
#[derive(Debug, Default)]
pub(super) struct Journal(String);

const LETTERS: [(char, StepKind); 7] = [
    ('s', StepKind::Started),
    ('r', StepKind::Retried),
    ('i', StepKind::Interrupted),
    ('t', StepKind::Asked),
    ('c', StepKind::Called),
    ('o', StepKind::Result),
    ('p', StepKind::Parked),
];

impl Journal {
    /// The journal of that text.
    pub(super) fn new(text: String) -> Self {
        Journal(text)
    }

    /// As it is stored.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Adds a step.
    pub(super) fn add(&mut self, kind: StepKind, at_ms: i64, detail: &str) {
        let detail = shorten(detail, DETAIL_BYTES).replace(['\n', '\r'], " ");
        self.push(kind, at_ms, "-", &detail);
    }

    fn push(&mut self, kind: StepKind, at_ms: i64, row: &str, detail: &str) {
        let letter = LETTERS.iter().find(|(_, k)| *k == kind).map_or('s', |(letter, _)| *letter);
        if self.0.lines().count() >= JOURNAL_MAX
            && let Some((_, rest)) = self.0.split_once('\n')
        {
            self.0 = rest.to_string();
        }
        self.0.push_str(&format!("{letter}{at_ms} {row} {detail}\n"));
    }

    fn lines(&self) -> impl Iterator<Item = (StepKind, i64, Option<i64>, &str)> {
        self.0.lines().filter_map(|line| {
            let mut letters = line.chars();
            let letter = letters.next()?;
            let (_, kind) = LETTERS.iter().find(|(l, _)| *l == letter)?;
            let mut fields = letters.as_str().splitn(3, ' ');
            Some((*kind, fields.next()?.parse().ok()?, fields.next()?.parse().ok(), fields.next().unwrap_or_default()))
        })
    }

    /// As people read it.
    pub(super) fn timeline(&self) -> impl Iterator<Item = TimelineEntry> {
        self.lines().map(|(kind, at_ms, _, detail)| TimelineEntry { at_ms, event: kind.as_str().into(), detail: detail.into() })
    }

    fn steps(&self, sql: &Sql<'_>) -> Ran<Vec<Step>> {
        let read = |(kind, at_ms, row, detail): (StepKind, i64, Option<i64>, &str)| {
            let long = match row {
                Some(n) => sql.one("SELECT detail FROM steps WHERE n = ?1", [n], |row| row.get(0))?,
                None => None,
            };
            Ok(Step { kind, detail: detail.to_string(), data: long.unwrap_or_default(), at_ms })
        };
        self.lines().map(read).collect()
    }
}

/// Starts the turn of a session's oldest message; `None` where it has none to be started.
pub(super) fn claim(sql: &Sql<'_>, session: i64) -> Ran<Option<Claim>> {
    let head = sql.one(
        "SELECT w.seq, w.state, w.starts, w.failures, w.journal, i.id, s.id, s.channel, s.user_id, i.peer, s.conversation,
            s.agent, i.text, i.metadata, i.received_ms
         FROM work w CROSS JOIN inbox i ON i.seq = w.seq CROSS JOIN sessions s ON s.n = w.session
         WHERE w.session = ?1 ORDER BY w.seq LIMIT 1",
        [session],
        |row| {
            let claim = Claim {
                message_id: row.get(5)?,
                session_id: row.get(6)?,
                channel: row.get(7)?,
                user_id: row.get(8)?,
                peer: row.get(9)?,
                conversation: row.get::<_, Option<String>>(10)?.filter(|c| !c.is_empty()),
                agent: row.get(11)?,
                text: row.get(12)?,
                metadata: outbox::metadata(row, 13)?,
                received_ms: row.get(14)?,
                standing: Default::default(),
                model: None,
                attempts: row.get::<_, u32>(2)?.saturating_add(1),
                failures: row.get(3)?,
                steps: Vec::new(),
                approvals: Vec::new(),
            };
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, Journal::new(row.get(4)?), claim))
        },
    )?;
    let Some((seq, QUEUED, mut journal, mut claim)) = head else { return Ok(None) };
    claim.steps = journal.steps(sql)?;
    journal.add(StepKind::Started, sql.now_ms(), "");
    sql.exec(
        "UPDATE work SET state = 1, starts = starts + 1, journal = ?3 WHERE session = ?1 AND seq = ?2",
        (session, seq, journal.text()),
    )?;
    sql.count(|depths| (depths.queued, depths.running) = (depths.queued - 1, depths.running + 1));
    Ok(Some(claim))
}

/// Undoes a claim that did not reach its worker.
pub(super) fn unclaim(sql: &Sql<'_>, message_id: &str) -> Ran<()> {
    put_back(sql, message_id, Back::Released { step: "it did not reach a worker" })
}

struct Running {
    session: i64,
    seq: i64,
    journal: Journal,
}

fn running(sql: &Sql<'_>, message_id: &str) -> Ran<Running> {
    let found = sql.one(
        "SELECT i.session, i.seq, w.state, w.journal FROM inbox i
         LEFT JOIN work w ON w.session = i.session AND w.seq = i.seq WHERE i.id = ?1",
        [message_id],
        |row| {
            let journal = Journal::new(row.get::<_, Option<String>>(3)?.unwrap_or_default());
            Ok((Running { session: row.get(0)?, seq: row.get(1)?, journal }, row.get::<_, Option<i64>>(2)?))
        },
    )?;
    match found {
        Some((running, Some(RUNNING))) => Ok(running),
        Some(_) => conflict("the message is not running"),
        None => not_found(),
    }
}

/// Adds a step to a running turn's journal.
pub(super) fn record_step(sql: &Sql<'_>, message_id: &str, step: &Step) -> Ran<()> {
    let Running { session, seq, mut journal } = running(sql, message_id)?;
    if step.data.is_empty() {
        journal.add(step.kind, step.at_ms, &step.detail);
    } else {
        let n = sql.insert("INSERT INTO steps (seq, detail) VALUES (?1, ?2)", (seq, &step.data))?;
        journal.push(step.kind, step.at_ms, &n.to_string(), &step.detail);
    }
    sql.exec("UPDATE work SET journal = ?3 WHERE session = ?1 AND seq = ?2", (session, seq, journal.text()))?;
    Ok(())
}

/// Why a running turn goes back to the queue.
pub(super) enum Back<'a> {
    /// Its try failed in a way that may pass.
    Deferred {
        /// The pause.
        pause: Duration,
        /// Why.
        reason: &'a str,
    },
    /// It was cut short, and not by its own fault.
    Released {
        /// How its journal says that.
        step: &'a str,
    },
}

/// Puts a running turn back to the queue.
pub(super) fn put_back(sql: &Sql<'_>, message_id: &str, back: Back<'_>) -> Ran<()> {
    let Running { session, seq, mut journal } = running(sql, message_id)?;
    let now = sql.now_ms();
    match back {
        Back::Deferred { pause, reason } => {
            journal.add(StepKind::Retried, now, reason);
            let not_before = now.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
            sql.exec(
                "UPDATE work SET state = 0, failures = failures + 1, not_before_ms = ?3, journal = ?4
                 WHERE session = ?1 AND seq = ?2",
                (session, seq, not_before, journal.text()),
            )?;
        }
        Back::Released { step } => {
            journal.add(StepKind::Interrupted, now, step);
            sql.exec(
                "UPDATE work SET state = 0, starts = max(starts - 1, 0), strikes = 0, not_before_ms = 0, journal = ?3
                 WHERE session = ?1 AND seq = ?2",
                (session, seq, journal.text()),
            )?;
        }
    }
    sql.count(|depths| (depths.queued, depths.running) = (depths.queued + 1, depths.running - 1));
    Ok(())
}

/// What a finished turn leaves behind.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) puts: Vec<Put>,
    /// Whether the session has more to do.
    pub(super) next: Next,
}

impl Finished {
    /// The deliveries alone.
    pub(super) fn deliveries(self) -> Vec<Delivery> {
        self.puts.into_iter().map(|put| put.delivery).collect()
    }
}

/// Ends a turn with its answer.
pub(super) fn finish(sql: &Sql<'_>, turn: &FinishedTurn) -> Ran<Finished> {
    let Running { session, seq, .. } = running(sql, &turn.message_id)?;
    end(sql, session, seq, MessageState::Answered, &turn.reply)?;
    let number = sql.one("SELECT turns + 1 FROM uses WHERE session = ?1", [session], |row| row.get::<_, i64>(0))?.unwrap_or(1);
    sql.exec("UPDATE uses SET turns = ?2, updated_ms = ?3 WHERE session = ?1", (session, number, sql.now_ms()))?;
    let took_ms = i64::try_from(turn.took.as_millis()).unwrap_or(i64::MAX);
    sql.exec(
        "UPDATE ended SET turn = ?2, took_ms = ?3, tokens_in = ?4, tokens_out = ?5 WHERE seq = ?1",
        (
            seq,
            number,
            took_ms,
            turn.spent.iter().map(|s| s.tokens_in as i64).sum::<i64>(),
            turn.spent.iter().map(|s| s.tokens_out as i64).sum::<i64>(),
        ),
    )?;
    if turn.ends_session {
        sql.exec("UPDATE sessions SET state = ?2 WHERE n = ?1 AND state = 0", [session, ENDED])?;
    }
    leave(sql, session, Answered { id: &turn.message_id, seq, text: &turn.reply }, &turn.outbound)
}

/// Sets a running message aside.
pub(super) fn fail(sql: &Sql<'_>, message_id: &str, reason: &str, notice: &[NewOutbound]) -> Ran<Finished> {
    let Running { session, seq, .. } = running(sql, message_id)?;
    end(sql, session, seq, MessageState::Failed, reason)?;
    leave(sql, session, Answered { id: message_id, seq, text: "" }, notice)
}

fn leave(sql: &Sql<'_>, session: i64, answered: Answered<'_>, outbound: &[NewOutbound]) -> Ran<Finished> {
    let puts = outbound.iter().map(|o| outbox::put(sql, o, Some(answered))).collect::<Ran<_>>()?;
    let more = sql.one("SELECT 1 FROM work WHERE session = ?1 LIMIT 1", [session], |_| Ok(()))?;
    Ok(Finished { puts, next: if more.is_some() { Next::Now } else { Next::Nothing } })
}

/// Moves a message from `work` to `ended`.
pub(super) fn end(sql: &Sql<'_>, session: i64, seq: i64, state: MessageState, text: &str) -> Ran<()> {
    let found = sql.one("SELECT state, starts, journal FROM work WHERE session = ?1 AND seq = ?2", [session, seq], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
    })?;
    let Some((was, starts, journal)) = found else { return conflict("the message is not to be answered") };
    sql.exec("DELETE FROM work WHERE session = ?1 AND seq = ?2", [session, seq])?;
    sql.exec(
        "INSERT OR REPLACE INTO ended (seq, session, turn, state, starts, ended_ms, took_ms, tokens_in, tokens_out, journal, text)
         VALUES (?1, ?2, NULL, ?3, ?4, ?5, 0, 0, 0, ?6, ?7)",
        (seq, session, state_number(state), starts, sql.now_ms(), journal, text),
    )?;
    if state != MessageState::Failed {
        sql.exec("DELETE FROM steps WHERE seq = ?1", [seq])?; // a failed one may be retried from there
    }
    sql.count(|depths| if was == RUNNING { depths.running -= 1 } else { depths.queued -= 1 });
    Ok(())
}

/// Queues a failed message again, at its place. Gives its session.
pub(super) fn retry(sql: &Sql<'_>, message_id: &str) -> Ran<i64> {
    let found = sql.one(
        "SELECT i.seq, i.session, e.state, e.starts, e.journal FROM inbox i LEFT JOIN ended e ON e.seq = i.seq WHERE i.id = ?1",
        [message_id],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?, row.get(3)?, row.get(4)?)),
    )?;
    let Some((seq, session, state, starts, journal)) = found else { return not_found() };
    if state != Some(state_number(MessageState::Failed)) {
        return conflict("the message has not failed");
    }
    let mut journal = Journal::new(Option::<String>::unwrap_or_default(journal));
    journal.add(StepKind::Retried, sql.now_ms(), "queued again by a person");
    sql.exec("DELETE FROM ended WHERE seq = ?1", [seq])?;
    let starts: i64 = Option::unwrap_or_default(starts);
    sql.exec("INSERT INTO work VALUES (?1, ?2, 0, ?3, 0, 0, 0, ?4)", (session, seq, starts, journal.text()))?;
    sql.count(|depths| depths.queued += 1);
    Ok(session)
}
