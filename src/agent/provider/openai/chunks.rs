//! An OpenAI-compatible answer, put together from its pieces: a value over JSON texts.
//!
//! Invariant: what it holds and how many pieces it takes is bounded; a blank or broken-off answer never counts as one. It is
//! as tolerant as real servers need: unknown fields, absent choices, `null` content, usage at any place. Fails with the error
//! that the server reported, or that its answer is.

use serde_json::Value;

use crate::agent::provider::{ANSWER_BYTES_MAX, Answer};
use crate::base::error::{Error, ErrorKind, Result, shorten};

/// Pieces of one answer: far beyond what a model says in 1 MiB, within what a hostile stream can cost.
const CHUNKS_MAX: usize = 500_000;
const PEER_TEXT_MAX: usize = 200;

/// What came so far.
#[derive(Debug, Default)]
pub struct Gathered {
    text: String,
    tokens: (u64, u64),
    finish: Option<String>,
    model: Option<String>,
    done: bool,
    chunks: usize,
}

impl Gathered {
    /// Whether the text is whole; only its account may still come.
    pub fn is_whole(&self) -> bool {
        self.done || self.finish.is_some()
    }

    /// Whether the server said that nothing more will come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the data of one event of a stream.
    ///
    /// # Errors
    /// The server's own error, JSON that is none, or a bound.
    pub fn event(&mut self, data: &str, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        self.chunks += 1;
        if self.chunks > CHUNKS_MAX {
            return Err(Error::new(ErrorKind::Permanent, format!("the answer came in more than {CHUNKS_MAX} pieces")));
        }
        match data.trim() {
            "" => Ok(()),
            "[DONE]" => {
                self.done = true;
                Ok(())
            }
            data => self.take(&parse(data)?, "/choices/0/delta/content", on_delta),
        }
    }

    /// Takes a whole answer, as a server gives it that does not stream.
    ///
    /// # Errors
    /// As [`Gathered::event`].
    pub fn whole(&mut self, body: &str, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        let json = parse(body.trim())?;
        self.take(&json, "/choices/0/message/content", on_delta)?;
        if json.pointer("/choices/0/message").is_none() {
            let text = "the answer is JSON, but no chat completion";
            return Err(Error::new(ErrorKind::Permanent, text).hint("check baseUrl: it usually ends in /v1"));
        }
        self.done = true;
        Ok(())
    }

    fn take(&mut self, json: &Value, content: &str, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(error) = json.get("error").filter(|e| !e.is_null()) {
            return Err(reported(error));
        }
        if let Some(model) = json.get("model").and_then(Value::as_str).filter(|_| self.model.is_none()) {
            self.model = Some(shorten(model, PEER_TEXT_MAX));
        }
        if let Some(usage) = json.get("usage") {
            let count = |key, before| usage.get(key).and_then(Value::as_u64).unwrap_or(before);
            self.tokens = (count("prompt_tokens", self.tokens.0), count("completion_tokens", self.tokens.1));
        }
        if let Some(finish) = json.pointer("/choices/0/finish_reason").and_then(Value::as_str).filter(|f| !f.is_empty()) {
            self.finish = Some(shorten(finish, PEER_TEXT_MAX));
        }
        match json.pointer(content) {
            Some(Value::String(text)) => self.add(text, on_delta),
            // Content in parts: `[{"type":"text","text":"…"}]`.
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|p| p.get("text")?.as_str()).try_for_each(|text| self.add(text, on_delta))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, text: &str, on_delta: &mut dyn FnMut(&str)) -> Result<()> {
        if self.text.len() + text.len() > ANSWER_BYTES_MAX {
            return Err(Error::new(ErrorKind::Permanent, format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"))
                .hint("set maxOutputTokens for the agent"));
        }
        self.text.push_str(text);
        if !text.is_empty() {
            on_delta(text);
        }
        Ok(())
    }

    /// The answer, if it is one. `model` is the one that was asked for.
    ///
    /// # Errors
    /// `Transient` where it was broken off or is blank, `Permanent` where the model can't answer so.
    pub fn answer(self, model: &str) -> Result<Answer> {
        if !self.is_whole() {
            let how = if self.text.is_empty() { "without a word" } else { "in the middle of its answer" };
            return Err(Error::new(ErrorKind::Transient, format!("the model's server ended {how}")));
        }
        let finish = self.finish.unwrap_or_else(|| "stop".into());
        if self.text.trim().is_empty() {
            return Err(match finish.as_str() {
                "length" => Error::new(ErrorKind::Permanent, "the model's output ended before its answer began")
                    .hint("raise maxOutputTokens for the agent, or the server's context size"),
                "content_filter" => Error::new(ErrorKind::Permanent, "the provider's content filter withheld the answer"),
                "tool_calls" | "function_call" => {
                    Error::new(ErrorKind::Permanent, "the model called a tool that it was not given")
                }
                _ => Error::new(ErrorKind::Transient, "the model's answer is empty"),
            });
        }
        let model = self.model.unwrap_or_else(|| model.to_string());
        Ok(Answer { text: self.text, calls: Vec::new(), tokens_in: self.tokens.0, tokens_out: self.tokens.1, finish, model })
    }
}

/// The error object that a server put into its answer.
fn reported(error: &Value) -> Error {
    let message = error.get("message").or(Some(error)).and_then(Value::as_str).unwrap_or("no reason given");
    let code = error.get("code").map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_string)).unwrap_or_default();
    let sort = format!("{} {code}", error.get("type").and_then(Value::as_str).unwrap_or_default()).to_ascii_lowercase();
    let kind = match code.parse::<u16>() {
        Ok(429) => ErrorKind::Throttled(None),
        Ok(401 | 403) => ErrorKind::Denied,
        Ok(408) => ErrorKind::Transient,
        Ok(400..=499) => ErrorKind::Permanent,
        _ if sort.contains("rate_limit") => ErrorKind::Throttled(None),
        _ if sort.contains("authentication") || sort.contains("permission") => ErrorKind::Denied,
        _ if sort.contains("invalid_request") || sort.contains("exceed_context_size") => ErrorKind::Permanent,
        _ => ErrorKind::Transient,
    };
    let words: Vec<_> = message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    Error::new(kind, format!("the model's server reports: {}", shorten(&words.join(" "), PEER_TEXT_MAX)))
}

