//! What is counted. Made once, passed to who records; rendered as JSON (`GET /api/metrics`) and for Prometheus (`GET /metrics`).
//!
//! Invariant: recording is a few atomic additions; only a label's first use takes a lock for itself. Every total shown is computed
//! from the counters beneath it, so that parts and wholes can't disagree. Memory is bounded whatever is recorded. It cannot fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::telemetry::family::Family;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::process::Process;
use crate::telemetry::written::Written;

/// Methods that are told apart; all others are the last one.
pub(super) const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// Classes of status.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What became of a message that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It is on disk.
    Accepted,
    /// It was there already.
    Duplicate,
    /// It was refused: by a limit, or a store that can't write.
    Rejected,
    /// It was not for the gateway, or from somebody who may not speak.
    Ignored,
}

/// How one run of a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The message is answered.
    Answered,
    /// The message is set aside as failed.
    Failed,
    /// It failed in a way that may pass, and will be tried again.
    Deferred,
    /// A drain cut it short; it goes on at the next start.
    Interrupted,
    /// It waits for a person's decision.
    Parked,
    /// It was withdrawn.
    Cancelled,
}

/// How one try to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// Confirmed.
    Sent,
    /// Failed; will be tried again.
    Retried,
    /// Given up: a dead letter.
    Dead,
    /// Cut off where sending again could double it.
    Unknown,
}

pub(super) const INTAKES: [&str; 4] = ["accepted", "duplicate", "rejected", "ignored"];
pub(super) const TURN_ENDS: [&str; 6] = ["answered", "failed", "deferred", "interrupted", "parked", "cancelled"];
pub(super) const DELIVERY_ENDS: [&str; 4] = ["sent", "retried", "dead", "unknown"];
pub(super) const RESULTS: [&str; 2] = ["ok", "failed"];
pub(super) const DIRECTIONS: [&str; 2] = ["in", "out"];

/// A row of counters, one for each of `N` named cases.
pub(super) type Counters<const N: usize> = [AtomicU64; N];

/// Figures that others own, given when the metrics are rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct External {
    /// HTTP connections open at the door (those that became WebSockets not among them).
    pub http_connections: u64,
    /// Connections closed by the door to make room, since the start.
    pub evicted: u64,
    /// Messages queued or deferred (`store::Depths`).
    pub queued: u64,
    /// Turns running.
    pub running: u64,
    /// Deliveries to be sent by workers.
    pub pending: u64,
    /// Deliveries that wait for their receiver's receipt.
    pub unacknowledged: u64,
    /// Bytes in use of what the store keeps (`store::Space`).
    pub store_bytes: u64,
    /// The bound on them.
    pub store_bytes_max: u64,
    /// Panics caught since the start (`Threads::panics`).
    pub panics: u64,
    /// Log records lost since the start (`Logger::dropped`).
    pub log_dropped: u64,
    /// Log records left out by the flood guard since the start (`Logger::left_out`).
    pub log_left_out: u64,
}

