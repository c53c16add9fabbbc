//! Bounds over time: what is kept stays within `store.maxBytes` whatever comes, what waits for anybody never goes, memory that is short refuses what
//! brings more, what is written is counted, and at rest nothing is.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{DOOR, with_door};
use crate::support::gateway::Gateway;
use crate::support::http::{Call, Connection};
use crate::support::model::{Act, Model, echo_config};
use crate::support::sink::Sink;
use crate::support::{eventually, figure, merged, pause, side_by_side};

/// The least that `store.maxBytes` can be.
const CAP: u64 = 16 << 20;

fn capped(config: Value) -> Value {
    let more = json!({"gateway": {"heartbeat": {"interval": 300}, "retry": {"maxRetries": 0}}, "store": {"maxBytes": CAP}});
    merged(config, more)
}

/// Bytes of the database, its log and the attachments, as files.
fn on_disk(data: &Path) -> u64 {
    let size = |name: &str| std::fs::metadata(data.join(name)).map_or(0, |file| file.len());
    let files = std::fs::read_dir(data.join("gatelet.db-attachments")).into_iter().flatten().flatten();
    size("gatelet.db") + size("gatelet.db-wal") + files.map(|f| f.metadata().map_or(0, |m| m.len())).sum::<u64>()
}

/// Sends one until it is taken; gives its id, and how often it was refused.
fn persist(port: u16, user: &str, text: &str, id: &str) -> (String, u32) {
    let body = json!({"userId": user, "message": text, "messageId": id});
    for refused in 0.. {
        match Call::new(port, "POST", "/webhook/default").json(&body).token(crate::support::gateway::ADMIN).attempt() {
            Ok(answer) if answer.status == 202 => return (answer.field("id"), refused),
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
            Err(_) => {}
        }
        assert!(refused < 3000, "{user} was refused for too long");
        pause(20);
    }
    unreachable!()
}

#[test]
fn thousands_of_messages_and_two_kills_stay_within_the_bound() {
    let sink = Sink::scripted(|_, _| 404.into());
    let mut gateway =
        Gateway::start(merged(capped(with_door(echo_config(), &sink)), json!({"agents": {"main": {"maxHistory": 2}}})));
    let dead = gateway.call("POST", "/webhook/door").token(DOOR).json(&json!({"userId": "dora", "message": "never delivered"}));
    dead.send().expect(202);
    let dead_letter =
        eventually("the dead letter", 10, || gateway.get("/api/outbox?state=dead").json()["outbox"].as_array()?.first().cloned());
    let (port, text) = (gateway.port, "t".repeat(6_000));
    let (senders, each) = (8, 250);
    let (mut most, mut over) = (0, 0);
    let kills = AtomicU32::new(0);
    // They go on until it came near its bound twice, within reason: a machine that is busy may miss the moment.
    let goes_on = |n: usize| n < each || (n < 4 * each && kills.load(Ordering::SeqCst) < 2);
    let taken: Vec<(Vec<String>, u32)> = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            side_by_side(senders, |s| {
                let sent = (0..).take_while(|n| goes_on(*n));
                let sent = sent.map(|n| persist(port, &format!("u{s}"), &format!("{s}-{n} {text}"), &format!("{s}-{n}")));
                let (ids, refused): (Vec<_>, Vec<u32>) = sent.unzip();
                (ids, refused.iter().sum())
            })
        });
        while !work.is_finished() {
            let size = on_disk(&gateway.data);
            most = most.max(size);
            over += u64::from(size > CAP);
            // Near the bound it is removing what is old: the worst moment.
            if kills.load(Ordering::SeqCst) < 2 && size > CAP / 16 * 15 {
                gateway.kill9();
                gateway.restart();
                pause(400);
                kills.fetch_add(1, Ordering::SeqCst);
            }
            pause(20);
        }
        assert_eq!(kills.load(Ordering::SeqCst), 2, "it came near its bound twice");
        work.join().expect("the senders")
    });
    let refused: u32 = taken.iter().map(|(_, refused)| refused).sum();
    figure(&format!(
        "{} messages of 6 KB: at most {most} bytes on disk of {CAP}, refused {refused} times, over it {over} looks",
        taken.iter().map(|(ids, _)| ids.len()).sum::<usize>()
    ));
    let idle = || gateway.get("/api/metrics").json()["messages"]["queued"] == 0;
    eventually("all of them answered", 120, || idle().then_some(()));
    // The log may be longer than its share until it is cut at rest.
    assert!(most < CAP + (8 << 20), "{most}");
    eventually("room again", 20, || (on_disk(&gateway.data) < CAP).then_some(()));
    let state = |id: &str| gateway.get(&format!("/api/messages/{id}"));
    let (mut whole, mut gone) = (0, 0);
    for (ids, _) in &taken {
        for id in ids {
            let answer = state(id);
            let is_whole = answer.status == 200 && !answer.field("message").is_empty();
            assert!(!is_whole || answer.field("state") == "answered", "{}", answer.text());
            (whole, gone) = if is_whole { (whole + 1, gone) } else { (whole, gone + 1) };
        }
        assert!(!state(&ids[ids.len() - 1]).field("message").is_empty(), "the newest stay");
    }
    assert!(whole > 100 && gone > 300, "{whole} whole, {gone} gone");
    let first = gateway.post("/webhook/default", json!({"userId": "u0", "message": "again", "messageId": "0-0"})).expect(202);
    assert_eq!(
        (first.field("status"), first.field("id")),
        ("duplicate".into(), taken[0].0[0].clone()),
        "a repeat is known all the same"
    );
    let all = gateway.get("/api/outbox?state=dead").expect(200).json();
    assert_eq!(all["outbox"][0]["message"], dead_letter["message"], "{all}");
}

