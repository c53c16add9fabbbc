//! The life of agents and of their providers, as operators see and change it while the gateway runs.

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::model::{Act, Model};
use crate::support::{eventually, merged};

fn of<'a>(list: &'a Value, kind: &str, name: &str) -> &'a Value {
    list[kind].as_array().and_then(|l| l.iter().find(|a| a["name"] == name)).unwrap_or(&Value::Null)
}

#[test]
fn an_agent_is_switched_off_and_on_without_touching_others() {
    let model = Model::slow(400);
    let config = merged(
        model.config(),
        json!({"agents": {"second": {"provider": "stub", "model": "stub"}}, "bindings": [{"channel": "*", "user": "bob", "agent": "second"}, {"channel": "*", "user": "ana", "agent": "main"}]}),
    );
    let gateway = Gateway::start(config);
    let running = gateway.tell("bob", "stays");
    gateway.until_state(&running, "running", 10);
    let switch = |enabled: bool| {
        let patch = json!({"agents": {"main": {"enabled": enabled}}});
        gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200);
    };
    switch(false);
    let refused = gateway.post("/webhook/default?wait=5000", json!({"userId": "ana", "message": "hi"}));
    assert!(refused.status >= 400, "{}: {}", refused.status, refused.text());
    let agents = gateway.get("/api/agents").expect(200).json();
    assert_eq!(
        (&of(&agents, "agents", "main")["enabled"], &of(&agents, "agents", "second")["enabled"]),
        (&json!(false), &json!(true))
    );
    gateway.until_state(&running, "answered", 10);
    assert_eq!(gateway.ask("bob", "still here"), "echo: still here");
    let models = gateway.get("/v1/models").expect(200).json()["data"].to_string();
    assert!(models.contains("gatelet/second") && !models.contains("gatelet/main"), "{models}");
    switch(true);
    assert_eq!(gateway.ask("ana", "back"), "echo: back");
}

#[test]
fn a_provider_that_keeps_failing_is_passed_over_and_looked_after() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let is_ill = Arc::new(AtomicBool::new(true));
    let ill = is_ill.clone();
    let first = Model::scripted(move |q| match ill.load(Ordering::SeqCst) {
        true => Act::Status(500, vec![], "boom".into()),
        false => Act::Say(format!("first: {}", q.text)),
    });
    let second = Model::scripted(|q| Act::Say(format!("second: {}", q.text)));
    let config = json!({
        "gateway": {"heartbeat": {"interval": 1000}},
        "providers": {"a": first.provider(), "b": second.provider()},
        "agents": {"main": {"provider": "a", "model": "stub", "fallbacks": ["b"]}}});
    let gateway = Gateway::start(config);
    for n in 0..5 {
        assert_eq!(gateway.ask("ana", &n.to_string()), format!("second: {n}"));
    }
    let state = || of(&gateway.get("/api/agents").expect(200).json(), "providers", "a")["state"].clone();
    assert_eq!(state(), "open");
    let asked = first.asked().len();
    assert_eq!(gateway.ask("ana", "next"), "second: next");
    assert_eq!(first.asked().len(), asked, "it is passed over");
    is_ill.store(false, Ordering::SeqCst);
    eventually("the heartbeat's look at it", 20, || (state() == "closed").then_some(()));
    assert_eq!(gateway.ask("ana", "back"), "first: back");
    let page = gateway.get("/metrics").expect(200).text();
    assert!(page.lines().any(|l| l.starts_with("gatelet_tokens_total{provider=\"b\"")), "tokens by provider");
}
