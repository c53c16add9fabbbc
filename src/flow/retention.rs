//! Retention: what is past its time goes once an hour, the oldest that is settled goes where all together nears its bound, and people are told where
//! nothing more may go, or where more is written to disk than was meant to be.
//!
//! Invariant: the work is done on a short-lived thread of its own, one at a time: a large database takes minutes, and the timer has callers
//! that wait. By age nothing goes shortly after the wall clock jumped ahead: the jump may be a mistake. Each trouble is told once, and once when it is
//! over. A pass that fails is logged, and tried again at its time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::threads::STACK;
use crate::flow::Flow;
use crate::telemetry::process::written_bytes;

/// How often what is past its time is removed.
const PRUNE: Duration = Duration::from_secs(3600);
/// How soon after a start, or a change of what is to be kept.
const FIRST: Duration = Duration::from_secs(300);
/// A wall clock that went that much further than the monotonic one has jumped.
const JUMP_MS: i64 = 3_600_000;

/// What is due when.
#[derive(Debug)]
struct Due {
    /// By age and size; `None` until it was first looked at.
    prune: Option<Duration>,
    /// Not before that is room made again: the last try found nothing that may go.
    room: Duration,
    /// Both clocks at the last pass: the wall clock is compared with them.
    clocks: (Duration, i64),
}

/// The state of it.
#[derive(Debug)]
pub(super) struct Keeper {
    is_busy: AtomicBool,
    due: Mutex<Due>,
    is_full: AtomicBool,
    is_over_budget: AtomicBool,
}

impl Default for Keeper {
    fn default() -> Self {
        Keeper {
            is_busy: AtomicBool::default(),
            due: Mutex::new(Due { prune: None, room: Duration::ZERO, clocks: (Duration::ZERO, i64::MAX) }),
            is_full: AtomicBool::default(),
            is_over_budget: AtomicBool::default(),
        }
    }
}

impl Due {
    /// Whether a pass by age may run now; notes both clocks.
    fn trusts(&mut self, now: Duration, wall_ms: i64) -> bool {
        let (then, then_ms) = std::mem::replace(&mut self.clocks, (now, wall_ms));
        let expected = then_ms.saturating_add(now.saturating_sub(then).as_millis() as i64);
        wall_ms <= expected.saturating_add(JUMP_MS)
    }
}

impl Flow {
    /// Keeps what the configuration says from now on.
    pub fn sync_retention(&self) {
        let settings = self.settings.get();
        self.store.keep(settings.retention);
        self.metrics.set_write_budget(settings.write_budget);
        let now = self.clock.mono();
        let mut due = self.keeper.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.prune.is_none() {
            due.clocks = (now, self.clock.unix_ms());
        }
        due.prune = Some(due.prune.map_or(now + FIRST, |at| at.min(now + FIRST)));
        due.room = Duration::ZERO;
    }

    /// Whether the store has reached its bound and nothing new is taken.
    pub fn is_full(&self) -> bool {
        self.store.space().is_full()
    }

    /// Whether more was written to disk in the last 24 hours than was meant to be.
    pub fn is_over_write_budget(&self) -> bool {
        self.keeper.is_over_budget.load(Ordering::Relaxed)
    }

    /// Begins what is due; gives when the next look is.
    pub(super) fn tick_retention(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        if self.keeper.is_busy.load(Ordering::SeqCst) {
            return None; // its end nudges the timer
        }
        let mut due = self.keeper.due.lock().unwrap_or_else(PoisonError::into_inner);
        let prune_at = due.prune?;
        let is_high = self.store.space().is_high();
        let makes_room = is_high && now >= due.room;
        let mut prunes = now >= prune_at;
        if prunes {
            due.prune = Some(now + PRUNE);
            if !due.trusts(now, self.clock.unix_ms()) {
                log::warn!("the wall clock jumped ahead: nothing is removed for its age in the next hour");
                prunes = false;
            }
        }
        let next = due.prune.map(|at| if is_high { at.min(due.room.max(now)) } else { at });
        drop(due);
        if !makes_room && !prunes {
            return next;
        }
        self.keeper.is_busy.store(true, Ordering::SeqCst);
        let flow = self.clone();
        let begun = self.threads.spawn_once("retention", STACK * 2, move || {
            let _free = Free(&flow);
            flow.retain(prunes);
        });
        if let Err(e) = begun {
            self.keeper.is_busy.store(false, Ordering::SeqCst);
            log::warn!("retention could not begin: {e}");
        }
        None
    }

    /// Whether a pass is under way.
    #[cfg(test)]
    pub(super) fn is_retaining(&self) -> bool {
        self.keeper.is_busy.load(Ordering::SeqCst)
    }

