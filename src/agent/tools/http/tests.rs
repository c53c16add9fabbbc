//! `http.get` against servers that mislead and misbehave, and a canary on loopback that nobody may reach.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::agent::tools::support_tests::Around;
use crate::net::scripted::{Scripted, answer, pause};

const SECOND: Duration = Duration::from_secs(1);

/// The tool, for which the ports of `peers` on loopback are public, with a second for each call.
fn tool(peers: &[&Scripted]) -> HttpGet {
    let open: Vec<_> = peers.iter().map(|p| p.addr).collect();
    HttpGet::over(Client::guarded_by(1, Arc::new(move |address| open.contains(&address))), SECOND)
}

fn get(tool: &HttpGet, url: &str) -> Result<String> {
    Around::new().call(tool, json!({"url": url}))
}

fn says(content_type: &str, body: &str) -> Scripted {
    Scripted::says(answer("200 OK", content_type, body))
}

/// G1 to G4, G6, G7, G9: however it is written, nothing on this machine is reached; by the tool's check of the address as it is
/// written, and by the client's check of the address that is connected to, each by itself.
#[test]
fn nothing_here_is_reached() {
    let canary = says("text/plain", "canary");
    let port = canary.addr.port();
    let (tool, client) = (HttpGet::new(), Client::guarded(1));
    let hosts = [
        "127.0.0.1",
        "127.0.0.2",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "user@127.0.0.1",
        "good.example@127.0.0.1",
        "good.example:80@127.0.0.1",
        "127.0.0.1#@good.example",
        "127.0.0.1\\.good.example",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "%31%32%37.0.0.1",
    ];
    for host in hosts {
        for url in [
            format!("http://{host}:{port}/"),
            format!("https://{host}:{port}/x?y=http://good.example"),
            format!("http:{host}:{port}/"),
        ] {
            let error = get(&tool, &url).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Transient), "{url}: {error:?}");
            let call = Call::get(&url, Deadlines::within(SECOND, SECOND));
            assert!(client.send(&call).is_err(), "{url}");
        }
    }
    for url in [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "unix:///run/x",
        "",
        "http://",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00::1]/",
        "http://10.0.0.1/",
    ] {
        assert!(matches!(get(&tool, url).unwrap_err().kind, ErrorKind::Denied | ErrorKind::Invalid), "{url}");
    }
    assert_eq!(canary.connections(), 0);
    let refused = get(&tool, &canary.url("/secret")).unwrap_err();
    assert_eq!(
        (refused.kind, refused.text.contains("no public host"), refused.text.contains("secret")),
        (ErrorKind::Denied, true, false)
    );
}

/// G8: each hop is checked anew.
#[test]
fn redirects() {
    let canary = says("text/plain", "canary");
    let peer = Scripted::new(|_, seen, stream| {
        let path = seen.line.split(' ').nth(1).unwrap().to_string();
        let head = match path.as_str() {
            "/plain" => answer("200 OK", "text/plain", "there"),
            "/none" => "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_string(),
            to => {
                let to = to.replacen("/to?", "", 1);
                let next = to.strip_prefix("n=").map(|n| format!("/to?n={}", n.parse::<u32>().unwrap().saturating_sub(1)));
                let next = if to == "n=0" { "/plain".into() } else { next.unwrap_or(to) };
                format!("HTTP/1.1 302 Found\r\nLocation: {next}\r\nContent-Length: 2\r\n\r\nno")
            }
        };
        stream.write_all(head.as_bytes()).is_ok()
    });
    let tool = tool(&[&peer]);
    let to = |location: &str| get(&tool, &peer.url(&format!("/to?{location}")));
    for location in ["/plain", "plain", "n=0", "n=1", &format!("//{}/plain", peer.addr), &peer.url("/plain")] {
        let found = to(location).unwrap();
        assert_eq!(found, format!("200 {}\ntext/plain\n\nthere", peer.url("/plain")), "{location}");
    }
    for (location, kind, words) in [
        ("n=3", ErrorKind::Permanent, "more than 3 redirects"),
        ("/to?/plain/../none", ErrorKind::Permanent, "more than 3 redirects"),
        (&canary.url("/"), ErrorKind::Denied, "no public host"),
        ("http://169.254.169.254/latest/", ErrorKind::Denied, "no public host"),
        ("http://localhost./", ErrorKind::Denied, "not followed"),
        ("http://x@127.0.0.1/", ErrorKind::Denied, "not followed"),
        ("file:///etc/passwd", ErrorKind::Denied, "not followed"),
        ("http://127.1/", ErrorKind::Denied, "not followed"),
        (&format!("https://localhost:{}/", canary.addr.port()), ErrorKind::Denied, "no public host"),
    ] {
        let error = to(location).unwrap_err();
        assert_eq!((error.kind, error.text.contains(words)), (kind, true), "{location}: {error}");
    }
    assert_eq!(get(&tool, &peer.url("/none")).unwrap_err().text, format!("http://{} redirects to nowhere", peer.addr));
    assert_eq!(canary.connections(), 0);
    for seen in peer.seen() {
        for header in ["authorization", "cookie", "referer", "proxy-authorization"] {
            assert_eq!(seen.header(header), None, "{seen:?}");
        }
    }
}

