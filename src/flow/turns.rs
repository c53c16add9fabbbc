//! Turn workers: each takes one message at a time, lets its agent answer, and ends the turn in one transaction.
//!
//! Invariant: one turn at a time in a session; a turn that can't be ended now (the store can't write) is tried again until it
//! can or the gateway stops, in which case the next start runs it again. A failure that may pass puts the turn back for a
//! while, without holding the worker; one that won't, or one too many, sets the message aside as failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::agent::commands::command;
use crate::agent::turn::budget::Reached;
use crate::agent::turn::{Failed, Outcome, Turn, journal};
use crate::base::cancel::Cancel;
use crate::base::crash;
use crate::base::error::{Error, ErrorKind};
use crate::base::ids::new_id;
use crate::base::pulse::Pulse;
use crate::base::stop::Stop;
use crate::domain::{
    Approval, Claim, Delivery, FinishedTurn, Handoff, MessageState, NewOutbound, OPENAI_CHANNEL, Spent, Step, WEBSOCKET_CHANNEL,
};
use crate::flow::listeners::Heard;
use crate::flow::waiters::{Reply as WaitedReply, Waited};
use crate::flow::{Flow, POLL, STORE_PAUSE, attachments, commands, frames, idle, previews, typing};
use crate::store::{AuditEntry, StoreError};
use crate::telemetry::metrics::TurnEnd;

/// What a turn may take beyond its own deadlines (the store's, say) before its worker counts as stuck.
const MARGIN: Duration = Duration::from_secs(120);

/// A worker between a claim and its end, whatever that is.
pub(super) struct InHand<'a>(&'a AtomicUsize);

impl<'a> InHand<'a> {
    /// One more, until this is dropped: also by a panic, or a drain would wait for it in vain.
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        InHand(count)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The work of one turn worker, until `finish` is set.
pub fn work(flow: &Arc<Flow>, pulse: &Pulse, finish: &Stop) {
    while !finish.is_set() {
        let in_hand = InHand::new(&flow.turning);
        let claimed = flow.store.claim_turn();
        let claimed = claimed.map(|claim| {
            claim.map(|claim| {
                // Twice: what went before is summed up within half of it, and the last call may end late.
                let at_most = flow.agents.get().turn_timeout(&claim.agent) * 2 + MARGIN;
                pulse.works(flow.clock.mono(), at_most);
                run(flow, claim, finish);
                pulse.rests();
            })
        });
        drop(in_hand);
        match claimed {
            Ok(Some(())) => {}
            Ok(None) => {
                let due = flow.store.next_turn_due().unwrap_or(POLL).min(POLL);
                if idle(&flow.turn_nudge.1, finish, due) {
                    return;
                }
            }
            Err(StoreError::Stopped) => return,
            Err(e) => {
                log::warn!("no turn could be taken: {e}");
                if finish.wait(STORE_PAUSE) {
                    return;
                }
            }
        }
    }
}

/// Answers one message, whatever comes of it. A panic of our own beside the answer counts as a failure of the turn: the session would
/// wait for the next start otherwise.
pub(super) fn run(flow: &Arc<Flow>, claim: Claim, finish: &Stop) {
    let started = flow.clock.mono();
    if catch_unwind(AssertUnwindSafe(|| whole(flow, &claim, finish))).is_ok() {
        return;
    }
    flow.threads.count_panic();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        flow.running.end(&claim.message_id);
        // Where its end was committed already, the store refuses this.
        failed(flow, &claim, broken(&claim), flow.clock.mono().saturating_sub(started), finish);
        flow.hide_typing(&claim.message_id);
        flow.end_preview(&claim.message_id);
    }));
    if ended.is_err() {
        log::error!(message_id = claim.message_id.as_str(); "a turn panicked and could not be put back; the next start runs it again");
    }
}

fn broken(claim: &Claim) -> Failed {
    let error = Error::new(ErrorKind::Bug, "an error of the gateway's own ended the turn");
    Failed { error, spent: journal::spent(&journal::rounds(&claim.steps)), is_shown: true }
}

