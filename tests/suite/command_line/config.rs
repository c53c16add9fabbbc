//! Setting up: init, doctor, token, config, logs.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::check;
use crate::support::eventually;
use crate::support::gateway::{ADMIN, BINARY, Gateway, free_port};
use crate::support::model::echo_config;

#[test]
fn init_writes_what_passes_check() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, file) = (path("data"), path("conf/gatelet.json"));
    let at = ["--config", file.as_str(), "--data-dir", data.as_str()];
    let with = |words: &[&'static str]| -> Vec<&str> { words.iter().copied().chain(at).collect() };
    const KEY: &str = "sk-canary-0123456789abcdef";
    const BOT: &str = "123456:AAcanaryddeeffgghhiijjkkllmmnnooppq";
    let secrets = [("GATELET_INIT_API_KEY", KEY), ("GATELET_INIT_TELEGRAM_TOKEN", BOT)];
    let said = check(&with(&["init", "--yes", "--listen", "127.0.0.1:9123", "--provider", "anthropic"]), &secrets, "", 0);
    assert!(said.out.contains("gatelet serve") && !said.out.contains("canary"), "{}", said.out);
    check(&with(&["check"]), &[], "", 0);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("9123") && !written.contains("canary"), "{written}");
    for (file, text) in [("data/secrets/model-key", KEY), ("data/secrets/telegram-token", BOT)] {
        assert_eq!(std::fs::read_to_string(path(file)).unwrap().trim(), text);
    }
    for (file, mode) in
        [("conf/gatelet.json", 0o600), ("data/secrets/model-key", 0o600), ("data", 0o700), ("data/secrets", 0o700)]
    {
        assert_eq!(std::fs::metadata(path(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    let again = check(&with(&["init", "--yes"]), &[], "", 1);
    assert!(again.err.contains("--force"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written, "it stays");
    let said = check(&with(&["init", "--yes", "--force", "--json"]), &[], "", 0);
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap()["listen"], "127.0.0.1:8787");
    check(&with(&["check"]), &[], "", 0);
    // What comes to no configuration is told whole, and not written.
    let before = std::fs::read_to_string(&file).unwrap();
    let bad = check(&with(&["init", "--yes", "--force", "--listen", "everywhere", "--telegram-token", "x"]), &[], "", 3);
    assert!(bad.err.contains("$.gateway.listen"), "{}", bad.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    check(&with(&["init", "--yes", "--force", "--base-url", "http://x/v1", "--provider", "auto"]), &[], "", 2);
}

#[test]
fn doctor_says_what_is_wrong() {
    let gateway = Gateway::start(echo_config());
    let at = ["--config", gateway.config_path.to_str().unwrap(), "--data-dir", gateway.data.to_str().unwrap()];
    let report = |at: &[&str], code: i32| -> Value {
        let said = check(&[&["doctor", "--json"], at].concat(), &[], "", code);
        assert!(!said.out.contains(ADMIN));
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.out))
    };
    let state = |report: &Value, check: &str| -> String {
        let found = report["checks"].as_array().unwrap().iter().find(|c| c["check"] == check);
        found.unwrap_or_else(|| panic!("{check}: {report}"))["state"].as_str().unwrap().to_string()
    };
    let healthy = report(&at, 0);
    for check in ["clock", "configuration", "port", "database", "disk", "model stub", "channel default"] {
        assert_eq!(state(&healthy, check), "ok", "{check}: {healthy}");
    }
    assert!(check(&[&["doctor"], &at[..]].concat(), &[], "", 0).out.contains("ok   port: "));
    // The same without the gateway, a model server that is gone, a port that another program has, a directory that is none.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.json");
    let dead = format!("http://127.0.0.1:{}/v1", free_port());
    let config = json!({"gateway": {"listen": taken.local_addr().unwrap().to_string()},
        "providers": {"gone": {"type": "openai", "baseUrl": dead, "apiKey": "sk-canary-0123456789"}},
        "channels": {"bot": {"type": "telegram", "token": "123456:AAcanaryddeeffgghhiijjkkllmmnnooppq", "apiRoot": dead}}});
    std::fs::write(&file, config.to_string()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ill = report(&["--config", file.to_str().unwrap(), "--data-dir", folder.path().join("data").to_str().unwrap()], 1);
    assert!(!ill.to_string().contains("canary"), "{ill}");
    for (check, expected) in [("port", "fail"), ("model gone", "fail"), ("channel bot", "fail"), ("database", "ok")] {
        assert_eq!(state(&ill, check), expected, "{check}: {ill}");
    }
    let open = ill["checks"].as_array().unwrap().iter().any(|c| c["check"] == "configuration" && c["state"] == "warn");
    assert!(open, "a secret in an open file: {ill}");
    assert_eq!(ill["healthy"], false);
    let invalid = folder.path().join("bad.json");
    std::fs::write(&invalid, r#"{"gatway": 1}"#).unwrap();
    let bad = report(&["--config", invalid.to_str().unwrap(), "--data-dir", file.to_str().unwrap()], 1);
    assert_eq!((state(&bad, "configuration").as_str(), state(&bad, "data directory").as_str()), ("fail", "fail"));
}

#[test]
fn a_token_is_shown_and_renewed() {
    let port = free_port();
    let config = json!({"gateway": {"listen": format!("127.0.0.1:{port}"), "auth": {"mode": "token"}}});
    let gateway = Gateway::prepare(echo_config());
    gateway.write_config(&crate::support::merged(echo_config(), config).to_string());
    let mut gateway = gateway;
    gateway.port = port;
    let at =
        ["--config", gateway.config_path.to_str().unwrap(), "--data-dir", gateway.data.to_str().unwrap()].map(str::to_string);
    let tell = |words: &[&str], code: i32| {
        check(&words.iter().copied().chain(at.iter().map(String::as_str)).collect::<Vec<_>>(), &[], "", code)
            .out
            .trim()
            .to_string()
    };
    assert!(tell(&["token"], 0).contains("not there yet"));
    tell(&["token", "show"], 1);
    gateway.restart();
    let first = tell(&["token", "show"], 0);
    assert!(tell(&["token"], 0).ends_with("/token"));
    gateway.call("GET", "/api/channels").token(&first).send().expect(200);
    let second = tell(&["token", "new"], 0);
    assert_ne!(first, second);
    assert_eq!(tell(&["token", "show"], 0), second);
    eventually("the new one counts", 10, || {
        (gateway.call("GET", "/api/channels").token(&second).send().status == 200).then_some(())
    });
    gateway.call("GET", "/api/channels").token(&first).send().expect(401);
    assert_eq!(std::fs::metadata(gateway.data.join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    // One that the configuration has is not ours to change.
    let other = Gateway::prepare(echo_config());
    let at = ["--config", other.config_path.to_str().unwrap(), "--data-dir", other.data.to_str().unwrap()];
    assert_eq!(check(&[&["token", "show"], &at[..]].concat(), &[], "", 0).out.trim(), ADMIN);
    check(&[&["token", "new"], &at[..]].concat(), &[], "", 1);
}

#[test]
fn the_configuration_is_shown_and_changed() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let there = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    let tell = |words: &[&str], code: i32| check(words, &there, "", code);
    assert!(!tell(&["config"], 0).out.contains(ADMIN));
    assert_eq!(tell(&["config", "get", "agents.main.maxHistory"], 0).out, "40\n");
    assert!(tell(&["config", "set", "agents.main.maxHistory", "12"], 0).out.contains("applied: agents.main.maxHistory"));
    assert_eq!(tell(&["config", "get", "$.agents.main.maxHistory", "--json"], 0).out, "12\n");
    tell(&["config", "set", "agents.main.systemPrompt", "be kind"], 0);
    assert_eq!(tell(&["config", "get", "agents.main.systemPrompt"], 0).out, "be kind\n");
    let refused = tell(&["config", "set", "agents.main.maxHistry", "12"], 3);
    assert!(refused.err.contains("maxHistory"), "{}", refused.err);
    tell(&["config", "set", "tools.shell", "{}"], 5);
    tell(&["config", "get", "agents.nobody"], 1);
    tell(&["config", "get", "a..b"], 2);
    assert!(tell(&["config", "set", "gateway.workers.turns", "2"], 0).out.contains("after a restart"));
    assert!(serde_json::from_str::<Value>(&tell(&["config", "schema"], 0).out).unwrap()["properties"].is_object());
    let at = ["--config", gateway.config_path.to_str().unwrap(), "--data-dir", gateway.data.to_str().unwrap()];
    check(&[&["config", "reload"], &at[..]].concat(), &[], "", 0);
    assert!(check(&[&["config", "path"], &at[..]].concat(), &[], "", 0).out.contains("suite-config.json"));
}

#[test]
fn logs_follow() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let there = [("GATELET_URL", url.as_str()), ("GATELET_TOKEN", ADMIN)];
    assert_eq!(check(&["logs", "-n", "1"], &there, "", 0).out.lines().count(), 1);
    assert_eq!(check(&["logs", "-n", "0"], &there, "", 0).out, "");
    check(&["logs", "-n", "many"], &there, "", 2);
    check(&["logs", "--level", "loud"], &there, "", 2);
    assert!(check(&["logs", "--level", "error"], &there, "", 0).out.lines().all(|l| l.contains(" error ")));
    let mut child = Command::new(BINARY)
        .args(["logs", "-f", "-n", "0", "--json"])
        .envs(there)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn({
            let (gateway, over) = (&gateway, &over);
            move || {
                // Records come from before it listens, too: until one is seen.
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    gateway.ask("ana", "hello");
                    crate::support::pause(200);
                }
            }
        });
        let line = lines.next().unwrap().unwrap();
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(serde_json::from_str::<Value>(&line).unwrap()["message"].is_string(), "{line}");
    });
    child.kill().unwrap();
    child.wait().unwrap();
}
