//! Callers who want a reply's text while it is being spoken: by message id, told by the turn that speaks.
//!
//! Invariant: what is heard is a hint; the reply itself comes by `Waiters`. A listener must be short and not block. There are as
//! many as connections, so the door's bound bounds this map; without one a delta costs a look at a number. Nothing here fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a listener hears that its message is still there.
const TICK: Duration = Duration::from_secs(15);

/// What a listener is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A piece of the text.
    Delta(&'a str),
    /// The try that spoke failed; the next one begins its text anew.
    Anew,
    /// Nothing new; the message is still to be answered.
    Waiting,
}

/// A listener.
pub type Listener = Box<dyn FnMut(Heard<'_>) + Send>;

struct Entry {
    tell: Arc<Mutex<Listener>>,
    next: Duration,
}

/// The listeners.
#[derive(Default)]
pub struct Listeners {
    map: Mutex<HashMap<String, Entry>>,
    count: AtomicUsize,
}

impl Listeners {
    /// Nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `listener` hear of that message from now (`Clock::mono`) on. One a message: a later one takes the former's place.
    pub fn listen(&self, message_id: &str, now: Duration, listener: Listener) {
        let entry = Entry { tell: Arc::new(Mutex::new(listener)), next: now + TICK };
        let former = {
            let mut map = self.lock();
            let former = map.insert(message_id.to_string(), entry);
            self.count.store(map.len(), Ordering::Release);
            former
        };
        drop(former); // outside of the lock
    }

    /// Nobody listens to that message any more.
    pub fn forget(&self, message_id: &str) {
        let gone = {
            let mut map = self.lock();
            let gone = map.remove(message_id);
            self.count.store(map.len(), Ordering::Release);
            gone
        };
        drop(gone);
    }

    /// Tells who listens to that message.
    pub fn tell(&self, message_id: &str, heard: Heard<'_>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let listener = self.lock().get(message_id).map(|e| e.tell.clone());
        if let Some(listener) = listener {
            (listener.lock().unwrap_or_else(PoisonError::into_inner))(heard);
        }
    }

    /// Tells those that are due that their messages wait; gives when the next one is due.
    pub fn tick(&self, now: Duration) -> Option<Duration> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for entry in self.lock().values_mut() {
            if entry.next <= now {
                entry.next = now + TICK;
                due.push(entry.tell.clone());
            }
            next = Some(next.map_or(entry.next, |n| n.min(entry.next)));
        }
        for listener in due {
            (listener.lock().unwrap_or_else(PoisonError::into_inner))(Heard::Waiting);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_its_own_message_until_it_is_forgotten() {
        let (listeners, heard) = (Listeners::new(), Arc::new(Mutex::new(Vec::new())));
        let s = Duration::from_secs;
        assert_eq!(listeners.tick(s(0)), None);
        for (id, at) in [("a", 0), ("b", 5)] {
            let heard = heard.clone();
            listeners.listen(id, s(at), Box::new(move |h| heard.lock().unwrap().push(format!("{id} {h:?}"))));
        }
        listeners.tell("a", Heard::Delta("x"));
        listeners.tell("c", Heard::Delta("y"));
        assert_eq!(listeners.tick(s(14)), Some(s(15)));
        assert_eq!(listeners.tick(s(15)), Some(s(20)));
        listeners.tell("b", Heard::Anew);
        listeners.forget("a");
        listeners.tell("a", Heard::Delta("z"));
        assert_eq!(listeners.tick(s(40)), Some(s(55)));
        assert_eq!(*heard.lock().unwrap(), ["a Delta(\"x\")", "a Waiting", "b Anew", "b Waiting"]);
    }
}