/// All counters of this process.
#[derive(Debug)]
pub struct Metrics {
    pub(super) clock: Clock,
    pub(super) started_ms: i64,
    started: Duration,
    pub(super) requests: [Counters<5>; 8],
    pub(super) request_time: Histogram,
    pub(super) websockets: AtomicU64,
    pub(super) websockets_total: AtomicU64,
    pub(super) messages: Family<Counters<4>>,
    pub(super) turns: Counters<6>,
    pub(super) turn_time: Histogram,
    pub(super) deliveries: Family<Counters<4>>,
    pub(super) delivery_time: Histogram,
    pub(super) tokens: Family<Counters<2>>,
    pub(super) commits: Counters<2>,
    pub(super) commit_size: Histogram,
    pub(super) commit_time: Histogram,
    pub(super) rate_limited: AtomicU64,
    pub(super) failed_logins: AtomicU64,
    pub(super) reloads: Counters<2>,
    pub(super) start_phases: OnceLock<Vec<(&'static str, Duration)>>,
    written: Written,
    /// Bytes that may be written in 24 hours; 0 is no budget.
    pub(super) write_budget: AtomicU64,
}

impl Metrics {
    /// Metrics at zero; the process's start is now.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Metrics {
            started_ms: clock.unix_ms(),
            started: clock.mono(),
            clock,
            requests: Default::default(),
            request_time: Histogram::short(),
            websockets: AtomicU64::new(0),
            websockets_total: AtomicU64::new(0),
            messages: Family::default(),
            turns: Default::default(),
            turn_time: Histogram::long(),
            deliveries: Family::default(),
            delivery_time: Histogram::long(),
            tokens: Family::default(),
            commits: Default::default(),
            commit_size: Histogram::sizes(),
            commit_time: Histogram::short(),
            rate_limited: AtomicU64::new(0),
            failed_logins: AtomicU64::new(0),
            reloads: Default::default(),
            start_phases: OnceLock::new(),
            written: Written::default(),
            write_budget: AtomicU64::default(),
        })
    }

    /// Counts an answered request. Methods are case-sensitive; an unknown one, and one that could not be read, is `other`.
    pub fn request(&self, method: &str, status: u16, took: Duration) {
        let known = METHODS.len() - 1;
        let method = METHODS[..known].iter().position(|m| *m == method).unwrap_or(known);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        add(&self.requests[method][class], 1);
        self.request_time.observe(took);
    }

    /// Counts a WebSocket as open until the answer is dropped.
    pub fn open_websocket(self: &Arc<Self>) -> OpenWebSocket {
        add(&self.websockets, 1);
        add(&self.websockets_total, 1);
        OpenWebSocket(self.clone())
    }

    /// Counts a message that came in by `channel` (a configured name).
    pub fn message(&self, channel: &str, intake: Intake) {
        self.messages.with(channel, |counters| add(&counters[intake as usize], 1));
    }

    /// Counts one run of a turn and how long it took.
    pub fn turn(&self, end: TurnEnd, took: Duration) {
        add(&self.turns[end as usize], 1);
        self.turn_time.observe(took);
    }

    /// Counts one try to deliver by `channel`, and how long it took.
    pub fn delivery(&self, channel: &str, end: DeliveryEnd, took: Duration) {
        self.deliveries.with(channel, |counters| add(&counters[end as usize], 1));
        self.delivery_time.observe(took);
    }

    /// Adds tokens as `provider` (a configured name) counted them.
    pub fn tokens(&self, provider: &str, tokens_in: u64, tokens_out: u64) {
        self.tokens.with(provider, |counters| {
            add(&counters[0], tokens_in);
            add(&counters[1], tokens_out);
        });
    }

    /// Counts a commit that carried `size` writes.
    pub fn commit(&self, size: usize, took: Duration) {
        add(&self.commits[0], 1);
        self.commit_size.observe_size(size);
        self.commit_time.observe(took);
    }

    /// Counts a commit that failed.
    pub fn commit_failed(&self) {
        add(&self.commits[1], 1);
    }

    /// Counts a request refused by the rate limit.
    pub fn rate_limited(&self) {
        add(&self.rate_limited, 1);
    }

    /// Counts a wrong credential.
    pub fn failed_login(&self) {
        add(&self.failed_logins, 1);
    }

    /// Counts a reload of the configuration: applied, or refused.
    pub fn config_reload(&self, applied: bool) {
        add(&self.reloads[usize::from(!applied)], 1);
    }

    /// Notes what the start took, phase by phase in their order; the first call holds.
    pub fn started_in(&self, phases: Vec<(&'static str, Duration)>) {
        let _ = self.start_phases.set(phases);
    }

    /// Notes how many bytes the process had written to disk in all. Gives those of the last 24 hours.
    pub fn note_written(&self, total: u64) -> u64 {
        self.written.note(total, self.clock.mono())
    }

    /// How many bytes may be written in 24 hours, for those who compare.
    pub fn set_write_budget(&self, bytes: Option<u64>) {
        self.write_budget.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// WebSockets open now.
    pub fn websockets_open(&self) -> u64 {
        get(&self.websockets)
    }

    /// How long the process has been up.
    pub fn uptime(&self) -> Duration {
        self.clock.mono().saturating_sub(self.started)
    }

    /// `GET /api/metrics`: `requestCount`, `errorCount` (answers of 500 and above), `avgResponseTime` (ms, over all answers),
    /// `activeConnections` (HTTP and WebSockets), and the rest in groups. Times in ms.
    pub fn render_json(&self, external: &External) -> serde_json::Value {
        super::metrics_json::render(self, external, &Process::read())
    }

    /// `GET /metrics`: text format 0.0.4 (content type `text/plain; version=0.0.4; charset=utf-8`). Times in seconds.
    pub fn render_prometheus(&self, external: &External) -> String {
        super::prometheus::render(self, external, &Process::read())
    }

    /// All requests, and those answered with 500 and above.
    pub(super) fn request_counts(&self) -> (u64, u64) {
        let errors = self.requests.iter().map(|classes| get(&classes[CLASSES.len() - 1])).sum();
        (self.requests.iter().flatten().map(get).sum(), errors)
    }
}

/// A WebSocket counted as open; dropping it ends that, whatever way its thread goes.
#[derive(Debug)]
pub struct OpenWebSocket(Arc<Metrics>);

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.websockets.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
