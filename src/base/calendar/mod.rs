//! Civil time: zones from the system's database, times as people write them, cron lines.
//!
//! Invariant: what a zone's clocks do is read from the system's `/usr/share/zoneinfo` and nowhere else (nothing is compiled in, so
//! that an update of the system is enough); UTC needs no file. Fails with a sentence.

mod cron;
#[cfg(test)]
mod tests;

pub use cron::Cron;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Why there is no such zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoZone {
    /// The system has no database of zones at all.
    NoDatabase,
    /// It has one, and this name is not in it.
    Unknown,
}

impl fmt::Display for NoZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoZone::NoDatabase => "this system has no time zones: /usr/share/zoneinfo is missing; install tzdata, or use UTC",
            NoZone::Unknown => "there is no such time zone on this system; expected a name as Europe/Berlin",
        })
    }
}

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Universal time.
    pub fn utc() -> Self {
        Zone(TimeZone::UTC)
    }

    /// The zone of that name (`Europe/Berlin`).
    ///
    /// # Errors
    /// Where the system doesn't have it.
    pub fn named(name: &str) -> Result<Self, NoZone> {
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Self::utc());
        }
        let database = jiff::tz::db();
        match database.get(name) {
            Ok(zone) => Ok(Zone(zone)),
            Err(_) if database.is_definitively_empty() => Err(NoZone::NoDatabase),
            Err(_) => Err(NoZone::Unknown),
        }
    }
}

/// The ms since 1970 of a time in RFC 3339 (`2027-01-31T08:00:00+01:00`).
///
/// # Errors
/// With a sentence.
pub fn parse_time(text: &str) -> Result<i64, &'static str> {
    // A zone in brackets is more than RFC 3339 has, and says another time once that zone's rules change.
    let time = Some(text).filter(|t| !t.contains('[')).and_then(|t| t.parse::<Timestamp>().ok());
    time.map(Timestamp::as_millisecond).ok_or("not a time; expected RFC 3339, as 2027-01-31T08:00:00+01:00")
}
