//! The events of an answer of the Messages API.
//!
//! Invariant: blocks that are neither text nor a call of ours (thinking, the server's own tools) leave no trace; events that are
//! not known are none. Fails by the bounds of [`Draft`] alone.

use serde_json::Value;

use crate::agent::provider::draft::Draft;
use crate::agent::provider::server::Reader;
use crate::base::error::Result;

/// Reads events.
#[derive(Debug, Default)]
pub struct Events {
    usage: Usage,
}

/// Tokens as they were counted last: of the prompt those that were new, kept for later, and found kept.
#[derive(Debug, Default)]
struct Usage {
    input: u64,
    kept: u64,
    found: u64,
    output: u64,
}

impl Usage {
    fn take(&mut self, json: Option<&Value>, draft: &mut Draft) {
        let count = |key, before: &mut u64| {
            if let Some(n) = json.and_then(|u| u.get(key)?.as_u64()) {
                *before = n;
            }
        };
        count("input_tokens", &mut self.input);
        count("cache_creation_input_tokens", &mut self.kept);
        count("cache_read_input_tokens", &mut self.found);
        count("output_tokens", &mut self.output);
        draft.tokens = (self.input.saturating_add(self.kept).saturating_add(self.found), self.output);
    }
}

impl Reader for Events {
    fn piece(&mut self, name: &str, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        let index = json.get("index").and_then(Value::as_u64);
        match word(json, "/type").unwrap_or(name) {
            "message_start" => {
                if let Some(model) = word(json, "/message/model") {
                    draft.name_model(model);
                }
                self.usage.take(json.pointer("/message/usage"), draft);
                Ok(())
            }
            "content_block_start" => match json.get("content_block") {
                Some(content) => block(content, index, draft, on_delta),
                None => Ok(()),
            },
            "content_block_delta" => match word(json, "/delta/type") {
                Some("text_delta") => draft.add_text(word(json, "/delta/text").unwrap_or_default(), on_delta),
                Some("input_json_delta") => {
                    let piece = word(json, "/delta/partial_json").unwrap_or_default();
                    // The input of a call of the server's own tool has no call of ours.
                    let call = draft.calls().iter_mut().rev().find(|c| c.index == index);
                    call.map_or(Ok(()), |c| c.add_arguments(piece))
                }
                _ => Ok(()),
            },
            "message_delta" => {
                draft.finish(word(json, "/delta/stop_reason").unwrap_or_default());
                self.usage.take(json.get("usage"), draft);
                Ok(())
            }
            "message_stop" => {
                draft.done = true;
                Ok(())
            }
            _ => Ok(()), // `ping`, `content_block_stop`, and what later versions add
        }
    }

    fn whole(&mut self, json: &Value, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<bool> {
        let Some(content) = json.get("content").and_then(Value::as_array) else { return Ok(false) };
        for (i, one) in content.iter().enumerate() {
            block(one, Some(i as u64), draft, on_delta)?;
        }
        if let Some(model) = word(json, "/model") {
            draft.name_model(model);
        }
        draft.finish(word(json, "/stop_reason").unwrap_or_default());
        self.usage.take(json.get("usage"), draft);
        Ok(true)
    }
}

fn word<'a>(json: &'a Value, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer)?.as_str()
}

/// Takes a block of the content as far as it is there; where it is streamed, its text and input follow.
fn block(content: &Value, index: Option<u64>, draft: &mut Draft, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
    match word(content, "/type") {
        Some("text") => draft.add_text(word(content, "/text").unwrap_or_default(), on_delta),
        Some("tool_use") => {
            let (id, name) = (word(content, "/id").unwrap_or_default(), word(content, "/name").unwrap_or_default());
            let call = draft.begin_call(index, id, name)?;
            match content.get("input") {
                Some(input) if input.as_object().is_none_or(|o| !o.is_empty()) && !input.is_null() => {
                    call.add_arguments(&input.to_string())
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
