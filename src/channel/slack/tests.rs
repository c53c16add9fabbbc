//! Slack's frames as values, and the whole adapter against a scripted Slack over real sockets.
#![allow(clippy::disallowed_methods)] // the peer has its own threads and pauses

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, accept};

use super::frame::{Due, Frame, Me, QUIET, Watch, read};
use super::open;
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::channel::counters::Counters;
use crate::channel::memory;
use crate::channel::memory::{MemoryInlet, common, fresh, parts};
use crate::channel::{Channel, ChannelState, NotNow, Place, Progress, Taken};
use crate::config;
use crate::domain::Delivery;
use crate::net::scripted::{Scripted, answer, reset};

const APP: &str = "xapp-canary-0123456789";
const BOT: &str = "xoxb-canary-0123456789";

fn me() -> Me {
    Me { user: "U0BOT".into() }
}

fn event(event: Value) -> String {
    json!({"type": "events_api", "envelope_id": "e1", "accepts_response_payload": false, "retry_attempt": 0,
        "payload": {"type": "event_callback", "event_id": "Ev1", "team_id": "T1", "event": event}})
    .to_string()
}

fn direct(ts: &str, text: &str) -> Value {
    json!({"type": "message", "channel": "D1", "channel_type": "im", "user": "U1", "text": text, "ts": ts})
}

