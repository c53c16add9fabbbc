//! Bodies: their type, and JSON read strictly with every problem at once.
//!
//! Invariant: a field that is missing or of another type is named by its path; nothing is guessed or converted.

use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::net::http::Head;

/// Refuses bodies that are not plain JSON. A body without a type is taken for JSON. A foreign page could send one (a `Blob`
/// has none), but not without its `Origin`, which is refused before.
///
/// # Errors
/// 415.
pub fn check_type(head: &Head) -> Result<(), ApiError> {
    if let Some(coding) = head.header("content-encoding")
        && !coding.eq_ignore_ascii_case("identity")
    {
        return Err(ApiError::new(415, "The body must not be compressed"));
    }
    let Some(kind) = head.header("content-type") else { return Ok(()) };
    let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json { Ok(()) } else { Err(ApiError::new(415, "The body must be application/json")) }
}

/// The body as JSON.
///
/// # Errors
/// 400 with line and column.
pub fn json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|e| ApiError::invalid_at("$", format!("the body is not valid JSON: {e}")))
}

/// Reads the fields of one object and keeps every problem.
pub struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    problems: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object.
    pub fn of(value: &'a Value) -> Self {
        let object = value.as_object();
        let problems = if object.is_none() { vec![("$".to_string(), "expected an object".to_string())] } else { Vec::new() };
        Fields { object, problems }
    }

    /// A text of 1 to `max` bytes that must be there.
    pub fn text(&mut self, key: &str, max: usize) -> String {
        match self.optional_text(key, max) {
            Some(text) => text,
            None => {
                let missing = self.object.is_some_and(|o| !o.contains_key(key) || o[key].is_null());
                if missing {
                    self.problem(key, "is missing");
                }
                String::new()
            }
        }
    }

    /// A text of 1 to `max` bytes, or nothing (absent or null).
    pub fn optional_text(&mut self, key: &str, max: usize) -> Option<String> {
        match self.object?.get(key)? {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => {
                self.problem(key, "must not be empty");
                None
            }
            Value::String(text) if text.len() > max => {
                self.problem(key, &format!("must have at most {max} bytes"));
                None
            }
            Value::String(text) => Some(text.clone()),
            _ => {
                self.problem(key, "expected a string");
                None
            }
        }
    }

    /// `true` or `false`, or nothing (absent or null).
    pub fn optional_flag(&mut self, key: &str) -> Option<bool> {
        match self.object?.get(key)? {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            _ => {
                self.problem(key, "expected true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`, or nothing (absent or null).
    pub fn optional_number(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.object?.get(key).filter(|v| !v.is_null())?;
        let number = value.as_u64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.problem(key, &format!("expected a whole number from {least} to {most}"));
        }
        number
    }

    /// Refuses fields beside these.
    pub fn only(&mut self, keys: &[&str]) {
        for key in self.object.iter().flat_map(|o| o.keys()).filter(|k| !keys.contains(&k.as_str())) {
            let key = crate::base::error::shorten(key, 64);
            self.problems.push((format!("$.{key}"), "there is no such field".to_string()));
        }
    }

    /// An id: a text without control characters.
    pub fn id(&mut self, key: &str) -> String {
        let text = self.text(key, crate::domain::ID_BYTES_MAX);
        if text.chars().any(char::is_control) {
            self.problem(key, "must not hold control characters");
        }
        text
    }

    /// Notes a problem of a field; of the whole where `key` is empty.
    pub fn problem(&mut self, key: &str, message: &str) {
        let path = if key.is_empty() { "$".to_string() } else { format!("$.{key}") };
        self.problems.push((path, message.to_string()));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with all problems.
    pub fn end(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: Value, expected: &[&str]) {
        let mut fields = Fields::of(&value);
        fields.id("userId");
        fields.text("message", 8);
        fields.optional_text("channel", 8);
        let problems = fields.end().map_or_else(|e| e.errors, |()| vec![]);
        let found: Vec<_> = problems.iter().map(|(path, message)| format!("{path} {message}")).collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn every_problem_at_once() {
        check(json!({"userId": "ana", "message": "hi"}), &[]);
        check(json!({"userId": "ana", "message": "hi", "channel": null}), &[]);
        check(json!({"userId": 1, "message": null}), &["$.userId expected a string", "$.message is missing"]);
        check(json!({"message": " "}), &["$.userId is missing", "$.message must not be empty"]);
        check(
            json!({"userId": "a\u{0}", "message": "123456789"}),
            &["$.userId must not hold control characters", "$.message must have at most 8 bytes"],
        );
        check(json!([]), &["$ expected an object"]);
    }
}
