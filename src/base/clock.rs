//! The one door to time: a monotonic clock for everything that waits, a wall clock for what people and peers read, and the boot
//! of the machine since which either counts.
//!
//! Invariant: no other file asks the system for the time. Windows, deadlines and backoff use `mono`, so a Pi whose wall
//! clock jumps at boot neither spins nor locks anybody out. It cannot fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A source of both times; cheap to clone. Clones share one manual time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System(Instant),
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    mono_us: AtomicU64,
    unix_ms: AtomicI64,
    boots: AtomicU64,
}

impl Clock {
    /// The machine's own clocks; `mono` counts from this call.
    #[allow(clippy::disallowed_methods)] // this is the one door
    pub fn system() -> Self {
        Clock(Kind::System(Instant::now()))
    }

    /// A clock that stands still at `unix_ms` until [`Clock::advance`] moves it.
    pub fn manual(unix_ms: i64) -> Self {
        Clock(Kind::Manual(Arc::new(Hands {
            mono_us: AtomicU64::new(0),
            unix_ms: AtomicI64::new(unix_ms),
            boots: AtomicU64::new(1),
        })))
    }

    /// Time since this clock was made; never goes back.
    pub fn mono(&self) -> Duration {
        match &self.0 {
            Kind::System(start) => start.elapsed(),
            Kind::Manual(hands) => Duration::from_micros(hands.mono_us.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since 1970 by the wall clock, which may jump.
    #[allow(clippy::disallowed_methods)] // this is the one door
    pub fn unix_ms(&self) -> i64 {
        match &self.0 {
            // A clock before 1970 reads as 0: a Pi without a clock battery boots there.
            Kind::System(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
            Kind::Manual(hands) => hands.unix_ms.load(Ordering::SeqCst),
        }
    }

    /// What tells this boot of the machine from all others; empty where the system doesn't say.
    pub fn boot(&self) -> String {
        match &self.0 {
            Kind::System(_) => std::fs::read_to_string(BOOT_ID).map(|id| id.trim().to_string()).unwrap_or_default(),
            Kind::Manual(hands) => hands.boots.load(Ordering::SeqCst).to_string(),
        }
    }

    /// Boots the machine of a manual clock anew. A system clock ignores it.
    pub fn reboot(&self) {
        if let Kind::Manual(hands) = &self.0 {
            hands.boots.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock on, both hands. A system clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(hands) = &self.0 {
            hands.mono_us.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
            hands.unix_ms.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        }
    }

    /// Lets a manual clock's wall hand jump, as at a boot without a network. A system clock ignores it.
    pub fn jump(&self, by_ms: i64) {
        if let Kind::Manual(hands) = &self.0 {
            hands.unix_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}
