//! The WebSocket: frames, receipts and what is sent again without them, who gets in, and how it is closed.

mod bounds;
mod deciding;
mod entry;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, OPERATOR, OTHER, USER};
use crate::support::model::{Act, Model, echo_config};
use crate::support::ws::Ws;
use crate::support::{eventually, pause};

const SOON: Duration = Duration::from_secs(5);

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|f| f["type"].as_str().unwrap_or("?")).collect()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_message_is_accepted_spoken_and_answered() {
    let model = Model::scripted(|_| Act::Slowly(30, ["alpha ", "beta ", "gamma"].map(str::to_string).to_vec()));
    let gateway = Gateway::start(model.config());
    let mut ws = Ws::open(&gateway, &[("Authorization", &bearer(USER))]);
    let ready = ws.until("ready");
    assert_eq!((&ready["userId"], &ready["role"]), (&json!("ana"), &json!("user")), "{ready}");
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    let mut frames = Vec::new();
    ws.send(json!({"type": "message", "id": "c1", "message": "hi"}));
    let message = ws.until_keeping("message", &mut frames);
    let kinds = kinds(&frames);
    assert_eq!(kinds[0], "accepted", "{kinds:?}");
    assert_eq!(kinds.iter().filter(|k| **k == "accepted").count(), 1, "{kinds:?}");
    assert_eq!(frames[0]["id"], "c1");
    let spoken: String = frames.iter().filter(|f| f["type"] == "delta").map(|f| f["text"].as_str().unwrap()).collect();
    assert_eq!(spoken, "alpha beta gamma", "{frames:?}");
    assert!(kinds.iter().filter(|k| **k == "delta").count() >= 2, "while the model speaks: {kinds:?}");
    assert_eq!(message["message"], "alpha beta gamma");
    assert_eq!(message["inReplyTo"], frames[0]["messageId"], "{message}");
    assert!(message["deliveryId"].is_string() && message["messageId"].is_string(), "{message}");
    assert!(frames.iter().filter(|f| f["type"] == "delta").all(|f| f["messageId"] == frames[1]["messageId"]));
    let life = gateway.message(frames[0]["messageId"].as_str().unwrap());
    assert_eq!((&life["state"], &life["userId"], &life["channel"]), (&json!("answered"), &json!("ana"), &json!("websocket")));
}

#[test]
fn the_same_client_id_is_the_same_message() {
    let model = Model::echo();
    let mut gateway = Gateway::start(model.config());
    let mut ws = Ws::join(&gateway, USER);
    let first = ws.say("c1", "once");
    assert_eq!(ws.until("message")["message"], "echo: once");
    assert_eq!(ws.say("c1", "once"), first);
    let mut second = Ws::join(&gateway, USER);
    assert_eq!(second.say("c1", "once"), first, "from another connection too");
    assert_ne!(second.say("c2", "once"), first);
    eventually("both answers", 10, || (model.times("once") == 2).then_some(()));
    gateway.kill9();
    gateway.restart();
    let mut ws = Ws::join(&gateway, USER);
    assert_eq!(ws.say("c1", "once"), first, "after a restart too");
    let mut other = Ws::join(&gateway, OTHER);
    assert_ne!(other.say("c1", "once"), first, "another user's c1 is another message");
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let gateway = Gateway::start(echo_config());
    let mut ws = Ws::join(&gateway, USER);
    ws.say("c1", "keep");
    let first = ws.until("message");
    ws.vanish();
    let mut ws = Ws::join(&gateway, USER);
    let again = ws.until("message");
    assert_eq!((&again["message"], &again["deliveryId"]), (&json!("echo: keep"), &first["deliveryId"]));
    ws.acknowledge(&again);
    ws.say("c2", "next"); // answered behind the ack: so it was read
    let next = ws.until("message");
    ws.acknowledge(&next);
    eventually("the receipts", 5, || {
        let sent = gateway.get("/api/outbox?state=sent").text();
        (sent.contains(first["deliveryId"].as_str()?) && sent.contains(next["deliveryId"].as_str()?)).then_some(())
    });
    ws.vanish();
    let mut ws = Ws::join(&gateway, USER);
    let frames = ws.gather(600);
    assert!(!kinds(&frames).contains(&"message"), "a receipt ends it: {frames:?}");
}

#[test]
fn what_is_not_acknowledged_outlives_the_process() {
    let mut gateway = Gateway::start(echo_config());
    let mut ws = Ws::join(&gateway, USER);
    ws.say("c1", "one");
    ws.until("message");
    ws.say("c2", "two");
    ws.until("message");
    gateway.kill9();
    gateway.restart();
    let mut ws = Ws::join(&gateway, USER);
    assert_eq!(
        (&ws.until("message")["message"], &ws.until("message")["message"]),
        (&json!("echo: one"), &json!("echo: two")),
        "in order"
    );
}

#[test]
fn every_connection_of_a_user_gets_it_and_nobody_else() {
    let gateway = Gateway::start(echo_config());
    let mut all: Vec<Ws> = (0..3).map(|_| Ws::join(&gateway, USER)).collect();
    let mut stranger = Ws::join(&gateway, OTHER);
    all[1].say("c1", "hi");
    for ws in &mut all {
        assert_eq!(ws.until("message")["message"], "echo: hi");
    }
    all.remove(0).vanish(); // the oldest goes: the others still receive
    pause(50);
    gateway.post("/api/message", json!({"userId": "ana", "message": "knock"})).expect(202);
    for ws in &mut all {
        assert_eq!(ws.until("message")["message"], "knock");
    }
    let foreign = stranger.gather(500);
    assert!(foreign.is_empty(), "another user's frames: {foreign:?}");
}

#[test]
fn operators_see_events_and_users_do_not() {
    let gateway = Gateway::start(echo_config());
    let (mut operator, mut user) = (Ws::join(&gateway, OPERATOR), Ws::join(&gateway, OTHER));
    gateway.ask("ana", "hi");
    let event = operator.until("event");
    assert!(event.get("event").or(event.get("kind")).is_some() || event.as_object().is_some_and(|o| o.len() > 1), "{event}");
    let frames = user.gather(500);
    assert!(frames.is_empty(), "{frames:?}");
}

#[test]
fn a_push_is_prompt() {
    let gateway = Gateway::start(echo_config());
    let mut ws = Ws::join(&gateway, USER);
    let mut times = Vec::new();
    for n in 0..50 {
        let began = Instant::now();
        gateway.post("/api/message", json!({"userId": "ana", "message": format!("n{n}")})).expect(202);
        let message = ws.until("message");
        assert_eq!(message["message"], format!("n{n}"));
        times.push(began.elapsed());
        ws.acknowledge(&message);
    }
    let median = crate::support::percentile(&mut times, 50);
    assert!(median < Duration::from_millis(100), "request, commit and push took {median:?}");
}
