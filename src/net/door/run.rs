//! The door's thread: waits for events, deadlines and answers, and deals with each.
//!
//! Invariant: it blocks in one place, `wait`, and there only as long as the next deadline allows; with no connection it sleeps
//! without end. Deadlines cost no timer each: a lower bound of all of them is kept, and when it is due they are looked through.
//! Should handling one connection panic, that connection is closed and the rest go on.

use std::io;
use std::net::{IpAddr, Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::base::crash;
use crate::base::live::Live;
use crate::base::pulse::Pulse;
use crate::base::stop::Stop;
use crate::config::Limits;
use crate::net::door::admit::{Admission, Seat, Seats};
use crate::net::door::conn::{Conn, Expiry};
use crate::net::door::listen::room_for_connections;
use crate::net::door::reply::{Core, Line, News};
use crate::net::door::serve::Pending;
use crate::net::door::slab::{Key, Slab};
use crate::net::door::stream::Streamed;
use crate::net::door::workers::Job;
use crate::net::http::Service;

/// One read's worth, and so the most that is read ahead of a connection's present request.
const SCRATCH: usize = 16 * 1024;
/// The longest that one pass may take before the door counts as stuck.
const PASS_MAX: Duration = Duration::from_secs(60);
/// Events taken in one pass.
const EVENTS: usize = 256;
/// Deadlines are looked through at most this often, whatever comes.
const SCAN_PAUSE: Duration = Duration::from_millis(20);
/// What is answered when only `stop` was set, without a time.
const DRAIN: Duration = Duration::from_secs(1);
/// In a drain, what a connection has for its first request, which may be on its way: a reset would be all that its client is told.
const FIRST_REQUEST: Duration = Duration::from_millis(200);

pub(super) const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// What epoll watches a connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    No,
    /// Bytes, or the client's end.
    Read,
    /// Room.
    Write,
    /// The client's end alone.
    End,
    /// Room, or the client's end.
    WriteOrEnd,
}

/// A connection with all that the door has of it.
pub(super) struct Slot<C> {
    pub line: Arc<Line>,
    pub conn: Conn,
    /// Theirs.
    pub ip: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// Whose place it is.
    pub address: IpAddr,
    pub armed: Armed,
    /// The request whose body is being read.
    pub pending: Option<Box<Pending<C>>>,
    /// The answer that is being streamed.
    pub stream: Option<Arc<Streamed>>,
}

/// The door's own state.
pub(super) struct Loop<S: Service> {
    pub core: Arc<Core<S>>,
    pub listener: Option<TcpListener>,
    /// The listener's address.
    pub local: IpAddr,
    pub epoll: OwnedFd,
    pub slots: Slab<Slot<S::Context>>,
    pub admission: Admission,
    pub jobs: Sender<Box<Job<S::Context>>>,
    pub limits: Arc<Limits>,
    /// What the descriptor limit leaves for connections.
    pub room: usize,
    /// The time of this pass.
    pub now: Duration,
    /// When to accept again, while that pauses.
    pub accept_at: Option<Duration>,
    /// When an accept error was logged last.
    pub logged_at: Option<Duration>,
    pub scratch: Box<[u8]>,
    /// Reused for the door's own answers.
    pub out: Vec<u8>,
    live_limits: Arc<Live<Limits>>,
    stop: Stop,
    news: Vec<News>,
    keys: Vec<Key>,
    /// No deadline comes before this; `None` where there is none at all.
    due: Option<Duration>,
    scanned_at: Duration,
    ends_at: Option<Duration>,
    /// When, in a drain, those are closed that have said nothing yet.
    silent_until: Option<Duration>,
    /// The connection being dealt with, in case that panics.
    current: Option<Key>,
    pulse: Pulse,
}

impl<S: Service> Loop<S> {
    /// A door around `listener`, not yet running.
    pub fn new(
        core: Arc<Core<S>>,
        listener: TcpListener,
        local: IpAddr,
        jobs: Sender<Box<Job<S::Context>>>,
        live_limits: Arc<Live<Limits>>,
        stop: Stop,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &core.bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let (now, pulse) = (core.clock.mono(), core.threads.pulse("door"));
        Ok(Loop {
            core,
            listener: Some(listener),
            local,
            epoll,
            slots: Slab::new(),
            admission: Admission::default(),
            jobs,
            limits: live_limits.get(),
            room: room_for_connections(),
            now,
            accept_at: None,
            logged_at: None,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            out: Vec::new(),
            live_limits,
            stop,
            news: Vec::new(),
            keys: Vec::new(),
            due: None,
            scanned_at: now,
            ends_at: None,
            silent_until: None,
            current: None,
            pulse,
        })
    }

