//! Delivery workers: each takes one outbound message at a time and hands it to its channel.
//!
//! Invariant: the store's order per recipient is kept; one dead recipient holds nobody else. A permanent error makes a dead
//! letter at once, a passing one is tried again within `gateway.retry`. What is cut off between the send and its record follows
//! its channel (`Channel::takes_idempotency_key`): never silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::base::error::{Error, ErrorKind};
use crate::base::stop::Stop;
use crate::channel::{Channel, Progress};
use crate::domain::{Attempt, Delivery, Outcome};
use crate::flow::{Flow, POLL, STORE_PAUSE, idle};
use crate::store::StoreError;
use crate::telemetry::metrics::DeliveryEnd;

/// The longest that a delivery waits for a channel that is down or switched off, by the wall clock: 7 days.
const HELD_MAX_MS: i64 = 7 * 24 * 3_600_000;

/// The work of one delivery worker, until `stop` is set.
pub fn work(flow: &Flow, stop: &Stop) {
    while !stop.is_set() {
        flow.sending.fetch_add(1, Ordering::SeqCst);
        let found = step(flow, stop);
        flow.sending.fetch_sub(1, Ordering::SeqCst);
        if !found {
            let due = flow.store.next_delivery_due().unwrap_or(POLL).min(POLL);
            if idle(&flow.delivery_nudge.1, stop, due) {
                return;
            }
        }
    }
}

/// Delivers one message, if one is due; whether there was one.
pub fn step(flow: &Flow, stop: &Stop) -> bool {
    let channels = flow.channels.get();
    let could_double = |name: &str| channels.get(name).is_some_and(|c| !c.takes_idempotency_key());
    let delivery = match flow.store.claim_delivery(&could_double) {
        Ok(Some(delivery)) => delivery,
        Ok(None) | Err(StoreError::Stopped) => return false,
        Err(e) => {
            log::warn!("no delivery could be taken: {e}");
            stop.wait(STORE_PAUSE);
            return false;
        }
    };
    let started = flow.clock.mono();
    let outcome = match channels.get(&delivery.channel) {
        Some(channel) => match channel.status().holds_back() {
            Some((_, reason)) if is_stale(flow, &delivery) => Outcome::Dead { reason },
            Some((after, reason)) => Outcome::Held { after, reason },
            None => attempt(flow, channel, &flow.with_settled_preview(&delivery)),
        },
        None => Outcome::Dead { reason: format!("channel {} is no longer configured", delivery.channel) },
    };
    let took = flow.clock.mono().saturating_sub(started);
    let end = match &outcome {
        Outcome::Sent => Some(DeliveryEnd::Sent),
        Outcome::Retry { .. } => Some(DeliveryEnd::Retried),
        Outcome::Dead { .. } => Some(DeliveryEnd::Dead),
        Outcome::Untried | Outcome::Held { .. } => None,
    };
    if let Some(end) = end {
        flow.metrics.delivery(&delivery.channel, end, took);
    }
    tell(flow, &delivery, &outcome);
    record(flow, Attempt { delivery_id: delivery.id, outcome }, stop);
    flow.nudge_deliveries(); // the recipient's next message, if there is one, may go to another worker
    true
}

fn attempt(flow: &Flow, channel: &Arc<dyn Channel>, delivery: &Delivery) -> Outcome {
    let record = |parts: u32| {
        if let Err(e) = flow.store.record_part(&delivery.id, parts) {
            log::warn!(delivery_id = delivery.id.as_str(); "a part that was confirmed could not be recorded: {e}");
        }
    };
    let progress = Progress { done: delivery.parts_sent, record: &record };
    let sent = catch_unwind(AssertUnwindSafe(|| channel.deliver(delivery, &progress))).unwrap_or_else(|_| {
        flow.threads.count_panic();
        Err(Error::new(ErrorKind::Bug, "an error of the gateway's own ended the delivery"))
    });
    let error = match sent {
        Ok(()) => return Outcome::Sent,
        Err(e) => e,
    };
    if error.kind == ErrorKind::Stopped {
        return Outcome::Untried;
    }
    let asked = if let ErrorKind::Throttled(asked) = error.kind { asked } else { None };
    let reason = error.to_string();
    match error.is_passing().then(|| flow.settings.get().retry.pause(delivery.attempts, asked)).flatten() {
        Some(after) => Outcome::Retry { after, reason },
        None => Outcome::Dead { reason },
    }
}

fn tell(flow: &Flow, delivery: &Delivery, outcome: &Outcome) {
    let id = delivery.id.as_str();
    let detail = json!({"deliveryId": id, "channel": delivery.channel, "inReplyTo": delivery.in_reply_to});
    match outcome {
        Outcome::Sent => flow.hub.event("delivery.sent", detail),
        Outcome::Retry { after, reason } => {
            log::warn!(delivery_id = id, pause_ms = after.as_millis() as u64; "a delivery failed and is tried again: {reason}");
        }
        Outcome::Dead { reason } => {
            log::error!(delivery_id = id, channel = delivery.channel.as_str(); "a delivery is given up, a dead letter: {reason}");
            flow.hub.event("delivery.dead", detail);
        }
        Outcome::Held { reason, .. } => log::debug!(delivery_id = id; "a delivery waits: {reason}"),
        Outcome::Untried => {}
    }
}

/// Whether a delivery waited so long for its channel that it is given up.
fn is_stale(flow: &Flow, delivery: &Delivery) -> bool {
    flow.clock.unix_ms().saturating_sub(delivery.created_ms) > HELD_MAX_MS
}

/// Records the outcome, insisting while the store can't write: an unrecorded send would be sent again.
fn record(flow: &Flow, attempt: Attempt, stop: &Stop) {
    loop {
        match flow.store.record_attempt(attempt.clone()) {
            Ok(()) => return,
            // Also while draining: the gateway waits for the record as long as it may.
            Err(StoreError::Unavailable(_) | StoreError::Busy) => {
                if stop.wait(STORE_PAUSE) && flow.store.health(true).is_err() {
                    return log::warn!(delivery_id = attempt.delivery_id.as_str(); "the store can't write; what was sent may be sent again");
                }
            }
            Err(e) => return log::warn!(delivery_id = attempt.delivery_id.as_str(); "a delivery's outcome was not recorded: {e}"),
        }
    }
}
