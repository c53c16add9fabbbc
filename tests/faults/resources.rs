//! Running out: of memory, descriptors, threads, randomness; and clocks that jump.
//!
//! Invariant: limits are those of the gateway's own process or control group; the group goes with the row.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::power::integrity;
use crate::rig::{self, Rig};
use crate::row::{Row, Trials};
use crate::shim::{Dial, EAGAIN, EIO};
use crate::support::gateway::{Gateway, USER, code_of};
use crate::support::oracle::{Load, settled};
use crate::support::ws::Ws;
use crate::support::{eventually, pause};

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R14",
            fault: "the wall clock jumps",
            injection: "the process's clock: 1970 at boot then right, by an hour and a day either way, back 10 s again and again; under load",
            holds: "lost 0, order kept, no spin, a job each second runs at most as often, serves all the while",
            trials: (2, 100),
            run: Some(clock),
            tests: &["clocks_that_jump", "a_clock_that_was_never_set", "a_wall_clock_that_jumped_back_strands_nothing"],
            lacks: "",
        },
        Row {
            id: "R19",
            fault: "little memory",
            injection: "a control group of 32 MB (debug build: 64), 20 senders and 20 WebSockets",
            holds: "not killed, lost 0",
            trials: (1, 20),
            run: Some(little_memory),
            tests: &["over_its_memory_it_takes_nothing_new_and_says_so"],
            lacks: "",
        },
        Row {
            id: "R20",
            fault: "an allocation fails",
            injection: "malloc gives null at the n-th call from a random moment on, one to three times, under load",
            holds: "it goes on, or it ends and R1 holds: lost 0, doubled 0, database whole",
            trials: (8, 1000),
            run: Some(allocations),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R21",
            fault: "out of descriptors",
            injection: "ulimit -n 64 and 256, 400 connections, then all closed",
            holds: "alive, serves within 1 s after they close",
            trials: (2, 50),
            run: Some(descriptors),
            tests: &["running_out_of_descriptors_passes"],
            lacks: "",
        },
        Row {
            id: "R22",
            fault: "out of threads",
            injection: "pthread_create fails with EAGAIN: at start, and at work while WebSockets connect",
            holds: "at start it ends with a sentence; at work it lives, and serves within 1 s after; the local socket within 30 s",
            trials: (4, 50),
            run: Some(threads),
            tests: &["running_out_of_threads_passes"],
            lacks: "",
        },
        Row {
            id: "R43",
            fault: "no randomness at the start",
            injection: "getrandom fails with EIO",
            holds: "refuses to start with a sentence; makes no token",
            trials: (2, 20),
            run: Some(randomness),
            tests: &[],
            lacks: "",
        },
    ]
}

/// Jumps, in seconds.
const JUMPS: [i64; 7] = [3600, -3600, 86_400, -86_400, 400 * 86_400, -10, -10];

fn clock(trials: &mut Trials) {
    for n in 0..trials.wanted {
        let Some(shim) = rig::shim(trials) else { return };
        trials.trial(&format!("clock {n}"), |trials| {
            let ticks = crate::support::sink::Sink::new();
            let more = json!({"channels": {"ticks": {"type": "webhook", "token": "ticks-token-0123456789", "replyUrl": ticks.url}},
                "jobs": [{"id": "tick", "every": 1000, "message": "tick", "userId": "clock", "channel": "ticks"}]});
            let mut rig = Rig::new(more).behind(&shim);
            let second = 1_000_000_000;
            // A Pi without a clock battery begins in 1970, and jumps once it has asked the network.
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) as i64;
            let from_1970 = n % 2 == 0;
            shim.set(Dial::ClockShiftNs, if from_1970 { -since_1970 * second } else { 0 });
            rig.start();
            let began = Instant::now();
            let body = json!({"userId": "clock", "message": "here"});
            rig.gateway.call("POST", "/webhook/ticks").token("ticks-token-0123456789").json(&body).send().expect(202);
            let load = Load::begin(&rig.world, rig.gateway.port, 4, 40);
            pause(400);
            let mut shift = 0;
            for _ in 0..6 {
                shift += JUMPS[trials.random.between(0, JUMPS.len() as u64) as usize] * second;
                shim.set(Dial::ClockShiftNs, shift);
                trials.recovered(rig.round_trip(10));
                pause(300);
                rig.lives()?;
            }
            load.end();
            pause(200);
            let (cpu, at) = (rig.gateway.stat().cpu, Instant::now());
            pause(1000);
            let spent = rig.gateway.stat().cpu - cpu;
            let ran = ticks.got().iter().filter(|d| d.text() == "tick").count() as u64;
            // One more for each jump: what was jumped over is one run.
            let most = began.elapsed().as_secs() + 1 + 7;
            if ran > most {
                return Err(format!("a job of each second ran {ran} times in {:?}", began.elapsed()));
            }
            if spent > at.elapsed() / 3 {
                return Err(format!("it spins: {spent:?} of processor time in {:?}", at.elapsed()));
            }
            rig.verdict()
        });
    }
}

