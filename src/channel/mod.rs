//! Where people write: the boundary that every adapter stands behind, and the registry that names them all.
//!
//! Invariant: an adapter's wire types stay in its own folder; what passes here is channel-neutral. An adapter never touches the
//! store: what comes in goes through an [`Inlet`], what goes out comes from a delivery worker. A service's own cursor is committed
//! with the message that it stands behind, and the service is told only after that commit.

pub mod chat;
mod counters;
mod discord;
#[cfg(test)]
mod doubt_tests;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod matrix;
#[cfg(test)]
pub(crate) mod memory;
mod mqtt;
mod off;
mod pieces;
pub mod registry;
pub mod repeats;
mod sending;
mod slack;
pub mod standard_webhooks;
pub mod supervisor;
mod taking;
mod telegram;
pub mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::threads::Threads;
use crate::channel::repeats::Repeats;
use crate::domain::{Accepted, Attachment, Delivery, Handoff};
use crate::net::client::Client;

/// Pause before what belongs to a channel that is switched off is looked at again.
const OFF_PAUSE: Duration = Duration::from_secs(60);
/// The same for one that is down.
const DOWN_PAUSE: Duration = Duration::from_secs(10);

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
    /// It can't work as it is configured; trying again changes nothing.
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
    /// When the service last said anything at all (an empty poll, a heartbeat's answer): a socket that is merely open says
    /// nothing. Absent for channels that are not connected to anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_ms: Option<i64>,
    /// How often its connection was begun anew.
    pub reconnects: u64,
}

impl ChannelStatus {
    /// Why nothing can be sent by it now, and how long to wait before it is looked at again: it is switched off, or has lost the
    /// connection that it holds. Tries are not spent on that.
    pub fn holds_back(&self) -> Option<(Duration, String)> {
        let is_connected_kind = !matches!(self.kind, "webhook" | "websocket");
        let why = || self.last_error.as_deref().unwrap_or("no reason is known").to_string();
        match self.state {
            ChannelState::Stopped => Some((OFF_PAUSE, format!("channel {} is switched off", self.name))),
            ChannelState::Misconfigured if is_connected_kind => {
                Some((OFF_PAUSE, format!("channel {} can't work as it is configured: {}", self.name, why())))
            }
            // On its way back after a failure; one that has only begun may well send before it takes in.
            ChannelState::Degraded | ChannelState::Connecting if is_connected_kind && self.last_error.is_some() => {
                Some((DOWN_PAUSE, format!("channel {} is down: {}", self.name, why())))
            }
            _ => None,
        }
    }
}

/// What remains of a delivery that has several parts: how many the service confirmed before, and where to record one more.
pub struct Progress<'a> {
    /// Parts that were confirmed at former tries.
    pub done: u32,
    /// Records that this many are confirmed now.
    pub record: &'a dyn Fn(u32),
    /// Whether the next part may have arrived before, unknown to the service: it is to be marked so.
    pub may_repeat: bool,
}

impl Progress<'_> {
    /// Whether the `n`th part, from 0, may have arrived before and is to be marked so.
    pub fn is_in_doubt(&self, n: usize) -> bool {
        self.may_repeat && n == self.done as usize
    }
}

/// How a file is wanted.
pub struct Wanted<'a> {
    /// How long it may be.
    pub bytes_max: usize,
    /// How long fetching it may take in all, whatever the peer does.
    pub within: Duration,
    /// Cuts it short.
    pub cancel: &'a Cancel,
}

/// What there is of an answer that is being made.
#[derive(Clone, Copy, Debug)]
pub struct Preview<'a> {
    /// To whom.
    pub peer: &'a str,
    /// In which conversation.
    pub conversation: Option<&'a str>,
    /// What came with the message that is answered.
    pub metadata: Option<&'a Value>,
    /// The text so far, not blank.
    pub text: &'a str,
    /// What the channel called it when it was shown before.
    pub message: Option<&'a Value>,
}

/// An adapter.
pub trait Channel: Send + Sync {
    /// How it takes what is sent; `None` where nothing can be sent by it (a webhook without `replyUrl`).
    fn handoff(&self) -> Option<Handoff>;

    /// How it stands to sending a delivery again of which it is not known whether it arrived.
    fn repeats(&self) -> Repeats;