fn whole(flow: &Arc<Flow>, claim: &Claim, finish: &Stop) {
    crash::point("turn.claimed");
    let started = flow.clock.mono();
    let cancel = flow.running.begin(claim);
    if command(&claim.text).is_none() {
        flow.show_typing(claim);
        flow.begin_preview(claim);
    }
    flow.hub.event("turn.started", json!({"messageId": claim.message_id, "sessionId": claim.session_id, "agent": claim.agent}));
    let by_websocket = claim.channel == WEBSOCKET_CHANNEL;
    let mut on_delta = |text: &str| {
        if by_websocket {
            flow.hub.delta(&claim.user_id, &claim.message_id, text);
        }
        flow.listeners.tell(&claim.message_id, Heard::Delta(text));
        flow.add_preview(&claim.message_id, text);
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(flow, claim, &cancel, &mut on_delta))).unwrap_or_else(|_| {
        flow.threads.count_panic();
        Err(broken(claim))
    });
    let took = flow.clock.mono().saturating_sub(started);
    let withdrawn = flow.running.end(&claim.message_id);
    flow.hide_typing(&claim.message_id);
    match outcome {
        Ok(Ended::Reply(reply)) => end(flow, claim, reply, took, finish),
        // Asked to stop while it was about to ask somebody: nobody is asked.
        Ok(Ended::Parked(_, step)) if withdrawn.is_some() => {
            let steps: Vec<Step> = claim.steps.iter().cloned().chain([step]).collect();
            let spent = journal::spent(&journal::rounds(&steps));
            withdraw(flow, claim, &withdrawn.unwrap_or_default(), spent, took, finish);
        }
        Ok(Ended::Parked(approvals, step)) => park(flow, claim, &approvals, &step, took, finish),
        Err(Failed { spent, .. }) if withdrawn.is_some() => {
            withdraw(flow, claim, &withdrawn.unwrap_or_default(), spent, took, finish);
        }
        Err(Failed { error, .. }) if error.kind == ErrorKind::Stopped => put_back(flow, claim, took, finish),
        Err(failure) => failed(flow, claim, failure, took, finish),
    }
    flow.end_preview(&claim.message_id);
}

/// What a turn came to, seen from here.
enum Ended {
    Reply(Reply),
    Parked(Vec<Approval>, Step),
}

/// A reply with what its commit needs.
struct Reply {
    text: String,
    spent: Vec<Spent>,
    finish: String,
    ends_session: bool,
    forget: bool,
}

fn answer(flow: &Arc<Flow>, claim: &Claim, cancel: &Cancel, on_delta: &mut dyn FnMut(&str)) -> Result<Ended, Failed> {
    if claim.channel != OPENAI_CHANNEL
        && let Some(command) = command(&claim.text)
    {
        let done =
            commands::execute(flow, claim, &command).map_err(|error| Failed { error, spent: Vec::new(), is_shown: false })?;
        return Ok(Ended::Reply(Reply {
            text: done.text,
            spent: Vec::new(),
            finish: "stop".into(),
            ends_session: done.ends_session,
            forget: false,
        }));
    }
    attachments::fetch(flow, claim, cancel);
    let turn = Turn {
        claim,
        agents: &flow.agents.get(),
        tools: &flow.tools.get(),
        store: &*flow.store,
        courier: flow,
        clock: &flow.clock,
        cancel,
    };
    match turn.run(on_delta)? {
        Outcome::Parked { approvals, step } => Ok(Ended::Parked(approvals, step)),
        Outcome::Replied(reply) => {
            for spent in &reply.spent {
                flow.metrics.tokens(&spent.provider, spent.tokens_in, spent.tokens_out);
            }
            if let Some(limit) = &reply.limit {
                tell_limit(flow, claim, limit);
            }
            Ok(Ended::Reply(Reply {
                text: reply.text,
                spent: reply.spent,
                finish: reply.finish,
                ends_session: false,
                forget: turn.asked().is_some_and(|a| a.forget),
            }))
        }
    }
}

