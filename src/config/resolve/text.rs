//! Texts with a form: listen addresses, hosts, origins, networks, web addresses, JSON Pointers.
//!
//! Invariant: pure; what is refused is answered with a sentence, which does not repeat it (a password may stand in a web address).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address and a port to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // Repeated only where it looks like an address: a secret may have been put here by mistake.
    let like_one =
        text.len() <= 24 && text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'*' | b'[' | b']'));
    let found = if like_one { format!("{text:?}") } else { "another text".into() };
    let wrong = |hint: &str| Err(format!("found {found}, expected an address and a port; {hint}"));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (text, None),
    };
    match (host, port) {
        ("localhost", Some(port)) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        ("" | "*", Some(port)) => wrong(&format!("127.0.0.1:{port} is for this machine alone, 0.0.0.0:{port} for the network")),
        _ if text.parse::<u16>().is_ok() => {
            wrong(&format!("127.0.0.1:{text} is for this machine alone, 0.0.0.0:{text} for the network"))
        }
        _ if text.parse::<IpAddr>().is_ok() => wrong("the port is missing, as in 127.0.0.1:8787 or [::1]:8787"),
        (host, Some(port)) if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => wrong(&format!("write [{host}]:{port}")),
        ("localhost", None) => wrong("write localhost:8787"),
        (_, Some(_)) => wrong("a name is none; write the address itself"),
        (_, None) => wrong("as in 127.0.0.1:8787"),
    }
}

/// A user's id, as the document's own names of users are.
pub(super) fn user_id(text: &str) -> Result<String, &'static str> {
    let good = (1..=256).contains(&text.len()) && !text.trim().is_empty() && !text.chars().any(char::is_control);
    if good { Ok(text.to_string()) } else { Err("not an id; expected 1 to 256 bytes without control characters") }
}

/// A host, with or without a port, in lower case.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    let text = text.to_ascii_lowercase();
    let v6 = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, rest) = match v6 {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest),
        Some(_) => ("", ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let port = rest.is_empty() || rest.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    if (1..=253).contains(&name.len()) && name.bytes().all(plain) && port {
        Ok(text)
    } else {
        Err("not a host; expected a name or an address, as in gateway.example or 192.168.1.5:8787")
    }
}

/// An origin, in lower case.
pub(super) fn origin(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "not an origin; expected scheme and host without a path, as in https://panel.example";
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('/').unwrap_or(&text);
    let (scheme, rest) = text.split_once("://").ok_or(WRONG)?;
    let known = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !known || host(rest).is_err() { Err(WRONG) } else { Ok(text.to_string()) }
}

/// An address, or a block of them in CIDR form.
pub(super) fn network(text: &str) -> Result<String, &'static str> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let bits_max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err("not an address or network; expected 192.168.1.5 or 10.0.0.0/8"),
    };
    match bits.map(str::parse::<u8>) {
        None => Ok(text.to_string()),
        Some(Ok(bits)) if bits <= bits_max => Ok(text.to_string()),
        Some(_) => Err("not a network; the number after / is too large or none"),
    }
}

/// A web address without a slash at its end.
pub(super) fn url(text: &str) -> Result<String, &'static str> {
    if !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Err("not a web address; it has blanks, control characters or characters beyond ASCII");
    }
    let (scheme, rest) = text.split_once("://").ok_or("not a web address; expected http:// or https:// and a host")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err("not a web address; expected http:// or https://");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a user and password in a web address are shown wherever it is; use a key of type secret");
    }
    if host(authority).is_err() {
        return Err("not a web address; no valid host stands after ://");
    }
    if rest.contains('#') {
        return Err("not an address to call; leave out what begins with #");
    }
    Ok(text.trim_end_matches('/').to_string())
}

/// A JSON Pointer (RFC 6901) to a part of a document.
pub(super) fn pointer(text: &str) -> Result<String, &'static str> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if text.starts_with('/') && escapes {
        Ok(text.to_string())
    } else {
        Err("not a JSON Pointer; expected a path that begins with /, as in /comment/body")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for (text, ok) in [
            ("127.0.0.1:8787", Ok("127.0.0.1:8787")),
            ("localhost:0", Ok("127.0.0.1:0")),
            ("[::1]:80", Ok("[::1]:80")),
            (":8787", Err("0.0.0.0:8787 for the network")),
            ("*:8787", Err("0.0.0.0:8787 for the network")),
            ("8787", Err("127.0.0.1:8787 is for this machine")),
            ("127.0.0.1", Err("port is missing")),
            ("::1:8787", Err("port is missing")), // reads as an address
            ("fe80:0:0:0:0:0:0:1:80", Err("[fe80:0:0:0:0:0:0:1]:80")),
            ("::1", Err("port is missing")),
            ("localhost", Err("localhost:8787")),
            ("pi.local:8787", Err("a name is none")),
            ("127.0.0.1:99999", Err("as in")),
            ("http://127.0.0.1:80", Err("a name is none")),
            ("", Err("as in")),
        ] {
            match (listen(text), ok) {
                (Ok(got), Ok(want)) => assert_eq!(got.to_string(), want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, expected {want:?}"),
            }
        }
    }

    fn check(read: fn(&str) -> Result<String, &'static str>, cases: &[(&str, Option<&str>)]) {
        for (text, want) in cases {
            assert_eq!(read(text).ok().as_deref(), *want, "{text:?}");
        }
    }

    #[test]
    fn forms() {
        check(
            host,
            &[
                ("Pi.Local", Some("pi.local")),
                ("10.0.0.1:80", Some("10.0.0.1:80")),
                ("[::1]:80", Some("[::1]:80")),
                ("", None),
                ("a b", None),
                ("a/b", None),
                ("a:b", None),
                ("[x]", None),
                ("*", None),
            ],
        );
        check(
            origin,
            &[
                ("https://Panel.example/", Some("https://panel.example")),
                ("http://[::1]:80", Some("http://[::1]:80")),
                ("null", None),
                ("*", None),
                ("https://a/b", None),
                ("://a", None),
            ],
        );
        check(
            network,
            &[
                ("10.0.0.0/8", Some("10.0.0.0/8")),
                ("::1", Some("::1")),
                ("10.0.0.0/33", None),
                ("10.0.0.0/", None),
                ("lan", None),
            ],
        );
        check(
            url,
            &[
                ("http://127.0.0.1:8080/v1/", Some("http://127.0.0.1:8080/v1")),
                ("HTTPS://a.example/hook?x=1", Some("HTTPS://a.example/hook?x=1")),
                ("ftp://a", None),
                ("http://", None),
                ("http:///x", None),
                ("http://u:p@a/", None),
                ("http://a/#x", None),
                ("http://a b/", None),
                ("http://a:99999/", None),
                ("a.example", None),
                ("http://a/\r\nX: 1", None),
            ],
        );
        check(pointer, &[("/a/b~0~1", Some("/a/b~0~1")), ("", None), ("a", None), ("/a~2", None), ("/a~", None)]);
    }
}
