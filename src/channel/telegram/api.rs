//! Calls of the Bot API: one method each, JSON in and out.
//!
//! Invariant: the token is part of every URL, so no URL is ever shown, nor what the HTTP client would say of an answer; of the server's
//! own words only the documented `description` is shown, shortened and with the token blotted out. A token that is not formed as
//! one is never sent. Fails with a [`Refusal`]: an error kind, and what the service asks for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::base::secret::{REDACTED, Secret};
use crate::channel::{Wanted, files};
use crate::net::client::{Call, Client, Deadlines, Refused, origin};

const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
/// Largest answer: a hundred long messages with what they answer, and room.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// What is shown of the server's own words.
const WORDS_MAX: usize = 200;
/// Longest pause that is obeyed as it was asked for.
const PAUSE_MAX: u64 = 3600;

/// The service, as one bot.
pub struct Api {
    client: Arc<Client>,
    root: String,
    token: Secret,
}

/// Why a call failed.
#[derive(Debug)]
pub struct Refusal {
    /// For the program and for people.
    pub error: Error,
    /// The group lives on as this chat.
    pub moved_to: Option<i64>,
    /// The markup, not the message, was refused.
    pub is_markup: bool,
    /// The API itself says that it failed; a server before it, which gave it up, can't know.
    pub is_verdict: bool,
    /// The status, 0 where there was no answer.
    pub status: u16,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { error, moved_to: None, is_markup: false, is_verdict: false, status: 0 }
    }
}

impl Api {
    /// The bot of `token` at `root` (no slash at its end).
    pub fn new(client: Arc<Client>, root: String, token: Secret) -> Self {
        Api { client, root, token }
    }

    /// Calls `method`, a small one; gives its `result`.
    pub fn call(&self, method: &str, body: &Value, cancel: Option<&Cancel>) -> Result<Value, Refusal> {
        let bytes = self.bytes(method, body, Deadlines::within(CONNECT, TOTAL), cancel)?;
        Ok(result(&bytes)?)
    }

    /// Calls `sendMessage`, which Telegram would do twice where it is called twice: `Unclear` where it is not known whether it did.
    pub fn send(&self, body: &Value) -> Result<(), Refusal> {
        let call = self.request("sendMessage", body, Deadlines::within(CONNECT, TOTAL))?.once();
        let bytes = self.run(&call)?;
        // What is no answer of the Bot API's tells nothing of what it did.
        result(&bytes).map(drop).map_err(|e| Error { kind: ErrorKind::Unclear, ..e }.into())
    }

    /// The same within a deadline of its own.
    pub fn call_within(&self, method: &str, body: &Value, within: Duration) -> Result<Value, Refusal> {
        Ok(result(&self.bytes(method, body, Deadlines::within(within, within), None)?)?)
    }

    /// Calls `method` within a deadline of its own, best effort.
    pub fn hint(&self, method: &str, body: &Value, within: Duration) {
        let _ = self.bytes(method, body, Deadlines::within(within, within), None); // a hint: nothing hangs on it
    }

    /// Calls `getUpdates` and gives the answer as it came, which may be no JSON.
    pub fn poll(&self, body: &Value, held: Duration, cancel: &Cancel) -> Result<Vec<u8>, Refusal> {
        let first_byte = held + Duration::from_secs(15);
        let deadlines =
            Deadlines { connect: CONNECT, send: CONNECT, first_byte, read: CONNECT, total: Some(first_byte + 3 * CONNECT) };
        self.bytes("getUpdates", body, deadlines, Some(cancel))
    }

    /// Where a file is, by `getFile`.
    pub fn file_path(&self, file_id: &str, wanted: &Wanted<'_>) -> Result<String, Refusal> {
        let deadlines = Deadlines::within(CONNECT, wanted.within.min(TOTAL));
        let bytes = self.bytes("getFile", &serde_json::json!({"file_id": file_id}), deadlines, Some(wanted.cancel))?;
        Ok(result(&bytes)?["file_path"].as_str().unwrap_or_default().to_string())
    }

    /// The bytes at such a path, which the caller has looked at.
    pub fn file(&self, path: &str, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        let url = format!("{}/file/bot{}/{path}", self.root, self.token.reveal());
        let refused = |refused: Refused| match refused.error.kind {
            ErrorKind::Stopped => refused.error,
            _ => Error { hint: String::new(), ..self.refusal(refused.status, &refused.body).error },
        };
        files::body(&self.client, &files::get(url, wanted), wanted, refused).map_err(|e| self.clean(e))
    }

