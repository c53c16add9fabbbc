//! The day: everything that gatelet can do, with everything that can fail around it; services that quote what they were given.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    ANTHROPIC, BEARER, DOOR, GUESS, OPENAI, Outputs, SAID, SIGNING, STANDARD, canaries, config, mistakes,
    secrets_of_the_environment,
};
use crate::support::discord::Discord;
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::http::Connection;
use crate::support::model::{Act, Model, call};
use crate::support::server::{Served, answer, serve};
use crate::support::sink::{hub_signature, sign};
use crate::support::slack::Slack;
use crate::support::telegram::{Fault, Telegram};
use crate::support::ws::Ws;
use crate::support::{eventually, figure, pause};

/// Who is around. `peer` is the address of a service that refuses everything and quotes the whole request as its reason.
pub struct World {
    pub model: Model,
    pub telegram: Telegram,
    pub discord: Discord,
    pub slack: Slack,
    pub peer: String,
    _served: Served,
}

impl World {
    fn new() -> Self {
        let model = Model::scripted(|q| match q.text.as_str() {
            // As real servers do it with a key that they don't know.
            "fail" => Act::Status(
                401,
                Vec::new(),
                json!({"error": {"message": format!("Incorrect API key provided: {OPENAI}")}}).to_string(),
            ),
            "garbage" => Act::GarbageEvents,
            "reset" => Act::ResetMidStream,
            "clock" if q.rounds == 0 => Act::Call(vec![call("time_now", json!({}))]), // the gateway panics over that
            _ => Act::Say(format!("echo: {}", q.text)),
        });
        let served = serve(|asked, stream| {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            if asked.path == "/introspect" {
                let is_known = body.contains(BEARER);
                let said = json!({"active": is_known, "sub": "77", "aud": "gatelet", "exp": 4_000_000_000_u64, "asked": body});
                return answer(stream, 200, &[("Content-Type", "application/json")], said.to_string().as_bytes());
            }
            let quoted = format!("{} {} {:?} {body}", asked.method, asked.path, asked.headers);
            let status = if asked.path == "/sink" { 400 } else { 401 };
            let refusal = json!({"error": {"type": "authentication_error", "message": quoted}, "errcode": "M_UNKNOWN_TOKEN", "message": quoted});
            answer(stream, status, &[("Content-Type", "application/json")], refusal.to_string().as_bytes())
        });
        let peer = format!("http://127.0.0.1:{}", served.port);
        World { model, telegram: Telegram::new(), discord: Discord::new(), slack: Slack::new(), peer, _served: served }
    }
}

fn webhook(gateway: &Gateway, channel: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let call = gateway.call("POST", &format!("/webhook/{channel}")).header("Content-Type", "application/json").body(body);
    headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().status
}

/// Everybody writes, and is answered.
fn everybody_writes(gateway: &Gateway, world: &World) {
    world.telegram.says(7, SAID);
    world.discord.direct(500, 7, "hello");
    world.slack.direct("U0ANA", "hello");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let body = json!({"userId": "carl", "message": "hello"}).to_string();
    let door = format!("Bearer {DOOR}");
    assert_eq!(webhook(gateway, "door", &[("Authorization", &door)], &body), 202);
    assert_eq!(webhook(gateway, "signed", &[("X-Hub-Signature-256", &hub_signature(SIGNING, body.as_bytes()))], &body), 202);
    let signature = sign(STANDARD, "msg_1", &now, body.as_bytes());
    let standard = [("webhook-id", "msg_1"), ("webhook-timestamp", now.as_str()), ("webhook-signature", signature.as_str())];
    assert_eq!(webhook(gateway, "standard", &standard, &body), 202);
    assert_eq!(webhook(gateway, "claude", &[("Authorization", "Bearer canary-claude-door-0123456789")], &body), 202);
    let mut ws = Ws::open(gateway, &[("Sec-WebSocket-Protocol", &format!("gatelet.v1, bearer.{USER}"))]);
    ws.until("ready");
    ws.say("c1", "hello");
    ws.until("message");
    let subject = gateway.call("GET", "/api/me").token(BEARER).send().expect(200);
    assert_eq!(subject.field("userId"), "77", "{}", subject.text());
    world.telegram.until(1, 20);
    eventually("an answer on Discord", 20, || (!world.discord.texts().is_empty()).then_some(()));
    eventually("an answer on Slack", 20, || (!world.slack.texts().is_empty()).then_some(()));
}

