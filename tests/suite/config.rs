//! Configuration: read, replaced, merged, watched; refused whole with every problem named; the one that works stays.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER, credentials};
use crate::support::http::Answer;
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;
use crate::support::ws::Ws;
use crate::support::{eventually, merged, pause};

fn put(gateway: &Gateway, config: &Value) -> Answer {
    gateway.call("PUT", "/api/config").token(ADMIN).json(config).send()
}

fn patch(gateway: &Gateway, change: Value) -> Answer {
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&change).send()
}

fn paths(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let errors = json["errors"].as_array().unwrap_or_else(|| panic!("errors in {json}"));
    errors.iter().map(|e| e["path"].as_str().unwrap_or_default().to_string()).collect()
}

fn list(answer: &Answer, name: &str) -> Vec<String> {
    let json = answer.json();
    let list = json[name].as_array().unwrap_or_else(|| panic!("{name} in {json}"));
    list.iter().map(|p| p.as_str().unwrap_or_default().to_string()).collect()
}

#[test]
fn it_is_shown_without_secrets() {
    let config = merged(
        echo_config(),
        json!({"channels": {"door": {"type": "webhook", "secret": "a plain secret of some length", "token": "door-token-0123456789abcdef", "replyUrl": "http://127.0.0.1:1/x", "replySecret": "another plain secret of some length"}}}),
    );
    let gateway = Gateway::start(config);
    let answer = gateway.get("/api/config").expect(200);
    assert!(answer.header("etag").is_some_and(|t| !t.is_empty()));
    let json = answer.json();
    assert_eq!(json["gateway"]["auth"]["token"], "***");
    assert_eq!(json["gateway"]["auth"]["tokens"][0]["token"], "***");
    assert_eq!(json["gateway"]["auth"]["tokens"][0]["name"], "op");
    assert_eq!(json["channels"]["door"]["secret"], "***");
    assert_eq!(json["providers"]["stub"]["apiKey"], "***");
    for secret in [ADMIN, OPERATOR, USER, "a plain secret", "another plain", "door-token", "key-0000"] {
        assert!(!answer.text().contains(secret), "{secret}");
    }
}

#[test]
fn three_stars_leave_a_secret_as_it_is() {
    let model = Model::echo();
    let config =
        merged(model.config(), json!({"channels": {"door": {"type": "webhook", "token": "door-token-0123456789abcdef"}}}));
    let gateway = Gateway::start(config);
    let shown = gateway.get("/api/config").expect(200).json();
    let answer = put(&gateway, &shown).expect(200);
    assert!(
        list(&answer, "applied").is_empty() && list(&answer, "restartRequired").is_empty(),
        "nothing changed: {}",
        answer.text()
    );
    patch(&gateway, json!({"channels": {"door": {"token": "***", "enabled": true}}})).expect(200);
    gateway.get("/api/config").expect(200);
    gateway.call("GET", "/api/sessions/ana").token(USER).send();
    let body = json!({"userId": "ana", "message": "hi"});
    gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef").json(&body).send().expect(202);
    gateway.call("POST", "/webhook/door").token("***").json(&body).send().expect(401);
    // The file on disk still has them, so the next start does too.
    let file = gateway.read_config();
    assert_eq!(file["channels"]["door"]["token"], "door-token-0123456789abcdef");
    assert_eq!(file["gateway"]["auth"]["token"], ADMIN);
    assert_eq!(file["providers"]["stub"]["apiKey"], "key-00000000000000000000");
    // Where there is no secret yet, three stars are none.
    let answer = patch(&gateway, json!({"channels": {"fresh": {"type": "webhook", "token": "***"}}}));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(gateway.ask("ana", "still").contains("still"));
}

