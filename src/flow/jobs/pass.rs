//! One pass over the jobs, on the errands' thread: the configuration's are put to the store, and what is due runs.
//!
//! Invariant: it takes [`BATCH`] runs at most, so that the thread's other work waits shortly. Fails by a pause, after which it is
//! done again; a panic in it, too.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::{Job, JobRun, Schedule, Work};
use crate::flow::jobs::run::{Ended, Started};
use crate::flow::jobs::{GRACE_MS, PAUSE};
use crate::flow::{Flow, POLL};
use crate::store::{Page, Result, StoreError};

/// Runs of one pass.
const BATCH: usize = 16;

/// What a run is to be.
struct Due {
    job: Job,
    schedule: Schedule,
    due_ms: i64,
    start: Start,
}

enum Start {
    Run,
    Skip(&'static str),
}

/// Ends a pass, however it ended.
struct Over<'a>(&'a Flow);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.jobs.busy.store(false, Ordering::SeqCst);
        self.0.nudge_timer();
    }
}

/// One pass.
pub(super) fn run(flow: &Arc<Flow>) {
    let _over = Over(flow);
    if let Err(e) = pass(flow) {
        log::warn!("jobs wait: {e}");
        again(flow, PAUSE);
    }
}

/// Has the next pass look at all of it, not before `pause` is over.
fn again(flow: &Flow, pause: Duration) {
    flow.jobs.look.store(true, Ordering::SeqCst);
    flow.jobs.lock().not_before = Some(flow.clock.mono() + pause);
}

fn pass(flow: &Arc<Flow>) -> Result<()> {
    let jobs = &flow.jobs;
    jobs.lock().not_before = None;
    jobs.look.store(false, Ordering::SeqCst);
    let mut all = flow.store.jobs()?;
    let sync = jobs.sync.load(Ordering::SeqCst) && !(all.is_empty() && flow.settings.get().jobs.is_empty());
    jobs.sync.fetch_and(sync, Ordering::SeqCst);
    if all.is_empty() && !sync {
        wake(flow, &all);
        return Ok(());
    }
    let trusted = jobs.lock().trust.since_ms.is_some();
    let newest = if trusted { 0 } else { newest_ms(flow, &all)? };
    if !jobs.lock().trust.look(&flow.clock, newest) {
        again(flow, POLL);
        return Ok(());
    }
    if sync {
        jobs.sync.store(false, Ordering::SeqCst);
        if let Err(e) = flow.put_configured(&all) {
            jobs.sync.store(true, Ordering::SeqCst);
            return Err(e);
        }
        all = flow.store.jobs()?;
    }
    flow.put_right(&mut all)?;
    let (due, more) = find(flow, &all)?;
    let later = perform(flow, due, &mut all)?;
    wake(flow, &all);
    if more || later {
        again(flow, if later { PAUSE } else { Duration::ZERO });
    }
    Ok(())
}

/// The newest time that the store has seen.
fn newest_ms(flow: &Flow, jobs: &[Job]) -> Result<i64> {
    let messages = flow.store.messages(None, Page { cursor: None, limit: 1 })?;
    let times = jobs.iter().map(|j| j.updated_ms).chain(messages.items.iter().map(|m| m.received_ms));
    Ok(times.max().unwrap_or(0))
}

/// What is due, and whether more is than fits into this pass.
fn find(flow: &Flow, jobs: &[Job]) -> Result<(Vec<Due>, bool)> {
    let (now_ms, now) = (flow.clock.unix_ms(), flow.clock.mono());
    let mut found = Vec::new();
    for job in jobs.iter().filter(|j| j.enabled) {
        let Some(due_ms) = job.next_ms else { continue };
        let mut state = flow.jobs.lock();
        let paced = state.paced(job, due_ms, &flow.clock);
        if due_ms > now_ms && paced.is_none_or(|at| at > now) {
            continue;
        }
        if found.len() == BATCH {
            return Ok((found, true));
        }
        let missed = state.trust.since_ms.is_some_and(|since| due_ms < since - GRACE_MS);
        drop(state);
        let Ok(schedule) = Schedule::of(&job.when, job.timezone.as_deref()) else { continue };
        let start = if missed && !job.catch_up {
            Start::Skip("missed while the gateway was not running")
        } else if is_running(flow, job)? {
            Start::Skip("the turn of the run before has not ended")
        } else {
            Start::Run
        };
        found.push(Due { job: job.clone(), schedule, due_ms, start });
    }
    Ok((found, false))
}

