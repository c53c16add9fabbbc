//! The latest log records in memory, for `GET /api/logs`.
//!
//! Invariant: at most [`RECORDS_MAX`] records and [`BYTES_MAX`] bytes (as estimated); the lock is held to move pointers, never to
//! copy or format a record. It cannot fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use log::LevelFilter;

use crate::telemetry::record::LogRecord;

/// The most records kept.
pub const RECORDS_MAX: usize = 500;
/// The most bytes kept.
pub const BYTES_MAX: usize = 256 * 1024;

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Arc<LogRecord>>,
    bytes: usize,
}

impl Ring {
    /// Adds a record; the oldest make room.
    pub(super) fn push(&self, record: Arc<LogRecord>) {
        let weight = record.weight();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += weight;
        kept.records.push_back(record);
        while kept.records.len() > RECORDS_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.records.pop_front() else { break };
            kept.bytes -= oldest.weight();
        }
    }

    /// The latest `limit` records at least as grave as `min_level`, the newest first.
    pub(super) fn latest(&self, limit: usize, min_level: LevelFilter) -> Vec<LogRecord> {
        let found: Vec<_> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.records.iter().rev().filter(|r| r.level <= min_level).take(limit).cloned().collect()
        };
        found.iter().map(|r| LogRecord::clone(r)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    fn put(ring: &Ring, level: Level, message: String) {
        ring.push(Arc::new(LogRecord::own(0, level, "t", message)));
    }

    #[test]
    fn the_latest_of_a_level_newest_first() {
        let ring = Ring::default();
        for (i, level) in [Level::Error, Level::Info, Level::Debug, Level::Warn].into_iter().enumerate() {
            put(&ring, level, i.to_string());
        }
        for (limit, level, expected) in [
            (10, LevelFilter::Trace, "3 2 1 0"),
            (2, LevelFilter::Trace, "3 2"),
            (10, LevelFilter::Warn, "3 0"),
            (1, LevelFilter::Error, "0"),
            (0, LevelFilter::Trace, ""),
            (10, LevelFilter::Off, ""),
        ] {
            let found: Vec<_> = ring.latest(limit, level).into_iter().map(|r| r.message).collect();
            assert_eq!(found.join(" "), expected, "{limit} {level}");
        }
    }

    #[test]
    fn both_bounds_hold() {
        for (bytes, expected) in [(10, RECORDS_MAX), (4096, BYTES_MAX / (4096 + 97)), (BYTES_MAX, 0)] {
            let ring = Ring::default();
            (0..2000).for_each(|_| put(&ring, Level::Info, "x".repeat(bytes)));
            assert_eq!(ring.latest(usize::MAX, LevelFilter::Trace).len(), expected, "{bytes} bytes each");
            assert!(ring.kept.lock().unwrap().bytes <= BYTES_MAX);
        }
    }
}