/// A control group with a bound on memory, which goes with it.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("gatelet-faults-{}", std::process::id());
        // Version 1 has a tree for each resource, version 2 has one.
        let (one, two) = (PathBuf::from("/sys/fs/cgroup/memory").join(&name), PathBuf::from("/sys/fs/cgroup").join(&name));
        let (place, file) =
            if one.parent().is_some_and(|p| p.is_dir()) { (one, "memory.limit_in_bytes") } else { (two, "memory.max") };
        std::fs::create_dir(&place).ok()?;
        let group = Group(place);
        std::fs::write(group.0.join(file), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            pause(10);
        }
    }
}

fn little_memory(trials: &mut Trials) {
    for _ in 0..trials.wanted {
        // A debug build is as big as that by itself.
        let megabytes = if cfg!(debug_assertions) { 64 } else { 32 };
        let Some(group) = Group::new(megabytes << 20) else { return trials.not_here("no control group of memory may be made") };
        trials.trial(&format!("{megabytes} MB"), |trials| {
            let mut rig = Rig::new(json!({}));
            rig.gateway = rig.gateway.through_shell(&format!("echo $$ > {}/cgroup.procs", group.0.display()));
            rig.start();
            let sockets: Vec<Ws> = (0..20).map(|_| Ws::join(&rig.gateway, USER)).collect();
            let load = Load::begin(&rig.world, rig.gateway.port, 20, 250);
            pause(if trials.is_long { 30_000 } else { 3_000 });
            let stat = rig.gateway.stat();
            load.end();
            drop(sockets);
            trials.figure("resident under load", format!("{} KiB", stat.rss_kb));
            rig.lives()?;
            rig.verdict()
        });
    }
}

fn allocations(trials: &mut Trials) {
    let mut deaths = 0;
    let Some(shim) = rig::shim(trials) else { return };
    let mut rig = Rig::new(json!({})).behind(&shim);
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, 8, 30);
    for n in 0..trials.wanted {
        pause(trials.random.between(30, 250));
        let (after, count) = (trials.random.between(1, 400) as i64, trials.random.between(1, 4) as i64);
        let took = trials.trial(&format!("failure {n}"), |_| {
            shim.set(Dial::AllocFailCount, count);
            shim.set(Dial::AllocFailFrom, shim.get(Dial::Allocs) + after);
            pause(120);
            shim.heal();
            pause(30);
            if let Some(status) = rig.gateway.exited() {
                rig.world.killed();
                deaths += 1;
                // SIGABRT is how a Rust program ends there.
                if code_of(status) != -6 {
                    return Err(format!("it ended with {status}"));
                }
                return Ok(rig.start());
            }
            rig.lives()?;
            Ok(rig.round_trip(10))
        });
        took.into_iter().for_each(|took| trials.recovered(took));
    }
    load.end();
    let counted = settled(&rig.world, 20);
    trials.figure("ends of the process", deaths);
    trials.figure("accepted", counted.accepted);
    if let Err(why) = counted.verdict() {
        trials.fail(&why);
    }
    rig.gateway.kill9();
    if let Err(why) = integrity(&rig.gateway.data.join("gatelet.db")) {
        trials.fail(&why);
    }
}

