//! The heartbeat: every `gateway.heartbeat.interval` a look at channels, agents and their providers, memory, the store, what is written and the workers' progress.
//!
//! Invariant: a look never waits for a channel: its state is read from memory, and each channel's own thread watches its connection, so that
//! none delays another. What it finds is logged once per
//! change and shown by `/ready`.

use std::sync::Arc;

use serde_json::json;

use crate::agent::AgentState;
use crate::base::threads::STACK;
use crate::channel::ChannelState;
use crate::flow::{Flow, turns};

/// One look.
pub fn beat(flow: &Arc<Flow>) {
    for (name, channel) in flow.channels.get().all() {
        let status = channel.status();
        if !matches!(status.state, ChannelState::Degraded | ChannelState::Misconfigured) {
            continue;
        }
        let why = status.last_error.unwrap_or_default();
        log::warn!(channel = name; "channel {name} is {}: {why}", if status.state == ChannelState::Degraded { "degraded" } else { "misconfigured" });
        flow.hub.event("channel.degraded", json!({"channel": name}));
        if status.kind == "webhook" {
            channel.reconnect(); // one that holds a connection sees to that itself, with pauses that grow
        }
    }
    for agent in flow.agents.get().statuses() {
        if agent.state == AgentState::Failing {
            let why = agent.last_error.unwrap_or_default();
            log::warn!(agent = agent.name.as_str(), provider = agent.provider.as_str(); "agent {} is failing: {why}", agent.name);
        }
    }
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