#[test]
fn what_people_wrote_is_taken_and_nothing_else() {
    let base = direct("1700000000.000100", "hi");
    let with = |change: Value| {
        let mut all = base.clone();
        change.as_object().unwrap().iter().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    let in_channel = |mentioned| Place::Group { id: "C1".into(), mentioned };
    for (what, expected) in [
        (base.clone(), Some(("hi", Place::Direct, "D1"))),
        (with(json!({"thread_ts": "1.2"})), Some(("hi", Place::Direct, "D1/1.2"))),
        (with(json!({"channel": "C1", "channel_type": "channel"})), Some(("hi", in_channel(false), "C1"))),
        (with(json!({"channel": "C1", "channel_type": "group", "text": "<@U0BOT> hi"})), Some(("hi", in_channel(true), "C1"))),
        (
            with(json!({"type": "app_mention", "channel": "C1", "channel_type": null, "text": "<@U0BOT> hi"})),
            Some(("hi", in_channel(true), "C1")),
        ),
        (
            with(json!({"subtype": "file_share", "text": "", "files": [{"name": "a.png", "mimetype": "image/png", "size": 7}]})),
            Some(("[file: a.png, image/png, 7 bytes]", Place::Direct, "D1")),
        ),
        (with(json!({"subtype": "message_changed"})), None),
        (with(json!({"subtype": "message_deleted"})), None),
        (with(json!({"subtype": "channel_join"})), None),
        (with(json!({"subtype": "bot_message", "bot_id": "B9"})), None),
        (with(json!({"bot_id": "B9"})), None),
        (with(json!({"user": "U0BOT"})), None),
        (with(json!({"user": null})), None),
        (with(json!({"text": ""})), None),
        (with(json!({"type": "reaction_added"})), None),
        (json!("poison"), None),
        (json!({"type": "message", "channel": ["?"], "user": 7, "ts": {}}), None),
    ] {
        let Frame::Envelope { id, incoming } = read(&event(what.clone()), &me()) else { panic!("no envelope: {what}") };
        assert_eq!(id, "e1", "what is ignored is acknowledged, too");
        let got = incoming.as_ref().map(|i| (i.text.as_str(), i.place.clone(), i.conversation.as_deref().unwrap()));
        assert_eq!(got, expected, "{what}");
        if let Some(incoming) = incoming {
            assert_eq!((incoming.written_ms, incoming.sender.as_str()), (1_700_000_000_000, "U1"));
            assert!(incoming.external_id.ends_with("/1700000000.000100"), "the same for a mention and its message");
        }
    }
}

#[test]
fn other_frames() {
    for (text, expected) in [
        (r#"{"type":"hello","num_connections":1}"#, "Hello"),
        (r#"{"type":"disconnect","reason":"warning","debug_info":{}}"#, "Refresh"),
        (r#"{"type":"disconnect","reason":"refresh_requested"}"#, "Refresh"),
        (r#"{"type":"disconnect","reason":"link_disabled"}"#, "Disabled"),
        (
            r#"{"type":"slash_commands","envelope_id":"e","payload":{"command":"/x","user_id":"U1"}}"#,
            "Envelope { id: \"e\", incoming: None }",
        ),
        (r#"{"type":"interactive","envelope_id":"e","payload":{}}"#, "Envelope { id: \"e\", incoming: None }"),
        ("[]", "Other"),
        ("not JSON", "Other"),
        ("", "Other"),
    ] {
        assert_eq!(format!("{:?}", read(text, &me())), expected, "{text}");
    }
}

#[test]
fn a_silent_connection_is_pinged_once_and_then_given_up() {
    let s = Duration::from_secs;
    let mut watch = Watch::new(s(100));
    for (at, expected) in [
        (100, Due::Wait(QUIET)),
        (120, Due::Wait(s(10))),
        (130, Due::Ping),
        (130, Due::Wait(s(30))),
        (159, Due::Wait(s(1))),
        (160, Due::Dead),
    ] {
        assert_eq!(watch.due(s(at)), expected, "at {at}");
    }
    watch.heard(s(150));
    assert_eq!(watch.due(s(160)), Due::Wait(s(20)));
}

/// A Slack whose sockets are handled, in turn, by `scripts`.
struct Fake {
    http: Scripted,
    inlet: Arc<MemoryInlet>,
    channel: Arc<dyn Channel>,
}

type Socket = WebSocket<TcpStream>;
type Script = Box<dyn Fn(usize, &mut Socket) + Send + Sync>;

fn fake(inlet: MemoryInlet, post: impl Fn(usize, &Value) -> String + Send + Sync + 'static, script: Script) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ws = format!("ws://{}/link/?ticket=canary-ticket", listener.local_addr().unwrap());
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (script, stream) = (script.clone(), stream.unwrap());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                script(n, &mut accept(stream).unwrap());
            });
        }
    });
    let posts = AtomicUsize::new(0);
    let http = Scripted::new(move |_, asked, stream| {
        let ok = |body: Value| answer("200 OK", "application/json", &body.to_string());
        let bearer = asked.header("authorization").unwrap();
        let text = match asked.line.split(' ').nth(1).unwrap() {
            "/api/auth.test" if bearer == format!("Bearer {BOT}") => {
                ok(json!({"ok": true, "user_id": "U0BOT", "bot_id": "B0BOT"}))
            }
            "/api/apps.connections.open" if bearer == format!("Bearer {APP}") => ok(json!({"ok": true, "url": ws})),
            "/api/conversations.open" => ok(json!({"ok": true, "channel": {"id": "D9"}})),
            "/api/chat.postMessage" => post(posts.fetch_add(1, Ordering::SeqCst), &asked.json()),
            _ => ok(json!({"ok": false, "error": "invalid_auth"})),
        };
        if text == "reset" {
            reset(stream);
            return false;
        }
        stream.write_all(text.as_bytes()).is_ok()
    });
    let inlet = Arc::new(inlet);
    let clock = Clock::system();
    let config = config::Slack { app_token: Secret::new(APP), bot_token: Secret::new(BOT), api_root: http.url("/api") };
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let channel = open(parts("work", &inlet, &clock), config, &common(), counters);
    Fake { http, inlet, channel }
}

fn posted() -> String {
    answer("200 OK", "application/json", r#"{"ok":true,"ts":"1.1"}"#)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

fn say(socket: &mut Socket, frame: Value) {
    socket.send(Message::text(frame.to_string())).unwrap();
}

fn hello(socket: &mut Socket) {
    say(socket, json!({"type": "hello"}));
}

fn envelope(socket: &mut Socket, id: &str, what: Value) {
    let mut frame: Value = serde_json::from_str(&event(what)).unwrap();
    frame["envelope_id"] = id.into();
    say(socket, frame);
}

/// The id of the next envelope that is acknowledged; empty where the connection ends.
fn acked(socket: &mut Socket) -> String {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let ack: Value = serde_json::from_str(&text).unwrap();
                return ack["envelope_id"].as_str().unwrap().to_string();
            }
            Ok(_) => {}
            Err(_) => return String::new(),
        }
    }
}

