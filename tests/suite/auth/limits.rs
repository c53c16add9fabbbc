//! What guessing costs, and how often each key may ask.

use std::time::{Duration, Instant};

use serde_json::json;

use super::wrong;
use crate::support::gateway::{Gateway, OPERATOR, USER};
use crate::support::model::echo_config;
use crate::support::ws::Ws;
use crate::support::{eventually, merged, pause};

#[test]
fn guessing_is_limited_over_http_and_websocket_together() {
    let gateway = Gateway::start(echo_config());
    let mut statuses = Vec::new();
    for n in 0..5 {
        statuses.push(wrong(&gateway, n));
        let refused = Ws::dial(&gateway, &[("Authorization", &format!("Bearer wrong-socket-token-{n}"))]);
        statuses.push(refused.err().expect("refused").status);
    }
    assert!(statuses.iter().all(|s| *s == 401), "{statuses:?}");
    let limited = gateway.call("GET", "/api/config").token("wrong-token-9999-0123456789").send();
    assert!(
        limited.header("retry-after").and_then(|v| v.parse::<u64>().ok()).is_some_and(|s| (1..=60).contains(&s)),
        "{:?}",
        limited.headers
    );
    limited.expect_error(429, "rate_limited");
    assert!(Ws::dial(&gateway, &[("Authorization", "Bearer wrong-socket-token-9")]).is_err_and(|a| a.status == 429));
    // The right credential still works from that address, and no header makes another address of it.
    gateway.get("/api/config").expect(200);
    let mut ws = Ws::join(&gateway, USER);
    ws.say("c1", "hi");
    for (name, value) in [("X-Forwarded-For", "203.0.113.9"), ("X-Real-IP", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")] {
        let call = gateway.call("GET", "/api/config").token("wrong-token-8888-0123456789").header(name, value).send();
        assert_eq!(call.status, 429, "{name}");
    }
    gateway.call("GET", "/health").send().expect(200);
}

#[test]
fn first_frames_are_guesses_too() {
    let gateway = Gateway::start(echo_config());
    for n in 0..10 {
        let mut ws = Ws::open(&gateway, &[]);
        ws.send(json!({"type": "auth", "token": format!("wrong-token-{n}-0123456789")}));
        assert_eq!(ws.close_code(Duration::from_secs(5)), Some(1008));
    }
    assert_eq!(wrong(&gateway, 0), 429);
    let mut ws = Ws::open(&gateway, &[]);
    ws.send(json!({"type": "auth", "token": USER}));
    ws.until("ready");
}

#[test]
fn parallel_guesses_do_not_slip_past_the_count() {
    let gateway = Gateway::start(echo_config());
    let statuses = crate::support::side_by_side(60, |n| wrong(&gateway, n));
    let evaluated = statuses.iter().filter(|s| **s == 401).count();
    assert_eq!(evaluated, 10, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 401 | 429)));
}

#[test]
fn webhook_secrets_are_guessed_no_faster_and_get_requests_cost_nothing() {
    let config = json!({"channels": {"door": {"type": "webhook", "token": "door-token-0123456789abcdef"}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    for _ in 0..30 {
        gateway.call("GET", "/webhook/door").send();
    }
    let body = json!({"userId": "ana", "message": "hi"});
    let guess = |n: usize| gateway.call("POST", "/webhook/door").token(&format!("wrong-door-{n}")).json(&body).send().status;
    let statuses: Vec<u16> = (0..15).map(guess).collect();
    assert!(statuses[..10].iter().all(|s| *s == 401) && statuses[10..].iter().all(|s| *s == 429), "{statuses:?}");
    gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef").json(&body).send().expect(202);
}

#[test]
fn requests_are_limited_for_each_key() {
    let config = json!({"gateway": {"rateLimit": {"enabled": true, "window": 2000, "maxRequests": 5}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let ask = |token: &str| gateway.call("GET", "/api/sessions/ana").token(token).send();
    let began = Instant::now();
    for n in 0..5 {
        assert_ne!(ask(USER).status, 429, "request {n}");
    }
    let limited = ask(USER);
    let reset: u64 = limited.header("ratelimit-reset").expect("RateLimit-Reset").parse().expect("seconds");
    assert!(reset <= 2, "{reset}");
    assert_eq!((limited.header("ratelimit-limit"), limited.header("ratelimit-remaining")), (Some("5"), Some("0")));
    assert!(limited.header("retry-after").is_some());
    let message = limited.expect_error(429, "rate_limited").field("message");
    assert!(message.starts_with("Rate limit exceeded. Reset in ") && message.ends_with("ms"), "{message}");
    assert_ne!(ask(OPERATOR).status, 429, "another principal has its own");
    gateway.call("GET", "/health").send().expect(200);
    pause(2100u64.saturating_sub(began.elapsed().as_millis() as u64));
    assert_ne!(ask(USER).status, 429, "the window opened with the first request and is over");
    // A webhook's key is the verified channel and user.
    let post = |user: &str| gateway.post("/webhook/default", json!({"userId": user, "message": "hi"})).status;
    let statuses: Vec<u16> = (0..6).map(|_| post("carl")).collect();
    assert_eq!((statuses.iter().filter(|s| **s == 429).count(), post("dora")), (1, 202), "{statuses:?}");
}

#[test]
fn one_limit_for_all_where_it_is_said() {
    let config = json!({"gateway": {"rateLimit": {"enabled": true, "window": 60000, "maxRequests": 4, "perUser": false}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let statuses: Vec<u16> = [USER, OPERATOR, USER, OPERATOR, USER, OPERATOR]
        .iter()
        .map(|t| gateway.call("GET", "/api/sessions/ana").token(t).send().status)
        .collect();
    assert_eq!(statuses.iter().filter(|s| **s == 429).count(), 2, "{statuses:?}");
}

#[test]
fn a_websocket_user_is_limited_like_any_other() {
    let config = json!({"gateway": {"rateLimit": {"enabled": true, "window": 60000, "maxRequests": 5}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let mut ws = Ws::join(&gateway, USER);
    for n in 0..12 {
        ws.send(json!({"type": "message", "id": format!("c{n}"), "message": "hi"}));
    }
    let error = eventually("a refusal", 10, || match ws.next(Duration::from_secs(2)) {
        crate::support::ws::Frame::Json(v) if v["type"] == "error" => Some(v["status"].as_u64().unwrap_or_default()),
        crate::support::ws::Frame::Close(1008) => Some(429),
        _ => None,
    });
    assert_eq!(error, 429);
}
