//! Heads as raw bytes: what passes, and with which status the rest is refused, however the bytes are cut.
//!
//! Invariant: each case is fed whole and byte by byte, and both must agree.

use super::*;

const MAX: usize = 16 * 1024;

/// Scans `input` in steps of `step` bytes, then parses.
fn read(input: &[u8], step: usize, max: usize) -> Option<Result<Parsed, u16>> {
    let mut scan = Scan::default();
    let mut seen = 0;
    loop {
        seen = (seen + step).min(input.len());
        match scan.next(&input[..seen], max) {
            Scanned::More if seen == input.len() => return None,
            Scanned::More => {}
            Scanned::Bad(status) => return Some(Err(status)),
            Scanned::End { start, end } => return Some(parse(&input[start..end])),
        }
    }
}

fn check(input: impl AsRef<[u8]>, expected: Option<Result<(), u16>>) -> Option<Parsed> {
    let input = input.as_ref();
    let whole = read(input, input.len(), MAX);
    assert_eq!(read(input, 1, MAX), whole, "byte by byte: {}", String::from_utf8_lossy(input));
    let outcome = whole.as_ref().map(|r| r.as_ref().map(|_| ()).map_err(|e| *e));
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
    assert_eq!(outcome, expected, "{shown:?}");
    whole.and_then(Result::ok)
}

fn refused(status: u16, heads: &[&str]) {
    for head in heads {
        check(head, Some(Err(status)));
    }
}

#[test]
fn what_passes() {
    let parsed = check("GET /a/b?c=d&e HTTP/1.1\r\nHost: pi:8787\r\nX-A:  1 \t\r\nx-a: \r\n\r\n", Some(Ok(()))).unwrap();
    assert_eq!((parsed.method.as_str(), parsed.path.as_str(), parsed.query.as_deref()), ("GET", "/a/b", Some("c=d&e")));
    let names: Vec<_> = parsed.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(names, ["host=pi:8787", "x-a=1", "x-a="]);
    assert_eq!((parsed.framing, parsed.persist, parsed.expect), (Framing::Empty, Persist::Keep, Expect::Nothing));
    for (head, method, path) in [
        ("GET / HTTP/1.0\r\n\r\n", "GET", "/"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*"),
        ("GET http://A:1/x?y HTTP/1.1\r\nHost: a:1\r\n\r\n", "GET", "/x"),
        ("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT", "/"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "TRACE", "/"),
        ("brew /pot HTTP/1.1\r\nHost: a\r\n\r\n", "brew", "/pot"),
        ("GET //a/../b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "//a/../b"),
        ("GET /x://y HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n", "GET", "/x://y"),
    ] {
        let parsed = check(head, Some(Ok(()))).unwrap();
        assert_eq!((parsed.method.as_str(), parsed.path.as_str()), (method, path), "{head:?}");
    }
    let latin = check(b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n", Some(Ok(()))).unwrap();
    assert_eq!(latin.headers[1].1, "café");
}

#[test]
fn framing_of_the_body() {
    for (lines, framing) in [
        ("", Ok(Framing::Empty)),
        ("Content-Length: 0\r\n", Ok(Framing::Empty)),
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("Content-Length: 0005\r\n", Ok(Framing::Length(5))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(400)),
        ("Content-Length: 99999999999999999999999999\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: +36x\r\n", Err(400)),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length: \r\n", Err(400)),
        ("Content-Length: ５\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: chunked, identity\r\n", Err(501)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(400)),
        ("Transfer-Encoding: \r\n", Err(400)),
        ("Transfer-Encoding: ,chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: identity\r\nContent-Length: 36\r\n", Err(400)),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let parsed = check(&head, Some(framing.map(|_| ())));
        assert_eq!(parsed.map(|p| p.framing), framing.ok(), "{lines:?}");
    }
    refused(400, &["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"]);
}

#[test]
fn the_connection_and_the_expectation() {
    for (version, lines, persist) in [
        ("1.1", "", Persist::Keep),
        ("1.1", "Connection: close\r\n", Persist::Close),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", Persist::Close),
        ("1.1", "Connection: x\r\nConnection: close\r\n", Persist::Close),
        ("1.1", "Connection: closed\r\n", Persist::Keep),
        ("1.0", "", Persist::Close),
        ("1.0", "Connection: keep-alive\r\n", Persist::KeepTold),
        ("1.0", "Connection: keep-alive, close\r\n", Persist::Close),
    ] {
        let parsed = check(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"), Some(Ok(()))).unwrap();
        assert_eq!(parsed.persist, persist, "{version} {lines:?}");
    }
    for (version, lines, expect) in [
        ("1.1", "", Expect::Nothing),
        ("1.1", "Expect: 100-Continue\r\n", Expect::Continue),
        ("1.1", "Expect: 200-ok\r\n", Expect::Other),
        ("1.1", "Expect: \r\n", Expect::Other),
        ("1.1", "Expect: 100-continue\r\nExpect: more\r\n", Expect::Other),
        ("1.0", "Expect: 100-continue\r\n", Expect::Nothing),
    ] {
        let parsed = check(format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"), Some(Ok(()))).unwrap();
        assert_eq!(parsed.expect, expect, "{version} {lines:?}");
    }
}

#[test]
fn what_is_not_strict_is_refused() {
    refused(
        400,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:+1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [x]:1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.0\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTQ/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1\r\nHost: a\r\n\r\n",
            "GET / HTTP/11\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tfolded\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\u{e4}: 1\r\n\r\n",
            "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\n",
            "\x16\x03\x01\x02\0\x01", // a TLS hello
        ],
    );
    refused(
        505,
        &[
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ],
    );
}

#[test]
fn what_is_not_whole_waits() {
    for head in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        assert_eq!(read(head.as_bytes(), 1, MAX), None, "{head:?}");
    }
}

#[test]
fn bounds() {
    let head = |line: usize, header: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "u".repeat(line), "v".repeat(header))
    };
    let rest = head(0, 0).len();
    check(head(0, MAX - rest), Some(Ok(())));
    check(head(0, MAX - rest + 1), Some(Err(431)));
    check(head(0, 100_000), Some(Err(431)));
    let line = "GET / HTTP/1.1\r\n".len();
    check(head(LINE_MAX - line, 0), Some(Ok(())));
    check(head(LINE_MAX - line + 1, 0), Some(Err(414)));
    check("A".repeat(100_000), Some(Err(414)));
    for (count, expected) in [(HEADERS_MAX - 1, Ok(())), (HEADERS_MAX, Err(431)), (5_000, Err(431))] {
        check(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(count)), Some(expected));
    }
    // With a head smaller than the request line's own bound, that smaller one holds for the line too.
    assert_eq!(read(head(600, 0).as_bytes(), 1, 512), Some(Err(414)));
    assert_eq!(read(head(100, 600).as_bytes(), 1, 512), Some(Err(431)));
}
