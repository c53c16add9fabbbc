//! When a job runs: a time, a pause or a cron line, understood.
//!
//! Invariant: of all that is due at once there is one run, however long nobody looked. Pure but for the zone, which the system's
//! database has. Fails with the key that is wrong and a sentence.

use crate::base::calendar::{Cron, NoZone, Zone, parse_time};
use crate::domain::When;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// `at`, `every`, `cron` or `timezone`.
    pub key: &'static str,
    /// Why, without a final stop.
    pub why: String,
    /// Whether it is the system that lacks something, not the schedule.
    pub is_systems: bool,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once, in ms since 1970.
    At(i64),
    /// With this pause in ms, at least 1.
    Every(i64),
    /// By a cron line.
    Cron(Box<Cron>, Zone),
}

impl Schedule {
    /// Understands it.
    ///
    /// # Errors
    /// Where it can't.
    pub fn of(when: &When, timezone: Option<&str>) -> Result<Self, Unfit> {
        let unfit = |key, why: String| Unfit { key, why, is_systems: false };
        if timezone.is_some() && !matches!(when, When::Cron(_)) {
            return Err(unfit("timezone", "belongs to a cron line, which this is not; leave it out".into()));
        }
        match when {
            When::At(text) => parse_time(text).map(Schedule::At).map_err(|e| unfit("at", e.into())),
            When::Every(0) => Err(unfit("every", "must be more than 0".into())),
            When::Every(pause) => Ok(Schedule::Every(i64::try_from(*pause).unwrap_or(i64::MAX))),
            When::Cron(line) => {
                let cron = Cron::parse(line).map_err(|e| unfit("cron", e))?;
                let zone = timezone.map_or(Ok(Zone::utc()), Zone::named).map_err(|e| Unfit {
                    key: "timezone",
                    why: e.to_string(),
                    is_systems: e == NoZone::NoDatabase,
                })?;
                Ok(Schedule::Cron(Box::new(cron), zone))
            }
        }
    }

    /// The first run of a schedule that is made now.
    pub fn first(&self, now_ms: i64) -> Option<i64> {
        match self {
            Schedule::At(at) => Some(*at).filter(|at| *at > now_ms),
            Schedule::Every(pause) => now_ms.checked_add(*pause),
            Schedule::Cron(cron, zone) => cron.next(now_ms, zone),
        }
    }

    /// The run after the one that was due at `due_ms`: later than now, and with a pause in its rhythm.
    pub fn following(&self, due_ms: i64, now_ms: i64) -> Option<i64> {
        match self {
            Schedule::At(_) => None,
            // By another clock than now's, or by the monotonic one: its rhythm means nothing any more.
            Schedule::Every(pause) if due_ms > now_ms => now_ms.checked_add(*pause).map(|next| next + i64::from(next == due_ms)),
            Schedule::Every(pause) => Some(now_ms + pause - (now_ms - due_ms) % pause),
            Schedule::Cron(cron, zone) => cron.next(now_ms, zone),
        }
    }

    /// The run that should be next, where `next_ms` lies so far ahead that it must come from a clock that has been put back since.
    pub fn overdue(&self, next_ms: i64, now_ms: i64) -> Option<i64> {
        match self {
            Schedule::At(_) => None,
            Schedule::Every(pause) => now_ms.checked_add(*pause).filter(|latest| next_ms > *latest),
            // Put back by less than a round, the run that was is not made again.
            Schedule::Cron(cron, zone) => {
                let first = cron.next(now_ms, zone)?;
                (next_ms > cron.next(first, zone)?).then_some(first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn what_follows() {
        let every = Schedule::of(&When::Every(1000), None).unwrap();
        let daily = Schedule::of(&When::Cron("0 8 * * *".into()), None).unwrap();
        let at = Schedule::of(&When::At("1970-01-01T00:00:05Z".into()), None).unwrap();
        for (schedule, due, now, first, following, overdue) in [
            (&every, 5000, 5000, Some(6000), Some(6000), None),
            (&every, 5000, 5020, Some(6020), Some(6000), None),
            (&every, 5000, 999_001_234, Some(999_002_234), Some(999_002_000), None),
            (&every, 5000, 3000, Some(4000), Some(4000), Some(4000)),
            (&every, 5000, 4000, Some(5000), Some(5001), None),
            (&daily, 8 * HOUR, 8 * HOUR, Some(32 * HOUR), Some(32 * HOUR), None),
            (&daily, 8 * HOUR, 100 * HOUR, Some(104 * HOUR), Some(104 * HOUR), None),
            // Back by an hour: the run of that day was. Back by days: the next one is that of the new day.
            (&daily, 32 * HOUR, 7 * HOUR, Some(8 * HOUR), Some(8 * HOUR), None),
            (&daily, 56 * HOUR, 7 * HOUR, Some(8 * HOUR), Some(8 * HOUR), Some(8 * HOUR)),
            (&at, 5000, 4999, Some(5000), None, None),
            (&at, 5000, 5000, None, None, None),
        ] {
            let found = (schedule.first(now), schedule.following(due, now), schedule.overdue(due, now));
            assert_eq!(found, (first, following, overdue), "{schedule:?} due {due} now {now}");
        }
    }

    #[test]
    fn what_is_none() {
        for (when, zone, key) in [
            (When::At("tomorrow".into()), None, "at"),
            (When::At("2027-01-01T00:00:00Z".into()), Some("UTC"), "timezone"),
            (When::Every(0), None, "every"),
            (When::Every(1000), Some("UTC"), "timezone"),
            (When::Cron("0 0 31 2 *".into()), None, "cron"),
            (When::Cron("0 0 * * *".into()), Some("Mars/Olympus"), "timezone"),
        ] {
            assert_eq!(Schedule::of(&when, zone).unwrap_err().key, key, "{when:?} {zone:?}");
        }
        let berlin = Schedule::of(&When::Cron("30 2 * * *".into()), Some("Europe/Berlin")).unwrap();
        assert_eq!(berlin.first(parse_time("2026-03-28T12:00:00Z").unwrap()), parse_time("2026-03-29T03:00:00+02:00").ok());
    }
}
