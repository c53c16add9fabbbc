//! Discord's messages as what came in.
//!
//! Invariant: only what people wrote is taken: no bot's, no webhook's, no system's message, and never our own. Senders and places are
//! ids; names are for eyes. Pure.

use serde_json::{Value, json};

use crate::base::error::shorten;
use crate::channel::discord::files;
use crate::channel::{Incoming, Place};

/// Milliseconds since 1970 at which Discord's ids begin.
const EPOCH_MS: u64 = 1_420_070_400_000;
/// Attachments that are described.
const ATTACHMENTS_MAX: usize = 10;

/// A message that was read.
#[derive(Debug)]
pub struct Read {
    /// The channel.
    pub channel: String,
    /// Its id.
    pub id: u64,
    /// Whether it is between the sender and us alone.
    pub is_direct: bool,
    /// What somebody wrote, if it is for us to take.
    pub incoming: Option<Incoming>,
}

/// Reads a message object. `is_direct` is what is known of its channel; an event tells it by having neither a guild nor a member of
/// one: a field that is missing alone must not make a guild's channel a direct chat. `None` where it is no message at all.
pub fn read(message: &Value, me: &str, is_direct: Option<bool>) -> Option<Read> {
    let (id, channel) = (message["id"].as_str()?, message["channel_id"].as_str()?);
    let number: u64 = id.parse().ok()?;
    let is_direct = is_direct.unwrap_or(message["guild_id"].is_null() && message["member"].is_null());
    let incoming = incoming(message, me, is_direct, (id, number, channel));
    Some(Read { channel: channel.to_string(), id: number, is_direct, incoming })
}

fn incoming(message: &Value, me: &str, is_direct: bool, (id, number, channel): (&str, u64, &str)) -> Option<Incoming> {
    let author = &message["author"];
    let sender = author["id"].as_str()?;
    let is_ordinary = matches!(message["type"].as_u64(), Some(0 | 19));
    if !is_ordinary || sender == me || author["bot"] == true || message["webhook_id"].is_string() {
        return None;
    }
    let mentions = || message["mentions"].as_array().into_iter().flatten();
    let is_ours = |user: &Value| !me.is_empty() && user["id"] == me;
    let mentioned = mentions().any(is_ours) || is_ours(&message["referenced_message"]["author"]);
    let mut text = plain(message["content"].as_str().unwrap_or_default(), me, mentions());
    for file in message["attachments"].as_array().into_iter().flatten().take(ATTACHMENTS_MAX) {
        let line = described(file);
        text = if text.is_empty() { line } else { format!("{text}\n{line}") };
    }
    if text.trim().is_empty() {
        return None; // a sticker, a poll
    }
    let place = if is_direct { Place::Direct } else { Place::Group { id: channel.to_string(), mentioned } };
    Some(Incoming {
        sender: sender.to_string(),
        sender_name: author["global_name"].as_str().or(author["username"].as_str()).unwrap_or(sender).to_string(),
        metadata: (!is_direct).then(|| json!({"replyTo": id})),
        place,
        conversation: Some(channel.to_string()),
        external_id: id.to_string(),
        text,
        written_ms: ((number >> 22) + EPOCH_MS) as i64,
        cursor: None,
        attachments: files::of(message),
    })
}

fn described(file: &Value) -> String {
    let name = shorten(file["filename"].as_str().unwrap_or("without a name"), 100);
    let kind = file["content_type"].as_str().unwrap_or("unknown type");
    let size = file["size"].as_u64().map(|n| format!(", {n} bytes")).unwrap_or_default();
    let pixels = file["width"].as_u64().zip(file["height"].as_u64()).map(|(w, h)| format!(", {w}×{h}")).unwrap_or_default();
    format!("[file: {name}, {}{size}{pixels}]", shorten(kind, 60))
}

/// The text with names for ids; our own name at the beginning is left out.
fn plain<'a>(content: &str, me: &str, mentions: impl Iterator<Item = &'a Value>) -> String {
    let mut text = content.to_string();
    let trimmed = text.trim_start();
    for ours in [format!("<@{me}>"), format!("<@!{me}>")] {
        let rest = trimmed.strip_prefix(&ours).map(|r| r.trim_start_matches([' ', ',', ':']));
        if let Some(rest) = rest.filter(|r| !me.is_empty() && !r.trim().is_empty()) {
            text = rest.to_string();
            break;
        }
    }
    for user in mentions.take(20) {
        let (Some(id), Some(name)) = (user["id"].as_str(), user["username"].as_str()) else { continue };
        text = text.replace(&format!("<@{id}>"), &format!("@{name}")).replace(&format!("<@!{id}>"), &format!("@{name}"));
    }
    text
}
