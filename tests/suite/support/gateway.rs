//! The built gateway as a process: started on a port and a folder of its own, watched, killed, started again.
//!
//! Invariant: it ends only processes that it started, and every one of them at the latest when it is dropped.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Call, Connection};
use super::pause;

/// The plain `auth.token`: the admin `admin`.
pub const ADMIN: &str = "suite-admin-token-0123456789abcdef";
/// The operator `op`.
pub const OPERATOR: &str = "suite-operator-token-0123456789ab";
/// The user `ana`.
pub const USER: &str = "suite-user-token-0123456789abcdef";
/// The user `bob`.
pub const OTHER: &str = "suite-other-token-0123456789abcde";

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_gatelet");

/// A port that nothing listens on now, chosen by the kernel and kept from everybody else who asks it for one, also while a gateway
/// is down: a socket that is bound and doesn't listen holds it, and is no obstacle to who names it.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("its option");
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let name = rustix::net::getsockname(&socket).expect("its name");
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    SocketAddr::try_from(name).expect("an address").port()
}

/// The credentials that every gateway of the suite has unless told otherwise.
pub fn credentials() -> Value {
    json!({"mode": "token", "token": ADMIN, "tokens": [
        {"name": "op", "role": "operator", "token": OPERATOR},
        {"name": "ana", "role": "user", "token": USER},
        {"name": "bob", "role": "user", "token": OTHER}]})
}

/// `config` with the suite's defaults where it says nothing: listen address, credentials, no rate limit.
pub fn with_defaults(mut config: Value, port: u16) -> Value {
    let gateway = &mut config["gateway"];
    if gateway.is_null() {
        *gateway = json!({});
    }
    for (key, value) in
        [("listen", json!(format!("127.0.0.1:{port}"))), ("auth", credentials()), ("rateLimit", json!({"enabled": false}))]
    {
        if gateway[key].is_null() {
            gateway[key] = value;
        }
    }
    config
}

/// What `/proc` tells of a process.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub rss_kb: u64,
    pub threads: u64,
    pub fds: u64,
    pub write_bytes: u64,
    pub wakeups: u64,
    pub cpu: Duration,
}

/// A gateway.
pub struct Gateway {
    pub port: u16,
    pub data: PathBuf,
    pub config_path: PathBuf,
    /// From the start of the process to the first 200 on /health.
    pub boot: Duration,
    folder: Option<TempDir>,
    child: Option<Child>,
    environment: Vec<(OsString, OsString)>,
    /// A command line to put before the binary's (`sh -c '…; exec "$0" "$@"'`).
    prefix: Vec<String>,
}

impl Gateway {
    /// A running one with this configuration.
    #[track_caller]
    pub fn start(config: Value) -> Self {
        Gateway::prepare(config).begin()
    }

    /// One that is not started yet.
    pub fn prepare(config: Value) -> Self {
        let folder = TempDir::with_prefix("gatelet-suite-").expect("a folder");
        let mut gateway = Gateway::prepare_in(folder.path(), "suite-config.json", config);
        gateway.folder = Some(folder);
        gateway
    }

    /// One on a data folder that the test owns; its configuration is that file there.
    pub fn prepare_in(data: &Path, file: &str, config: Value) -> Self {
        let port = free_port();
        let gateway = Gateway {
            port,
            data: data.to_path_buf(),
            config_path: data.join(file),
            boot: Duration::ZERO,
            folder: None,
            child: None,
            environment: Vec::new(),
            prefix: Vec::new(),
        };
        gateway.write_config(&with_defaults(config, port).to_string());
        gateway
    }

    /// Writes the configuration file as it is.
    pub fn write_config(&self, text: &str) {
        std::fs::write(&self.config_path, text).expect("writing the configuration");
    }

