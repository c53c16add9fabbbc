//! The client against peers that misbehave in every way that has been seen.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::*;
use crate::net::scripted::{Scripted, answer, hang, pause, reset};

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(500);

fn deadlines() -> Deadlines {
    Deadlines { connect: SECOND, send: SECOND, first_byte: QUICK, read: QUICK, total: None }
}

/// GETs from `peer` and reads the body; the body or the error.
fn fetch(peer: &Scripted) -> Result<String> {
    let client = Client::new(2);
    let call = Call::get(peer.url("/secret-path?key=canary"), deadlines()).bearer(&Secret::new("canary-0123456789"));
    let mut reply = client.send(&call)?.accepted()?;
    Ok(String::from_utf8_lossy(&reply.read_all(64 * 1024)?).into_owned())
}

#[track_caller]
fn check(peer: Scripted, kind: ErrorKind, says: &str) {
    let begun = Instant::now();
    let error = fetch(&peer).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains(says), "{shown}");
    assert!(!shown.contains("canary") && !shown.contains("secret-path"), "{shown}");
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
}

#[test]
fn statuses_become_kinds() {
    let throttled = |s| ErrorKind::Throttled(Some(Duration::from_secs(s)));
    for (status, extra, kind) in [
        ("408 Request Timeout", "", ErrorKind::Transient),
        ("500 Internal Server Error", "", ErrorKind::Transient),
        ("502 Bad Gateway", "", ErrorKind::Transient),
        ("503 Service Unavailable", "", ErrorKind::Transient),
        ("503 Service Unavailable", "Retry-After: 7\r\n", throttled(7)),
        ("429 Too Many Requests", "Retry-After: 30\r\n", throttled(30)),
        ("429 Too Many Requests", "Retry-After: never\r\n", ErrorKind::Throttled(None)),
        (
            "429 Too Many Requests",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
            throttled(60),
        ),
        ("401 Unauthorized", "", ErrorKind::Denied),
        ("403 Forbidden", "", ErrorKind::Denied),
        ("400 Bad Request", "", ErrorKind::Permanent),
        ("404 Not Found", "", ErrorKind::Permanent),
        ("410 Gone", "", ErrorKind::Permanent),
    ] {
        let body = r#"{"error":{"message":"no\nwith canary-0123456789"}}"#;
        let text = format!("HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n{body}", body.len());
        let says = format!("answered {}: no with ***", &status[..3]);
        check(Scripted::says(text), kind, &says);
    }
}

#[test]
fn peers_that_break() {
    use ErrorKind::{Permanent, Timeout, Transient};
    check(Scripted::says(""), Transient, "broke the connection off");
    check(Scripted::says("\x16\x03\x01garbage\r\n\r\n"), Transient, "does not answer in HTTP");
    check(Scripted::says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Transient, "broke the connection off");
    check(Scripted::says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), Transient, "broke");
    check(
        Scripted::says("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n".to_string() + &"x".repeat(70_000)),
        Permanent,
        "more than",
    );
    check(Scripted::says(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000))), Permanent, "head beyond");
    check(Scripted::says(answer("502 Bad", "text/html", "<html>canary</html>")), Transient, "(a web page)");
    check(
        Scripted::new(|_, _, _| {
            hang();
            false
        }),
        Timeout,
        "did not begin to answer",
    );
    check(
        Scripted::new(|_, _, s| {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
            hang();
            false
        }),
        Timeout,
        "fell silent",
    );
    check(
        Scripted::new(|_, _, s| {
            reset(s);
            false
        }),
        Transient,
        "broke the connection off",
    );
}

