//! The strict reader: compares a document with the table (`section`, `raw`) and tells all that does not fit, at once.
//!
//! Invariant: a problem shows what was found by its kind; a text itself is shown only where it was to be one of our own words or
//! a number, so that a secret at the wrong place is not repeated. Reading cannot fail, and never looks at other files.

use serde_json::Value;

use super::problem::{Problems, join, nearest, one_of, quoted};
use super::raw::Raw;
use super::section::{Key, Preset, Section, Shape, Variants};
use crate::base::error::shorten;
use crate::domain::ID_BYTES_MAX;

/// A key that is nearer than this is surely what was meant.
const NEAR: usize = 3;

/// Tells all that does not fit the table in `doc`.
pub(super) fn check(doc: &Value, out: &mut Problems) {
    if doc.is_object() {
        plain(doc, Raw::SECTION, "$", out);
    } else {
        out.add("$", format!("found {}, expected an object; {{}} is a whole configuration", found(doc)));
    }
}

/// Checks an object against the keys of all `sections` together; `stray` says what is wrong with a key of none of them.
fn section(object: &Value, sections: &[&Section], path: &str, out: &mut Problems, stray: &dyn Fn(&str) -> Option<String>) {
    let keys = || sections.iter().flat_map(|s| s.keys);
    for (name, written) in object.as_object().into_iter().flatten() {
        let path = join(path, name);
        match keys().find(|key| key.name == name) {
            Some(key) => value(written, key, &path, out),
            None => stray(name).into_iter().for_each(|message| out.add(&path, message)),
        }
    }
    for key in keys().filter(|k| k.preset == Preset::Required && object.get(k.name).is_none()) {
        out.add(join(path, key.name), format!("missing, expected {}", expected(key)));
    }
}

/// Checks an object with keys of one section.
fn plain(object: &Value, table: &Section, path: &str, out: &mut Problems) {
    section(object, &[table], path, out, &|name| Some(unknown(name, table.keys.iter().map(|k| k.name))));
}

/// Checks one value.
fn value(v: &Value, key: &Key, path: &str, out: &mut Problems) {
    if v.is_null() && key.nullable {
        return;
    }
    let within = |n: usize| (key.range.0..=key.range.1).contains(&(n as u64));
    match (&key.shape, v) {
        (Shape::Free, _) | (Shape::Bool, Value::Bool(_)) => {}
        (Shape::Int, Value::Number(n)) if n.as_u64().is_some_and(|n| (key.range.0..=key.range.1).contains(&n)) => {}
        (Shape::Text, Value::String(text)) => {
            if !within(text.len()) {
                out.add(path, format!("found {} bytes of text, expected {}", text.len(), expected(key)));
            } else if text.contains('\0') {
                out.add(path, "found a NUL character, expected a text without one");
            }
        }
        (Shape::Choice(names), Value::String(text)) => {
            if !names.contains(&text.as_str()) {
                out.add(path, choice(text, names));
            }
        }
        (Shape::Secret, Value::String(_)) => {}
        (Shape::Secret, Value::Object(_)) => secret(v, path, out),
        (Shape::List(shape), Value::Array(list)) => {
            if !within(list.len()) {
                out.add(path, format!("found {} entries, expected at most {}", list.len(), key.range.1));
            }
            let entry = key.entry(**shape);
            for (i, v) in list.iter().enumerate().take(key.range.1 as usize) {
                value(v, &entry, &format!("{path}[{i}]"), out);
            }
        }
        (Shape::Map(shape), Value::Object(map)) => {
            if !within(map.len()) {
                out.add(path, format!("found {} entries, expected at most {}", map.len(), key.range.1));
            }
            for (name, v) in map.iter().take(key.range.1 as usize) {
                let path = join(path, name);
                if let Some(complaint) = bad_name(name, key.names) {
                    out.add(&path, complaint);
                }
                value(v, &key.entry(**shape), &path, out);
            }
        }
        (Shape::Section(table), Value::Object(_)) => plain(v, table, path, out),
        (Shape::Variants(table), Value::Object(_)) => variant(v, table, path, out),
        _ => out.add(path, wrong(v, key)),
    }
}

/// Checks an object whose `type` decides on its keys.
fn variant(object: &Value, table: &Variants, path: &str, out: &mut Problems) {
    let names = || table.types.iter().map(|(name, _)| *name);
    let own = table.of(object);
    match object.get("type") {
        None => out.add(join(path, "type"), format!("missing, expected {}", one_of(names()))),
        Some(Value::String(text)) if own.is_none() => {
            out.add(join(path, "type"), choice(text, &names().collect::<Vec<_>>()));
        }
        Some(Value::String(_)) => {}
        Some(v) => out.add(join(path, "type"), format!("found {}, expected {}", found(v), one_of(names()))),
    }
    let mut sections = vec![table.common];
    sections.extend(own);
    let known = || sections.iter().flat_map(|s| s.keys).map(|k| k.name).chain(["type"]);
    let elsewhere = |name: &str| table.types.iter().find(|(_, s)| s.keys.iter().any(|k| k.name == name));
    section(object, &sections, path, out, &|name| match elsewhere(name) {
        _ if name == "type" => None,
        // Of an unknown type any type's key may be the right one.
        Some(_) if own.is_none() => None,
        Some((other, _)) => Some(format!("a key of type {other}, which this is not; leave it out, or change the type")),
        None => Some(unknown(name, known())),
    });
}