fn delivery(conversation: Option<&str>, message: &str) -> Delivery {
    Delivery { conversation_id: conversation.map(str::to_string), ..memory::delivery("U1", message) }
}

#[test]
fn an_envelope_is_acknowledged_after_it_was_taken() {
    let refusals = AtomicUsize::new(1);
    let mut inlet = MemoryInlet::default();
    inlet.answer =
        Some(Box::new(move |_| match refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Err(NotNow("the disk is full".into())),
            Err(_) => Ok(Taken::Tell("code 1234".into())),
        }));
    let acks = Arc::new(Mutex::new(Vec::new()));
    let seen = acks.clone();
    let script: Script = Box::new(move |_, socket| {
        hello(socket);
        for (id, what) in [("e1", direct("1.1", "hi")), ("e2", json!({"type": "reaction_added"})), ("e3", json!("poison"))] {
            envelope(socket, id, what);
            seen.lock().unwrap().push(acked(socket));
        }
        acked(socket);
    });
    let fake = fake(inlet, |_, _| posted(), script);
    eventually("all are acknowledged", || acks.lock().unwrap().len() == 3);
    assert_eq!(*acks.lock().unwrap(), ["e1", "e2", "e3"]);
    assert_eq!(fake.inlet.texts(), ["hi", "hi"], "once refused, then taken");
    assert_eq!(fake.channel.status().state, ChannelState::Connected);
    let told: Vec<_> = fake.http.seen().iter().filter(|s| s.line.contains("postMessage")).map(|s| s.json()).collect();
    assert_eq!((told.len(), &told[0]["text"], &told[0]["channel"]), (1, &json!("code 1234"), &json!("D1")));
    fake.channel.stop();
    eventually("it stops", || fake.channel.status().state == ChannelState::Stopped);
}

#[test]
fn a_connection_that_breaks_is_begun_anew_and_repeats_are_the_same_message() {
    let acks = Arc::new(Mutex::new(Vec::new()));
    let seen = acks.clone();
    let script: Script = Box::new(move |n, socket| {
        hello(socket);
        envelope(socket, "e1", direct("1.1", "hi"));
        if n == 0 {
            return reset(socket.get_ref()); // the acknowledgement never came
        }
        seen.lock().unwrap().push(acked(socket));
        acked(socket);
    });
    let fake = fake(MemoryInlet::default(), |_, _| posted(), script);
    eventually("it is acknowledged", || acks.lock().unwrap().len() == 1);
    let ids: Vec<_> = fake.inlet.offered.lock().unwrap().iter().map(|i| i.external_id.clone()).collect();
    assert!(ids.iter().all(|id| id == "D1/1.1"), "{ids:?}");
    assert!(fake.channel.status().reconnects >= 1);
    let changes = fake.inlet.changes.lock().unwrap().clone();
    assert!(changes.iter().any(|(_, state, _)| *state == ChannelState::Degraded), "{changes:?}");
    assert!(!format!("{changes:?}").contains("canary"), "no ticket, no token: {changes:?}");
    fake.channel.stop();
}

