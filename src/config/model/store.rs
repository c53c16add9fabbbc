//! `store`, as it is meant.

use std::path::PathBuf;
use std::time::Duration;

/// `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `path`, absolute.
    pub path: PathBuf,
    /// `writeBudget`: bytes in 24 hours.
    pub write_budget: Option<u64>,
    /// `retention`, and `maxBytes`.
    pub retention: Retention,
}

/// How long what is settled is kept, and how large all together may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `store.maxBytes`: of the database, its log and the attachments.
    pub max_bytes: u64,
    /// Messages that were answered or cancelled.
    pub transcripts: Kept,
    /// Deliveries that were sent.
    pub outbox: Kept,
    /// Outside ids and idempotency keys: at least seven days.
    pub repeats: Duration,
    /// Audit entries and approvals.
    pub audit: Kept,
    /// Attachments of messages that ended.
    pub attachments: Kept,
}

/// The bounds of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What is older goes.
    pub max_age: Option<Duration>,
    /// What is beyond goes, the oldest first.
    pub max_bytes: Option<u64>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Retention {
    /// What holds where nothing is written.
    fn default() -> Self {
        let kept = |days: u32, max_bytes| Kept { max_age: (days > 0).then_some(DAY * days), max_bytes };
        Retention {
            max_bytes: 2 << 30,
            transcripts: Kept::default(),
            outbox: kept(8, None),
            repeats: DAY * 8,
            audit: kept(90, Some(16 << 20)),
            attachments: kept(0, Some(256 << 20)),
        }
    }
}