/// A limit of tokens ended a turn: its user is told by the reply, the operators here.
fn tell_limit(flow: &Flow, claim: &Claim, limit: &Reached) {
    let detail = json!({
        "agent": claim.agent, "userId": claim.user_id, "messageId": claim.message_id, "limit": limit.limit, "max": limit.max,
        "used": limit.used,
    });
    log::warn!(agent = claim.agent.as_str(), user_id = claim.user_id.as_str(), limit = limit.limit, max = limit.max, used = limit.used; "a limit of tokens is reached: {} of agent {}", limit.limit, claim.agent);
    flow.hub.event("budget.reached", detail.clone());
    let at_ms = flow.clock.unix_ms();
    flow.store.audit(AuditEntry { at_ms, actor: "gateway".into(), action: "budget.reached".into(), detail });
}

/// Handles what can't wait for its session's turns; on the errands' thread, since all turn workers may be busy with what is to be
/// stopped.
pub(super) fn urgent(flow: &Arc<Flow>) {
    while !flow.urgent_end.is_set() {
        match flow.store.claim_urgent() {
            Ok(Some(claim)) => run(flow, claim, &flow.urgent_end),
            Ok(None) | Err(StoreError::Stopped) => return,
            Err(e) => return log::warn!("an urgent message could not be taken: {e}; the heartbeat tries it again"),
        }
    }
}

/// Asks the store until it answers otherwise than "not now"; `None` where the gateway stops first.
fn insist<T>(finish: &Stop, mut ask: impl FnMut() -> Result<T, StoreError>) -> Option<Result<T, StoreError>> {
    let mut told = false;
    loop {
        match ask() {
            Err(e @ (StoreError::Unavailable(_) | StoreError::Busy)) => {
                if !std::mem::replace(&mut told, true) {
                    log::error!("a turn waits for the store: {e}");
                }
                if finish.wait(STORE_PAUSE) {
                    return None;
                }
            }
            other => return Some(other),
        }
    }
}

fn end(flow: &Flow, claim: &Claim, reply: Reply, took: Duration, finish: &Stop) {
    crash::point("turn.finishing");
    let turn = FinishedTurn {
        message_id: claim.message_id.clone(),
        reply: reply.text.clone(),
        ends_session: reply.ends_session,
        outbound: outbound(flow, claim, &reply.text),
        took,
        spent: reply.spent,
        forget: reply.forget,
    };
    match insist(finish, || flow.store.finish_turn(turn.clone())) {
        Some(Ok(deliveries)) => {
            crash::point("turn.finished");
            send_off(flow, &deliveries);
            let sum = |tokens: fn(&Spent) -> u64| turn.spent.iter().map(tokens).sum();
            let waited = WaitedReply {
                text: turn.reply,
                tokens_in: sum(|s| s.tokens_in),
                tokens_out: sum(|s| s.tokens_out),
                finish: reply.finish,
            };
            settle(flow, claim, &Waited::Reply(waited));
            flow.metrics.turn(TurnEnd::Answered, took);
            flow.hub.event("turn.answered", json!({"messageId": claim.message_id, "sessionId": claim.session_id}));
            log::info!(message_id = claim.message_id.as_str(), session_id = claim.session_id.as_str(), took_ms = took.as_millis() as u64; "answered");
        }
        Some(Err(StoreError::Conflict(why))) => {
            log::info!(message_id = claim.message_id.as_str(); "an answer came too late: {why}");
            let reason = "the message was ended meanwhile".to_string();
            settle(flow, claim, &Waited::Failed { timed_out: false, reason });
        }
        Some(Err(e)) => {
            log::warn!(message_id = claim.message_id.as_str(); "the turn was not ended: {e}; the next start runs it again")
        }
        None => log::warn!(message_id = claim.message_id.as_str(); "the store can't write; the next start runs this turn again"),
    }
}

