//! The metrics as one JSON object: keys in camelCase, times in ms.
//!
//! Invariant: every figure is a number or, where it can't be known, null. Keys that come from the configuration (channels,
//! providers) stand one level below keys of ours. It cannot fail.

use std::sync::atomic::AtomicU64;

use serde_json::{Map, Value, json};

use crate::telemetry::family::Family;
use crate::telemetry::histogram::{Histogram, Reading};
use crate::telemetry::metrics::{
    CLASSES, DELIVERY_ENDS, DIRECTIONS, External, INTAKES, METHODS, Metrics, RESULTS, TURN_ENDS, get,
};
use crate::telemetry::process::Process;

pub(super) fn render(metrics: &Metrics, external: &External, process: &Process) -> Value {
    let (requests, errors) = metrics.request_counts();
    let request_time = metrics.request_time.read();
    let by_class = |class: usize| metrics.requests.iter().map(|classes| get(&classes[class])).sum::<u64>();
    let by_method = |method: usize| metrics.requests[method].iter().map(get).sum::<u64>();
    json!({
        "requestCount": requests,
        "errorCount": errors,
        "avgResponseTime": ms(request_time.mean()),
        "activeConnections": external.http_connections + metrics.websockets_open(),
        "uptimeMs": metrics.uptime().as_millis() as u64,
        "startedMs": metrics.started_ms,
        "startMs": metrics.start_phases.get().into_iter().flatten().map(|(phase, took)| (phase.to_string(), json!(ms(took.as_secs_f64())))).collect::<Map<_, _>>(),
        "requests": {
            "byStatus": named(&CLASSES, by_class),
            "byMethod": named(&METHODS, by_method),
            "durationMs": times(&request_time),
            "rateLimited": get(&metrics.rate_limited),
            "failedLogins": get(&metrics.failed_logins),
        },
        "connections": {
            "http": external.http_connections,
            "webSockets": metrics.websockets_open(),
            "webSocketsTotal": get(&metrics.websockets_total),
            "evicted": external.evicted,
        },
        "messages": { "byChannel": family(&metrics.messages, &INTAKES), "queued": external.queued },
        "turns": {
            "byOutcome": row(&metrics.turns, &TURN_ENDS),
            "durationMs": times(&metrics.turn_time.read()),
            "running": external.running,
        },
        "deliveries": {
            "byChannel": family(&metrics.deliveries, &DELIVERY_ENDS),
            "durationMs": times(&metrics.delivery_time.read()),
            "pending": external.pending,
            "unacknowledged": external.unacknowledged,
        },
        "tokens": { "byProvider": family(&metrics.tokens, &DIRECTIONS) },
        "store": {
            "commits": row(&metrics.commits, &RESULTS),
            "writesPerCommit": sizes(&metrics.commit_size),
            "commitMs": times(&metrics.commit_time.read()),
            "bytes": external.store_bytes,
            "bytesMax": external.store_bytes_max,
        },
        "log": { "dropped": external.log_dropped, "leftOut": external.log_left_out },
        "configReloads": row(&metrics.reloads, &RESULTS),
        "panics": external.panics,
        "process": {
            "residentBytes": process.resident_bytes,
            "residentBytesMax": process.resident_bytes_max,
            "threads": process.threads,
            "openFds": process.open_fds,
            "cpuMs": process.cpu_seconds.map(ms),
            "writtenBytes": process.written_bytes,
            "writtenBytesDay": process.written_bytes.map(|total| metrics.note_written(total)),
            "writeBudget": get(&metrics.write_budget),
        },
    })
}

/// Seconds to ms, to the nanosecond.
fn ms(seconds: f64) -> f64 {
    (seconds * 1e9).round() / 1e6
}

fn times(reading: &Reading) -> Value {
    let at = |q| ms(reading.quantile(q));
    json!({
        "count": reading.count, "avg": ms(reading.mean()), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ms(reading.max),
    })
}

fn sizes(histogram: &Histogram) -> Value {
    let reading = histogram.read();
    json!({ "sum": reading.sum as u64, "avg": reading.mean(), "p95": reading.quantile(0.95), "max": reading.max as u64 })
}

fn named(names: &[&str], value: impl Fn(usize) -> u64) -> Value {
    names.iter().enumerate().map(|(i, name)| (name.to_string(), Value::from(value(i)))).collect::<Map<_, _>>().into()
}

fn row(counters: &[AtomicU64], names: &[&str]) -> Value {
    named(names, |i| get(&counters[i]))
}

fn family<const N: usize>(family: &Family<[AtomicU64; N]>, names: &[&str; N]) -> Value
where
    [AtomicU64; N]: Default,
{
    let mut members = Map::new();
    family.each(|label, counters| drop(members.insert(label.to_string(), row(counters, names))));
    members.into()
}
