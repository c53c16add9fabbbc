//! The boundary's methods: each names its work, whether it is durable, and what its end changes in memory.
//!
//! Invariant: the indexes and counts change on the writer's thread, after the commit. A key in hand is let go by whatever ends
//! its turn or its try; where the disk fails it stays in hand, since the worker tries again.

use std::time::Duration;

use crate::domain::{
    Accepted, Approval, ApprovalState, Attempt, Claim, CutOff, Decision, Delivery, DeliveryState, Entry, FinishedTurn,
    InboundMessage, Job, JobRun, LearnedRule, MessageState, NewInbound, NewOutbound, Note, Outcome, Pairing, SessionInfo, Spent,
    Step, Summary, Usage,
};
use crate::store::sqlite::approvals::Settled;
use crate::store::sqlite::outbox::Put;
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::recover::Look;
use crate::store::sqlite::settle::{self, let_go, let_go_until};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::Sql;
use crate::store::sqlite::turns::{self, Back, Finished, Kept, Left};
use crate::store::sqlite::{
    SqliteStore, approvals, attachments, audit, cursors, delivering, inbox, jobs, notes, outbox, pairings, sessions, steering,
    usage,
};
use crate::store::{AuditEntry, Depths, Done, Listed, Page, Recovery, Result, Seen, Store, StoreError, Withdrawn};

const SOFT: bool = true;
const DURABLE: bool = false;

impl Store for SqliteStore {
    fn recovery(&self) -> Recovery {
        self.recovery
    }

    fn accept(&self, message: NewInbound, done: Done<Accepted>) {
        let shared = self.shared.clone();
        let done = Box::new(move |outcome: Result<(Accepted, i64)>| {
            if let Ok((Accepted { duplicate: false, .. }, session)) = &outcome {
                shared.turns().offer(*session, ());
            }
            done(outcome.map(|(accepted, _)| accepted));
        });
        self.submit(DURABLE, move |sql| inbox::accept(sql, &message), done);
    }

    fn saw(&self, user_id: &str, seen: Seen) -> Result<()> {
        let user_id = user_id.to_string();
        self.write(SOFT, move |sql| {
            inbox::see(sql, &user_id, &seen.channel, &seen.peer, seen.conversation.as_deref(), seen.at_ms)
        })
    }

    fn seen(&self, user_id: &str) -> Result<Vec<Seen>> {
        self.read(|sql| inbox::seen(sql, user_id))
    }

    fn claim_turn(&self) -> Result<Option<Claim>> {
        self.take_turn()
    }

    fn next_turn_due(&self) -> Option<Duration> {
        self.shared.turns().due_in(self.shared.clock.mono())
    }

    fn record_step(&self, message_id: &str, step: Step) -> Result<()> {
        let id = message_id.to_string();
        self.write(DURABLE, move |sql| turns::record_step(sql, &id, &step))
    }

    fn defer_turn(&self, message_id: &str, pause: Duration, reason: &str) -> Result<Option<String>> {
        let (id, reason, due) = (message_id.to_string(), reason.to_string(), self.shared.clock.mono() + pause);
        let work = move |sql: &Sql<'_>| turns::put_back(sql, &id, Back::Deferred { pause, reason: &reason });
        let after = let_go_until(message_id, move |kept: &Kept| {
            (kept.left, if kept.stopped.is_some() { kept.left.next } else { Next::At(due) })
        });
        self.ask(SOFT, work, after, |_, _| {}).map(|kept| kept.stopped)
    }

    fn release_turn(&self, message_id: &str) -> Result<Option<String>> {
        let id = message_id.to_string();
        let work = move |sql: &Sql<'_>| turns::put_back(sql, &id, Back::Released { step: "the gateway drained" });
        self.ask(SOFT, work, let_go(message_id, |kept: &Kept| kept.left), |_, _| {}).map(|kept| kept.stopped)
    }