/// The turn waits for decisions: it is a row now, and its worker is free.
fn park(flow: &Flow, claim: &Claim, approvals: &[Approval], step: &Step, took: Duration, finish: &Stop) {
    crash::point("turn.parking");
    match insist(finish, || flow.store.park_turn(&claim.message_id, approvals.to_vec(), step.clone())) {
        Some(Ok(Some(why))) => cut_short(flow, claim, &why, took),
        Some(Ok(None)) => {
            crash::point("turn.parked");
            flow.metrics.turn(TurnEnd::Parked, took);
            flow.show_questions(approvals);
            flow.withdraw_if_doomed(&claim.message_id);
            flow.hub.event("turn.waiting", json!({"messageId": claim.message_id, "tools": step.detail}));
        }
        Some(Err(e)) => {
            log::warn!(message_id = claim.message_id.as_str(); "a turn could not be left waiting: {e}");
            let error = Error::new(ErrorKind::Transient, format!("the question to the operators was not kept: {e}"));
            let spent = journal::spent(&journal::rounds(&claim.steps));
            failed(flow, claim, Failed { error, spent, is_shown: false }, took, finish);
        }
        None => log::warn!(message_id = claim.message_id.as_str(); "the store can't write; the next start runs this turn again"),
    }
}

/// Somebody asked to stop the turn.
fn withdraw(flow: &Flow, claim: &Claim, why: &str, spent: Vec<Spent>, took: Duration, finish: &Stop) {
    match insist(finish, || flow.store.cancel_turn(&claim.message_id, why, spent.clone())) {
        Some(Ok(())) => cut_short(flow, claim, why, took),
        Some(Err(e)) => {
            log::warn!(message_id = claim.message_id.as_str(); "a message was not withdrawn: {e}");
            flow.metrics.turn(TurnEnd::Cancelled, took);
            flow.nudge_turns(); // it was ended elsewhere, and its session goes on
        }
        None => {}
    }
}

/// The turn was ended because somebody had asked to stop it: tells who waits for it.
fn cut_short(flow: &Flow, claim: &Claim, why: &str, took: Duration) {
    log::info!(message_id = claim.message_id.as_str(); "a turn was cut short: {why}");
    flow.metrics.turn(TurnEnd::Cancelled, took);
    settle(flow, claim, &Waited::Failed { timed_out: false, reason: why.to_string() });
    flow.hub.event("turn.cancelled", json!({"messageId": claim.message_id, "reason": why}));
    flow.nudge_turns(); // its session goes on
}

/// The reply as the channel's outbox takes it; nothing where nothing can be sent by that channel.
fn outbound(flow: &Flow, claim: &Claim, text: &str) -> Vec<NewOutbound> {
    let handoff = flow.channels.get().get(&claim.channel).and_then(|c| c.handoff());
    let preview = flow.previews.adopt(&claim.message_id);
    let reply = |handoff| NewOutbound {
        id: new_id("dlv", flow.clock.unix_ms()),
        channel: claim.channel.clone(),
        handoff,
        user_id: claim.user_id.clone(),
        peer: claim.peer.clone(),
        conversation: claim.conversation.clone(),
        session_id: Some(claim.session_id.clone()),
        in_reply_to: Some(claim.message_id.clone()),
        text: text.to_string(),
        metadata: previews::naming(claim.reply_metadata(), preview),
    };
    handoff.map(reply).into_iter().collect()
}

/// What the author of a message that failed is told, where people read what the gateway sends. Nothing of the reason: it is for
/// operators, and there may be strangers.
fn failure_notice(flow: &Flow, claim: &Claim) -> Vec<NewOutbound> {
    const TEXT: &str =
        "I could not answer that: something went wrong here. Your message is kept, and the operator can try it again.";
    let is_read = flow.channels.get().get(&claim.channel).is_some_and(|c| typing::is_chat(c.as_ref()));
    if is_read { outbound(flow, claim, TEXT) } else { Vec::new() }
}

/// Answers those who wait for a message of that turn.
fn settle(flow: &Flow, claim: &Claim, how: &Waited) {
    flow.waiters.settle(&claim.message_id, how);
    claim.more.iter().for_each(|more| flow.waiters.settle(&more.message_id, how));
}

