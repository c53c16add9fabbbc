//! A chat completion's request: what we go by, what we refuse, what we let pass unread.
//!
//! Read: `model`, `messages`, `user`, `stream`, `stream_options.include_usage`, `max_completion_tokens` (or `max_tokens`),
//! `temperature`, `top_p`, `stop`, `response_format`. Refused, since leaving them out would change what the caller gets: `tools`
//! and `functions` that are not empty, `n` above 1, audio, parts of messages that are no text. All else (`logprobs`,
//! `top_logprobs`, `logit_bias`, `seed`, `presence_penalty`, `frequency_penalty`, `store`, `metadata`, `service_tier`,
//! `parallel_tool_calls`, `tool_choice`, `reasoning_effort`, `prediction`, unknown keys) is ignored, as clients send much.
//!
//! Invariant: pure. Fails with 400 and every problem.

use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::messages::TEXT_BYTES_MAX;
use crate::domain::{Asked, ID_BYTES_MAX, Said, Spoken};

/// Messages in one request.
const MESSAGES_MAX: usize = 2048;
/// Bytes of text in all of them.
const ALL_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a `response_format`.
const FORMAT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one `stop` text.
const STOP_BYTES_MAX: usize = 256;

/// A request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    /// The model, as it was written.
    pub model: String,
    /// The last thing that the user said.
    pub text: String,
    /// What the turn goes by.
    pub asked: Asked,
    /// Whose session it is; `None`: nothing is kept.
    pub user: Option<String>,
    /// Whether the answer is to come as chunks.
    pub stream: bool,
    /// Whether a chunk tells the usage.
    pub include_usage: bool,
}

/// Reads a request.
///
/// # Errors
/// 400 with every problem.
pub(super) fn read(value: &Value) -> Result<Question, ApiError> {
    let Some(object) = value.as_object() else { return Err(ApiError::invalid_at("$", "expected an object")) };
    let mut reader = Reader { object, problems: Vec::new() };
    let model = reader.text("model", ID_BYTES_MAX).unwrap_or_else(|| reader.missing("model"));
    let user = reader.text("user", ID_BYTES_MAX).filter(|u| !u.trim().is_empty());
    if user.as_ref().is_some_and(|u| u.chars().any(char::is_control)) {
        reader.problem("user", "must not hold control characters");
    }
    reader.refuse_what_we_lack();
    let words = reader.messages(user.is_some());
    let tokens = reader.count("max_completion_tokens").or(reader.count("max_tokens"));
    let asked = Asked {
        history: user.is_none().then_some(words.history),
        system: (!words.system.is_empty()).then(|| words.system.join("\n\n")),
        temperature: reader.number("temperature", 2.0),
        top_p: reader.number("top_p", 1.0),
        stop: reader.stop(),
        response_format: reader.format(),
        max_tokens: tokens,
        forget: user.is_none(),
    };
    let stream = reader.flag(object.get("stream"), "stream");
    let options = object.get("stream_options").and_then(|o| o.get("include_usage"));
    let include_usage = reader.flag(options, "stream_options.include_usage");
    if !reader.problems.is_empty() {
        return Err(ApiError::invalid(reader.problems));
    }
    Ok(Question { model, text: words.text, asked, user, stream, include_usage })
}

/// What the messages came to.
#[derive(Default)]
struct Words {
    text: String,
    history: Vec<Spoken>,
    system: Vec<String>,
}

