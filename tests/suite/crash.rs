//! Killed again and again under load, counted from truth files that stand outside of it.
//!
//! Fifty senders write numbered messages, each repeating one until it is accepted; the gateway is killed with SIGKILL at random
//! moments and started again on the same data. In the end: lost 0; doubled 0 outside the sends that were cut off mid-call (those
//! bear the same `webhook-id`, and are at most as many as kills times delivery workers); order kept in each session; nothing
//! delivered that was never sent; each message once in its transcript; ready again within a second.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::oracle::{DOOR, Load, World, count, settled};
use crate::support::sink::Sink;
use crate::support::{Random, eventually, figure, from_env, heavy, merged, pause, percentile, side_by_side};

const SENDERS: usize = 50;

/// Kills and restarts; gives how long each start took to its first 200 on /health.
fn kill_again_and_again(gateway: &mut Gateway, kills: u64, world: &World, random: &mut Random) -> Vec<Duration> {
    let mut boots = Vec::new();
    for n in 0..kills {
        pause(random.between(100, 1600));
        gateway.kill9();
        world.killed();
        if n % 5 == 4 {
            // A second kill while it recovers.
            gateway.spawn();
            pause(random.between(0, 40));
            gateway.kill9();
            world.killed();
        }
        gateway.restart();
        boots.push(gateway.boot);
    }
    boots
}

/// Each accepted message is answered and once in its transcript, followed by its answer.
fn check_transcripts(gateway: &Gateway, world: &World) {
    let lines = world.accepted.lines();
    side_by_side(8, |part| {
        for line in lines.iter().skip(part).step_by(8) {
            let life = gateway.message(&line[2]);
            let wanted = json!(["answered", format!("echo: {}-{}", line[0], line[1])]);
            assert_eq!(json!([life["state"], life["reply"]]), wanted, "{life:#}");
        }
    });
    let users: HashSet<&String> = lines.iter().map(|l| &l[0]).collect();
    for user in users {
        let json = gateway.get(&format!("/api/sessions/{user}")).expect(200).json();
        let sessions = json["sessions"].as_array().expect("sessions");
        assert_eq!(sessions.len(), 1, "{user}");
        let entries: Vec<(&str, &str)> = sessions[0]["transcript"]
            .as_array()
            .expect("a transcript")
            .iter()
            .map(|e| (e["role"].as_str().unwrap_or_default(), e["text"].as_str().unwrap_or_default()))
            .collect();
        let mut number = None;
        for pair in entries.chunks(2) {
            let said: u64 = pair[0].1.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{pair:?}"));
            assert_eq!(pair, [("user", format!("{user}-{said}").as_str()), ("assistant", &format!("echo: {user}-{said}"))]);
            assert!(number.is_none_or(|n| n + 1 == said), "{user}: {said} after {number:?}");
            number = Some(said);
        }
    }
}

#[test]
fn killed_again_and_again_nothing_is_lost_doubled_or_disordered() {
    let _alone = heavy();
    let kills = from_env("GATELET_KILLS", 30);
    let mut random = Random::seeded("crash");
    let (world, model) = (World::new(), Model::echo());
    let sink = world.sink();
    let mut gateway = Gateway::start(World::config(&model, &sink));
    let busiest = AtomicU64::new(0);

    let load = Load::begin(&world, gateway.port, SENDERS, 400);
    let mut boots = kill_again_and_again(&mut gateway, kills, &world, &mut random);
    busiest.store(gateway.stat().rss_kb, Ordering::SeqCst);
    load.end();

    let counted = settled(&world, 20);
    let slowest = percentile(&mut boots, 100);
    let deaths = world.kills.lines().len();
    figure(&format!(
        "crash: {deaths} kills, {} accepted, {} delivered, lost {}, doubled {}, cut off {} (at most {} ms before the death), disordered {}, phantom {}; ready again: median {:?}, slowest {slowest:?}; {} KiB",
        counted.accepted,
        counted.delivered,
        counted.lost.len(),
        counted.doubled.len(),
        counted.cut_off,
        counted.longest_ms,
        counted.disordered.len(),
        counted.phantom.len(),
        percentile(&mut boots, 50),
        busiest.load(Ordering::SeqCst)
    ));
    assert_eq!(counted.verdict(), Ok(()));
    assert!(slowest <= Duration::from_secs(1), "ready again after {slowest:?}");
    assert!(counted.accepted > SENDERS * 5, "there was a load: {}", counted.accepted);

    check_transcripts(&gateway, &world);
    let dead: Value = gateway.get("/api/outbox?state=dead").expect(200).json();
    assert!(!dead.to_string().contains("dlv_") && !dead.to_string().contains("webhook-id"), "no dead letter: {dead}");
    assert_eq!(gateway.term().0, 0);
    check_integrity(&gateway);
}