/// What was committed to the outbox goes its way.
pub(super) fn send_off(flow: &Flow, deliveries: &[Delivery]) {
    for delivery in deliveries {
        match flow.channels.get().get(&delivery.channel).and_then(|c| c.handoff()) {
            Some(Handoff::Receipt) => flow.hub.push(delivery),
            _ => flow.nudge_deliveries(),
        }
    }
}

/// A drain cut the turn short: nothing is wrong, the next start goes on with it.
fn put_back(flow: &Flow, claim: &Claim, took: Duration, finish: &Stop) {
    match insist(finish, || flow.store.release_turn(&claim.message_id)) {
        Some(Ok(Some(why))) => return cut_short(flow, claim, &why, took),
        Some(Err(e)) => {
            log::warn!(message_id = claim.message_id.as_str(); "a turn cut short was not put back: {e}; the next start does it")
        }
        Some(Ok(None)) | None => {}
    }
    flow.metrics.turn(TurnEnd::Interrupted, took);
}

fn failed(flow: &Flow, claim: &Claim, failure: Failed, took: Duration, finish: &Stop) {
    let Failed { error, spent, is_shown } = failure;
    let retry = flow.settings.get().retry;
    let asked = if let ErrorKind::Throttled(asked) = error.kind { asked } else { None };
    let again = (error.is_passing() || error.kind == ErrorKind::Bug).then(|| retry.pause(claim.failures + 1, asked)).flatten();
    let text = error.to_string();
    if let Some(pause) = again {
        if is_shown {
            flow.listeners.tell(&claim.message_id, Heard::Anew); // before the next try may begin
        }
        let deferred = insist(finish, || flow.store.defer_turn(&claim.message_id, pause, &text));
        if let Some(Ok(Some(why))) = deferred {
            return cut_short(flow, claim, &why, took);
        }
        log::warn!(message_id = claim.message_id.as_str(), pause_ms = pause.as_millis() as u64; "a turn failed and is tried again: {text}");
        flow.metrics.turn(TurnEnd::Deferred, took);
        if let Some(Err(e)) = deferred {
            log::warn!(message_id = claim.message_id.as_str(); "a failed turn was not put back: {e}");
        }
        flow.nudge_turns(); // a worker learns of the new due time
        return;
    }
    log::error!(message_id = claim.message_id.as_str(), session_id = claim.session_id.as_str(); "a message is set aside as failed: {text}");
    flow.metrics.turn(TurnEnd::Failed, took);
    let notice = failure_notice(flow, claim);
    match insist(finish, || flow.store.fail_turn(&claim.message_id, &text, notice.clone(), spent.clone())) {
        Some(Ok(deliveries)) => send_off(flow, &deliveries),
        Some(Err(e)) => return log::warn!(message_id = claim.message_id.as_str(); "a failed message was not set aside: {e}"),
        None => {}
    }
    let timed_out = error.kind == ErrorKind::Timeout;
    settle(flow, claim, &Waited::Failed { timed_out, reason: text.clone() });
    if claim.channel == WEBSOCKET_CHANNEL {
        let (status, code) = if timed_out { (504, "upstream_timeout") } else { (502, "upstream_failed") };
        let mut frame = frames::error(status, code, &text);
        frame["messageId"] = json!(claim.message_id);
        flow.hub.failed(&claim.user_id, &frame);
    }
    flow.hub.event("turn.failed", json!({"messageId": claim.message_id, "reason": text}));
}

/// Answers those who wait for a message that is ended.
pub(super) fn look_up(flow: &Flow, id: &str) {
    let how = match flow.store.message(id) {
        Ok(m) if m.state == MessageState::Answered => Waited::Reply(WaitedReply::of(m.reply.unwrap_or_default())),
        Ok(m) if m.state.is_final() => {
            Waited::Failed { timed_out: false, reason: m.error.unwrap_or_else(|| "it was cancelled".into()) }
        }
        Ok(_) => return, // its turn settles it
        Err(e) => return log::warn!(message_id = id; "a reply could not be looked up: {e}"),
    };
    flow.waiters.settle(id, &how);
}
