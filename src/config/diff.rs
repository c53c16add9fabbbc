//! What changed between two configurations, and whether it applies live.
//!
//! Invariant: secrets are compared by fingerprint and never shown; which key needs a restart is said in the table alone.

use std::collections::BTreeSet;

use serde_json::Value;

use super::problem::{join, within};
use super::raw::Raw;
use super::resolve::Resolved;
use super::section::Shape;

/// The paths that changed, as `gateway.rateLimit.maxRequests`; an entry that came or went is one path, and so is a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What applies at once.
    pub applied: Vec<String>,
    /// What applies at the next start.
    pub restart: Vec<String>,
}

impl Plan {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.restart.is_empty()
    }
}

/// Compares two configurations by their effective documents and their secrets' fingerprints.
pub fn diff(old: &Resolved, new: &Resolved) -> Plan {
    let mut paths = BTreeSet::new();
    walk(&old.effective(), &new.effective(), "$", &mut paths);
    let sites: BTreeSet<_> = old.secrets.keys().chain(new.secrets.keys()).collect();
    for site in sites {
        if old.secrets.get(site) != new.secrets.get(site) && !paths.iter().any(|above| within(&site.path, above)) {
            paths.insert(site.path.clone());
        }
    }
    let (restart, applied) = paths.into_iter().partition(|path| needs_restart(path));
    let bare = |paths: Vec<String>| paths.iter().map(|p| p.trim_start_matches("$.").to_string()).collect();
    Plan { applied: bare(applied), restart: bare(restart) }
}

fn walk(old: &Value, new: &Value, path: &str, out: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let path = join(path, name);
                match (a.get(name), b.get(name)) {
                    (Some(old), Some(new)) => walk(old, new, &path, out),
                    _ => drop(out.insert(path)),
                }
            }
        }
        _ if old != new => drop(out.insert(path.to_string())),
        _ => {}
    }
}

/// Whether the table says so of the key at `path` or of one above it. Such keys stand in sections at fixed places.
fn needs_restart(path: &str) -> bool {
    let mut section = Raw::SECTION;
    for name in path.split('.').skip(1) {
        match section.keys.iter().find(|key| key.name == name) {
            Some(key) if key.restart => return true,
            Some(key) => match key.shape {
                Shape::Section(inner) => section = inner,
                _ => return false,
            },
            None => return false,
        }
    }
    false
}
