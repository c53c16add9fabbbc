//! One turn: from a claimed message to its reply, by as many rounds of tool calls as it takes and may take.
//!
//! Invariant: each step is committed before the next one has an effect, so a turn that was cut off goes on from its last step: an
//! answer is not asked for again, a call that ran is not run again, and one that had begun and left no result is run again only
//! where its tool says that this is harmless. No thread waits for a person: a turn that needs an approval ends as
//! [`Outcome::Parked`]. It ends within `turnTimeout` and `maxRounds`. It fails with the kind that tells the caller whether to
//! try later; `Stopped` where it was cut short.

pub mod ask;
pub mod budget;
mod calls;
pub mod files;
pub mod journal;
mod summary;
#[cfg(test)]
pub(crate) mod tests;

use crate::agent::provider::{ChatMessage, ChatRole, Completion, Failure, Sampling};
use crate::agent::tokens::account;
use crate::agent::tools::{Courier, Toolbox, Who};
use crate::agent::{Agents, Route, prompt};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::domain::{Approval, Asked as Wished, Claim, Entry, Note, Said, Spent, Standing, Step, StepKind, Summary};
use crate::store::{Store, StoreError};

use budget::Reached;
use journal::{Asked, Round};

/// Notes that enter a prompt.
const NOTES: usize = 5;
/// Turns of a session behind its summary that are read beyond `maxHistory` at most, to be summed up.
const BEHIND_MAX: usize = 120;
/// What the model is told with the results of its last round but one.
const LAST_ROUND: &str = "\n\n[This turn allows no further tool calls. Answer now, with what you have.]";

/// A turn, and all that it works with.
pub struct Turn<'a> {
    /// The message.
    pub claim: &'a Claim,
    /// Who answers.
    pub agents: &'a Agents,
    /// What they may call.
    pub tools: &'a Toolbox,
    /// What lasts.
    pub store: &'a dyn Store,
    /// The way out for `message.send`.
    pub courier: &'a dyn Courier,
    /// Time.
    pub clock: &'a Clock,
    /// Cuts the turn short.
    pub cancel: &'a Cancel,
}

/// What a turn came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its reply.
    Replied(TurnReply),
    /// It waits for these decisions.
    Parked {
        /// The questions.
        approvals: Vec<Approval>,
        /// For the journal.
        step: Step,
    },
}

/// A turn's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnReply {
    /// The reply.
    pub text: String,
    /// What the turn used, by provider.
    pub spent: Vec<Spent>,
    /// Who answered: a provider's label, or `gateway`.
    pub provider: String,
    /// Why the answer ended, in the provider's word.
    pub finish: String,
    /// The limit that ended the turn.
    pub limit: Option<Reached>,
}

/// Why a turn came to nothing, and what it used all the same.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// What it used, by provider.
    pub spent: Vec<Spent>,
    /// Whether a part of the answer that failed was shown: the next try says it anew.
    pub is_shown: bool,
}

fn entry(role: Said, text: &str) -> Entry {
    Entry { role, text: text.to_string(), at_ms: 0, message_id: None, turn: 0 }
}

/// The store's refusal as a turn's.
fn store_error(e: StoreError) -> Error {
    match e {
        StoreError::Stopped => Error::new(ErrorKind::Stopped, "the store is closed"),
        StoreError::NotFound | StoreError::Conflict(_) => Error::new(ErrorKind::Bug, format!("the turn's journal: {e}")),
        _ => Error::new(ErrorKind::Transient, e.to_string()),
    }
}

