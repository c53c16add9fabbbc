//! An answer that is shown while it is made: one message, edited as more of it is there, and edited once more into the answer.
//!
//! Invariant: what is shown is plain text that ends with a sign that more comes, so that what a crash leaves behind is not taken for an
//! answer. The edit that makes it the answer is the same however often it is tried. Fails as the calls do; nothing hangs on it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::Preview;
use crate::channel::pieces::pieces;
use crate::channel::telegram::api::Refusal;
use crate::channel::telegram::{HINT, TEXT_MAX, Target, Telegram};
use crate::domain::Delivery;

/// How often it is edited: Telegram takes about one message a second in a chat of two, and 20 a minute in a group, answers included.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_IN_GROUPS: Duration = Duration::from_secs(4);
/// What says that more comes.
const GOES_ON: &str = " …";
/// An answer that comes later than this is sent anew, since nobody is told of an edit.
const AGE_MAX_MS: i64 = 10 * 60 * 1000;

/// How often an answer may be shown in that conversation; the number of a group is below zero.
pub(super) fn every(conversation: Option<&str>) -> Duration {
    if conversation.is_some_and(|place| place.starts_with('-')) { EVERY_IN_GROUPS } else { EVERY }
}

impl Telegram {
    /// Shows what is there; gives the message's number.
    pub(super) fn show(&self, preview: &Preview<'_>) -> Result<Value> {
        let target = Target::of(preview.peer, preview.conversation)?;
        let first = pieces(preview.text, TEXT_MAX - GOES_ON.len(), char::len_utf16).into_iter().next().unwrap_or_default();
        let mut body = json!({"text": format!("{first}{GOES_ON}"), "link_preview_options": {"is_disabled": true}});
        if let Some(message) = preview.message {
            body["message_id"] = message.clone();
            return match self.api.call_within("editMessageText", &target.body(body), HINT) {
                Err(refused) if !is_unmodified(&refused) => Err(refused.error),
                _ => Ok(message.clone()),
            };
        }
        if let Some(answered) = answered(preview.metadata, preview.conversation) {
            body["reply_parameters"] = json!({"message_id": answered, "allow_sending_without_reply": true});
        }
        let sent = self.api.call_within("sendMessage", &target.body(body), HINT)?;
        let unnamed = || Error::new(ErrorKind::Transient, "Telegram does not say what it calls the message");
        sent["message_id"].as_i64().map(Value::from).ok_or_else(unnamed)
    }

    /// Takes it away.
    pub(super) fn unshow(&self, peer: &str, conversation: Option<&str>, message: &Value) {
        if let Ok(target) = Target::of(peer, conversation) {
            self.api.hint("deleteMessage", &target.body(json!({"message_id": message})), HINT);
        }
    }

    /// The message that a delivery takes the place of. One that is shown for too long is taken away first: it may be the answer already.
    pub(super) fn shown(&self, delivery: &Delivery, target: &Target) -> Result<Option<i64>> {
        let Some(message) = delivery.metadata.as_ref().and_then(|m| m["preview"].as_i64()) else { return Ok(None) };
        if self.clock.unix_ms().saturating_sub(delivery.created_ms) <= AGE_MAX_MS {
            return Ok(Some(message));
        }
        match self.api.call("deleteMessage", &target.body(json!({"message_id": message})), None) {
            Err(refused) if refused.error.is_passing() => Err(refused.error),
            _ => Ok(None), // what can't be deleted is gone, or has to stay
        }
    }
}

/// The message that is shown to be answered: in a group; in a chat of two it is plain.
pub(super) fn answered(metadata: Option<&Value>, conversation: Option<&str>) -> Option<i64> {
    metadata.and_then(|m| m["messageId"].as_i64()).filter(|_| conversation.is_some())
}

/// Whether an edit was refused because all is as it should be.
pub(super) fn is_unmodified(refused: &Refusal) -> bool {
    refused.status == 400 && refused.error.text.contains("message is not modified")
}
