//! Slack's Web API: a POST of JSON, an answer with `ok`.
//!
//! Invariant: a token goes to `apiRoot` alone, and no error shows one; a ticket for a connection is not shown either. Fails with the
//! kind that tells what helps: a pause, a person, or nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::channel::slack::frame::Me;
use crate::channel::{Wanted, files, slack};
use crate::config;
use crate::net::client::{Call, Client, Deadlines};

const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
/// The method whose repeat says something twice.
const POST: &str = "chat.postMessage";
/// An answer of those that we ask for is a small document.
const ANSWER_MAX: usize = 256 * 1024;

/// The API.
#[derive(Clone)]
pub struct Api {
    client: Arc<Client>,
    config: config::Slack,
}

impl Api {
    /// The API that is configured.
    pub fn new(client: Arc<Client>, config: config::Slack) -> Self {
        Api { client, config }
    }

    /// `auth.test`: who we are.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub fn me(&self, cancel: &Cancel) -> Result<Me> {
        let answer = self.call("auth.test", &self.config.bot_token, &json!({}), Some(cancel))?;
        let me = Me { user: answer["user_id"].as_str().unwrap_or_default().to_string() };
        if me.user.is_empty() {
            return Err(Error::new(ErrorKind::Transient, "Slack does not tell who the bot is"));
        }
        Ok(me)
    }

    /// `apps.connections.open`: where to connect, with a ticket in it.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub fn connection(&self, cancel: &Cancel) -> Result<String> {
        let answer = self.call("apps.connections.open", &self.config.app_token, &json!({}), Some(cancel))?;
        let url = answer["url"].as_str().unwrap_or_default();
        // What is said there is nobody else's business, unless the whole API is a test's.
        let wanted = if self.config.api_root.starts_with("https://") { "wss://" } else { "ws" };
        if !url.starts_with(wanted) {
            return Err(Error::new(ErrorKind::Transient, "Slack gives no secure address to connect to"));
        }
        Ok(url.to_string())
    }

    /// `conversations.open`: the direct conversation with a user.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub fn direct(&self, user: &str) -> Result<String> {
        let answer = self.call("conversations.open", &self.config.bot_token, &json!({"users": user}), None)?;
        let id = answer["channel"]["id"].as_str();
        id.map(str::to_string).ok_or_else(|| Error::new(ErrorKind::Permanent, "Slack opened no conversation with that user"))
    }

    /// `chat.postMessage`; `conversation` is a channel, or `channel/thread`.
    ///
    /// # Errors
    /// As [`Api::call`]; `Unclear` where it is not known whether Slack did it.
    pub fn post(&self, conversation: &str, text: &str) -> Result<()> {
        let (channel, thread) = conversation.split_once('/').map_or((conversation, None), |(c, t)| (c, Some(t)));
        let mut body = json!({"channel": channel, "text": text, "mrkdwn": true, "unfurl_links": false, "unfurl_media": false});
        if let Some(thread) = thread {
            body["thread_ts"] = thread.into();
        }
        self.run(POST, &self.request(POST, &self.config.bot_token, &body).once()).map(drop)
    }

    /// The bytes of a file, with the bot's token.
    ///
    /// # Errors
    /// `Permanent` where the address is not Slack's own; as the client fails.
    pub fn file(&self, url: &str, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        if !slack::files::is_slacks(url, &self.config.api_root) {
            return Err(Error::new(ErrorKind::Permanent, "the file is not at Slack's own address: it is not fetched"));
        }
        let call = files::get(url, wanted).bearer(&self.config.bot_token);
        let hint = "the bot needs the scope files:read";
        files::body(&self.client, &call, wanted, |refused| self.hidden(refused.error).hint(hint)).map_err(|e| self.hidden(e))
    }

    fn call(&self, method: &str, token: &Secret, body: &Value, cancel: Option<&Cancel>) -> Result<Value> {
        let call = self.request(method, token, body);
        self.run(method, &cancel.into_iter().fold(call, |call, cancel| call.cancel(cancel)))
    }

    fn request(&self, method: &str, token: &Secret, body: &Value) -> Call {
        let url = format!("{}/{method}", self.config.api_root);
        Call::post_json(url, body.to_string(), Deadlines::within(CONNECT, TOTAL)).bearer(token)
    }

    fn run(&self, method: &str, call: &Call) -> Result<Value> {
        let mut reply = self.client.send(call)?.accepted().map_err(|refused| self.hidden(refused.error))?;
        let answer = reply.read_all(ANSWER_MAX)?;
        reply.settle();
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| Error::new(unexplained(method), format!("Slack's {method} answered with something that is no JSON")))?;
        match answer["ok"] == true {
            true => Ok(answer),
            false => Err(failure(method, answer["error"].as_str().unwrap_or_default(), answer["needed"].as_str())),
        }
    }

    /// The other token, too, is not for eyes, should a peer repeat it.
    fn hidden(&self, error: Error) -> Error {
        let mut text = error.text.clone();
        for secret in [&self.config.app_token, &self.config.bot_token] {
            text = text.replace(secret.reveal(), crate::base::secret::REDACTED);
        }
        Error { text, ..error }
    }
}

