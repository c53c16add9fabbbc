//! Counters of one kind, one set for each label.
//!
//! Invariant: at most [`LABELS_MAX`] labels and then `other`: names that grow without end can't grow the memory. A label once
//! met is found under a shared lock, so that recorders don't wait for each other. It cannot fail.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::base::error::shorten;

/// The most labels that one family tells apart.
pub const LABELS_MAX: usize = 256;
/// The label of all that came when the family was full.
pub const OTHER: &str = "other";
const LABEL_BYTES_MAX: usize = 128;

/// One `T` for each label.
#[derive(Debug, Default)]
pub struct Family<T> {
    members: RwLock<BTreeMap<String, T>>,
}

impl<T: Default> Family<T> {
    /// Gives the member of `label` to `record`; makes it where it is new.
    pub fn with(&self, label: &str, record: impl FnOnce(&T)) {
        let shortened;
        let label = if label.len() > LABEL_BYTES_MAX {
            shortened = shorten(label, LABEL_BYTES_MAX);
            &shortened
        } else {
            label
        };
        if let Some(member) = self.members.read().unwrap_or_else(PoisonError::into_inner).get(label) {
            return record(member);
        }
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let label = if members.len() >= LABELS_MAX && !members.contains_key(label) { OTHER } else { label };
        record(members.entry(label.to_string()).or_default());
    }

    /// Shows each member, in the order of the labels.
    pub fn each(&self, mut show: impl FnMut(&str, &T)) {
        self.members.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|(label, member)| show(label, member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn labels_are_bounded_and_nothing_is_lost() {
        let family = Family::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..1000 {
                        family.with(&format!("channel-{i}"), |n: &AtomicU64| {
                            n.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        family.with(&"x".repeat(10_000), |n: &AtomicU64| {
            n.fetch_add(1, Ordering::Relaxed);
        });
        let (mut labels, mut total, mut other) = (0, 0, 0);
        family.each(|label, n| {
            labels += 1;
            total += n.load(Ordering::Relaxed);
            other += if label == OTHER { n.load(Ordering::Relaxed) } else { 0 };
            assert!(label.len() <= LABEL_BYTES_MAX + "…".len());
        });
        assert_eq!((labels, total), (LABELS_MAX + 1, 4001));
        assert_eq!(other, 4 * (1000 - LABELS_MAX as u64) + 1);
    }
}
