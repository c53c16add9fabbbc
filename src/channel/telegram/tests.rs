//! The adapter against a small Bot API over real sockets: how it takes in, and what it shows of itself.
#![allow(clippy::disallowed_methods)] // the fake holds a poll open

mod reading;
mod sending;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::channel::memory;
use crate::channel::memory::{MemoryInlet, common, fresh, parts};
use crate::channel::{ChannelState, NotNow, Place, Taken};
use crate::domain::CutOff;
use crate::net::scripted::{Scripted, answer, pause, reset};

const TOKEN: &str = "42:CANARY-abcdefghijklmnopqrstuvwxyz012";

type Shared<T> = Arc<Mutex<Vec<T>>>;
type Script = dyn Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync;

/// A Bot API: a queue of updates, and what was sent.
struct Fake {
    peer: Scripted,
    queue: Shared<Value>,
    sent: Shared<Value>,
    /// Offsets of the polls, in order.
    offsets: Shared<Option<i64>>,
}

fn refuse(status: u16, description: &str, parameters: Value) -> Option<(u16, String)> {
    let body = json!({"ok": false, "error_code": status, "description": description, "parameters": parameters});
    Some((status, body.to_string()))
}

impl Fake {
    fn new() -> Fake {
        Fake::scripted(|_, _| None)
    }

    /// `script` may answer a call (method, body) in the fake's place; status 0 resets the connection.
    fn scripted(script: impl Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync + 'static) -> Fake {
        let fake = (Shared::default(), Shared::default(), Shared::default());
        let (q, s, o): (Shared<Value>, Shared<Value>, Shared<Option<i64>>) = fake.clone();
        let script: Box<Script> = Box::new(script);
        let peer = Scripted::new(move |_, seen, stream| {
            let path = seen.line.split(' ').nth(1).unwrap();
            let method = path.strip_prefix(&format!("/bot{TOKEN}/")).unwrap_or_else(|| panic!("{path}"));
            let body = seen.json();
            if method == "sendMessage" {
                s.lock().unwrap().push(body.clone());
            }
            if let Some((status, text)) = script(method, &body) {
                if status == 0 {
                    reset(stream);
                    return false;
                }
                return say(stream, status, &text);
            }
            let result = match method {
                "getMe" => json!({"id": 42, "is_bot": true, "username": "GateBot"}),
                "getUpdates" => {
                    o.lock().unwrap().push(body["offset"].as_i64());
                    updates(&q, &body)
                }
                _ => json!({"message_id": 1}),
            };
            say(stream, 200, &json!({"ok": true, "result": result}).to_string())
        });
        let (queue, sent, offsets) = fake;
        Fake { peer, queue, sent, offsets }
    }

    fn push(&self, updates: impl IntoIterator<Item = Value>) {
        self.queue.lock().unwrap().extend(updates);
    }

    fn pending(&self) -> usize {
        self.queue.lock().unwrap().len()
    }

    fn open(&self, inlet: &Arc<MemoryInlet>) -> Opened {
        self.open_with(inlet, &common())
    }

    fn open_with(&self, inlet: &Arc<MemoryInlet>, common: &config::ChannelCommon) -> Opened {
        let config =
            config::Telegram { token: crate::base::secret::Secret::new(TOKEN), api_root: self.peer.url(""), preview: true };
        let parts = parts("tg", inlet, &Clock::system());
        let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
        Opened(open(parts, config, common, counters))
    }
}

/// An open channel, stopped in the end.
struct Opened(Arc<dyn Channel>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn say(stream: &mut TcpStream, status: u16, body: &str) -> bool {
    stream.write_all(answer(&format!("{status} X"), "application/json", body).as_bytes()).is_ok()
}

/// As the real server: an offset far beyond the last one is none; one behind an update confirms it.
fn updates(queue: &Mutex<Vec<Value>>, body: &Value) -> Value {
    let held_max = if body["offset"].is_null() { 10 } else { 1 }; // shorter than what is asked for, so that tests end
    let deadline = Instant::now() + Duration::from_secs(body["timeout"].as_u64().unwrap_or(0).min(held_max));
    loop {
        let mut queue = queue.lock().unwrap();
        let tail = queue.iter().filter_map(|u| u["update_id"].as_i64()).max();
        if let Some(offset) = body["offset"].as_i64().filter(|o| tail.is_none_or(|t| *o <= t + 10)) {
            queue.retain(|u| u["update_id"].as_i64().is_some_and(|id| id >= offset));
        }
        let limit = body["limit"].as_u64().unwrap_or(100) as usize;
        if !queue.is_empty() || Instant::now() > deadline {
            return queue.iter().take(limit).cloned().collect();
        }
        drop(queue);
        pause(5);
    }
}

#[track_caller]
fn eventually(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !probe() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        pause(5);
    }
}

fn message(id: i64, text: &str) -> Value {
    json!({"update_id": id, "message": {"message_id": id, "date": 1_700_000_000, "text": text,
        "chat": {"id": 7, "type": "private"}, "from": {"id": 7, "is_bot": false, "first_name": "Ana"}}})
}

