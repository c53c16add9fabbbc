//! Death at every step boundary of a turn with tools: nothing with an effect runs twice, and the turn ends.

use std::time::Instant;

use serde_json::json;

use super::{asked, call, calling, marking, program, runs, with_tools};
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::sink::Sink;
use crate::support::{merged, pause};

/// The points, and whether the effect is certain to come (once) or may be lost between its begin and its record.
const POINTS: &[(&str, bool)] = &[
    ("turn.claimed:1", true),
    ("turn.answered:1", true),
    ("turn.asked:1", true),
    ("call.begins:1", true),
    ("call.begun:1", false),
    ("call.ran:1", false),
    ("call.recorded:1", true),
    ("turn.answered:2", true),
    ("turn.asked:2", true),
    ("call.ran:2", true),
    ("call.recorded:2", true),
    ("turn.finishing:1", true),
    ("turn.finished:1", true),
];

#[test]
fn a_crash_at_each_step_boundary() {
    for (point, certain) in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let (path, notes) = program(folder.path());
        let model = calling(vec![
            vec![call("shell.run", json!({"command": "mark", "args": ["x"]}))],
            vec![call("memory.save", json!({"text": "it ran"}))],
        ]);
        let sink = Sink::new();
        let config = crate::flow::with_door(with_tools(&model, marking(&path, "allow")), &sink);
        let mut gateway = Gateway::prepare(config).env("GATELET_CRASH_AT", *point).begin();
        let send = |gateway: &Gateway| {
            let body = json!({"userId": "ana", "message": "go", "messageId": "m1"});
            gateway.call("POST", "/webhook/door").token(crate::flow::DOOR).json(&body).attempt()
        };
        let _ = send(&gateway); // it may die before it answers
        let status = gateway.wait_exit(15);
        assert_ne!(crate::support::gateway::code_of(status), 0, "{point}: it should have died there");
        let mut gateway = gateway.env("GATELET_CRASH_AT", "");
        gateway.restart();
        let id = send(&gateway).unwrap().expect(202).field("id"); // the same one, whether it was answered or not
        let life = gateway.until_state(&id, "answered", 20);
        let count = runs(&notes).len();
        assert!(count <= 1 && (count == 1 || !certain), "{point}: the effect came {count} times: {life:#}");
        sink.until(1, 10);
        pause(100);
        assert_eq!(sink.got().len(), 1, "{point}: one reply");
        let kept = gateway.get("/api/memory?userId=ana").expect(200).json();
        assert_eq!(kept["memory"].as_array().unwrap().len(), 1, "{point}: an idempotent tool counts once: {kept}");
        if !certain {
            let told = model.asked().iter().any(|q| q.results.iter().any(|r| r.contains("unknown")));
            assert!(told, "{point}: the model is told that the outcome is unknown");
        }
        let asked = model.asked().len();
        assert!(asked <= 4, "{point}: answers that were journaled are not asked for again: {asked}");
    }
}

#[test]
fn a_crash_around_a_question() {
    for point in ["turn.parking:1", "turn.parked:1"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, notes) = program(folder.path());
        let model = calling(vec![vec![call("shell.run", json!({"command": "mark", "args": ["x"]}))]]);
        let mut gateway = Gateway::prepare(with_tools(&model, marking(&path, "ask"))).env("GATELET_CRASH_AT", point).begin();
        let id = gateway.tell("ana", "go");
        gateway.wait_exit(15);
        let mut gateway = gateway.env("GATELET_CRASH_AT", "");
        gateway.restart();
        let question = asked(&gateway);
        assert_eq!(super::pending(&gateway).len(), 1, "{point}: one question");
        let path = format!("/api/approvals/{}", question["id"].as_str().unwrap());
        gateway.call("POST", &path).token(ADMIN).json(&json!({"decision": "allow"})).send().expect(200);
        gateway.until_state(&id, "answered", 15);
        assert_eq!(runs(&notes), ["run x"], "{point}");
    }
}

#[test]
fn kills_at_random_moments_of_turns_with_tools() {
    let folder = tempfile::tempdir().unwrap();
    let (path, notes) = program(folder.path());
    let model = super::told();
    let config =
        merged(with_tools(&model, marking(&path, "allow")), json!({"gateway": {"retry": {"maxRetries": 10, "delay": 10}}}));
    let mut gateway = Gateway::start(config);
    let mut random = crate::support::Random::seeded("kills of turns with tools");
    let mut ids = Vec::new();
    let began = Instant::now();
    for n in 0..40 {
        let order = format!("CALL shell.run {}", json!({"command": "mark", "args": [format!("n{n}")]}));
        let body = json!({"userId": format!("u{}", n % 4), "message": order, "messageId": format!("m{n}")});
        ids.push(gateway.post("/webhook/default", body).expect(202).field("id"));
        if n % 4 == 3 {
            pause(random.between(1, 60));
            gateway.kill9();
            gateway.restart();
        }
    }
    for id in &ids {
        // Three kills in a row may all have hit the same message, which is set aside then: a person asks for it again.
        if gateway.until(id, 60, |m| ["answered", "failed"].iter().any(|s| m["state"] == *s))["state"] == "failed" {
            gateway.call("POST", &format!("/api/messages/{id}/retry")).token(ADMIN).json(&json!({})).send().expect(200);
        }
        gateway.until_state(id, "answered", 60);
    }
    let mut all = runs(&notes);
    let (total, _) = (all.len(), all.sort());
    all.dedup();
    assert_eq!(total, all.len(), "no effect came twice");
    crate::support::figure(&format!("10 kills over 40 turns with tools: {total} effects, 0 twice, {:?}", began.elapsed()));
}
