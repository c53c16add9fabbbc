//! Cutting one call short while others go on.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use super::*;
use crate::base::cancel::Why;
use crate::net::scripted::{Scripted, answer, hang, pause};

const MINUTE: Duration = Duration::from_secs(60);
/// Generous for a busy machine; every deadline of a call is a minute.
const SOON: Duration = Duration::from_millis(500);

fn call(url: String, cancel: &Cancel) -> Call {
    let d = Deadlines { connect: MINUTE, send: MINUTE, first_byte: MINUTE, read: MINUTE, total: None };
    Call::get(url, d).cancel(cancel)
}

/// Runs `work` on a thread of its own, sets `cancel` once `is_blocked`, and gives the error.
#[track_caller]
fn cut(cancel: &Cancel, is_blocked: impl Fn() -> bool, work: impl FnOnce() -> Result<()> + Send) -> Error {
    std::thread::scope(|s| {
        let blocked = s.spawn(|| (work().expect_err("cut short"), Instant::now()));
        while !is_blocked() {
            pause(1);
        }
        pause(30);
        let begun = Instant::now();
        cancel.set(Why::Asked);
        let (error, ended) = blocked.join().unwrap();
        assert!(ended - begun < SOON, "{:?}: {error}", ended - begun);
        assert_eq!(error.kind, ErrorKind::Stopped, "{error}");
        error
    })
}

#[test]
fn a_call_that_hangs_before_and_in_its_answer() {
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nx", "HTTP/1.1 500 No\r\n\r\nx"] {
        let peer = Scripted::new(move |_, _, s| {
            s.write_all(head.as_bytes()).unwrap();
            hang();
            false
        });
        let (client, cancel) = (Client::new(2), Cancel::new());
        let error = cut(
            &cancel,
            || !peer.seen().is_empty(),
            || client.send(&call(peer.url("/"), &cancel))?.accepted()?.read_all(100).map(drop),
        );
        assert!(error.text.contains("was cut short") && !error.text.contains("stopping"), "{error}");
        // Set already: nothing is sent.
        assert_eq!(client.send(&call(peer.url("/"), &cancel)).err().unwrap().kind, ErrorKind::Stopped);
        assert_eq!(peer.connections(), 1);
    }
}

#[test]
fn a_pooled_connection_is_cut_and_never_used_again_and_the_others_go_on() {
    let peer = Scripted::new(|_, seen, s| {
        if seen.line.contains("/hang") {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap();
            hang();
        }
        s.write_all(answer("200 OK", "text/plain", "ok").as_bytes()).is_ok()
    });
    let (client, cancel, other) = (Client::new(4), Cancel::new(), Cancel::new());
    let fetch = |cancel| client.send(&call(peer.url("/"), cancel)).and_then(|mut r| r.read_all(9)).unwrap();
    fetch(&other);
    fetch(&cancel);
    assert_eq!(peer.connections(), 1, "pooled");
    cut(&cancel, || peer.seen().len() == 3, || client.send(&call(peer.url("/hang"), &cancel))?.read_all(9).map(drop));
    assert_eq!(peer.connections(), 1, "the pooled connection was the one in use");
    assert_eq!(fetch(&other), b"ok");
    assert_eq!(peer.connections(), 2, "the cut one is gone");
    // A cancellation that comes after its call is over does nothing to the connection.
    let late = Cancel::new();
    fetch(&late);
    late.set(Why::Asked);
    fetch(&other);
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_peer_that_takes_no_more_of_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (client, cancel) = (Client::new(1), Cancel::new());
    let (tx, rx) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || tx.send(listener.accept().unwrap()).map(|()| pause(300)));
    let call = Call { method: Method::POST, body: Some(vec![b'x'; 32 << 20]), ..call(url, &cancel) };
    cut(&cancel, || rx.try_recv().map(std::mem::forget).is_ok(), || client.send(&call).map(drop));
    server.join().unwrap().unwrap();
}

#[test]
fn a_handshake_that_never_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let (client, cancel) = (Client::new(1), Cancel::new());
    let accepted = std::sync::Mutex::new(None);
    let is_blocked = || {
        let mut accepted = accepted.lock().unwrap();
        *accepted = Some(listener.accept().unwrap());
        true
    };
    cut(&cancel, is_blocked, || client.send(&call(url, &cancel)).map(drop));
}

/// A listener whose queue of connections is full: the next SYN is not answered.
fn deaf() -> (rustix::fd::OwnedFd, Vec<rustix::fd::OwnedFd>, SocketAddr) {
    use rustix::net::*;
    // CLOEXEC: tests beside this one start programs and look at what these inherited.
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&fd, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    let fill = (0..4)
        .map(|_| {
            let one =
                socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None).unwrap();
            let _ = connect(&one, &address);
            one
        })
        .collect();
    (fd, fill, address)
}

#[test]
fn a_peer_that_does_not_take_the_connection() {
    let (_listener, _fill, address) = deaf();
    let (client, cancel) = (Client::new(1), Cancel::new());
    let begun = Instant::now();
    cut(&cancel, || begun.elapsed() > SOON, || client.send(&call(format!("http://{address}/"), &cancel)).map(drop));
    // Without a cancellation its deadline holds.
    let short = Deadlines { connect: SOON, ..call(String::new(), &cancel).deadlines };
    let error = client.send(&Call::get(format!("http://{address}/"), short)).err().unwrap();
    assert!(error.kind == ErrorKind::Timeout && error.text.contains("did not take the connection"), "{error}");
}

#[test]
fn calls_cut_at_any_moment_neither_hang_nor_spoil_the_pool() {
    let peer = Scripted::new(|_, _, s| {
        s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").unwrap();
        pause(1);
        s.write_all(b"cd").is_ok()
    });
    let client = Client::new(4);
    let (mut cuts, mut whole) = (0, 0);
    for round in 0..120u64 {
        let cancel = Cancel::new();
        let stopper = cancel.clone();
        let pauses = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 29 % 2900));
            stopper.set(Why::Asked);
        });
        match client.send(&call(peer.url("/"), &cancel)).and_then(|mut r| r.read_all(100)) {
            Ok(body) => {
                assert_eq!(body, b"abcd");
                whole += 1;
            }
            Err(e) => {
                assert_eq!(e.kind, ErrorKind::Stopped, "{e}");
                cuts += 1;
            }
        }
        pauses.join().unwrap();
        assert_eq!(client.send(&call(peer.url("/"), &Cancel::new())).unwrap().read_all(100).unwrap(), b"abcd", "round {round}");
    }
    assert!(cuts > 5, "{cuts} cut, {whole} whole");
}