fn delivery(text: &str) -> Delivery {
    memory::delivery("7", text)
}

#[test]
fn messages_go_in_order_and_are_confirmed_behind_the_commit() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    fake.push((1..=250).map(|n| message(n, &format!("m{n}"))));
    let opened = fake.open(&inlet);
    eventually("all", || inlet.texts().len() == 250 && fake.pending() == 0);
    assert_eq!(inlet.texts(), (1..=250).map(|n| format!("m{n}")).collect::<Vec<_>>());
    assert_eq!(inlet.cursors.lock().unwrap()["tg"], "42:250");
    assert_eq!(opened.0.status().state, ChannelState::Connected);
    assert!(opened.0.status().last_heard_ms.is_some());
    let first = inlet.offered.lock().unwrap()[0].clone();
    assert_eq!((first.sender.as_str(), first.sender_name.as_str(), first.external_id.as_str()), ("7", "Ana", "42:1"));
    assert_eq!((first.place, first.conversation, first.written_ms), (Place::Direct, None, 1_700_000_000_000));
}

#[test]
fn a_restart_takes_nothing_twice_and_the_offset_is_never_an_old_one() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    // Committed before the kill, not confirmed; two more came.
    inlet.cursors.lock().unwrap().insert("tg".into(), "42:5".into());
    fake.push([message(4, "old"), message(5, "old"), message(6, "new"), message(7, "newer")]);
    let _opened = fake.open(&inlet);
    eventually("both", || fake.pending() == 0);
    assert_eq!(inlet.texts(), ["new", "newer"]);
    assert_eq!(fake.offsets.lock().unwrap()[..2], [None, Some(8)]);
}

#[test]
fn numbers_that_begin_anew_are_taken() {
    for cursor in ["42:900000", "41:3", "nonsense"] {
        let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
        inlet.cursors.lock().unwrap().insert("tg".into(), cursor.into());
        fake.push([message(3, "a"), message(4, "b")]);
        let _opened = fake.open(&inlet);
        // The service counts anew after a quiet week at the earliest: polls that found nothing lie between.
        eventually("a poll without an offset", || {
            let offsets = fake.offsets.lock().unwrap();
            offsets.len() > 2 && offsets[offsets.len() - 1].is_none()
        });
        fake.push([message(2, "far below")]);
        eventually("the lower one", || inlet.texts().len() == 3);
        assert_eq!(inlet.texts(), ["a", "b", "far below"], "{cursor}");
    }
}

#[test]
fn what_cannot_be_taken_now_comes_again() {
    let refusals = AtomicUsize::new(0);
    let inlet = MemoryInlet::answering(move |incoming| {
        let stuck = incoming.text == "b" && refusals.fetch_add(1, Ordering::SeqCst) < 2;
        if stuck { Err(NotNow("the disk is full".into())) } else { Ok(Taken::Ignored("test")) }
    });
    let fake = Fake::new();
    fake.push([message(1, "a"), message(3, "b"), message(2, "out of order")]);
    let _opened = fake.open(&inlet);
    eventually("the last", || fake.pending() == 0);
    let texts = inlet.texts();
    assert_eq!(texts.iter().filter(|t| *t == "b").count(), 3, "{texts:?}");
    assert_eq!(texts.last().unwrap(), "out of order");
    assert_eq!(fake.offsets.lock().unwrap()[1], Some(2), "nothing that is left is confirmed");
}

#[test]
fn a_poison_update_is_passed_over_alone() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    let poison =
        [json!({"update_id": 50, "message": 5}), json!({"update_id": 51, "message": {"text": "no chat"}}), json!("no update")];
    let mut batch: Vec<Value> = (1..=100).map(|n| message(n, "fine")).collect();
    batch.splice(49..51, poison.into_iter().take(2));
    fake.push(batch);
    let _opened = fake.open(&inlet);
    eventually("the others", || fake.pending() == 0);
    assert_eq!(inlet.texts().len(), 98);
}

#[test]
fn a_batch_that_is_no_json_is_asked_for_one_by_one() {
    let (inlet, confirmed) = (Arc::new(MemoryInlet::default()), Arc::new(AtomicUsize::new(0)));
    let seen = confirmed.clone();
    // The second one of three holds half a surrogate, which no JSON reader of ours takes.
    let fake = Fake::scripted(move |method, body| {
        if method != "getUpdates" {
            return None;
        }
        let broken = r#"{"update_id":2,"message":{"message_id":2,"text":"\ud83d"}}"#.to_string();
        let all = [message(1, "first").to_string(), broken, message(3, "third").to_string()];
        let from = body["offset"].as_u64().map_or(0, |o| o as usize - 1);
        seen.fetch_max(from, Ordering::SeqCst);
        if from >= 3 {
            return None;
        }
        let limit = body["limit"].as_u64().unwrap() as usize;
        let some: Vec<_> = all.into_iter().skip(from).take(limit).collect();
        Some((200, format!("{{\"ok\":true,\"result\":[{}]}}", some.join(","))))
    });
    let _opened = fake.open(&inlet);
    eventually("all", || confirmed.load(Ordering::SeqCst) == 3);
    assert_eq!(inlet.texts(), ["first", "third"]);
}

