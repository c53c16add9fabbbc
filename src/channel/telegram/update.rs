//! Updates, read: what is a message for us, from whom, where, and what it says.
//!
//! Invariant: pure. Only `message` is ever a message for us: edits, channel posts, buttons, reactions, business messages, joins and
//! whatever kind may come are nothing, whoever sends them. A sender is the number of a person, never a name; what was said on
//! behalf of a chat or by a bot has no person behind it and is nothing. Quoted and forwarded words are marked as such and come
//! after the sender's own, so that they are never taken for a command. Nothing is trusted to be there; what is missing never gives more.

use serde_json::{Value, json};

use crate::base::error::shorten;
use crate::channel::telegram::files;
use crate::channel::{Incoming, Place};

/// What is shown of a quoted message, in bytes.
const QUOTE_MAX: usize = 1000;
/// What is shown of a name.
const NAME_MAX: usize = 64;

/// The bot itself, from `getMe`.
#[derive(Clone, Debug, Default)]
pub struct Me {
    /// Its number.
    pub id: i64,
    /// Its name, without `@`.
    pub username: String,
}

impl Me {
    /// The answer of `getMe`.
    pub fn parse(result: &Value) -> Option<Me> {
        Some(Me { id: result["id"].as_i64()?, username: result["username"].as_str().unwrap_or_default().to_string() })
    }

    /// The cursor behind an update.
    pub fn cursor(&self, update_id: i64) -> String {
        format!("{}:{update_id}", self.id)
    }

    /// The update behind which that cursor stands, if it is this bot's.
    pub fn update_of(&self, cursor: &str) -> Option<i64> {
        let (bot, update) = cursor.split_once(':')?;
        (bot == self.id.to_string()).then(|| update.parse().ok()).flatten()
    }
}

/// What an update is to us.
#[derive(Debug)]
pub enum Kind {
    /// A message.
    Message(Box<Incoming>),
    /// Nothing.
    NotForUs,
    /// Not as it is documented.
    Poison,
}

/// Reads one update of that number.
pub fn read(update: &Value, id: i64, me: &Me) -> Kind {
    let Some(message) = update.get("message") else {
        return if update.is_object() { Kind::NotForUs } else { Kind::Poison };
    };
    let (chat, from) = (&message["chat"], &message["from"]);
    let (Some(chat_id), Some(message_id), Some(chat_type)) =
        (chat["id"].as_i64(), message["message_id"].as_i64(), chat["type"].as_str())
    else {
        return Kind::Poison;
    };
    let Some(sender) = from["id"].as_i64().filter(|_| from["is_bot"] == false && message["sender_chat"].is_null()) else {
        return Kind::NotForUs;
    };
    let Some(text) = text_of(message) else { return Kind::NotForUs };
    let thread = message["message_thread_id"].as_i64().filter(|_| message["is_topic_message"] == true);
    let (place, conversation) = match chat_type {
        "private" if chat_id == sender => (Place::Direct, None),
        "group" | "supergroup" => (
            Place::Group { id: chat_id.to_string(), mentioned: mentions(message, me) },
            Some(thread.map_or(chat_id.to_string(), |thread| format!("{chat_id}/{thread}"))),
        ),
        _ => return Kind::NotForUs,
    };
    let is_group = conversation.is_some();
    Kind::Message(Box::new(Incoming {
        sender: sender.to_string(),
        sender_name: name_of(from),
        place,
        conversation,
        external_id: me.cursor(id),
        text,
        metadata: is_group.then(|| json!({"messageId": message_id})),
        written_ms: message["date"].as_i64().unwrap_or(0).saturating_mul(1000),
        cursor: Some(me.cursor(id)),
        attachments: files::of(message),
    }))
}

/// All that a message says; `None` for service messages.
fn text_of(message: &Value) -> Option<String> {
    let mut said: Vec<String> = attachments(message);
    let text = message["text"].as_str().or(message["caption"].as_str()).unwrap_or_default();
    if !text.trim().is_empty() {
        said.push(text.to_string());
    }
    if said.is_empty() {
        return None;
    }
    let mut said = said.join("\n");
    if let Some(origin) = message.get("forward_origin").filter(|o| o.is_object()) {
        said = quoted(&format!("forwarded from {}, not the sender's own words", origin_of(origin)), &said, usize::MAX);
    }
    if let Some(answered) = answered(message) {
        let what = message["quote"]["text"].as_str().map(str::to_string).or_else(|| text_of_answered(answered));
        if let Some(what) = what {
            let head = format!("this answers a message of {}, quoted", name_of(&answered["from"]));
            said = format!("{said}\n\n{}", quoted(&head, &what, QUOTE_MAX));
        }
    }
    Some(said)
}

fn text_of_answered(message: &Value) -> Option<String> {
    let mut said = attachments(message);
    said.extend(message["text"].as_str().or(message["caption"].as_str()).map(str::to_string));
    (!said.is_empty()).then(|| said.join("\n"))
}

/// The message that this one answers; in a topic every message names the one that opened it, which is no answer.
fn answered(message: &Value) -> Option<&Value> {
    let answered = message.get("reply_to_message").filter(|m| m.is_object())?;
    let opens_topic = message["is_topic_message"] == true && answered["message_id"] == message["message_thread_id"];
    (!opens_topic).then_some(answered)
}

