//! Disks on bad days: full, read-only, slow, failing, damaged; and how little is written on good ones.
//!
//! Invariant: the machine's own disk is never filled: a full disk is a small tmpfs, or calls that fail with ENOSPC.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::power;
use crate::rig::{self, Rig, SmallDisk};
use crate::row::{Row, Trials};
use crate::shim::{Dial, ENOSPC, Shim};
use crate::support::oracle::{Load, settled};
use crate::support::telegram::Telegram;
use crate::support::{eventually, merged, pause, percentile};

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R4",
            fault: "power lost: what was not synced is gone, torn, or half there",
            injection: "every call on the data folder recorded; the folder rebuilt as it may be at each fsync; started on that",
            holds: "opens, database whole, everything acknowledged before is there and is answered once",
            trials: (30, 5000),
            run: Some(power::loss),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R5",
            fault: "fsync fails, and drops what it was to write",
            injection: "EIO from fsync now and then, one to three in a row; the power is cut later on a disk that lost those pages",
            holds: "as R4: no 2xx for what is not on the disk, nothing promised on a handle that failed",
            trials: (16, 3000),
            run: Some(power::failed_syncs),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R6",
            fault: "disk full",
            injection: "a tmpfs of 6 MB filled to the last byte under load and freed; every write from the n-th on fails with ENOSPC",
            holds: "503 with Retry-After, /ready 503, Telegram's offset stays, lost 0, heals by itself within 5 s",
            trials: (4, 100),
            run: Some(full),
            tests: &["a_full_disk_is_503_and_heals"],
            lacks: "",
        },
        Row {
            id: "R7",
            fault: "disk read-only",
            injection: "EROFS from every write under load (a remount where nothing is open for writing), then writable",
            holds: "as R6",
            trials: (2, 40),
            run: Some(read_only),
            tests: &["a_data_folder_that_cannot_be_written_is_said"],
            lacks: "",
        },
        Row {
            id: "R8",
            fault: "slow disk",
            injection: "every fsync takes 200 ms longer, now and then 2 s, 20 senders",
            holds: "lost 0, order kept, a 2xx within 10 s, memory flat",
            trials: (1, 20),
            run: Some(slow),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R9",
            fault: "database damaged while it was off",
            injection: "a bit flipped, cut short, a zeroed page, a log that is gone, cut, of another database, or garbage",
            holds: "no crash, no hang: it serves, or it ends with a sentence that says damaged and leaves the file alone",
            trials: (45, 500),
            run: Some(damaged),
            tests: &["a_damaged_store_is_never_silently_replaced"],
            lacks: "what no database without checksums of its pages can notice: a flipped bit inside a text, a log that is gone or ends early",
        },
        Row {
            id: "R27",
            fault: "a card that wears out: what is written",
            injection: "counted at the calls: fsyncs and bytes a message, one at a time and under load, and at rest",
            holds: "at rest no fsync and no byte; a message at most 4 fsyncs and 24 KiB alone, fewer under load",
            trials: (1, 3),
            run: Some(written),
            tests: &["idle_it_rests"],
            lacks: "",
        },
    ]
}

/// The fault is there for a while: nothing is accepted or lost; then it is gone, and it heals. Gives the time to the first round trip.
fn outage(rig: &mut Rig, begin: impl FnOnce(), end: impl FnOnce()) -> Result<Duration, String> {
    let telegram = rig.telegram();
    let load = Load::begin(&rig.world, rig.gateway.port, 8, 60);
    pause(250);
    begin();
    let refused = || rig.world.refused.load(std::sync::atomic::Ordering::SeqCst);
    let (before, began) = (refused(), Instant::now());
    // The fault may leave some writes their way: what is said before the first refusal may rightly be taken.
    while refused() == before {
        if began.elapsed() > Duration::from_secs(5) {
            return Err("nobody was refused".into());
        }
        pause(5);
    }
    telegram.says(7, "said in the outage");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(700) {
        rig.lives()?;
        pause(50);
    }
    eventually("/ready to be 503", 5, || (rig.ready() == 503).then_some(()));
    // Where the fault left a gap, it may have been taken, and is on the disk then.
    let is_there = || rig.gateway.get("/api/messages?limit=100").json().to_string().contains("said in the outage");
    if telegram.pending() == 0 && !is_there() {
        return Err("Telegram was told that an update was taken, and it was not".into());
    }
    end();
    let took = rig.round_trip(20);
    eventually("/ready to be 200", 10, || (rig.ready() == 200).then_some(()));
    load.end();
    let said = telegram.until(1, 15);
    if said[0].text != "echo: said in the outage" {
        return Err(format!("Telegram got {:?}", said[0].text));
    }
    if took > Duration::from_secs(5) {
        return Err(format!("it healed after {took:?}"));
    }
    Ok(took)
}

