//! What there is of an answer, shown on its channel while the turn still speaks, where the channel can and is configured to.
//!
//! Invariant: a hint, never waited for by a turn; the answer itself comes from the outbox alone. A preview becomes the answer only where
//! nothing else can still change it: its name goes into the outbox row ([`Previews::adopt`]), so that a restart knows it, and a delivery
//! waits for the one call that may be under way ([`Previews::settled`]). One whose last call's outcome is unknown, or that no answer took
//! over, is taken away. Calls are made one at a time by a thread that lives while there is something to show. Bounded by
//! [`SHOWN_MAX`] turns and [`TEXT_MAX`] bytes of each. What fails is left out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{ErrorKind, Result};
use crate::base::threads::STACK;
use crate::channel::{Channel, Preview};
use crate::domain::{Claim, Delivery};
use crate::flow::Flow;

/// Answers shown at a time; beyond them they come without.
const SHOWN_MAX: usize = 64;
/// What is shown of an answer at most; what comes behind it is seen when the answer is there.
const TEXT_MAX: usize = 4000;
/// How long a delivery waits for a call that is under way: longer than a channel may take for one.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Where the outbox row's metadata names the preview that the answer takes the place of.
const KEY: &str = "preview";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its turn runs.
    Open,
    /// A delivery takes its place.
    Adopted,
    /// It is to be taken away.
    Unwanted,
}

/// One answer that is being made.
struct Shown {
    channel: Arc<dyn Channel>,
    peer: String,
    conversation: Option<String>,
    metadata: Option<Value>,
    every: Duration,
    text: String,
    is_news: bool,
    next: Duration,
    /// What the channel calls it, once it is there.
    message: Option<Value>,
    is_calling: bool,
    /// A call failed: nobody knows what is there, and no more is shown.
    is_doubtful: bool,
    state: State,
}

impl Shown {
    /// When there is something to do.
    fn due(&self) -> Option<Duration> {
        match self.state {
            _ if self.is_calling => None,
            State::Open => (self.is_news && !self.is_doubtful).then_some(self.next),
            State::Adopted => None,
            State::Unwanted => Some(Duration::ZERO),
        }
    }
}

/// One call of a channel.
struct Task {
    id: String,
    channel: Arc<dyn Channel>,
    peer: String,
    conversation: Option<String>,
    metadata: Option<Value>,
    message: Option<Value>,
    /// `None`: it is to be taken away.
    text: Option<String>,
}

impl Task {
    fn run(&self) -> Result<Option<Value>> {
        let (peer, conversation) = (self.peer.as_str(), self.conversation.as_deref());
        let (metadata, message) = (self.metadata.as_ref(), self.message.as_ref());
        match (&self.text, message) {
            (Some(text), _) => self.channel.preview(&Preview { peer, conversation, metadata, text, message }).map(Some),
            (None, Some(message)) => {
                self.channel.unpreview(peer, conversation, message);
                Ok(None)
            }
            (None, None) => Ok(None),
        }
    }
}

#[derive(Default)]
struct Inner {
    /// By message.
    shown: HashMap<String, Shown>,
    is_working: bool,
}

/// The answers that are shown while they are made.
#[derive(Default)]
pub(super) struct Previews {
    inner: Mutex<Inner>,
    returned: Condvar,
    count: AtomicUsize,
}

