//! One run of a job: a message in the inbox, or one in the outbox.
//!
//! Invariant: a turn runs with a user's rights at most, whoever made the job; a prompt is never a command. What is reported as run is
//! on disk. Fails as `Failed` where a repeat would fail the same way, as `Later` where it may not.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::agent::commands::command;
use crate::domain::{Accepted, Delivery, Job, Standing, WEBSOCKET_CHANNEL, Work};
use crate::flow::Flow;
use crate::flow::ingress::{Arrival, Refused};
use crate::flow::outbound::Announcement;
use crate::store::{Result, Seen, StoreError};

/// The longest that a commit is waited for.
const COMMIT_WAIT: Duration = Duration::from_secs(20);
/// Whose keys these are, beside those of API callers.
const CALLER: &str = "job";

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The id of the message or delivery that it made.
    Ran(String),
    /// Not to be made.
    Skipped(&'static str),
    /// Why, for good.
    Failed(String),
    /// Why, for now: nothing is recorded.
    Later(String),
}

/// A run on its way to the disk.
pub(super) enum Started {
    Ended(Ended),
    Turn(Receiver<std::result::Result<Accepted, Refused>>),
    Message(Receiver<Result<Vec<Delivery>>>),
}

impl Started {
    /// Waits for the commit.
    pub(super) fn wait(self) -> Ended {
        let slow = || Ended::Later("the store is slow".into());
        match self {
            Started::Ended(ended) => ended,
            Started::Turn(outcome) => match outcome.recv_timeout(COMMIT_WAIT) {
                Ok(Ok(accepted)) => Ended::Ran(accepted.id),
                Ok(Err(Refused::NoAgent(why))) => Ended::Failed(why),
                Ok(Err(Refused::Unavailable(why))) => Ended::Later(why.into()),
                Ok(Err(Refused::Store(e))) => refused(e),
                Err(_) => slow(),
            },
            Started::Message(outcome) => match outcome.recv_timeout(COMMIT_WAIT) {
                Ok(Ok(deliveries)) => Ended::Ran(deliveries.into_iter().next().map(|d| d.id).unwrap_or_default()),
                Ok(Err(e)) => refused(e),
                Err(_) => slow(),
            },
        }
    }
}

fn refused(e: StoreError) -> Ended {
    match e {
        StoreError::NotFound => Ended::Failed("the user was never seen there, or anywhere".into()),
        StoreError::Conflict(why) => Ended::Failed(why),
        other => Ended::Later(other.to_string()),
    }
}

impl Flow {
    /// Starts a run under its key.
    pub(super) fn start_run(self: &Arc<Self>, job: &Job, key: String) -> Started {
        match &job.work {
            Work::Turn { agent, prompt } => self.start_turn(job, agent, prompt, key),
            Work::Message(text) => {
                let (told, outcome) = crossbeam_channel::bounded(1);
                let what = Announcement {
                    user_id: job.user_id.clone(),
                    text: text.clone(),
                    channel: job.channel.clone(),
                    key: Some((CALLER.into(), key)),
                };
                self.announce(what, move |result| {
                    let _ = told.send(result); // who waits may have given up
                });
                Started::Message(outcome)
            }
        }
    }

    fn start_turn(self: &Arc<Self>, job: &Job, agent: &str, prompt: &str, key: String) -> Started {
        if command(prompt).is_some() {
            return Started::Ended(Ended::Failed("the prompt is a command; those are for people".into()));
        }
        let place = match self.place_of_job(job) {
            Ok(place) => place,
            Err(e) => return Started::Ended(refused(e)),
        };
        let arrival = Arrival {
            channel: place.channel,
            peer: place.peer,
            user_id: Some(job.user_id.clone()),
            conversation: place.conversation,
            external_id: Some(key),
            text: prompt.to_string(),
            standing: Standing::User,
            agent: Some(agent.to_string()),
            ..Arrival::default()
        };
        let (told, outcome) = crossbeam_channel::bounded(1);
        self.accept(
            arrival,
            |_| {},
            move |result| {
                let _ = told.send(result); // who waits may have given up
            },
        );
        Started::Turn(outcome)
    }

    /// Where a job's turn takes place: a user whom nobody has seen yet finds the reply in the chat.
    fn place_of_job(&self, job: &Job) -> Result<Seen> {
        match self.place_of(&job.user_id, job.channel.as_deref()) {
            Err(StoreError::NotFound) if job.channel.as_deref().is_none_or(|c| c == WEBSOCKET_CHANNEL) => {
                let user = job.user_id.clone();
                Ok(Seen { channel: WEBSOCKET_CHANNEL.into(), peer: user, conversation: None, at_ms: 0 })
            }
            place => place,
        }
    }

    /// Remembers the message of a job's turn.
    pub(super) fn note_turn(&self, job: &Job, outcome: &str, detail: &str) {
        if outcome == "ran" && matches!(job.work, Work::Turn { .. }) {
            self.jobs.lock().turns.insert(job.id.clone(), detail.to_string());
        }
    }
}
