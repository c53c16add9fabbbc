//! This machine's links with the addresses at which the gateway is reached on each, as the kernel lists them under `/proc/self/net`.
//!
//! Invariant: an address is named on its own link alone, and never one that passes (temporary, tentative) or that needs a scope: another
//! responder of this machine that announces the host name, too, must find nothing there to contradict. At most [`LINKS_MAX`]. Where
//! a list can't be read, there is no link.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most links that are announced on, and the most addresses of each.
pub const LINKS_MAX: usize = 16;
/// Temporary, failed, deprecated, tentative (`IFA_F_*`).
const PASSING: u8 = 0x01 | 0x08 | 0x20 | 0x40;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The address that says to the kernel which one it is.
    pub via: Ipv4Addr,
    /// Where the gateway is reached.
    pub addresses: Vec<IpAddr>,
}

/// The links of a gateway that listens on `listen`, as they are now.
pub fn now(listen: IpAddr) -> Vec<Link> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    of(listen, &read("fib_trie"), &read("route"), &read("if_inet6"))
}

pub(super) fn of(listen: IpAddr, trie: &str, routes: &str, six: &str) -> Vec<Link> {
    let mut links: BTreeMap<&str, Link> = BTreeMap::new();
    let is_wanted = |address: IpAddr| match listen.to_canonical() {
        IpAddr::V4(v4) => address.is_ipv4() && (v4.is_unspecified() || address == v4),
        IpAddr::V6(v6) => v6.is_unspecified() || address == v6,
    };
    for address in local(trie) {
        let Some(name) = link_of(address, routes) else { continue };
        let link = links.entry(name).or_insert(Link { via: address, addresses: Vec::new() });
        let known = link.addresses.contains(&address.into());
        if is_wanted(address.into()) && !known && link.addresses.len() < LINKS_MAX {
            link.addresses.push(address.into());
        }
    }
    for (address, name) in six.lines().filter_map(lasting) {
        if let Some(link) = links.get_mut(name).filter(|link| is_wanted(address.into()) && link.addresses.len() < LINKS_MAX) {
            link.addresses.push(address.into());
        }
    }
    links.into_values().filter(|link| !link.addresses.is_empty()).take(LINKS_MAX).collect()
}

/// The machine's own IPv4 addresses: the leaves that are `/32 host LOCAL`.
fn local(trie: &str) -> Vec<Ipv4Addr> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse().ok(),
            None if line == "/32 host LOCAL" => found.extend(leaf),
            None => {}
        }
    }
    found
}

/// The link whose own network an address is in: the narrowest one.
fn link_of(address: Ipv4Addr, routes: &str) -> Option<&str> {
    if address.is_loopback() {
        return Some("lo");
    }
    let number = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
    let own = routes.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, network, gateway) = (fields.next()?, number(fields.next()?)?, number(fields.next()?)?);
        let mask = number(fields.nth(4)?)?;
        let holds = gateway == 0 && mask != 0 && address.to_bits() & mask == network;
        holds.then_some((mask, name))
    });
    own.max_by_key(|(mask, _)| *mask).map(|(_, name)| name)
}

/// A lasting address of any scope but the link's, with its link.
fn lasting(line: &str) -> Option<(Ipv6Addr, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let address = Ipv6Addr::from_bits(u128::from_str_radix(fields.next()?, 16).ok()?);
    let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
    (flags & PASSING == 0 && !address.is_unicast_link_local()).then_some((address, fields.next()?))
}
