//! Named crash points: where a test wants the process to die, as a power cut would have it.
//!
//! Invariant: nothing of it is in a release build. `GATELET_CRASH_AT=NAME:N` ends the process at the N-th passing of that point
//! (without N: the first), without cleaning up; `panic:NAME:N` panics there instead. It cannot fail otherwise.

/// The place where the process may be told to die.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64, bool)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("GATELET_CRASH_AT").ok()?;
        let (panics, place) = text.strip_prefix("panic:").map_or((false, text.as_str()), |place| (true, place));
        let (name, count) = place.split_once(':').unwrap_or((place, "1"));
        Some((name.to_string(), count.parse().unwrap_or(1), panics))
    });
    if let Some((at, count, panics)) = wanted
        && at == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // A panic only where a test asked for it: what it leaves behind is what is tested.
        assert!(!panics, "a fault that a test wants at {name}");
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) {}
