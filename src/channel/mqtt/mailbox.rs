//! What other threads tell the socket's thread: letters to publish, and what was taken in.
//!
//! Invariant: letters are taken only while the connection is open, and at most [`LETTERS_MAX`] wait; who posted one is told that
//! the connection is gone by its end of the line being dropped. The bell wakes a thread that waits in `poll`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, eventfd};

use crate::base::error::{Error, ErrorKind, Result};

const LETTERS_MAX: usize = 64;

/// A message to publish.
#[derive(Debug)]
pub struct Letter {
    pub topic: String,
    pub payload: String,
    /// User properties.
    pub properties: Vec<(&'static str, String)>,
    /// Set once it is handed to the connection: from then on it may have arrived.
    pub left: Arc<AtomicBool>,
    /// Who waits for the outcome.
    pub outcome: Sender<Result<()>>,
}

/// What the socket's thread is told. `epoch` numbers connections: what belongs to a former one is void.
#[derive(Debug)]
pub enum Told {
    Letter(Letter),
    /// The ledger of a new session is committed.
    Ready {
        epoch: u64,
    },
    /// A message is on disk, or nothing is to be done with it; `serial` 0 where it got none.
    Taken {
        epoch: u64,
        packet_id: Option<u16>,
        serial: u64,
    },
    /// Nothing can be taken in now.
    NotNow {
        epoch: u64,
        why: String,
    },
}

/// The mailbox.
pub struct Mailbox {
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Default)]
struct State {
    is_open: bool,
    letters: usize,
    told: VecDeque<Told>,
}

impl Mailbox {
    /// An empty one, closed.
    ///
    /// # Errors
    /// Where the system has no more descriptors.
    pub fn new() -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
            Error::new(ErrorKind::Transient, format!("the system refused an eventfd: {e}")).hint("raise LimitNOFILE")
        })?;
        Ok(Mailbox { state: Mutex::new(State::default()), bell })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to poll.
    pub fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Wakes the socket's thread.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes()); // a full counter rings already
    }

    /// Silences the bell.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]); // a failure means that it was silent
    }

    /// Posts a letter.
    ///
    /// # Errors
    /// `Transient` where nothing is connected, `Throttled` where too many wait.
    pub fn post(&self, letter: Letter) -> Result<()> {
        let mut state = self.lock();
        if !state.is_open {
            return Err(Error::new(ErrorKind::Transient, "the MQTT broker is not connected"));
        }
        if state.letters >= LETTERS_MAX {
            return Err(Error::new(ErrorKind::Throttled(None), "too many messages wait for the MQTT broker"));
        }
        state.letters += 1;
        state.told.push_back(Told::Letter(letter));
        drop(state);
        self.ring();
        Ok(())
    }

    /// Tells what became of something that came in; at most as many as were handed out.
    pub fn tell(&self, told: Told) {
        self.lock().told.push_back(told);
        self.ring();
    }

    /// Takes all that is there.
    pub fn take(&self) -> VecDeque<Told> {
        let mut state = self.lock();
        state.letters = 0;
        std::mem::take(&mut state.told)
    }

    /// Letters are taken from now on.
    pub fn open(&self) {
        self.lock().is_open = true;
    }

    /// No letter is taken any more, and those that wait are given up.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_open = false;
        let told = std::mem::take(&mut state.told);
        state.letters = 0;
        drop(state);
        drop(told); // who waits is told by this
    }
}
