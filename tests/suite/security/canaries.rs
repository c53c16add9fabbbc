//! Canaries: secrets that nobody else has, in every place of the configuration that takes one; then a day in the life of the
//! gateway, with all that can go wrong in it; and at the end, wherever something came out, none of them is there (cases D9, D11,
//! D12, D15, D16, D17).

mod day;
mod mistakes;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use serde_json::{Value, json};

use super::{DOOR, described};
use crate::support::gateway::{ADMIN, BINARY, Gateway, OPERATOR, OTHER, USER};
use crate::support::{discord, slack, telegram};

/// Secrets of the configuration by name, besides those that the scripted services insist on.
const MATRIX: &str = "syt_canary_matrix_0123456789abcdef";
const MATRIX_PASSWORD: &str = "canary matrix password 0123456789";
const MQTT: &str = "canary-mqtt-password-0123456789";
const SIGNING: &str = "canary signing secret of some length";
const STANDARD: &str = "whsec_Y2FuYXJ5LXN0YW5kYXJkLXdlYmhvb2tzLXNlY3JldA==";
const REPLYING: &str = "canary reply secret of some length";
const OPENAI: &str = "sk-canary-openai-0123456789abcdef";
const ANTHROPIC: &str = "sk-ant-canary-0123456789abcdef";
const CLIENT: &str = "canary-client-secret-0123456789";
const MCP_ENV: &str = "canary-mcp-environment-0123456789";
const MCP_TOKEN: &str = "canary-mcp-token-0123456789";
/// What comes from outside: a guess, and a bearer of an identity provider's.
const GUESS: &str = "canary-guess-of-a-stranger-0123456789";
const BEARER: &str = "canary-bearer-of-a-subject-0123456789";
/// What somebody says: no secret of the gateway's, so the database has it; no log has (D16).
const SAID: &str = "canary words of a person";

/// All of them.
fn canaries() -> Vec<&'static str> {
    vec![
        ADMIN,
        OPERATOR,
        USER,
        OTHER,
        DOOR,
        telegram::TOKEN,
        discord::TOKEN,
        slack::APP_TOKEN,
        slack::BOT_TOKEN,
        MATRIX,
        MATRIX_PASSWORD,
        MQTT,
        SIGNING,
        STANDARD,
        REPLYING,
        OPENAI,
        ANTHROPIC,
        CLIENT,
        MCP_ENV,
        MCP_TOKEN,
        GUESS,
        BEARER,
    ]
}

/// A canary as it could be written: as it is, as in an address, as in JSON, in hexadecimal, in base64.
fn forms(canary: &str) -> Vec<String> {
    let percent: String =
        canary.bytes().map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") }).collect();
    let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
    // Without its last characters, which depend on what follows.
    let base64 = base64::engine::general_purpose::STANDARD.encode(canary);
    let mut all = vec![canary.to_string(), percent, hex, base64[..base64.len() - 4].to_string()];
    if let Some(key) = canary.strip_prefix("whsec_") {
        let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
        all.push(String::from_utf8(key).expect("a text"));
    }
    if let Some((_, rest)) = canary.split_once(':') {
        all.push(rest.to_string()); // without the bot's number, which is no secret
    }
    all
}

