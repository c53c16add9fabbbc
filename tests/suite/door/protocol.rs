//! HTTP/1.1 as it is meant: keep-alive, pipelining, HEAD, Expect, chunked bodies.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{assert_same_size, assert_well, gateway};
use crate::support::gateway::ADMIN;
use crate::support::http::Connection;
use crate::support::percentile;

#[test]
fn keep_alive_pipelining_and_head_are_as_http_says() {
    let gateway = gateway();
    let mut connection = Connection::open(gateway.port).unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    for _ in 0..50 {
        connection.send(request("/health")).unwrap();
        connection.answer().unwrap().expect("an answer").expect(200);
    }
    // Many at once, the slow one (a commit) among them: answered in the order in which they were asked.
    let body = json!({"userId": "ana", "message": "hi"}).to_string();
    let post = format!(
        "POST /webhook/default HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut pipelined = String::new();
    for _ in 0..10 {
        pipelined.push_str(&request("/health"));
        pipelined.push_str(&post);
        pipelined.push_str(&request("/nope"));
    }
    connection.send(&pipelined).unwrap();
    for n in 0..30 {
        let answer = connection.answer().unwrap().unwrap_or_else(|| panic!("closed before answer {n}"));
        assert_eq!(answer.status, [200, 202, 404][n % 3], "answer {n}");
    }
    // HEAD: the same head, no body, and the connection is in step.
    connection.send("HEAD /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let head = connection.answer_to("HEAD").unwrap().expect("an answer").expect(200);
    assert!(head.header("content-length").is_some_and(|l| l != "0"), "{:?}", head.headers);
    connection.send(request("/health")).unwrap();
    connection.answer().unwrap().expect("an answer").expect(200);
    connection.send("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(connection.answer().unwrap().expect("an answer").header("connection"), Some("close"));
    assert!(connection.closed_within(Duration::from_secs(2)));
    let mut old = Connection::open(gateway.port).unwrap();
    old.send("GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    old.answer().unwrap().expect("an answer").expect(200);
    assert!(old.closed_within(Duration::from_secs(2)), "HTTP/1.0 closes unless asked");
}

#[test]
fn pipelining_without_reading_is_bounded() {
    let mut gateway = gateway();
    let before = gateway.settled();
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let batch = "GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(1000);
    let mut sent = 0usize;
    while sent < 64 << 20 {
        match stream.write(batch.as_bytes()) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 32 << 20, "it read {sent} bytes ahead");
    assert_same_size(before, gateway.stat(), 8192, "pipelining");
    assert_well(&mut gateway, "pipelining");
}

#[test]
fn bodies_come_in_pieces() {
    let gateway = gateway();
    let head = format!(
        "POST /webhook/default?wait=10000 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
    );
    let body = json!({"userId": "ana", "message": "in pieces"}).to_string();
    // Expect: the body comes when it is asked for.
    let mut connection = Connection::open(gateway.port).unwrap();
    connection.send(format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len())).unwrap();
    assert_eq!(connection.line().unwrap().as_deref(), Some("HTTP/1.1 100 Continue"));
    connection.line().unwrap();
    connection.send(&body).unwrap();
    assert_eq!(connection.answer().unwrap().expect("an answer").expect(200).field("reply"), "echo: in pieces");
    // … and is not asked for where it is refused.
    let mut refused = Connection::open(gateway.port).unwrap();
    refused.send("POST /api/message HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n").unwrap();
    assert!(refused.line().unwrap().is_some_and(|l| l.starts_with("HTTP/1.1 401")));
    // Chunked, with an extension and a trailer, then a second request on the same connection.
    let (first, second) = body.split_at(7);
    let chunks = format!("{:x};ext=1\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nX-Trailer: 1\r\n\r\n", first.len(), second.len());
    connection.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}")).unwrap();
    assert_eq!(connection.answer().unwrap().expect("an answer").expect(200).field("reply"), "echo: in pieces");
    // Byte by byte.
    let whole = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    for byte in whole.as_bytes() {
        connection.send([*byte]).unwrap();
    }
    assert_eq!(connection.answer().unwrap().expect("an answer").expect(200).field("reply"), "echo: in pieces");
}

#[test]
fn an_answer_is_one_prompt_write() {
    let gateway = gateway();
    let mut connection = Connection::open(gateway.port).unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        connection.send("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        connection.answer().unwrap().expect("an answer");
        times.push(began.elapsed());
    }
    let median = percentile(&mut times, 50);
    assert!(median < Duration::from_millis(15), "a delayed acknowledgement would show as 40 ms: {median:?}");
}