/// The kind of a failure that leaves open whether Slack did what it was asked.
fn unexplained(method: &str) -> ErrorKind {
    if method == POST { ErrorKind::Unclear } else { ErrorKind::Transient }
}

/// What an `error` of Slack's means.
fn failure(method: &str, code: &str, needed: Option<&str>) -> Error {
    let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
    let (kind, hint) = match code.as_str() {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => (ErrorKind::Throttled(None), ""),
        "service_unavailable" | "request_timeout" | "team_added_to_org" => (ErrorKind::Transient, ""),
        // "It's possible some aspect of the operation succeeded before the error was raised."
        "" | "internal_error" | "fatal_error" => (unexplained(method), ""),
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            (ErrorKind::Denied, "check appToken (xapp-…) and botToken (xoxb-…), and that the app is still installed")
        }
        "not_allowed_token_type" => {
            (ErrorKind::Denied, "appToken begins with xapp-, botToken with xoxb-; perhaps they are swapped")
        }
        "missing_scope" | "no_permission" | "access_denied" | "ekm_access_denied" | "org_login_required"
        | "restricted_action" => (
            ErrorKind::Denied,
            "give the app the scope and install it again: chat:write, im:history, im:write, app_mentions:read for the bot, connections:write for appToken",
        ),
        "not_in_channel" => (ErrorKind::Permanent, "invite the bot to that channel"),
        "channel_not_found" | "user_not_found" | "is_archived" | "cannot_dm_bot" | "user_disabled" => (ErrorKind::Permanent, ""),
        _ => (ErrorKind::Permanent, ""),
    };
    let scopes: String =
        needed.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || ":,._".contains(*c)).take(100).collect();
    let wants = if scopes.is_empty() { String::new() } else { format!(" (needs {scopes})") };
    let said = if code.is_empty() { "no reason" } else { &code };
    Error::new(kind, format!("Slack's {method} failed with {said}{wants}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        for (code, kind) in [
            ("not_in_channel", ErrorKind::Permanent),
            ("channel_not_found", ErrorKind::Permanent),
            ("msg_too_long", ErrorKind::Permanent),
            ("what_is_new", ErrorKind::Permanent),
            ("invalid_auth", ErrorKind::Denied),
            ("account_inactive", ErrorKind::Denied),
            ("missing_scope", ErrorKind::Denied),
            ("ratelimited", ErrorKind::Throttled(None)),
            ("internal_error", ErrorKind::Transient),
            ("", ErrorKind::Transient),
        ] {
            assert_ne!(failure("m", code, None).kind, ErrorKind::Unclear, "{code}");
            assert_eq!(failure("m", code, None).kind, kind, "{code}");
        }
        for (code, kind) in [
            ("internal_error", ErrorKind::Unclear),
            ("fatal_error", ErrorKind::Unclear),
            ("", ErrorKind::Unclear),
            ("service_unavailable", ErrorKind::Transient),
            ("msg_too_long", ErrorKind::Permanent),
        ] {
            assert_eq!(failure(POST, code, None).kind, kind, "{code}");
        }
        let shown = failure("m", "missing_scope\u{1b}[31m<b>", Some("chat:write\n")).text;
        assert_eq!(shown, "Slack's m failed with missing_scope31mb (needs chat:write)");
    }
}
