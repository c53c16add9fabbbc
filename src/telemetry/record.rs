//! A log record on its own: taken from the caller's `log::Record`, bounded, sent on and kept.
//!
//! Invariant: at most [`MESSAGE_BYTES_MAX`] of message, [`VALUE_BYTES_MAX`] of a value and [`FIELDS_MAX`] fields are held however
//! much the caller hands over: formatting stops at the bound. A formatter of the caller's that fails or panics costs its text alone.

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;
use log::kv::{Error as KvError, Key, Value as KvValue, VisitSource, VisitValue};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::{Map, Value};

use crate::telemetry::timestamp::rfc3339;

/// The longest message kept, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// The longest value of a field kept, in bytes.
pub const VALUE_BYTES_MAX: usize = 2048;
/// The longest target and the longest key kept, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The most fields kept.
const FIELDS_MAX: usize = 24;
/// The most bytes of all values together.
const VALUES_BYTES_MAX: usize = 6 * 1024;
/// Keys that the line uses itself: a field of that name gets a `_` behind it.
const TAKEN: [&str; 4] = ["time", "level", "target", "message"];

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When, in ms since 1970.
    pub time_ms: i64,
    /// How grave.
    pub level: Level,
    /// The part of the gateway that it comes from.
    pub target: String,
    /// What happened.
    pub message: String,
    /// The key-values, in the order they were given: text, numbers, booleans or null.
    pub fields: Vec<(String, Value)>,
}

impl LogRecord {
    /// Takes what is worth keeping of `record`.
    pub(super) fn of(record: &log::Record<'_>, time_ms: i64) -> Self {
        let mut fields = Fields { taken: Vec::new(), left: VALUES_BYTES_MAX };
        let _ = catch_unwind(AssertUnwindSafe(|| record.key_values().visit(&mut fields)));
        LogRecord {
            time_ms,
            level: record.level(),
            target: bounded(&record.target(), NAME_BYTES_MAX),
            message: bounded(record.args(), MESSAGE_BYTES_MAX),
            fields: fields.taken,
        }
    }

    /// A record of the log's own.
    pub(super) fn own(time_ms: i64, level: Level, target: &str, message: String) -> Self {
        LogRecord { time_ms, level, target: target.to_string(), message, fields: Vec::new() }
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let of_fields = |(key, value): &(String, Value)| key.len() + value.as_str().map_or(0, str::len) + 64;
        96 + self.target.len() + self.message.len() + self.fields.iter().map(of_fields).sum::<usize>()
    }

    /// The level's name in lower case.
    pub(super) fn level_name(&self) -> &'static str {
        match self.level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// `{"time":"2026-11-22T08:00:00.123Z","level":"info","target":"…","message":"…","fields":{…}}`.
impl Serialize for LogRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serializer.serialize_struct("LogRecord", 5)?;
        shown.serialize_field("time", &rfc3339(self.time_ms))?;
        shown.serialize_field("level", self.level_name())?;
        shown.serialize_field("target", &self.target)?;
        shown.serialize_field("message", &self.message)?;
        shown.serialize_field("fields", &self.fields.iter().cloned().collect::<Map<_, _>>())?;
        shown.end()
    }
}

/// The text of `value`, at most `max` bytes of it, with `…` where something was cut.
pub(super) fn bounded(value: &dyn fmt::Display, max: usize) -> String {
    let mut text = Bounded { text: String::new(), max, cut: false };
    if catch_unwind(AssertUnwindSafe(|| write!(text, "{value}"))).is_err() {
        text.text.push_str("(could not be shown)");
    }
    if text.cut {
        text.text.push('…');
    }
    text.text
}

struct Bounded {
    text: String,
    max: usize,
    cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.max - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let end = (0..=room).rev().find(|&i| part.is_char_boundary(i)).unwrap_or(0);
        self.text.push_str(&part[..end]);
        self.cut = true;
        self.max = self.text.len(); // nothing goes behind a cut, were the formatter to ignore the error
        Err(fmt::Error)
    }
}

