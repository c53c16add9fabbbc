//! Approvals: a turn that waits is a row, what is approved is what runs, and one decision counts.

use serde_json::{Value, json};

use super::{asked, audit, call, calling, marking, pending, program, runs, told, with_tools};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::ws::Ws;
use crate::support::{eventually, merged};

fn decide(gateway: &Gateway, token: &str, id: &str, decision: &str) -> crate::support::http::Answer {
    gateway.call("POST", &format!("/api/approvals/{id}")).token(token).json(&json!({"decision": decision})).send()
}

/// A gateway whose model calls `mark` once, with `argument`, and asks first.
fn one_call(folder: &tempfile::TempDir, argument: &str) -> (Gateway, std::path::PathBuf) {
    let (path, notes) = program(folder.path());
    let model = Box::leak(Box::new(calling(vec![vec![call("shell.run", json!({"command": "mark", "args": [argument]}))]])));
    (Gateway::start(with_tools(model, marking(&path, "ask"))), notes)
}

#[test]
fn a_turn_waits_as_a_row_over_a_crash_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut gateway, notes) = one_call(&folder, "x");
    let mut operator = Ws::join(&gateway, OPERATOR);
    let id = gateway.tell("ana", "go");
    gateway.until_state(&id, "waiting_approval", 15);
    let shown = operator.until("approval");
    assert_eq!((&shown["tool"], &shown["mayDecide"]), (&json!("shell.run"), &json!(true)), "{shown:#}");
    assert_eq!(shown["arguments"], json!({"command": "mark", "args": ["x"]}));
    // Others go on, and what comes behind it in its session waits.
    let behind = gateway.tell("ana", "later");
    gateway.kill9();
    gateway.restart();
    let question = asked(&gateway);
    assert_eq!((question["messageId"].as_str(), runs(&notes).len()), (Some(id.as_str()), 0));
    assert_eq!(gateway.message(&behind)["state"], "queued");
    assert_eq!(decide(&gateway, OPERATOR, question["id"].as_str().unwrap(), "allow").expect(200).json()["state"], "allowed");
    let life = gateway.until_state(&id, "answered", 15);
    assert!(life["reply"].as_str().unwrap().contains("ran x"), "{life:#}");
    assert_eq!(runs(&notes), ["run x"]);
    let actions: Vec<_> =
        ["approval.asked", "approval.decided", "tool.called"].iter().map(|a| audit(&gateway, a).len()).collect();
    assert!(actions.iter().all(|n| *n >= 1), "{actions:?}");
}

#[test]
fn a_no_is_told_to_the_model_and_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    let id = gateway.tell("ana", "go");
    let question = asked(&gateway);
    decide(&gateway, ADMIN, question["id"].as_str().unwrap(), "deny").expect(200);
    let life = gateway.until_state(&id, "answered", 15);
    assert!(life["reply"].as_str().unwrap().contains("refused"), "{life:#}");
    assert!(runs(&notes).is_empty() && pending(&gateway).is_empty());
}

#[test]
fn always_holds_for_exactly_this_call() {
    let folder = tempfile::tempdir().unwrap();
    let (path, notes) = program(folder.path());
    let model = told();
    let gateway = Gateway::start(with_tools(&model, marking(&path, "ask")));
    let order = |arg: &str| format!("CALL shell.run {}", json!({"command": "mark", "args": [arg]}));
    let first = gateway.tell("ana", &order("a"));
    decide(&gateway, OPERATOR, asked(&gateway)["id"].as_str().unwrap(), "always").expect(200);
    gateway.until_state(&first, "answered", 15);
    assert!(gateway.ask("ana", &order("a")).contains("ran a"), "it is not asked again");
    let other = gateway.tell("ana", &order("b"));
    gateway.until_state(&other, "waiting_approval", 15);
    let foreign = gateway.tell("bob", &order("a"));
    gateway.until_state(&foreign, "waiting_approval", 15);
    assert_eq!(runs(&notes), ["run a", "run a"]);
    let rules = gateway.get("/api/tools").expect(200).json()["rules"].as_array().unwrap().clone();
    assert_eq!(rules.len(), 1);
    gateway.call("DELETE", &format!("/api/tools/rules/{}", rules[0]["id"].as_str().unwrap())).token(ADMIN).send().expect(204);
}