#[test]
fn a_named_secret_stays_a_name() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("door");
    std::fs::write(&file, "door-token-from-file-0123\n").unwrap();
    let config = json!({"gateway": {"auth": merged(credentials(), json!({"token": {"env": "SUITE_ADMIN"}}))}, "channels": {"door": {"type": "webhook", "token": {"file": file}}}});
    let mut gateway = Gateway::prepare(merged(echo_config(), config)).env("SUITE_ADMIN", ADMIN);
    gateway.restart();
    let body = json!({"userId": "ana", "message": "hi"});
    gateway.call("POST", "/webhook/door").token("door-token-from-file-0123").json(&body).send().expect(202);
    let shown = gateway.get("/api/config").expect(200);
    assert!(!shown.text().contains("door-token-from-file"));
    put(&gateway, &shown.json()).expect(200);
    let on_disk = gateway.read_config();
    assert_eq!(on_disk["gateway"]["auth"]["token"], json!({"env": "SUITE_ADMIN"}), "the name, not the value");
    assert!(!on_disk.to_string().contains("door-token-from-file"));
    gateway.get("/api/config").expect(200);
}

#[test]
fn a_change_needs_the_state_it_was_made_for() {
    let gateway = Gateway::start(echo_config());
    let etag = gateway.get("/api/config").header("etag").unwrap().to_string();
    let change = json!({"gateway": {"cache": {"ttl": 1000}}});
    let with = |tag: &str| gateway.call("PATCH", "/api/config").token(ADMIN).header("If-Match", tag).json(&change).send();
    with("\"stale\"").expect_error(412, "precondition_failed");
    let answer = with(&etag).expect(200);
    assert!(answer.json()["revision"].is_string() || answer.json()["revision"].is_u64(), "{}", answer.text());
    with(&etag).expect_error(412, "precondition_failed");
    let now = gateway.get("/api/config").header("etag").unwrap().to_string();
    assert_ne!(now, etag);
    with(&now).expect(200);
    with("*").expect(200);
    let parallel = gateway.get("/api/config").header("etag").unwrap().to_string();
    let statuses = crate::support::side_by_side(8, |n| {
        let change = json!({"gateway": {"cache": {"ttl": 2000 + n}}});
        gateway.call("PATCH", "/api/config").token(ADMIN).header("If-Match", &parallel).json(&change).send().status
    });
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
}

/// Over HTTP a document passes the same reader as the file: nesting is bounded, and a key given twice is no riddle.
#[test]
fn what_the_file_may_not_hold_http_may_not_either() {
    let gateway = Gateway::start(echo_config());
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let twice = r#"{"log":{"level":"info"},"log":{"level":"debug"}}"#.to_string();
    for method in ["PUT", "PATCH"] {
        for (body, at) in [(nested(120), "nested"), (nested(100_000), "nested"), (twice.clone(), "$.log")] {
            let call = gateway.call(method, "/api/config").token(ADMIN).header("Content-Type", "application/json");
            let answer = call.body(body).send().expect_error(400, "validation_failed");
            assert!(at == "nested" || paths(&answer) == [at], "{method}: {}", answer.json());
        }
    }
    assert_eq!(gateway.get("/health").status, 200);
}

#[test]
fn every_problem_is_named_at_once() {
    let gateway = Gateway::start(echo_config());
    let before = (gateway.read_config(), gateway.get("/api/config").header("etag").map(str::to_string));
    let answer = patch(
        &gateway,
        json!({
        "gateway": {"listen": "nowhere", "rateLimit": {"maxRequests": -1, "windw": 5}, "workers": {"http": "four"}},
        "agents": {"main": {"provider": "nope"}},
        "channels": {"x": {"type": "pigeon"}},
        "bindings": [{"channel": "nope", "user": "*", "agent": "gone"}],
        "colour": "red"}),
    );
    let answer = answer.expect_error(400, "validation_failed");
    let found = paths(&answer);
    for path in [
        "$.gateway.listen",
        "$.gateway.rateLimit.maxRequests",
        "$.gateway.rateLimit.windw",
        "$.gateway.workers.http",
        "$.agents.main.provider",
        "$.channels.x.type",
        "$.bindings[0].agent",
        "$.colour",
    ] {
        assert!(found.iter().any(|p| p == path), "{path} in {found:?}");
    }
    let json = answer.json();
    let unknown = json["errors"].as_array().unwrap().iter().find(|e| e["path"] == "$.gateway.rateLimit.windw").unwrap();
    assert!(unknown["message"].as_str().is_some_and(|m| m.contains("window")), "names the nearest key: {unknown}");
    assert_eq!((gateway.read_config(), gateway.get("/api/config").header("etag").map(str::to_string)), before, "refused whole");
    for bad in ["", "{", "[]", "null", "5", "\"x\""] {
        let call = gateway.call("PUT", "/api/config").token(ADMIN).header("Content-Type", "application/json").body(bad);
        call.send().expect_error(400, "validation_failed");
    }
}

