//! The effective document, with defaults filled in and secrets as `"***"`, and the way back from it.
//!
//! Invariant: a secret is found by the table's type, never by its key's name. `"***"` never becomes a secret: it takes what
//! stood there before, or is a problem.

use serde_json::{Map, Value};

use super::problem::{Problem, Problems, join};
use super::raw::{Raw, Tools};
use super::section::{Key, Section, Shape, Variants};
use crate::base::secret::REDACTED;

/// `doc` with what is built in written out: the webhook `default`, and the agent `main` where none is configured.
pub(super) fn with_built_in(doc: &Value) -> Value {
    let mut doc = if doc.is_object() { doc.clone() } else { Value::Object(Map::new()) };
    let built_in = [
        ("channels", "default", serde_json::json!({"type": "webhook"}), true),
        ("agents", "main", Value::Object(Map::new()), false),
    ];
    for (map, name, entry, always) in built_in {
        let map = doc.as_object_mut().map(|d| d.entry(map).or_insert_with(|| Value::Object(Map::new())));
        if let Some(map) = map.and_then(Value::as_object_mut)
            && (map.is_empty() || (always && !map.contains_key(name)))
        {
            map.insert(name.into(), entry);
        }
    }
    with_built_in_rules(&mut doc);
    doc
}

/// The rules where neither `tools.default` nor `tools.rules` is written: what touches nothing but the user's own conversation and
/// notes, or shows how the machine is.
const RULES: [&str; 4] = ["time.*", "memory.*", "session.*", "system.status"];

fn with_built_in_rules(doc: &mut Value) {
    let tools = doc.as_object_mut().map(|d| d.entry("tools").or_insert_with(|| Value::Object(Map::new())));
    if let Some(tools) = tools.and_then(Value::as_object_mut)
        && !tools.contains_key("default")
        && !tools.contains_key("rules")
    {
        let rules = RULES.iter().map(|tool| serde_json::json!({"tool": tool, "action": "allow"})).collect();
        tools.insert("rules".into(), rules);
    }
}

/// The effective document of one that has no problems: every key with its value or its default, what is built in included,
/// secrets as `"***"`. It can be sent back as it is (see [`restore`]).
pub fn effective(doc: &Value) -> Value {
    let mut whole = section(&with_built_in(doc), &[Raw::SECTION], Secrets::Blotted);
    if let Some(object) = whole.as_object_mut()
        && object.get("$schema").is_some_and(Value::is_null)
    {
        object.shift_remove("$schema");
    }
    if let Some(auth) = whole.pointer_mut("/gateway/auth")
        && auth["mode"] != "none"
        && auth["token"].is_null()
    {
        auth["token"] = REDACTED.into(); // the one that the gateway made
    }
    whole
}

/// What becomes of secrets where a document is spelled out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    /// They are `"***"`.
    Blotted,
    /// They stand as they were written: for comparing alone.
    Kept,
}

fn section(object: &Value, sections: &[&Section], secrets: Secrets) -> Value {
    let keys = sections.iter().flat_map(|s| s.keys);
    Value::Object(keys.map(|key| (key.name.to_string(), filled(object.get(key.name), key, secrets))).collect())
}

fn filled(written: Option<&Value>, key: &Key, secrets: Secrets) -> Value {
    match written {
        None => shown(&key.preset.json(), &key.shape, secrets),
        Some(v) => shown(v, &key.shape, secrets),
    }
}

fn shown(v: &Value, shape: &Shape, secrets: Secrets) -> Value {
    match (shape, v) {
        (_, Value::Null) => Value::Null,
        (Shape::Secret, _) if secrets == Secrets::Blotted => REDACTED.into(),
        (Shape::List(shape), Value::Array(list)) => list.iter().map(|v| shown(v, shape, secrets)).collect(),
        (Shape::Map(shape), Value::Object(map)) => {
            Value::Object(map.iter().map(|(name, v)| (name.clone(), shown(v, shape, secrets))).collect())
        }
        (Shape::Section(table), _) => section(v, &[table], secrets),
        (Shape::Variants(table), _) => variant(v, table, secrets),
        _ => v.clone(),
    }
}

fn variant(v: &Value, table: &Variants, secrets: Secrets) -> Value {
    let mut sections = vec![table.common];
    sections.extend(table.of(v));
    let mut object = Map::new();
    object.insert("type".into(), v["type"].clone());
    if let Value::Object(rest) = section(v, &sections, secrets) {
        object.extend(rest);
    }
    Value::Object(object)
}

/// Puts back what `"***"` stands for in `new`: where a secret stands in `old` (as it was written), that; at
/// `gateway.auth.token` where `old` has none (the gateway made it), nothing. Entries of lists are matched by their `name`.
///
/// # Errors
/// Every `"***"` that stands for no secret of `old`.
pub fn restore(new: &Value, old: &Value) -> Result<Value, Vec<Problem>> {
    let (doc, problems) = restore_known(new, old);
    if problems.is_empty() { Ok(doc) } else { Err(problems) }
}

/// The same as far as it goes, with the problems of what stays.
pub fn restore_known(new: &Value, old: &Value) -> (Value, Vec<Problem>) {
    let (mut doc, mut out) = (new.clone(), Problems::default());
    back(&mut doc, Some(old), &Shape::Section(Raw::SECTION), "$", &mut out);
    let made = doc.pointer_mut("/gateway/auth").and_then(Value::as_object_mut);
    if let Some(auth) = made.filter(|auth| auth.get("token").is_some_and(|t| t == REDACTED)) {
        auth.shift_remove("token");
    }
    (doc, out.into_vec())
}

