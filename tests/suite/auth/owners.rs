//! Whose memory and usage it is.

use serde_json::json;

use crate::support::eventually;
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, OTHER, USER};
use crate::support::http::Answer;
use crate::support::model::echo_config;

fn call(gateway: &Gateway, token: &str, method: &str, path: &str, body: serde_json::Value) -> Answer {
    let call = gateway.call(method, path).token(token);
    if body.is_null() { call.send() } else { call.json(&body).send() }
}

#[test]
fn a_users_notes_are_its_own() {
    let gateway = Gateway::start(echo_config());
    let none = || json!(null);
    let note = call(&gateway, USER, "POST", "/api/memory", json!({"text": "likes tea"})).expect(201).json();
    let path = format!("/api/memory/{}", note["id"].as_str().unwrap());
    assert_eq!((&note["userId"], &note["agent"], &note["text"]), (&json!("ana"), &json!("main"), &json!("likes tea")));
    assert!(path.starts_with("/api/memory/not_"));
    // Another user learns nothing of it, not even that it is there.
    for method in ["PUT", "DELETE"] {
        let body = if method == "PUT" { json!({"text": "x"}) } else { none() };
        let there = call(&gateway, OTHER, method, &path, body.clone()).expect_error(404, "not_found");
        let gone = call(&gateway, OTHER, method, "/api/memory/not_x", body).expect_error(404, "not_found");
        assert_eq!(there.field("message"), gone.field("message"));
    }
    call(&gateway, OTHER, "GET", "/api/memory?userId=ana", none()).expect_error(403, "forbidden");
    call(&gateway, OTHER, "POST", "/api/memory", json!({"userId": "ana", "text": "x"})).expect_error(403, "forbidden");
    assert_eq!(call(&gateway, OTHER, "GET", "/api/memory", none()).expect(200).json()["memory"], json!([]));
    let changed = call(&gateway, OPERATOR, "PUT", &path, json!({"text": "likes coffee"})).expect(200).json();
    assert_eq!(changed["text"], "likes coffee");
    let listed = call(&gateway, OPERATOR, "GET", "/api/memory?userId=ana", none()).expect(200).json();
    assert_eq!((&listed["memory"][0]["text"], &listed["next"]), (&json!("likes coffee"), &json!(null)));
    call(&gateway, USER, "DELETE", &path, none()).expect(204);
    call(&gateway, USER, "DELETE", &path, none()).expect_error(404, "not_found");
    for body in [
        json!({}),
        json!({"text": ""}),
        json!({"text": "x".repeat(2001)}),
        json!({"text": 1}),
        json!({"text": "x", "agent": "gone"}),
    ] {
        call(&gateway, USER, "POST", "/api/memory", body).expect_error(400, "validation_failed");
    }
    let audit = eventually("the traces", 5, || {
        let audit = gateway.get("/api/audit").expect(200).text();
        ["memory.added", "memory.changed", "memory.forgotten"].iter().all(|a| audit.contains(a)).then_some(audit)
    });
    assert!(!audit.contains("coffee"), "the text is nobody's business: {audit}");
}

#[test]
fn usage_is_shown_to_whom_it_concerns() {
    let gateway = Gateway::start(echo_config());
    gateway.ask("ana", "hi");
    gateway.ask("bob", "hi");
    let users = |token: &str, query: &str| {
        let usage = call(&gateway, token, "GET", &format!("/api/usage{query}"), json!(null)).expect(200).json();
        let mut users: Vec<_> = usage["usage"].as_array().unwrap().iter().map(|u| u["userId"].to_string()).collect();
        users.sort();
        users
    };
    assert_eq!(users(ADMIN, ""), ["\"ana\"", "\"bob\""]);
    assert_eq!(users(OPERATOR, "?days=1&userId=bob"), ["\"bob\""]);
    assert_eq!(users(USER, "?days=366"), ["\"ana\""]);
    call(&gateway, USER, "GET", "/api/usage?userId=bob", json!(null)).expect_error(403, "forbidden");
    for days in ["0", "367", "x", "-1", ""] {
        call(&gateway, USER, "GET", &format!("/api/usage?days={days}"), json!(null)).expect_error(400, "validation_failed");
    }
    let one = &call(&gateway, USER, "GET", "/api/usage", json!(null)).json()["usage"][0];
    assert_eq!(
        (&one["agent"], &one["tokensIn"], &one["tokensOut"], &one["calls"]),
        (&json!("main"), &json!(5), &json!(5), &json!(1))
    );
}
