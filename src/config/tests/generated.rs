//! What is generated from the table stays in step with it, and agrees with what is checked.

use serde_json::{Value, json};

use super::{EXAMPLE, complaints, read};
use crate::config::{parse, reference, schema, text};

/// The file holds `expected`; with `UPDATE=1` it is written instead.
#[track_caller]
fn in_step(path: &str, expected: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("UPDATE").is_ok_and(|v| v == "1") {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is behind the table: UPDATE=1 cargo test config", path.display());
}

#[test]
fn the_schema_is_in_step() {
    in_step("config/gatelet.schema.json", &text(&schema()));
}

#[test]
fn the_reference_is_in_step() {
    in_step("docs/configuration.md", &reference());
}

#[test]
fn the_example_works_as_it_is() {
    let doc = parse(EXAMPLE.as_bytes()).unwrap();
    read(EXAMPLE).unwrap();
    assert_eq!(refusal(&schema(), &doc), None);
}

#[test]
fn schema_and_check_agree() {
    for (doc, good) in [
        (json!({}), true),
        (json!({"gateway": {"limits": {"maxBodyBytes": 1024}}}), true),
        (json!({"gateway": {"limits": {"maxBodyBytes": 1023}}}), false),
        (json!({"gateway": {"limits": {"maxBodyBytes": "1024"}}}), false),
        (json!({"gateway": {"limits": {"maxBodyByte": 1024}}}), false),
        (json!({"gateway": {"localSocket": null}}), true),
        (json!({"gateway": {"listen": null}}), false),
        (json!({"gateway": {"auth": {"tokens": [{"name": "a", "role": "user", "token": "0123456789abcdef"}]}}}), true),
        (json!({"gateway": {"auth": {"tokens": [{"name": "a", "role": "root", "token": "0123456789abcdef"}]}}}), false),
        (json!({"gateway": {"auth": {"tokens": [{"name": "a", "role": "user"}]}}}), false),
        (json!({"gateway": {"auth": {"token": {"file": "token", "env": "T"}}}}), false),
        (json!({"gateway": {"auth": {"token": {"file": "token"}}}}), true),
        (json!({"channels": {"door": {"type": "webhook", "secret": null, "replyUrl": null}}}), true),
        (json!({"channels": {"door": {"type": "webhook", "apiRoot": "http://a"}}}), false),
        (json!({"channels": {"door": {"type": "telex"}}}), false),
        (json!({"channels": {"door": {}}}), false),
        (json!({"channels": {"a b": {"type": "webhook"}}}), false),
        (json!({"providers": {"p": {"type": "openai"}}}), false),
        (json!({"providers": {"p": {"type": "openai", "baseUrl": "http://127.0.0.1:1/v1"}}}), true),
        (json!({"users": {"ana": {"telegram": "123"}}}), true),
        (json!({"users": {"ana": {"telegram": 123}}}), false),
        (json!({"log": {"level": "loud"}}), false),
        (json!([]), false),
    ] {
        assert_eq!((complaints(&doc.to_string()).is_empty(), refusal(&schema(), &doc).is_none()), (good, good), "{doc}");
    }
}

/// Why the schema refuses a document: the part of JSON Schema that we generate, and nothing more.
fn refusal(schema: &Value, doc: &Value) -> Option<String> {
    validate(schema, schema, doc, "$")
}

fn validate(root: &Value, schema: &Value, v: &Value, at: &str) -> Option<String> {
    for (word, rule) in schema.as_object().unwrap() {
        let refused = match word.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" => None,
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                validate(root, target, v, at)
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "integer" => v.is_u64() || v.is_i64(),
                    "string" => v.is_string(),
                    "boolean" => v.is_boolean(),
                    "null" => v.is_null(),
                    "array" => v.is_array(),
                    "object" => v.is_object(),
                    other => panic!("unknown type {other}"),
                };
                let any = rule.as_array().map_or_else(|| is(rule), |names| names.iter().any(is));
                (!any).then(|| format!("{at}: type"))
            }
            "const" => (v != rule).then(|| format!("{at}: const")),
            "enum" => (!rule.as_array().unwrap().contains(v)).then(|| format!("{at}: enum")),
            "minimum" => v.as_u64().filter(|n| *n < rule.as_u64().unwrap()).map(|n| format!("{at}: {n} is too small")),
            "maximum" => v.as_u64().filter(|n| *n > rule.as_u64().unwrap()).map(|n| format!("{at}: {n} is too large")),
            "minLength" => v.as_str().filter(|s| (s.len() as u64) < rule.as_u64().unwrap()).map(|_| format!("{at}: short")),
            "maxLength" => v.as_str().filter(|s| (s.len() as u64) > rule.as_u64().unwrap()).map(|_| format!("{at}: long")),
            "maxItems" | "maxProperties" => None,
            "pattern" => {
                let good =
                    |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) && (1..65).contains(&s.len());
                v.as_str().filter(|s| !good(s)).map(|_| format!("{at}: pattern"))
            }
            "propertyNames" => {
                let names = v.as_object().into_iter().flat_map(|o| o.keys());
                names.filter_map(|n| validate(root, rule, &json!(n), at)).next()
            }
            "required" => {
                let missing = |name: &&Value| v.is_object() && v.get(name.as_str().unwrap()).is_none();
                rule.as_array().unwrap().iter().find(missing).map(|name| format!("{at}: {name} is missing"))
            }
            "properties" => {
                let inner = v.as_object().into_iter().flatten();
                inner.filter_map(|(n, v)| validate(root, rule.get(n)?, v, &format!("{at}.{n}"))).next()
            }
            "additionalProperties" => {
                let known = |name: &&String| schema.get("properties").is_some_and(|p| p.get(name.as_str()).is_some());
                let mut others = v.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
                match rule {
                    Value::Bool(false) => others.next().map(|(name, _)| format!("{at}: {name} is unknown")),
                    rule => others.find_map(|(name, v)| validate(root, rule, v, &format!("{at}.{name}"))),
                }
            }
            "items" => v.as_array().into_iter().flatten().find_map(|v| validate(root, rule, v, &format!("{at}[]"))),
            "anyOf" | "oneOf" => {
                let fits = rule.as_array().unwrap().iter().filter(|s| validate(root, s, v, at).is_none()).count();
                (fits == 0 || word == "oneOf" && fits > 1).then(|| format!("{at}: {word} fits {fits}"))
            }
            other => panic!("{other} is not a word that we generate"),
        };
        if refused.is_some() {
            return refused;
        }
    }
    None
}
