//! The names of tools on the wire, where `.` and most else is not allowed.
//!
//! Invariant: within one set of tools each has another wire name, `[A-Za-z0-9_-]{1,64}`; it depends on the set of names alone, not
//! on their order, so that a list that comes in another order renames nothing. It cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

/// Longest name on the wire.
const WIRE_MAX: usize = 64;

/// The name on the wire where no other tool stands in its way.
pub fn wire(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if plain.is_empty() || plain.len() > WIRE_MAX { suffixed(name, 0) } else { plain }
}

/// A name with a part of its digest behind it.
fn suffixed(name: &str, again: u32) -> String {
    let digest = Sha256::digest(format!("{again}:{name}"));
    let suffix: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let begin = name.chars().take(WIRE_MAX - 9).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
    format!("{}_{suffix}", begin.collect::<String>())
}

/// The wire names of a set of names: our name → wire.
pub fn wires<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, String> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        *wanted.entry(wire(name)).or_default() += 1;
    }
    // Who can have the name that it wants keeps it, whoever else comes: names that are wanted once, and those that need no change.
    let keeps = |name: &str, wire: &String| wanted.get(wire) == Some(&1) || name == wire;
    let mut taken: BTreeSet<String> = names.iter().map(|n| (n, wire(n))).filter(|(n, w)| keeps(n, w)).map(|(_, w)| w).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let mut own = wire(name);
        if !keeps(name, &own) {
            own = (0..).map(|again| suffixed(name, again)).find(|w| !taken.contains(w)).unwrap_or_default();
            taken.insert(own.clone());
        }
        found.insert(name, own);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str]) -> Vec<String> {
        let found = wires(names.iter().copied());
        let mut turned: Vec<_> = names.to_vec();
        turned.reverse();
        assert_eq!(found, wires(turned), "the order counts for nothing");
        let unique: BTreeSet<_> = found.values().collect();
        assert_eq!(unique.len(), found.len(), "{found:?}");
        for wire in &unique {
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!((1..=64).contains(&wire.len()) && wire.chars().all(fine), "{wire}");
        }
        names.iter().map(|n| found[n].clone()).collect()
    }

    #[test]
    fn table() {
        assert_eq!(check(&["time.now", "memory.save", "a-b", "plain"]), ["time_now", "memory_save", "a-b", "plain"]);
        let found = check(&["a.b", "a_b", "a b"]);
        assert_eq!(found[1], "a_b", "what needs no change keeps its name");
        assert!(found[0].starts_with("a_b_") && found[2].starts_with("a_b_") && found[0].len() == 12, "{found:?}");
        assert_eq!(check(&["", "größe.读", "\u{202e}x"])[1], "gr__e__");
        let long = "mcp.server.".to_string() + &"x".repeat(100);
        let found = check(&[&long, &format!("{long}y"), &"z".repeat(64)]);
        assert_eq!((found[0].len(), &found[0][..30]), (64, "mcp_server_xxxxxxxxxxxxxxxxxxx"));
        assert_eq!(found[2], "z".repeat(64));
        // One that tries to take the name that another's digest gives.
        let stolen = suffixed("a.b", 0);
        let found = check(&["a.b", "a b", &stolen]);
        assert_eq!(found[2], stolen);
        assert_ne!(found[0], stolen);
    }
}
