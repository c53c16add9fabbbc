//! Servers at an address: Streamable HTTP, as both eras have it.
//!
//! Invariant: the credential goes to the configured address alone. A request is sent once: connections are not kept, since one that
//! breaks while it is used again can't tell whether the server had begun; only a server that says that it does not know the session
//! is asked again, with a new one. Whoever waits comes back by the deadline or soon after the cancellation, and the server is told:
//! by the closed connection in the modern era, by a notification in the legacy one. Fails with [`Failure`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::agent::mcp::handshake::Host;
use crate::agent::mcp::headers::encoded;
use crate::agent::mcp::link::{Ask, Failure, Link, Opener, Signals};
use crate::agent::mcp::stream::{Stream, pause};
use crate::agent::mcp::text::thread_name;
use crate::agent::mcp::wire::{self, Era, MESSAGE_BYTES_MAX, Protocol, Refusal, Said};
use crate::base::cancel::{Cancel, Guard, Why};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::base::threads::{STACK, Threads};
use crate::net::client::{Call, Client, Deadlines, Refused, Reply};

/// How long a connection may take.
pub const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a new session may take in the middle of a call.
const RENEW_MAX: Duration = Duration::from_secs(10);
/// How long the server is told something that we don't need an answer to.
const TELL_MAX: Duration = Duration::from_secs(2);
/// Most cancellations that are being told at a time.
const TELLING_MAX: usize = 4;
/// Most of a server's own requests that are answered in one stream.
pub const REPLIES_MAX: usize = 32;
/// Most tries in a row to go on with a broken answer without anything new in it.
const RESUMES_MAX: u32 = 5;
const RESUME_PAUSE: Duration = Duration::from_secs(1);
const SESSION_BYTES_MAX: usize = 256;

/// An address to reach.
pub struct Address {
    /// The server's name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The credential.
    pub token: Option<Secret>,
    /// The way out.
    pub client: Arc<Client>,
    /// Time.
    pub clock: Clock,
    /// Where the connection's thread is registered.
    pub threads: Threads,
}

impl Opener for Arc<Address> {
    fn open(&self, signals: &Arc<Signals>) -> Result<Arc<dyn Link>> {
        Ok(Arc::new(Http(Arc::new(Inner {
            at: self.clone(),
            signals: signals.clone(),
            session: Mutex::default(),
            renewing: Mutex::default(),
            quit: Cancel::new(),
            last_id: AtomicU64::new(0),
            telling: AtomicUsize::new(0),
        }))))
    }
}

/// The connection, which is no lasting one.
#[derive(Clone)]
pub struct Http(pub(super) Arc<Inner>);

/// What its users share.
pub(super) struct Inner {
    pub at: Arc<Address>,
    pub signals: Arc<Signals>,
    session: Mutex<Session>,
    renewing: Mutex<()>,
    /// Set when it is closed.
    pub quit: Cancel,
    last_id: AtomicU64,
    telling: AtomicUsize,
}

/// What a legacy server knows us by.
#[derive(Default)]
struct Session {
    id: Option<String>,
}

/// What became of one exchange.
enum Exchange {
    Done(Value),
    /// The server does not know the session that was named.
    NoSession(String),
}

/// A cancellation made of two.
struct Either {
    cancel: Cancel,
    _hooks: [Guard; 2],
}

impl Either {
    fn of(a: &Cancel, b: &Cancel) -> Self {
        let cancel = Cancel::new();
        let hook = |from: &Cancel| {
            let to = cancel.clone();
            from.on_set(move || to.set(Why::Asked))
        };
        let _hooks = [hook(a), hook(b)];
        Either { cancel, _hooks }
    }
}

impl Link for Http {
    fn request(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        let old = match self.exchange(ask)? {
            Exchange::Done(result) => return Ok(result),
            Exchange::NoSession(old) => old,
        };
        self.renew(&old, ask)?;
        match self.exchange(ask)? {
            Exchange::Done(result) => Ok(result),
            Exchange::NoSession(_) => Err(failed("it does not know the session that it has just begun")),
        }
    }

