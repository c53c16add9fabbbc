//! Jobs and their history.
//!
//! Invariant: a run is recorded once for each time that a job was due, and moves the job on in the same transaction. At most
//! [`JOBS_MAX`] jobs and [`RUNS_MAX`] runs of each are kept. Fails as any command does.

use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::shorten;
use crate::domain::{Job, JobRun};
use crate::store::sqlite::inbox::{listed, page_of};
use crate::store::sqlite::sql::{Ran, Sql, conflict, not_found};
use crate::store::{Listed, Page};

/// Most jobs.
const JOBS_MAX: i64 = if cfg!(test) { 20 } else { 1_000 };
/// Most runs of a job that are kept.
const RUNS_MAX: i64 = 100;
/// Longest detail of a run.
const DETAIL_BYTES: usize = 1_000;

const SELECT: &str =
    "SELECT id, made_by, schedule, timezone, work, user_id, channel, catch_up, enabled, next_ms, updated_ms FROM jobs";

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        by: row.get(1)?,
        when: json(row, 2)?,
        timezone: row.get(3)?,
        work: json(row, 4)?,
        user_id: row.get(5)?,
        channel: row.get(6)?,
        catch_up: row.get(7)?,
        enabled: row.get(8)?,
        next_ms: row.get(9)?,
        updated_ms: row.get(10)?,
    })
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

fn text(value: &impl Serialize) -> Ran<String> {
    serde_json::to_string(value).or_else(|e| conflict(format!("the job can't be written: {e}")))
}

/// Puts a job, in place of one with its id; that one's history stays.
pub(super) fn put(sql: &Sql<'_>, job: &Job) -> Ran<()> {
    if find(sql, &job.id)?.is_none()
        && sql.one("SELECT count(*) FROM jobs", (), |row| row.get::<_, i64>(0))?.unwrap_or(0) >= JOBS_MAX
    {
        return conflict(format!("{JOBS_MAX} jobs are kept already: remove one first"));
    }
    sql.exec(
        "INSERT OR REPLACE INTO jobs (id, made_by, schedule, timezone, work, user_id, channel, catch_up, enabled, next_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            &job.id,
            &job.by,
            text(&job.when)?,
            &job.timezone,
            text(&job.work)?,
            &job.user_id,
            &job.channel,
            job.catch_up,
            job.enabled,
            job.next_ms,
            job.updated_ms,
        ),
    )
    .map(drop)
}

/// Removes a job and its history.
pub(super) fn delete(sql: &Sql<'_>, id: &str) -> Ran<()> {
    sql.exec("DELETE FROM runs WHERE job = ?1", [id])?;
    if sql.exec("DELETE FROM jobs WHERE id = ?1", [id])? == 0 { not_found() } else { Ok(()) }
}

/// Removes the jobs of a user with their histories, but not those that the configuration has: it would make them again.
pub(super) fn erase(sql: &Sql<'_>, user_id: &str) -> Ran<()> {
    let own = "SELECT id FROM jobs WHERE user_id = ?1 AND made_by <> 'config'";
    sql.exec(&format!("DELETE FROM runs WHERE job IN ({own})"), [user_id])?;
    sql.exec("DELETE FROM jobs WHERE user_id = ?1 AND made_by <> 'config'", [user_id]).map(drop)
}

fn find(sql: &Sql<'_>, id: &str) -> Ran<Option<Option<i64>>> {
    sql.one("SELECT next_ms FROM jobs WHERE id = ?1", [id], |row| row.get(0))
}

/// One job.
pub(super) fn job(sql: &Sql<'_>, id: &str) -> Ran<Job> {
    match sql.one(&format!("{SELECT} WHERE id = ?1"), [id], read)? {
        Some(job) => Ok(job),
        None => not_found(),
    }
}

/// All jobs, by id.
pub(super) fn jobs(sql: &Sql<'_>) -> Ran<Vec<Job>> {
    sql.all(&format!("{SELECT} ORDER BY id LIMIT ?1"), [JOBS_MAX], read)
}

/// Records a run and moves its job on, where the job still waits for that time.
pub(super) fn record(sql: &Sql<'_>, run: &JobRun, next_ms: Option<i64>) -> Ran<()> {
    match find(sql, &run.job_id)? {
        None => return not_found(),
        Some(Some(due_ms)) if due_ms == run.due_ms => {}
        Some(_) => return conflict("the job does not wait for that time any more"),
    }
    sql.exec("UPDATE jobs SET next_ms = ?2 WHERE id = ?1", (&run.job_id, next_ms))?;
    add(sql, run)
}

/// Records a run beside the schedule.
pub(super) fn note(sql: &Sql<'_>, run: &JobRun) -> Ran<()> {
    if find(sql, &run.job_id)?.is_none() {
        return not_found();
    }
    add(sql, run)
}

fn add(sql: &Sql<'_>, run: &JobRun) -> Ran<()> {
    sql.exec(
        "INSERT INTO runs (job, due_ms, at_ms, outcome, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        (&run.job_id, run.due_ms, run.at_ms, &run.outcome, shorten(&run.detail, DETAIL_BYTES)),
    )?;
    sql.exec(
        "DELETE FROM runs WHERE job = ?1 AND n <= (SELECT n FROM runs WHERE job = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)",
        (&run.job_id, RUNS_MAX),
    )
    .map(drop)
}

/// The runs of a job, newest first.
pub(super) fn runs(sql: &Sql<'_>, id: &str, page: &Page) -> Ran<Listed<JobRun>> {
    let (before, limit) = page_of(page)?;
    if find(sql, id)?.is_none() {
        return not_found();
    }
    let rows = sql.all(
        "SELECT n, job, due_ms, at_ms, outcome, detail FROM runs WHERE job = ?1 AND n < ?2 ORDER BY n DESC LIMIT ?3",
        (id, before, limit as i64 + 1),
        |row| {
            let (due_ms, at_ms) = (row.get(2)?, row.get(3)?);
            Ok((row.get::<_, i64>(0)?, JobRun { job_id: row.get(1)?, due_ms, at_ms, outcome: row.get(4)?, detail: row.get(5)? }))
        },
    )?;
    Ok(listed(rows, limit, |(n, _)| n.to_string(), |(_, run)| run))
}