    /// One pass, on a thread of its own.
    fn retain(self: &Arc<Self>, prunes: bool) {
        if prunes {
            match self.store.prune() {
                Ok(0) => {}
                Ok(rows) => log::info!("retention removed {rows} rows"),
                Err(e) => log::warn!("retention: {e}"),
            }
        }
        if !self.store.space().is_high() {
            return;
        }
        match self.store.make_room() {
            Ok(0) => {}
            Ok(rows) => log::info!("near store.maxBytes: the oldest {rows} rows that were settled are removed"),
            Err(e) => log::warn!("room can't be made: {e}"),
        }
        if self.store.space().is_above_aim() {
            let pause = self.settings.get().heartbeat;
            self.keeper.due.lock().unwrap_or_else(PoisonError::into_inner).room = self.clock.mono() + pause;
        }
    }

    /// Looks at what is full, and at what was written; at the heartbeat.
    pub(super) fn watch_disk(self: &Arc<Self>) {
        let space = self.store.space();
        if let Some(is_full) = changed(&self.keeper.is_full, space.is_full()) {
            self.alert(&match is_full {
                true => format!(
                    "All room is taken ({} bytes, store.maxBytes): new messages are refused. What is left waits for an answer, a \
                     delivery or a person; see the failed messages and dead letters.",
                    space.max
                ),
                false => "There is room again: new messages are taken.".to_string(),
            });
        }
        let Some(budget) = self.settings.get().write_budget else {
            self.keeper.is_over_budget.store(false, Ordering::Relaxed);
            return;
        };
        let written = self.metrics.note_written(written_bytes().unwrap_or(0));
        let was_over = self.is_over_write_budget();
        // Once told, it has to fall by a quarter: the sum steps from hour to hour.
        let is_over = written > if was_over { budget / 4 * 3 } else { budget };
        match changed(&self.keeper.is_over_budget, is_over) {
            Some(true) => self.alert(&format!(
                "{written} bytes were written to disk in 24 hours, over the budget of {budget} (store.writeBudget)."
            )),
            Some(false) => log::info!(written, budget; "the bytes written in 24 hours are within store.writeBudget again"),
            None => {}
        }
    }

    /// Looks at the memory, where the last look is some time ago; whether the process holds more than it may.
    pub fn is_overloaded(&self) -> bool {
        // The library's tests share one process.
        let max = if cfg!(test) { u64::MAX } else { self.settings.get().max_memory };
        if let Some(change) = self.memory.look(self.clock.mono(), max) {
            let bytes = change.bytes;
            if change.is_over {
                log::warn!(bytes, max; "memory is over gateway.limits.maxMemory: new messages are refused until it is below");
                self.store.shrink();
            } else {
                log::info!(bytes, max; "memory is below gateway.limits.maxMemory again");
            }
        }
        self.memory.is_over()
    }

    /// Why nothing new is taken now, if that is so.
    pub fn refusal(&self) -> Option<&'static str> {
        match () {
            () if self.is_draining() => Some("the gateway is stopping"),
            () if self.is_overloaded() => Some("the gateway is out of its memory"),
            () if self.is_full() => Some("the store is full"),
            () => None,
        }
    }
}

/// Puts the new value; gives it where it is another one.
fn changed(cell: &AtomicBool, now: bool) -> Option<bool> {
    (cell.swap(now, Ordering::Relaxed) != now).then_some(now)
}

/// Lets the next pass begin, however this one ended.
struct Free<'a>(&'a Arc<Flow>);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.keeper.is_busy.store(false, Ordering::SeqCst);
        self.0.nudge_timer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumped_ahead_is_not_trusted_for_one_pass() {
        let mut due = Due { prune: None, room: Duration::ZERO, clocks: (Duration::ZERO, 1_000_000) };
        let (hour, hour_ms) = (Duration::from_secs(3600), 3_600_000);
        for (hours, wall_ms, trusted) in [
            (1, 1_000_000 + hour_ms, true),
            (2, 1_000_000 + 3 * hour_ms, true), // an hour too much: a summer time that somebody set by hand
            (3, 1_000_000 + 4 * hour_ms + 8_760 * hour_ms, false), // a year
            (4, 1_000_000 + 5 * hour_ms + 8_760 * hour_ms, true), // it stayed there
            (5, 1_000_000 + 5 * hour_ms, true), // back: nothing is old then
            (6, 1_000_000 + 7 * hour_ms + 1, false),
        ] {
            assert_eq!(due.trusts(hour * hours, wall_ms), trusted, "{hours}");
        }
    }
}
