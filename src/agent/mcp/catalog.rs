//! What a server offers, made fit: names, descriptions and schemas within bounds before anything of them reaches a model.
//!
//! Invariant: pure. What a server says of its tools is taken as a claim: a hint can make a tool be asked about less in the one place
//! that names it (a repeat after a crash), never make it safe. What can't be made fit is left out, with a complaint for the log.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::agent::mcp::headers::Mirrored;
use crate::agent::mcp::text::{clean, one_line};
use crate::agent::provider::ToolSpec;
use crate::agent::tools::About;
use crate::agent::tools::pattern::any_fits;

/// Most tools of one server.
pub const TOOLS_MAX: usize = 128;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Longest schema, in bytes of JSON, and its depth.
pub const SCHEMA_BYTES_MAX: usize = 16 * 1024;
const SCHEMA_DEPTH_MAX: usize = 32;
/// Longest name of a tool, in bytes: the server's own, and our part of it.
const REMOTE_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
/// Longest name on a provider's wire.
const WIRE_BYTES_MAX: usize = 64;
/// Most complaints that are kept of one list.
const COMPLAINTS_MAX: usize = 20;

/// A tool that a server offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The server's own name of it.
    pub remote: String,
    /// What is told of it.
    pub about: About,
    /// Its arguments that HTTP shows in the head.
    pub mirrored: Mirrored,
    /// A digest of its whole definition: an approval of a tool is none of another under its name.
    pub definition: String,
}

/// A server's tools as they are read, page by page.
pub struct Catalog<'a> {
    server: &'a str,
    /// Patterns of the server's own names; `None` for all.
    wanted: Option<&'a [String]>,
    /// Whether arguments are shown in heads there (HTTP).
    mirrors: bool,
    names: HashSet<String>,
    /// What was fit.
    pub offers: Vec<Offer>,
    /// What was not, in words; some of them.
    pub complaints: Vec<String>,
    /// How many were not.
    pub left_out: usize,
}

impl<'a> Catalog<'a> {
    /// An empty one.
    pub fn new(server: &'a str, wanted: Option<&'a [String]>, mirrors: bool) -> Self {
        let (names, offers, complaints) = Default::default();
        Catalog { server, wanted, mirrors, names, offers, complaints, left_out: 0 }
    }

    /// Adds one tool as the server describes it.
    pub fn add(&mut self, tool: &Value) {
        let remote = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        if !any_fits(self.wanted, remote) {
            return; // nobody wants it: nothing to tell
        }
        if let Err(why) = self.take(remote, tool) {
            self.left_out += 1;
            self.complain(format!("its tool {:?} is left out: {why}", one_line(remote, NAME_BYTES_MAX)));
        }
    }

    fn complain(&mut self, text: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(text);
        }
    }

    fn take(&mut self, remote: &str, tool: &Value) -> Result<(), &'static str> {
        if self.offers.len() >= TOOLS_MAX {
            return Err("there are too many");
        }
        if remote.is_empty() || remote.len() > REMOTE_BYTES_MAX {
            return Err("its name is empty or too long");
        }
        let name = fitting(remote);
        if self.names.contains(&name) {
            return Err("another one has that name");
        }
        let raw = tool.get("inputSchema").unwrap_or(&Value::Null);
        let schema = schema(raw)?;
        let mirrored = if self.mirrors { Mirrored::of(raw)? } else { Mirrored::default() };
        if name != remote {
            self.complain(format!("its tool {:?} is called {name} here", one_line(remote, NAME_BYTES_MAX)));
        }
        let hint = |name: &str| tool.pointer(&format!("/annotations/{name}")).and_then(Value::as_bool) == Some(true);
        let words = |key: &str| tool.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let about = About {
            spec: Arc::new(ToolSpec {
                name: format!("mcp.{}.{name}", self.server),
                wire: wire_name(self.server, &name),
                description: clean(words("description").or_else(|| words("title")).unwrap_or_default(), DESCRIPTION_BYTES_MAX),
                schema,
            }),
            idempotent: hint("readOnlyHint") || hint("idempotentHint"),
            dangerous: !hint("readOnlyHint"),
            safe: false,
        };
        self.names.insert(name);
        self.offers.push(Offer { remote: remote.to_string(), about, mirrored, definition: digest(&tool.to_string(), 16) });
        Ok(())
    }
}

