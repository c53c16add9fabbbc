//! Arguments against a JSON Schema: the part of it that tools use.
//!
//! Held: `type`, `enum`, `const`, `required`, `properties`, `additionalProperties`, `minProperties`, `maxProperties`, `items`,
//! `prefixItems`, `minItems`, `maxItems`, `uniqueItems`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`,
//! `minLength`, `maxLength`, `allOf`, `anyOf`, `oneOf`, `not`, local `$ref`. Every other keyword is ignored, `pattern` and `format`
//! among them: a tool checks those for itself. (The `jsonschema` crate 0.60.2 without its default features makes the stripped binary
//! 3.1 MB larger: 8,029,328 bytes for 4,897,168.)
//!
//! Invariant: both come from peers (an MCP server, a model): recursion, steps and problems are bounded, and what is too much to be
//! checked does not fit. All problems are found at once. Pure.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::question::canonical;
use crate::base::error::shorten;
use crate::config::join;

/// Schemas within each other that are followed. Worker threads have small stacks.
const DEPTH_MAX: usize = 40;
/// Schemas and values that are looked at, in all.
const STEPS_MAX: usize = 100_000;
/// Problems that are told.
const PROBLEMS_MAX: usize = 10;
/// Bytes of an expected value, as a problem tells it.
const VALUE_BYTES_SHOWN: usize = 80;

/// What is wrong with `value`, in words for a model (`$.a.b: expected a string, found a number`); nothing where it fits.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { root: schema, steps: STEPS_MAX, over: false, problems: Vec::new() };
    check.walk(schema, value, "$", 0);
    if check.over {
        check.problems.insert(0, "$: the tool's schema and these arguments are too much to be checked".to_string());
    }
    check.problems
}

struct Check<'a> {
    root: &'a Value,
    steps: usize,
    over: bool,
    problems: Vec<String>,
}

type Rules = Map<String, Value>;

impl<'a> Check<'a> {
    /// Takes some of what may be done; false where there is not that much left.
    fn may(&mut self, steps: usize) -> bool {
        self.over |= steps > self.steps;
        self.steps = self.steps.saturating_sub(steps);
        !self.over
    }

