//! `time.now`: what time it is.
//!
//! Invariant: reads the clock, and nothing else. There is no time zone database here: another zone is given as its offset. Fails
//! with `Invalid` for an offset that is none.

use serde_json::{Map, Value, json};

use super::{About, Context, Tool, object};
use crate::base::error::{Error, ErrorKind, Result};
use crate::telemetry::rfc3339;

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// `time.now`.
pub struct Now(About);

impl Default for Now {
    fn default() -> Self {
        let offset = json!({"type": "string", "description": "from UTC, as +08:00"});
        let schema = object(json!({"offset": offset}), &[]);
        Now(About { idempotent: true, safe: true, ..About::new("time.now", "Current date and time.", schema) })
    }
}

impl Tool for Now {
    fn about(&self) -> &About {
        &self.0
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let now = context.clock.unix_ms();
        let mut told = json!({"utc": rfc3339(now), "weekday": weekday(now), "unixMs": now});
        if let Some(offset) = arguments.get("offset").and_then(Value::as_str) {
            let minutes = minutes(offset).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "offset is none").hint("write hours and minutes from UTC, as +08:00 or -03:30")
            })?;
            let local = now.saturating_add(minutes * 60_000);
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            told["local"] = format!("{}{sign}{hours:02}:{rest:02}", rfc3339(local).trim_end_matches('Z')).into();
            told["localWeekday"] = weekday(local).into();
        }
        Ok(told.to_string())
    }
}

fn weekday(unix_ms: i64) -> &'static str {
    DAYS[unix_ms.div_euclid(86_400_000).rem_euclid(7) as usize]
}

/// `+08:00`, `-0330`, `+8` or `Z` in minutes.
fn minutes(offset: &str) -> Option<i64> {
    let offset = offset.trim().trim_start_matches("UTC");
    if offset.is_empty() || offset == "Z" {
        return Some(0);
    }
    let (sign, digits) = match offset.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, offset.strip_prefix('+')?),
    };
    let (hours, rest) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() <= 2 => (digits, "0"),
        None => digits.split_at_checked(digits.len() - 2)?,
    };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let (hours, rest) = (number(hours)?, number(rest)?);
    (hours <= 14 && rest < 60).then(|| sign * (hours * 60 + rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        for (text, expected) in [
            ("+08:00", Some(480)),
            ("-03:30", Some(-210)),
            ("+0545", Some(345)),
            ("-8", Some(-480)),
            ("UTC+1", Some(60)),
            ("Z", Some(0)),
            ("UTC", Some(0)),
            ("", Some(0)),
            ("08:00", None),
            ("+15:00", None),
            ("+01:60", None),
            ("+", None),
            ("++1", None),
            ("+1é", None),
            ("+é00", None),
            ("+-1:00", None),
            ("Europe/Berlin", None),
            ("+99999999999999999999", None),
        ] {
            assert_eq!(minutes(text), expected, "{text}");
        }
    }

    #[test]
    fn weekdays() {
        for (unix_ms, day) in [(0, "Thursday"), (-1, "Wednesday"), (1_790_000_000_000, "Monday"), (951_782_400_000, "Tuesday")] {
            assert_eq!(weekday(unix_ms), day);
        }
    }
}
