//! What went wrong with a call, as an error kind and words.
//!
//! Invariant: a text names the peer by its origin alone and holds nothing that ureq says itself (its texts may hold whole
//! URLs); what a peer says is shortened and stripped of control characters. Pure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::Timeout;

use crate::base::cancel::{Cancel, Why};
use crate::base::error::{Error, ErrorKind, shorten};
use crate::net::client::guarded::NotAllowed;

/// What is shown of a peer's own words.
const PEER_TEXT_MAX: usize = 200;

/// `scheme://host:port` of a URL, for texts: userinfo, path and query may hold credentials.
pub fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "the configured address".to_string() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// A refusal by status.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// At most 4 KiB of what the peer said, the call's own credential blotted out.
    pub body: String,
    /// The same for the program and for people.
    pub error: Error,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Turns failures of calls to one peer into errors.
pub struct Fault {
    /// `scheme://host:port`.
    pub origin: String,
    /// Set by the client's interrupt.
    pub stopped: Arc<AtomicBool>,
    /// The call's own cancellation.
    pub cancel: Option<Cancel>,
}

/// Whether the peer closed the connection before it answered.
pub fn is_disconnect(e: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(e, ureq::Error::Io(e) if matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

impl Fault {
    /// The error of a call that was cut short from our side, by the client's interrupt or its own cancellation.
    pub fn stopped(&self) -> Option<Error> {
        let why = match &self.cancel {
            _ if self.stopped.load(Ordering::SeqCst) => Why::Drain,
            Some(cancel) => cancel.why()?,
            None => return None,
        };
        let why = match why {
            Why::Drain => "the gateway is stopping: ",
            Why::Asked => "",
        };
        Some(Error::new(ErrorKind::Stopped, format!("{why}the call to {} was cut short", self.origin)))
    }

    /// The error for what ureq failed with.
    pub fn of(&self, e: ureq::Error) -> Error {
        if let Some(stopped) = self.stopped() {
            return stopped;
        }
        let origin = &self.origin;
        match e {
            ureq::Error::Timeout(t) => self.late(t),
            ureq::Error::Io(e) => self.io(&e),
            ureq::Error::HostNotFound => Error::new(ErrorKind::Transient, format!("the name in {origin} can't be resolved"))
                .hint("check the name, and this machine's DNS"),
            ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => self.tls(""),
            ureq::Error::Protocol(_) => Error::new(ErrorKind::Transient, format!("{origin} does not answer in HTTP"))
                .hint("check the port, and http against https"),
            ureq::Error::LargeResponseHeader(..) => {
                Error::new(ErrorKind::Permanent, format!("{origin} answered with a head beyond its bound"))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Error::new(ErrorKind::Permanent, format!("the request to {origin} can't be put into HTTP"))
                    .hint("check the address and the credential for spaces and line breaks")
            }
            ureq::Error::Other(e) if e.is::<NotAllowed>() => Error::new(
                ErrorKind::Denied,
                format!("{origin} is no public host: it leads into a private network, or to this machine itself"),
            ),
            _ => Error::new(ErrorKind::Transient, format!("the call to {origin} failed")),
        }
    }

    fn io(&self, e: &io::Error) -> Error {
        use io::ErrorKind as Io;
        let origin = &self.origin;
        match e.kind() {
            Io::ConnectionRefused | Io::NotFound => {
                Error::new(ErrorKind::Transient, format!("{origin} refused the connection")).hint("is the server running there?")
            }
            Io::TimedOut | Io::WouldBlock => Error::new(ErrorKind::Timeout, format!("{origin} took too long")),
            Io::PermissionDenied => Error::new(ErrorKind::Denied, format!("this user may not connect to {origin}")),
            Io::InvalidData if origin.starts_with("https:") => self.tls(&e.to_string()),
            Io::HostUnreachable | Io::NetworkUnreachable => {
                Error::new(ErrorKind::Transient, format!("{origin} can't be reached from this network"))
            }
            _ => Error::new(ErrorKind::Transient, format!("{origin} broke the connection off")),
        }
    }

    fn tls(&self, why: &str) -> Error {
        let why = if why.is_empty() { String::new() } else { format!(": {}", plain(why)) };
        Error::new(ErrorKind::Permanent, format!("no trusted TLS connection to {}{why}", self.origin))
            .hint("check the server's certificate and its name, and this machine's clock")
    }

    fn late(&self, t: Timeout) -> Error {
        let origin = &self.origin;
        let text = match t {
            Timeout::Resolve => format!("the name in {origin} was not resolved in time"),
            Timeout::Connect => format!("{origin} did not take the connection in time"),
            Timeout::SendRequest | Timeout::SendBody => format!("{origin} did not take the request in time"),
            Timeout::RecvResponse => format!("{origin} did not begin to answer in time"),
            Timeout::PerRead => format!("{origin} fell silent in the middle of its answer"),
            _ => format!("{origin} took too long in all"),
        };
        Error::new(ErrorKind::Timeout, text)
    }

    /// The error for a redirect.
    pub fn redirect(&self, status: u16, location: Option<&str>) -> Error {
        let to = match location.map(origin) {
            Some(to) if location.is_some_and(|l| l.contains("://")) => format!(" to {}", plain(&to)),
            _ => String::new(),
        };
        Error::new(ErrorKind::Permanent, format!("{} redirects{to} (status {status}), which is never followed", self.origin))
            .hint("configure the address that it redirects to")
    }

    /// The error for a status that is not 2xx.
    pub fn refused(&self, status: u16, retry_after: Option<Duration>, body: &str) -> Error {
        let kind = match status {
            429 => ErrorKind::Throttled(retry_after),
            503 | 529 if retry_after.is_some() => ErrorKind::Throttled(retry_after),
            408 | 500..=599 | 100..=199 => ErrorKind::Transient,
            401 | 403 => ErrorKind::Denied,
            _ => ErrorKind::Permanent,
        };
        let said = words(body);
        let colon = if said.is_empty() { "" } else { ": " };
        let error = Error::new(kind, format!("{} answered {status}{colon}{said}", self.origin));
        match status {
            401 | 403 => error.hint("check the credential that is configured for it"),
            404 => error.hint("check the address that is configured, its path included"),
            _ => error,
        }
    }
}

/// What a peer's error body says: the message of a JSON error, else its first words; nothing of a web page.
pub fn words(body: &str) -> String {
    let trimmed = body.trim_start();
    if trimmed.starts_with('<') {
        return "(a web page)".to_string();
    }
    match serde_json::from_str::<Value>(trimmed) {
        Ok(json) => message_of(&json).map(|m| plain(&m)).unwrap_or_else(|| plain(trimmed)),
        Err(_) => plain(trimmed),
    }
}

/// The message in the shapes that servers use: `{"error":{"message"}}`, `{"error":"…"}`, `{"message"}`, `{"detail"}`.
pub fn message_of(json: &Value) -> Option<String> {
    ["/error/message", "/error", "/message", "/detail"].iter().find_map(|p| json.pointer(p)?.as_str().map(str::to_string))
}

fn plain(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    shorten(&words.join(" "), PEER_TEXT_MAX)
}

/// The pause that a `Retry-After` asks for: seconds, or an HTTP date against `now_s`.
pub fn retry_after(value: &str, now_s: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u32::MAX.into())));
    }
    Some(Duration::from_secs(http_date_s(value)?.saturating_sub(now_s).max(0).unsigned_abs()))
}

/// Seconds since 1970 of an HTTP date in its preferred form: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date_s(text: &str) -> Option<i64> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let mut next = || parts.next();
    let day = number(next()?, 31)?;
    let name = next()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|m| *m == name)? as i64 + 1;
    let year = number(next()?, 9999)?;
    let mut clock = next()?.split(':');
    let (h, m, s) = (number(clock.next()?, 23)?, number(clock.next()?, 59)?, number(clock.next()?, 60)?);
    (next() == Some("GMT") && day > 0).then(|| days_from_civil(year, month, day) * 86_400 + h * 3600 + m * 60 + s)
}

fn number(text: &str, max: i64) -> Option<i64> {
    let ok = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| ok && *n <= max)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counted in years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
