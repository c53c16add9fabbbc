//! A turn's journal as the turn reads it: rounds of an answer that asked for tools, and what came of each call.
//!
//! Invariant: what is read is what was committed, in its order; a call that had begun and has no result is told apart from one
//! that had not. Steps that are none of ours are passed over. Data that can't be read ends the reading there: the turn goes on
//! from what stands before it.

use serde::{Deserialize, Serialize};

use crate::agent::provider::ChatMessage;
use crate::domain::{CallResult, Spent, Step, StepKind, ToolCall};

/// One answer that asked for tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What the model said beside it.
    pub text: String,
    /// What it called, under ids of ours.
    pub calls: Vec<ToolCall>,
    /// Who answered.
    pub provider: String,
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens of the answer.
    pub tokens_out: u64,
}

/// A round: the answer, and how far its calls are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The answer.
    pub asked: Asked,
    /// Ids of calls that had begun.
    pub begun: Vec<String>,
    /// What came of calls, in the order in which they ended.
    pub results: Vec<CallResult>,
}

impl Round {
    /// A round without results yet.
    pub fn new(asked: Asked) -> Self {
        Round { asked, begun: Vec::new(), results: Vec::new() }
    }

    /// The first call that has no result yet.
    pub fn open_call(&self) -> Option<&ToolCall> {
        self.asked.calls.iter().find(|c| self.result(&c.id).is_none())
    }

    /// What came of that call.
    pub fn result(&self, call_id: &str) -> Option<&CallResult> {
        self.results.iter().find(|r| r.call_id == call_id)
    }

    /// As the model sees it: its answer, then the results in the order of its calls.
    pub fn messages(&self) -> impl Iterator<Item = ChatMessage> {
        let said = ChatMessage::asked(self.asked.text.as_str(), self.asked.calls.clone());
        let results = self.asked.calls.iter().filter_map(|c| self.result(&c.id)).map(ChatMessage::result);
        std::iter::once(said).chain(results)
    }
}

/// The rounds that these steps tell of, oldest first.
pub fn rounds(steps: &[Step]) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    for step in steps {
        match (step.kind, rounds.last_mut()) {
            (StepKind::Asked, _) => match serde_json::from_str(&step.data) {
                Ok(asked) => rounds.push(Round::new(asked)),
                Err(_) => break,
            },
            (StepKind::Called, Some(round)) => round.begun.push(step.data.clone()),
            (StepKind::Result, Some(round)) => match serde_json::from_str(&step.data) {
                Ok(result) => round.results.push(result),
                Err(_) => break,
            },
            _ => {}
        }
    }
    rounds
}

/// What rounds used, by provider.
pub fn spent(rounds: &[Round]) -> Vec<Spent> {
    let mut all = Vec::new();
    for r in rounds {
        add(&mut all, &r.asked.provider, (r.asked.tokens_in, r.asked.tokens_out));
    }
    all
}

/// Adds one call of a provider.
pub fn add(all: &mut Vec<Spent>, provider: &str, (tokens_in, tokens_out): (u64, u64)) {
    let at = all.iter().position(|s| s.provider == provider).unwrap_or_else(|| {
        all.push(Spent { provider: provider.to_string(), ..Spent::default() });
        all.len() - 1
    });
    if let Some(one) = all.get_mut(at) {
        one.tokens_in += tokens_in;
        one.tokens_out += tokens_out;
        one.calls += 1;
    }
}

/// Ids of our own for an answer's calls, unique in the turn and fit for every provider (Mistral wants nine letters and digits).
pub fn rename(calls: &mut [ToolCall], round: usize) {
    for (i, call) in calls.iter_mut().enumerate() {
        call.id = format!("c{round:04}x{i:03}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: StepKind, data: String) -> Step {
        Step { kind, detail: String::new(), data, at_ms: 0 }
    }

    fn asked(ids: &[&str]) -> Asked {
        let call = |id: &&str| ToolCall { id: id.to_string(), name: "time.now".into(), arguments: "{}".into() };
        Asked { text: "".into(), calls: ids.iter().map(call).collect(), provider: "p".into(), tokens_in: 5, tokens_out: 1 }
    }

    fn result(id: &str) -> CallResult {
        CallResult { call_id: id.into(), is_error: false, content: format!("of {id}") }
    }

    #[test]
    fn rounds_are_read_back() {
        let json = |v: &dyn erased::Json| v.text();
        let steps = [
            step(StepKind::Started, String::new()),
            step(StepKind::Asked, json(&asked(&["a", "b"]))),
            step(StepKind::Result, json(&result("b"))),
            step(StepKind::Interrupted, String::new()),
            step(StepKind::Called, "a".into()),
            step(StepKind::Result, json(&result("a"))),
            step(StepKind::Asked, json(&asked(&["c"]))),
            step(StepKind::Called, "c".into()),
        ];
        let found = rounds(&steps);
        assert_eq!(found.len(), 2);
        assert!(found[0].open_call().is_none());
        let said: Vec<_> = found[0].messages().map(|m| m.call_id).collect();
        assert_eq!(said, ["", "a", "b"], "in the order of the calls, whatever ended first");
        assert_eq!((found[1].open_call().unwrap().id.as_str(), found[1].begun.len()), ("c", 1));
        assert_eq!(spent(&found), [Spent { provider: "p".into(), tokens_in: 10, tokens_out: 2, calls: 2 }]);
        assert_eq!(rounds(&[step(StepKind::Result, json(&result("x"))), step(StepKind::Asked, "{broken".into())]), []);
    }

    mod erased {
        pub trait Json {
            fn text(&self) -> String;
        }
        impl<T: serde::Serialize> Json for T {
            fn text(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }

    #[test]
    fn ids_have_nine_letters_and_digits() {
        let mut calls = asked(&["x", "x"]).calls;
        rename(&mut calls, 12);
        assert_eq!((calls[0].id.as_str(), calls[1].id.as_str()), ("c0012x000", "c0012x001"));
    }
}
