//! The rate limiter: at most `max` in a window that opens with the key's first request.
//!
//! Invariant: bounded memory (`KEYS_MAX` keys; when full, the key whose window ends first makes room), monotonic time, and a
//! decision is one step under one lock, so that parallel tries cannot all pass before one is counted. It cannot fail.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most keys that one limiter remembers.
pub const KEYS_MAX: usize = 10_000;

/// What the limiter decided, with all that an answer's headers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether this one may pass.
    pub allowed: bool,
    /// How many may pass in a window.
    pub limit: u32,
    /// How many are left in this window.
    pub remaining: u32,
    /// Until the window ends.
    pub reset: Duration,
}

/// A limiter over keys of text.
#[derive(Debug, Default)]
pub struct Limiter {
    windows: Mutex<HashMap<String, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Duration,
    count: u32,
}

impl Limiter {
    /// An empty limiter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request of `key` at `now` and decides.
    pub fn take(&self, key: &str, max: u32, window: Duration, now: Duration) -> Verdict {
        self.decide(key, max, window, now, true)
    }

    /// Decides without counting.
    pub fn peek(&self, key: &str, max: u32, window: Duration, now: Duration) -> Verdict {
        self.decide(key, max, window, now, false)
    }

    fn decide(&self, key: &str, max: u32, window: Duration, now: Duration, count: bool) -> Verdict {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Window { ends: now + window, count: 0 };
        let mut entry = windows.get(key).copied().filter(|w| w.ends > now).unwrap_or(fresh);
        // A reload may have shortened the window: it never ends later than a new one would.
        entry.ends = entry.ends.min(now + window);
        let allowed = entry.count < max;
        if count {
            if allowed {
                entry.count += 1;
            }
            if windows.len() >= KEYS_MAX && !windows.contains_key(key) {
                make_room(&mut windows, now);
            }
            match windows.get_mut(key) {
                Some(slot) => *slot = entry,
                None => drop(windows.insert(key.to_string(), entry)),
            }
        }
        Verdict { allowed, limit: max, remaining: max.saturating_sub(entry.count), reset: entry.ends - now }
    }

    /// Forgets the windows that are over.
    pub fn sweep(&self, now: Duration) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|_, w| w.ends > now);
        if windows.is_empty() {
            windows.shrink_to(64);
        }
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Drops what is over, or else the sixteenth of the keys whose windows end first, so that a flood of new keys pays for the
/// search once in many.
fn make_room(windows: &mut HashMap<String, Window>, now: Duration) {
    windows.retain(|_, w| w.ends > now);
    if windows.len() < KEYS_MAX {
        return;
    }
    let mut ends: Vec<_> = windows.values().map(|w| w.ends).collect();
    let (_, &mut bound, _) = ends.select_nth_unstable(KEYS_MAX / 16);
    let mut left = KEYS_MAX / 16;
    windows.retain(|_, w| {
        let goes = left > 0 && w.ends <= bound;
        left -= usize::from(goes);
        !goes
    });
}

/// The key of an address: an IPv4 in IPv6 clothes is the same one, and IPv6 counts by /64.
pub fn address_key(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => format!("ip:{v4}"),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            format!("ip:{:x}:{:x}:{:x}:{:x}::/64", s[0], s[1], s[2], s[3])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_opens_with_the_first_request_and_ends() {
        let limiter = Limiter::new();
        let at = |ms| limiter.take("k", 3, SECOND, Duration::from_millis(ms));
        for (ms, allowed, remaining) in
            [(100, true, 2), (200, true, 1), (300, true, 0), (400, false, 0), (1099, false, 0), (1100, true, 2)]
        {
            let verdict = at(ms);
            assert_eq!((verdict.allowed, verdict.remaining), (allowed, remaining), "at {ms}");
        }
        assert_eq!(at(1200).reset, Duration::from_millis(900));
    }

    #[test]
    fn a_million_keys_stay_within_the_bound() {
        let limiter = Limiter::new();
        for i in 0..1_000_000u64 {
            limiter.take(&i.to_string(), 1, SECOND * 3600, Duration::from_micros(i));
        }
        assert!(limiter.len() <= KEYS_MAX, "{}", limiter.len());
        limiter.sweep(SECOND * 8000);
        assert!(limiter.is_empty());
    }

    #[test]
    fn addresses_have_one_key() {
        for (a, b, same) in [
            ("1.2.3.4", "::ffff:1.2.3.4", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("1.2.3.4", "1.2.3.5", false),
        ] {
            assert_eq!(address_key(a.parse().unwrap()) == address_key(b.parse().unwrap()), same, "{a} {b}");
        }
    }
}
