//! All that lasts, behind one boundary: inbox, sessions, turns, outbox, audit.
//!
//! Invariant: no SQL and no assumption of a single process passes this boundary; a second, shared store can stand behind it.
//! What a `Done` or an `Ok` reports as written is on disk (fsync done) where the method says *durable*, and survives the
//! death of the process (not of the power) where it says *soft*. Fails with [`StoreError`]; after `Unavailable` nothing of the
//! call was written, and the store heals by itself once the disk does.

pub mod sqlite;

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::config::Retention;
use crate::domain::{
    Accepted, Approval, ApprovalState, Attempt, Claim, CutOff, Decision, Delivery, DeliveryState, Entry, FinishedTurn,
    InboundMessage, Job, JobRun, LearnedRule, MessageState, NewInbound, NewOutbound, Note, Pairing, SessionInfo, Spent, Step,
    Summary, Usage,
};

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It can't write now (disk full, read-only, I/O error): try again later; 503 to senders.
    Unavailable(String),
    /// Its queue is full: more is asked than the disk takes; 503 to senders.
    Busy,
    /// The thing named does not exist.
    NotFound,
    /// It exists and is in a state that forbids this.
    Conflict(String),
    /// The cursor of a list is none that was given.
    BadCursor,
    /// It is closed.
    Stopped,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "the store can't write: {why}"),
            StoreError::Busy => f.write_str("the store's queue is full"),
            StoreError::NotFound => f.write_str("not found"),
            StoreError::Conflict(why) => f.write_str(why),
            StoreError::BadCursor => f.write_str("this cursor was not given by a list"),
            StoreError::Stopped => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Called once, when the write is committed or has failed; on a thread of the store's: it must be short and not block.
pub type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// Where a list goes on: an opaque cursor, and how many at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What the former page gave as `next`.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: usize,
}

/// One page of a list and where the next one begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The page.
    pub items: Vec<T>,
    /// The cursor of the next page, if there is one.
    pub next: Option<String>,
}

/// What became of a session's messages when they were withdrawn, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Waited, and are cancelled.
    pub ended: Vec<String>,
    /// Run, or were just claimed, and go on: whoever runs them is to be told.
    pub running: Vec<String>,
}

/// Where a user can be reached: the place they were last seen at on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The channel.
    pub channel: String,
    /// The user in the channel's own terms.
    pub peer: String,
    /// The channel's conversation.
    pub conversation: Option<String>,
    /// When, in ms since 1970.
    pub at_ms: i64,
}

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When.
    pub at_ms: i64,
    /// Who: a principal's id, or an address.
    pub actor: String,
    /// What: `config.changed`, `login.failed`, `delivery.retried`, …
    pub action: String,
    /// More of it; never a secret.
    pub detail: Value,
}

/// Counts for metrics and `/ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Depths {
    /// Messages queued or deferred.
    pub queued: u64,
    /// Turns running.
    pub running: u64,
    /// Turns that wait for a person's decision.
    pub waiting_approval: u64,
    /// Deliveries to be sent by workers.
    pub pending: u64,
    /// Deliveries that wait for the receiver's own receipt.
    pub unacknowledged: u64,
}

/// How large all is that is kept, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What is in use.
    pub used: u64,
    /// The bound.
    pub max: u64,
}

impl Space {
    /// Whether room is to be made: a sixteenth is left, or less.
    pub fn is_high(&self) -> bool {
        self.used >= self.max - self.max / 16
    }

    /// Whether nothing new is to be taken.
    pub fn is_full(&self) -> bool {
        self.used >= self.max
    }

    /// Whether making room has to go on: until an eighth is left.
    pub fn is_above_aim(&self) -> bool {
        self.used > self.max - self.max / 8
    }
}

/// What a start found and put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the former process ended without closing.
    pub unclean: bool,
    /// Turns that it left running: queued again.
    pub resumed: u64,
    /// Messages set aside because their turns ended the process again and again.
    pub set_aside: u64,
    /// Deliveries that it left between the send and the record, put back to be sent again (the channel takes our id as a key).
    pub resent: u64,
    /// The same on channels where a repeat could double: kept as `unknown`.
    pub unknown: u64,
}

