//! The timer thread: callers whose wait is over, jobs, the heartbeat, windows that ended, retention.
//!
//! Invariant: it sleeps until the next deadline that exists; nothing here blocks for longer than one read or write of the
//! store. A panic in one pass is caught by the thread's owner and the next pass goes on.

use std::sync::Arc;
use std::time::Duration;

use crate::base::crash;
use crate::base::pulse::Pulse;
use crate::base::stop::Stop;
use crate::domain::WEBSOCKET_CHANNEL;
use crate::flow::hub::Repeat;
use crate::flow::{Flow, heartbeat, idle};

/// The longest that one pass may take before the timer counts as stuck.
const PASS_MAX: Duration = Duration::from_secs(300);
/// How often windows that ended are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Runs until `stop` is set.
pub fn run(flow: &Arc<Flow>, pulse: &Pulse, stop: &Stop) {
    let start = flow.clock.mono();
    let (mut beat, mut sweep) = (start + flow.settings.get().heartbeat, start + SWEEP);
    loop {
        let now = flow.clock.mono();
        pulse.works(now, PASS_MAX);
        crash::point("timer.pass");
        let waiting = flow.waiters.expire(now);
        let question = flow.store.next_approval_due();
        if question.is_some_and(|due| due.is_zero()) {
            flow.expire_questions();
        }
        let listening = flow.listeners.tick(now);
        let (typing, preview, notice) = (flow.tick_typing(now), flow.tick_previews(now), flow.tell_of_channels(now));
        let (due, repeat) = flow.hub.due_repeats(now);
        due.iter().for_each(|r| send_again(flow, r));
        let job = flow.tick_jobs();
        if now >= beat {
            heartbeat::beat(flow);
            beat = now + flow.settings.get().heartbeat;
        }
        if now >= sweep {
            flow.rate.sweep(now);
            flow.tells.sweep(now);
            flow.auth.sweep();
            sweep = now + SWEEP;
        }
        let retention = flow.tick_retention(now);
        beat = beat.min(now + flow.settings.get().heartbeat); // a reload may have shortened it
        // One that could not be expired is tried again at the heartbeat.
        let question = question.filter(|due| !due.is_zero()).map(|due| now + due);
        let next = [Some(beat), Some(sweep), retention, waiting, repeat, listening, typing, preview, notice, question, job]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(beat);
        pulse.rests();
        if idle(&flow.timer_nudge.1, stop, next.saturating_sub(flow.clock.mono())) {
            return;
        }
    }
}

/// Sends a connection what is still without a receipt.
fn send_again(flow: &Flow, repeat: &Repeat) {
    let user = &repeat.client.principal().id;
    match flow.store.unacknowledged(WEBSOCKET_CHANNEL, user, 500) {
        Ok(waiting) => waiting.iter().filter(|d| repeat.ids.contains(&d.id)).for_each(|d| repeat.client.push(d)),
        Err(e) => log::warn!("messages without a receipt could not be read: {e}; they come at the next connection"),
    }
}
