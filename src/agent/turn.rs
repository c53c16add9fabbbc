//! One turn: from a claimed message to its reply.
//!
//! Invariant: writes nothing, so it can be run again; ends within the agent's `turnTimeout`. The next provider is asked only
//! while nothing of an answer has been shown. It fails with the kind that tells the caller whether to try later; `Stopped`
//! where a drain cut it short.

use crate::agent::commands::{Command, Facts, command};
use crate::agent::provider::{Answer, Completion, Failure};
use crate::agent::{Agents, Candidate, Route, prompt};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, shorten};
use crate::domain::{Claim, Entry};
use crate::store::Depths;

/// Most text of a failure, however many providers were asked.
const FAILURE_TEXT_MAX: usize = 600;

/// What a turn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnReply {
    /// The reply.
    pub text: String,
    /// Tokens that the provider counted, in and out.
    pub tokens: (u64, u64),
    /// Whether the session ends with it.
    pub ends_session: bool,
    /// Who answered: a provider's label, `gateway` for a command, `journal` for an answer of a former, cut-off try.
    pub provider: String,
}

impl TurnReply {
    fn own(text: String, ends_session: bool, by: &str) -> Self {
        TurnReply { text, tokens: (0, 0), ends_session, provider: by.to_string() }
    }
}

/// Runs the turn of `claim`. `history` is the session's transcript, oldest first; `depths` is asked for `/status` alone.
///
/// # Errors
/// Where no provider gave an answer: passing kinds may be tried again, others not.
pub fn run(
    claim: &Claim,
    history: &[Entry],
    agents: &Agents,
    clock: &Clock,
    depths: &dyn Fn() -> Depths,
    on_delta: &mut dyn FnMut(&str),
) -> Result<TurnReply, Failure> {
    let begun = clock.mono();
    let route = agents.resolve(&claim.agent)?;
    if let Some(command) = command(&claim.text) {
        let facts = facts(claim, &route, clock, if command == Command::Status { depths() } else { Depths::default() });
        return Ok(TurnReply::own(command.answer(&facts), command.ends_session(), "gateway"));
    }
    let ask = Completion {
        max_output_tokens: route.config.max_output_tokens,
        ..Completion::of(
            &route.config.model,
            prompt::build(&route.config.system_prompt, route.config.max_history, claim, history, clock.unix_ms()),
            begun + route.config.turn_timeout,
        )
    };
    let result = answer(&route, &ask, clock, on_delta);
    match &result {
        Err(failure) if failure.error.kind == ErrorKind::Stopped => {} // says nothing about the agent
        Err(failure) => route.health.record(Some(&failure.error), clock.unix_ms()),
        Ok(_) => route.health.record(None, clock.unix_ms()),
    }
    let (label, answer) = result?;
    let tokens = (answer.tokens_in, answer.tokens_out);
    Ok(TurnReply { text: answer.text, tokens, ends_session: false, provider: label })
}

fn facts<'a>(claim: &'a Claim, route: &'a Route, clock: &Clock, depths: Depths) -> Facts<'a> {
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        agent: &claim.agent,
        provider: route.candidates.first().map_or("", |c| &c.label),
        model: &route.config.model,
        user_id: &claim.user_id,
        session_id: &claim.session_id,
        channel: &claim.channel,
        uptime: clock.mono(),
        depths,
    }
}

/// Asks one provider after the other.
fn answer(route: &Route, ask: &Completion, clock: &Clock, on_delta: &mut dyn FnMut(&str)) -> Result<(String, Answer), Failure> {
    let mut failed: Vec<(&str, Error)> = Vec::new();
    for (i, candidate) in route.candidates.iter().enumerate() {
        if i > 0 && clock.mono() >= ask.deadline {
            break;
        }
        let ask = if i == 0 { ask.clone() } else { for_fallback(candidate, ask) };
        match fitted(candidate, ask, on_delta) {
            Ok(answer) => return Ok((candidate.label.clone(), answer)),
            Err(failure) if failure.after_first_byte || failure.error.kind == ErrorKind::Stopped => return Err(failure),
            Err(failure) => {
                log::warn!(provider = candidate.label.as_str(); "a provider failed: {}", failure.error);
                failed.push((&candidate.label, failure.error));
            }
        }
    }
    Err(together(failed).into())
}

/// Asks one provider, with ever less history where the model's context is too small for it: a long conversation must not end
/// in a session that can't be answered any more.
fn fitted(candidate: &Candidate, mut ask: Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
    loop {
        match candidate.provider.complete(&ask, on_delta) {
            Err(failure) if is_too_long(&failure) && prompt::forget_half(&mut ask.messages) => {
                log::info!(provider = candidate.label.as_str(); "the prompt is too long for the model: asking with less history");
            }
            outcome => return outcome,
        }
    }
}

/// Servers have no common code for it; their texts all name the context.
fn is_too_long(failure: &Failure) -> bool {
    let text = failure.error.text.to_ascii_lowercase();
    let says = text.contains("context") && ["size", "length", "window", "exceed", "token"].iter().any(|w| text.contains(w));
    says && failure.error.kind == ErrorKind::Permanent && !failure.after_first_byte
}

/// The same question with a model that the fallback has: the agent's, or else its own first one.
fn for_fallback(candidate: &Candidate, ask: &Completion) -> Completion {
    let mut ask = ask.clone();
    if ask.model != "auto" && candidate.provider.models().is_ok_and(|models| !models.contains(&ask.model)) {
        ask.model = "auto".to_string();
    }
    ask
}

/// One error for all: worth another try if any of them is.
fn together(failed: Vec<(&str, Error)>) -> Error {
    let worth = failed.iter().position(|(_, e)| e.is_passing()).unwrap_or(0);
    let kind = failed.get(worth).map_or(ErrorKind::Bug, |(_, e)| e.kind);
    let hint = failed.get(worth).map_or(String::new(), |(_, e)| e.hint.clone());
    let texts: Vec<_> = failed.iter().map(|(label, e)| format!("provider {label}: {}", e.text)).collect();
    Error::new(kind, shorten(&texts.join("; "), FAILURE_TEXT_MAX)).hint(hint)
}
