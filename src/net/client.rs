//! The one door to HTTP out: providers, reply addresses, and the command line's own calls.
//!
//! Invariant: a credential goes to the address it was given for and nowhere else (no redirect is followed, no proxy of the
//! environment is asked), no body is read without a bound, no wait is without a deadline, and no text of an error holds a
//! credential, a path or a query. It fails with an [`Error`] whose kind says what to do; after [`Client::interrupt`] every
//! call, also one that blocks, fails with `Stopped`, and so does one call whose [`Call::cancel`] is set.

#[cfg(test)]
mod cancel_tests;
mod fault;
pub mod guarded;
pub(super) mod link;
mod once;
pub(super) mod resolve;
pub(super) mod socket;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{self, Method};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::Connector;
use ureq::{Agent, AsSendBody};

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::net::guard;
use crate::net::unix_client::{NoNames, UnixWire};

use fault::Fault;
pub use fault::{Refused, origin};

/// Largest head of a response.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What is read of an error's body, at most this much of it and for at most this long.
const ERROR_BODY_MAX: usize = 4 * 1024;
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);
/// How long a finished body's end is waited for, so that its connection can be used again.
const SETTLE_WAIT: Duration = Duration::from_millis(20);

/// How long each part of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Finding the address; then connecting, TLS included.
    pub connect: Duration,
    /// Sending the head; then sending the body.
    pub send: Duration,
    /// From the request's last byte to the whole head of the answer; then to the first byte of its body.
    pub first_byte: Duration,
    /// Each further read of the body.
    pub read: Duration,
    /// The whole call, its body included; `None` leaves it to the caller, who then asks between reads.
    pub total: Option<Duration>,
}

impl Deadlines {
    /// Short ones for calls whose answer is a small document: `total` for all of it.
    pub fn within(connect: Duration, total: Duration) -> Self {
        Deadlines { connect: connect.min(total), send: total, first_byte: total, read: total, total: Some(total) }
    }
}

/// One request.
pub struct Call {
    method: Method,
    url: String,
    headers: Vec<(Cow<'static, str>, String)>,
    credential: Option<Credential>,
    body: Option<Vec<u8>>,
    deadlines: Deadlines,
    cancel: Option<Cancel>,
    is_once: bool,
}

/// A secret, and where it stands in the head.
struct Credential {
    header: &'static str,
    prefix: &'static str,
    secret: Secret,
}

impl Call {
    /// A request without a body. `url` is absolute, `http` or `https`.
    pub fn new(method: Method, url: impl Into<String>, deadlines: Deadlines) -> Self {
        Call {
            method,
            url: url.into(),
            headers: Vec::new(),
            credential: None,
            body: None,
            deadlines,
            cancel: None,
            is_once: false,
        }
    }

    /// A GET.
    pub fn get(url: impl Into<String>, deadlines: Deadlines) -> Self {
        Call::new(Method::GET, url, deadlines)
    }

    /// A DELETE.
    pub fn delete(url: impl Into<String>, deadlines: Deadlines) -> Self {
        Call::new(Method::DELETE, url, deadlines)
    }

    /// A POST of JSON.
    pub fn post_json(url: impl Into<String>, body: impl Into<Vec<u8>>, deadlines: Deadlines) -> Self {
        Call::new(Method::POST, url, deadlines).json(body)
    }

    /// Adds a body of JSON.
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        Call { body: Some(body.into()), ..self }.header("Content-Type", "application/json")
    }

    /// A POST of a form.
    pub fn post_form(url: impl Into<String>, fields: impl Into<Vec<u8>>, deadlines: Deadlines) -> Self {
        let call = Call { body: Some(fields.into()), ..Call::new(Method::POST, url, deadlines) };
        call.header("Content-Type", "application/x-www-form-urlencoded")
    }

    /// Adds a header. A value that can't stand in a head makes the call fail.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends this credential as `Authorization: Bearer`; it is blotted out of whatever the peer says back in an error.
    pub fn bearer(self, secret: &Secret) -> Self {
        Call { credential: Some(Credential { header: "Authorization", prefix: "Bearer ", secret: secret.clone() }), ..self }
    }

    /// Sends this credential in a header of its own, guarded like [`Call::bearer`], which it replaces.
    pub fn key(self, header: &'static str, secret: &Secret) -> Self {
        Call { credential: Some(Credential { header, prefix: "", secret: secret.clone() }), ..self }
    }

    /// Has the call, the reading of its answer included, fail with `Stopped` within milliseconds when `cancel` is set: also
    /// where it looks a name up, connects, or waits for the peer, on a new connection or one of the pool.
    pub fn cancel(self, cancel: &Cancel) -> Self {
        Call { cancel: Some(cancel.clone()), ..self }
    }