impl Previews {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the entries, and counts them anew.
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Shown>) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.shown);
        self.count.store(inner.shown.len(), Ordering::Release);
        result
    }

    fn begin(&self, message_id: &str, shown: Shown) {
        self.change(|all| {
            if all.len() >= SHOWN_MAX {
                // Doubtful ones whose delivery waits for its channel: by then what is under way has come to an end.
                all.retain(|_, s| s.state != State::Adopted || s.is_calling);
            }
            // The former try's is still being taken away: this one goes without.
            if all.len() < SHOWN_MAX && !all.contains_key(message_id) {
                all.insert(message_id.to_string(), shown);
            }
        });
    }

    /// Another piece of the answer; whether the timer has to hear of it.
    fn add(&self, message_id: &str, text: &str) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut inner = self.lock();
        let Some(shown) = inner.shown.get_mut(message_id) else { return false };
        let room = TEXT_MAX.saturating_sub(shown.text.len());
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let more = &text[..ends.take_while(|end| *end <= room).last().unwrap_or(0)];
        if more.is_empty() {
            return false;
        }
        shown.text.push_str(more);
        let was_news = shown.is_news;
        shown.is_news = !shown.text.trim().is_empty();
        shown.is_news && !was_news
    }

    /// The preview that the answer is to take the place of: from now on nothing changes it but a call that is under way.
    pub(super) fn adopt(&self, message_id: &str) -> Option<Value> {
        self.change(|all| {
            let shown = all.get_mut(message_id).filter(|s| !s.is_doubtful && s.state == State::Open)?;
            let message = shown.message.clone()?;
            shown.state = State::Adopted;
            if !shown.is_calling {
                all.remove(message_id);
            }
            Some(message)
        })
    }

    /// A turn ended. What was not adopted goes away; whether the timer has to hear of it.
    fn end(&self, message_id: &str) -> bool {
        self.change(|all| match all.get_mut(message_id) {
            Some(shown) if shown.state == State::Open && (shown.is_calling || shown.message.is_some()) => {
                shown.state = State::Unwanted;
                true
            }
            Some(shown) if shown.state == State::Open => {
                all.remove(message_id);
                false
            }
            _ => false,
        })
    }

    /// Waits for a call that may be under way; whether the preview that was adopted may be changed by the answer. Else it is to be
    /// taken away, and the answer sent as if there were none.
    fn settled(&self, message_id: &str, within: Duration) -> bool {
        let is_calling = |inner: &mut Inner| inner.shown.get(message_id).is_some_and(|s| s.is_calling);
        let waited = self.returned.wait_timeout_while(self.lock(), within, is_calling);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match inner.shown.get_mut(message_id).filter(|s| s.is_calling || s.is_doubtful) {
            Some(shown) => {
                shown.state = State::Unwanted;
                false
            }
            None => true,
        }
    }

    /// When the next call is due. None while a thread is at work: it makes all that are due before it ends.
    fn next(&self) -> Option<Duration> {
        let inner = self.lock();
        if inner.is_working { None } else { inner.shown.values().filter_map(Shown::due).min() }
    }

    /// Whether a thread is to be started: something is due and none is at work.
    fn start(&self, now: Duration) -> bool {
        let mut inner = self.lock();
        let is_due = !inner.is_working && inner.shown.values().filter_map(Shown::due).any(|due| due <= now);
        inner.is_working |= is_due;
        is_due
    }

    /// The next call that is due; without one the thread's work is over.
    fn take(&self, now: Duration) -> Option<Task> {
        let mut inner = self.lock();
        let found = inner.shown.iter_mut().find(|(_, s)| s.due().is_some_and(|due| due <= now));
        let Some((id, shown)) = found else {
            inner.is_working = false;
            return None;
        };
        (shown.is_calling, shown.is_news, shown.next) = (true, false, now + shown.every);
        Some(Task {
            id: id.clone(),
            channel: shown.channel.clone(),
            peer: shown.peer.clone(),
            conversation: shown.conversation.clone(),
            metadata: shown.metadata.clone(),
            message: shown.message.clone(),
            text: (shown.state == State::Open).then(|| shown.text.clone()),
        })
    }

    /// What a call came to.
    fn returned(&self, task: &Task, result: Result<Option<Value>>, now: Duration) {
        self.change(|all| {
            let Some(shown) = all.get_mut(&task.id) else { return };
            shown.is_calling = false;
            match result {
                Ok(message) => shown.message = message.or(shown.message.take()),
                Err(e) => match e.kind {
                    // It had no effect: later again.
                    ErrorKind::Throttled(asked) => {
                        shown.next = now + asked.unwrap_or_default().max(shown.every);
                        shown.is_news = true;
                    }
                    _ => shown.is_doubtful = true,
                },
            }
            let is_over = match shown.state {
                State::Open => false,
                State::Adopted => !shown.is_doubtful,
                State::Unwanted => task.text.is_none() || shown.message.is_none(),
            };
            if is_over {
                all.remove(&task.id);
            }
        });
        self.returned.notify_all();
    }
}

