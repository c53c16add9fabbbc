//! A Discord that keeps its documented promises, over real sockets: the gateway with heartbeats, sessions that are resumed behind an
//! event's number, close codes; REST with nonces that make a repeat one message, and rate limits.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::files::Files;
use super::server::{Asked, Served, answer, serve};
use super::upgrade::{Came, Peer};

pub const TOKEN: &str = "suite.discord.token-0123456789";
/// The bot's own id.
pub const BOT: &str = "4200";

#[derive(Default)]
struct World {
    port: AtomicUsize,
    sessions: AtomicUsize,
    identified: AtomicUsize,
    resumed: AtomicUsize,
    /// Events of the session that stands, from number 2 on.
    events: Mutex<Vec<Value>>,
    /// All messages of all channels, newest last.
    history: Mutex<Vec<Value>>,
    /// Messages that the bot sent, by nonce once.
    posts: Mutex<Vec<(String, Value)>>,
    limited: AtomicUsize,
    order: Mutex<Option<Order>>,
    files: Files,
    /// The session is forgotten.
    is_lost: AtomicUsize,
}

enum Order {
    Reconnect,
    Reset,
    Close(u16),
}

/// The server.
pub struct Discord {
    served: Served,
    world: Arc<World>,
}

impl Discord {
    pub fn new() -> Self {
        let world = Arc::new(World::default());
        let own = world.clone();
        let served = serve(move |asked, stream| handle(&own, asked, stream));
        world.port.store(served.port.into(), Ordering::SeqCst);
        Discord { served, world }
    }

    pub fn api_root(&self) -> String {
        format!("http://127.0.0.1:{}/api/v10", self.served.port)
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.world.files
    }

    /// Somebody sends the bot a file of that name.
    pub fn sends_file(&self, channel: u64, user: u64, text: &str, name: &str, bytes: u64) {
        let mut message = message(self.next_id(), &channel.to_string(), user, text, json!([]));
        let url = format!("http://127.0.0.1:{}/attachments/1/2/{name}?ex=1&hm=2", self.served.port);
        message["attachments"] = json!([{"id": "1", "filename": name, "size": bytes, "url": url, "content_type": "image/png"}]);
        self.write(message);
    }

    /// The channel's configuration, everybody let in.
    pub fn config(&self) -> Value {
        json!({"type": "discord", "token": TOKEN, "apiRoot": self.api_root(), "dmPolicy": "open", "groupPolicy": "open"})
    }

    /// Somebody writes to the bot.
    pub fn direct(&self, channel: u64, user: u64, text: &str) {
        self.write(message(self.next_id(), &channel.to_string(), user, text, json!([])));
    }

    /// Somebody writes in a guild's channel.
    pub fn in_guild(&self, channel: u64, user: u64, text: &str) {
        let mentions = if text.contains(&format!("<@{BOT}>")) { json!([bot()]) } else { json!([]) };
        let mut message = message(self.next_id(), &channel.to_string(), user, text, mentions);
        message["guild_id"] = "77".into();
        message["member"] =
            json!({"roles": [], "joined_at": "2026-01-01T00:00:00.000000+00:00", "deaf": false, "mute": false, "flags": 0});
        self.write(message);
    }

    fn write(&self, message: Value) {
        self.world.history.lock().unwrap().push(message.clone());
        self.event("MESSAGE_CREATE", message);
    }

    /// An event of any kind.
    pub fn event(&self, kind: &str, data: Value) {
        self.world.events.lock().unwrap().push(json!({"t": kind, "d": data}));
    }

    /// The same event once more, as after a resumption.
    pub fn repeat_last(&self) {
        let mut events = self.world.events.lock().unwrap();
        let last = events.last().cloned();
        events.extend(last);
    }