    /// The configuration file as it stands.
    pub fn read_config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.config_path).expect("the configuration")).expect("JSON")
    }

    /// With one more variable in its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The same for one that is there already.
    pub fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.into(), value.into()));
    }

    /// Started through this command line.
    pub fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|s| s.to_string()).collect();
        self
    }

    /// Started by a shell that runs `setup` first (`ulimit -n 64`, say).
    pub fn through_shell(self, setup: &str) -> Self {
        let script = format!("{setup}; exec \"$0\" \"$@\"");
        self.through(&["/bin/sh", "-c", &script])
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        // Another build of it may be named: a static one, a release.
        let binary = std::env::var_os("GATELET_BINARY").unwrap_or_else(|| BINARY.into());
        let mut words = self.prefix.iter().map(OsString::from).chain([binary]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg("serve").arg("--config").arg(&self.config_path).arg("--data-dir").arg(&self.data);
        command.envs(self.environment.iter().map(|(n, v)| (n, v))).stdin(Stdio::null());
        command
    }

    /// Starts the process; does not wait for it.
    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        self.spawn_with(log.try_clone().expect("a log file").into(), log.into());
    }

    /// Starts the process with these outputs.
    pub fn spawn_with(&mut self, stdout: Stdio, stderr: Stdio) {
        assert!(self.child.is_none(), "already started");
        self.child = Some(self.command().stdout(stdout).stderr(stderr).spawn().expect("starting the gateway"));
    }

    /// Starts it and waits until /health is 200.
    #[track_caller]
    pub fn begin(mut self) -> Self {
        self.restart();
        self
    }

    /// The same for one that has ended, on the same data and port.
    #[track_caller]
    pub fn restart(&mut self) {
        let began = Instant::now();
        self.spawn();
        self.wait_healthy(began);
    }

    /// Waits until /health is 200; panics with the log where the process ends or 15 s have passed.
    #[track_caller]
    pub fn wait_healthy(&mut self, began: Instant) {
        while began.elapsed() < Duration::from_secs(15) {
            if self.healthy() {
                self.boot = began.elapsed();
                return;
            }
            if let Some(status) = self.exited() {
                panic!("the gateway ended at start ({status}): {}", self.log());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        panic!("the gateway did not become healthy: {}", self.log());
    }

    /// Waits until /health is 200 or the process has ended, at most 15 s.
    pub fn wait_healthy_or_dead(&mut self) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) && !self.healthy() {
            let ended = self.child.as_mut().is_none_or(|c| c.try_wait().is_ok_and(|s| s.is_some()));
            if ended {
                return;
            }
            pause(1);
        }
    }

    /// Closes our ends of its outputs.
    pub fn drop_outputs(&mut self) {
        if let Some(child) = &mut self.child {
            drop((child.stdout.take(), child.stderr.take()));
        }
    }

    /// Whether /health answers 200 within a second.
    pub fn healthy(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.port) else { return false };
        connection.patience(Duration::from_secs(1));
        let sent = connection.send("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        sent.is_ok() && connection.answer().is_ok_and(|a| a.is_some_and(|a| a.status == 200))
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("started"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal");
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("waiting")?;
        self.child = None;
        Some(status)
    }

    /// Waits for it to end by itself; panics after `seconds`.
    #[track_caller]
    pub fn wait_exit(&mut self, seconds: u64) -> ExitStatus {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            if let Some(status) = self.exited() {
                return status;
            }
            pause(2);
        }
        panic!("after {seconds} s it still runs: {}", self.log());
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; gives the exit code (or minus the signal) and how long it took.
    #[track_caller]
    pub fn term(&mut self) -> (i32, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let status = self.wait_exit(45);
        (code_of(status), began.elapsed())
    }

    fn log_path(&self) -> PathBuf {
        self.data.join("suite-log")
    }

    /// The end of what it wrote to its outputs.
    pub fn log(&self) -> String {
        let all = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&all[all.len().saturating_sub(60_000)..]).into_owned()
    }

    /// What `/proc` tells of it now.
    pub fn stat(&self) -> Stat {
        let root = PathBuf::from(format!("/proc/{}", self.pid().as_raw_nonzero()));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read(&root.join("status"));
        let number = |text: &str, key: &str| -> u64 {
            let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let entries = |name: &str| std::fs::read_dir(root.join(name)).into_iter().flatten().flatten();
        let ticks = read(&root.join("stat"));
        let ticks: Vec<u64> =
            ticks.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        Stat {
            rss_kb: number(&status, "VmRSS"),
            threads: number(&status, "Threads"),
            fds: entries("fd").count() as u64,
            write_bytes: number(&read(&root.join("io")), "write_bytes"),
            wakeups: entries("task").map(|t| number(&read(&t.path().join("status")), "voluntary_ctxt_switches")).sum(),
            cpu: Duration::from_millis(ticks.iter().sum::<u64>() * 10), // the kernel counts hundredths of a second
        }
    }

    /// The same once nothing of its start is under way any more: the number of threads has stood still for a while.
    pub fn settled(&self) -> Stat {
        let mut last = self.stat();
        let mut still = 0;
        while still < 20 {
            pause(10);
            let now = self.stat();
            still = if now.threads == last.threads { still + 1 } else { 0 };
            last = now;
        }
        last
    }

    /// A request without a credential.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.port, method, path)
    }

    /// GET as admin.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path).token(ADMIN).send()
    }

    /// POST as admin.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path).token(ADMIN).json(&body).send()
    }

    /// A message to the channel `default`, accepted and not waited for.
    #[track_caller]
    pub fn tell(&self, user: &str, text: &str) -> String {
        self.post("/webhook/default", json!({"userId": user, "message": text})).expect(202).field("id")
    }

    /// A message to the channel `default`; waits for the reply and gives its text.
    #[track_caller]
    pub fn ask(&self, user: &str, text: &str) -> String {
        self.post("/webhook/default?wait=20000", json!({"userId": user, "message": text})).expect(200).field("reply")
    }

    /// The life of a message, as admin.
    #[track_caller]
    pub fn message(&self, id: &str) -> Value {
        self.get(&format!("/api/messages/{id}")).expect(200).json()
    }

    /// Waits until a message is in that state; gives its life.
    #[track_caller]
    pub fn until_state(&self, id: &str, state: &str, seconds: u64) -> Value {
        self.until(id, seconds, |message| message["state"] == state)
    }

    /// Waits for a message to be as it is wanted; the message.
    #[track_caller]
    pub fn until(&self, id: &str, seconds: u64, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            last = self.message(id);
            if is_so(&last) {
                return last;
            }
            pause(15);
        }
        panic!("{id} is not as it should be after {seconds} s: {last:#}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            // The requests of a test that waits would be all of it.
            let log = self.log().lines().filter(|l| !l.contains("gatelet::request")).collect::<Vec<_>>().join("\n");
            let from = log.len().saturating_sub(3000);
            let from = (from..log.len()).find(|&i| log.is_char_boundary(i)).unwrap_or(0);
            eprintln!("--- the gateway's log ends with:\n{}---", &log[from..]);
        }
    }
}

/// The exit code, or minus the signal that ended it.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}
