//! Coming in: acknowledged when it is on disk, once however often it is sent, refused with every problem named.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{DOOR, with_door};
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::http::Answer;
use crate::support::model::{Act, Model, echo_config};
use crate::support::sink::Sink;
use crate::support::{eventually, merged, side_by_side};

#[test]
fn a_message_is_answered_and_the_reply_waited_for() {
    let model = Model::echo();
    let gateway = Gateway::start(model.config());
    let answer = gateway.post("/webhook/default?wait=20000", json!({"userId": "ana", "message": "one two"})).expect(200);
    let json = answer.json();
    assert_eq!(json["reply"], "echo: one two");
    assert!(json["id"].as_str().is_some_and(|id| !id.is_empty()) && json["sessionId"].is_string(), "{json}");
    let question = &model.asked()[0];
    assert_eq!(question.text, "one two");
    // The prompt is small: a system prompt, and these two words.
    assert!(question.body["messages"].to_string().len() < 2048, "{}", question.body["messages"]);
}

#[test]
fn prefer_wait_is_the_same_in_seconds() {
    let model = Model::echo();
    let gateway = Gateway::start(model.config());
    let body = json!({"userId": "ana", "message": "hi"});
    let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Prefer", "wait=20").json(&body);
    assert_eq!(call.send().expect(200).field("reply"), "echo: hi");
}

#[test]
fn a_wait_that_is_over_gives_202_and_the_message_goes_on() {
    let model = Model::slow(1500);
    let gateway = Gateway::start(model.config());
    let began = Instant::now();
    let answer = gateway.post("/webhook/default?wait=300", json!({"userId": "ana", "message": "hi"})).expect(202);
    let took = began.elapsed();
    assert!((Duration::from_millis(290)..Duration::from_millis(1200)).contains(&took), "waited {took:?}");
    assert_eq!(answer.field("status"), "accepted");
    assert!(answer.json()["reply"].is_null());
    assert_eq!(gateway.until_state(&answer.field("id"), "answered", 10)["reply"], "echo: hi");
}

#[test]
fn a_caller_that_hangs_up_while_it_waits_loses_nothing() {
    let model = Model::slow(400);
    let gateway = Gateway::start(model.config());
    let call = gateway.call("POST", "/webhook/default?wait=20000").token(ADMIN);
    let impatient = call.json(&json!({"userId": "ana", "message": "hi", "messageId": "m1"})).patience(Duration::from_millis(120));
    assert!(impatient.attempt().is_err(), "no answer in that time");
    let again = gateway.post("/webhook/default?wait=20000", json!({"userId": "ana", "message": "hi", "messageId": "m1"}));
    assert_eq!(again.field("status"), "duplicate");
    gateway.until_state(&again.field("id"), "answered", 10);
    assert_eq!(model.times("hi"), 1);
}

/// Sends the same message twice, with the id where `place` puts it; it must be one.
fn check_duplicate(place: &str) {
    let model = Model::echo();
    let gateway = Gateway::start(model.config());
    let send = |id: &str, wait: &str| -> Answer {
        let mut body = json!({"userId": "ana", "message": "only once"});
        let mut call = gateway.call("POST", &format!("/webhook/default{wait}")).token(ADMIN);
        match place {
            "body" => body["messageId"] = json!(id),
            header => call = call.header(header, id),
        }
        call.json(&body).send()
    };
    let first = send("m1", "?wait=20000").expect(200);
    for wait in ["", "?wait=20000"] {
        let again = send("m1", wait);
        assert!(matches!(again.status, 200 | 202), "{place}: {}", again.status);
        assert_eq!(again.field("status"), "duplicate", "{place}");
        assert_eq!(again.field("id"), first.field("id"), "{place}");
        assert_eq!(again.field("sessionId"), first.field("sessionId"), "{place}");
    }
    let other = send("m2", "?wait=20000").expect(200);
    assert_ne!(other.field("id"), first.field("id"), "{place}: another id is another message");
    assert_eq!(model.times("only once"), 2, "{place}: the model was asked once for each");
}

#[test]
fn the_same_id_is_the_same_message() {
    for place in ["body", "webhook-id", "Idempotency-Key"] {
        check_duplicate(place);
    }
}

