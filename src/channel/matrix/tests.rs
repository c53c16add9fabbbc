//! The adapter against a homeserver that does exactly what it is told, with its failures, over real sockets.

#[path = "../../../tests/suite/support/lacking.rs"]
mod lacking;
mod places;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::channel::memory;
use crate::channel::memory::{MemoryInlet, common, fresh, parts};
use crate::channel::{ChannelState, Incoming, NotNow, Place, Taken};
use crate::domain::Accepted;
use crate::net::scripted::{Scripted, Seen, answer, hang, pause, reset};

const ME: &str = "@bot:x";
const ROOM: &str = "!r:x";
const TEST_PACE: Pace =
    Pace { poll: Duration::from_millis(300), call: Duration::from_millis(700), pause: Duration::from_millis(20) };

/// What the homeserver does with one request.
enum Does {
    Says(&'static str, Value),
    Raw(&'static str),
    Hangs,
    Resets,
}

fn says(value: Value) -> Option<Does> {
    Some(Does::Says("200 OK", value))
}

fn refuses(status: &'static str, code: &str) -> Option<Does> {
    Some(Does::Says(status, json!({"errcode": code, "error": "no", "retry_after_ms": 1234})))
}

/// A homeserver: `act` gets the method, the path behind the version, and how many of that kind came before (a kind is the path without
/// its query); where it gives nothing, the usual answer is given.
fn homeserver(act: impl Fn(&str, &str, usize) -> Option<Does> + Send + Sync + 'static) -> Scripted {
    let counts: Mutex<std::collections::HashMap<String, usize>> = Mutex::default();
    Scripted::new(move |_, seen, stream| {
        let (method, path) = target(seen);
        let kind = format!("{method} {}", path.split('?').next().unwrap());
        let before = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(kind).or_default();
            *count += 1;
            *count - 1
        };
        match act(&method, &path, before).unwrap_or_else(|| usual(&method, &path)) {
            Does::Says(status, value) => {
                stream.write_all(answer(status, "application/json", &value.to_string()).as_bytes()).is_ok()
            }
            Does::Raw(text) => {
                let _ = stream.write_all(text.as_bytes());
                false
            }
            Does::Hangs => {
                hang();
                false
            }
            Does::Resets => {
                reset(stream);
                false
            }
        }
    })
}

fn target(seen: &Seen) -> (String, String) {
    let mut words = seen.line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    (method.to_string(), path.strip_prefix("/_matrix/client/v3").unwrap_or(path).to_string())
}

fn usual(method: &str, path: &str) -> Does {
    let (status, value) = match path.split('?').next().unwrap() {
        "/login" => ("200 OK", json!({"access_token": "fetched", "user_id": ME})),
        "/account/whoami" => ("200 OK", json!({"user_id": ME})),
        "/sync" => {
            pause(100); // holds the poll
            ("200 OK", json!({"next_batch": "s-idle"}))
        }
        "/createRoom" => ("200 OK", json!({"room_id": "!new:x"})),
        p if p.contains("/send/") => ("200 OK", json!({"event_id": format!("${}", p.rsplit('/').next().unwrap())})),
        p if p.ends_with("/joined_members") => ("200 OK", json!({"joined": {ME: {}, "@ana:x": {}}})),
        p if p.ends_with("/displayname") => ("200 OK", json!({"displayname": "Gate"})),
        p if p.ends_with("/m.room.encryption") => ("404 Not Found", json!({"errcode": "M_NOT_FOUND"})),
        p if p.contains("/account_data/") && method == "GET" => ("404 Not Found", json!({"errcode": "M_NOT_FOUND"})),
        _ => ("200 OK", json!({})),
    };
    Does::Says(status, value)
}

struct Running {
    matrix: Matrix,
    inlet: Arc<MemoryInlet>,
    peer: Scripted,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.matrix.stop();
    }
}

impl Running {
    fn until(&self, what: &str, test: impl Fn(&Running) -> bool) {
        for _ in 0..500 {
            if test(self) {
                return;
            }
            pause(10);
        }
        panic!("still waiting for {what}: {:?} {:?} {:?}", self.matrix.status(), self.inlet.texts(), self.lines());
    }

    fn lines(&self) -> Vec<String> {
        self.peer.seen().iter().map(|s| s.line.chars().take(160).collect()).collect()
    }

