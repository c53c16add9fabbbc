//! Scheduled turns and messages: who is due, by which clock, and when to look again.
//!
//! Invariant: a run is put to the inbox or the outbox under a key of its own (`job:<id>:<version>:<due>`) first and recorded after,
//! so that a crash in between makes nothing twice; one run of a job at a time; of what is due at once there is one run. The wall
//! clock decides, unless it can't be right (before 2024, or a day before what the store has seen): then nothing runs, which is told
//! once. A clock that is put back stops no job, one that is put forward makes one run. Fails by telling, and tries again.

mod edit;
mod pass;
mod run;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::domain::{Job, Schedule, When};
use crate::flow::{Flow, POLL};

/// 1 January 2024: a wall clock before it was never set.
const SET_MS: i64 = 1_704_067_200_000;
/// How far the wall clock may stand before what the store has seen.
const BEHIND_MS: i64 = 24 * 3_600_000;
/// After this the wall clock is believed all the same: what the store has seen came from a clock that was ahead.
const DOUBT: Duration = Duration::from_secs(3600);
/// A run that came due so shortly before the start is not missed: that was a restart.
const GRACE_MS: i64 = 120_000;
/// How far both clocks may drift apart between two looks before one of them has jumped.
const JUMP_MS: i64 = 1000;
/// Pause after the store refused.
const PAUSE: Duration = Duration::from_secs(5);

/// The schedule as it is held in memory.
#[derive(Default)]
pub struct Jobs {
    state: Mutex<State>,
    /// Set where the store's jobs may have changed.
    look: AtomicBool,
    /// Set where the configuration's jobs have to be put to the store.
    sync: AtomicBool,
    /// Set while a pass is under way.
    busy: AtomicBool,
    /// Held by whoever reads a job and writes it back.
    edit: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The next run, by the wall clock and, where it has a pause, by the monotonic one.
    next_ms: Option<i64>,
    next_mono: Option<Duration>,
    /// Not before this (`Clock::mono`): the store refused.
    not_before: Option<Duration>,
    /// The wall clock less the monotonic one, at the last look.
    offset_ms: Option<i64>,
    trust: Trust,
    /// Per job with a pause: the run that it waits for, and when by the monotonic clock it comes at the latest.
    pace: HashMap<String, (i64, Duration)>,
    /// Per job: the message of its last turn.
    turns: HashMap<String, String>,
    /// Jobs that can't run, which was told.
    unfit: HashSet<String>,
}

/// Whether the wall clock is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trust {
    /// Since when, by itself: what came due before was missed.
    since_ms: Option<i64>,
    /// Since when it is not, by the monotonic clock.
    doubted: Option<Duration>,
}

impl Trust {
    /// Looks at the clock; `newest_ms` is the newest time that the store has seen.
    fn look(&mut self, clock: &Clock, newest_ms: i64) -> bool {
        let (now_ms, now) = (clock.unix_ms(), clock.mono());
        if now_ms >= SET_MS && self.since_ms.is_some() {
            return true;
        }
        let held = self.doubted.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if now_ms >= SET_MS && (held >= DOUBT || now_ms >= newest_ms - BEHIND_MS) {
            if self.doubted.is_some() {
                log::info!("the clock is set: jobs run");
            }
            *self = Trust { since_ms: Some(now_ms), doubted: None };
            return true;
        }
        if self.doubted.is_none() {
            log::warn!("the clock can't be right: jobs wait until it is set");
        }
        *self = Trust { since_ms: None, doubted: self.doubted.or(Some(now)) };
        false
    }
}

/// When a job runs next, after a time; `None` where it doesn't any more, or its schedule is none.
pub fn next_run(job: &Job, after_ms: i64) -> Option<i64> {
    Schedule::of(&job.when, job.timezone.as_deref()).ok()?.first(after_ms)
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes a jump of the wall clock; whether there was one.
    fn jumped(&mut self, clock: &Clock) -> bool {
        let now_ms = clock.unix_ms();
        let offset = now_ms - clock.mono().as_millis() as i64;
        let by = self.offset_ms.replace(offset).map_or(0, |last| offset - last);
        if by < -JUMP_MS {
            // What comes due between now and where the clock stood was not missed before the start.
            self.trust.since_ms = self.trust.since_ms.map(|since| since.min(now_ms));
        }
        by.abs() > JUMP_MS
    }

    /// Until when nothing is due (`Clock::mono`); `None` where no job waits.
    fn due_at(&self, clock: &Clock) -> Option<Duration> {
        let (now, now_ms) = (clock.mono(), clock.unix_ms());
        let wall = self.next_ms.map(|next| now + Duration::from_millis(u64::try_from(next - now_ms).unwrap_or(0)));
        let due = wall.into_iter().chain(self.next_mono).min()?;
        Some(self.not_before.map_or(due, |pause| due.max(pause)))
    }

    /// When a job with a pause runs at the latest by the monotonic clock.
    fn paced(&mut self, job: &Job, next_ms: i64, clock: &Clock) -> Option<Duration> {
        let When::Every(pause) = job.when else { return None };
        let left = u64::try_from(next_ms - clock.unix_ms()).unwrap_or(0).min(pause);
        let fresh = (next_ms, clock.mono() + Duration::from_millis(left));
        let entry = self.pace.entry(job.id.clone()).or_insert(fresh);
        if entry.0 != next_ms {
            *entry = fresh;
        }
        Some(entry.1)
    }
}

impl Flow {
    /// Has the configuration's jobs put to the store, by the timer's next pass.
    pub fn sync_jobs(&self) {
        self.jobs.sync.store(true, Ordering::SeqCst);
        self.nudge_timer();
    }

    /// Tells that jobs in the store were changed.
    pub fn jobs_changed(&self) {
        self.jobs.look.store(true, Ordering::SeqCst);
        self.nudge_timer();
    }

    /// Has what is due run by the errands' thread; when to look again (`Clock::mono`).
    pub(super) fn tick_jobs(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.mono();
        let jobs = &self.jobs;
        let mut state = jobs.lock();
        if state.jumped(&self.clock) {
            jobs.look.store(true, Ordering::SeqCst);
        }
        let asked = jobs.look.load(Ordering::SeqCst) || jobs.sync.load(Ordering::SeqCst);
        let due = if asked { Some(state.not_before.unwrap_or(now)) } else { state.due_at(&self.clock) };
        drop(state);
        let due = due?;
        if due > now {
            return Some(due.min(now + POLL)); // the wall clock may jump meanwhile
        }
        if self.is_draining() || jobs.busy.swap(true, Ordering::SeqCst) {
            return None; // the pass nudges when it is over
        }
        let flow = self.clone();
        let refused = self.errand(Box::new(move || pass::run(&flow))).is_err();
        if refused {
            jobs.busy.store(false, Ordering::SeqCst);
            return Some(now + PAUSE);
        }
        None
    }
}
