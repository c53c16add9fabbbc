//! `message.send`: a message to the user, or to somebody else.
//!
//! Invariant: to the user whose turn it is as the rules say. To anybody else only by a rule that names whom, that is one with a
//! pattern for `arguments.user`, or after a person's approval: neither `default: allow` nor a rule that allows the tool as such is
//! enough, since a text that an agent reads may ask it to write to others. A repeat of the same call is the same message. Fails as
//! the courier does.

use serde_json::{Map, Value, json};

use super::{About, Context, Tool, Who, object, text};
use crate::base::error::{Error, ErrorKind, Result};

/// `message.send`.
pub struct Send(About);

impl Default for Send {
    fn default() -> Self {
        let schema =
            object(json!({"text": {"type": "string"}, "user": {"type": "string"}, "channel": {"type": "string"}}), &["text"]);
        let about = About::new("message.send", "Send a message beside your answer: to the user, or to another one.", schema);
        Send(About { idempotent: true, dangerous: true, ..about })
    }
}

impl Tool for Send {
    fn about(&self) -> &About {
        &self.0
    }

    fn reaches(&self, arguments: &Map<String, Value>, who: &Who) -> Option<&'static str> {
        (recipient(arguments, who) != who.user_id).then_some("user")
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let user = recipient(arguments, context.who);
        for (name, given) in [("text", text(arguments, "text")), ("user", user)] {
            if given.trim().is_empty() {
                return Err(Error::new(ErrorKind::Invalid, format!("{name} is empty")));
            }
        }
        let channel = arguments.get("channel").and_then(Value::as_str).filter(|c| !c.is_empty());
        let id = context.courier.send(user, channel, text(arguments, "text"), &context.key)?;
        Ok(format!("It is on its way as {id}."))
    }
}

fn recipient<'a>(arguments: &'a Map<String, Value>, who: &'a Who) -> &'a str {
    arguments.get("user").and_then(Value::as_str).unwrap_or(&who.user_id)
}
