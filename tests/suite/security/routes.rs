//! The walk: every route of the table as every caller there is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DOOR, Described, afresh, check_answer, described, walked};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::http::Answer;

/// Who may use which route, decided by hand: a route that is not here has been decided by nobody, and fails the walk.
const DECIDED: &[(&str, &[&str])] = &[
    ("public", &["GET /", "GET /health", "GET /openapi.json", "GET /ready"]),
    ("channel", &["POST /webhook/{channel}"]),
    (
        "user",
        &[
            "DELETE /api/memory/{id}",
            "DELETE /api/sessions/{userId}",
            "GET /api/me",
            "GET /api/memory",
            "GET /api/messages/{id}",
            "GET /api/sessions",
            "GET /api/sessions/{userId}",
            "GET /api/usage",
            "GET /v1/models",
            "GET /v1/models/{model}",
            "GET /ws",
            "POST /api/memory",
            "POST /api/message",
            "POST /v1/chat/completions",
            "PUT /api/memory/{id}",
        ],
    ),
    (
        "operator",
        &[
            "DELETE /api/outbox/{id}",
            "DELETE /api/tools/rules/{id}",
            "GET /api/agents",
            "GET /api/approvals",
            "GET /api/approvals/{id}",
            "GET /api/channels",
            "GET /api/messages",
            "GET /api/metrics",
            "GET /api/outbox",
            "GET /api/pairings",
            "GET /api/tools",
            "GET /metrics",
            "POST /api/approvals/{id}",
            "POST /api/channels/{name}/reconnect",
            "POST /api/messages/{id}/retry",
            "POST /api/outbox/{id}/retry",
            "POST /api/pairings/{code}",
        ],
    ),
    (
        "admin",
        &[
            "DELETE /api/jobs/{id}",
            "GET /api/audit",
            "GET /api/config",
            "GET /api/config/schema",
            "GET /api/jobs",
            "GET /api/jobs/{id}/runs",
            "GET /api/logs",
            "PATCH /api/config",
            "POST /api/jobs",
            "POST /api/jobs/{id}/run",
            "PUT /api/config",
            "PUT /api/jobs/{id}",
        ],
    ),
];

/// Who asks, from the least to the most; the webhook's sender has a credential that is good for its own channel alone.
const CALLERS: [(&str, Option<&str>); 5] =
    [("nobody", None), ("webhook", Some(DOOR)), ("user", Some(USER)), ("operator", Some(OPERATOR)), ("admin", Some(ADMIN))];

fn rank(role: &str) -> usize {
    ["user", "operator", "admin"].iter().position(|r| *r == role).map_or(0, |n| n + 1)
}

fn ask(gateway: &Gateway, route: &Described, token: Option<&str>) -> Answer {
    let call = afresh(route.call(gateway));
    token.into_iter().fold(call, |call, token| call.token(token)).send()
}

