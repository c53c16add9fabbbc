//! The running gateway, as the command line reaches it: the local socket of this machine, or a URL with a token.
//!
//! Invariant: a token goes to the URL that the person named, or to this machine's own gateway, and nowhere else. Every call has
//! a deadline. Fails as `Unreachable`, `Refused` or `Failed`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::cli::options::Options;
use crate::cli::{Failure, invalid};
use crate::config::{AuthMode, files};
use crate::net::client::{Call, Client, Deadlines};
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
        let (status, answer) = self.ask_by(method, path, body)?;
        match status {
            200..=299 => Ok(answer),
            401 | 403 => Err(Failure::Refused(format!("refused: {}", told(&answer)))),
            _ => Err(Failure::Failed(format!("{status}: {}", told(&answer)))),
        }
    }

    /// A GET; status and answer, whatever they are.
    ///
    /// # Errors
    /// `Unreachable`.
    pub fn ask(&self, path: &str) -> Result<(u16, Value), Failure> {
        self.ask_by(Method::GET, path, None)
    }

    fn ask_by(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), Failure> {
        let (url, deadlines) = (format!("{}{path}", self.base), Deadlines::within(CONNECT, ANSWER));
        let mut call = Call::new(method, url, deadlines);
        if let Some(body) = body {
            call = call.json(body.to_string());
        }
        if let Some(token) = &self.token {
            call = call.bearer(token);
        }
        let unreachable = |e: crate::base::error::Error| match e.kind {
            ErrorKind::Invalid | ErrorKind::Permanent => Failure::Failed(e.to_string()),
            _ => Failure::Unreachable(format!(
                "can't reach the gateway at {}: {}. Is it running? (gatelet serve)",
                self.base, e.text
            )),
        };
        let mut answer = self.client.send(&call).map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.read_all(BODY_MAX).map_err(unreachable)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

/// A value as one segment of a path, or one value of a query.
pub fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn told(answer: &Value) -> String {
    crate::cli::output::harmless(answer.get("message").and_then(Value::as_str).unwrap_or("no reason was given"))
}
