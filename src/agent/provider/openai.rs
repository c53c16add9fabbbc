//! Any OpenAI-compatible server: chat completions, streamed, with tools.
//!
//! Invariant: only this folder knows the format. A server that refuses a field which we can do without (tools included) is
//! asked without it from then on. Fails as [`Server`] says.

#[cfg(test)]
mod calls_tests;
mod chunks;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::agent::provider::images::Image;
use crate::agent::provider::refusals::Refusals;
use crate::agent::provider::server::{Format, Server};
use crate::agent::provider::wire::{arguments, in_words, paired, wire_name};
use crate::agent::provider::{ChatMessage, ChatRole, Completion, ToolSpec};
use crate::base::secret::Secret;
use crate::domain::ToolCall;
use crate::net::client::{Call, Refused};

use chunks::Chunks;

/// One OpenAI-compatible server.
pub type OpenAi = Server<Chat>;

/// What can be left out of a request where a server refuses it.
const OPTIONAL: [&str; 7] = ["max_tokens", "stream_options", "tools", "response_format", "temperature", "top_p", "stop"];

/// The format of chat completions.
#[derive(Debug, Default)]
pub struct Chat {
    refusals: Refusals,
}

impl Format for Chat {
    type Reader = Chunks;
    const ASK: &'static str = "/chat/completions";
    const MODELS: &'static str = "/models";
    const HINT: &'static str = "check baseUrl: it usually ends in /v1";

    fn base(base_url: &str) -> &str {
        base_url
    }

    fn sign(call: Call, key: Option<&Secret>) -> Call {
        match key {
            Some(key) => call.bearer(key),
            None => call,
        }
    }

    fn body(&self, model: &str, ask: &Completion) -> Value {
        let refused = self.refusals.of(model);
        let messages: Vec<_> = if refused.contains("tools") {
            in_words(&ask.messages).iter().map(|m| message(m, ask)).collect()
        } else {
            paired(&ask.messages).iter().map(|m| message(m, ask)).collect()
        };
        let mut body = json!({"model": model, "messages": messages, "stream": true});
        let mut put = |field: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|_| !refused.contains(field)) {
                body[field] = value;
            }
        };
        put("stream_options", Some(json!({"include_usage": true})));
        put("max_tokens", ask.max_output_tokens.map(Value::from));
        if refused.contains("max_tokens") {
            put("max_completion_tokens", ask.max_output_tokens.map(Value::from));
        }
        put("tools", (!ask.tools.is_empty()).then(|| ask.tools.iter().map(|t| tool(t)).collect()));
        put("temperature", ask.sampling.temperature.map(Value::from));
        put("top_p", ask.sampling.top_p.map(Value::from));
        put("stop", (!ask.sampling.stop.is_empty()).then(|| json!(ask.sampling.stop)));
        put("response_format", ask.sampling.response_format.clone());
        body
    }

    fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn adapts(&self, model: &str, sent: &Value, refused: &Refused) -> bool {
        self.refusals.learn(model, sent, refused, &OPTIONAL)
    }
}

fn tool(spec: &ToolSpec) -> Value {
    json!({"type": "function",
        "function": {"name": spec.wire, "description": spec.description, "parameters": spec.schema}})
}

/// A text where it is one, else its parts.
fn content(message: &ChatMessage) -> Value {
    if message.images.is_empty() {
        return json!(message.text);
    }
    let text = Some(&message.text).filter(|t| !t.trim().is_empty()).map(|t| json!({"type": "text", "text": t}));
    let image =
        |i: &Image| json!({"type": "image_url", "image_url": {"url": format!("data:{};base64,{}", i.media_type, i.base64)}});
    text.into_iter().chain(message.images.iter().map(image)).collect()
}

fn message(message: &ChatMessage, ask: &Completion) -> Value {
    let role = message.role.as_str();
    if message.role == ChatRole::Tool {
        return json!({"role": role, "tool_call_id": message.call_id, "content": message.text});
    }
    if message.calls.is_empty() {
        return json!({"role": role, "content": content(message)});
    }
    let call = |c: &ToolCall| {
        let written = Value::Object(arguments(c)).to_string();
        json!({"id": c.id, "type": "function", "function": {"name": wire_name(&c.name, &ask.tools), "arguments": written}})
    };
    let content = if message.text.trim().is_empty() { Value::Null } else { json!(message.text) };
    json!({"role": role, "content": content, "tool_calls": message.calls.iter().map(call).collect::<Vec<_>>()})
}
