//! With nothing configured it still works: the made token, the built-in agent, its commands.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::gateway::Gateway;

fn offline() -> serde_json::Value {
    json!({"providers": {"off": {"type": "builtin"}}, "agents": {"main": {"provider": "off"}}})
}

#[test]
fn a_port_alone_is_configuration_enough() {
    let mut gateway = Gateway::prepare(json!({}));
    gateway.write_config(&json!({"gateway": {"listen": format!("127.0.0.1:{}", gateway.port)}}).to_string());
    gateway.restart();
    let token_file = gateway.data.join("token");
    let token = std::fs::read_to_string(&token_file).expect("a token was made").trim().to_string();
    assert!(token.len() >= 32, "{} characters", token.len());
    assert_eq!(std::fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    let health = gateway.call("GET", "/health").send().expect(200);
    assert_eq!((health.field("status").as_str(), health.field("version").as_str()), ("ok", env!("CARGO_PKG_VERSION")));
    let body = json!({"userId": "ana", "message": "hello"});
    gateway.call("POST", "/webhook/default?wait=10000").json(&body).send().expect_error(401, "unauthorized");
    let answer = gateway.call("POST", "/webhook/default?wait=10000").token(&token).json(&body).send().expect(200);
    assert!(!answer.field("reply").is_empty());
    // The same token at the next start, and the log shows it at the first one alone.
    gateway.kill9();
    gateway.restart();
    gateway.call("GET", "/api/config").token(&token).send().expect(200);
    assert!(!gateway.get("/api/config").text().contains(&token));
}

#[test]
fn nothing_in_the_data_folder_is_open_to_others() {
    let mut gateway = Gateway::prepare(json!({})).through_shell("umask 000");
    gateway.restart();
    gateway.ask("ana", "hi");
    for entry in std::fs::read_dir(&gateway.data).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("suite-") {
            continue; // ours
        }
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let wanted = if name.ends_with(".sock") {
            0o660
        } else if entry.path().is_dir() {
            0o700
        } else {
            0o600
        };
        assert_eq!(mode & !wanted, 0, "{name} has mode {mode:o}");
    }
}

#[test]
fn the_built_in_agent_knows_its_commands() {
    let gateway = Gateway::start(offline());
    let help = gateway.ask("ana", "/help");
    for command in ["/help", "/status", "/new", "/whoami"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    assert!(gateway.ask("ana", "/whoami").contains("ana"));
    assert!(!gateway.ask("ana", "/status").is_empty());
    let reply = gateway.ask("ana", "what is the weather?");
    assert!(reply.contains("what is the weather?"), "echoes what it heard: {reply}");
    assert_eq!(reply.lines().count(), 2, "two lines: {reply}");
}

#[test]
fn new_begins_another_session() {
    let model = crate::support::model::Model::echo();
    let gateway = Gateway::start(model.config());
    let session = |text: &str| {
        let answer = gateway.post("/webhook/default?wait=10000", json!({"userId": "ana", "message": text})).expect(200);
        answer.field("sessionId")
    };
    let (first, same) = (session("one"), session("two"));
    assert_eq!(first, same);
    session("/new");
    let other = session("three");
    assert_ne!(first, other);
    let last = model.asked().pop().unwrap();
    assert_eq!(last.text, "three");
    assert!(!last.history().contains("one"), "the new session knows nothing of the old one");
    assert_eq!(model.times("/new"), 0, "a command is not for the model");
}
