//! Under a service manager: ready, reloading, stopping, alive; and on a socket that it holds.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;
use crate::support::http::Call;

/// What a service manager hears, and how it starts a gateway.
struct Manager {
    folder: TempDir,
    ear: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::with_prefix("gatelet-manager-").unwrap();
        let ear = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        ear.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        Manager { folder, ear }
    }

    /// With `watchdog` in ms.
    fn manage(&self, gateway: Gateway, watchdog: u64) -> Gateway {
        gateway.env("NOTIFY_SOCKET", self.folder.path().join("notify")).env("WATCHDOG_USEC", (watchdog * 1000).to_string())
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 4096];
        let n = self.ear.recv(&mut bytes).expect("a word from the gateway");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    /// The next that is no watchdog's food.
    fn hear_news(&self) -> String {
        loop {
            let news = self.hear();
            if news.trim_end() != "WATCHDOG=1" {
                return news;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told() {
    let manager = Manager::new();
    let mut gateway = manager.manage(Gateway::prepare(json!({})), 400).begin();
    let ready = manager.hear_news();
    assert!(ready.contains("READY=1\n") && ready.contains("STATUS=serving on http://127.0.0.1:"), "{ready}");
    let began = Instant::now();
    let fed = (0..5).filter(|_| manager.hear().trim_end() == "WATCHDOG=1").count();
    assert!(fed == 5 && began.elapsed() < Duration::from_secs(4), "{fed} in {:?}", began.elapsed());
    gateway.signal(Signal::HUP);
    let reloading = manager.hear_news();
    assert!(reloading.contains("RELOADING=1\n") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hear_news().trim_end(), "READY=1");
    gateway.signal(Signal::TERM);
    assert!(manager.hear_news().contains("STOPPING=1"));
    assert_eq!(gateway.wait_exit(10).code(), Some(0));
}

/// Starts one on that socket, as systemd does: descriptor 3, and the process's own id in the environment.
fn on(listener: &TcpListener, gateway: &Gateway) -> Child {
    let mut command = gateway.command();
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn activated(config: Value) -> Gateway {
    Gateway::prepare(config).through_shell("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1")
}

fn status_at(port: u16) -> u16 {
    Call::new(port, "GET", "/health").send().status
}

#[test]
fn a_restart_on_a_passed_socket_refuses_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = activated(json!({}));
    let mut child = on(&listener, &gateway);
    assert_eq!(status_at(port), 200, "it serves where the socket listens, not where gateway.listen says");
    assert!(std::net::TcpStream::connect(("127.0.0.1", gateway.port)).is_err());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Who comes now waits in the socket.
    let knock = std::thread::spawn(move || status_at(port));
    std::thread::sleep(Duration::from_millis(300));
    let mut child = on(&listener, &gateway);
    assert_eq!(knock.join().unwrap(), 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Those who are let in just before the old process closes, too: their first request is on its way.
#[test]
fn who_knocks_through_restarts_is_always_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = activated(json!({"gateway": {"rateLimit": {"enabled": false}}}));
    let mut child = on(&listener, &gateway);
    let over = AtomicBool::new(false);
    let answered: usize = std::thread::scope(|scope| {
        let knock = || {
            let answers = std::iter::from_fn(|| (!over.load(Ordering::Relaxed)).then(|| status_at(port)));
            answers.inspect(|status| assert_eq!(*status, 200)).count()
        };
        let knocking: Vec<_> = (0..4).map(|_| scope.spawn(knock)).collect();
        for _ in 0..12 {
            assert_eq!(status_at(port), 200);
            std::thread::sleep(Duration::from_millis(20));
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(0));
            child = on(&listener, &gateway);
        }
        assert_eq!(status_at(port), 200);
        over.store(true, Ordering::Relaxed);
        knocking.into_iter().map(|thread| thread.join().expect("everybody was answered")).sum()
    });
    figure(&format!("12 restarts on a passed socket: {answered} knocks, none refused"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_passed_socket_opens_nothing_that_the_configuration_would_not() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut child = on(&listener, &activated(json!({"gateway": {"auth": {"mode": "none"}}})));
    assert_eq!(child.wait().unwrap().code(), Some(3), "reached from other machines, and everybody admin");
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut command = activated(json!({})).command();
    let status = command.stdin(file).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1), "no socket");
}
