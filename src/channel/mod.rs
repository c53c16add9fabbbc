//! Where people write: the boundary that every adapter stands behind, and the registry that names them all.
//!
//! Invariant: an adapter's wire types stay in its own file; what passes here is channel-neutral. An adapter never touches the
//! store: what comes in goes through ingress, what goes out comes from a delivery worker.

pub mod chat;
mod counters;
pub mod registry;
pub mod standard_webhooks;
pub mod webhook;

use serde::Serialize;

use crate::base::error::Result;
use crate::domain::{Delivery, Handoff};

/// How a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelState {
    /// It works, as far as the last contact told.
    Connected,
    /// It is on its way there.
    Connecting,
    /// It works in part, or failed last time.
    Degraded,
    /// It is switched off.
    Stopped,
    /// It can't work as it is configured.
    Misconfigured,
}

/// A channel as operators see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How it is.
    pub state: ChannelState,
    /// Since when, in ms since 1970.
    pub since_ms: i64,
    /// The last error, if there was one since it was connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Messages taken in.
    pub received: u64,
    /// Messages handed over.
    pub sent: u64,
    /// Tries that failed.
    pub failed: u64,
    /// When a message last came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_received_ms: Option<i64>,
    /// When a message was last handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent_ms: Option<i64>,
}

/// An adapter.
pub trait Channel: Send + Sync {
    /// How it takes what is sent; `None` where nothing can be sent by it (a webhook without `replyUrl`).
    fn handoff(&self) -> Option<Handoff>;

    /// Whether the service takes our delivery id as an idempotency key, so that sending again is harmless.
    fn takes_idempotency_key(&self) -> bool;

    /// Hands one delivery over; blocks within the adapter's deadlines. Called by delivery workers, for `Handoff::Worker`.
    ///
    /// # Errors
    /// A passing kind is retried; any other one makes a dead letter.
    fn deliver(&self, delivery: &Delivery) -> Result<()>;

    /// How it is.
    fn status(&self) -> ChannelStatus;

    /// A message came in by it: for its counters.
    fn note_received(&self);

    /// Starts the connection anew; returns at once.
    fn reconnect(&self);
}