    fn fail(&mut self, path: &str, what: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{path}: {}", what.into()));
        }
    }

    fn walk(&mut self, schema: &'a Value, value: &Value, path: &str, depth: usize) {
        self.over |= depth > DEPTH_MAX;
        if !self.may(1) {
            return;
        }
        let rules = match schema {
            Value::Object(rules) => rules,
            Value::Bool(false) => return self.fail(path, "not expected here"),
            _ => return,
        };
        // A reference that leads nowhere here (to another document) asks for nothing that could be checked.
        if let Some(to) = rules.get("$ref").and_then(Value::as_str).and_then(|to| self.root.pointer(&decoded(to)?)) {
            self.walk(to, value, path, depth + 1);
        }
        if let Some(wrong) = rules.get("type").and_then(|types| wrong_type(types, value)) {
            return self.fail(path, wrong); // whatever else doesn't fit comes from that
        }
        self.choice(rules, value, path);
        match value {
            Value::Number(number) => self.number(rules, number.as_f64().unwrap_or_default(), path),
            Value::String(text) => self.text(rules, text, path),
            Value::Array(list) => self.list(rules, list, path, depth),
            Value::Object(object) => self.object(rules, object, path, depth),
            _ => {}
        }
        self.combined(rules, value, path, depth);
    }

    fn choice(&mut self, rules: &'a Rules, value: &Value, path: &str) {
        if let Some(Value::Array(choices)) = rules.get("enum")
            && !choices.iter().any(|choice| self.same(choice, value))
        {
            let names: Vec<_> = choices.iter().take(20).map(|c| shorten(&c.to_string(), VALUE_BYTES_SHOWN)).collect();
            let more = if choices.len() > names.len() { ", …" } else { "" };
            self.fail(path, format!("expected one of {}{more}", names.join(", ")));
        }
        if let Some(only) = rules.get("const")
            && !self.same(only, value)
        {
            self.fail(path, format!("expected {}", shorten(&only.to_string(), VALUE_BYTES_SHOWN)));
        }
    }

    /// Whether two values are equal; `1` and `1.0` are.
    fn same(&mut self, a: &Value, b: &Value) -> bool {
        self.may(1)
            && match (a, b) {
                (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
                (Value::String(a), Value::String(b)) => self.may(a.len() / 256) && a == b,
                (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same(a, b)),
                (Value::Object(a), Value::Object(b)) => {
                    a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| self.same(a, b)))
                }
                (a, b) => a == b,
            }
    }

    fn number(&mut self, rules: &'a Rules, n: f64, path: &str) {
        let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
        // Draft 4 wrote `"exclusiveMinimum": true` beside `minimum`.
        let strict = |name: &str| rules.get(name) == Some(&Value::Bool(true));
        let (least, most) = (bound("minimum"), bound("maximum"));
        for (limit, fine, words) in [
            (least, least.is_none_or(|m| n >= m), "at least"),
            (most, most.is_none_or(|m| n <= m), "at most"),
            (least, !(strict("exclusiveMinimum") && least == Some(n)), "more than"),
            (most, !(strict("exclusiveMaximum") && most == Some(n)), "less than"),
            (bound("exclusiveMinimum"), bound("exclusiveMinimum").is_none_or(|m| n > m), "more than"),
            (bound("exclusiveMaximum"), bound("exclusiveMaximum").is_none_or(|m| n < m), "less than"),
        ] {
            if !fine {
                self.fail(path, format!("expected {words} {}, found {n}", limit.unwrap_or_default()));
            }
        }
    }

    /// Whether `n` lies within `rules[least]` and `rules[most]`.
    fn size(&mut self, rules: &'a Rules, [least, most]: [&str; 2], n: usize, unit: &str, path: &str) {
        let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
        if let Some(least) = bound(least).filter(|least| (n as f64) < *least) {
            self.fail(path, format!("expected at least {least} {unit}, found {n}"));
        }
        if let Some(most) = bound(most).filter(|most| (n as f64) > *most) {
            self.fail(path, format!("expected at most {most} {unit}, found {n}"));
        }
    }

    fn text(&mut self, rules: &'a Rules, text: &str, path: &str) {
        if (rules.contains_key("minLength") || rules.contains_key("maxLength")) && self.may(text.len() / 64) {
            self.size(rules, ["minLength", "maxLength"], text.chars().count(), "characters", path);
        }
    }

    fn list(&mut self, rules: &'a Rules, list: &[Value], path: &str, depth: usize) {
        self.size(rules, ["minItems", "maxItems"], list.len(), "items", path);
        let items = rules.get("items");
        // Before 2020 a list of schemas stood in `items`.
        let first = rules.get("prefixItems").or(items.filter(|i| i.is_array())).and_then(Value::as_array).map_or(&[][..], |f| f);
        for (i, item) in list.iter().enumerate() {
            if let Some(schema) = first.get(i).or(items.filter(|i| !i.is_array())) {
                self.walk(schema, item, &format!("{path}[{i}]"), depth + 1);
            }
        }
        if rules.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut texts: Vec<_> = list.iter().map(canonical).collect();
            if self.may(texts.iter().map(|t| 1 + t.len() / 64).sum()) {
                texts.sort_unstable();
                if texts.windows(2).any(|w| w[0] == w[1]) {
                    self.fail(path, "expected no item twice");
                }
            }
        }
    }

    fn object(&mut self, rules: &'a Rules, object: &Rules, path: &str, depth: usize) {
        self.size(rules, ["minProperties", "maxProperties"], object.len(), "fields", path);
        let properties = rules.get("properties").and_then(Value::as_object);
        let asked_for = |name: &str| properties.and_then(|p| p.get(name));
        for name in rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if self.may(1) && !object.contains_key(name) {
                let types = asked_for(name).and_then(|s| s.get("type")).map_or("a value".into(), names_of);
                self.fail(&join(path, name), format!("expected {types}, found nothing"));
            }
        }
        // What patterns of names allow is not known here.
        let others = rules.get("additionalProperties").filter(|_| !rules.contains_key("patternProperties"));
        for (name, value) in object {
            match asked_for(name).or(others) {
                Some(Value::Bool(false)) if self.may(1) => {
                    let known: Vec<_> = properties.iter().flat_map(|p| p.keys()).take(20).map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                    self.fail(&join(path, name), format!("no such field; there is {}", shorten(&known, 200)));
                }
                Some(schema) => self.walk(schema, value, &join(path, name), depth + 1),
                None => {}
            }
        }
    }

    fn combined(&mut self, rules: &'a Rules, value: &Value, path: &str, depth: usize) {
        let all = |name: &str| rules.get(name).and_then(Value::as_array).map(|list| list.iter());
        for schema in all("allOf").into_iter().flatten() {
            self.walk(schema, value, path, depth + 1);
        }
        if let Some(forms) = all("anyOf") {
            let wrong: Vec<_> = forms.map_while(|s| self.first_problem(s, value, path, depth)).collect();
            if wrong.len() == all("anyOf").map_or(0, |f| f.len()) {
                self.fits_none(&wrong, path);
            }
        }
        if let Some(forms) = all("oneOf") {
            let found: Vec<_> = forms.map(|s| self.first_problem(s, value, path, depth)).collect();
            match found.iter().filter(|f| f.is_none()).count() {
                0 => self.fits_none(&found.into_iter().flatten().collect::<Vec<_>>(), path),
                1 => {}
                n => self.fail(path, format!("fits {n} forms of which it may fit only one")),
            }
        }
        if let Some(schema) = rules.get("not")
            && self.first_problem(schema, value, path, depth).is_none()
        {
            self.fail(path, "of a form that is not allowed");
        }
    }

    fn fits_none(&mut self, wrong: &[String], path: &str) {
        let mut told: Vec<_> = wrong.iter().take(4).map(|w| shorten(w, 120)).collect();
        told.dedup();
        self.fail(path, format!("fits none of {} forms ({})", wrong.len(), told.join("; ")));
    }

    /// The first problem of a value with one schema among several; `None` where it fits.
    fn first_problem(&mut self, schema: &'a Value, value: &Value, path: &str, depth: usize) -> Option<String> {
        let outer = std::mem::take(&mut self.problems);
        self.walk(schema, value, path, depth + 1);
        let found = std::mem::replace(&mut self.problems, outer).into_iter().next();
        if self.over { Some(String::new()) } else { found }
    }
}

