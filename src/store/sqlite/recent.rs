//! Which sessions were used last, in memory: the first page of their list reads those alone, and no turn writes an index for it.
//!
//! Invariant: as the last use of a session no reader sees more than what stands here of it, or else than the floor: what is used
//! is noted before its commit. At most [`MOST`] sessions are kept; those that were used longest ago raise the floor. It never
//! touches the disk and cannot fail.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sessions that stay when there are too many.
pub(super) const KEPT: usize = 1_024;
/// Sessions at most.
const MOST: usize = 2 * KEPT;

/// A session's number and when it was used, in ms since 1970.
pub(super) type Use = (i64, i64);

#[derive(Debug)]
struct Inner {
    used: HashMap<i64, i64>,
    /// Of sessions that are not among them, none was used later; before anything was read, nothing is known of them.
    floor: i64,
    /// How often the floor rose.
    rises: u64,
}

/// The sessions used last.
#[derive(Debug)]
pub(super) struct Recent(Mutex<Inner>);

impl Default for Recent {
    fn default() -> Self {
        Recent(Mutex::new(Inner { used: HashMap::new(), floor: i64::MAX, rises: 0 }))
    }
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a transaction used; before its commit.
    pub(super) fn note(&self, uses: &[Use]) {
        self.lock().put(uses);
    }

    /// To be taken before a read begins whose outcome is to be learnt.
    pub(super) fn mark(&self) -> u64 {
        self.lock().rises
    }

    /// Takes in what a read found: the latest uses, the latest first, and whether those are all. Nothing, where the floor rose since.
    pub(super) fn learn(&self, mark: u64, latest: &[Use], are_all: bool) {
        let mut inner = self.lock();
        if inner.rises == mark {
            inner.floor = if are_all { i64::MIN } else { latest.last().map_or(i64::MAX, |(_, at)| *at) };
            inner.put(latest);
        }
    }

    /// The sessions, the latest used first, and the floor. To be asked for within a read that has begun.
    pub(super) fn latest(&self) -> (Vec<Use>, i64) {
        let inner = self.lock();
        let mut uses: Vec<Use> = inner.used.iter().map(|(session, at)| (*session, *at)).collect();
        let floor = inner.floor;
        drop(inner);
        uses.sort_unstable_by_key(|(session, at)| std::cmp::Reverse((*at, *session)));
        (uses, floor)
    }
}

impl Inner {
    fn put(&mut self, uses: &[Use]) {
        for &(session, at) in uses {
            // A clock that went back makes no use unseen.
            self.used.entry(session).and_modify(|known| *known = at.max(*known)).or_insert(at);
        }
        if self.used.len() <= MOST {
            return;
        }
        let mut times: Vec<i64> = self.used.values().copied().collect();
        let (_, &mut edge, _) = times.select_nth_unstable_by(KEPT, |a, b| b.cmp(a));
        self.used.retain(|_, at| *at > edge);
        if self.floor < edge {
            self.floor = edge;
        }
        self.rises += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_was_not_used_after_the_floor() {
        let recent = Recent::default();
        recent.note(&[(1, 10)]);
        assert_eq!(recent.latest(), (vec![(1, 10)], i64::MAX), "nothing is known of others");
        let mark = recent.mark();
        recent.note(&[(2, 30), (1, 5)]);
        recent.learn(mark, &[(2, 20), (3, 15)], false);
        assert_eq!(recent.latest(), (vec![(2, 30), (3, 15), (1, 10)], 15), "the latest use counts");
        recent.learn(mark, &[(2, 20), (3, 15)], true);
        assert_eq!(recent.latest().1, i64::MIN);

        let many: Vec<Use> = (0..MOST as i64).map(|n| (n + 10, n + 100)).collect();
        recent.note(&many);
        let (uses, floor) = recent.latest();
        assert_eq!((uses.len(), floor), (KEPT, uses.last().unwrap().1 - 1), "the latest stay");
        recent.learn(mark, &[(1, 10)], true);
        assert_eq!(recent.latest().1, floor, "what was read is of before");
    }
}
