//! One server: connected, watched, connected anew, and called.
//!
//! Invariant: one thread looks after it and is the only one that opens and closes its connection. A call never waits for that: where
//! there is no connection it fails at once, in a sentence that the model can use. Tries grow apart up to some five minutes. Its tools
//! stay known while it is away, and are gone once it is stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};
use serde_json::{Map, Value};

use crate::agent::mcp::catalog::{Catalog, Offer};
use crate::agent::mcp::content;
use crate::agent::mcp::handshake::{Greeting, Host};
use crate::agent::mcp::link::{Ask, Failure, Link, Opener, Signals};
use crate::agent::mcp::status::{ServerState, ServerStatus};
use crate::agent::mcp::text::{one_line, thread_name};
use crate::agent::mcp::tool::McpTool;
use crate::agent::mcp::wire::{Era, Protocol, UNSUPPORTED_VERSION};
use crate::agent::tools::Tool;
use crate::base::backoff::Retry;
use crate::base::cancel::{Cancel, Why};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Fingerprint;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};

/// Failures after which the pause grows no more: 256 s and up to a quarter.
const GROWTH_MAX: u32 = 9;

/// Refusals that may mean that another server answers at the address now, one that speaks another revision: none (a bare status),
/// the unspecific one, no request, no such method, no such version.
const ANOTHER_SERVER: [i64; 5] = [0, -32000, -32600, -32601, UNSUPPORTED_VERSION];
/// The refusal of a call whose head and body differ: the tool's schema is another one by now.
const HEADER_MISMATCH: i64 = -32020;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after the first failure.
    pub retry: Duration,
    /// How long `server/discover`, or a sign of life, is waited for.
    pub probe: Duration,
    /// How long any other step of a connection is waited for: a program may have much to load first.
    pub wait: Duration,
    /// Between two readings of its list, doubled while it says for nothing that the list changed.
    pub refresh: Duration,
    /// A connection that held so long makes former failures forgotten.
    pub settled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let s = Duration::from_secs;
        Pace { retry: s(1), probe: s(10), wait: s(60), refresh: s(1), settled: s(60) }
    }
}

/// What a server is made of.
pub struct Parts {
    /// Its name.
    pub name: String,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// How it is reached.
    pub opener: Box<dyn Opener>,
    /// Patterns of the tools that are used.
    pub wanted: Option<Vec<String>>,
    /// Time for one call.
    pub timeout: Duration,
    /// Of its whole configuration, secrets included: a reload keeps a server that has the same.
    pub identity: Fingerprint,
    /// What an approval is bound to: its configuration without secrets.
    pub binding: String,
    /// How long things take.
    pub pace: Pace,
    /// Time.
    pub clock: Clock,
}

/// A server.
pub struct Server {
    /// What it is made of.
    pub parts: Parts,
    status: Mutex<ServerStatus>,
    tools: Mutex<Vec<Arc<McpTool>>>,
    link: Mutex<Option<Connected>>,
    stop: Stop,
    /// Cuts short what the supervisor waits for.
    quit: Cancel,
    /// Disconnects when the supervisor is over.
    over: Mutex<Receiver<()>>,
}

#[derive(Clone)]
struct Connected {
    link: Arc<dyn Link>,
    signals: Arc<Signals>,
    protocol: Protocol,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Begins to look after a server.
    pub fn start(parts: Parts, threads: &Threads) -> Arc<Server> {
        let status = ServerStatus::new(&parts.name, parts.transport, parts.clock.unix_ms());
        let (alive, over) = crossbeam_channel::bounded::<()>(0);
        let server = Arc::new(Server {
            parts,
            status: Mutex::new(status),
            tools: Mutex::default(),
            link: Mutex::default(),
            stop: Stop::new(),
            quit: Cancel::new(),
            over: Mutex::new(over),
        });
        let own = server.clone();
        let started = threads.spawn(&thread_name("mcp-", &server.parts.name), STACK, &server.stop, move || {
            let _ = &alive; // goes with the thread
            own.supervise();
        });
        if let Err(e) = started {
            log::error!("the MCP server {} is not looked after: {e}", server.parts.name);
            server.failed(&e);
        }
        server
    }

    /// Its tools as they were last known.
    pub fn tools(&self) -> Vec<Arc<dyn Tool>> {
        lock(&self.tools).iter().map(|tool| tool.clone() as Arc<dyn Tool>).collect()
    }

    /// What it offers, as it was last known.
    #[cfg(test)]
    pub fn offers(&self) -> Vec<Offer> {
        lock(&self.tools).iter().map(|tool| tool.offer.clone()).collect()
    }

