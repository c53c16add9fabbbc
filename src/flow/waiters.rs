//! Callers who wait for a reply (`?wait=`): parked here by message id, answered by whoever ends the turn or by the timer.
//!
//! Invariant: a parked caller costs a responder and no thread; each is answered once. As many can wait as there are
//! connections, so the door's bound bounds this map. Nothing here fails.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A turn's reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Tokens of the turn's prompts; 0 where nobody counted them.
    pub tokens_in: u64,
    /// Tokens of its answers, likewise.
    pub tokens_out: u64,
    /// Why it ended, in the provider's word (`stop`, `length`); may be empty.
    pub finish: String,
}

impl Reply {
    /// A reply of which the text alone is known.
    pub fn of(text: impl Into<String>) -> Self {
        Reply { text: text.into(), ..Reply::default() }
    }
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Waited {
    /// The turn's reply.
    Reply(Reply),
    /// The message was set aside; whether by a deadline, and why.
    Failed {
        /// Whether a deadline of the provider's was the reason.
        timed_out: bool,
        /// The reason.
        reason: String,
    },
    /// No reply in time.
    TimedOut,
}

/// Called once with how the wait ended.
pub type OnWaited = Box<dyn FnOnce(Waited) + Send>;

struct Waiter {
    deadline: Duration,
    then: OnWaited,
}

/// The parked callers.
#[derive(Default)]
pub struct Waiters(Mutex<HashMap<String, Vec<Waiter>>>);

impl Waiters {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parks a caller until `deadline` (`Clock::mono`).
    pub fn park(&self, message_id: &str, deadline: Duration, then: OnWaited) {
        self.lock().entry(message_id.to_string()).or_default().push(Waiter { deadline, then });
    }

    /// Answers all who wait for that message.
    pub fn settle(&self, message_id: &str, how: &Waited) {
        let waiting = self.lock().remove(message_id);
        for waiter in waiting.into_iter().flatten() {
            (waiter.then)(how.clone());
        }
    }

    /// Nobody waits for that message any more: it was refused, or is another one's duplicate. Its callers are answered elsewhere.
    pub fn forget(&self, message_id: &str) {
        let forgotten = self.lock().remove(message_id);
        drop(forgotten); // outside of the lock
    }

    /// Answers those whose time is over; gives the next deadline.
    pub fn expire(&self, now: Duration) -> Option<Duration> {
        let mut over = Vec::new();
        let mut next: Option<Duration> = None;
        self.lock().retain(|_, waiting| {
            for waiter in std::mem::take(waiting) {
                if waiter.deadline <= now {
                    over.push(waiter);
                } else {
                    next = Some(next.map_or(waiter.deadline, |n| n.min(waiter.deadline)));
                    waiting.push(waiter);
                }
            }
            !waiting.is_empty()
        });
        over.into_iter().for_each(|w| (w.then)(Waited::TimedOut));
        next
    }

    /// Messages somebody waits for.
    pub fn messages(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_waiter_is_answered_once() {
        let waiters = Waiters::new();
        let answers = Arc::new(Mutex::new(Vec::new()));
        for (id, deadline_s) in [("a", 1), ("a", 3), ("b", 2)] {
            let answers = answers.clone();
            waiters.park(
                id,
                Duration::from_secs(deadline_s),
                Box::new(move |w| answers.lock().unwrap().push((id, deadline_s, w))),
            );
        }
        assert_eq!(waiters.expire(Duration::from_secs(1)), Some(Duration::from_secs(2)));
        waiters.settle("a", &Waited::Reply(Reply::of("hi")));
        waiters.settle("a", &Waited::Reply(Reply::of("again")));
        assert_eq!(waiters.expire(Duration::from_secs(9)), None);
        let expected = [("a", 1, Waited::TimedOut), ("a", 3, Waited::Reply(Reply::of("hi"))), ("b", 2, Waited::TimedOut)];
        assert_eq!(*answers.lock().unwrap(), expected);
    }
}
