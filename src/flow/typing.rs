//! The sign that an answer is being made, for services that can show one: when a turn begins, and every few seconds while it runs.
//!
//! Invariant: a hint, never waited for. Whoever runs the turn only notes it; what may block happens on a thread that lives while there
//! is something to show, and one slow service delays hints alone. Bounded by the number of turn workers. Nothing here fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::threads::STACK;
use crate::channel::Channel;
use crate::domain::{Claim, Handoff};
use crate::flow::Flow;

/// How often it is shown; services take it away after 5 s or more.
const EVERY: Duration = Duration::from_secs(4);

/// One turn that runs.
#[derive(Clone)]
struct Shown {
    channel: Arc<dyn Channel>,
    peer: String,
    conversation: Option<String>,
    next: Duration,
}

#[derive(Default)]
struct Inner {
    /// By message.
    turns: HashMap<String, Shown>,
    is_working: bool,
}

/// The turns whose users see that an answer is being made.
#[derive(Default)]
pub(super) struct Typing(Mutex<Inner>);

impl Typing {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, message_id: &str, shown: Shown) {
        self.lock().turns.insert(message_id.to_string(), shown);
    }

    fn end(&self, message_id: &str) {
        let ended = self.lock().turns.remove(message_id);
        drop(ended); // outside of the lock
    }

    /// When the next sign is due. None while a thread is at work: it shows all that is due before it ends.
    fn next(&self) -> Option<Duration> {
        let inner = self.lock();
        if inner.is_working { None } else { inner.turns.values().map(|t| t.next).min() }
    }

    /// Whether a thread is to be started: something is due and none is at work.
    fn start(&self, now: Duration) -> bool {
        let mut inner = self.lock();
        let is_due = !inner.is_working && inner.turns.values().any(|t| t.next <= now);
        inner.is_working |= is_due;
        is_due
    }

    /// The next sign that is due; without one the thread's work is over.
    fn take(&self, now: Duration) -> Option<Shown> {
        let mut inner = self.lock();
        match inner.turns.values_mut().find(|t| t.next <= now) {
            Some(shown) => {
                shown.next = now + EVERY;
                Some(shown.clone())
            }
            None => {
                inner.is_working = false;
                None
            }
        }
    }
}

impl Flow {
    /// A turn begins. Ended by [`Flow::hide_typing`].
    pub(super) fn show_typing(self: &Arc<Self>, claim: &Claim) {
        let channels = self.channels.get();
        let Some(channel) = channels.get(&claim.channel).filter(|c| is_chat(c.as_ref())) else { return };
        let (peer, conversation) = (claim.peer.clone(), claim.conversation.clone());
        self.typing.begin(&claim.message_id, Shown { channel: channel.clone(), peer, conversation, next: self.clock.mono() });
        self.nudge_timer();
    }

    /// A turn ended.
    pub(super) fn hide_typing(&self, message_id: &str) {
        self.typing.end(message_id);
    }

    /// Shows what is due; gives when the next sign is.
    pub(super) fn tick_typing(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        if self.typing.start(now) {
            let flow = self.clone();
            let started = self.threads.spawn_once("typing", STACK, move || {
                let guard = Working(&flow);
                while let Some(shown) = flow.typing.take(flow.clock.mono()) {
                    shown.channel.typing(&shown.peer, shown.conversation.as_deref());
                }
                drop(guard);
            });
            if started.is_err() {
                self.typing.lock().is_working = false;
                return Some(now + EVERY);
            }
        }
        self.typing.next()
    }
}

/// Frees the place of the thread however it ends, and has the timer look when the next sign is due.
struct Working<'a>(&'a Arc<Flow>);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.typing.lock().is_working = false; // else `take` did it
        }
        self.0.nudge_timer();
    }
}

/// Whether people read there what the gateway sends as it comes: no webhook, and not the WebSocket chat, which has deltas.
pub(super) fn is_chat(channel: &dyn Channel) -> bool {
    channel.handoff() == Some(Handoff::Worker) && channel.status().kind != "webhook"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Result;
    use crate::channel::{ChannelStatus, Progress};
    use crate::domain::Delivery;

    struct Mute;

    impl Channel for Mute {
        fn handoff(&self) -> Option<Handoff> {
            Some(Handoff::Worker)
        }
        fn repeats(&self) -> crate::channel::repeats::Repeats {
            crate::channel::repeats::Repeats::KNOWN
        }
        fn deliver(&self, _: &Delivery, _: &Progress<'_>) -> Result<()> {
            Ok(())
        }
        fn status(&self) -> ChannelStatus {
            unreachable!()
        }
        fn note_received(&self) {}
        fn reconnect(&self) {}
    }

    #[test]
    fn it_is_shown_at_the_start_and_every_four_seconds_until_the_end() {
        let (typing, s) = (Typing::default(), Duration::from_secs);
        let shown = |peer: &str, at| Shown { channel: Arc::new(Mute), peer: peer.into(), conversation: None, next: s(at) };
        assert!(!typing.start(s(0)));
        typing.begin("a", shown("ana", 0));
        assert_eq!(typing.next(), Some(s(0)));
        assert!(typing.start(s(0)) && !typing.start(s(0)), "one thread at a time");
        assert_eq!(typing.next(), None, "the thread sees to it");
        assert_eq!(typing.take(s(0)).unwrap().peer, "ana");
        typing.begin("b", shown("bob", 0));
        assert_eq!(typing.take(s(1)).unwrap().peer, "bob", "what came meanwhile is shown by the same thread");
        assert!(typing.take(s(1)).is_none());
        assert_eq!((typing.next(), typing.start(s(3))), (Some(s(4)), false));
        typing.end("a");
        assert_eq!(typing.next(), Some(s(5)));
        assert!(typing.start(s(5)));
        assert_eq!(typing.take(s(5)).unwrap().peer, "bob");
        typing.end("b");
        assert!(typing.take(s(99)).is_none());
        assert_eq!(typing.next(), None);
    }
}
