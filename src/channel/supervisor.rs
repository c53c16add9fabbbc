//! What keeps a connected channel alive: one thread that connects, works, and connects again after a growing pause.
//!
//! Invariant: states tell the truth: `connected` is said by the adapter when the service answered, `degraded` when a connection failed, and
//! `misconfigured` when trying again changes nothing (a person must look; a reconnect tries once more). Pauses grow, are
//! capped and jittered, and begin anew once a connection has held. A stop ends a pause at once. A panic in an adapter is one
//! failure of its connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::base::backoff::jittered;
use crate::base::cancel::{Cancel, Why};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::live::Live;
use crate::base::pulse::Pulse;
use crate::base::stop::Stop;
use crate::base::threads::STACK;
use crate::channel::counters::Counters;
use crate::channel::{ChannelState, ChannelStatus, Parts};

/// The first pause after a connection failed.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest that a connection may hear nothing at all before its thread counts as stuck: adapters give up much earlier.
const SILENCE_MAX: Duration = Duration::from_secs(900);
/// A connection that held this long was a good one: pauses begin anew.
const HELD: Duration = Duration::from_secs(60);

/// What an adapter does on its thread.
pub trait Connection: Send {
    /// Connects and works until the connection fails or `line.cancel()` is set. Blocks; every wait in it has a deadline or ends by
    /// that cancellation.
    ///
    /// # Errors
    /// Why it ended: a passing kind is tried again after a pause (`Throttled` says how long), `Denied`, `Permanent` and `Invalid`
    /// make the channel misconfigured. `Ok` and `Stopped` begin anew at once, if it isn't to end.
    fn run(&mut self, line: &Line) -> Result<()>;
}

/// What a connection tells, and is told.
pub struct Line {
    /// What the adapter was made with.
    pub parts: Parts,
    counters: Arc<Counters>,
    cancel: Live<Cancel>,
    stop: Stop,
    pulse: Pulse,
}

impl Line {
    /// Set when this connection is to end: at a stop, or for a new one.
    pub fn cancel(&self) -> Cancel {
        (*self.cancel.get()).clone()
    }

    /// Whether the channel is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }

    /// Waits at most `pause`; true where the connection is to end.
    pub fn pause(&self, pause: Duration) -> bool {
        let cancel = self.cancel();
        let (woken, wake) = crossbeam_channel::bounded::<()>(1);
        let _guard = cancel.on_set(move || drop(woken));
        let _ = wake.recv_timeout(pause); // disconnected: cancelled
        cancel.is_set()
    }

    /// The service answered: the channel works.
    pub fn connected(&self) {
        self.state(ChannelState::Connected, None);
    }

    /// The service said something: the connection makes progress.
    pub fn heard(&self) {
        self.pulse.works(self.parts.clock.mono(), SILENCE_MAX);
        self.counters.heard(self.parts.clock.unix_ms());
    }

    fn state(&self, state: ChannelState, error: Option<&Error>) {
        if self.counters.change(state, error, self.parts.clock.unix_ms()) {
            let why = error.map(ToString::to_string).unwrap_or_default();
            self.parts.inlet.changed(&self.parts.name, state, &why);
        }
    }
}

/// A supervised connection.
pub struct Supervisor {
    line: Arc<Line>,
    nudge: Sender<()>,
}

impl Supervisor {
    /// Starts one; `make` gives the connection, once. Where the system refuses a thread the channel is degraded and a reconnect
    /// does nothing.
    pub fn start(parts: Parts, counters: Arc<Counters>, connection: impl Connection + 'static) -> Supervisor {
        let (nudge, nudged) = crossbeam_channel::bounded(1);
        let label: String = format!("ch-{}", parts.name).chars().filter(char::is_ascii).take(15).collect();
        let pulse = parts.threads.pulse(&label);
        let line = Arc::new(Line { parts, counters, cancel: Live::new(Cancel::new()), stop: Stop::new(), pulse });
        line.state(ChannelState::Connecting, None);
        let (own, mut connection) = (line.clone(), connection);
        let started = line.parts.threads.spawn_once(&label, STACK, move || work(&own, &mut connection, &nudged));
        if let Err(e) = started {
            line.state(ChannelState::Degraded, Some(&e));
        }
        Supervisor { line, nudge }
    }

    /// Begins a new connection, at once.
    pub fn reconnect(&self) {
        let _ = self.nudge.try_send(()); // a full queue is its own nudge
        self.line.cancel.get().set(Why::Asked);
    }

