//! A connection's steps, fed whole and in pieces of every size.
//!
//! Invariant: how the bytes are cut never changes what is understood.

use super::*;

fn limits() -> Limits {
    Limits {
        max_connections: 8,
        max_websockets: 8,
        max_header_bytes: 1024,
        max_body_bytes: 1024,
        request_timeout: Duration::from_millis(1000),
        idle_timeout: Duration::from_millis(5000),
        max_memory: 0,
        max_attachment_bytes: 0,
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Feeds `input` in pieces of `piece` bytes to a connection whose every request is answered at once, and tells what it saw.
fn play(input: &[u8], piece: usize, body_max: usize) -> Vec<String> {
    let (mut conn, limits, mut seen) = (Conn::new(ms(0)), limits(), Vec::new());
    for part in input.chunks(piece) {
        conn.feed(part, ms(1));
        loop {
            match conn.next(&limits) {
                Step::Wait => break,
                Step::Refuse(status) => {
                    seen.push(format!("refuse {status}"));
                    return seen;
                }
                Step::Head(head) => {
                    seen.push(format!("{} {}", head.method, head.path));
                    if head.framing == Framing::Empty {
                        conn.answered(ms(1));
                    } else if let Err(status) = conn.read_body(head.framing, body_max, ms(1)) {
                        seen.push(format!("refuse {status}"));
                        return seen;
                    }
                }
                Step::Body(body) => {
                    seen.push(format!("body {}", String::from_utf8_lossy(&body)));
                    conn.answered(ms(1));
                }
            }
        }
    }
    if !conn.is_idle() {
        seen.push("waits".to_string());
    }
    seen
}

fn check(input: &str, expected: &[&str]) {
    for piece in 1..=input.len() {
        assert_eq!(play(input.as_bytes(), piece, 10), expected, "{input:?} in pieces of {piece}");
    }
}

#[test]
fn requests_one_behind_the_other() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = |lines: &str, body: &str| format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
    check(&get("/a"), &["GET /a"]);
    check(&(get("/a") + &get("/b") + &get("/c")), &["GET /a", "GET /b", "GET /c"]);
    check(&(post("Content-Length: 5\r\n", "hello") + &get("/b")), &["POST /p", "body hello", "GET /b"]);
    check(&(post("Content-Length: 0\r\n", "") + &get("/b")), &["POST /p", "GET /b"]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    check(&(post(chunked, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n") + &get("/b")), &["POST /p", "body hello", "GET /b"]);
    check(&(post(chunked, "0\r\nX: y\r\n\r\n") + &get("/b")), &["POST /p", "body ", "GET /b"]);
    check(&post("Content-Length: 5\r\n", "hell"), &["POST /p", "waits"]);
    check("GET /a HTTP/1.1\r\nHo", &["waits"]);
}

#[test]
fn what_is_refused_ends_the_reading() {
    let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head, expected) in [
        ("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", &["POST /p", "refuse 413"][..]),
        ("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n", &["POST /p", "refuse 413"]),
        ("POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n", &["POST /p", "refuse 413"]),
        ("POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello6\r\n", &["POST /p", "refuse 400"]),
        ("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", &["refuse 400"]),
        ("GET /p HTTP/3.0\r\n\r\n", &["refuse 505"]),
    ] {
        check(&format!("{head}{rest}"), expected);
    }
}

#[test]
fn deadlines_are_totals() {
    let limits = limits();
    let mut conn = Conn::new(ms(0));
    let at = |conn: &Conn| conn.deadline(&limits).map(|(at, expiry)| (at.as_millis() as u64, expiry));
    assert_eq!(at(&conn), Some((1000, Expiry::Close)), "one that never says anything");
    conn.feed(b"POST /p ", ms(700));
    assert_eq!(at(&conn), Some((1700, Expiry::Refuse)), "a head, from its first byte");
    conn.feed(b"HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n", ms(1600));
    assert_eq!(at(&conn), Some((1700, Expiry::Refuse)), "which later bytes don't lengthen");
    conn.feed(b"\r\n", ms(1650));
    assert!(matches!(conn.next(&limits), Step::Head(_)));
    assert_eq!(at(&conn), None, "being planned");
    conn.read_body(Framing::Length(4), 4, ms(1650)).unwrap();
    assert_eq!(at(&conn), Some((2650, Expiry::Refuse)), "the body has its own");
    conn.feed(b"ab", ms(2000));
    assert!(matches!(conn.next(&limits), Step::Wait));
    assert_eq!(at(&conn), Some((2650, Expiry::Refuse)));
    conn.feed(b"cdGET", ms(2100));
    assert!(matches!(conn.next(&limits), Step::Body(b) if b == b"abcd"));
    conn.write_later(b"answer".to_vec(), 2, After::Keep, ms(3000));
    assert_eq!((conn.unwritten(), at(&conn)), (&b"swer"[..], Some((4000, Expiry::Close))));
    assert_eq!((conn.wrote(3, ms(3500)), at(&conn)), (None, Some((4500, Expiry::Close))), "progress gives time");
    assert_eq!((conn.wrote(0, ms(3900)), at(&conn)), (None, Some((4500, Expiry::Close))), "its absence doesn't");
    assert_eq!(conn.wrote(1, ms(4000)), Some(After::Keep));
    conn.answered(ms(4000));
    assert_eq!(at(&conn), Some((5000, Expiry::Refuse)), "the next head has begun already");
    conn.linger(ms(4100));
    assert_eq!(at(&conn), Some((5100, Expiry::Lingered)));
    let mut idle = Conn::new(ms(0));
    idle.answered(ms(10));
    assert_eq!(at(&idle), Some((5010, Expiry::Close)), "between two requests");
}

#[test]
fn who_yields_its_place() {
    let limits = limits();
    let mut conn = Conn::new(ms(5));
    assert_eq!(conn.yields(), Some((ms(5), false)));
    conn.feed(b"GET / HTTP/1.1\r\n", ms(7));
    assert_eq!(conn.yields(), Some((ms(7), false)));
    conn.feed(b"Host: a\r\n\r\n", ms(8));
    assert!(matches!(conn.next(&limits), Step::Head(_)));
    assert_eq!((conn.yields(), conn.is_busy()), (None, true));
    conn.answered(ms(9));
    assert_eq!(conn.yields(), Some((ms(9), true)));
    conn.read_body(Framing::Length(2), 2, ms(10)).unwrap();
    conn.feed(b"a", ms(10));
    assert_eq!(conn.yields(), Some((ms(10), true)));
    conn.write_later(b"a".to_vec(), 0, After::Keep, ms(10));
    assert_eq!(conn.yields(), None);
    conn.linger(ms(11));
    assert_eq!(conn.yields(), Some((ms(11), false)));
    conn.feed(&[0; LINGER_BYTES], ms(12));
    assert!(conn.has_lingered());
}

#[test]
fn an_idle_connection_keeps_no_buffer() {
    let (mut conn, limits) = (Conn::new(ms(0)), limits());
    conn.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ms(0));
    assert!(matches!(conn.next(&limits), Step::Head(_)));
    conn.answered(ms(0));
    assert_eq!((conn.input.capacity(), conn.is_idle()), (0, true));
    assert!(size_of::<Conn>() <= 160, "{}", size_of::<Conn>());
}
