//! What runs, so that it can be cut short: by its user, by an operator, by a caller that hung up, by the drain.
//!
//! Invariant: cutting short changes no row here; the turn's own worker ends the message as cancelled (or leaves it, at a drain). A
//! message that is not running yet is noted, and ends when its turn would begin; the notes are bounded, and one that was forgotten
//! costs a turn that nobody waits for. Nothing here fails.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::cancel::{Cancel, Why};
use crate::domain::{Accepted, Claim, WEBSOCKET_CHANNEL};
use crate::flow::Flow;
use crate::flow::waiters::Waited;
use crate::store::Page;

/// Messages that are to end as soon as their turn begins, at most.
const DOOMED_MAX: usize = 1024;
/// Sessions of a user that a stop looks at.
const SESSIONS_MAX: usize = 100;

struct Entry {
    session_id: String,
    user_id: String,
    channel: String,
    cancel: Cancel,
    reason: String,
}

#[derive(Default)]
struct Inner {
    running: HashMap<String, Entry>,
    doomed: VecDeque<(String, String)>,
    is_draining: bool,
}

/// The turns that run.
#[derive(Default)]
pub struct Running(Mutex<Inner>);

impl Running {
    /// Nothing runs.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn begins; its cancellation, set already where it is doomed or the gateway drains.
    pub fn begin(&self, claim: &Claim) -> Cancel {
        let cancel = Cancel::new();
        let mut inner = self.lock();
        let at = inner.doomed.iter().position(|(id, _)| *id == claim.message_id);
        let reason = at.and_then(|at| inner.doomed.remove(at)).map(|(_, reason)| reason);
        if reason.is_some() {
            cancel.set(Why::Asked);
        }
        if inner.is_draining {
            cancel.set(Why::Drain);
        }
        let entry = Entry {
            session_id: claim.session_id.clone(),
            user_id: claim.user_id.clone(),
            channel: claim.channel.clone(),
            cancel: cancel.clone(),
            reason: reason.unwrap_or_default(),
        };
        inner.running.insert(claim.message_id.clone(), entry);
        cancel
    }

    /// A turn ended; why it was to be cut short, where it was.
    pub fn end(&self, message_id: &str) -> Option<String> {
        self.lock().running.remove(message_id).filter(|e| e.cancel.why() == Some(Why::Asked)).map(|e| e.reason)
    }

    /// Cuts short what `which` says of message, session, user and channel; how many turns.
    fn cut(&self, reason: &str, which: impl Fn(&str, &str, &str, &str) -> bool) -> usize {
        let cancels = self.mark(reason, which);
        cancels.iter().for_each(|c| c.set(Why::Asked)); // outside of the lock: hooks run
        cancels.len()
    }

    /// The cancellations of what `which` says, with the reason noted: they are to be set.
    fn mark(&self, reason: &str, which: impl Fn(&str, &str, &str, &str) -> bool) -> Vec<Cancel> {
        let mut inner = self.lock();
        let fits = inner.running.iter_mut().filter(|(id, e)| which(id, &e.session_id, &e.user_id, &e.channel));
        fits.filter(|(_, e)| !e.cancel.is_set())
            .map(|(_, e)| {
                e.reason = reason.to_string();
                e.cancel.clone()
            })
            .collect()
    }

    fn doom(&self, message_id: &str, reason: &str) {
        let mut inner = self.lock();
        if inner.doomed.len() >= DOOMED_MAX {
            inner.doomed.pop_front();
        }
        inner.doomed.push_back((message_id.to_string(), reason.to_string()));
    }

    /// Why a message that doesn't run is to end, where it is.
    fn doom_of(&self, message_id: &str) -> Option<String> {
        self.lock().doomed.iter().find(|(id, _)| id == message_id).map(|(_, reason)| reason.clone())
    }

    /// It has ended: nothing is to be done when its turn begins.
    fn pardon(&self, message_id: &str) {
        self.lock().doomed.retain(|(id, _)| id != message_id);
    }

    /// Cuts everything short because the gateway drains; turns that begin from now on end at once.
    pub fn drain(&self) {
        let cancels: Vec<Cancel> = {
            let mut inner = self.lock();
            inner.is_draining = true;
            inner.running.values().map(|e| e.cancel.clone()).collect()
        };
        cancels.iter().for_each(|c| c.set(Why::Drain));
    }
}

/// What a stop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Turns that ran.
    pub running: usize,
    /// Messages that waited.
    pub waiting: usize,
}

impl Flow {
    /// Withdraws one message: its turn is cut short, or it ends without one. Where it waits for a decision the question is withdrawn
    /// with it. Blocks for nothing: what it takes of the store is the errands'.
    pub fn cancel_message(self: &Arc<Self>, message_id: &str, why: &str) {
        if self.running.cut(why, |id, _, _, _| id == message_id) > 0 {
            return;
        }
        // Noted first: a turn that is just now being left waiting looks here when it is a row.
        self.running.doom(message_id, why);
        let (flow, id, why) = (self.clone(), message_id.to_string(), why.to_string());
        if self.errand(Box::new(move || flow.withdraw_one(&id, &why))).is_err() {
            log::warn!(message_id; "a message is withdrawn when its turn begins, not now: too much waits");
        }
    }

    /// Ends a message that does not run.
    fn withdraw_one(&self, message_id: &str, why: &str) {
        match self.store.cancel_message(message_id, why) {
            Ok(ids) if ids.is_empty() => {} // it runs, or has ended
            Ok(ids) => {
                self.running.pardon(message_id);
                self.tell_withdrawn(&ids, why);
                self.nudge_turns(); // its session goes on
            }
            Err(e) => log::warn!(message_id; "a message could not be withdrawn: {e}; it is when its turn begins"),
        }
    }

