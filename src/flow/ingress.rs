//! What comes in: an arrival becomes a durable inbox row, or its sender is told why not.
//!
//! Invariant: nothing is acknowledged before the store's commit. The caller has checked the sender's credential and rate; here
//! the way is decided (user, agent) and the row written. Fails with [`Refused`], and nothing was taken then.

use std::sync::Arc;

use serde_json::Value;

use crate::agent::commands::command;
use crate::base::ids::new_id;
use crate::config::Queue;
use crate::domain::{Accepted, Attachment, NewInbound, OPENAI_CHANNEL, Standing, WEBSOCKET_CHANNEL};
use crate::flow::Flow;
use crate::store::StoreError;
use crate::telemetry::metrics::Intake;

/// A message at the door of the flow.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The channel.
    pub channel: String,
    /// The sender in the channel's own terms.
    pub peer: String,
    /// The canonical user, where it is known already (a principal); else `users` decides.
    pub user_id: Option<String>,
    /// Whether that is the sender's id on the channel and nothing more; see [`NewInbound`].
    pub is_bare: bool,
    /// The channel's conversation.
    pub conversation: Option<String>,
    /// The sender's id for the message.
    pub external_id: Option<String>,
    /// What was written.
    pub text: String,
    /// What the sender attached.
    pub metadata: Option<Value>,
    /// How far the sender is known.
    pub standing: Standing,
    /// The service's cursor behind it, to be committed with it.
    pub cursor: Option<String>,
    /// Files that came with it.
    pub attachments: Vec<Attachment>,
    /// The agent that the sender asked for, where the channel lets them.
    pub agent: Option<String>,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The gateway drains, is over its memory, or full: 503.
    Unavailable(&'static str),
    /// No agent of that name, or none is bound.
    NoAgent(String),
    /// The store's answer.
    Store(StoreError),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Unavailable(why) => f.write_str(why),
            Refused::NoAgent(why) => f.write_str(why),
            Refused::Store(e) => e.fmt(f),
        }
    }
}

impl Flow {
    /// Takes a message. `parked` is called with its id before anything is written, so that somebody can wait for it; `done`
    /// once, after the commit or with the refusal, on whatever thread that is: it must not block.
    pub fn accept(
        self: &Arc<Self>,
        arrival: Arrival,
        parked: impl FnOnce(&str),
        done: impl FnOnce(Result<Accepted, Refused>) + Send + 'static,
    ) {
        if let Some(why) = self.refusal() {
            return done(Err(Refused::Unavailable(why)));
        }
        let settings = self.settings.get();
        let user_id = arrival.user_id.unwrap_or_else(|| settings.routes.user(&arrival.channel, &arrival.peer));
        let agent = match arrival.agent {
            Some(agent) => agent,
            None => match settings.routes.agent(&arrival.channel, &user_id) {
                Some(agent) => agent.to_string(),
                None => return done(Err(Refused::NoAgent(format!("no agent is bound to channel {}", arrival.channel)))),
            },
        };
        if !self.agents.get().has(&agent) {
            return done(Err(Refused::NoAgent(format!("there is no agent {agent}"))));
        }
        let now_ms = self.clock.unix_ms();
        let id = new_id("msg", now_ms);
        parked(&id);
        let channel = arrival.channel.clone();
        // What stops a turn, or decides what it waits for, can't wait behind it.
        let asked = if channel == OPENAI_CHANNEL { None } else { command(&arrival.text) };
        let urgent = asked.as_ref().is_some_and(|c| c.is_urgent());
        let queue = settings.channels.get(&channel).map_or(Queue::Followup, |p| p.common.queue);
        let supersedes = queue == Queue::Interrupt && asked.is_none();
        let message = NewInbound {
            id,
            channel: arrival.channel,
            user_id,
            is_bare: arrival.is_bare,
            peer: arrival.peer,
            conversation: arrival.conversation,
            external_id: arrival.external_id,
            agent,
            text: arrival.text,
            metadata: arrival.metadata,
            received_ms: now_ms,
            standing: arrival.standing,
            urgent,
            collect: queue == Queue::Collect && asked.is_none(),
            cursor: arrival.cursor,
            attachments: arrival.attachments,
        };
        let flow = self.clone();
        self.store.accept(
            message,
            Box::new(move |result| {
                // Nothing of its turn is committed before this ends: a chat's client learns the message's id before it is answered.
                // Its frame goes to a queue in memory; an answer over HTTP may take longer, and is told by a thread of its own.
                let mut done = Some(done);
                if channel == WEBSOCKET_CHANNEL
                    && let Some(done) = done.take()
                {
                    done(result.clone().map_err(Refused::Store));
                }
                match &result {
                    Ok(accepted) if !accepted.duplicate => {
                        if supersedes {
                            flow.supersede(accepted);
                        }
                        if urgent {
                            flow.urge();
                        } else {
                            flow.nudge_turns();
                        }
                        if flow.store.space().is_high() {
                            flow.nudge_timer(); // room is to be made
                        }
                        flow.metrics.message(&channel, Intake::Accepted);
                        if let Some(channel) = flow.channels.get().get(&channel) {
                            channel.note_received();
                        }
                    }
                    Ok(_) => flow.metrics.message(&channel, Intake::Duplicate),
                    Err(_) => flow.metrics.message(&channel, Intake::Rejected),
                }
                if let Some(done) = done {
                    flow.answer(Box::new(move || done(result.map_err(Refused::Store))));
                }
            }),
        );
    }
}