#[test]
fn nobody_there() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, kind, says) in [
        (format!("http://user:canary@{closed}/"), ErrorKind::Transient, "refused the connection"),
        ("http://name.invalid/canary".to_string(), ErrorKind::Transient, "can't be resolved"),
        ("ftp://127.0.0.1/canary".to_string(), ErrorKind::Permanent, "can't be put into HTTP"),
        ("canary".to_string(), ErrorKind::Permanent, "can't be put into HTTP"),
    ] {
        let d = Deadlines { connect: 10 * SECOND, ..deadlines() };
        let error = Client::new(1).send(&Call::get(url, d)).err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.text.contains(says) && !error.text.contains("canary"), "{error}");
    }
    let broken = Call::get(format!("http://{closed}/"), deadlines()).bearer(&Secret::new("canary\r\nX-Evil: 1"));
    let error = Client::new(1).send(&broken).err().unwrap();
    assert_eq!((error.kind, error.to_string().contains("canary")), (ErrorKind::Permanent, false), "{error}");
}

#[test]
fn tls_against_a_peer_that_speaks_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        pause(1000);
    });
    let error = Client::new(1).send(&Call::get(format!("https://{addr}/"), deadlines())).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Permanent, "{error:?}");
    assert!(error.to_string().contains("no trusted TLS connection") && error.hint.contains("clock"), "{error}");
}

#[test]
fn a_redirect_is_not_followed_and_the_canary_gets_nothing() {
    let canary = Scripted::says(answer("200 OK", "text/plain", "stolen"));
    for status in [301, 302, 303, 307, 308] {
        let text = format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", canary.url("/?canary"));
        check(Scripted::says(text), ErrorKind::Permanent, &format!("redirects to http://{}", canary.addr));
    }
    assert_eq!(canary.connections(), 0);
}

#[test]
fn a_gigabyte_of_error_is_not_read() {
    let peer = Scripted::new(|_, _, s| {
        let _ = s.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 1073741824\r\n\r\n");
        let mut sent = 0usize;
        while sent < 1 << 30 && s.write_all(&[b'x'; 65536]).is_ok() {
            sent += 65536;
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
        false
    });
    let refused = Client::new(1).send(&Call::get(peer.url("/"), deadlines())).unwrap().accepted().err().unwrap();
    assert_eq!((refused.status, refused.body.len()), (500, 4096));
    assert!(refused.error.text.len() < 300, "{}", refused.error);
}

#[test]
fn an_error_body_that_drips_does_not_hold_the_call() {
    let peer = Scripted::new(|_, _, s| {
        let _ = s.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 4000\r\n\r\n");
        while s.write_all(b"x").is_ok() {
            pause(50);
        }
        false
    });
    let begun = Instant::now();
    let refused = Client::new(1).send(&Call::get(peer.url("/"), deadlines())).unwrap().accepted().err().unwrap();
    assert_eq!(refused.status, 500);
    assert!(begun.elapsed() < 10 * SECOND);
}

#[test]
fn the_total_deadline_cuts_a_dripping_answer() {
    let peer = Scripted::new(|_, _, s| {
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n");
        while s.write_all(b"x").is_ok() {
            pause(20);
        }
        false
    });
    let d = Deadlines { total: Some(2 * QUICK), ..deadlines() };
    let mut reply = Client::new(1).send(&Call::get(peer.url("/"), d)).unwrap();
    assert_eq!(reply.read_all(8192).err().unwrap().kind, ErrorKind::Timeout);
}

#[test]
fn the_first_byte_and_the_next_ones_have_their_own_deadlines() {
    let serve = || {
        Scripted::new(|_, _, s| {
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap();
            pause(500);
            s.write_all(b"a").unwrap();
            pause(500);
            let _ = s.write_all(b"b");
            true
        })
    };
    for (first_ms, read_ms, got) in [(100, 5000, 0), (5000, 100, 1), (5000, 5000, 2)] {
        let peer = serve();
        let (first_byte, read) = (Duration::from_millis(first_ms), Duration::from_millis(read_ms));
        let mut reply = Client::new(1).send(&Call::get(peer.url("/"), Deadlines { first_byte, read, ..deadlines() })).unwrap();
        let mut read = 0;
        while let Ok(n) = reply.read(&mut [0; 16]) {
            read += n;
            if n == 0 {
                break;
            }
        }
        assert_eq!(read, got, "first byte {first_ms} ms, read {read_ms} ms");
    }
}

#[test]
fn connections_are_used_again_and_a_stale_one_is_replaced() {
    let peer = Scripted::new(|number, _, s| {
        if number == 2 {
            return false; // closes the idle connection at the very request that takes it
        }
        s.write_all(answer("200 OK", "text/plain", "ok").as_bytes()).unwrap();
        true
    });
    let client = Client::new(2);
    for i in 0..4 {
        let mut reply = client.send(&Call::get(peer.url("/"), deadlines())).unwrap_or_else(|e| panic!("{i}: {e}"));
        assert_eq!(reply.read_all(16).unwrap(), b"ok");
    }
    assert_eq!((peer.connections(), peer.seen().len()), (2, 5));
    assert!(peer.seen()[0].header("user-agent").unwrap().starts_with("gatelet/"));
}

#[test]
fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let peer = Scripted::says("");
    assert!(Client::new(2).send(&Call::post_json(peer.url("/"), "{}", deadlines())).is_err());
    assert_eq!(peer.seen().len(), 1);
}