/// Checks a secret that is not written out.
fn secret(object: &Value, path: &str, out: &mut Problems) {
    let entries: Vec<_> = object.as_object().into_iter().flatten().collect();
    match entries[..] {
        [(name, Value::String(text))] if (name == "env" || name == "file") && !text.is_empty() => {}
        [(name, v)] if name == "env" || name == "file" => {
            let what = if v == "" { "an empty text".into() } else { found(v) };
            out.add(
                join(path, name),
                format!("found {what}, expected the {}", if name == "env" { "variable's name" } else { "file's path" }),
            );
        }
        _ => out.add(path, format!("found another object, expected {SECRET}")),
    }
}

const SECRET: &str = "a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"}";

/// What is wrong with the name of an entry.
fn bad_name(name: &str, ours: bool) -> Option<&'static str> {
    if ours {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let good = (1..=64).contains(&name.len()) && name.bytes().all(plain);
        (!good).then_some("not a name; expected 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    } else {
        let good = (1..=ID_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        (!good).then_some("not an id; expected 1 to 256 bytes without control characters")
    }
}

/// An unknown key: names the nearest known one, and the place where a key of that very name belongs.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(name, known);
    let mut text = match near {
        Some((nearest, _)) => format!("unknown key; the nearest known one is {}", quoted(nearest)),
        None => "unknown key; there are none here".into(),
    };
    if near.is_none_or(|(_, distance)| distance >= NEAR)
        && let Some(home) = home_of(name, Raw::SECTION, "$")
    {
        text += &format!(", and a key of this name belongs in {home}");
    }
    text
}

/// The section in which `name` is a key, searched among those that stand at a fixed place.
fn home_of(name: &str, section: &Section, path: &str) -> Option<String> {
    if path != "$" && section.keys.iter().any(|k| k.name.eq_ignore_ascii_case(name)) {
        return Some(path.to_string());
    }
    section.keys.iter().find_map(|key| match key.shape {
        Shape::Section(inner) => home_of(name, inner, &join(path, key.name)),
        _ => None,
    })
}

/// A word that is none of ours.
fn choice(text: &str, names: &[&str]) -> String {
    let hint = match nearest(text, names.iter().copied()) {
        Some((near, distance)) if distance < NEAR && distance < near.len() => format!("; did you mean {}", quoted(near)),
        _ => String::new(),
    };
    format!("found {}, expected {}{hint}", shown(text), one_of(names.iter().copied()))
}

/// A short word as it is; a long one may be anything, a misplaced secret too.
fn shown(text: &str) -> String {
    if text.len() <= 15 { quoted(text) } else { "another text".into() }
}

/// A value of the wrong kind.
fn wrong(v: &Value, key: &Key) -> String {
    let mut text = format!("found {}, expected {}", found(v), expected(key));
    if let Value::String(s) = v {
        let bare = match key.shape {
            Shape::Int => s.parse::<u64>().is_ok(),
            Shape::Bool => matches!(s.as_str(), "true" | "false"),
            _ => false,
        };
        if bare {
            text += "; write it without quotes";
        }
    } else if matches!((&key.shape, v), (Shape::Text, Value::Number(_) | Value::Bool(_))) {
        text += "; write it in quotes";
    } else if v.is_null() {
        text += "; leave the key out for its default";
    }
    text
}

/// What a value is, by its kind.
fn found(v: &Value) -> String {
    match v {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => shorten(&n.to_string(), 24),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// What a key's value has to be.
fn expected(key: &Key) -> String {
    let (min, max) = key.range;
    let what = match key.shape {
        Shape::Bool => "true or false".into(),
        Shape::Int => format!("a whole number from {min} to {max}"),
        Shape::Text if min > 0 => format!("a text of {min} to {max} bytes"),
        Shape::Text => format!("a text of at most {max} bytes"),
        Shape::Choice(names) => one_of(names.iter().copied()),
        Shape::Secret => SECRET.into(),
        Shape::Free => "any value".into(),
        Shape::List(_) => "a list".into(),
        Shape::Map(_) | Shape::Section(_) | Shape::Variants(_) => "an object".into(),
    };
    if key.nullable && !matches!(key.shape, Shape::Free) { what + " or null" } else { what }
}