    fn initialized(&self, protocol: Protocol, deadline: Duration) -> Result<(), Failure> {
        let line = wire::notification("notifications/initialized", &Map::new());
        let left = deadline.saturating_sub(self.0.at.clock.mono());
        self.tell(line, protocol, left).map_err(Failure::Lost)
    }

    fn follow(&self, protocol: Protocol, changes: bool) -> Result<()> {
        if !changes {
            return Ok(()); // it has nothing to tell
        }
        let (own, name) = (self.clone(), thread_name("mcp<", &self.0.at.name));
        self.0.at.threads.spawn_once(&name, STACK, move || own.listen(protocol))
    }

    fn lost(&self) -> Option<Error> {
        self.0.quit.is_set().then(|| Error::new(ErrorKind::Transient, "it was ended"))
    }

    fn close(&self) {
        self.0.quit.set(Why::Asked);
        let session = self.session().id.take(); // the lock is given back before the call needs it
        if let Some(id) = session {
            let call = self.dressed(Call::delete(self.0.at.url.as_str(), within(TELL_MAX)), None).header("Mcp-Session-Id", id);
            let _ = self.0.at.client.send(&call); // it may refuse (405), or be gone: then its session ends by itself
        }
    }
}

fn within(total: Duration) -> Deadlines {
    Deadlines::within(CONNECT_MAX, total)
}

fn failed(how: &str) -> Failure {
    Failure::Lost(Error::new(ErrorKind::Transient, how))
}

impl Http {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.0.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call with what every one bears.
    pub(super) fn dressed(&self, mut call: Call, protocol: Option<Protocol>) -> Call {
        call = call.header("Accept", "application/json, text/event-stream").header("Connection", "close");
        if let Some(token) = &self.0.at.token {
            call = call.bearer(token);
        }
        if let Some(protocol) = protocol {
            call = call.header("MCP-Protocol-Version", protocol.version);
        }
        match self.session().id.clone() {
            Some(id) if protocol.is_some_and(|p| p.era == Era::Legacy) => call.header("Mcp-Session-Id", id),
            _ => call,
        }
    }

    /// A request as a call; with its id.
    pub(super) fn posted(&self, ask: &Ask<'_>, deadlines: Deadlines) -> (u64, Call) {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let era = ask.protocol.map_or(Era::Legacy, |p| p.era);
        let body = wire::request(id, ask.method, ask.params, era);
        let mut call = self.dressed(Call::post_json(self.0.at.url.as_str(), body, deadlines), ask.protocol);
        if era == Era::Modern {
            call = call.header("Mcp-Method", ask.method);
            if let Some(name) = ask.params.get("name").and_then(Value::as_str) {
                call = call.header("Mcp-Name", encoded(name));
            }
            let arguments = ask.params.get("arguments").and_then(Value::as_object);
            for (name, value) in ask.mirrored.zip(arguments).map(|(m, a)| m.headers(a)).unwrap_or_default() {
                call = call.header(name, value);
            }
        }
        (id, call)
    }

    fn exchange(&self, ask: &Ask<'_>) -> Result<Exchange, Failure> {
        let left = ask.deadline.saturating_sub(self.0.at.clock.mono());
        if left.is_zero() {
            return Err(Failure::Late);
        }
        let either = Either::of(ask.cancel, &self.0.quit);
        let (id, call) = self.posted(ask, within(left));
        let session = self.session().id.clone();
        let result = match self.0.at.client.send(&call.cancel(&either.cancel)) {
            Ok(reply) => self.answered(reply, id, ask, &either.cancel, session),
            Err(e) => Err(self.failure(e, ask)),
        };
        if matches!(result, Err(Failure::Late | Failure::Cancelled)) {
            self.call_off(id, ask);
        }
        result
    }

