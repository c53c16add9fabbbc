//! A scripted Bot API of Telegram: one bot, its queue of updates, what was sent, and the failures of bad days.
//!
//! `getUpdates` is as the service documents it: an offset confirms what is below it, one far beyond the last update is none, a poll is
//! held until something comes, and a second poll ends the first one with 409. Shown to be faithful by `tests/clients/telegram_bot.py`.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::files::Files;
use super::server::{self, Asked, Served};
use super::{eventually, pause};

/// The bot's token: a canary, to be found nowhere.
pub const TOKEN: &str = "4242:CANARY-telegram-0123456789abcdefgh";
/// The bot's number.
pub const BOT: i64 = 4242;

/// A failure, given once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, description and parameters.
    Refuse(u16, String, Value),
    /// The connection is reset before an answer.
    Reset,
    /// The call takes effect, then the connection is reset.
    ResetAfter,
}

/// One message that the bot sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What the service calls it.
    pub id: i64,
    pub chat: i64,
    pub text: String,
    pub body: Value,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Value>,
    next_update: i64,
    next_message: i64,
    /// Counts polls: one that is not the last ends with 409.
    poll: u64,
    sent: Vec<Sent>,
    /// Methods called, in order.
    called: Vec<String>,
    faults: Vec<(String, Fault)>,
    /// Numbers of updates that were confirmed by an offset, in order.
    confirmed: Vec<i64>,
}

/// The service.
pub struct Telegram {
    served: Served,
    state: Arc<Mutex<State>>,
    /// What `getFile` leads to, by `file_id`.
    pub files: Arc<Files>,
}

impl Telegram {
    /// With an empty queue.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State { next_update: 1000, next_message: 1, ..State::default() }));
        let (own, files) = (state.clone(), Arc::new(Files::default()));
        let given = files.clone();
        let served = server::serve(move |asked, stream| match asked.path.strip_prefix(&format!("/file/bot{TOKEN}/")) {
            Some(_) => given.give(asked, stream),
            None => handle(asked, stream, &own),
        });
        Telegram { served, state, files }
    }

    /// `apiRoot`.
    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.served.port)
    }

    /// A configuration with the channel `tg`, everybody let in; `more` is laid over the channel.
    pub fn config(&self, base: Value, more: Value) -> Value {
        let channel = json!({"type": "telegram", "token": TOKEN, "apiRoot": self.root(), "dmPolicy": "open"});
        super::merged(base, json!({"channels": {"tg": super::merged(channel, more)}}))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an update as it is; gives its number.
    pub fn push(&self, mut update: Value) -> i64 {
        let mut state = self.lock();
        let id = update["update_id"].as_i64().unwrap_or(state.next_update);
        state.next_update = id + 1;
        update["update_id"] = id.into();
        state.queue.push_back(update);
        id
    }

    /// Queues a private message.
    pub fn says(&self, user: i64, text: &str) -> i64 {
        self.push(json!({"message": message(user, user, "private", text)}))
    }

    /// Queues a message in a group.
    pub fn says_in(&self, group: i64, user: i64, text: &str, more: Value) -> i64 {
        self.push(json!({"message": super::merged(message(group, user, "supergroup", text), more)}))
    }

    /// The next update's number.
    pub fn count_from(&self, id: i64) {
        self.lock().next_update = id;
    }

    /// The next call of `method` (or `method:text`, for one that says this) fails so.
    pub fn fail(&self, method: &str, fault: Fault) {
        self.lock().faults.push((method.to_string(), fault));
    }

    /// What was sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// The texts that were sent to a chat.
    pub fn texts(&self, chat: i64) -> Vec<String> {
        self.sent().into_iter().filter(|s| s.chat == chat).map(|s| s.text).collect()
    }

    /// How often `method` was called.
    pub fn calls(&self, method: &str) -> usize {
        self.lock().called.iter().filter(|m| *m == method).count()
    }

    /// Updates that are not confirmed.
    pub fn pending(&self) -> usize {
        self.lock().queue.len()
    }

    /// Waits until `n` messages were sent; gives them.
    #[track_caller]
    pub fn until(&self, n: usize, seconds: u64) -> Vec<Sent> {
        eventually(&format!("{n} messages of the bot"), seconds, || Some(self.sent()).filter(|s| s.len() >= n))
    }
}

