//! What a model's server says in JSON, and the errors that it reports in the middle of an answer.
//!
//! Invariant: a peer's words are shortened and stripped of line breaks. Pure; fails where the JSON is broken beyond mending.

use serde_json::Value;

use crate::base::error::{Error, ErrorKind, Result, shorten};

const PEER_TEXT_MAX: usize = 200;

/// The error object that a server put into its answer.
pub fn reported(error: &Value) -> Error {
    let message = error.get("message").or(Some(error)).and_then(Value::as_str).unwrap_or("no reason given");
    let code = error.get("code").map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_string)).unwrap_or_default();
    let sort = format!("{} {code}", error.get("type").and_then(Value::as_str).unwrap_or_default()).to_ascii_lowercase();
    let kind = match code.parse::<u16>() {
        Ok(429) => ErrorKind::Throttled(None),
        Ok(401 | 403) => ErrorKind::Denied,
        Ok(408) => ErrorKind::Transient,
        Ok(400..=499) => ErrorKind::Permanent,
        _ if sort.contains("rate_limit") => ErrorKind::Throttled(None),
        _ if ["authentication", "permission", "billing"].iter().any(|w| sort.contains(w)) => ErrorKind::Denied,
        _ if ["invalid_request", "exceed_context_size", "not_found", "too_large"].iter().any(|w| sort.contains(w)) => {
            ErrorKind::Permanent
        }
        _ => ErrorKind::Transient,
    };
    let words: Vec<_> = message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    Error::new(kind, format!("the model's server reports: {}", shorten(&words.join(" "), PEER_TEXT_MAX)))
}

/// The JSON of `text`, halves of a pair of surrogates replaced.
///
/// # Errors
/// `Transient` where it is none.
pub fn parse(text: &str) -> Result<Value> {
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
            (r#"{"type":"overloaded_error","message":"m"}"#, ErrorKind::Transient, "m"),
            (r#"{"type":"api_error","message":"m"}"#, ErrorKind::Transient, "m"),
            (r#"{"type":"not_found_error","message":"m"}"#, ErrorKind::Permanent, "m"),
            (r#"{"type":"request_too_large","message":"m"}"#, ErrorKind::Permanent, "m"),
            (r#"{"type":"billing_error","message":"m"}"#, ErrorKind::Denied, "m"),
            (r#"{"type":"permission_error","message":"m"}"#, ErrorKind::Denied, "m"),
            (r#"{"message":"m","code":500}"#, ErrorKind::Transient, "m"),
            (r#""just words""#, ErrorKind::Transient, "just words"),
            ("{}", ErrorKind::Transient, "no reason given"),
            ("[]", ErrorKind::Transient, "no reason given"),
        ] {
            let error = reported(&parse(error).unwrap());
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.text.ends_with(says), "{error}");
        }
    }
}