#[track_caller]
fn check_refused(answer: Answer, route: &Described, status: u16) {
    let what = format!("{} {}", route.method, route.path);
    let (code, openai) =
        if status == 401 { ("unauthorized", "invalid_api_key") } else { ("forbidden", "insufficient_permissions") };
    if status == 401 {
        assert!(answer.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer")), "{what}");
    }
    let answer = answer.expect(status);
    let json = answer.json();
    if route.path.starts_with("/v1/") {
        assert!(json["error"]["code"] == openai || status == 403, "{what}: {json}");
    } else {
        assert_eq!(json["code"], code, "{what}: {json}");
    }
}

#[track_caller]
fn check(gateway: &Gateway, route: &Described, caller: (&str, Option<&str>)) {
    let answer = ask(gateway, route, caller.1);
    let what = format!("{} {} as {}: {} {}", route.method, route.path, caller.0, answer.status, answer.text());
    check_answer(&answer, &what);
    let allowed = |answer: &Answer| assert!(!matches!(answer.status, 401 | 403 | 405), "{what}");
    match (route.need.as_str(), caller.0) {
        // Its credential may come in the first frame: `tests/suite/websocket/entry.rs`. Without a handshake there is nothing.
        _ if route.path == "/ws" => assert!(matches!(answer.status, 400 | 426), "{what}"),
        ("public", _) | ("channel", "webhook") => allowed(&answer),
        // This channel has a credential of its own, which the gateway's tokens are not.
        ("channel", _) | (_, "nobody" | "webhook") => check_refused(answer, route, 401),
        (need, role) if rank(role) < rank(need) => check_refused(answer, route, 403),
        _ => allowed(&answer),
    }
}

/// Also the cases A4, A6, C1: no route forgets to ask, a webhook's credential opens its channel alone, and coming from this
/// machine is no credential.
#[test]
fn every_route_wants_a_credential() {
    let gateway = walked(json!({}));
    let before = gateway.read_config();
    let routes = described(&gateway);
    let decided: BTreeMap<&str, &str> =
        DECIDED.iter().flat_map(|(need, routes)| routes.iter().map(move |route| (*route, *need))).collect();
    let found: BTreeMap<String, &str> = routes
        .iter()
        .filter(|r| !r.path.starts_with("/console/"))
        .map(|r| (format!("{} {}", r.method, r.path), r.need.as_str()))
        .collect();
    let found: BTreeMap<&str, &str> = found.iter().map(|(route, need)| (route.as_str(), *need)).collect();
    assert_eq!(found, decided, "left: the gateway's table; right: what was decided for it in this test");
    for route in &routes {
        for caller in &CALLERS[..2] {
            check(&gateway, route, *caller);
        }
    }
    // Without a proxy that is trusted, the peer is this machine, and that is worth nothing either.
    let near = Gateway::start(crate::support::model::echo_config());
    near.call("GET", "/api/config").send().expect_error(401, "unauthorized");
    for name in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-User", "Remote-User", "X-Gatelet-User", "X-User"] {
        for value in ["127.0.0.1", "::1", "admin", "for=127.0.0.1"] {
            near.call("GET", "/api/config").header(name, value).send().expect_error(401, "unauthorized");
        }
    }
    assert_eq!(gateway.read_config(), before);
}

/// Also A7, A13, D6, D13: what a role may is decided for each route, and a lesser token reaches nothing above it.
#[test]
fn each_role_may_do_what_it_may_and_no_more() {
    let gateway = walked(json!({}));
    let before = gateway.read_config();
    let routes = described(&gateway);
    for route in &routes {
        for caller in &CALLERS[2..] {
            check(&gateway, route, *caller);
        }
    }
    crate::support::figure(&format!("the walk: {} routes, {} callers each", routes.len(), CALLERS.len()));
    assert_eq!(gateway.read_config(), before);
}

/// A method that a path doesn't have is no way around its credential, and does nothing with one.
#[test]
fn other_methods_open_nothing() {
    let gateway = walked(json!({}));
    let mut paths: BTreeMap<String, Vec<Described>> = BTreeMap::new();
    for route in described(&gateway) {
        paths.entry(route.path.clone()).or_default().push(route);
    }
    for routes in paths.values() {
        let has = |method: &str| routes.iter().any(|r| r.method == method || (method == "HEAD" && r.method == "GET"));
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X-ADMIN"] {
            if has(method) {
                continue;
            }
            let path = routes[0].filled(|_| "x".into());
            for (who, token) in CALLERS {
                let call = afresh(gateway.call(method, &path));
                let answer = token.into_iter().fold(call, |call, token| call.token(token)).send();
                let what = format!("{method} {path} as {who}: {} {}", answer.status, answer.text());
                check_answer(&answer, &what);
                assert!(matches!(answer.status, 401 | 405 | 501), "{what}");
                let is_open = matches!(routes[0].need.as_str(), "public" | "channel") || path == "/ws";
                assert!(is_open || token.is_some() || answer.status == 401, "{what}: tells a stranger what there is");
            }
        }
    }
    // Headers that other servers take for a method.
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let call = gateway.call("GET", "/api/memory").token(ADMIN).header(name, "DELETE");
        assert!(call.send().expect(200).json()["memory"].is_array(), "{name}");
    }
}

/// A3, A9: what is present but not valid is refused on every way in, and no way in gives a credential to who has none.
#[test]
fn no_answer_to_a_stranger_holds_a_credential() {
    let gateway = walked(json!({}));
    for route in described(&gateway) {
        for token in [None, Some(DOOR), Some("***"), Some("null"), Some("x")] {
            let answer = ask(&gateway, &route, token);
            let shown = format!("{:?} {}", answer.headers, answer.text());
            for credential in [ADMIN, OPERATOR, USER, DOOR] {
                assert!(!shown.contains(credential), "{} {}", route.method, route.path);
            }
        }
    }
    let file: Value = gateway.read_config();
    assert_eq!(file["gateway"]["auth"]["token"], ADMIN, "the file has it, so that this proves something");
}