/// A message as Telegram describes it.
pub fn message(chat: i64, user: i64, kind: &str, text: &str) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut chat = json!({"id": chat, "type": kind});
    match kind {
        "private" => chat["first_name"] = "Ana".into(),
        _ => chat["title"] = "A group".into(),
    }
    json!({"message_id": 7, "date": now, "text": text, "chat": chat,
        "from": {"id": user, "is_bot": false, "first_name": "Ana", "username": "ana"}})
}

fn refusal(status: u16, description: &str, parameters: &Value) -> Value {
    let mut body = json!({"ok": false, "error_code": status, "description": description});
    if parameters.as_object().is_some_and(|p| !p.is_empty()) {
        body["parameters"] = parameters.clone();
    }
    body
}

fn reply(stream: &mut TcpStream, status: u16, body: &Value) -> io::Result<()> {
    server::answer(stream, status, &[("Content-Type", "application/json")], body.to_string().as_bytes())
}

fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Err(io::Error::other("reset"))
}

/// The arguments of a call: JSON, a form, or the query.
fn arguments(asked: &Asked) -> Value {
    let kind = asked.header("content-type").unwrap_or_default();
    if kind.starts_with("application/json") {
        return serde_json::from_slice(&asked.body).unwrap_or_default();
    }
    let query = asked.path.split_once('?').map_or("", |(_, q)| q).to_string();
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let mut arguments = json!({});
    for pair in query.split('&').chain(body.split('&')).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        let read = serde_json::from_str::<Value>(&value).ok().filter(|_| key != "text");
        arguments[decoded(key)] = read.unwrap_or(Value::String(value));
    }
    arguments
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'+' => b' ',
            b'%' => {
                let pair: Vec<u8> = bytes.by_ref().take(2).collect();
                u8::from_str_radix(&String::from_utf8_lossy(&pair), 16).unwrap_or(b'?')
            }
            b => b,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn handle(asked: &Asked, stream: &mut TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let path = asked.path.split('?').next().unwrap_or_default();
    let Some(method) = path.strip_prefix("/bot").and_then(|p| p.strip_prefix(TOKEN)).and_then(|p| p.strip_prefix('/')) else {
        return reply(stream, 401, &refusal(401, "Unauthorized", &Value::Null));
    };
    let body = arguments(asked);
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.called.push(method.to_string());
        let precise = format!("{method}:{}", body["text"].as_str().unwrap_or_default());
        let at = state.faults.iter().position(|(of, _)| of == method || *of == precise);
        at.map(|at| state.faults.remove(at).1)
    };
    match &fault {
        Some(Fault::Refuse(status, description, parameters)) => {
            return reply(stream, *status, &refusal(*status, description, parameters));
        }
        Some(Fault::Reset) => return reset(stream),
        Some(Fault::ResetAfter) | None => {}
    }
    let outcome = act(method, &body, state);
    if fault.is_some() {
        return reset(stream);
    }
    match outcome {
        Ok(result) => reply(stream, 200, &json!({"ok": true, "result": result})),
        Err((status, description)) => reply(stream, status, &refusal(status, description, &Value::Null)),
    }
}

fn act(method: &str, body: &Value, state: &Mutex<State>) -> Result<Value, (u16, &'static str)> {
    match method {
        "getMe" => Ok(json!({"id": BOT, "is_bot": true, "first_name": "Gate", "username": "GateBot",
            "can_join_groups": true, "can_read_all_group_messages": false, "supports_inline_queries": false})),
        "getUpdates" => updates(body, state),
        "sendMessage" => send(body, state),
        "sendChatAction" | "deleteWebhook" | "logOut" | "close" => Ok(json!(true)),
        "editMessageText" => edit(body, state),
        "deleteMessage" => delete(body, state),
        "getFile" => Ok(
            json!({"file_id": body["file_id"], "file_unique_id": "u", "file_size": 3, "file_path": format!("documents/{}", body["file_id"].as_str().unwrap_or_default())}),
        ),
        _ => Err((404, "Not Found")),
    }
}