/// What can fail does.
fn everything_fails(gateway: &Gateway, world: &World) {
    for text in ["fail", "garbage", "reset", "clock"] {
        gateway.tell("ana", text);
    }
    let refused = |status: u16| Fault::Refuse(status, "no".into(), json!({}));
    for fault in [refused(400), refused(429), refused(500), Fault::Reset, Fault::ResetAfter] {
        world.telegram.fail("sendMessage", fault.clone());
        world.telegram.fail("getUpdates", fault);
        world.telegram.says(7, "once more");
        pause(50);
    }
    world.telegram.fail("getUpdates", refused(401));
    world.discord.limit_next(1);
    world.discord.close(4004);
    world.slack.limit_next(1);
    world.slack.reset();
    // Guesses, and credentials where none belong.
    gateway.call("GET", "/api/config").token(GUESS).send().expect(401);
    assert_eq!(webhook(gateway, "door", &[("Authorization", &format!("Bearer {GUESS}"))], "{}"), 401);
    assert!(Ws::dial(gateway, &[("Sec-WebSocket-Protocol", &format!("gatelet.v1, bearer.{GUESS}"))]).is_err());
    let mut ws = Ws::open(gateway, &[]);
    ws.send(json!({"type": "auth", "token": GUESS}));
    assert_eq!(ws.close_code(Duration::from_secs(5)), Some(1008));
    for query in ["token", "access_token", "key"] {
        gateway.call("GET", &format!("/api/config?{query}={ADMIN}")).send().expect(401);
    }
    gateway.call("GET", "/api/config").header("Cookie", &format!("token={ADMIN}")).send().expect(401);
    gateway.call("GET", "/api/me").header("X-Request-Id", &format!("Bearer {ADMIN}")).send().expect(401);
    let wrong_role = gateway.call("PUT", "/api/config").token(OPERATOR).json(&json!({"gateway": {"auth": {"token": GUESS}}}));
    wrong_role.send().expect(403);
    for head in [
        format!("GET /api/config HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization Bearer {ADMIN}\r\n\r\n"),
        format!("GET /api/config HTTP/1.1\r\nHost: {ADMIN}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"),
        format!("GET /api/config HTTP/3.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"),
        format!(
            "POST /api/message HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{{\"token\":\"{GUESS}"
        ),
    ] {
        let mut connection = Connection::open(gateway.port).unwrap();
        connection.patience(Duration::from_secs(2));
        connection.send(head).unwrap();
        connection.finish();
        let _ = connection.answer();
    }
    let state =
        |wanted: &str| gateway.get(&format!("/api/messages?state={wanted}")).json()["messages"].as_array().map_or(0, Vec::len);
    eventually("failed messages", 20, || (state("failed") >= 2).then_some(()));
    eventually("a dead letter", 20, || {
        gateway.get("/api/outbox?state=dead").json()["outbox"][0]["id"].as_str().map(str::to_string)
    });
}

/// Ids of things that exist, for the routes' parameters.
fn existing(gateway: &Gateway) -> impl Fn(&str, &str) -> String + use<> {
    let first = |path: &str, list: &str| gateway.get(path).json()[list][0]["id"].as_str().unwrap_or("x").to_string();
    let (message, failed) = (first("/api/messages", "messages"), first("/api/messages?state=failed", "messages"));
    assert_ne!(failed, "x", "a message failed");
    move |path, name| match (path, name) {
        (_, "userId") => "ana".into(),
        ("/api/messages/{id}", _) => {
            if message.is_empty() {
                message.clone()
            } else {
                failed.clone()
            }
        }
        (_, "model") => "main".into(),
        _ => "x".into(),
    }
}

const COMMANDS: &[&[&str]] = &[
    &["config", "show"],
    &["check"],
    &["doctor"],
    &["doctor", "--json"],
    &["status"],
    &["channels"],
    &["agents"],
    &["messages"],
    &["sessions"],
    &["outbox"],
    &["outbox", "--json"],
    &["approvals"],
    &["pairings"],
    &["jobs"],
    &["logs"],
    &["token"],
];

/// Where a canary may be, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("/suite-config.json", "the configuration, where a person wrote them"),
    ("/config.last.json", "its copy, which a start with a broken one falls back to: mode 0600"),
];

#[test]
fn no_secret_comes_out_anywhere() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let mut outputs = Outputs::default();
    let mut gateway = Gateway::prepare(config(&world, folder.path()));
    for (name, value) in secrets_of_the_environment() {
        gateway.set_env(name, value);
    }
    gateway.set_env("GATELET_PANIC_AT", "turn.answered");
    gateway.restart();
    let mut events = Ws::join(&gateway, ADMIN);
    everybody_writes(&gateway, &world);
    everything_fails(&gateway, &world);
    mistakes::over_http(&gateway, &mut outputs);
    mistakes::in_the_file(&gateway, &mut outputs);
    outputs.note_api(&gateway, existing(&gateway));
    for words in COMMANDS {
        outputs.note_command(&gateway, words);
    }
    let backup = folder.path().join("backup");
    assert_eq!(outputs.note_command(&gateway, &["backup", backup.to_str().unwrap()]), 0);
    outputs.note_files(&backup);
    outputs.note("frames to the admin", events.gather(300).iter().map(Value::to_string).collect::<String>());
    // As it lies there while it runs, its write-ahead log included; after a crash; after the next start; at its end.
    outputs.note_files(&gateway.data);
    assert!(gateway.data.join("gatelet.db-wal").exists());
    gateway.signal(Signal::ABORT);
    gateway.wait_exit(10);
    outputs.note_files(&gateway.data);
    gateway.restart();
    outputs.note_api(&gateway, existing(&gateway));
    assert_eq!(gateway.term().0, 0);
    outputs.note_files(&gateway.data);
    let log = std::fs::read_to_string(gateway.data.join("suite-log")).unwrap();
    assert!(log.contains("a test wants a panic"), "the panic came");
    assert!(log.contains("\"level\":\"trace\"") || log.contains("\"level\":\"debug\""), "the log tells all");
    assert!(!log.contains(SAID), "what people say is in no log, however much it tells");
    assert!(!world.model.asked().is_empty() && log.contains("claude"), "both providers were asked");
    let mode = std::fs::metadata(gateway.data.join("config.last.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let all = [canaries(), vec!["canary-claude-door-0123456789", ANTHROPIC]].concat();
    let (places, bytes) = outputs.check(&all, EXCEPTIONS);
    assert!(places > 300 && bytes > 1_000_000, "{places} places, {bytes} bytes");
    figure(&format!("canaries: {} secrets in {places} outputs, {bytes} bytes: none", all.len()));
}