fn descriptors(trials: &mut Trials) {
    for n in 0..trials.wanted {
        let limit = if n % 2 == 0 { 64 } else { 256 };
        trials.trial(&format!("ulimit -n {limit}"), |trials| {
            let mut rig = Rig::new(json!({}));
            rig.gateway = rig.gateway.through_shell(&format!("ulimit -n {limit}"));
            rig.start();
            for _ in 0..2 {
                let port = rig.gateway.port;
                let held: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
                pause(300);
                drop(held);
                let began = Instant::now();
                eventually("service again", 1, || rig.gateway.healthy().then_some(()));
                rig.round_trip(1);
                trials.recovered(began.elapsed());
                rig.lives()?;
            }
            rig.verdict()
        });
    }
}

fn threads(trials: &mut Trials) {
    for n in 0..trials.wanted {
        let Some(shim) = rig::shim(trials) else { return };
        if n % 2 == 0 {
            trials.trial("at start", |_| refused_start(&shim, Dial::ThreadErrno, EAGAIN));
            continue;
        }
        trials.trial("at work", |trials| {
            let mut rig = Rig::new(json!({})).behind(&shim);
            rig.start();
            rig.gateway.settled();
            shim.set(Dial::ThreadErrno, EAGAIN);
            // On the local socket, too: its server is another one, which makes a thread for a connection.
            let half = "GET /health HTTP/1.1\r\n";
            let held = if trials.is_long { 12 } else { 0 }; // it takes half a minute to heal
            let local: Vec<_> = (0..held).filter_map(|_| local_socket(&rig, half).ok()).inspect(|_| pause(15)).collect();
            rig.forgiven = &["failed to spawn thread", "PoisonError"]; // tiny_http's own
            for _ in 0..10 {
                let token = format!("Bearer {USER}");
                let socket = std::panic::catch_unwind(|| Ws::dial(&rig.gateway, &[("Authorization", &token)]).is_ok());
                drop(socket);
            }
            rig.lives()?;
            let answered = rig.round_trip(5);
            shim.set(Dial::ThreadErrno, 0);
            let began = Instant::now();
            drop(Ws::join(&rig.gateway, USER));
            drop(local);
            eventually("the local socket to serve again", 40, || {
                let mut stream = local_socket(&rig, &format!("{half}Host: localhost\r\nConnection: close\r\n\r\n")).ok()?;
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                answer.starts_with("HTTP/1.1 200").then_some(())
            });
            trials.recovered(began.elapsed());
            if answered > Duration::from_secs(2) {
                return Err(format!("without new threads an answer took {answered:?}"));
            }
            rig.verdict()
        });
    }
}

/// A connection to the local socket that says this.
fn local_socket(rig: &Rig, text: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(rig.gateway.data.join("gatelet.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(text.as_bytes())?;
    Ok(stream)
}

fn randomness(trials: &mut Trials) {
    for _ in 0..trials.wanted {
        let Some(shim) = rig::shim(trials) else { return };
        trials.trial("no randomness", |_| refused_start(&shim, Dial::RandomErrno, EIO));
    }
}

/// With that dial it must not come up: an exit code, a sentence, no panic, no token.
fn refused_start(shim: &crate::shim::Shim, dial: Dial, value: i64) -> Result<(), String> {
    let mut gateway = shim.before(Gateway::prepare(json!({"gateway": {"auth": {"mode": "token"}}})), false);
    shim.set(dial, value);
    gateway.spawn();
    let status = gateway.wait_exit(10);
    shim.set(dial, 0);
    let log = gateway.log();
    if code_of(status) != 1 || log.contains("panicked") || log.trim().is_empty() {
        return Err(format!("it ended with {status}: {log}"));
    }
    if gateway.data.join("token").exists() {
        return Err("it made a token all the same".into());
    }
    Ok(())
}
