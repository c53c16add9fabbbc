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
use crate::store::{Page, StoreError, Withdrawn};

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

impl Entry {
    /// Notes the reason; the cancellation that is to be set, where it isn't yet.
    fn cut(&mut self, reason: &str) -> Option<Cancel> {
        if self.cancel.is_set() {
            return None;
        }
        self.reason = reason.to_string();
        Some(self.cancel.clone())
    }
}

#[derive(Default)]
struct Inner {
    running: HashMap<String, Entry>,
    doomed: VecDeque<(String, String)>,
    is_draining: bool,
}

impl Inner {
    fn doom(&mut self, message_id: &str, reason: &str) {
        if self.doomed.len() >= DOOMED_MAX {
            self.doomed.pop_front();
        }
        self.doomed.push_back((message_id.to_string(), reason.to_string()));
    }
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

    /// Cuts short what `which` says, by the message's id and what is known of it; how many turns.
    fn cut(&self, reason: &str, which: impl Fn(&str, &Entry) -> bool) -> usize {
        let cancels: Vec<Cancel> = {
            let mut inner = self.lock();
            let fits = inner.running.iter_mut().filter(|(id, e)| which(id, e));
            fits.filter_map(|(_, e)| e.cut(reason)).collect()
        };
        cancels.iter().for_each(|c| c.set(Why::Asked)); // outside of the lock: hooks run
        cancels.len()
    }

    /// Cuts short what the store says runs: a claim that its worker has yet to see ends as soon as it begins. How many turns.
    fn cut_all(&self, reason: &str, message_ids: &[String]) -> usize {
        let mut cancels = Vec::new();
        let mut to_come = 0;
        {
            let mut inner = self.lock();
            for id in message_ids {
                match inner.running.get_mut(id) {
                    Some(entry) => cancels.extend(entry.cut(reason)),
                    None => {
                        inner.doom(id, reason);
                        to_come += 1;
                    }
                }
            }
        }
        cancels.iter().for_each(|c| c.set(Why::Asked));
        cancels.len() + to_come
    }

    fn doom(&self, message_id: &str, reason: &str) {
        self.lock().doom(message_id, reason);
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
        if self.running.cut(why, |id, _| id == message_id) > 0 {
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
        self.withdraw(session_id, Some(message_id), why)
    }

    /// A message that was just accepted takes the place of what its session has under way: what runs is cut short, what was
    /// accepted before it and waits is withdrawn. A session is one user's, so nobody else's messages are touched. Called on the
    /// store's thread: what may block is done by the errands'.
    pub(super) fn supersede(self: &Arc<Self>, newer: &Accepted) {
        const WHY: &str = "superseded by a newer message";
        let (flow, newer, session_id) = (self.clone(), newer.clone(), newer.session_id.as_str());
        let work = move || {
            flow.withdraw(&newer.session_id, Some(&newer.id), WHY);
            flow.nudge_turns();
        };
        if self.errand(Box::new(work)).is_err() {
            log::warn!(session_id; "a running turn goes on beside a newer message: too much waits");
        }
    }

    /// Queues a failed message again; what was asked to end it before counts no more.
    ///
    /// # Errors
    /// As the store's own: `NotFound`, `Conflict` where it has not failed.
    pub fn retry_message(&self, message_id: &str) -> Result<(), StoreError> {
        self.running.pardon(message_id);
        self.store.retry_message(message_id)?;
        self.nudge_turns();
        Ok(())
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
        let stopped: Vec<Stopped> = here.map(|s| self.withdraw(&s.id, None, why)).collect();
        // In those that are not on the page.
        let others = self.running.cut(why, |_, e| e.user_id == user_id && e.channel == WEBSOCKET_CHANNEL);
        others + stopped.iter().map(|s| s.running + s.waiting).sum::<usize>()
    }

    /// Ends what of a session stands before a message. The store says what that is, also of what runs: a worker knows of its claim
    /// later than the store does.
    fn withdraw(&self, session_id: &str, message_id: Option<&str>, why: &str) -> Stopped {
        match self.store.cancel_waiting(session_id, message_id, why) {
            Ok(Withdrawn { ended, running }) => {
                self.tell_withdrawn(&ended, why);
                Stopped { running: self.running.cut_all(why, &running), waiting: ended.len() }
            }
            Err(e) => {
                log::warn!(session_id; "what waits in a session could not be withdrawn: {e}; what runs is cut short");
                let running = self.running.cut(why, |id, e| e.session_id == session_id && Some(id) != message_id);
                Stopped { running, waiting: 0 }
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
            running.cut("stopped", |id, e| (id, &*e.session_id, &*e.user_id, &*e.channel) == ("msg_1", "ses_1", "ana", "door")),
            1
        );
        assert_eq!(running.cut("again", |_, _| true), 0, "it is cut already");
        assert_eq!(cancel.why(), Some(Why::Asked));
        assert_eq!(running.end("msg_1").as_deref(), Some("stopped"));
        assert_eq!(running.end("msg_1"), None);
    }

    /// The store knows of a claim before its worker does: what is stopped between the two ends when it begins.
    #[test]
    fn what_the_store_says_runs_is_cut_or_ends_when_it_begins() {
        let running = Running::new();
        let cancel = running.begin(&claim("hi"));
        assert_eq!(running.cut_all("stopped", &["msg_1".into(), "msg_2".into()]), 2);
        assert_eq!(cancel.why(), Some(Why::Asked));
        let later = |id: &str| crate::domain::Claim { message_id: id.into(), ..claim("again") };
        assert_eq!([running.begin(&later("msg_2")).why(), running.begin(&later("msg_3")).why()], [Some(Why::Asked), None]);
        assert_eq!(["msg_1", "msg_2"].map(|id| running.end(id).as_deref() == Some("stopped")), [true; 2]);
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
