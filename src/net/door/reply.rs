//! The way back: what the door shares with the threads that answer, and how an answer reaches its connection from any of them.
//!
//! Whoever completes an answer writes it to the socket itself, without waking the door. The connection's [`Line`] holds one
//! atomic state; exactly one side may write to the socket and decide what follows:
//!
//! - `IDLE`: the door. Nobody else touches the connection.
//! - `BUSY`: the answering side. The door has handed a request out; its events for the socket stay armed, so that the next
//!   request costs no epoll call.
//! - `HAND_BACK`: still the answering side, which must not go back to `IDLE` by itself but hand the connection to the door.
//!
//! Only the door makes `IDLE → BUSY` and `BUSY → HAND_BACK`. The answering side makes `BUSY → IDLE` and nothing else, as its
//! last act on the connection, and only after all bytes went out and the connection stays open. In every other case (bytes left,
//! a close, a broken socket, `HAND_BACK`) it pushes a [`Done`] to the door's queue, and the door makes the state `IDLE`.
//!
//! The race: an event for the socket (the next request, a hang-up) comes while an answer is on its way. The door then tries
//! `BUSY → HAND_BACK` and the answering side tries `BUSY → IDLE`, both by compare-and-swap, so that one of them wins:
//! - the answering side wins: the door's swap finds `IDLE`, so the answer is out and the connection is the door's: it reads;
//! - the door wins: it disarms the socket in epoll (a level-triggered event would come again and again), and the answering
//!   side's swap fails, so it pushes a `Done`. The door takes that up later on its own thread, hence after disarming: it arms
//!   the socket again, and epoll reports the bytes that still wait. No event is lost and none spins.
//!
//! The swap has release order on the answering side and acquire on the door's, so the write and `idle_since_us` come before what
//! the door does next. A connection in `BUSY` or `HAND_BACK` keeps its place (its client may be gone), so a `Done` always finds
//! it, and requests that wait never outnumber the places.
//!
//! A streamed answer (`stream.rs`) gives the connection to the door at its beginning ([`News::Stream`]) and takes no further part
//! in this: the door makes the state `IDLE` and deals with the socket's events itself.
//!
//! The wake: the door stores `sleeping` and then looks at the queue; an answering thread pushes and then looks at `sleeping`. Both
//! in sequentially consistent order, so one of them sees the other: no `Done` is left lying, and a door that is awake (its own
//! quick answers, above all) costs no system call.
//!
//! Invariant: `reply` never blocks: the socket is non-blocking, the queue's lock is held for one push. It fails by closing the
//! connection.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::threads::Threads;
use crate::net::door::head::Persist;
use crate::net::door::slab::Key;
use crate::net::door::stream::{self, Streamed};
use crate::net::door::write::{DateText, Manner};
use crate::net::http::{Reply, Request, Responder, Response, Served, Service, Sink, Tell};

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const HAND_BACK: u8 = 2;

/// A connection's shared part.
pub(super) struct Line {
    /// Non-blocking.
    pub stream: TcpStream,
    state: AtomicU8,
    idle_since_us: AtomicU64,
    /// Whether `watch` may hold somebody: most requests never touch its lock.
    watched: AtomicBool,
    /// Who wants to know when the client of the present request is gone.
    watch: Mutex<Option<Tell>>,
}

impl Line {
    /// A connection that is the door's.
    pub fn new(stream: TcpStream) -> Self {
        Line {
            stream,
            state: AtomicU8::new(IDLE),
            idle_since_us: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            watch: Mutex::new(None),
        }
    }