    fn answered(&self, reply: Reply, id: u64, ask: &Ask<'_>, cut: &Cancel, session: Option<String>) -> Result<Exchange, Failure> {
        let mut reply = match reply.accepted() {
            Ok(reply) if reply.status() == 202 => return Err(failed("it took a request for a notification")),
            Ok(reply) => reply,
            Err(refused) => return self.refused(refused, ask, session),
        };
        if ask.method == "initialize" {
            let id = reply.header("mcp-session-id").filter(|id| id.len() <= SESSION_BYTES_MAX).map(str::to_string);
            self.session().id = id;
        }
        let result = match reply.content_type().as_str() {
            "application/json" => {
                let body = reply.read_all(MESSAGE_BYTES_MAX).map_err(|e| self.failure(e, ask))?;
                let all = wire::read(&body).map_err(|_| failed("its answer is no message"))?;
                all.into_iter().find_map(|said| self.ours(said, id))
            }
            "text/event-stream" => return self.streamed(reply, id, ask, cut).map(Exchange::Done),
            other => return Err(failed(&format!("it answered with {:?}", super::text::one_line(other, 60)))),
        };
        match result {
            Some(Ok(result)) => Ok(Exchange::Done(result)),
            Some(Err(refusal)) => Err(Failure::Refused(refusal)),
            None => Err(failed("its answer is to something else")),
        }
    }

    /// The answer to request `id`, if that is what was said.
    fn ours(&self, said: Said, id: u64) -> Option<Result<Value, Refusal>> {
        match said {
            Said::Answer { id: answered, result } if answered == id => Some(result),
            Said::Blames(refusal) => Some(Err(refusal)), // there is nothing else that it could mean here
            Said::Tells { method, .. } if method == "notifications/tools/list_changed" => {
                self.0.signals.changed();
                None
            }
            _ => None,
        }
    }

    /// Reads an answer that comes as a stream, and goes on with it where it breaks off and the server lets us.
    fn streamed(&self, reply: Reply, id: u64, ask: &Ask<'_>, cut: &Cancel) -> Result<Value, Failure> {
        let mut stream = Stream::new(reply);
        let (mut replies, mut resumes) = (0, 0);
        loop {
            let before = stream.last_id().to_string();
            let over = stream.read(None, |said| match said {
                Said::Asks { id, method } => {
                    replies += 1;
                    if replies <= REPLIES_MAX
                        && let Some(protocol) = ask.protocol.filter(|p| p.era == Era::Legacy)
                    {
                        let _ = self.tell(wire::reply(&id, &method), protocol, TELL_MAX); // it asked; it need not hear
                    }
                    None
                }
                said => self.ours(said, id),
            });
            match over {
                Ok(Some(Ok(result))) => return Ok(result),
                Ok(Some(Err(refusal))) => return Err(Failure::Refused(refusal)),
                Ok(None) => {}
                Err(e) if e.kind == ErrorKind::Transient => {}
                Err(e) => return Err(self.failure(e, ask)),
            }
            resumes = if stream.last_id() == before { resumes + 1 } else { 1 };
            let legacy = ask.protocol.is_some_and(|p| p.era == Era::Legacy);
            if !legacy || stream.last_id().is_empty() || resumes > RESUMES_MAX {
                return Err(failed("its answer broke off"));
            }
            let left = || ask.deadline.saturating_sub(self.0.at.clock.mono());
            pause(cut, stream.wish().unwrap_or(RESUME_PAUSE).min(left()));
            if left().is_zero() {
                return Err(Failure::Late);
            }
            let call = Call::get(self.0.at.url.as_str(), within(left())).header("Last-Event-ID", stream.last_id());
            match self.0.at.client.send(&self.dressed(call, ask.protocol).cancel(cut)) {
                Ok(reply) if reply.status() == 200 => stream.go_on(reply),
                Ok(_) => return Err(failed("its answer broke off")),
                Err(e) if e.kind == ErrorKind::Transient => {}
                Err(e) => return Err(self.failure(e, ask)),
            }
        }
    }