    fn origin(&self) -> String {
        origin(&self.url)
    }
}

/// The client: a bounded pool of idle connections, shared by all who hold it.
pub struct Client {
    agent: Agent,
    stopped: Arc<AtomicBool>,
    clock: Clock,
    gives_redirects: bool,
}

impl Client {
    /// A client that keeps at most `pool_max_size` idle connections for each host.
    pub fn new(pool_max_size: usize) -> Self {
        Client::over(pool_max_size, link::Wire::default(), resolve::Names::new())
    }

    /// A client whose calls all go to the Unix socket at `path`; their URLs name any host, `http://localhost/…` by custom.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Client::over(1, UnixWire::new(path.into()), NoNames)
    }

    /// A client for addresses that somebody else chose (a model, a web page): it connects to public hosts alone. It follows no
    /// redirect either, but gives it as the answer that it is, so that the caller can look at where it leads.
    pub fn guarded(pool_max_size: usize) -> Self {
        Client::guarded_by(pool_max_size, Arc::new(|address| guard::is_public(address.ip())))
    }

    /// The same with another check of the addresses that may be connected to: for tests.
    pub fn guarded_by(pool_max_size: usize, check: guarded::Check) -> Self {
        let client = Client::over(pool_max_size, guarded::GuardedWire::new(check), resolve::Names::new());
        Client { gives_redirects: true, ..client }
    }

    fn over(pool_max_size: usize, connector: impl Connector, resolver: impl Resolver) -> Self {
        let config = Config::builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("gatelet/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_response_header_size(HEAD_BYTES_MAX)
            // The default is 128 KiB each way and connection. The input must exceed the head's bound.
            .input_buffer_size(2 * HEAD_BYTES_MAX)
            .output_buffer_size(16 * 1024)
            .max_idle_connections(pool_max_size.saturating_mul(8))
            .max_idle_connections_per_host(pool_max_size)
            .build();
        Client {
            agent: Agent::with_parts(config, link::Outer(connector), resolver),
            stopped: Arc::new(AtomicBool::new(false)),
            clock: Clock::system(),
            gives_redirects: false,
        }
    }

    /// Sends a request and waits for the head of the answer, of whatever status but a redirect (unless it is
    /// guarded). What failed on a connection
    /// that had been idle, before a byte of the answer came, is sent once more on a new one (but not what is [`Call::once`]).
    ///
    /// # Errors
    /// No answer, or a redirect: `Transient`, `Timeout`, `Permanent` or `Stopped`; `Unclear` as [`Call::once`] says.
    pub fn send(&self, call: &Call) -> Result<Reply> {
        let fault = Fault { origin: call.origin(), stopped: self.stopped.clone(), cancel: call.cancel.clone() };
        let mut first = true;
        loop {
            if let Some(stopped) = fault.stopped() {
                return Err(stopped);
            }
            link::begin();
            match link::cut_by(call.cancel.as_ref(), || self.run(call)) {
                Ok(response) => return self.reply(call, response, fault),
                Err(e) if call.is_once && link::has_asked() => return Err(once::unclear(fault.of(e))),
                // The peer had closed an idle connection just as we took it.
                Err(e) if first && !link::has_connected() && fault::is_disconnect(&e) => first = false,
                Err(e) => return Err(fault.of(e)),
            }
        }
    }

    /// Cuts every call short, also those that block, within a millisecond; all calls from now on fail with `Stopped`. What is
    /// not interrupted: looking a name up and connecting, which have their deadlines.
    pub fn interrupt(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }

    fn run(&self, call: &Call) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let mut request = http::Request::builder().method(call.method.clone()).uri(call.url.as_str());
        for (name, value) in &call.headers {
            request = request.header(name.as_ref(), value.as_str());
        }
        if let Some(Credential { header, prefix, secret }) = &call.credential {
            request = request.header(*header, format!("{prefix}{}", secret.reveal()));
        }
        match &call.body {
            Some(body) => self.run_with(request.body(body.as_slice())?, call.deadlines),
            None => self.run_with(request.body(())?, call.deadlines),
        }
    }

    fn run_with<B: AsSendBody>(
        &self,
        request: http::Request<B>,
        d: Deadlines,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_resolve(Some(d.connect))
            .timeout_connect(Some(d.connect))
            .timeout_send_request(Some(d.send))
            .timeout_send_body(Some(d.send))
            .timeout_recv_response(Some(d.first_byte))
            .timeout_global(d.total)
            .build();
        self.agent.run(request)
    }

    fn reply(&self, call: &Call, response: http::Response<ureq::Body>, fault: Fault) -> Result<Reply> {
        let (head, body) = response.into_parts();
        if head.status.is_redirection() && !self.gives_redirects {
            return Err(fault.redirect(head.status.as_u16(), head.headers.get("location").and_then(|v| v.to_str().ok())));
        }
        Ok(Reply {
            head,
            body: body.into_reader(),
            deadlines: call.deadlines,
            begun: false,
            is_once: call.is_once,
            fault,
            secret: call.credential.as_ref().map(|c| c.secret.clone()),
            clock: self.clock.clone(),
        })
    }
}

