//! Asking for an answer: one provider after the other, each by its breaker, with ever less history where the prompt is too long.
//!
//! Invariant: the next provider is asked only while nothing of an answer has been shown. A provider whose breaker is open is passed
//! over while there is another; where there is none it is asked all the same, since a turn that fails at once helps nobody. It
//! fails with the kind that tells the caller whether to try later; `Stopped` where it was cut short.

use crate::agent::provider::{Answer, Completion, Failure, images};
use crate::agent::{Candidate, Route, prompt};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, shorten};

/// Most text of a failure, however many providers were asked.
const FAILURE_TEXT_MAX: usize = 600;

/// An answer, and who gave it.
pub struct Answered {
    /// The provider's label.
    pub by: String,
    /// The answer.
    pub answer: Answer,
}

/// Asks one provider after the other: first those whose breaker admits a call.
pub fn ask(route: &Route, ask: &Completion, clock: &Clock, on_delta: &mut dyn FnMut(&str)) -> Result<Answered, Failure> {
    let mut failed: Vec<(&str, Error)> = Vec::new();
    let mut passed_over = Vec::new();
    let alone = route.candidates.len() < 2;
    let mut one = |candidate: &'_ Candidate, is_first: bool| {
        let ask = if is_first { ask.clone() } else { for_fallback(candidate, ask) };
        let outcome = fitted(candidate, ask, on_delta);
        candidate.note(&outcome, clock.mono());
        outcome.map(|answer| Answered { by: candidate.label.clone(), answer })
    };
    for (i, candidate) in route.candidates.iter().enumerate() {
        if !failed.is_empty() && clock.mono() >= ask.deadline {
            break;
        }
        if !alone && !candidate.admits(clock.mono()) {
            passed_over.push((i, candidate));
            continue;
        }
        match one(candidate, i == 0) {
            Err(failure) if !is_final(&failure) => failed.push(told(candidate, failure)),
            outcome => return outcome,
        }
    }
    for (i, candidate) in passed_over {
        if !failed.is_empty() && clock.mono() >= ask.deadline {
            break;
        }
        match one(candidate, i == 0) {
            Err(failure) if !is_final(&failure) => failed.push(told(candidate, failure)),
            outcome => return outcome,
        }
    }
    Err(together(failed).into())
}

/// Whether nobody else is to be asked after it.
fn is_final(failure: &Failure) -> bool {
    failure.after_first_byte || failure.error.kind == ErrorKind::Stopped
}

fn told(candidate: &Candidate, failure: Failure) -> (&str, Error) {
    log::warn!(provider = candidate.label.as_str(); "a provider failed: {}", failure.error);
    (&candidate.label, failure.error)
}

/// Asks one provider, with ever less history where the model's context is too small for it: a long conversation must not end
/// in a session that can't be answered any more.
fn fitted(candidate: &Candidate, mut ask: Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
    loop {
        match candidate.provider.complete(&ask, on_delta) {
            Err(failure) if is_too_long(&failure) && prompt::forget_half(&mut ask.messages) => {
                log::info!(provider = candidate.label.as_str(); "the prompt is too long for the model: asking with less history");
            }
            Err(failure) if is_too_long(&failure) && images::take_out(&mut ask) => {
                log::info!(provider = candidate.label.as_str(); "the prompt is too long for the model: asking without its images");
            }
            outcome => return outcome,
        }
    }
}

/// Servers have no common code for it; their texts all name the context.
fn is_too_long(failure: &Failure) -> bool {
    let text = failure.error.text.to_ascii_lowercase();
    let says = (text.contains("context") && ["size", "length", "window", "exceed", "token"].iter().any(|w| text.contains(w)))
        || text.contains("prompt is too long");
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
