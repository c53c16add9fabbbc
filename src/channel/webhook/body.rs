//! What a webhook's body says, and everything that is wrong with it.
//!
//! Invariant: all problems are found at once, each with its path; nothing of a body that has one is used. Fields that are not
//! ours are passed over: foreign senders add them. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::config;
use crate::domain::ID_BYTES_MAX;

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest metadata, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `$`, `$.message`, …
    pub path: String,
    /// What.
    pub message: String,
}

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// What was written.
    pub message: String,
    /// Its author, in the channel's own terms.
    pub user_id: String,
    /// The id by which the outside knows it: the verified `webhook-id`, else the body's `messageId`, else the header
    /// `Idempotency-Key`. In this order, since only the first is vouched for by a signature and made by the sender's own
    /// retries; a header that anybody on the way could have added comes last.
    pub external_id: Option<String>,
    /// The conversation within the channel.
    pub conversation_id: Option<String>,
    /// What the sender attached.
    pub metadata: Option<Value>,
}

/// Reads a body. `verified_id` is the `webhook-id` of a verified request, `key` the header `Idempotency-Key`.
///
/// With `messagePath`, `userPath` or `idPath` the body is a foreign one: ids may be whole numbers there, and `conversationId` and
/// `metadata` are not read, since they would be another's words for other things.
///
/// # Errors
/// All problems.
pub fn parse(
    paths: &config::Webhook,
    body: &[u8],
    verified_id: Option<&str>,
    key: Option<&str>,
) -> Result<Incoming, Vec<Problem>> {
    let json: Value = match serde_json::from_slice(body) {
        Ok(json) => json,
        Err(e) => return Err(vec![problem("$", format!("not JSON: {}", brief(&e)))]),
    };
    if !json.is_object() {
        return Err(vec![problem("$", "must be an object")]);
    }
    let foreign = paths.message_path.is_some() || paths.user_path.is_some() || paths.id_path.is_some();
    let mut reader = Reader { json: &json, foreign, problems: Vec::new() };
    let message = reader.message(paths.message_path.as_deref().unwrap_or("/message"));
    let user_id = reader.id(paths.user_path.as_deref().unwrap_or("/userId"), true);
    let message_id = reader.id(paths.id_path.as_deref().unwrap_or("/messageId"), false);
    let conversation_id = if foreign { None } else { reader.id("/conversationId", false) };
    let metadata = if foreign { None } else { reader.metadata() };
    let key = key.filter(|_| verified_id.is_none() && message_id.is_none());
    if let Some(wrong) = key.and_then(wrong_id) {
        reader.problems.push(problem("$", format!("the header Idempotency-Key {wrong}")));
    }
    match (message, user_id) {
        (Some(message), Some(user_id)) if reader.problems.is_empty() => {
            let external_id = verified_id.map(str::to_string).or(message_id).or(key.map(str::to_string));
            Ok(Incoming { message, user_id, external_id, conversation_id, metadata })
        }
        _ => Err(reader.problems),
    }
}

struct Reader<'a> {
    json: &'a Value,
    foreign: bool,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn at(&self, pointer: &str) -> Option<&Value> {
        self.json.pointer(pointer).filter(|v| !v.is_null())
    }

    fn wrong<T>(&mut self, pointer: &str, what: impl Into<String>) -> Option<T> {
        self.problems.push(problem(&path(pointer), what));
        None
    }

    fn message(&mut self, pointer: &str) -> Option<String> {
        match self.at(pointer) {
            None => self.wrong(pointer, "is required"),
            Some(Value::String(text)) if text.trim().is_empty() => self.wrong(pointer, "must not be empty"),
            Some(Value::String(text)) if text.len() > MESSAGE_BYTES_MAX => {
                self.wrong(pointer, format!("must have at most {MESSAGE_BYTES_MAX} bytes"))
            }
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => self.wrong(pointer, "must be a string"),
        }
    }

    fn id(&mut self, pointer: &str, required: bool) -> Option<String> {
        let id = match self.at(pointer) {
            None if required => return self.wrong(pointer, "is required"),
            None => return None,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(n)) if self.foreign && (n.is_i64() || n.is_u64()) => n.to_string(),
            Some(_) => return self.wrong(pointer, "must be a string"),
        };
        match wrong_id(&id) {
            Some(wrong) => self.wrong(pointer, wrong),
            None => Some(id),
        }
    }

    fn metadata(&mut self) -> Option<Value> {
        match self.at("/metadata") {
            None => None,
            Some(value) if !value.is_object() => self.wrong("/metadata", "must be an object"),
            Some(value) if value.to_string().len() > METADATA_BYTES_MAX => {
                self.wrong("/metadata", format!("must have at most {METADATA_BYTES_MAX} bytes as JSON"))
            }
            Some(value) => Some(value.clone()),
        }
    }
}

/// What is wrong with an id, if anything is.
fn wrong_id(id: &str) -> Option<String> {
    match id.len() {
        0 => Some("must not be empty".to_string()),
        _ if id.trim().is_empty() => Some("must not be blank".to_string()),
        n if n > ID_BYTES_MAX => Some(format!("must have at most {ID_BYTES_MAX} bytes")),
        _ if id.chars().any(char::is_control) => Some("must have no control characters".to_string()),
        _ => None,
    }
}

fn problem(path: &str, message: impl Into<String>) -> Problem {
    Problem { path: path.to_string(), message: message.into() }
}

/// A JSON Pointer as people write paths: `/a/b` is `$.a.b`.
fn path(pointer: &str) -> String {
    format!("${}", pointer.replace('/', ".").replace("~1", "/").replace("~0", "~"))
}

