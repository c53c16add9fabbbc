//! Bytes that the process had written to disk in the last 24 hours, by the kernel's own count.
//!
//! Invariant: kept by hours, in memory alone: a restart begins anew, and nothing is written to know what was written. The hour that is running
//! stands beside 23 whole ones and the one that it takes the place of, so that the sum is never less than what 24 hours saw. It cannot fail.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
/// Hours kept beside the one that runs.
const HOURS: u64 = 24;

/// The account.
#[derive(Debug, Default)]
pub struct Written(Mutex<Hours>);

#[derive(Debug, Default)]
struct Hours {
    /// What the count was when it was last taken.
    total: u64,
    /// Hours in which something was written, by their number, the latest last.
    hours: VecDeque<(u64, u64)>,
}

impl Written {
    /// Notes that the process has written `total` bytes in all. Gives those of the last 24 hours.
    pub fn note(&self, total: u64, now: Duration) -> u64 {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = now.as_secs() / HOUR.as_secs();
        let more = total.saturating_sub(account.total);
        account.total = total.max(account.total);
        match account.hours.back_mut() {
            _ if more == 0 => {}
            Some((latest, bytes)) if *latest == hour => *bytes += more,
            _ => account.hours.push_back((hour, more)),
        }
        while account.hours.front().is_some_and(|(oldest, _)| oldest + HOURS < hour) {
            account.hours.pop_front();
        }
        account.hours.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_remembered_and_what_is_older_is_not() {
        let written = Written::default();
        let at = |hours: u64, total: u64| written.note(total, HOUR * hours as u32);
        assert_eq!(at(0, 100), 100, "what was written before the first look counts");
        assert_eq!(at(0, 100), 100);
        assert_eq!(at(1, 150), 150);
        assert_eq!(at(1, 140), 150, "a count does not go back");
        assert_eq!(at(24, 151), 151);
        assert_eq!(at(25, 151), 51, "the first hour is over");
        assert_eq!(at(26, 160), 10);
        assert_eq!(at(500, 160), 0);
        for hour in 0..10_000 {
            at(500 + hour, 160 + hour);
        }
        assert!(written.0.lock().unwrap().hours.len() <= 25);
    }
}
