//! Which `Host` and `Origin` a request may name: what keeps other web pages from speaking to the gateway through a browser.
//!
//! Invariant: a name that somebody else could make point here (DNS rebinding) passes only where it is configured. What is not
//! plainly a host with an optional port is refused: no user information, no blanks, no trailing dot, no shortened address. At most
//! [`ANSWERS_MAX`] answers of the system are remembered. Where the system can't answer, an address is refused.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::base::cache::Cache;
use crate::base::clock::Clock;

/// The most addresses of which it is remembered whether they are ours.
pub const ANSWERS_MAX: usize = 64;
/// How long that is remembered: addresses come and go with networks.
const ANSWER_TTL: Duration = Duration::from_secs(60);
const NAME_BYTES_MAX: usize = 253;

/// A host as a header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// An address; an IPv4 in IPv6 clothes is the IPv4.
    Ip(IpAddr),
    /// A name, in lower case.
    Name(String),
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; `None` for anything else.
fn parse(authority: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (Host::Ip(IpAddr::V6(address.parse().ok()?)), if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (name, port) = authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port)));
            (name.parse().map(|v4| Host::Ip(IpAddr::V4(v4))).ok().or_else(|| name_of(name))?, port)
        }
    };
    let host = if let Host::Ip(ip) = host { Host::Ip(ip.to_canonical()) } else { host };
    // `u16::from_str` takes a sign, too.
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port {
        None => Some((host, None)),
        Some(port) => Some((host, Some(Some(port).filter(digits)?.parse().ok()?))),
    }
}

fn name_of(text: &str) -> Option<Host> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let labels = text.len() <= NAME_BYTES_MAX && text.split('.').all(label);
    // A last label of digits makes browsers read an address (`127.1`, `2130706433`): no name.
    let address_like = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (labels && !address_like).then(|| Host::Name(text.to_ascii_lowercase()))
}

/// The check of `Host`.
#[derive(Debug)]
pub struct HostCheck {
    listen: IpAddr,
    /// `allowedHosts`: with a port, that port alone.
    allowed: Vec<(Host, Option<u16>)>,
    /// The names of this machine.
    names: Vec<String>,
    ours: Cache<bool>,
}

impl HostCheck {
    /// The check for a gateway that listens on `listen`, with the configured `allowed` hosts; an entry that is no host allows
    /// nothing.
    pub fn new(listen: SocketAddr, allowed: &[String], clock: Clock) -> Self {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self::of(listen, allowed, &node, clock)
    }

    fn of(listen: SocketAddr, allowed: &[String], node: &str, clock: Clock) -> Self {
        let allowed = allowed.iter().filter_map(|entry| parse(entry)).collect();
        HostCheck { listen: listen.ip().to_canonical(), allowed, names: names_of(node), ours: Cache::new(ANSWERS_MAX, clock) }
    }

    /// Whether a request that reached our address `local` may name this `Host`: loopback names and addresses, addresses and names
    /// of this machine, the listen address, and what is configured. Its port is not compared, but it must be one.
    pub fn allows(&self, host_header: &str, local: IpAddr) -> bool {
        let Some((host, port)) = parse(host_header) else { return false };
        let listed = |(allowed, its_port): &(Host, Option<u16>)| *allowed == host && (its_port.is_none() || *its_port == port);
        if self.allowed.iter().any(listed) {
            return true;
        }
        match host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
            Host::Ip(ip) => ip.is_loopback() || ip == local.to_canonical() || ip == self.listen || self.is_ours(ip),
        }
    }

    /// Whether an address is one of this machine's: one that a socket can be bound to.
    fn is_ours(&self, ip: IpAddr) -> bool {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return false; // they can be bound to as well
        }
        let bound = || match UdpSocket::bind((ip, 0)) {
            Ok(_) => Ok((true, ANSWER_TTL)),
            Err(e) if e.kind() == ErrorKind::AddrNotAvailable => Ok((false, ANSWER_TTL)),
            Err(e) => Err(e), // out of descriptors, say: not remembered
        };
        self.ours.get(&ip.to_string(), bound).unwrap_or(false)
    }
}

