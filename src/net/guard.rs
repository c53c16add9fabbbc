//! What an address that somebody else chose may lead to: public hosts alone.
//!
//! Invariant: [`is_public`] says yes to what is surely globally routed unicast and no to everything else: every block of IANA's
//! special-purpose registries, and every form in which an IPv4 address hides in an IPv6 one. The address that is connected to
//! is asked about, never the name. [`Target`] holds no credentials and no ambiguous host. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address that is called.
pub const URL_BYTES_MAX: usize = 2048;
const HOST_BYTES_MAX: usize = 253;

/// Blocks of IPv4 that are no public unicast: IANA's special-purpose registry, multicast and the reserved rest.
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // shared by carriers
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local: metadata services of clouds
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 31, 196, 0], 24), // AS112
    ([192, 52, 193, 0], 24), // AMT
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([192, 175, 48, 0], 24), // AS112
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// Blocks within 2000::/3 that are no public unicast. What lies outside of 2000::/3 never is (loopback, mapped and compatible IPv4,
/// discard-only, SRv6, unique local, link- and site-local, multicast), but for NAT64.
const SPECIAL_V6: &[([u16; 3], u32)] = &[
    ([0x2001, 0, 0], 23),         // protocol assignments: Teredo, ORCHID, benchmarks
    ([0x2001, 0xdb8, 0], 32),     // documentation
    ([0x2002, 0, 0], 16),         // 6to4
    ([0x2620, 0x4f, 0x8000], 48), // AS112
    ([0x3fff, 0, 0], 20),         // documentation
    ([0x3ffe, 0, 0], 16),         // 6bone, given back
];

/// Whether an address is surely a public host's.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let within = |(block, bits): &([u8; 4], u32)| ip.to_bits() >> (32 - bits) == u32::from_be_bytes(*block) >> (32 - bits);
    !SPECIAL_V4.iter().any(within)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(Ipv4Addr::from_bits(ip.to_bits() as u32)); // NAT64: a network without IPv4 reaches public hosts so
    }
    let within = |(block, bits): &([u16; 3], u32)| {
        let block = Ipv6Addr::new(block[0], block[1], block[2], 0, 0, 0, 0, 0);
        ip.to_bits() >> (128 - bits) == block.to_bits() >> (128 - bits)
    };
    let isatap = s[4] & !0x0200 == 0 && s[5] == 0x5efe; // an IPv4 address as the interface's id
    s[0] & 0xe000 == 0x2000 && !isatap && !SPECIAL_V6.iter().any(within)
}

/// Ports from 1024 on behind which other services than the web's listen: a request there might be taken for a command.
const OTHER_SERVICES: &[u16] = &[
    1080, 1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672,
    5900, 5984, 6000, 6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 9200, 10080, 10250, 11211, 27017,
];

fn is_web_port(port: u16) -> bool {
    matches!(port, 80 | 443) || port >= 1024 && !OTHER_SERVICES.contains(&port)
}

/// Where a call goes: an `http` or `https` address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host, with the port where one is written, in lower case.
    authority: String,
    /// From `/` on, without a fragment.
    path: String,
}

impl Target {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// A sentence, which does not repeat the address.
    pub fn parse(url: &str) -> Result<Target, &'static str> {
        if url.len() > URL_BYTES_MAX {
            return Err("the address is too long");
        }
        if !url.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'\\') {
            return Err(
                "the address has blanks, backslashes, control characters or characters beyond ASCII; percent-encode them",
            );
        }
        let (scheme, rest) = url.split_once("://").ok_or("not a web address; expected http:// or https:// and a host")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("only http:// and https:// can be read"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("an address with a user or password in it is not read");
        }
        check_host(authority)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Target { tls, authority: authority.to_ascii_lowercase(), path: format!("{slash}{path}") })
    }

    /// The address that a `Location` header leads to from here.
    ///
    /// # Errors
    /// As [`Target::parse`]; a way from `https` to `http` is none.
    pub fn join(&self, location: &str) -> Result<Target, &'static str> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        let is_absolute = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
        let url = if is_absolute {
            location.to_string()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority)
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let folder = match location.chars().next() {
                None => &self.path,
                Some('?') => path,
                Some(_) => &path[..=path.rfind('/').unwrap_or(0)],
            };
            format!("{scheme}://{}{folder}{location}", self.authority)
        };
        let target = Target::parse(&url)?;
        if self.tls && !target.tls { Err("it leads from https to http") } else { Ok(target) }
    }

    /// The whole address.
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }
}

/// Checks that a host is one in a form that everybody reads alike, and its port one of the web's.
fn check_host(authority: &str) -> Result<(), &'static str> {
    const NONE: &str = "no valid host stands after ://";
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(NONE)?;
            address.parse::<Ipv6Addr>().map_err(|_| NONE)?;
            (None, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(NONE)?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(authority), None),
        },
    };
    if let Some(port) = port {
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|_| digits).ok_or("the port of the address is none")?;
        if !is_web_port(port) {
            return Err("that port is not one of the web's");
        }
    }
    let Some(host) = host else { return Ok(()) };
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if host.len() > HOST_BYTES_MAX || !host.split('.').all(label) {
        return Err(NONE); // a trailing dot, too: it slips past comparisons of names
    }
    // What the system would read as an address: 127.1, 2130706433, 0177.0.0.1, 0x7f.1
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("write an address of a machine as four decimal numbers");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