    fn calls(&self, part: &str) -> Vec<Seen> {
        self.peer.seen().into_iter().filter(|s| s.line.contains(part)).collect()
    }

    fn cursor(&self) -> Option<String> {
        self.inlet.cursors.lock().unwrap().get("mx").cloned()
    }
}

fn config(peer: &Scripted, password: bool) -> config::Matrix {
    let secret = Some(Secret::new("secret-word"));
    let (password, access_token) = if password { (secret, None) } else { (None, secret) };
    config::Matrix { homeserver: peer.url(""), user_id: ME.to_string(), access_token, password }
}

fn start_with(peer: Scripted, inlet: MemoryInlet, password: bool, common: config::ChannelCommon) -> Running {
    let (inlet, clock) = (Arc::new(inlet), Clock::system());
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let matrix = Matrix::open(parts("mx", &inlet, &clock), config(&peer, password), &common, counters, TEST_PACE);
    Running { matrix, inlet, peer }
}

/// One that has been there before: its cursor is `s0`.
fn start(peer: Scripted) -> Running {
    start_with(peer, known(), true, common())
}

/// An inlet whose cursor is `s0`.
fn known() -> MemoryInlet {
    let inlet = MemoryInlet::default();
    inlet.cursors.lock().unwrap().insert("mx".into(), "s0".into());
    inlet
}

fn answering(answer: impl Fn(&Incoming) -> std::result::Result<Taken, NotNow> + Send + Sync + 'static) -> MemoryInlet {
    let mut inlet = known();
    inlet.answer = Some(Box::new(answer));
    inlet
}

fn message(id: &str, words: &str) -> Value {
    json!({"type": "m.room.message", "event_id": id, "sender": "@ana:x", "origin_server_ts": 5,
        "content": {"msgtype": "m.text", "body": words}})
}

fn batch(next: &str, events: Value) -> Value {
    json!({"next_batch": next, "rooms": {"join": {ROOM: {"timeline": {"events": events}}}}})
}

fn delivery(conversation: Option<&str>, text: &str) -> Delivery {
    Delivery { conversation_id: conversation.map(str::to_string), ..memory::delivery("@ana:x", text) }
}

#[test]
fn the_first_day_begins_now_and_what_comes_is_taken_in_order() {
    let peer = homeserver(|_, path, n| match (path.starts_with("/sync"), n) {
        (true, 0) => says(batch("s1", json!([message("$old", "history")]))),
        (true, 1) => says(batch("s2", json!([message("$old2", "history too")]))),
        (true, 2) => says(batch("s3", json!([message("$1", "one"), {"poison": 1}, message("$2", "two")]))),
        (true, 3) => says(batch("s4", json!([message("$2", "two"), message("$3", "three")]))),
        _ => None,
    });
    let running = start_with(peer, MemoryInlet::default(), true, common());
    running.until("the messages", |r| r.inlet.texts().len() == 4);
    assert_eq!(running.inlet.texts(), ["one", "two", "two", "three"], "a repeat is the store's matter");
    {
        let offered = running.inlet.offered.lock().unwrap();
        let cursors: Vec<_> = offered.iter().map(|i| i.cursor.as_deref()).collect();
        assert_eq!(cursors, [None, Some("s3"), None, Some("s4")], "committed with the last one of a batch");
        let one = &offered[0];
        assert_eq!((one.sender.as_str(), one.external_id.as_str(), &one.place), ("@ana:x", "$1", &Place::Direct));
        assert_eq!((one.conversation.as_deref(), one.written_ms, &one.metadata), (Some(ROOM), 5, &None));
    }
    let syncs = running.calls("/sync");
    assert!(!syncs[0].line.contains("since=") && syncs[1].line.contains("since=s1") && syncs[2].line.contains("since=s2"));
    assert!(syncs.iter().all(|s| s.header("authorization") == Some("Bearer fetched") && !s.line.contains("fetched")));
    let login = running.calls("/login")[0].json();
    assert_eq!((&login["device_id"], &login["identifier"]["user"]), (&json!("GATELET_mx"), &json!(ME)));
    assert_eq!(running.matrix.status().state, ChannelState::Connected);
}