#[test]
fn the_same_id_in_another_conversation_or_channel_is_another_message() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let mut ids = Vec::new();
    for (channel, token, conversation) in [("default", ADMIN, "a"), ("default", ADMIN, "b"), ("door", DOOR, "a")] {
        let body = json!({"userId": "ana", "message": "hi", "messageId": "m1", "conversationId": conversation});
        let answer = gateway.call("POST", &format!("/webhook/{channel}")).token(token).json(&body).send().expect(202);
        assert_eq!(answer.field("status"), "accepted", "{channel} {conversation}");
        ids.push((answer.field("id"), answer.field("sessionId")));
    }
    for i in 0..3 {
        for j in 0..i {
            assert!(ids[i].0 != ids[j].0 && ids[i].1 != ids[j].1, "three messages in three sessions: {ids:?}");
        }
    }
}

#[test]
fn a_hundred_at_once_with_one_id_are_one_message() {
    let (model, sink) = (Model::slow(100), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let answers = side_by_side(100, |_| {
        let body = json!({"userId": "ana", "message": "storm", "messageId": "m1"});
        gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202)
    });
    let first = answers[0].field("id");
    assert!(answers.iter().all(|a| a.field("id") == first), "the same id to all");
    let accepted = answers.iter().filter(|a| a.field("status") == "accepted").count();
    assert_eq!(accepted, 1, "one was accepted, the others were duplicates");
    let delivered = sink.until(1, 10);
    assert_eq!(delivered[0].text(), "echo: storm");
    gateway.until_state(&first, "answered", 10);
    assert_eq!((model.times("storm"), sink.got().len()), (1, 1));
}

#[test]
fn a_duplicate_is_known_after_kill_and_restart() {
    let model = Model::echo();
    let mut gateway = Gateway::start(model.config());
    let body = json!({"userId": "ana", "message": "hi", "messageId": "m1"});
    let first = gateway.post("/webhook/default", body.clone()).expect(202).field("id");
    gateway.kill9();
    gateway.restart();
    let again = gateway.post("/webhook/default", body);
    assert_eq!((again.field("status").as_str(), again.field("id")), ("duplicate", first.clone()));
    gateway.until_state(&first, "answered", 10);
}

