//! Deaths: at random, while it comes up, in short lives, by its own hand; and what stops without dying.
//!
//! Invariant: the harness kills only gateways that it started. Each row counts by the oracle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::power;
use crate::rig::Rig;
use crate::row::{Row, Trials};
use crate::support::gateway::{Gateway, code_of};
use crate::support::model::{Act, Model};
use crate::support::oracle::{Load, World, settled};
use crate::support::{eventually, merged, pause, side_by_side};

const SENDERS: usize = 20;

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R1",
            fault: "killed at random moments under load",
            injection: "SIGKILL after 5 ms to 1.5 s, 20 senders",
            holds: "lost 0, doubled 0, order kept, database whole",
            trials: (12, 1000),
            run: Some(killed),
            tests: &["killed_again_and_again_nothing_is_lost_doubled_or_disordered"],
            lacks: "",
        },
        Row {
            id: "R3",
            fault: "killed while it recovers",
            injection: "SIGKILL, start, SIGKILL again after 0 to 60 ms, start",
            holds: "as R1; no message is given up for it",
            trials: (8, 300),
            run: Some(killed_recovering),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R11",
            fault: "two gateways on one data folder",
            injection: "a second one is started on it while the first is under load",
            holds: "the second ends with 1 and says why, the first is undisturbed",
            trials: (2, 50),
            run: Some(second),
            tests: &["a_second_one_on_the_same_data_is_refused"],
            lacks: "",
        },
        Row {
            id: "R12",
            fault: "SIGTERM under load",
            injection: "SIGTERM at random moments, 20 senders, a model that takes 30 ms",
            holds: "lost 0, doubled 0, exit 0 within 5 s, what ran goes on",
            trials: (4, 200),
            run: Some(terminated),
            tests: &["a_drain_under_load_loses_nothing", "a_turn_that_is_cut_short_goes_on_at_the_next_start"],
            lacks: "",
        },
        Row {
            id: "R13",
            fault: "stopped for a while, then going on",
            injection: "SIGSTOP for 0.2 to 3 s (long: to 40 s) under load, SIGCONT",
            holds: "lost 0, doubled 0, serves again within 2 s",
            trials: (2, 50),
            run: Some(stopped),
            tests: &[
                "a_stopped_process_goes_on_where_it_was",
                "a_service_manager_is_told",
                "who_works_too_long_is_told_and_who_rests_or_is_gone_is_not",
            ],
            lacks: "",
        },
        Row {
            id: "R38",
            fault: "a great many waiting at the start",
            injection: "600 (long: 10,000) accepted messages of 50 users unanswered, SIGKILL, start, a new user writes",
            holds: "serves within 2 s, lost 0, the new one is not kept waiting for the old ones",
            trials: (1, 10),
            run: Some(backlog),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R39",
            fault: "brown-outs: each life is short",
            injection: "SIGKILL 20 to 250 ms after each start, under load",
            holds: "as R1; there is progress in most lives",
            trials: (20, 400),
            run: Some(brown_outs),
            tests: &["progress_is_made_however_short_the_lives_are"],
            lacks: "",
        },
    ]
}

/// Kills and starts again, `wanted` times, each life between `low` and `high` ms; `again` kills a second time during the start.
fn deaths(trials: &mut Trials, low: u64, high: u64, again: Option<u64>) {
    let (world, model) = (World::new(), Model::echo());
    let sink = world.sink();
    let mut gateway = Gateway::start(World::config(&model, &sink));
    let load = Load::begin(&world, gateway.port, SENDERS, 300);
    let mut progress = 0;
    for n in 0..trials.wanted {
        let before = sink.got().len();
        pause(trials.random.between(low, high));
        gateway.kill9();
        world.killed();
        if let Some(limit) = again {
            gateway.spawn();
            pause(trials.random.between(0, limit));
            gateway.kill9();
            world.killed();
        }
        progress += u64::from(sink.got().len() > before);
        trials.trial(&format!("start {n}"), |trials| {
            gateway.restart();
            trials.recovered(gateway.boot);
            Ok(())
        });
    }
    load.end();
    let counted = settled(&world, 20);
    if let Err(why) = counted.verdict() {
        trials.fail(&why);
    }
    if gateway.term().0 != 0 {
        trials.fail("it did not end in order");
    }
    if let Err(why) = power::integrity(&gateway.data.join("gatelet.db")) {
        trials.fail(&why);
    }
    trials.figure("kills", counted.deaths);
    trials.figure("accepted", counted.accepted);
    trials.figure("lost", counted.lost.len());
    trials.figure("doubled", counted.doubled.len());
    trials.figure("sends cut off and repeated under the same id", counted.cut_off);
    trials.figure("lives in which something was delivered", progress);
}

