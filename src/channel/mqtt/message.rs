//! Topics and payloads: what a message on the broker means, and where an answer goes.
//!
//! Invariant: a user is exactly one level of a topic, and can't reach into another one. Pure.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::codec::Received;
use crate::base::error::{Error, ErrorKind, Result, shorten};

/// The longest payload taken.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// The longest id of a sender's own.
const ID_MAX: usize = 128;

/// The topics of a channel.
#[derive(Clone, Debug)]
pub struct Topics {
    /// What is subscribed to.
    pub filter: String,
    publish: String,
    /// Where the retained `online` and `offline` stand.
    pub status: String,
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub text: String,
    pub id: Option<String>,
    pub conversation: Option<String>,
    pub metadata: Option<Value>,
}

impl Topics {
    /// The topics of the channel `name`: its status stands beside the level at which `publish` begins to differ
    /// (`gatelet/out/{user}`: `gatelet/status/NAME`).
    pub fn new(name: &str, filter: &str, publish: &str) -> Self {
        let before = publish.split("{user}").next().unwrap_or_default();
        let mut levels: Vec<&str> = before.split('/').collect();
        levels.pop(); // the one with the user in it
        if levels.len() > 1 {
            levels.pop();
        }
        let prefix = if levels.is_empty() { "gatelet".to_string() } else { levels.join("/") };
        let name = name.replace(['/', '+', '#', '\0'], "_");
        Topics { filter: filter.to_string(), publish: publish.to_string(), status: format!("{prefix}/status/{name}") }
    }

    /// The filter without the name of a shared subscription.
    fn levels(&self) -> std::str::Split<'_, char> {
        let plain = self.filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).map(|(_, filter)| filter);
        plain.unwrap_or(&self.filter).split('/')
    }

    /// Whether a broker is asked to keep our own messages from us; it may not be for a shared subscription.
    pub fn may_be_no_local(&self) -> bool {
        !self.filter.starts_with("$share/")
    }

    /// Whether what is published could come back in.
    pub fn is_loop(&self) -> bool {
        let mut written = self.publish.split('/');
        let fits = self.levels().all(|f| written.next().is_some_and(|w| f == "+" || w == f || w.contains("{user}")));
        fits && written.next().is_none()
    }

    /// Who wrote to a topic: the level at the filter's `+`.
    pub fn sender<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let mut given = topic.split('/');
        let mut sender = None;
        for level in self.levels() {
            let here = given.next()?;
            match level {
                "+" => sender = Some(here),
                _ if level != here => return None,
                _ => {}
            }
        }
        if given.next().is_some() || topic == self.status {
            return None;
        }
        sender.filter(|s| !s.is_empty())
    }

    /// Where a user's messages go.
    ///
    /// # Errors
    /// `Permanent` for a user that is not one level.
    pub fn to(&self, user: &str) -> Result<String> {
        if user.is_empty() || user.contains(['/', '+', '#', '\0']) {
            let text = format!("the user {:?} can't be a level of an MQTT topic", shorten(user, 100));
            return Err(Error::new(ErrorKind::Permanent, text).hint("it must not be empty, nor hold /, +, # or NUL"));
        }
        let topic = self.publish.replace("{user}", user);
        if topic.len() > usize::from(u16::MAX) {
            return Err(Error::new(ErrorKind::Permanent, "the topic is longer than MQTT allows"));
        }
        Ok(topic)
    }
}

/// Reads a message: plain text, or a JSON object with `message`.
///
/// # Errors
/// Why there is nothing to take.
pub fn said(message: &Received) -> Result<Said, &'static str> {
    if message.is_retained {
        return Err("it was retained: written before we subscribed");
    }
    if message.is_cut || message.payload.len() > PAYLOAD_MAX {
        return Err("it is longer than 256 KiB");
    }
    let text = std::str::from_utf8(&message.payload).map_err(|_| "it is not UTF-8")?;
    let own = message.id.clone().filter(|id| is_id(id));
    let mut said = Said { text: text.to_string(), id: own, conversation: None, metadata: None };
    if text.trim_start().starts_with('{')
        && let Ok(Value::Object(mut object)) = serde_json::from_str(text)
        && let Some(Value::String(words)) = object.remove("message")
    {
        said.text = words;
        let id = object.get("id").or_else(|| object.get("messageId")).and_then(word).filter(|id| is_id(id));
        said.id = said.id.or(id);
        said.conversation = object.get("conversationId").and_then(word).filter(|c| is_id(c));
        said.metadata = object.remove("metadata").filter(Value::is_object);
    }
    if said.text.trim().is_empty() { Err("it is empty") } else { Ok(said) }
}

