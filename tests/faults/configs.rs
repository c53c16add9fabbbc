//! The configuration: damaged, changed in a storm, cut off while it is written.
//!
//! Invariant: the last one that worked is what counts; a change is whole or not there.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::rig::Rig;
use crate::row::{Row, Trials};
use crate::support::gateway::{ADMIN, code_of};
use crate::support::http::Call;
use crate::support::oracle::Load;
use crate::support::pause;

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R10",
            fault: "configuration damaged, empty or gone at the start",
            injection: "cut short, a byte changed, bytes put in, an unknown key, empty, gone; with and without one that worked before",
            holds: "the last one that worked is used and /ready says degraded; exit 3 and a sentence only where there is none",
            trials: (24, 1000),
            run: Some(damaged),
            tests: &["a_thousand_broken_files_never_bring_it_down", "an_invalid_start_uses_the_last_one_that_worked"],
            lacks: "",
        },
        Row {
            id: "R15",
            fault: "a storm of changes of the configuration",
            injection: "PATCH and SIGHUP at 50 a second, half of them invalid, under load",
            holds: "each is whole or refused, no sender refused, lost 0, memory and descriptors flat",
            trials: (80, 5000),
            run: Some(storm),
            tests: &["a_storm_of_changes_leaves_it_whole"],
            lacks: "",
        },
        Row {
            id: "R44",
            fault: "killed while it writes the configuration",
            injection: "SIGKILL at a random moment of a loop of PATCHes",
            holds: "the file is the last one that was answered or the one after it, whole, 0600",
            trials: (10, 200),
            run: Some(killed_writing),
            tests: &["killed_while_it_writes_the_file_is_old_or_new"],
            lacks: "",
        },
    ]
}

fn damaged(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    assert_eq!(rig.gateway.term().0, 0);
    let good = std::fs::read(&rig.gateway.config_path).expect("the configuration");
    let kept = rig.gateway.data.join("config.last.json");
    let last = std::fs::read(&kept).expect("the last one that worked");
    let own = format!("127.0.0.1:{}", rig.gateway.port);
    let from = good.windows(own.len()).position(|w| w == own.as_bytes()).expect("its address");
    let address = from..from + own.len();
    let (mut degraded, mut as_good) = (0, 0);
    for n in 0..trials.wanted {
        let random = &mut trials.random;
        let mut at = random.between(0, good.len() as u64) as usize;
        // A digit there makes another port, which is as valid, and where nobody here would look.
        if address.contains(&at) {
            at = address.end;
        }
        let mut bytes = good.clone();
        let what = match n % 6 {
            0 => (bytes.truncate(at), "cut").1,
            1 => (bytes[at] = random.between(0, 256) as u8, "a byte").1,
            2 => (drop(bytes.splice(at..at, (0..5).map(|_| b"{}[]\",:0x\xff"[random.between(0, 10) as usize]))), "bytes").1,
            3 => (bytes = b"{\"gatway\": {}}".to_vec(), "an unknown key").1,
            4 => (bytes.clear(), "empty").1,
            _ => (bytes = vec![0; 4096], "zeroes").1,
        };
        std::fs::write(&rig.gateway.config_path, &bytes).expect("damage");
        std::fs::write(&kept, &last).expect("the last one that worked");
        trials.trial(&format!("{what} at {at}"), |trials| {
            trials.recovered(rig.start());
            let ready = rig.gateway.call("GET", "/ready").token(ADMIN).send();
            match ready.field("status").as_str() {
                "degraded" => {
                    degraded += 1;
                    rig.round_trip(5);
                }
                // Another one that is valid: it may name another model.
                "ready" => as_good += 1,
                other => return Err(format!("/ready says {other}: {}", ready.text())),
            }
            rig.gateway.kill9();
            Ok(())
        });
        rig.gateway.kill9();
    }
    std::fs::write(&rig.gateway.config_path, &good).expect("the good one");
    // Without one that worked there is nothing to go on with.
    trials.trial("no file that ever worked", |_| {
        let mut other = Rig::new(json!({}));
        other.gateway.write_config("{\"gatway\": {}}");
        other.gateway.spawn();
        let (status, log) = (other.gateway.wait_exit(10), other.gateway.log());
        if code_of(status) == 3 && log.contains("gatway") { Ok(()) } else { Err(format!("{status}: {log}")) }
    });
    trials.figure("went on with the last that worked", degraded);
    trials.figure("still valid", as_good);
}

fn storm(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    rig.round_trip(10);
    let load = Load::begin(&rig.world, rig.gateway.port, 8, 60);
    pause(500);
    let before = rig.gateway.stat();
    let (mut applied, mut refused) = (0, 0);
    for n in 0..trials.wanted {
        let begun = Instant::now();
        trials.trial(&format!("change {n}"), |_| {
            let bad = n % 2 == 1;
            let value = if bad { json!("many") } else { json!(20 + n % 60) };
            if n % 10 == 4 {
                rig.gateway.signal(Signal::HUP);
            }
            let answer = rig
                .gateway
                .call("PATCH", "/api/config")
                .token(ADMIN)
                .json(&json!({"agents": {"main": {"maxHistory": value}}}))
                .send();
            match (bad, answer.status) {
                (false, 200) => applied += 1,
                (true, 400) => refused += 1,
                (_, other) => return Err(format!("{value} is answered {other}: {}", answer.text())),
            }
            Ok(())
        });
        pause(20u64.saturating_sub(begun.elapsed().as_millis() as u64));
    }
    let after = rig.gateway.stat();
    load.end();
    let turned_away = rig.world.refused.load(std::sync::atomic::Ordering::SeqCst);
    trials.figure("applied", applied);
    trials.figure("refused", refused);
    trials.figure("senders turned away", turned_away);
    trials.figure("memory", format!("{} to {} KiB", before.rss_kb, after.rss_kb));
    if turned_away > 0 || after.rss_kb > before.rss_kb + 12 * 1024 || after.fds > before.fds + 12 {
        trials.fail(&format!("{turned_away} turned away; {before:?} to {after:?}"));
    }
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn killed_writing(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&rig.gateway.config_path, mode).expect("a mode");
    rig.start();
    let mut answered = 0;
    for n in 0..trials.wanted {
        let (port, pid, after) = (rig.gateway.port, rig.gateway.pid(), trials.random.between(2, 120));
        let killer = std::thread::spawn(move || {
            pause(after);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        });
        let mut number = answered;
        loop {
            let body = json!({"agents": {"main": {"maxHistory": number + 1}}});
            let call = Call::new(port, "PATCH", "/api/config").token(ADMIN).json(&body).patience(Duration::from_secs(5));
            match call.attempt() {
                Ok(answer) if answer.status == 200 => number += 1,
                _ => break,
            }
        }
        killer.join().expect("the killer");
        rig.gateway.wait_exit(5);
        let found = trials.trial(&format!("kill {n} after {after} ms"), |trials| {
            let file = rig.gateway.read_config();
            let found = file["agents"]["main"]["maxHistory"].as_u64().unwrap_or(0);
            let mode = std::fs::metadata(&rig.gateway.config_path).expect("the file").permissions().mode() & 0o777;
            trials.recovered(rig.start());
            if mode != 0o600 || !file["gateway"]["listen"].is_string() {
                return Err(format!("mode {mode:o}, {file}"));
            }
            // The one after the last answer may have been written without its answer.
            if found != number && found != number + 1 { Err(format!("{found} after an answer for {number}")) } else { Ok(found) }
        });
        answered = found.unwrap_or(number);
    }
    trials.figure("changes answered", answered);
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}
