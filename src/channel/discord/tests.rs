//! Discord's messages as values, and the whole adapter against a scripted Discord over real sockets.
#![allow(clippy::disallowed_methods)] // the peer has its own threads and pauses

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket, accept};

use super::cursor::Cursor;
use super::gateway::Session;
use super::message::read;
use super::open;
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::channel::counters::Counters;
use crate::channel::memory;
use crate::channel::memory::{MemoryInlet, common, fresh, parts};
use crate::channel::{Channel, ChannelState, Place};
use crate::config;
use crate::domain::Delivery;
use crate::net::scripted::{Scripted, answer, reset};

const TOKEN: &str = "canary.token.0123456789";

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn hello() -> Value {
    json!({"op": 10, "d": {"heartbeat_interval": 40_000}})
}

fn said(id: u64, text: &str) -> Value {
    json!({"id": id.to_string(), "channel_id": "900", "type": 0, "content": text, "attachments": [], "mentions": [],
        "author": {"id": "11", "username": "ana", "global_name": "Ana"}})
}

#[test]
fn what_people_wrote_is_taken_and_nothing_else() {
    let base = said(175_928_847_299_117_063, "hi");
    let with = |change: Value| {
        let mut all = base.clone();
        change.as_object().unwrap().iter().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    let group = |mentioned| Place::Group { id: "900".into(), mentioned };
    let us = json!({"id": "42", "username": "gate"});
    for (what, expected) in [
        (base.clone(), Some(("hi", Place::Direct))),
        (with(json!({"guild_id": "1"})), Some(("hi", group(false)))),
        (with(json!({"guild_id": "1", "mentions": [us], "content": "<@42> hi <@42>"})), Some(("hi @gate", group(true)))),
        (with(json!({"guild_id": "1", "mentions": [us], "content": "<@!42>"})), Some(("@gate", group(true)))),
        (with(json!({"guild_id": "1", "type": 19, "referenced_message": {"author": us}})), Some(("hi", group(true)))),
        (
            with(
                json!({"content": "", "attachments": [{"filename": "a.png", "content_type": "image/png", "size": 9, "width": 3, "height": 4}]}),
            ),
            Some(("[file: a.png, image/png, 9 bytes, 3×4]", Place::Direct)),
        ),
        (with(json!({"content": ""})), None),
        (with(json!({"type": 7})), None),
        (with(json!({"webhook_id": "5"})), None),
        (with(json!({"author": {"id": "12", "bot": true}})), None),
        (with(json!({"author": {"id": "42"}})), None),
        (with(json!({"author": null})), None),
    ] {
        let read = read(&what, "42", None).unwrap();
        let got = read.incoming.as_ref().map(|i| (i.text.as_str(), i.place.clone()));
        assert_eq!(got, expected, "{what}");
        if let Some(incoming) = read.incoming {
            assert_eq!((incoming.written_ms, incoming.external_id.as_str()), (1_462_015_105_796, "175928847299117063"));
            assert_eq!((incoming.sender.as_str(), incoming.sender_name.as_str()), ("11", "Ana"));
        }
    }
    for poison in [json!(null), json!([]), json!({"id": 7}), json!({"id": "x", "channel_id": "1"})] {
        assert!(read(&poison, "42", None).is_none(), "{poison}");
    }
}

type Socket = WebSocket<TcpStream>;
type Post = dyn Fn(&str, &Value) -> String + Send + Sync;

struct Fake {
    http: Scripted,
    inlet: Arc<MemoryInlet>,
    channel: Arc<dyn Channel>,
    /// First frames of the connections.
    openings: Arc<Mutex<Vec<Value>>>,
}

/// A Discord; `script` handles each connection after its first frame, which it is given.
fn fake(inlet: MemoryInlet, post: Box<Post>, script: impl Fn(usize, &mut Socket, &Value) + Send + Sync + 'static) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ws = format!("ws://{}", listener.local_addr().unwrap());
    let (script, openings) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
    let seen = openings.clone();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (script, seen, stream) = (script.clone(), seen.clone(), stream.unwrap());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(s(5))).unwrap();
                let mut socket = accept(stream).unwrap();
                say(&mut socket, hello());
                if let Some(opening) = heard(&mut socket) {
                    seen.lock().unwrap().push(opening.clone());
                    script(n, &mut socket, &opening);
                }
            });
        }
    });
    let http = Scripted::new(move |_, asked, stream| {
        let path = asked.line.split(' ').nth(1).unwrap();
        assert_eq!(asked.header("authorization"), Some(format!("Bot {TOKEN}").as_str()));
        let text = match path {
            "/api/gateway/bot" => {
                let body =
                    json!({"url": ws, "shards": 1, "session_start_limit": {"total": 1000, "remaining": 999, "reset_after": 1}});
                answer("200 OK", "application/json", &body.to_string())
            }
            _ => post(path, &serde_json::from_str(&asked.body).unwrap_or_default()),
        };
        if text == "reset" {
            reset(stream);
            return false;
        }
        stream.write_all(text.as_bytes()).is_ok()
    });
    let inlet = Arc::new(inlet);
    let config = config::Discord { token: Secret::new(TOKEN), api_root: http.url("/api") };
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let channel = open(parts("home", &inlet, &Clock::system()), config, &common(), counters);
    Fake { http, inlet, channel, openings }
}