fn full(trials: &mut Trials) {
    for n in 0..trials.wanted {
        // By turns a real full disk, and writes that fail somewhere inside a commit.
        let took = if n % 2 == 0 {
            let Some(disk) = SmallDisk::new("6m") else { return trials.absent("mounting a tmpfs is not allowed") };
            trials.trial("a full tmpfs", |_| {
                let mut rig = Rig::with_telegram(disk.place.path());
                rig.start();
                let took = outage(&mut rig, || disk.fill(), || disk.free())?;
                rig.verdict().map(|()| took)
            })
        } else {
            let Some(shim) = rig::shim(trials) else { return };
            let after = trials.random.between(1, 60) as i64;
            trials.trial(&format!("ENOSPC from write {after} on"), |_| {
                let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
                let mut rig = Rig::with_telegram(data.path()).behind(&shim);
                rig.start();
                let took = outage(&mut rig, || shim.fail_writes(after, i64::MAX / 2, ENOSPC), || shim.heal())?;
                rig.verdict().map(|()| took)
            })
        };
        took.into_iter().for_each(|took| trials.recovered(took));
    }
}

fn read_only(trials: &mut Trials) {
    for _ in 0..trials.wanted {
        let Some(disk) = SmallDisk::new("16m") else { return trials.absent("mounting a tmpfs is not allowed") };
        let Some(shim) = rig::shim(trials) else { return };
        let took = trials.trial("read-only", |_| {
            let mut rig = Rig::with_telegram(disk.place.path()).behind(&shim);
            rig.start();
            // What is open for writing keeps a mount from becoming read-only; calls on it fail as they would after an error of the disk.
            let begin = || {
                if !disk.remount("ro") {
                    shim.fail_writes(1, i64::MAX / 2, 30);
                }
            };
            let end = || {
                disk.remount("rw");
                shim.heal();
            };
            let took = outage(&mut rig, begin, end)?;
            rig.verdict().map(|()| took)
        });
        took.into_iter().for_each(|took| trials.recovered(took));
    }
}

fn slow(trials: &mut Trials) {
    let seconds = if trials.is_long { 60 } else { 4 };
    let mut accepts = Vec::new();
    for _ in 0..trials.wanted {
        let Some(shim) = rig::shim(trials) else { return };
        trials.trial("slow", |trials| {
            let mut rig = Rig::new(json!({})).behind(&shim);
            rig.start();
            shim.set(Dial::SyncDelayUs, 200_000);
            let load = Load::begin(&rig.world, rig.gateway.port, 20, 50);
            let (began, before) = (Instant::now(), rig.gateway.stat().rss_kb);
            while began.elapsed() < Duration::from_secs(seconds) {
                let is_spike = trials.random.between(0, 10) == 0;
                shim.set(Dial::SyncDelayUs, if is_spike { 2_000_000 } else { 200_000 });
                let asked = Instant::now();
                if rig.say() {
                    accepts.push(asked.elapsed());
                }
                rig.lives()?;
            }
            let grown = rig.gateway.stat().rss_kb.saturating_sub(before);
            shim.heal();
            load.end();
            if grown > 16 * 1024 {
                return Err(format!("it grew by {grown} KiB"));
            }
            rig.verdict()
        });
    }
    if !accepts.is_empty() {
        let (p50, p99) = (percentile(&mut accepts, 50), percentile(&mut accepts, 99));
        trials.figure("a 2xx after: p50", format!("{} ms", p50.as_millis()));
        trials.figure("p99", format!("{} ms", p99.as_millis()));
        if p99 > Duration::from_secs(10) {
            trials.fail(&format!("a 2xx took {p99:?}"));
        }
    }
}