/// The JSON Pointer in a local reference (`#/$defs/x`).
fn decoded(reference: &str) -> Option<String> {
    let pointer = reference.strip_prefix('#')?;
    let usual = pointer.is_empty() || pointer.starts_with('/');
    usual.then(|| pointer.replace("%24", "$").replace("%20", " ").replace("%7B", "{").replace("%7D", "}").replace("%25", "%"))
}

/// The types of JSON, and how a model is told of them.
const TYPES: [(&str, &str); 7] = [
    ("null", "null"),
    ("boolean", "true or false"),
    ("string", "a string"),
    ("number", "a number"),
    ("integer", "an integer"),
    ("array", "a list"),
    ("object", "an object"),
];

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn words(name: &str) -> Option<&'static str> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, words)| *words)
}

/// What was expected and what was found, where the value is of none of the types. A type that nobody knows asks for nothing.
fn wrong_type(types: &Value, value: &Value) -> Option<String> {
    let found = type_of(value);
    let is_one = |name: &Value| match name.as_str() {
        Some("integer") => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        name => name.is_none_or(|name| name == found || words(name).is_none()),
    };
    let fits = types.as_array().map_or_else(|| is_one(types), |all| all.iter().any(is_one));
    (!fits).then(|| format!("expected {}, found {}", names_of(types), words(found).unwrap_or_default()))
}

/// `a string or null`.
fn names_of(types: &Value) -> String {
    let word = |name: &Value| name.as_str().and_then(words).unwrap_or("a value");
    let names: Vec<_> = types.as_array().map_or_else(|| vec![word(types)], |all| all.iter().take(8).map(word).collect());
    names.join(" or ")
}
