//! Arguments that a server wants to see in the head of the HTTP request, too (`x-mcp-header` in a tool's schema).
//!
//! Invariant: pure. A header's name is a token and its value visible ASCII, whatever the argument: anything else travels as base64.
//! A schema whose marks break the specification's rules is refused, and its tool with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

const MARK: &str = "x-mcp-header";
/// Most marks in one schema.
const MARKS_MAX: usize = 32;
/// Longest name of a header's own part.
const NAME_BYTES_MAX: usize = 64;
/// Largest integer that every reader of JSON keeps exactly.
const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Which arguments of a tool are shown in the head, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored(Vec<(Vec<String>, String)>);

impl Mirrored {
    /// The marks of a schema.
    ///
    /// # Errors
    /// Which rule is broken.
    pub fn of(schema: &Value) -> Result<Mirrored, &'static str> {
        let mut found = Mirrored::default();
        let mut path = Vec::new();
        found.walk(schema, &mut path)?;
        // A mark that no chain of `properties` leads to is one rule broken; it shows in the count.
        if count(schema, false) != found.0.len() {
            return Err("x-mcp-header stands where no plain property is");
        }
        Ok(found)
    }

    fn walk(&mut self, schema: &Value, path: &mut Vec<String>) -> Result<(), &'static str> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
        for (name, property) in properties {
            path.push(name.clone());
            if let Some(mark) = property.get(MARK) {
                self.mark(mark, property.get("type"), path)?;
            }
            self.walk(property, path)?;
            path.pop();
        }
        Ok(())
    }

    fn mark(&mut self, mark: &Value, kind: Option<&Value>, path: &[String]) -> Result<(), &'static str> {
        let name = mark.as_str().filter(|n| is_token(n)).ok_or("x-mcp-header is no name of a header")?;
        if !kind.and_then(Value::as_str).is_some_and(|k| matches!(k, "string" | "integer" | "boolean")) {
            return Err("x-mcp-header stands at what is neither a string, an integer nor a boolean");
        }
        let header = format!("Mcp-Param-{name}");
        if self.0.iter().any(|(_, other)| other.eq_ignore_ascii_case(&header)) {
            return Err("x-mcp-header names one header twice");
        }
        if self.0.len() >= MARKS_MAX {
            return Err("too many x-mcp-header");
        }
        self.0.push((path.to_vec(), header));
        Ok(())
    }

    /// The headers for these arguments; what is absent or null has none.
    pub fn headers(&self, arguments: &Map<String, Value>) -> Vec<(String, String)> {
        let value = |path: &[String]| {
            let (first, rest) = path.split_first()?;
            rest.iter().try_fold(arguments.get(first)?, |at, key| at.get(key))
        };
        self.0.iter().filter_map(|(path, name)| Some((name.clone(), encoded(&shown(value(path)?)?)))).collect()
    }
}

/// The value as a header shows it.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Number(n) if n.as_i64().is_some_and(|n| n.unsigned_abs() <= SAFE_INTEGER) => Some(n.to_string()),
        _ => None,
    }
}

/// A text as a header's value: as it is where it is plain, else as base64 in the specification's brackets.
pub fn encoded(text: &str) -> String {
    let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text;
    if plain && !(text.starts_with("=?base64?") && text.ends_with("?=")) {
        return text.to_string();
    }
    format!("=?base64?{}?=", STANDARD.encode(text))
}

fn is_token(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(token)
}

/// The marks anywhere in a schema. Keys of `properties` are names of arguments and no marks; data (`default`, `enum`, …) is no
/// schema.
fn count(value: &Value, names: bool) -> usize {
    match value {
        Value::Object(map) => {
            let of = |(key, value): (&String, &Value)| match key.as_str() {
                _ if names => count(value, false),
                MARK => 1,
                "default" | "examples" | "const" | "enum" => 0,
                key => count(value, matches!(key, "properties" | "patternProperties" | "$defs" | "definitions")),
            };
            map.iter().map(of).sum()
        }
        Value::Array(all) => all.iter().map(|v| count(v, false)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(properties: Value, arguments: Value, expected: Result<&[(&str, &str)], &str>) {
        let schema = json!({"type": "object", "properties": properties});
        let got = Mirrored::of(&schema).map(|m| m.headers(arguments.as_object().unwrap()));
        let got = got.as_ref().map(|all| all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>());
        match expected {
            Ok(headers) => assert_eq!(got.unwrap(), headers),
            Err(word) => assert!(got.unwrap_err().contains(word), "{word}"),
        }
    }

    #[test]
    fn arguments_in_the_head() {
        let region = json!({"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}});
        check(region.clone(), json!({"region": "us-west1", "query": "x"}), Ok(&[("Mcp-Param-Region", "us-west1")]));
        check(region.clone(), json!({"region": null}), Ok(&[]));
        check(region.clone(), json!({}), Ok(&[]));
        check(region.clone(), json!({"region": "a\r\nX: 1"}), Ok(&[("Mcp-Param-Region", "=?base64?YQ0KWDogMQ==?=")]));
        check(region, json!({"region": " padded "}), Ok(&[("Mcp-Param-Region", "=?base64?IHBhZGRlZCA=?=")]));
        let deep = json!({"o": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}});
        check(deep.clone(), json!({"o": {"n": -7}}), Ok(&[("Mcp-Param-N", "-7")]));
        check(deep, json!({"o": 3}), Ok(&[]));
        check(json!({"x-mcp-header": {"type": "string"}}), json!({"x-mcp-header": "a name, no mark"}), Ok(&[]));
    }

    #[test]
    fn broken_rules() {
        let bad = |property: Value, word: &str| check(json!({"a": property}), json!({}), Err(word));
        bad(json!({"type": "string", "x-mcp-header": ""}), "no name");
        bad(json!({"type": "string", "x-mcp-header": "a b"}), "no name");
        bad(json!({"type": "string", "x-mcp-header": 1}), "no name");
        bad(json!({"type": "number", "x-mcp-header": "A"}), "neither");
        bad(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}), "no plain property");
        bad(json!({"anyOf": [{"type": "string", "x-mcp-header": "A"}]}), "no plain property");
        let twice = json!({"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}});
        check(twice, json!({}), Err("twice"));
    }

    #[test]
    fn values_that_look_encoded_are_encoded() {
        assert_eq!(encoded("=?base64?literal?="), "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
        assert_eq!(encoded("Hello, 世界"), "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(encoded("read_file"), "read_file");
    }
}
