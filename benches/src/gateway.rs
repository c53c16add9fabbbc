//! Builds the gateway and runs it with a configuration in a data directory of its own, on the disk the target folder is on.
//!
//! Invariant: only processes and folders that were made here are ended and removed. Fails where the build does, or where the
//! gateway does not answer `/health` within 10 s.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http;
use crate::options::Options;
use crate::proc::{Look, look};
use crate::{Outcome, http::Connection};

/// The admin's token in all runs.
pub const TOKEN: &str = "bench-admin-token-0123456789";
/// A user's token, whose id is `one`.
pub const ONE: &str = "bench-user-one-token-0123456789";
/// Another user's, whose id is `crowd`.
pub const CROWD: &str = "bench-user-crowd-token-0123456789";

/// In the folder of `--allocators`: the gateway as it is shipped, static, on musl's own allocator.
pub const OWN: &str = "gatelet-own";

/// What every scenario is given.
pub struct Setting {
    /// The gateway's binary: the static one where that was given, as it is shipped.
    pub binary: PathBuf,
    /// The release binary of this machine's own target.
    pub dynamic: PathBuf,
    /// Where data directories are made.
    pub folder: PathBuf,
    /// Where the programs of the part `allocators` are.
    pub allocators: Option<PathBuf>,
    /// A build with symbols, for a profiler.
    pub symbols: Option<PathBuf>,
    /// Short rounds.
    pub quick: bool,
}

impl Setting {
    /// Builds the release binary unless one was named, and makes the folder.
    pub fn prepare(options: &Options) -> Outcome<Setting> {
        let own = std::env::current_exe()?;
        let beside = own.parent().ok_or("no folder of its own")?;
        let dynamic = match &options.binary {
            Some(path) => path.clone(),
            None => {
                build()?;
                beside.join("gatelet")
            }
        };
        let binary = options.allocators.as_ref().map_or_else(|| dynamic.clone(), |folder| folder.join(OWN));
        if let Some(absent) = [&binary, &dynamic].into_iter().find(|path| !path.exists()) {
            return Err(format!("{} does not exist", absent.display()).into());
        }
        let folder = beside.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Setting {
            binary,
            dynamic,
            folder,
            allocators: options.allocators.clone(),
            symbols: options.symbols.clone(),
            quick: options.quick,
        })
    }

    /// The first of two where the run is quick, else the second.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// `cargo build --release` of the gateway, in the workspace this program was started from.
fn build() -> Outcome<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "gatelet", "--bin", "gatelet"]);
    if let Ok(folder) = std::env::var("CARGO_MANIFEST_DIR") {
        command.current_dir(folder);
    }
    let built = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if built.success() { Ok(()) } else { Err("the gateway does not build".into()) }
}

/// Where a gateway is to listen: where the last one with this configuration file did, if that is free, so that what it reads has not
/// changed since its last start.
fn address(file: &Path) -> Outcome<SocketAddr> {
    let last: Option<Value> = fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let last = last.as_ref().and_then(|config| config.pointer("/gateway/listen")?.as_str());
    let again = last.and_then(|address| TcpListener::bind(address).ok());
    let listener = again.map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)?;
    Ok(listener.local_addr()?)
}

/// A new, empty folder for a data directory.
pub fn fresh(setting: &Setting) -> Outcome<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = setting.folder.join(format!("data-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A gateway that runs; killed, and its data removed, when dropped.
pub struct Gateway {
    child: Child,
    data: PathBuf,
    keep: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// From before the start of the process to the first 200 on `/health`.
    pub boot: Duration,
}

impl Gateway {
    /// Starts one in a new data directory; `config` is laid over the settings that all runs have: token, no rate limit.
    pub fn start(setting: &Setting, config: &Value) -> Outcome<Gateway> {
        Gateway::start_in(setting, config, fresh(setting)?)
    }

    /// The same of another binary.
    pub fn start_of(binary: &Path, setting: &Setting, config: &Value) -> Outcome<Gateway> {
        Gateway::launch(binary, config, fresh(setting)?)
    }

    /// The same in a data directory that exists.
    pub fn start_in(setting: &Setting, config: &Value, data: PathBuf) -> Outcome<Gateway> {
        Gateway::launch(&setting.binary, config, data)
    }

    /// The same of another binary in a data directory that exists.
    pub fn launch(binary: &Path, config: &Value, data: PathBuf) -> Outcome<Gateway> {
        let file = data.join("bench.json");
        let address = address(&file)?;
        let mut whole = json!({"gateway": {
            "listen": address.to_string(),
            "auth": {"mode": "token", "token": TOKEN, "tokens": [
                {"name": "one", "role": "user", "token": ONE}, {"name": "crowd", "role": "user", "token": CROWD}]},
            "rateLimit": {"enabled": false},
        }});
        merge(&mut whole, config);
        fs::write(&file, serde_json::to_vec(&whole)?)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&file).arg("--data-dir").arg(&data).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let mut child = command.spawn()?;
        let boot = loop {
            if healthy(address) {
                break begin.elapsed();
            }
            if let Some(status) = child.try_wait()? {
                return Err(format!("the gateway ended at its start ({status}); its configuration was {whole}").into());
            }
            if begin.elapsed() > Duration::from_secs(10) {
                let _ = child.kill();
                let _ = child.wait();
                return Err("the gateway did not answer /health within 10 s".into());
            }
            std::thread::sleep(Duration::from_micros(50));
        };
        Ok(Gateway { child, data, keep: false, address, boot })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Looks at its process.
    pub fn look(&self) -> Outcome<Look> {
        look(self.pid())
    }

    /// Waits until no message is queued or running, at most `most`.
    pub fn settled(&self, most: Duration) -> Outcome<()> {
        let (begin, request) = (Instant::now(), http::get("/api/metrics", TOKEN));
        let mut connection = Connection::open(self.address)?;
        while begin.elapsed() < most {
            let (_, body) = connection.exchange(&request)?;
            let value: Value = serde_json::from_slice(&body)?;
            if count(&value, "queued") + count(&value, "running") == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("messages were still waiting at the end".into())
    }

    /// Ends it by SIGTERM, keeps its data, and gives the folder.
    pub fn end(mut self) -> Outcome<PathBuf> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        self.keep = true;
        Ok(self.data.clone())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.keep {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

/// The first number of that name anywhere in a JSON value; 0 where there is none.
fn count(value: &Value, name: &str) -> u64 {
    match value {
        Value::Object(members) => match members.get(name).and_then(Value::as_u64) {
            Some(number) => number,
            None => members.values().map(|v| count(v, name)).find(|n| *n > 0).unwrap_or(0),
        },
        _ => 0,
    }
}

/// Lays one JSON value over another, objects member by member.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// One try at `/health`.
fn healthy(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 12];
    let told = stream.set_read_timeout(Some(Duration::from_secs(2))).and_then(|()| stream.write_all(http::HEALTH));
    told.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"HTTP/1.1 200"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_laid_over_the_common_one() {
        let mut base = json!({"gateway": {"listen": "a", "auth": 1}});
        merge(&mut base, &json!({"gateway": {"auth": 2}, "agents": {}}));
        assert_eq!(base, json!({"gateway": {"listen": "a", "auth": 2}, "agents": {}}));
    }

    #[test]
    fn counts_are_found_at_any_depth() {
        let value = json!({"requestCount": 9, "store": {"queued": 3}});
        assert_eq!((count(&value, "queued"), count(&value, "running")), (3, 0));
    }
}
