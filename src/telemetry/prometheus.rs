//! The metrics in Prometheus' text format 0.0.4.
//!
//! Invariant: every family has its HELP and TYPE once, before its samples, and its samples together; seconds and bytes are the
//! units; a label's value can't break its line. What can't be known is left out. It cannot fail.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;

use crate::telemetry::family::Family;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::metrics::{
    CLASSES, DELIVERY_ENDS, DIRECTIONS, External, INTAKES, METHODS, Metrics, RESULTS, TURN_ENDS, get,
};
use crate::telemetry::process::Process;

pub(super) fn render(metrics: &Metrics, external: &External, process: &Process) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    requests(&mut page, metrics, external);
    work(&mut page, metrics, external);
    store(&mut page, metrics, external);
    housekeeping(&mut page, metrics, external);
    of_process(&mut page, metrics, process);
    page.0
}

fn requests(page: &mut Page, metrics: &Metrics, external: &External) {
    page.family("requests_total", "counter", "HTTP requests answered, by method and class of status.");
    for (method, classes) in METHODS.iter().zip(&metrics.requests) {
        for (class, counter) in CLASSES.iter().zip(classes) {
            page.sample("requests_total", &[("method", method), ("status", class)], get(counter));
        }
    }
    page.counter("errors_total", "HTTP requests answered with a status of 500 or above.", metrics.request_counts().1);
    page.histogram("request_duration_seconds", "Time from a complete request head to its answer.", &metrics.request_time);
    let sockets = metrics.websockets_open();
    page.gauge("active_connections", "Connections open now, HTTP and WebSocket together.", external.http_connections + sockets);
    page.gauge("http_connections", "HTTP connections open now.", external.http_connections);
    page.gauge("websockets", "WebSockets open now.", sockets);
    page.counter("websockets_opened_total", "WebSockets opened.", get(&metrics.websockets_total));
    page.counter("connections_evicted_total", "HTTP connections closed to make room for others.", external.evicted);
    page.counter("rate_limited_total", "Requests refused by the rate limit.", get(&metrics.rate_limited));
    page.counter("failed_logins_total", "Wrong credentials.", get(&metrics.failed_logins));
}

fn work(page: &mut Page, metrics: &Metrics, external: &External) {
    page.rows(
        "messages_total",
        "Messages that came in, by channel and result.",
        ["channel", "result"],
        &metrics.messages,
        &INTAKES,
    );
    page.gauge("messages_queued", "Messages that wait for their turn.", external.queued);
    page.row("turns_total", "Turns run, by outcome.", "outcome", &metrics.turns, &TURN_ENDS);
    page.gauge("turns_running", "Turns that run now.", external.running);
    page.histogram("turn_duration_seconds", "Time that a turn took.", &metrics.turn_time);
    let help = "Tries to deliver, by channel and outcome.";
    page.rows("deliveries_total", help, ["channel", "outcome"], &metrics.deliveries, &DELIVERY_ENDS);
    page.gauge("deliveries_pending", "Deliveries to be sent by workers.", external.pending);
    page.gauge("deliveries_unacknowledged", "Deliveries that wait for a receipt.", external.unacknowledged);
    page.histogram("delivery_duration_seconds", "Time that a try to deliver took.", &metrics.delivery_time);
    let help = "Tokens as the providers counted them.";
    page.rows("tokens_total", help, ["provider", "direction"], &metrics.tokens, &DIRECTIONS);
}

fn store(page: &mut Page, metrics: &Metrics, external: &External) {
    page.row("store_commits_total", "Commits of the store, by result.", "result", &metrics.commits, &RESULTS);
    page.histogram("store_commit_writes", "Writes that one commit carried.", &metrics.commit_size);
    page.histogram("store_commit_duration_seconds", "Time that a commit took.", &metrics.commit_time);
    page.gauge("store_bytes", "Bytes of all that is kept: database, its log, attachments.", external.store_bytes);
    page.gauge("store_bytes_max", "The bound on them (store.maxBytes).", external.store_bytes_max);
}

fn housekeeping(page: &mut Page, metrics: &Metrics, external: &External) {
    page.row("config_reloads_total", "Reloads of the configuration, by result.", "result", &metrics.reloads, &RESULTS);
    page.counter("panics_total", "Panics caught.", external.panics);
    page.counter("log_records_dropped_total", "Log records lost because they could not be written.", external.log_dropped);
    page.counter("log_records_left_out_total", "Log records left out because too many were alike.", external.log_left_out);
}

fn of_process(page: &mut Page, metrics: &Metrics, process: &Process) {
    page.family("build_info", "gauge", "Always 1; the version is its label.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("start_time_seconds", "When the process started, in seconds since 1970.", metrics.started_ms as f64 / 1e3);
    page.gauge("uptime_seconds", "How long the process has been up.", metrics.uptime().as_secs_f64());
    page.family("start_phase_seconds", "gauge", "Time that the phases of the start took, one after the other.");
    for (phase, took) in metrics.start_phases.get().into_iter().flatten() {
        page.sample("start_phase_seconds", &[("phase", phase)], took.as_secs_f64());
    }
    if let Some(bytes) = process.resident_bytes {
        page.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
    }
    if let Some(bytes) = process.resident_bytes_max {
        page.gauge("process_resident_memory_max_bytes", "The most resident memory so far.", bytes);
    }
    if let Some(threads) = process.threads {
        page.gauge("process_threads", "Threads.", threads);
    }
    if let Some(fds) = process.open_fds {
        page.gauge("process_open_fds", "Open descriptors.", fds);
    }
    if let Some(seconds) = process.cpu_seconds {
        page.counter("process_cpu_seconds_total", "Processor time used, user and system.", seconds);
    }
    if let Some(bytes) = process.written_bytes {
        page.counter("written_bytes_total", "Bytes written to disk, as the kernel counts them.", bytes);
        page.gauge("written_bytes_day", "Those of the last 24 hours.", metrics.note_written(bytes));
    }
    if get(&metrics.write_budget) > 0 {
        page.gauge(
            "write_budget_bytes",
            "Bytes that may be written in 24 hours (store.writeBudget).",
            get(&metrics.write_budget),
        );
    }
}

/// The text, as it grows. Writing to a `String` can't fail: the results of `write!` are dropped for that reason.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP gatelet_{name} {help}\n# TYPE gatelet_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "gatelet_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn row(&mut self, name: &str, help: &str, label: &str, counters: &[AtomicU64], cases: &[&str]) {
        self.family(name, "counter", help);
        for (case, counter) in cases.iter().zip(counters) {
            self.sample(name, &[(label, case)], get(counter));
        }
    }

    fn rows<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        family: &Family<[AtomicU64; N]>,
        cases: &[&str; N],
    ) where
        [AtomicU64; N]: Default,
    {
        self.family(name, "counter", help);
        family.each(|member, counters| {
            for (case, counter) in cases.iter().zip(counters) {
                self.sample(name, &[(labels[0], member), (labels[1], case)], get(counter));
            }
        });
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let reading = histogram.read();
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in &reading.buckets {
            self.sample(&bucket, &[("le", &bound.to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], reading.count);
        self.sample(&format!("{name}_sum"), &[], reading.sum);
        self.sample(&format!("{name}_count"), &[], reading.count);
    }
}

/// A label's value as the format wants it: backslash, quote and newline escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