/// A name made of what ours are made of; no dot, so that the last one of `mcp.<server>.<tool>` parts the two.
fn fitting(remote: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    remote.chars().take(NAME_BYTES_MAX).map(plain).collect()
}

/// The name on a provider's wire. Two tools never share one: where the plain form could be another's, a digest stands in it.
fn wire_name(server: &str, tool: &str) -> String {
    let plain = format!("mcp__{server}__{tool}");
    if plain.len() <= WIRE_BYTES_MAX && !server.contains('.') && !server.contains("__") && !server.ends_with('_') {
        return plain;
    }
    let mark = digest(&format!("{server}.{tool}"), 4);
    let cut = &plain[..plain.len().min(WIRE_BYTES_MAX - mark.len() - 1)]; // ASCII, both parts of it
    format!("{}_{mark}", cut.replace('.', "_"))
}

/// The first `bytes` of a text's digest, in hex.
pub fn digest(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|b| format!("{b:02x}")).collect()
}

/// The schema of a tool's arguments, fit for models.
fn schema(raw: &Value) -> Result<Value, &'static str> {
    let mut schema = match raw {
        Value::Null => Map::new(),
        Value::Object(schema) => schema.clone(),
        _ => return Err("its schema is no object"),
    };
    schema.remove("$schema");
    if schema.entry("type").or_insert_with(|| json!("object")) != "object" {
        return Err("its arguments are no object");
    }
    let mut schema = Value::Object(schema);
    if !tidy(&mut schema, SCHEMA_DEPTH_MAX) {
        return Err("its schema is nested too deep");
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err("its schema is too long");
    }
    Ok(schema)
}