    /// Runs until it is closed. Called again after a panic: what that left undone is taken up first.
    pub fn run(&mut self) {
        if let Some(key) = self.current.take() {
            self.drop_slot(key);
        }
        self.due = Some(self.now);
        self.take_up_news();
        let mut events = Vec::with_capacity(EVENTS);
        while self.pass(&mut events) {}
    }

    fn pass(&mut self, events: &mut Vec<epoll::Event>) -> bool {
        self.pulse.rests();
        self.wait(events);
        self.now = self.core.clock.mono();
        self.pulse.works(self.now, PASS_MAX);
        let limits = self.live_limits.get();
        if !Arc::ptr_eq(&limits, &self.limits) {
            self.limits = limits;
            self.note(Some(self.now)); // shorter times may be due before the kept bound
        }
        let mut comers = false;
        for event in events {
            let (data, flags) = (event.data, event.flags); // copied: the event is packed
            match data.u64() {
                LISTENER => comers = true,
                BELL => drop(rustix::io::read(&self.core.bell, &mut [0u8; 8])),
                number => {
                    self.current = Some(Key::of(number));
                    crash::point("door.event");
                    self.on_event(Key::of(number), flags);
                }
            }
        }
        self.take_up_news();
        if comers || self.accept_at.is_some_and(|at| at <= self.now) {
            self.accept();
        }
        self.expire();
        self.current = None;
        self.go_on()
    }

    /// Blocks until something happens or is due.
    fn wait(&self, events: &mut Vec<epoll::Event>) {
        let now = self.core.clock.mono();
        let due = self.due.map(|d| d.max(self.scanned_at + SCAN_PAUSE));
        let next = [due, self.accept_at, self.ends_at, self.silent_until];
        let pause = next.into_iter().flatten().min().map(|at| at.saturating_sub(now));
        let pause = if self.core.may_sleep() { pause } else { Some(Duration::ZERO) };
        // Rounded up: a wait that ends a little too early would come back at once, again and again.
        let pause = pause.map(|p| Duration::from_millis(p.as_micros().div_ceil(1000) as u64));
        let pause = pause.and_then(|p| Timespec::try_from(p).ok());
        events.clear();
        // It fails where a signal came (nothing is ready then) or for a broken epoll, which can't be.
        let _ = epoll::wait(&self.epoll, spare_capacity(events), pause.as_ref());
        self.core.awake();
    }

    /// Takes a deadline into the bound.
    pub fn note(&mut self, deadline: Option<Duration>) {
        if let Some(deadline) = deadline {
            self.due = Some(self.due.map_or(deadline, |d| d.min(deadline)));
        }
    }

    /// Takes up what other threads, or the quick lane, could not finish by themselves.
    fn take_up_news(&mut self) {
        if self.news.is_empty() {
            self.core.take_news(&mut self.news);
        }
        while let Some(news) = self.news.pop() {
            self.current = Some(news.key());
            self.on_news(news);
        }
    }

    /// Deals with the deadlines that are due, and finds the next.
    fn expire(&mut self) {
        if self.due.is_none_or(|d| d > self.now) || self.now < self.scanned_at + SCAN_PAUSE {
            return;
        }
        (self.due, self.scanned_at) = (None, self.now);
        let mut keys = std::mem::take(&mut self.keys);
        self.slots.keys_into(&mut keys);
        for key in keys.drain(..) {
            self.current = Some(key);
            let Some(slot) = self.slots.get_mut(key) else { continue };
            if slot.conn.is_busy() {
                match slot.line.idle_since() {
                    Some(at) => slot.conn.answered(at),
                    None => {
                        // Still being answered. Should that end unnoticed, this looks again before it could be idle too long.
                        let again = self.now + self.limits.idle_timeout;
                        self.note(Some(again));
                        continue;
                    }
                }
            }
            match slot.conn.deadline(&self.limits) {
                Some((at, expiry)) if at <= self.now => {
                    if expiry != Expiry::Lingered {
                        self.core.counters.expired.fetch_add(1, Ordering::Relaxed);
                    }
                    match expiry {
                        Expiry::Close | Expiry::Lingered => self.drop_slot(key),
                        Expiry::Refuse => {
                            slot.conn.expire();
                            self.refuse(key, 408);
                        }
                    }
                }
                other => self.note(other.map(|(at, _)| at)),
            }
        }
        self.keys = keys;
    }

