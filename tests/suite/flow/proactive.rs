//! `POST /api/message`: the gateway speaks first.

use serde_json::{Value, json};

use super::{DOOR, with_door};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, OTHER, USER};
use crate::support::http::Answer;
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;
use crate::support::ws::Ws;
use crate::support::{eventually, pause, side_by_side};

fn speak(gateway: &Gateway, token: &str, body: Value) -> Answer {
    gateway.call("POST", "/api/message").token(token).json(&body).send()
}

#[test]
fn it_reaches_the_channel_named_or_the_one_last_seen() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    speak(&gateway, ADMIN, json!({"userId": "carl", "message": "x"})).expect_error(404, "not_found");
    let body = json!({"userId": "carl", "message": "ding", "conversationId": "hall"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    sink.until(1, 10);
    for (n, body) in
        [json!({"userId": "carl", "message": "knock"}), json!({"userId": "carl", "message": "knock", "channel": "door"})]
            .into_iter()
            .enumerate()
    {
        let answer = speak(&gateway, OPERATOR, body).expect(202).json();
        assert!(answer["id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
        assert_eq!(answer["deliveries"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["deliveries"][0]["channel"], "door");
        let got = &sink.until(2 + n, 10)[1 + n];
        assert_eq!((got.text(), &got.body["userId"]), ("knock", &json!("carl")));
        assert_eq!(got.id, answer["deliveries"][0]["id"].as_str().unwrap());
        assert!(got.body["inReplyTo"].is_null(), "it answers nothing");
    }
    assert_eq!(model.asked().len(), 1, "no model was asked");
    let never = speak(&gateway, ADMIN, json!({"userId": "carl", "message": "x", "channel": "nowhere"}));
    assert!(matches!(never.status, 400 | 404), "an unknown channel: {}", never.text());
}

#[test]
fn an_idempotency_key_makes_a_hundred_one() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let body = json!({"userId": "carl", "message": "ding"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    sink.until(1, 10);
    let body = json!({"userId": "carl", "message": "knock", "idempotencyKey": "k1"});
    let answers = side_by_side(100, |_| speak(&gateway, ADMIN, body.clone()).expect(202).json());
    assert!(answers.iter().all(|a| a["deliveries"][0]["id"] == answers[0]["deliveries"][0]["id"]), "the same delivery to all");
    assert!(answers.iter().all(|a| a["id"] == answers[0]["id"]), "the same answer to all");
    sink.until(2, 10);
    pause(300);
    assert_eq!(sink.got().len(), 2);
    let other = json!({"userId": "carl", "message": "knock knock", "idempotencyKey": "k1"});
    speak(&gateway, ADMIN, other).expect_error(409, "conflict");
    let header = gateway.call("POST", "/api/message").token(ADMIN).header("Idempotency-Key", "k1");
    header.json(&json!({"userId": "carl", "message": "knock"})).send().expect(202);
    pause(300);
    assert_eq!(sink.got().len(), 2, "the header is the same key");
}

#[test]
fn a_user_speaks_for_itself_alone() {
    let gateway = Gateway::start(echo_config());
    let mut ana = Ws::join(&gateway, USER);
    let _bob = Ws::join(&gateway, OTHER);
    speak(&gateway, USER, json!({"userId": "ana", "message": "note to self"})).expect(202);
    assert_eq!(ana.until("message")["message"], "note to self");
    let foreign = speak(&gateway, USER, json!({"userId": "bob", "message": "x"}));
    assert!(matches!(foreign.status, 403 | 404), "{}", foreign.text());
    let never = speak(&gateway, USER, json!({"userId": "nobody", "message": "x"}));
    assert_eq!(never.status, foreign.status, "and cannot tell who exists");
}

#[test]
fn who_connected_counts_as_seen() {
    let gateway = Gateway::start(echo_config());
    speak(&gateway, ADMIN, json!({"userId": "ana", "message": "x"})).expect_error(404, "not_found");
    Ws::join(&gateway, USER).vanish();
    let answer = eventually("ana to be known", 5, || {
        Some(speak(&gateway, ADMIN, json!({"userId": "ana", "message": "while away"}))).filter(|a| a.status == 202)
    });
    assert_eq!(answer.json()["deliveries"][0]["channel"], "websocket");
    let mut ws = Ws::join(&gateway, USER);
    assert_eq!(ws.until("message")["message"], "while away");
}

#[test]
fn what_is_wrong_is_named() {
    let gateway = Gateway::start(echo_config());
    for (body, path) in [
        (json!({"message": "x"}), "$.userId"),
        (json!({"userId": "ana"}), "$.message"),
        (json!({"userId": 5, "message": "x"}), "$.userId"),
        (json!({"userId": "ana", "message": "x", "channel": 1}), "$.channel"),
        (json!({"userId": "ana", "message": "x", "idempotencyKey": {}}), "$.idempotencyKey"),
    ] {
        let answer = speak(&gateway, ADMIN, body.clone()).expect_error(400, "validation_failed").json();
        assert!(answer["errors"].as_array().is_some_and(|e| e.iter().any(|e| e["path"] == path)), "{body}: {answer}");
    }
}
