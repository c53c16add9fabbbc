//! `store`: where all that lasts is kept, for how long, and how large it may be.
//!
//! Invariant: ages are in ms, sizes in bytes, and 0 is no bound of its own; what is still to be answered, delivered or decided is bound by
//! none of them.

use serde_json::Value;

use crate::config::section::*;

/// Ten years, the longest age.
const AGE_MAX: u64 = 10 * 365 * 86_400_000;
/// Seven days, for which a repeat is promised to be known.
const REPEATS_MIN: u64 = 7 * 86_400_000;
/// The largest size: 16 TiB.
const BYTES_MAX: u64 = 1 << 44;

section! {
    /// Where all that lasts is kept, for how long, and how large it may be.
    Store {
        /// The database file; a relative path starts at the data directory.
        path: String = key("path", Preset::Text("gatelet.db")).range(1, 4096).restart();
        /// Bytes of all that is kept: the database, its log and the attachments. Before it is reached the oldest answered messages go, with all that came of them; once only what may not go is left, new messages are refused.
        max_bytes: u64 = key("maxBytes", Preset::Int(2 << 30)).range(16 << 20, BYTES_MAX);
        /// Bytes that may be written to disk in 24 hours before the people of `gateway.notify` are told; 0 is no budget.
        write_budget: u64 = key("writeBudget", Preset::Int(1 << 30)).range(0, BYTES_MAX);
        /// How long each kind is kept, and how much of it.
        retention: Retention = key("retention", Preset::EmptyObject);
    }
}

section! {
    /// How long each kind is kept, and how much of it. Looked at once an hour.
    Retention {
        /// Messages that were answered or cancelled, with their replies.
        transcripts: Transcripts = key("transcripts", Preset::EmptyObject);
        /// Deliveries that were sent: what is known of the sending. The text of a reply stays with its message.
        outbox: Sent = key("outbox", Preset::EmptyObject);
        /// By what repeats are known.
        repeats: Repeats = key("repeats", Preset::EmptyObject);
        /// The audit trail, and the approvals of messages that ended.
        audit: Audit = key("audit", Preset::EmptyObject);
        /// Files that people sent with messages that were answered; the message stays and says that there was one.
        attachments: Attachments = key("attachments", Preset::EmptyObject);
    }
}

section! {
    /// Messages that were answered or cancelled.
    Transcripts {
        /// Their greatest age in ms; 0 is none.
        max_age: u64 = key("maxAge", Preset::Int(0)).range(0, AGE_MAX);
        /// Bytes of their texts; the oldest go. 0 is none.
        max_bytes: u64 = key("maxBytes", Preset::Int(0)).range(0, BYTES_MAX);
    }
}

section! {
    /// Deliveries that were sent.
    Sent {
        /// Their greatest age in ms; 0 is none.
        max_age: u64 = key("maxAge", Preset::Int(8 * 86_400_000)).range(0, AGE_MAX);
        /// Bytes of their texts; the oldest go. 0 is none.
        max_bytes: u64 = key("maxBytes", Preset::Int(0)).range(0, BYTES_MAX);
    }
}

section! {
    /// By what repeats are known.
    Repeats {
        /// The age in ms at which the outside id of a message and the idempotency key of a request are forgotten. Some 200 bytes each: no size takes one away before.
        max_age: u64 = key("maxAge", Preset::Int(8 * 86_400_000)).range(REPEATS_MIN, AGE_MAX);
    }
}

section! {
    /// The audit trail; 50,000 entries at most.
    Audit {
        /// Their greatest age in ms; 0 is none.
        max_age: u64 = key("maxAge", Preset::Int(90 * 86_400_000)).range(0, AGE_MAX);
        /// Bytes of the entries, an eighth of `store.maxBytes` at most; the oldest go. 0 is that eighth.
        max_bytes: u64 = key("maxBytes", Preset::Int(16 << 20)).range(0, BYTES_MAX);
    }
}

section! {
    /// Files that people sent.
    Attachments {
        /// Their greatest age in ms; 0 is none.
        max_age: u64 = key("maxAge", Preset::Int(0)).range(0, AGE_MAX);
        /// Bytes of all of them, half of `store.maxBytes` at most; the oldest go. 0 is that half.
        max_bytes: u64 = key("maxBytes", Preset::Int(256 << 20)).range(0, BYTES_MAX);
    }
}
