//! Which address a request counts for.
//!
//! Invariant: what a client says about its own address (`X-Forwarded-For`) counts only where the peer is a proxy that the
//! configuration trusts, and then only as far as trusted proxies vouch for it. It cannot fail: what can't be read is ignored.

use std::net::IpAddr;

use crate::net::http::{Head, Peer};

/// A block of addresses, as `trustedProxies` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    base: IpAddr,
    bits: u32,
}

impl Block {
    /// Reads `10.0.0.0/8`, `::1`, `192.168.1.7`.
    pub fn parse(text: &str) -> Option<Block> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let base: IpAddr = ip.trim().parse::<IpAddr>().ok()?.to_canonical();
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |b| b.trim().parse().ok()).filter(|b| *b <= width)?;
        Some(Block { base, bits })
    }

    /// Whether `ip` lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shift = |width: u32| width - self.bits;
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(a).checked_shr(shift(32)) == u32::from(b).checked_shr(shift(32)),
            (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a).checked_shr(shift(128)) == u128::from(b).checked_shr(shift(128)),
            _ => false,
        }
    }
}

/// The address that a request counts for: the peer's, or behind trusted proxies the last one that they did not add themselves.
/// `None` on the local socket.
pub fn client_address(head: &Head, trusted: &[Block]) -> Option<IpAddr> {
    let Peer::Tcp { ip, .. } = head.peer else { return None };
    let is_trusted = |ip: IpAddr| trusted.iter().any(|b| b.contains(ip));
    let mut address = ip;
    if !is_trusted(ip) {
        return Some(address);
    }
    let values = head.headers.iter().filter(|(n, _)| n == "x-forwarded-for").map(|(_, v)| v.as_str());
    for hop in values.collect::<Vec<_>>().join(",").rsplit(',') {
        match hop.trim().parse::<IpAddr>() {
            Ok(hop) => address = hop.to_canonical(),
            Err(_) => break,
        }
        if !is_trusted(address) {
            break;
        }
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(ip: &str, forwarded: &[&str]) -> Head {
        Head {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: forwarded.iter().map(|v| ("x-forwarded-for".into(), v.to_string())).collect(),
            peer: Peer::Tcp { ip: ip.parse().unwrap(), local: ip.parse().unwrap() },
            request_id: "r".into(),
            received: Default::default(),
        }
    }

    #[test]
    fn forwarded_addresses_count_behind_trusted_proxies_alone() {
        let trusted = [Block::parse("127.0.0.1").unwrap(), Block::parse("10.0.0.0/8").unwrap()];
        for (peer, forwarded, expected) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("127.0.0.1", &["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
            ("127.0.0.1", &["9.9.9.9", "1.2.3.4, 10.1.1.1"], "1.2.3.4"),
            ("127.0.0.1", &["junk, 10.1.1.1"], "10.1.1.1"),
            ("192.168.1.9", &["1.2.3.4"], "192.168.1.9"),
            ("::ffff:127.0.0.1", &["1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(client_address(&head(peer, forwarded), &trusted), Some(expected.parse().unwrap()), "{peer} {forwarded:?}");
        }
        assert_eq!(client_address(&head("127.0.0.1", &["1.2.3.4"]), &[]), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn blocks() {
        for (block, ip, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "1.2.3.4", false),
        ] {
            assert_eq!(Block::parse(block).unwrap().contains(ip.parse().unwrap()), inside, "{block} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert_eq!(Block::parse(bad), None, "{bad}");
        }
    }
}
