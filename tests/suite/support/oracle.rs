//! The oracle: what the gateway accepted and what was delivered, written down outside of it, and the count of what went wrong between.
//!
//! Invariant: a sender notes a message only after its 2xx, a receiver before its own; nothing here asks the gateway what happened. In the
//! end, lost is what was accepted and not delivered; doubled what came twice and was not cut off by a death right behind the first one
//! (such a repeat bears the same `webhook-id`); phantom what nobody sent; disordered what came out of its sender's order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Call;
use super::model::Model;
use super::sink::Sink;
use super::truth::Truth;
use super::{Random, eventually, merged, pause};

/// The token of the channel `door`.
pub const DOOR: &str = "door-token-0123456789abcdef";
/// Delivery workers of [`World::config`]: the sends that one death can cut off.
pub const DELIVERY_WORKERS: usize = 2;
/// A repeat is a send that was cut off only if the process died this soon after the first one.
const CUT_OFF: Duration = Duration::from_millis(250);

/// What happened outside the gateway.
pub struct World {
    /// user, number, our id: after a 2xx.
    pub accepted: Truth,
    /// ms, webhook-id, user, text: before the receiver's 2xx.
    pub delivered: Truth,
    /// ms: after each kill.
    pub kills: Truth,
    /// Answers that were no 2xx, and connections that failed.
    pub refused: AtomicU64,
    began: Instant,
    _folder: TempDir,
}

impl World {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        let folder = TempDir::with_prefix("gatelet-truth-").expect("a folder");
        let truth = |name| Truth::new(folder.path(), name);
        Arc::new(World {
            accepted: truth("accepted"),
            delivered: truth("delivered"),
            kills: truth("kills"),
            refused: AtomicU64::new(0),
            began: Instant::now(),
            _folder: folder,
        })
    }

    /// Milliseconds since it began.
    pub fn now(&self) -> String {
        self.began.elapsed().as_millis().to_string()
    }

    /// Notes that the gateway was killed just now.
    pub fn killed(&self) {
        self.kills.note(&[&self.now()]);
    }

    /// A receiver that notes what comes.
    pub fn sink(self: &Arc<Self>) -> Sink {
        let world = self.clone();
        Sink::scripted(move |_, d| {
            let user = d.body["userId"].as_str().unwrap_or("?");
            world.delivered.note(&[&world.now(), &d.id, user, d.text()]);
            200.into()
        })
    }

    /// A configuration with the channel `door`, whose replies go to the receiver, tried again soon and long.
    pub fn config(model: &Model, sink: &Sink) -> Value {
        let door = json!({
            "gateway": {"workers": {"deliveries": DELIVERY_WORKERS}, "retry": {"maxRetries": 100, "delay": 50}},
            "channels": {"door": {"type": "webhook", "token": DOOR, "replyUrl": sink.url}}});
        merged(model.config(), door)
    }

    /// Sends one message; whether it was accepted, which is noted.
    pub fn send(&self, port: u16, user: &str, number: u64) -> bool {
        let text = format!("{user}-{number}");
        let body = json!({"userId": user, "message": text, "messageId": text});
        let call = Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).patience(Duration::from_secs(10));
        match call.attempt() {
            Ok(answer) if matches!(answer.status, 200 | 202) => {
                self.accepted.note(&[user, &number.to_string(), &answer.field("id")]);
                return true;
            }
            Ok(answer) => {
                assert!(matches!(answer.status, 503 | 500), "a sender was told {}: {}", answer.status, answer.text());
            }
            Err(_) => {}
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Senders at work, each a user of its own: `u<i>` writes `u<i>-1`, `u<i>-2`, …, each until it is accepted.
pub struct Load {
    over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins; each pauses for about `pause_ms` behind an accepted message.
    pub fn begin(world: &Arc<World>, port: u16, senders: usize, pause_ms: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let senders = (0..senders)
            .map(|user| {
                let (world, over) = (world.clone(), over.clone());
                std::thread::spawn(move || send_all(port, user, &world, &over, pause_ms))
            })
            .collect();
        Load { over, senders }
    }

    /// Ends it; panics where a sender did.
    pub fn end(mut self) {
        self.over.store(true, Ordering::SeqCst);
        for sender in self.senders.drain(..) {
            sender.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn send_all(port: u16, user: usize, world: &World, over: &AtomicBool, pause_ms: u64) {
    let mut random = Random::new(user as u64 * 7919 + 13);
    let name = format!("u{user}");
    for n in 1.. {
        while !world.send(port, &name, n) {
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

/// What the truth files say.
#[derive(Debug, Default)]
pub struct Count {
    pub accepted: usize,
    pub delivered: usize,
    pub deaths: usize,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub cut_off: usize,
    /// Of those, the longest time from the first send to the death, in ms.
    pub longest_ms: u128,
    pub disordered: Vec<String>,
    pub phantom: Vec<String>,
}

impl Count {
    /// What was promised and not kept, as a sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn verdict(&self) -> Result<(), String> {
        let mut broken = Vec::new();
        for (what, all) in
            [("lost", &self.lost), ("doubled", &self.doubled), ("disordered", &self.disordered), ("phantom", &self.phantom)]
        {
            if !all.is_empty() {
                broken.push(format!("{} {what}: {:?}", all.len(), &all[..all.len().min(5)]));
            }
        }
        if self.cut_off > self.deaths * DELIVERY_WORKERS {
            broken.push(format!("{} sends cut off by {} deaths", self.cut_off, self.deaths));
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }
}

/// Counts what the files say now.
pub fn count(world: &World) -> Count {
    let accepted: Vec<String> = world.accepted.lines().iter().map(|l| format!("{}-{}", l[0], l[1])).collect();
    let kills: Vec<u128> = world.kills.lines().iter().map(|l| l[0].parse().expect("ms")).collect();
    let mut count = Count { accepted: accepted.len(), deaths: kills.len(), ..Count::default() };
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

/// Waits until all is delivered, or nothing has moved for `quiet_s`; counts.
pub fn settled(world: &World, quiet_s: u64) -> Count {
    let mut last = (0, Instant::now());
    eventually("the rest of the deliveries", quiet_s + 120, || {
        let counted = count(world);
        if counted.delivered != last.0 {
            last = (counted.delivered, Instant::now());
        }
        let quiet = last.1.elapsed();
        let is_done = counted.lost.is_empty() && quiet > Duration::from_millis(500);
        (is_done || quiet > Duration::from_secs(quiet_s)).then_some(counted)
    })
}
