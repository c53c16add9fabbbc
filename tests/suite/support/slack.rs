//! A Slack that keeps its documented promises, over real sockets: the Web API's methods that gatelet calls, and Socket Mode with
//! envelopes that come again, on the next connection, until they are acknowledged.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::files::Files;
use super::server::{Asked, Served, answer, serve};
use super::upgrade::{Came, Peer};

pub const APP_TOKEN: &str = "xapp-1-suite-0123456789";
pub const BOT_TOKEN: &str = "xoxb-suite-0123456789";

#[derive(Default)]
struct World {
    port: AtomicUsize,
    /// Envelopes that are not acknowledged.
    waiting: Mutex<Vec<(String, Value)>>,
    posts: Mutex<Vec<Value>>,
    envelopes: AtomicUsize,
    connections: AtomicUsize,
    /// Sends that are to be refused with 429.
    limited: AtomicUsize,
    files: Files,
    /// What is to be done to the connection that is open.
    order: Mutex<Option<Order>>,
}

enum Order {
    Refresh,
    Reset,
}

/// The server.
pub struct Slack {
    served: Served,
    world: Arc<World>,
}

impl Slack {
    pub fn new() -> Self {
        let world = Arc::new(World::default());
        let own = world.clone();
        let served = serve(move |asked, stream| handle(&own, asked, stream));
        world.port.store(served.port.into(), Ordering::SeqCst);
        Slack { served, world }
    }

    pub fn api_root(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.served.port)
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.world.files
    }

    /// A file of that name, as events tell of it.
    pub fn file(&self, name: &str, kind: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/files-pri/T1-F1/{name}", self.served.port);
        json!({"id": "F1", "name": name, "mimetype": kind, "mode": "hosted", "is_external": false, "url_private": url})
    }

    /// The channel's configuration, everybody let in.
    pub fn config(&self) -> Value {
        json!({"type": "slack", "appToken": APP_TOKEN, "botToken": BOT_TOKEN, "apiRoot": self.api_root(), "dmPolicy": "open",
            "groupPolicy": "open"})
    }

    /// Somebody writes to the bot; the message's time, which is its id.
    pub fn direct(&self, user: &str, text: &str) -> String {
        let ts = self.ts();
        self.event(
            json!({"type": "message", "channel": format!("D{user}"), "channel_type": "im", "user": user, "text": text, "ts": ts}),
        );
        ts
    }

    /// Somebody writes in a channel; where the bot is named, two events tell of it.
    pub fn in_channel(&self, channel: &str, user: &str, text: &str) -> String {
        let ts = self.ts();
        let event =
            json!({"type": "message", "channel": channel, "channel_type": "channel", "user": user, "text": text, "ts": ts});
        self.event(event.clone());
        if text.contains("<@U0BOT") {
            let mut mention = event;
            mention["type"] = "app_mention".into();
            mention["channel_type"] = Value::Null;
            self.event(mention);
        }
        ts
    }

    /// An event of any kind, in an envelope.
    pub fn event(&self, event: Value) {
        let n = self.world.envelopes.load(Ordering::SeqCst);
        let payload =
            json!({"type": "event_callback", "event_id": format!("Ev{n}"), "team_id": "T1", "api_app_id": "A1", "event": event});
        self.envelope("events_api", payload);
    }

    /// An envelope of any kind.
    pub fn envelope(&self, kind: &str, payload: Value) {
        let id = format!("envelope-{}", self.world.envelopes.fetch_add(1, Ordering::SeqCst));
        let frame =
            json!({"type": kind, "envelope_id": id, "accepts_response_payload": false, "retry_attempt": 0, "payload": payload});
        self.world.waiting.lock().unwrap().push((id, frame));
    }

    pub fn posts(&self) -> Vec<Value> {
        self.world.posts.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.posts().iter().map(|p| p["text"].as_str().unwrap_or_default().to_string()).collect()
    }

    pub fn waiting(&self) -> usize {
        self.world.waiting.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.world.connections.load(Ordering::SeqCst)
    }

    pub fn limit_next(&self, sends: usize) {
        self.world.limited.store(sends, Ordering::SeqCst);
    }

    pub fn refresh(&self) {
        *self.world.order.lock().unwrap() = Some(Order::Refresh);
    }

    pub fn reset(&self) {
        *self.world.order.lock().unwrap() = Some(Order::Reset);
    }

    fn ts(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!("{}.{:06}", now.as_secs(), self.world.envelopes.load(Ordering::SeqCst))
    }
}

