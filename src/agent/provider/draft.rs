//! An answer while it comes, whatever the wire format: a value to which text, tool calls and the account are added.
//!
//! Invariant: what it holds and how many pieces it takes is bounded; a blank or broken-off answer never counts as one, and the
//! ids of its calls are unique. Fails with the error that the answer is.

use std::sync::Arc;

use crate::agent::provider::{ANSWER_BYTES_MAX, ARGUMENTS_BYTES_MAX, Answer, CALLS_MAX, ToolSpec};
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::domain::ToolCall;

/// Pieces of one answer: far beyond what a model says in 1 MiB, within what a hostile stream can cost.
const PIECES_MAX: usize = 500_000;
/// Longest name of a model, a tool or a reason, and longest id of a call: what a peer says of them is kept up to here.
const WORD_BYTES_MAX: usize = 200;

/// A name or an id as far as it is kept.
pub fn word(text: &str) -> String {
    shorten(text, WORD_BYTES_MAX)
}

/// What came so far.
#[derive(Debug, Default)]
pub struct Draft {
    text: String,
    calls: Vec<DraftCall>,
    /// Tokens in and out.
    pub tokens: (u64, u64),
    finish: Option<String>,
    model: Option<String>,
    /// The server said that nothing more will come.
    pub done: bool,
    pieces: usize,
}

