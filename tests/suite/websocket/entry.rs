//! Who gets in: credentials by header, subprotocol or first frame; origins; handshakes that are none; closing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{SOON, bearer};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, OTHER, USER, credentials};
use crate::support::http::Connection;
use crate::support::model::echo_config;
use crate::support::ws::{Frame, Ws};
use crate::support::{eventually, merged};

#[test]
fn a_credential_comes_by_header_subprotocol_or_first_frame() {
    let gateway = Gateway::start(echo_config());
    let mut ws = Ws::open(&gateway, &[("Sec-WebSocket-Protocol", &format!("gatelet.v1, bearer.{USER}"))]);
    assert_eq!(ws.handshake.header("sec-websocket-protocol"), Some("gatelet.v1"), "the token is not echoed");
    assert_eq!(ws.until("ready")["userId"], "ana");

    let mut ws = Ws::open(&gateway, &[]);
    assert_eq!(ws.next(Duration::from_millis(300)), Frame::Silence, "nothing before the credential");
    ws.send(json!({"type": "auth", "token": USER, "role": "admin", "scopes": ["admin"]}));
    let ready = ws.until("ready");
    assert_eq!((&ready["userId"], &ready["role"]), (&json!("ana"), &json!("user")), "what the client claims counts for nothing");
    ws.say("c1", "hi");
    assert_eq!(ws.until("message")["message"], "echo: hi");
}

#[test]
fn without_a_credential_nothing_happens() {
    let gateway = Gateway::start(echo_config());
    let before = gateway.read_config();
    // A wrong one in the handshake: no upgrade.
    for header in
        [("Authorization", bearer("wrong-token-0123456789")), ("Sec-WebSocket-Protocol", "gatelet.v1, bearer.wrong".into())]
    {
        let refused = Ws::dial(&gateway, &[(header.0, &header.1)]);
        assert!(refused.is_err_and(|a| a.status == 401), "{header:?}");
    }
    let query = Ws::dial_path(gateway.port, &format!("/ws?token={USER}"), &[]).unwrap();
    if let Ok(mut ws) = query {
        assert_eq!(ws.next(Duration::from_millis(300)), Frame::Silence, "a token in the query is none");
    }
    // Frames before the credential, a wrong one, and none at all.
    for frame in [
        json!({"type": "message", "id": "c1", "message": "hi"}),
        json!({"type": "auth", "token": "wrong-token-0123456789"}),
        json!({"type": "auth", "token": ""}),
        json!({"type": "auth", "token": null}),
        json!({"type": "auth"}),
        json!({"type": "config.apply", "config": {}}),
        json!([]),
    ] {
        let mut ws = Ws::open(&gateway, &[]);
        ws.send(frame.clone());
        assert_eq!(ws.close_code(SOON), Some(1008), "{frame}");
    }
    let mut silent = Ws::open(&gateway, &[]);
    let began = Instant::now();
    assert_eq!(silent.close_code(Duration::from_secs(8)), Some(1008));
    let took = began.elapsed();
    assert!((4..7).contains(&took.as_secs()), "within 5 s, not {took:?}");
    assert_eq!(gateway.read_config(), before);
}

