//! Fields of a request that a server refused for a model, and that we do without from then on.
//!
//! Invariant: a field is dropped only where the server named it and it was sent, so each costs one more request at the most;
//! models are remembered up to a bound. Cannot fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::net::client::Refused;

const MODELS_MAX: usize = 64;

/// The refused fields, by model.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<String, BTreeSet<&'static str>>>);

impl Refusals {
    /// What `model` is asked without.
    pub fn of(&self, model: &str) -> BTreeSet<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned().unwrap_or_default()
    }

    /// Notes that `model` is asked without `field`; false where it was already.
    pub fn note(&self, model: &str, field: &'static str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MODELS_MAX && !known.contains_key(model) {
            known.clear();
        }
        let is_new = known.entry(model.to_string()).or_default().insert(field);
        if is_new {
            log::warn!(model = model; "the model's server refuses {field} for {model}: it is asked without from now on");
        }
        is_new
    }

    /// Learns which of `fields` a refusal of `sent` names; false where it names none that was sent.
    pub fn learn(&self, model: &str, sent: &Value, refused: &Refused, fields: &[&'static str]) -> bool {
        if !matches!(refused.status, 400 | 404 | 422 | 500 | 501) {
            return false;
        }
        let text = refused.body.to_lowercase();
        let Some(field) = fields.iter().find(|f| sent.get(**f).is_some() && names(&text, f)) else { return false };
        self.note(model, field)
    }
}

fn names(text: &str, field: &str) -> bool {
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    match field {
        // The word stands in many refusals that are about one tool or message; only those count that are about tools as such.
        "tools" => {
            let as_such =
                ["support", "requires", "--jinja", "enabled", "not allowed", "not permitted", "unknown", "unrecognized"];
            text.contains("tool") && any(&as_such) && !any(&["tool_call_id", "tool_use_id", "tool_result"])
        }
        "max_tokens" => text.contains("max_completion_tokens"),
        // An everyday word.
        "stop" => any(&["'stop'", "\"stop\"", "`stop`", "\\\"stop\\\""]),
        field => text.contains(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{Error, ErrorKind};

    #[test]
    fn only_what_is_named_and_was_sent() {
        const FIELDS: [&str; 4] = ["max_tokens", "tools", "response_format", "stop"];
        let sent = serde_json::json!({"tools": [], "response_format": {}, "stop": ["x"], "max_tokens": 1});
        for (status, text, dropped) in [
            (500, "tools param requires --jinja flag", Some("tools")),
            (500, "Unsupported param: tools", Some("tools")),
            (400, "registry.ollama.ai/library/gemma:2b does not support tools", Some("tools")),
            (404, "No endpoints found that support tool use.", Some("tools")),
            (400, "\"auto\" tool choice requires --enable-auto-tool-choice", Some("tools")),
            (400, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'", None),
            (400, "unknown `tool_call_id`", None),
            (400, "unexpected `tool_use_id` found in `tool_result` blocks: not supported", None),
            (400, "Unknown field: response_format", Some("response_format")),
            (400, "Use 'max_completion_tokens' instead", Some("max_tokens")),
            (400, "Unsupported parameter: 'stop'", Some("stop")),
            (400, "stop it", None),
            (401, "this key does not support tools", None),
            (429, "tools are not supported", None),
            (503, "tools are not supported", None),
        ] {
            let refused = Refused { status, body: text.into(), error: Error::new(ErrorKind::Permanent, "x") };
            let refusals = Refusals::default();
            assert_eq!(refusals.learn("m", &sent, &refused, &FIELDS), dropped.is_some(), "{text}");
            assert_eq!(refusals.of("m").into_iter().next(), dropped, "{text}");
            assert!(!refusals.learn("m", &sent, &refused, &FIELDS), "learnt once: {text}");
            assert!(!Refusals::default().learn("m", &Value::Null, &refused, &FIELDS), "not sent: {text}");
            assert!(refusals.of("other").is_empty());
        }
    }

    #[test]
    fn models_are_bounded() {
        let refused = Refused { status: 400, body: "response_format".into(), error: Error::new(ErrorKind::Permanent, "x") };
        let (refusals, sent) = (Refusals::default(), serde_json::json!({"response_format": 1}));
        for i in 0..1000 {
            refusals.learn(&i.to_string(), &sent, &refused, &["response_format"]);
        }
        assert!(refusals.0.lock().unwrap().len() <= MODELS_MAX);
    }
}