/// What this machine is called: its host name and that name's first part, each with and without `.local`.
fn names_of(node: &str) -> Vec<String> {
    let Some(Host::Name(node)) = name_of(node) else { return Vec::new() };
    let bare = node.strip_suffix(".local").unwrap_or(&node);
    let first = bare.split('.').next().unwrap_or(bare);
    let mut names = vec![bare, first];
    names.dedup();
    names.iter().flat_map(|name| [name.to_string(), format!("{name}.local")]).collect()
}

/// Whether a browser's `Origin` may use the gateway: the request's own host (by http or https, the same port), or one of the
/// configured `allowed`. `null` (a sandboxed page, a file) never.
pub fn origin_allowed(origin: &str, host_header: &str, allowed: &[String]) -> bool {
    if origin.eq_ignore_ascii_case("null") {
        return false;
    }
    // Origins of other schemes (an extension's, say) are compared as they are written.
    let same = |entry: &String| {
        let entry = entry.strip_suffix('/').unwrap_or(entry);
        entry.eq_ignore_ascii_case(origin) || web_origin(origin).is_some_and(|o| Some(o) == web_origin(entry))
    };
    if allowed.iter().any(same) {
        return true;
    }
    let (Some(origin), Some((own, own_port))) = (web_origin(origin), parse(host_header)) else { return false };
    origin.host == own && origin.port == own_port.unwrap_or(origin.scheme_port)
}

/// An origin of http or https.
#[derive(PartialEq, Eq)]
struct WebOrigin {
    /// The port of its scheme: 80 or 443.
    scheme_port: u16,
    host: Host,
    port: u16,
}

