//! The handle of one WebSocket: others put text into its bounded queue, its own thread takes it out.
//!
//! Invariant: whoever sends waits for memory alone, never for the peer. The queue holds at most [`QUEUE_BYTES`] and
//! [`QUEUE_FRAMES`]; a socket whose queue is full has a reader that is too slow and is closed. All sockets together hold at most
//! [`TOTAL_BYTES`] and a small share each. Order is kept. The eventfd is written only where the thread sleeps.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};

/// Bytes that wait for one reader at most.
pub const QUEUE_BYTES: usize = 1024 * 1024;
/// Frames that wait for one reader at most.
pub const QUEUE_FRAMES: usize = 1024;
/// Bytes that wait for all readers together, before each is held to [`SHARE_BYTES`].
pub const TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that may wait for one reader while more than [`TOTAL_BYTES`] wait for all.
pub const SHARE_BYTES: usize = 32 * 1024;

/// Counters of all sockets of one registry.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    pub slow_dropped: AtomicU64,
    pub silent_dropped: AtomicU64,
    pub frames_in: AtomicU64,
    pub frames_out: AtomicU64,
    pub protocol_errors: AtomicU64,
    pub panics: AtomicU64,
    /// Bytes that wait in all queues.
    pub waiting: AtomicUsize,
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How a socket is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    pub code: u16,
    pub reason: &'static str,
}

/// What the thread finds when it looks.
pub(super) enum Work {
    /// The next frame to send.
    Frame(Arc<str>),
    /// All is sent: close.
    Close(Closing),
    /// Nothing.
    None,
}

