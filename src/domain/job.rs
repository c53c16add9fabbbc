//! Scheduled turns and messages.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// When a job runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Once, at that time: RFC 3339.
    At(String),
    /// Again and again, with this pause in ms.
    Every(u64),
    /// By a cron line of five fields, in `Job::timezone`.
    Cron(String),
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// A turn of that agent.
    Turn {
        /// The agent.
        agent: String,
        /// What it is asked.
        prompt: String,
    },
    /// This text as it is.
    Message(String),
}

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id: the user's own, or `job_…`.
    pub id: String,
    /// Where it comes from: `config`, or who made it by API, command line or tool.
    pub by: String,
    /// When.
    #[serde(flatten)]
    pub when: When,
    /// The time zone of a cron line; UTC without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What.
    #[serde(flatten, serialize_with = "flat")]
    pub work: Work,
    /// Who gets it.
    pub user_id: String,
    /// By which channel; without it where the user was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Whether runs that were missed are made up for, once.
    pub catch_up: bool,
    /// Whether it runs at all.
    pub enabled: bool,
    /// When it runs next, in ms since 1970; absent where it doesn't any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<i64>,
    /// When it was made or last changed.
    pub updated_ms: i64,
}

/// As it is written in a configuration: `agent` and `prompt`, or `message`.
fn flat<S: Serializer>(work: &Work, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    match work {
        Work::Turn { agent, prompt } => {
            map.serialize_entry("agent", agent)?;
            map.serialize_entry("prompt", prompt)?;
        }
        Work::Message(text) => map.serialize_entry("message", text)?,
    }
    map.end()
}

/// One run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRun {
    /// The job.
    pub job_id: String,
    /// When it was due.
    pub due_ms: i64,
    /// When it began.
    pub at_ms: i64,
    /// `ran`, `skipped` (missed, not made up for), `failed`.
    pub outcome: String,
    /// The message or delivery that it made, or why it failed.
    pub detail: String,
}
