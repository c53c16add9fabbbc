//! The client-server API, version 3, as far as it is needed: calls with the token, and what their refusals mean.
//!
//! Invariant: the token goes to the homeserver alone, in a header; no answer is read without a bound, no wait is without a deadline.
//! A token that is no longer known is fetched anew once. Fails with a [`Failure`]: Matrix's own code beside our kind.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::channel::matrix::Pace;
use crate::channel::matrix::session::Session;
use crate::channel::{Parts, Wanted, files};
use crate::config;
use crate::net::client::{Call, Client, Deadlines, Refused};

const CONNECT: Duration = Duration::from_secs(10);
const HINT: Duration = Duration::from_secs(3);
/// Of an answer that is a list of events; of any other one.
const SYNC_BYTES_MAX: usize = 16 * 1024 * 1024;
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A call that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: Error,
    /// The status; 0 where there was no answer.
    pub status: u16,
    /// Matrix's name for it (`M_FORBIDDEN`), or empty.
    pub code: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, status: 0, code: String::new() }
    }
}

impl AsRef<Error> for Failure {
    fn as_ref(&self) -> &Error {
        &self.error
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let body: Value = serde_json::from_str(&refused.body).unwrap_or_default();
        let code = body["errcode"].as_str().unwrap_or_default().to_string();
        let mut error = refused.error;
        match (refused.status, code.as_str()) {
            (_, "M_LIMIT_EXCEEDED") | (429, _) => {
                let asked = body["retry_after_ms"].as_u64().map(|ms| Duration::from_millis(ms.clamp(1, 3_600_000)));
                let before = if let ErrorKind::Throttled(before) = error.kind { before } else { None };
                error.kind = ErrorKind::Throttled(asked.or(before));
            }
            // The account's own misfortune; everything else that is forbidden is about one room.
            (_, "M_USER_DEACTIVATED" | "M_USER_SUSPENDED" | "M_USER_LOCKED") => error.kind = ErrorKind::Denied,
            (_, "M_FORBIDDEN" | "M_TOO_LARGE" | "M_CONSENT_NOT_GIVEN") => error.kind = ErrorKind::Permanent,
            _ => {}
        }
        Failure { error, status: refused.status, code }
    }
}

/// The method of a call with its body.
pub(super) enum Verb {
    Get,
    Post(Value),
    Put(Value),
    /// Likewise; what it does is not known where it isn't answered.
    Send(Value),
}

/// The API of one account.
pub(super) struct Api {
    client: Arc<Client>,
    clock: Clock,
    channel: String,
    homeserver: String,
    /// The account: `@bot:example.org`.
    pub user_id: String,
    device_id: String,
    password: Option<Secret>,
    session: Session,
    pace: Pace,
}

impl Api {
    pub(super) fn new(parts: &Parts, config: config::Matrix, pace: Pace) -> Self {
        // The same at every start, another one for each channel.
        let id: String = parts.name.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        Api {
            client: parts.client.clone(),
            clock: parts.clock.clone(),
            channel: parts.name.clone(),
            homeserver: config.homeserver,
            user_id: config.user_id,
            device_id: format!("GATELET_{id}"),
            session: Session::new(config.access_token, config.password.is_some()),
            password: config.password,
            pace,
        }
    }

    /// An ordinary call: `path` begins behind `/_matrix/client/v3`, its parts percent-encoded.
    ///
    /// # Errors
    /// As the file says.
    pub(super) fn call(&self, verb: Verb, path: &str, cancel: Option<&Cancel>) -> Result<Value, Failure> {
        let deadlines = Deadlines::within(CONNECT, self.pace.call);
        self.with_token(&verb, path, deadlines, ANSWER_BYTES_MAX, cancel)
    }

    /// A call that nobody waits for long.
    ///
    /// # Errors
    /// As the file says.
    pub(super) fn hint(&self, verb: Verb, path: &str) -> Result<Value, Failure> {
        let deadlines = Deadlines::within(HINT, HINT.min(self.pace.call));
        self.with_token(&verb, path, deadlines, ANSWER_BYTES_MAX, None)
    }

    /// A call whose answer is a list of events and may take `held` longer, for the homeserver waits for something to happen.
    ///
    /// # Errors
    /// As the file says.
    pub(super) fn events(&self, path: &str, held: Duration, cancel: &Cancel) -> Result<Value, Failure> {
        let slow = held + self.pace.call;
        let deadlines = Deadlines {
            connect: CONNECT.min(self.pace.call),
            send: self.pace.call,
            first_byte: slow,
            read: self.pace.call,
            total: Some(slow + self.pace.call * 3),
        };
        self.with_token(&Verb::Get, path, deadlines, SYNC_BYTES_MAX, Some(cancel))
    }