    fn refused(&self, refused: Refused, ask: &Ask<'_>, session: Option<String>) -> Result<Exchange, Failure> {
        if matches!(refused.status, 401 | 403) {
            return Err(Failure::Lost(refused.error));
        }
        let said = wire::read(refused.body.as_bytes()).unwrap_or_default().into_iter().find_map(|said| match said {
            Said::Answer { result: Err(refusal), .. } | Said::Blames(refusal) => Some(refusal),
            _ => None,
        });
        let forgot = refused.status == 404
            || refused.status == 400 && said.as_ref().is_some_and(|s| s.message.to_ascii_lowercase().contains("session"));
        match (session, said) {
            (Some(old), _) if forgot && ask.protocol.is_some_and(|p| p.era == Era::Legacy) => Ok(Exchange::NoSession(old)),
            (_, Some(refusal)) => Err(Failure::Refused(refusal)),
            _ if (400..500).contains(&refused.status) && !matches!(refused.status, 408 | 429) => {
                Err(Failure::Refused(Refusal { code: 0, message: refused.error.text, data: Value::Null }))
            }
            _ => Err(Failure::Lost(refused.error)),
        }
    }

    /// Begins a new session in the place of `old`, unless somebody has.
    fn renew(&self, old: &str, ask: &Ask<'_>) -> Result<(), Failure> {
        let Ok(_one) = self.0.renewing.try_lock() else { return Err(failed("its session is just being renewed; try again")) };
        if self.session().id.as_deref() != Some(old) {
            return Ok(());
        }
        self.session().id = None;
        let clock = &self.0.at.clock;
        let wait = ask.deadline.saturating_sub(clock.mono()).min(RENEW_MAX);
        let settled = Host { link: self, clock, cancel: ask.cancel, probe: wait, wait }.initialize()?;
        self.0.signals.changed(); // a new session may be with another server
        settled.map(|_| ()).map_err(Failure::Lost)
    }

    /// What a failed call means for the one who asked.
    fn failure(&self, e: Error, ask: &Ask<'_>) -> Failure {
        match e.kind {
            _ if ask.cancel.is_set() => Failure::Cancelled,
            ErrorKind::Stopped if self.0.quit.is_set() => failed("it was ended"),
            ErrorKind::Stopped => Failure::Cancelled,
            ErrorKind::Timeout if self.0.at.clock.mono() + Duration::from_millis(20) >= ask.deadline => Failure::Late,
            _ => Failure::Lost(e),
        }
    }

    /// Posts what has no answer.
    pub(super) fn tell(&self, line: String, protocol: Protocol, wait: Duration) -> Result<()> {
        let call = Call::post_json(self.0.at.url.as_str(), line, within(wait));
        self.0.at.client.send(&self.dressed(call, Some(protocol)))?.accepted()?;
        Ok(())
    }

    /// Tells a legacy server that nobody waits for `id` any more: on a thread of its own, since nobody waits for this either.
    fn call_off(&self, id: u64, ask: &Ask<'_>) {
        let Some(protocol) = ask.protocol.filter(|p| p.era == Era::Legacy && !self.0.quit.is_set()) else { return };
        if self.0.telling.fetch_add(1, Ordering::SeqCst) < TELLING_MAX {
            let own = self.clone();
            let told = self.0.at.threads.spawn_once(&thread_name("mcp!", &self.0.at.name), STACK, move || {
                let done = OnEnd(own.clone());
                let _ = own.tell(wire::cancelled(id, "it is not wanted any more"), protocol, TELL_MAX);
                drop(done);
            });
            if told.is_ok() {
                return;
            }
        }
        self.0.telling.fetch_sub(1, Ordering::SeqCst);
    }

    /// The parameters of the modern request for changes.
    pub(super) fn filter() -> Map<String, Value> {
        Map::from_iter([("notifications".to_string(), json!({"toolsListChanged": true}))])
    }
}

/// Counts a cancellation out, also where telling it panicked.
struct OnEnd(Http);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.0.telling.fetch_sub(1, Ordering::SeqCst);
    }
}