#[test]
fn of_two_operators_at_once_one_decides() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    let id = gateway.tell("ana", "go");
    let question = asked(&gateway);
    let name = question["id"].as_str().unwrap();
    let statuses: Vec<u16> = std::thread::scope(|s| {
        let (gateway, tries) = (&gateway, [("allow", OPERATOR), ("deny", ADMIN), ("allow", ADMIN), ("deny", OPERATOR)]);
        let all: Vec<_> = tries.into_iter().map(|(how, who)| s.spawn(move || decide(gateway, who, name, how).status)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(
        (statuses.iter().filter(|s| **s == 200).count(), statuses.iter().filter(|s| **s == 409).count()),
        (1, 3),
        "{statuses:?}"
    );
    let life = gateway.until_state(&id, "answered", 15);
    let ran = life["reply"].as_str().unwrap().contains("ran x");
    assert_eq!(runs(&notes).len(), usize::from(ran));
}

#[test]
fn who_may_not_decide_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    gateway.tell("ana", "go");
    let question = asked(&gateway);
    let name = question["id"].as_str().unwrap();
    decide(&gateway, USER, name, "allow").expect_error(403, "forbidden");
    decide(&gateway, "wrong-token-0123456789", name, "allow").expect_error(401, "unauthorized");
    decide(&gateway, OPERATOR, "apr_none", "allow").expect_error(404, "not_found");
    decide(&gateway, OPERATOR, name, "maybe").expect_error(400, "validation_failed");
    let mut ana = Ws::join(&gateway, USER);
    ana.send(json!({"type": "approve", "id": name, "decision": "allow"}));
    assert_eq!(ana.until("error")["status"], 403);
    ana.say("1", &format!("/approve {name}"));
    assert!(ana.until("message")["message"].as_str().unwrap().contains("operator"));
    // A webhook's holder names its user: no user's name makes an operator of it.
    gateway.post("/webhook/default?wait=5000", json!({"userId": "op", "message": format!("/approve {name}")}));
    assert_eq!((pending(&gateway).len(), runs(&notes).len()), (1, 0));
}

#[test]
fn a_revoked_operator_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    gateway.tell("ana", "go");
    let name = asked(&gateway)["id"].as_str().unwrap().to_string();
    let mut operator = Ws::join(&gateway, OPERATOR);
    let lesser = json!({"gateway": {"auth": {"tokens": [{"name": "op", "role": "user", "token": OPERATOR}]}}});
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&lesser).send().expect(200);
    assert_eq!(operator.close_code(std::time::Duration::from_secs(5)), Some(4401));
    decide(&gateway, OPERATOR, &name, "allow").expect_error(403, "forbidden");
    assert_eq!((pending(&gateway).len(), runs(&notes).len()), (1, 0));
}

#[test]
fn operators_decide_in_their_chat() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    let mut operator = Ws::join(&gateway, OPERATOR);
    let id = gateway.tell("ana", "go");
    gateway.until_state(&id, "waiting_approval", 15);
    operator.say("1", "/approve");
    assert!(operator.until("message")["message"].as_str().unwrap().starts_with("allowed"));
    gateway.until_state(&id, "answered", 15);
    assert_eq!(runs(&notes).len(), 1);
}

#[test]
fn the_question_shows_everything_or_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "a\u{202e}b\u{200b}c\u{1b}[2J");
    let id = gateway.tell("ana", "go");
    let question = asked(&gateway);
    let text = question["question"].as_str().unwrap();
    for (hidden, shown) in [('\u{202e}', "\\u{202e}"), ('\u{200b}', "\\u{200b}"), ('\u{1b}', "\\u{1b}")] {
        assert!(!text.contains(hidden) && text.contains(shown), "{text:?}");
    }
    gateway.call("POST", "/api/approvals/none").token(ADMIN).json(&json!({"decision": "deny"})).send().expect(404);
    drop((id, gateway));
    let (gateway, _) = one_call(&folder, &"x".repeat(9000));
    let reply = gateway.ask("ana", "go");
    assert!(reply.starts_with("done: ") && pending(&gateway).is_empty(), "{reply}");
    assert!(runs(&notes).is_empty());
}

