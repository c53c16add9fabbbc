//! The command line: what it says, and how it ends.

mod backup;
mod config;
mod face;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{ADMIN, BINARY, Gateway, USER, free_port};
use crate::support::model::echo_config;

/// Runs the binary with these words and this input, away from any configuration of the machine's.
fn run(words: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(BINARY);
    command.args(words).current_dir(home.path()).env("HOME", home.path()).env("XDG_STATE_HOME", home.path().join("state"));
    for name in ["GATELET_CONFIG", "GATELET_DATA_DIR", "GATELET_URL", "GATELET_TOKEN", "STATE_DIRECTORY"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(words: &[&str], environment: &[(&str, &str)], input: &str) -> Said {
    let output = run(words, environment, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[track_caller]
fn check(words: &[&str], environment: &[(&str, &str)], input: &str, code: i32) -> Said {
    let said = said(words, environment, input);
    assert_eq!(said.code, code, "{words:?}\nout: {}\nerr: {}", said.out, said.err);
    assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "no colour on a pipe: {words:?}");
    assert!(!said.err.contains("panicked"), "{words:?}: {}", said.err);
    said
}

#[test]
fn version_and_help() {
    let version = check(&["version"], &[], "", 0);
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{}", version.out);
    let json = check(&["version", "--json"], &[], "", 0);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_is_no_command_is_usage() {
    for words in [
        &["frobnicate"][..],
        &["--frobnicate"],
        &["serve", "--frobnicate"],
        &["serve", "extra"],
        &["--config"],
        &["send"],
        &["check", "--data-dir"],
        &["status", "--url", "not a url"],
        &["versio"],
        &["agents", "frobnicate"],
        &["approvals", "allow"],
        &["approvals", "perhaps", "apr_x"],
        &["memory"],
        &["memory", "add", "ana"],
        &["memory", "forget", "not_1", "not_2"],
        &["pairings", "approve"],
        &["pairings", "allow", "ABCD3467"],
        &["channels", "reconnect"],
        &["outbox", "send"],
        &["messages", "show"],
        &["sessions", "frobnicate"],
    ] {
        let said = check(words, &[("GATELET_TOKEN", ADMIN)], "", 2);
        assert!(!said.err.is_empty(), "{words:?}: says what is wrong");
    }
    assert!(check(&["versio"], &[], "", 2).err.contains("version"), "names the nearest");
}

#[test]
fn check_lists_every_problem() {
    let folder = TempDir::new().unwrap();
    let (good, bad) = (folder.path().join("good.json"), folder.path().join("bad.json"));
    std::fs::write(&good, json!({"gateway": {"listen": "127.0.0.1:0"}}).to_string()).unwrap();
    std::fs::write(&bad, json!({"gateway": {"lisen": "x", "workers": {"http": "four"}}, "bindings": [{"channel": "*", "user": "*", "agent": "gone"}]}).to_string()).unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    check(&["check", "--config", good.to_str().unwrap(), "--data-dir", data], &[], "", 0);
    let said = check(&["check", "--config", bad.to_str().unwrap(), "--data-dir", data], &[], "", 3);
    let all = format!("{}{}", said.out, said.err);
    for part in ["gateway.lisen", "listen", "gateway.workers.http", "bindings[0].agent"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let json = check(&["check", "--json", "--config", bad.to_str().unwrap(), "--data-dir", data], &[], "", 3);
    let problems: Value = serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{e}: {}", json.out));
    assert!(problems["errors"].as_array().is_some_and(|e| e.len() == 3), "{problems}");
    assert!(!std::path::Path::new(data).exists(), "check writes nothing");
    check(&["check", "--config", "/nonexistent/gatelet.json"], &[], "", 3);
    // The example that is shipped is good.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gatelet.json");
    check(&["check", "--config", example, "--data-dir", data], &[], "", 0);
}

#[test]
fn status_send_and_chat_talk_to_a_running_one() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let there = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    let status = check(&["status"], &there, "", 0);
    assert!(status.out.contains("ready") || status.out.contains("ok"), "{}", status.out);
    let json = check(&["status", "--json"], &there, "", 0);
    assert!(serde_json::from_str::<Value>(&json.out).is_ok(), "{}", json.out);
    check(&["status", "--url", &url, "--token", ADMIN], &[], "", 0);
    // Over the local socket, found by the data folder, without a token.
    check(&["status", "--data-dir", gateway.data.to_str().unwrap()], &[], "", 0);

    let user = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", USER)];
    let chat = check(&["chat"], &user, "hello there\nand again\n", 0);
    let first = chat.out.find("echo: hello there").unwrap_or_else(|| panic!("{}", chat.out));
    assert!(chat.out[first..].contains("echo: and again"), "{}", chat.out);
    let said = check(&["send", "ana", "knock"], &there, "", 0);
    let second = check(&["chat"], &user, "", 0);
    assert!(second.out.contains("knock") || said.out.contains("dlv_") || !said.out.is_empty(), "{} {}", second.out, said.out);
    let json = check(&["send", "ana", "knock", "--json"], &there, "", 0);
    assert!(serde_json::from_str::<Value>(&json.out).is_ok_and(|j| j["id"].is_string()), "{}", json.out);
    assert_eq!(check(&["send", "nobody-ever", "x"], &there, "", 1).out, "", "an error goes to stderr");
}

#[test]
fn agents_tools_memory_and_approvals() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let there = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    let json = |words: &[&str]| {
        let said = check(&[words, &["--json"]].concat(), &there, "", 0);
        serde_json::from_str::<Value>(&said.out).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", said.out))
    };
    assert!(check(&["agents"], &there, "", 0).out.contains("\nmain  stub      stub   ok"));
    assert_eq!(json(&["agents"])["agents"][0]["name"], "main");
    assert!(check(&["agents", "tools"], &there, "", 0).out.contains("what no rule names: ask"));
    assert!(json(&["agents", "tools"])["tools"].is_array());
    assert!(check(&["approvals"], &there, "", 0).out.contains("nothing waits"));
    assert_eq!(json(&["approvals", "list"])["approvals"], json!([]));
    assert!(check(&["approvals", "deny", "apr_x"], &there, "", 1).err.contains("404"));
    // A note's life, over the URL and over the local socket.
    assert!(check(&["memory", "list", "ana"], &there, "", 0).out.contains("nothing is kept"));
    let id = json(&["memory", "add", "ana", "likes tea \u{1b}[31m你好"])["id"].as_str().unwrap().to_string();
    let listed = check(&["memory", "list", "ana"], &there, "", 0).out;
    assert!(listed.contains(&id) && listed.contains("likes tea \\u{1b}[31m你好"), "{listed}");
    let local = ["--data-dir", gateway.data.to_str().unwrap()];
    check(&[&["memory", "edit", &id, "likes coffee"][..], &local].concat(), &[], "", 0);
    assert!(check(&["memory", "list", "ana", "--agent", "main"], &there, "", 0).out.contains("main   likes coffee"));
    assert_eq!(json(&["memory", "list", "ana", "--agent", "other"])["memory"], json!([]));
    check(&[&["memory", "forget", &id][..], &local].concat(), &[], "", 0);
    check(&["memory", "forget", &id], &there, "", 1);
    assert_eq!(json(&["memory", "list", "ana"])["memory"], json!([]));
}

#[test]
fn channels_messages_sessions_outbox_and_pairings() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let there = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    let json = |words: &[&str]| {
        let said = check(&[words, &["--json"]].concat(), &there, "", 0);
        serde_json::from_str::<Value>(&said.out).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", said.out))
    };
    let channels = check(&["channels"], &there, "", 0).out;
    assert!(channels.contains("\ndefault    webhook    connected"), "{channels}");
    assert_eq!(json(&["channels", "reconnect", "default"])["name"], "default");
    assert!(check(&["channels", "reconnect", "nowhere"], &there, "", 1).err.contains("404"));
    for words in [&["messages"][..], &["messages", "list", "failed"], &["sessions"], &["outbox"], &["outbox", "list", "dead"]] {
        assert_eq!(check(words, &there, "", 0).out.trim(), "there is nothing", "{words:?}");
    }
    let user = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", USER)];
    check(&["chat"], &user, "hello \u{1b}[31mthere\n", 0);
    let listed = check(&["messages"], &there, "", 0).out;
    assert!(listed.contains("answered  ana   websocket  hello \\u{1b}[31mthere"), "{listed}");
    let id = json(&["messages"])["messages"][0]["id"].as_str().unwrap().to_string();
    assert!(check(&["messages", "show", &id], &there, "", 0).out.contains("answered"));
    assert!(check(&["messages", "retry", &id], &there, "", 1).err.contains("409"));
    assert!(check(&["messages", "list", "gone"], &there, "", 1).err.contains("400"));
    assert!(check(&["outbox"], &there, "", 0).out.contains("ana  websocket  echo: hello"));
    assert!(check(&["sessions", "show", "ana"], &there, "", 0).out.contains("assistant: echo: hello"));
    check(&["sessions", "erase", "ana"], &there, "", 0);
    assert_eq!(check(&["sessions"], &there, "", 0).out.trim(), "there is nothing");
    assert!(check(&["pairings"], &there, "", 0).out.contains("nobody waits"));
    assert_eq!(json(&["pairings", "list"])["pairings"], json!([]));
    assert!(check(&["pairings", "approve", "ABCD3467"], &there, "", 1).err.contains("404"));
    for words in [&["pairings"][..], &["channels"], &["messages"], &["outbox"]] {
        check(words, &user, "", 5);
    }
}

#[test]
fn jobs() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let environment = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    let tell = |words: &[&str], code: i32| check(words, &environment, "", code);
    assert_eq!(tell(&["jobs"], 0).out, "no jobs\n");
    let made = tell(&["jobs", "add", "ana", "--id", "tea", "--every", "2h", "--message", "Tea?"], 0).out;
    assert!(made.contains("tea  every 2h  in ") && made.ends_with("ana  admin  Tea?\n"), "{made}");
    assert!(tell(&["jobs", "list"], 0).out.contains("tea  every 2h"));
    tell(&["jobs", "add", "ana", "--every", "soon", "--message", "x"], 2);
    let wrong = tell(&["jobs", "add", "ana", "--message", "x"], 1).err;
    assert!(wrong.contains("exactly one of at, every and cron"), "{wrong}");
    assert_eq!(tell(&["jobs", "runs", "tea"], 0).out, "no runs yet\n");
    assert_eq!(tell(&["jobs", "remove", "tea"], 0).out, "tea removed\n");
    tell(&["jobs", "run", "tea"], 1);
    tell(&["jobs", "nonsense"], 2);
}

#[test]
fn whom_it_cannot_reach_and_who_refuses() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for words in [&["status"][..], &["send", "ana", "x"], &["chat"], &["agents"], &["approvals"], &["memory", "list", "ana"]] {
        let said = check(words, &[("GATELET_URL", &nowhere), ("GATELET_TOKEN", ADMIN)], "hi\n", 4);
        assert!(said.err.contains(&nowhere), "names where: {}", said.err);
    }
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    for words in [&["status"][..], &["send", "ana", "x"], &["chat"]] {
        let said = check(words, &[("GATELET_URL", &url), ("GATELET_TOKEN", "wrong-token-0123456789")], "hi\n", 5);
        assert!(!said.err.contains("wrong-token"), "does not repeat the token: {}", said.err);
    }
    let user = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", USER)];
    for words in [
        &["send", "bob", "x"][..],
        &["agents"],
        &["agents", "tools"],
        &["approvals"],
        &["approvals", "allow", "apr_x"],
        &["memory", "list", "bob"],
    ] {
        check(words, &user, "", 5);
    }
}

#[test]
fn without_a_word_it_serves() {
    let mut gateway = Gateway::prepare(echo_config());
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(&gateway.config_path).arg("--data-dir").arg(&gateway.data);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let up = crate::support::eventually("health", 15, || gateway.healthy().then_some(true));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(up && gateway.exited().is_none());
}
