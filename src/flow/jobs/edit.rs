//! Jobs as the API changes them.
//!
//! Invariant: a job of the configuration is changed there alone. A change is a new version with a next run of its own. Fails with
//! `Conflict` or as the store does.

use std::sync::{Arc, PoisonError};

use crate::base::ids::new_id;
use crate::domain::{Job, JobRun};
use crate::flow::Flow;
use crate::flow::jobs::next_run;
use crate::flow::jobs::pass::is_running;
use crate::flow::jobs::run::Ended;
use crate::flow::jobs::sync::CONFIG;
use crate::store::{Result, StoreError};

impl Flow {
    /// Puts a job, new or in place of one of its id. Gives it as it is kept.
    ///
    /// # Errors
    /// `Conflict` where the id is taken (`is_new`), or by the configuration; `NotFound` where it is not there.
    pub fn put_job(&self, mut job: Job, is_new: bool) -> Result<Job> {
        let _edit = self.jobs.edit.lock().unwrap_or_else(PoisonError::into_inner);
        match self.store.job(&job.id) {
            Ok(_) if is_new => return Err(StoreError::Conflict(format!("there is a job {} already", job.id))),
            Ok(old) => job.by = own(old)?.by,
            Err(StoreError::NotFound) if is_new => {}
            Err(e) => return Err(e),
        }
        job.updated_ms = self.clock.unix_ms();
        job.next_ms = next_run(&job, job.updated_ms);
        self.store.put_job(job.clone())?;
        self.jobs_changed();
        Ok(job)
    }

    /// Removes a job.
    ///
    /// # Errors
    /// `Conflict` for one of the configuration; `NotFound`.
    pub fn delete_job(&self, id: &str) -> Result<()> {
        let _edit = self.jobs.edit.lock().unwrap_or_else(PoisonError::into_inner);
        own(self.store.job(id)?)?;
        self.store.delete_job(id)?;
        self.jobs_changed();
        Ok(())
    }

    /// Runs a job now, beside its schedule. Waits for the commit: not for the door's thread.
    ///
    /// # Errors
    /// `Conflict` where its turn goes on, or it can't run; `NotFound`.
    pub fn run_job(self: &Arc<Self>, id: &str) -> Result<JobRun> {
        let job = self.store.job(id)?;
        if is_running(self, &job)? {
            return Err(StoreError::Conflict("the turn of its last run has not ended".into()));
        }
        let now_ms = self.clock.unix_ms();
        let (outcome, detail) = match self.start_run(&job, new_id("job", now_ms)).wait() {
            Ended::Ran(made) => ("ran", made),
            Ended::Skipped(why) => return Err(StoreError::Conflict(why.into())),
            Ended::Failed(why) => return Err(StoreError::Conflict(why)),
            Ended::Later(why) => return Err(StoreError::Unavailable(why)),
        };
        self.note_turn(&job, outcome, &detail);
        let run = JobRun { job_id: job.id, due_ms: now_ms, at_ms: now_ms, outcome: outcome.into(), detail };
        if let Err(e) = self.store.note_run(run.clone()) {
            log::warn!(job = id; "a run beside the schedule is not in the job's history: {e}");
        }
        Ok(run)
    }
}

fn own(job: Job) -> Result<Job> {
    let why = "this job is of the configuration: change the file, or PATCH /api/config";
    if job.by == CONFIG { Err(StoreError::Conflict(why.into())) } else { Ok(job) }
}