fn sent_message(body: &Value, id: i64) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    json!({"message_id": id, "date": now, "text": body["text"], "chat": {"id": body["chat_id"], "type": "private", "first_name": "Ana"},
        "from": {"id": BOT, "is_bot": true, "first_name": "Gate", "username": "GateBot"}})
}

/// What is seen of a text that the service takes.
fn seen(body: &Value) -> Result<String, (u16, &'static str)> {
    let text = body["text"].as_str().unwrap_or_default();
    if text.trim().is_empty() {
        return Err((400, "Bad Request: message text is empty"));
    }
    let is_html = body["parse_mode"] == "HTML";
    let opened = |tag: &str| text.matches(&format!("<{tag}")).count();
    let closed = |tag: &str| text.matches(&format!("</{tag}>")).count();
    if is_html && ["b>", "i>", "s>", "pre>", "code", "a "].iter().any(|t| opened(t) != closed(t.trim_end_matches(['>', ' ']))) {
        return Err((400, "Bad Request: can't parse entities: Can't find end tag"));
    }
    // The limit counts what is seen.
    let seen = if is_html { without_tags(text) } else { text.to_string() };
    if seen.encode_utf16().count() > 4096 {
        return Err((400, "Bad Request: message is too long"));
    }
    Ok(seen)
}

fn send(body: &Value, state: &Mutex<State>) -> Result<Value, (u16, &'static str)> {
    let Some(chat) = body["chat_id"].as_i64() else { return Err((400, "Bad Request: chat not found")) };
    let text = seen(body)?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.next_message += 1;
    let id = state.next_message;
    state.sent.push(Sent { id, chat, text, body: body.clone(), at: Instant::now() });
    Ok(sent_message(body, id))
}

fn edit(body: &Value, state: &Mutex<State>) -> Result<Value, (u16, &'static str)> {
    let (text, id) = (seen(body)?, body["message_id"].as_i64());
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let found = state.sent.iter_mut().find(|s| Some(s.id) == id && Some(s.chat) == body["chat_id"].as_i64());
    let Some(found) = found else { return Err((400, "Bad Request: message to edit not found")) };
    if found.text == text {
        return Err((400, "Bad Request: message is not modified: specified new message content is exactly the same"));
    }
    found.text = text;
    Ok(sent_message(body, found.id))
}

fn delete(body: &Value, state: &Mutex<State>) -> Result<Value, (u16, &'static str)> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let before = state.sent.len();
    state.sent.retain(|s| Some(s.id) != body["message_id"].as_i64());
    if state.sent.len() < before { Ok(json!(true)) } else { Err((400, "Bad Request: message to delete not found")) }
}

fn without_tags(text: &str) -> String {
    let mut pieces = text.split('<');
    let mut out = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        out.push_str(piece.split_once('>').map_or(piece, |(_, rest)| rest));
    }
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")].iter().fold(out, |text, (name, c)| text.replace(name, c))
}

fn updates(body: &Value, state: &Mutex<State>) -> Result<Value, (u16, &'static str)> {
    let wait = Duration::from_secs(body["timeout"].as_u64().unwrap_or(0));
    let limit = body["limit"].as_u64().unwrap_or(100).clamp(1, 100) as usize;
    let (began, lock) = (Instant::now(), || state.lock().unwrap_or_else(PoisonError::into_inner));
    let mine = {
        let mut state = lock();
        state.poll += 1;
        let last = state.queue.back().and_then(|u| u["update_id"].as_i64()).unwrap_or(state.next_update - 1);
        if let Some(offset) = body["offset"].as_i64().filter(|o| *o <= last + 10) {
            let below = |u: &Value| u["update_id"].as_i64().is_some_and(|id| id < offset);
            let gone: Vec<i64> = state.queue.iter().filter(|u| below(u)).filter_map(|u| u["update_id"].as_i64()).collect();
            state.confirmed.extend(gone);
            state.queue.retain(|u| !below(u));
        }
        state.poll
    };
    loop {
        {
            let state = lock();
            if state.poll != mine {
                return Err((
                    409,
                    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
                ));
            }
            if !state.queue.is_empty() || began.elapsed() >= wait {
                return Ok(state.queue.iter().take(limit).cloned().collect());
            }
        }
        pause(10);
    }
}
