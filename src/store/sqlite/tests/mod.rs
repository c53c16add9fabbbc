//! Tests of the store through its boundary: a manual clock, a folder of its own for each.
//!
//! Invariant: dropping a store without closing it stands for the death of its process; kills of real processes are the suite's.

mod approvals;
mod attachments;
mod backup;
mod channels;
mod collect;
mod delivering;
mod disk;
mod inbox;
mod jobs;
mod life;
mod notes;
mod pairings;
mod recover;
mod space;
mod turns;
mod urgent;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rusqlite::Connection;

use crate::base::clock::Clock;
use crate::base::ids::new_id;
use crate::base::threads::Threads;
use crate::config::{Kept, Retention};
use crate::domain::{
    Accepted, Approval, ApprovalState, Attempt, Claim, CutOff, Delivery, DeliveryState, FinishedTurn, Handoff, InboundMessage,
    NewInbound, NewOutbound, Outcome, Spent, Step, StepKind,
};
use crate::store::sqlite::SqliteStore;
use crate::store::{Page, Result, Store, Upkeep};

pub(super) const NOW_MS: i64 = 1_800_000_000_000;

/// A store and what outlives it.
pub(super) struct Home {
    folder: tempfile::TempDir,
    pub(super) clock: Clock,
    pub(super) threads: Threads,
    store: Option<Arc<SqliteStore>>,
}

impl Home {
    pub(super) fn new() -> Self {
        let folder = match tempfile::tempdir_in("/dev/shm") {
            Ok(folder) => folder,
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let mut home = Home { folder, clock: Clock::manual(NOW_MS), threads: Threads::new(), store: None };
        home.open();
        home
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("data/gatelet.db")
    }

    pub(super) fn open(&mut self) {
        let store = SqliteStore::open(&self.path(), self.clock.clone(), &self.threads).unwrap();
        store.keep(brief());
        self.store = Some(store);
    }

    pub(super) fn store(&self) -> Arc<SqliteStore> {
        self.store.clone().unwrap()
    }

    /// The process dies.
    pub(super) fn die(&mut self) {
        self.store = None;
    }

    /// The process dies, and another one starts.
    pub(super) fn crash(&mut self) {
        self.die();
        self.open();
    }

    /// An orderly restart.
    pub(super) fn restart(&mut self) {
        self.store().close();
        self.crash();
    }

    /// Looks into the file past the store.
    pub(super) fn sql<T: rusqlite::types::FromSql>(&self, statement: &str) -> T {
        Connection::open(self.path()).unwrap().query_row(statement, [], |row| row.get(0)).unwrap()
    }
}

impl std::ops::Deref for Home {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }
}

/// The shortest that repeats and what was sent can be known.
pub(super) fn brief() -> Retention {
    let week = Duration::from_secs(7 * 86_400);
    let outbox = Kept { max_age: Some(week), max_bytes: None };
    Retention { repeats: week, outbox, ..Retention::default() }
}

/// A message of `user`'s on the channel `door`, without an outside id.
pub(super) fn hello(user: &str, text: &str) -> NewInbound {
    NewInbound {
        id: new_id("msg", NOW_MS),
        channel: "door".into(),
        user_id: user.into(),
        is_bare: false,
        peer: format!("peer-{user}"),
        conversation: None,
        external_id: None,
        agent: "main".into(),
        text: text.into(),
        metadata: None,
        received_ms: NOW_MS,
        standing: Default::default(),
        urgent: false,
        collect: false,
        cursor: None,
        attachments: Vec::new(),
    }
}

/// A delivery to `user` by a worker.
pub(super) fn letter(user: &str, text: &str) -> NewOutbound {
    NewOutbound {
        id: new_id("dlv", NOW_MS),
        channel: "door".into(),
        handoff: Handoff::Worker,
        user_id: user.into(),
        peer: format!("peer-{user}"),
        conversation: None,
        session_id: None,
        in_reply_to: None,
        text: text.into(),
        metadata: None,
    }
}

pub(super) fn told<T: Send + 'static>(ask: impl FnOnce(crate::store::Done<T>)) -> Result<T> {
    let (tell, told) = crossbeam_channel::bounded(1);
    ask(Box::new(move |outcome| drop(tell.send(outcome))));
    wait(&told)
}

pub(super) fn wait<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(Duration::from_secs(30)).expect("told within 30 s")
}