/// A folder with history, part of it in the log, which was not carried over: what a kill leaves.
fn template(answered: u64) -> (TempDir, Rig) {
    let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
    let mut rig = Rig::on(data.path(), json!({}), crate::support::model::Model::echo());
    rig.start();
    for n in 0..answered {
        rig.round_trip(10);
        if n == answered * 2 / 3 {
            assert_eq!(rig.gateway.term().0, 0);
            rig.start();
        }
    }
    rig.gateway.kill9();
    (data, rig)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// Damages one thing in the folder; says what.
fn damage(trials: &mut Trials, data: &Path, other: &Path) -> String {
    let random = &mut trials.random;
    let (database, log) = (data.join("gatelet.db"), data.join("gatelet.db-wal"));
    let change = |path: &PathBuf, change: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path).unwrap_or_default();
        change(&mut bytes);
        std::fs::write(path, bytes).expect("damage");
    };
    let kind = random.between(0, 9);
    let mut at = |bytes: &Vec<u8>| random.between(0, bytes.len().max(1) as u64) as usize;
    let (mut place, name) = (
        0,
        [
            "a bit of the database",
            "the database cut",
            "a page of zeroes",
            "a bit of the log",
            "the log cut",
            "no log",
            "another database's log",
            "garbage as log",
            "the database's head",
        ][kind as usize],
    );
    let file = if matches!(kind, 3 | 4) { &log } else { &database };
    match kind {
        0 | 3 => change(file, &mut |b| {
            place = at(b);
            if let Some(byte) = b.get_mut(place) {
                *byte ^= 1 << (place % 8);
            }
        }),
        1 | 4 => change(file, &mut |b| {
            place = at(b);
            b.truncate(place);
        }),
        2 => change(file, &mut |b| {
            place = at(b) / 512 * 512;
            let end = (place + 512).min(b.len());
            b[place..end].fill(0);
        }),
        5 => drop(std::fs::remove_file(&log)),
        6 => drop(std::fs::copy(other.join("gatelet.db-wal"), &log)),
        7 => change(&log, &mut |b| b.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7))),
        _ => change(&database, &mut |b| {
            place = at(b) % 100;
            b[place] = b[place].wrapping_add(77);
        }),
    }
    // What a power cut or a copy leaves has no shared memory.
    let _ = std::fs::remove_file(data.join("gatelet.db-shm"));
    format!("{name} at {place}")
}

/// Answered messages in it.
const HISTORY: u64 = 60;

