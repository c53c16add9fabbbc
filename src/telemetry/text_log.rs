//! A log record for a person at a terminal, written by simplelog with the fields behind the message.
//!
//! Invariant: one record is one bounded line; nothing of it can command the terminal. Colour stands only around the level, and
//! only where it was asked for. It cannot fail.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use log::{Level, LevelFilter, Log};
use serde_json::Value;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

use crate::telemetry::line::{LINE_BYTES_MAX, push_escaped};
use crate::telemetry::record::LogRecord;
use crate::telemetry::timestamp::rfc3339;

/// Makes the lines. simplelog writes to memory, so that the one who writes to the terminal learns whether that worked.
pub(super) struct TextLog {
    logger: Box<WriteLogger<Shared>>,
    line: Shared,
    colour: bool,
}

impl TextLog {
    pub(super) fn new(colour: bool) -> Self {
        let line = Shared::default();
        // The time is ours: simplelog would take the time of writing, not that of the record.
        let config = ConfigBuilder::new()
            .set_time_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Error)
            .set_location_level(LevelFilter::Off)
            .set_level_padding(LevelPadding::Left)
            .build();
        TextLog { logger: WriteLogger::new(LevelFilter::Trace, config, line.clone()), line, colour }
    }

    /// The line, with its newline: `08:00:00.123 [ INFO] target: message key=value`.
    pub(super) fn line(&self, record: &LogRecord) -> String {
        let mut text = String::with_capacity(record.message.len() + 128);
        push_escaped(&mut text, &record.message, LINE_BYTES_MAX / 2, false);
        for (key, value) in &record.fields {
            push_field(&mut text, key, value);
        }
        let mut target = String::new();
        push_escaped(&mut target, &record.target, 128, false);
        self.logger.log(&log::Record::builder().level(record.level).target(&target).args(format_args!("{text}")).build());
        let written = std::mem::take(&mut *self.line.0.lock().unwrap_or_else(PoisonError::into_inner));
        let written = String::from_utf8_lossy(&written);
        let time = &rfc3339(record.time_ms)[11..23];
        if !self.colour {
            return format!("{time} {written}");
        }
        let end = written.find("] ").map_or(0, |i| i + 1); // behind the level's bracket
        format!("{time} \x1b[{}m{}\x1b[0m{}", colour(record.level), &written[..end], &written[end..])
    }
}

/// Adds ` key=value` while there is room; a value that could be misread stands in quotes.
fn push_field(text: &mut String, key: &str, value: &Value) {
    let room = (LINE_BYTES_MAX - 512).saturating_sub(text.len());
    if room < 64 {
        return;
    }
    text.push(' ');
    push_escaped(text, key, 64, false);
    text.push('=');
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let quoted = value.is_string() && (shown.is_empty() || shown.contains([' ', '"', '=', '\\']));
    let quote = if quoted { "\"" } else { "" };
    text.push_str(quote);
    push_escaped(text, &shown, (room - 64).max(16), quoted);
    text.push_str(quote);
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "32",
        Level::Debug => "36",
        Level::Trace => "90",
    }
}

/// A line in memory that simplelog can own and we can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, fields: &[(&str, Value)]) -> LogRecord {
        let fields = fields.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let target = "gatelet::net".to_string();
        LogRecord { time_ms: 1_795_334_400_123, level: Level::Warn, target, message: message.to_string(), fields }
    }

    #[test]
    fn the_form() {
        let fields = [("userId", "ana\nroot".into()), ("n", 7.into()), ("why", "a \"b\"".into()), ("none", "".into())];
        let record = record("taken\nin", &fields);
        let text = r#"[ WARN] gatelet::net: taken\nin userId=ana\nroot n=7 why="a \"b\"" none="""#;
        assert_eq!(TextLog::new(false).line(&record), format!("08:00:00.123 {text}\n"));
        let coloured = text.replace("[ WARN]", "\x1b[33m[ WARN]\x1b[0m");
        assert_eq!(TextLog::new(true).line(&record), format!("08:00:00.123 {coloured}\n"));
    }

    #[test]
    fn whatever_it_holds_it_is_one_bounded_line() {
        let (controls, long) = ("\x1b[2J".repeat(2000), "x".repeat(2048));
        let log = TextLog::new(false);
        for (name, message, fields) in [
            ("controls", controls.as_str(), vec![("\n", Value::from(controls.as_str()))]),
            ("many long fields", long.as_str(), (0..24).map(|_| ("k", Value::from(long.as_str()))).collect()),
        ] {
            let line = log.line(&record(message, &fields));
            assert!(line.len() <= LINE_BYTES_MAX, "{name}: {} bytes", line.len());
            assert!(!line.strip_suffix('\n').unwrap().contains(char::is_control), "{name}");
        }
    }
}
