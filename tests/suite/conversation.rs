//! Who may speak, and what happens in a conversation: straight-through webhooks, interruptions, pairings, and the lists of them.

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::http::Answer;
use crate::support::model::Model;
use crate::support::sink::{Receipt, Sink};
use crate::support::ws::Ws;
use crate::support::{eventually, merged, pause, side_by_side};

const DOOR: &str = "door-token-0123456789abcdef";
const ALERTS: &str = "alerts-token-0123456789abcde";

/// The webhook `door` answers to `sink`; `alerts` only delivers.
fn config(model: &Model, sink: &Sink, door: Value) -> Value {
    let mut channel = json!({"type": "webhook", "token": DOOR, "replyUrl": sink.url});
    channel.as_object_mut().unwrap().extend(door.as_object().unwrap().clone());
    let alerts = json!({"type": "webhook", "token": ALERTS, "deliverOnly": true});
    merged(model.config(), json!({"channels": {"door": channel, "alerts": alerts}}))
}

fn write(gateway: &Gateway, user: &str, text: &str) -> Value {
    let body = json!({"userId": user, "message": text});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).json()
}

fn alert(gateway: &Gateway, body: Value) -> Answer {
    gateway.call("POST", "/webhook/alerts").token(ALERTS).json(&body).send()
}

#[test]
fn a_webhook_that_only_delivers_asks_no_agent() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({})));
    let unknown = alert(&gateway, json!({"userId": "carl", "message": "disk full", "messageId": "a0"}));
    unknown.expect_error(404, "not_found");
    write(&gateway, "carl", "hi");
    sink.until(1, 10);
    let body = json!({"userId": "carl", "message": "disk full", "messageId": "a1"});
    let first = alert(&gateway, body.clone()).expect(202).json();
    assert_eq!((&first["status"], &first["deliveries"][0]["channel"]), (&json!("accepted"), &json!("door")), "{first}");
    let got = &sink.until(2, 10)[1];
    assert_eq!((got.text(), got.id.as_str()), ("disk full", first["id"].as_str().unwrap()));
    assert!(got.body["inReplyTo"].is_null(), "it answers nothing");
    let again = side_by_side(20, |_| alert(&gateway, body.clone()).expect(202).json());
    assert!(again.iter().all(|a| a["status"] == "duplicate" && a["id"] == first["id"]), "{again:?}");
    pause(300);
    assert_eq!((sink.got().len(), model.asked().len()), (2, 1), "once, and no model was asked");
    let inbox = gateway.call("GET", "/api/messages").token(ADMIN).send().expect(200).json();
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 1, "it is no inbound message");
    let refused = gateway.call("POST", "/webhook/alerts").token(DOOR).json(&body).send();
    refused.expect_error(401, "unauthorized");
    alert(&gateway, json!({"userId": "carl"})).expect_error(400, "validation_failed");
}

#[test]
fn what_only_delivers_reaches_who_is_connected_and_survives_a_kill() {
    let (model, sink) = (Model::echo(), Sink::new());
    let mut gateway = Gateway::start(config(&model, &sink, json!({})));
    Ws::join(&gateway, USER).vanish();
    let body = json!({"userId": "ana", "message": "door open", "messageId": "a1"});
    let sent = eventually("ana to be known", 5, || Some(alert(&gateway, body.clone())).filter(|a| a.status == 202));
    gateway.kill9();
    gateway.restart();
    let mut ws = Ws::join(&gateway, USER);
    let frame = ws.until("message");
    assert_eq!((&frame["message"], &frame["deliveryId"]), (&json!("door open"), &sent.json()["id"]));
    assert_eq!(alert(&gateway, body).expect(202).json()["status"], "duplicate", "over the kill, too");
}

#[test]
fn what_only_delivers_can_become_a_dead_letter() {
    let (model, sink) = (Model::echo(), Sink::scripted(|n, _| Receipt::from(if n == 0 { 200 } else { 410 })));
    let gateway = Gateway::start(config(&model, &sink, json!({})));
    write(&gateway, "carl", "hi");
    sink.until(1, 10);
    let id = alert(&gateway, json!({"userId": "carl", "message": "x"})).expect(202).json()["id"].clone();
    let dead = eventually("a dead letter", 10, || {
        let list = gateway.call("GET", "/api/outbox?state=dead").token(OPERATOR).send().expect(200).json();
        list["outbox"].as_array().filter(|l| !l.is_empty()).cloned()
    });
    assert_eq!(dead[0]["id"], id);
}

