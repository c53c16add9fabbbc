//! Requests that lie about where they end, or are none: each is refused, and what follows is never a second request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{assert_same_size, assert_well, gateway};
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::http::{Answer, Connection};
use crate::support::{from_env, heavy};

/// Sends these bytes on a connection of their own; gives all answers until it is closed or nothing comes for a while.
fn raw(gateway: &Gateway, bytes: &[u8]) -> Vec<Answer> {
    let mut connection = Connection::open(gateway.port).expect("a connection");
    connection.patience(Duration::from_secs(3));
    let _ = connection.send(bytes);
    let mut answers = Vec::new();
    while let Ok(Some(answer)) = connection.answer() {
        answers.push(answer);
    }
    answers
}

/// TH1, TH1b, TH9, TH10 and their kin: what may be answered is, with one of `statuses`, and what follows is never a second request.
#[test]
fn framing_that_lies_is_refused() {
    let mut gateway = gateway();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!(
            "POST /webhook/default HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let before = gateway.settled();
    for (name, headers, body, statuses) in [
        ("TH1", "Content-Length: 99999999999999\r\n", "", vec![413]),
        ("TH1b", "Content-Length: 18446744073709551615\r\n", "", vec![400, 413]),
        ("beyond 64 bits", "Content-Length: 18446744073709551616\r\n", "", vec![400, 413]),
        ("negative", "Content-Length: -1\r\n", "", vec![400]),
        ("signed", "Content-Length: +47\r\n", smuggled, vec![400]),
        ("TH9 letters", "Content-Length: 47x\r\n", smuggled, vec![400]),
        ("TH9 hex", "Content-Length: 0x2f\r\n", smuggled, vec![400]),
        ("a list", "Content-Length: 47, 47\r\n", smuggled, vec![400]),
        ("empty", "Content-Length: \r\n", smuggled, vec![400]),
        ("TH9 two lengths", "Content-Length: 0\r\nContent-Length: 47\r\n", smuggled, vec![400]),
        ("the same twice", "Content-Length: 47\r\nContent-Length: 47\r\n", smuggled, vec![400]),
        ("TH9 identity", "Transfer-Encoding: identity\r\nContent-Length: 47\r\n", smuggled, vec![400, 501]),
        (
            "length and chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 47\r\n",
            "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
            vec![400],
        ),
        ("gzip", "Transfer-Encoding: gzip, chunked\r\n", smuggled, vec![400, 501]),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", vec![400, 501]),
        ("xchunked", "Transfer-Encoding: xchunked\r\n", smuggled, vec![400, 501]),
        ("TE with a space", "Transfer-Encoding : chunked\r\n", smuggled, vec![400]),
        ("TE with a tab", "Transfer-Encoding: \tchunked\u{b}\r\n", smuggled, vec![400, 501]),
        ("a folded header", "X-A: 1\r\n Content-Length: 47\r\n", smuggled, vec![400]),
        ("chunk size of letters", "Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n", vec![400]),
        ("chunk size too large", "Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nhello", vec![400, 413]),
        ("chunk size beyond 64 bits", "Transfer-Encoding: chunked\r\n", "10000000000000000\r\nhello", vec![400, 413]),
        ("negative chunk", "Transfer-Encoding: chunked\r\n", "-1\r\nhello\r\n0\r\n\r\n", vec![400]),
        ("chunk longer than said", "Transfer-Encoding: chunked\r\n", "2\r\nhello\r\n0\r\n\r\n", vec![400]),
        (
            "endless chunk extension",
            "Transfer-Encoding: chunked\r\n",
            &format!("1;{}\r\n", "x".repeat(100_000)),
            vec![400, 413, 431],
        ),
        ("a NUL in a value", "X-A: a\0b\r\n", "", vec![400]),
        ("a bare CR in a value", "X-A: a\rb\r\n", "", vec![400]),
        ("a space in a name", "X A: b\r\n", "", vec![400]),
        ("an empty name", ": b\r\n", "", vec![400]),
        ("Expect of something else", "Expect: a miracle\r\nContent-Length: 2\r\n", "{}", vec![400, 417]),
    ] {
        let answers = raw(&gateway, post(headers, body).as_bytes());
        assert_eq!(answers.len(), 1, "{name}: {:?}", answers.iter().map(|a| (a.status, a.text())).collect::<Vec<_>>());
        assert!(statuses.contains(&answers[0].status), "{name}: {} {}", answers[0].status, answers[0].text());
        assert_eq!(answers[0].header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"), "{name}");
        let code = answers[0].status;
        assert_eq!(answers[0].json()["status"], code, "{name}: the error shape: {}", answers[0].text());
        assert_well(&mut gateway, name);
    }
    assert_same_size(before, gateway.stat(), 4096, "all of them");
}

#[test]
fn heads_that_are_none_are_refused() {
    let mut gateway = gateway();
    let before = gateway.settled();
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(101));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "x".repeat(20_000));
    let long_header = format!("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (name, bytes, statuses) in [
        ("no HTTP", &b"hello\r\n\r\n"[..], vec![400]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", vec![400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", vec![400, 505]),
        ("HTTP/0.9", b"GET /health\r\n\r\n", vec![400, 505]),
        ("HTTP/1.2", b"GET /health HTTP/1.2\r\nHost: 127.0.0.1\r\n\r\n", vec![200, 400, 505]),
        ("HTTP/3", b"GET /health HTTP/3.0\r\nHost: 127.0.0.1\r\n\r\n", vec![400, 505]),
        ("no path", b"GET  HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", vec![400]),
        ("a NUL in the path", b"GET /\0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", vec![400]),
        ("a broken escape", b"GET /api/messages/%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", vec![400, 401, 404]),
        ("an odd method", b"G\x01T /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", vec![400]),
        ("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", vec![400, 403, 404, 405, 501]),
        ("no Host", b"GET /health HTTP/1.1\r\n\r\n", vec![400]),
        ("many headers", many.as_bytes(), vec![431]),
        ("a long path", long_path.as_bytes(), vec![414, 431]),
        ("a long header", long_header.as_bytes(), vec![431]),
        ("newlines alone", b"\r\n\r\n\r\n\r\n", vec![]),
        ("nothing", b"", vec![]),
    ] {
        let mut connection = Connection::open(gateway.port).unwrap();
        connection.patience(Duration::from_secs(3));
        let _ = connection.send(bytes);
        connection.finish();
        let answer = connection.answer().unwrap_or(None);
        match answer {
            Some(answer) => assert!(statuses.contains(&answer.status) || statuses.is_empty(), "{name}: {}", answer.status),
            None => assert!(statuses.is_empty(), "{name}: closed without an answer"),
        }
        assert_well(&mut gateway, name);
    }
    assert_same_size(before, gateway.stat(), 4096, "all of them");
}

