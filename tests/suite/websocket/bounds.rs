//! What a socket may cost: odd frames, protocol errors, readers that do not read, silent peers.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use super::SOON;
use crate::support::gateway::{Gateway, OTHER, USER};
use crate::support::model::{Act, Model, echo_config};
use crate::support::ws::{Frame, Ws};
use crate::support::{eventually, merged, pause};

#[test]
fn odd_frames_are_answered_with_an_error_and_the_socket_lives() {
    let gateway = Gateway::start(echo_config());
    let mut ws = Ws::join(&gateway, USER);
    for frame in [
        "{",
        "null",
        "[]",
        "\"x\"",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"nope"}"#,
        r#"{"type":"message"}"#,
        r#"{"type":"message","id":"c","message":5}"#,
        r#"{"type":"message","id":7,"message":"x"}"#,
        r#"{"type":"message","id":"c","message":""}"#,
        r#"{"type":"ack"}"#,
    ] {
        ws.send_raw(Message::text(frame));
        let error = ws.until("error");
        assert!(error["status"].as_u64().is_some_and(|s| (400..500).contains(&s)), "{frame}: {error}");
        assert!(error["code"].is_string() && error["message"].is_string(), "{frame}: {error}");
    }
    ws.send(json!({"type": "ack", "messageId": "msg_unknown"})); // harmless
    let deep = "[".repeat(100_000);
    ws.send_raw(Message::text(deep));
    ws.until("error");
    ws.say("c1", "still here");
    assert_eq!(ws.until("message")["message"], "echo: still here");
}

#[test]
fn what_breaks_the_protocol_ends_the_socket_alone() {
    let gateway = Gateway::start(echo_config());
    let huge = "x".repeat(300 * 1024);
    let mut ws = Ws::join(&gateway, USER);
    ws.send(json!({"type": "message", "id": "c1", "message": huge}));
    assert_eq!(ws.close_code(SOON), Some(1009), "too big");
    for bytes in [
        &b"\x81\x05hello"[..],
        b"\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0xx",
        b"\x83\x80\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut ws = Ws::join(&gateway, USER);
        let _ = ws.stream().write_all(bytes);
        let code = ws.close_code(SOON);
        assert!(code.is_some_and(|c| matches!(c, 1002 | 1006 | 1009 | 1008 | 1003)), "{bytes:?}: {code:?}");
    }
    let mut binary = Ws::join(&gateway, USER);
    binary.send_raw(Message::binary(vec![0u8, 1, 2]));
    let code_or_error = binary.next(SOON);
    let refused = matches!(&code_or_error, Frame::Json(v) if v["type"] == "error")
        || matches!(code_or_error, Frame::Close(1003 | 1008 | 1002));
    assert!(refused, "text frames alone: {code_or_error:?}");
    assert!(gateway.healthy());
    let mut ws = Ws::join(&gateway, USER);
    ws.say("c2", "hi");
    assert_eq!(ws.until("message")["message"], "echo: hi");
}

#[test]
fn sockets_end_and_leave_nothing_behind() {
    let gateway = Gateway::start(echo_config());
    Ws::join(&gateway, USER).vanish();
    pause(200);
    let before = gateway.settled();
    for round in 0..5 {
        let mut all: Vec<Ws> = (0..20).map(|_| Ws::join(&gateway, USER)).collect();
        all[round].say(&format!("c{round}"), "hi");
        for ws in all {
            ws.vanish();
        }
    }
    let after = eventually("the threads to end", 10, || Some(gateway.stat()).filter(|s| s.threads <= before.threads));
    assert!(after.fds <= before.fds + 8, "{before:?} → {after:?}"); // readers of the store open as they are needed
    assert!(after.rss_kb < before.rss_kb + 8 * 1024, "{before:?} → {after:?}");
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody() {
    let model = Model::scripted(|q| Act::Say(format!("{} {}", q.text, "x".repeat(60_000))));
    let gateway = Gateway::start(model.config());
    let (mut lazy, mut keen) = (Ws::join(&gateway, USER), Ws::join(&gateway, USER));
    let before = gateway.stat().rss_kb;
    for n in 0..120 {
        let began = Instant::now();
        keen.say(&format!("c{n}"), &format!("n{n}"));
        let message = keen.until("message");
        assert!(message["message"].as_str().unwrap().starts_with(&format!("n{n} ")));
        keen.acknowledge(&message);
        assert!(began.elapsed() < Duration::from_secs(8), "one that does not read held it up for {:?}", began.elapsed());
    }
    let after = gateway.stat().rss_kb;
    assert!(after < before + 24 * 1024, "memory grew from {before} to {after} KiB");
    // The lazy one was dropped on the way: its stream ends after what its buffers held.
    let ended = eventually("the lazy one's end", 20, || match lazy.next(Duration::from_secs(1)) {
        Frame::Json(_) => None,
        other => Some(other),
    });
    assert!(matches!(ended, Frame::Gone | Frame::Close(_)), "{ended:?}");
}

#[test]
fn the_peer_is_pinged_and_a_silent_one_closed() {
    let config = json!({"gateway": {"heartbeat": {"interval": 1000}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let mut alive = Ws::join(&gateway, USER);
    let silent = Ws::join(&gateway, OTHER); // never reads, so it never answers a ping
    let frames = alive.gather(4500);
    assert!(frames.is_empty(), "{frames:?}");
    assert!(alive.pings >= 3, "{} pings in 4.5 s", alive.pings);
    alive.say("c1", "hi");
    alive.until("message");
    let (stream, mut rest) = (silent.stream().try_clone().unwrap(), Vec::new());
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let read = std::io::Read::read_to_end(&mut &stream, &mut rest);
    assert!(
        read.is_ok() || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset),
        "the silent one was not closed"
    );
}
