//! The boundary's methods: each names its work, whether it is durable, and what its end changes in memory.
//!
//! Invariant: the indexes and counts change on the writer's thread, after the commit. A key in hand is let go by whatever ends
//! its turn or its try; where the disk fails it stays in hand, since the worker tries again.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TrySendError;

use crate::domain::{
    Accepted, Approval, ApprovalState, Attempt, Claim, Decision, Delivery, DeliveryState, Entry, FinishedTurn, InboundMessage,
    LearnedRule, MessageState, NewInbound, NewOutbound, Note, SessionInfo, Spent, Step, Summary, Usage,
};
use crate::store::sqlite::audit::Old;
use crate::store::sqlite::command::Command;
use crate::store::sqlite::outbox::Put;
use crate::store::sqlite::ready::Next;
use crate::store::sqlite::recover::{self, Look};
use crate::store::sqlite::shared::Shared;
use crate::store::sqlite::sql::{Ran, Sql};
use crate::store::sqlite::turns::{self, Back, Finished};
use crate::store::sqlite::writer::Item;
use crate::store::sqlite::{SqliteStore, audit, delivering, inbox, outbox, sessions};
use crate::store::{AuditEntry, Depths, Done, Listed, Page, Recovery, Result, Seen, Store, StoreError};

fn unbuilt<T>() -> Result<T> {
    Err(StoreError::Unavailable("not built yet".into()))
}

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
        self.refill_turns()?;
        loop {
            let Some((session, ())) = self.shared.turns().pick(self.shared.clock.mono()) else { return Ok(None) };
            let after = move |shared: &Shared, outcome: &Result<Option<Claim>>| match outcome {
                Ok(Some(claim)) => shared.turns().hold(&claim.message_id, session),
                Ok(None) => shared.turns().settle(session, Next::Nothing),
                Err(_) => shared.turns().settle(session, Next::Now),
            };
            let orphaned = |shared: &Arc<Shared>, claim: Option<Claim>| {
                let Some(claim) = claim else { return };
                let (id, settled) = (claim.message_id.clone(), claim.message_id);
                undo(shared, move |sql| turns::unclaim(sql, &id), move |shared| shared.turns().settle_held(&settled, Next::Now));
            };
            if let Some(claim) = self.ask(SOFT, move |sql| turns::claim(sql, session), after, orphaned)? {
                return Ok(Some(claim));
            }
        }
    }

    fn next_turn_due(&self) -> Option<Duration> {
        self.shared.turns().due_in(self.shared.clock.mono())
    }

    fn record_step(&self, message_id: &str, step: Step) -> Result<()> {
        let id = message_id.to_string();
        self.write(DURABLE, move |sql| turns::record_step(sql, &id, &step))
    }

    fn defer_turn(&self, message_id: &str, pause: Duration, reason: &str) -> Result<()> {
        let (id, reason, due) = (message_id.to_string(), reason.to_string(), self.shared.clock.mono() + pause);
        let work = move |sql: &Sql<'_>| turns::put_back(sql, &id, Back::Deferred { pause, reason: &reason });
        self.ask(SOFT, work, let_go(message_id, move |()| Next::At(due)), |_, ()| {})
    }

    fn release_turn(&self, message_id: &str) -> Result<()> {
        let id = message_id.to_string();
        let work = move |sql: &Sql<'_>| turns::put_back(sql, &id, Back::Released { step: "the gateway drained" });
        self.ask(SOFT, work, let_go(message_id, |()| Next::Now), |_, ()| {})
    }

    fn finish_turn(&self, turn: FinishedTurn) -> Result<Vec<Delivery>> {
        let after = let_go(&turn.message_id, finished_next);
        self.ask(DURABLE, move |sql| turns::finish(sql, &turn), offering(after), |_, _| {}).map(Finished::deliveries)
    }

    fn cancel_turn(&self, _: &str, _: &str, _: Vec<Spent>) -> Result<()> {
        unbuilt()
    }

    fn cancel_waiting(&self, _: &str, _: &str, _: &str) -> Result<Vec<String>> {
        unbuilt()
    }

    fn claim_urgent(&self) -> Result<Option<Claim>> {
        unbuilt()
    }

    fn park_turn(&self, _: &str, _: Vec<Approval>, _: Step) -> Result<()> {
        unbuilt()
    }

    fn decide_approval(&self, _: &str, _: Decision, _: &str) -> Result<Approval> {
        unbuilt()
    }

    fn expire_approvals(&self) -> Result<Vec<Approval>> {
        unbuilt()
    }

    fn next_approval_due(&self) -> Option<Duration> {
        None
    }

    fn approval(&self, _: &str) -> Result<Approval> {
        unbuilt()
    }

    fn approvals(&self, _: Option<ApprovalState>, _: Page) -> Result<Listed<Approval>> {
        unbuilt()
    }

    fn learned_rules(&self) -> Result<Vec<LearnedRule>> {
        unbuilt()
    }

    fn forget_rule(&self, _: &str) -> Result<()> {
        unbuilt()
    }

    fn add_note(&self, _: Note) -> Result<()> {
        unbuilt()
    }

    fn change_note(&self, _: &str, _: &str) -> Result<Note> {
        unbuilt()
    }

    fn forget_note(&self, _: &str) -> Result<()> {
        unbuilt()
    }

    fn note(&self, _: &str) -> Result<Note> {
        unbuilt()
    }

    fn notes(&self, _: &str, _: Option<&str>, _: Page) -> Result<Listed<Note>> {
        unbuilt()
    }

    fn search_notes(&self, _: &str, _: &str, _: &str, _: usize) -> Result<Vec<Note>> {
        unbuilt()
    }

    fn summary(&self, _: &str) -> Result<Option<Summary>> {
        unbuilt()
    }

    fn set_summary(&self, _: &str, _: Summary) -> Result<()> {
        unbuilt()
    }

    fn set_model(&self, _: &str, _: Option<&str>) -> Result<()> {
        unbuilt()
    }

    fn usage(&self, _: i64, _: Option<&str>) -> Result<Vec<Usage>> {
        unbuilt()
    }

    fn tokens_of(&self, _: i64, _: &str, _: Option<&str>) -> Result<u64> {
        unbuilt()
    }

    fn fail_turn(&self, message_id: &str, reason: &str, notice: Vec<NewOutbound>, _spent: Vec<Spent>) -> Result<Vec<Delivery>> {
        let (id, reason) = (message_id.to_string(), reason.to_string());
        let work = move |sql: &Sql<'_>| turns::fail(sql, &id, &reason, &notice);
        self.ask(DURABLE, work, offering(let_go(message_id, finished_next)), |_, _| {}).map(Finished::deliveries)
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
        self.ask(DURABLE, move |sql| turns::retry(sql, &id), after, |_, _| {}).map(drop)
    }

    fn enqueue(&self, outbound: Vec<NewOutbound>, key: Option<(String, String, String)>, done: Done<Vec<Delivery>>) {
        let shared = self.shared.clone();
        let done = Box::new(move |outcome: Result<Vec<Put>>| {
            if let Ok(puts) = &outcome {
                offer_all(&shared, puts);
            }
            done(outcome.map(|puts| puts.into_iter().map(|put| put.delivery).collect()));
        });
        self.submit(DURABLE, move |sql| outbox::enqueue(sql, &outbound, key.as_ref()), done);
    }

    fn claim_delivery(&self, durable: &dyn Fn(&str) -> bool) -> Result<Option<Delivery>> {
        self.refill_deliveries()?;
        loop {
            let picked = self.shared.deliveries().pick(self.shared.clock.mono());
            let Some((target, channel)) = picked else { return Ok(None) };
            let after = move |shared: &Shared, outcome: &Result<Option<Delivery>>| match outcome {
                Ok(Some(delivery)) => shared.deliveries().hold(&delivery.id, target),
                Ok(None) => shared.deliveries().settle(target, Next::Nothing),
                Err(_) => shared.deliveries().settle(target, Next::Now),
            };
            let orphaned = |shared: &Arc<Shared>, delivery: Option<Delivery>| {
                let Some(delivery) = delivery else { return };
                let attempt = Attempt { delivery_id: delivery.id.clone(), outcome: crate::domain::Outcome::Untried };
                let look = Look::later(&shared.clock);
                let settle = move |shared: &Shared| shared.deliveries().settle_held(&delivery.id, Next::Now);
                undo(shared, move |sql| delivering::record(sql, &attempt, look).map(drop), settle);
            };
            let doubles = durable(&channel);
            let work = move |sql: &Sql<'_>| delivering::claim(sql, target, !doubles);
            if let Some(delivery) = self.ask(!doubles, work, after, orphaned)? {
                return Ok(Some(delivery));
            }
        }
    }

    fn next_delivery_due(&self) -> Option<Duration> {
        self.shared.deliveries().due_in(self.shared.clock.mono())
    }

    fn record_attempt(&self, attempt: Attempt) -> Result<()> {
        let soft = !matches!(attempt.outcome, crate::domain::Outcome::Dead { .. });
        let (id, look) = (attempt.delivery_id.clone(), Look::later(&self.shared.clock));
        let after = move |shared: &Shared, outcome: &Result<Next>| match outcome {
            Ok(next) => shared.deliveries().settle_held(&id, *next),
            Err(StoreError::NotFound | StoreError::Conflict(_)) => shared.deliveries().settle_held(&id, Next::Now),
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
                offer_and_wake(shared, offer);
            }
        };
        self.ask(DURABLE, move |sql| delivering::retry(sql, &id), after, |_, _| {}).map(|(delivery, _)| delivery)
    }

    fn drop_delivery(&self, id: &str) -> Result<()> {
        let id = id.to_string();
        let after = |shared: &Shared, outcome: &Result<delivering::Offer>| {
            if let Ok(Some(offer)) = outcome {
                offer_and_wake(shared, offer); // what stood behind it need not wait for its retry
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
        self.read(|sql| sessions::sessions(sql, None, &page))
    }

    fn sessions_of(&self, user_id: &str, entries: usize, page: Page) -> Result<Listed<SessionInfo>> {
        self.read(|sql| sessions::sessions(sql, Some((user_id, entries)), &page))
    }

    fn erase_user(&self, user_id: &str) -> Result<u64> {
        let user_id = user_id.to_string();
        let after = |shared: &Shared, outcome: &Result<sessions::Erased>| {
            let Ok(erased) = outcome else { return };
            erased.sessions.iter().for_each(|session| shared.turns().wake(*session));
            erased.targets.iter().for_each(|target| shared.deliveries().wake(*target));
        };
        let erased = self.ask(DURABLE, move |sql| sessions::erase_user(sql, &user_id), after, |_, _| {})?;
        Ok(erased.sessions.len() as u64)
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

    fn prune(&self, keep: Duration) -> Result<u64> {
        let mut gone = 0;
        for old in Old::ALL {
            while let (step, true) = self.write(SOFT, move |sql| audit::prune(sql, old, keep))? {
                gone += step;
            }
        }
        Ok(gone)
    }

    fn close(&self) {
        self.shut();
    }
}

impl SqliteStore {
    /// Takes in sessions from disk. On the writer's thread: nothing is committed between the look and that.
    fn refill_turns(&self) -> Result<()> {
        let asked = self.shared.turns().refill_from(self.shared.clock.mono());
        let Some((from, most)) = asked else { return Ok(()) };
        let (shared, look) = (self.shared.clone(), Look::later(&self.shared.clock));
        self.write(SOFT, move |sql| {
            recover::take_in(&mut shared.turns(), recover::waiting_sessions(sql, look, from, most)?);
            Ok(())
        })
    }

    /// The same for targets.
    fn refill_deliveries(&self) -> Result<()> {
        let asked = self.shared.deliveries().refill_from(self.shared.clock.mono());
        let Some((from, most)) = asked else { return Ok(()) };
        let (shared, look) = (self.shared.clone(), Look::later(&self.shared.clock));
        self.write(SOFT, move |sql| {
            recover::take_in(&mut shared.deliveries(), recover::waiting_targets(sql, look, from, most)?);
            Ok(())
        })
    }

    fn put_audit(&self, entry: AuditEntry) {
        let Some(queue) = self.queue.as_ref().filter(|_| !self.shared.is_closed()) else { return };
        let told = Box::new(|outcome: Result<()>| {
            if let Err(e) = outcome {
                log::warn!("an audit entry was dropped: {e}");
            }
        });
        let command = Command::new(&self.shared, SOFT, None, move |sql| audit::add(sql, &entry), told);
        if let Err(TrySendError::Full(Item::Write(command))) = queue.try_send(Item::Write(command))
            && self.shared.put_beside(command)
        {
            let _ = queue.try_send(Item::Nudge); // a queue that is full again is its own nudge
        }
    }
}

/// What a turn's end does to its session's place; a turn that was ended elsewhere lets it go as well.
fn let_go<T>(
    message_id: &str,
    next: impl FnOnce(&T) -> Next + Send + 'static,
) -> impl FnOnce(&Shared, &Result<T>) + Send + 'static {
    let id = message_id.to_string();
    move |shared, outcome| match outcome {
        Ok(value) => shared.turns().settle_held(&id, next(value)),
        Err(StoreError::NotFound | StoreError::Conflict(_)) => shared.turns().settle_held(&id, Next::Now),
        Err(_) => {}
    }
}

fn finished_next(finished: &Finished) -> Next {
    finished.next
}

/// Puts what a turn left to the deliveries that may be sent, then goes on with `then`.
fn offering(
    then: impl FnOnce(&Shared, &Result<Finished>) + Send + 'static,
) -> impl FnOnce(&Shared, &Result<Finished>) + Send + 'static {
    move |shared, outcome| {
        if let Ok(finished) = outcome {
            offer_all(shared, &finished.puts);
        }
        then(shared, outcome);
    }
}

fn offer_all(shared: &Shared, puts: &[Put]) {
    for (target, channel) in puts.iter().filter_map(|put| put.offer.as_ref()) {
        shared.deliveries().offer(*target, channel.clone());
    }
}

fn offer_and_wake(shared: &Shared, (target, channel): &(i64, String)) {
    let mut deliveries = shared.deliveries();
    deliveries.offer(*target, Arc::from(channel.as_str()));
    deliveries.wake(*target);
}

/// Takes back what was claimed for a caller that gave up, beside the queue: the writer, on whose thread this runs, looks there
/// next.
fn undo(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Sql<'_>) -> Ran<()> + Send + 'static,
    settle: impl FnOnce(&Shared) + Send + 'static,
) {
    let after = shared.clone();
    let command = Command::new(shared, SOFT, None, work, Box::new(move |_| settle(&after)));
    if !shared.put_beside(command) {
        log::warn!("a claim that did not reach its worker stays until the next start");
    }
}
