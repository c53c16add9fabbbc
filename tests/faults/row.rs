//! A row of the table: what is done to the gateway, how often, and what came of it.
//!
//! Invariant: a trial that panics is a failure of that trial, whatever it asserted; a row that ran no trial has failed. What can't be
//! done on this machine says why, and is no success.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Random;

/// Failures that are kept in words.
const TOLD_MAX: usize = 5;

/// One fault.
pub struct Row {
    /// `R1` to `R44`.
    pub id: &'static str,
    /// What goes wrong.
    pub fault: &'static str,
    /// How it is brought about here.
    pub injection: &'static str,
    /// What must hold.
    pub holds: &'static str,
    /// Trials in short and in long mode.
    pub trials: (u64, u64),
    /// What runs; none where tests of the suite hold the row.
    pub run: Option<fn(&mut Trials)>,
    /// Tests of the suite that hold it, or parts of it.
    pub tests: &'static [&'static str],
    /// What of the row is not measured, and why.
    pub lacks: &'static str,
}

/// A row in progress.
pub struct Trials {
    /// How many are wanted.
    pub wanted: u64,
    /// Whether this is the long mode.
    pub is_long: bool,
    /// Where all chance of the row comes from.
    pub random: Random,
    begun: u64,
    failures: Vec<String>,
    failed: u64,
    recoveries: Vec<Duration>,
    figures: Vec<(String, String)>,
    absent: Option<String>,
}

impl Trials {
    /// None yet.
    pub fn new(wanted: u64, is_long: bool, seed: u64) -> Self {
        Trials {
            wanted,
            is_long,
            random: Random::new(seed),
            begun: 0,
            failures: Vec::new(),
            failed: 0,
            recoveries: Vec::new(),
            figures: Vec::new(),
            absent: None,
        }
    }

    /// One trial: its error, or its panic, is a failure.
    pub fn trial<T>(&mut self, what: &str, work: impl FnOnce(&mut Self) -> Result<T, String>) -> Option<T> {
        self.begun += 1;
        let ended = catch_unwind(AssertUnwindSafe(|| work(self)));
        match ended {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(why)) => self.fail(&format!("{what}: {why}")),
            Err(panic) => self.fail(&format!("{what}: {}", words_of(&*panic))),
        }
        None
    }

    /// So many trials that went well at once (kills of one run, whose count was right in the end).
    pub fn count(&mut self, trials: u64) {
        self.begun += trials;
    }

    /// A failure that belongs to a trial that was counted.
    pub fn fail(&mut self, why: &str) {
        self.failed += 1;
        let why: String = why.chars().take(1500).collect();
        eprintln!("    FAILED {why}");
        if self.failures.len() < TOLD_MAX {
            self.failures.push(why);
        }
    }

    /// How long it took until it served again.
    pub fn recovered(&mut self, took: Duration) {
        self.recoveries.push(took);
    }

    /// A figure for the table.
    pub fn figure(&mut self, name: &str, value: impl ToString) {
        self.figures.push((name.to_string(), value.to_string()));
    }

    /// This machine can't do it, and need not: a container may not let it.
    pub fn not_here(&mut self, why: &str) {
        self.absent = Some(why.to_string());
    }

    /// This machine can't do it, which `.ci/run` takes for a failure.
    pub fn absent(&mut self, why: &str) {
        crate::support::skipped(why);
        self.absent = Some(why.to_string());
    }
}

/// Runs a row; gives its record.
pub fn run(row: &Row, is_long: bool, seed: u64) -> Value {
    let Some(work) = row.run else { return Value::Null };
    let wanted = if is_long { row.trials.1 } else { row.trials.0 };
    let mut trials = Trials::new(wanted, is_long, seed);
    let began = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut trials))) {
        trials.begun = trials.begun.max(1);
        trials.fail(&words_of(&*panic));
    }
    if trials.begun == 0 && trials.absent.is_none() {
        trials.begun = 1;
        trials.fail("it ran no trial");
    }
    trials.recoveries.sort();
    let at = |percent: usize| {
        let n = trials.recoveries.len();
        (n > 0).then(|| trials.recoveries[(n * percent / 100).min(n - 1)].as_secs_f64() * 1000.0)
    };
    json!({"id": row.id, "trials": trials.begun, "failed": trials.failed, "failures": trials.failures, "seed": seed,
        "figures": trials.figures, "absent": trials.absent, "mode": if is_long { "long" } else { "short" },
        "median_ms": at(50), "slowest_ms": at(100), "took_s": began.elapsed().as_secs_f64(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" }})
}

/// The upper bound, with 95 % confidence, of how likely a trial is to fail: 3/n without a failure (the rule of three), else that of
/// the binomial distribution.
pub fn upper_bound(trials: u64, failed: u64) -> f64 {
    if trials == 0 || failed >= trials {
        return 1.0;
    }
    if failed == 0 {
        return (3.0 / trials as f64).min(1.0);
    }
    let at_most = |p: f64| -> f64 {
        let (n, mut term) = (trials as f64, (1.0 - p).ln() * trials as f64);
        let mut sum = term.exp();
        for k in 0..failed {
            term += ((n - k as f64) / (k as f64 + 1.0) * p / (1.0 - p)).ln();
            sum += term.exp();
        }
        sum
    };
    let (mut low, mut high) = (failed as f64 / trials as f64, 1.0 - 1e-9);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if at_most(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
    text.unwrap_or_else(|| "a panic".to_string())
}