fn parse(text: &str) -> Result<Value> {
    let parsed = serde_json::from_str(text).or_else(|e| {
        // Servers that cut text by UTF-16 units send halves of a pair, which is no text; all the rest of the answer is.
        let mended = mend_surrogates(text).ok_or(e)?;
        serde_json::from_str(&mended)
    });
    parsed.map_err(|_| Error::new(ErrorKind::Transient, "the model's server sent JSON that is broken"))
}

/// `text` with each lone `\uD800`…`\uDFFF` replaced; `None` where there is none.
fn mend_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let (mut out, mut at, mut mended) = (String::with_capacity(text.len()), 0, false);
    while let Some(c) = text[at..].chars().next() {
        let (taken, lone) = match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => (12, false),
            Some(0xd800..=0xdfff) => (6, true),
            Some(_) => (6, false),
            None if c == '\\' => (1 + text[at + 1..].chars().next().map_or(0, char::len_utf8), false),
            None => (c.len_utf8(), false),
        };
        out.push_str(if lone { "\\ufffd" } else { &text[at..at + taken] });
        mended |= lone;
        at += taken;
    }
    mended.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_pair() {
        for (text, mended) in [
            (r#""\ud83d""#, Some(r#""\ufffd""#)),
            (r#""a\ude42b""#, Some(r#""a\ufffdb""#)),
            (r#""\ud83d\ude42""#, None),
            (r#""\\ud83d""#, None),
            (r#""\ud83d\ud83d\ude42""#, Some(r#""\ufffd\ud83d\ude42""#)),
            (r#""\u00e4 ä\"#, None),
        ] {
            assert_eq!(mend_surrogates(text).as_deref(), mended, "{text}");
        }
    }

    #[test]
    fn errors_in_the_stream() {
        for (error, kind, says) in [
            (r#"{"message":"slow\ndown","code":429}"#, ErrorKind::Throttled(None), "slow down"),
            (r#"{"message":"m","type":"rate_limit_exceeded"}"#, ErrorKind::Throttled(None), "m"),
            (r#"{"message":"m","code":"401"}"#, ErrorKind::Denied, "m"),
            (r#"{"message":"m","type":"authentication_error","code":null}"#, ErrorKind::Denied, "m"),
            (r#"{"message":"m","type":"invalid_request_error"}"#, ErrorKind::Permanent, "m"),
            (r#"{"message":"m","code":500}"#, ErrorKind::Transient, "m"),
            (r#""just words""#, ErrorKind::Transient, "just words"),
            ("{}", ErrorKind::Transient, "no reason given"),
            ("[]", ErrorKind::Transient, "no reason given"),
        ] {
            let error = Gathered::default().event(&format!("{{\"error\":{error}}}"), &mut |_| {}).unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.text.ends_with(says), "{error}");
        }
    }

    #[test]
    fn bounds() {
        let piece = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(100_000));
        let (mut gathered, mut seen) = (Gathered::default(), 0);
        let error = (0..20).find_map(|_| gathered.event(&piece, &mut |d| seen += d.len()).err()).unwrap();
        assert_eq!((error.kind, seen), (ErrorKind::Permanent, 1_000_000));
        let mut gathered = Gathered::default();
        let error = (0..=CHUNKS_MAX).find_map(|_| gathered.event("", &mut |_| {}).err()).unwrap();
        assert_eq!(error.kind, ErrorKind::Permanent);
    }
}