#[test]
fn a_changed_program_needs_a_new_approval() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    let id = gateway.tell("ana", "go");
    let question = asked(&gateway);
    let other = folder.path().join("other");
    std::fs::copy(folder.path().join("effect"), &other).unwrap();
    std::fs::rename(&other, folder.path().join("effect")).unwrap();
    decide(&gateway, OPERATOR, question["id"].as_str().unwrap(), "allow").expect(200);
    gateway.until_state(&id, "answered", 15);
    assert!(runs(&notes).is_empty(), "what was approved is not what is there now");
}

#[test]
fn stop_withdraws_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, notes) = one_call(&folder, "x");
    let id = gateway.tell("ana", "go");
    let behind = gateway.tell("ana", "and this");
    let name = asked(&gateway)["id"].as_str().unwrap().to_string();
    let reply = gateway.ask("ana", "/stop");
    assert!(reply.starts_with("Stopped"), "{reply}");
    for message in [&id, &behind] {
        gateway.until_state(message, "cancelled", 10);
    }
    decide(&gateway, OPERATOR, &name, "allow").expect_error(409, "conflict");
    assert!(runs(&notes).is_empty() && pending(&gateway).is_empty());
    // The session goes on.
    let next = gateway.tell("ana", "again");
    gateway.until_state(&next, "waiting_approval", 15);
}

#[test]
fn rules_decide_by_tool_agent_channel_user_role_and_arguments() {
    let model = told();
    let rules = json!({"default": "deny", "rules": [
        {"tool": "memory.save", "action": "allow", "user": "an*", "arguments": {"text": "fine *"}},
        {"tool": "memory.save", "action": "deny", "user": "carl"},
        {"tool": "memory.save", "action": "allow", "role": "operator"},
        {"tool": "time.*", "action": "allow", "channel": "websocket"}]});
    let gateway = Gateway::start(with_tools(&model, rules));
    let save = |text: &str| format!("CALL memory.save {}", json!({"text": text}));
    let saved = |user: &str| gateway.get(&format!("/api/memory?userId={user}")).json()["memory"].as_array().map_or(0, Vec::len);
    gateway.ask("ana", &save("fine with tea"));
    gateway.ask("ana", &save("not fine"));
    gateway.ask("bob", &save("fine with tea"));
    assert_eq!((saved("ana"), saved("bob")), (1, 0));
    let mut operator = Ws::join(&gateway, OPERATOR);
    operator.say("1", &save("mine"));
    operator.until("message");
    assert_eq!(saved("op"), 1);
    assert!(!gateway.ask("ana", "CALL time.now {}").contains("20"), "only over the WebSocket");
    operator.say("2", "CALL time.now {}");
    assert!(operator.until("message")["message"].as_str().unwrap().contains("20"));
    let refused = eventually("traces of what was refused", 5, || Some(audit(&gateway, "tool.refused")).filter(|l| l.len() >= 3));
    assert!(refused.iter().all(|e| e["detail"]["tool"].is_string()));
}

#[test]
fn nobody_in_particular_gets_the_safe_tools_alone() {
    let model = told();
    let open = json!({"gateway": {"auth": {"mode": "none"}}, "tools": {"default": "allow"}});
    let gateway = Gateway::start(merged(model.config(), open));
    let say = |text: &str| -> Value {
        gateway
            .call("POST", "/webhook/default?wait=15000")
            .json(&json!({"userId": "ana", "message": text}))
            .send()
            .expect(200)
            .json()
    };
    assert!(say("CALL time.now {}")["reply"].as_str().unwrap().contains("20"));
    say("CALL memory.save {\"text\": \"x\"}");
    let offered = &model.asked()[0].tools;
    assert!(offered.contains(&"time_now".to_string()) && !offered.contains(&"memory_save".to_string()), "{offered:?}");
    assert_eq!(gateway.call("GET", "/api/memory?userId=ana").send().expect(200).json()["memory"], json!([]));
}
