//! Power loss: what was done to the data folder is recorded, call by call, together with what was acknowledged between; then the power is
//! cut at every fsync on paper, and the gateway is started on what a disk may have kept.
//!
//! Invariant: a disk keeps what was synced, and of what was not any part: each write for itself, torn at its sectors of 512 bytes or 4 KiB;
//! of the folder's entries (made, renamed, removed) that were not synced any beginning. That is worse than ext4 does. Whatever it kept, all
//! that was acknowledged before the cut has to be there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::row::Trials;
use crate::shim::{self, Done, EIO, Notes, Shim};
use crate::support::gateway::{Gateway, with_defaults};
use crate::support::http::Call;
use crate::support::model::Model;
use crate::support::oracle::{DOOR, World};
use crate::support::sink::Sink;
use crate::support::{Random, eventually, pause, side_by_side};

/// Messages of the run that is recorded, and their senders.
const MESSAGES: (u64, u64) = (160, 500);
const SENDERS: usize = 8;

/// A change of a file that may not be on the disk yet.
#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// A change of the folder that may not be on the disk yet.
#[derive(Clone)]
enum Entry {
    Made(String, usize),
    Renamed(String, String),
    Removed(String),
}

#[derive(Clone, Default)]
struct Node {
    kept: Vec<u8>,
    pending: Vec<Change>,
    /// Changes that a sync which has begun covers.
    covered: usize,
}

/// What is on the disk for sure, and what may be.
#[derive(Default)]
struct Disk {
    nodes: Vec<Node>,
    live: BTreeMap<String, usize>,
    kept: BTreeMap<String, usize>,
    pending: Vec<Entry>,
    covered: usize,
    accepted: BTreeSet<String>,
    /// Message, and the id of its delivery.
    delivered: HashMap<String, String>,
}

/// The folder after a cut.
type Image = BTreeMap<String, Vec<u8>>;

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Truncate(length) => bytes.resize(*length as usize, 0),
            Change::Write(at, new) => {
                let end = *at as usize + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at as usize..end].copy_from_slice(new);
            }
        }
    }

    /// The same with some of its sectors missing.
    fn torn(&self, sector: u64, random: &mut Random) -> Vec<Change> {
        let Change::Write(at, new) = self else { return vec![self.clone()] };
        let (mut parts, mut from) = (Vec::new(), *at);
        let end = at + new.len() as u64;
        while from < end {
            let to = end.min((from / sector + 1) * sector);
            if random.between(0, 2) == 0 {
                parts.push(Change::Write(from, new[(from - at) as usize..(to - at) as usize].to_vec()));
            }
            from = to;
        }
        parts
    }
}

