//! `http.get`: reads a public web page or document.
//!
//! Invariant: it connects to public hosts alone, whatever the address, the name's answer or a redirect says (the client's guard checks the
//! very address that is connected to); it sends no credential and no cookie, asks no proxy, follows at most `REDIRECTS_MAX`
//! redirects, never one from `https` to `http`, reads at most `BODY_BYTES_MAX` bytes, and ends after `WAIT` however slow the
//! server is. What can't be read is an error whose text the model is told; a status like 404 is an answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{About, Context, OUTPUT_BYTES_MAX, Tool, html};
use crate::agent::provider::ToolSpec;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::net::client::{Call, Client, Deadlines, Reply};
use crate::net::guard::Target;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;
/// What is read of a body.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Time for all of it.
const WAIT: Duration = Duration::from_secs(20);
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// What is given back of a text; the rest of the output is the head, and the word that something was cut.
const TEXT_BYTES_MAX: usize = OUTPUT_BYTES_MAX - 3072;
/// What is shown of a content type.
const TYPE_BYTES_MAX: usize = 100;

/// The tool.
pub struct HttpGet {
    about: About,
    client: Client,
    wait: Duration,
}

impl HttpGet {
    /// The tool over public hosts.
    pub fn new() -> Self {
        Self::over(Client::guarded(1), WAIT)
    }

    /// The tool over a client of the caller's, which has to be a guarded one, with `wait` for a whole call: for tests.
    pub fn over(client: Client, wait: Duration) -> Self {
        let spec = ToolSpec {
            name: "http.get".into(),
            wire: "http_get".into(),
            description: "Read a public web page as text.".into(),
            schema: json!({"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}),
        };
        HttpGet { about: About { spec: Arc::new(spec), idempotent: true, dangerous: true, safe: false }, client, wait }
    }

    /// Follows redirects to an answer that is none.
    fn answer(&self, url: &str, until: Duration, context: &Context<'_>) -> Result<(Target, Reply)> {
        let refuse = |why: &str| Error::new(ErrorKind::Invalid, why);
        let mut target = Target::parse(url).map_err(refuse)?;
        for _ in 0..=REDIRECTS_MAX {
            let left = left(until, context)?;
            let deadlines = Deadlines::within(CONNECT_WAIT, left);
            let call = Call::get(target.url(), deadlines)
                .header("Accept", "text/html, text/*, application/json, */*;q=0.1")
                .cancel(context.cancel);
            let reply = self.client.send(&call)?;
            if !matches!(reply.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok((target, reply));
            }
            let location = reply.header("location").ok_or_else(|| {
                Error::new(ErrorKind::Permanent, format!("{} redirects to nowhere", crate::net::client::origin(&target.url())))
            })?;
            target = target.join(location).map_err(|why| {
                let from = crate::net::client::origin(&target.url());
                Error::new(ErrorKind::Denied, format!("the redirect of {from} is not followed: {why}"))
            })?;
        }
        Err(Error::new(ErrorKind::Permanent, format!("more than {REDIRECTS_MAX} redirects")))
    }
}

impl Default for HttpGet {
    fn default() -> Self {
        Self::new()
    }
}

impl Tool for HttpGet {
    fn about(&self) -> &About {
        &self.about
    }

    fn wait(&self) -> Duration {
        self.wait
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let url = arguments.get("url").and_then(Value::as_str).unwrap_or_default();
        let until = context.deadline.min(context.clock.mono() + self.wait);
        let (target, mut reply) = self.answer(url, until, context)?;
        let type_written = plain(reply.header("content-type").unwrap_or("no content type"));
        let head = format!("{} {}\n{type_written}\n\n", reply.status(), target.url());
        let kind = reply.content_type();
        if !is_text(&kind) {
            let length = reply.header("content-length").and_then(|l| l.parse::<u64>().ok());
            let length = length.map_or("of unknown length".into(), |n| format!("{n} bytes"));
            return Ok(format!("{head}[not a text: {}, {length}]", shorten(&kind, TYPE_BYTES_MAX)));
        }
        let (body, whole) = read(&mut reply, until, context)?;
        if kind.is_empty() && body.contains(&0) {
            return Ok(format!("{head}[not a text: {} bytes or more]", body.len()));
        }
        let text = decode(&body, &type_written);
        let is_page =
            kind == "text/html" || kind == "application/xhtml+xml" || kind.is_empty() && text.trim_start().starts_with("<!");
        let text = if is_page { html::text(&text) } else { readable(&text) };
        Ok(head + &bounded(&text, whole))
    }
}

/// The time that is left.
fn left(until: Duration, context: &Context<'_>) -> Result<Duration> {
    if context.cancel.is_set() {
        return Err(Error::new(ErrorKind::Stopped, "the call was cancelled"));
    }
    let left = until.saturating_sub(context.clock.mono());
    if left.is_zero() { Err(Error::new(ErrorKind::Timeout, "the server took too long in all")) } else { Ok(left) }
}

/// The body up to its bound, and whether that is all of it.
fn read(reply: &mut Reply, until: Duration, context: &Context<'_>) -> Result<(Vec<u8>, bool)> {
    let (mut body, mut buffer) = (Vec::new(), [0u8; 8192]);
    loop {
        let n = reply.read_within(&mut buffer, left(until, context)?)?;
        if n == 0 {
            return Ok((body, true));
        }
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&buffer[..n.min(room)]);
        if n > room {
            return Ok((body, false));
        }
    }
}

/// Whether a content type is one of texts; none at all may be one.
fn is_text(kind: &str) -> bool {
    let sub = kind.strip_prefix("application/").unwrap_or_default();
    let known = ["json", "xml", "javascript", "yaml", "x-yaml", "toml", "x-ndjson", "x-javascript", "ecmascript", "sql", "rtf"];
    kind.is_empty()
        || kind.starts_with("text/")
        || known.contains(&sub)
        || kind.ends_with("+json")
        || kind.ends_with("+xml") && !kind.starts_with("image/")
}

/// A body as text: UTF-8, or Latin-1 where it says so.
fn decode(body: &[u8], content_type: &str) -> String {
    let charset = content_type.to_ascii_lowercase();
    let charset = charset.split("charset=").nth(1).unwrap_or_default().trim_matches(['"', '\'', ' ']);
    if charset.starts_with("iso-8859-1") || charset.starts_with("windows-1252") || charset.starts_with("latin1") {
        return body.iter().map(|b| *b as char).collect();
    }
    String::from_utf8_lossy(body).into_owned()
}

/// Without control characters but line ends and tabs.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A header's value on one line.
fn plain(value: &str) -> String {
    shorten(&value.chars().filter(|c| !c.is_control()).collect::<String>(), TYPE_BYTES_MAX)
}

fn bounded(text: &str, whole: bool) -> String {
    if text.len() > TEXT_BYTES_MAX {
        return format!("{}\n[cut: {TEXT_BYTES_MAX} bytes of more]", shorten(text, TEXT_BYTES_MAX));
    }
    let cut = if whole { String::new() } else { format!("\n[cut: only the first {BODY_BYTES_MAX} bytes were read]") };
    format!("{text}{cut}")
}

#[cfg(test)]
mod tests;