    /// Withdraws a message whose turn was just left waiting, if that was asked for meanwhile.
    pub(super) fn withdraw_if_doomed(&self, message_id: &str) {
        if let Some(why) = self.running.doom_of(message_id) {
            self.withdraw_one(message_id, &why);
        }
    }

    /// Stops a session for `message_id`, which asks for it: what runs, and what was accepted before it.
    pub fn stop_session(&self, session_id: &str, message_id: &str, why: &str) -> Stopped {
        let waiting = self.withdraw(session_id, Some(message_id), why);
        let running = self.running.cut(why, |id, session, _, _| session == session_id && id != message_id);
        Stopped { running, waiting }
    }

    /// A message that was just accepted takes the place of what its session has under way: what runs is cut short, what was
    /// accepted before it and waits is withdrawn. A session is one user's, so nobody else's messages are touched. Called in the
    /// order of the commits, on the store's thread: what may block is done by the errands'.
    pub(super) fn supersede(self: &Arc<Self>, newer: &Accepted) {
        const WHY: &str = "superseded by a newer message";
        // What runs is looked up now: later a still newer message may run.
        let cancels = self.running.mark(WHY, |id, session, _, _| session == newer.session_id && id != newer.id);
        let (flow, newer, session_id) = (self.clone(), newer.clone(), newer.session_id.as_str());
        let work = move || {
            cancels.iter().for_each(|c| c.set(Why::Asked));
            flow.withdraw(&newer.session_id, Some(&newer.id), WHY);
            flow.nudge_turns();
        };
        if self.errand(Box::new(work)).is_err() {
            log::warn!(session_id; "a running turn goes on beside a newer message: too much waits");
        }
    }

    /// Stops all that a user has under way in the WebSocket chat; how many messages that were.
    pub fn stop_user(&self, user_id: &str) -> usize {
        let why = "stopped by its user";
        let page = Page { cursor: None, limit: SESSIONS_MAX };
        let sessions = self.store.sessions_of(user_id, 0, page).map(|list| list.items).unwrap_or_else(|e| {
            log::warn!("a user's sessions could not be read: {e}; only what runs is stopped");
            Vec::new()
        });
        let here = sessions.iter().filter(|s| s.channel == WEBSOCKET_CHANNEL);
        let waiting: usize = here.map(|s| self.withdraw(&s.id, None, why)).sum();
        waiting + self.running.cut(why, |_, _, user, channel| user == user_id && channel == WEBSOCKET_CHANNEL)
    }

    fn withdraw(&self, session_id: &str, message_id: Option<&str>, why: &str) -> usize {
        match self.store.cancel_waiting(session_id, message_id, why) {
            Ok(ids) => {
                self.tell_withdrawn(&ids, why);
                ids.len()
            }
            Err(e) => {
                log::warn!(session_id; "what waits in a session could not be withdrawn: {e}");
                0
            }
        }
    }

    fn tell_withdrawn(&self, ids: &[String], why: &str) {
        for id in ids {
            self.waiters.settle(id, &Waited::Failed { timed_out: false, reason: why.to_string() });
            self.hub.event("turn.cancelled", serde_json::json!({"messageId": id, "reason": why}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::prompt::tests::claim;

    #[test]
    fn what_runs_is_cut_short_once() {
        let running = Running::new();
        let cancel = running.begin(&claim("hi"));
        assert_eq!(
            running
                .cut("stopped", |id, session, user, channel| (id, session, user, channel) == ("msg_1", "ses_1", "ana", "door")),
            1
        );
        assert_eq!(running.cut("again", |_, _, _, _| true), 0, "it is cut already");
        assert_eq!(cancel.why(), Some(Why::Asked));
        assert_eq!(running.end("msg_1").as_deref(), Some("stopped"));
        assert_eq!(running.end("msg_1"), None);
    }

    /// What is superseded is marked when the newer message is committed, and only its own session's.
    #[test]
    fn what_is_superseded_is_cut_later() {
        let running = Running::new();
        let cancel = running.begin(&claim("hi"));
        assert!(running.mark("x", |_, session, _, _| session == "ses_2").is_empty());
        let marked = running.mark("superseded", |id, session, _, _| session == "ses_1" && id != "msg_2");
        assert_eq!((marked.len(), cancel.why()), (1, None));
        let later = running.begin(&crate::domain::Claim { message_id: "msg_2".into(), ..claim("again") });
        marked.iter().for_each(|c| c.set(Why::Asked));
        assert_eq!((cancel.why(), later.why()), (Some(Why::Asked), None));
        assert_eq!(running.end("msg_1").as_deref(), Some("superseded"));
    }

    #[test]
    fn what_does_not_run_yet_ends_when_it_begins() {
        let running = Running::new();
        for i in 0..DOOMED_MAX + 5 {
            running.doom(&format!("other_{i}"), "x");
        }
        running.doom("msg_1", "hung up");
        assert_eq!(running.begin(&claim("hi")).why(), Some(Why::Asked));
        assert_eq!(running.end("msg_1").as_deref(), Some("hung up"));
        assert_eq!(running.begin(&claim("hi")).why(), None, "once");
        running.drain();
        assert_eq!(running.end("msg_1"), None, "a drain is no wish of anybody's");
        assert_eq!(running.begin(&claim("hi")).why(), Some(Why::Drain));
    }
}