/// Runs and records, and notes in `all` when they run next; whether some of it has to be tried again.
fn perform(flow: &Arc<Flow>, due: Vec<Due>, all: &mut [Job]) -> Result<bool> {
    // All are put to the store before the first is waited for: one commit carries them.
    let started: Vec<_> = due
        .into_iter()
        .map(|due| {
            let key = format!("job:{}:{}:{}", due.job.id, due.job.updated_ms, due.due_ms);
            let started = match due.start {
                Start::Run => flow.start_run(&due.job, key),
                Start::Skip(why) => Started::Ended(Ended::Skipped(why)),
            };
            (due, started)
        })
        .collect();
    let mut later = false;
    for (due, started) in started {
        let (outcome, detail) = match started.wait() {
            Ended::Ran(made) => ("ran", made),
            Ended::Skipped(why) => ("skipped", why.to_string()),
            Ended::Failed(why) => ("failed", why),
            Ended::Later(why) => {
                log::warn!(job = due.job.id.as_str(); "the job {} waits: {why}", due.job.id);
                later = true;
                continue;
            }
        };
        if outcome != "ran" {
            log::warn!(job = due.job.id.as_str(); "the job {} was {outcome}: {detail}", due.job.id);
        }
        let now_ms = flow.clock.unix_ms();
        let next_ms = due.schedule.following(due.due_ms, now_ms);
        flow.note_turn(&due.job, outcome, &detail);
        if let Some(job) = all.iter_mut().find(|j| j.id == due.job.id) {
            job.next_ms = next_ms;
        }
        let run = JobRun { job_id: due.job.id, due_ms: due.due_ms, at_ms: now_ms, outcome: outcome.into(), detail };
        match flow.store.record_run(run, next_ms) {
            Ok(()) => {}
            // Changed or removed meanwhile.
            Err(StoreError::Conflict(_) | StoreError::NotFound) => flow.jobs.look.store(true, Ordering::SeqCst),
            Err(e) => return Err(e),
        }
    }
    Ok(later)
}

/// Whether the turn of the job's last run goes on.
pub(super) fn is_running(flow: &Flow, job: &Job) -> Result<bool> {
    if !matches!(job.work, Work::Turn { .. }) {
        return Ok(false);
    }
    let known = flow.jobs.lock().turns.get(&job.id).cloned();
    let last = match known {
        Some(id) => Some(id),
        None => {
            let runs = flow.store.job_runs(&job.id, Page { cursor: None, limit: 100 })?;
            runs.items.into_iter().find(|run| run.outcome == "ran").map(|run| run.detail)
        }
    };
    let Some(id) = last else { return Ok(false) };
    match flow.store.message(&id) {
        Ok(message) => Ok(!message.state.is_final()),
        Err(StoreError::NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes when the next run is.
fn wake(flow: &Flow, jobs: &[Job]) {
    let mut state = flow.jobs.lock();
    let waiting = |j: &&Job| j.enabled && j.next_ms.is_some();
    state.next_ms = jobs.iter().filter(waiting).filter_map(|j| j.next_ms).min();
    let paced: Vec<_> =
        jobs.iter().filter(waiting).filter_map(|j| state.paced(j, j.next_ms.unwrap_or_default(), &flow.clock)).collect();
    state.next_mono = paced.into_iter().min();
    let known: HashSet<&str> = jobs.iter().map(|j| j.id.as_str()).collect();
    state.pace.retain(|id, _| known.contains(id.as_str()));
    state.turns.retain(|id, _| known.contains(id.as_str()));
    state.unfit.retain(|id| known.contains(id.as_str()));
}