struct Reader<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    /// The value of a key; null is as good as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push((format!("$.{path}"), message.into()));
    }

    fn missing(&mut self, key: &str) -> String {
        if self.get(key).is_none() {
            self.problem(key, "is missing");
        }
        String::new()
    }

    fn text(&mut self, key: &str, max: usize) -> Option<String> {
        match self.get(key)? {
            Value::String(text) if text.len() <= max => return Some(text.clone()),
            Value::String(_) => self.problem(key, format!("must have at most {max} bytes")),
            _ => self.problem(key, "expected a string"),
        }
        None
    }

    fn number(&mut self, key: &str, max: f64) -> Option<f64> {
        let number = self.get(key)?.as_f64().filter(|n| (0.0..=max).contains(n));
        if number.is_none() {
            self.problem(key, format!("expected a number from 0 to {max}"));
        }
        number
    }

    fn count(&mut self, key: &str) -> Option<u64> {
        let count = self.get(key)?.as_u64().filter(|n| *n > 0);
        if count.is_none() {
            self.problem(key, "expected a whole number of at least 1");
        }
        count
    }

    fn flag(&mut self, value: Option<&Value>, path: &str) -> bool {
        match value {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(path, "expected true or false");
                false
            }
        }
    }

    fn stop(&mut self) -> Vec<String> {
        let stop: Option<Vec<&str>> = match self.get("stop") {
            None => return Vec::new(),
            Some(Value::String(text)) => Some(vec![text]),
            Some(Value::Array(texts)) => texts.iter().map(Value::as_str).collect(),
            Some(_) => None,
        };
        match stop.filter(|s| s.len() <= 4 && s.iter().all(|t| !t.is_empty() && t.len() <= STOP_BYTES_MAX)) {
            Some(stop) => stop.into_iter().map(str::to_string).collect(),
            None => {
                self.problem("stop", format!("expected a string or at most 4 of them, of 1 to {STOP_BYTES_MAX} bytes each"));
                Vec::new()
            }
        }
    }

    fn format(&mut self) -> Option<Value> {
        let format = self.get("response_format")?;
        match format["type"].as_str() {
            Some("text") => None,
            Some("json_object" | "json_schema") if format.to_string().len() <= FORMAT_BYTES_MAX => Some(format.clone()),
            Some("json_object" | "json_schema") => {
                self.problem("response_format", format!("must have at most {FORMAT_BYTES_MAX} bytes"));
                None
            }
            _ => {
                self.problem("response_format.type", "expected text, json_object or json_schema");
                None
            }
        }
    }

    fn refuse_what_we_lack(&mut self) {
        for key in ["tools", "functions"] {
            if self.get(key).is_some_and(|t| t.as_array().is_none_or(|t| !t.is_empty())) {
                self.problem(key, "an agent uses the gateway's own tools; tools of the caller's are not taken");
            }
        }
        if self.get("n").is_some_and(|n| n.as_u64() != Some(1)) {
            self.problem("n", "an agent gives one answer: expected 1");
        }
        let modalities = self.get("modalities").and_then(Value::as_array);
        if self.get("audio").is_some() || modalities.is_some_and(|m| m.iter().any(|m| m != "text")) {
            self.problem("modalities", "agents speak in text alone");
        }
    }

    /// The messages. Where the session is kept (`kept`) the last thing that the user said counts, and the instructions.
    fn messages(&mut self, kept: bool) -> Words {
        let messages = match self.get("messages") {
            Some(Value::Array(messages)) if !messages.is_empty() && messages.len() <= MESSAGES_MAX => messages,
            Some(_) => {
                self.problem("messages", format!("expected an array of 1 to {MESSAGES_MAX} messages"));
                return Words::default();
            }
            None => {
                self.missing("messages");
                return Words::default();
            }
        };
        let (mut words, mut bytes) = (Words::default(), 0);
        for (i, message) in messages.iter().enumerate() {
            let path = format!("messages[{i}]");
            let text = self.content(message, &path);
            bytes += text.len();
            let spoken = |role, content| Spoken { role, content };
            match message["role"].as_str() {
                Some("system" | "developer") => words.system.push(text),
                Some("user") => words.history.push(spoken(Said::User, text)),
                Some("assistant") => words.history.push(spoken(Said::Assistant, text)),
                // What a tool of the caller's once said, in a conversation that goes on here.
                Some("tool" | "function") => words.history.push(spoken(Said::User, format!("Result of a tool call: {text}"))),
                _ => self.problem(&format!("{path}.role"), "expected system, developer, user, assistant or tool"),
            }
        }
        if bytes > ALL_BYTES_MAX {
            self.problem("messages", format!("must have at most {ALL_BYTES_MAX} bytes of text in all"));
        }
        words.system.retain(|s| !s.trim().is_empty());
        self.last(&mut words, messages.len(), kept);
        words.history.retain(|s| !s.content.trim().is_empty());
        words
    }

    /// Takes the last thing that the user said out of the history.
    fn last(&mut self, words: &mut Words, count: usize, kept: bool) {
        let at = words.history.iter().rposition(|s| s.role == Said::User);
        let Some(at) = at.filter(|at| kept || at + 1 == words.history.len()) else {
            if self.problems.is_empty() {
                let which = if kept { "one message" } else { "the last message" };
                self.problem(&format!("messages[{}]", count - 1), format!("{which} must be the user's"));
            }
            return;
        };
        words.history.truncate(at + 1);
        words.text = words.history.pop().map(|s| s.content).unwrap_or_default();
        if words.text.trim().is_empty() && self.problems.is_empty() {
            self.problem("messages", "the user's last message must not be empty");
        }
        if words.text.len() > TEXT_BYTES_MAX {
            self.problem("messages", format!("the user's last message must have at most {TEXT_BYTES_MAX} bytes"));
        }
    }

    /// A message's text: its content, or the texts of its parts, one behind the other.
    fn content(&mut self, message: &Value, path: &str) -> String {
        match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            // An assistant that only called tools says nothing.
            None | Some(Value::Null) if message["role"] == "assistant" => String::new(),
            Some(Value::Array(parts)) => {
                let mut text = String::new();
                for (i, part) in parts.iter().enumerate() {
                    match (part["type"].as_str(), part["text"].as_str().or(part["refusal"].as_str())) {
                        (Some("text" | "refusal"), Some(piece)) => text.push_str(piece),
                        (Some(kind), _) if !matches!(kind, "text" | "refusal") => {
                            let message = format!("a part of type {kind:.32} can't be read here; agents take text alone");
                            self.problem(&format!("{path}.content[{i}]"), message);
                        }
                        _ => self.problem(&format!("{path}.content[{i}]"), "expected {\"type\":\"text\",\"text\":…}"),
                    }
                }
                text
            }
            _ => {
                self.problem(&format!("{path}.content"), "expected a string or an array of parts");
                String::new()
            }
        }
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
