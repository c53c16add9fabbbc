//! What the tests stand on: a gateway to drive, and the world around it (model, webhook receiver, clients), scripted.

pub mod cable;
pub mod discord;
pub mod files;
pub mod gateway;
pub mod http;
pub mod lacking;
pub mod model;
pub mod mosquitto;
pub mod oracle;
pub mod server;
pub mod sink;
pub mod slack;
pub mod synapse;
pub mod telegram;
pub mod truth;
pub mod upgrade;
pub mod wire;
pub mod ws;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Held by a test that needs the machine's processors to itself: such tests run one after the other.
pub fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks `probe` again and again until it gives something; panics after `seconds`, saying what was waited for.
pub fn eventually<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "after {seconds} s still waiting for: {what}");
        pause(15);
    }
}

/// Sleeps for `ms`.
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Says loudly that a test did not run, and notes it in the file that `GATELET_SKIPPED` names, for `.ci/run` to fail on.
pub fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    // Past the harness, which keeps back what passing tests print.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("GATELET_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file of skipped tests");
        file.write_all(line.as_bytes()).expect("noting a skipped test");
    }
}

/// A figure that a test measured, shown however it ends.
pub fn figure(line: &str) {
    let _ = std::io::stderr().write_all(format!("FIGURE: {line}\n").as_bytes());
}

/// A number from the environment, or `default`.
pub fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Raises this process's limit of open files to `wanted` if the system lets it (the gateways that it starts inherit it). Gives
/// what it is then.
pub fn raise_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|c| c < wanted) {
        let maximum = now.maximum.map_or(wanted, |m| m.max(wanted));
        // Root may raise the hard limit as well; others get as far as it allows.
        if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(maximum) }).is_err() {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}

/// A small generator of random numbers that can be started again from its printed seed (xorshift64*).
pub struct Random(u64);

impl Random {
    /// From `GATELET_SEED`, or from the clock; the seed is printed.
    pub fn seeded(what: &str) -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let seed = from_env("GATELET_SEED", clock);
        figure(&format!("{what}: GATELET_SEED={seed}"));
        Random::new(seed)
    }

    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A number in `low..high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        low + (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % (high - low).max(1)
    }
}

/// The value at `percent` of sorted durations.
pub fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// `base` with `change` laid over it, object by object (RFC 7396).
pub fn merged(mut base: serde_json::Value, change: serde_json::Value) -> serde_json::Value {
    match (&mut base, change) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                let old = into.remove(&key).unwrap_or(serde_json::Value::Null);
                if !value.is_null() {
                    into.insert(key, merged(old, value));
                }
            }
            base
        }
        (_, change) => change,
    }
}

/// Runs `work(0)` to `work(n - 1)` on a thread each, all begun at once; gives their results in order.
pub fn side_by_side<T: Send>(n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let gate = std::sync::Barrier::new(n);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                let (gate, work) = (&gate, &work);
                scope.spawn(move || {
                    gate.wait();
                    work(i)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    })
}
