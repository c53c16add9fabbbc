//! The same promises where the provider speaks Anthropic's format.

use serde_json::{Value, json};

use super::impatient;
use super::provider::{check_failing, check_recovering, hurried, is_whole, modes, sometimes};
use crate::support::gateway::{Gateway, USER};
use crate::support::merged;
use crate::support::model::{Act, Model};
use crate::support::ws::Ws;

#[test]
fn a_webhook_that_waits_gets_the_reply_and_the_history_reaches_the_model() {
    let model = Model::echo().anthropic();
    let config = json!({"agents": {"main": {"systemPrompt": "You are a lamp.", "maxOutputTokens": 77}}});
    let gateway = Gateway::start(merged(model.config(), config));
    assert_eq!(gateway.ask("ana", "one"), "echo: one");
    assert_eq!(gateway.ask("ana", "two"), "echo: two");
    let body = &model.asked()[1].body;
    assert!(body["system"].as_str().unwrap().contains("You are a lamp."), "{body:#}");
    assert_eq!((&body["max_tokens"], &body["stream"], &body["model"]), (&json!(77), &json!(true), &json!("stub")));
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert!(model.asked()[1].history().contains("echo: one"));
}

#[test]
fn deltas_come_over_the_websocket_while_the_model_speaks() {
    let model = Model::scripted(|_| Act::Slowly(30, vec!["one ".into(), "two ".into(), "three".into()])).anthropic();
    let gateway = Gateway::start(model.config());
    let mut ws = Ws::join(&gateway, USER);
    ws.send(json!({"type": "message", "id": "c1", "message": "count"}));
    let mut frames: Vec<Value> = Vec::new();
    while frames.last().is_none_or(|f| f["type"] != "message") {
        frames.push(ws.until_any(&["accepted", "delta", "message"]));
    }
    let deltas: Vec<_> = frames.iter().filter(|f| f["type"] == "delta").map(|f| f["text"].as_str().unwrap()).collect();
    assert!(deltas.len() >= 2 && deltas.concat() == "one two three", "{deltas:?}");
    assert_eq!(frames.last().unwrap()["message"], "one two three");
}

#[test]
fn a_provider_that_keeps_failing_or_recovers() {
    for (name, act) in modes() {
        check_failing(name, &sometimes(usize::MAX, act.clone()).anthropic());
        if !is_whole(name) {
            check_recovering(name, &sometimes(1, act).anthropic());
        }
    }
}

#[test]
fn failures_are_classed() {
    let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "no"}}).to_string();
    for (status, kind, wanted, code, times) in [
        (401, "authentication_error", 502, "upstream_failed", 1),
        (400, "invalid_request_error", 502, "upstream_failed", 1),
        (529, "overloaded_error", 502, "upstream_failed", 2),
    ] {
        let model = sometimes(usize::MAX, Act::Status(status, vec![], error(kind))).anthropic();
        let gateway = Gateway::start(impatient(hurried(&model), 1, 10));
        let answer = gateway.post("/webhook/default?wait=15000", json!({"userId": "ana", "message": "ill"}));
        answer.expect_error(wanted, code);
        assert_eq!(model.times("ill"), times, "after {status}");
    }
}

#[test]
fn the_key_is_seen_by_nobody_else() {
    let model = sometimes(usize::MAX, Act::Status(401, vec![], "bad key key-00000000000000000000".into())).anthropic();
    let gateway = Gateway::start(merged(hurried(&model), json!({"log": {"level": "debug"}})));
    let id = gateway.tell("ana", "ill");
    gateway.until_state(&id, "failed", 15);
    for path in ["/api/config", "/api/agents", &format!("/api/messages/{id}")] {
        assert!(!gateway.get(path).text().contains("key-0000"), "{path} shows the key");
    }
    assert!(!gateway.log().contains("key-0000"), "the log shows the key");
}
