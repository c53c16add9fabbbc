//! From a readable connection to an answer on its way.
//!
//! Invariant: every head that was understood gets exactly one answer, in the order of the requests; what follows an answer that
//! left a body unread is thrown away, never parsed. The service's code runs guarded: its panic answers 500. Failures of the
//! socket close the connection.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;

use crate::base::ids::new_id;
use crate::net::door::conn::{After, Step};
use crate::net::door::head::{Expect, Framing, Parsed, Persist, request_id};
use crate::net::door::reply::{Asked, Done, DoorReply, News, write_now};
use crate::net::door::run::{Armed, Loop};
use crate::net::door::slab::Key;
use crate::net::door::workers::Job;
use crate::net::http::{Head, Lane, Peer, Plan, QUICK_BODY_MAX, Request, Response, Service};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The buffer of the door's own answers is kept up to this size.
const OUT_KEPT: usize = 64 * 1024;

/// A request that is planned.
pub(super) struct Pending<C> {
    head: Head,
    context: C,
    lane: Lane,
    way: Way,
}

/// How an answer travels: what becomes of the connection, and whether it is HTTP/1.1.
type Way = (Persist, bool);

fn asked(head: &Head, (persist, modern): Way) -> Asked<'_> {
    Asked { method: &head.method, path: &head.path, request_id: &head.request_id, received: head.received, persist, modern }
}

