//! Documents that lack something, for tests that what is missing never gives more.
//!
//! Invariant: pure; each variant differs from the document in exactly one place. It cannot fail.

use serde_json::Value;

/// All variants of a document in which one field, at whatever depth, is missing or null, each with the field's JSON Pointer.
pub fn lacking(document: &Value) -> Vec<(String, Value)> {
    let mut variants = Vec::new();
    for pointer in pointers(document) {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let mut without = document.clone();
        match without.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&key.replace("~1", "/").replace("~0", "~"))),
            Some(Value::Array(items)) => drop(items.remove(key.parse().expect("an index"))),
            _ => unreachable!("a field stands in an object or an array"),
        }
        variants.push((format!("without {pointer}"), without));
        let mut null = document.clone();
        *null.pointer_mut(&pointer).expect("it is there") = Value::Null;
        variants.push((format!("null {pointer}"), null));
    }
    variants
}

fn pointers(value: &Value) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    below
        .into_iter()
        .flat_map(|(key, value)| {
            let own = format!("/{key}");
            let deeper: Vec<String> = pointers(value).into_iter().map(|p| format!("{own}{p}")).collect();
            std::iter::once(own).chain(deeper)
        })
        .collect()
}
