//! What goes wrong around it: a poison message, a full disk, closed outputs, a damaged store.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::{DOOR, knock, with_sink};
use crate::support::gateway::{Gateway, USER, code_of};
use crate::support::model::{Act, Model, echo_config};
use crate::support::sink::Sink;
use crate::support::ws::Ws;
use crate::support::{eventually, figure, merged, pause, skipped};

#[test]
fn a_poison_message_is_set_aside_and_the_rest_flows() {
    let pid = Arc::new(AtomicI32::new(0));
    let target = pid.clone();
    let model = Model::scripted(move |q| {
        if q.text == "poison" {
            if let Some(pid) = Pid::from_raw(target.load(Ordering::SeqCst)) {
                let _ = kill_process(pid, Signal::KILL); // the gateway that asked: ours
            }
            return Act::Close;
        }
        Act::Say(format!("echo: {}", q.text))
    });
    let sink = Sink::new();
    let mut gateway = Gateway::start(with_sink(&model, &sink));
    pid.store(gateway.pid().as_raw_nonzero().get(), Ordering::SeqCst);
    let id = knock(&gateway, "ana", "poison");
    let mut deaths = 0;
    eventually("the process to stay", 40, || {
        if gateway.exited().is_some() {
            deaths += 1;
            gateway.spawn();
            pid.store(gateway.pid().as_raw_nonzero().get(), Ordering::SeqCst);
            gateway.wait_healthy_or_dead();
            return None;
        }
        (deaths >= 3 && gateway.healthy() && gateway.message(&id)["state"] == "failed").then_some(())
    });
    assert_eq!(deaths, 3, "three times, then it is set aside");
    let life = gateway.message(&id);
    assert!(life["error"].as_str().is_some_and(|e| !e.is_empty()), "says why: {life:#}");
    knock(&gateway, "ana", "after");
    knock(&gateway, "bob", "other");
    eventually("the rest", 10, || {
        let got = sink.got();
        ["echo: after", "echo: other"].iter().all(|t| got.iter().any(|d| d.text() == *t)).then_some(())
    });
    pause(500);
    assert!(gateway.exited().is_none(), "and stays aside");
}

/// A small disk of its own for `use_it`; skips loudly where the system does not let us mount one.
fn with_small_disk(size: &str, use_it: impl FnOnce(&std::path::Path)) {
    let place = TempDir::with_prefix("gatelet-disk-").unwrap();
    let mount = |args: &[&str]| {
        Command::new("mount").args(args).arg(place.path()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]) {
        return skipped("a full disk: mounting a tmpfs is not allowed here (run as root)");
    }
    struct Unmount<'a>(&'a std::path::Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(place.path());
    use_it(place.path());
}

#[test]
fn a_full_disk_is_503_and_heals() {
    with_small_disk("6m", |disk| {
        let logs = TempDir::new().unwrap();
        let (model, sink) = (Model::echo(), Sink::new());
        let mut gateway = Gateway::prepare_in(disk, "suite-config.json", with_sink(&model, &sink));
        gateway.config_path = logs.path().join("config.json");
        gateway.write_config(&crate::support::gateway::with_defaults(with_sink(&model, &sink), gateway.port).to_string());
        gateway.spawn_with(Stdio::null(), Stdio::null());
        gateway.wait_healthy(Instant::now());
        let post = |n: usize| {
            let body = json!({"userId": format!("u{}", n % 5), "message": format!("m{n}"), "messageId": format!("m{n}")});
            gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send()
        };
        let mut accepted: Vec<usize> = (0..5).filter(|n| post(*n).status == 202).collect();
        assert_eq!(accepted.len(), 5);
        sink.until(5, 10);
        // Fill the disk to the last byte.
        let filler = disk.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if std::io::Write::write_all(&mut file, &vec![1u8; size]).is_err() {
                size /= 2;
            }
        }
        let mut refused = 0;
        for n in 5..60 {
            let answer = post(n);
            if answer.status == 202 {
                accepted.push(n);
            } else {
                refused += 1;
                assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                answer.expect_error(503, "unavailable");
            }
        }
        assert!(refused > 0, "a full disk takes nothing");
        assert!(gateway.healthy(), "it is alive");
        eventually("ready to tell", 10, || (gateway.call("GET", "/ready").send().status == 503).then_some(()));
        drop(file);
        std::fs::remove_file(&filler).unwrap();
        let healed = Instant::now();
        eventually("it to heal", 5, || Some(post(100)).filter(|a| a.status == 202));
        figure(&format!("full disk: {refused} refused, healed {:?} after there was space", healed.elapsed()));
        accepted.push(100);
        eventually("ready", 10, || (gateway.call("GET", "/ready").send().status == 200).then_some(()));
        eventually("all that was accepted", 20, || {
            let got = sink.got();
            accepted.iter().all(|n| got.iter().any(|d| d.text() == format!("echo: m{n}"))).then_some(())
        });
        let got = sink.got();
        for n in accepted {
            let ids: std::collections::HashSet<&str> =
                got.iter().filter(|d| d.text() == format!("echo: m{n}")).map(|d| d.id.as_str()).collect();
            assert_eq!(ids.len(), 1, "m{n} was answered once");
        }
        drop(gateway);
    });
}

