//! `store`: ages and sizes as they are meant.
//!
//! Invariant: 0 is no bound, and what is no bound is `None` from here on. It cannot fail.

use std::path::PathBuf;

use super::ms;
use crate::config::model::{Kept, Retention, Store};
use crate::config::raw;

pub(super) fn store(raw: &raw::Store, path: PathBuf) -> Store {
    let kinds = &raw.retention;
    let retention = Retention {
        max_bytes: raw.max_bytes,
        transcripts: kept(kinds.transcripts.max_age, kinds.transcripts.max_bytes),
        outbox: kept(kinds.outbox.max_age, kinds.outbox.max_bytes),
        repeats: ms(kinds.repeats.max_age),
        audit: kept(kinds.audit.max_age, kinds.audit.max_bytes),
        attachments: kept(kinds.attachments.max_age, kinds.attachments.max_bytes),
    };
    Store { path, write_budget: Some(raw.write_budget).filter(|bytes| *bytes > 0), retention }
}

fn kept(max_age: u64, max_bytes: u64) -> Kept {
    Kept { max_age: Some(max_age).filter(|age| *age > 0).map(ms), max_bytes: Some(max_bytes).filter(|bytes| *bytes > 0) }
}
