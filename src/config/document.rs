//! The document: JSON text in and out, merge patches, and its revision.
//!
//! Invariant: what is read has no key twice and is bounded in bytes and depth; a syntax error tells line and column and
//! repeats nothing of the text. All that walks a document (merge, restore, resolve) recurses: documents, and patches that came
//! over HTTP, are to come from `parse`, which bounds their depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::problem::{Problem, Problems, join};

/// Bytes of a configuration file at most.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Objects and lists within each other at most: the table needs half of it, and worker threads have small stacks.
const DEPTH_MAX: usize = 24;

/// Reads a document.
///
/// # Errors
/// All problems: too long, not UTF-8, empty, not JSON (with line and column), keys that stand there twice.
pub fn parse(bytes: &[u8]) -> Result<Value, Vec<Problem>> {
    let refuse = |message: String| Err(vec![Problem::new("$", message)]);
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return refuse(format!("found {} bytes, expected at most {DOCUMENT_BYTES_MAX}", bytes.len()));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") || bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return refuse("begins with a byte order mark; save it as UTF-8 without one".into());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return refuse(format!("not UTF-8 from byte {} on; save it as UTF-8", e.valid_up_to())),
    };
    if text.trim().is_empty() {
        return refuse("empty; write {} for a configuration of defaults".into());
    }
    let mut twice = Problems::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Reader { path: "$".into(), depth: 0, twice: &mut twice }.deserialize(&mut reader);
    match read.and_then(|value| reader.end().map(|()| value)) {
        Ok(_) if twice.any() => Err(twice.into_vec()),
        Ok(value) => Ok(value),
        Err(e) => {
            let what = e.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let slash =
                text.lines().nth(e.line().saturating_sub(1)).is_some_and(|line| line.contains("//") || line.contains("/*"));
            let hint = if slash { "; JSON has no comments" } else { "" };
            refuse(format!("not JSON at line {}, column {}: {what}{hint}", e.line(), e.column()))
        }
    }
}

/// Builds a [`Value`] and notes keys that stand twice in one object; serde_json by itself lets the last one win.
struct Reader<'a> {
    path: String,
    depth: usize,
    twice: &'a mut Problems,
}

impl Reader<'_> {
    /// A reader for what stands at `path` in this one's value.
    fn inner<E: serde::de::Error>(&mut self, path: String) -> Result<Reader<'_>, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("objects and lists within each other, more than {DEPTH_MAX} deep")));
        }
        Ok(Reader { path, depth: self.depth + 1, twice: self.twice })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            match seq.next_element_seed(self.inner(path)?)? {
                Some(v) => list.push(v),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let path = join(&self.path, &name);
            if map.contains_key(&name) {
                self.twice.add(&path, "stands there twice; keep one of them");
            }
            let value = entries.next_value_seed(self.inner(path)?)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The document as it is written to a file.
pub fn text(doc: &Value) -> String {
    format!("{doc:#}\n")
}

/// The revision of a document: 16 hexadecimal digits, the same for the same document however it was spaced.
pub fn revision(doc: &Value) -> String {
    Sha256::digest(doc.to_string().as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Merges `patch` into `doc` (RFC 7396): objects key by key, `null` removes, everything else replaces.
pub fn merge(doc: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *doc = patch.clone();
        return;
    };
    if !doc.is_object() {
        *doc = Value::Object(Map::new());
    }
    for (name, change) in patch {
        if let Some(object) = doc.as_object_mut() {
            if change.is_null() {
                object.shift_remove(name);
            } else {
                merge(object.entry(name.as_str()).or_insert(Value::Null), change);
            }
        }
    }
}
