//! Turns: claiming the next message, the ways in which a turn is put back, and the ways in which it ends.
//!
//! Invariant: a message is answered only out of `running`, and the row that says so goes in the same transaction as the
//! transcript and the replies; a turn that was ended elsewhere writes nothing. Of a session the oldest message is next, but for
//! urgent ones, which are taken beside it: one that runs is passed over. Nothing here decides which session is next: see
//! `ready`.

use std::time::Duration;

use rusqlite::Row;

use crate::domain::{Claim, Delivery, FinishedTurn, MessageState, NewOutbound, Spent, Standing, Step, StepKind};
use crate::store::sqlite::inbox::state_number;
use crate::store::sqlite::journal::Journal;
use crate::store::sqlite::outbox::{self, Answered, Put};
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::recover::Look;
use crate::store::sqlite::sessions::{ENDED, Gone};
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::sqlite::{approvals, attachments, collect, sessions, usage};

/// A message's state in `work`.
pub(super) const QUEUED: i64 = 0;
/// Its turn runs.
pub(super) const RUNNING: i64 = 1;
/// Its turn waits for a person's decision.
pub(super) const WAITING: i64 = 2;

/// Where a turn left its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// The session's number.
    pub(super) session: i64,
    /// What it has to do.
    pub(super) next: Next,
}