    pub fn posts(&self) -> Vec<Value> {
        self.world.posts.lock().unwrap().iter().map(|(_, post)| post.clone()).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.posts().iter().map(|p| p["content"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// Sessions begun, and resumed.
    pub fn sessions(&self) -> (usize, usize) {
        (self.world.identified.load(Ordering::SeqCst), self.world.resumed.load(Ordering::SeqCst))
    }

    pub fn limit_next(&self, sends: usize) {
        self.world.limited.store(sends, Ordering::SeqCst);
    }

    pub fn ask_to_reconnect(&self) {
        self.order(Order::Reconnect);
    }

    pub fn reset(&self) {
        self.order(Order::Reset);
    }

    pub fn close(&self, code: u16) {
        self.order(Order::Close(code));
    }

    /// Forgets the session: a resumption is refused, and what was written meanwhile is in the channels' history alone.
    pub fn forget_session(&self) {
        self.world.is_lost.store(1, Ordering::SeqCst);
    }

    fn order(&self, order: Order) {
        *self.world.order.lock().unwrap() = Some(order);
    }

    fn next_id(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let n = self.world.history.lock().unwrap().len() as u64;
        ((now.as_millis() as u64 - 1_420_070_400_000) << 22) + n
    }
}

fn bot() -> Value {
    json!({"id": BOT, "username": "gate", "discriminator": "0", "global_name": null, "avatar": null, "bot": true})
}

fn message(id: u64, channel: &str, user: u64, text: &str, mentions: Value) -> Value {
    json!({"id": id.to_string(), "channel_id": channel, "type": 0, "content": text, "mentions": mentions, "mention_roles": [],
        "attachments": [], "embeds": [], "pinned": false, "tts": false, "mention_everyone": false, "flags": 0, "components": [],
        "timestamp": "2026-01-01T00:00:00.000000+00:00", "edited_timestamp": null,
        "author": {"id": user.to_string(), "username": format!("user{user}"), "discriminator": "0", "global_name": null, "avatar": null}})
}

fn handle(world: &World, asked: &Asked, stream: &mut TcpStream) -> io::Result<()> {
    if asked.header("upgrade").is_some() {
        return converse(world, Peer::accept(asked, stream)?);
    }
    if asked.path.starts_with("/attachments/") {
        return world.files.give(asked, stream);
    }
    let json_type = ("Content-Type", "application/json");
    let say = |stream: &mut TcpStream, body: Value| answer(stream, 200, &[json_type], body.to_string().as_bytes());
    if asked.header("authorization") != Some(&format!("Bot {TOKEN}")) {
        return answer(stream, 401, &[json_type], br#"{"message":"401: Unauthorized","code":0}"#);
    }
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let path = asked.path.strip_prefix("/api/v10").unwrap_or(&asked.path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (asked.method.as_str(), words.as_slice()) {
        ("GET", ["gateway", "bot"] | ["gateway"]) => {
            let url = format!("ws://127.0.0.1:{}", world.port.load(Ordering::SeqCst));
            let limit = json!({"total": 1000, "remaining": 990, "reset_after": 14_400_000, "max_concurrency": 1});
            say(stream, json!({"url": url, "shards": 1, "session_start_limit": limit}))
        }
        ("GET", ["users", "@me"]) => say(stream, bot()),
        ("GET", ["oauth2", "applications", "@me"] | ["applications", "@me"]) => {
            let owner = json!({"id": "1", "username": "owner", "discriminator": "0", "avatar": null});
            say(
                stream,
                json!({"id": BOT, "name": "gate", "icon": null, "description": "", "bot_public": true, "bot_require_code_grant": false,
                "verify_key": "", "team": null, "summary": "", "owner": owner, "flags": 0}),
            )
        }
        ("POST", ["users", "@me", "channels"]) => {
            let user = body["recipient_id"].as_str().unwrap_or_default();
            say(
                stream,
                json!({"id": format!("9{user}"), "type": 1, "recipients": [{"id": user, "username": "u", "discriminator": "0", "avatar": null}]}),
            )
        }
        ("POST", ["channels", _, "typing"]) => answer(stream, 204, &[], b""),
        ("GET", ["channels", channel, "messages"]) => {
            let after = query.split('&').find_map(|p| p.strip_prefix("after=")?.parse::<u64>().ok()).unwrap_or(0);
            let id = |m: &Value| m["id"].as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
            let history = world.history.lock().unwrap();
            let mut found: Vec<Value> =
                history.iter().filter(|m| m["channel_id"] == *channel && id(m) > after).take(100).cloned().collect();
            found.iter_mut().for_each(|m| drop(m.as_object_mut().and_then(|m| m.remove("guild_id"))));
            found.reverse(); // newest first
            say(stream, json!(found))
        }
        ("POST", ["channels", channel, "messages"]) => {
            if world.limited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                let body = br#"{"message":"You are being rate limited.","retry_after":0.4,"global":false}"#;
                return answer(stream, 429, &[json_type, ("Retry-After", "1"), ("X-RateLimit-Scope", "user")], body);
            }
            let nonce = body["nonce"].to_string();
            let mut posts = world.posts.lock().unwrap();
            let is_repeat = body["enforce_nonce"] == true && posts.iter().any(|(n, _)| *n == nonce);
            if !is_repeat {
                let mut post = body.clone();
                post["channel_id"] = (*channel).into();
                posts.push((nonce, post));
            }
            let mut sent =
                message(5_000_000 + posts.len() as u64, channel, 0, body["content"].as_str().unwrap_or_default(), json!([]));
            drop(posts);
            sent["author"] = bot();
            sent["nonce"] = body["nonce"].clone();
            let limits = [
                json_type,
                ("X-RateLimit-Limit", "5"),
                ("X-RateLimit-Remaining", "4"),
                ("X-RateLimit-Reset-After", "1.0"),
                ("X-RateLimit-Bucket", "b"),
            ];
            answer(stream, 200, &limits, sent.to_string().as_bytes())
        }
        _ => answer(stream, 404, &[json_type], br#"{"message":"404: Not Found","code":0}"#),
    }
}

fn converse(world: &World, mut peer: Peer) -> io::Result<()> {
    peer.say(&json!({"op": 10, "t": null, "s": null, "d": {"heartbeat_interval": 2000, "_trace": []}}))?;
    // Where the events of this connection stand; `None` until a session does.
    let mut next: Option<usize> = None;
    loop {
        match world.order.lock().unwrap().take() {
            Some(Order::Reconnect) => peer.say(&json!({"op": 7, "d": null}))?,
            Some(Order::Reset) => {
                peer.reset();
                return Ok(());
            }
            Some(Order::Close(code)) => {
                peer.close(code);
                return Ok(());
            }
            None => {}
        }
        if let Some(at) = &mut next {
            let due: Vec<Value> = world.events.lock().unwrap().iter().skip(*at).cloned().collect();
            for event in due {
                *at += 1;
                peer.say(&json!({"op": 0, "s": *at + 1, "t": event["t"], "d": event["d"]}))?;
            }
        }
        let frame = match peer.hear() {
            Came::Json(frame) => frame,
            Came::Nothing => continue,
            Came::Gone => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match frame["op"].as_u64() {
            Some(1) => peer.say(&json!({"op": 11}))?,
            Some(2 | 6) if frame["d"]["token"] != TOKEN => {
                peer.close(4004);
                return Ok(());
            }
            Some(2) => next = Some(identify(world, &mut peer)?),
            Some(6) => {
                let session = format!("session-{}", world.sessions.load(Ordering::SeqCst));
                let is_lost = world.is_lost.swap(0, Ordering::SeqCst) == 1;
                if is_lost || frame["d"]["session_id"] != session {
                    peer.say(&json!({"op": 9, "d": false}))?;
                    continue;
                }
                world.resumed.fetch_add(1, Ordering::SeqCst);
                let from = frame["d"]["seq"].as_u64().unwrap_or(1).saturating_sub(1) as usize;
                let missed: Vec<Value> = world.events.lock().unwrap().iter().skip(from).cloned().collect();
                let mut at = from;
                for event in missed {
                    at += 1;
                    peer.say(&json!({"op": 0, "s": at + 1, "t": event["t"], "d": event["d"]}))?;
                }
                world.events.lock().unwrap().insert(at, json!({"t": "RESUMED", "d": {"_trace": []}}));
                next = Some(at);
            }
            _ => {}
        }
    }
}

fn identify(world: &World, peer: &mut Peer) -> io::Result<usize> {
    world.identified.fetch_add(1, Ordering::SeqCst);
    let n = world.sessions.fetch_add(1, Ordering::SeqCst) + 1;
    // A new session tells of what comes from now on; what came before the very first one was for nobody.
    let mut events = world.events.lock().unwrap();
    if n > 1 {
        events.clear();
    }
    drop(events);
    let url = format!("ws://127.0.0.1:{}", world.port.load(Ordering::SeqCst));
    let data = json!({"v": 10, "user": bot(), "guilds": [], "private_channels": [], "session_id": format!("session-{n}"), "session_type": "normal",
        "resume_gateway_url": url, "application": {"id": BOT, "flags": 0}, "_trace": []});
    peer.say(&json!({"op": 0, "t": "READY", "s": 1, "d": data}))?;
    Ok(0)
}
