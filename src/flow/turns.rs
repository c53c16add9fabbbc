//! Turn workers: each takes one message at a time, lets its agent answer, and ends the turn in one transaction.
//!
//! Invariant: one turn at a time in a session; a turn that can't be ended now (the store can't write) is tried again until it
//! can or the gateway stops, in which case the next start runs it again. A failure that may pass puts the turn back for a
//! while, without holding the worker; one that won't, or one too many, sets the message aside as failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::agent::turn::{self, TurnReply};
use crate::base::error::{Error, ErrorKind};
use crate::base::ids::new_id;
use crate::base::stop::Stop;
use crate::domain::{Claim, Delivery, FinishedTurn, Handoff, MessageState, NewOutbound, Spent, WEBSOCKET_CHANNEL};
use crate::flow::listeners::Heard;
use crate::flow::waiters::{Reply, Waited};
use crate::flow::{Flow, POLL, STORE_PAUSE, frames, idle};
use crate::store::StoreError;
use crate::telemetry::metrics::TurnEnd;

/// The work of one turn worker, until `finish` is set.
pub fn work(flow: &Flow, index: usize, finish: &Stop) {
    while !finish.is_set() {
        match flow.store.claim_turn() {
            Ok(Some(claim)) => {
                flow.busy_since[index].store(flow.clock.mono().as_millis() as u64 + 1, Ordering::Relaxed);
                run(flow, claim, finish);
                flow.busy_since[index].store(0, Ordering::Relaxed);
            }
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

fn run(flow: &Flow, claim: Claim, finish: &Stop) {
    let started = flow.clock.mono();
    flow.hub.event("turn.started", json!({"messageId": claim.message_id, "sessionId": claim.session_id, "agent": claim.agent}));
    let by_websocket = claim.channel == WEBSOCKET_CHANNEL;
    let mut on_delta = |text: &str| {
        if by_websocket {
            flow.hub.delta(&claim.user_id, &claim.message_id, text);
        }
        flow.listeners.tell(&claim.message_id, Heard::Delta(text));
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(flow, &claim, &mut on_delta))).unwrap_or_else(|_| {
        flow.threads.count_panic();
        Err(Error::new(ErrorKind::Bug, "an error of the gateway's own ended the turn"))
    });
    let took = flow.clock.mono().saturating_sub(started);
    match outcome {
        Ok(reply) => end(flow, &claim, reply, took, finish),
        Err(e) if e.kind == ErrorKind::Stopped => put_back(flow, &claim, took, finish),
        Err(e) => failed(flow, &claim, &e, took, finish),
    }
}

fn answer(flow: &Flow, claim: &Claim, on_delta: &mut dyn FnMut(&str)) -> Result<TurnReply, Error> {
    let agents = flow.agents.get();
    let entries = agents.max_history(&claim.agent);
    let history = flow.store.history(&claim.session_id, entries).map_err(|e| Error::new(ErrorKind::Transient, e.to_string()))?;
    let reply = turn::run(claim, &history, &agents, &flow.clock, &|| flow.store.depths(), on_delta).map_err(|f| f.error)?;
    flow.metrics.tokens(&reply.provider, reply.tokens.0, reply.tokens.1);
    Ok(reply)
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

fn end(flow: &Flow, claim: &Claim, reply: TurnReply, took: Duration, finish: &Stop) {
    let turn = FinishedTurn {
        message_id: claim.message_id.clone(),
        reply: reply.text.clone(),
        ends_session: reply.ends_session,
        outbound: outbound(flow, claim, &reply.text),
        took,
        spent: vec![Spent { provider: reply.provider.clone(), tokens_in: reply.tokens.0, tokens_out: reply.tokens.1, calls: 1 }],
        forget: false,
    };
    match insist(finish, || flow.store.finish_turn(turn.clone())) {
        Some(Ok(deliveries)) => {
            send_off(flow, &deliveries);
            let (tokens_in, tokens_out) = reply.tokens;
            let reply = Reply { text: turn.reply, tokens_in, tokens_out, finish: String::new() };
            flow.waiters.settle(&claim.message_id, &Waited::Reply(reply));
            flow.metrics.turn(TurnEnd::Answered, took);
            flow.hub.event("turn.answered", json!({"messageId": claim.message_id, "sessionId": claim.session_id}));
            log::info!(message_id = claim.message_id.as_str(), session_id = claim.session_id.as_str(), took_ms = took.as_millis() as u64; "answered");
        }
        Some(Err(StoreError::Conflict(why))) => {
            log::info!(message_id = claim.message_id.as_str(); "an answer came too late: {why}");
            let reason = "the message was ended meanwhile".to_string();
            flow.waiters.settle(&claim.message_id, &Waited::Failed { timed_out: false, reason });
        }
        Some(Err(e)) => {
            log::warn!(message_id = claim.message_id.as_str(); "the turn was not ended: {e}; the next start runs it again")
        }
        None => log::warn!(message_id = claim.message_id.as_str(); "the store can't write; the next start runs this turn again"),
    }
}

/// The reply as the channel's outbox takes it; nothing where nothing can be sent by that channel.
fn outbound(flow: &Flow, claim: &Claim, text: &str) -> Vec<NewOutbound> {
    let handoff = flow.channels.get().get(&claim.channel).and_then(|c| c.handoff());
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
        metadata: claim.metadata.clone(),
    };
    handoff.map(reply).into_iter().collect()
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
    flow.metrics.turn(TurnEnd::Interrupted, took);
    if let Some(Err(e)) = insist(finish, || flow.store.release_turn(&claim.message_id)) {
        log::warn!(message_id = claim.message_id.as_str(); "a turn cut short was not put back: {e}; the next start does it");
    }
}

fn failed(flow: &Flow, claim: &Claim, error: &Error, took: Duration, finish: &Stop) {
    let retry = flow.settings.get().retry;
    let asked = if let ErrorKind::Throttled(asked) = error.kind { asked } else { None };
    let again = (error.is_passing() || error.kind == ErrorKind::Bug).then(|| retry.pause(claim.failures + 1, asked)).flatten();
    let text = error.to_string();
    if let Some(pause) = again {
        log::warn!(message_id = claim.message_id.as_str(), pause_ms = pause.as_millis() as u64; "a turn failed and is tried again: {text}");
        flow.metrics.turn(TurnEnd::Deferred, took);
        flow.listeners.tell(&claim.message_id, Heard::Anew);
        if let Some(Err(e)) = insist(finish, || flow.store.defer_turn(&claim.message_id, pause, &text)) {
            log::warn!(message_id = claim.message_id.as_str(); "a failed turn was not put back: {e}");
        }
        flow.nudge_turns(); // a worker learns of the new due time
        return;
    }
    log::error!(message_id = claim.message_id.as_str(), session_id = claim.session_id.as_str(); "a message is set aside as failed: {text}");
    flow.metrics.turn(TurnEnd::Failed, took);
    if let Some(Err(e)) = insist(finish, || flow.store.fail_turn(&claim.message_id, &text, Vec::new(), Vec::new())) {
        log::warn!(message_id = claim.message_id.as_str(); "a failed message was not set aside: {e}");
        return;
    }
    let timed_out = error.kind == ErrorKind::Timeout;
    flow.waiters.settle(&claim.message_id, &Waited::Failed { timed_out, reason: text.clone() });
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
        Ok(m) if m.state == MessageState::Answered => Waited::Reply(Reply::of(m.reply.unwrap_or_default())),
        Ok(m) if m.state.is_final() => {
            Waited::Failed { timed_out: false, reason: m.error.unwrap_or_else(|| "it was cancelled".into()) }
        }
        Ok(_) => return, // its turn settles it
        Err(e) => return log::warn!(message_id = id; "a reply could not be looked up: {e}"),
    };
    flow.waiters.settle(id, &how);
}
