//! Assembly: build → start → run → drain. The only place that knows all parts.
//!
//! Invariant: nothing serves before everything that can refuse has been asked (configuration, directory, lock, port): no half
//! start. One event loop owns the life cycle; everything else tells it by an event. A failure at start is a sentence and an
//! exit code; a failure later is logged and the process goes on.

mod build;
mod manager;
pub mod reload;
mod signals;
mod tools;

use std::cell::Cell;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::api::{Api, Front};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind};
use crate::base::stop::Stop;
use crate::base::threads::Threads;
use crate::config::Watcher;
use crate::config::files::{Loaded, Places};
use crate::flow::Flow;
use crate::gateway::build::Built;
use crate::gateway::manager::Manager;
use crate::gateway::reload::Reload;
use crate::gateway::signals::Listening;
use crate::net::door::{self, Door};
use crate::net::local::Local;
use crate::net::mdns::Announcer;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::logging::Logger;

/// Time for the deliveries that are due when the turns have ended.
const LAST_PASS: Duration = Duration::from_secs(2);
/// Time for calls that were cut to be put on record.
const AFTER_INTERRUPT: Duration = Duration::from_secs(2);

/// What can happen to the gateway from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
    /// The configuration file changed.
    FileChanged,
}

/// What a gateway is started with.
pub struct Start {
    /// The configuration as it was found.
    pub loaded: Loaded,
    /// Where configuration and data are.
    pub places: Places,
    /// The logger, for its level and its ring.
    pub logger: Logger,
    /// Time.
    pub clock: Clock,
    /// When it began (`Clock::mono`): the configuration was read since.
    pub began: Duration,
    /// The socket that a service manager listens on for us, if it does.
    pub passed: Option<TcpListener>,
}

/// What tells the workers to end, each after what they have in hand.
#[derive(Default)]
struct Finish {
    turns: Stop,
    deliveries: Stop,
}

/// A gateway that serves.
pub struct Gateway {
    flow: Arc<Flow>,
    api: Arc<Api>,
    store: Arc<SqliteStore>,
    door: Arc<Door>,
    reload: Arc<Reload>,
    events: Receiver<Event>,
    threads: Threads,
    finish: Finish,
    /// Set when everything is to end.
    stop: Stop,
    clock: Clock,
    /// Set by a second signal.
    hurried: Cell<bool>,
    local: Option<Local>,
    signals: Listening,
    watcher: Option<Watcher>,
    manager: Manager,
    /// The token made at this start, to be shown once.
    pub made_token: Option<String>,
}

