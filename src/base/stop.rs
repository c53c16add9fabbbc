//! Stopping as a value: one side sets it, everyone else asks, waits or selects on it.
//!
//! Invariant: once set it stays set. Waiting costs no tick. It cannot fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

/// A stop signal; clones share it.
#[derive(Clone, Debug)]
pub struct Stop {
    held: Arc<Mutex<Option<Sender<()>>>>,
    gone: Receiver<()>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A signal that is not set.
    pub fn new() -> Self {
        let (tx, rx) = crossbeam_channel::bounded(0);
        Stop { held: Arc::new(Mutex::new(Some(tx))), gone: rx }
    }

    /// Sets it, for all clones.
    pub fn set(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.gone.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits at most `timeout`; true when it is set.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.gone.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// For `select!`: ready (disconnected) once it is set.
    pub fn receiver(&self) -> &Receiver<()> {
        &self.gone
    }
}
