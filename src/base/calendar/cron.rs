//! Cron lines: minute, hour, day of month, month, day of week.
//!
//! Lists, ranges, steps, names of months and days (`jan`, `mon`; 0 and 7 are Sunday), and `@hourly` to `@yearly`. Where both days
//! are restricted, either is enough; a field that begins with `*` restricts nothing here. What falls into the hour that a zone's
//! clocks leave out runs at the end of that gap; what falls into the hour that comes twice runs the first time. Lines for every
//! hour (`*` there) go by time that passes instead: nothing is made up for, and they run in both.
//!
//! Invariant: a line that never comes is refused at once. The search is bounded. Pure.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::Zone;

/// The widest gap is 40 years (29 February on one weekday, over 2100): so many months and days that are passed over.
const STEPS_MAX: usize = 20_000;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A cron line. Each field is a set of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one of both days is enough.
    either_day: bool,
    /// Whether it goes by time that passes.
    every_hour: bool,
}

impl Cron {
    /// Reads a line of five fields.
    ///
    /// # Errors
    /// With a sentence.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = match line.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            line => line,
        };
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("has {} fields, a cron line has five: minute, hour, day, month, day of week", fields.len()));
        };
        let weekdays = set(weekday, "the day of week", 0, 7, &DAYS, 0)?;
        let cron = Cron {
            minutes: set(minute, "the minute", 0, 59, &[], 0)?,
            hours: set(hour, "the hour", 0, 23, &[], 0)?,
            days: set(day, "the day", 1, 31, &[], 0)?,
            months: set(month, "the month", 1, 12, &MONTHS, 1)?,
            weekdays: weekdays | weekdays >> 7 & 1,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            every_hour: hour.starts_with('*'),
        };
        let longest = |month: u32| [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
        let comes = (1..=12).any(|m| cron.months >> m & 1 == 1 && (1..=longest(m)).any(|d| cron.days >> d & 1 == 1));
        if comes || cron.either_day { Ok(cron) } else { Err("never comes: none of these months has that day".into()) }
    }

    /// The first time after `after_ms` (ms since 1970), in a zone.
    pub fn next(&self, after_ms: i64, zone: &Zone) -> Option<i64> {
        let minute = SignedDuration::from_mins(1);
        let mut at = Timestamp::from_second((after_ms.div_euclid(60_000) + 1) * 60).ok()?;
        let mut wanted = zone.0.to_datetime(at.checked_sub(minute).ok()?).checked_add(minute).ok()?;
        for _ in 0..STEPS_MAX {
            let civil = zone.0.to_datetime(at);
            if civil > wanted && !self.every_hour && self.between(wanted, civil) {
                return Some(at.as_millisecond()); // the end of a gap
            }
            let midnight = civil.date().at(0, 0, 0, 0);
            let (step, next) = if self.months >> civil.month() & 1 == 0 {
                (false, midnight.first_of_month().checked_add(1.month()).ok()?)
            } else if !self.day(civil) {
                (false, midnight.checked_add(1.day()).ok()?)
            } else if self.hours >> civil.hour() & 1 == 0 {
                (false, civil.date().at(civil.hour(), 0, 0, 0).checked_add(1.hour()).ok()?)
            } else if self.minutes >> civil.minute() & 1 == 1 && (self.every_hour || self.is_first(civil, at, zone)) {
                return Some(at.as_millisecond());
            } else {
                (true, civil.checked_add(minute).ok()?)
            };
            wanted = next;
            let later = at.checked_add(minute).ok()?;
            let jump = zone.0.to_ambiguous_timestamp(next).compatible().ok()?;
            at = if step { later } else { later.max(jump) };
        }
        None
    }

    fn day(&self, civil: DateTime) -> bool {
        let day = self.days >> civil.day() & 1 == 1;
        let weekday = self.weekdays >> civil.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// Whether it would have come in a gap.
    fn between(&self, mut from: DateTime, to: DateTime) -> bool {
        // The longest one was a whole day, where a place crossed the date line.
        for _ in 0..2 * 24 * 60 {
            let fits = self.months >> from.month() & 1 == 1 && self.hours >> from.hour() & 1 == 1;
            if fits && self.minutes >> from.minute() & 1 == 1 && self.day(from) {
                return true;
            }
            match from.checked_add(SignedDuration::from_mins(1)) {
                Ok(next) if next < to => from = next,
                _ => return false,
            }
        }
        false
    }

    /// Whether the zone's clocks show `civil` for the first time.
    fn is_first(&self, civil: DateTime, at: Timestamp, zone: &Zone) -> bool {
        zone.0.to_ambiguous_timestamp(civil).earlier().is_ok_and(|first| first >= at)
    }
}

/// The bits of a field.
fn set(field: &str, what: &str, least: u32, most: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{what} is {:?}; expected numbers from {least} to {most}, as 1, 1-5, */2 or 1,3",
            crate::base::error::shorten(field, 40)
        )
    };
    let number = |text: &str| {
        let named = names.iter().position(|n| n.eq_ignore_ascii_case(text)).map(|i| i as u32 + first);
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        let plain = || if digits { text.parse().ok() } else { None };
        named.or_else(plain).filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u8>().ok().filter(|s| *s > 0).ok_or_else(wrong)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, if names == DAYS { 6 } else { most }),
            Some((from, to)) => (number(from)?, if names == DAYS && to.eq_ignore_ascii_case("sun") { 7 } else { number(to)? }),
            None => (number(range)?, if step.is_some() { most } else { number(range)? }),
        };
        if from > to {
            return Err(wrong());
        }
        (from..=to).step_by(usize::from(step.unwrap_or(1))).for_each(|n| bits |= 1 << n);
    }
    Ok(bits)
}
