//! The socket's thread: connects, and carries bytes between the broker, the protocol and the mailbox.
//!
//! Invariant: it waits in `poll` alone (and while it connects, within a deadline). While the taker is busy nothing is read, so that
//! what waits is bounded; pings go on. A message is acknowledged only after the taker said that it is on disk. Fails with
//! what ended the connection; then letters that were not confirmed are given up.

use std::collections::HashMap;
use std::io::{ErrorKind as Io, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::codec::{Publish, Version};
use super::discovery;
use super::ledger::Ledger;
use super::mailbox::{Letter, Mailbox, Told};
use super::message::Topics;
use super::protocol::{Event, Hello, Protocol, RECEIVE_MAX};
use super::stream::{self, Stream};
use super::taker::{Job, Taker};
use crate::base::crash;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::threads::STACK;
use crate::channel::counters::Counters;
use crate::channel::supervisor::{Connection, Line};
use crate::config;
use crate::telemetry::timestamp::rfc3339;

/// Bytes read in one go, and goes in one round.
const CHUNK: usize = 16 * 1024;
const ROUND: usize = 16;
/// For a goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// Between two reports of the last message's time.
const REPORT: Duration = Duration::from_secs(10);

/// The channel's connection, one after the other.
pub struct Wire {
    pub config: config::Mqtt,
    pub topics: Topics,
    pub mailbox: Arc<Mailbox>,
    pub counters: Arc<Counters>,
    pub version: Version,
    /// The taker's way in, the client id, and the filter that the session was subscribed to; made at the first connection.
    pub work: Option<Work>,
    pub epoch: u64,
    /// Whether the last connection was accepted.
    pub is_greeted: bool,
}

/// See above.
pub struct Work {
    jobs: Sender<Job>,
    client_id: String,
    subscribed: String,
}

/// Why a connection ended that could be tried otherwise.
enum End {
    /// With the other version of the protocol: refused, or closed without a word.
    Version(Error),
    Failed(Error),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        End::Failed(e)
    }
}

impl Connection for Wire {
    fn run(&mut self, line: &Line) -> Result<()> {
        self.begin(line)?;
        self.is_greeted = false;
        let mut outcome = self.attempt(line);
        if let (Err(End::Version(_)), Version::V5) = (&outcome, self.version) {
            self.version = Version::V4;
            outcome = self.attempt(line);
        }
        if !self.is_greeted {
            self.version = Version::V5; // it was not the version, or the broker is another one now
        }
        outcome.map_err(|end| match end {
            End::Version(e) | End::Failed(e) => e,
        })
    }
}

impl Wire {
    /// Reads the ledger and starts the taker, once.
    fn begin(&mut self, line: &Line) -> Result<()> {
        if self.work.is_some() {
            return Ok(());
        }
        let parts = &line.parts;
        let unreadable = |e| Error::new(ErrorKind::Transient, format!("the channel's own record can't be used: {e}"));
        let cursor = parts.inlet.cursor(&parts.name).map_err(unreadable)?;
        let ledger = Ledger::read(cursor.as_deref(), &parts.name, parts.clock.unix_ms());
        if cursor.is_none() {
            parts.inlet.set_cursor(&parts.name, &ledger.cursor()).map_err(unreadable)?; // the client id must stay
        }
        let client_id = self.config.client_id.clone().unwrap_or_else(|| ledger.client_id.clone());
        let subscribed = ledger.filter.clone();
        let (jobs, todo) = crossbeam_channel::bounded(usize::from(RECEIVE_MAX) + 2);
        let taker = Taker { parts: parts.clone(), topics: self.topics.clone(), ledger, mailbox: self.mailbox.clone() };
        parts.threads.spawn_once("mqtt-take", STACK, move || taker.work(&todo))?;
        self.work = Some(Work { jobs, client_id, subscribed });
        Ok(())
    }

    fn attempt(&mut self, line: &Line) -> Result<(), End> {
        if self.version == Version::V4 && self.topics.is_loop() {
            let text = "what the channel publishes would come back in by its own subscription, and this broker does not speak MQTT 5, \
                        which can prevent it";
            return Err(Error::new(ErrorKind::Permanent, text).hint("let subscribe and publish differ"))?;
        }
        let stream = Stream::connect(&self.config, &line.cancel())?;
        (self.epoch, self.is_greeted) = (self.epoch + 1, false);
        let Some(work) = &mut self.work else { return Ok(()) };
        let hello = Hello {
            version: self.version,
            client_id: &work.client_id,
            username: self.config.username.as_deref(),
            password: self.config.password.as_ref().map(|p| p.reveal()),
            status: &self.topics.status,
        };
        let mut run = Run {
            line,
            protocol: Protocol::new(&hello, line.parts.clock.mono()),
            stream,
            config: &self.config,
            topics: &self.topics,
            mailbox: &self.mailbox,
            counters: &self.counters,
            work,
            epoch: self.epoch,
            waiting: HashMap::new(),
            last_ticket: 0,
            message_at: None,
            next_report: Duration::ZERO,
        };
        self.mailbox.hush();
        let outcome = run.run();
        self.is_greeted = run.protocol.is_greeted();
        let is_lost = run.work.jobs.send_timeout(Job::Settle { serial: 0 }, Duration::ZERO);
        self.mailbox.close();
        if let Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) = is_lost {
            self.work = None; // the taker panicked: the next connection starts another one
        }
        outcome
    }
}

