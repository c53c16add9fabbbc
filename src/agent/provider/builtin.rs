//! The offline provider: what answers where no model is configured and none was found.
//!
//! Invariant: needs nothing and never fails; its answer has exactly two lines, whatever it heard.

use crate::agent::provider::{Answer, ChatRole, Completion, Failure, Provider};
use crate::base::error::{Result, shorten};

/// What it repeats of what it heard, in bytes.
const ECHO_MAX: usize = 200;

/// The provider.
#[derive(Debug)]
pub struct Builtin;

impl Provider for Builtin {
    fn complete(&self, ask: &Completion, on_delta: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let heard = ask.messages.iter().rev().find(|m| m.role == ChatRole::User).map_or("", |m| m.text.as_str());
        let heard: Vec<_> = heard.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
        let text = format!(
            "No language model is configured here, so I can only repeat what I heard: {}\n\
             To connect one, name an OpenAI-compatible server under \"providers\" in the configuration, \
             or start one on 127.0.0.1:11434 or 127.0.0.1:8080.",
            shorten(&heard.join(" "), ECHO_MAX)
        );
        on_delta(&text);
        Ok(Answer { text, calls: Vec::new(), tokens_in: 0, tokens_out: 0, finish: "stop".into(), model: "builtin".into() })
    }

    fn models(&self) -> Result<Vec<String>> {
        Ok(vec!["builtin".into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::provider::ChatMessage;

    #[test]
    fn two_lines_whatever_it_heard() {
        for (heard, echo) in [
            ("hi", "heard: hi\n"),
            (" a\r\nb\u{2028}c\td\u{0} ", "heard: a b c d\n"),
            ("", "heard: \n"),
            (&"ü".repeat(300), &format!("heard: {}…\n", "ü".repeat(100))),
        ] {
            let messages = vec![ChatMessage::new(ChatRole::User, heard)];
            let ask = Completion::of("auto", messages, Default::default());
            let mut streamed = String::new();
            let answer = Builtin.complete(&ask, &mut |d| streamed.push_str(d)).unwrap();
            assert_eq!((answer.text.lines().count(), &answer.text), (2, &streamed));
            assert!(answer.text.contains(echo), "{}", answer.text);
        }
    }
}