#[test]
fn an_interrupt_cuts_what_blocks_and_refuses_what_comes() {
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nx"] {
        let peer = Scripted::new(move |_, _, s| {
            s.write_all(head.as_bytes()).unwrap();
            hang();
            false
        });
        let client = Client::new(1);
        let d = Deadlines { first_byte: 60 * SECOND, read: 60 * SECOND, ..deadlines() };
        let call = Call::get(peer.url("/"), d);
        let took = std::thread::scope(|s| {
            let blocked = s.spawn(|| {
                let result = client.send(&call).and_then(|mut r| r.read_all(100));
                (result.err().unwrap().kind, Instant::now())
            });
            while peer.seen().is_empty() {
                pause(1);
            }
            pause(50);
            let begun = Instant::now();
            client.interrupt();
            let (kind, ended) = blocked.join().unwrap();
            assert_eq!(kind, ErrorKind::Stopped, "{head:?}");
            ended - begun
        });
        assert!(took < SECOND, "{head:?}: {took:?}");
        assert_eq!(client.send(&call).err().unwrap().kind, ErrorKind::Stopped);
    }
}

#[test]
fn over_a_unix_socket() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let client = Client::unix(&path);
    let call = Call::new(Method::PUT, "http://localhost/api/x", deadlines()).json("{}");
    assert_eq!(client.send(&call).err().unwrap().kind, ErrorKind::Transient, "nobody listens");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        for _ in 0..2 {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "PUT /api/x HTTP/1.1\r\n");
            while line.trim() != "{}" {
                line.clear();
                let byte = reader.fill_buf().unwrap();
                let end = byte.iter().position(|b| *b == b'\n').map_or(byte.len(), |i| i + 1);
                line = String::from_utf8(byte[..end].to_vec()).unwrap();
                reader.consume(end);
            }
            (&stream).write_all(answer("200 OK", "application/json", "{\"ok\":true}").as_bytes()).unwrap();
        }
        pause(2000);
    });
    for _ in 0..2 {
        let mut reply = client.send(&call).unwrap();
        assert_eq!((reply.status(), reply.content_type().as_str()), (200, "application/json"));
        assert_eq!(reply.read_all(100).unwrap(), b"{\"ok\":true}");
    }
    assert_eq!(client.send(&call).err().unwrap().kind, ErrorKind::Timeout, "a server that falls silent");
    server.join().unwrap();
}

#[test]
fn retry_after_and_dates() {
    let now = 784_111_777; // 1994-11-06 08:49:37
    for (value, seconds) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("99999999999999999999999", Some(u64::from(u32::MAX))),
        ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400 - 784_111_777)),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ] {
        assert_eq!(fault::retry_after(value, now).map(|d| d.as_secs()), seconds, "{value:?}");
    }
}

#[test]
fn origins_hold_no_secret() {
    for (url, shown) in [
        ("https://a.example:8443/v1?key=1#x", "https://a.example:8443"),
        ("http://user:pass@a.example/x", "http://a.example"),
        ("http://user:p@ss@a.example?x=1", "http://a.example"),
        ("nonsense", "the configured address"),
    ] {
        assert_eq!(origin(url), shown);
    }
}

