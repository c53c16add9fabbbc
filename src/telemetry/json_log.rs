//! A log record as one JSON object on one line: `{"time":…,"level":…,"target":…,"message":…,<fields>}`.
//!
//! Invariant: one record is one line of at most [`LINE_BYTES_MAX`] bytes and always whole JSON; fields that would not fit are left
//! out and counted in `fieldsLeftOut`. It cannot fail.

use serde_json::Value;

use crate::telemetry::line::{LINE_BYTES_MAX, push_escaped};
use crate::telemetry::record::{LogRecord, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::telemetry::timestamp::rfc3339;

/// What the end of a line may need: the count of fields left out, the brace, the newline.
const END_BYTES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;

/// The line, with its newline; `for_journal` puts the priority before it, as journald takes it from a service's stderr.
pub(super) fn line(record: &LogRecord, for_journal: bool) -> String {
    let mut line = String::with_capacity(256 + record.message.len());
    if for_journal {
        line.push_str(priority(record.level));
    }
    line.push_str(&format!("{{\"time\":\"{}\",\"level\":\"{}\"", rfc3339(record.time_ms), record.level_name()));
    push_text(&mut line, "target", &record.target, NAME_BYTES_MAX);
    push_text(&mut line, "message", &record.message, MESSAGE_BYTES_MAX + "…".len());
    let mut left_out = 0;
    for (key, value) in &record.fields {
        let before = line.len();
        match value {
            Value::String(text) => push_text(&mut line, key, text, VALUE_BYTES_MAX + "…".len()),
            other => {
                push_key(&mut line, key);
                line.push_str(&other.to_string());
            }
        }
        if line.len() + END_BYTES_MAX > LINE_BYTES_MAX {
            line.truncate(before);
            left_out += 1;
        }
    }
    if left_out > 0 {
        line.push_str(&format!(",\"fieldsLeftOut\":{left_out}"));
    }
    line.push_str("}\n");
    line
}

fn push_key(line: &mut String, key: &str) {
    line.push_str(",\"");
    push_escaped(line, key, NAME_BYTES_MAX, true);
    line.push_str("\":");
}

fn push_text(line: &mut String, key: &str, text: &str, max: usize) {
    push_key(line, key);
    line.push('"');
    push_escaped(line, text, max, true);
    line.push('"');
}

/// syslog's priorities, as journald reads them.
fn priority(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "<3>",
        log::Level::Warn => "<4>",
        log::Level::Info => "<6>",
        log::Level::Debug | log::Level::Trace => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    fn record(message: &str, fields: &[(&str, Value)]) -> LogRecord {
        let fields = fields.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let target = "gatelet::net".to_string();
        LogRecord { time_ms: 1_795_334_400_123, level: Level::Info, target, message: message.to_string(), fields }
    }

    #[test]
    fn the_form() {
        let record = record("taken \"in\"", &[("userId", "ana\nroot".into()), ("ms", 7.into()), ("ok", true.into())]);
        let expected = concat!(
            r#"{"time":"2026-11-22T08:00:00.123Z","level":"info","target":"gatelet::net","message":"taken \"in\"","#,
            r#""userId":"ana\nroot","ms":7,"ok":true}"#,
            "\n"
        );
        assert_eq!(line(&record, false), expected);
        assert_eq!(line(&record, true), format!("<6>{expected}"));
    }

    #[test]
    fn whatever_it_holds_it_is_one_whole_bounded_line() {
        let (controls, quotes, long) = ("\0".repeat(4096), "\"".repeat(2048), "x".repeat(2048));
        for (name, message, fields) in [
            ("controls", controls.as_str(), vec![("k", Value::from(controls.as_str()))]),
            ("many long fields", "m", (0..24).map(|_| (quotes.as_str(), Value::from(long.as_str()))).collect()),
            ("newlines and braces", "}\n{\"level\":\"error\"}\r\n", vec![("}\n", Value::Null)]),
            ("not for eyes", "\u{2028}\u{85}\u{1b}]0;x\u{7}", vec![]),
        ] {
            let line = line(&record(message, &fields), true);
            assert!(line.len() <= LINE_BYTES_MAX, "{name}: {} bytes", line.len());
            let text = line.strip_prefix("<6>").unwrap().strip_suffix('\n').unwrap();
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{2028}'), "{name}");
            let shown: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(shown["level"], "info", "{name}");
        }
    }

    #[test]
    fn fields_that_do_not_fit_are_counted() {
        let long = "x".repeat(2048);
        let fields: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|k| (*k, Value::from(long.as_str()))).collect();
        let shown: Value = serde_json::from_str(&line(&record("m", &fields), false)).unwrap();
        assert_eq!((shown["c"].as_str(), shown.get("d"), &shown["fieldsLeftOut"]), (Some(long.as_str()), None, &Value::from(2)));
    }
}