/// Cleans the words for people in a schema; false where it is nested deeper than `depth`.
fn tidy(value: &mut Value, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else { return false };
    match value {
        Value::Object(map) => map.iter_mut().all(|(key, value)| match value {
            Value::String(text) if matches!(key.as_str(), "description" | "title") => {
                *text = clean(text, DESCRIPTION_BYTES_MAX);
                true
            }
            value => tidy(value, deeper),
        }),
        Value::Array(all) => all.iter_mut().all(|v| tidy(v, deeper)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(server: &'a str, wanted: Option<&'a [String]>, tools: &[Value]) -> Catalog<'a> {
        let mut catalog = Catalog::new(server, wanted, true);
        tools.iter().for_each(|tool| catalog.add(tool));
        catalog
    }

    fn named(name: &str) -> Value {
        json!({"name": name, "inputSchema": {"type": "object"}})
    }

    #[track_caller]
    fn check(tool: Value, expected: Result<&str, &str>) {
        let catalog = read("s", None, &[tool]);
        match expected {
            Ok(name) => assert_eq!(catalog.offers[0].about.spec.name, name),
            Err(word) => {
                assert!(catalog.offers.is_empty() && catalog.left_out == 1);
                assert!(catalog.complaints[0].contains(word), "{:?} says {word}", catalog.complaints);
            }
        }
    }

    #[test]
    fn tools_are_made_fit_or_left_out() {
        check(named("read_file"), Ok("mcp.s.read_file"));
        check(named("get.sum of/two"), Ok("mcp.s.get_sum_of_two"));
        check(named("工具"), Ok("mcp.s.__"));
        check(json!({"name": "bare"}), Ok("mcp.s.bare"));
        check(named(""), Err("empty"));
        check(named(&"x".repeat(300)), Err("too long"));
        check(json!({"name": "a", "inputSchema": []}), Err("no object"));
        check(json!({"name": "a", "inputSchema": {"type": "string"}}), Err("no object"));
        let deep = (0..40).fold(json!({}), |inner, _| json!({"type": "object", "properties": {"a": inner}}));
        check(json!({"name": "a", "inputSchema": deep}), Err("too deep"));
        check(json!({"name": "a", "inputSchema": {"enum": vec!["0123456789"; 2000]}}), Err("schema is too long"));
        let marked = json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}});
        check(json!({"name": "a", "inputSchema": marked}), Err("x-mcp-header"));
    }

    #[test]
    fn lists_have_an_end_and_no_doubles() {
        let many: Vec<_> = (0..200).map(|i| named(&format!("t{i}"))).collect();
        let catalog = read("s", None, &many);
        assert_eq!((catalog.offers.len(), catalog.left_out, catalog.complaints.len()), (TOOLS_MAX, 72, COMPLAINTS_MAX));
        let doubles = read("s", None, &[named("a.b"), named("a_b"), named("a.b")]);
        assert_eq!((doubles.offers.len(), doubles.left_out), (1, 2));
        let wanted = ["read_*".to_string(), "list".to_string()];
        let some = read("s", Some(&wanted), &[named("read_file"), named("write_file"), named("list"), named("listing")]);
        let names: Vec<_> = some.offers.iter().map(|o| o.remote.as_str()).collect();
        assert_eq!((names, some.left_out), (vec!["read_file", "list"], 0));
    }

    #[test]
    fn hints_are_hints() {
        for (hints, idempotent, dangerous) in [
            (json!({}), false, true),
            (json!({"readOnlyHint": true}), true, false),
            (json!({"idempotentHint": true}), true, true),
            (json!({"destructiveHint": false, "readOnlyHint": "yes"}), false, true),
        ] {
            let tool = json!({"name": "a", "annotations": hints});
            let about = read("s", None, &[tool]).offers.remove(0).about;
            assert_eq!((about.idempotent, about.dangerous, about.safe), (idempotent, dangerous, false), "{hints}");
        }
    }

    #[test]
    fn words_are_bounded_and_show_what_they_are() {
        let long = format!("evil\u{202e}\u{1b}[0m{}", "x".repeat(5000));
        let schema = json!({"$schema": "x", "properties": {"a": {"type": "string", "description": long, "title": "t\u{0}"}}});
        let tool = json!({"name": "a", "description": long, "inputSchema": schema});
        let offer = read("s", None, &[tool]).offers.remove(0);
        assert!(offer.about.spec.description.starts_with("evil[0mxxx") && offer.about.spec.description.len() <= 1027);
        let shown = offer.about.spec.schema.to_string();
        assert!(
            !shown.contains("\\u") && !shown.contains('\u{202e}') && !shown.contains("$schema") && shown.len() < 1200,
            "{shown}"
        );
    }

    #[test]
    fn another_definition_is_another_tool() {
        let of = |tool: Value| read("s", None, &[tool]).offers.remove(0).definition;
        assert_eq!(of(named("a")), of(named("a")));
        assert_ne!(of(named("a")), of(json!({"name": "a", "description": "now deletes", "inputSchema": {"type": "object"}})));
    }

    #[test]
    fn names_on_the_wire_are_unique() {
        let long = "x".repeat(64);
        let names = [
            ("a", "b_c"),
            ("a_b", "c"),
            ("a.b", "c"),
            ("a-b", "c"),
            ("a__b", "c"),
            ("a", "b__c"),
            ("a_", "c"),
            ("a", "_c"),
            ("s", &long),
        ];
        let wires: HashSet<_> = names.iter().map(|(server, tool)| wire_name(server, tool)).collect();
        assert_eq!(wires.len(), names.len(), "{wires:?}");
        for wire in wires {
            assert!(wire.len() <= 64 && wire.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')), "{wire}");
        }
    }
}
