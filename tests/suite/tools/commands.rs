//! Commands in the chat, and turns that are cut short.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{told, with_tools};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::model::{Act, Model};
use crate::support::ws::Ws;
use crate::support::{eventually, merged};

#[test]
fn what_each_command_says() {
    let model = told();
    let gateway =
        Gateway::start(with_tools(&model, json!({"rules": [{"tool": "time.now", "action": "allow"}], "default": "deny"})));
    for (text, says) in [
        ("/help", "/stop"),
        ("/status", "provider stub"),
        ("/model", "It offers: stub"),
        ("/model other", "Only an operator"),
        ("/tools", "time.now"),
        ("/memory", "Nothing is kept"),
        ("/stop", "Nothing is under way"),
        ("/approve", "Only an operator"),
        ("/whoami", "ana"),
    ] {
        let reply = gateway.ask("ana", text);
        assert!(reply.contains(says), "{text}: {reply}");
    }
    assert!(model.asked().is_empty());
    gateway.ask("ana", "/approve the plan");
    assert_eq!(model.asked().len(), 1, "what is more than a command goes to the model");
    let prompt = model.asked()[0].body["messages"].to_string();
    assert!(!prompt.contains("under way"), "commands are not part of the conversation");
}

#[test]
fn an_operator_chooses_the_model_of_a_session() {
    let model = told();
    let mut gateway = Gateway::start(merged(model.config(), json!({"agents": {"main": {"model": "first"}}})));
    let mut operator = Ws::join(&gateway, OPERATOR);
    for (id, text, says) in [("1", "/model nonsense", "There is no model"), ("2", "/model stub", "goes on with stub")] {
        operator.say(id, text);
        let reply = operator.until("message");
        assert!(reply["message"].as_str().unwrap().contains(says), "{reply}");
        operator.acknowledge(&reply);
    }
    gateway.kill9();
    gateway.restart();
    let mut operator = Ws::join(&gateway, OPERATOR);
    let id = operator.say("3", "hi");
    // What was acknowledged just before the kill may come once more.
    while operator.until("message")["inReplyTo"] != json!(id) {}
    assert_eq!(model.asked().last().unwrap().body["model"], "stub");
    gateway.ask("ana", "hi");
    assert_eq!(model.asked().last().unwrap().body["model"], "first", "others are not touched");
}

#[test]
fn stop_works_at_once_while_every_worker_is_busy() {
    let model = Model::scripted(|q| if q.text.starts_with("hang") { Act::Hang } else { Act::Say(format!("echo: {}", q.text)) });
    let gateway = Gateway::start(merged(model.config(), json!({"gateway": {"workers": {"turns": 2}}})));
    let running: Vec<_> = ["ana", "bob"].iter().map(|user| gateway.tell(user, "hang")).collect();
    for id in &running {
        gateway.until_state(id, "running", 10);
    }
    let behind = gateway.tell("ana", "second");
    let began = Instant::now();
    assert_eq!(gateway.ask("ana", "/stop"), "Stopped: 1 running, 1 waiting.");
    for id in [&running[0], &behind] {
        gateway.until_state(id, "cancelled", 5);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(gateway.message(&running[1])["state"], "running", "others go on");
    assert_eq!(gateway.ask("ana", "and now"), "echo: and now");
}

#[test]
fn a_stop_frame_stops_ones_own() {
    let model = Model::scripted(|q| if q.text == "hang" { Act::HangBetweenChunks } else { Act::Say("fine".into()) });
    let gateway = Gateway::start(model.config());
    let mut ana = Ws::join(&gateway, USER);
    let id = ana.say("1", "hang");
    ana.until("delta");
    let other = gateway.tell("bob", "hang");
    ana.send(json!({"type": "stop"}));
    gateway.until_state(&id, "cancelled", 5);
    assert_eq!(gateway.message(&other)["state"], "running");
    ana.say("2", "hi");
    assert_eq!(ana.until("message")["message"], "fine");
}

/// The process ends before the command is handled, or just as its author was told: what was to be stopped never runs again.
#[test]
fn an_urgent_command_survives_a_crash() {
    for place in ["turn.claimed:2", "turn.finished"] {
        let model = Model::scripted(|q| if q.text == "hang" { Act::Hang } else { Act::Say("fine".into()) });
        let mut gateway = Gateway::prepare(model.config()).env("GATELET_CRASH_AT", place).begin();
        let id = gateway.tell("ana", "hang");
        eventually("the model is asked", 10, || (model.times("hang") == 1).then_some(()));
        // The crash may be there before the answer is.
        let stop = json!({"userId": "ana", "message": "/stop", "messageId": "stop-1"});
        let _ = gateway.call("POST", "/webhook/default").token(ADMIN).json(&stop).attempt();
        gateway.wait_exit(10);
        let mut gateway = gateway.env("GATELET_CRASH_AT", "");
        gateway.restart();
        let again = gateway.post("/webhook/default", stop).expect(202);
        assert_eq!(again.field("status"), "duplicate");
        gateway.until_state(&again.field("id"), "answered", 10);
        gateway.until_state(&id, "cancelled", 10);
        let asked = model.times("hang");
        assert!(asked == 1 || place == "turn.claimed:2" && asked == 2, "{place}: asked {asked} times");
    }
}
