//! Seen from outside: health, readiness, metrics that reconcile, the described API.

use serde_json::json;

use super::{DOOR, impatient, with_door};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::model::{Act, Model, echo_config};
use crate::support::sink::Sink;
use crate::support::ws::Ws;
use crate::support::{eventually, merged};

#[test]
fn metrics_reconcile_with_a_counted_run() {
    let model =
        Model::scripted(|q| if q.text == "ill" { Act::Status(401, vec![], String::new()) } else { Act::Say("ok".into()) });
    let gateway = Gateway::start(model.config());
    let numbers = || {
        let json = gateway.get("/api/metrics").expect(200).json();
        let of = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("{name} in {json}"));
        (of("requestCount"), of("errorCount"), json["avgResponseTime"].as_f64().expect("avgResponseTime"))
    };
    let before = numbers();
    for _ in 0..20 {
        gateway.get("/health").expect(200);
    }
    for _ in 0..6 {
        gateway.get("/api/nope").expect(404);
    }
    gateway.post("/webhook/default?wait=10000", json!({"userId": "ana", "message": "ill"})).expect(502);
    for n in 0..5 {
        gateway.tell("ana", &format!("n{n}"));
    }
    let after = numbers();
    assert_eq!(after.0 - before.0, 33, "20 + 7 + 5, and the reading of the metrics itself");
    assert_eq!(after.1 - before.1, 1, "what the caller did wrong is no error of the gateway's");
    assert!(after.2 > 0.0 && after.2 < 1000.0, "avgResponseTime {} ms", after.2);
    let store = gateway.get("/api/metrics").expect(200).json()["store"].clone();
    let commits = store["commits"]["ok"].as_u64().unwrap_or_default();
    assert!((6..200).contains(&commits) && store["commitMs"]["p50"].as_f64() > Some(0.0), "{store}");
}

#[test]
fn open_connections_are_counted() {
    let gateway = Gateway::start(echo_config());
    let active = || gateway.get("/api/metrics").json()["activeConnections"].as_i64().expect("activeConnections");
    let before = active();
    let sockets: Vec<Ws> = (0..5).map(|_| Ws::join(&gateway, USER)).collect();
    assert_eq!(active() - before, 5);
    drop(sockets);
    eventually("the count to go back", 5, || (active() == before).then_some(()));
}

#[test]
fn prometheus_text_is_well_formed() {
    let sink = Sink::new();
    let gateway = Gateway::start(with_door(echo_config(), &sink));
    let body = json!({"userId": "a\"b\\c\n", "message": "hi"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send();
    gateway.ask("ana", "hi");
    let answer = gateway.call("GET", "/metrics").token(OPERATOR).send().expect(200);
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/plain; version=0.0.4")), "{:?}", answer.headers);
    let text = answer.text();
    let mut described = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")) {
            described.insert((line[2..6].to_string(), rest.split(' ').next().unwrap().to_string()));
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("gatelet_"), "{line}");
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        for kind in ["HELP", "TYPE"] {
            let known = |n: &str| described.contains(&(kind.to_string(), n.to_string()));
            assert!(known(name) || known(base), "no # {kind} for {line}");
        }
    }
    for part in ["request", "turn", "deliver"] {
        let named = |l: &&str| l.contains("_bucket{") && l.contains(part);
        assert!(text.lines().any(|l| named(&l)), "a histogram of {part} times in:\n{text}");
    }
}

#[test]
fn ready_tells_operators_more() {
    let gateway = Gateway::start(echo_config());
    let open = gateway.call("GET", "/ready").send().expect(200).json();
    assert_eq!(open["status"], "ready");
    assert!(open.get("checks").is_none(), "{open}");
    let user = gateway.call("GET", "/ready").token(USER).send().expect(200).json();
    assert!(user.get("checks").is_none(), "{user}");
    let operator = gateway.call("GET", "/ready").token(OPERATOR).send().expect(200).json();
    assert!(operator["checks"].is_object() || operator["checks"].is_array(), "{operator}");
}

#[test]
fn every_answer_names_its_request() {
    let gateway = Gateway::start(echo_config());
    for (path, status) in [("/health", 200), ("/nope", 404), ("/api/config", 401), ("/openapi.json", 200)] {
        let first = gateway.call("GET", path).send().expect(status);
        let second = gateway.call("GET", path).send().expect(status);
        let id = first.header("x-request-id").expect("X-Request-Id");
        assert!(!id.is_empty() && Some(id) != second.header("x-request-id"), "{path}");
        let own = gateway.call("GET", path).header("X-Request-Id", "my-own_1").send();
        assert_eq!(own.header("x-request-id"), Some("my-own_1"), "{path}");
        for bad in ["", "a b", "ä", &"x".repeat(65), "a;b"] {
            let answer = gateway.call("GET", path).header("X-Request-Id", bad).send();
            assert_ne!(answer.header("x-request-id"), Some(bad), "{path}");
        }
    }
}

