//! A real MQTT broker with its own clients, from Debian's `mosquitto` and `mosquitto-clients`.
//!
//! Invariant: on loopback, a port of the kernel's, in a folder of its own; what it started it ends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::gateway::free_port;
use super::{eventually, skipped};

/// The gateway's password there.
const PASSWORD: &str = "suite-broker-password";

/// The broker.
pub struct Mosquitto {
    pub port: u16,
    folder: TempDir,
    is_tls: bool,
    child: Option<Child>,
}

/// A client that listens.
pub struct Listener {
    lines: Arc<Mutex<Vec<String>>>,
    child: Child,
}

/// A program of Debian's, wherever it is.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists())
}

impl Mosquitto {
    /// A running broker; `None`, said loudly, where it isn't installed.
    pub fn start(is_tls: bool) -> Option<Self> {
        if ["mosquitto", "mosquitto_pub", "mosquitto_sub", "mosquitto_passwd"].iter().any(|name| program(name).is_none()) {
            skipped("the MQTT tests: install mosquitto and mosquitto-clients");
            return None;
        }
        let folder = TempDir::with_prefix("gatelet-mosquitto-").expect("a folder");
        let mut broker = Mosquitto { port: free_port(), folder, is_tls, child: None };
        let path = |name: &str| broker.path(name).display().to_string();
        let made = Command::new(program("mosquitto_passwd").expect("it is there"))
            .args(["-b", "-c", &path("passwords"), "gateway", PASSWORD])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("mosquitto_passwd").success());
        let mut config = format!(
            "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\npersistence true\npersistence_location {}/\nuser root\n",
            broker.port,
            path("passwords"),
            broker.folder.path().display(),
        );
        if is_tls {
            broker.certify("ca", "broker");
            broker.certify("other-ca", "other");
            config += &format!("cafile {}\ncertfile {}\nkeyfile {}\n", path("ca.pem"), path("broker.pem"), path("broker.key"));
        }
        std::fs::write(broker.path("mosquitto.conf"), config).expect("writing the configuration");
        broker.begin();
        Some(broker)
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An authority, and a certificate of it for 127.0.0.1.
    fn certify(&self, authority: &str, name: &str) {
        let script = format!(
            "set -e; openssl req -x509 -newkey rsa:2048 -nodes -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}
            openssl req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}
            printf 'subjectAltName=IP:127.0.0.1' > {name}.ext
            openssl x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -out {name}.pem -days 2 -extfile {name}.ext"
        );
        let made = Command::new("sh").args(["-c", &script]).current_dir(self.folder.path()).output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts it, on the same port and data.
    pub fn begin(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = Command::new(program("mosquitto").expect("it is there"));
        command.arg("-c").arg(self.path("mosquitto.conf")).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("mosquitto"));
        let port = self.port;
        eventually("the broker", 10, || TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// Ends it in order: what it holds is on its disk.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
                .expect("a signal");
            let _ = child.wait();
        }
    }

    /// Ends it, and loses all sessions and retained messages.
    pub fn forget(&mut self) {
        self.end();
        let _ = std::fs::remove_file(self.path("mosquitto.db"));
    }

    /// A channel to it.
    pub fn channel(&self) -> Value {
        let scheme = if self.is_tls { "mqtts" } else { "mqtt" };
        let url = format!("{scheme}://127.0.0.1:{}", self.port);
        let mut channel = json!({"type": "mqtt", "url": url, "username": "gateway", "password": PASSWORD, "dmPolicy": "open"});
        if self.is_tls {
            channel["caFile"] = json!(self.path("ca.pem"));
        }
        channel
    }

    fn client(&self, name: &str) -> Command {
        // Line by line, also into a pipe: so that it is seen when it is subscribed.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(program(name).expect("it is there"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-u", "gateway", "-P", PASSWORD, "-q", "1"]);
        if self.is_tls {
            command.arg("--cafile").arg(self.path("ca.pem"));
        }
        command
    }

    /// Publishes one text.
    pub fn publish(&self, topic: &str, text: &str) {
        let status = self.client("mosquitto_pub").args(["-V", "5", "-t", topic, "-m", text]).status();
        assert!(status.expect("mosquitto_pub").success());
    }

    /// Publishes texts, one after the other.
    pub fn publish_all(&self, topic: &str, texts: &[String]) {
        let mut command = self.client("mosquitto_pub");
        let mut child = command.args(["-V", "5", "-t", topic, "-l"]).stdin(Stdio::piped()).spawn().expect("mosquitto_pub");
        let mut input = child.stdin.take().expect("piped");
        texts.iter().for_each(|text| writeln!(input, "{text}").expect("a line"));
        drop(input);
        assert!(child.wait().expect("mosquitto_pub").success());
    }

    /// Listens from now on; lines are `topic payload`, with the user properties between.
    pub fn listen(&self, filter: &str) -> Listener {
        let mut command = self.client("mosquitto_sub");
        command.args(["-V", "5", "-t", filter, "-F", "%t %P %p", "-d"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("mosquitto_sub");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (into, output) = (lines.clone(), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let listener = Listener { lines, child };
        eventually("the subscription", 10, || listener.raw().iter().any(|l| l.contains("SUBACK")).then_some(()));
        listener
    }
}

impl Listener {
    fn raw(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// What came, without the client's own words.
    pub fn lines(&self) -> Vec<String> {
        let own = |l: &&String| !l.starts_with("Client ") && !l.starts_with("Subscribed ");
        self.raw().iter().filter(own).cloned().collect()
    }

    /// Waits for a line that ends so.
    #[track_caller]
    pub fn until(&self, end: &str) -> String {
        eventually(end, 20, || self.lines().into_iter().find(|l| l.ends_with(end)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.end();
    }
}