impl Flow {
    /// A turn begins. Ended by [`Flow::end_preview`].
    pub(super) fn begin_preview(&self, claim: &Claim) {
        let channels = self.channels.get();
        let Some(channel) = channels.get(&claim.channel) else { return };
        let Some(every) = channel.preview_every(claim.conversation.as_deref()) else { return };
        let shown = Shown {
            channel: channel.clone(),
            peer: claim.peer.clone(),
            conversation: claim.conversation.clone(),
            metadata: claim.reply_metadata().clone(),
            every,
            text: String::new(),
            is_news: false,
            next: self.clock.mono(),
            message: None,
            is_calling: false,
            is_doubtful: false,
            state: State::Open,
        };
        self.previews.begin(&claim.message_id, shown);
    }

    /// Another piece of its answer.
    pub(super) fn add_preview(&self, message_id: &str, text: &str) {
        if self.previews.add(message_id, text) {
            self.nudge_timer();
        }
    }

    /// It ended.
    pub(super) fn end_preview(&self, message_id: &str) {
        if self.previews.end(message_id) {
            self.nudge_timer();
        }
    }

    /// The delivery as its channel is to have it: without the preview that it names where something may still change that.
    pub(super) fn with_settled_preview<'a>(&self, delivery: &'a Delivery) -> Cow<'a, Delivery> {
        let names_one = delivery.metadata.as_ref().is_some_and(|m| m.get(KEY).is_some());
        let message_id = delivery.in_reply_to.as_deref().filter(|_| names_one);
        if message_id.is_none_or(|id| self.previews.settled(id, CALL_MAX)) {
            return Cow::Borrowed(delivery);
        }
        self.nudge_timer();
        let mut without = delivery.clone();
        if let Some(metadata) = without.metadata.as_mut().and_then(Value::as_object_mut) {
            metadata.remove(KEY);
        }
        Cow::Owned(without)
    }

    /// Makes the calls that are due; gives when the next one is.
    pub(super) fn tick_previews(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        if self.previews.start(now) {
            let flow = self.clone();
            let started = self.threads.spawn_once("preview", STACK, move || {
                let guard = Working(&flow);
                while let Some(task) = flow.previews.take(flow.clock.mono()) {
                    let result = task.run();
                    flow.previews.returned(&task, result, flow.clock.mono());
                }
                drop(guard);
            });
            if started.is_err() {
                self.previews.lock().is_working = false;
                return Some(now + Duration::from_secs(1));
            }
        }
        self.previews.next()
    }
}

/// An outbox row's metadata with the preview that its delivery takes the place of.
pub(super) fn naming(metadata: &Option<Value>, preview: Option<Value>) -> Option<Value> {
    let Some(preview) = preview else { return metadata.clone() };
    let mut named = metadata.clone().filter(Value::is_object).unwrap_or_else(|| json!({}));
    named[KEY] = preview;
    Some(named)
}

/// Frees the thread's place however it ends, and has the timer look when the next call is due.
struct Working<'a>(&'a Arc<Flow>);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut inner = self.0.previews.lock();
            inner.is_working = false; // else `take` did it
            for shown in inner.shown.values_mut().filter(|s| s.is_calling) {
                (shown.is_calling, shown.is_doubtful) = (false, true);
            }
            drop(inner);
            self.0.previews.returned.notify_all();
        }
        self.0.nudge_timer();
    }
}

#[cfg(test)]
#[path = "previews_tests.rs"]
mod tests;