impl Entry {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Entry::Made(name, node) => drop(names.insert(name.clone(), *node)),
            Entry::Removed(name) => drop(names.remove(name)),
            Entry::Renamed(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Disk {
    fn enter(&mut self, entry: Entry) {
        entry.apply(&mut self.live);
        self.pending.push(entry);
    }

    fn change(&mut self, path: &str, change: Change) {
        // Files that were there before the record began are not the gateway's.
        if let Some(node) = self.live.get(path) {
            self.nodes[*node].pending.push(change);
        }
    }

    fn take(&mut self, done: &Done, random: &mut Random) {
        match done {
            Done::Create { path } => {
                self.nodes.push(Node::default());
                self.enter(Entry::Made(path.clone(), self.nodes.len() - 1));
            }
            Done::Write { path, at, bytes } => self.change(path, Change::Write(*at, bytes.clone())),
            Done::Truncate { path, length } => self.change(path, Change::Truncate(*length)),
            Done::Rename { from, to } => self.enter(Entry::Renamed(from.clone(), to.clone())),
            Done::Unlink { path } => self.enter(Entry::Removed(path.clone())),
            Done::SyncBegun { path } if path == "." => self.covered = self.pending.len(),
            Done::Synced { path } if path == "." => {
                let covered = std::mem::take(&mut self.covered);
                self.pending.drain(..covered).for_each(|entry| entry.apply(&mut self.kept));
            }
            Done::SyncBegun { path } => {
                if let Some(node) = self.live.get(path) {
                    self.nodes[*node].covered = self.nodes[*node].pending.len();
                }
            }
            Done::Synced { path } => {
                if let Some(node) = self.live.get(path) {
                    let node = &mut self.nodes[*node];
                    let covered = std::mem::take(&mut node.covered);
                    let Node { kept, pending, .. } = node;
                    pending.drain(..covered).for_each(|change| change.apply(kept));
                }
            }
            // What the kernel could not write it drops, and the next sync succeeds without it.
            Done::SyncFailed { path } => {
                if let Some(node) = self.live.get(path) {
                    self.nodes[*node].pending.retain(|_| random.between(0, 2) == 0);
                }
            }
            Done::Accepted { name } => drop(self.accepted.insert(name.clone())),
            Done::Delivered { id, name } => drop(self.delivered.insert(name.clone(), id.clone())),
        }
    }

    /// What a disk may have kept if the power went now.
    fn cut(&self, random: &mut Random) -> Image {
        let mut names = self.kept.clone();
        let survive = random.between(0, self.pending.len() as u64 + 1) as usize;
        self.pending[..survive].iter().for_each(|entry| entry.apply(&mut names));
        let mut image = Image::new();
        // One cut is of one kind: nothing, everything, some writes, some sectors.
        let kind = random.between(0, 5);
        for (name, node) in names {
            let Node { kept, pending, .. } = &self.nodes[node];
            let mut bytes = kept.clone();
            for change in pending {
                match kind {
                    0 => {}
                    1 => change.apply(&mut bytes),
                    2 if random.between(0, 2) == 0 => change.apply(&mut bytes),
                    3 => change.torn(512, random).iter().for_each(|part| part.apply(&mut bytes)),
                    4 => change.torn(4096, random).iter().for_each(|part| part.apply(&mut bytes)),
                    _ => {}
                }
            }
            image.insert(name, bytes);
        }
        // Shared memory of the database is no file's: a new start makes it anew.
        image.retain(|name, _| !name.ends_with("-shm"));
        image
    }
}

/// Where folders are rebuilt: in memory, where there is such a place.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made =
        if memory.is_dir() { TempDir::with_prefix_in("gatelet-cut-", memory) } else { TempDir::with_prefix("gatelet-cut-") };
    made.expect("a folder")
}

/// A run of the real gateway with everything that it does to its folder.
fn record(messages: u64, is_failing: bool) -> Result<Vec<Done>, &'static str> {
    let shim = Shim::new()?;
    let (data, config) = (scratch(), scratch());
    let notes = Arc::new(Notes::new(&shim));
    let (model, heard) = (Model::echo(), notes.clone());
    let sink = Sink::scripted(move |_, d| {
        heard.delivered(&d.id, d.text().strip_prefix("echo: ").unwrap_or(d.text()));
        200.into()
    });
    let mut gateway = Gateway::prepare_in(data.path(), "unused", World::config(&model, &sink));
    std::fs::remove_file(&gateway.config_path).expect("the unused one");
    gateway.config_path = config.path().join("config.json");
    gateway.write_config(&with_defaults(World::config(&model, &sink), gateway.port).to_string());
    let mut gateway = shim.before(gateway, true);
    gateway.spawn_with(Stdio::null(), Stdio::null());
    gateway.wait_healthy(Instant::now());
    let (port, over) = (gateway.port, AtomicBool::new(false));
    std::thread::scope(|scope| {
        if is_failing {
            scope.spawn(|| fail_now_and_then(&shim, &over));
        }
        send_all(port, messages, &notes);
        over.store(true, Ordering::SeqCst);
    });
    shim.heal();
    sink.until(messages as usize, 60);
    pause(300);
    gateway.kill9();
    Ok(shim::read(&shim.log_path()))
}

/// Lets syncs fail, one or some at a time.
fn fail_now_and_then(shim: &Shim, over: &AtomicBool) {
    let mut random = Random::new(7);
    while !over.load(Ordering::SeqCst) {
        shim.fail_syncs(random.between(1, 6) as i64, random.between(1, 4) as i64, EIO);
        pause(40);
    }
}

/// Sends all messages, each until it is accepted.
fn send_all(port: u16, messages: u64, notes: &Notes) {
    side_by_side(SENDERS, |sender| {
        for n in (sender as u64..messages).step_by(SENDERS) {
            let (user, text) = (format!("u{sender}"), format!("m{n}"));
            let body = json!({"userId": user, "message": text, "messageId": text});
            eventually("a 202", 30, || {
                let answer = Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).send();
                assert!(matches!(answer.status, 202 | 503 | 500), "{}", answer.text());
                (answer.status == 202).then_some(())
            });
            notes.accepted(&text);
        }
    });
}

/// A place where gateways are started on what is left.
struct Bench {
    model: Model,
    sink: Sink,
    heard: Arc<Mutex<Vec<(String, String)>>>,
    config: TempDir,
}

