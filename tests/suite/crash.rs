//! Killed again and again under load, counted from truth files that stand outside of it.
//!
//! Fifty senders write numbered messages, each repeating one until it is accepted; the gateway is killed with SIGKILL at random
//! moments and started again on the same data. In the end: lost 0; doubled 0 outside the sends that were cut off mid-call (those
//! bear the same `webhook-id`, and are at most as many as kills times delivery workers); order kept in each session; nothing
//! delivered that was never sent; each message once in its transcript; ready again within a second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::Gateway;
use crate::support::http::Call;
use crate::support::model::Model;
use crate::support::sink::Sink;
use crate::support::truth::Truth;
use crate::support::{Random, eventually, figure, from_env, heavy, merged, pause, percentile, side_by_side};

const SENDERS: usize = 50;
const DELIVERY_WORKERS: usize = 2;
const DOOR: &str = "door-token-0123456789abcdef";
/// A repeat is a send that was cut off only if the process died this soon after the first one.
const CUT_OFF: Duration = Duration::from_millis(250);

/// What happened outside the gateway.
struct World {
    /// user, number, our id: after a 2xx.
    accepted: Truth,
    /// ms, webhook-id, user, text: before the receiver's 2xx.
    delivered: Truth,
    /// ms: after each kill.
    kills: Truth,
    began: Instant,
}

impl World {
    fn new(folder: &TempDir) -> Self {
        let truth = |name| Truth::new(folder.path(), name);
        World { accepted: truth("accepted"), delivered: truth("delivered"), kills: truth("kills"), began: Instant::now() }
    }

    fn now(&self) -> String {
        self.began.elapsed().as_millis().to_string()
    }
}

/// One sender: writes `u<i>-1`, `u<i>-2`, …, each until it is accepted, until it is over.
fn send_all(port: u16, user: usize, world: &World, over: &AtomicBool, pause_ms: u64) {
    let mut random = Random::new(user as u64 * 7919 + 13);
    let name = format!("u{user}");
    for n in 1.. {
        let text = format!("{name}-{n}");
        let body = json!({"userId": name, "message": text, "messageId": text});
        loop {
            let call = Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).patience(Duration::from_secs(10));
            match call.attempt() {
                Ok(answer) if matches!(answer.status, 200 | 202) => {
                    world.accepted.note(&[&name, &n.to_string(), &answer.field("id")]);
                    break;
                }
                Ok(answer) => {
                    assert!(matches!(answer.status, 503 | 500), "a sender was told {}: {}", answer.status, answer.text())
                }
                Err(_) => {}
            }
            if over.load(Ordering::SeqCst) {
                return; // whatever became of this one, it was not accepted
            }
            pause(random.between(10, 40));
        }
        if over.load(Ordering::SeqCst) {
            return;
        }
        pause(random.between(pause_ms / 2, pause_ms * 3 / 2));
    }
}

/// Kills and restarts; gives how long each start took to its first 200 on /health.
fn kill_again_and_again(gateway: &mut Gateway, kills: u64, world: &World, random: &mut Random) -> Vec<Duration> {
    let mut boots = Vec::new();
    for n in 0..kills {
        pause(random.between(100, 1600));
        gateway.kill9();
        world.kills.note(&[&world.now()]);
        if n % 5 == 4 {
            // A second kill while it recovers.
            gateway.spawn();
            pause(random.between(0, 40));
            gateway.kill9();
            world.kills.note(&[&world.now()]);
        }
        gateway.restart();
        boots.push(gateway.boot);
    }
    boots
}

/// Reads the truth files and counts.
struct Count {
    accepted: usize,
    delivered: usize,
    lost: Vec<String>,
    doubled: Vec<String>,
    cut_off: usize,
    /// Of those, the longest time from the first send to the death, in ms.
    longest_ms: u128,
    disordered: Vec<String>,
    phantom: Vec<String>,
}