#[test]
fn an_idle_poll_writes_nothing() {
    let running = start(homeserver(|_, _, _| None));
    running.until("some polls", |r| r.calls("/sync").len() >= 4);
    assert_eq!(running.cursor().as_deref(), Some("s0"), "the disk of an idle gateway rests");
    assert!(running.matrix.status().last_heard_ms.is_some());
}

#[test]
fn what_can_not_be_taken_now_is_taken_again_and_in_order() {
    let refusals = AtomicUsize::new(0);
    let inlet = answering(move |incoming| match refusals.fetch_add(1, Ordering::SeqCst) {
        1..=3 => Err(NotNow("the store can't write".into())),
        _ => Ok(Taken::Accepted(Accepted { id: incoming.external_id.clone(), session_id: "s".into(), duplicate: false })),
    });
    let peer = homeserver(|_, path, n| match (path.starts_with("/sync"), n) {
        (true, 0) => says(batch("s1", json!([message("$1", "one"), message("$2", "two"), message("$3", "three")]))),
        _ => None,
    });
    let running = start_with(peer, inlet, true, common());
    running.until("all", |r| r.inlet.texts().len() == 6);
    assert_eq!(running.inlet.texts(), ["one", "two", "two", "two", "two", "three"]);
    running.until("the next poll", |r| r.calls("/sync").len() > 1);
    assert!(running.calls("/sync")[1].line.contains("since=s1"));
}

#[test]
fn a_batch_that_was_cut_off_comes_again() {
    let inlet = answering(|_| Err(NotNow("draining".into())));
    let peer = homeserver(|_, path, _| {
        path.starts_with("/sync").then(|| Does::Says("200 OK", batch("s1", json!([message("$1", "one")]))))
    });
    let running = start_with(peer, inlet, true, common());
    running.until("a try", |r| !r.inlet.texts().is_empty());
    running.matrix.reconnect();
    running.until("the same again", |r| r.calls("/sync").len() >= 2);
    assert!(running.calls("/sync").iter().all(|s| s.line.contains("since=s0")));
    assert_eq!(running.cursor().as_deref(), Some("s0"));
}

#[test]
fn what_a_limited_timeline_left_out_is_fetched() {
    let peer = homeserver(|_, path, n| {
        if path.starts_with("/sync") && n == 0 {
            let timeline = json!({"limited": true, "prev_batch": "p3", "events": [message("$5", "five")]});
            return says(json!({"next_batch": "s9", "rooms": {"join": {ROOM: {"timeline": timeline}}}}));
        }
        if path.contains("/messages") {
            assert!(path.contains("dir=b") && path.contains("to=s0"), "{path}");
            return says(match n {
                0 => json!({"chunk": [message("$4", "four"), message("$3", "three")], "end": "p2"}),
                1 => json!({"chunk": [], "end": "p1"}),
                2 => json!({"chunk": [message("$2", "two"), "garbage", message("$1", "one")]}),
                _ => panic!("too many pages"),
            });
        }
        None
    });
    let running = start(peer);
    running.until("all", |r| r.inlet.texts().len() == 5);
    assert_eq!(running.inlet.texts(), ["one", "two", "three", "four", "five"]);
    assert_eq!(running.cursor().as_deref(), Some("s9"));
}