    fn bytes(&self, method: &str, body: &Value, deadlines: Deadlines, cancel: Option<&Cancel>) -> Result<Vec<u8>, Refusal> {
        let call = self.request(method, body, deadlines)?;
        self.run(&cancel.into_iter().fold(call, |call, cancel| call.cancel(cancel)))
    }

    fn request(&self, method: &str, body: &Value, deadlines: Deadlines) -> Result<Call> {
        if !is_token(self.token.reveal()) {
            let error = Error::new(ErrorKind::Denied, "the token is not formed as a bot's token");
            return Err(error.hint("it is a number, a colon and about 35 letters, as @BotFather gives it"));
        }
        let url = format!("{}/bot{}/{method}", self.root, self.token.reveal());
        Ok(Call::post_json(url, body.to_string(), deadlines))
    }

    fn run(&self, call: &Call) -> Result<Vec<u8>, Refusal> {
        let reply = self.client.send(call).map_err(|e| self.clean(e))?;
        match reply.accepted() {
            Ok(mut reply) => Ok(reply.read_all(ANSWER_MAX)?),
            Err(refused) if refused.error.kind == ErrorKind::Stopped => Err(refused.error.into()),
            Err(refused) => {
                let mut said = self.refusal(refused.status, &refused.body);
                if refused.error.kind == ErrorKind::Unclear && !said.is_verdict {
                    said.error.kind = ErrorKind::Unclear;
                }
                Err(said)
            }
        }
    }

    /// The client's texts name the origin alone; that they hold no token is made sure of here all the same.
    fn clean(&self, e: Error) -> Error {
        Error { kind: e.kind, text: self.blotted(&e.text), hint: self.blotted(&e.hint) }
    }

    fn blotted(&self, text: &str) -> String {
        let token = self.token.reveal();
        let secret = token.split_once(':').map_or(token, |(_, secret)| secret);
        // Both, since a server may show the path with the colon escaped.
        let text = text.replace(token, REDACTED);
        if secret.is_empty() { text } else { text.replace(secret, REDACTED) }
    }

    fn refusal(&self, status: u16, body: &str) -> Refusal {
        let said: Value = serde_json::from_str(body).unwrap_or_default();
        let words = said["description"].as_str().unwrap_or_default();
        let words: String = self.blotted(words).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words = shorten(&words, WORDS_MAX);
        let parameters = &said["parameters"];
        let lower = words.to_ascii_lowercase();
        let kind = match status {
            429 => {
                let asked = parameters["retry_after"].as_u64();
                ErrorKind::Throttled(asked.map(|s| Duration::from_secs(s.min(PAUSE_MAX))))
            }
            401 | 404 => ErrorKind::Denied,
            408 | 409 | 500..=599 => ErrorKind::Transient,
            _ => ErrorKind::Permanent,
        };
        let colon = if words.is_empty() { "" } else { ": " };
        let text = format!("{} answered {status}{colon}{words}", origin(&self.root));
        Refusal {
            error: Error::new(kind, text).hint(advice(status, &lower)),
            moved_to: parameters["migrate_to_chat_id"].as_i64(),
            is_markup: status == 400
                && ["parse entities", "text is empty", "must be non-empty"].iter().any(|words| lower.contains(words)),
            is_verdict: said["ok"] == false && !matches!(status, 502 | 504),
            status,
        }
    }
}

/// What to do about a refusal, for a person.
fn advice(status: u16, words: &str) -> &'static str {
    match status {
        401 | 404 => "check the token: @BotFather shows it, and revokes it",
        409 if words.contains("webhook") => {
            "a webhook is set for this bot: remove it with deleteWebhook, or use another bot's token"
        }
        409 => "another program polls with the same token: stop it, or use another bot's token",
        403 => "the user has blocked the bot, or the bot was removed from the chat",
        _ => "",
    }
}

/// The `result` of an answer.
pub fn result(bytes: &[u8]) -> Result<Value> {
    let broken = || Error::new(ErrorKind::Transient, "the server's answer is not of the Bot API").hint("check apiRoot");
    let mut answer: Value = serde_json::from_slice(bytes).map_err(|_| broken())?;
    if answer["ok"] != true {
        return Err(broken());
    }
    answer.get_mut("result").map(Value::take).ok_or_else(broken)
}

/// A number, a colon, and letters that can stand in a path.
fn is_token(token: &str) -> bool {
    token.split_once(':').is_some_and(|(id, secret)| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !secret.is_empty() && secret.bytes().all(is_plain)
    })
}
