//! The thread `log`: takes records from the queue, makes lines of them, writes them.
//!
//! Invariant: it alone writes. A write that fails or panics costs that record, which is counted; the lines behind it stand on lines
//! of their own. It wakes for records, and for the end of a window in which something was left out; not otherwise.

use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::Level;

use crate::telemetry::json_log;
use crate::telemetry::logging::Core;
use crate::telemetry::record::LogRecord;
use crate::telemetry::text_log::TextLog;

/// While more records wait, losses are told at most this often.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// What the queue carries.
pub(super) enum Item {
    /// A record to write.
    Record(Arc<LogRecord>),
    /// Look at the flood guard.
    Nudge,
    /// All before this is written: drop the sender.
    Flush(Sender<()>),
    /// The same, and end.
    Stop,
}

/// How lines look.
pub(super) enum Form {
    /// JSON lines, with a priority before each where journald reads them.
    Json {
        /// Whether journald reads them.
        for_journal: bool,
    },
    /// Text for a person.
    Text(TextLog),
}

pub(super) struct Writer {
    core: Arc<Core>,
    form: Form,
    sink: Box<dyn Write + Send>,
    /// Part of a line was written and its rest was not.
    torn: bool,
    /// How many losses were told so far, and when.
    told: u64,
    told_at: Duration,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, form: Form, sink: Box<dyn Write + Send>) -> Self {
        Writer { core, form, sink, torn: false, told: 0, told_at: Duration::ZERO }
    }

    /// Works until it is stopped or nobody can send any more.
    pub(super) fn run(&mut self, queue: &Receiver<Item>) {
        loop {
            let (owed, next) = self.core.guard.sweep(self.core.clock.mono());
            for summary in owed {
                let record = Arc::new(summary.record(self.core.clock.unix_ms()));
                self.core.ring.push(record.clone());
                self.emit(&record);
            }
            let item = match next {
                Some(wait) => queue.recv_timeout(wait),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match item {
                Ok(Item::Record(record)) => {
                    self.core.waiting_bytes.fetch_sub(record.weight(), Ordering::Relaxed);
                    self.emit(&record);
                    self.tell_losses(queue.is_empty());
                }
                Ok(Item::Nudge) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Item::Flush(done)) => {
                    self.tell_losses(true);
                    let _ = catch_unwind(AssertUnwindSafe(|| self.sink.flush()));
                    drop(done);
                }
                Ok(Item::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.tell_losses(true);
                    return;
                }
            }
        }
    }

    fn emit(&mut self, record: &LogRecord) {
        if !self.write(record) {
            self.core.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells how many records were lost since that was last told; what can't be written now is told later.
    fn tell_losses(&mut self, at_rest: bool) {
        let (dropped, now) = (self.core.dropped.load(Ordering::Relaxed), self.core.clock.mono());
        if dropped == self.told || !at_rest && now < self.told_at + REPORT_PAUSE {
            return;
        }
        let message = format!("{} log records were lost: they could not be written, or not fast enough", dropped - self.told);
        let record = LogRecord::own(self.core.clock.unix_ms(), Level::Warn, module_path!(), message);
        if self.write(&record) {
            (self.told, self.told_at) = (dropped, now);
        }
    }

    fn write(&mut self, record: &LogRecord) -> bool {
        let (form, sink, torn) = (&self.form, &mut self.sink, &mut self.torn);
        let written = catch_unwind(AssertUnwindSafe(|| {
            let line = match form {
                Form::Json { for_journal } => json_log::line(record, *for_journal),
                Form::Text(text) => text.line(record),
            };
            if *torn && !write_whole(sink, b"\n", torn) {
                return false;
            }
            *torn = false;
            write_whole(sink, line.as_bytes(), torn)
        }));
        written.unwrap_or(false)
    }
}

/// Writes all of `bytes`, or says that it could not; notes where only a part of them went out.
fn write_whole(sink: &mut Box<dyn Write + Send>, bytes: &[u8], torn: &mut bool) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(n) if n > 0 => {
                rest = rest.get(n..).unwrap_or_default();
                *torn = !rest.is_empty();
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
