//! What a person is asked before a call runs, and the digest that binds the answer to that very call.
//!
//! Invariant: the person sees the tool and all of its arguments, exactly: nothing is left out, shortened or reordered, and no
//! character of it can hide, reorder or imitate another part of the question. What is too long to be shown can't be approved.
//! Two calls have the same digest only where tool, arguments and binding are the same. Pure; fails where it is too long.

use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Question, Who};

/// Longest question, in characters.
pub const QUESTION_CHARS_MAX: usize = 4000;

/// The question whether `tool` may be called for `who`. What the call is bound to is shown last: the program behind a name, say.
///
/// # Errors
/// With what the model is told where it is too long to be shown.
pub fn question(tool: &str, who: &Who, arguments: &Map<String, Value>, binding: &str) -> Result<Question, String> {
    let mut text = format!(
        "May agent {} call {} for user {} by channel {}?",
        quoted(&who.agent),
        quoted(tool),
        quoted(&who.user_id),
        quoted(&who.channel)
    );
    for (name, value) in arguments {
        text.push('\n');
        text.push_str(&quoted(name));
        text.push_str(": ");
        show(value, &mut text);
    }
    let shown = binding.split('\0').next().unwrap_or_default();
    if !shown.is_empty() {
        // No argument's line begins without a quote.
        let _ = write!(text, "\nIt stands for {}.", quoted(shown)); // to a String: cannot fail
    }
    let chars = text.chars().count();
    if chars > QUESTION_CHARS_MAX {
        return Err(format!(
            "this call needs a person's approval, and with {chars} characters it is too long to be shown to one; \
             make its arguments shorter (at most {QUESTION_CHARS_MAX} characters in all)"
        ));
    }
    Ok(Question { arguments: Value::Object(arguments.clone()), text, digest: digest(tool, arguments, binding) })
}

/// Of a call: 64 hexadecimal digits.
pub fn digest(tool: &str, arguments: &Map<String, Value>, binding: &str) -> String {
    let mut hash = Sha256::new();
    let arguments = canonical_object(arguments);
    // Each part behind its length: no part can take a piece of its neighbour.
    for part in ["gatelet call 1", tool, &arguments, binding] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}"); // to a String: cannot fail
        all
    })
}

/// JSON without spaces and with keys in order: the same text for the same value.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(object) => canonical_object(object),
        plain => plain.to_string(),
    }
}

fn canonical_object(object: &Map<String, Value>) -> String {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    let entries: Vec<_> =
        entries.into_iter().map(|(name, v)| format!("{}:{}", Value::from(name.as_str()), canonical(v))).collect();
    format!("{{{}}}", entries.join(","))
}

/// A value as JSON in one line, with its texts as [`quoted`] shows them.
fn show(value: &Value, into: &mut String) {
    let separated = |i: usize, into: &mut String| {
        if i > 0 {
            into.push_str(", ")
        }
    };
    match value {
        Value::String(text) => into.push_str(&quoted(text)),
        Value::Array(list) => {
            into.push('[');
            for (i, item) in list.iter().enumerate() {
                separated(i, into);
                show(item, into);
            }
            into.push(']');
        }
        Value::Object(object) => {
            into.push('{');
            for (i, (name, item)) in object.iter().enumerate() {
                separated(i, into);
                into.push_str(&quoted(name));
                into.push_str(": ");
                show(item, into);
            }
            into.push('}');
        }
        plain => into.push_str(&plain.to_string()),
    }
}

/// A text in quotes, everything in it visible: quotes and backslashes escaped, line ends and tabs as `\n`, `\r`, `\t`, every other
/// character that shows nothing, or moves what stands around it, as `\u{..}`.
pub fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' => shown.push_str("\\\""),
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_hidden(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c)); // to a String: cannot fail
            }
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// Controls, bidi and other format characters, all that is invisible or looks like a plain space, private use, tags and
/// selectors, noncharacters; as ranges, both ends included.
const HIDDEN: &[(u32, u32)] = &[
    (0x00, 0x1f),
    (0x7f, 0xa0),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x115f, 0x1160),
    (0x1680, 0x1680),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x2000, 0x200f),
    (0x2028, 0x202f),
    (0x205f, 0x206f),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xe000, 0xf8ff),
    (0xfdd0, 0xfdef),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffc),
    (0xfffe, 0xffff),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1345f),
    (0x1bca0, 0x1bca3),
    (0x1d159, 0x1d159),
    (0x1d173, 0x1d17a),
    (0xe0000, 0x10ffff),
];

