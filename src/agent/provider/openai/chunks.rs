//! The pieces of a chat completion.
//!
//! Invariant: as tolerant as real servers need: unknown fields, absent choices, `null` content, usage at any place, tool calls
//! in pieces or whole, with and without index and id. Fails by the bounds of [`Draft`] alone.

use serde_json::Value;

use crate::agent::provider::draft::{Draft, DraftCall, word};
use crate::agent::provider::server::Reader;
use crate::base::error::Result;

/// Reads chunks; all that it needs to know of former ones is in the draft.
#[derive(Debug, Default)]
pub struct Chunks;

impl Reader for Chunks {
    fn piece(&mut self, _: &str, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        account(json, draft);
        match (json.pointer("/choices/0/delta"), json.pointer("/choices/0/message")) {
            (Some(delta), _) => said(delta, false, draft, on_delta),
            // One that streams in form alone; behind deltas it would say them again.
            (None, Some(message)) if draft.is_empty() => said(message, true, draft, on_delta),
            (None, _) => Ok(()),
        }
    }

    fn whole(&mut self, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<bool> {
        account(json, draft);
        let Some(message) = json.pointer("/choices/0/message") else { return Ok(false) };
        said(message, true, draft, on_delta)?;
        Ok(true)
    }
}

fn account(json: &Value, draft: &mut Draft) {
    if let Some(model) = json.get("model").and_then(Value::as_str) {
        draft.name_model(model);
    }
    if let Some(usage) = json.get("usage") {
        let count = |key, before| usage.get(key).and_then(Value::as_u64).unwrap_or(before);
        draft.tokens = (count("prompt_tokens", draft.tokens.0), count("completion_tokens", draft.tokens.1));
    }
    if let Some(reason) = json.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
        draft.finish(reason);
    }
}

/// Takes a delta, or a whole message.
fn said(delta: &Value, is_whole: bool, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
    match delta.get("content") {
        Some(Value::String(text)) => draft.add_text(text, on_delta)?,
        // Content in parts: `[{"type":"text","text":"…"}]`.
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|p| p.get("text")?.as_str()).try_for_each(|text| draft.add_text(text, on_delta))?;
        }
        _ => {}
    }
    if let Some(text) = delta.get("refusal").and_then(Value::as_str) {
        draft.add_text(text, on_delta)?;
    }
    for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        called(call, call.get("function").unwrap_or(call), is_whole, draft)?;
    }
    match delta.get("function_call").filter(|c| c.is_object()) {
        Some(call) => called(call, call, is_whole, draft),
        None => Ok(()),
    }
}

/// Takes a tool call, or a piece of one.
fn called(call: &Value, function: &Value, is_whole: bool, draft: &mut Draft) -> Result<()> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let (id, name) = (text(call, "id"), text(function, "name"));
    let index = call.get("index").and_then(Value::as_u64);
    let (arguments, is_object) = match function.get("arguments") {
        Some(Value::String(piece)) => (piece.clone(), false),
        Some(whole @ (Value::Object(_) | Value::Array(_))) => (whole.to_string(), true),
        _ => (String::new(), false),
    };
    let known = if is_whole { None } else { place(draft.calls(), index, &id, &name, &arguments) };
    let call = match known {
        Some(at) => &mut draft.calls()[at],
        None => draft.begin_call(index, &id, &name)?,
    };
    if call.id.is_empty() {
        call.id = word(&id);
    }
    if call.name.is_empty() {
        call.name = word(&name);
    }
    if is_object && !call.arguments.is_empty() {
        return Ok(()); // whole already, and said again
    }
    call.add_arguments(&arguments)
}

/// The call that a piece belongs to; `None` for a new one. By its number, else its id, else the last one, as long as it says
/// nothing that speaks for another call.
fn place(calls: &[DraftCall], index: Option<u64>, id: &str, name: &str, arguments: &str) -> Option<usize> {
    // Some servers number all their calls 0: another id with a name is another call.
    let is_another = |c: &DraftCall| !id.is_empty() && !c.id.is_empty() && c.id != id && !name.is_empty();
    if index.is_some() {
        return calls.iter().rposition(|c| c.index == index).filter(|at| !is_another(&calls[*at]));
    }
    if !id.is_empty()
        && let Some(at) = calls.iter().position(|c| c.id == id)
    {
        return Some(at);
    }
    let last = calls.len().checked_sub(1)?;
    let goes_on = match name {
        "" => true,
        name => name == calls[last].name && !calls[last].is_whole() && !arguments.trim().is_empty(),
    };
    (goes_on && !is_another(&calls[last])).then_some(last)
}