#[test]
fn a_newer_message_interrupts_its_own_senders_turn_alone() {
    let (model, sink) = (Model::slow(1500), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({"queue": "interrupt"})));
    let first = write(&gateway, "carl", "one");
    let other = write(&gateway, "dora", "hers");
    eventually("both to be asked", 10, || (model.asked().len() == 2).then_some(()));
    let second = write(&gateway, "carl", "two");
    let id = |m: &Value| m["id"].as_str().unwrap().to_string();
    let cut = gateway.until_state(&id(&first), "cancelled", 10);
    assert!(cut["timeline"].to_string().contains("superseded"), "{cut}");
    gateway.until_state(&id(&second), "answered", 10);
    gateway.until_state(&id(&other), "answered", 10);
    sink.until(2, 10);
    pause(300);
    let mut texts: Vec<_> = sink.got().iter().map(|d| d.text().to_string()).collect();
    texts.sort();
    assert_eq!(texts, ["echo: hers", "echo: two"]);
}

#[test]
fn a_channel_without_a_queue_of_its_own_answers_all() {
    let (model, sink) = (Model::slow(300), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({})));
    for text in ["one", "two", "three"] {
        write(&gateway, "carl", text);
    }
    let texts: Vec<_> = sink.until(3, 15).iter().map(|d| d.text().to_string()).collect();
    assert_eq!(texts, ["echo: one", "echo: two", "echo: three"]);
}

#[test]
fn pairings_are_the_operators() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({})));
    let list = gateway.call("GET", "/api/pairings").token(OPERATOR).send().expect(200).json();
    assert_eq!(list, json!({"pairings": [], "next": null}));
    let decide = |token: &str, body: Value| gateway.call("POST", "/api/pairings/ABCD3467").token(token).json(&body).send();
    decide(OPERATOR, json!({"decision": "approve"})).expect_error(404, "not_found");
    decide(OPERATOR, json!({"decision": "maybe"})).expect_error(400, "validation_failed");
    decide(OPERATOR, json!({})).expect_error(400, "validation_failed");
    decide(USER, json!({"decision": "approve"})).expect_error(403, "forbidden");
    gateway.call("GET", "/api/pairings").token(USER).send().expect_error(403, "forbidden");
    gateway.call("GET", "/api/pairings").send().expect_error(401, "unauthorized");
    eventually("a trace of the wrong code", 10, || {
        let trail = gateway.call("GET", "/api/audit").token(ADMIN).send().expect(200).json();
        trail.to_string().contains("pairing.refused").then_some(())
    });
}

#[test]
fn who_is_told_of_channels_is_configured_live() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({})));
    let change = json!({"gateway": {"notify": ["ana"]}});
    let answer = gateway.call("PATCH", "/api/config").token(ADMIN).json(&change).send().expect(200).json();
    assert_eq!((&answer["applied"], &answer["restartRequired"]), (&json!(["gateway.notify"]), &json!([])), "{answer}");
    let wrong = json!({"gateway": {"notify": ["a\nb"]}});
    let refused = gateway.call("PATCH", "/api/config").token(ADMIN).json(&wrong).send();
    assert!(refused.expect_error(400, "validation_failed").json()["errors"].to_string().contains("$.gateway.notify[0]"));
}

/// Nobody's messages are answered under another's name, however close together they come (E8).
#[test]
fn what_piles_up_is_answered_in_one_turn_for_each_sender() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(config(&model, &sink, json!({"queue": "collect"})));
    let post = |user: &str, text: &str| {
        let body = json!({"userId": user, "message": text, "conversationId": "hall"});
        gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).json()["id"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let ids = [post("carl", "one"), post("dora", "hers"), post("carl", "two"), post("carl", "three")];
    for id in &ids {
        gateway.until_state(id, "answered", 15);
    }
    sink.until(2, 10);
    pause(300);
    let mut got: Vec<_> = sink.got().iter().map(|d| (d.body["userId"].to_string(), d.text().to_string())).collect();
    got.sort();
    let expected = [("\"carl\"", "echo: one\n\ntwo\n\nthree"), ("\"dora\"", "echo: hers")];
    assert_eq!(got, expected.map(|(user, text)| (user.to_string(), text.to_string())));
    assert_eq!(model.asked().len(), 2);
}
