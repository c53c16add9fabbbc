//! Every view in a browser, and what a new gateway shows.

use serde_json::json;

use crate::console::browse;
use crate::support::gateway::Gateway;
use crate::support::merged;
use crate::support::model::{Act, Model, Question};
use crate::support::sink::Sink;
use crate::tools::{call, orders};

#[test]
fn every_view_at_every_width() {
    let model = Model::scripted(|q: &Question| match (q.text.as_str(), orders(&q.text)) {
        ("ill", _) => Act::Status(401, vec![], String::new()),
        (_, calls) if q.rounds == 0 && !calls.is_empty() => Act::Call(calls),
        (text, _) => Act::Say(format!("echo: **{text}**")),
    });
    let sink = Sink::scripted(|_, _| 400.into());
    let more = json!({
        "channels": {"door": {"type": "webhook", "token": "door-token-0123456789abcdef", "replyUrl": sink.url},
            "broker": {"type": "mqtt", "url": "mqtt://127.0.0.1:9"}},
        "jobs": [{"id": "早安", "cron": "0 7 * * *", "agent": "main", "prompt": "What is on today? 今天有什么安排？", "userId": "ana"}],
        "gateway": {"retry": {"maxRetries": 0, "delay": 10}},
        "tools": {"default": "ask"},
    });
    let mut gateway = Gateway::start(merged(model.config(), more));
    gateway.ask("ana", "hello 你好");
    let door = gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef");
    door.json(&json!({"userId": "bob", "message": "an answer that nobody takes"})).send().expect(202);
    let id = gateway.tell("carl", "ill");
    gateway.until_state(&id, "failed", 15);
    let (name, arguments) = call("http.get", json!({"url": "http://127.0.0.1:9/"}));
    let id = gateway.tell("dora", &format!("CALL {name} {arguments}"));
    gateway.until_state(&id, "waiting_approval", 15);
    sink.until(1, 15);
    browse("tour.mjs", &mut gateway, |_, _| "filled".into());
}

#[test]
fn a_new_gateway_shows_the_next_step() {
    let mut gateway =
        Gateway::start(json!({"agents": {"main": {"provider": "builtin"}}, "providers": {"builtin": {"type": "builtin"}}}));
    browse("tour.mjs", &mut gateway, |_, _| "new".into());
}