/// The document as it was written, but for the secrets that stand in it as texts: they are `"***"`.
pub fn without_secrets(doc: &Value) -> Value {
    let mut doc = doc.clone();
    each_secret(&mut doc, &Shape::Section(Raw::SECTION), &mut |v| {
        if v.is_string() {
            *v = REDACTED.into();
        }
    });
    doc
}

/// The files that secrets of the document are kept in, as they are written there.
pub fn secret_files(doc: &Value) -> Vec<String> {
    let mut files = Vec::new();
    each_secret(&mut doc.clone(), &Shape::Section(Raw::SECTION), &mut |v| {
        files.extend(v.get("file").and_then(Value::as_str).map(str::to_string));
    });
    files
}

/// Calls `visit` with every secret of a document.
fn each_secret(v: &mut Value, shape: &Shape, visit: &mut dyn FnMut(&mut Value)) {
    match (shape, &mut *v) {
        (Shape::Secret, v) if !v.is_null() => visit(v),
        (Shape::Section(table), Value::Object(_)) => each_secret_of(v, &[table], visit),
        (Shape::Variants(table), Value::Object(_)) => {
            let mut sections = vec![table.common];
            sections.extend(table.of(v));
            each_secret_of(v, &sections, visit);
        }
        (Shape::Map(shape), Value::Object(map)) => map.values_mut().for_each(|v| each_secret(v, shape, visit)),
        (Shape::List(shape), Value::Array(list)) => list.iter_mut().for_each(|v| each_secret(v, shape, visit)),
        _ => {}
    }
}

fn each_secret_of(v: &mut Value, sections: &[&Section], visit: &mut dyn FnMut(&mut Value)) {
    for (name, v) in v.as_object_mut().into_iter().flatten() {
        if let Some(key) = sections.iter().flat_map(|s| s.keys).find(|key| key.name == name) {
            each_secret(v, &key.shape, visit);
        }
    }
}

fn back(new: &mut Value, old: Option<&Value>, shape: &Shape, path: &str, out: &mut Problems) {
    match (shape, &mut *new) {
        (Shape::Secret, v) if v == REDACTED => match old {
            Some(old) if old != REDACTED => *v = old.clone(),
            _ if path == "$.gateway.auth.token" => {}
            _ => {
                out.add(path, "found \"***\", which stands for a secret that is there already, and there is none; give its value")
            }
        },
        (Shape::Section(table), Value::Object(_)) => back_keys(new, old, &[table], path, out),
        (Shape::Variants(table), Value::Object(_)) => {
            let mut sections = vec![table.common];
            sections.extend(table.of(new));
            back_keys(new, old, &sections, path, out);
        }
        (Shape::Map(shape), Value::Object(map)) => {
            for (name, v) in map {
                back(v, old.and_then(|o| o.get(name)), shape, &join(path, name), out);
            }
        }
        (Shape::List(shape), Value::Array(list)) => {
            for (i, v) in list.iter_mut().enumerate() {
                let namesake = old.and_then(Value::as_array).into_iter().flatten();
                let mut namesakes = namesake.filter(|o| o.get("name").is_some() && o.get("name") == v.get("name"));
                let old = namesakes.next().filter(|_| namesakes.next().is_none());
                back(v, old, shape, &format!("{path}[{i}]"), out);
            }
        }
        (_, v) => no_redaction(v, path, out),
    }
}

fn back_keys(new: &mut Value, old: Option<&Value>, sections: &[&Section], path: &str, out: &mut Problems) {
    for (name, v) in new.as_object_mut().into_iter().flatten() {
        let path = join(path, name);
        match sections.iter().flat_map(|s| s.keys).find(|key| key.name == name) {
            Some(key) => back(v, old.and_then(|o| o.get(name)), &key.shape, &path, out),
            None => no_redaction(v, &path, out),
        }
    }
}

/// `"***"` where no secret can stand.
fn no_redaction(v: &Value, path: &str, out: &mut Problems) {
    match v {
        Value::String(text) if text == REDACTED => {
            out.add(path, "found \"***\", which stands for a secret; no secret belongs here");
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| no_redaction(v, &format!("{path}[{i}]"), out)),
        Value::Object(map) => map.iter().for_each(|(name, v)| no_redaction(v, &join(path, name), out)),
        _ => {}
    }
}

/// The first key that names a program and differs between two documents as they were written, a default spelled out or left out
/// being the same: such keys are changed in the file alone, so over HTTP this is 403. An MCP server with a `command` counts as a
/// whole, since its other keys are that program's arguments.
pub fn forbidden_over_http(old: &Value, new: &Value) -> Option<String> {
    let tools = |doc: &Value| section(doc.get("tools").unwrap_or(&Value::Null), &[Tools::SECTION], Secrets::Kept);
    let (old, new) = (tools(old), tools(new));
    if old.get("shell") != new.get("shell") {
        return Some("$.tools.shell".into());
    }
    let server = |tools: &Value, name: &str| tools.get("mcp").and_then(|mcp| mcp.get(name)).cloned();
    let names = [&old, &new].into_iter().filter_map(|t| t.get("mcp")?.as_object()).flat_map(|map| map.keys());
    let mut changed = names.filter(|name| {
        let (a, b) = (server(&old, name), server(&new, name));
        a != b && [a, b].into_iter().flatten().any(|server| server.get("command").is_some_and(|c| !c.is_null()))
    });
    changed.next().map(|name| join(&join("$.tools.mcp", name), "command"))
}