fn handle(world: &World, asked: &Asked, stream: &mut TcpStream) -> io::Result<()> {
    if asked.header("upgrade").is_some() {
        return converse(world, Peer::accept(asked, stream)?);
    }
    if asked.path.starts_with("/files-pri/") {
        return world.files.give(asked, stream);
    }
    let say = |stream: &mut TcpStream, body: Value| {
        answer(stream, 200, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    };
    let bearer = asked.header("authorization").unwrap_or_default();
    let method = asked.path.rsplit('/').next().unwrap_or_default();
    let token = if method == "apps.connections.open" { APP_TOKEN } else { BOT_TOKEN };
    if bearer != format!("Bearer {token}") {
        return say(stream, json!({"ok": false, "error": "invalid_auth"}));
    }
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    match method {
        "auth.test" => say(
            stream,
            json!({"ok": true, "url": "https://t.slack.com/", "team_id": "T1", "user_id": "U0BOT", "bot_id": "B0BOT"}),
        ),
        "apps.connections.open" => {
            let port = world.port.load(Ordering::SeqCst);
            say(stream, json!({"ok": true, "url": format!("ws://127.0.0.1:{port}/link/?ticket=t-1&app_id=A1")}))
        }
        "conversations.open" => {
            let user = body["users"].as_str().unwrap_or_default();
            say(stream, json!({"ok": true, "channel": {"id": format!("D{user}")}}))
        }
        "chat.postMessage" => {
            if world.limited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                return answer(stream, 429, &[("Retry-After", "1")], b"");
            }
            let n = {
                let mut posts = world.posts.lock().unwrap();
                posts.push(body.clone());
                posts.len()
            };
            let ts = format!("1700000000.{n:06}");
            say(
                stream,
                json!({"ok": true, "channel": body["channel"], "ts": ts, "message": {"text": body["text"], "ts": ts, "bot_id": "B0BOT"}}),
            )
        }
        _ => say(stream, json!({"ok": false, "error": "unknown_method"})),
    }
}

fn converse(world: &World, mut peer: Peer) -> io::Result<()> {
    world.connections.fetch_add(1, Ordering::SeqCst);
    peer.say(&json!({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"},
        "debug_info": {"host": "applink-1", "approximate_connection_time": 18060}}))?;
    let mut told: Vec<String> = Vec::new();
    let mut is_leaving = false;
    loop {
        match world.order.lock().unwrap().take() {
            Some(Order::Refresh) => {
                peer.say(&json!({"type": "disconnect", "reason": "refresh_requested", "debug_info": {"host": "applink-1"}}))?;
                is_leaving = true;
            }
            Some(Order::Reset) => {
                peer.reset();
                return Ok(());
            }
            None => {}
        }
        let due: Vec<_> =
            world.waiting.lock().unwrap().iter().filter(|(id, _)| !is_leaving && !told.contains(id)).cloned().collect();
        for (id, frame) in due {
            peer.say(&frame)?;
            told.push(id);
        }
        match peer.hear() {
            Came::Json(ack) => {
                let id = ack["envelope_id"].as_str().unwrap_or_default().to_string();
                world.waiting.lock().unwrap().retain(|(waiting, _)| *waiting != id);
            }
            Came::Nothing => {}
            Came::Gone => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