    /// Ends it; returns at once.
    pub fn stop(&self) {
        self.line.stop.set();
        self.line.cancel.get().set(Why::Drain);
    }

    /// The record as operators see it.
    pub fn status(&self, kind: &'static str) -> ChannelStatus {
        self.line.counters.status(&self.line.parts.name, kind)
    }
}

/// How long to wait between two connections: what bounds the storm on a service that comes back.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Failures in a row.
    failures: u32,
}

impl Patience {
    /// A connection ended after it had `held` so long.
    fn ended(&mut self, held: Duration) {
        if held >= HELD {
            self.failures = 0;
        }
    }

    /// It ended by that failure: the pause before the next one.
    fn pause(&mut self, kind: ErrorKind) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match kind {
            kind if is_hopeless(kind) => PAUSE_MAX,
            ErrorKind::Throttled(Some(asked)) => asked,
            _ => jittered(PAUSE_MIN.saturating_mul(1 << (self.failures - 1).min(10)).min(PAUSE_MAX)),
        }
    }

    /// The pause after a connection that failed after it had `held` so long.
    #[cfg(test)]
    pub(crate) fn failed(&mut self, held: Duration, kind: ErrorKind) -> Duration {
        self.ended(held);
        self.pause(kind)
    }
}

/// Whether trying again changes nothing.
fn is_hopeless(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Permanent | ErrorKind::Invalid)
}

fn work(line: &Line, connection: &mut dyn Connection, nudged: &Receiver<()>) {
    let mut patience = Patience::default();
    while !line.is_stopped() {
        while nudged.try_recv().is_ok() {}
        line.cancel.set(Cancel::new());
        if line.is_stopped() {
            return; // between the two
        }
        line.state(ChannelState::Connecting, None);
        line.counters.reconnected();
        let begun = line.parts.clock.mono();
        line.pulse.works(begun, SILENCE_MAX);
        let outcome = catch_unwind(AssertUnwindSafe(|| connection.run(line))).unwrap_or_else(|_| {
            line.parts.threads.count_panic();
            Err(Error::new(ErrorKind::Bug, "an error of the gateway's own ended the connection"))
        });
        line.pulse.rests();
        if line.is_stopped() {
            return line.state(ChannelState::Stopped, None);
        }
        patience.ended(line.parts.clock.mono().saturating_sub(begun));
        let error = match outcome {
            Ok(()) => continue,
            Err(e) if e.kind == ErrorKind::Stopped => continue,
            Err(e) => e,
        };
        let (pause, failures) = (patience.pause(error.kind), patience.failures);
        log::warn!(channel = line.parts.name.as_str(), failures; "channel {} lost its connection: {error}", line.parts.name);
        let state = if is_hopeless(error.kind) { ChannelState::Misconfigured } else { ChannelState::Degraded };
        line.state(state, Some(&error));
        crossbeam_channel::select! {
            recv(nudged) -> _ => {}
            recv(line.stop.receiver()) -> _ => {}
            default(pause) => {}
        }
    }
    line.state(ChannelState::Stopped, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_without_a_network_are_no_storm() {
        let s = Duration::from_secs;
        // How long each try takes: refused at once, no answer, and what a service asks for.
        for (what, takes, kind, tries) in [
            ("refused", s(0), ErrorKind::Transient, 9..=11),
            ("no answer", s(10), ErrorKind::Timeout, 8..=10),
            ("a service that asks for half a minute", s(0), ErrorKind::Throttled(Some(s(30))), 20..=21),
            ("a wrong token", s(0), ErrorKind::Denied, 2..=3),
        ] {
            for _ in 0..50 {
                let (mut patience, mut now, mut tried, mut longest) = (Patience::default(), s(0), 0, s(0));
                while now < s(600) {
                    tried += 1;
                    let pause = patience.failed(takes, kind);
                    longest = longest.max(pause);
                    now += takes + pause;
                }
                assert!(tries.contains(&tried), "{what}: {tried} tries");
                assert!(longest <= PAUSE_MAX + PAUSE_MAX / 4 + s(1), "{what}: back within that, not {longest:?}");
            }
        }
        let mut patience = Patience::default();
        for _ in 0..8 {
            patience.failed(s(1), ErrorKind::Transient);
        }
        assert!(patience.failed(s(59), ErrorKind::Transient) > s(200), "a short life is no good one");
        assert!(patience.failed(s(60), ErrorKind::Transient) < s(2), "a connection that held begins anew");
    }
}