/// How what lasts is kept within its bounds.
pub trait Upkeep {
    /// From now on that is kept.
    fn keep(&self, retention: Retention);

    /// Removes what is past its time or beyond its size, kind by kind, in steps between which others write. Soft. Gives how many rows went.
    fn prune(&self) -> Result<u64>;

    /// Where all together nears its bound, removes the oldest messages that are settled, with all that came of them, and what was sent
    /// unasked, until there is room again or nothing more may go. In steps; soft. Gives how many rows went.
    fn make_room(&self) -> Result<u64>;

    /// How large all together is. From memory.
    fn space(&self) -> Space;

    /// Where nothing was written for a while, begins to give back what a burst left: a long log, free pages. Waits for nothing; does
    /// nothing where there is nothing to give back.
    fn tidy(&self);

    /// Lets go of memory that only makes it faster. Waits for nothing.
    fn shrink(&self);
}

/// What lasts. All methods may be called from any thread; those without a `Done` block until they are through.
pub trait Store: Upkeep + Send + Sync {
    /// What opening found and put right.
    fn recovery(&self) -> Recovery;

    /// Puts a message to the inbox, and its user to those seen. Durable. Never blocks: a full queue is `Busy`, at once.
    fn accept(&self, message: NewInbound, done: Done<Accepted>);

    /// Notes that a user connected (without a message). Soft.
    fn saw(&self, user_id: &str, seen: Seen) -> Result<()>;

    /// The places where a user was seen, the latest first.
    fn seen(&self, user_id: &str) -> Result<Vec<Seen>>;

    /// Takes the next message whose session has no turn running, sessions by turns, and counts a start of its turn. Soft.
    /// Where the message may be collected, those that follow it from the same sender join its turn (`Claim::more`), once that one was
    /// silent for 2 s: from then on they stand where the message stands, and end with it. `None` where nothing is to be done now.
    fn claim_turn(&self) -> Result<Option<Claim>>;

    /// When the next deferred turn is due, if one waits: how long until then.
    fn next_turn_due(&self) -> Option<Duration>;

    /// Adds a step to a running turn's journal. Durable. `Conflict` where the message is not running, or its turn has taken 1,000
    /// steps.
    fn record_step(&self, message_id: &str, step: Step) -> Result<()>;

    /// Puts a running turn back because of a failure that may pass, for `pause`; its session waits with it. Counts in
    /// `failures`. Soft. One that was stopped meanwhile ends as cancelled instead: gives why.
    fn defer_turn(&self, message_id: &str, pause: Duration, reason: &str) -> Result<Option<String>>;

    /// Puts a running turn back because the gateway drains; the start is not counted. Soft. One that was stopped ends, as above.
    fn release_turn(&self, message_id: &str) -> Result<Option<String>>;

    /// Ends a turn: transcript, replies and the message's state in one transaction. Durable. `Conflict` where the message is
    /// not running (it was ended elsewhere): nothing is written. With `forget` the session is erased in it; what is to be sent
    /// keeps its text until it is pruned, and the log may hold what was erased until it is next carried over.
    fn finish_turn(&self, turn: FinishedTurn) -> Result<Vec<Delivery>>;

    /// Sets a message aside as failed, with what the user is to be told and what its tries used. Durable.
    fn fail_turn(&self, message_id: &str, reason: &str, notice: Vec<NewOutbound>, spent: Vec<Spent>) -> Result<Vec<Delivery>>;

    /// Ends a running turn as cancelled. Its pending approvals are cancelled with it. Durable. `Conflict` where it isn't running.
    fn cancel_turn(&self, message_id: &str, reason: &str, spent: Vec<Spent>) -> Result<()>;

