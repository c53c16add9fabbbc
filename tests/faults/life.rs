//! Over its life: every crash point, panics, poison, long runs, upgrades, copies, closed outputs.
//!
//! Invariant: databases of older versions are made from the migrations that the product bears.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::power::integrity;
use crate::rig::Rig;
use crate::row::{Row, Trials};
use crate::support::gateway::{ADMIN, BINARY};
use crate::support::model::Model;
use crate::support::oracle::{Load, count};
use crate::support::{eventually, pause};

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R2",
            fault: "death at every step of a message",
            injection: "abort() at each named point of a turn, a commit and a delivery, at its 1st, 2nd and 3rd passing",
            holds: "lost 0; doubled only between the send and its record, under the same id",
            trials: (POINTS.len() as u64, POINTS.len() as u64 * 3),
            run: Some(points),
            tests: &[
                "telegram_at_every_point",
                "slack_at_every_point",
                "discord_at_every_point",
                "mqtt_at_every_point",
                "matrix_at_every_point",
                "webhook_at_every_point",
                "a_crash_at_each_step_boundary",
                "an_urgent_command_survives_a_crash",
            ],
            lacks: "",
        },
        Row {
            id: "R28",
            fault: "a long run",
            injection: "16 senders, some 60 messages a second: for 9 s, long for 30 min",
            holds: "memory, descriptors and threads flat after the first third, lost 0",
            trials: (1, 1),
            run: Some(soak),
            tests: &[],
            lacks: "a day of real time",
        },
        Row {
            id: "R29",
            fault: "upgrade and downgrade with live data",
            injection: "databases of every older version with a message that waits; one of a newer version",
            holds: "brought up to date, the message is answered; the newer one is refused with a sentence and left as it is",
            trials: (6, 30),
            run: Some(upgrade),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R30",
            fault: "backup while it works",
            injection: "gatelet backup under load",
            holds: "the copy opens, is whole, and has everything accepted before it began",
            trials: (2, 50),
            run: Some(backup),
            tests: &["a_backup_under_load_is_whole_and_a_restored_gateway_sends_nothing_again"],
            lacks: "",
        },
        Row {
            id: "R35",
            fault: "a panic in each kind of thread",
            injection: "a panic at a named point: door, HTTP worker, store, turn, delivery, timer, errands",
            holds: "the process lives, the thread's work goes on, lost 0",
            trials: (PANICS.len() as u64, PANICS.len() as u64 * 20),
            run: Some(panics),
            tests: &["a_panic_restarts_the_work_and_is_counted"],
            lacks: "",
        },
        Row {
            id: "R36",
            fault: "a message that kills the process each time",
            injection: "SIGKILL of the gateway whenever the model is asked about it",
            holds: "set aside as failed after three deaths, the rest flows",
            trials: (0, 0),
            run: None,
            tests: &["a_poison_message_is_set_aside_and_the_rest_flows"],
            lacks: "",
        },
        Row {
            id: "R37",
            fault: "a tool's program that misbehaves",
            injection: "forks, ignores SIGTERM, writes without end, leaves children behind, is killed, its supervisor is killed",
            holds: "ended with its group in time, its output bounded, nothing outlives the gateway",
            trials: (0, 0),
            run: None,
            tests: &[
                "limits_hold",
                "nothing_outlives_its_time",
                "a_supervisor_that_is_killed",
                "output_is_bounded",
                "nothing_outlives_the_end_of_its_input",
                "a_program_dies_with_the_gateway",
            ],
            lacks: "",
        },
        Row {
            id: "R40",
            fault: "nobody takes its log",
            injection: "output to a full device, to a closed pipe, to a pipe that nobody reads; level trace, under load",
            holds: "lost 0, doubled 0, serves as before",
            trials: (3, 40),
            run: Some(outputs),
            tests: &["a_closed_output_ends_nothing", "an_output_that_nobody_reads_stalls_nothing"],
            lacks: "",
        },
    ]
}

/// The points of a message's way through the door `door`; those of other ways are passed in the tests that the row names.
const POINTS: &[&str] =
    &["store.commit", "turn.claimed", "turn.finishing", "turn.finished", "delivery.sending", "delivery.sent", "delivery.marked"];

