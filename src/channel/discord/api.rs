//! Discord's REST API, within its rate limits.
//!
//! Invariant: the token goes to `apiRoot` alone, and no error shows it. A place whose budget Discord said to be used up is not written
//! to before it is filled again; after a global refusal nothing is. Fails with `Throttled` and the time left there, else as the
//! client does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::http::Method;

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::{REDACTED, Secret};
use crate::channel::{Wanted, discord, files};
use crate::config;
use crate::net::client::{Call, Client, Deadlines, Reply};

const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
/// A sign that nobody misses may take this long.
const SIGN: Duration = Duration::from_secs(3);
/// A hundred messages of 4,000 characters, with what stands around them.
const ANSWER_MAX: usize = 2 * 1024 * 1024;
/// Places whose budget is remembered.
const BUDGETS_MAX: usize = 256;
/// The longest that a budget is believed to be empty.
const EMPTY_MAX: Duration = Duration::from_secs(3600);
/// The key of the budget that all share.
const GLOBAL: &str = "";

/// The API.
pub struct Api {
    client: Arc<Client>,
    config: config::Discord,
    authorization: Secret,
    clock: Clock,
    /// Until when a place takes nothing.
    empty_until: Mutex<HashMap<String, Duration>>,
}

impl Api {
    /// The API that is configured.
    pub fn new(client: Arc<Client>, config: config::Discord, clock: Clock) -> Self {
        let authorization = Secret::new(format!("Bot {}", config.token.reveal()));
        Api { client, config, authorization, clock, empty_until: Mutex::default() }
    }

    /// The bot's token.
    pub fn token(&self) -> &Secret {
        &self.config.token
    }

    /// Where the gateway is.
    ///
    /// # Errors
    /// `Throttled` where no session may be begun for a while; else as the API fails.
    pub fn gateway(&self, cancel: &Cancel) -> Result<String> {
        let answer = self.call(Method::GET, "/gateway/bot", "gateway", None, Some(cancel))?;
        let limit = &answer["session_start_limit"];
        if limit["remaining"] == 0 {
            let after = Duration::from_millis(limit["reset_after"].as_u64().unwrap_or(60_000));
            return Err(Error::new(ErrorKind::Throttled(Some(after)), "Discord lets this bot begin no more sessions today"));
        }
        self.address(answer["url"].as_str().unwrap_or_default())
    }

    /// A gateway's address with version and encoding, if it is one that we may connect to.
    ///
    /// # Errors
    /// Where it isn't encrypted although the API is.
    pub fn address(&self, url: &str) -> Result<String> {
        let wanted = if self.config.api_root.starts_with("https://") { "wss://" } else { "ws" };
        if !url.starts_with(wanted) {
            return Err(Error::new(ErrorKind::Transient, "Discord gives no secure address to connect to"));
        }
        Ok(format!("{}/?v=10&encoding=json", url.trim_end_matches('/')))
    }

    /// Messages of a channel behind that one, oldest first, at most 100.
    ///
    /// # Errors
    /// As the API fails.
    pub fn after(&self, channel: &str, message: u64, cancel: &Cancel) -> Result<Vec<Value>> {
        let path = format!("/channels/{channel}/messages?limit=100&after={message}");
        let answer = self.call(Method::GET, &path, &format!("read {channel}"), None, Some(cancel))?;
        let mut all = answer.as_array().cloned().unwrap_or_default();
        all.sort_by_key(|m| m["id"].as_str().and_then(|id| id.parse::<u64>().ok()));
        Ok(all)
    }