fn is_hidden(c: char) -> bool {
    let c = u32::from(c);
    let at = HIDDEN.partition_point(|(_, last)| *last < c);
    HIDDEN.get(at).is_some_and(|(first, _)| *first <= c) || c & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Standing;
    use serde_json::json;

    fn who() -> Who {
        Who { agent: "main".into(), channel: "door".into(), user_id: "ana".into(), standing: Standing::User }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn asked(tool: &str, arguments: Value) -> Result<Question, String> {
        question(tool, &who(), &map(arguments), "")
    }

    #[test]
    fn the_ranges_are_in_order() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last) && HIDDEN.windows(2).all(|w| w[0].1 < w[1].0));
    }

    #[test]
    fn nothing_hides() {
        let named = "\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{200b}\u{200d}\u{feff}\u{2060}\u{e0041}\u{fe0f}\
            \u{e0100}\u{2028}\u{2029}\u{0}\u{7}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{3164}\u{180e}\u{a0}\u{1fffe}\u{10ffff}";
        for c in named.chars() {
            let shown = quoted(&format!("a{c}b"));
            assert_eq!(shown, format!("\"a\\u{{{:x}}}b\"", u32::from(c)));
        }
        for text in ["plain", "Grüße, 你好, привет, नमस्ते, سلام", "é ß – “quotes” 🙂"] {
            assert_eq!(quoted(text), format!("\"{text}\""), "what is seen stays as it is");
        }
        for (text, shown) in [("\n\r\t", r#""\n\r\t""#), ("\\u{202e}", r#""\\u{202e}""#), ("\"", r#""\"""#), ("\\n", r#""\\n""#)]
        {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn the_question_is_exact() {
        let asked = asked("shell.run", json!({"command": "ls", "args": ["-l", "\u{202e}gpj.exe"], "n": 1.5, "o": {"k\n": null}}))
            .unwrap();
        let text = "May agent \"main\" call \"shell.run\" for user \"ana\" by channel \"door\"?\n\"command\": \"ls\"\n\
            \"args\": [\"-l\", \"\\u{202e}gpj.exe\"]\n\"n\": 1.5\n\"o\": {\"k\\n\": null}";
        assert_eq!(asked.text, text);
        assert_eq!(asked.arguments["args"][1], "\u{202e}gpj.exe", "the exact value");
        let bound = question("t", &who(), &map(json!({"a": 1})), "/usr/bin/\nls 8:1").unwrap();
        assert!(bound.text.ends_with("?\n\"a\": 1\nIt stands for \"/usr/bin/\\nls 8:1\"."), "{}", bound.text);
        let ask = |binding| question("t", &who(), &map(json!({"a": 1})), binding).unwrap();
        assert_eq!(ask("/bin/ls\x008:1").text, ask("/bin/ls\x008:2").text, "what only a program reads is not shown");
        assert_ne!(ask("/bin/ls\x008:1").digest, ask("/bin/ls\x008:2").digest, "and bound all the same");
        let forged = Who { user_id: "ana\" by channel \"x\"?\n\"command\": \"ls".into(), ..who() };
        let asked = question("t", &forged, &map(json!({"command": "rm"})), "").unwrap();
        assert_eq!(asked.text.lines().count(), 2, "no value makes a line of its own: {}", asked.text);
    }

    #[test]
    fn too_long_cannot_be_approved() {
        let frame = asked("t", json!({"a": ""})).unwrap().text.chars().count();
        let fits = QUESTION_CHARS_MAX - frame;
        assert!(asked("t", json!({"a": "读".repeat(fits)})).is_ok());
        let refused = asked("t", json!({"a": "x".repeat(fits + 1)})).unwrap_err();
        assert!(refused.contains("shorter"), "{refused}");
        // What is shown counts, not what is written.
        assert!(asked("t", json!({"a": "\u{200b}".repeat(fits / 8 + 1)})).is_err());
    }

    #[test]
    fn digests_tell_all_apart() {
        let calls = [
            ("a", json!({}), ""),
            ("b", json!({}), ""),
            ("a", json!({}), "x"),
            ("a", json!({"x": 1}), ""),
            ("a", json!({"x": "1"}), ""),
            ("a", json!({"x": 1.0}), ""),
            ("a", json!({"x": null}), ""),
            ("a", json!({"x": ["b", "c"]}), ""),
            ("a", json!({"x": ["b\",\"c"]}), ""),
            ("a", json!({"x": ["c", "b"]}), ""),
            ("a", json!({"x": "b "}), ""),
            ("a", json!({"x": "b\u{200b}"}), ""),
            ("a", json!({"x": {}, "y": 1}), ""),
            ("a", json!({"x": {"y": 1}}), ""),
            ("a{}", json!({}), ""),
        ];
        let digests: std::collections::BTreeSet<_> = calls.iter().map(|(t, a, b)| digest(t, &map(a.clone()), b)).collect();
        assert_eq!(digests.len(), calls.len());
        assert!(digests.iter().all(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit())));
        let one: Value = serde_json::from_str(r#"{"a":{"c":1,"b":[{"e":2,"d":3}]},"f":4}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{ "f":4, "a":{"b":[{"d":3,"e":2}],"c":1}}"#).unwrap();
        assert_eq!(digest("t", &map(one.clone()), "b"), digest("t", &map(other), "b"), "the order of keys counts for nothing");
        assert_eq!(canonical(&one), r#"{"a":{"b":[{"d":3,"e":2}],"c":1},"f":4}"#);
    }
}
