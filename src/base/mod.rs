//! What everything else stands on: time, secrets, errors, ids, limits, threads, stopping.
//!
//! Invariant: nothing here knows the domain, and nothing here does I/O of its own but the clock, the system's
//! randomness and its time zones. It fails only by returning a value.

pub mod backoff;
pub mod cache;
pub mod calendar;
pub mod cancel;
pub mod clock;
pub mod crash;
pub mod error;
pub mod handover;
pub mod ids;
pub mod limit;
pub mod live;
pub mod pulse;
pub mod remains;
pub mod secret;
pub mod stop;
pub mod threads;