fn points(trials: &mut Trials) {
    if !cfg!(debug_assertions) {
        return trials.not_here("crash points are in debug builds alone");
    }
    let mut not_passed = Vec::new();
    for n in 0..trials.wanted as usize {
        let (point, passing) = (POINTS[n % POINTS.len()], n / POINTS.len() + 1);
        trials.trial(&format!("{point}:{passing}"), |trials| {
            let mut rig = Rig::new(json!({}));
            rig.gateway.set_env("GATELET_CRASH_AT", format!("{point}:{passing}"));
            rig.gateway.set_env("RUST_BACKTRACE", "0");
            rig.start();
            let load = Load::begin(&rig.world, rig.gateway.port, 2, 20);
            let began = Instant::now();
            let mut is_dead = false;
            while !is_dead && began.elapsed() < Duration::from_secs(4) {
                is_dead = rig.gateway.exited().is_some();
                pause(2);
            }
            if !is_dead {
                not_passed.push(point);
                load.end();
                return rig.verdict();
            }
            rig.world.killed();
            rig.gateway.set_env("GATELET_CRASH_AT", "");
            trials.recovered(rig.start());
            pause(150);
            load.end();
            rig.verdict()
        });
    }
    trials.figure("points", POINTS.len());
    if !not_passed.is_empty() {
        trials.fail(&format!("these points were not passed: {not_passed:?}"));
    }
}

fn soak(trials: &mut Trials) {
    let seconds = if trials.is_long { 1800 } else { 9 };
    for _ in 0..trials.wanted {
        trials.trial("soak", |trials| {
            let mut rig = Rig::new(json!({}));
            rig.start();
            let load = Load::begin(&rig.world, rig.gateway.port, 16, 250);
            let third = Duration::from_secs(seconds) / 3;
            std::thread::sleep(third);
            let (warm, then) = (rig.gateway.stat(), rig.world.accepted.lines().len());
            std::thread::sleep(third * 2);
            let (end, now) = (rig.gateway.stat(), rig.world.accepted.lines().len());
            load.end();
            let grown = end.rss_kb as i64 - warm.rss_kb as i64;
            trials.figure("messages", now);
            trials.figure("memory after a third and at the end", format!("{} and {} KiB", warm.rss_kb, end.rss_kb));
            trials.figure("descriptors", format!("{} and {}", warm.fds, end.fds));
            rig.lives()?;
            if now < then + 100 {
                return Err(format!("hardly a load: {then}, then {now}"));
            }
            if grown > 6 * 1024 || end.threads > warm.threads || end.fds > warm.fds + 24 {
                return Err(format!("{warm:?}, then {end:?}"));
            }
            rig.verdict()
        });
    }
}

/// The product's migrations, from its source.
fn migrations() -> Vec<String> {
    let source = include_str!("../../src/store/sqlite/schema.rs");
    let pieces = source.split("\nconst V").skip(1);
    pieces
        .filter_map(|piece| {
            let text = piece.split_once("= \"")?.1.split_once("\";\n")?.0;
            Some(text.replace("\\\"", "\""))
        })
        .collect()
}

fn upgrade(trials: &mut Trials) {
    let all = migrations();
    assert!(all.len() >= 5, "the migrations are read: {}", all.len());
    for n in 0..trials.wanted as usize {
        let version = n % (all.len() + 1) + 1;
        let is_newer = version > all.len();
        trials.trial(&format!("version {version}"), |trials| {
            let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
            let path = data.path().join("gatelet.db");
            older(&path, &all[..version.min(all.len())], if is_newer { all.len() as i64 + 1 } else { version as i64 });
            let mut rig = Rig::on(data.path(), json!({}), Model::echo());
            rig.world.accepted.note(&["old", "1", "msg_00000000000000000000000001"]);
            if is_newer {
                let before = std::fs::read(&path).expect("the database");
                rig.gateway.spawn();
                let (status, log) = (rig.gateway.wait_exit(10), rig.gateway.log());
                let same = std::fs::read(&path).expect("the database") == before;
                return if status.code() == Some(1) && log.contains("newer gatelet") && same {
                    Ok(())
                } else {
                    Err(format!("{status}, unchanged {same}: {log}"))
                };
            }
            trials.recovered(rig.start());
            eventually("the old message's answer", 10, || (count(&rig.world).delivered == 1).then_some(()));
            rig.round_trip(10);
            rig.verdict()
        });
    }
    trials.figure("versions", all.len());
}

/// A database as an older gatelet left it: one user's message, accepted and not answered.
fn older(path: &Path, migrations: &[String], version: i64) {
    let db = rusqlite::Connection::open(path).expect("a database");
    db.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL;").expect("its mode");
    migrations.iter().for_each(|m| db.execute_batch(m).expect("a migration"));
    db.execute_batch(&format!(
        "INSERT INTO sessions (n, id, user_id, channel, conversation, agent, created_ms, state)
            VALUES (1, 'ses_00000000000000000000000001', 'old', 'door', '', 'main', 1700000000000, 0);
         INSERT INTO uses (session, updated_ms, turns) VALUES (1, 1700000000000, 0);
         INSERT INTO seen (user_id, channel, peer, conversation, at_ms) VALUES ('old', 'door', 'old', NULL, 1700000000000);
         INSERT INTO inbox (seq, id, session, peer, external_id, received_ms, metadata, text)
            VALUES (1, 'msg_00000000000000000000000001', 1, 'old', 'old-1', 1700000000000, NULL, 'old-1');
         INSERT INTO work (session, seq, state, starts, failures, strikes, not_before_ms, journal) VALUES (1, 1, 0, 0, 0, 0, 0, '');
         PRAGMA user_version = {version}; PRAGMA application_id = {};",
        0x6774_6c74
    ))
    .expect("live data");
}

