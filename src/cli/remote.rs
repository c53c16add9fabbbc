//! The running gateway, as the command line reaches it: the local socket of this machine, or a URL with a token.
//!
//! Invariant: a token goes to the URL that the person named, or to this machine's own gateway, and nowhere else. Every call has
//! a deadline. Fails as `Unreachable`, `Refused` or `Failed`.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::cli::options::Options;
use crate::cli::output::field;
use crate::cli::{Failure, invalid};
use crate::config::AuthMode;
use crate::config::files::{self, Places};
use crate::net::client::{Call, Client, Deadlines};
use crate::store::sqlite::backup;
use ureq::http::Method;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const BODY_MAX: usize = 64 * 1024 * 1024;

/// A way to the gateway.
pub struct Remote {
    client: Client,
    /// `http://host:port`, without a slash at its end.
    pub base: String,
    /// The credential, where one is needed and known.
    pub token: Option<Secret>,
}

impl Remote {
    /// The way that the options and this machine's configuration name; over the local socket where `http_only` allows it and
    /// nobody named a URL.
    ///
    /// # Errors
    /// `Usage` for a URL that is none; `Failed` where the data directory is unknown.
    pub fn find(options: &Options, http_only: bool) -> Result<Remote, Failure> {
        if let Some(url) = &options.url {
            let base = url.trim_end_matches('/').to_string();
            if !base.starts_with("http://") && !base.starts_with("https://") {
                return Err(Failure::Usage(format!("--url {base:?} must begin with http:// or https://")));
            }
            return Ok(Remote { client: Client::new(1), base, token: options.token.clone() });
        }
        let places = options.places()?;
        let config = files::load(&places, &files::system_var).map_err(|problems| invalid(&places, &problems))?.resolved.config;
        let socket: Option<PathBuf> = config.gateway.local_socket.filter(|s| !http_only && options.token.is_none() && s.exists());
        if let Some(socket) = socket {
            return Ok(Remote { client: Client::unix(&socket), base: "http://localhost".into(), token: None });
        }
        let listen = config.gateway.listen;
        let reach = if listen.ip().is_unspecified() { format!("127.0.0.1:{}", listen.port()) } else { listen.to_string() };
        let token =
            match config.gateway.auth.mode {
                AuthMode::None => None,
                AuthMode::Token => options.token.clone().or(config.gateway.auth.token).or_else(|| {
                    std::fs::read_to_string(places.data_dir.join(files::TOKEN_FILE)).ok().map(|t| Secret::new(t.trim()))
                }),
            };
        Ok(Remote { client: Client::new(1), base: format!("http://{reach}"), token })
    }

    /// A POST of `body`, or a GET; the answer as JSON.
    ///
    /// # Errors
    /// See the file's head.
    pub fn call(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.request(if body.is_some() { Method::POST } else { Method::GET }, path, body)
    }

    /// The same with any method.
    ///
    /// # Errors
    /// See the file's head.
    pub fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.exchange(method, path, body, None)?.settled()
    }

    /// A GET; the answer with its `ETag`.
    ///
    /// # Errors
    /// See the file's head.
    pub fn tagged(&self, path: &str) -> Result<(Value, String), Failure> {
        let answer = self.exchange(Method::GET, path, None, None)?;
        let tag = answer.tag.clone();
        Ok((answer.settled()?, tag))
    }

    /// A change of what has that `ETag`.
    ///
    /// # Errors
    /// See the file's head; `Configuration` with every problem of a document that was refused for them.
    pub fn request_if(&self, method: Method, path: &str, body: &Value, tag: &str) -> Result<Value, Failure> {
        let answer = self.exchange(method, path, Some(body), Some(tag))?;
        let problems = answer.body["errors"].as_array().filter(|_| answer.status == 400);
        if let Some(problems) = problems {
            let told = problems.iter().map(|p| format!("{}: {}", field(p, "path"), field(p, "message")));
            return Err(Failure::Configuration("the change was refused".into(), told.collect()));
        }
        if answer.status == 412 {
            return Err(Failure::Failed("somebody else changed the configuration just now; try again".into()));
        }
        answer.settled()
    }

    /// A GET; status and answer, whatever they are.
    ///
    /// # Errors
    /// `Unreachable`.
    pub fn ask(&self, path: &str) -> Result<(u16, Value), Failure> {
        let answer = self.exchange(Method::GET, path, None, None)?;
        Ok((answer.status, answer.body))
    }

    fn exchange(&self, method: Method, path: &str, body: Option<&Value>, tag: Option<&str>) -> Result<Answer, Failure> {
        let (url, deadlines) = (format!("{}{path}", self.base), Deadlines::within(CONNECT, ANSWER));
        let mut call = Call::new(method, url, deadlines);
        if let Some(body) = body {
            call = call.json(body.to_string());
        }
        if let Some(token) = &self.token {
            call = call.bearer(token);
        }
        if let Some(tag) = tag {
            call = call.header("If-Match", tag);
        }
        let unreachable = |e: crate::base::error::Error| match e.kind {
            ErrorKind::Invalid | ErrorKind::Permanent => Failure::Failed(e.to_string()),
            _ => Failure::Unreachable(format!(
                "can't reach the gateway at {}: {}. Is it running? (gatelet serve)",
                self.base, e.text
            )),
        };
        let mut answer = self.client.send(&call).map_err(unreachable)?;
        let (status, tag) = (answer.status(), answer.header("etag").unwrap_or_default().to_string());
        let bytes = answer.read_all(BODY_MAX).map_err(unreachable)?;
        Ok(Answer { status, tag, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }
}

struct Answer {
    status: u16,
    tag: String,
    body: Value,
}

impl Answer {
    fn settled(self) -> Result<Value, Failure> {
        match self.status {
            200..=299 => Ok(self.body),
            401 | 403 => Err(Failure::Refused(format!("refused: {}", told(&self.body)))),
            status => Err(Failure::Failed(format!("{status}: {}", told(&self.body)))),
        }
    }
}

/// Has the gateway that runs on this data directory read its configuration again (SIGHUP); whether there is one that we may tell.
pub fn reload(places: &Places) -> bool {
    let Ok(doc) = files::written(places) else { return false };
    let user = backup::user_of(&files::store_path(&doc, &places.data_dir));
    let process = user.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    process.is_some_and(|process| kill_process(process, Signal::HUP).is_ok())
}

/// A value as one segment of a path, or one value of a query.
pub fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn told(answer: &Value) -> String {
    crate::cli::output::harmless(answer.get("message").and_then(Value::as_str).unwrap_or("no reason was given"))
}
