//! The documents that OpenAI's clients read: a completion, its chunks, the events that carry them.
//!
//! Invariant: each field that the documented shapes require is there. Pure; it cannot fail.

use serde_json::{Value, json};

use crate::flow::waiters::Reply;

/// What all documents of one answer share.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    /// `chatcmpl-` and the message's id.
    pub id: String,
    /// `gatelet/` and the agent.
    pub model: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Whether chunks tell the usage.
    pub include_usage: bool,
}

fn usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.tokens_in,
        "completion_tokens": reply.tokens_out,
        "total_tokens": reply.tokens_in + reply.tokens_out,
    })
}

/// OpenAI's word for why an answer ended.
fn finish(reply: &Reply) -> &'static str {
    match reply.finish.as_str() {
        "length" | "max_tokens" => "length",
        "content_filter" | "refusal" => "content_filter",
        _ => "stop",
    }
}

/// A whole answer.
pub(super) fn completion(about: &About, reply: &Reply) -> Value {
    json!({
        "id": about.id, "object": "chat.completion", "created": about.created, "model": about.model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": reply.text, "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": finish(reply),
        }],
        "usage": usage(reply),
        "system_fingerprint": null,
    })
}

fn chunk(about: &About, delta: Value, finish: Option<&str>) -> Value {
    let mut chunk = json!({
        "id": about.id, "object": "chat.completion.chunk", "created": about.created, "model": about.model,
        "system_fingerprint": null,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
    });
    if about.include_usage {
        chunk["usage"] = Value::Null;
    }
    chunk
}

/// A document as an event.
pub(super) fn event(document: &Value) -> String {
    format!("data: {document}\n\n")
}

/// The first event.
pub(super) fn first(about: &About) -> String {
    event(&chunk(about, json!({"role": "assistant", "content": "", "refusal": null}), None))
}

/// The event of a piece of text; nothing for no text.
pub(super) fn piece(about: &About, text: &str) -> String {
    if text.is_empty() { String::new() } else { event(&chunk(about, json!({"content": text}), None)) }
}

/// The events behind the text.
pub(super) fn last(about: &About, reply: &Reply) -> String {
    let mut events = event(&chunk(about, json!({}), Some(finish(reply))));
    if about.include_usage {
        let mut total = chunk(about, json!({}), None);
        total["choices"] = json!([]);
        total["usage"] = usage(reply);
        events.push_str(&event(&total));
    }
    events.push_str("data: [DONE]\n\n");
    events
}