    /// Hands one delivery over; blocks within the adapter's deadlines. Called by delivery workers, for `Handoff::Worker`. Parts
    /// that were confirmed before are not sent again.
    ///
    /// # Errors
    /// A passing kind is retried: nothing arrived of the part that failed. With `Unclear` it may have, and [`Channel::repeats`]
    /// decides. Any other one makes a dead letter.
    fn deliver(&self, delivery: &Delivery, progress: &Progress<'_>) -> Result<()>;

    /// Shows the user that an answer is being made, where the service can; must not block for long, and may fail silently.
    fn typing(&self, peer: &str, conversation: Option<&str>) {
        let _ = (peer, conversation);
    }

    /// Gets the bytes of a file that came in by it, at most `wanted.bytes_max`; blocks until `wanted.within` is over at most. Called by
    /// turn workers, never for a sender who was not admitted.
    ///
    /// # Errors
    /// Where it can't be had; `Stopped` where `wanted.cancel` was set.
    fn fetch(&self, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        let _ = (file, wanted);
        Err(Error::new(ErrorKind::Permanent, "this channel brings no files"))
    }

    /// How often what there is of an answer may be shown there while it is made; `None` where it isn't.
    fn preview_every(&self, conversation: Option<&str>) -> Option<Duration> {
        let _ = conversation;
        None
    }

    /// Shows what there is of an answer: as a new message, or in the place of what it showed before; gives what the channel calls that
    /// message. Blocks for a few seconds at most. A delivery whose metadata's `preview` is that takes the place of it.
    ///
    /// # Errors
    /// `Throttled` where it had no effect and may be tried later; after any other failure nothing more is shown.
    fn preview(&self, preview: &Preview<'_>) -> Result<Value> {
        let _ = preview;
        Err(Error::new(ErrorKind::Bug, "this channel shows no answers while they are made"))
    }

    /// Takes away what [`Channel::preview`] showed, best effort; blocks for a few seconds at most.
    fn unpreview(&self, peer: &str, conversation: Option<&str>, message: &Value) {
        let _ = (peer, conversation, message);
    }

    /// How it is.
    fn status(&self) -> ChannelStatus;

    /// A message came in by it: for its counters.
    fn note_received(&self);

    /// Starts the connection anew; returns at once.
    fn reconnect(&self);

    /// Ends its threads, and returns at once; it is replaced, or the gateway drains. What is being taken in is finished.
    fn stop(&self) {}
}

/// What an adapter is made with, beside its configuration.
#[derive(Clone)]
pub struct Parts {
    /// Its name.
    pub name: String,
    /// HTTP out.
    pub client: Arc<Client>,
    /// Time.
    pub clock: Clock,
    /// Threads.
    pub threads: Threads,
    /// The way in.
    pub inlet: Arc<dyn Inlet>,
}

/// Where a conversation takes place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the sender and the bot alone.
    Direct,
    /// In a group.
    Group {
        /// Its immutable id.
        id: String,
        /// Whether the bot was named, answered, or called by a command.
        mentioned: bool,
    },
}

/// Something that came in, of whatever kind (a message, an edit, a button, a reaction with text): all kinds pass the same check.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The sender's immutable id at the service; never a name.
    pub sender: String,
    /// How the sender calls itself: for people's eyes alone, it decides nothing.
    pub sender_name: String,
    /// Where.
    pub place: Place,
    /// The conversation that replies go to (a chat with its topic, a room, a thread), in the adapter's own terms.
    pub conversation: Option<String>,
    /// The service's id for it: the key of deduplication.
    pub external_id: String,
    /// What was written; of attachments a description (`[photo, 1280×960, caption: …]`).
    pub text: String,
    /// What replies need (the message to answer, say); given back with the delivery.
    pub metadata: Option<Value>,
    /// When the service says it was written, in ms since 1970; 0 where it doesn't.
    pub written_ms: i64,
    /// The service's cursor behind it, to be committed with it.
    pub cursor: Option<String>,
    /// Files that came with it and that [`Channel::fetch`] can get; the first `ATTACHMENTS_MAX` count.
    pub attachments: Vec<Attachment>,
}

/// What became of something that came in. In every case its cursor is committed, and the service may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the inbox, on disk.
    Accepted(Accepted),
    /// It is not for us, or from somebody who may not speak: nothing is done.
    Ignored(&'static str),
    /// An unknown sender, who is to be told this (a pairing code), at that place.
    Tell(String),
}

/// Why something could not be taken now: the service must not be told, and it comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotNow(pub String);

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The way in; the flow is behind it.
pub trait Inlet: Send + Sync {
    /// Checks who speaks and takes what came in; blocks until it is on disk.
    ///
    /// # Errors
    /// Where it can't be taken now: the gateway drains, is out of memory, or its store can't write.
    fn take(&self, channel: &str, incoming: Incoming) -> Result<Taken, NotNow>;

    /// The cursor that was committed last for that channel.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn cursor(&self, channel: &str) -> Result<Option<String>, NotNow>;

    /// Commits a cursor behind which nothing was to be taken. Survives the process; a lost one costs a repeat, which deduplication
    /// takes care of.
    ///
    /// # Errors
    /// Where the store can't write.
    fn set_cursor(&self, channel: &str, cursor: &str) -> Result<(), NotNow>;

    /// A channel's state changed: operators who ask for it get one notice.
    fn changed(&self, channel: &str, state: ChannelState, why: &str);
}
