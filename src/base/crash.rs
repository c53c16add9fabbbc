//! Named crash points: where a test wants the process to die, as a power cut would have it, or a thread to panic.
//!
//! Invariant: nothing of it is in a release build. `GATELET_CRASH_AT=NAME:N` ends the process at the N-th passing of that point
//! (without N: the first), without cleaning up; `GATELET_PANIC_AT=NAME:N` panics there. It cannot fail otherwise.

/// The place where the process may be told to die.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Wanted {
        at: String,
        count: u64,
        passed: AtomicU64,
    }

    fn wanted(variable: &str) -> Option<Wanted> {
        let text = std::env::var(variable).ok()?;
        let (at, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Wanted { at: at.to_string(), count: count.parse().unwrap_or(1), passed: AtomicU64::new(0) })
    }

    static DEATH: OnceLock<Option<Wanted>> = OnceLock::new();
    static PANIC: OnceLock<Option<Wanted>> = OnceLock::new();
    let is_here = |wanted: &Option<Wanted>| {
        let here = wanted.as_ref().filter(|w| w.at == name);
        here.is_some_and(|w| w.passed.fetch_add(1, Ordering::SeqCst) + 1 == w.count)
    };
    if is_here(DEATH.get_or_init(|| wanted("GATELET_CRASH_AT"))) {
        std::process::abort();
    }
    if is_here(PANIC.get_or_init(|| wanted("GATELET_PANIC_AT"))) {
        panic!("a test wants a panic at {name}"); // that is what it is for; threads catch it
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) {}
