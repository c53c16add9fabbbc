//! The flood guard: what one place in the code may write to the log in a while.
//!
//! Invariant: at most [`PASS_MAX`] records of one place within a window that opens with its first; what is left out is counted and
//! told in one record. Memory is bounded: places beyond [`SITES_MAX`] share one allowance. Nothing of the caller's is formatted
//! under the lock. It cannot fail.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::Level;
use serde_json::Value;

use crate::telemetry::record::LogRecord;

/// The most records of one place in a window.
pub const PASS_MAX: u32 = 50;
/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The most places told apart.
pub const SITES_MAX: usize = 512;
/// The key of all places beyond that.
const OVERFLOW: u64 = 0;

/// The guard.
#[derive(Debug, Default)]
pub(super) struct FloodGuard {
    sites: Mutex<HashMap<u64, Site>>,
}

#[derive(Debug)]
struct Site {
    ends: Duration,
    passed: u32,
    left_out: u64,
    level: Level,
    target: String,
    place: String,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it.
    Pass,
    /// Leave it out: the first one in its window, or one more.
    LeaveOut {
        /// Whether it is the first: a summary is due at the end of the window.
        first: bool,
    },
}

/// How many records of one place were left out in a window that is over.
#[derive(Debug)]
pub(super) struct Summary {
    left_out: u64,
    level: Level,
    target: String,
    place: String,
}

impl Summary {
    /// It as a record.
    pub(super) fn record(self, time_ms: i64) -> LogRecord {
        let message = format!("{} more like this were left out within {} s", self.left_out, WINDOW.as_secs());
        let mut record = LogRecord::own(time_ms, self.level, &self.target, message);
        record.fields.push(("leftOut".to_string(), Value::from(self.left_out)));
        record.fields.push(("place".to_string(), Value::from(self.place)));
        record
    }
}

impl FloodGuard {
    /// Counts a record at `now` and decides; gives the summary of the place's former window, where one is owed.
    pub(super) fn admit(&self, record: &log::Record<'_>, now: Duration) -> (Verdict, Option<Summary>) {
        let mut hasher = DefaultHasher::new();
        (record.target(), record.file(), record.line()).hash(&mut hasher);
        let mut key = hasher.finish();
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if sites.len() >= SITES_MAX && !sites.contains_key(&key) {
            sites.retain(|_, site| site.ends > now || site.left_out > 0);
            if sites.len() >= SITES_MAX {
                key = OVERFLOW;
            }
        }
        let site = sites.entry(key).or_insert_with(|| Site::new(record, now));
        let mut owed = None;
        if site.ends <= now {
            owed = site.summary();
            (site.ends, site.passed) = (now + WINDOW, 0);
        }
        if site.passed < PASS_MAX {
            site.passed += 1;
            return (Verdict::Pass, owed);
        }
        site.left_out += 1;
        (Verdict::LeaveOut { first: site.left_out == 1 }, owed)
    }

    /// The summaries owed for windows that are over at `now`, and until the next one is; forgets the places that rest.
    pub(super) fn sweep(&self, now: Duration) -> (Vec<Summary>, Option<Duration>) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = sites.values_mut().filter(|site| site.ends <= now).filter_map(Site::summary).collect();
        sites.retain(|_, site| site.ends > now);
        let next = sites.values().filter(|site| site.left_out > 0).map(|site| site.ends - now).min();
        (owed, next)
    }
}

impl Site {
    fn new(record: &log::Record<'_>, now: Duration) -> Self {
        Site {
            ends: now + WINDOW,
            passed: 0,
            left_out: 0,
            level: record.level(),
            target: record.target().to_string(),
            place: format!("{}:{}", record.file().unwrap_or("?"), record.line().unwrap_or(0)),
        }
    }

    fn summary(&mut self) -> Option<Summary> {
        let left_out = std::mem::take(&mut self.left_out);
        let owed = Summary { left_out, level: self.level, target: self.target.clone(), place: self.place.clone() };
        (left_out > 0).then_some(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn admit(guard: &FloodGuard, line: u32, now: Duration) -> (Verdict, Option<Summary>) {
        let record = log::Record::builder().target("gatelet::net").file(Some("net.rs")).line(Some(line)).build();
        guard.admit(&record, now)
    }

    #[test]
    fn a_million_alike_make_fifty_and_one_summary() {
        let guard = FloodGuard::default();
        let passed = (0..1_000_000).filter(|_| admit(&guard, 1, SECOND).0 == Verdict::Pass).count();
        assert_eq!(passed, PASS_MAX as usize);
        assert_eq!(admit(&guard, 2, SECOND).0, Verdict::Pass, "another place is not concerned");
        let (owed, next) = guard.sweep(SECOND * 10);
        assert_eq!((owed.len(), next), (0, Some(SECOND)));
        let (mut owed, next) = guard.sweep(SECOND * 11);
        assert_eq!((owed.len(), next), (1, None));
        let record = owed.remove(0).record(7);
        assert_eq!(record.message, "999950 more like this were left out within 10 s");
        assert_eq!(record.fields[1].1, "net.rs:1");
        assert!(guard.sweep(SECOND * 30).0.is_empty(), "it is told once");
    }

    #[test]
    fn a_new_window_tells_of_the_former_one() {
        let guard = FloodGuard::default();
        let verdicts: Vec<_> = (0..52).map(|_| admit(&guard, 1, SECOND).0).collect();
        assert_eq!(verdicts[49..], [Verdict::Pass, Verdict::LeaveOut { first: true }, Verdict::LeaveOut { first: false }]);
        let (verdict, owed) = admit(&guard, 1, SECOND * 11);
        assert_eq!((verdict, owed.map(|s| s.left_out)), (Verdict::Pass, Some(2)));
        assert!(guard.sweep(SECOND * 60).0.is_empty());
    }

    #[test]
    fn places_are_bounded_and_none_goes_unguarded() {
        let guard = FloodGuard::default();
        let passed = (0..100_000).filter(|line| admit(&guard, *line, SECOND).0 == Verdict::Pass).count();
        assert_eq!(passed, SITES_MAX + PASS_MAX as usize);
        assert_eq!(guard.sites.lock().unwrap().len(), SITES_MAX + 1);
        let told: u64 = guard.sweep(SECOND * 60).0.iter().map(|s| s.left_out).sum();
        assert_eq!(told as usize + passed, 100_000, "nothing is left out in silence");
        assert!(guard.sites.lock().unwrap().is_empty());
    }
}
