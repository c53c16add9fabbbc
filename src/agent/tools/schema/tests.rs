//! Cases of the schema check: what fits, what doesn't, and schemas that mean harm.

use serde_json::{Value, json};

use super::*;
use crate::base::threads;

/// `expected` holds each problem's beginning; none where the value fits.
#[track_caller]
fn check(schema: Value, value: Value, expected: &[&str]) {
    let found = problems(&schema, &value);
    let fine = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.starts_with(e));
    assert!(fine, "{value} by {schema}:\n  {found:?}\n  {expected:?}");
}

#[test]
fn types() {
    for (name, fits, not) in [
        ("null", json!(null), json!(0)),
        ("boolean", json!(false), json!("false")),
        ("string", json!(""), json!(null)),
        ("number", json!(1.5), json!("1.5")),
        ("integer", json!(-3), json!(1.5)),
        ("integer", json!(2.0), json!("2")),
        ("array", json!([]), json!({})),
        ("object", json!({}), json!([])),
    ] {
        check(json!({"type": name}), fits, &[]);
        check(json!({"type": name}), not, &["$: expected "]);
    }
    check(json!({"type": ["string", "null"]}), json!(null), &[]);
    check(json!({"type": ["string", "null"]}), json!(1), &["$: expected a string or null, found a number"]);
    check(json!({"type": "unheard of"}), json!(1), &[]);
    check(json!(true), json!(1), &[]);
    check(json!(false), json!(1), &["$: not expected here"]);
    check(json!([]), json!(1), &[]);
    check(json!({"type": "string", "minLength": 9, "enum": ["a"]}), json!(1), &["$: expected a string, found a number"]);
}

#[test]
fn objects() {
    let schema = json!({"type": "object", "required": ["a", "b", "c d"], "additionalProperties": false,
        "properties": {"a": {"type": "string"}, "b": {"type": "object", "properties": {"x": {"type": "integer"}}}, "c d": {}}});
    check(schema.clone(), json!({"a": "", "b": {"x": 1, "more": 2}, "c d": null}), &[]);
    check(
        schema.clone(),
        json!({"a": 1, "e": 1}),
        &[
            "$.b: expected an object, found nothing",
            "$[\"c d\"]: expected a value, found nothing",
            "$.a: expected a string, found a number",
            "$.e: no such field; there is a, b, c d",
        ],
    );
    check(schema, json!({"a": "", "b": {"x": "1"}, "c d": 1}), &["$.b.x: expected an integer, found a string"]);
    let others = json!({"properties": {"a": {}}, "additionalProperties": {"type": "number"}});
    check(others, json!({"a": "s", "b": 1, "c": "s"}), &["$.c: expected a number"]);
    check(json!({"patternProperties": {"^x": {}}, "additionalProperties": false}), json!({"x1": 1}), &[]);
    check(json!({"minProperties": 2}), json!({"a": 1}), &["$: expected at least 2 fields"]);
    check(json!({"maxProperties": 0}), json!({"a": 1}), &["$: expected at most 0 fields"]);
    check(
        json!({"type": "object", "properties": {}, "additionalProperties": false}),
        json!({"a": 1}),
        &["$.a: no such field; there is none"],
    );
}

#[test]
fn lists() {
    check(json!({"items": {"type": "integer"}}), json!([1, "2", 3, null]), &["$[1]: ", "$[3]: "]);
    check(json!({"minItems": 1}), json!([]), &["$: expected at least 1 items, found 0"]);
    check(json!({"maxItems": 1}), json!([1, 2]), &["$: expected at most 1 items, found 2"]);
    check(json!({"uniqueItems": true}), json!([1, "1", {"a": 1, "b": 2}]), &[]);
    check(json!({"uniqueItems": true}), json!([{"a": 1, "b": 2}, {"b": 2, "a": 1}]), &["$: expected no item twice"]);
    check(json!({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}), json!(["a", 1, "b"]), &["$[2]: "]);
    check(json!({"items": [{"type": "string"}]}), json!([1, 2]), &["$[0]: "]);
    check(json!({"items": {"items": {"type": "null"}}}), json!([[null], [1]]), &["$[1][0]: expected null"]);
}

#[test]
fn numbers_and_texts() {
    check(json!({"minimum": 1, "maximum": 3}), json!(1), &[]);
    check(json!({"minimum": 1, "maximum": 3}), json!(0.5), &["$: expected at least 1, found 0.5"]);
    check(json!({"minimum": 1, "maximum": 3}), json!(4), &["$: expected at most 3, found 4"]);
    check(json!({"exclusiveMinimum": 1, "exclusiveMaximum": 3}), json!(1), &["$: expected more than 1"]);
    check(json!({"exclusiveMinimum": 1, "exclusiveMaximum": 3}), json!(3), &["$: expected less than 3"]);
    check(json!({"minimum": 1, "exclusiveMinimum": true}), json!(1), &["$: expected more than 1"]);
    check(json!({"maximum": 1, "exclusiveMaximum": true}), json!(1), &["$: expected less than 1"]);
    check(json!({"minLength": 2, "maxLength": 3}), json!("読読"), &[]);
    check(json!({"minLength": 2}), json!("é"), &["$: expected at least 2 characters, found 1"]);
    check(json!({"maxLength": 1}), json!("ab"), &["$: expected at most 1 characters, found 2"]);
    check(json!({"minLength": 5, "minimum": 5}), json!(null), &[]);
    check(json!({"pattern": "^x$", "format": "date"}), json!("y"), &[]);
}