/// All that came out, each with the place where it did.
#[derive(Default)]
struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    fn note(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// Every file below a folder.
    fn note_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.note_files(&path);
            } else {
                self.note(format!("file {}", path.display()), std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// Everything that can be read over HTTP, as each role.
    fn note_api(&mut self, gateway: &Gateway, fill: impl Fn(&str, &str) -> String) {
        for route in described(gateway).into_iter().filter(|r| r.method == "GET") {
            let path = route.filled(|name| fill(&route.path, name));
            for token in [None, Some(USER), Some(OPERATOR), Some(ADMIN)] {
                for query in ["", "?limit=500", "?level=trace&limit=1000", "?state=dead", "?state=failed"] {
                    let call = gateway.call("GET", &format!("{path}{query}"));
                    let answer = token.into_iter().fold(call, |c, t| c.token(t)).send();
                    self.note(format!("GET {path}{query}"), format!("{:?}\n{}", answer.headers, answer.text()));
                }
            }
        }
    }

    /// What a command prints.
    fn note_command(&mut self, gateway: &Gateway, words: &[&str]) -> i32 {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--config").arg(&gateway.config_path).arg("--data-dir").arg(&gateway.data);
        let output = command.envs(secrets_of_the_environment()).stdin(Stdio::null()).output().expect("a command");
        self.note(format!("gatelet {}", words.join(" ")), [output.stdout, output.stderr].concat());
        output.status.code().unwrap_or(-1)
    }

    /// How many places and bytes were looked through; panics where a canary is.
    fn check(&self, canaries: &[&str], but: &[(&str, &str)]) -> (usize, usize) {
        let mut found = Vec::new();
        for canary in canaries {
            for form in forms(canary) {
                for (place, bytes) in &self.0 {
                    let is_excepted = but.iter().any(|(end, _)| place.ends_with(end));
                    if !is_excepted && let Some(at) = find(bytes, form.as_bytes()) {
                        let around = &bytes[at.saturating_sub(160)..(at + form.len() + 40).min(bytes.len())];
                        found.push(format!("{canary} as {form}\n  in {place}: …{}…", String::from_utf8_lossy(around)));
                    }
                }
            }
        }
        assert!(found.is_empty(), "{} finds:\n{}", found.len(), found.join("\n"));
        (self.0.len(), self.0.iter().map(|(_, b)| b.len()).sum())
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|b| *b == first).map(|n| n + from) {
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Secrets that the configuration names by variable.
fn secrets_of_the_environment() -> [(&'static str, &'static str); 2] {
    [("CANARY_MATRIX", MATRIX), ("CANARY_SIGNING", SIGNING)]
}

/// The configuration: one of each kind of secret, given as text, as a variable, as a file.
fn config(world: &day::World, folder: &Path) -> Value {
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, format!("{text}\n")).expect("a secret's file");
        path
    };
    let nowhere = format!("127.0.0.1:{}", crate::support::gateway::free_port());
    let stub = |name: &str, key: &str| json!({"type": name, "baseUrl": world.model.base(), "apiKey": key});
    let auth = json!({"mode": "token", "token": ADMIN, "tokens": [
        {"name": "op", "role": "operator", "token": OPERATOR}, {"name": "ana", "role": "user", "token": {"file": file("ana", USER)}},
        {"name": "bob", "role": "user", "token": OTHER}], "oauthProviders": [{"name": "home", "clientId": "gatelet",
        "clientSecret": CLIENT, "introspectionUrl": format!("{}/introspect", world.peer), "audience": "gatelet"}]});
    let script = folder.join("server.py");
    std::fs::write(&script, "import sys\nprint('no server today', file=sys.stderr)\nsys.exit(3)\n").unwrap();
    let sink = |path: &str| format!("{}{path}", world.peer);
    json!({
        "gateway": {"auth": auth, "retry": {"maxRetries": 1, "delay": 50}},
        "log": {"level": "trace"},
        "providers": {"stub": stub("openai", OPENAI), "claude": {"type": "anthropic", "baseUrl": world.peer, "apiKey": ANTHROPIC}},
        "agents": {"main": {"provider": "stub", "model": "stub"}, "other": {"provider": "claude", "model": "stub"}},
        "bindings": [{"channel": "claude", "agent": "other"}],
        "channels": {
            "tg": {"type": "telegram", "token": {"file": file("tg", telegram::TOKEN)}, "apiRoot": world.telegram.root(), "dmPolicy": "open"},
            "dc": world.discord.config(), "sl": world.slack.config(),
            "mx": {"type": "matrix", "homeserver": world.peer, "userId": "@bot:here", "accessToken": {"env": "CANARY_MATRIX"}},
            "mx2": {"type": "matrix", "homeserver": world.peer, "userId": "@two:here", "password": MATRIX_PASSWORD},
            "mq": {"type": "mqtt", "url": format!("mqtt://{nowhere}"), "username": "gateway", "password": MQTT},
            "door": {"type": "webhook", "token": DOOR, "replyUrl": sink("/sink"), "replySecret": REPLYING},
            "signed": {"type": "webhook", "secret": {"env": "CANARY_SIGNING"}},
            "standard": {"type": "webhook", "secret": STANDARD},
            "claude": {"type": "webhook", "token": "canary-claude-door-0123456789"}},
        "tools": {"mcp": {
            "program": {"command": "/usr/bin/env", "args": ["python3", script], "env": {"SECRET": MCP_ENV, "PATH": "/usr/local/bin:/usr/bin:/bin"}},
            "remote": {"url": format!("{}/mcp", world.peer), "token": MCP_TOKEN}}}})
}