/// What a session has to do next, by its head: the oldest message that no urgent worker has in hand.
pub(super) fn left(sql: &Sql<'_>, session: i64) -> Ran<Left> {
    let head = sql.one(
        "SELECT state, not_before_ms FROM work WHERE session = ?1 AND NOT (urgent = 1 AND state = 1) ORDER BY seq LIMIT 1",
        [session],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let next = match head {
        Some((QUEUED, not_before_ms)) => Look::later(sql.clock()).next(not_before_ms),
        _ => Next::Nothing,
    };
    Ok(Left { session, next })
}

/// Counts that a message goes from one state in `work` to another; `None` is outside of it.
pub(super) fn count_move(sql: &Sql<'_>, urgent: bool, from: Option<i64>, to: Option<i64>) {
    sql.count(|depths| {
        for (state, by) in [(from, -1), (to, 1)] {
            match state {
                Some(QUEUED) => (depths.queued, depths.urgent) = (depths.queued + by, depths.urgent + by * i64::from(urgent)),
                Some(RUNNING) => depths.running += by,
                Some(_) => depths.waiting += by,
                None => {}
            }
        }
    });
}

struct Head {
    session: i64,
    seq: i64,
    state: i64,
    urgent: bool,
    collect: bool,
    journal: Journal,
    claim: Claim,
}

const HEAD: &str =
    "SELECT w.session, w.seq, w.state, w.urgent, w.starts, w.failures, w.journal, i.id, s.id, s.channel, s.user_id,
        i.peer, s.conversation, s.agent, i.text, i.metadata, i.received_ms, i.standing, s.model, w.collect
    FROM work w CROSS JOIN inbox i ON i.seq = w.seq CROSS JOIN sessions s ON s.n = w.session WHERE";

fn read_head(row: &Row<'_>) -> rusqlite::Result<Head> {
    let claim = Claim {
        message_id: row.get(7)?,
        session_id: row.get(8)?,
        channel: row.get(9)?,
        user_id: row.get(10)?,
        peer: row.get(11)?,
        conversation: row.get::<_, Option<String>>(12)?.filter(|c| !c.is_empty()),
        agent: row.get(13)?,
        text: row.get(14)?,
        metadata: outbox::metadata(row, 15)?,
        attachments: Vec::new(),
        received_ms: row.get(16)?,
        standing: Standing::ALL.get(row.get::<_, u8>(17)? as usize).copied().unwrap_or_default(),
        model: row.get(18)?,
        attempts: row.get::<_, u32>(4)?.saturating_add(1),
        failures: row.get(5)?,
        steps: Vec::new(),
        approvals: Vec::new(),
        more: Vec::new(),
    };
    let journal = Journal::new(row.get(6)?);
    Ok(Head {
        session: row.get(0)?,
        seq: row.get(1)?,
        state: row.get(2)?,
        urgent: row.get(3)?,
        collect: row.get(19)?,
        journal,
        claim,
    })
}

/// What a look at a session's head came to.
#[derive(Debug)]
pub(super) enum Taken {
    /// Its turn was started.
    Turn(Box<Claim>),
    /// It has none to be started.
    Nothing,
    /// Its sender may still be writing: look again after this time.
    Later(Duration),
}

/// Starts the turn of a session's oldest message, with what may join it.
pub(super) fn claim(sql: &Sql<'_>, session: i64) -> Ran<Taken> {
    let statement = format!("{HEAD} w.session = ?1 AND NOT (w.urgent = 1 AND w.state = 1) ORDER BY w.seq LIMIT 1");
    match sql.one(&statement, [session], read_head)? {
        Some(head) if head.state == QUEUED => {
            if head.collect
                && !head.journal.has_steps()
                && let Some(pause) = collect::gather(sql, session, head.seq, &head.claim.message_id)?
            {
                return Ok(Taken::Later(pause));
            }
            start(sql, head).map(|claim| Taken::Turn(Box::new(claim)))
        }
        _ => Ok(Taken::Nothing),
    }
}

/// Starts the turn of the oldest urgent message, whatever its session does.
pub(super) fn claim_urgent(sql: &Sql<'_>) -> Ran<Option<Claim>> {
    let (now, far) = Look::later(sql.clock()).bounds_ms();
    let oldest = sql.one(
        "SELECT seq FROM work INDEXED BY work_urgent
         WHERE urgent = 1 AND state = 0 AND NOT (not_before_ms > ?1 AND not_before_ms <= ?2) ORDER BY seq LIMIT 1",
        [now, far],
        |row| row.get::<_, i64>(0),
    )?;
    let Some(seq) = oldest else { return Ok(None) };
    match sql.one(&format!("{HEAD} w.urgent = 1 AND w.state = 0 AND w.seq = ?1"), [seq], read_head)? {
        Some(head) => start(sql, head).map(Some),
        None => Ok(None),
    }
}

fn start(sql: &Sql<'_>, head: Head) -> Ran<Claim> {
    let Head { session, seq, urgent, mut journal, mut claim, .. } = head;
    claim.steps = journal.steps(sql)?;
    claim.more = collect::joined(sql, seq)?;
    claim.attachments = attachments::of_message(sql, seq)?;
    if journal.was_parked() {
        claim.approvals = approvals::of_message(sql, seq)?;
    }
    journal.note(StepKind::Started, sql.now_ms(), "");
    sql.exec(
        "UPDATE work SET state = 1, starts = starts + 1, journal = ?3 WHERE session = ?1 AND seq = ?2",
        (session, seq, journal.text()),
    )?;
    count_move(sql, urgent, Some(QUEUED), Some(RUNNING));
    Ok(claim)
}

/// Undoes a claim that did not reach its worker.
pub(super) fn unclaim(sql: &Sql<'_>, message_id: &str) -> Ran<Kept> {
    put_back(sql, message_id, Back::Released { step: "it did not reach a worker" })
}

/// A turn that runs.
pub(super) struct Running {
    pub(super) session: i64,
    pub(super) seq: i64,
    pub(super) urgent: bool,
    pub(super) journal: Journal,
}

/// The turn of that message, if it runs.
pub(super) fn running(sql: &Sql<'_>, message_id: &str) -> Ran<Running> {
    let found = sql.one(
        "SELECT i.session, i.seq, w.state, w.urgent, w.journal FROM inbox i
         LEFT JOIN work w ON w.session = i.session AND w.seq = i.seq WHERE i.id = ?1",
        [message_id],
        |row| {
            let journal = Journal::new(row.get::<_, Option<String>>(4)?.unwrap_or_default());
            let urgent = row.get::<_, Option<bool>>(3)?.unwrap_or_default();
            Ok((Running { session: row.get(0)?, seq: row.get(1)?, urgent, journal }, row.get::<_, Option<i64>>(2)?))
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
    let Running { session, seq, mut journal, .. } = running(sql, message_id)?;
    journal.record(sql, seq, step)?;
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

/// Notes that a running turn is to be stopped: one that nobody has in hand any more ends so.
pub(super) fn note_stop(sql: &Sql<'_>, message_id: &str, reason: &str) -> Ran<()> {
    let step = Step { kind: StepKind::Stopped, detail: reason.to_string(), data: String::new(), at_ms: sql.now_ms() };
    record_step(sql, message_id, &step)
}

/// What became of a running turn that was to go back to the queue, or to wait for a decision.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) left: Left,
    /// Why it was ended as cancelled instead: it had been stopped.
    pub(super) stopped: Option<String>,
}

/// Ends a running turn whose journal says that it is to be stopped: its user was told that nothing of it comes any more.
pub(super) fn end_if_stopped(sql: &Sql<'_>, running: &Running) -> Ran<Option<Kept>> {
    let Some(why) = running.journal.stop() else { return Ok(None) };
    end(sql, running.session, running.seq, Ending::without(MessageState::Cancelled, why, &[]))?;
    Ok(Some(Kept { left: left(sql, running.session)?, stopped: Some(why.to_string()) }))
}

/// Puts a running turn back to the queue, or ends it where it was stopped meanwhile.
pub(super) fn put_back(sql: &Sql<'_>, message_id: &str, back: Back<'_>) -> Ran<Kept> {
    let running = running(sql, message_id)?;
    if let Some(ended) = end_if_stopped(sql, &running)? {
        return Ok(ended);
    }
    let Running { session, seq, urgent, mut journal } = running;
    let now = sql.now_ms();
    match back {
        Back::Deferred { pause, reason } => {
            journal.note(StepKind::Retried, now, reason);
            let not_before = now.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
            sql.exec(
                "UPDATE work SET state = 0, failures = failures + 1, not_before_ms = ?3, journal = ?4
                 WHERE session = ?1 AND seq = ?2",
                (session, seq, not_before, journal.text()),
            )?;
        }
        Back::Released { step } => {
            journal.note(StepKind::Interrupted, now, step);
            sql.exec(
                "UPDATE work SET state = 0, starts = max(starts - 1, 0), strikes = 0, not_before_ms = 0, journal = ?3
                 WHERE session = ?1 AND seq = ?2",
                (session, seq, journal.text()),
            )?;
        }
    }
    count_move(sql, urgent, Some(RUNNING), Some(QUEUED));
    Ok(Kept { left: left(sql, session)?, stopped: None })
}

/// What a finished turn leaves behind.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) puts: Vec<Put>,
    pub(super) left: Left,
    /// What was erased with the session.
    pub(super) gone: Gone,
}

impl Finished {
    /// The deliveries alone.
    pub(super) fn deliveries(self) -> Vec<Delivery> {
        self.puts.into_iter().map(|put| put.delivery).collect()
    }
}

/// How a message ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    state: MessageState,
    /// The reply, or why there is none.
    text: &'a str,
    took: Duration,
    spent: &'a [Spent],
    /// The number of its turn in the session, where it was answered.
    turn: Option<i64>,
}

impl<'a> Ending<'a> {
    /// Without an answer.
    pub(super) fn without(state: MessageState, reason: &'a str, spent: &'a [Spent]) -> Self {
        Ending { state, text: reason, took: Duration::ZERO, spent, turn: None }
    }

    /// Of a message that joined the turn which ends so: the reply is the head's.
    pub(super) fn of_joined(self) -> Self {
        let text = if self.state == MessageState::Answered { "" } else { self.text };
        Ending { text, spent: &[], ..self }
    }

    /// Whether a person may retry what ends so.
    pub(super) fn is_failure(self) -> bool {
        self.state == MessageState::Failed
    }
}

/// Ends a turn with its answer.
pub(super) fn finish(sql: &Sql<'_>, turn: &FinishedTurn) -> Ran<Finished> {
    let Running { session, seq, .. } = running(sql, &turn.message_id)?;
    let number = sql.one("SELECT turns + 1 FROM uses WHERE session = ?1", [session], |row| row.get::<_, i64>(0))?.unwrap_or(1);
    let now = sql.now_ms();
    sql.exec("UPDATE uses SET turns = ?2, updated_ms = ?3 WHERE session = ?1", (session, number, now))?;
    sql.uses(session, now);
    let (state, text) = (MessageState::Answered, turn.reply.as_str());
    end(sql, session, seq, Ending { state, text, took: turn.took, spent: &turn.spent, turn: Some(number) })?;
    if turn.forget {
        // What is to be sent is put after it, with texts of its own.
        let mut gone = Gone::default();
        sessions::erase(sql, session, &mut gone)?;
        let finished = leave(sql, session, Answered { id: &turn.message_id, seq, text: "" }, &turn.outbound)?;
        return Ok(Finished { gone, ..finished });
    }
    if turn.ends_session {
        sql.exec("UPDATE sessions SET state = ?2 WHERE n = ?1 AND state = 0", [session, ENDED])?;
    }
    leave(sql, session, Answered { id: &turn.message_id, seq, text }, &turn.outbound)
}

/// Sets a running message aside.
pub(super) fn fail(sql: &Sql<'_>, message_id: &str, reason: &str, notice: &[NewOutbound], spent: &[Spent]) -> Ran<Finished> {
    let Running { session, seq, .. } = running(sql, message_id)?;
    end(sql, session, seq, Ending::without(MessageState::Failed, reason, spent))?;
    leave(sql, session, Answered { id: message_id, seq, text: "" }, notice)
}

/// Ends a running turn without an answer, for good.
pub(super) fn cancel(sql: &Sql<'_>, message_id: &str, reason: &str, spent: &[Spent]) -> Ran<Left> {
    let Running { session, seq, .. } = running(sql, message_id)?;
    end(sql, session, seq, Ending::without(MessageState::Cancelled, reason, spent))?;
    left(sql, session)
}

fn leave(sql: &Sql<'_>, session: i64, answered: Answered<'_>, outbound: &[NewOutbound]) -> Ran<Finished> {
    let puts = outbound.iter().map(|o| outbox::put(sql, o, Some(answered))).collect::<Ran<_>>()?;
    Ok(Finished { puts, left: left(sql, session)?, gone: Gone::default() })
}

/// Moves a message from `work` to `ended`, and what joined its turn with it. What it waited for is cancelled.
pub(super) fn end(sql: &Sql<'_>, session: i64, seq: i64, ending: Ending<'_>) -> Ran<()> {
    let found =
        sql.one("SELECT state, starts, journal, urgent FROM work WHERE session = ?1 AND seq = ?2", [session, seq], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, Journal::new(row.get(2)?), row.get::<_, bool>(3)?))
        })?;
    let Some((was, starts, journal, urgent)) = found else { return conflict("the message is not to be answered") };
    sql.exec("DELETE FROM work WHERE session = ?1 AND seq = ?2", [session, seq])?;
    let (tokens_in, tokens_out) = usage::spend(sql, session, ending.spent)?;
    // A failed one may be retried, and goes on from there.
    let journal = if ending.state == MessageState::Failed { journal.text().to_string() } else { journal.into_ended() };
    sql.exec(
        "INSERT OR REPLACE INTO ended (seq, session, turn, state, starts, ended_ms, took_ms, tokens_in, tokens_out, journal, text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            seq,
            session,
            ending.turn,
            state_number(ending.state),
            starts,
            sql.now_ms(),
            i64::try_from(ending.took.as_millis()).unwrap_or(i64::MAX),
            tokens_in,
            tokens_out,
            journal,
            ending.text,
        ),
    )?;
    if ending.state != MessageState::Failed {
        sql.exec("DELETE FROM steps WHERE seq = ?1", [seq])?;
    }
    if was == WAITING {
        approvals::cancel(sql, seq)?;
    }
    count_move(sql, urgent, Some(was), None);
    collect::end(sql, session, seq, ending)
}

/// Queues a message. `collect`: what follows it may join its turn, or it another's.
pub(super) fn put_to_work(
    sql: &Sql<'_>,
    (session, seq): (i64, i64),
    starts: i64,
    journal: &Journal,
    urgent: bool,
    collect: bool,
) -> Ran<()> {
    sql.exec(
        "INSERT INTO work (session, seq, state, starts, failures, strikes, not_before_ms, journal, urgent, collect)
         VALUES (?1, ?2, 0, ?3, 0, 0, 0, ?4, ?5, ?6)",
        (session, seq, starts, journal.text(), urgent, collect && !urgent),
    )?;
    count_move(sql, urgent, None, Some(QUEUED));
    Ok(())
}
