//! What a prompt needs before it can go over any wire: names, calls that have their results, and plain words where a model
//! knows no tools.
//!
//! Invariant: what comes out is taken by strict servers: each call has exactly one result right behind it, each result its call,
//! arguments are a JSON object. Nothing of the text is lost. Pure, cannot fail.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::agent::provider::{ChatMessage, ChatRole, ToolSpec};
use crate::base::error::shorten;
use crate::domain::ToolCall;

/// Longest name of a tool on the wire.
const NAME_BYTES_MAX: usize = 64;
/// What is kept of arguments that are no JSON.
const BROKEN_BYTES_MAX: usize = 1000;

/// The name of a tool on the wire; one that is not offered (any more), or that the model made up, as far as it can be a name.
pub fn wire_name(name: &str, tools: &[Arc<ToolSpec>]) -> String {
    match tools.iter().find(|t| t.name == name) {
        Some(tool) => tool.wire.clone(),
        None => plain(name),
    }
}

/// `word` with nothing but `[A-Za-z0-9_-]`, at most 64 bytes.
pub fn plain(word: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    word.chars().take(NAME_BYTES_MAX).map(plain).collect()
}

/// The arguments as an object; where they are none, one that shows the model what it wrote.
pub fn arguments(call: &ToolCall) -> Map<String, Value> {
    serde_json::from_str(&call.arguments).unwrap_or_else(|_| {
        let mut broken = Map::new();
        broken.insert("not_an_object".into(), json!(shorten(&call.arguments, BROKEN_BYTES_MAX)));
        broken
    })
}

/// The messages with exactly one result behind each call and no result without its call.
pub fn paired(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let mut out = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let [message, behind @ ..] = rest {
        rest = behind;
        if message.role == ChatRole::Tool {
            out.push(in_words_one(message));
            continue;
        }
        out.push(message.clone());
        if message.calls.is_empty() {
            continue;
        }
        let results = behind.iter().take_while(|m| m.role == ChatRole::Tool).count();
        let (results, after) = behind.split_at(results);
        rest = after;
        for call in &message.calls {
            let result = results.iter().find(|r| r.call_id == call.id).cloned();
            out.push(result.unwrap_or_else(|| ChatMessage {
                call_id: call.id.clone(),
                is_error: true,
                ..ChatMessage::new(ChatRole::Tool, "there is no result: the call was not finished")
            }));
        }
        let is_stray = |r: &&ChatMessage| !message.calls.iter().any(|c| c.id == r.call_id);
        out.extend(results.iter().filter(is_stray).map(in_words_one));
    }
    out
}

/// The messages without calls and results, which are told in words; neighbours of one role become one.
pub fn in_words(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let mut out: Vec<ChatMessage> = Vec::with_capacity(messages.len());
    for message in messages.iter().map(in_words_one) {
        match out.last_mut() {
            Some(last) if last.role == message.role => {
                last.text.push_str("\n\n");
                last.text.push_str(&message.text);
                last.images.extend(message.images);
            }
            _ => out.push(message),
        }
    }
    out
}

fn in_words_one(message: &ChatMessage) -> ChatMessage {
    if message.role == ChatRole::Tool {
        let what = if message.is_error { "failed, and said" } else { "gave" };
        return ChatMessage::new(ChatRole::User, format!("[A tool {what}: {}]", message.text));
    }
    let mut text = message.text.clone();
    for call in &message.calls {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}[Called the tool {} with {}]", call.name, call.arguments));
    }
    ChatMessage { images: message.images.clone(), ..ChatMessage::new(message.role, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "time.now".into(), arguments: "{}".into() }
    }

    fn result(id: &str) -> ChatMessage {
        ChatMessage { call_id: id.into(), ..ChatMessage::new(ChatRole::Tool, format!("r{id}")) }
    }

    fn shown(messages: &[ChatMessage]) -> String {
        messages.iter().map(|m| format!("{}{}:{}|", m.role.as_str(), m.call_id, m.text)).collect()
    }

    #[test]
    fn calls_and_results_are_paired() {
        let user = || ChatMessage::new(ChatRole::User, "u");
        let asked = |ids: &[&str]| ChatMessage::asked("a", ids.iter().map(|id| call(id)).collect());
        let none = "there is no result: the call was not finished";
        for (messages, wanted) in [
            (vec![user(), asked(&["1", "2"]), result("2"), result("1")], "user:u|assistant:a|tool1:r1|tool2:r2|".to_string()),
            (vec![asked(&["1", "2"]), result("2")], format!("assistant:a|tool1:{none}|tool2:r2|")),
            (vec![asked(&["1"]), user()], format!("assistant:a|tool1:{none}|user:u|")),
            (vec![asked(&["1"]), user(), result("1")], format!("assistant:a|tool1:{none}|user:u|user:[A tool gave: r1]|")),
            (vec![result("9"), user()], "user:[A tool gave: r9]|user:u|".to_string()),
            (vec![asked(&["1"]), result("1"), result("9")], "assistant:a|tool1:r1|user:[A tool gave: r9]|".to_string()),
            (vec![asked(&["1"]), result("1"), result("1")], "assistant:a|tool1:r1|".to_string()),
        ] {
            assert_eq!(shown(&paired(&messages)), wanted);
        }
    }

    #[test]
    fn words_for_models_without_tools() {
        let failed = ChatMessage { is_error: true, ..result("2") };
        let messages =
            [ChatMessage::new(ChatRole::User, "u"), ChatMessage::asked("", vec![call("1"), call("2")]), result("1"), failed];
        assert_eq!(
            shown(&in_words(&messages)),
            "user:u|assistant:[Called the tool time.now with {}]\n[Called the tool time.now with {}]|\
             user:[A tool gave: r1]\n\n[A tool failed, and said: r2]|"
        );
    }

    #[test]
    fn names_and_arguments() {
        let spec = ToolSpec { name: "a.b".into(), wire: "a_b-1".into(), description: String::new(), schema: Value::Null };
        let tools = [Arc::new(spec)];
        assert_eq!(wire_name("a.b", &tools), "a_b-1");
        assert_eq!(wire_name("ü b/c", &tools), "__b_c");
        assert_eq!(wire_name(&"x".repeat(99), &tools).len(), 64);
        for (written, taken) in
            [(r#"{"a":1}"#, r#"{"a":1}"#), ("[1]", r#"{"not_an_object":"[1]"}"#), ("{\"a", r#"{"not_an_object":"{\"a"}"#)]
        {
            let call = ToolCall { arguments: written.into(), ..call("1") };
            assert_eq!(Value::Object(arguments(&call)).to_string(), taken);
        }
    }
}
