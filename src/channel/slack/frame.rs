//! What Socket Mode sends, as values: frames from JSON, and the watch over a connection that falls silent.
//!
//! Invariant: whatever comes, an envelope's id is found if it has one, so that a poisonous one is acknowledged once and not sent again
//! for ever; only what people wrote becomes an [`Incoming`]. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::channel::slack::files;
use crate::channel::slack::mrkdwn::to_plain;
use crate::channel::{Incoming, Place};

/// After this time without a sign a ping is sent, and after as much again the connection is given up.
pub const QUIET: Duration = Duration::from_secs(30);
/// Files that are described.
const FILES_MAX: usize = 10;

/// Who we are there, by `auth.test`.
#[derive(Clone, Debug, Default)]
pub struct Me {
    /// Our user id.
    pub user: String,
}

/// A frame.
#[derive(Debug)]
pub enum Frame {
    /// The connection works.
    Hello,
    /// It is going to end: a new one is to be opened.
    Refresh,
    /// Socket mode was switched off for the app.
    Disabled,
    /// Something to acknowledge, after what is in it was taken.
    Envelope {
        /// Its id.
        id: String,
        /// What somebody wrote, if that is in it.
        incoming: Option<Box<Incoming>>,
    },
    /// Nothing for us.
    Other,
}

/// Reads a frame.
pub fn read(text: &str, me: &Me) -> Frame {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return Frame::Other };
    let said = |key: &str| frame[key].as_str().unwrap_or_default();
    match said("type") {
        "hello" => return Frame::Hello,
        "disconnect" if said("reason") == "link_disabled" => return Frame::Disabled,
        "disconnect" => return Frame::Refresh,
        _ => {}
    }
    let Some(id) = frame["envelope_id"].as_str() else { return Frame::Other };
    let incoming = if said("type") == "events_api" { message(&frame["payload"], me) } else { None };
    Frame::Envelope { id: id.to_string(), incoming: incoming.map(Box::new) }
}

/// The acknowledgement of an envelope.
pub fn ack(id: &str) -> String {
    json!({"envelope_id": id}).to_string()
}

/// What somebody wrote, from an event's payload; `None` for edits, joins, other bots' and our own messages, and all other kinds.
fn message(payload: &Value, me: &Me) -> Option<Incoming> {
    let event = &payload["event"];
    let text_of = |key: &str| event[key].as_str().filter(|t| !t.is_empty());
    let is_mention = event["type"] == "app_mention";
    if !is_mention && event["type"] != "message" {
        return None;
    }
    if !matches!(event["subtype"].as_str(), None | Some("file_share" | "thread_broadcast" | "me_message")) {
        return None;
    }
    if text_of("bot_id").is_some() {
        return None; // ours, and those of other bots: two bots that answer each other never end
    }
    let (sender, channel, ts) = (text_of("user")?, text_of("channel")?, text_of("ts")?);
    if sender == me.user {
        return None;
    }
    let raw = text_of("text").unwrap_or_default();
    let text = described(raw, event, me)?;
    let is_direct = event["channel_type"] == "im" || (event["channel_type"].is_null() && channel.starts_with('D'));
    let place = match is_direct {
        true => Place::Direct,
        false => Place::Group { id: channel.to_string(), mentioned: is_mention || names(raw, &me.user) },
    };
    let thread = text_of("thread_ts");
    Some(Incoming {
        sender: sender.to_string(),
        sender_name: event["user_profile"]["display_name"].as_str().unwrap_or(sender).to_string(),
        place,
        conversation: Some(thread.map_or_else(|| channel.to_string(), |thread| format!("{channel}/{thread}"))),
        // A message that names us comes twice where both kinds of event are subscribed, with ids of their own; its time in its
        // channel is its identity.
        external_id: format!("{channel}/{ts}"),
        text,
        metadata: None,
        written_ms: ts.parse::<f64>().map_or(0, |s| (s * 1000.0) as i64),
        cursor: None,
        attachments: files::of(event),
    })
}

fn names(raw: &str, me: &str) -> bool {
    !me.is_empty() && (raw.contains(&format!("<@{me}>")) || raw.contains(&format!("<@{me}|")))
}

/// The text with a line for each file; `None` where there is neither.
fn described(raw: &str, event: &Value, me: &Me) -> Option<String> {
    let mut text = to_plain(raw, &me.user);
    if text.trim().is_empty() {
        text = to_plain(raw, ""); // the bot's name alone
    }
    for file in event["files"].as_array().into_iter().flatten().take(FILES_MAX) {
        let name = file["name"].as_str().or(file["title"].as_str()).unwrap_or("without a name");
        let kind = file["mimetype"].as_str().unwrap_or("unknown type");
        let size = file["size"].as_u64().map(|n| format!(", {n} bytes")).unwrap_or_default();
        let line = format!("[file: {}, {kind}{size}]", crate::base::error::shorten(name, 100));
        text = if text.is_empty() { line } else { format!("{text}\n{line}") };
    }
    (!text.trim().is_empty()).then_some(text)
}

/// The watch over one connection.
#[derive(Debug)]
pub struct Watch {
    heard: Duration,
    pinged: bool,
}

/// What is to be done about a silent connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Wait at most this long.
    Wait(Duration),
    /// Send a ping.
    Ping,
    /// Give it up.
    Dead,
}

impl Watch {
    /// A watch that begins now.
    pub fn new(now: Duration) -> Self {
        Watch { heard: now, pinged: false }
    }

    /// The peer gave a sign.
    pub fn heard(&mut self, now: Duration) {
        *self = Watch::new(now);
    }

    /// What is due; a ping is due once in a silence.
    pub fn due(&mut self, now: Duration) -> Due {
        let silent = now.saturating_sub(self.heard);
        if silent >= QUIET * 2 {
            return Due::Dead;
        }
        if silent >= QUIET && !self.pinged {
            self.pinged = true;
            return Due::Ping;
        }
        Due::Wait(if self.pinged { QUIET * 2 } else { QUIET } - silent)
    }
}