/// serde_json's words on a syntax error, which hold nothing of the text itself but a place.
fn brief(e: &serde_json::Error) -> String {
    match e.classify() {
        serde_json::error::Category::Eof => "it ends too early".to_string(),
        _ => format!("line {}, column {}", e.line(), e.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> config::Webhook {
        config::Webhook::default()
    }

    #[track_caller]
    fn check_problems(paths: &config::Webhook, body: &str, expected: &[(&str, &str)]) {
        let problems = parse(paths, body.as_bytes(), None, None).unwrap_err();
        let got: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.message.as_str())).collect();
        assert_eq!(got, expected, "{}", &body[..body.len().min(200)]);
    }

    #[test]
    fn every_problem_at_once() {
        let string = "must be a string";
        check_problems(&plain(), "", &[("$", "not JSON: it ends too early")]);
        check_problems(&plain(), "{\"message\": tru}", &[("$", "not JSON: line 1, column 16")]);
        check_problems(&plain(), "[]", &[("$", "must be an object")]);
        check_problems(&plain(), "{}", &[("$.message", "is required"), ("$.userId", "is required")]);
        check_problems(
            &plain(),
            r#"{"message":null,"userId":null}"#,
            &[("$.message", "is required"), ("$.userId", "is required")],
        );
        check_problems(
            &plain(),
            r#"{"message":1,"userId":2,"messageId":3,"conversationId":[],"metadata":"x"}"#,
            &[
                ("$.message", string),
                ("$.userId", string),
                ("$.messageId", string),
                ("$.conversationId", string),
                ("$.metadata", "must be an object"),
            ],
        );
        check_problems(
            &plain(),
            r#"{"message":" \n","userId":"","messageId":"a\u0000","conversationId":"\u0007"}"#,
            &[
                ("$.message", "must not be empty"),
                ("$.userId", "must not be empty"),
                ("$.messageId", "must have no control characters"),
                ("$.conversationId", "must have no control characters"),
            ],
        );
        check_problems(&plain(), r#"{"message":"x","userId":" "}"#, &[("$.userId", "must not be blank")]);
        let long = |n| "x".repeat(n);
        let body = format!(r#"{{"message":"x","userId":"{}"}}"#, long(257));
        check_problems(&plain(), &body, &[("$.userId", "must have at most 256 bytes")]);
        let body = format!(r#"{{"message":"{}","userId":"u"}}"#, long(MESSAGE_BYTES_MAX + 1));
        check_problems(&plain(), &body, &[("$.message", "must have at most 262144 bytes")]);
        let body = format!(r#"{{"message":"x","userId":"u","metadata":{{"a":"{}"}}}}"#, long(METADATA_BYTES_MAX));
        check_problems(&plain(), &body, &[("$.metadata", "must have at most 16384 bytes as JSON")]);
        let deep = format!(r#"{{"message":"x","userId":"u","metadata":{{"a":{}}}}}"#, "[".repeat(100_000));
        assert_eq!(parse(&plain(), deep.as_bytes(), None, None).unwrap_err()[0].path, "$");
        assert_eq!(parse(&plain(), b"{\"message\":\"\xff\",\"userId\":\"u\"}", None, None).unwrap_err()[0].path, "$");
    }

    #[test]
    fn what_is_taken() {
        let body = r#"{"message":" hi ","userId":"u","messageId":"m","conversationId":"c","metadata":{"k":[1]},"extra":0}"#;
        let incoming = parse(&plain(), body.as_bytes(), None, None).unwrap();
        assert_eq!((incoming.message.as_str(), incoming.user_id.as_str()), (" hi ", "u"));
        assert_eq!((incoming.external_id.as_deref(), incoming.conversation_id.as_deref()), (Some("m"), Some("c")));
        assert_eq!(incoming.metadata, Some(serde_json::json!({"k": [1]})));
        let longest = format!(r#"{{"message":"{}","userId":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX), "u".repeat(256));
        assert!(parse(&plain(), longest.as_bytes(), None, None).is_ok());
    }

    #[test]
    fn which_id_counts() {
        for (verified, in_body, key, expected) in [
            (Some("w"), Some("b"), Some("k"), Some("w")),
            (None, Some("b"), Some("k"), Some("b")),
            (None, None, Some("k"), Some("k")),
            (None, None, None, None),
            (Some("w"), None, Some(""), Some("w")),
        ] {
            let body = serde_json::json!({"message": "x", "userId": "u", "messageId": in_body}).to_string();
            let incoming = parse(&plain(), body.as_bytes(), verified, key).unwrap();
            assert_eq!(incoming.external_id.as_deref(), expected, "{verified:?} {in_body:?} {key:?}");
        }
        let body = br#"{"message":"x","userId":"u"}"#;
        let problems = parse(&plain(), body, None, Some("")).unwrap_err();
        assert_eq!(problems[0].message, "the header Idempotency-Key must not be empty");
    }

    #[test]
    fn foreign_bodies() {
        let paths = config::Webhook {
            message_path: Some("/issue/title".into()),
            user_path: Some("/sender/id".into()),
            id_path: Some("/a~1b/0".into()),
            ..plain()
        };
        let body =
            r#"{"issue":{"title":"broken"},"sender":{"id":42},"a/b":[18446744073709551615],"metadata":7,"conversationId":7}"#;
        let incoming = parse(&paths, body.as_bytes(), None, None).unwrap();
        assert_eq!((incoming.message.as_str(), incoming.user_id.as_str()), ("broken", "42"));
        assert_eq!((incoming.external_id.as_deref(), incoming.metadata), (Some("18446744073709551615"), None));
        check_problems(
            &paths,
            r#"{"issue":{},"sender":{"id":1.5},"a/b":[true]}"#,
            &[("$.issue.title", "is required"), ("$.sender.id", "must be a string"), ("$.a/b.0", "must be a string")],
        );
    }
}