#[test]
fn a_foreign_origin_or_host_is_refused() {
    let config = json!({"gateway": {"allowedOrigins": ["https://panel.example"], "allowedHosts": ["gate.example"]}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let own = format!("http://127.0.0.1:{}", gateway.port);
    let other_port = format!("http://127.0.0.1:{}", gateway.port - 1);
    for (name, value, good) in [
        ("Origin", own.as_str(), true),
        ("Origin", "https://panel.example", true),
        ("Origin", "https://evil.example", false),
        ("Origin", "null", false),
        ("Origin", other_port.as_str(), false),
        ("Origin", "https://panel.example.evil.example", false),
        ("Origin", "", false),
        ("Host", "evil.example", false),
        ("Host", "gate.example", true),
    ] {
        let result = Ws::dial(&gateway, &[("Authorization", &bearer(USER)), (name, value)]);
        match result {
            Ok(_) => assert!(good, "{name}: {value} got in"),
            Err(answer) => assert!(!good && answer.status == 403, "{name}: {value}: {}", answer.status),
        }
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let gateway = Gateway::start(echo_config());
    let full = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    for left_out in 0..full.len() {
        let mut call = gateway.call("GET", "/ws").token(USER);
        for (i, (name, value)) in full.iter().enumerate() {
            if i != left_out {
                call = call.header(name, value);
            }
        }
        let mut connection = Connection::open(gateway.port).unwrap();
        connection.send(call.bytes()).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert!(matches!(answer.status, 400 | 426), "without {}: {}", full[left_out].0, answer.status);
    }
    let old = Ws::dial_path(gateway.port, "/ws", &[("Authorization", &bearer(USER)), ("Sec-WebSocket-Version", "8")]).unwrap();
    assert!(old.is_err_and(|a| matches!(a.status, 400 | 426)), "two versions");
    assert!(gateway.healthy());
}

#[test]
fn a_drain_closes_with_1001() {
    let mut gateway = Gateway::start(echo_config());
    let mut all = [Ws::join(&gateway, USER), Ws::join(&gateway, OPERATOR)];
    gateway.signal(Signal::TERM);
    for ws in &mut all {
        assert_eq!(ws.close_code(SOON), Some(1001));
    }
    assert_eq!(gateway.wait_exit(20).code(), Some(0));
}

#[test]
fn revoking_a_credential_closes_its_sockets_within_a_second() {
    let gateway = Gateway::start(echo_config());
    let (mut gone, mut stays) = (Ws::join(&gateway, USER), Ws::join(&gateway, OTHER));
    let mut by_frame = Ws::open(&gateway, &[]);
    by_frame.send(json!({"type": "auth", "token": USER}));
    by_frame.until("ready");
    let mut tokens = credentials()["tokens"].as_array().unwrap().clone();
    tokens.retain(|t| t["name"] != "ana");
    let patch = json!({"gateway": {"auth": {"tokens": tokens}}});
    let began = Instant::now();
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200);
    for ws in [&mut gone, &mut by_frame] {
        assert_eq!(ws.close_code(SOON), Some(4401));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
    gateway.call("GET", "/api/sessions/ana").token(USER).send().expect_error(401, "unauthorized");
    assert!(Ws::dial(&gateway, &[("Authorization", &bearer(USER))]).is_err());
    stays.say("c1", "hi");
    assert_eq!(stays.until("message")["message"], "echo: hi");
}

#[test]
fn a_changed_token_closes_its_sockets() {
    let gateway = Gateway::start(echo_config());
    let mut admin = Ws::join(&gateway, ADMIN);
    let patch = json!({"gateway": {"auth": {"token": "another-admin-token-0123456789abcdef"}}});
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200);
    assert_eq!(admin.close_code(SOON), Some(4401));
    gateway.call("GET", "/api/config").token(ADMIN).send().expect(401);
    gateway.call("GET", "/api/config").token("another-admin-token-0123456789abcdef").send().expect(200);
}

#[test]
fn too_many_sockets_are_refused_before_the_upgrade() {
    let config = json!({"gateway": {"limits": {"maxWebSockets": 3}}});
    let gateway = Gateway::start(merged(echo_config(), config));
    let mut all: Vec<Ws> = (0..3).map(|_| Ws::join(&gateway, USER)).collect();
    let refused = Ws::dial(&gateway, &[("Authorization", &bearer(USER))]).err().expect("the fourth is refused");
    assert!(refused.header("retry-after").is_some());
    refused.expect_error(503, "unavailable");
    all.pop().unwrap().vanish();
    eventually("a place", 5, || Ws::dial(&gateway, &[("Authorization", &bearer(USER))]).ok());
    all[0].say("c1", "hi");
    assert_eq!(all[0].until("message")["message"], "echo: hi");
}
