//! Who gets in, what each role may do, and what guessing costs.

mod browser;
mod limits;
mod oauth;
mod owners;
mod replay;
mod webhook;

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER, credentials};
use crate::support::http::Answer;
use crate::support::model::echo_config;
use crate::support::{eventually, merged};

/// What may be read without a credential; everything else is refused with 401.
const PUBLIC: [&str; 4] = ["/", "/health", "/ready", "/openapi.json"];

/// The least role of each route that changes or shows something of others.
const ROLES: &[(&str, &str, &str)] = &[
    ("GET", "/api/config", "admin"),
    ("PUT", "/api/config", "admin"),
    ("PATCH", "/api/config", "admin"),
    ("GET", "/api/audit", "admin"),
    ("GET", "/api/logs", "admin"),
    ("GET", "/api/channels", "operator"),
    ("POST", "/api/channels/default/reconnect", "operator"),
    ("GET", "/api/agents", "operator"),
    ("GET", "/api/tools", "operator"),
    ("DELETE", "/api/tools/rules/rul_x", "operator"),
    ("GET", "/api/approvals", "operator"),
    ("GET", "/api/approvals/apr_x", "operator"),
    ("POST", "/api/approvals/apr_x", "operator"),
    ("GET", "/api/outbox", "operator"),
    ("POST", "/api/outbox/dlv_x/retry", "operator"),
    ("DELETE", "/api/outbox/dlv_x", "operator"),
    ("GET", "/api/metrics", "operator"),
    ("GET", "/metrics", "operator"),
];

/// The described routes with their parameters filled in: `(METHOD, path)`.
fn described(gateway: &Gateway) -> Vec<(String, String)> {
    let api = gateway.call("GET", "/openapi.json").send().expect(200).json();
    let mut routes = Vec::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        let filled: Vec<&str> = path.split('/').map(|p| if p.starts_with('{') { "x" } else { p }).collect();
        for method in methods
            .as_object()
            .expect("methods")
            .keys()
            .filter(|m| matches!(m.as_str(), "get" | "put" | "post" | "patch" | "delete"))
        {
            routes.push((method.to_uppercase(), filled.join("/")));
        }
    }
    assert!(routes.len() > 15, "{routes:?}");
    routes
}

fn try_route(gateway: &Gateway, method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut call = gateway.call(method, path);
    if let Some(token) = token {
        call = call.token(token);
    }
    if method != "GET" && method != "DELETE" {
        call = call.header("Content-Type", "application/json").body("{"); // so that nothing is done even where it is allowed
    }
    call.send()
}

#[test]
fn every_route_wants_a_credential() {
    let gateway = Gateway::start(echo_config());
    let before = gateway.read_config();
    let mut routes = described(&gateway);
    routes.extend(ROLES.iter().map(|(m, p, _)| (m.to_string(), p.to_string())));
    routes.push(("GET".into(), "/ws".into()));
    routes.push(("POST".into(), "/webhook/default".into()));
    let mut open = BTreeSet::new();
    for (method, path) in &routes {
        let answer = try_route(&gateway, method, path, None);
        if answer.status == 401 {
            assert_eq!(answer.header("www-authenticate").map(|v| v.starts_with("Bearer")), Some(true), "{method} {path}");
            let message = if path.starts_with("/v1/") {
                answer.expect_openai_error(401, "invalid_api_key")["message"].as_str().unwrap_or_default().to_string()
            } else {
                answer.expect_error(401, "unauthorized").field("message")
            };
            assert_eq!(message, "Unauthorized", "{method} {path}");
        } else if path == "/ws" {
            assert!(matches!(answer.status, 400 | 426), "no handshake: {}", answer.status); // its credential may come in a frame
        } else {
            open.insert(path.clone());
        }
    }
    open.retain(|p| !PUBLIC.contains(&p.as_str()));
    assert!(open.is_empty(), "open to anybody: {open:?}");
    assert_eq!(gateway.read_config(), before);
}

#[test]
fn each_role_may_do_what_it_may_and_no_more() {
    let gateway = Gateway::start(echo_config());
    let before = gateway.read_config();
    for (method, path, least) in ROLES {
        for (token, role) in [(USER, "user"), (OPERATOR, "operator")] {
            let allowed = *least == role;
            let answer = try_route(&gateway, method, path, Some(token));
            if allowed {
                assert!(!matches!(answer.status, 401 | 403 | 405), "{method} {path} as {role}: {}", answer.text());
            } else {
                answer.expect_error(403, "forbidden");
            }
        }
    }
    for (method, path) in described(&gateway) {
        let answer = try_route(&gateway, &method, &path, Some(ADMIN));
        if !path.starts_with("/webhook") {
            assert!(!matches!(answer.status, 401 | 403), "{method} {path} as admin: {}", answer.text());
        }
    }
    assert_eq!(gateway.read_config(), before);
}

