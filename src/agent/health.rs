//! How an agent's turns go, counted.
//!
//! Invariant: a few counters and one text, whatever happens. Cannot fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::base::error::Error;
use crate::config;

/// How an agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Its last turn was answered, or it had none yet.
    #[default]
    Ok,
    /// Its last turn failed.
    Failing,
}

/// An agent as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub enabled: bool,
    /// Who answers for it: the name in `providers`, `detected ADDRESS`, or `builtin`.
    pub provider: String,
    /// The model that is asked for.
    pub model: String,
    /// How it is.
    pub state: AgentState,
    /// Why its last turn failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Since when it is so, in ms since 1970; absent until its first turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Turns that were answered.
    pub turns: u64,
    /// Tries that failed.
    pub failures: u64,
}

/// The record of one agent.
#[derive(Debug, Default)]
pub struct Health {
    turns: AtomicU64,
    failures: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    error: Option<String>,
    since_ms: Option<i64>,
}

impl Health {
    /// Records a turn's end.
    pub fn record(&self, error: Option<&Error>, now_ms: i64) {
        let counter = if error.is_some() { &self.failures } else { &self.turns };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.since_ms.is_none() || last.error.is_some() != error.is_some() {
            last.since_ms = Some(now_ms);
        }
        last.error = error.map(ToString::to_string);
    }

    /// The record as operators see it.
    pub fn status(&self, name: &str, config: &config::Agent, provider: String) -> AgentStatus {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        AgentStatus {
            name: name.to_string(),
            enabled: config.enabled,
            provider,
            model: config.model.clone(),
            state: if last.error.is_some() { AgentState::Failing } else { AgentState::Ok },
            last_error: last.error.clone(),
            since_ms: last.since_ms,
            turns: self.turns.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