#[test]
fn a_change_is_applied_live() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(model.config());
    let mut ws = Ws::join(&gateway, USER);
    // A rate limit.
    let answer =
        patch(&gateway, json!({"gateway": {"rateLimit": {"enabled": true, "window": 60000, "maxRequests": 3}}})).expect(200);
    assert!(list(&answer, "applied").iter().any(|p| p.contains("rateLimit")), "{}", answer.text());
    assert!(list(&answer, "restartRequired").is_empty());
    let ask = || gateway.call("GET", "/api/sessions/ana").token(OPERATOR).send().status;
    assert!((0..4).map(|_| ask()).any(|s| s == 429));
    // Those who would lift it may be limited as well: the file asks nobody.
    gateway.write_config(&merged(gateway.read_config(), json!({"gateway": {"rateLimit": {"enabled": false}}})).to_string());
    eventually("the limit to be lifted", 10, || (ask() != 429).then_some(()));
    // A token.
    let mut tokens = credentials()["tokens"].as_array().unwrap().clone();
    tokens.push(json!({"name": "carl", "role": "user", "token": "carls-token-0123456789abcdef"}));
    patch(&gateway, json!({"gateway": {"auth": {"tokens": tokens}}})).expect(200);
    let carl = gateway.call("GET", "/api/sessions/carl").token("carls-token-0123456789abcdef").send();
    assert!(matches!(carl.status, 200 | 404), "{}", carl.status);
    // A channel.
    let door = json!({"type": "webhook", "token": "door-token-0123456789abcdef", "replyUrl": sink.url});
    patch(&gateway, json!({"channels": {"door": door}})).expect(200);
    let body = json!({"userId": "ana", "message": "ding"});
    gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef").json(&body).send().expect(202);
    assert_eq!(sink.until(1, 10)[0].text(), "echo: ding");
    patch(&gateway, json!({"channels": {"door": null}})).expect(200);
    gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef").json(&body).send().expect(401);
    // An agent's words.
    patch(&gateway, json!({"agents": {"main": {"systemPrompt": "You are a lamp."}}})).expect(200);
    ws.say("c1", "hi");
    ws.until("message");
    assert!(model.asked().last().unwrap().body["messages"][0]["content"].to_string().contains("lamp"));
    // The socket that was there before lived through it all. What needs a restart says so.
    let answer = patch(&gateway, json!({"gateway": {"workers": {"turns": 3}}})).expect(200);
    let told = [list(&answer, "applied"), list(&answer, "restartRequired")].concat();
    assert!(told.iter().any(|p| p.contains("workers")), "{}", answer.text());
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let mut gateway = Gateway::start(echo_config());
    patch(&gateway, json!({"agents": {"main": {"maxHistory": 7}}})).expect(200);
    gateway.kill9();
    gateway.restart();
    assert_eq!(gateway.get("/api/config").json()["agents"]["main"]["maxHistory"], 7);
    let shown = gateway.get("/api/config").json();
    put(&gateway, &merged(shown, json!({"agents": {"main": {"maxHistory": null}}}))).expect(200);
    gateway.kill9();
    gateway.restart();
    assert_ne!(gateway.get("/api/config").json()["agents"]["main"]["maxHistory"], 7, "PUT replaces");
}