    fn finish_turn(&self, turn: FinishedTurn) -> Result<Vec<Delivery>> {
        let after = settle::finished(&turn.message_id);
        self.ask(DURABLE, move |sql| turns::finish(sql, &turn), after, |_, _| {}).map(Finished::deliveries)
    }

    fn cancel_turn(&self, message_id: &str, reason: &str, spent: Vec<Spent>) -> Result<()> {
        let (id, reason) = (message_id.to_string(), reason.to_string());
        let work = move |sql: &Sql<'_>| turns::cancel(sql, &id, &reason, &spent);
        self.ask(DURABLE, work, let_go(message_id, |left: &Left| *left), |_, _| {}).map(drop)
    }

    fn cancel_waiting(&self, session_id: &str, message_id: Option<&str>, reason: &str) -> Result<Withdrawn> {
        let (session, id, reason) = (session_id.to_string(), message_id.map(str::to_string), reason.to_string());
        let after = |shared: &Shared, outcome: &Result<(Withdrawn, Left)>| {
            if let Ok((_, left)) = outcome {
                settle::learn(shared, *left);
            }
        };
        let work = move |sql: &Sql<'_>| steering::cancel_waiting(sql, &session, id.as_deref(), &reason);
        self.ask(DURABLE, work, after, |_, _| {}).map(|(withdrawn, _)| withdrawn)
    }

    fn cancel_message(&self, message_id: &str, reason: &str) -> Result<Vec<String>> {
        let (id, reason) = (message_id.to_string(), reason.to_string());
        let after = |shared: &Shared, outcome: &Result<(Vec<String>, Option<Left>)>| {
            if let Ok((_, Some(left))) = outcome {
                settle::learn(shared, *left);
            }
        };
        let work = move |sql: &Sql<'_>| steering::cancel_one(sql, &id, &reason);
        self.ask(DURABLE, work, after, |_, _| {}).map(|(ids, _)| ids)
    }

    fn claim_urgent(&self) -> Result<Option<Claim>> {
        self.take_urgent()
    }

    fn park_turn(&self, message_id: &str, approvals: Vec<Approval>, step: Step) -> Result<Option<String>> {
        let id = message_id.to_string();
        let work = move |sql: &Sql<'_>| approvals::park(sql, &id, &approvals, &step);
        self.ask(DURABLE, work, settle::parked(message_id), |_, _| {}).map(|parked| parked.kept.stopped)
    }

    fn decide_approval(&self, id: &str, decision: Decision, by: &str) -> Result<Approval> {
        let (id, by) = (id.to_string(), by.to_string());
        let after = |shared: &Shared, outcome: &Result<Settled>| outcome.iter().for_each(|one| settle::settled(shared, one));
        let work = move |sql: &Sql<'_>| approvals::decide(sql, &id, decision, &by);
        self.ask(DURABLE, work, after, |_, _| {}).map(|settled| settled.approval)
    }

    fn expire_approvals(&self) -> Result<Vec<Approval>> {
        self.take_expired()
    }

    fn next_approval_due(&self) -> Option<Duration> {
        self.shared.approvals().due_in(&self.shared.clock)
    }

    fn approval(&self, id: &str) -> Result<Approval> {
        self.read(|sql| approvals::approval(sql, id))
    }

    fn approvals(&self, state: Option<ApprovalState>, page: Page) -> Result<Listed<Approval>> {
        self.read(|sql| approvals::approvals(sql, state, &page))
    }

    fn learned_rules(&self) -> Result<Vec<LearnedRule>> {
        self.read(approvals::rules)
    }

    fn forget_rule(&self, id: &str) -> Result<()> {
        let id = id.to_string();
        self.write(DURABLE, move |sql| approvals::forget_rule(sql, &id))
    }

    fn add_note(&self, note: Note) -> Result<()> {
        self.write(DURABLE, move |sql| notes::add(sql, &note))
    }

    fn change_note(&self, id: &str, text: &str) -> Result<Note> {
        let (id, text) = (id.to_string(), text.to_string());
        self.write(DURABLE, move |sql| notes::change(sql, &id, &text))
    }