#[test]
fn a_connection_that_fails_is_begun_anew_from_the_same_place() {
    type Poll = (&'static str, fn() -> Does);
    let polls: [Poll; 7] = [
        ("429", || refuses("429 Too Many Requests", "M_LIMIT_EXCEEDED").unwrap()),
        ("502", || Does::Raw("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")),
        ("garbage", || Does::Says("200 OK", json!("garbage"))),
        ("no JSON", || Does::Raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")),
        ("cut off", || Does::Raw("HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{\"next_batch\":\"s1\"")),
        ("reset", || Does::Resets),
        ("hangs", || Does::Hangs),
    ];
    std::thread::scope(|scope| {
        for (what, does) in polls {
            scope.spawn(move || {
                let peer = homeserver(move |_, path, n| match (path.starts_with("/sync"), n) {
                    (true, 0) => Some(does()),
                    (true, 1) => says(batch("s1", json!([message("$1", "one")]))),
                    _ => None,
                });
                let running = start(peer);
                running.until(what, |r| r.inlet.texts().len() == 1);
                let syncs = running.calls("/sync");
                assert!(syncs[1].line.contains("since=s0"), "{what}: {}", syncs[1].line);
                let changes = running.inlet.changes.lock().unwrap().clone();
                // A connection that was idle may be reset at any time: the client just tries once more.
                let degraded = changes.iter().any(|c| c.1 == ChannelState::Degraded);
                assert!(degraded || what == "reset", "{what}: {changes:?}");
                assert_eq!(running.matrix.status().state, ChannelState::Connected, "{what}");
            });
        }
    });
}

#[test]
fn a_token_that_is_no_longer_known_is_fetched_anew_once() {
    // Soft logout on the second poll; from then on all is well.
    let peer = homeserver(|_, path, n| match (path.starts_with("/sync"), n) {
        (true, 1) => Some(Does::Says("401 Unauthorized", json!({"errcode": "M_UNKNOWN_TOKEN", "soft_logout": true}))),
        (true, 2) => says(batch("s1", json!([message("$1", "one")]))),
        _ => None,
    });
    let inlet = known();
    let (inlet, clock) = (Arc::new(inlet), Clock::manual(0));
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let matrix = Matrix::open(parts("mx", &inlet, &clock), config(&peer, true), &common(), counters, TEST_PACE);
    let running = Running { matrix, inlet, peer };
    running.until("a poll", |r| !r.calls("/sync").is_empty());
    clock.advance(Duration::from_secs(60)); // the token is an old one by now
    running.until("the message", |r| r.inlet.texts().len() == 1);
    assert_eq!(running.calls("/login").len(), 2);
    assert!(running.inlet.changes.lock().unwrap().iter().all(|c| c.1 != ChannelState::Degraded), "nobody was bothered");
}

#[test]
fn what_a_person_has_to_mend_is_said_so() {
    for (what, password, act) in [
        ("a token refused as soon as given", true, "/sync 401"),
        ("a configured token that is not known", false, "/account/whoami 401"),
        ("a wrong password", true, "/login 403"),
        ("another account's token", false, "/account/whoami other"),
        ("a deactivated account", true, "/account/whoami deactivated"),
        ("a homeserver that moved", false, "/account/whoami moved"),
    ] {
        let (at, how) = act.split_once(' ').unwrap();
        let peer = homeserver(move |_, path, _| {
            if !path.starts_with(at) {
                return None;
            }
            match how {
                "401" => refuses("401 Unauthorized", "M_UNKNOWN_TOKEN"),
                "403" => refuses("403 Forbidden", "M_FORBIDDEN"),
                "deactivated" => refuses("403 Forbidden", "M_USER_DEACTIVATED"),
                "moved" => Some(Does::Raw("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")),
                _ => says(json!({"user_id": "@eve:x"})),
            }
        });
        let running = start_with(peer, MemoryInlet::default(), password, common());
        running.until(what, |r| r.matrix.status().state == ChannelState::Misconfigured);
        let status = running.matrix.status();
        let error = status.last_error.unwrap();
        assert!(!error.contains("secret-word") && !error.contains("fetched"), "{what}: {error}");
        pause(50);
        assert!(running.peer.seen().len() < 12, "{what}: no storm: {:?}", running.lines());
    }
}

#[test]
fn a_stop_ends_a_poll_at_once() {
    let peer = homeserver(|_, path, _| path.starts_with("/sync").then_some(Does::Hangs));
    let running = start(peer);
    running.until("the poll", |r| !r.calls("/sync").is_empty());
    running.matrix.stop();
    let clock = Clock::system();
    running.until("the end", |r| r.matrix.status().state == ChannelState::Stopped);
    assert!(clock.mono() < Duration::from_millis(400), "{:?}", clock.mono());
}

#[test]
fn a_token_of_the_homeservers_that_it_forgot_is_no_dead_end() {
    let peer = homeserver(|_, path, n| match (path.starts_with("/sync"), n) {
        (true, 0) => refuses("400 Bad Request", "M_INVALID_PARAM"),
        (true, 1) => says(batch("t1", json!([message("$old", "history")]))),
        (true, 2) => says(json!({"next_batch": "t2"})),
        (true, 3) => says(batch("t3", json!([message("$1", "one")]))),
        _ => None,
    });
    let running = start(peer);
    running.until("the message", |r| r.inlet.texts().len() == 1);
    assert_eq!((running.inlet.texts(), running.cursor().as_deref()), (vec!["one".to_string()], Some("t3")));
}
