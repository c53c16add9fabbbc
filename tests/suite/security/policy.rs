//! The policy of tools on every way in: whoever asks, and however the question came, a call that is denied runs nowhere.

use serde_json::{Value, json};

use super::DOOR;
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::telegram::Telegram;
use crate::support::ws::Ws;
use crate::support::{eventually, merged};
use crate::tools::{audit, marking, program, runs, told, with_tools};

/// H14, H15, A13, E9: by chat, webhook, WebSocket, the OpenAI door, a job, a channel; as a user, an operator, an admin.
#[test]
fn no_way_in_goes_past_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (path, notes) = program(folder.path());
    let (model, telegram) = (told(), Telegram::new());
    let tools = merged(marking(&path, "allow"), json!({"rules": [{"tool": "shell.run", "action": "deny"}]}));
    let doors = json!({"channels": {"door": {"type": "webhook", "token": DOOR}}});
    let gateway = Gateway::start(telegram.config(merged(with_tools(&model, tools), doors), json!({})));
    let order = |n: &str| format!("CALL shell.run {{\"command\":\"mark\",\"args\":[\"{n}\"]}}");
    gateway.ask("ana", &order("webhook by the admin"));
    let body = json!({"userId": "carl", "message": order("webhook")});
    gateway.call("POST", "/webhook/door?wait=15000").token(DOOR).json(&body).send().expect(200);
    for (who, token) in [("user", USER), ("operator", OPERATOR), ("admin", ADMIN)] {
        let mut ws = Ws::join(&gateway, token);
        ws.say(who, &order(&format!("socket {who}")));
        ws.until("message");
        let body = json!({"model": "main", "messages": [{"role": "user", "content": order(&format!("v1 {who}"))}]});
        gateway.call("POST", "/v1/chat/completions").token(token).json(&body).send().expect(200);
    }
    let job = json!({"id": "now", "every": 604_800_000, "agent": "main", "prompt": order("job"), "userId": "ana"});
    gateway.post("/api/jobs", job).expect(201);
    let run = gateway.call("POST", "/api/jobs/now/run").token(ADMIN).send().expect(202).json();
    gateway.until_state(run["detail"].as_str().unwrap(), "answered", 15);
    telegram.says(7, &order("telegram"));
    telegram.until(1, 20);
    let asked = model.asked();
    let obeyed = asked.iter().filter(|q| q.rounds > 0).count();
    assert!(obeyed >= 10, "the model did what it was told each time: {obeyed}");
    assert_eq!(runs(&notes), Vec::<String>::new(), "it ran");
    let refused = eventually("a trace of each", 10, || Some(audit(&gateway, "tool.refused")).filter(|l| l.len() >= obeyed));
    assert!(refused.iter().all(|e| e["detail"]["tool"].as_str().is_some_and(|t| t.starts_with("shell"))), "{refused:?}");
    // The same order where it is allowed: so that the silence above proves something.
    let allow = json!({"tools": {"rules": [{"tool": "shell.run", "action": "allow"}]}});
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&allow).send();
    gateway.write_config(&merged(gateway.read_config(), allow).to_string());
    eventually("the change", 10, || {
        let said = gateway.ask("dora", &order("allowed"));
        said.contains("ran allowed").then_some(())
    });
    let list: Value = gateway.get("/api/tools").expect(200).json();
    assert!(!list.to_string().contains("file."), "no tool reads or writes files: {list}"); // I5
}