fn posted() -> String {
    answer("200 OK", "application/json", r#"{"id":"1"}"#)
}

fn say(socket: &mut Socket, frame: Value) {
    let _ = socket.send(Message::text(frame.to_string())); // the peer may be gone
}

fn heard(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.read().ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

fn ready(socket: &mut Socket, url: &str) {
    let data = json!({"session_id": "s1", "resume_gateway_url": url, "user": {"id": "42"}});
    say(socket, json!({"op": 0, "t": "READY", "s": 1, "d": data}));
}

fn created(socket: &mut Socket, seq: u64, message: Value) {
    say(socket, json!({"op": 0, "t": "MESSAGE_CREATE", "s": seq, "d": message}));
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

fn url_of(socket: &Socket) -> String {
    format!("ws://{}", socket.get_ref().local_addr().unwrap())
}

#[test]
fn a_connection_that_breaks_is_resumed_behind_what_was_taken() {
    let fake = fake(MemoryInlet::default(), Box::new(|_, _| posted()), |n, socket, _| {
        if n == 0 {
            let url = url_of(socket);
            ready(socket, &url);
            created(socket, 2, said(100, "one"));
            created(socket, 3, json!("poison"));
            created(socket, 4, said(101, "two"));
            std::thread::sleep(Duration::from_millis(300));
            return reset(socket.get_ref());
        }
        created(socket, 4, said(101, "two")); // a repeat
        created(socket, 5, said(102, "three"));
        say(socket, json!({"op": 0, "t": "RESUMED", "s": 6, "d": {}}));
        heard(socket);
    });
    eventually("three is taken", || fake.inlet.texts().contains(&"three".to_string()));
    assert_eq!(fake.inlet.texts(), ["one", "two", "two", "three"], "the repeat has the same id");
    let openings = fake.openings.lock().unwrap().clone();
    assert_eq!((&openings[0]["op"], &openings[1]["op"], &openings[1]["d"]["seq"]), (&json!(2), &json!(6), &json!(4)));
    eventually("the cursor is committed", || {
        let cursor = Cursor::parse(&fake.inlet.cursors.lock().unwrap()["home"]);
        cursor.session.is_some_and(|s| s.seq == 6) && cursor.places["900"] == (102, true)
    });
    fake.channel.stop();
    eventually("it stops", || fake.channel.status().state == ChannelState::Stopped);
}

#[test]
fn a_restart_resumes_and_a_session_that_is_over_is_caught_up() {
    // An address of no use: the common one is asked for.
    let session = Session { id: "s1".into(), url: String::new(), seq: 5 };
    let mut cursor = Cursor { session: Some(session), ..Cursor::default() };
    cursor.saw("900", 100, true);
    cursor.saw("901", 50, false);
    let inlet = MemoryInlet::default();
    inlet.cursors.lock().unwrap().insert("home".into(), cursor.text());
    let missed = |path: &str, _: &Value| {
        if path.starts_with("/api/channels/900/messages?") && path.contains("after=100") {
            let mut ours = said(102, "ours");
            ours["author"]["id"] = "42".into();
            // Discord gives the newest first.
            return answer("200 OK", "application/json", &json!([ours, said(101, "missed")]).to_string());
        }
        answer("403 Forbidden", "application/json", r#"{"message":"Missing Access","code":50001}"#)
    };
    let fake = fake(inlet, Box::new(missed), |n, socket, opening| {
        if n == 0 {
            assert_eq!((&opening["op"], &opening["d"]["seq"]), (&json!(6), &json!(5)));
            say(socket, json!({"op": 9, "d": false}));
        } else {
            assert_eq!(opening["op"], 2);
            ready(socket, "wss://r");
            created(socket, 2, said(103, "new"));
        }
        heard(socket);
    });
    eventually("new is taken", || fake.inlet.texts().contains(&"new".to_string()));
    assert_eq!(fake.inlet.texts(), ["missed", "new"]);
    eventually("the cursor is committed", || {
        let cursor = Cursor::parse(&fake.inlet.cursors.lock().unwrap()["home"]);
        cursor.session.is_some_and(|s| s.id == "s1") && !cursor.places.contains_key("901") && cursor.places["900"].0 == 103
    });
    assert_eq!(fake.channel.status().state, ChannelState::Connected);
    fake.channel.stop();
}

#[test]
fn a_refused_token_is_for_a_person_and_is_not_shown() {
    let fake = fake(MemoryInlet::default(), Box::new(|_, _| posted()), |_, socket, _| {
        let _ = socket.close(Some(CloseFrame { code: 4004.into(), reason: "Authentication failed.".into() }));
        heard(socket);
    });
    eventually("misconfigured", || fake.channel.status().state == ChannelState::Misconfigured);
    let shown = format!("{:?} {:?}", fake.channel.status(), fake.inlet.changes.lock().unwrap());
    assert!(shown.contains("token") && !shown.contains("canary"), "{shown}");
    fake.channel.stop();
    let http = Scripted::says(answer("401 Unauthorized", "text/plain", &format!("401: no such token {TOKEN}")));
    let inlet = Arc::new(MemoryInlet::default());
    let config = config::Discord { token: Secret::new(TOKEN), api_root: http.url("/api") };
    assert!(!format!("{config:?}").contains("canary"));
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let channel = open(parts("home", &inlet, &Clock::system()), config, &common(), counters);
    eventually("misconfigured", || channel.status().state == ChannelState::Misconfigured);
    assert!(!format!("{:?}", channel.status()).contains("canary"), "{:?}", channel.status());
    channel.stop();
}

fn delivery(conversation: Option<&str>, message: &str) -> Delivery {
    let metadata = Some(json!({"replyTo": "77"}));
    Delivery { conversation_id: conversation.map(str::to_string), metadata, ..memory::delivery("11", message) }
}

#[test]
fn sending() {
    let post = |path: &str, body: &Value| match (path, body["content"].as_str().unwrap_or_default()) {
        ("/api/users/@me/channels", _) => answer("200 OK", "application/json", r#"{"id":"950"}"#),
        (_, "limited") => {
            let body = r#"{"message":"You are being rate limited.","retry_after":1.5,"global":false}"#;
            format!(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nX-RateLimit-Scope: user\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        (_, "last") => {
            let head = "HTTP/1.1 200 OK\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 30\r\nContent-Type: application/json\r\n";
            format!("{head}Content-Length: 2\r\n\r\n{{}}")
        }
        (_, "away") => answer("404 Not Found", "application/json", r#"{"message":"Unknown Channel","code":10003}"#),
        (_, "shut") => {
            answer("403 Forbidden", "application/json", r#"{"message":"Cannot send messages to this user","code":50007}"#)
        }
        (_, "reset") => "reset".to_string(),
        _ => posted(),
    };
    let fake = fake(MemoryInlet::default(), Box::new(post), |_, socket, _| {
        ready(socket, "wss://r");
        heard(socket);
    });
    let send = |to: Option<&str>, text: &str| fake.channel.deliver(&delivery(to, text), &fresh()).map_err(|e| e.kind);
    for (to, text, expected) in [
        ("1", "hi @everyone", Ok(())),
        ("2", "limited", Err(ErrorKind::Throttled(Some(Duration::from_millis(1500))))),
        ("3", "away", Err(ErrorKind::Permanent)),
        ("3", "shut", Err(ErrorKind::Denied)),
        ("3", "reset", Err(ErrorKind::Unclear)),
        ("4", "last", Ok(())),
    ] {
        assert_eq!(send(Some(to), text), expected, "{text}");
    }
    assert_eq!(send(None, "first"), Ok(()));
    let asked = fake.http.seen().len();
    for to in ["2", "4"] {
        assert!(matches!(send(Some(to), "x"), Err(ErrorKind::Throttled(Some(_)))), "the budget of {to} is empty");
    }
    assert_eq!(fake.http.seen().len(), asked, "nothing was sent to be refused");
    let seen = fake.http.seen();
    let posts: Vec<_> = seen.iter().filter(|s| s.line.contains("/messages ")).collect();
    let first = posts[0].json();
    assert_eq!(
        (&first["content"], &first["allowed_mentions"], &first["enforce_nonce"]),
        (&json!("hi @everyone"), &json!({"parse": []}), &json!(true))
    );
    assert_eq!(first["message_reference"]["message_id"], "77");
    assert!(first["nonce"].as_str().is_some_and(|n| n.len() == 24), "{first}");
    assert!(posts.iter().all(|p| p.json()["nonce"] == first["nonce"]), "the delivery's, at every try");
    assert!(posts.last().unwrap().line.contains("/channels/950/"));
    fake.channel.stop();
}
