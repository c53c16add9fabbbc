//! Whether the process holds more memory than it may.
//!
//! Invariant: it is looked at under load and at the heartbeat, at most every `PAUSE`: at rest it costs nothing. What counts is memory of the
//! process's own: mapped files, the program among them, the kernel takes back by itself. Once over, it is over until an eighth is free, so that it
//! does not flap. A figure that can't be read is no reason to refuse anybody.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::process::status_value;

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The state, as it was last seen.
#[derive(Debug, Default)]
pub struct MemoryGuard {
    is_over: AtomicBool,
    /// When the next look is due, in ms of the monotonic clock.
    due_ms: AtomicU64,
}

/// A change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it is over now.
    pub is_over: bool,
    /// Bytes of its own that the process holds.
    pub bytes: u64,
}

impl MemoryGuard {
    /// Whether it was over when it was last looked at.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Looks, where the last look is some time ago. Gives what changed.
    pub fn look(&self, now: Duration, max: u64) -> Option<Change> {
        let (now_ms, due_ms) = (now.as_millis() as u64, self.due_ms.load(Ordering::Relaxed));
        if now_ms < due_ms {
            return None;
        }
        let next = now_ms + PAUSE.as_millis() as u64;
        // One of those who come at the same time looks.
        self.due_ms.compare_exchange(due_ms, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        self.judge(own_bytes()?, max)
    }

    fn judge(&self, bytes: u64, max: u64) -> Option<Change> {
        let was_over = self.is_over();
        let is_over = bytes > if was_over { max - max / 8 } else { max };
        self.is_over.store(is_over, Ordering::Relaxed);
        (is_over != was_over).then_some(Change { is_over, bytes })
    }
}

/// Bytes that no file stands behind; all that are resident, where the kernel does not tell them apart.
fn own_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status_value(&status, "RssAnon:").or_else(|| status_value(&status, "VmRSS:")).map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_above_the_bound_and_until_an_eighth_is_free() {
        let guard = MemoryGuard::default();
        for (bytes, changed, over) in
            [(80, false, false), (81, true, true), (80, false, true), (71, false, true), (70, true, false), (80, false, false)]
        {
            assert_eq!(guard.judge(bytes, 80).map(|c| (c.is_over, c.bytes)), changed.then_some((over, bytes)), "{bytes}");
            assert_eq!(guard.is_over(), over, "{bytes}");
        }
    }

    #[test]
    fn it_looks_now_and_then() {
        let (guard, ms) = (MemoryGuard::default(), Duration::from_millis);
        assert!(own_bytes().is_some_and(|b| b > 50_000));
        assert_eq!(guard.look(ms(0), 1).map(|c| c.is_over), Some(true));
        assert_eq!(guard.look(ms(249), u64::MAX), None, "not yet");
        assert!(guard.is_over());
        assert_eq!(guard.look(ms(250), u64::MAX).map(|c| c.is_over), Some(false));
        assert!(!guard.is_over());
    }
}
