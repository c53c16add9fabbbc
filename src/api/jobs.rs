//! Jobs: scheduled turns and messages, as admins see and change them.
//!
//! Invariant: a job that is kept can run: its schedule comes, its agent and its channel exist. Jobs of the configuration are changed
//! there. Every change leaves a trace.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::messages::{listed, page};
use crate::api::{Api, Call, body};
use crate::base::ids::new_id;
use crate::domain::{Job, Schedule, When, Work};
use crate::flow::jobs::next_run;
use crate::net::http::Response;
use crate::store::Listed;

/// Longest prompt or message, in bytes.
const TEXT_BYTES_MAX: usize = 65_536;
/// Shortest and longest pause, in ms: a second, a year.
const EVERY: (u64, u64) = (1000, 31_536_000_000);
#[rustfmt::skip] // a list to read, not a column
const FIELDS: &[&str] = &[
    "id", "at", "every", "cron", "timezone", "agent", "prompt", "message", "userId", "channel", "catchUp", "enabled",
    // What an answer has beside it may be sent back.
    "by", "nextMs", "updatedMs",
];

/// `GET /api/jobs`.
///
/// # Errors
/// As the store does.
pub fn list(api: &Api, _: &Call) -> Result<Response, ApiError> {
    Ok(listed("jobs", Listed { items: api.flow.store.jobs()?, next: None }))
}

/// `POST /api/jobs`.
///
/// # Errors
/// 400 with all problems; 409 where the id is taken, or too many are kept.
pub fn add(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value = body::json(&call.request.body)?;
    let job = read(api, call, &value, None)?;
    let job = api.flow.put_job(job, true)?;
    trace(api, call, "job.created", &job.id);
    Ok(Response::json(201, &json!(job)))
}

/// `PUT /api/jobs/:id`.
///
/// # Errors
/// 400; 404; 409 for one of the configuration.
pub fn replace(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let value = body::json(&call.request.body)?;
    api.flow.store.job(&call.params[0])?;
    let job = read(api, call, &value, Some(&call.params[0]))?;
    let job = api.flow.put_job(job, false)?;
    trace(api, call, "job.changed", &job.id);
    Ok(Response::json(200, &json!(job)))
}

/// `DELETE /api/jobs/:id`.
///
/// # Errors
/// 404; 409 for one of the configuration.
pub fn remove(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = &call.params[0];
    api.flow.delete_job(id)?;
    trace(api, call, "job.removed", id);
    Ok(Response::empty(204))
}

/// `POST /api/jobs/:id/run`.
pub fn run(api: &Arc<Api>, call: Call) {
    if api.flow.is_draining() {
        return call.answer(Err(ApiError::new(503, "The gateway is stopping")));
    }
    let outcome = api.flow.run_job(&call.params[0]).map(|run| {
        trace(api, &call, "job.run", &run.job_id);
        Response::json(202, &json!(run))
    });
    call.answer(outcome.map_err(ApiError::from));
}

/// `GET /api/jobs/:id/runs`.
///
/// # Errors
/// 404; 400 for a bad cursor.
pub fn runs(api: &Api, call: &Call) -> Result<Response, ApiError> {
    let id = &api.flow.store.job(&call.params[0])?.id;
    Ok(listed("runs", api.flow.store.job_runs(id, page(call)?)?))
}

fn trace(api: &Api, call: &Call, action: &str, id: &str) {
    super::admin::note(api, call, action, json!({"jobId": id}));
}

/// The job that a body describes.
fn read(api: &Api, call: &Call, value: &Value, id: Option<&str>) -> Result<Job, ApiError> {
    let mut fields = body::Fields::of(value);
    fields.only(FIELDS);
    let named = fields.optional_text("id", 64);
    if named.as_deref().is_some_and(|n| n.chars().any(|c| c.is_control() || c == '/')) {
        fields.problem("id", "must hold neither control characters nor slashes");
    }
    if let (Some(id), Some(named)) = (id, &named)
        && id != named
    {
        fields.problem("id", "is not the one of the path");
    }
    let now_ms = api.flow.clock.unix_ms();
    let user_id = fields.id("userId");
    let (timezone, channel) = (fields.optional_text("timezone", 64), fields.optional_text("channel", 64));
    if let Some(name) = channel.as_deref()
        && api.flow.channels.get().get(name).is_none()
    {
        fields.problem("channel", &format!("there is no channel {name}"));
    }
    let when = when(&mut fields, timezone.as_deref());
    let work = work(api, &mut fields);
    let job = Job {
        id: id.map(str::to_string).or(named).unwrap_or_else(|| new_id("job", now_ms)),
        by: call.actor(),
        when: when.clone().unwrap_or(When::Every(EVERY.0)),
        timezone,
        work: work.unwrap_or(Work::Message(String::new())),
        user_id,
        channel,
        catch_up: fields.optional_flag("catchUp").unwrap_or(false),
        enabled: fields.optional_flag("enabled").unwrap_or(true),
        next_ms: None,
        updated_ms: now_ms,
    };
    if when.is_some() && job.enabled && next_run(&job, now_ms).is_none() {
        let key = if matches!(job.when, When::At(_)) { "at" } else { "cron" };
        fields.problem(key, "lies in the past, or never comes");
    }
    fields.end()?;
    Ok(job)
}

/// Its schedule; `None` where it is a problem.
fn when(fields: &mut body::Fields<'_>, timezone: Option<&str>) -> Option<When> {
    let every = fields.optional_number("every", EVERY.0, EVERY.1).map(When::Every);
    let written = [fields.optional_text("at", 64).map(When::At), every, fields.optional_text("cron", 256).map(When::Cron)];
    let mut written = written.into_iter().flatten();
    let (Some(when), None) = (written.next(), written.next()) else {
        fields.problem("", "needs exactly one of at, every and cron");
        return None;
    };
    match Schedule::of(&when, timezone) {
        Ok(_) => Some(when),
        Err(unfit) => {
            fields.problem(unfit.key, &unfit.why);
            None
        }
    }
}

/// Its work; `None` where it is a problem.
fn work(api: &Api, fields: &mut body::Fields<'_>) -> Option<Work> {
    let (agent, prompt) = (fields.optional_text("agent", 64), fields.optional_text("prompt", TEXT_BYTES_MAX));
    match (agent, prompt, fields.optional_text("message", TEXT_BYTES_MAX)) {
        (Some(agent), Some(prompt), None) => {
            if !api.flow.agents.get().has(&agent) {
                fields.problem("agent", &format!("there is no agent {agent}"));
            }
            Some(Work::Turn { agent, prompt })
        }
        (None, None, Some(message)) => Some(Work::Message(message)),
        _ => {
            fields.problem("", "needs either agent and prompt (a turn) or message (a text)");
            None
        }
    }
}