#[test]
fn what_may_not_go_fills_it_and_people_are_told() {
    let model = Model::scripted(|q| if q.text.starts_with("stuck") { Act::Hang } else { Act::Say("ok".into()) });
    let more = json!({"gateway": {"notify": ["owner"], "limits": {"maxBodyBytes": 1048576}}});
    let gateway = Gateway::start(merged(capped(model.config()), more));
    gateway.tell("owner", "hi");
    let text = format!("stuck {}", "s".repeat(200_000));
    let mut accepted = Vec::new();
    let refused = (0..200).find_map(|n| {
        let answer = gateway.post("/webhook/default", json!({"userId": format!("u{n}"), "message": text}));
        match answer.status {
            202 => accepted.push(answer.field("id")),
            _ => return Some(answer),
        }
        None
    });
    let refused = refused.expect("it is full before all of them are taken");
    assert!(refused.header("retry-after").is_some());
    refused.expect_error(503, "unavailable");
    assert!((40..90).contains(&accepted.len()), "{}", accepted.len());
    let ready = gateway.get("/ready");
    assert_eq!((ready.status, ready.field("status")), (503, "unavailable".into()), "{}", ready.text());
    assert!(ready.json()["checks"]["space"].as_str().is_some_and(|s| s.contains("store.maxBytes")), "{}", ready.text());
    for id in &accepted {
        let message = gateway.get(&format!("/api/messages/{id}")).expect(200).json();
        assert!(message["message"].as_str().is_some_and(|m| m.len() == text.len()), "{id} is whole");
    }
    let told = |words: &str| {
        let all = gateway.get("/api/outbox").expect(200).json();
        all["outbox"].as_array().is_some_and(|d| d.iter().any(|d| d["message"].as_str().is_some_and(|m| m.contains(words))))
    };
    eventually("the owner is told", 10, || told("All room is taken").then_some(()));
    // A person decides: what is erased gives room.
    for n in 0..accepted.len() {
        gateway.call("DELETE", &format!("/api/sessions/u{n}")).token(crate::support::gateway::ADMIN).send().expect(204);
    }
    let again = || gateway.post("/webhook/default", json!({"userId": "new", "message": "hi"})).status == 202;
    eventually("it takes messages again", 20, || again().then_some(()));
    eventually("the owner is told that, too", 10, || told("room again").then_some(()));
}