/// An answer whose body is still to be read.
pub struct Reply {
    head: http::response::Parts,
    body: ureq::BodyReader<'static>,
    deadlines: Deadlines,
    begun: bool,
    is_once: bool,
    fault: Fault,
    secret: Option<Secret>,
    clock: Clock,
}

impl Reply {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The first header of that name; `None` also where it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// The content type in lower case, without parameters; empty where there is none.
    pub fn content_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Reads some of the body into `buffer`; 0 at its end. Blocks at most for the call's deadlines.
    ///
    /// # Errors
    /// `Transient` where the peer broke off, `Timeout`, `Stopped`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let limit = if self.begun { self.deadlines.read } else { self.deadlines.first_byte };
        self.read_within(buffer, limit)
    }

    /// The same with a deadline of its own for this one read.
    ///
    /// # Errors
    /// As [`Reply::read`].
    pub fn read_within(&mut self, buffer: &mut [u8], limit: Duration) -> Result<usize> {
        let body = &mut self.body;
        let read = link::cut_by(self.fault.cancel.as_ref(), || link::reading_within(limit, || body.read(buffer)));
        // An interrupted read may look like the end of the body.
        if let Some(stopped) = self.fault.stopped() {
            return Err(once::clear_if(!self.is_once, stopped));
        }
        let n = read.map_err(|e| once::clear_if(!self.is_once, self.fault.of(e.into())))?;
        self.begun |= n > 0;
        Ok(n)
    }

    /// The whole rest of the body.
    ///
    /// # Errors
    /// As [`Reply::read`]; `Permanent` where it is longer than `max` bytes.
    pub fn read_all(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0u8; 4096];
        loop {
            let n = self.read(&mut buffer)?;
            if n == 0 {
                return Ok(all);
            }
            if all.len() + n > max {
                let text = format!("{} answered with more than {max} bytes", self.fault.origin);
                return Err(Error::new(ErrorKind::Permanent, text));
            }
            all.extend_from_slice(&buffer[..n]);
        }
    }

    /// For a body whose content is known to be over: waits an instant for its formal end, so that the connection can be used
    /// again; else it is closed.
    pub fn settle(mut self) {
        let _ = self.read_within(&mut [0u8; 64], SETTLE_WAIT); // either way the call is done
    }

    /// The same reply where its status is 2xx; else what was refused, with at most 4 KiB of the body.
    ///
    /// # Errors
    /// Any other status: 429 and 503 with `Retry-After` are `Throttled`, 408 and other 5xx `Transient`, 401 and 403 `Denied`,
    /// the rest `Permanent`. 5xx but 503 are `Unclear` for what is [`Call::once`].
    pub fn accepted(mut self) -> Result<Reply, Refused> {
        if self.head.status.is_success() {
            return Ok(self);
        }
        let body = self.error_body();
        if let Some(error) = self.fault.stopped() {
            return Err(Refused { status: self.status(), error: once::clear_if(!self.is_once, error), body });
        }
        let asked = self.header("retry-after").map(str::to_string);
        let date = self.header("date").and_then(fault::http_date_s).unwrap_or(self.clock.unix_ms() / 1000);
        let after = asked.and_then(|text| fault::retry_after(&text, date));
        let error = self.fault.refused(self.status(), after, &body);
        let is_clear = !self.is_once || once::is_verdict(self.status());
        Err(Refused { status: self.status(), error: once::clear_if(is_clear, error), body })
    }

    fn error_body(&mut self) -> String {
        let (mut body, until) = (Vec::new(), self.clock.mono() + ERROR_BODY_WAIT);
        let mut buffer = [0u8; ERROR_BODY_MAX];
        while body.len() < ERROR_BODY_MAX {
            let left = until.saturating_sub(self.clock.mono());
            let room = ERROR_BODY_MAX - body.len();
            match self.read_within(&mut buffer[..room], left.max(Duration::from_millis(1))) {
                Ok(n) if n > 0 && !left.is_zero() => body.extend_from_slice(&buffer[..n]),
                _ => break, // what came is enough for a sentence
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        match &self.secret {
            Some(secret) if !secret.reveal().is_empty() => text.replace(secret.reveal(), crate::base::secret::REDACTED),
            _ => text,
        }
    }
}