    /// Checks whose token it is.
    ///
    /// # Errors
    /// `Denied` where it is not the configured account's.
    pub(super) fn check(&self, cancel: &Cancel) -> Result<(), Failure> {
        let said = self.call(Verb::Get, "/account/whoami", Some(cancel))?;
        let user = said["user_id"].as_str().unwrap_or_default();
        if user == self.user_id {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Denied, "the access token is another account's than the configured userId");
        Err(error.hint(format!("it is that of {user:?}")).into())
    }

    fn with_token(
        &self,
        verb: &Verb,
        path: &str,
        deadlines: Deadlines,
        max: usize,
        cancel: Option<&Cancel>,
    ) -> Result<Value, Failure> {
        let answer = self.authorized(cancel, |token| self.run(&self.request(verb, path, deadlines, cancel).bearer(token), max));
        answer.map_err(|failure| match failure {
            // Something took it, and did not say what it did.
            Failure { error, status: status @ 200..300, code } if matches!(verb, Verb::Send(_)) => {
                Failure { error: Error { kind: ErrorKind::Unclear, ..error }, status, code }
            }
            other => other,
        })
    }

    /// Bytes from the media repository: `path` begins behind the homeserver's address.
    ///
    /// # Errors
    /// As the file says.
    pub(super) fn media(&self, path: &str, wanted: &Wanted<'_>) -> Result<Vec<u8>, Failure> {
        self.authorized(Some(wanted.cancel), |token| {
            let call = files::get(format!("{}{path}", self.homeserver), wanted).bearer(token);
            Ok(files::read(self.client.send(&call)?.accepted()?, wanted)?)
        })
    }

    /// Does something with the token, once more with a new one where it is no longer known.
    fn authorized<T>(&self, cancel: Option<&Cancel>, run: impl Fn(&Secret) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut again = true;
        loop {
            let token = self.session.token(self.clock.mono(), || self.login(cancel))?;
            match run(&token) {
                Err(failure) if failure.status == 401 => {
                    // Also a soft logout: the same device logs in again.
                    self.session.refused(&token, self.clock.mono())?;
                    if !std::mem::take(&mut again) {
                        return Err(failure);
                    }
                }
                other => return other,
            }
        }
    }

    fn login(&self, cancel: Option<&Cancel>) -> Result<Secret> {
        let Some(password) = &self.password else {
            return Err(Error::new(ErrorKind::Denied, "there is no access token").hint("set accessToken or password"));
        };
        let body = json!({
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": password.reveal(),
            "device_id": self.device_id,
            "initial_device_display_name": format!("gatelet ({})", self.channel),
        });
        let deadlines = Deadlines::within(CONNECT, self.pace.call);
        let said = self.run(&self.request(&Verb::Post(body), "/login", deadlines, cancel), ANSWER_BYTES_MAX).map_err(|f| {
            if f.code == "M_FORBIDDEN" || f.status == 401 {
                // The peer's words may hold what it was sent.
                let error = Error::new(ErrorKind::Denied, "the homeserver refuses the password");
                return error.hint("check userId and password");
            }
            f.error
        })?;
        match said["access_token"].as_str() {
            Some(token) if !token.is_empty() => Ok(Secret::new(token)),
            _ => Err(Error::new(ErrorKind::Transient, "the homeserver's answer to the login holds no access token")),
        }
    }

    fn request(&self, verb: &Verb, path: &str, deadlines: Deadlines, cancel: Option<&Cancel>) -> Call {
        let url = format!("{}/_matrix/client/v3{path}", self.homeserver);
        let call = match verb {
            Verb::Get => Call::get(url, deadlines),
            Verb::Post(body) => Call::post_json(url, body.to_string(), deadlines),
            Verb::Put(body) => Call::new(ureq::http::Method::PUT, url, deadlines).json(body.to_string()),
            Verb::Send(body) => Call::new(ureq::http::Method::PUT, url, deadlines).json(body.to_string()).once(),
        };
        match cancel {
            Some(cancel) => call.cancel(cancel),
            None => call,
        }
    }

    fn run(&self, call: &Call, max: usize) -> Result<Value, Failure> {
        let mut reply = self.client.send(call)?.accepted()?;
        let (status, body) = (reply.status(), reply.read_all(max)?);
        serde_json::from_slice(&body).map_err(|_| {
            let error = Error::new(ErrorKind::Transient, "the homeserver's answer is no JSON");
            let error = error.hint("see what stands at the homeserver's address");
            Failure { error, status, code: String::new() }
        })
    }
}

/// A text as one part of a path or a value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