#[test]
fn what_is_given_back() {
    for (content_type, body, expected) in [
        ("text/plain", "a\u{1b}[1m\u{0}\r\n\tb ü", "a[1m\n\tb ü"),
        ("text/html; charset=utf-8", "<title>T</title><script>x</script><p>a &amp; b", "T\na & b"),
        ("application/json", "{\"a\": 1}", "{\"a\": 1}"),
        ("application/problem+json", "{}", "{}"),
        ("application/atom+xml", "<a>b</a>", "<a>b</a>"),
        ("image/png", "\u{89}PNG", "[not a text: image/png, 5 bytes]"),
        ("image/svg+xml", "<svg>", "[not a text: image/svg+xml, 5 bytes]"),
        ("application/octet-stream", "x", "[not a text: application/octet-stream, 1 bytes]"),
        ("application/pdf", "", "[not a text: application/pdf, 0 bytes]"),
        ("text/plain", "", ""),
    ] {
        let peer = says(content_type, body);
        let found = get(&tool(&[&peer]), &peer.url("/x?y#z")).unwrap();
        assert_eq!(found, format!("200 http://{}/x?y\n{content_type}\n\n{expected}", peer.addr), "{content_type}");
    }
    let latin = Scripted::says(
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=\"ISO-8859-1\"\r\nContent-Length: 2\r\n\r\n\xe9\xff"
            .to_vec(),
    );
    let found = get(&tool(&[&latin]), &latin.url("/")).unwrap();
    assert!(found.starts_with("404 ") && found.ends_with("\n\néÿ"), "a status is an answer: {found}");
    for (body, expected) in [("words", "words"), ("<!doctype html><p>a<p>b", "a\nb"), ("a\0b", "[not a text: 3 bytes or more]")] {
        let bare = Scripted::says(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"));
        let found = get(&tool(&[&bare]), &bare.url("/")).unwrap();
        assert_eq!(found, format!("200 {}\nno content type\n\n{expected}", bare.url("/")));
    }
}

#[test]
fn bounds() {
    let long = says("text/plain", &"ü".repeat(10_000));
    let found = get(&tool(&[&long]), &long.url("/")).unwrap();
    assert!(found.len() <= OUTPUT_BYTES_MAX && found.ends_with("[cut: 13312 bytes of more]"), "{}", found.len());
    // Endless: reading ends at its bound, not at the deadline.
    let endless = Scripted::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>begin");
        while stream.write_all(&[b' '; 4096]).is_ok() {}
        false
    });
    let begun = Instant::now();
    let found = get(&HttpGet::over(Client::guarded_by(1, Arc::new(|_| true)), 30 * SECOND), &endless.url("/")).unwrap();
    assert!(found.ends_with("begin\n[cut: only the first 262144 bytes were read]"), "{found}");
    assert!(begun.elapsed() < 15 * SECOND);
}

/// A byte now and then, in the head or in the body: the deadline holds for all of it.
#[test]
fn slow_servers() {
    for head in ["HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"] {
        let peer = Scripted::new(move |_, _, stream| {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(b"x").is_ok() {
                pause(100);
            }
            false
        });
        let begun = Instant::now();
        let error = get(&tool(&[&peer]), &peer.url("/")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    }
    // A turn that ends sooner than the tool's own time.
    let peer = Scripted::new(|_, _, _| {
        pause(3000);
        false
    });
    let around = Around { turn: Duration::from_millis(100), ..Around::new() };
    let begun = Instant::now();
    assert_eq!(around.call(&tool(&[&peer]), json!({"url": peer.url("/")})).unwrap_err().kind, ErrorKind::Timeout);
    assert!(begun.elapsed() < SECOND);
}

#[test]
fn a_cancelled_call_begins_nothing() {
    let peer = says("text/plain", "x");
    let around = Around::new();
    around.cancel.set(crate::base::cancel::Why::Asked);
    assert_eq!(around.call(&tool(&[&peer]), json!({"url": peer.url("/")})).unwrap_err().kind, ErrorKind::Stopped);
    assert_eq!(peer.connections(), 0);
}
