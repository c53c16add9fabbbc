//! A real Matrix homeserver of a test's own, and the people on it. `GATELET_SYNAPSE_PYTHON` names a Python that has Synapse
//! (`.ci/run` installs one).
//!
//! Invariant: it listens on loopback alone, on a port of the kernel's choosing, keeps all it has in a folder of its own, and ends with
//! the test at the latest.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::gateway::free_port;
use super::http::{Answer, Call};
use super::{eventually, skipped};

/// The name of the homeserver, behind the `:` of its accounts.
pub const SERVER: &str = "suite.test";

/// The homeserver.
pub struct Synapse {
    python: String,
    folder: TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Synapse {
    /// One that runs; `None`, loudly, where there is nothing to start it with.
    pub fn start(what: &str) -> Option<Synapse> {
        let Ok(python) = std::env::var("GATELET_SYNAPSE_PYTHON") else {
            skipped(&format!("{what}: GATELET_SYNAPSE_PYTHON names no Python with Synapse (.ci/run installs one)"));
            return None;
        };
        let folder = TempDir::with_prefix("gatelet-synapse-").expect("a folder");
        let mut synapse = Synapse { python, folder, port: free_port(), child: None };
        std::fs::write(synapse.folder.path().join("hs.yaml"), synapse.config().to_string()).expect("its configuration");
        let keys = synapse.command().arg("--generate-keys").status().expect("Synapse's Python");
        assert!(keys.success(), "Synapse makes no keys: {}", synapse.log());
        synapse.resume();
        Some(synapse)
    }

    /// Its configuration: YAML, of which JSON is a part.
    fn config(&self) -> Value {
        let much = json!({"per_second": 10_000, "burst_count": 10_000});
        json!({
            "server_name": SERVER,
            "listeners": [{"bind_addresses": ["127.0.0.1"], "port": self.port, "type": "http", "tls": false,
                "x_forwarded": false, "resources": [{"names": ["client", "media"]}]}],
            "database": {"name": "sqlite3", "args": {"database": "hs.db"}},
            "media_store_path": "media",
            "signing_key_path": "signing.key",
            "macaroon_secret_key": "suite",
            "form_secret": "suite",
            "report_stats": false,
            "trusted_key_servers": [],
            "enable_registration": true,
            "enable_registration_without_verification": true,
            "rc_message": much,
            "rc_registration": much,
            "rc_login": {"address": much, "account": much, "failed_attempts": much},
            "rc_joins": {"local": much, "remote": much},
            "rc_invites": {"per_room": much, "per_user": much, "per_issuer": much},
        })
    }

    fn command(&self) -> Command {
        let open = || File::options().create(true).append(true).open(self.folder.path().join("log")).expect("its log");
        let mut command = Command::new(&self.python);
        command.args(["-m", "synapse.app.homeserver", "-c", "hs.yaml"]).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        command
    }

    fn log(&self) -> String {
        let all = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        all.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// Starts it, or starts it again on what it had.
    pub fn resume(&mut self) {
        self.child = Some(self.command().spawn().expect("Synapse"));
        let port = self.port;
        eventually("Synapse", 60, || {
            let ended = self.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|s| s.is_some()));
            assert!(!ended, "Synapse ended: {}", self.log());
            Call::new(port, "GET", "/_matrix/client/versions").attempt().ok().filter(|a| a.status == 200)
        });
    }

    /// Ends it as an administrator does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let _ = child.wait();
        }
    }

    /// A new account.
    pub fn person(&self, name: &str) -> Person {
        let body = json!({"username": name, "password": password(name), "auth": {"type": "m.login.dummy"}});
        let answer = Call::new(self.port, "POST", "/_matrix/client/v3/register").json(&body).send().expect(200);
        Person { port: self.port, id: format!("@{name}:{SERVER}"), token: answer.field("access_token") }
    }

    /// A channel of the gateway that is the account `name`.
    pub fn channel(&self, name: &str) -> Value {
        json!({"type": "matrix", "homeserver": format!("http://127.0.0.1:{}", self.port), "userId": format!("@{name}:{SERVER}"),
            "password": password(name), "dmPolicy": "open"})
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn password(name: &str) -> String {
    format!("a-password-of-{name}")
}

/// Somebody with an account.
pub struct Person {
    port: u16,
    pub id: String,
    token: String,
}

/// A message that somebody sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub sender: String,
    pub body: String,
    pub content: Value,
}

impl Person {
    /// A call of theirs.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let call = Call::new(self.port, method, &format!("/_matrix/client/v3{path}")).token(&self.token);
        let call = if let Some(body) = &body { call.json(body) } else { call };
        call.patience(Duration::from_secs(30)).send()
    }

    /// A new room with these people invited.
    pub fn room(&self, invite: &[&str], is_direct: bool, more: Value) -> String {
        let preset = if is_direct { "trusted_private_chat" } else { "private_chat" };
        let body = super::merged(json!({"invite": invite, "is_direct": is_direct, "preset": preset}), more);
        self.call("POST", "/createRoom", Some(body)).expect(200).field("room_id")
    }

    pub fn join(&self, room: &str) {
        self.call("POST", &format!("/rooms/{}/join", encoded(room)), Some(json!({}))).expect(200);
    }

    /// Says something; gives the event's id.
    pub fn say(&self, room: &str, text: &str) -> String {
        self.send(room, json!({"msgtype": "m.text", "body": text}))
    }

    pub fn send(&self, room: &str, content: Value) -> String {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let key = NUMBER.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let path = format!("/rooms/{}/send/m.room.message/suite{key}", encoded(room));
        self.call("PUT", &path, Some(content)).expect(200).field("event_id")
    }

    /// Puts a file to the media repository; gives its address.
    pub fn upload(&self, name: &str, bytes: Vec<u8>) -> String {
        let call = Call::new(self.port, "POST", &format!("/_matrix/media/v3/upload?filename={name}")).token(&self.token);
        call.header("Content-Type", "application/octet-stream").body(bytes).send().expect(200).field("content_uri")
    }

    /// What was said in a room by others, oldest first, at most the last 500.
    pub fn heard(&self, room: &str) -> Vec<Said> {
        let path = format!("/rooms/{}/messages?dir=b&limit=500", encoded(room));
        let page = self.call("GET", &path, None).expect(200).json();
        let mut all: Vec<Said> = page["chunk"]
            .as_array()
            .expect("events")
            .iter()
            .filter(|e| e["type"] == "m.room.message" && e["sender"] != self.id.as_str())
            .map(|e| Said {
                sender: e["sender"].as_str().unwrap_or_default().to_string(),
                body: e["content"]["body"].as_str().unwrap_or_default().to_string(),
                content: e["content"].clone(),
            })
            .collect();
        all.reverse();
        all
    }

    /// Waits until that many things were said by others; gives them.
    #[track_caller]
    pub fn hears(&self, room: &str, many: usize, seconds: u64) -> Vec<Said> {
        let what = format!("{many} messages in {room}");
        eventually(&what, seconds, || Some(self.heard(room)).filter(|all| all.len() >= many))
    }

    /// Who is in a room.
    pub fn members(&self, room: &str) -> Vec<String> {
        let said = self.call("GET", &format!("/rooms/{}/joined_members", encoded(room)), None).expect(200).json();
        said["joined"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }

    /// The rooms that they are invited to.
    pub fn invitations(&self) -> Vec<String> {
        let said = self.call("GET", "/sync?timeout=0", None).expect(200).json();
        said["rooms"]["invite"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }
}

fn encoded(text: &str) -> String {
    text.replace('!', "%21").replace(':', "%3A").replace('$', "%24").replace('@', "%40")
}
