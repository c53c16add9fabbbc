//! The configuration's jobs in the store, and schedules that a clock has left behind.
//!
//! Invariant: a job whose definition stays the same keeps its next run and its history. A job that was put right gets a new version
//! (`updated_ms`), and with it new keys: what ran before under the same times doesn't stand in its way.

use std::sync::PoisonError;

use crate::config;
use crate::domain::{Job, Schedule, When};
use crate::flow::Flow;
use crate::store::{Result, StoreError};

/// Who makes jobs that the configuration has.
pub const CONFIG: &str = "config";

impl Flow {
    /// Puts the configuration's jobs to the store, and removes those that it has no more.
    pub(super) fn put_configured(&self, stored: &[Job]) -> Result<()> {
        let _edit = self.jobs.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = self.settings.get();
        for wanted in &settings.jobs {
            let found = stored.iter().find(|j| j.id == wanted.id);
            if found.is_some_and(|j| is_same(j, wanted)) {
                continue;
            }
            if found.is_some_and(|j| j.by != CONFIG) {
                log::warn!(job = wanted.id.as_str(); "the configuration's job {} takes the place of one that was made otherwise", wanted.id);
            }
            match self.store.put_job(made(wanted, self.clock.unix_ms())) {
                Ok(()) => {}
                Err(StoreError::Conflict(why)) => log::error!("the configuration's job {} is not kept: {why}", wanted.id),
                Err(e) => return Err(e),
            }
        }
        for gone in stored.iter().filter(|j| j.by == CONFIG && !settings.jobs.iter().any(|w| w.id == j.id)) {
            match self.store.delete_job(&gone.id) {
                Ok(()) | Err(StoreError::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Gives a next run to jobs that a clock which was ahead, or a system without time zones, has left without one that will come.
    pub(super) fn put_right(&self, jobs: &mut [Job]) -> Result<()> {
        let _edit = self.jobs.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let (now_ms, now) = (self.clock.unix_ms(), self.clock.mono());
        for job in jobs.iter_mut().filter(|j| j.enabled) {
            let schedule = match Schedule::of(&job.when, job.timezone.as_deref()) {
                Ok(schedule) => schedule,
                Err(unfit) => {
                    if self.jobs.lock().unfit.insert(job.id.clone()) {
                        log::error!(job = job.id.as_str(); "the job {} can't run: {}", job.id, unfit.why);
                    }
                    continue;
                }
            };
            let next = match job.next_ms {
                None if matches!(job.when, When::At(_)) => None,
                None => schedule.first(now_ms),
                Some(next) => schedule.overdue(next, now_ms),
            };
            let Some(mut next) = next else { continue };
            if let Some((_, at)) = self.jobs.lock().pace.get(&job.id) {
                let left = i64::try_from(at.saturating_sub(now).as_millis()).unwrap_or(i64::MAX);
                next = next.min(now_ms.saturating_add(left));
            }
            // Changed or removed since it was read: that counts.
            if self.store.job(&job.id).as_ref() == Ok(job) {
                job.next_ms = Some(next);
                job.updated_ms = now_ms;
                self.store.put_job(job.clone())?;
            }
        }
        Ok(())
    }
}

/// Whether a stored job is what the configuration says.
fn is_same(job: &Job, wanted: &config::Job) -> bool {
    let (now_ms, next_ms) = (job.updated_ms, job.next_ms);
    *job == Job { next_ms, ..made(wanted, now_ms) }
}

fn made(wanted: &config::Job, now_ms: i64) -> Job {
    let schedule = Schedule::of(&wanted.when, wanted.timezone.as_deref());
    Job {
        id: wanted.id.clone(),
        by: CONFIG.into(),
        when: wanted.when.clone(),
        timezone: wanted.timezone.clone(),
        work: wanted.work.clone(),
        user_id: wanted.user_id.clone(),
        channel: wanted.channel.clone(),
        catch_up: wanted.catch_up,
        enabled: true,
        next_ms: schedule.ok().and_then(|s| s.first(now_ms)),
        updated_ms: now_ms,
    }
}
