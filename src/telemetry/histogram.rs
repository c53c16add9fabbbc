//! How values are spread: counts in fixed buckets, the sum, the greatest.
//!
//! Invariant: observing takes no lock and allocates nothing; memory is fixed by the bounds. The count is the sum of the buckets,
//! so the two can't disagree; a reading taken while others observe may miss what is being added in that moment. It cannot fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Nanoseconds: what one machine answers by itself (a request, a commit), 100 µs to a minute.
const SHORT: &[u64] = &[
    MS / 10,
    MS / 4,
    MS / 2,
    MS,
    MS * 5 / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    SECOND * 5 / 2,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
];

/// Nanoseconds: what waits for others (a turn, a delivery), 1 ms to 5 minutes, the longest turn by default.
const LONG: &[u64] = &[
    MS,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    SECOND * 5 / 2,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
];

/// Plain numbers: how many writes one commit carried.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// The longest duration counted as it is. A longer one counts as this, so that no sum of ours can overflow.
const LONGEST: u64 = 86_400 * SECOND;

/// A histogram over fixed buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// How many of the stored units make one of the shown ones (nanoseconds in a second).
    unit: f64,
    /// One for each bound, and one for what is beyond the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// What a histogram held at one moment, in seconds (or in plain numbers, for sizes).
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Upper bound, inclusive, and how many values were at or below it. Beyond the last bound: `count`.
    pub buckets: Vec<(f64, u64)>,
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The greatest; 0 where there is none.
    pub max: f64,
}

impl Histogram {
    /// For durations of what this machine does by itself: buckets from 100 µs to 60 s.
    pub fn short() -> Self {
        Self::new(SHORT, SECOND as f64)
    }

    /// For durations of what waits for others: buckets from 1 ms to 300 s.
    pub fn long() -> Self {
        Self::new(LONG, SECOND as f64)
    }

    /// For plain numbers: buckets from 1 to 512.
    pub fn sizes() -> Self {
        Self::new(SIZES, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, unit, buckets, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    /// Adds a duration; one longer than a day counts as a day.
    pub fn observe(&self, took: Duration) {
        self.add(u64::try_from(took.as_nanos()).unwrap_or(LONGEST).min(LONGEST));
    }

    /// Adds a plain number.
    pub fn observe_size(&self, size: usize) {
        self.add((size as u64).min(LONGEST));
    }

    fn add(&self, value: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (i, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(i) {
                buckets.push((*bound as f64 / self.unit, count));
            }
        }
        let shown = |cell: &AtomicU64| cell.load(Ordering::Relaxed) as f64 / self.unit;
        Reading { buckets, count, sum: shown(&self.sum), max: shown(&self.max) }
    }
}

impl Reading {
    /// The mean; 0 where there is no value.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// An estimate of the value below which the share `q` (0 to 1) of the values lies: linear within its bucket, never more than
    /// the greatest value seen. 0 where there is no value.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = q.clamp(0.0, 1.0) * self.count as f64;
        let (mut low, mut below) = (0.0, 0);
        for &(bound, up_to) in &self.buckets {
            if up_to > below && up_to as f64 >= rank {
                let share = (rank - below as f64).max(0.0) / (up_to - below) as f64;
                return (low + (bound - low) * share).min(self.max);
            }
            (low, below) = (bound, up_to);
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(values: impl IntoIterator<Item = u64>) -> Reading {
        let histogram = Histogram::short();
        values.into_iter().for_each(|ms| histogram.observe(Duration::from_millis(ms)));
        histogram.read()
    }

    #[test]
    fn a_value_on_a_bound_is_within_it() {
        let reading = of_ms([1, 5, 6, 60_000, 60_001]);
        for (le, expected) in [(0.0005, 0), (0.001, 1), (0.005, 2), (0.01, 3), (30.0, 3), (60.0, 4)] {
            let found = reading.buckets.iter().find(|(bound, _)| *bound == le).unwrap().1;
            assert_eq!(found, expected, "le {le}");
        }
        assert_eq!((reading.count, reading.max), (5, 60.001), "what is beyond the last bound counts");
        assert!((reading.sum - 120.013).abs() < 1e-9, "{}", reading.sum);
    }

    #[test]
    fn quantiles_of_known_streams() {
        for (name, values, q, low, high) in [
            ("none", vec![], 0.99, 0.0, 0.0),
            ("one", vec![7], 0.5, 0.005, 0.007),
            ("one", vec![7], 0.99, 0.005, 0.007),
            ("1 to 1000 ms", (1..=1000).collect(), 0.5, 0.49, 0.51),
            ("1 to 1000 ms", (1..=1000).collect(), 0.95, 0.94, 0.96),
            ("1 to 1000 ms", (1..=1000).collect(), 0.99, 0.98, 1.0),
            ("one slow in 100", (0..100).map(|i| if i == 0 { 20_000 } else { 2 }).collect(), 0.95, 0.001, 0.0025),
            ("one slow in 100", (0..100).map(|i| if i == 0 { 20_000 } else { 2 }).collect(), 1.0, 20.0, 20.0),
            ("beyond the last bound", vec![90_000; 10], 0.5, 60.0, 90.0),
        ] {
            let found = of_ms(values).quantile(q);
            assert!((low..=high).contains(&found), "{name}: q{q} is {found}, not in {low}..{high}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let histogram = Histogram::long();
        for _ in 0..10_000 {
            histogram.observe(Duration::MAX);
        }
        let reading = histogram.read();
        assert_eq!((reading.count, reading.sum, reading.max), (10_000, 864_000_000.0, 86_400.0));
        assert_eq!(reading.buckets.last().unwrap().1, 0);
        let sizes = Histogram::sizes();
        sizes.observe_size(0);
        sizes.observe_size(usize::MAX);
        assert_eq!((sizes.read().count, sizes.read().buckets[0]), (2, (1.0, 1)));
    }

    #[test]
    fn parallel_observers_lose_nothing() {
        let histogram = Histogram::short();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|i| histogram.observe(Duration::from_micros(i))));
            }
        });
        let reading = histogram.read();
        assert_eq!(reading.count, 80_000);
        assert!((reading.sum - 8.0 * 49.995).abs() < 1e-6, "{}", reading.sum);
    }
}