/// Answers the first request in peace, and does `second` to the next one, on the same connection if the client likes.
fn second(second: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |n, _, stream| match n {
        0 => stream.write_all(answer("200 OK", "application/json", "{}").as_bytes()).is_ok(),
        _ => second(stream),
    })
}

#[test]
fn what_must_not_be_done_twice_goes_to_the_wire_once() {
    let call = |peer: &Scripted| Call::post_json(peer.url("/"), "{}", deadlines());
    let prepared = |peer: &Scripted| {
        let client = Client::new(2);
        client.send(&call(peer)).unwrap().read_all(9).unwrap();
        client
    };
    // The peer ends an idle connection just as the next request arrives there: it may have acted on it.
    let broken = || second(|_| false);
    let (plain, once) = (broken(), broken());
    assert_eq!(prepared(&plain).send(&call(&plain)).err().unwrap().kind, ErrorKind::Transient);
    assert_eq!(plain.seen().len(), 3, "what may be repeated is");
    assert_eq!(prepared(&once).send(&call(&once).once()).err().unwrap().kind, ErrorKind::Unclear);
    assert_eq!(once.seen().len(), 2);

    type Second = fn(&mut TcpStream) -> bool;
    let cut = |stream: &mut TcpStream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").is_err();
    let table: [(&str, Second, ErrorKind); 7] = [
        (
            "reset",
            |s| {
                reset(s);
                false
            },
            ErrorKind::Unclear,
        ),
        (
            "silent",
            |_| {
                pause(1500);
                false
            },
            ErrorKind::Unclear,
        ),
        ("cut off in the answer", cut, ErrorKind::Unclear),
        ("500", |s| s.write_all(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").is_ok(), ErrorKind::Unclear),
        ("503", |s| s.write_all(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n").is_ok(), ErrorKind::Transient),
        ("429", |s| s.write_all(b"HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n").is_ok(), ErrorKind::Throttled(None)),
        ("400", |s| s.write_all(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n").is_ok(), ErrorKind::Permanent),
    ];
    for (what, does, kind) in table {
        let peer = second(does);
        let client = prepared(&peer);
        let told = client.send(&call(&peer).once()).and_then(|r| r.accepted()?.read_all(99));
        assert_eq!(told.unwrap_err().kind, kind, "{what}");
        assert_eq!(peer.seen().len(), 2, "{what}");
    }
    // Nothing left: nobody listens, or TLS fails in its handshake (which waits for an answer, too).
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = Call::post_json(format!("http://127.0.0.1:{port}/"), "{}", deadlines()).once();
    assert_eq!(Client::new(1).send(&refused).err().unwrap().kind, ErrorKind::Transient);
    let mute = Scripted::says("HTTP/1.1 200 OK\r\n\r\n");
    let tls = Call::post_json(mute.url("/").replace("http:", "https:"), "{}", deadlines()).once();
    assert_ne!(Client::new(1).send(&tls).err().unwrap().kind, ErrorKind::Unclear);
}

#[test]
fn a_send_that_the_gateway_itself_cuts_short_may_have_arrived() {
    let peer = Scripted::new(|_, _, _| {
        hang();
        false
    });
    for (is_once, kind) in [(true, ErrorKind::Unclear), (false, ErrorKind::Stopped)] {
        let client = Arc::new(Client::new(1));
        let slow = Deadlines { first_byte: 10 * SECOND, ..deadlines() };
        let call = Call::post_json(peer.url("/"), "{}", slow);
        let call = if is_once { call.once() } else { call };
        let (own, before) = (client.clone(), peer.seen().len());
        let sender = std::thread::spawn(move || own.send(&call).err().unwrap().kind);
        while peer.seen().len() == before {
            pause(5);
        }
        pause(50);
        client.interrupt();
        assert_eq!(sender.join().unwrap(), kind);
    }
}
