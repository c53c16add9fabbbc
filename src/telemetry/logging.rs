//! The log: takes records from anywhere in the process, and hands them to one thread that writes them.
//!
//! Invariant: logging never blocks its caller, never panics and never fails: what can't be written is counted and told later. A
//! closed stderr or a full disk changes nothing else. Of other crates only warnings and errors are taken, whatever the level:
//! their details (URLs, headers, frames) may hold secrets.

use std::env;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, select};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::telemetry::flood::{FloodGuard, Verdict};
use crate::telemetry::record::{LogRecord, bounded};
use crate::telemetry::ring::Ring;
use crate::telemetry::text_log::TextLog;
use crate::telemetry::writer::{Form, Item, Writer};

/// The most records that wait to be written.
pub const QUEUE_MAX: usize = 2048;
/// The most bytes that they hold, as estimated.
pub const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
const PANIC_BYTES_MAX: usize = 512;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text where stderr is a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines; with priorities where journald reads them.
    Json,
}

/// The log's handle; clones share it.
#[derive(Clone)]
pub struct Logger {
    core: Arc<Core>,
    queue: Sender<Item>,
    /// The log's own thread, apart from the others: it has to outlive them, since they log to the end.
    threads: Threads,
}

/// What callers and the writing thread share.
pub(super) struct Core {
    pub(super) clock: Clock,
    level: AtomicUsize,
    global: bool,
    pub(super) guard: FloodGuard,
    pub(super) ring: Ring,
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
    left_out: AtomicU64,
}

impl Logger {
    /// Starts the log of this process: from now on `log`'s macros end here, and lines go to stderr.
    ///
    /// # Errors
    /// Where the system refuses the thread, or the process has a log already.
    pub fn init(level: LevelFilter, format: Format, clock: Clock) -> Result<Logger> {
        let logger = Self::with(level, form(format), Box::new(std::io::stderr()), clock, true)?;
        log::set_boxed_logger(Box::new(logger.clone()))
            .map_err(|_| Error::new(ErrorKind::Bug, "this process has a log already"))?;
        log::set_max_level(level);
        Ok(logger)
    }

    /// A log of its own that writes JSON lines to `sink`; `log`'s macros don't reach it.
    ///
    /// # Errors
    /// Where the system refuses the thread.
    pub fn to(sink: Box<dyn Write + Send>, level: LevelFilter, clock: Clock) -> Result<Logger> {
        Self::with(level, Form::Json { for_journal: false }, sink, clock, false)
    }

    fn with(level: LevelFilter, form: Form, sink: Box<dyn Write + Send>, clock: Clock, global: bool) -> Result<Logger> {
        let (logger, items) = Self::unwritten(level, clock, global);
        let mut writer = Writer::new(logger.core.clone(), form, sink);
        logger.threads.spawn("log", STACK, &Stop::new(), move || writer.run(&items))?;
        Ok(logger)
    }

    /// A log that nobody writes yet.
    fn unwritten(level: LevelFilter, clock: Clock, global: bool) -> (Logger, Receiver<Item>) {
        let (queue, items) = crossbeam_channel::bounded(QUEUE_MAX);
        let core = Core {
            clock,
            level: AtomicUsize::new(level as usize),
            global,
            guard: FloodGuard::default(),
            ring: Ring::default(),
            waiting_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        };
        (Logger { core: Arc::new(core), queue, threads: Threads::new() }, items)
    }

    /// Changes the level, live.
    pub fn set_level(&self, level: LevelFilter) {
        self.core.level.store(level as usize, Ordering::Relaxed);
        if self.core.global {
            log::set_max_level(level);
        }
    }

    /// The level.
    pub fn level(&self) -> LevelFilter {
        let level = self.core.level.load(Ordering::Relaxed);
        LevelFilter::iter().find(|l| *l as usize == level).unwrap_or(LevelFilter::Info)
    }

    /// The latest `limit` records at least as grave as `min_level`, the newest first; 500 are kept.
    pub fn latest(&self, limit: usize, min_level: LevelFilter) -> Vec<LogRecord> {
        self.core.ring.latest(limit, min_level)
    }