    /// Whether somebody wants to know of the client's end.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    fn watch(&self, tell: Tell) {
        let former = self.watch.lock().unwrap_or_else(PoisonError::into_inner).replace(tell);
        self.watched.store(true, Ordering::SeqCst);
        drop(former); // outside of the lock, as what it holds may be anything
    }

    /// Takes out who is to be told; nobody is from now on.
    pub fn take_watch(&self) -> Option<Tell> {
        if !self.watched.swap(false, Ordering::SeqCst) {
            return None;
        }
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The door hands a request out.
    pub fn begin(&self) {
        self.state.store(BUSY, Ordering::Release);
    }

    /// The door has the connection back.
    pub fn end(&self) {
        self.state.store(IDLE, Ordering::Release);
    }

    /// Since when the connection is the door's again, if it is.
    pub fn idle_since(&self) -> Option<Duration> {
        let idle = self.state.load(Ordering::Acquire) == IDLE;
        idle.then(|| Duration::from_micros(self.idle_since_us.load(Ordering::Relaxed)))
    }

    /// The door wants the connection handed back with the answer. False where it is the door's already.
    pub fn ask_back(&self) -> bool {
        let swapped = self.state.compare_exchange(BUSY, HAND_BACK, Ordering::AcqRel, Ordering::Acquire);
        swapped != Err(IDLE)
    }

    /// The answering side is done. False where it must hand back.
    fn rest(&self, now: Duration) -> bool {
        self.idle_since_us.store(now.as_micros() as u64, Ordering::Relaxed);
        self.state.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Writes what the socket takes of `bytes` at once: how much, or `None` where it is broken.
pub(super) fn write_now(mut stream: &TcpStream, bytes: &[u8]) -> Option<usize> {
    match stream.write(bytes) {
        Ok(0) if !bytes.is_empty() => None,
        Ok(count) => Some(count),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Some(0),
        Err(_) => None,
    }
}

/// What other threads have for the door.
pub(super) enum News {
    /// An answer needs the door to go on.
    Done(Done),
    /// An answer is being streamed from now on.
    Stream(Key, Arc<Streamed>),
    /// Something about this connection's stream or its watcher changed.
    Look(Key),
}

impl News {
    /// Whose.
    pub fn key(&self) -> Key {
        match self {
            News::Done(done) => done.key,
            News::Stream(key, _) | News::Look(key) => *key,
        }
    }
}

/// A whole answer that needs the door to go on.
#[derive(Debug)]
pub(super) struct Done {
    /// Whose.
    pub key: Key,
    /// The whole answer.
    pub bytes: Vec<u8>,
    /// What of it went out; `None` where the socket is broken.
    pub sent: Option<usize>,
    /// Close after it.
    pub close: bool,
}

/// Runs a piece of a service; a panic is counted and gives `None`.
pub(in crate::net) fn guard<T>(threads: &Threads, what: &str, run: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    if outcome.is_err() {
        threads.count_panic();
        log::error!("a panic was caught in a request ({what})");
    }
    outcome.ok()
}

/// The service's refusal, or a bare one where even that panics. A 503 says when to come again.
pub(in crate::net) fn refusal<S: Service>(service: &S, threads: &Threads, status: u16, path: &str, request_id: &str) -> Response {
    let made = guard(threads, "refusal", || service.refusal(status, path, request_id));
    let response = made.unwrap_or_else(|| Response::empty(status));
    match response.header("retry-after") {
        None if status == 503 => response.with("Retry-After", "1"),
        _ => response,
    }
}

/// Counters, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub open: AtomicUsize,
    pub accepted: AtomicU64,
    pub evicted: AtomicU64,
    pub refused: AtomicU64,
    pub expired: AtomicU64,
    pub handed_over: AtomicU64,
    pub accept_errors: AtomicU64,
}

/// What the door's thread, its workers and every responder share.
pub(super) struct Core<S> {
    pub service: Arc<S>,
    pub clock: Clock,
    pub threads: Threads,
    pub counters: Counters,
    /// No connection outlives its present answer.
    pub draining: AtomicBool,
    /// When the door ends at last, by `Clock::mono` in microseconds; 0 while it is open.
    pub ends_at_us: AtomicU64,
    pub dates: DateText,
    pub bell: OwnedFd,
    news: Mutex<Vec<News>>,
    sleeping: AtomicBool,
}

impl<S: Service> Core<S> {
    /// Shared parts around `bell`, an eventfd.
    pub fn new(service: Arc<S>, clock: Clock, threads: Threads, bell: OwnedFd) -> Self {
        Core {
            service,
            clock,
            threads,
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            ends_at_us: AtomicU64::new(0),
            dates: DateText::default(),
            bell,
            news: Mutex::new(Vec::new()),
            sleeping: AtomicBool::new(false),
        }
    }

    /// Wakes the door, whatever it does.
    pub fn ring(&self) {
        // Full (it holds u64::MAX - 1) means that it is rung already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Tells the door; from any thread.
    pub fn push(&self, news: News) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Takes the news into `into`, which is empty.
    pub fn take_news(&self, into: &mut Vec<News>) {
        std::mem::swap(into, &mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Before the door waits: false where it must not, since there are news.
    pub fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        let may = self.news.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !may {
            self.awake();
        }
        may
    }

    /// After the door waited.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// See [`guard`].
    pub fn guard<T>(&self, what: &str, run: impl FnOnce(&S) -> T) -> Option<T> {
        guard(&self.threads, what, || run(&self.service))
    }

    /// Handles a request; a panic answers 500 by itself, as the responder is dropped.
    pub fn call(&self, context: S::Context, request: Request, responder: Responder) {
        self.guard("call", |s| s.call(context, request, responder));
    }

    /// See [`refusal`].
    pub fn refusal(&self, status: u16, path: &str, request_id: &str) -> Response {
        refusal(&*self.service, &self.threads, status, path, request_id)
    }

    /// The answer as bytes, told to the service as served. True where the connection must close after it.
    pub fn render(&self, out: &mut Vec<u8>, asked: &Asked<'_>, response: &Response) -> bool {
        let close = self.closes(asked, response);
        let persist = if close { Persist::Close } else { asked.persist };
        let manner = Manner { head_only: asked.method == "HEAD", persist };
        self.dates.write_response(out, response, asked.request_id, self.clock.unix_ms(), manner);
        self.served(asked, response.status, true); // before the write: who has an answer finds it counted
        close
    }

    /// Whether the connection must close after this answer.
    pub fn closes(&self, asked: &Asked<'_>, response: &Response) -> bool {
        asked.persist == Persist::Close || response.close || self.draining.load(Ordering::Acquire)
    }

    /// Tells the service of an answer.
    pub fn served(&self, asked: &Asked<'_>, status: u16, whole: bool) {
        let took = self.clock.mono().saturating_sub(asked.received);
        let Asked { method, path, request_id, .. } = *asked;
        self.guard("served", |s| s.served(&Served { method, path, status, request_id, took, whole }));
    }
}

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub request_id: &'a str,
    pub received: Duration,
    pub persist: Persist,
    /// HTTP/1.1.
    pub modern: bool,
}

/// A responder's way back to a connection.
pub(super) struct DoorReply<S: Service> {
    pub core: Arc<Core<S>>,
    pub line: Arc<Line>,
    pub key: Key,
    pub about: About,
}

/// What a way back keeps of its request.
pub(super) struct About {
    /// Method, path and request id, one behind the other: one allocation for three.
    label: Box<str>,
    method_len: usize,
    path_len: usize,
    received: Duration,
    persist: Persist,
    modern: bool,
}

impl About {
    fn of(asked: &Asked<'_>) -> Self {
        About {
            label: [asked.method, asked.path, asked.request_id].concat().into_boxed_str(),
            method_len: asked.method.len(),
            path_len: asked.path.len(),
            received: asked.received,
            persist: asked.persist,
            modern: asked.modern,
        }
    }

    /// The request.
    pub fn asked(&self) -> Asked<'_> {
        let (method, rest) = self.label.split_at(self.method_len);
        let (path, request_id) = rest.split_at(self.path_len);
        Asked { method, path, request_id, received: self.received, persist: self.persist, modern: self.modern }
    }
}

impl<S: Service> DoorReply<S> {
    /// The responder of a request that the door hands out.
    pub fn responder(core: &Arc<Core<S>>, line: &Arc<Line>, key: Key, asked: &Asked<'_>) -> Responder {
        Responder::new(Box::new(DoorReply { core: core.clone(), line: line.clone(), key, about: About::of(asked) }))
    }
}

impl<S: Service> Reply for DoorReply<S> {
    fn reply(self: Box<Self>, response: Response) {
        let mut bytes = Vec::new();
        drop(self.line.take_watch());
        let close = self.core.render(&mut bytes, &self.about.asked(), &response);
        let sent = write_now(&self.line.stream, &bytes);
        if sent == Some(bytes.len()) && !close && self.line.rest(self.core.clock.mono()) {
            return;
        }
        self.core.push(News::Done(Done { key: self.key, bytes, sent, close }));
    }

    fn abandoned(&self) -> Response {
        let asked = self.about.asked();
        self.core.refusal(500, asked.path, asked.request_id)
    }

    fn stream(self: Box<Self>, head: Response) -> Box<dyn Sink> {
        stream::begin(*self, &head)
    }

    fn on_gone(&self, tell: Tell) {
        self.line.watch(tell);
        self.core.push(News::Look(self.key)); // it may be gone already
    }
}