fn damaged(trials: &mut Trials) {
    let ((template_data, _rig), (other, _)) = (template(HISTORY), template(5));
    let (mut refused, mut served, mut said) = (0, 0, 0);
    let mut unseen: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..trials.wanted {
        let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
        copy(template_data.path(), data.path());
        let what = damage(trials, data.path(), other.path());
        let before = std::fs::read(data.path().join("gatelet.db")).unwrap_or_default();
        trials.trial(&what, |trials| {
            let mut rig = Rig::on(data.path(), json!({}), crate::support::model::Model::echo());
            let began = Instant::now();
            rig.gateway.spawn();
            rig.gateway.wait_healthy_or_dead();
            let log = rig.gateway.log();
            if log.contains("panicked") {
                return Err(format!("a panic: {log}"));
            }
            if let Some(status) = rig.gateway.exited() {
                refused += 1;
                let words = ["damaged", "malformed", "not a database", "another program", "corrupt", "newer"];
                if !words.iter().any(|w| log.contains(w)) || status.code() != Some(1) {
                    return Err(format!("it ended ({status}) without saying that it is damaged: {log}"));
                }
                let after = std::fs::read(data.path().join("gatelet.db")).unwrap_or_default();
                if after != before {
                    return Err("it changed the damaged file".into());
                }
                return Ok(());
            }
            if !rig.gateway.healthy() {
                return Err(format!("it hangs: {log}"));
            }
            served += 1;
            trials.recovered(began.elapsed());
            // It serves, or it says at each message that it can't.
            let shown = rig.gateway.get("/api/sessions/rig");
            let missing = (1..=HISTORY).filter(|n| !shown.text().contains(&format!("\"rig-{n}\""))).count();
            for _ in 0..3 {
                rig.say();
            }
            pause(100);
            rig.lives()?;
            let log = rig.gateway.log();
            let is_told = shown.status >= 500 || rig.ready() == 503 || log.contains("malformed");
            said += u64::from(is_told);
            if missing > 0 && !is_told {
                *unseen.entry(what.split(" at ").next().unwrap_or_default().to_string()).or_default() += 1;
            }
            if log.contains("panicked") {
                return Err(format!("a panic: {log}"));
            }
            rig.gateway.kill9();
            Ok(())
        });
    }
    trials.figure("refused with a sentence", refused);
    trials.figure("served", served);
    trials.figure("of them said at work that it is damaged", said);
    let unseen: Vec<String> = unseen.into_iter().map(|(what, n)| format!("{what} {n}")).collect();
    trials.figure(
        "served without what was in the damaged part, unnoticed:",
        if unseen.is_empty() { "0".into() } else { unseen.join(" + ") },
    );
}

fn written(trials: &mut Trials) {
    let (rest_s, messages) = if trials.is_long { (600, 1000) } else { (3, 40) };
    for _ in 0..trials.wanted {
        let Some(shim) = rig::shim(trials) else { return };
        trials.trial("written", |trials| {
            let mut rig = Rig::new(json!({})).behind(&shim);
            rig.start();
            rig.round_trip(10);
            pause(1500);
            let look = |shim: &Shim| (shim.get(Dial::Syncs), shim.get(Dial::Bytes));
            let before = look(&shim);
            pause(rest_s * 1000);
            let rest = look(&shim);
            trials.figure("at rest", format!("{} fsyncs and {} bytes in {rest_s} s", rest.0 - before.0, rest.1 - before.1));
            for _ in 0..messages {
                rig.round_trip(10);
            }
            let alone = look(&shim);
            let each = |a: i64, b: i64, n: usize| (a - b) as f64 / n as f64;
            let (syncs, bytes) = (each(alone.0, rest.0, messages), each(alone.1, rest.1, messages));
            trials.figure("one at a time, a message", format!("{syncs:.2} fsyncs, {bytes:.0} bytes"));
            let load = Load::begin(&rig.world, rig.gateway.port, 32, 200);
            pause(2500);
            load.end();
            let counted = settled(&rig.world, 15);
            let (more, now) = (counted.accepted - messages - 1, look(&shim));
            let (many, wide) = (each(now.0, alone.0, more), each(now.1, alone.1, more));
            trials.figure("32 senders, a message", format!("{many:.2} fsyncs, {wide:.0} bytes"));
            if rest != before {
                return Err("it writes at rest".into());
            }
            if syncs > 4.0 || bytes > 24.0 * 1024.0 || many > syncs {
                return Err("more than its budget".into());
            }
            rig.verdict()
        });
    }
}

impl Rig {
    /// One with a Telegram bot beside the door, on that folder.
    fn with_telegram(data: &Path) -> Self {
        let telegram = Telegram::new();
        let more = telegram.config(json!({}), json!({}));
        let mut rig = Rig::on(data, merged(more, json!({})), crate::support::model::Model::echo());
        rig.telegram = Some(std::sync::Arc::new(telegram));
        rig
    }

    fn telegram(&self) -> std::sync::Arc<Telegram> {
        self.telegram.clone().expect("a rig with Telegram")
    }
}