    /// How it is.
    pub fn status(&self) -> ServerStatus {
        lock(&self.status).clone()
    }

    /// Has it end; returns at once.
    pub fn stop(&self) {
        self.stop.set();
        self.quit.set(Why::Drain);
    }

    /// Waits until it has ended; false where it does not by `deadline`.
    pub fn ended(&self, deadline: Duration) -> bool {
        let over = lock(&self.over).clone();
        over.recv_timeout(deadline.saturating_sub(self.parts.clock.mono())) != Err(crossbeam_channel::RecvTimeoutError::Timeout)
    }

    /// Calls a tool; comes back by `deadline`, and soon after `cancel`.
    ///
    /// # Errors
    /// In words for the model: it is away, it refused, it failed, it took too long.
    pub fn call(&self, offer: &Offer, arguments: &Map<String, Value>, deadline: Duration, cancel: &Cancel) -> Result<String> {
        let Some(Connected { link, signals, protocol }) = lock(&self.link).clone() else { return Err(self.away()) };
        let params = Map::from_iter([
            ("name".to_string(), Value::from(offer.remote.as_str())),
            ("arguments".to_string(), Value::Object(arguments.clone())),
        ]);
        let mirrored = Some(&offer.mirrored);
        let name = &self.parts.name;
        match link.request(&Ask { method: "tools/call", params: &params, protocol: Some(protocol), mirrored, deadline, cancel }) {
            Ok(result) => content::text(&result),
            Err(Failure::Refused(refusal)) => {
                if self.parts.transport == "http" && ANOTHER_SERVER.contains(&refusal.code) {
                    signals.suspect();
                }
                if refusal.code == HEADER_MISMATCH {
                    signals.changed();
                }
                let said = one_line(&refusal.message, 1000);
                Err(Error::new(ErrorKind::Permanent, format!("the MCP server {name} refused the call: {said}")))
            }
            Err(Failure::Cancelled) => {
                Err(Error::new(ErrorKind::Stopped, "the call was stopped; whether it had an effect is not known"))
            }
            Err(Failure::Late) => {
                signals.suspect();
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the MCP server {name} did not answer in time; whether the call had an effect is not known"),
                ))
            }
            Err(Failure::Unsent(e)) => {
                signals.suspect();
                Err(Error::new(
                    ErrorKind::Transient,
                    format!("the MCP server {name} could not be asked: {}; the call was not made", e.text),
                ))
            }
            Err(Failure::Lost(e)) => {
                signals.suspect();
                let text = format!("the MCP server {name} failed: {}; whether the call had an effect is not known", e.text);
                Err(Error::new(ErrorKind::Transient, text))
            }
        }
    }

    fn away(&self) -> Error {
        let status = self.status();
        let name = &self.parts.name;
        let text = match status.state {
            ServerState::Stopped => format!("the MCP server {name} was stopped"),
            ServerState::Connecting | ServerState::Connected => {
                format!("the MCP server {name} is just being connected; try again later")
            }
            _ => format!("the MCP server {name} is away at the moment and is being reached again; try without it, or later"),
        };
        Error::new(ErrorKind::Transient, text)
    }

    fn now_ms(&self) -> i64 {
        self.parts.clock.unix_ms()
    }

    fn failed(&self, error: &Error) {
        lock(&self.status).failed(error, self.now_ms());
    }

    /// The supervisor's work, until the stop is set.
    fn supervise(self: &Arc<Self>) {
        self.hang_up(); // there is a connection still where this begins again after a panic
        let (mut failures, mut first) = (0, Era::Modern);
        while !self.stop.is_set() {
            lock(&self.status).enter(ServerState::Connecting, self.now_ms());
            let begun = self.parts.clock.mono();
            let error = self.live(&mut first);
            self.hang_up();
            if self.stop.is_set() {
                break;
            }
            if self.parts.clock.mono().saturating_sub(begun) >= self.parts.pace.settled {
                failures = 0;
            }
            failures = GROWTH_MAX.min(failures + 1);
            let pause = Retry { max_retries: u32::MAX, delay: self.parts.pace.retry }.growing(failures);
            self.failed(&error);
            let (name, pause_ms) = (self.parts.name.as_str(), pause.as_millis() as u64);
            log::warn!(server = name, pause_ms; "the MCP server {name} is away and is tried again: {error}");
            if self.stop.wait(pause) {
                break;
            }
            lock(&self.status).restarts += 1;
        }
        self.hang_up();
        lock(&self.tools).clear();
        let mut status = lock(&self.status);
        status.tools = 0;
        status.enter(ServerState::Stopped, self.now_ms());
    }

    fn hang_up(&self) {
        let connected = lock(&self.link).take();
        if let Some(Connected { link, .. }) = connected {
            link.close();
        }
    }

    /// One connection, from its begin to its end; gives why it ended.
    fn live(self: &Arc<Self>, first: &mut Era) -> Error {
        let signals = Arc::new(Signals::default());
        let link = match self.parts.opener.open(&signals) {
            Ok(link) => link,
            Err(e) => return e,
        };
        let greeting = match self.begin(&link, first) {
            Ok(greeting) => greeting,
            Err(e) => {
                link.close();
                return e;
            }
        };
        let connected = Connected { link, signals, protocol: greeting.protocol };
        *lock(&self.link) = Some(connected.clone());
        let (name, version) = (self.parts.name.as_str(), greeting.protocol.version);
        lock(&self.status).connected(greeting.protocol, self.now_ms());
        log::info!(server = name, version; "the MCP server {name} is connected, with {} tools", self.status().tools);
        if let Err(e) = connected.link.follow(greeting.protocol, greeting.changes) {
            return e;
        }
        self.watch(&connected, greeting)
    }

    fn begin(self: &Arc<Self>, link: &Arc<dyn Link>, first: &mut Era) -> Result<Greeting> {
        let host = self.host(&**link);
        let greeting = host.greet(*first);
        // Servers that end at whatever comes before `initialize` are asked that first the next time.
        *first = match &greeting {
            Err(_) if *first == Era::Modern && self.parts.transport == "stdio" && link.lost().is_some() => Era::Legacy,
            _ => Era::Modern,
        };
        let greeting = greeting?;
        self.read_tools(&host, greeting).map_err(|failure| failure.error("tools/list"))?;
        Ok(greeting)
    }

    fn host<'a>(&'a self, link: &'a dyn Link) -> Host<'a> {
        let Pace { probe, wait, .. } = self.parts.pace;
        Host { link, clock: &self.parts.clock, cancel: &self.quit, probe, wait }
    }

    /// Reads the list of tools; gives whether it is another one than before.
    fn read_tools(self: &Arc<Self>, host: &Host<'_>, greeting: Greeting) -> Result<bool, Failure> {
        let name = &self.parts.name;
        let mirrors = self.parts.transport == "http" && greeting.protocol.era == Era::Modern;
        let mut catalog = Catalog::new(name, self.parts.wanted.as_deref(), mirrors);
        if greeting.tools {
            host.list(greeting.protocol, &mut catalog)?;
        }
        let mut tools = lock(&self.tools);
        let changed = !tools.iter().map(|tool| &tool.offer).eq(catalog.offers.iter());
        if changed {
            for complaint in &catalog.complaints {
                log::warn!(server = name.as_str(); "the MCP server {name}: {complaint}");
            }
            *tools = catalog.offers.into_iter().map(|offer| Arc::new(McpTool::new(self, offer))).collect();
        }
        let mut status = lock(&self.status);
        (status.tools, status.left_out) = (tools.len(), catalog.left_out);
        Ok(changed)
    }

    /// Watches a connection until it is over; gives why.
    fn watch(self: &Arc<Self>, connected: &Connected, greeting: Greeting) -> Error {
        let (pace, clock) = (self.parts.pace, &self.parts.clock);
        let host = self.host(&*connected.link);
        let (mut changed, mut apart, mut next) = (false, pace.refresh, Duration::ZERO);
        loop {
            let soon = if changed { crossbeam_channel::after(next.saturating_sub(clock.mono())) } else { never() };
            select! {
                recv(self.stop.receiver()) -> _ => return Error::new(ErrorKind::Stopped, "it was stopped"),
                recv(connected.signals.nudges()) -> _ => {}
                recv(soon) -> _ => {}
            }
            if let Some(why) = connected.link.lost() {
                return why;
            }
            if connected.signals.take_suspect() {
                let error = Error::new(ErrorKind::Timeout, "it failed to answer, and is being looked at");
                self.failed(&error);
                if let Err(e) = host.is_there(greeting.protocol) {
                    return e;
                }
                lock(&self.status).enter(ServerState::Connected, self.now_ms());
            }
            changed |= connected.signals.take_changed();
            if changed && clock.mono() >= next {
                changed = false;
                match self.read_tools(&host, greeting) {
                    Ok(true) => apart = pace.refresh,
                    Ok(false) => apart = (apart * 2).min(pace.refresh * 64),
                    Err(Failure::Refused(refusal)) => {
                        log::warn!("the MCP server {} keeps its list back: {}", self.parts.name, one_line(&refusal.message, 200))
                    }
                    Err(failure) => return failure.error("tools/list"),
                }
                next = clock.mono() + apart;
            }
        }
    }
}