    fn forget_note(&self, id: &str) -> Result<()> {
        let id = id.to_string();
        self.write(DURABLE, move |sql| notes::forget(sql, &id))
    }

    fn note(&self, id: &str) -> Result<Note> {
        self.read(|sql| notes::note(sql, id))
    }

    fn notes(&self, user_id: &str, agent: Option<&str>, page: Page) -> Result<Listed<Note>> {
        self.read(|sql| notes::notes(sql, user_id, agent, &page))
    }

    fn search_notes(&self, user_id: &str, agent: &str, text: &str, limit: usize) -> Result<Vec<Note>> {
        self.read(|sql| notes::search(sql, user_id, agent, text, limit))
    }

    fn summary(&self, session_id: &str) -> Result<Option<Summary>> {
        self.read(|sql| sessions::summary(sql, session_id))
    }

    fn set_summary(&self, session_id: &str, summary: Summary) -> Result<()> {
        let id = session_id.to_string();
        self.write(SOFT, move |sql| sessions::set_summary(sql, &id, &summary))
    }

    fn set_model(&self, session_id: &str, model: Option<&str>) -> Result<()> {
        let (id, model) = (session_id.to_string(), model.map(str::to_string));
        self.write(DURABLE, move |sql| sessions::set_model(sql, &id, model.as_deref()))
    }

    fn usage(&self, day: i64, user_id: Option<&str>) -> Result<Vec<Usage>> {
        self.read(|sql| usage::usage(sql, day, user_id))
    }

    fn tokens_of(&self, day: i64, agent: &str, user_id: Option<&str>) -> Result<u64> {
        self.read(|sql| usage::tokens_of(sql, day, agent, user_id))
    }

    fn fail_turn(&self, message_id: &str, reason: &str, notice: Vec<NewOutbound>, spent: Vec<Spent>) -> Result<Vec<Delivery>> {
        let (id, reason) = (message_id.to_string(), reason.to_string());
        let work = move |sql: &Sql<'_>| turns::fail(sql, &id, &reason, &notice, &spent);
        self.ask(DURABLE, work, settle::finished(message_id), |_, _| {}).map(Finished::deliveries)
    }

    fn retry_message(&self, message_id: &str) -> Result<()> {
        let id = message_id.to_string();
        let after = |shared: &Shared, outcome: &Result<i64>| {
            if let Ok(session) = outcome {
                let mut turns = shared.turns();
                turns.offer(*session, ());
                turns.wake(*session); // it stands before what made the session wait
            }
        };
        self.ask(DURABLE, move |sql| steering::retry(sql, &id), after, |_, _| {}).map(drop)
    }

    fn enqueue(&self, outbound: Vec<NewOutbound>, key: Option<(String, String, String)>, done: Done<Vec<Delivery>>) {
        let shared = self.shared.clone();
        let done = Box::new(move |outcome: Result<Vec<Put>>| {
            if let Ok(puts) = &outcome {
                settle::offer_all(&shared, puts);
            }
            done(outcome.map(|puts| puts.into_iter().map(|put| put.delivery).collect()));
        });
        self.submit(DURABLE, move |sql| outbox::enqueue(sql, &outbound, key.as_ref()), done);
    }

    fn claim_delivery(&self, cut_off: &dyn Fn(&str) -> CutOff) -> Result<Option<Delivery>> {
        self.take_delivery(cut_off)
    }

    fn next_delivery_due(&self) -> Option<Duration> {
        self.shared.deliveries().due_in(self.shared.clock.mono())
    }

    fn record_attempt(&self, attempt: Attempt) -> Result<()> {
        let soft = !matches!(attempt.outcome, Outcome::Dead { .. } | Outcome::Unknown { .. });
        let (id, look) = (attempt.delivery_id.clone(), Look::later(&self.shared.clock));
        let after = move |shared: &Shared, outcome: &Result<Next>| match outcome {
            Ok(next) => settle::delivery(shared, &id, *next),
            Err(StoreError::NotFound | StoreError::Conflict(_)) => settle::delivery(shared, &id, Next::Now),
            Err(_) => {}
        };
        self.ask(soft, move |sql| delivering::record(sql, &attempt, look), after, |_, _| {}).map(drop)
    }

