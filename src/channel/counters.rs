//! A channel's record of itself: state, last error, counts.
//!
//! Invariant: a few counters and one text, whatever happens. Cannot fail.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::{ChannelState, ChannelStatus};

/// The record. It outlives a reload of the configuration.
#[derive(Debug)]
pub struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    last_received_ms: AtomicI64,
    last_sent_ms: AtomicI64,
    last_heard_ms: AtomicI64,
    reconnects: AtomicU64,
    state: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    state: ChannelState,
    since_ms: i64,
    last_error: Option<String>,
}

impl Counters {
    /// An empty record in that state.
    pub fn new(state: ChannelState, now_ms: i64) -> Self {
        Counters {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_received_ms: AtomicI64::new(0),
            last_sent_ms: AtomicI64::new(0),
            last_heard_ms: AtomicI64::new(0),
            reconnects: AtomicU64::new(0),
            state: Mutex::new(Held { state, since_ms: now_ms, last_error: None }),
        }
    }

    /// Sets the state and clears the last error.
    pub fn set(&self, state: ChannelState, now_ms: i64) {
        self.held(state, now_ms, None);
    }

    /// Sets the state with what went wrong, if something did; whether that is news.
    pub fn change(&self, state: ChannelState, error: Option<&Error>, now_ms: i64) -> bool {
        let was = self.state.lock().unwrap_or_else(PoisonError::into_inner).state;
        if state == ChannelState::Connected {
            self.heard(now_ms);
        }
        // While it connects anew, what went wrong before is still what a person wants to know.
        if state != ChannelState::Connecting || error.is_some() {
            self.held(state, now_ms, error.map(ToString::to_string));
        } else {
            let last = self.state.lock().unwrap_or_else(PoisonError::into_inner).last_error.clone();
            self.held(state, now_ms, last);
        }
        was != state
    }

    /// The service said something.
    pub fn heard(&self, now_ms: i64) {
        self.last_heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Its connection is begun.
    pub fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// A message came in.
    pub fn received(&self, now_ms: i64) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_received_ms.store(now_ms, Ordering::Relaxed);
    }

    /// A message was handed over: the channel works.
    pub fn sent(&self, now_ms: i64) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.last_sent_ms.store(now_ms, Ordering::Relaxed);
        self.held(ChannelState::Connected, now_ms, None);
    }

    /// A message was handed over by a channel whose connection alone tells how it is: counted, the state left as it is.
    pub fn delivered(&self, now_ms: i64) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.last_sent_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Likewise for a try that failed: one recipient's trouble is not the channel's.
    pub fn undelivered(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A delivery was tried by such a channel: counts how it ended, and gives that back.
    pub fn tried(&self, result: Result<()>, now_ms: i64) -> Result<()> {
        match &result {
            Ok(()) => self.delivered(now_ms),
            Err(e) if e.kind == ErrorKind::Stopped => {} // our doing
            Err(_) => self.undelivered(),
        }
        result
    }

    /// A try failed on a channel without a connection, whose tries alone tell how it is: it works in part at best.
    pub fn failed(&self, error: &Error, now_ms: i64) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.held(ChannelState::Degraded, now_ms, Some(error.to_string()));
    }

    fn held(&self, state: ChannelState, now_ms: i64, error: Option<String>) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if held.state != state {
            held.since_ms = now_ms;
        }
        held.state = state;
        held.last_error = error;
    }

    /// The record as operators see it.
    pub fn status(&self, name: &str, kind: &'static str) -> ChannelStatus {
        let held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |at: &AtomicI64| Some(at.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        ChannelStatus {
            name: name.to_string(),
            kind,
            state: held.state,
            since_ms: held.since_ms,
            last_error: held.last_error.clone(),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            last_received_ms: time(&self.last_received_ms),
            last_sent_ms: time(&self.last_sent_ms),
            last_heard_ms: time(&self.last_heard_ms),
            reconnects: self.reconnects.load(Ordering::Relaxed).saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn what_is_down_holds_back_what_is_to_be_sent() {
        use ChannelState::{Connected, Connecting, Degraded, Misconfigured, Stopped};
        let error = Error::new(ErrorKind::Transient, "no route");
        for (kind, states, waits_s) in [
            ("telegram", &[Connecting][..], None),
            ("telegram", &[Connecting, Connected], None),
            ("telegram", &[Connected, Degraded], Some(10)),
            ("telegram", &[Connected, Degraded, Connecting], Some(10)),
            ("telegram", &[Degraded, Connecting, Connected], None),
            ("telegram", &[Misconfigured], Some(60)),
            ("telegram", &[Stopped], Some(60)),
            ("webhook", &[Degraded], None),
            ("webhook", &[Stopped], Some(60)),
        ] {
            let counters = Counters::new(Connecting, 0);
            for state in states {
                let why = matches!(state, Degraded | Misconfigured).then_some(&error);
                counters.change(*state, why, 1);
            }
            let held = counters.status("c", kind).holds_back().map(|(pause, _)| pause.as_secs());
            assert_eq!(held, waits_s, "{kind} {states:?}");
        }
    }
}