/// One connection while it runs.
struct Run<'a> {
    line: &'a Line,
    protocol: Protocol,
    stream: Stream,
    config: &'a config::Mqtt,
    topics: &'a Topics,
    mailbox: &'a Arc<Mailbox>,
    counters: &'a Counters,
    work: &'a mut Work,
    epoch: u64,
    waiting: HashMap<u64, Sender<Result<()>>>,
    last_ticket: u64,
    /// When a message last came, if that is not reported yet; when the next report may go.
    message_at: Option<i64>,
    next_report: Duration,
}

impl Run<'_> {
    fn now(&self) -> Duration {
        self.line.parts.clock.mono()
    }

    fn run(&mut self) -> Result<(), End> {
        let cancel = self.line.cancel();
        let mailbox = self.mailbox.clone();
        let _guard = cancel.on_set(move || mailbox.ring());
        loop {
            if cancel.is_set() {
                self.leave();
                return Ok(());
            }
            let is_left = self.round()?;
            self.wait(is_left)?;
        }
    }

    /// Reads, handles and writes what there is; whether more may be there.
    fn round(&mut self) -> Result<bool, End> {
        let mut is_taken = false;
        for told in self.mailbox.take() {
            is_taken |= matches!(told, Told::Taken { .. });
            self.told(told)?;
        }
        let mut is_left = self.understand()?;
        for _ in 0..ROUND {
            if self.is_busy() || !self.read()? {
                break;
            }
            is_left = self.understand()?;
        }
        let now = self.now();
        if self.is_busy() {
            self.protocol.unread(now);
            is_left = false; // the taker rings when it is through
        } else {
            self.protocol.tick(now)?;
        }
        self.report(now);
        self.write()?;
        if is_taken {
            crash::point("channel.acknowledged");
        }
        Ok(is_left)
    }

    fn is_busy(&self) -> bool {
        self.work.jobs.len() + 2 > usize::from(RECEIVE_MAX) // room for what is no message
    }

    /// One read; whether there was something.
    fn read(&mut self) -> Result<bool, End> {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(self.closed(stream::closed())),
            Ok(n) => {
                self.protocol.feed(&chunk[..n]);
                self.line.heard();
                Ok(true)
            }
            Err(e) if matches!(e.kind(), Io::WouldBlock | Io::Interrupted) => Ok(false),
            Err(e) => Err(self.closed(stream::fault(&e, self.config))),
        }
    }

    /// A broker of 3.1.1 may close without a word where it is greeted in version 5.
    fn closed(&self, e: Error) -> End {
        let is_mute = !self.protocol.is_greeted() && e.kind == ErrorKind::Transient;
        if is_mute { End::Version(e) } else { End::Failed(e) }
    }

    /// Handles what was read, while there is room for what it brings; whether bytes are left.
    fn understand(&mut self) -> Result<bool, End> {
        while !self.is_busy() {
            match self.protocol.next(self.now())? {
                Some(event) => self.handle(event)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::OtherVersion => {
                let e = Error::new(ErrorKind::Permanent, "the MQTT broker speaks neither MQTT 5 nor 3.1.1");
                return Err(End::Version(e));
            }
            Event::Accepted { has_session } => {
                if has_session && self.work.subscribed == self.topics.filter {
                    self.subscribe(None);
                } else {
                    self.job(Job::Begin { epoch: self.epoch, is_new: !has_session })?;
                }
            }
            Event::Subscribed => {
                self.work.subscribed.clone_from(&self.topics.filter);
                self.greet();
                self.mailbox.open();
                self.line.connected();
            }
            Event::Message(message) => self.job(Job::Take { epoch: self.epoch, message })?,
            Event::Settled { ticket, outcome } => {
                let outcome = self.counters.tried(outcome, self.line.parts.clock.unix_ms());
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    let _ = waiting.try_send(outcome); // it may have given up
                }
            }
            Event::Confirmed { serial } => self.job(Job::Settle { serial })?,
        }
        Ok(())
    }

    fn subscribe(&mut self, former: Option<&str>) {
        let now = self.now();
        self.protocol.subscribe(&self.topics.filter, self.topics.may_be_no_local(), former, now);
    }

    /// Says that we are there, and how Home Assistant shows it.
    fn greet(&mut self) {
        self.protocol.retain(&self.topics.status, "online");
        if self.config.home_assistant {
            let configs = discovery::configs(&self.work.client_id, &self.line.parts.name, &self.topics.status);
            configs.iter().for_each(|(topic, config)| self.protocol.retain(topic, config));
        }
    }

    fn job(&mut self, job: Job) -> Result<()> {
        self.work.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => Error::new(ErrorKind::Bug, "more came in than there was room for"),
            TrySendError::Disconnected(_) => Error::new(ErrorKind::Bug, "an error of the gateway's own ended the taking in"),
        })
    }

    fn told(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Letter(letter) => self.publish(letter),
            Told::Ready { epoch } if epoch == self.epoch => {
                let former = std::mem::take(&mut self.work.subscribed);
                let is_other = !former.is_empty() && former != self.topics.filter;
                self.subscribe(Some(former.as_str()).filter(|_| is_other));
            }
            Told::Taken { epoch, packet_id, serial } if epoch == self.epoch => {
                if let Some(packet_id) = packet_id {
                    self.protocol.acknowledge(packet_id, serial);
                }
                if serial > 0 {
                    self.message_at = Some(self.line.parts.clock.unix_ms());
                }
            }
            Told::NotNow { epoch, why } if epoch == self.epoch => {
                return Err(Error::new(ErrorKind::Transient, format!("nothing can be taken in now: {why}")));
            }
            _ => {} // of a former connection: the broker sends it again
        }
        Ok(())
    }

    fn publish(&mut self, letter: Letter) {
        let properties: Vec<(&str, &str)> = letter.properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let payload = letter.payload.as_bytes();
        let publish = Publish { topic: &letter.topic, payload, packet_id: None, retain: false, properties: &properties };
        self.last_ticket += 1;
        let now = self.now();
        match self.protocol.publish(self.last_ticket, &publish, now) {
            Ok(()) => {
                letter.left.store(true, Ordering::SeqCst);
                self.waiting.insert(self.last_ticket, letter.outcome);
            }
            Err(e) => drop(letter.outcome.try_send(Err(e))),
        }
    }

    /// Tells Home Assistant when a message last came, not too often.
    fn report(&mut self, now: Duration) {
        if !self.config.home_assistant || !self.protocol.is_open() || now < self.next_report {
            return;
        }
        if let Some(at) = self.message_at.take() {
            self.protocol.retain(&discovery::last_message_topic(&self.topics.status), &rfc3339(at));
            self.next_report = now + REPORT;
        }
    }

    fn write(&mut self) -> Result<(), End> {
        while !self.protocol.out().is_empty() {
            match self.stream.write(self.protocol.out()) {
                Ok(0) => return Err(self.closed(stream::closed())),
                Ok(n) => drop(self.protocol.out().drain(..n)),
                Err(e) if matches!(e.kind(), Io::WouldBlock | Io::Interrupted) => return Ok(()),
                Err(e) => return Err(self.closed(stream::fault(&e, self.config))),
            }
        }
        match self.stream.flush() {
            Err(e) if !matches!(e.kind(), Io::WouldBlock | Io::Interrupted) => Err(self.closed(stream::fault(&e, self.config))),
            _ => Ok(()),
        }
    }

    fn wait(&mut self, is_left: bool) -> Result<()> {
        let is_reported = self.message_at.is_none() || !self.config.home_assistant;
        let due = if is_reported { self.protocol.due() } else { self.protocol.due().min(self.next_report) };
        let pause = if is_left { Duration::ZERO } else { due.saturating_sub(self.now()) };
        let timeout = Timespec::try_from(pause).ok(); // a time beyond the kernel's own reckoning is no deadline
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !self.is_busy());
        wanted.set(PollFlags::OUT, !self.protocol.out().is_empty() || self.stream.wants_write());
        let mut fds = [PollFd::new(&self.stream, wanted), PollFd::new(self.mailbox.bell(), PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::new(ErrorKind::Bug, format!("poll failed on an MQTT connection: {e}"))),
        }
        if !fds[1].revents().is_empty() {
            self.mailbox.hush();
        }
        Ok(())
    }

    /// Says goodbye, within its deadline; what can't be written then is left, and the broker sends our last will.
    fn leave(&mut self) {
        self.mailbox.close();
        self.protocol.leave(&self.topics.status);
        let until = self.now() + FAREWELL;
        while self.write().is_ok() && (!self.protocol.out().is_empty() || self.stream.wants_write()) {
            let left = until.saturating_sub(self.now());
            let timeout = Timespec::try_from(left).ok();
            if left.is_zero() || poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], timeout.as_ref()).is_err() {
                break;
            }
        }
        self.stream.finish();
    }
}
