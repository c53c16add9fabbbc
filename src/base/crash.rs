//! Named crash points: where a test wants the process to die, as a power cut would have it.
//!
//! Invariant: nothing of it is in a release build. `GATELET_CRASH_AT=NAME:N` ends the process at the N-th passing of that point
//! (without N: the first), without cleaning up. It cannot fail otherwise.

/// The place where the process may be told to die.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("GATELET_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_string(), count.parse().unwrap_or(1)))
    });
    if let Some((at, count)) = wanted
        && at == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) {}
