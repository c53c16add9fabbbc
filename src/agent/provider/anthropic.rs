//! Anthropic's Messages API, streamed, with tools; also as other servers speak it.
//!
//! Invariant: only this folder knows the format. Roles alternate and begin with the user, no block of text is blank, and each
//! result follows its call, as the API demands. A server that refuses a field which we can do without (tools included) is asked
//! without it from then on. Fails as [`Server`] says.

mod events;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::agent::provider::images::Image;
use crate::agent::provider::refusals::Refusals;
use crate::agent::provider::server::{Format, Server};
use crate::agent::provider::wire::{arguments, in_words, paired, plain, wire_name};
use crate::agent::provider::{ChatMessage, ChatRole, Completion, ToolSpec};
use crate::base::secret::Secret;
use crate::net::client::{Call, Refused};

use events::Events;

/// One server that speaks the Messages API.
pub type Anthropic = Server<Messages>;

/// The version of the API, which each request names.
const VERSION: &str = "2023-06-01";
/// The bound of an answer is required there; this one where the agent has none.
const MAX_TOKENS: u64 = 4096;
/// What can be left out of a request where a server refuses it.
const OPTIONAL: [&str; 4] = ["tools", "temperature", "top_p", "stop_sequences"];

/// The format of the Messages API.
#[derive(Debug, Default)]
pub struct Messages {
    refusals: Refusals,
}

impl Format for Messages {
    type Reader = Events;
    const ASK: &'static str = "/v1/messages";
    const MODELS: &'static str = "/v1/models";
    const HINT: &'static str = "check baseUrl: it is the part before /v1/messages";

    fn base(base_url: &str) -> &str {
        base_url.strip_suffix("/v1").unwrap_or(base_url)
    }

    fn sign(call: Call, key: Option<&Secret>) -> Call {
        let call = call.header("anthropic-version", VERSION);
        match key {
            Some(key) => call.key("x-api-key", key),
            None => call,
        }
    }

    fn body(&self, model: &str, ask: &Completion) -> Value {
        let refused = self.refusals.of(model);
        // The API takes calls and results only where tools are offered.
        let knows_tools = !ask.tools.is_empty() && !refused.contains("tools");
        let messages = if knows_tools { paired(&ask.messages) } else { in_words(&ask.messages) };
        let mut body = json!({"model": model, "max_tokens": ask.max_output_tokens.unwrap_or(MAX_TOKENS), "stream": true});
        let system: Vec<_> = messages.iter().filter(|m| m.role == ChatRole::System).map(|m| m.text.trim()).collect();
        let system = system.join("\n\n");
        body["messages"] = turns(&messages, ask);
        let mut put = |field: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|_| !refused.contains(field)) {
                body[field] = value;
            }
        };
        put("system", (!system.is_empty()).then(|| json!(system)));
        let tool = |t: &Arc<ToolSpec>| json!({"name": t.wire, "description": t.description, "input_schema": t.schema});
        put("tools", knows_tools.then(|| ask.tools.iter().map(tool).collect()));
        // OpenAI's scale ends at 2, this one at 1.
        put("temperature", ask.sampling.temperature.map(|t| json!(t.clamp(0.0, 1.0))));
        put("top_p", ask.sampling.top_p.map(Value::from));
        let stops: Vec<_> = ask.sampling.stop.iter().filter(|s| !s.trim().is_empty()).collect();
        put("stop_sequences", (!stops.is_empty()).then(|| json!(stops)));
        body
    }

    fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn adapts(&self, model: &str, sent: &Value, refused: &Refused) -> bool {
        self.refusals.learn(model, sent, refused, &OPTIONAL)
    }
}

/// The messages as turns of user and assistant, each with its blocks.
fn turns(messages: &[ChatMessage], ask: &Completion) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|m| m.role != ChatRole::System) {
        let role = if message.role == ChatRole::Assistant { "assistant" } else { "user" };
        let blocks = blocks(message, ask);
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, before)) if *last == role => before.extend(blocks),
            None if role == "assistant" => {
                // A conversation that the gateway began.
                turns.push(("user", vec![json!({"type": "text", "text": "(The conversation begins.)"})]));
                turns.push((role, blocks));
            }
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn blocks(message: &ChatMessage, ask: &Completion) -> Vec<Value> {
    if message.role == ChatRole::Tool {
        let mut result = json!({"type": "tool_result", "tool_use_id": plain(&message.call_id), "content": message.text});
        if message.is_error {
            result["is_error"] = true.into();
        }
        return vec![result];
    }
    let text = Some(message.text.trim_end()).filter(|t| !t.trim().is_empty()).map(|t| json!({"type": "text", "text": t}));
    let calls = message.calls.iter().map(|c| {
        let name = wire_name(&c.name, &ask.tools);
        json!({"type": "tool_use", "id": plain(&c.id), "name": name, "input": arguments(c)})
    });
    let image =
        |i: &Image| json!({"type": "image", "source": {"type": "base64", "media_type": i.media_type, "data": &*i.base64}});
    // Images stand best before what is said of them.
    message.images.iter().map(image).chain(text).chain(calls).collect()
}
