//! The JSON Schema (draft 2020-12) of the document, for editors, from the table.
//!
//! Invariant: it says what `check` checks, no more: whatever `check` refuses, it refuses, but for lengths (it counts characters,
//! `check` counts bytes).

use serde_json::{Map, Value, json};

use super::raw::Raw;
use super::section::{Key, Preset, Section, Shape, Variants};

/// The schema.
pub fn schema() -> Value {
    let mut whole = section(&[Raw::SECTION], None);
    let mut out = Map::new();
    out.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    out.insert("title".into(), "gatelet's configuration".into());
    out.insert("description".into(), Raw::SECTION.about.trim().into());
    if let Some(object) = whole.as_object_mut() {
        out.append(object);
    }
    out.insert("$defs".into(), json!({"secret": secret()}));
    Value::Object(out)
}

fn secret() -> Value {
    let object = |name: &str, what: &str| {
        json!({
            "type": "object", "properties": {name: {"type": "string", "minLength": 1, "description": what}},
            "required": [name], "additionalProperties": false
        })
    };
    json!({
        "description": "A secret: the text itself, or where it is found.",
        "anyOf": [{"type": "string"}, object("env", "The environment variable that holds it."),
            object("file", "The file that holds it; a relative path starts at the data directory.")]
    })
}

fn section(sections: &[&Section], of_type: Option<&str>) -> Value {
    let mut properties = Map::new();
    let mut required: Vec<&str> = Vec::new();
    if let Some(name) = of_type {
        properties.insert("type".into(), json!({"const": name, "description": "What it is."}));
        required.push("type");
    }
    for key in sections.iter().flat_map(|s| s.keys) {
        properties.insert(key.name.into(), property(key));
        if key.preset == Preset::Required {
            required.push(key.name);
        }
    }
    let mut out = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        out["required"] = required.into();
    }
    out
}

/// A key with its meaning and its default.
fn property(key: &Key) -> Value {
    let mut out = json!({"description": key.meaning()});
    if let (Some(out), Value::Object(shape)) = (out.as_object_mut(), value(key)) {
        out.extend(shape);
    }
    if !matches!(key.preset, Preset::Required | Preset::EmptyObject) && !matches!(key.shape, Shape::Free) {
        out["default"] = key.preset.json();
    }
    out
}

fn value(key: &Key) -> Value {
    let (min, max) = key.range;
    let typed = |name: &str| if key.nullable { json!([name, "null"]) } else { name.into() };
    match &key.shape {
        Shape::Bool => json!({"type": typed("boolean")}),
        Shape::Int => json!({"type": typed("integer"), "minimum": min, "maximum": max}),
        Shape::Text => json!({"type": typed("string"), "minLength": min, "maxLength": max}),
        Shape::Choice(names) => {
            let mut all: Vec<Value> = names.iter().map(|name| (*name).into()).collect();
            all.extend(key.nullable.then_some(Value::Null));
            json!({"enum": all})
        }
        Shape::Secret if key.nullable => json!({"anyOf": [{"$ref": "#/$defs/secret"}, {"type": "null"}]}),
        Shape::Secret => json!({"$ref": "#/$defs/secret"}),
        Shape::Free => json!({}),
        Shape::List(shape) => json!({"type": "array", "maxItems": max, "items": value(&key.entry(**shape))}),
        Shape::Map(shape) => {
            let names =
                if key.names { json!({"pattern": "^[A-Za-z0-9_.-]{1,64}$"}) } else { json!({"minLength": 1, "maxLength": 256}) };
            json!({
                "type": "object", "maxProperties": max, "propertyNames": names,
                "additionalProperties": value(&key.entry(**shape))
            })
        }
        Shape::Section(table) => section(&[table], None),
        Shape::Variants(table) => variants(table),
    }
}

fn variants(table: &Variants) -> Value {
    let one = |(name, own): &(&'static str, &'static Section)| {
        let mut out = section(&[table.common, own], Some(name));
        out["description"] = own.about.trim().into();
        out
    };
    json!({"description": table.about.trim(), "oneOf": table.types.iter().map(one).collect::<Vec<_>>()})
}
