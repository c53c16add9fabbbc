//! The announcement on the local network, as Debian's avahi sees it: in namespaces of their own, where there is no link but loopback.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::support::gateway::{BINARY, Gateway};
use crate::support::{eventually, skipped};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mdns.sh");

/// `unshare` with what this user needs for it; `None`, said loudly, where it or avahi is not to be had.
fn namespaces() -> Option<Command> {
    let tools = ["avahi-daemon", "avahi-browse", "avahi-publish-service", "dbus-daemon", "ip"];
    let found = tools.map(|tool| format!("command -v {tool}")).join(" && ");
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let runs = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    for rights in [&[][..], &["--map-root-user"]] {
        let unshare = || {
            let mut command = Command::new("unshare");
            command
                .args(rights)
                .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"])
                .env("PATH", path);
            command
        };
        if runs(unshare().args(["-c", &found])) {
            return Some(unshare());
        }
    }
    skipped("the mDNS test: install avahi-daemon, avahi-utils, dbus and iproute2, and let namespaces be made");
    None
}

#[test]
fn avahi_finds_it_and_sees_it_go() {
    let Some(mut command) = namespaces() else { return };
    let folder = TempDir::with_prefix("gatelet-mdns-").unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("gatelet.json"), json!({"gateway": {"listen": "0.0.0.0:0", "mdns": true}}).to_string())
        .unwrap();
    let said = command.arg(SCRIPT).arg(BINARY).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let log = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let all = || format!("{text}\n{}\n{}\n{}", String::from_utf8_lossy(&said.stderr), log("gatelet.log"), log("avahi.log"));
    let facts: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let fact = |name: &str| facts.get(name).map(|f| f.trim()).unwrap_or_else(|| panic!("{name} in {}", all()));
    let host = fact("host");
    // event;link;protocol;name;type;domain;host;address;port;texts
    let seen: Vec<&str> = fact("seen").split(';').collect();
    let short = host.split('.').next().unwrap();
    assert_eq!(
        seen[..8],
        ["=", "lo", "IPv4", short, "_gatelet._tcp", "local", &format!("{short}.local"), "127.0.0.1"],
        "{}",
        all()
    );
    assert!(log("gatelet.log").contains(&format!("http://0.0.0.0:{}", seen[8])), "{}", all());
    let mut texts: Vec<&str> = seen[9].split(' ').collect();
    texts.sort();
    let version = format!("\"version={}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(texts, ["\"path=/\"", &version], "nothing else is told");
    let switches: u64 = fact("switches in 5 s").parse().unwrap();
    crate::support::figure(&format!("announced and unasked: {switches} wake-ups of all threads in 5 s"));
    assert!(switches <= 10, "{}", all());
    for (name, wanted) in [
        ("types", "1"),
        ("threads", "1"),
        ("gone", "1"),
        ("threads off", "0"),
        ("back", "2"),
        ("gone at the end", "2"),
        ("the other", "1"),
        ("conflicts", "0"),
    ] {
        assert_eq!(fact(name), wanted, "{name}: {}", all());
    }
    // avahi writes what is no letter or digit in a name as \ and its number.
    assert!(fact("beside another").contains(&format!(";{short}\\032\\0402\\041;")), "{}", all());
}

#[test]
fn what_only_this_machine_reaches_is_not_announced() {
    let gateway = Gateway::start(json!({"gateway": {"mdns": true}}));
    eventually("it is said", 10, || gateway.log().contains("gateway.mdns: nothing is announced").then_some(()));
}