    fn acknowledge(&self, channel: &str, user_id: &str, id: &str) -> Result<u64> {
        let (channel, user_id, id) = (channel.to_string(), user_id.to_string(), id.to_string());
        self.write(SOFT, move |sql| delivering::acknowledge(sql, &channel, &user_id, &id))
    }

    fn unacknowledged(&self, channel: &str, user_id: &str, limit: usize) -> Result<Vec<Delivery>> {
        self.read(|sql| outbox::unacknowledged(sql, channel, user_id, limit))
    }

    fn retry_delivery(&self, id: &str) -> Result<Delivery> {
        let id = id.to_string();
        let after = |shared: &Shared, outcome: &Result<(Delivery, delivering::Offer)>| {
            if let Ok((_, Some(offer))) = outcome {
                settle::offer_and_wake(shared, offer);
            }
        };
        self.ask(DURABLE, move |sql| delivering::retry(sql, &id), after, |_, _| {}).map(|(delivery, _)| delivery)
    }

    fn drop_delivery(&self, id: &str) -> Result<()> {
        let id = id.to_string();
        let after = |shared: &Shared, outcome: &Result<delivering::Offer>| {
            if let Ok(Some(offer)) = outcome {
                settle::offer_and_wake(shared, offer); // what stood behind it need not wait for its retry
            }
        };
        self.ask(DURABLE, move |sql| delivering::remove(sql, &id), after, |_, _| {}).map(drop)
    }

    fn message(&self, id: &str) -> Result<InboundMessage> {
        self.read(|sql| inbox::message(sql, id))
    }

    fn messages(&self, state: Option<MessageState>, page: Page) -> Result<Listed<InboundMessage>> {
        self.read(|sql| inbox::messages(sql, state, &page))
    }

    fn delivery(&self, id: &str) -> Result<Delivery> {
        self.read(|sql| outbox::delivery(sql, id))
    }

    fn deliveries(&self, state: Option<DeliveryState>, page: Page) -> Result<Listed<Delivery>> {
        self.read(|sql| outbox::deliveries(sql, state, &page))
    }

    fn history(&self, session_id: &str, limit: usize) -> Result<Vec<Entry>> {
        self.read(|sql| sessions::history(sql, session_id, limit))
    }

    fn sessions(&self, page: Page) -> Result<Listed<SessionInfo>> {
        self.read(|sql| sessions::sessions(sql, &self.shared.recent, &page))
    }

    fn sessions_of(&self, user_id: &str, entries: usize, page: Page) -> Result<Listed<SessionInfo>> {
        self.read(|sql| sessions::sessions_of(sql, user_id, entries, &page))
    }

    fn cursor(&self, name: &str) -> Result<Option<String>> {
        self.read(|sql| cursors::cursor(sql, name))
    }

    fn set_cursor(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (name.to_string(), value.to_string());
        self.write(SOFT, move |sql| cursors::set(sql, &name, &value))
    }

    fn record_part(&self, delivery_id: &str, parts: u32) -> Result<()> {
        let id = delivery_id.to_string();
        self.write(SOFT, move |sql| delivering::record_part(sql, &id, parts))
    }

    fn ask_pairing(&self, pairing: Pairing) -> Result<Pairing> {
        let shared = self.shared.clone();
        let changed = self.ask(DURABLE, move |sql| pairings::ask(sql, &shared, &pairing), settle::paired, |_, _| {})?;
        changed.asked.map(|(_, pairing)| pairing).ok_or(StoreError::NotFound)
    }

