//! `job.create`, `job.list`, `job.delete`: what a user has its agent do later.
//!
//! Invariant: a job is for the user whose turn it is, and runs with the agent that made it; others' jobs can neither be seen nor
//! deleted, and look like jobs that don't exist; those that an operator made for the user can be seen alone. A repeat of the same
//! call makes nothing twice. At most `JOBS_MAX` a user. Fails as the store does.

use serde_json::{Map, Value, json};

use super::{About, Context, Tool, memory, object, text};
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::domain::{Job, Schedule, When, Work};
use crate::store::StoreError;
use crate::telemetry::rfc3339;

/// Jobs that one user may have.
const JOBS_MAX: usize = 20;
/// The shortest pause, in seconds.
const EVERY_MIN: u64 = 60;
/// The longest pause, in seconds: a year.
const EVERY_MAX: u64 = 31_536_000;
/// Longest prompt or message, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of it that a list shows.
const TEXT_BYTES_SHOWN: usize = 200;

/// `job.create`.
pub struct Create(About);

impl Default for Create {
    fn default() -> Self {
        let schema = object(
            json!({
                "at": {"type": "string"}, "everySeconds": {"type": "integer"}, "cron": {"type": "string"},
                "timezone": {"type": "string"}, "prompt": {"type": "string"}, "message": {"type": "string"},
            }),
            &[],
        );
        let about = About::new(
            "job.create",
            "Later, or again and again, send the user a message, or have yourself asked a prompt. One of at (RFC 3339), everySeconds, cron.",
            schema,
        );
        Create(About { idempotent: true, dangerous: true, ..about })
    }
}

impl Tool for Create {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let job = wanted(arguments, context)?;
        let told = |job: &Job| format!("Made as {}, next at {}.", job.id, job.next_ms.map_or("no time".into(), rfc3339));
        match context.store.job(&job.id) {
            Ok(there) => return Ok(told(&there)),
            Err(StoreError::NotFound) => {}
            Err(e) => return Err(broken(&e)),
        }
        let mut own = all_of(context)?;
        own.retain(|j| j.by == context.who.user_id);
        if own.len() >= JOBS_MAX {
            // One that is over makes room.
            let over = own.iter().filter(|j| j.next_ms.is_none()).min_by_key(|j| j.updated_ms);
            let Some(over) = over else {
                return Err(invalid(format!("this user has {JOBS_MAX} jobs already")).hint("delete some first"));
            };
            context.store.delete_job(&over.id).map_err(|e| broken(&e))?;
        }
        match context.store.put_job(job.clone()) {
            Ok(()) => {}
            Err(StoreError::Conflict(why)) => return Err(invalid(why)),
            Err(e) => return Err(broken(&e)),
        }
        context.courier.jobs_changed();
        Ok(told(&job))
    }
}

/// `job.list`.
pub struct List(About);

impl Default for List {
    fn default() -> Self {
        List(About { idempotent: true, ..About::new("job.list", "The user's jobs.", object(json!({}), &[])) })
    }
}

impl Tool for List {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, _: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let own = all_of(context)?;
        let shown: Vec<_> = own.iter().take(2 * JOBS_MAX).map(|job| shown(job).to_string()).collect();
        Ok(if shown.is_empty() { "No jobs.".to_string() } else { shown.join("\n") })
    }
}

/// `job.delete`.
pub struct Delete(About);

impl Default for Delete {
    fn default() -> Self {
        let schema = object(json!({"id": {"type": "string"}}), &["id"]);
        Delete(About { idempotent: true, dangerous: true, ..About::new("job.delete", "Delete a job by its id.", schema) })
    }
}