fn killed(trials: &mut Trials) {
    deaths(trials, 5, 1500, None);
}

fn killed_recovering(trials: &mut Trials) {
    deaths(trials, 50, 600, Some(60));
}

fn brown_outs(trials: &mut Trials) {
    deaths(trials, 20, 250, None);
}

fn second(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, 4, 50);
    for n in 0..trials.wanted {
        trials.trial(&format!("start {n}"), |trials| {
            let aside = TempDir::with_prefix("gatelet-fault-").expect("a folder");
            let mut other = Gateway::prepare_in(aside.path(), "config.json", json!({}));
            other.data = rig.gateway.data.clone();
            let began = Instant::now();
            other.spawn();
            let (code, log) = (code_of(other.wait_exit(10)), other.log());
            trials.recovered(began.elapsed());
            rig.lives()?;
            if code == 1 && log.contains("another gatelet") { Ok(()) } else { Err(format!("it ended with {code}: {log}")) }
        });
    }
    load.end();
    let verdict = rig.verdict();
    trials.trial("the first one", |_| verdict);
}

fn terminated(trials: &mut Trials) {
    let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
    let more = json!({"gateway": {"shutdown": {"drainTimeout": 1000}}});
    let mut rig = Rig::on(data.path(), more, Model::slow(30));
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, SENDERS, 100);
    let mut longest = Duration::ZERO;
    for n in 0..trials.wanted {
        pause(trials.random.between(100, 900));
        trials.trial(&format!("end {n}"), |trials| {
            let (code, took) = rig.gateway.term();
            longest = longest.max(took);
            trials.recovered(rig.start());
            if code != 0 || took > Duration::from_secs(5) {
                return Err(format!("it ended with {code} after {took:?}"));
            }
            Ok(())
        });
    }
    load.end();
    trials.figure("longest drain", format!("{} ms", longest.as_millis()));
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn stopped(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, SENDERS, 100);
    let most = if trials.is_long { 40_000 } else { 3_000 };
    for n in 0..trials.wanted {
        pause(300);
        rig.gateway.signal(Signal::STOP);
        pause(trials.random.between(200, most));
        rig.gateway.signal(Signal::CONT);
        let took = trials.trial(&format!("stop {n}"), |_| {
            let took = rig.round_trip(10);
            if took > Duration::from_secs(2) { Err(format!("a round trip took {took:?}")) } else { Ok(took) }
        });
        took.into_iter().for_each(|took| trials.recovered(took));
    }
    load.end();
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn backlog(trials: &mut Trials) {
    let count = if trials.is_long { 10_000 } else { 600 };
    for n in 0..trials.wanted {
        trials.trial(&format!("backlog {n}"), |trials| {
            let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
            let is_open = Arc::new(AtomicBool::new(false));
            let gate = is_open.clone();
            let model = Model::scripted(move |q| match gate.load(Ordering::SeqCst) {
                true => Act::Say(format!("echo: {}", q.text)),
                false => Act::Hang,
            });
            let mut rig = Rig::on(data.path(), merged(json!({}), json!({"gateway": {"workers": {"turns": 4}}})), model);
            rig.start();
            side_by_side(10, |part| {
                for user in (part..50).step_by(10) {
                    for number in 1..=count / 50 {
                        assert!(rig.world.send(rig.gateway.port, &format!("u{user}"), number), "it is accepted");
                    }
                }
            });
            rig.gateway.kill9();
            rig.world.killed();
            is_open.store(true, Ordering::SeqCst);
            let (boot, began) = (rig.start(), Instant::now());
            trials.recovered(boot);
            let fresh = rig.round_trip(60);
            let drained_then = rig.sink.got().len();
            let all = eventually("the backlog", 300, || (rig.sink.got().len() > count as usize).then(|| began.elapsed()));
            trials.figure("waiting", count);
            trials.figure("a new user's answer after", format!("{} ms", fresh.as_millis()));
            trials.figure("when so many of the old were done", drained_then);
            trials.figure("all done after", format!("{:.1} s", all.as_secs_f64()));
            if boot > Duration::from_secs(2) || drained_then > count as usize / 2 {
                return Err(format!("up after {boot:?}, the new one after {fresh:?} behind {drained_then} others"));
            }
            rig.verdict()
        });
    }
}