    fn decide_pairing(&self, code: &str, approve: bool) -> Result<Pairing> {
        let (shared, code) = (self.shared.clone(), code.to_string());
        let work = move |sql: &Sql<'_>| pairings::decide(sql, &shared, &code, approve);
        let changed = self.ask(DURABLE, work, settle::paired, |_, _| {})?;
        changed.decided.map(|(pairing, _)| pairing).ok_or(StoreError::NotFound)
    }

    fn pairings(&self, page: Page) -> Result<Listed<Pairing>> {
        self.read(|sql| pairings::pairings(sql, &self.shared, &page))
    }

    fn is_paired(&self, channel: &str, peer: &str) -> Result<bool> {
        if self.shared.is_closed() { Err(StoreError::Stopped) } else { Ok(self.shared.paired().has(channel, peer)) }
    }

    fn unpair(&self, channel: &str, peer: &str) -> Result<()> {
        let ours = (channel.to_string(), peer.to_string());
        let (channel, peer) = ours.clone();
        let after = move |shared: &Shared, outcome: &Result<()>| {
            if outcome.is_ok() {
                shared.paired().remove(&channel, &peer);
            }
        };
        self.ask(DURABLE, move |sql| pairings::unpair(sql, &ours.0, &ours.1), after, |_, _| {})
    }

    fn put_job(&self, job: Job) -> Result<()> {
        self.write(DURABLE, move |sql| jobs::put(sql, &job))
    }

    fn delete_job(&self, id: &str) -> Result<()> {
        let id = id.to_string();
        self.write(DURABLE, move |sql| jobs::delete(sql, &id))
    }

    fn job(&self, id: &str) -> Result<Job> {
        self.read(|sql| jobs::job(sql, id))
    }

    fn jobs(&self) -> Result<Vec<Job>> {
        self.read(jobs::jobs)
    }

    fn record_run(&self, run: JobRun, next_ms: Option<i64>) -> Result<()> {
        self.write(DURABLE, move |sql| jobs::record(sql, &run, next_ms))
    }

    fn note_run(&self, run: JobRun) -> Result<()> {
        self.write(DURABLE, move |sql| jobs::note(sql, &run))
    }

    fn job_runs(&self, id: &str, page: Page) -> Result<Listed<JobRun>> {
        self.read(|sql| jobs::runs(sql, id, &page))
    }

    fn erase_user(&self, user_id: &str) -> Result<u64> {
        let user_id = user_id.to_string();
        let after = |shared: &Shared, outcome: &Result<sessions::Erased>| {
            let Ok(erased) = outcome else { return };
            erased.sessions.iter().for_each(|session| shared.turns().wake(*session));
            settle::gone(shared, &erased.gone);
        };
        let erased = self.ask(DURABLE, move |sql| sessions::erase_user(sql, &user_id), after, |_, _| {})?;
        Ok(erased.sessions.len() as u64)
    }

    fn keep_attachment(&self, message_id: &str, n: usize, bytes: &[u8]) -> Result<()> {
        self.keep_file(message_id, n, bytes)
    }

    fn miss_attachment(&self, message_id: &str, n: usize) -> Result<()> {
        let id = message_id.to_string();
        self.write(SOFT, move |sql| attachments::miss(sql, &id, n))
    }

    fn attachment(&self, message_id: &str, n: usize) -> Result<Vec<u8>> {
        self.file(message_id, n)
    }

    fn audit(&self, entry: AuditEntry) {
        self.put_audit(entry);
    }

    fn audit_trail(&self, page: Page) -> Result<Listed<AuditEntry>> {
        self.read(|sql| audit::trail(sql, &page))
    }

    fn depths(&self) -> Depths {
        self.shared.depths()
    }

    fn health(&self, probe: bool) -> Result<()> {
        if probe && !self.shared.is_closed() {
            let at_ms = self.shared.clock.unix_ms();
            self.write(DURABLE, move |sql| sql.exec("INSERT OR REPLACE INTO meta VALUES ('probe', ?1)", [at_ms]))?;
        }
        if self.shared.is_closed() { Err(StoreError::Stopped) } else { self.shared.health() }
    }

    fn close(&self) {
        self.shut();
    }
}