#[test]
fn what_does_not_exist_and_what_is_not_allowed() {
    let gateway = Gateway::start(echo_config());
    for path in [
        "/nope",
        "/api",
        "/api/",
        "/api/nope",
        "/metrics/x",
        "/health/",
        "/webhook",
        "/API/config",
        "/%2e%2e/etc/passwd",
        "/api//config",
    ] {
        gateway.get(path).expect_error(404, "not_found");
    }
    for (method, path) in [("PUT", "/health"), ("DELETE", "/api/config"), ("GET", "/webhook/default"), ("PATCH", "/api/message")]
    {
        let answer = gateway.call(method, path).token(ADMIN).send().expect_error(405, "method_not_allowed");
        let allow = answer.header("allow").expect("Allow").to_string();
        assert!(!allow.contains(method), "{method} {path}: Allow: {allow}");
    }
}

#[test]
fn the_api_is_described() {
    let gateway = Gateway::start(echo_config());
    let api = gateway.call("GET", "/openapi.json").send().expect(200).json();
    assert!(api["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{}", api["openapi"]);
    for (method, path) in [
        ("get", "/health"),
        ("get", "/ready"),
        ("post", "/webhook/{channel}"),
        ("post", "/api/message"),
        ("get", "/api/messages/{id}"),
        ("get", "/api/sessions"),
        ("get", "/api/sessions/{userId}"),
        ("delete", "/api/sessions/{userId}"),
        ("get", "/api/config"),
        ("put", "/api/config"),
        ("patch", "/api/config"),
        ("get", "/api/channels"),
        ("get", "/api/outbox"),
        ("post", "/api/outbox/{id}/retry"),
        ("delete", "/api/outbox/{id}"),
        ("get", "/api/metrics"),
        ("get", "/metrics"),
    ] {
        assert!(
            api["paths"][path][method]["responses"].is_object(),
            "{method} {path} in {:?}",
            api["paths"].as_object().map(|p| p.keys().collect::<Vec<_>>())
        );
    }
}

#[test]
fn channels_and_agents_tell_how_they_are() {
    let sink = Sink::scripted(|_, _| 500.into());
    let model = Model::scripted(|_| Act::Say("ok".into()));
    let gateway = Gateway::start(impatient(with_door(model.config(), &sink), 0, 10));
    let channel = |name: &str| {
        let json = gateway.call("GET", "/api/channels").token(OPERATOR).send().expect(200).json();
        let all = json["channels"].as_array().expect("channels").clone();
        all.into_iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} in {json}"))
    };
    assert_eq!(channel("door")["type"], "webhook");
    let body = json!({"userId": "ana", "message": "hi"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    let failed = eventually("the failure to show", 10, || Some(channel("door")).filter(|c| c["failed"] == 1));
    assert_eq!(failed["received"], 1, "{failed}");
    assert!(failed["lastError"].as_str().is_some_and(|e| e.contains("500")), "{failed}");
    let reconnect = gateway.call("POST", "/api/channels/door/reconnect").token(OPERATOR).send();
    assert!(matches!(reconnect.status, 200 | 202 | 204), "{}", reconnect.text());
    gateway.call("POST", "/api/channels/nope/reconnect").token(OPERATOR).send().expect_error(404, "not_found");
    let agents = gateway.call("GET", "/api/agents").token(OPERATOR).send().expect(200).json();
    assert!(agents["agents"].as_array().is_some_and(|a| a.iter().any(|a| a["name"] == "main")), "{agents}");
}

#[test]
fn over_its_memory_it_takes_nothing_new_and_says_so() {
    let config = json!({"gateway": {"limits": {"maxMemory": 1048576}, "heartbeat": {"interval": 1000}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let told = eventually("ready to tell", 10, || Some(gateway.call("GET", "/ready").send()).filter(|a| a.status == 503));
    assert_eq!(told.field("status"), "unavailable");
    let refused = gateway.post("/webhook/default", json!({"userId": "ana", "message": "hi"}));
    assert!(refused.header("retry-after").is_some());
    refused.expect_error(503, "unavailable");
    assert!(gateway.healthy());
    gateway.get("/api/sessions").expect(200);
}