#[test]
fn a_changed_file_and_a_signal_are_noticed() {
    let gateway = Gateway::start(echo_config());
    let history = || gateway.get("/api/config").json()["agents"]["main"]["maxHistory"].as_u64();
    let write = |n: u64| merged(gateway.read_config(), json!({"agents": {"main": {"maxHistory": n}}})).to_string();
    gateway.write_config(&write(11));
    eventually("the written file", 10, || (history() == Some(11)).then_some(()));
    // As editors do: a new file renamed over the old one.
    let beside = gateway.data.join("beside.json");
    std::fs::write(&beside, write(12)).unwrap();
    std::fs::rename(&beside, &gateway.config_path).unwrap();
    eventually("the renamed file", 10, || (history() == Some(12)).then_some(()));
    gateway.write_config(&write(13));
    gateway.signal(Signal::HUP);
    eventually("SIGHUP", 10, || (history() == Some(13)).then_some(()));
    assert!(gateway.healthy());
}

#[test]
fn an_invalid_file_changes_nothing_and_is_told() {
    let gateway = Gateway::start(echo_config());
    let good = gateway.read_config();
    let ready = || gateway.call("GET", "/ready").token(OPERATOR).send().expect(200).json();
    for bad in ["{", "", "[]", &merged(good.clone(), json!({"gateway": {"rateLimit": {"windw": 1}}})).to_string()] {
        gateway.write_config(bad);
        let told = eventually(&format!("degraded by {bad:.20}"), 10, || Some(ready()).filter(|r| r["status"] == "degraded"));
        assert!(told["checks"].to_string().contains("onfig"), "{told}");
        assert_eq!(gateway.ask("ana", "hi"), "echo: hi");
        gateway.write_config(&good.to_string());
        eventually("ready again", 10, || (ready()["status"] == "ready").then_some(()));
    }
}

#[test]
fn a_storm_of_changes_leaves_it_whole() {
    let gateway = Gateway::start(echo_config());
    let mut ws = Ws::join(&gateway, USER);
    let before = gateway.settled();
    for n in 0..100u64 {
        match n % 4 {
            0 => gateway.signal(Signal::HUP),
            1 => drop(patch(&gateway, json!({"agents": {"main": {"maxHistory": n + 1}}})).expect(200)),
            2 => drop(patch(&gateway, json!({"agents": {"main": {"maxHistory": "many"}}})).expect(400)),
            _ => drop(gateway.get("/api/config").expect(200)),
        }
    }
    ws.say("c1", "hi");
    assert_eq!(ws.until("message")["message"], "echo: hi");
    assert_eq!(gateway.get("/api/config").json()["agents"]["main"]["maxHistory"], 98);
    assert_eq!(gateway.read_config()["agents"]["main"]["maxHistory"], 98);
    let after = gateway.stat();
    assert!(after.threads <= before.threads && after.fds <= before.fds + 8, "{before:?} → {after:?}");
    assert!(after.rss_kb < before.rss_kb + 4096, "{before:?} → {after:?}");
}

#[test]
fn killed_while_it_writes_the_file_is_old_or_new() {
    let mut gateway = Gateway::start(echo_config());
    for round in 0..8 {
        let (port, pid) = (gateway.port, gateway.pid());
        let killer = std::thread::spawn(move || {
            pause(20 + round * 7);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        });
        for n in 0..1000 {
            let body = json!({"agents": {"main": {"maxHistory": n + 1}}});
            let call = crate::support::http::Call::new(port, "PATCH", "/api/config").token(ADMIN).json(&body);
            if call.attempt().is_err() {
                break;
            }
        }
        killer.join().unwrap();
        gateway.wait_exit(5);
        let whole = gateway.read_config();
        assert!(whole["gateway"]["listen"].is_string() && whole["agents"]["main"].is_object(), "{whole}");
        gateway.restart();
    }
    let left: Vec<String> = std::fs::read_dir(&gateway.data)
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.contains("tmp"))
        .collect();
    assert!(left.len() <= 1, "half-written files pile up: {left:?}");
}

#[test]
fn programs_are_named_in_the_file_alone() {
    let gateway = Gateway::start(echo_config());
    for change in [json!({"tools": {"mcp": {"x": {"command": "/bin/true"}}}}), json!({"tools": {"shell": {"enabled": true}}})] {
        let answer = patch(&gateway, change.clone());
        assert!(matches!(answer.status, 400 | 403), "{change}: {}", answer.text());
        assert!(gateway.read_config()["tools"].is_null());
    }
}