/// How the channel is after a refusal of its polls.
#[track_caller]
fn check_refused(method: &'static str, status: u16, description: &'static str, state: ChannelState, says: &str) {
    let fake = Fake::scripted(move |called, _| {
        // What a proxy might say: the whole path.
        (called == method).then(|| refuse(status, &format!("{description} /bot{TOKEN}/x"), json!({}))).flatten()
    });
    let inlet = Arc::new(MemoryInlet::default());
    let opened = fake.open(&inlet);
    eventually("the state", || opened.0.status().state == state);
    let shown = opened.0.status().last_error.unwrap();
    assert!(shown.contains(says), "{shown}");
    assert!(!shown.contains("CANARY"), "{shown}");
    assert!(inlet.changes.lock().unwrap().iter().any(|(_, s, why)| *s == state && !why.contains("CANARY")));
}

#[test]
fn refusals_are_told_truly() {
    use ChannelState::{Degraded, Misconfigured};
    check_refused("getMe", 401, "Unauthorized", Misconfigured, "check the token");
    check_refused("getMe", 404, "Not Found", Misconfigured, "check the token");
    check_refused("getUpdates", 409, "Conflict: terminated by other getUpdates request", Degraded, "another program polls");
    check_refused("getUpdates", 409, "Conflict: can't use getUpdates method while webhook is active", Degraded, "deleteWebhook");
    check_refused("getUpdates", 502, "Bad Gateway", Degraded, "502");
    check_refused("getUpdates", 429, "Too Many Requests: retry after 5", Degraded, "429");
}

#[test]
fn a_reset_is_one_failure_and_nothing_is_lost() {
    let polls = AtomicUsize::new(0);
    let fake = Fake::scripted(move |method, _| {
        let breaks = method == "getUpdates" && polls.fetch_add(1, Ordering::SeqCst) == 1;
        breaks.then(|| (0, String::new()))
    });
    let inlet = Arc::new(MemoryInlet::default());
    fake.push([message(1, "a")]);
    let opened = fake.open(&inlet);
    fake.push([message(2, "b")]);
    eventually("the second", || fake.pending() == 0 && inlet.texts().contains(&"b".to_string()));
    eventually("the state", || opened.0.status().state == ChannelState::Connected);
}

#[test]
fn a_stop_ends_a_poll_at_once() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    let opened = fake.open(&inlet);
    eventually("the long poll", || fake.offsets.lock().unwrap().len() == 2);
    let began = Instant::now();
    opened.0.stop();
    eventually("the end", || opened.0.status().state == ChannelState::Stopped);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn strangers_are_told_where_they_wrote() {
    let inlet = MemoryInlet::answering(|_| Ok(Taken::Tell("Your code: ABC <1>".into())));
    let fake = Fake::new();
    fake.push([message(1, "hello")]);
    let _opened = fake.open(&inlet);
    eventually("the word", || fake.sent.lock().unwrap().len() == 1);
    assert_eq!(fake.sent.lock().unwrap()[0], json!({"text": "Your code: ABC <1>", "chat_id": 7}));
}

#[test]
fn a_token_that_is_none_is_never_sent_and_never_shown() {
    let fake = Scripted::says("");
    for token in ["", "CANARY", "1:", "12:CANARY/../x", "12:CANARY x", "a:CANARY"] {
        let config = config::Telegram { token: crate::base::secret::Secret::new(token), api_root: fake.url(""), preview: false };
        assert!(!format!("{config:?}").contains("CANARY"));
        let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
        let parts = parts("tg", &Arc::new(MemoryInlet::default()), &Clock::system());
        let opened = Opened(open(parts, config, &common(), counters));
        eventually("the state", || opened.0.status().state == ChannelState::Misconfigured);
        assert!(!opened.0.status().last_error.unwrap().contains("CANARY"));
    }
    assert_eq!(fake.seen().len(), 0);
}

#[test]
fn a_server_that_says_the_path_back_or_nothing_sensible_shows_no_token() {
    for text in [format!("<html>/bot{TOKEN}/getMe not found"), format!("{{\"ok\":true,\"x\":\"{TOKEN}\"}}"), "[]".into()] {
        for status in [200, 404, 500, 302] {
            let text = text.clone();
            let fake = Fake::scripted(move |_, _| Some((status, text.clone())));
            let opened = fake.open(&Arc::new(MemoryInlet::default()));
            eventually("an error", || opened.0.status().last_error.is_some());
            let error = opened.0.deliver(&delivery("hi"), &fresh()).unwrap_err();
            let shown = format!("{error} {error:?} {:?}", opened.0.status());
            assert!(!shown.contains("CANARY"), "{shown}");
        }
    }
}