impl Gateway {
    /// Builds and starts everything.
    ///
    /// # Errors
    /// With a sentence for the person who started it; nothing runs then that matters.
    pub fn start(mut start: Start) -> Result<Gateway, Error> {
        let mut phases = Phases::since(start.began, &start.clock);
        phases.end("configuration");
        door::raise_descriptor_limit();
        let (threads, finish, stop) = (Threads::new(), Finish::default(), Stop::new());
        let (tx, events) = crossbeam_channel::bounded(16);
        let signals = signals::start(&threads, &stop, tx.clone())?; // first: a signal must never find the system's own way to handle it
        let listener = match start.passed.take() {
            Some(passed) => passed,
            None => door::bind(start.loaded.resolved.config.gateway.listen)?,
        };
        phases.end("listener");
        let store = build::open_store(&start, &threads)?;
        phases.end("store");
        // A token is shown once, so it is made when hardly anything can fail any more.
        let made_token = reload::complete(&mut start.loaded.resolved, &start.places.data_dir)?;
        let config = start.loaded.resolved.config.clone();
        let (clock, target) = (start.clock.clone(), start.places.target.clone());
        let Built { flow, api, reload, limits, door_cell } = build::build(start, &config, &store, &threads);
        phases.end("parts");
        let front = Arc::new(Front(api.clone()));
        let workers = config.gateway.workers;
        let door = Arc::new(Door::start(listener, front.clone(), limits, workers.http, clock.clone(), &threads, &stop)?);
        let _ = door_cell.set(door.clone());
        phases.end("door");
        // The door answers already; the rest starts behind it, so that a restart is short for those who knock.
        flow.start(workers.deliveries, &threads, &finish.turns, &finish.deliveries, &stop)?;
        reload.announce(Announcer::new(door.local_addr(), clock.clone(), threads.clone()));
        let watcher = watch(&target, &threads, &stop, tx);
        let serve = |path| Local::start(path, front, clock.clone(), &threads, &stop);
        let local = config.gateway.local_socket.as_deref().map(serve).transpose();
        let local = local.unwrap_or_else(|e| {
            log::error!("the local socket is not served: {e}");
            None
        });
        phases.end("workers");
        flow.metrics.started_in(phases.done);
        let (hurried, manager) = (Cell::new(false), Manager::from_env(clock.clone(), threads.clone()));
        Ok(Gateway {
            flow,
            api,
            store,
            door,
            local,
            signals,
            watcher,
            reload,
            events,
            threads,
            finish,
            stop,
            clock,
            hurried,
            manager,
            made_token,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.door.local_addr()
    }

    /// Serves until it is told to end, then drains. True when all that was in hand was finished.
    pub fn run(self) -> bool {
        self.manager.ready(&format!("serving on http://{}", self.address()));
        loop {
            let event = match self.manager.feed() {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => self.events.recv_timeout(pause),
            };
            match event {
                Ok(Event::Terminate) | Err(RecvTimeoutError::Disconnected) => return self.drain(),
                Ok(Event::Reload) => self.manager.reloading(|| self.reload.from_file("SIGHUP")),
                Ok(Event::FileChanged) => self.reload.from_file("the file changed"),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Stop intake → turns finish, or are cut at the deadline and go on at the next start → deliveries one last pass →
    /// checkpoint → join.
    fn drain(self) -> bool {
        let deadline = self.clock.mono() + self.reload.drain_timeout();
        self.manager.stopping();
        log::info!("draining: no new messages; {} ms for what is in hand", (deadline - self.clock.mono()).as_millis());
        self.reload.hide();
        self.flow.drain();
        self.api.sockets.drain(1001, "the gateway stops");
        self.finish.turns.set();
        // A commit is counted before what it left to send is offered: a worker is through only when it says so.
        let turns_ended = || self.store.depths().running == 0 && self.flow.turning() == 0;
        if !self.until(deadline, turns_ended) {
            log::warn!("turns are cut short; they go on at the next start");
            self.flow.running.drain();
            self.flow.client.interrupt();
            self.until(self.clock.mono() + AFTER_INTERRUPT, turns_ended);
        }
        self.flow.client.interrupt();
        let last_pass = deadline.clamp(self.clock.mono(), self.clock.mono() + LAST_PASS);
        self.until(last_pass, || self.store.next_delivery_due().is_none_or(|due| !due.is_zero()));
        // What is being sent has to be recorded, or the next start sends it again.
        self.finish.deliveries.set();
        let sent = || self.flow.sending() == 0;
        if !self.until(deadline.max(last_pass), sent) {
            self.flow.delivery_client.interrupt();
            self.hurried.set(false); // even a hurried end waits for the records of sends that it cut
            self.until(self.clock.mono() + AFTER_INTERRUPT, sent);
        }
        self.flow.channels.get().stop();
        // Who still waits learns at least that the message is on disk.
        self.flow.waiters.expire(Duration::MAX);
        self.door.close(Duration::from_millis(500));
        self.stop.set();
        self.door.wake();
        drop((self.local, self.watcher, self.signals));
        for name in self.flow.mcp.get().stop() {
            log::warn!(server = name.as_str(); "the MCP server {name} did not come to an end");
        }
        self.store.close();
        let late = self.threads.join(Duration::from_secs(3));
        if !late.is_empty() {
            log::warn!("these threads did not end in time: {}", late.join(", "));
        }
        log::info!("stopped");
        late.is_empty()
    }

    /// Waits until it is `so` or the deadline passed, or a second signal comes (false, both).
    fn until(&self, deadline: Duration, so: impl Fn() -> bool) -> bool {
        while !so() && !self.hurried.get() {
            let left = deadline.saturating_sub(self.clock.mono());
            if left.is_zero() {
                return false;
            }
            self.manager.feed();
            match self.events.recv_timeout(left.min(Duration::from_millis(20))) {
                Ok(Event::Terminate) => {
                    log::warn!("a second signal: ending at once; nothing is lost");
                    self.hurried.set(true);
                }
                _ => continue,
            }
        }
        !self.hurried.get()
    }
}

/// What the start took.
struct Phases {
    clock: Clock,
    last: Duration,
    done: Vec<(&'static str, Duration)>,
}

impl Phases {
    fn since(began: Duration, clock: &Clock) -> Self {
        Phases { clock: clock.clone(), last: began, done: Vec::new() }
    }

    fn end(&mut self, name: &'static str) {
        let now = self.clock.mono();
        self.done.push((name, now - self.last));
        self.last = now;
    }
}

/// Watches the configuration file. What changed between its reading and now is looked for once.
fn watch(target: &Path, threads: &Threads, stop: &Stop, events: Sender<Event>) -> Option<Watcher> {
    // A full queue means that a reload is on its way already.
    let changed = move || {
        let _ = events.try_send(Event::FileChanged);
    };
    let tell = changed.clone();
    match Watcher::start(target, threads, stop, changed) {
        Ok(watcher) => {
            tell();
            Some(watcher)
        }
        Err(e) => {
            log::warn!("{e}");
            None
        }
    }
}

/// An error at start, for the exit code.
pub fn is_configuration(e: &Error) -> bool {
    e.kind == ErrorKind::Invalid
}
