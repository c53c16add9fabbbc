//! Tests of the metrics: what was recorded is what both forms show.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Every sample of a page: name with labels → value. Checks the format on the way.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut described, mut typed) = (BTreeMap::new(), Vec::new(), Vec::<(String, String)>::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            described.push(help.split_once(' ').unwrap().0.to_string());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(described.last().unwrap(), name, "HELP stands before TYPE");
            assert!(typed.iter().all(|(n, _)| n != name), "{name} comes twice");
            typed.push((name.to_string(), kind.to_string()));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (family, kind) = typed.last().unwrap();
            let base = name.split('{').next().unwrap();
            let own =
                base == family || kind == "histogram" && base.strip_prefix(family.as_str()).is_some_and(|s| s.starts_with('_'));
            assert!(own, "{name} stands under {family}");
            assert_eq!(kind == "counter", base.ends_with("_total"), "{name}");
            assert!(samples.insert(name.to_string(), value.parse().unwrap()).is_none(), "{name} comes twice");
        }
    }
    samples
}

fn rendered(metrics: &Metrics, external: &External) -> (Value, BTreeMap<String, f64>) {
    (metrics.render_json(external), samples(&metrics.render_prometheus(external)))
}

#[test]
fn requests_reconcile_in_both_forms() {
    let metrics = Metrics::new(Clock::manual(0));
    for (method, status, ms) in [
        ("GET", 200, 1),
        ("GET", 200, 2),
        ("GET", 404, 3),
        ("POST", 202, 4),
        ("POST", 500, 5),
        ("POST", 503, 6),
        ("get", 405, 7),
        ("", 400, 8),
        ("\"\n", 0, 9),
        ("GET", 101, 10),
        ("GET", 999, 11),
    ] {
        metrics.request(method, status, MS * ms);
    }
    let (json, page) = rendered(&metrics, &External { http_connections: 3, ..External::default() });
    for (path, expected) in [
        ("/requestCount", 11.0),
        ("/errorCount", 3.0),
        ("/avgResponseTime", 6.0),
        ("/activeConnections", 3.0),
        ("/requests/byStatus/1xx", 2.0),
        ("/requests/byStatus/2xx", 3.0),
        ("/requests/byStatus/4xx", 3.0),
        ("/requests/byStatus/5xx", 3.0),
        ("/requests/byMethod/GET", 5.0),
        ("/requests/byMethod/other", 3.0),
        ("/requests/durationMs/count", 11.0),
        ("/requests/durationMs/max", 11.0),
    ] {
        assert_eq!(json.pointer(path).and_then(Value::as_f64), Some(expected), "{path}");
    }
    for (name, expected) in [
        ("gatelet_requests_total{method=\"GET\",status=\"2xx\"}", 2.0),
        ("gatelet_requests_total{method=\"other\",status=\"4xx\"}", 2.0),
        ("gatelet_errors_total", 3.0),
        ("gatelet_request_duration_seconds_count", 11.0),
        ("gatelet_request_duration_seconds_sum", 0.066),
        ("gatelet_request_duration_seconds_bucket{le=\"0.005\"}", 5.0),
        ("gatelet_request_duration_seconds_bucket{le=\"+Inf\"}", 11.0),
        ("gatelet_active_connections", 3.0),
    ] {
        assert_eq!(page.get(name), Some(&expected), "{name}");
    }
    let total: f64 = page.iter().filter(|(name, _)| name.starts_with("gatelet_requests_total")).map(|(_, v)| v).sum();
    assert_eq!(total, 11.0);
}