    /// Sends a text; `key` is the same at every try.
    ///
    /// # Errors
    /// As the API fails; `Unclear` where it is not known whether Discord did it.
    pub fn post(&self, channel: &str, text: &str, key: &str, reply_to: Option<&str>) -> Result<()> {
        let digest = Sha256::digest(key.as_bytes());
        let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest[..18]); // 24 of 25 characters
        let mut body = json!({"content": text, "nonce": nonce, "enforce_nonce": true, "allowed_mentions": {"parse": []}});
        if let Some(id) = reply_to {
            body["message_reference"] = json!({"message_id": id, "fail_if_not_exists": false});
        }
        self.call(Method::POST, &format!("/channels/{channel}/messages"), channel, Some(&body), None).map(|_| ())
    }

    /// The direct channel with a user.
    ///
    /// # Errors
    /// As the API fails.
    pub fn direct(&self, user: &str) -> Result<String> {
        let answer = self.call(Method::POST, "/users/@me/channels", "direct", Some(&json!({"recipient_id": user})), None)?;
        let id = answer["id"].as_str();
        id.map(str::to_string).ok_or_else(|| Error::new(ErrorKind::Permanent, "Discord opened no conversation with that user"))
    }

    /// Shows that an answer is being made.
    ///
    /// # Errors
    /// As the API fails.
    pub fn typing(&self, channel: &str) -> Result<()> {
        self.call(Method::POST, &format!("/channels/{channel}/typing"), &format!("typing {channel}"), Some(&json!({})), None)
            .map(|_| ())
    }

    /// The bytes of a file; its address lets in whoever has it, no token goes there.
    ///
    /// # Errors
    /// `Permanent` where the address is not Discord's own; as the client fails.
    pub fn file(&self, url: &str, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
        if !discord::files::is_discords(url, &self.config.api_root) {
            return Err(Error::new(ErrorKind::Permanent, "the file is not at Discord's own address: it is not fetched"));
        }
        files::body(&self.client, &files::get(url, wanted), wanted, |refused| refused.error)
    }

    fn call(&self, method: Method, path: &str, budget: &str, body: Option<&Value>, cancel: Option<&Cancel>) -> Result<Value> {
        self.may(budget)?;
        let within = if path.ends_with("/typing") { SIGN } else { TOTAL };
        let is_post = method == Method::POST && path.ends_with("/messages");
        let mut call = Call::new(method, format!("{}{path}", self.config.api_root), Deadlines::within(CONNECT, within))
            .key("Authorization", &self.authorization)
            .header("X-RateLimit-Precision", "millisecond");
        if let Some(body) = body {
            call = call.json(body.to_string());
        }
        if let Some(cancel) = cancel {
            call = call.cancel(cancel);
        }
        if is_post {
            call = call.once();
        }
        let reply = self.client.send(&call)?;
        self.note(&reply, budget);
        let is_global = reply.header("x-ratelimit-global").is_some() || reply.header("x-ratelimit-scope") == Some("global");
        let mut reply = match reply.accepted() {
            Ok(reply) => reply,
            Err(refused) => return Err(self.refused(refused.error, &refused.body, budget, is_global)),
        };
        if reply.status() == 204 {
            return Ok(Value::Null);
        }
        let answer = reply.read_all(ANSWER_MAX)?;
        reply.settle();
        let kind = if is_post { ErrorKind::Unclear } else { ErrorKind::Transient };
        serde_json::from_slice(&answer).map_err(|_| Error::new(kind, "Discord answered with something that is no JSON"))
    }

    fn refused(&self, error: Error, body: &str, budget: &str, is_global: bool) -> Error {
        let text = error.text.replace(self.config.token.reveal(), REDACTED);
        let ErrorKind::Throttled(asked) = error.kind else { return Error { text, ..error } };
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let exact = body["retry_after"].as_f64().filter(|s| (0.0..86_400.0).contains(s)).map(Duration::from_secs_f64);
        let pause = exact.or(asked).unwrap_or(Duration::from_secs(1));
        self.is_empty_for(if is_global || body["global"] == true { GLOBAL } else { budget }, pause);
        Error { kind: ErrorKind::Throttled(Some(pause)), text, ..error }
    }

    fn note(&self, reply: &Reply, budget: &str) {
        let after =
            reply.header("x-ratelimit-reset-after").and_then(|v| v.parse::<f64>().ok()).filter(|s| (0.0..86_400.0).contains(s));
        if let (Some("0"), Some(after)) = (reply.header("x-ratelimit-remaining"), after) {
            self.is_empty_for(budget, Duration::from_secs_f64(after));
        }
    }

    fn is_empty_for(&self, budget: &str, pause: Duration) {
        let now = self.clock.mono();
        let mut all = self.empty_until.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| *until > now);
        if all.len() < BUDGETS_MAX || all.contains_key(budget) {
            all.insert(budget.to_string(), now + pause.min(EMPTY_MAX)); // without it Discord refuses, and tells again
        }
    }

    /// Whether that budget lets us call now.
    fn may(&self, budget: &str) -> Result<()> {
        let now = self.clock.mono();
        let all = self.empty_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = [GLOBAL, budget].iter().filter_map(|b| all.get(*b)?.checked_sub(now)).filter(|l| !l.is_zero()).max();
        match left {
            Some(left) => Err(Error::new(ErrorKind::Throttled(Some(left)), "Discord's rate limit is used up for the moment")),
            None => Ok(()),
        }
    }
}