#[test]
fn a_closed_output_ends_nothing() {
    let model = Model::echo();
    let mut gateway = Gateway::prepare(merged(model.config(), json!({"log": {"level": "debug"}})));
    gateway.spawn_with(Stdio::piped(), Stdio::piped());
    gateway.wait_healthy(Instant::now());
    gateway.drop_outputs(); // nobody reads any more: writing gives EPIPE
    for n in 0..50 {
        assert_eq!(gateway.ask("ana", &format!("n{n}")), format!("echo: n{n}"));
    }
    assert!(gateway.exited().is_none());
    assert_eq!(gateway.term().0, 0);
}

#[test]
fn an_output_that_nobody_reads_stalls_nothing() {
    let model = Model::echo();
    let mut gateway = Gateway::prepare(merged(model.config(), json!({"log": {"level": "trace"}})));
    gateway.spawn_with(Stdio::piped(), Stdio::piped());
    gateway.wait_healthy(Instant::now());
    for n in 0..600 {
        let began = Instant::now();
        gateway.call("GET", "/api/config").token("wrong-token-0123456789").send();
        assert!(began.elapsed() < Duration::from_secs(2), "request {n} took {:?}", began.elapsed());
    }
    assert_eq!(gateway.ask("ana", "hi"), "echo: hi");
    assert!(gateway.healthy());
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_sink(&model, &sink));
    let mut ws = Ws::join(&gateway, USER);
    gateway.signal(Signal::STOP);
    let (port, body) = (gateway.port, json!({"userId": "ana", "message": "hi", "messageId": "m1"}));
    let asker = std::thread::spawn(move || {
        crate::support::http::Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).send().status
    });
    pause(1500);
    gateway.signal(Signal::CONT);
    assert_eq!(asker.join().unwrap(), 202);
    assert_eq!(sink.until(1, 5)[0].text(), "echo: hi");
    ws.say("c1", "there?");
    assert_eq!(ws.until("message")["message"], "echo: there?");
    pause(300);
    assert_eq!(sink.got().len(), 1, "no burst of repeats");
}

#[test]
fn a_damaged_store_is_never_silently_replaced() {
    for (name, damage) in [
        ("zeroes", (|b: &mut Vec<u8>| b[..200].fill(0)) as fn(&mut Vec<u8>)),
        ("no database", |b| *b = b"this is no database, but it is long enough to look like a file of one".repeat(100)),
    ] {
        let mut gateway = Gateway::start(echo_config());
        gateway.ask("ana", "remember me");
        assert_eq!(gateway.term().0, 0);
        let file = gateway.data.join("gatelet.db");
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        gateway.spawn();
        // It says so and ends, or it sets the damaged file aside, says so and goes on; never without a word.
        let ended =
            eventually("an end or health", 15, || gateway.exited().map(code_of).or_else(|| gateway.healthy().then_some(0)));
        let log = gateway.log().to_lowercase();
        assert!(["corrupt", "damaged", "not a database", "malformed"].iter().any(|w| log.contains(w)), "{name}: {log}");
        assert!(!log.contains("panicked"), "{name}: {log}");
        if ended == 0 {
            let kept =
                std::fs::read_dir(&gateway.data).unwrap().flatten().any(|e| e.file_name().to_string_lossy().contains("corrupt"));
            assert!(kept, "{name}: the damaged file is kept");
        }
    }
}