impl Bench {
    fn new() -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let own = heard.clone();
        let sink = Sink::scripted(move |_, d| {
            let name = d.text().strip_prefix("echo: ").unwrap_or(d.text()).to_string();
            own.lock().unwrap().push((name, d.id.clone()));
            200.into()
        });
        Bench { model: Model::echo(), sink, heard, config: scratch() }
    }

    /// Starts on an image and looks whether all is there; gives the time to the first round trip.
    fn check(&self, image: &Image, accepted: &BTreeSet<String>, delivered: &HashMap<String, String>) -> Result<Duration, String> {
        let data = scratch();
        for (name, bytes) in image {
            std::fs::write(data.path().join(name), bytes).expect("an image");
        }
        self.heard.lock().unwrap().clear();
        let mut gateway = Gateway::prepare_in(data.path(), "unused", json!({}));
        gateway.config_path = self.config.path().join("config.json");
        gateway.write_config(&with_defaults(World::config(&self.model, &self.sink), gateway.port).to_string());
        let began = Instant::now();
        gateway.restart();
        let body = json!({"userId": "fresh", "message": "fresh", "messageId": "fresh"});
        let answer = gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send();
        if answer.status != 202 {
            return Err(format!("a new message is answered {}: {}", answer.status, answer.text()));
        }
        let heard = || self.heard.lock().unwrap().clone();
        let took = eventually("a round trip", 20, || heard().iter().any(|(n, _)| n == "fresh").then(|| began.elapsed()));
        let missing = |heard: &[(String, String)]| -> Vec<String> {
            let now: BTreeSet<&String> = heard.iter().map(|(name, _)| name).collect();
            accepted.iter().filter(|a| !delivered.contains_key(*a) && !now.contains(a)).cloned().collect()
        };
        let deadline = Instant::now() + Duration::from_secs(15);
        while !missing(&heard()).is_empty() && Instant::now() < deadline {
            pause(10);
        }
        let heard = heard();
        let lost = missing(&heard);
        if !lost.is_empty() {
            let log: String = gateway.log().chars().take(600).collect();
            return Err(format!(
                "{} of {} accepted are lost: {:?}; {log}",
                lost.len(),
                accepted.len(),
                &lost[..lost.len().min(5)]
            ));
        }
        let mut ids: HashMap<&String, &String> = delivered.iter().collect();
        for (name, id) in &heard {
            if *ids.entry(name).or_insert(id) != id {
                return Err(format!("{name} is delivered under a second id"));
            }
        }
        gateway.kill9();
        integrity(&data.path().join("gatelet.db"))?;
        Ok(took)
    }
}

/// What SQLite's own check says of a database.
pub fn integrity(path: &Path) -> Result<(), String> {
    let verdict: Result<String, _> =
        rusqlite::Connection::open(path).and_then(|db| db.query_row("PRAGMA integrity_check", [], |row| row.get(0)));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        other => Err(format!("integrity_check: {other:?}")),
    }
}

/// R4.
pub fn loss(trials: &mut Trials) {
    cuts(trials, false);
}

/// R5: the same after syncs that failed, each of which dropped what it was to bring to the disk.
pub fn failed_syncs(trials: &mut Trials) {
    cuts(trials, true);
}

fn cuts(trials: &mut Trials, is_failing: bool) {
    let messages = if trials.is_long { MESSAGES.1 } else { MESSAGES.0 };
    let record = match record(messages, is_failing) {
        Ok(record) => record,
        Err(why) => return trials.absent(why),
    };
    // Right before a sync is through: all that was written since the last one is in doubt.
    let points: Vec<usize> = (0..record.len()).filter(|i| matches!(record[*i], Done::Synced { .. })).collect();
    let mut chosen: Vec<usize> = points.iter().cycle().take(trials.wanted as usize).copied().collect();
    if (trials.wanted as usize) < points.len() {
        chosen = (0..trials.wanted).map(|_| points[trials.random.between(0, points.len() as u64) as usize]).collect();
    }
    chosen.sort_unstable();
    let (mut disk, mut at, mut cuts) = (Disk::default(), 0, Vec::new());
    for point in &chosen {
        while at < *point {
            disk.take(&record[at], &mut trials.random);
            at += 1;
        }
        let image = disk.cut(&mut trials.random);
        // One without a database is a folder before its first start.
        cuts.push((*point, image, disk.accepted.clone(), disk.delivered.clone()));
    }
    let queue = Mutex::new(cuts.into_iter());
    let ended = side_by_side(2, |_| {
        let (bench, mut ended) = (Bench::new(), Vec::new());
        loop {
            let Some((point, image, accepted, delivered)) = queue.lock().unwrap().next() else { return ended };
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.check(&image, &accepted, &delivered)));
            ended.push((point, checked.unwrap_or_else(|_| Err("it did not come up".into()))));
        }
    });
    for (point, outcome) in ended.into_iter().flatten() {
        let took = trials.trial(&format!("cut at call {point}"), |_| outcome);
        took.into_iter().for_each(|took| trials.recovered(took));
    }
    trials.figure("fsyncs in the run", points.len());
    if is_failing {
        trials.figure("of them failed", record.iter().filter(|d| matches!(d, Done::SyncFailed { .. })).count());
    }
    trials.figure("messages", messages);
}