pub(super) fn accept(store: &SqliteStore, message: NewInbound) -> Result<Accepted> {
    told(|done| store.accept(message, done))
}

pub(super) fn accept_all(store: &SqliteStore, messages: &[(&str, &str)]) -> Vec<String> {
    messages.iter().map(|(user, text)| accept(store, hello(user, text)).unwrap().id).collect()
}

pub(super) fn enqueue(store: &SqliteStore, outbound: Vec<NewOutbound>) -> Result<Vec<Delivery>> {
    told(|done| store.enqueue(outbound, None, done))
}

pub(super) fn claim(store: &SqliteStore) -> Option<Claim> {
    store.claim_turn().unwrap()
}

/// Takes the next message and tells its text.
pub(super) fn claim_text(store: &SqliteStore) -> Option<String> {
    claim(store).map(|claim| claim.text)
}

pub(super) fn answer(message_id: &str, reply: &str, outbound: Vec<NewOutbound>) -> FinishedTurn {
    FinishedTurn {
        message_id: message_id.into(),
        reply: reply.into(),
        ends_session: false,
        outbound,
        took: Duration::from_millis(7),
        spent: vec![Spent { provider: "p".into(), tokens_in: 3, tokens_out: 4, calls: 1 }],
        forget: false,
    }
}

/// A step without data.
pub(super) fn step(kind: StepKind, detail: &str) -> Step {
    Step { kind, detail: detail.into(), data: String::new(), at_ms: NOW_MS }
}

/// What a claimed turn asks about a call: it has ten minutes.
pub(super) fn question(home: &Home, claim: &Claim, call: &str) -> Approval {
    let now = home.clock.unix_ms();
    Approval {
        id: new_id("apr", now),
        state: ApprovalState::Pending,
        tool: "shell.run".into(),
        arguments: serde_json::json!({"call": call}),
        question: format!("run {call}?"),
        digest: format!("digest-{call}"),
        call_id: call.into(),
        message_id: claim.message_id.clone(),
        session_id: claim.session_id.clone(),
        agent: claim.agent.clone(),
        channel: claim.channel.clone(),
        user_id: claim.user_id.clone(),
        created_ms: now,
        expires_ms: now + 600_000,
        decided_by: None,
        decided_ms: None,
    }
}

/// Takes the next turn and lets it wait for a decision on each of `calls`; gives the turn and its approvals.
pub(super) fn park(home: &Home, calls: &[&str]) -> (Claim, Vec<Approval>) {
    let claim = claim(home).expect("a turn to be parked");
    let asked: Vec<_> = calls.iter().map(|call| question(home, &claim, call)).collect();
    home.park_turn(&claim.message_id, asked.clone(), step(StepKind::Parked, "shell.run")).unwrap();
    (claim, asked)
}

/// Answers whatever is queued with `re: <text>`, a delivery each; gives the texts in the order of their turns.
pub(super) fn answer_all(store: &SqliteStore) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(claim) = claim(store) {
        let reply = format!("re: {}", claim.text);
        let mut out = letter(&claim.user_id, &reply);
        out.in_reply_to = Some(claim.message_id.clone());
        out.session_id = Some(claim.session_id.clone());
        store.finish_turn(answer(&claim.message_id, &reply, vec![out])).unwrap();
        texts.push(claim.text);
    }
    texts
}

pub(super) fn take(store: &SqliteStore) -> Option<Delivery> {
    store.claim_delivery(&|_| CutOff::Resent).unwrap()
}

pub(super) fn record(store: &SqliteStore, delivery: &Delivery, outcome: Outcome) {
    store.record_attempt(Attempt { delivery_id: delivery.id.clone(), outcome }).unwrap();
}

pub(super) fn retry_after(seconds: u64) -> Outcome {
    Outcome::Retry { after: Duration::from_secs(seconds), reason: "busy".into(), is_unclear: false }
}

pub(super) fn page(limit: usize) -> Page {
    Page { cursor: None, limit }
}

pub(super) fn events(message: &InboundMessage) -> Vec<&str> {
    message.timeline.iter().map(|entry| entry.event.as_str()).collect()
}

/// Fails where any file of the store holds `secret`.
pub(super) fn assert_no_trace(home: &Home, secret: &str) {
    for file in std::fs::read_dir(home.path().parent().unwrap()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        assert_eq!(at, None, "{path:?} still holds {secret:?}");
    }
}