fn check_integrity(gateway: &Gateway) {
    let file = gateway.data.join("gatelet.db");
    let database = rusqlite::Connection::open(&file).expect("the store's file");
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("integrity_check");
    assert_eq!(verdict, "ok");
}

/// The count itself: it finds what it is there to find.
#[test]
fn the_count_tells_lost_doubled_cut_off_disordered_and_phantom_apart() {
    let world = World::new();
    for n in ["1", "2", "3", "4", "5"] {
        world.accepted.note(&["u0", n, "msg"]);
    }
    world.kills.note(&["1200"]);
    for (at, id, user, text) in [
        ("100", "a", "u0", "echo: u0-1"),
        ("1100", "b", "u0", "echo: u0-2"),
        ("1250", "b", "u0", "echo: u0-2"), // killed right after the first one: cut off
        ("1300", "a", "u0", "echo: u0-1"), // long before the kill: doubled
        ("1400", "d", "u0", "echo: u0-4"), // before the third: disordered, and so is the third
        ("1500", "c", "u0", "echo: u0-3"),
        ("1600", "x", "u0", "echo: u0-4"), // answered twice: another id
        ("1700", "e", "u0", "echo: u0-9"), // never sent
        ("1700", "f", "u1", "echo: u0-2"), // another user's
    ] {
        world.delivered.note(&[at, id, user, text]);
    }
    let found = count(&world);
    let figures =
        (found.accepted, found.delivered, found.cut_off, found.doubled.len(), found.disordered.len(), found.phantom.len());
    assert_eq!(figures, (5, 4, 1, 2, 2, 2), "{:?} {:?} {:?}", found.doubled, found.disordered, found.phantom);
    assert_eq!(found.lost, ["u0-5"]);
}

/// Each kill comes so soon that little is done in between: it must get through all the same.
#[test]
fn progress_is_made_however_short_the_lives_are() {
    let _alone = heavy();
    let mut random = Random::seeded("brown-out");
    let (model, sink) = (Model::echo(), Sink::new());
    let door = json!({"channels": {"door": {"type": "webhook", "token": DOOR, "replyUrl": sink.url}},
        "gateway": {"retry": {"maxRetries": 100, "delay": 50}}});
    let mut gateway = Gateway::start(merged(model.config(), door));
    for n in 0..200 {
        let body = json!({"userId": format!("u{}", n % 20), "message": format!("m{n}"), "messageId": format!("m{n}")});
        gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    }
    for _ in 0..25 {
        gateway.kill9();
        gateway.restart();
        pause(random.between(5, 120));
    }
    let said = || sink.got().iter().map(|d| d.text().to_string()).collect::<HashSet<_>>();
    eventually("all replies", 30, || (said().len() == 200).then_some(()));
    let failed = gateway.get("/api/metrics").expect(200);
    assert!(failed.status == 200);
    for n in [0, 77, 199] {
        assert!(said().contains(&format!("echo: m{n}")), "m{n}: being killed beside it makes no message a poison");
    }
}
