//! The heartbeat: every `gateway.heartbeat.interval` a look at channels, agents and their providers, memory, the store, what is written and the workers' progress.
//!
//! Invariant: a look never waits for a channel: its state is read from memory, and each channel's own thread watches its connection, so that
//! none delays another. What it finds is logged once per
//! change and shown by `/ready`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::agent::AgentState;
use crate::base::threads::STACK;
use crate::channel::ChannelState;
use crate::flow::{Flow, turns};

/// One look.
pub fn beat(flow: &Arc<Flow>) {
    let mut news = flow.findings.begin();
    for (name, channel) in flow.channels.get().all() {
        let status = channel.status();
        if !matches!(status.state, ChannelState::Degraded | ChannelState::Misconfigured) {
            continue;
        }
        let why = status.last_error.unwrap_or_default();
        let state = if status.state == ChannelState::Degraded { "degraded" } else { "misconfigured" };
        if news.say(format!("channel {name} is {state}")) {
            log::warn!(channel = name; "channel {name} is {state}: {why}");
        }
        flow.hub.event("channel.degraded", json!({"channel": name}));
        if status.kind == "webhook" {
            channel.reconnect(); // one that holds a connection sees to that itself, with pauses that grow
        }
    }
    for agent in flow.agents.get().statuses() {
        if agent.state == AgentState::Failing {
            let why = agent.last_error.unwrap_or_default();
            if !news.say(format!("agent {} is failing", agent.name)) {
                continue;
            }
            log::warn!(agent = agent.name.as_str(), provider = agent.provider.as_str(); "agent {} is failing: {why}", agent.name);
        }
    }
    drop(news);
    probe(flow);
    turns::urgent(flow); // what a lost errand left
    flow.is_overloaded();
    flow.watch_disk();
    flow.store.tidy();
    if flow.store.health(false).is_err() && flow.store.health(true).is_ok() {
        log::info!("the store can write again");
        flow.nudge_turns();
        flow.nudge_deliveries();
    }
    for late in flow.threads.overdue(flow.clock.mono()) {
        log::warn!(thread = late.name.as_str(); "thread {} makes no progress; it is {} s over its time", late.name, late.by.as_secs());
    }
}

/// What was found at the last look, so that it is logged once: a log is written to disk, too.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<BTreeSet<String>>);

/// One look's; those that it does not find any more are forgotten with it.
struct News<'a> {
    last: MutexGuard<'a, BTreeSet<String>>,
    now: BTreeSet<String>,
}

impl Findings {
    fn begin(&self) -> News<'_> {
        News { last: self.0.lock().unwrap_or_else(PoisonError::into_inner), now: BTreeSet::new() }
    }
}

impl News<'_> {
    /// Whether that is new.
    fn say(&mut self, finding: String) -> bool {
        let is_new = !self.last.contains(&finding);
        self.now.insert(finding);
        is_new
    }
}

impl Drop for News<'_> {
    fn drop(&mut self) {
        *self.last = std::mem::take(&mut self.now);
    }
}

/// Looks after providers that are passed over, on a thread of its own: one may hang.
fn probe(flow: &Arc<Flow>) {
    let due = flow.agents.get().to_probe(flow.clock.mono());
    if due.is_empty() {
        return;
    }
    let clock = flow.clock.clone();
    if let Err(e) = flow.threads.spawn_once("probe", STACK, move || due.iter().for_each(|c| c.probe(&clock))) {
        log::warn!("providers that failed could not be looked at: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_again_is_no_news() {
        let findings = Findings::default();
        let look = |found: &[&str]| {
            let mut news = findings.begin();
            found.iter().filter(|f| news.say(f.to_string())).map(|f| f.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(look(&["a", "b"]), ["a", "b"]);
        assert_eq!(look(&["a", "b"]), Vec::<String>::new());
        assert_eq!(look(&["b", "c"]), ["c"]);
        assert_eq!(look(&["a", "b"]), ["a"], "it was gone meanwhile");
    }
}
