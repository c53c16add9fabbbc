//! When pending approvals, or pairing codes, expire, in memory.
//!
//! Invariant: an approval's time is over once the wall clock says so, or once it has waited as long as it may by the monotonic
//! clock: a wall clock that jumps back strands none, and one that jumps makes nobody look in vain again and again. An entry
//! whose approval was decided meanwhile is found out when it is due. It cannot fail.

use std::collections::HashMap;
use std::time::Duration;

use crate::base::clock::Clock;

/// Pause after a look that could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// A pending approval: its row, when it was asked and when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The row's number.
    pub(super) n: i64,
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
}

/// All pending approvals.
#[derive(Debug, Default)]
pub(super) struct Dues {
    /// By row: by which wall time, and by which monotonic time at the latest.
    pending: HashMap<i64, (i64, Duration)>,
    paused_until: Duration,
}

impl Dues {
    /// Takes one in; one that is there already keeps its times.
    pub(super) fn put(&mut self, due: Due, clock: &Clock) {
        let life = due.expires_ms.saturating_sub(due.created_ms).max(0);
        let left = due.expires_ms.saturating_sub(clock.unix_ms()).clamp(0, life);
        let latest = clock.mono() + Duration::from_millis(left as u64);
        if self.pending.get(&due.n).is_none_or(|(expires_ms, _)| *expires_ms != due.expires_ms) {
            self.pending.insert(due.n, (due.expires_ms, latest));
        }
    }

    /// Lets one go.
    pub(super) fn remove(&mut self, n: i64) {
        self.pending.remove(&n);
    }

    /// At most `most` whose time is over.
    pub(super) fn over(&self, clock: &Clock, most: usize) -> Vec<i64> {
        let (mono, wall_ms) = (clock.mono(), clock.unix_ms());
        let over = self.pending.iter().filter(|(_, (expires_ms, latest))| *expires_ms <= wall_ms || *latest <= mono);
        over.map(|(n, _)| *n).take(most).collect()
    }

    /// How long until the first one's time is over.
    pub(super) fn due_in(&self, clock: &Clock) -> Option<Duration> {
        let (mono, wall_ms) = (clock.mono(), clock.unix_ms());
        let left = |(expires_ms, latest): &(i64, Duration)| {
            let by_wall = Duration::from_millis(expires_ms.saturating_sub(wall_ms).max(0) as u64);
            latest.saturating_sub(mono).min(by_wall)
        };
        Some(self.pending.values().map(left).min()?.max(self.paused_until.saturating_sub(mono)))
    }

    /// Nothing is due for a moment.
    pub(super) fn pause(&mut self, clock: &Clock) {
        self.paused_until = clock.mono() + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_neither_strands_nor_hastens_in_vain() {
        const LIFE: i64 = 600_000;
        const MIN: Duration = Duration::from_secs(60);
        // (the wall clock's error when it is taken in, its jump afterwards, when it is over)
        for (error, jump, expected) in [
            (0, 0, MIN * 10),
            (0, -i64::from(i32::MAX), MIN * 10),
            (0, 300_000, MIN * 5),
            (0, i64::from(i32::MAX), Duration::ZERO),
            (-i64::from(i32::MAX), 0, MIN * 10),
            (i64::from(i32::MAX), 0, Duration::ZERO),
            (300_000, -300_000, MIN * 5),
        ] {
            let clock = Clock::manual(1_800_000_000_000 + error);
            let mut dues = Dues::default();
            let due = Due { n: 1, created_ms: 1_800_000_000_000, expires_ms: 1_800_000_000_000 + LIFE };
            dues.put(due, &clock);
            clock.jump(jump);
            dues.put(due, &clock);
            let case = format!("error {error}, jump {jump}");
            assert_eq!(dues.due_in(&clock), Some(expected), "{case}");
            assert_eq!(dues.over(&clock, 9).is_empty(), !expected.is_zero(), "{case}");
            clock.advance(expected);
            assert_eq!((dues.over(&clock, 9), dues.due_in(&clock)), (vec![1], Some(Duration::ZERO)), "{case}");
            dues.pause(&clock);
            assert_eq!(dues.due_in(&clock), Some(PAUSE), "{case}");
            dues.remove(1);
            assert_eq!(dues.due_in(&clock), None);
        }
    }
}
