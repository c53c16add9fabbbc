//! `jobs`: scheduled turns and messages.
//!
//! Invariant: a resolved job has one schedule that comes, one work, a user, and an id of its own; its agent and its channel exist. A
//! system without time zones is no problem of the document: such a job tells so when it should run.

use std::collections::BTreeSet;

use super::Resolver;
use super::agents::missing;
use crate::config::model::Job;
use crate::config::raw::{self, Raw};
use crate::domain::{Schedule, WEBSOCKET_CHANNEL, When, Work};

impl Resolver<'_> {
    pub(super) fn jobs(&mut self, raw: &Raw) -> Vec<Job> {
        let mut ids = BTreeSet::new();
        let mut jobs = Vec::new();
        for (i, job) in raw.jobs.iter().enumerate() {
            let path = format!("$.jobs[{i}]");
            let id = job.id.clone().unwrap_or_else(|| format!("job-{}", i + 1));
            if job.id.as_ref().is_some_and(|id| id.chars().any(|c| c.is_control() || c == '/')) {
                self.out.add(format!("{path}.id"), "must hold neither control characters nor slashes");
            }
            if !ids.insert(id.clone()) {
                self.out.add(format!("{path}.id"), format!("there is a job {id:?} before it already; choose another id"));
            }
            let (when, work) = (self.when(job, &path), self.work(job, raw, &path));
            if let Some(channel) = &job.channel
                && channel != WEBSOCKET_CHANNEL
                && !raw.channels.has(channel)
            {
                let known = raw.channels.names().chain([WEBSOCKET_CHANNEL]);
                self.out.add(format!("{path}.channel"), missing("channel", channel, known));
            }
            match &job.user_id {
                None => self.out.add(format!("{path}.userId"), "is missing: who gets it"),
                Some(user) if user.chars().any(char::is_control) => {
                    self.out.add(format!("{path}.userId"), "must not hold control characters");
                }
                Some(_) => {}
            }
            if let (Some(when), Some(work), Some(user_id)) = (when, work, job.user_id.clone()) {
                let (timezone, channel) = (job.timezone.clone(), job.channel.clone());
                jobs.push(Job { id, when, timezone, work, user_id, channel, catch_up: job.catch_up });
            }
        }
        jobs
    }

    fn when(&mut self, job: &raw::Job, path: &str) -> Option<When> {
        let written = [job.at.clone().map(When::At), job.every.map(When::Every), job.cron.clone().map(When::Cron)];
        let mut written = written.into_iter().flatten();
        let (Some(when), None) = (written.next(), written.next()) else {
            self.out.add(path, "needs exactly one of `at`, `every` and `cron`");
            return None;
        };
        if let Err(unfit) = Schedule::of(&when, job.timezone.as_deref())
            && !unfit.is_systems
        {
            self.out.add(format!("{path}.{}", unfit.key), unfit.why);
            return None;
        }
        Some(when)
    }

    fn work(&mut self, job: &raw::Job, raw: &Raw, path: &str) -> Option<Work> {
        if let Some(agent) = &job.agent
            && !raw.agents.has(agent)
        {
            self.out.add(format!("{path}.agent"), missing("agent", agent, raw.agents.names()));
        }
        match (&job.agent, &job.prompt, &job.message) {
            (Some(agent), Some(prompt), None) => Some(Work::Turn { agent: agent.clone(), prompt: prompt.clone() }),
            (None, None, Some(message)) => Some(Work::Message(message.clone())),
            _ => {
                self.out.add(path, "needs either `agent` and `prompt` (a turn) or `message` (a text), not parts of both");
                None
            }
        }
    }
}