impl Tool for Delete {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let id = text(arguments, "id");
        match context.store.job(id) {
            Ok(job) if is_own(&job, context) && job.by == context.who.user_id => match context.store.delete_job(id) {
                Ok(()) | Err(StoreError::NotFound) => {
                    context.courier.jobs_changed();
                    Ok("Deleted.".to_string())
                }
                Err(e) => Err(broken(&e)),
            },
            Ok(job) if is_own(&job, context) => Err(invalid("an operator made this job").hint("only an operator can delete it")),
            Ok(_) | Err(StoreError::NotFound) => Err(invalid("there is no such job").hint("job list gives the ids")),
            Err(e) => Err(broken(&e)),
        }
    }
}

/// The job that the arguments describe.
fn wanted(arguments: &Map<String, Value>, context: &Context<'_>) -> Result<Job> {
    let given = |name: &str| Some(text(arguments, name)).filter(|t| !t.trim().is_empty()).map(str::to_string);
    // A model may write 60.0.
    let every = arguments.get("everySeconds").and_then(|v| v.as_u64().or_else(|| v.as_f64().map(|f| f as u64)));
    if every.is_some_and(|s| !(EVERY_MIN..=EVERY_MAX).contains(&s)) {
        return Err(invalid(format!("everySeconds must be {EVERY_MIN} to {EVERY_MAX}")));
    }
    let times = [given("at").map(When::At), every.map(|s| When::Every(s * 1000)), given("cron").map(When::Cron)];
    let mut times = times.into_iter().flatten();
    let (Some(when), None) = (times.next(), times.next()) else {
        return Err(invalid("give exactly one of at, everySeconds and cron"));
    };
    let work = match (given("prompt"), given("message")) {
        (Some(prompt), None) => Work::Turn { agent: context.who.agent.clone(), prompt },
        (None, Some(message)) => Work::Message(message),
        _ => return Err(invalid("give either a prompt or a message")),
    };
    if words(&work).len() > TEXT_BYTES_MAX {
        return Err(invalid(format!("prompt and message may have {TEXT_BYTES_MAX} bytes")));
    }
    let timezone = given("timezone");
    let schedule = Schedule::of(&when, timezone.as_deref()).map_err(|unfit| invalid(format!("{} {}", unfit.key, unfit.why)))?;
    let now_ms = context.clock.unix_ms();
    let next_ms = schedule.first(now_ms);
    if next_ms.is_none() {
        return Err(invalid(format!("that time is over; it is {} now", rfc3339(now_ms))));
    }
    Ok(Job {
        id: memory::id_of_call("job", context),
        by: context.who.user_id.clone(),
        when,
        timezone,
        work,
        user_id: context.who.user_id.clone(),
        channel: None,
        catch_up: true,
        enabled: true,
        next_ms,
        updated_ms: now_ms,
    })
}

fn words(work: &Work) -> &str {
    match work {
        Work::Turn { prompt, .. } => prompt,
        Work::Message(message) => message,
    }
}

fn shown(job: &Job) -> Value {
    let kind = if matches!(job.work, Work::Turn { .. }) { "prompt" } else { "message" };
    let mut shown = json!({"id": job.id, "next": job.next_ms.map(rfc3339), kind: shorten(words(&job.work), TEXT_BYTES_SHOWN)});
    let (key, when) = match &job.when {
        When::At(at) => ("at", json!(at)),
        When::Every(ms) => ("everySeconds", json!(ms / 1000)),
        When::Cron(line) => ("cron", json!(line)),
    };
    shown[key] = when;
    if let Some(zone) = &job.timezone {
        shown["timezone"] = json!(zone);
    }
    shown
}

fn all_of(context: &Context<'_>) -> Result<Vec<Job>> {
    let mut jobs = context.store.jobs().map_err(|e| broken(&e))?;
    jobs.retain(|job| is_own(job, context));
    Ok(jobs)
}

fn is_own(job: &Job, context: &Context<'_>) -> bool {
    job.user_id == context.who.user_id
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

fn broken(e: &StoreError) -> Error {
    log::warn!("a job can't be read or written: {e}");
    Error::new(ErrorKind::Transient, "the jobs can't be reached now").hint("try again later")
}
