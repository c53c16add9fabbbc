//! What a caller of the OpenAI-compatible API asked for beside its text.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::OPENAI_CHANNEL;
use crate::domain::session::Said;

/// The key under which it stands in a message's metadata.
const KEY: &str = "openai";

/// Something that was said before the message's own text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Who said it.
    pub role: Said,
    /// What.
    pub content: String,
}

/// What a turn on behalf of such a caller goes by. All of it is the caller's own wish, and none of it says who the caller is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// What was said before, oldest first, as the request has it; `None`: the session's transcript is the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Spoken>>,
    /// The request's own instructions; they stand behind the agent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts at which the answer ends; at most 4.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// OpenAI's `response_format`, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<Value>,
    /// Bound of the answer in tokens, at least 1; the agent's own bound holds beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Whether nothing of the turn is to be kept (`FinishedTurn::forget`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forget: bool,
}

impl Asked {
    /// What the caller of a message asked for; `None` for messages of other channels, whose metadata is their senders' own.
    pub fn of(channel: &str, metadata: Option<&Value>) -> Option<Asked> {
        let asked = metadata.filter(|_| channel == OPENAI_CHANNEL)?.get(KEY)?;
        Asked::deserialize(asked).ok()
    }

    /// As metadata.
    pub fn to_metadata(&self) -> Value {
        json!({KEY: self})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_from_its_own_channel_alone() {
        let asked = Asked {
            history: Some(vec![Spoken { role: Said::Assistant, content: "hi".into() }]),
            system: Some("Be a lamp.".into()),
            temperature: Some(0.5),
            stop: vec!["\n".into()],
            max_tokens: Some(7),
            forget: true,
            ..Asked::default()
        };
        let metadata = asked.to_metadata();
        let expected = json!({"openai": {"history": [{"role": "assistant", "content": "hi"}], "system": "Be a lamp.",
            "temperature": 0.5, "stop": ["\n"], "maxTokens": 7, "forget": true}});
        assert_eq!(metadata, expected);
        assert_eq!(Asked::of(OPENAI_CHANNEL, Some(&metadata)), Some(asked));
        assert_eq!(Asked::of("default", Some(&metadata)), None);
        assert_eq!(Asked::of(OPENAI_CHANNEL, Some(&json!({"openai": {}}))), Some(Asked::default()));
        assert_eq!(Asked::of(OPENAI_CHANNEL, None), None);
    }
}
