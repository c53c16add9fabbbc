//! Start, drain, end: clear failures without half a start, nothing lost by being cut short, no input that ends it for good.

mod drain;
mod faults;
mod manager;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;
use crate::support::{eventually, figure, heavy, merged};

const DOOR: &str = "door-token-0123456789abcdef";

fn with_sink(model: &Model, sink: &Sink) -> Value {
    merged(
        model.config(),
        json!({"channels": {"default": {"type": "webhook"}, "door": {"type": "webhook", "token": DOOR, "replyUrl": sink.url}}}),
    )
}

fn knock(gateway: &Gateway, user: &str, text: &str) -> String {
    let body = json!({"userId": user, "message": text, "messageId": text});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).field("id")
}

#[test]
fn a_busy_port_is_said_and_nothing_is_half_started() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (model, sink) = (Model::echo(), Sink::new());
    let config = merged(with_sink(&model, &sink), json!({"gateway": {"listen": format!("127.0.0.1:{port}")}}));
    let mut gateway = Gateway::prepare(config);
    gateway.spawn();
    let status = gateway.wait_exit(10);
    assert_eq!(status.code(), Some(1), "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains(&format!("127.0.0.1:{port}")) && (log.contains("listens") || log.contains("in use")), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!gateway.data.join("gatelet.sock").exists(), "the local socket is gone");
}

/// A token is shown at the start that makes it: one that comes to nothing must not make it.
#[test]
fn a_start_that_fails_makes_no_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = TempDir::new().unwrap();
    let config = place.path().join("config.json");
    std::fs::write(&config, json!({"gateway": {"listen": format!("127.0.0.1:{port}")}}).to_string()).unwrap();
    let data = place.path().join("data");
    let output = Command::new(crate::support::gateway::BINARY)
        .args(["serve", "--config"])
        .arg(&config)
        .arg("--data-dir")
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!data.join("token").exists());
}

#[test]
fn a_data_folder_that_cannot_be_written_is_said() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    for bad in [file.join("beneath"), "/proc/nowhere".into(), file.clone()] {
        let config = place.path().join("config.json");
        std::fs::write(&config, json!({"gateway": {"listen": "127.0.0.1:0"}}).to_string()).unwrap();
        let output = Command::new(crate::support::gateway::BINARY)
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(&bad)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{bad:?}: {said}");
        assert!(said.contains(&*bad.to_string_lossy()), "names it: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_second_one_on_the_same_data_is_refused() {
    let mut first = Gateway::start(echo_config());
    first.ask("ana", "hi");
    let second = Gateway::prepare_in(&first.data, "suite-second.json", echo_config());
    let output = second.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.to_lowercase().contains("another") || said.to_lowercase().contains("already"), "{said}");
    assert!(first.healthy() && first.data.join("gatelet.sock").exists(), "the first one is undisturbed");
    // The lock goes with the process, however it ends.
    first.kill9();
    first.restart();
}

#[test]
fn the_local_socket_serves_without_a_token() {
    use std::io::{Read, Write};
    let gateway = Gateway::start(echo_config());
    let path = gateway.data.join("gatelet.sock");
    let found = eventually("the local socket", 5, || std::fs::metadata(&path).ok());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /api/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"***\"") && !answer.contains(ADMIN), "{answer}");
}

#[test]
fn it_starts_soon_and_small() {
    let _alone = heavy();
    let mut gateway = Gateway::start(echo_config());
    let mut boots = vec![gateway.boot];
    for _ in 0..10 {
        gateway.term();
        gateway.restart();
        boots.push(gateway.boot);
    }
    let stat = gateway.stat();
    let median = crate::support::percentile(&mut boots, 50);
    figure(&format!("start to first 200: {median:?} (this build); {} KiB, {} threads", stat.rss_kb, stat.threads));
    assert!(median < Duration::from_millis(500), "{median:?}");
}
