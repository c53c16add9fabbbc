//! Unknown senders, and who let them in.

use serde::Serialize;

/// Most unknown senders of a channel that wait at a time.
pub const PAIRINGS_MAX: usize = 3;
/// How long a code is good, in ms.
pub const PAIRING_MS: i64 = 3_600_000;
/// Wrong codes that an operator may enter before the waiting ones of all channels are withdrawn.
pub const PAIRING_TRIES: u32 = 5;

/// An unknown sender who waits to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pairing {
    /// What the sender was told: from the system's randomness, good once.
    pub code: String,
    /// The channel.
    pub channel: String,
    /// The sender's immutable id there.
    pub user_id: String,
    /// How the sender calls itself; decides nothing.
    pub name: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it is over.
    pub expires_ms: i64,
}
