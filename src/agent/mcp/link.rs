//! What a connection to a server is, whatever carries it, and how it tells its supervisor that something happened.
//!
//! Invariant: a request comes back by its deadline, and soon after it is cancelled; what comes later is dropped. A signal is a flag
//! and a nudge: it can't be lost, and a thousand of them are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde_json::{Map, Value};

use crate::agent::mcp::headers::Mirrored;
use crate::agent::mcp::text::one_line;
use crate::agent::mcp::wire::{Protocol, Refusal};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result};

/// Longest words of a server's refusal that are passed on.
const WORDS_BYTES_MAX: usize = 500;

/// A request.
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// Its parameters, without what the era adds.
    pub params: &'a Map<String, Value>,
    /// In which protocol; `None` for `initialize`, which settles it.
    pub protocol: Option<Protocol>,
    /// Parameters that HTTP shows in the head, too.
    pub mirrored: Option<&'a Mirrored>,
    /// Until when it is waited for (`Clock::mono`).
    pub deadline: Duration,
    /// Cuts it short.
    pub cancel: &'a Cancel,
}

/// Why there is no result.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server said no.
    Refused(Refusal),
    /// It said nothing in time.
    Late,
    /// Somebody does not want it any more.
    Cancelled,
    /// There is no way to it, or not any more; whether it heard is not known.
    Lost(Error),
    /// It never heard of the request.
    Unsent(Error),
}

impl Failure {
    /// The failure in words. `what` was asked for: `server/discover`, say.
    pub fn error(self, what: &str) -> Error {
        match self {
            Failure::Refused(refusal) => {
                let said = one_line(&refusal.message, WORDS_BYTES_MAX);
                Error::new(ErrorKind::Permanent, format!("it refused {what}: {said} ({})", refusal.code))
            }
            Failure::Late => Error::new(ErrorKind::Timeout, format!("it did not answer {what} in time")),
            Failure::Cancelled => Error::new(ErrorKind::Stopped, format!("{what} was cut short")),
            Failure::Lost(error) | Failure::Unsent(error) => error,
        }
    }
}

/// A connection to a server.
pub trait Link: Send + Sync {
    /// Asks and waits.
    ///
    /// # Errors
    /// See [`Failure`].
    fn request(&self, ask: &Ask<'_>) -> Result<Value, Failure>;

    /// Tells it that the handshake is done.
    ///
    /// # Errors
    /// As [`Link::request`].
    fn initialized(&self, protocol: Protocol, deadline: Duration) -> Result<(), Failure>;

    /// Follows changes of the server's tools from now on, as far as the server offers it. `changes`: it says that it tells them.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    fn follow(&self, protocol: Protocol, changes: bool) -> Result<()>;

    /// Why it is over, if it is.
    fn lost(&self) -> Option<Error>;

    /// Ends it, in a bounded time: all that wait for it fail.
    fn close(&self);
}

/// Opens connections to one server.
pub trait Opener: Send + Sync {
    /// Opens one; nothing was said over it yet.
    ///
    /// # Errors
    /// `Invalid` where a person must look at the configuration.
    fn open(&self, signals: &Arc<Signals>) -> Result<Arc<dyn Link>>;
}

/// What a connection tells its supervisor.
pub struct Signals {
    changed: AtomicBool,
    suspect: AtomicBool,
    nudge: (Sender<()>, Receiver<()>),
}

impl Default for Signals {
    fn default() -> Self {
        Signals { changed: AtomicBool::new(false), suspect: AtomicBool::new(false), nudge: crossbeam_channel::bounded(1) }
    }
}

impl Signals {
    /// The server's tools may be others now.
    pub fn changed(&self) {
        if !self.changed.swap(true, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Something went wrong: is the server still there?
    pub fn suspect(&self) {
        if !self.suspect.swap(true, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Look at the connection.
    pub fn ring(&self) {
        let _ = self.nudge.0.try_send(()); // full: it will look anyway
    }

    /// Whether the tools changed since this was last asked.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::SeqCst)
    }

    /// Whether there is a suspicion since this was last asked.
    pub fn take_suspect(&self) -> bool {
        self.suspect.swap(false, Ordering::SeqCst)
    }

    /// For `select!`: ready where there is something to look at.
    pub fn nudges(&self) -> &Receiver<()> {
        &self.nudge.1
    }
}