#[test]
fn bytes_written_are_counted_and_held_against_a_budget() {
    let config = json!({"gateway": {"heartbeat": {"interval": 200}}, "store": {"writeBudget": 60000}});
    let gateway = Gateway::start(merged(echo_config(), config));
    if gateway.stat().write_bytes == 0 {
        return crate::support::skipped("the kernel counts no bytes written for this folder");
    }
    for n in 0..20 {
        gateway.tell("ana", &format!("n{n}"));
    }
    let ready =
        eventually("somebody should look", 10, || Some(gateway.get("/ready")).filter(|r| r.field("status") == "degraded"));
    assert_eq!(
        (ready.status, ready.json()["checks"]["written"].as_str().is_some_and(|w| w.contains("writeBudget"))),
        (200, true)
    );
    let process = gateway.get("/api/metrics").json()["process"].clone();
    let (counted, day) = (process["writtenBytes"].as_u64().unwrap_or(0), process["writtenBytesDay"].as_u64().unwrap_or(0));
    assert!(counted > 60_000 && day == counted && process["writeBudget"] == 60000, "{process}");
    let page = gateway.get("/metrics").expect(200).text();
    for name in
        ["gatelet_written_bytes_total ", "gatelet_written_bytes_day ", "gatelet_write_budget_bytes 60000", "gatelet_store_bytes "]
    {
        assert!(page.contains(name), "{name}");
    }
    let raised = json!({"store": {"writeBudget": 0}});
    gateway.call("PATCH", "/api/config").token(crate::support::gateway::ADMIN).json(&raised).send().expect(200);
    eventually("all is well", 10, || (gateway.get("/ready").field("status") == "ready").then_some(()));
}

#[test]
fn at_rest_nothing_is_written() {
    // A hundred heartbeats: retention, what is given back, the account of bytes, channels with connections that fail. Log records
    // of the latter go to a file here, which would count.
    let still = json!({"gateway": {"heartbeat": {"interval": 100}}, "log": {"level": "error"}});
    let channels = json!({"channels": {"bus": {"type": "mqtt", "url": "mqtt://127.0.0.1:9"}}});
    for config in [json!({}), channels] {
        let gateway = Gateway::start(merged(echo_config(), merged(still.clone(), config)));
        let ids: Vec<_> = (0..20).map(|n| gateway.tell("ana", &format!("n{n}"))).collect();
        for id in &ids {
            gateway.until_state(id, "answered", 30);
        }
        pause(1000);
        let before = gateway.settled();
        pause(11_000);
        let after = gateway.stat();
        assert_eq!(after.write_bytes - before.write_bytes, 0, "bytes in 110 heartbeats");
    }
}

#[test]
fn memory_that_is_short_refuses_what_brings_more_until_it_is_there_again() {
    let limits = json!({"gateway": {"heartbeat": {"interval": 300}, "limits": {"maxMemory": 24 << 20, "requestTimeout": 60000}}});
    let gateway = Gateway::start(merged(echo_config(), limits));
    let tell = || gateway.post("/webhook/default", json!({"userId": "ana", "message": "hi"})).status;
    assert_eq!(tell(), 202);
    // Bodies that are nearly there, each at its bound.
    let head =
        "POST /webhook/default HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n";
    let head = format!("{head}Authorization: Bearer {}\r\n\r\n", crate::support::gateway::ADMIN);
    let part = vec![b' '; 1_000_000];
    let mut held = Vec::new();
    for _ in 0..120 {
        let mut connection = Connection::open(gateway.port).expect("a connection");
        connection.patience(Duration::from_secs(5));
        if connection.send(&head).and_then(|()| connection.send(&part)).is_ok() {
            held.push(connection);
        }
        pause(10);
    }
    eventually("new messages are refused", 10, || (tell() == 503).then_some(()));
    let peak = gateway.stat().rss_kb;
    figure(&format!("120 bodies of 1 MB at a bound of 24 MiB: {peak} KB resident"));
    assert!(peak < 96 * 1024, "{peak} KB: what came after the bound was not read");
    assert_eq!(gateway.get("/ready").status, 503);
    assert!(gateway.healthy());
    gateway.get("/api/sessions").expect(200);
    drop(held);
    eventually("they are taken again", 20, || (tell() == 202).then_some(()));
}