#[test]
fn an_invalid_start_uses_the_last_one_that_worked() {
    let mut gateway = Gateway::start(echo_config());
    assert_eq!(gateway.term().0, 0);
    gateway.write_config("{\"gateway\": {\"lisen\": 5}}");
    gateway.restart();
    assert_eq!(gateway.ask("ana", "hi"), "echo: hi");
    let ready = gateway.call("GET", "/ready").token(OPERATOR).send().expect(200).json();
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert!(gateway.log().contains("lisen"), "the log says why: {}", gateway.log());
}

/// Starts with this file and nothing that worked before: exit 3, and stderr names all of `paths`.
fn check_refused(text: &str, paths: &[&str]) {
    let mut gateway = Gateway::prepare(json!({}));
    gateway.write_config(text);
    gateway.spawn();
    let status = gateway.wait_exit(10);
    assert_eq!(status.code(), Some(3), "{text}: {}", gateway.log());
    for path in paths {
        assert!(gateway.log().contains(path), "{path} in: {}", gateway.log());
    }
    assert!(!gateway.data.join("gatelet.db").exists(), "no half start");
}

#[test]
fn an_invalid_first_start_is_refused_with_every_path() {
    check_refused("{", &["suite-config.json"]);
    check_refused("[]", &[]);
    check_refused(
        r#"{"gateway": {"lisen": "x", "workers": {"http": -1}}, "agents": {"main": {"provider": "nope"}}}"#,
        &["gateway.lisen", "listen", "gateway.workers.http", "agents.main.provider"],
    );
    check_refused(r#"{"gateway": {"listen": "127.0.0.1:99999"}}"#, &["gateway.listen"]);
    check_refused(r#"{"gateway": {"workers": {"http": 0}}}"#, &["gateway.workers.http"]);
    check_refused(r#"{"channels": {"door": {"type": "webhook", "replyUrl": "gopher://x"}}}"#, &["channels.door.replyUrl"]);
    check_refused(r#"{"gateway": {"cache": {"ttl": 1}, "cache": {"ttl": 2}}}"#, &[]);
}

#[test]
fn a_config_file_that_is_named_and_missing_is_an_error() {
    let mut gateway = Gateway::prepare(json!({}));
    std::fs::remove_file(&gateway.config_path).unwrap();
    gateway.spawn();
    let status = gateway.wait_exit(10);
    assert!(status.code().is_some_and(|c| c != 0), "{status}");
    assert!(gateway.log().contains("suite-config.json"), "{}", gateway.log());
}

#[test]
fn a_thousand_broken_files_never_bring_it_down() {
    let gateway = Gateway::start(echo_config());
    let good = gateway.read_config().to_string().into_bytes();
    let mut random = crate::support::Random::new(7);
    for n in 0..150 {
        let mut bytes = good.clone();
        match n % 3 {
            0 => bytes.truncate(random.between(0, bytes.len() as u64) as usize),
            1 => {
                let at = random.between(0, bytes.len() as u64) as usize;
                bytes[at] = random.between(0, 256) as u8;
            }
            _ => {
                let at = random.between(0, bytes.len() as u64) as usize;
                bytes.splice(at..at, (0..5).map(|_| b"{}[]\",:0x\xff"[random.between(0, 10) as usize]));
            }
        }
        std::fs::write(&gateway.config_path, &bytes).unwrap();
        gateway.signal(Signal::HUP);
        pause(4);
    }
    gateway.write_config(&String::from_utf8(good).unwrap());
    gateway.signal(Signal::HUP);
    eventually("ready again", 15, || gateway.call("GET", "/ready").send().status.eq(&200).then_some(()));
    eventually("the admin's token", 15, || {
        let answer = gateway.call("GET", "/ready").patience(Duration::from_secs(5)).token(ADMIN).send();
        (answer.field("status") == "ready").then_some(())
    });
    assert_eq!(gateway.ask("ana", "hi"), "echo: hi");
}