    /// Sees whether it is time to close, and whether all is closed.
    fn go_on(&mut self) -> bool {
        let asked = self.core.ends_at_us.load(Ordering::SeqCst);
        if asked != 0 {
            self.begin_drain(Duration::from_micros(asked));
        } else if self.ends_at.is_none() && self.stop.is_set() {
            self.begin_drain(self.now + DRAIN);
        }
        let Some(end) = self.ends_at else { return true };
        if self.silent_until.is_some_and(|at| at <= self.now) {
            self.silent_until = None;
            self.close_idle(|_| true);
        }
        if self.slots.len() > 0 && self.now < end {
            return true;
        }
        for (_, slot) in self.slots.iter() {
            // Whoever still answers it finds a broken socket.
            let _ = slot.line.stream.shutdown(Shutdown::Both);
            self.let_go(slot);
        }
        self.slots = Slab::new();
        self.core.counters.open.store(0, Ordering::Relaxed);
        false
    }

    fn begin_drain(&mut self, end: Duration) {
        let first = self.ends_at.is_none();
        self.ends_at = Some(end);
        if !first {
            return;
        }
        self.listener = None; // which takes it out of epoll
        self.accept_at = None;
        self.core.draining.store(true, Ordering::SeqCst);
        let mut keys = Vec::new();
        self.slots.keys_into(&mut keys);
        for key in keys {
            let Some(slot) = self.slots.get_mut(key) else { continue };
            self.current = Some(key);
            let was_busy = slot.conn.is_busy();
            // An answer that is on its way and did not see `draining` comes back to us by this.
            if was_busy && !slot.line.ask_back() {
                slot.conn.answered(slot.line.idle_since().unwrap_or(self.now));
            }
            // What has come is answered still.
            if slot.conn.is_idle() {
                self.read(key);
            } else if was_busy && slot.conn.reads() {
                self.advance(key);
            }
        }
        self.current = None;
        self.close_idle(Conn::is_proved);
        self.silent_until = Some(self.now + FIRST_REQUEST);
    }

    /// Closes those that wait for a request of which nothing has come, and of whom that is `so`.
    fn close_idle(&mut self, so: impl Fn(&Conn) -> bool) {
        let idle = self.slots.iter().filter(|(_, slot)| slot.conn.is_idle() && so(&slot.conn)).map(|(key, _)| key);
        let idle: Vec<Key> = idle.collect();
        idle.into_iter().for_each(|key| self.drop_slot(key));
    }

    /// Watches the connection for `want`; one that can't be watched is closed.
    pub fn arm(&mut self, key: Key, want: Armed) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let (stream, data) = (&slot.line.stream, epoll::EventData::new_u64(key.number()));
        let flags = match want {
            Armed::No | Armed::Read => epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
            Armed::Write => epoll::EventFlags::OUT,
            Armed::End => epoll::EventFlags::RDHUP,
            Armed::WriteOrEnd => epoll::EventFlags::OUT | epoll::EventFlags::RDHUP,
        };
        let done = match (slot.armed, want) {
            (had, want) if had == want => Ok(()),
            (_, Armed::No) => epoll::delete(&self.epoll, stream),
            (Armed::No, _) => epoll::add(&self.epoll, stream, data, flags),
            _ => epoll::modify(&self.epoll, stream, data, flags),
        };
        slot.armed = want;
        if done.is_err() {
            slot.armed = Armed::No;
            self.drop_slot(key);
        }
    }

    /// Closes a connection and frees its place.
    pub fn drop_slot(&mut self, key: Key) {
        let Some(slot) = self.slots.remove(key) else { return };
        self.let_go(&slot);
        if slot.armed != Armed::No && Arc::strong_count(&slot.line) > 1 {
            // Somebody still holds the socket, so closing it here would not take it out of epoll.
            let _ = epoll::delete(&self.epoll, &slot.line.stream);
        }
        self.left(slot.address);
    }

    /// Counts a place that was left.
    pub fn left(&mut self, address: IpAddr) {
        self.admission.closed(address);
        self.core.counters.open.store(self.slots.len(), Ordering::Relaxed);
    }
}

impl<C> Seats for Slab<Slot<C>> {
    fn each(&self, visit: &mut dyn FnMut(Seat)) {
        self.iter().filter_map(|(key, slot)| seat_of(key, slot)).for_each(visit);
    }

    fn seat(&self, key: Key) -> Option<Seat> {
        seat_of(key, self.get(key)?)
    }
}

fn seat_of<C>(key: Key, slot: &Slot<C>) -> Option<Seat> {
    let (quiet_since, proved) = match slot.conn.yields() {
        Some(yields) => yields,
        // Answered, and the door has not been told yet.
        None if slot.conn.is_busy() => (slot.line.idle_since()?, true),
        None => return None,
    };
    Some(Seat { key, address: slot.address, quiet_since, proved })
}
