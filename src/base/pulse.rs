//! Whether threads make progress: each vital one says when it takes something up and when it rests.
//!
//! Invariant: a thread that waits for work is never overdue; one that works is, once it took longer than it said it might. A pulse that
//! is dropped is forgotten. Costs two stores to memory a piece of work. Cannot fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// All pulses of a process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pulses(Arc<Mutex<Vec<Weak<Beat>>>>);

/// One thread's own.
#[derive(Debug)]
pub struct Pulse(Arc<Beat>);

#[derive(Debug)]
struct Beat {
    name: String,
    /// When it is to rest again, in ms of `Clock::mono`; 0 while it rests.
    until_ms: AtomicU64,
}

/// A thread that took longer than it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The thread.
    pub name: String,
    /// How long it is overdue.
    pub by: Duration,
}

impl Pulses {
    /// A pulse that rests.
    pub fn add(&self, name: &str) -> Pulse {
        let beat = Arc::new(Beat { name: name.to_string(), until_ms: AtomicU64::new(0) });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|beat| beat.strong_count() > 0);
        all.push(Arc::downgrade(&beat));
        Pulse(beat)
    }

    /// Who should have been through by `now` (`Clock::mono`).
    pub fn overdue(&self, now: Duration) -> Vec<Overdue> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |beat: Arc<Beat>| {
            let until = Duration::from_millis(beat.until_ms.load(Ordering::Relaxed));
            (!until.is_zero() && until < now).then(|| Overdue { name: beat.name.clone(), by: now - until })
        };
        all.iter().filter_map(Weak::upgrade).filter_map(late).collect()
    }
}

impl Pulse {
    /// It takes something up at `now`, which takes `at_most`.
    pub fn works(&self, now: Duration, at_most: Duration) {
        let until = now.saturating_add(at_most).as_millis();
        self.0.until_ms.store(u64::try_from(until).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// It waits for work.
    pub fn rests(&self) {
        self.0.until_ms.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_works_too_long_is_told_and_who_rests_or_is_gone_is_not() {
        let pulses = Pulses::default();
        let (a, b, c) = (pulses.add("a"), pulses.add("b"), pulses.add("c"));
        a.works(SECOND, SECOND);
        b.works(SECOND, 100 * SECOND);
        c.works(Duration::ZERO, Duration::ZERO);
        c.rests();
        assert_eq!(pulses.overdue(2 * SECOND), [], "in time");
        assert_eq!(pulses.overdue(5 * SECOND), [Overdue { name: "a".into(), by: 3 * SECOND }]);
        a.works(5 * SECOND, SECOND);
        assert_eq!(pulses.overdue(5 * SECOND), [], "it went on");
        drop(a);
        b.works(Duration::MAX, Duration::MAX);
        assert_eq!(pulses.overdue(500 * SECOND), []);
        let _ = pulses.add("d");
        assert!(pulses.0.lock().unwrap().len() <= 3, "those that are gone are forgotten");
    }
}
