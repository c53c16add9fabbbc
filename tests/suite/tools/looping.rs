//! The loop: calls, results, rounds, and models that do it wrong.

use serde_json::{Value, json};

use super::{audit, call, calling, with_tools};
use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model};
use crate::support::{eventually, merged};

fn allowing() -> Value {
    json!({"default": "allow"})
}

#[test]
fn a_call_its_result_and_the_answer() {
    let model = calling(vec![vec![call("time.now", json!({}))]]);
    let gateway = Gateway::start(with_tools(&model, allowing()));
    let id = gateway.tell("ana", "what time is it?");
    let life = gateway.until_state(&id, "answered", 15);
    let reply = life["reply"].as_str().unwrap();
    assert!(reply.starts_with("done: ") && reply.contains("20"), "{reply}");
    let events: Vec<_> = life["timeline"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap().to_string()).collect();
    assert_eq!(events, ["accepted", "started", "tools_asked", "tool_result", "answered"], "{life:#}");
    let questions = model.asked();
    assert_eq!(questions.len(), 2);
    assert!(questions[0].tools.contains(&"time_now".to_string()) && questions[1].results.len() == 1);
    // The transcript holds what was said, not how it came about.
    let sessions = gateway.get("/api/sessions/ana").expect(200).json();
    let said: Vec<_> = sessions["sessions"][0]["transcript"].as_array().unwrap().iter().map(|e| e["role"].clone()).collect();
    assert_eq!(said, ["user", "assistant"]);
    let trace = eventually("a trace of the call", 5, || audit(&gateway, "tool.called").into_iter().next());
    assert_eq!((&trace["detail"]["tool"], &trace["detail"]["userId"]), (&json!("time.now"), &json!("ana")), "{trace:#}");
    let tools = gateway.get("/api/tools").expect(200).json();
    assert!(tools["tools"].as_array().unwrap().iter().any(|t| t["name"] == "time.now"), "{tools:#}");
}

#[test]
fn several_calls_in_one_answer_keep_their_order() {
    let model = calling(vec![vec![
        call("time.now", json!({})),
        call("memory.save", json!({"text": "likes tea"})),
        call("time.now", json!({"offset": "+08:00"})),
    ]]);
    let gateway = Gateway::start(with_tools(&model, allowing()));
    let reply = gateway.ask("ana", "hi");
    assert!(reply.contains("+08:00"), "the last call's result is the last: {reply}");
    let last = &model.asked()[1];
    assert_eq!(last.results.len(), 3);
    let ids: Vec<_> = last.body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["role"] == "tool")
        .map(|m| m["tool_call_id"].clone())
        .collect();
    let called: Vec<_> = last.body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|m| m["tool_calls"].as_array())
        .unwrap()
        .iter()
        .map(|c| c["id"].clone())
        .collect();
    assert_eq!(ids, called);
}

#[test]
fn what_a_model_gets_wrong_it_is_told() {
    for (name, calls, says) in [
        ("an unknown tool", vec![("no_such_tool".to_string(), "{}".to_string())], "no_such_tool"),
        ("a near miss", vec![("time_nov".to_string(), "{}".to_string())], "time.now"),
        ("arguments that are no JSON", vec![("memory_save".to_string(), "{\"text\": ".to_string())], "JSON"),
        ("a missing argument", vec![call("memory.save", json!({}))], "text"),
        ("a wrong type", vec![call("memory.save", json!({"text": 5}))], "text"),
    ] {
        let model = calling(vec![calls]);
        let gateway = Gateway::start(with_tools(&model, allowing()));
        let reply = gateway.ask("ana", "hi");
        assert!(reply.starts_with("done: ") && reply.contains(says), "{name}: {reply}");
    }
}

#[test]
fn an_endless_loop_ends_at_max_rounds() {
    let model = Model::scripted(|q| Act::Call(vec![call("memory.search", json!({"query": format!("q{}", q.rounds)}))]));
    let config = merged(
        with_tools(&model, allowing()),
        json!({"agents": {"main": {"maxRounds": 4}}, "gateway": {"retry": {"maxRetries": 0}}}),
    );
    let gateway = Gateway::start(config);
    let id = gateway.tell("ana", "go");
    let life = gateway.until_state(&id, "failed", 15);
    assert!(life["error"].as_str().unwrap().contains("tools"), "{life:#}");
    let asked = model.asked();
    assert_eq!(asked.len(), 4, "calls of the model");
    assert!(asked[3].results.last().unwrap().contains("no further tool calls"), "it is told in time: {:?}", asked[3].results);
}

#[test]
fn the_same_call_again_and_again_is_not_run() {
    let same = || vec![call("memory.save", json!({"text": "again"}))];
    let model = calling(vec![same(), same(), same(), same()]);
    let gateway = Gateway::start(with_tools(&model, allowing()));
    let reply = gateway.ask("ana", "go");
    assert!(reply.contains("very call"), "{reply}");
    assert_eq!(eventually("the traces", 5, || Some(audit(&gateway, "tool.called").len()).filter(|n| *n >= 2)), 2);
}

#[test]
fn a_server_that_refuses_tools_answers_without() {
    let model = Model::scripted(|q| match q.tools.is_empty() {
        false => Act::Status(500, vec![], r#"{"error":{"message":"tools param requires --jinja flag"}}"#.into()),
        true => Act::Say("plain".into()),
    });
    let gateway = Gateway::start(with_tools(&model, allowing()));
    assert_eq!(gateway.ask("ana", "hi"), "plain");
    assert_eq!(gateway.ask("ana", "hi"), "plain");
    assert_eq!(model.asked().len(), 3, "it is not tried again");
}

#[test]
fn older_turns_are_summed_up() {
    let model = Model::scripted(|q| match q.body["messages"][0]["content"].as_str().unwrap_or_default().starts_with("Sum up") {
        true => Act::Say("they counted together".into()),
        false => Act::Say(format!("echo: {}", q.text)),
    });
    let config = merged(model.config(), json!({"agents": {"main": {"maxHistory": 4}}}));
    let mut gateway = Gateway::start(config);
    for i in 0..14 {
        gateway.ask("ana", &format!("number {i}"));
    }
    gateway.kill9();
    gateway.restart();
    gateway.ask("ana", "what did we do?");
    let asked = model.asked();
    let summaries =
        asked.iter().filter(|q| q.body["messages"][0]["content"].as_str().unwrap_or_default().starts_with("Sum up")).count();
    assert_eq!(summaries, 1, "one for many turns");
    let last = asked.last().unwrap();
    let system = last.body["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("they counted together"), "it survives a crash: {system}");
    assert!(last.body["messages"].as_array().unwrap().len() <= 6);
}

#[test]
fn a_message_to_the_same_user_and_never_to_another_by_default() {
    use crate::support::ws::Ws;
    let model = super::told();
    let gateway = Gateway::start(with_tools(&model, allowing()));
    let (mut ana, mut bob) =
        (Ws::join(&gateway, crate::support::gateway::USER), Ws::join(&gateway, crate::support::gateway::OTHER));
    ana.say("1", "CALL message.send {\"text\": \"a note for you\"}");
    let own = ana.until("message");
    assert_eq!(own["message"], "a note for you");
    ana.say("2", "CALL message.send {\"text\": \"gotcha\", \"user\": \"bob\"}");
    let reply = ana.until("message");
    let reply = if reply["message"].as_str().unwrap().contains("delivered") { ana.until("message") } else { reply };
    assert!(bob.gather(700).iter().all(|f| f["type"] != "message"), "nothing for bob; ana was told {reply}");
}