/// A tool call while it comes.
#[derive(Debug, Default)]
pub struct DraftCall {
    /// Where the server numbers its calls: its number.
    pub index: Option<u64>,
    /// The model's id; empty while none came.
    pub id: String,
    /// The tool's name on the wire.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

impl DraftCall {
    /// Whether its arguments are whole JSON.
    pub fn is_whole(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// Adds a piece of the arguments.
    ///
    /// # Errors
    /// `Permanent` beyond their bound.
    pub fn add_arguments(&mut self, piece: &str) -> Result<()> {
        if self.arguments.len() + piece.len() > ARGUMENTS_BYTES_MAX {
            let text = format!("the model called a tool with arguments of more than {ARGUMENTS_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::Permanent, text).hint("set maxOutputTokens for the agent"));
        }
        self.arguments.push_str(piece);
        Ok(())
    }
}

impl Draft {
    /// Whether the answer is whole; only its account may still come.
    pub fn is_whole(&self) -> bool {
        self.done || self.finish.is_some()
    }

    /// Whether neither text nor a call came.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }

    /// Counts one more piece.
    ///
    /// # Errors
    /// `Permanent` beyond their bound.
    pub fn count_piece(&mut self) -> Result<()> {
        self.pieces += 1;
        if self.pieces > PIECES_MAX {
            return Err(Error::new(ErrorKind::Permanent, format!("the answer came in more than {PIECES_MAX} pieces")));
        }
        Ok(())
    }

    /// Notes who answers; the first one counts.
    pub fn name_model(&mut self, model: &str) {
        self.model.get_or_insert_with(|| word(model));
    }

    /// Notes why the answer ends.
    pub fn finish(&mut self, reason: &str) {
        if !reason.is_empty() {
            self.finish = Some(word(reason));
        }
    }

    /// Adds text and passes it on.
    ///
    /// # Errors
    /// `Permanent` beyond its bound.
    pub fn add_text(&mut self, text: &str, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        if self.text.len() + text.len() > ANSWER_BYTES_MAX {
            return Err(Error::new(ErrorKind::Permanent, format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"))
                .hint("set maxOutputTokens for the agent"));
        }
        self.text.push_str(text);
        if !text.is_empty() {
            on_delta(text);
        }
        Ok(())
    }

    /// The calls so far.
    pub fn calls(&mut self) -> &mut [DraftCall] {
        &mut self.calls
    }

    /// Begins a call.
    ///
    /// # Errors
    /// `Permanent` beyond their bound.
    pub fn begin_call(&mut self, index: Option<u64>, id: &str, name: &str) -> Result<&mut DraftCall> {
        if self.calls.len() == CALLS_MAX {
            return Err(Error::new(ErrorKind::Permanent, format!("the model called more than {CALLS_MAX} tools at once")));
        }
        self.calls.push(DraftCall { index, id: word(id), name: word(name), arguments: String::new() });
        let last = self.calls.len() - 1;
        Ok(&mut self.calls[last])
    }

    /// The answer, if it is one. `model` is the one that was asked for, `offered` what it might call.
    ///
    /// # Errors
    /// `Transient` where it was broken off or is blank, `Permanent` where the model can't answer so.
    pub fn answer(mut self, model: &str, offered: &[Arc<ToolSpec>]) -> Result<Answer> {
        if !self.is_whole() {
            let how = match (self.calls.is_empty(), self.text.is_empty()) {
                (false, _) => "in the middle of a tool call",
                (true, false) => "in the middle of its answer",
                (true, true) => "without a word",
            };
            return Err(Error::new(ErrorKind::Transient, format!("the model's server ended {how}")));
        }
        let finish = self.finish.take().unwrap_or_else(|| "stop".into());
        let uncalled = !self.calls.is_empty() && offered.is_empty();
        let calls = if uncalled { Vec::new() } else { self.settled_calls(&finish, offered)? };
        if self.text.trim().is_empty() && calls.is_empty() {
            return Err(match finish.as_str() {
                _ if uncalled => Error::new(ErrorKind::Permanent, "the model called a tool that it was not given"),
                "tool_calls" | "function_call" | "tool_use" => {
                    Error::new(ErrorKind::Permanent, "the model called a tool that it was not given")
                }
                "length" | "max_tokens" => {
                    Error::new(ErrorKind::Permanent, "the model's output ended before its answer began").hint(MORE_OUTPUT)
                }
                "content_filter" | "refusal" => {
                    Error::new(ErrorKind::Permanent, "the provider's content filter withheld the answer")
                }
                _ => Error::new(ErrorKind::Transient, "the model's answer is empty"),
            });
        }
        let model = self.model.unwrap_or_else(|| model.to_string());
        let (tokens_in, tokens_out) = self.tokens;
        Ok(Answer { text: self.text, calls, tokens_in, tokens_out, finish, model })
    }

    fn settled_calls(&mut self, finish: &str, offered: &[Arc<ToolSpec>]) -> Result<Vec<ToolCall>> {
        let is_cut = matches!(finish, "length" | "max_tokens") && self.calls.last().is_some_and(|c| !c.is_whole());
        if is_cut {
            let text = "the model's output ended in the middle of a tool call";
            return Err(Error::new(ErrorKind::Permanent, text).hint(MORE_OUTPUT));
        }
        let mut calls: Vec<ToolCall> = Vec::new();
        for (i, call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            if call.name.trim().is_empty() {
                return Err(Error::new(ErrorKind::Transient, "the model called a tool without naming it"));
            }
            let spec = offered.iter().find(|s| s.wire == call.name);
            let is_taken = |id: &str| id.is_empty() || calls.iter().any(|c| c.id == id);
            let id = match call.id {
                id if !is_taken(&id) => id,
                _ => (i..).map(|n| format!("call_{n}")).find(|id| !is_taken(id)).unwrap_or_default(),
            };
            let arguments = if call.arguments.trim().is_empty() { "{}".to_string() } else { call.arguments };
            calls.push(ToolCall { id, name: spec.map_or(call.name, |s| s.name.clone()), arguments });
        }
        Ok(calls)
    }
}

const MORE_OUTPUT: &str = "raise maxOutputTokens for the agent, or the server's context size";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let (mut draft, mut seen) = (Draft::default(), 0);
        let piece = "x".repeat(100_000);
        let error = (0..20).find_map(|_| draft.add_text(&piece, &mut |d| seen += d.len()).err()).unwrap();
        assert_eq!((error.kind, seen), (ErrorKind::Permanent, 1_000_000));
        let error = (0..=PIECES_MAX).find_map(|_| draft.count_piece().err()).unwrap();
        assert_eq!(error.kind, ErrorKind::Permanent);
        let began = (0..=CALLS_MAX).map(|i| draft.begin_call(None, "", &i.to_string()).is_ok()).filter(|ok| *ok).count();
        assert_eq!(began, CALLS_MAX);
        let call = &mut draft.calls()[0];
        let error = (0..7).find_map(|_| call.add_arguments(&piece[..10_000]).err()).unwrap();
        assert_eq!((error.kind, call.arguments.len()), (ErrorKind::Permanent, 60_000));
    }

    #[test]
    fn ids_are_made_where_they_lack_and_kept_apart() {
        let mut draft = Draft::default();
        for id in ["", "call_1", "", "x", "x", ""] {
            draft.begin_call(None, id, "t").unwrap();
        }
        draft.finish("stop");
        let tool = ToolSpec { name: "t.t".into(), wire: "t".into(), description: String::new(), schema: Default::default() };
        let calls = draft.answer("m", &[Arc::new(tool)]).unwrap().calls;
        let ids: Vec<_> = calls.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["call_0", "call_1", "call_2", "x", "call_4", "call_5"]);
        assert!(calls.iter().all(|c| c.name == "t.t" && c.arguments == "{}"));
    }
}
