//! Who gets in, and what guessing costs. What each role may do is walked in `security/routes.rs`.

mod browser;
mod limits;
mod oauth;
mod owners;
mod replay;
mod webhook;

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway, credentials};
use crate::support::model::echo_config;
use crate::support::{eventually, merged};

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