#[test]
fn what_is_no_credential_is_refused() {
    let gateway = Gateway::start(echo_config());
    let long = format!("Bearer {}", "x".repeat(8000));
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer null",
        "Bearer []",
        "Bearer {}",
        "Bearer undefined",
        "Basic YWRtaW46YWRtaW4=",
        &format!("bearer{ADMIN}"),
        &format!("Token {ADMIN}"),
        ADMIN,
        &format!("Bearer {ADMIN}x"),
        &format!("Bearer {}", &ADMIN[1..]),
        &format!("Bearer {} {ADMIN}", "x"),
        &format!("Bearer {}", ADMIN.to_uppercase()),
        "Bearer ***",
        &long,
    ] {
        let answer = gateway.call("GET", "/api/config").header("Authorization", value).send();
        assert!(matches!(answer.status, 401 | 429), "{value:.60}: {}", answer.status);
    }
    for path in ["/api/config?token=", "/api/config?access_token=", "/api/config?auth=", "/metrics?token="] {
        let answer = gateway.call("GET", &format!("{path}{ADMIN}")).send();
        assert!(matches!(answer.status, 401 | 429), "{path}: {}", answer.status);
    }
    let body = gateway.call("PATCH", "/api/config").json(&json!({"token": ADMIN})).send();
    assert!(matches!(body.status, 401 | 429));
    let cookie = gateway.call("GET", "/api/config").header("Cookie", &format!("token={ADMIN}")).send();
    assert!(matches!(cookie.status, 401 | 429));
    // The scheme's name is case-insensitive (RFC 9110), the right token still works.
    gateway.call("GET", "/api/config").header("Authorization", &format!("bearer {ADMIN}")).send().expect(200);
    assert!(!gateway.log().contains(ADMIN), "the log shows a token");
}

#[test]
fn two_authorizations_are_none() {
    let gateway = Gateway::start(echo_config());
    let call = gateway.call("GET", "/api/config").token("wrong-token-0123456789").token(ADMIN).send();
    assert!(matches!(call.status, 400 | 401), "{}", call.status);
}

fn wrong(gateway: &Gateway, n: usize) -> u16 {
    gateway.call("GET", "/api/config").token(&format!("wrong-token-{n:04}-0123456789")).send().status
}

#[test]
fn mode_none_needs_no_credential_and_only_on_loopback() {
    let config = merged(echo_config(), json!({"gateway": {"auth": {"mode": "none"}}}));
    let gateway = Gateway::start(config.clone());
    gateway.call("GET", "/api/config").send().expect(200);
    let body = json!({"userId": "ana", "message": "hi"});
    gateway.call("POST", "/webhook/default").json(&body).send().expect(202);
    drop(gateway);
    let mut open = Gateway::prepare(merged(config, json!({"gateway": {"listen": "0.0.0.0:0"}})));
    open.spawn();
    assert_eq!(open.wait_exit(10).code(), Some(3), "{}", open.log());
    assert!(open.log().contains("allowInsecure"), "says what to do: {}", open.log());
}

#[test]
fn a_token_that_protects_nothing_refuses_to_start() {
    for token in [
        "",
        " ",
        "changeme",
        "short",
        "secret",
        "password",
        "your-token-here",
        "changeme-changeme",
        "${GATELET_TOKEN}",
        "***",
        "0123456789abcde",
    ] {
        let mut gateway =
            Gateway::prepare(merged(echo_config(), json!({"gateway": {"auth": {"mode": "token", "token": token}}})));
        gateway.spawn();
        assert_eq!(gateway.wait_exit(10).code(), Some(3), "{token:?} started");
        assert!(gateway.log().contains("gateway.auth.token"), "{token:?}: {}", gateway.log());
    }
    for auth in [
        json!({"mode": "token", "token": ADMIN, "tokens": [{"name": "x", "role": "user", "token": "short"}]}),
        json!({"mode": "token", "token": {"env": "GATELET_SUITE_UNSET"}}),
        json!({"mode": "token", "token": {"file": "/nonexistent/token"}}),
        json!({"mode": "token", "token": ADMIN, "tokens": [{"name": "x", "role": "user", "token": ADMIN}]}),
    ] {
        let mut gateway = Gateway::prepare(json!({"gateway": {"auth": auth}}));
        gateway.spawn();
        assert_eq!(gateway.wait_exit(10).code(), Some(3), "{auth}");
    }
}

#[test]
fn failed_logins_are_in_the_audit_trail() {
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"auth": credentials()}})));
    wrong(&gateway, 1);
    let audit = eventually("the entry", 5, || Some(gateway.get("/api/audit").expect(200)).filter(|a| a.text().contains("login")));
    assert!(!audit.text().contains("wrong-token"), "the guess itself is no one's business: {}", audit.text());
}