impl<S: Service> Loop<S> {
    /// An event came for a connection.
    pub fn on_event(&mut self, key: Key, flags: epoll::EventFlags) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.stream.is_some() {
            return self.on_stream_event(key, flags);
        }
        if slot.conn.is_busy() {
            if slot.line.ask_back() {
                // Whatever it is, it waits: the next request, a hang-up. Level-triggered, it comes back once this is armed again.
                return self.on_busy_event(key, flags);
            }
            let at = slot.line.idle_since().unwrap_or(self.now);
            slot.conn.answered(at);
        }
        if slot.conn.reads() {
            self.read(key);
        } else {
            self.flush(key);
        }
    }

    pub(super) fn read(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        match (&slot.line.stream).read(&mut self.scratch) {
            Ok(0) => self.drop_slot(key),
            Ok(count) => {
                slot.conn.feed(&self.scratch[..count], self.now);
                if slot.conn.has_lingered() {
                    return self.drop_slot(key);
                }
                self.advance(key);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.drop_slot(key),
        }
    }

    /// Goes on with what was read, until more is needed or somebody answers.
    pub fn advance(&mut self, key: Key) {
        while let Some(slot) = self.slots.get_mut(key) {
            match slot.conn.next(&self.limits) {
                Step::Wait => {
                    if slot.conn.reads() {
                        let deadline = slot.conn.deadline(&self.limits).map(|(at, _)| at);
                        self.note(deadline);
                        self.arm(key, Armed::Read);
                    }
                    return;
                }
                Step::Refuse(status) => self.refuse(key, status),
                Step::Head(parsed) => self.on_head(key, *parsed),
                Step::Body(body) => match slot.pending.take() {
                    Some(pending) => self.hand_out(key, *pending, body),
                    None => self.drop_slot(key), // can't be: a body is read for a pending request alone
                },
            }
        }
    }

    fn on_head(&mut self, key: Key, parsed: Parsed) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Parsed { method, path, query, headers, framing, persist, modern, expect } = parsed;
        let way = (persist, modern);
        let request_id = request_id(&headers, self.core.clock.unix_ms());
        let peer = Peer::Tcp { ip: slot.ip, local: slot.local };
        let head = Head { method, path, query, headers, peer, request_id, received: self.core.clock.mono() };
        let unread = framing != Framing::Empty;
        let refusal = |status| self.core.refusal(status, &head.path, &head.request_id);
        let answer = match expect {
            Expect::Other => refusal(417),
            Expect::Nothing | Expect::Continue => match self.core.guard("plan", |s| s.plan(&head)) {
                None => refusal(500),
                Some(Plan::Answer(response)) => response,
                Some(Plan::Upgrade(_)) if unread => refusal(400),
                Some(Plan::Upgrade(context)) => return self.hand_over(key, context, head),
                Some(Plan::Read { context, lane, .. }) if !unread => {
                    return self.hand_out(key, Pending { head, context, lane, way }, Vec::new());
                }
                Some(Plan::Read { context, body_max, lane }) => match slot.conn.read_body(framing, body_max, self.now) {
                    Err(status) => refusal(status),
                    Ok(()) => {
                        slot.pending = Some(Box::new(Pending { head, context, lane, way }));
                        return if expect == Expect::Continue {
                            self.invite(key)
                        };
                    }
                },
            },
        };
        self.answer(key, &asked(&head, way), answer, unread);
    }

    /// Says 100, unless the body is on its way already. A socket that takes no 25 bytes (the client has not read its former
    /// answers) takes none of them: the client must not wait for ever. Half of them would spoil the answer.
    fn invite(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.conn.has_input() && !matches!(write_now(&slot.line.stream, CONTINUE), Some(0) | Some(25)) {
            self.drop_slot(key);
        }
    }

    /// Hands a whole request to the service: here, or to a worker.
    fn hand_out(&mut self, key: Key, pending: Pending<S::Context>, body: Vec<u8>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Pending { head, context, lane, way } = pending;
        slot.line.begin();
        let responder = DoorReply::responder(&self.core, &slot.line, key, &asked(&head, way));
        let quick = lane == Lane::Quick && body.len() <= QUICK_BODY_MAX;
        let request = Request { head, body };
        if quick {
            self.core.call(context, request, responder);
        } else if let Err(full) = self.jobs.try_send(Box::new(Job { context, request, responder })) {
            let job = full.into_inner();
            let head = &job.request.head;
            job.responder.send(self.core.refusal(503, &head.path, &head.request_id));
        }
        // It may be answered by now, or in any moment from here on.
        if let Some(at) = slot.line.idle_since() {
            slot.conn.answered(at);
        } else if !slot.conn.has_input() {
            self.note(Some(self.now + self.limits.idle_timeout)); // when to see whether it went idle unnoticed
            self.arm(key, Armed::Read);
        } else if !slot.line.ask_back() {
            slot.conn.answered(self.now);
        }
    }

    /// Another thread told something.
    pub fn on_news(&mut self, news: News) {
        match news {
            News::Done(done) => self.on_done(done),
            News::Stream(key, streamed) => self.on_stream(key, streamed),
            News::Look(key) => self.look(key),
        }
    }

    /// An answer needs the door to go on.
    fn on_done(&mut self, done: Done) {
        let Some(slot) = self.slots.get_mut(done.key) else { return };
        slot.line.end();
        // An event that came meanwhile was the client's end, or bytes behind the last request that we read.
        let unread = slot.armed != Armed::Read;
        let after = if done.close { After::Close { unread } } else { After::Keep };
        self.sent(done.key, done.bytes, done.sent, after);
        self.advance(done.key);
    }

    /// Answers from here.
    fn answer(&mut self, key: Key, asked: &Asked<'_>, response: Response, unread: bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let response = if unread { response.closing() } else { response };
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let after = if self.core.render(&mut out, asked, &response) { After::Close { unread } } else { After::Keep };
        let sent = write_now(&slot.line.stream, &out);
        if let Some(out) = self.sent(key, out, sent, after).filter(|out| out.capacity() <= OUT_KEPT) {
            self.out = out;
        }
    }

    /// Goes on behind a first write of `bytes`; gives the buffer back once all went out.
    fn sent(&mut self, key: Key, bytes: Vec<u8>, sent: Option<usize>, after: After) -> Option<Vec<u8>> {
        match (sent, self.slots.get_mut(key)) {
            (Some(sent), _) if sent == bytes.len() => {
                self.follow(key, after);
                return Some(bytes);
            }
            (Some(sent), Some(slot)) => {
                slot.conn.write_later(bytes, sent, after, self.now);
                self.note(Some(self.now + self.limits.request_timeout));
                self.arm(key, Armed::Write);
            }
            _ => self.drop_slot(key),
        }
        None
    }

    fn flush(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(sent) = write_now(&slot.line.stream, slot.conn.unwritten()) else { return self.drop_slot(key) };
        if let Some(after) = slot.conn.wrote(sent, self.now) {
            self.follow(key, after);
            self.advance(key);
        }
    }

    /// An answer's last byte went out.
    pub fn follow(&mut self, key: Key, after: After) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let unread = match after {
            After::Keep if !self.core.draining.load(Ordering::Acquire) => return slot.conn.answered(self.now),
            After::Keep => false,
            After::Close { unread } => unread,
        };
        if !unread && !slot.conn.has_input() {
            return self.drop_slot(key);
        }
        // Closed with unread bytes, the kernel would send a reset, and the client might never see the answer.
        let _ = slot.line.stream.shutdown(Shutdown::Write);
        slot.conn.linger(self.now);
        let deadline = slot.conn.deadline(&self.limits).map(|(at, _)| at);
        self.note(deadline);
        self.arm(key, Armed::Read);
    }

    /// Answers what can't be handled, and closes.
    pub fn refuse(&mut self, key: Key, status: u16) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let pending = slot.pending.take();
        let made; // lives as long as what borrows it
        let asked = match &pending {
            Some(pending) => asked(&pending.head, (Persist::Close, pending.way.1)),
            None => {
                made = new_id("req", self.core.clock.unix_ms());
                let received = self.core.clock.mono();
                Asked { method: "", path: "", request_id: &made, received, persist: Persist::Close, modern: true }
            }
        };
        let response = self.core.refusal(status, asked.path, asked.request_id);
        self.answer(key, &asked, response, true);
    }

    /// Hands a connection over to the service for good.
    fn hand_over(&mut self, key: Key, context: S::Context, head: Head) {
        let Some(mut slot) = self.slots.remove(key) else { return };
        if slot.armed != Armed::No {
            let _ = epoll::delete(&self.epoll, &slot.line.stream);
        }
        self.left(slot.address);
        self.core.counters.handed_over.fetch_add(1, Ordering::Relaxed);
        let rest = slot.conn.take_input();
        // Who answered the request before this one may still be about to let go of the socket.
        let stream = Arc::try_unwrap(slot.line).map_or_else(|line| line.stream.try_clone(), |line| Ok(line.stream));
        if let Ok(stream) = stream
            && stream.set_nonblocking(false).is_ok()
        {
            self.core.guard("upgrade", |s| s.upgrade(context, head, stream, rest));
        }
    }
}
