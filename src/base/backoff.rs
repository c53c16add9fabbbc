//! How long to wait before the next try.
//!
//! Invariant: the pause grows by doubling, never beyond its cap, and never undercuts what a peer asked for. Pure.

use std::time::Duration;

use crate::base::ids::jitter;

/// The longest pause between two tries, whatever the configuration multiplies to.
pub const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// `pause` and up to a quarter more, so that many who wait don't come back at once.
pub fn jittered(pause: Duration) -> Duration {
    pause + Duration::from_millis(jitter(pause.as_millis() as u64 / 4 + 1))
}

/// A policy of retries: `gateway.retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first one; 0 means one try alone.
    pub max_retries: u32,
    /// The pause before the first retry; doubled for each further one.
    pub delay: Duration,
}

impl Retry {
    /// The pause after `failures` failed tries (1 or more), or `None` where no try is left. `asked` is the peer's own wish
    /// (`Retry-After`), obeyed as a lower bound. Jitter adds up to a quarter.
    pub fn pause(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures > self.max_retries {
            return None;
        }
        Some(self.growing(failures).max(asked.unwrap_or_default().min(PAUSE_MAX * 4)))
    }

    /// The pause after `failures` failures for what is retried without end (a reconnect, say).
    pub fn growing(&self, failures: u32) -> Duration {
        let doubled = self.delay.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX).max(1));
        jittered(doubled.min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let retry = Retry { max_retries: 3, delay: Duration::from_secs(1) };
        for (failures, asked_s, low_ms, high_ms) in
            [(1, 0, 1000, 1250), (2, 0, 2000, 2500), (3, 0, 4000, 5000), (1, 30, 30_000, 30_000)]
        {
            let pause = retry.pause(failures, Some(Duration::from_secs(asked_s))).unwrap().as_millis();
            assert!((low_ms..=high_ms + 1).contains(&pause), "after {failures}: {pause} ms");
        }
        assert_eq!(retry.pause(4, None), None);
        assert_eq!(Retry { max_retries: 0, ..retry }.pause(1, None), None, "0 means none, not the default");
        assert!(
            Retry { max_retries: 99, ..retry }.pause(99, None).unwrap() <= PAUSE_MAX + PAUSE_MAX / 4 + Duration::from_millis(1)
        );
    }
}