/// A sender's own id as the channel's: a user can't take another one's.
pub fn own_id(sender: &str, id: &str) -> String {
    if sender.len() <= ID_MAX {
        return format!("{sender}/{id}"); // a sender has no slash
    }
    let digest: [u8; 32] = Sha256::digest(sender).into();
    format!("{}/{id}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn is_id(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && !id.contains(char::is_control)
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for (filter, publish, topic, sender, is_loop, status) in [
            ("gatelet/in/+", "gatelet/out/{user}", "gatelet/in/ana", Some("ana"), false, "gatelet/status/n"),
            ("gatelet/in/+", "gatelet/out/{user}", "gatelet/in/ana/x", None, false, "gatelet/status/n"),
            ("gatelet/in/+", "gatelet/out/{user}", "gatelet/in", None, false, "gatelet/status/n"),
            ("gatelet/in/+", "gatelet/out/{user}", "gatelet/in/", None, false, "gatelet/status/n"),
            ("chat/+", "chat/{user}", "chat/ana", Some("ana"), true, "chat/status/n"),
            ("chat/+", "chat/{user}/re", "chat/ana", Some("ana"), false, "chat/status/n"),
            ("a/+/b", "{user}", "a/x/b", Some("x"), false, "gatelet/status/n"),
            ("a/+/b", "a/x{user}y/b", "a/x/b", Some("x"), true, "a/status/n"),
            ("$share/g/a/+", "a/{user}", "a/x", Some("x"), true, "a/status/n"),
            ("a/status/+", "a/{user}", "a/status/n", None, false, "a/status/n"),
        ] {
            let topics = Topics::new("n", filter, publish);
            assert_eq!(topics.sender(topic), sender, "{filter} {topic}");
            assert_eq!((topics.is_loop(), topics.status.as_str()), (is_loop, status), "{filter} {publish}");
        }
    }

    #[test]
    fn a_user_is_one_level() {
        let topics = Topics::new("n", "in/+", "out/{user}/{user}");
        assert_eq!(topics.to("ana").unwrap(), "out/ana/ana");
        for user in ["", "a/b", "+", "a#", "a\0", "../x"] {
            assert_eq!(topics.to(user).unwrap_err().kind, ErrorKind::Permanent, "{user:?}");
        }
        assert!(topics.to(&"x".repeat(40_000)).is_err());
    }

    #[test]
    fn payloads() {
        let of = |bytes: &[u8]| Received {
            topic: "in/ana".into(),
            payload: bytes.to_vec(),
            packet_id: Some(1),
            is_again: false,
            is_retained: false,
            id: None,
            is_cut: false,
        };
        let check = |payload: &str, text: &str, id: Option<&str>, conversation: Option<&str>| {
            let said = said(&of(payload.as_bytes())).unwrap();
            let found = (said.text.as_str(), said.id.as_deref(), said.conversation.as_deref());
            assert_eq!(found, (text, id, conversation), "{payload}");
        };
        check("hello", "hello", None, None);
        check(r#"{"message":"hi","id":"7"}"#, "hi", Some("7"), None);
        check(r#" {"message":"hi","messageId":7,"conversationId":"k"}"#, "hi", Some("7"), Some("k"));
        check(r#"{"message":"hi","id":["x"],"conversationId":""}"#, "hi", None, None);
        check(r#"{"temperature":21}"#, r#"{"temperature":21}"#, None, None);
        check(r#"{"message":21}"#, r#"{"message":21}"#, None, None);
        check("{not json", "{not json", None, None);
        let with = said(&of(br#"{"message":"m","metadata":{"a":1}}"#)).unwrap();
        assert_eq!(with.metadata, Some(serde_json::json!({"a": 1})));
        let own = Received { id: Some("p".into()), ..of(br#"{"message":"m","id":"j"}"#) };
        assert_eq!(said(&own).unwrap().id.as_deref(), Some("p"));
        for bad in [
            of(b""),
            of(b" \n"),
            of(b"\xff\xfe"),
            of(br#"{"message":""}"#),
            Received { is_cut: true, ..of(b"x") },
            Received { is_retained: true, ..of(b"x") },
            of(&vec![b'x'; PAYLOAD_MAX + 1]),
        ] {
            assert!(said(&bad).is_err(), "{:?}", bad.payload.len());
        }
    }
}