#[test]
fn the_life_of_a_message_can_be_read() {
    let (model, sink) = (Model::slow(300), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let body = json!({"userId": "ana", "message": "hi", "messageId": "m1", "metadata": {"room": 7}});
    let id = gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).field("id");
    let running = eventually("the turn to run", 5, || Some(gateway.message(&id)).filter(|m| m["state"] == "running"));
    assert!(running["reply"].is_null());
    gateway.until_state(&id, "answered", 10);
    let life = eventually("the delivery", 10, || Some(gateway.message(&id)).filter(|m| m["deliveries"][0]["state"] == "sent"));
    assert_eq!(life["reply"], "echo: hi");
    assert_eq!(life["deliveries"].as_array().map(Vec::len), Some(1), "{life:#}");
    assert_eq!(life["deliveries"][0]["id"], sink.got()[0].id.as_str());
    let events: Vec<&str> = life["timeline"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    let place = |name: &str| events.iter().position(|e| *e == name).unwrap_or_else(|| panic!("no {name} in {events:?}"));
    assert!(place("accepted") < place("started") && place("started") < place("answered"), "{events:?}");
    let times: Vec<i64> = life["timeline"].as_array().unwrap().iter().map(|e| e["atMs"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "oldest first: {times:?}");
    gateway.get("/api/messages/msg_00000000000000000000000000").expect_error(404, "not_found");
}

#[test]
fn what_is_wrong_with_a_body_is_named() {
    let gateway = Gateway::start(echo_config());
    for (body, path) in [
        ("{", "$"),
        ("", "$"),
        ("[]", "$"),
        ("null", "$"),
        ("\u{feff}{}", "$"),
        (r#"{"userId":1,"message":"x"}"#, "$.userId"),
        (r#"{"message":"x"}"#, "$.userId"),
        (r#"{"userId":"","message":"x"}"#, "$.userId"),
        (r#"{"userId":"a\u0000b","message":"x"}"#, "$.userId"),
        (r#"{"userId":"a","message":null}"#, "$.message"),
        (r#"{"userId":"a","message":["x"]}"#, "$.message"),
        (r#"{"userId":"a"}"#, "$.message"),
        (r#"{"userId":"a","message":"x","messageId":5}"#, "$.messageId"),
        (r#"{"userId":"a","message":"x","conversationId":{}}"#, "$.conversationId"),
    ] {
        let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", "application/json");
        let answer = call.body(body).send().expect_error(400, "validation_failed").json();
        let paths: Vec<&str> = answer["errors"].as_array().expect("errors").iter().flat_map(|e| e["path"].as_str()).collect();
        assert!(paths.contains(&path), "{body}: {answer}");
    }
    let both = gateway.post("/webhook/default", json!({"userId": 1, "message": 2})).expect(400).json();
    assert_eq!(both["errors"].as_array().map(Vec::len), Some(2), "both problems at once: {both}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", "application/json");
    call.body(deep).send().expect_error(400, "validation_failed");
    let long = json!({"userId": "u".repeat(100_000), "message": "x"});
    gateway.post("/webhook/default", long).expect_error(400, "validation_failed");
    assert!(gateway.healthy());
}

#[test]
fn a_body_that_is_not_json_by_its_type_is_refused() {
    let gateway = Gateway::start(echo_config());
    let body = r#"{"userId":"a","message":"x"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", kind).body(body);
        call.send().expect_error(415, "unsupported_media_type");
    }
    let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", "application/json; charset=utf-8");
    call.body(body).send().expect(202);
    let packed = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", "application/json");
    packed.header("Content-Encoding", "gzip").body(body).send().expect_error(415, "unsupported_media_type");
}

#[test]
fn odd_words_come_through_unharmed() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let texts = [
        "你好 👋🏽",
        "a\r\nX-Evil: 1\r\n\r\n",
        "\u{202e}right to left",
        "<img src=x onerror=alert(1)>",
        "\\u0000 \" ' ; DROP TABLE",
    ];
    let user = |i: usize| format!("użytkownik {i} \"'/%2e?#");
    for (i, text) in texts.iter().enumerate() {
        let body = json!({"userId": user(i), "message": text, "metadata": {"n": i, "t": text}});
        gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    }
    let delivered = sink.until(texts.len(), 15);
    for (i, text) in texts.iter().enumerate() {
        let one = delivered.iter().find(|d| d.body["userId"] == user(i).as_str()).unwrap_or_else(|| panic!("nothing for {i}"));
        assert_eq!(one.text(), format!("echo: {text}"));
        assert_eq!(one.body["metadata"], json!({"n": i, "t": text}), "metadata comes back");
    }
}

#[test]
fn no_id_can_break_a_log_line() {
    let gateway = Gateway::start(crate::support::merged(echo_config(), json!({"log": {"level": "debug", "format": "json"}})));
    for id in ["a\nb", "a\r\n<0>{\"forged\":1}", "a\u{1b}[31mred", "a\u{2028}b"] {
        let answer = gateway.post("/webhook/default", json!({"userId": id, "message": "hi", "messageId": id}));
        assert!(matches!(answer.status, 202 | 400), "{id:?}: {}", answer.text());
    }
    eventually("some log", 5, || (!gateway.log().is_empty()).then_some(()));
    for line in gateway.log().lines().skip(1) {
        let object = line.trim_start_matches(|c: char| matches!(c, '<' | '>') || c.is_ascii_digit());
        let parsed: Value = serde_json::from_str(object).unwrap_or_else(|e| panic!("not one JSON object: {e}: {line}"));
        assert!(parsed.get("forged").is_none(), "{line}");
        assert!(!line.contains('\u{1b}'), "an escape sequence would reach the terminal: {line:?}");
    }
}

#[test]
fn foreign_bodies_are_read_by_json_pointers() {
    let (model, sink) = (Model::echo(), Sink::new());
    let channel =
        json!({"channels": {"door": {"messagePath": "/event/text", "userPath": "/event/from/0", "idPath": "/delivery"}}});
    let gateway = Gateway::start(merged(with_door(model.config(), &sink), channel));
    let body = json!({"delivery": "d1", "event": {"text": "ding", "from": ["carl"]}});
    for status in ["accepted", "duplicate"] {
        let answer = gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send();
        assert_eq!(answer.field("status"), status);
    }
    let delivered = sink.until(1, 10);
    assert_eq!((delivered[0].text(), &delivered[0].body["userId"]), ("echo: ding", &json!("carl")));
    let wrong = gateway.call("POST", "/webhook/door").token(DOOR).json(&json!({"event": {}})).send();
    wrong.expect_error(400, "validation_failed");
}

#[test]
fn bindings_choose_the_agent() {
    let (model, other) = (Model::echo(), Model::scripted(|_| Act::Say("I am the other".into())));
    let config = merged(
        model.config(),
        json!({
        "providers": {"second": other.provider()},
        "agents": {"other": {"provider": "second", "model": "stub"}},
        "bindings": [{"channel": "default", "user": "zoe", "agent": "other"}, {"channel": "*", "user": "*", "agent": "main"}]}),
    );
    let gateway = Gateway::start(config);
    assert_eq!(gateway.ask("zoe", "who?"), "I am the other");
    assert_eq!(gateway.ask("ana", "who?"), "echo: who?");
}