impl Turn<'_> {
    /// Runs it, or goes on with it. `on_delta` is given what the model says as it comes, also what it says before it calls a tool.
    ///
    /// # Errors
    /// Where no provider gave an answer: passing kinds may be tried again, others not.
    pub fn run(&self, on_delta: &mut dyn FnMut(&str)) -> Result<Outcome, Failed> {
        let mut rounds = journal::rounds(&self.claim.steps);
        let mut spent = journal::spent(&rounds);
        let route =
            self.agents.resolve(&self.claim.agent).map_err(|error| Failed { error, spent: spent.clone(), is_shown: false })?;
        let outcome = self.go_on(&route, &mut rounds, &mut spent, on_delta);
        match &outcome {
            Err(failure) if failure.error.kind == ErrorKind::Stopped => {} // says nothing about the agent
            Err(failure) => route.note(Some(&failure.error), self.clock.unix_ms()),
            Ok(Outcome::Replied(_)) => route.note(None, self.clock.unix_ms()),
            Ok(Outcome::Parked { .. }) => {}
        }
        outcome.map_err(|failure| Failed { error: failure.error, spent, is_shown: failure.after_first_byte })
    }

    /// What a caller of the OpenAI-compatible API asked for, where the message came by it.
    pub fn asked(&self) -> Option<Wished> {
        Wished::of(&self.claim.channel, self.claim.metadata.as_ref())
    }

    /// On whose behalf.
    fn who(&self) -> Who {
        Who {
            agent: self.claim.agent.clone(),
            channel: self.claim.channel.clone(),
            user_id: self.claim.user_id.clone(),
            standing: self.claim.standing,
        }
    }

    /// The model that is asked for.
    fn model<'m>(&'m self, route: &'m Route) -> &'m str {
        self.claim.model.as_deref().unwrap_or(&route.config.model)
    }

    fn go_on(
        &self,
        route: &Route,
        rounds: &mut Vec<Round>,
        spent: &mut Vec<Spent>,
        on_delta: &mut dyn FnMut(&str),
    ) -> Result<Outcome, Failure> {
        let deadline = self.clock.mono() + route.config.turn_timeout;
        if let Some(parked) = self.settle_last(route, rounds, deadline)? {
            return Ok(parked);
        }
        let mut wanted = self.question(route, rounds, spent, deadline)?;
        loop {
            if let Some(limit) = budget::reached(&route.config, self, spent)? {
                let text = limit.sentence(&self.claim.agent);
                return Ok(Outcome::Replied(self.reply(text, "gateway", "length", spent, Some(limit))));
            }
            let asked = rounds.len() + 1;
            if asked > route.config.max_rounds {
                let text = format!("the model asked for tools {} times and gave no answer", rounds.len());
                return Err(Error::new(ErrorKind::Permanent, text).hint("maxRounds of the agent is the bound").into());
            }
            if asked == route.config.max_rounds
                && let Some(last) = wanted.messages.last_mut().filter(|m| m.role == ChatRole::Tool)
            {
                last.text.push_str(LAST_ROUND);
            }
            let answered = ask::ask(route, &wanted, self.clock, on_delta)?;
            let tokens = account(&wanted.messages, &answered.answer);
            journal::add(spent, &answered.by, tokens);
            let mut answer = answered.answer;
            let may_call = !wanted.tools.is_empty() && asked < route.config.max_rounds;
            if answer.calls.is_empty() || (!may_call && !answer.text.trim().is_empty()) {
                return Ok(Outcome::Replied(self.reply(answer.text, &answered.by, &answer.finish, spent, None)));
            }
            journal::rename(&mut answer.calls, asked);
            let asked = Asked {
                text: answer.text,
                calls: answer.calls,
                provider: answered.by,
                tokens_in: tokens.0,
                tokens_out: tokens.1,
            };
            self.journal_asked(&asked)?;
            rounds.push(Round::new(asked));
            if let Some(parked) = self.settle_last(route, rounds, deadline)? {
                return Ok(parked);
            }
            wanted.messages.extend(rounds.last().into_iter().flat_map(Round::messages));
        }
    }

    fn reply(&self, text: String, by: &str, finish: &str, spent: &[Spent], limit: Option<Reached>) -> TurnReply {
        TurnReply { text, spent: spent.to_vec(), provider: by.to_string(), finish: finish.to_string(), limit }
    }

    fn journal_asked(&self, asked: &Asked) -> Result<()> {
        let names: Vec<_> = asked.calls.iter().map(|c| c.name.as_str()).collect();
        let data = serde_json::to_string(asked).map_err(|e| Error::new(ErrorKind::Bug, e.to_string()))?;
        crash::point("turn.answered");
        self.record(StepKind::Asked, &names.join(", "), data)?;
        crash::point("turn.asked");
        Ok(())
    }

    /// Commits a step.
    fn record(&self, kind: StepKind, detail: &str, data: String) -> Result<()> {
        let step = Step { kind, detail: crate::base::error::shorten(detail, 150), data, at_ms: self.clock.unix_ms() };
        self.store.record_step(&self.claim.message_id, step).map_err(store_error)
    }

    /// The first question of this run: prompt, history, and the rounds that were before.
    fn question(
        &self,
        route: &Route,
        rounds: &[Round],
        spent: &mut Vec<Spent>,
        deadline: std::time::Duration,
    ) -> Result<Completion> {
        let config = &route.config;
        let tools = if config.max_rounds < 2 { Vec::new() } else { self.tools.offered(&self.who(), config.tools.as_deref()) };
        let wished = self.asked().unwrap_or_default();
        let mut messages = self.conversation(route, !tools.is_empty(), &wished, spent)?;
        messages.extend(rounds.iter().flat_map(Round::messages));
        Ok(Completion {
            tools,
            max_output_tokens: [config.max_output_tokens, wished.max_tokens].into_iter().flatten().min(),
            sampling: Sampling {
                temperature: wished.temperature,
                top_p: wished.top_p,
                stop: wished.stop,
                response_format: wished.response_format,
            },
            cancel: self.cancel.clone(),
            ..Completion::of(self.model(route), messages, deadline)
        })
    }

    fn conversation(&self, route: &Route, has_tools: bool, wished: &Wished, spent: &mut Vec<Spent>) -> Result<Vec<ChatMessage>> {
        let (claim, config) = (self.claim, &route.config);
        let system = match &wished.system {
            Some(own) => format!("{}\n{own}", config.system_prompt.trim_end()),
            None => config.system_prompt.clone(),
        };
        let (summary, history) = match &wished.history {
            // What the request brings is its history, whole: nothing is read, nothing is kept.
            Some(said) => (None, said.iter().map(|s| entry(s.role, &s.content)).collect()),
            None => self.transcript(route, spent)?,
        };
        let notes = if wished.forget { Vec::new() } else { self.notes() };
        Ok(prompt::build(&prompt::Parts {
            system: &system,
            claim,
            history: &history,
            max_history: if wished.history.is_some() { usize::MAX } else { config.max_history },
            summary: summary.as_ref().map(|s| s.text.as_str()),
            notes: &notes,
            files: &self.files(config.images),
            has_tools,
            now_ms: self.clock.unix_ms(),
        }))
    }

    /// What was said in the session and still fits, and the summary of what doesn't.
    fn transcript(&self, route: &Route, spent: &mut Vec<Spent>) -> Result<(Option<Summary>, Vec<Entry>)> {
        let (claim, config) = (self.claim, &route.config);
        let mut summary = self.store.summary(&claim.session_id).map_err(store_error)?;
        let read = |limit| self.store.history(&claim.session_id, limit).map_err(store_error);
        let mut history = read(config.max_history)?;
        let covered = summary.as_ref().map_or(0, |s| s.until);
        // Turns that neither the history nor the summary holds.
        let behind = history.first().map_or(0, |first| first.turn.saturating_sub(covered + 1)) as usize;
        if behind * 2 >= 10 && config.max_history > 0 {
            history = read(config.max_history + (behind * 2).min(BEHIND_MAX))?;
        }
        history.retain(|e| e.turn > covered);
        let (dropped, _) = prompt::split(&history, config.max_history);
        if config.max_history > 0 && summary::is_due(&dropped) {
            if let Some(new) = summary::renew(self, route, summary.as_ref(), &dropped, spent) {
                history.retain(|e| e.turn > new.until);
                summary = Some(new);
            }
            if self.cancel.is_set() {
                return Err(Error::new(ErrorKind::Stopped, "the turn was cut short"));
            }
        }
        Ok((summary, history))
    }

    /// What is known about the user that fits the message; of somebody whom nobody vouches for, nothing. A hint: without it
    /// the turn goes on.
    fn notes(&self) -> Vec<Note> {
        let claim = self.claim;
        if claim.standing < Standing::User {
            return Vec::new();
        }
        let more = claim.more.iter().map(|m| m.text.as_str());
        let said = std::iter::once(claim.text.as_str()).chain(more).collect::<Vec<_>>().join("\n");
        self.store.search_notes(&claim.user_id, &claim.agent, &said, NOTES).unwrap_or_else(|e| {
            log::warn!(message_id = claim.message_id.as_str(); "notes could not be searched: {e}");
            Vec::new()
        })
    }
}