    /// Cancels what of a session was accepted before `message_id` (`None`: all of it) and isn't running: messages that are queued or wait for an
    /// approval (which is cancelled, too). Says what runs, too, a claim among it that its worker has yet to see; it is noted: where the process
    /// ends before its worker ends it, or gives it back, it is cancelled. Durable.
    fn cancel_waiting(&self, session_id: &str, message_id: Option<&str>, reason: &str) -> Result<Withdrawn>;

    /// Cancels one message that is queued or waits for an approval (which is cancelled, too), with what joined its turn. Durable. Gives the ids
    /// of the messages: none where it runs, has ended or joined another one's turn.
    fn cancel_message(&self, message_id: &str, reason: &str) -> Result<Vec<String>>;

    /// Takes the oldest urgent message that is queued, whatever runs in its session. Soft. Ended like any other turn. Where there is
    /// none, memory tells: it may be called often.
    fn claim_urgent(&self) -> Result<Option<Claim>>;

    /// Lets a running turn wait for decisions: puts the approvals, adds the step, and the message waits
    /// (`MessageState::WaitingApproval`) with its session behind it. Durable. Where an approval of the same message and call is
    /// there already, it stays as it is; where all of them were decided before, the message is queued again at once. `Conflict`
    /// where it is not running, or more than 10,000 approvals would be pending. One that was stopped meanwhile ends as cancelled
    /// instead, and nobody is asked: gives why.
    fn park_turn(&self, message_id: &str, approvals: Vec<Approval>, step: Step) -> Result<Option<String>>;

    /// Decides a pending approval. With `Always` a rule for exactly this call is put beside it. Once a message has no pending
    /// approval left, it is queued again at its place. Durable. `Conflict` where it is decided already (the first one counts) or its time is over.
    fn decide_approval(&self, id: &str, decision: Decision, by: &str) -> Result<Approval>;

    /// Expires pending approvals whose time is over, at most 256 at a time: by the wall clock, or because they waited that long by
    /// the monotonic one, should the wall clock have jumped back. Their messages are queued again. Durable. Gives them.
    fn expire_approvals(&self) -> Result<Vec<Approval>>;

    /// When the next pending approval expires, if there is one: how long until then. From memory; one that was cancelled may
    /// still count until it is due.
    fn next_approval_due(&self) -> Option<Duration>;

    /// One approval.
    fn approval(&self, id: &str) -> Result<Approval>;

    /// Approvals, newest first; of one state or all.
    fn approvals(&self, state: Option<ApprovalState>, page: Page) -> Result<Listed<Approval>>;

    /// The rules that operators' `always` made, oldest first. At most 1,000 are kept: one more is a `Conflict` at its decision.
    fn learned_rules(&self) -> Result<Vec<LearnedRule>>;

    /// Forgets such a rule. Durable.
    fn forget_rule(&self, id: &str) -> Result<()>;

    /// Keeps a note; an id that is there already changes nothing. Durable. `Conflict` where the user has `NOTES_MAX` with that
    /// agent.
    fn add_note(&self, note: Note) -> Result<()>;

    /// Changes a note's text. Durable.
    fn change_note(&self, id: &str, text: &str) -> Result<Note>;

    /// Forgets a note. Durable.
    fn forget_note(&self, id: &str) -> Result<()>;

    /// One note.
    fn note(&self, id: &str) -> Result<Note>;

    /// A user's notes, newest first, with one agent or all.
    fn notes(&self, user_id: &str, agent: Option<&str>, page: Page) -> Result<Listed<Note>>;

    /// The notes of a user with an agent that fit a text best, best first, at most `limit`: any of its words counts, in any
    /// script. No text is an error: one without words fits nothing.
    fn search_notes(&self, user_id: &str, agent: &str, text: &str, limit: usize) -> Result<Vec<Note>>;

    /// What a session's older turns came to.
    fn summary(&self, session_id: &str) -> Result<Option<Summary>>;

    /// Puts that; an older one is replaced. Soft: it can be made again.
    fn set_summary(&self, session_id: &str, summary: Summary) -> Result<()>;

