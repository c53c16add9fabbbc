//! Delivery workers: each takes one outbound message at a time and hands it to its channel.
//!
//! Invariant: the store's order per recipient is kept; one dead recipient holds nobody else. A permanent error makes a dead
//! letter at once, a passing one is tried again within `gateway.retry`. What may have arrived, for it was cut off between the send and its
//! record or was never answered, follows its channel (`Channel::repeats`): sent again where that is harmless, or wished for and then
//! marked, else kept as unknown; never silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::crash;
use crate::base::error::{Error, ErrorKind};
use crate::base::pulse::Pulse;
use crate::base::stop::Stop;
use crate::channel::registry::Registry;
use crate::channel::repeats::Again;
use crate::channel::{Channel, Progress};
use crate::domain::{Attempt, CutOff, Delivery, Outcome};
use crate::flow::turns::InHand;
use crate::flow::{Flow, POLL, STORE_PAUSE, idle};
use crate::store::StoreError;
use crate::telemetry::metrics::DeliveryEnd;

/// The longest that a delivery waits for a channel that is down or switched off, by the wall clock: 7 days.
const HELD_MAX_MS: i64 = 7 * 24 * 3_600_000;

/// The longest that one try may take before its worker counts as stuck: adapters have deadlines for each request, a long message has
/// many parts, and the record insists while the store can't write.
const TRY_MAX: Duration = Duration::from_secs(1800);

/// The work of one delivery worker, until `stop` is set.
pub fn work(flow: &Flow, pulse: &Pulse, stop: &Stop) {
    while !stop.is_set() {
        let in_hand = InHand::new(&flow.sending);
        pulse.works(flow.clock.mono(), TRY_MAX);
        let found = step(flow, stop);
        pulse.rests();
        drop(in_hand);
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
    let cut_off = |name: &str| channels.get(name).map_or(CutOff::Resent, |c| c.repeats().cut_off());
    let delivery = match flow.store.claim_delivery(&cut_off) {
        Ok(Some(delivery)) => delivery,
        Ok(None) | Err(StoreError::Stopped) => return false,
        Err(e) => {
            log::warn!("no delivery could be taken: {e}");
            stop.wait(STORE_PAUSE);
            return false;
        }
    };
    if catch_unwind(AssertUnwindSafe(|| try_once(flow, &channels, &delivery, stop))).is_err() {
        // Beside the send itself, whose panics are caught closer. Left as it is, it would hold up its recipient until the next start.
        flow.threads.count_panic();
        let error = Error::new(ErrorKind::Unclear, "an error of the gateway's own came beside the send");
        let (first_ms, now_ms) = (delivery.in_doubt_since(), flow.clock.unix_ms());
        let again = |c: &Arc<dyn Channel>| c.repeats().again(first_ms.unwrap_or(now_ms), now_ms);
        let again = channels.get(&delivery.channel).map_or(Again::Held, again);
        let outcome = failed(flow, &delivery, &error, again);
        record(flow, Attempt { delivery_id: delivery.id.clone(), outcome }, stop); // refused where it was recorded already
    }
    flow.nudge_deliveries(); // the recipient's next message, if there is one, may go to another worker
    true
}

fn try_once(flow: &Flow, channels: &Registry, delivery: &Delivery, stop: &Stop) {
    crash::point("delivery.sending");
    let started = flow.clock.mono();
    let outcome = match channels.get(&delivery.channel) {
        Some(channel) => match channel.status().holds_back() {
            Some((_, reason)) if is_stale(flow, delivery) => Outcome::Dead { reason },
            Some((after, reason)) => Outcome::Held { after, reason },
            None => attempt(flow, channel, &flow.with_settled_preview(delivery)),
        },
        None => Outcome::Dead { reason: format!("channel {} is no longer configured", delivery.channel) },
    };
    let took = flow.clock.mono().saturating_sub(started);
    let end = match &outcome {
        Outcome::Sent => Some(DeliveryEnd::Sent),
        Outcome::Retry { .. } => Some(DeliveryEnd::Retried),
        Outcome::Dead { .. } => Some(DeliveryEnd::Dead),
        Outcome::Unknown { .. } => Some(DeliveryEnd::Unknown),
        Outcome::Untried | Outcome::Held { .. } => None,
    };
    if let Some(end) = end {
        flow.metrics.delivery(&delivery.channel, end, took);
    }
    tell(flow, delivery, &outcome);
    record(flow, Attempt { delivery_id: delivery.id.clone(), outcome }, stop);
    crash::point("delivery.marked");
}

fn attempt(flow: &Flow, channel: &Arc<dyn Channel>, delivery: &Delivery) -> Outcome {
    let (repeats, begun_ms) = (channel.repeats(), flow.clock.unix_ms());
    let again = delivery.in_doubt_since().map(|first_ms| repeats.again(first_ms, begun_ms));
    if again == Some(Again::Held) {
        return Outcome::Unknown { reason: "a former try may have arrived, and the service would not know a repeat".to_string() };
    }
    let record = |parts: u32| {
        crash::point("delivery.part");
        if let Err(e) = flow.store.record_part(&delivery.id, parts) {
            log::warn!(delivery_id = delivery.id.as_str(); "a part that was confirmed could not be recorded: {e}");
        }
        crash::point("delivery.part_marked");
    };
    let progress = Progress { done: delivery.parts_sent, record: &record, may_repeat: again == Some(Again::Marked) };
    let sent = catch_unwind(AssertUnwindSafe(|| channel.deliver(delivery, &progress))).unwrap_or_else(|_| {
        flow.threads.count_panic();
        Err(Error::new(ErrorKind::Bug, "an error of the gateway's own ended the delivery"))
    });
    match sent {
        Ok(()) => {
            crash::point("delivery.sent");
            Outcome::Sent
        }
        Err(error) => failed(flow, delivery, &error, repeats.again(delivery.in_doubt_since().unwrap_or(begun_ms), begun_ms)),
    }
}

/// How a try ended that failed; `again` is how it would go on, should it have arrived all the same.
fn failed(flow: &Flow, delivery: &Delivery, error: &Error, again: Again) -> Outcome {
    let is_unclear = error.kind == ErrorKind::Unclear;
    let asked = if let ErrorKind::Throttled(asked) = error.kind { asked } else { None };
    let may_go = if is_unclear { again != Again::Held } else { error.is_passing() };
    let pause = may_go.then(|| flow.settings.get().retry.pause(delivery.attempts, asked)).flatten();
    let reason = error.to_string();
    match pause {
        _ if error.kind == ErrorKind::Stopped => Outcome::Untried,
        Some(after) => Outcome::Retry { after, reason, is_unclear },
        None if is_unclear => Outcome::Unknown { reason },
        None => Outcome::Dead { reason },
    }
}

fn tell(flow: &Flow, delivery: &Delivery, outcome: &Outcome) {
    let id = delivery.id.as_str();
    let detail = json!({"deliveryId": id, "channel": delivery.channel, "inReplyTo": delivery.in_reply_to});
    match outcome {
        Outcome::Sent => flow.hub.event("delivery.sent", detail),
        Outcome::Retry { after, reason, .. } => {
            log::warn!(delivery_id = id, pause_ms = after.as_millis() as u64; "a delivery failed and is tried again: {reason}");
        }
        Outcome::Unknown { reason } => {
            log::error!(delivery_id = id, channel = delivery.channel.as_str(); "it is not known whether a delivery arrived, and it is not sent again by itself: {reason}");
            flow.hub.event("delivery.unknown", detail);
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