fn web_origin(origin: &str) -> Option<WebOrigin> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme_port = match scheme {
        s if s.eq_ignore_ascii_case("http") => 80,
        s if s.eq_ignore_ascii_case("https") => 443,
        _ => return None,
    };
    let (host, port) = parse(authority)?;
    Some(WebOrigin { scheme_port, host, port: port.unwrap_or(scheme_port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HostCheck {
        let allowed = ["gate.example.com", "behind.example.com:8443", "203.0.113.9", "no host/"].map(String::from);
        HostCheck::of("192.0.2.1:8787".parse().unwrap(), &allowed, "Raspberry", Clock::manual(0))
    }

    #[test]
    fn hosts() {
        let check = check();
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8787", true),
            ("app.localhost:1", true),
            ("127.0.0.1:8787", true),
            ("127.9.8.7", true),
            ("[::1]", true),
            ("[::1]:8787", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("198.51.100.7:8787", true), // the address it reached
            ("[::ffff:198.51.100.7]", true),
            ("192.0.2.1", true), // the listen address
            ("raspberry", true),
            ("RASPBERRY.local:8787", true),
            ("gate.example.com", true),
            ("Gate.Example.com:443", true),
            ("behind.example.com:8443", true),
            ("behind.example.com", false),
            ("behind.example.com:80", false),
            ("203.0.113.9:1", true),
            ("evil.example", false),
            ("evil.example:8787", false),
            ("gate.example.com.evil.example", false),
            ("evilgate.example.com", false),
            ("sub.gate.example.com", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("raspberry.evil.example", false),
            ("198.51.100.8", false),
            ("8.8.8.8:8787", false),
            ("[2001:db8::7]", false),
            ("0.0.0.0", false),
            ("[::]", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("[ff02::1]", false),
            ("no host/", false),
        ] {
            assert_eq!(check.allows(host, "198.51.100.7".parse().unwrap()), expected, "{host:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ":",
            ":8787",
            "localhost:",
            "localhost:x",
            "localhost:+80",
            "localhost:-1",
            "localhost:65536",
            "localhost:80:80",
            "localhost.",
            ".localhost",
            "local..host.localhost",
            "user@localhost",
            "user:pass@localhost",
            " localhost",
            "localhost ",
            "local	host",
            "localhost/",
            "localhost?x",
            "localhost#x",
            "http://localhost",
            "localhost,evil.example",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[127.0.0.1]",
            "[fe80::1%lo]",
            "[localhost]",
            "*",
            "lo*alhost",
            "löcalhost",
            "localhost\0",
            "localhost\n",
        ] {
            assert!(!check().allows(host, "127.0.0.1".parse().unwrap()), "{host:?}");
        }
        let long = format!("{}localhost", "a.".repeat(200));
        assert!(!check().allows(&long, "127.0.0.1".parse().unwrap()), "longer than any name");
    }

    #[test]
    fn names_of_this_machine() {
        for (node, expected) in [
            ("pi", "pi pi.local"),
            ("Pi.local", "pi pi.local"),
            ("pi.home.lan", "pi.home.lan pi.home.lan.local pi pi.local"),
            ("(none)", ""),
            ("", ""),
        ] {
            assert_eq!(names_of(node).join(" "), expected, "{node}");
        }
        let real = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let check = HostCheck::new("127.0.0.1:8787".parse().unwrap(), &[], Clock::manual(0));
        for name in names_of(&real) {
            assert!(check.allows(&name, "127.0.0.1".parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn addresses_of_this_machine_are_remembered_within_a_bound() {
        let check = check();
        let foreign = "198.51.100.1".parse().unwrap();
        // Whatever addresses this machine has: one that a route would leave by is ours.
        let route = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("198.51.100.7:9").and_then(|()| s.local_addr()));
        if let Ok(own) = route {
            assert!(check.allows(&own.ip().to_string(), foreign), "{own}");
        }
        for i in 0..=255 {
            assert!(!check.allows(&format!("203.0.113.{i}"), foreign) || i == 9, "{i}");
        }
        assert!(check.ours.len() <= ANSWERS_MAX, "{}", check.ours.len());
    }

    #[test]
    fn origins() {
        let allowed = ["https://panel.example", "http://other.example:8080/", "app-scheme://abc", "null"].map(String::from);
        for (origin, host, expected) in [
            ("http://gate:8787", "gate:8787", true),
            ("https://gate:8787", "gate:8787", true),
            ("http://gate", "gate", true),
            ("https://gate", "gate", true),
            ("https://gate", "gate:443", true),
            ("http://gate:80", "gate", true),
            ("HTTP://GATE:8787", "gate:8787", true),
            ("http://[::1]:8787", "[::1]:8787", true),
            ("http://127.0.0.1:8787", "127.0.0.1:8787", true),
            ("https://panel.example", "gate:8787", true),
            ("https://panel.example:443", "gate:8787", true),
            ("http://other.example:8080", "gate:8787", true),
            ("app-scheme://abc", "gate:8787", true),
            ("http://panel.example", "gate:8787", false),
            ("https://panel.example:444", "gate:8787", false),
            ("https://panel.example.evil.example", "gate:8787", false),
            ("http://gate:8788", "gate:8787", false),
            ("http://gate", "gate:8787", false),
            ("https://gate", "gate:80", false),
            ("http://localhost:8787", "127.0.0.1:8787", false),
            ("https://evil.example", "gate:8787", false),
            ("ws://gate:8787", "gate:8787", false),
            ("http://gate:8787/", "gate:8787", false),
            ("http://user@gate:8787", "gate:8787", false),
            ("http://gate:8787 http://evil.example", "gate:8787", false),
            ("null", "null", false),
            ("NULL", "gate:8787", false),
            ("", "", false),
            ("http://", "", false),
            ("gate:8787", "gate:8787", false),
            ("http://a b", "a b", false),
        ] {
            assert_eq!(origin_allowed(origin, host, &allowed), expected, "{origin:?} at {host:?}");
        }
    }
}