fn count(world: &World) -> Count {
    let accepted: Vec<String> = world.accepted.lines().iter().map(|l| format!("{}-{}", l[0], l[1])).collect();
    let kills: Vec<u128> = world.kills.lines().iter().map(|l| l[0].parse().expect("ms")).collect();
    let mut count = Count {
        accepted: accepted.len(),
        delivered: 0,
        lost: Vec::new(),
        doubled: Vec::new(),
        cut_off: 0,
        longest_ms: 0,
        disordered: Vec::new(),
        phantom: Vec::new(),
    };
    let mut first: HashMap<String, (u128, String)> = HashMap::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut highest: HashMap<String, u64> = HashMap::new();
    for line in world.accepted.lines() {
        highest.insert(line[0].clone(), line[1].parse().expect("a number"));
    }
    for line in world.delivered.lines() {
        let (at, id, user, text): (u128, &String, &String, &String) =
            (line[0].parse().expect("ms"), &line[1], &line[2], &line[3]);
        let said = text.strip_prefix("echo: ").unwrap_or(text);
        let number: u64 = said.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        // The last message of a sender may have been accepted without the sender hearing of it.
        if said != format!("{user}-{number}") || number == 0 || number > highest.get(user).copied().unwrap_or(0) + 1 {
            count.phantom.push(format!("{user}: {text}"));
            continue;
        }
        match first.get(said) {
            None => {
                count.delivered += 1;
                first.insert(said.to_string(), (at, id.clone()));
                let before = last.insert(user.clone(), number).unwrap_or(0);
                if number != before + 1 {
                    count.disordered.push(format!("{user}: {number} after {before}"));
                }
            }
            Some((at_first, id_first)) => {
                let deaths =
                    kills.iter().filter(|k| **k + 50 >= *at_first && **k <= *at_first + CUT_OFF.as_millis() && **k <= at);
                match deaths.min() {
                    Some(death) if id_first == id => {
                        count.cut_off += 1;
                        count.longest_ms = count.longest_ms.max(death.saturating_sub(*at_first));
                    }
                    _ => count.doubled.push(format!("{said}: at {at_first} as {id_first} and at {at} as {id}")),
                }
            }
        }
    }
    count.lost = accepted.into_iter().filter(|a| !first.contains_key(a)).collect();
    count
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
    let folder = TempDir::with_prefix("gatelet-truth-").unwrap();
    let world = Arc::new(World::new(&folder));
    let model = Model::echo();
    let outside = world.clone();
    let sink = Sink::scripted(move |_, d| {
        let user = d.body["userId"].as_str().unwrap_or("?");
        outside.delivered.note(&[&outside.now(), &d.id, user, d.text()]);
        200.into()
    });
    let door = json!({
        "gateway": {"workers": {"deliveries": DELIVERY_WORKERS}, "retry": {"maxRetries": 100, "delay": 50}},
        "channels": {"door": {"type": "webhook", "token": DOOR, "replyUrl": sink.url}}});
    let mut gateway = Gateway::start(merged(model.config(), door));
    let (port, over) = (gateway.port, AtomicBool::new(false));
    let busiest = AtomicU64::new(0);

    let mut boots = std::thread::scope(|scope| {
        for user in 0..SENDERS {
            let (world, over) = (&world, &over);
            scope.spawn(move || send_all(port, user, world, over, 400));
        }
        let boots = kill_again_and_again(&mut gateway, kills, &world, &mut random);
        busiest.store(gateway.stat().rss_kb, Ordering::SeqCst);
        over.store(true, Ordering::SeqCst);
        boots
    });

    let mut last = (0, Instant::now());
    let counted = eventually("the rest of the deliveries", 60, || {
        let counted = count(&world);
        if counted.delivered != last.0 {
            last = (counted.delivered, Instant::now());
        }
        // Done, or nothing has moved for a while: then the count tells what is missing.
        let quiet = last.1.elapsed();
        ((counted.lost.is_empty() && quiet > Duration::from_secs(1)) || quiet > Duration::from_secs(20)).then_some(counted)
    });
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
    let none: [String; 0] = [];
    assert_eq!(counted.lost, none, "lost");
    assert_eq!(counted.doubled, none, "doubled");
    assert_eq!(counted.disordered, none, "disordered");
    assert_eq!(counted.phantom, none, "phantom");
    assert!(counted.cut_off <= deaths * DELIVERY_WORKERS, "{} sends cut off by {deaths} kills", counted.cut_off);
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
    let folder = TempDir::new().unwrap();
    let world = World::new(&folder);
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