    /// Records lost since the start: the queue was full, or the write failed.
    pub fn dropped(&self) -> u64 {
        self.core.dropped.load(Ordering::Relaxed)
    }

    /// Records left out by the flood guard since the start.
    pub fn left_out(&self) -> u64 {
        self.core.left_out.load(Ordering::Relaxed)
    }

    /// Waits until all that was logged before is written, at most `deadline`; false where that did not happen in time.
    pub fn flush(&self, deadline: Duration) -> bool {
        let (done, written) = crossbeam_channel::bounded::<()>(0);
        let expired = crossbeam_channel::after(deadline);
        select! {
            send(self.queue, Item::Flush(done)) -> sent => if sent.is_err() { return true }, // it is stopped: nothing waits
            recv(expired) -> _ => return false,
        }
        select! {
            recv(written) -> _ => true,
            recv(expired) -> _ => false,
        }
    }

    /// Writes what waits and ends the thread, together at most twice `deadline`; false where it did not come in time. Records
    /// after this go nowhere, harmlessly.
    pub fn stop(&self, deadline: Duration) -> bool {
        match self.queue.send_timeout(Item::Stop, deadline) {
            Err(SendTimeoutError::Timeout(_)) => false,
            Ok(()) | Err(_) => self.threads.join(deadline).is_empty(),
        }
    }

    fn put(&self, record: LogRecord) {
        let (weight, record) = (record.weight(), Arc::new(record));
        self.core.ring.push(record.clone());
        let waiting = self.core.waiting_bytes.fetch_add(weight, Ordering::Relaxed);
        let refused = if waiting + weight > QUEUE_BYTES_MAX {
            true
        } else {
            match self.queue.try_send(Item::Record(record)) {
                Ok(()) => return,
                Err(e) => matches!(e, TrySendError::Full(_)), // a stopped log has lost nothing
            }
        };
        self.core.waiting_bytes.fetch_sub(weight, Ordering::Relaxed);
        self.core.dropped.fetch_add(u64::from(refused), Ordering::Relaxed);
    }

    /// Whether the flood guard lets it pass.
    fn admitted(&self, record: &Record<'_>) -> bool {
        let (verdict, owed) = self.core.guard.admit(record, self.core.clock.mono());
        if let Some(summary) = owed {
            self.put(summary.record(self.core.clock.unix_ms()));
        }
        if let Verdict::LeaveOut { first } = verdict {
            self.core.left_out.fetch_add(1, Ordering::Relaxed);
            if first {
                let _ = self.queue.try_send(Item::Nudge); // a full queue wakes the thread anyway
            }
            return false;
        }
        true
    }
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logger").field("level", &self.level()).field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() as usize <= self.core.level.load(Ordering::Relaxed)
    }

    fn log(&self, record: &Record<'_>) {
        let (level, origin) = (record.level(), record.module_path().unwrap_or(record.target()));
        let own = origin.strip_prefix("gatelet").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if !self.enabled(record.metadata()) || !own && level > Level::Warn {
            return;
        }
        // Debug and trace are asked for by a person who wants them whole.
        if level > Level::Info || self.admitted(record) {
            self.put(LogRecord::of(record, self.core.clock.unix_ms()));
        }
    }

    fn flush(&self) {} // exits flush with a deadline, see Logger::flush
}

/// Logs each panic as an error, in place of the standard print: message and place, without a backtrace.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("(without a text)");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log::error!(thread = name, place = place.as_str(); "panic: {}", bounded(&text, PANIC_BYTES_MAX));
    }));
}

/// What `format` comes to where we are.
fn form(format: Format) -> Form {
    let terminal = std::io::stderr().is_terminal();
    match format {
        Format::Text => Form::Text(TextLog::new(terminal && wants_colour())),
        Format::Auto if terminal => Form::Text(TextLog::new(wants_colour())),
        Format::Auto | Format::Json => Form::Json { for_journal: journal_reads_stderr() },
    }
}

fn wants_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Whether stderr is the stream that systemd connected to the journal. The variable alone does not tell: it is passed on to
/// programs whose stderr is somewhere else.
fn journal_reads_stderr() -> bool {
    let (Ok(stream), Ok(stat)) = (env::var("JOURNAL_STREAM"), rustix::fs::fstat(std::io::stderr())) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