#[test]
fn the_rest_reconciles_in_both_forms() {
    let clock = Clock::manual(1_700_000_000_000);
    let metrics = Metrics::new(clock.clone());
    let (kept, gone) = (metrics.open_websocket(), metrics.open_websocket());
    drop(gone);
    metrics.message("door", Intake::Accepted);
    metrics.message("door", Intake::Duplicate);
    metrics.message("a\"b\\c\nd", Intake::Rejected);
    metrics.turn(TurnEnd::Answered, MS * 20);
    metrics.turn(TurnEnd::Interrupted, MS * 40);
    metrics.delivery("door", DeliveryEnd::Retried, MS);
    metrics.delivery("door", DeliveryEnd::Sent, MS);
    metrics.tokens("local", 100, 7);
    metrics.tokens("local", 11, 0);
    metrics.commit(64, MS * 3);
    metrics.commit_failed();
    metrics.rate_limited();
    metrics.failed_login();
    metrics.config_reload(true);
    metrics.config_reload(false);
    metrics.started_in(vec![("store", Duration::from_micros(2500)), ("door", Duration::from_micros(250))]);
    clock.advance(MS * 1500);
    let external = External { http_connections: 2, evicted: 4, queued: 5, panics: 6, log_dropped: 8, ..External::default() };
    let (json, page) = rendered(&metrics, &external);
    for (path, name, expected) in [
        ("/activeConnections", "gatelet_active_connections", 3.0),
        ("/connections/webSockets", "gatelet_websockets", 1.0),
        ("/connections/webSocketsTotal", "gatelet_websockets_opened_total", 2.0),
        ("/connections/evicted", "gatelet_connections_evicted_total", 4.0),
        ("/messages/byChannel/door/accepted", "gatelet_messages_total{channel=\"door\",result=\"accepted\"}", 1.0),
        ("/messages/byChannel/door/duplicate", "gatelet_messages_total{channel=\"door\",result=\"duplicate\"}", 1.0),
        (
            "/messages/byChannel/a\"b\\c\nd/rejected",
            "gatelet_messages_total{channel=\"a\\\"b\\\\c\\nd\",result=\"rejected\"}",
            1.0,
        ),
        ("/messages/queued", "gatelet_messages_queued", 5.0),
        ("/turns/byOutcome/answered", "gatelet_turns_total{outcome=\"answered\"}", 1.0),
        ("/turns/byOutcome/deferred", "gatelet_turns_total{outcome=\"deferred\"}", 0.0),
        ("/turns/durationMs/count", "gatelet_turn_duration_seconds_count", 2.0),
        ("/deliveries/byChannel/door/sent", "gatelet_deliveries_total{channel=\"door\",outcome=\"sent\"}", 1.0),
        ("/deliveries/durationMs/count", "gatelet_delivery_duration_seconds_count", 2.0),
        ("/tokens/byProvider/local/in", "gatelet_tokens_total{provider=\"local\",direction=\"in\"}", 111.0),
        ("/tokens/byProvider/local/out", "gatelet_tokens_total{provider=\"local\",direction=\"out\"}", 7.0),
        ("/store/commits/ok", "gatelet_store_commits_total{result=\"ok\"}", 1.0),
        ("/store/commits/failed", "gatelet_store_commits_total{result=\"failed\"}", 1.0),
        ("/store/writesPerCommit/sum", "gatelet_store_commit_writes_sum", 64.0),
        ("/requests/rateLimited", "gatelet_rate_limited_total", 1.0),
        ("/requests/failedLogins", "gatelet_failed_logins_total", 1.0),
        ("/configReloads/ok", "gatelet_config_reloads_total{result=\"ok\"}", 1.0),
        ("/configReloads/failed", "gatelet_config_reloads_total{result=\"failed\"}", 1.0),
        ("/panics", "gatelet_panics_total", 6.0),
        ("/log/dropped", "gatelet_log_records_dropped_total", 8.0),
    ] {
        assert_eq!(json.pointer(path).and_then(Value::as_f64), Some(expected), "{path}");
        assert_eq!(page.get(name), Some(&expected), "{name}");
    }
    assert_eq!((page["gatelet_start_time_seconds"], page["gatelet_uptime_seconds"]), (1.7e9, 1.5));
    assert_eq!(json["startMs"], serde_json::json!({"store": 2.5, "door": 0.25}));
    let phases = ["store", "door"].map(|phase| page[&format!("gatelet_start_phase_seconds{{phase=\"{phase}\"}}")]);
    assert_eq!(phases, [0.0025, 0.00025]);
    assert!(page["gatelet_process_resident_memory_bytes"] > 1e5 && page["gatelet_process_open_fds"] >= 3.0);
    drop(kept);
    assert_eq!(metrics.websockets_open(), 0);
}

#[test]
fn at_rest_every_figure_is_a_number() {
    let (json, page) = rendered(&Metrics::new(Clock::manual(0)), &External::default());
    assert_eq!((&json["requestCount"], &json["errorCount"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(json["avgResponseTime"].as_f64(), Some(0.0));
    assert!(page.values().all(|v| v.is_finite()));
    assert!(!json.to_string().contains("null"), "{json}");
}

#[test]
fn parallel_recorders_lose_nothing() {
    let metrics = Metrics::new(Clock::manual(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for i in 0..5000u64 {
                    metrics.request("GET", 200, Duration::from_micros(i));
                    metrics.message(&format!("channel-{}", i % 300), Intake::Accepted);
                    drop(metrics.open_websocket());
                }
            });
        }
    });
    let (json, page) = rendered(&metrics, &External::default());
    assert_eq!(json["requestCount"], 40_000);
    assert_eq!(json["activeConnections"], 0);
    let channels: Vec<_> = page.iter().filter(|(name, _)| name.contains("result=\"accepted\"")).collect();
    assert_eq!((channels.len(), channels.iter().map(|(_, v)| **v).sum::<f64>()), (257, 40_000.0));
}

#[test]
#[ignore = "needs promtool (Debian: prometheus)"]
fn promtool_finds_nothing() {
    let metrics = Metrics::new(Clock::system());
    metrics.message("a\"b\\c\nd", Intake::Accepted);
    metrics.request("GET", 200, MS);
    let page = metrics.render_prometheus(&External::default());
    let child = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = child.expect("promtool starts");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty() && out.stdout.is_empty(), "{out:?}");
}
