//! A person's work in a browser, and a connection that heals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::console::browse;
use crate::support::gateway::{ADMIN, Gateway, credentials};
use crate::support::model::{Act, Model, Question};
use crate::support::sink::Sink;
use crate::support::{eventually, merged};
use crate::tools::{marking, orders, program, runs};

const SPOKEN: &str = "A **word** first\n\n```sh\nls -l\n```\n\nand more and more and more and so on until it is the end";

fn speaking() -> Model {
    Model::scripted(|q: &Question| match (q.text.as_str(), orders(&q.text), q.results.last()) {
        ("stream", ..) => Act::Slowly(60, SPOKEN.split_inclusive(' ').map(str::to_string).collect()),
        ("endless", ..) => Act::Slowly(50, vec!["on and ".into(); 400]),
        (_, calls, _) if q.rounds == 0 && !calls.is_empty() => Act::Call(calls),
        (_, calls, Some(result)) if !calls.is_empty() => Act::Say(format!("done: {result}")),
        (text, ..) => Act::Say(format!("echo: {text}")),
    })
}

#[test]
fn a_persons_work() {
    let folder = tempfile::tempdir().unwrap();
    let (path, notes) = program(folder.path());
    let (model, is_up) = (speaking(), Arc::new(AtomicBool::new(false)));
    let up = is_up.clone();
    let sink = Sink::scripted(move |_, _| if up.load(Ordering::SeqCst) { 200 } else { 400 }.into());
    let more = json!({
        "channels": {"door": {"type": "webhook", "token": "door-token-0123456789abcdef", "replyUrl": sink.url}},
        "tools": marking(&path, "ask"),
    });
    let mut gateway = Gateway::start(merged(model.config(), more));
    let door = gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef");
    door.json(&json!({"userId": "bob", "message": "to the receiver"})).send().expect(202);
    sink.until(1, 15);
    let waits = |gateway: &Gateway| gateway.get("/api/metrics").json()["deliveries"]["unacknowledged"].to_string();
    browse("work.mjs", &mut gateway, |what, gateway| match what {
        "unacknowledged" => eventually("receipts", 10, || Some(waits(gateway)).filter(|n| n == "0")),
        "runs" => runs(&notes).len().to_string(),
        "another question" => gateway.tell("eve", r#"CALL shell.run {"command":"mark","args":["x"]}"#),
        "receiver up" => {
            is_up.store(true, Ordering::SeqCst);
            String::new()
        }
        "received" => {
            eventually("the dead letter at its receiver", 10, || sink.got().iter().any(|d| d.status == 200).then(String::new))
        }
        "configuration" => gateway.read_config().to_string(),
        "another change" => {
            let patch = json!({"agents": {"main": {"maxHistory": 21}}});
            gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200).text()
        }
        other => panic!("the script asks for {other:?}"),
    });
}

#[test]
fn a_lost_connection_heals() {
    let model = speaking();
    let mut gateway = Gateway::start(model.config());
    browse("heal.mjs", &mut gateway, |what, gateway| {
        match what {
            "kill" => gateway.kill9(),
            "start" => gateway.restart(),
            "times meanwhile" => return model.times("meanwhile").to_string(),
            "revoke" => {
                let auth = merged(credentials(), json!({"token": "another-admin-token-0123456789"}));
                let config = merged(gateway.read_config(), json!({"gateway": {"auth": auth}}));
                gateway.write_config(&config.to_string());
            }
            other => panic!("the script asks for {other:?}"),
        }
        String::new()
    });
}