#[test]
fn wrong_tokens_are_for_a_person_and_are_not_shown() {
    let http = Scripted::new(|n, _, stream| {
        // One peer repeats what it was sent.
        let body = if n == 0 { format!("no such token: {BOT} {APP}") } else { r#"{"ok":false,"error":"invalid_auth"}"#.into() };
        let status = if n == 0 { "401 Unauthorized" } else { "200 OK" };
        stream.write_all(answer(status, "application/json", &body).as_bytes()).is_ok()
    });
    let inlet = Arc::new(MemoryInlet::default());
    let config = config::Slack { app_token: Secret::new(APP), bot_token: Secret::new(BOT), api_root: http.url("/api") };
    assert!(!format!("{config:?}").contains("canary"));
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let channel = open(parts("work", &inlet, &Clock::system()), config, &common(), counters);
    for asked in [1, 2] {
        eventually("misconfigured", || http.seen().len() == asked && channel.status().state == ChannelState::Misconfigured);
        let status = format!("{:?}", channel.status());
        assert!(!status.contains("canary") && status.contains("Some"), "{status}");
        channel.reconnect(); // does not wait for the long pause
    }
    channel.stop();
}

#[test]
fn sending() {
    let script: Script = Box::new(|_, socket| drop((hello(socket), acked(socket))));
    let limited = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let fake = fake(
        MemoryInlet::default(),
        move |n, body| match (n, body["text"].as_str().unwrap()) {
            (_, "limited") => limited.to_string(),
            (_, "away") => answer("200 OK", "application/json", r#"{"ok":false,"error":"not_in_channel"}"#),
            (_, "ill") => answer("500 Internal Server Error", "text/plain", "x"),
            (_, "reset") => "reset".to_string(),
            _ => posted(),
        },
        script,
    );
    let send = |to: Option<&str>, text: &str| fake.channel.deliver(&delivery(to, text), &fresh()).map_err(|e| e.kind);
    for (text, expected) in [
        ("**hi** <!here>", Ok(())),
        ("limited", Err(ErrorKind::Throttled(Some(Duration::from_secs(7))))),
        ("away", Err(ErrorKind::Permanent)),
        ("ill", Err(ErrorKind::Unclear)),
        ("reset", Err(ErrorKind::Unclear)),
    ] {
        assert_eq!(send(Some("C1/1.2"), text), expected, "{text}");
    }
    assert_eq!((send(None, "first"), send(None, "again")), (Ok(()), Ok(())));
    let asked = fake.http.seen();
    let posts: Vec<Value> = asked.iter().filter(|s| s.line.contains("postMessage")).map(|s| s.json()).collect();
    assert_eq!((&posts[0]["channel"], &posts[0]["thread_ts"]), (&json!("C1"), &json!("1.2")));
    assert_eq!(posts[0]["text"], "*hi* &lt;!here&gt;");
    assert_eq!(asked.iter().filter(|s| s.line.contains("conversations.open")).count(), 1, "remembered");
    assert_eq!(posts.last().unwrap()["channel"], "D9");
    fake.channel.stop();
}

#[test]
fn a_long_text_goes_in_pieces_and_on_after_the_last_confirmed_one() {
    let script: Script = Box::new(|_, socket| drop((hello(socket), acked(socket))));
    let fake = fake(
        MemoryInlet::default(),
        |n, _| if n == 2 { answer("503 Service Unavailable", "text/plain", "x") } else { posted() },
        script,
    );
    let text = format!("```\n{}```", "a line & more\n".repeat(900));
    let recorded = Mutex::new(Vec::new());
    let record = |n| recorded.lock().unwrap().push(n);
    let delivery = delivery(Some("D1"), &text);
    let failed = fake.channel.deliver(&delivery, &Progress { done: 0, record: &record, may_repeat: false }).unwrap_err();
    assert_eq!((failed.kind, recorded.lock().unwrap().clone()), (ErrorKind::Transient, vec![1, 2]));
    fake.channel.deliver(&delivery, &Progress { done: 2, record: &record, may_repeat: false }).unwrap();
    let posts: Vec<Value> = fake.http.seen().iter().filter(|s| s.line.contains("postMessage")).map(|s| s.json()).collect();
    let texts: Vec<&str> = posts.iter().map(|p| p["text"].as_str().unwrap()).collect();
    assert_eq!(texts[2], texts[3], "what failed is sent again, and nothing before it");
    assert!(texts.iter().all(|t| t.encode_utf16().count() <= 4000 && t.matches("```").count() == 2));
    let lines =
        texts.iter().enumerate().filter(|(n, _)| *n != 2).map(|(_, t)| t.matches("a line &amp; more").count()).sum::<usize>();
    assert_eq!(lines, 900);
    fake.channel.stop();
}