fn quoted(head: &str, text: &str, max: usize) -> String {
    let text = shorten(text, max);
    let lines: Vec<String> = text.lines().map(|line| format!("> {line}")).collect();
    format!("[{head}:]\n{}", lines.join("\n"))
}

fn origin_of(origin: &Value) -> String {
    let chat = |key: &str| plain(origin[key]["title"].as_str().unwrap_or_default());
    let name = match origin["type"].as_str().unwrap_or_default() {
        "user" => return name_of(&origin["sender_user"]),
        "hidden_user" => plain(origin["sender_user_name"].as_str().unwrap_or_default()),
        "chat" => chat("sender_chat"),
        "channel" => chat("chat"),
        _ => String::new(),
    };
    if name.is_empty() { "somebody".to_string() } else { name }
}

/// How somebody calls itself.
fn name_of(user: &Value) -> String {
    let words: Vec<&str> = ["first_name", "last_name"].iter().filter_map(|key| user[*key].as_str()).collect();
    let name = plain(&words.join(" "));
    if name.is_empty() { "somebody".to_string() } else { name }
}

/// A name or title as it can stand within our own words: one line, no brackets.
fn plain(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() || matches!(c, '[' | ']') { ' ' } else { c }).collect();
    shorten(name.trim(), NAME_MAX)
}

/// Whether the bot is named, answered, or called by a command with its name.
fn mentions(message: &Value, me: &Me) -> bool {
    if answered(message).is_some_and(|m| m["from"]["id"].as_i64() == Some(me.id)) {
        return true;
    }
    if message["forward_origin"].is_object() {
        return false; // what somebody else wrote elsewhere calls nobody here
    }
    let (text, entities) = match message["text"].as_str() {
        Some(text) => (text, &message["entities"]),
        None => (message["caption"].as_str().unwrap_or_default(), &message["caption_entities"]),
    };
    let at = |name: &str| !me.username.is_empty() && name.eq_ignore_ascii_case(&me.username);
    entities.as_array().into_iter().flatten().any(|entity| {
        let part = || utf16(text, entity["offset"].as_u64()?, entity["length"].as_u64()?);
        match entity["type"].as_str().unwrap_or_default() {
            "mention" => part().is_some_and(|p| p.strip_prefix('@').is_some_and(at)),
            "bot_command" => part().is_some_and(|p| p.split_once('@').is_some_and(|(_, name)| at(name))),
            "text_mention" => entity["user"]["id"].as_i64() == Some(me.id),
            _ => false,
        }
    })
}

/// A part of a text by its place in UTF-16 units.
fn utf16(text: &str, offset: u64, length: u64) -> Option<String> {
    let units: Vec<u16> = text.encode_utf16().skip(offset.try_into().ok()?).take(length.try_into().ok()?).collect();
    String::from_utf16(&units).ok()
}

/// What is attached, described.
fn attachments(message: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(photo) = message["photo"].as_array().and_then(|sizes| sizes.last()) {
        found.push(described("photo", [size(photo), bytes(photo)]));
    }
    // An animation comes as a document as well.
    let files = ["animation", "audio", "document", "video", "video_note", "voice"];
    let is_animation = message["animation"].is_object();
    for key in files.into_iter().filter(|key| message[*key].is_object() && !(is_animation && *key == "document")) {
        let file = &message[key];
        let name = file["file_name"].as_str().or(file["title"].as_str()).map(|n| format!("\"{}\"", plain(n)));
        let lasts = file["duration"].as_u64().map(|s| format!("{s} s"));
        let mime = file["mime_type"].as_str().map(plain);
        found.push(described(&key.replace('_', " "), [name, mime, size(file), lasts, bytes(file)]));
    }
    let text = |value: &Value| value.as_str().map(plain).filter(|t| !t.is_empty());
    if message["sticker"].is_object() {
        found.push(described("sticker", [text(&message["sticker"]["emoji"])]));
    }
    if message["venue"].is_object() {
        found.push(described("venue", [text(&message["venue"]["title"]), text(&message["venue"]["address"])]));
    }
    let place = &message["location"];
    if let (Some(lat), Some(lon)) = (place["latitude"].as_f64(), place["longitude"].as_f64()) {
        found.push(format!("[location {lat}, {lon}]"));
    }
    let contact = &message["contact"];
    if contact.is_object() {
        found.push(described("contact", [Some(name_of(contact)), text(&contact["phone_number"])]));
    }
    if message["poll"].is_object() {
        let options = message["poll"]["options"].as_array().into_iter().flatten();
        let options: Vec<String> = options.take(12).filter_map(|o| text(&o["text"])).collect();
        found.push(described("poll", [text(&message["poll"]["question"]), Some(options.join(" / "))]));
    }
    if message["dice"].is_object() {
        found
            .push(described("dice", [text(&message["dice"]["emoji"]), message["dice"]["value"].as_i64().map(|n| n.to_string())]));
    }
    found
}

fn described<const N: usize>(what: &str, details: [Option<String>; N]) -> String {
    let details: Vec<String> = details.into_iter().flatten().collect();
    if details.is_empty() { format!("[{what}]") } else { format!("[{what} {}]", details.join(", ")) }
}

fn size(file: &Value) -> Option<String> {
    Some(format!("{}×{}", file["width"].as_u64()?, file["height"].as_u64()?))
}

fn bytes(file: &Value) -> Option<String> {
    Some(format!("{} bytes", file["file_size"].as_u64()?))
}