    /// Switches a session to another model, or back. Durable.
    fn set_model(&self, session_id: &str, model: Option<&str>) -> Result<()>;

    /// What was used since `day` (days since 1970 in UTC), of one user or all; the latest day first.
    fn usage(&self, day: i64, user_id: Option<&str>) -> Result<Vec<Usage>>;

    /// Tokens, in and out together, that `day` has seen: of an agent, by one user or by all.
    fn tokens_of(&self, day: i64, agent: &str, user_id: Option<&str>) -> Result<u64>;

    /// Queues a failed message again, at its place, with what was in the same turn; one that was urgent is so no more. Durable. `Conflict` where it isn't failed.
    fn retry_message(&self, message_id: &str) -> Result<()>;

    /// Puts outbound messages to the outbox. `key` makes a repeat harmless: `(caller, idempotency key, digest of the request)`;
    /// the same key with the same digest gives the first one's deliveries, with another digest `Conflict`. Durable.
    fn enqueue(&self, outbound: Vec<NewOutbound>, key: Option<(String, String, String)>, done: Done<Vec<Delivery>>);

    /// Takes the next due delivery of `Handoff::Worker`, one at a time and in order for each channel and peer. `cut_off` tells what
    /// becomes of it should the process die before its record, by its channel, and with that whether the mark that it was begun
    /// is fsynced before the send.
    fn claim_delivery(&self, cut_off: &dyn Fn(&str) -> CutOff) -> Result<Option<Delivery>>;

    /// When the next delayed delivery is due, if one waits: how long until then.
    fn next_delivery_due(&self) -> Option<Duration>;

    /// Records how a try ended. Soft where it goes on or was sent, durable where it is dead or unknown.
    fn record_attempt(&self, attempt: Attempt) -> Result<()>;

    /// A receiver's receipt: settles all deliveries to `user_id` on `channel` that have this delivery id, or answer this
    /// message id. Soft. Gives how many.
    fn acknowledge(&self, channel: &str, user_id: &str, id: &str) -> Result<u64>;

    /// What waits for a user's receipt on a channel, oldest first, at most `limit`.
    fn unacknowledged(&self, channel: &str, user_id: &str, limit: usize) -> Result<Vec<Delivery>>;

    /// Revives a dead or unknown delivery, as one that whoever asks for it knows to be wanted: it counts as no repeat. Durable. `Conflict` where it is neither.
    fn retry_delivery(&self, id: &str) -> Result<Delivery>;

    /// Removes a delivery that is not being sent. Durable.
    fn drop_delivery(&self, id: &str) -> Result<()>;

    /// A message with its life.
    fn message(&self, id: &str) -> Result<InboundMessage>;

    /// Messages, newest first; of one state or all. Without timelines and deliveries.
    fn messages(&self, state: Option<MessageState>, page: Page) -> Result<Listed<InboundMessage>>;

    /// One delivery.
    fn delivery(&self, id: &str) -> Result<Delivery>;

    /// Deliveries, newest first; of one state or all.
    fn deliveries(&self, state: Option<DeliveryState>, page: Page) -> Result<Listed<Delivery>>;

    /// The latest `limit` entries of a session's transcript, oldest first.
    fn history(&self, session_id: &str, limit: usize) -> Result<Vec<Entry>>;

    /// Sessions, the latest used first.
    fn sessions(&self, page: Page) -> Result<Listed<SessionInfo>>;

    /// One user's sessions, the latest used first, with their transcripts (the latest `entries` of each).
    fn sessions_of(&self, user_id: &str, entries: usize, page: Page) -> Result<Listed<SessionInfo>>;

    /// The cursor of that name.
    fn cursor(&self, name: &str) -> Result<Option<String>>;

    /// Puts a cursor behind which nothing was to be accepted. Soft. (With a message, `NewInbound::cursor` is committed with it,
    /// also where the message is a duplicate.)
    fn set_cursor(&self, name: &str, value: &str) -> Result<()>;

