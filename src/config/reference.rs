//! The reference page (`docs/configuration.md`), from the table.
//!
//! Invariant: nothing about a single key is written here; that stands at the key.

use std::fmt::Write as _;

use serde_json::Value;

use super::raw::Raw;
use super::section::{Key, Preset, Section, Shape};

const HEAD: &str = "# Configuration

<!-- Generated from src/config/raw: `UPDATE=1 cargo test config` writes it anew. -->

One JSON file. All of it is optional: with `{}`, or without a file, the gateway starts on 127.0.0.1:8787. `config/gatelet.json` is
an example that works as it is, `config/gatelet.schema.json` its JSON Schema; `gatelet check` tells all problems of a file at once.

**Where it is found**, the first of: `--config`, `$GATELET_CONFIG`, `config/gatelet.json`, `/etc/gatelet/gatelet.json`, `gatelet.json` in
the data directory. The last one is also where `PUT /api/config` writes where there is no file.

**The data directory**, the first of: `--data-dir`, `$GATELET_DATA_DIR`, `$STATE_DIRECTORY` (systemd), `$XDG_STATE_HOME/gatelet`,
`~/.local/state/gatelet`. It is made with mode 0700. Relative paths in the document start there.

**Secrets** are a text, `{\"env\": \"NAME\"}` (an environment variable) or `{\"file\": \"PATH\"}` (a file, a systemd credential say; newlines at
its end are left out). Answers show them as `\"***\"`; a `\"***\"` that is sent back leaves the secret as it is. Tokens have 16
characters or more; placeholders are refused. Without `gateway.auth.token`, or with `{\"file\": \"token\"}`, a token is made at first
start and kept in `token` in the data directory, mode 0600.

**Changes** of the file, SIGHUP, `PUT` and `PATCH /api/config` apply live, all or nothing; a key marked with ↻ applies at the next start.
A file with problems is refused whole, and what runs goes on. At start, a file with problems is refused, too: the last configuration
that worked (`config.last.json` in the data directory) is used if there is one, and the log and `/ready` say so.

**Times** are in ms, sizes in bytes. An unknown key is a problem that names the nearest known one, and so is a key that stands
twice. `tools.shell` and MCP servers with a `command` can be set in the file alone, never over HTTP.

A channel that is switched off needs none of its secrets.
";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut out = HEAD.to_string();
    let mut top: Vec<&Key> = Vec::new();
    for key in Raw::SECTION.keys {
        match key.shape {
            Shape::Section(_) | Shape::Map(_) | Shape::List(_) => top.push(key),
            _ => {}
        }
    }
    for key in top {
        let _ = writeln!(out, "\n## {}\n\n{}", key.name, key.meaning()); // a String takes all
        let mut table = Table::default();
        table.inner(key, key.name);
        table.finish(&mut out);
    }
    out
}

/// Rows of the keys of one chapter, and the tables of its types after them.
#[derive(Default)]
struct Table {
    rows: String,
    types: String,
}

impl Table {
    /// The rows of what stands in `key`.
    fn inner(&mut self, key: &Key, path: &str) {
        match key.shape {
            Shape::Section(section) => self.keys(section, path),
            Shape::List(shape) => self.entry(key, shape, &format!("{path}[]")),
            Shape::Map(shape) => self.entry(key, shape, &format!("{path}.*")),
            Shape::Variants(table) => {
                let names: Vec<_> = table.types.iter().map(|(name, _)| format!("`{name}`")).collect();
                self.row(&format!("{path}.type"), &names.join(", "), "required", table.about.trim());
                self.keys(table.common, path);
                for (name, section) in table.types {
                    let mut own = Table::default();
                    own.keys(section, path);
                    let _ = write!(self.types, "\n### type `{name}`\n\n{}\n", section.about.trim());
                    own.finish(&mut self.types);
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, key: &Key, shape: &Shape, path: &str) {
        match shape {
            Shape::Text | Shape::Free => {}
            Shape::Map(_) => self.row(&format!("{path}.*"), "text", "", "The user's id on that channel."),
            _ => self.inner(&key.entry(*shape), path),
        }
    }

    fn keys(&mut self, section: &Section, path: &str) {
        for key in section.keys {
            let path = format!("{path}.{}", key.name);
            match key.shape {
                Shape::Section(_) => {}
                _ => {
                    let restart = if key.restart { " ↻" } else { "" };
                    self.row(&path, &(kind(key) + restart), &default(key), key.meaning());
                }
            }
            self.inner(key, &path);
        }
    }

    fn row(&mut self, path: &str, kind: &str, default: &str, about: &str) {
        let about = about.replace('|', "\\|");
        let _ = writeln!(self.rows, "| `{path}` | {kind} | {default} | {about} |");
    }

    fn finish(self, out: &mut String) {
        if !self.rows.is_empty() {
            let _ = write!(out, "\n| key | value | default | what it is |\n|---|---|---|---|\n{}", self.rows);
        }
        out.push_str(&self.types);
    }
}

fn kind(key: &Key) -> String {
    let (min, max) = key.range;
    match key.shape {
        Shape::Bool => "true or false".into(),
        Shape::Int => format!("{min} to {max}"),
        Shape::Text => "text".into(),
        Shape::Choice(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Shape::Secret => "secret".into(),
        Shape::Free => "any".into(),
        Shape::List(Shape::Text) => "list of texts".into(),
        Shape::List(_) => "list".into(),
        Shape::Map(_) | Shape::Section(_) | Shape::Variants(_) => "object".into(),
    }
}

fn default(key: &Key) -> String {
    match (key.preset, key.preset.json()) {
        (Preset::Required, _) => "required".into(),
        (_, Value::Null) => String::new(),
        (_, Value::String(text)) if text.len() > 40 => "a short friendly one".into(),
        (_, json) => format!("`{json}`"),
    }
}