fn backup(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, 8, 20);
    let folder = TempDir::with_prefix("gatelet-fault-").expect("a folder");
    let mut longest = Duration::ZERO;
    for n in 0..trials.wanted {
        pause(200);
        trials.trial(&format!("copy {n}"), |_| {
            let before: Vec<String> = rig.world.accepted.lines().into_iter().map(|l| l[2].clone()).collect();
            let (target, began) = (folder.path().join(format!("copy{n}")), Instant::now());
            let mut command = Command::new(BINARY);
            command
                .arg("backup")
                .arg(&target)
                .arg("--config")
                .arg(&rig.gateway.config_path)
                .arg("--data-dir")
                .arg(&rig.gateway.data);
            let made = command.output().expect("gatelet backup");
            longest = longest.max(began.elapsed());
            if !made.status.success() {
                return Err(String::from_utf8_lossy(&made.stderr).into_owned());
            }
            integrity(&target.join("gatelet.db"))?;
            let db = rusqlite::Connection::open(target.join("gatelet.db")).map_err(|e| e.to_string())?;
            let mut all = db.prepare("SELECT id FROM inbox").map_err(|e| e.to_string())?;
            let there: std::collections::HashSet<String> =
                all.query_map([], |row| row.get(0)).map_err(|e| e.to_string())?.filter_map(Result::ok).collect();
            match before.iter().filter(|id| !there.contains(*id)).count() {
                0 => Ok(()),
                missing => Err(format!("{missing} of {} are not in the copy", before.len())),
            }
        });
    }
    load.end();
    trials.figure("longest", format!("{} ms", longest.as_millis()));
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

/// A point in each kind of thread.
const PANICS: &[&str] = &[
    "door.event",
    "http.call",
    "store.commit",
    "turn.claimed",
    "turn.finishing",
    "delivery.sending",
    "delivery.sent",
    "timer.pass",
    "errand",
];

fn panics(trials: &mut Trials) {
    if !cfg!(debug_assertions) {
        return trials.not_here("points that panic are in debug builds alone");
    }
    for n in 0..trials.wanted as usize {
        let (point, passing) = (PANICS[n % PANICS.len()], n / PANICS.len() % 5 + 2);
        trials.trial(&format!("{point}:{passing}"), |trials| {
            let mut rig = Rig::new(json!({"gateway": {"heartbeat": {"interval": 1000}}}));
            rig.forgiven = &["panic"];
            rig.gateway.set_env("GATELET_PANIC_AT", format!("{point}:{passing}"));
            rig.start();
            let load = Load::begin(&rig.world, rig.gateway.port, 4, 30);
            let is_told = || rig.log_has(&format!("a test wants a panic at {point}"));
            eventually("the panic", 10, || {
                // The pool of HTTP workers has nothing to do with messages.
                let _ = rig.gateway.call("GET", "/api/channels").token(ADMIN).attempt();
                is_told().then_some(())
            });
            // A send whose record panicked is in doubt, as by a death.
            rig.world.killed();
            pause(200);
            load.end();
            rig.lives()?;
            trials.recovered(rig.round_trip(10));
            rig.verdict()
        });
    }
}

fn outputs(trials: &mut Trials) {
    for n in 0..trials.wanted {
        let kind = ["a full device", "a closed pipe", "a pipe that nobody reads"][n as usize % 3];
        trials.trial(kind, |_| {
            let mut rig = Rig::new(json!({"log": {"level": "trace"}}));
            let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("/dev/full"));
            let began = Instant::now();
            match n % 3 {
                0 => rig.gateway.spawn_with(full(), full()),
                _ => rig.gateway.spawn_with(Stdio::piped(), Stdio::piped()),
            }
            rig.gateway.wait_healthy(began);
            if n % 3 == 1 {
                rig.gateway.drop_outputs();
            }
            let load = Load::begin(&rig.world, rig.gateway.port, 8, 10);
            pause(1200);
            rig.lives()?;
            load.end();
            rig.round_trip(10);
            rig.verdict()
        });
    }
}