    /// Records that the service confirmed that many parts of a delivery that is being sent. Soft.
    fn record_part(&self, delivery_id: &str, parts: u32) -> Result<()>;

    /// Lets an unknown sender wait to be let in; one who waits already keeps its code. Durable. `Conflict` where `PAIRINGS_MAX` of
    /// that channel wait.
    fn ask_pairing(&self, pairing: Pairing) -> Result<Pairing>;

    /// Decides who waits under that code, which is good once. Durable. `NotFound` for a code that nobody waits under (or one that is
    /// over); after `PAIRING_TRIES` of those in a row, over restarts, all that wait are withdrawn.
    fn decide_pairing(&self, code: &str, approve: bool) -> Result<Pairing>;

    /// Who waits, newest first.
    fn pairings(&self, page: Page) -> Result<Listed<Pairing>>;

    /// Whether that sender was let in.
    fn is_paired(&self, channel: &str, peer: &str) -> Result<bool>;

    /// Takes that back. Durable. `NotFound` where there is nothing.
    fn unpair(&self, channel: &str, peer: &str) -> Result<()>;

    /// Puts a job, in place of one with its id. Durable. At most 1,000: one more is a `Conflict`.
    fn put_job(&self, job: Job) -> Result<()>;

    /// Removes a job and its history. Durable.
    fn delete_job(&self, id: &str) -> Result<()>;

    /// One job.
    fn job(&self, id: &str) -> Result<Job>;

    /// All jobs, by id.
    fn jobs(&self) -> Result<Vec<Job>>;

    /// Records a run, and when the job runs next, in one transaction; the latest 100 runs of a job are kept. Durable. `Conflict` where the
    /// job's `next_ms` is not `run.due_ms` any more (somebody else ran it, or it was changed): nothing is written.
    fn record_run(&self, run: JobRun, next_ms: Option<i64>) -> Result<()>;

    /// Records a run beside the schedule: the job's next run stays as it is. Durable. `NotFound` where there is no such job.
    fn note_run(&self, run: JobRun) -> Result<()>;

    /// The runs of a job, newest first.
    fn job_runs(&self, id: &str, page: Page) -> Result<Listed<JobRun>>;

    /// Keeps the bytes of a message's attachment, the `n`th from 0; a repeat replaces them. Files of answered messages make room for
    /// it, the oldest first. Waits for the disk; what a loss of power takes is fetched again. `NotFound` where the message has no such
    /// attachment (any more), `Conflict` where those of unanswered messages fill all the room.
    fn keep_attachment(&self, message_id: &str, n: usize, bytes: &[u8]) -> Result<()>;

    /// Notes that an attachment could not be had. Soft.
    fn miss_attachment(&self, message_id: &str, n: usize) -> Result<()>;

    /// The bytes that were kept. `NotFound` where there are none (any more).
    fn attachment(&self, message_id: &str, n: usize) -> Result<Vec<u8>>;

    /// Ends and erases a user's sessions: transcripts, summaries, attachments, and the texts of their messages, deliveries and approvals; and the
    /// user's notes, learned rules and jobs (not the configuration's); the audit keeps of them who did what when, not what was said. Messages still to
    /// be answered are cancelled. What is left of each message is what deduplication needs. Durable. Gives how many sessions.
    fn erase_user(&self, user_id: &str) -> Result<u64>;

    /// Adds to the audit trail. Soft; never blocks, and drops the entry only when the store can't write.
    fn audit(&self, entry: AuditEntry);

    /// The audit trail, newest first.
    fn audit_trail(&self, page: Page) -> Result<Listed<AuditEntry>>;

    /// Counts.
    fn depths(&self) -> Depths;

    /// `Ok` where the last write succeeded; else why not. `probe` tries a write first.
    fn health(&self, probe: bool) -> Result<()>;

    /// Commits what waits, checkpoints, closes. After it every call is `Stopped`.
    fn close(&self);
}