#[test]
fn choices_and_forms() {
    check(json!({"enum": ["a", 1, null, {"x": [1]}]}), json!({"x": [1.0]}), &[]);
    check(json!({"enum": ["a", 1]}), json!("b"), &["$: expected one of \"a\", 1"]);
    check(json!({"enum": []}), json!(1), &["$: expected one of "]);
    check(json!({"const": 1}), json!(1.0), &[]);
    check(json!({"const": "x"}), json!("y"), &["$: expected \"x\""]);
    check(json!({"const": 9007199254740993u64}), json!(9007199254740992u64), &["$: expected 9007199254740993"]);
    check(json!({"allOf": [{"minimum": 1}, {"maximum": 0}]}), json!(0.5), &["$: expected at least 1", "$: expected at most 0"]);
    let any = json!({"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]});
    check(any.clone(), json!("x"), &[]);
    check(any.clone(), json!({"a": 1}), &[]);
    check(
        any,
        json!({}),
        &["$: fits none of 2 forms ($: expected a string, found an object; $.a: expected a value, found nothing)"],
    );
    let one = json!({"oneOf": [{"type": "integer"}, {"minimum": 2}]});
    check(one.clone(), json!(1), &[]);
    check(one.clone(), json!(2.5), &[]);
    check(one.clone(), json!(3), &["$: fits 2 forms"]);
    check(one, json!(0.5), &["$: fits none of 2 forms"]);
    check(json!({"not": {"type": "string"}}), json!(1), &[]);
    check(json!({"not": {"type": "string"}}), json!("a"), &["$: of a form that is not allowed"]);
}

#[test]
fn references() {
    let schema = json!({"$defs": {"n": {"type": "integer"}, "a/b": {"const": 1}, "t": {"type": "object", "properties":
        {"next": {"$ref": "#/$defs/t"}, "value": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/t"});
    check(schema.clone(), json!({"next": {"next": {"value": 1}}}), &[]);
    check(schema.clone(), json!({"next": {"next": {"value": "1"}}}), &["$.next.next.value: expected an integer"]);
    check(json!({"$defs": schema["$defs"], "$ref": "#/%24defs/a~1b"}), json!(2), &["$: expected 1"]);
    for elsewhere in ["https://example.org/x", "#name", "#/nowhere", "other.json#/a"] {
        check(json!({"$ref": elsewhere, "type": "string"}), json!("x"), &[]);
        check(json!({"$ref": elsewhere, "type": "string"}), json!(1), &["$: expected a string"]);
    }
}

#[test]
fn problems_are_bounded() {
    let many = Value::from((0..1000).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(problems(&json!({"items": {"type": "integer"}}), &many).len(), PROBLEMS_MAX);
    let long = json!({"enum": vec!["x".repeat(100_000); 1000]});
    assert!(problems(&long, &json!(1))[0].len() < 3000);
    let named = json!({"x".repeat(60_000): 1});
    assert!(problems(&json!({"additionalProperties": false}), &named)[0].len() < 200);
}

/// Schemas that would take forever, or all of the stack, on a thread with half of what a worker has.
#[test]
fn hostile_schemas_end_soon() {
    // Not by `json!`, which copies what is within, level by level.
    let around = |name: &str, inner: Value| Value::Object(Map::from_iter([(name.to_string(), inner)]));
    let deep = (0..2000).fold(json!({"type": "string"}), |inner, _| around("not", inner));
    let nested = (0..2000).fold(json!({}), |inner, i| around(["allOf", "anyOf", "oneOf"][i % 3], Value::Array(vec![inner])));
    let doubling = json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
    let twice = json!({"oneOf": vec![json!({"$ref": "#/$defs/b"}); 1000],
        "$defs": {"b": {"oneOf": vec![json!({"$ref": "#/$defs/c"}); 1000]}, "c": {"oneOf": vec![json!({"type": "integer"}); 1000]}}});
    let big = Value::from(vec!["x".repeat(30); 2000]);
    let compares =
        json!({"allOf": vec![json!({"$ref": "#/$defs/c"}); 10_000], "$defs": {"c": {"const": big, "uniqueItems": true}}});
    let hostile =
        [json!({"$ref": "#"}), json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}), deep, nested, doubling, twice, compares];
    let threads = threads::Threads::new();
    let (sender, receiver) = crossbeam_channel::bounded(0);
    let work = move || {
        for schema in &hostile {
            let found = problems(schema, &big);
            sender.send(found.first().cloned().unwrap_or_default()).unwrap();
            std::mem::forget(found);
        }
        std::mem::forget(hostile); // dropping 2,000 levels needs more stack than the check
    };
    threads.spawn_once("schema", threads::STACK / 2, work).unwrap();
    for i in 0..7 {
        let first = receiver.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert!(first.ends_with("too much to be checked"), "schema {i}: {first}");
    }
}