struct Fields {
    taken: Vec<(String, Value)>,
    /// Bytes left for texts.
    left: usize,
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: KvValue<'kvs>) -> Result<(), KvError> {
        if self.taken.len() >= FIELDS_MAX {
            return Ok(());
        }
        let mut key = bounded(&key, NAME_BYTES_MAX);
        while TAKEN.contains(&key.as_str()) || self.taken.iter().any(|(k, _)| *k == key) {
            key.push('_');
        }
        let mut kept = OneValue { value: Value::Null, max: VALUE_BYTES_MAX.min(self.left) };
        value.visit(&mut kept)?;
        self.left = self.left.saturating_sub(kept.value.as_str().map_or(0, str::len));
        self.taken.push((key, kept.value));
        Ok(())
    }
}

/// Takes one value: numbers and booleans as they are, all else as text.
struct OneValue {
    value: Value,
    max: usize,
}

impl<'v> VisitValue<'v> for OneValue {
    fn visit_any(&mut self, value: KvValue<'_>) -> Result<(), KvError> {
        self.value = bounded(&value, self.max).into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), KvError> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        self.value = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        self.value = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        self.value = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        self.value = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            while f.write_str("0123456789").is_ok() {}
            f.write_str("behind the bound")
        }
    }

    struct Broken;

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("so far ")?;
            panic!("in a formatter")
        }
    }

    #[test]
    fn text_is_bounded_while_it_is_made() {
        for (name, value, max, expected) in [
            ("short", &"abc" as &dyn fmt::Display, 3, "abc"),
            ("long", &"abcd", 3, "abc…"),
            ("cut inside of a character", &"aé", 2, "a…"),
            ("endless", &Endless, 12, "012345678901…"),
            ("panics", &Broken, 64, "so far (could not be shown)"),
            ("no room", &"a", 0, "…"),
        ] {
            assert_eq!(bounded(value, max), expected, "{name}");
        }
    }

    #[test]
    fn fields_keep_their_kind_and_their_bound() {
        let long = "x".repeat(100_000);
        let secret = crate::base::secret::Secret::new("canary-0123456789");
        let fields: Vec<(&str, KvValue<'_>)> = vec![
            ("n", KvValue::from(7u64)),
            ("below", KvValue::from(-7)),
            ("yes", KvValue::from(true)),
            ("share", KvValue::from(0.5)),
            ("nan", KvValue::from(f64::NAN)),
            ("text", KvValue::from("a\nb")),
            ("message", KvValue::from("mine")),
            ("n", KvValue::from("again")),
            ("shown", KvValue::from_display(&secret)),
            ("debugged", KvValue::from_debug(&secret)),
            ("long", KvValue::from(long.as_str())),
            ("long2", KvValue::from(long.as_str())),
            ("long3", KvValue::from(long.as_str())),
            ("long4", KvValue::from(long.as_str())),
        ];
        let source = fields.as_slice();
        let record = log::Record::builder().target("t").level(Level::Info).key_values(&source).build();
        let kept = LogRecord::of(&record, 0);
        let shown = serde_json::to_value(&kept).unwrap();
        for (key, expected) in [
            ("n", Value::from(7)),
            ("below", Value::from(-7)),
            ("yes", true.into()),
            ("share", 0.5.into()),
            ("nan", Value::Null),
            ("text", "a\nb".into()),
            ("message_", "mine".into()),
            ("n_", "again".into()),
            ("shown", "***".into()),
            ("debugged", "***".into()),
        ] {
            assert_eq!(shown["fields"][key], expected, "{key}");
        }
        assert!(kept.weight() < 8 * 1024, "{}", kept.weight());
        assert!(!shown.to_string().contains("canary"));
    }

    #[test]
    fn a_flood_of_fields_is_bounded() {
        let fields: Vec<(String, i32)> = (0..1000).map(|i| (format!("key-{i}"), i)).collect();
        let source = fields.as_slice();
        let record = log::Record::builder().key_values(&source).build();
        assert_eq!(LogRecord::of(&record, 0).fields.len(), FIELDS_MAX);
    }
}