/// TH3 and TH4: a head without end is refused early.
#[test]
fn a_head_without_end_costs_nothing() {
    let mut gateway = gateway();
    let before = gateway.settled();
    for (name, piece) in [("TH3", "x".repeat(64 * 1024)), ("TH4", "a: b\r\n".repeat(10_000))] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ");
        let mut sent = 0;
        while sent < 100 << 20 {
            match stream.write(piece.as_bytes()) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        assert!(sent < 16 << 20, "{name}: it took {sent} bytes of a head");
        assert_same_size(before, gateway.stat(), 4096, name);
        assert_well(&mut gateway, name);
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let mut gateway = gateway();
    let before = gateway.settled();
    let chunked = format!(
        "POST /webhook/default HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut connection = Connection::open(gateway.port).unwrap();
    connection.send(chunked).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..2000 {
        if connection.send(&chunk).is_err() {
            break;
        }
    }
    if let Ok(Some(answer)) = connection.answer() {
        assert_eq!(answer.status, 413);
    }
    assert_same_size(before, gateway.stat(), 6144, "an endless chunked body");
    assert_well(&mut gateway, "an endless chunked body");
    let exact = format!("{{\"userId\":\"ana\",\"message\":\"{}\"}}", "x".repeat(1 << 20));
    let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Content-Type", "application/json").body(exact);
    match call.attempt() {
        Ok(answer) => drop(answer.expect_error(413, "payload_too_large")),
        Err(e) => assert!(matches!(e.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{e}"),
    }
    assert_well(&mut gateway, "a long body");
}

#[test]
fn all_of_them_again_and_again() {
    let _alone = heavy();
    let mut gateway = gateway();
    let inputs: [&[u8]; 6] = [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: identity\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ",
    ];
    let mut before = gateway.settled();
    for round in 0..from_env("GATELET_DOOR_ROUNDS", 200) {
        for input in inputs {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
            let _ = stream.write_all(input);
            if round % 2 == 0 {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
                let _ = stream.read(&mut [0u8; 1024]);
            }
        }
        if round == 20 {
            before = gateway.stat(); // warm by now
        }
    }
    assert_well(&mut gateway, "all of section 1");
    assert_same_size(before, gateway.stat(), 4096, "all of section 1");
}