/// A WebSocket, open or not any more. Cheap to clone; clones are one socket.
#[derive(Clone, Debug)]
pub struct Socket(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    id: u64,
    clock: Clock,
    counters: Arc<Counters>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Arc<str>>,
    bytes: usize,
    open: bool,
    closing: Option<Closing>,
    /// The reader was too slow: close without sending what waited.
    slow: bool,
    /// Something must have come until then, else this code.
    expected: Option<(Duration, u16)>,
    /// It closes then with this code, whatever comes.
    ends: Option<(Duration, u16, &'static str)>,
    /// The thread sleeps and must be woken to see anything new.
    asleep: bool,
    /// `None` once the thread has ended.
    wake: Option<Arc<OwnedFd>>,
}

impl Socket {
    /// A socket and the eventfd that its thread waits on.
    pub(super) fn new(id: u64, clock: Clock, counters: Arc<Counters>) -> Result<(Self, Arc<OwnedFd>)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
            Error::new(ErrorKind::Transient, format!("the system refused an eventfd: {e}")).hint("raise its limit on open files")
        })?;
        let wake = Arc::new(wake);
        let queue = Queue {
            frames: VecDeque::new(),
            bytes: 0,
            open: true,
            closing: None,
            slow: false,
            expected: None,
            ends: None,
            asleep: false,
            wake: Some(wake.clone()),
        };
        Ok((Socket(Arc::new(Shared { id, clock, counters, queue: Mutex::new(queue) })), wake))
    }

    /// Its number, never used twice in one process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether it takes text: no close has begun on either side.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Bytes that may be sent now without the reader being taken for a slow one; see [`super::Handler::drained`].
    pub fn room(&self) -> usize {
        let queue = self.lock();
        if queue.open && queue.frames.len() < QUEUE_FRAMES { self.limit().saturating_sub(queue.bytes) } else { 0 }
    }

    /// Queues a text frame; true where it was queued (which is no proof that it arrives). False where the socket is closed, where
    /// `text` alone is longer than [`QUEUE_BYTES`] (it stays open), or where the queue is full: the socket is then closed with
    /// 1008.
    pub fn send(&self, text: impl Into<Arc<str>>) -> bool {
        let text = text.into();
        if text.len() > QUEUE_BYTES {
            log::warn!(socket = self.0.id, bytes = text.len(); "a frame is too long to be sent");
            return false;
        }
        let mut queue = self.lock();
        if !queue.open {
            return false;
        }
        let full = queue.frames.len() >= QUEUE_FRAMES || queue.bytes + text.len() > self.limit().max(text.len());
        if full {
            (queue.open, queue.slow) = (false, true);
            let dropped = self.clear(&mut queue);
            self.rouse(queue);
            drop(dropped); // outside of the lock
            count(&self.0.counters.slow_dropped);
            return false;
        }
        queue.bytes += text.len();
        self.0.counters.waiting.fetch_add(text.len(), Ordering::Relaxed);
        queue.frames.push_back(text);
        self.rouse_if_asleep(queue);
        true
    }

    /// Closes it with a code and a reason (at most 123 bytes) once what is queued is sent; the first call decides.
    pub fn close(&self, code: u16, reason: &'static str) {
        let mut queue = self.lock();
        if queue.open {
            queue.open = false;
            queue.closing = Some(Closing { code, reason });
            self.rouse(queue);
        }
    }

    /// Closes it with `code` unless [`Socket::settled`] is called within `time`. Until then it takes frames of at most 16 KiB.
    pub fn expect_within(&self, time: Duration, code: u16) {
        let mut queue = self.lock();
        queue.expected = Some((self.0.clock.mono() + time, code));
        self.rouse(queue);
    }

    /// What was expected has come.
    pub fn settled(&self) {
        self.lock().expected = None; // its thread wakes once at the old deadline and finds nothing due
    }

    /// Closes it with `code` once `time` is over, whatever comes until then.
    pub fn end_within(&self, time: Duration, code: u16, reason: &'static str) {
        let mut queue = self.lock();
        queue.ends = Some((self.0.clock.mono().saturating_add(time), code, reason));
        self.rouse(queue);
    }

    /// Lets its thread look at everything anew.
    pub(super) fn refresh(&self) {
        self.rouse(self.lock());
    }

    /// The next thing to do: frames in their order, then the close.
    pub(super) fn take(&self) -> Work {
        let mut queue = self.lock();
        match queue.frames.pop_front() {
            Some(frame) => {
                queue.bytes -= frame.len();
                self.0.counters.waiting.fetch_sub(frame.len(), Ordering::Relaxed);
                if queue.frames.is_empty() && queue.frames.capacity() > 64 {
                    queue.frames = VecDeque::new(); // a burst is over
                }
                Work::Frame(frame)
            }
            None => queue.closing.take().map_or(Work::None, Work::Close),
        }
    }

    /// Whether the reader was found too slow; true once.
    pub(super) fn take_slow(&self) -> bool {
        std::mem::take(&mut self.lock().slow)
    }

    /// Whether a close waits for the queue to be sent.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Whether so much waits that nothing more should be read, since reading begets answers.
    pub(super) fn is_half_full(&self) -> bool {
        let queue = self.lock();
        queue.frames.len() > QUEUE_FRAMES / 2 || queue.bytes > self.limit() / 2
    }

    /// The deadline of what is expected.
    pub(super) fn expected(&self) -> Option<(Duration, u16)> {
        self.lock().expected
    }

    /// When it closes in any case.
    pub(super) fn ends(&self) -> Option<(Duration, u16, &'static str)> {
        self.lock().ends
    }

    /// The thread is about to sleep. False where there is something to do first. `blocked`: frames can't be sent now, so they
    /// are no reason to stay awake, nor to be woken.
    pub(super) fn sleep(&self, blocked: bool) -> bool {
        let mut queue = self.lock();
        let work = queue.slow || (!blocked && (!queue.frames.is_empty() || queue.closing.is_some()));
        queue.asleep = !work && !blocked;
        !work
    }

    /// No more frames are taken, and what waits is dropped: the peer closes, or we do for a cause.
    pub(super) fn shut(&self) {
        let mut queue = self.lock();
        (queue.open, queue.slow, queue.closing, queue.expected, queue.ends) = (false, false, None, None, None);
        let dropped = self.clear(&mut queue);
        drop(queue);
        drop(dropped);
    }

    /// The thread ends; its eventfd goes with it, however many handles are still held.
    pub(super) fn end(&self) {
        self.shut();
        self.lock().wake = None;
    }

    #[cfg(test)]
    pub(super) fn holds_descriptor(&self) -> bool {
        self.lock().wake.is_some()
    }

    fn limit(&self) -> usize {
        if self.0.counters.waiting.load(Ordering::Relaxed) > TOTAL_BYTES { SHARE_BYTES } else { QUEUE_BYTES }
    }

    fn clear(&self, queue: &mut Queue) -> VecDeque<Arc<str>> {
        self.0.counters.waiting.fetch_sub(queue.bytes, Ordering::Relaxed);
        queue.bytes = 0;
        std::mem::take(&mut queue.frames)
    }

    fn rouse_if_asleep(&self, queue: MutexGuard<'_, Queue>) {
        if queue.asleep {
            self.rouse(queue);
        }
    }

    fn rouse(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.asleep = false;
        let wake = queue.wake.clone();
        drop(queue); // else the thread would wake only to wait for the lock
        if let Some(wake) = wake {
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes()); // full means: it is awake already
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
