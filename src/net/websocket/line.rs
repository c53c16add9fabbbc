//! One socket's thread: reads, handles, writes, waits.
//!
//! Invariant: only this thread touches the stream and the codec, and it waits in `poll` alone: for the socket, for its eventfd,
//! and until its next own deadline. A round is bounded in frames and bytes, so that no flood keeps it from writing. Nothing is
//! read while much waits to be written. A violation ends in a close frame with its code, then a short wait for the peer to take
//! it; a handler's panic likewise.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketContext};
use tungstenite::{Error as Fault, Message};

use super::socket::{Closing, Socket, Work, count};
use super::wire::{MESSAGE_BYTES, MESSAGE_BYTES_UNSETTLED, Wire, codec};
use super::{Handler, Register};
use crate::base::error::shorten;
use crate::base::ids::jitter;

/// Messages read, and frames written, in one round.
const ROUND_MESSAGES: usize = 32;
const ROUND_FRAMES: usize = 256;
/// Pings answered while the peer takes nothing.
const PONGS_WAITING: usize = 32;
/// Without progress while bytes wait, a reader is dropped.
const STALL: Duration = Duration::from_secs(10);
/// The same once a close was asked for, and what the peer has for its part of a close.
const FAREWELL: Duration = Duration::from_secs(1);
/// From the wish to close to the end, at most.
const FAREWELL_WHOLE: Duration = Duration::from_secs(5);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame is on its way in one direction or both; until then.
    Closing(Duration),
    /// Our last frame is written; what comes is discarded until the peer ends, or until then.
    Lingering(Duration),
    Over,
}

/// All that one socket's thread holds.
pub(super) struct Line {
    pub wire: Wire,
    pub socket: Socket,
    pub wake: Arc<OwnedFd>,
    pub register: Arc<Register>,
}

/// The state of one socket while it runs.
struct Run<'a> {
    line: &'a mut Line,
    handler: &'a mut dyn Handler,
    codec: WebSocketContext,
    phase: Phase,
    /// The kernel may hold bytes; bytes already read, or not asked for within the bounds of a round, may be left.
    readable: bool,
    left: bool,
    /// The kernel took no more at the last try.
    blocked: bool,
    /// Frames were written since the handler was last told that all is.
    fed: bool,
    finished: bool,
    pongs: usize,
    /// When bytes were last read, when a ping was last sent, when the kernel last took bytes; the counts that tell.
    heard: (Duration, u64),
    pinged: Duration,
    progress: (Duration, u64),
    close_asked: Option<Duration>,
    wide: bool,
}

impl Line {
    /// Serves the socket until it is over. `handler` is told that it is open, not that it is closed.
    pub fn serve(&mut self, handler: &mut dyn Handler) {
        let now = self.register.clock.mono();
        let interval = self.register.settings.get().ping_interval;
        let mut run = Run {
            handler,
            codec: codec(),
            phase: Phase::Open,
            readable: true,
            left: true,
            blocked: false,
            fed: false,
            finished: false,
            pongs: 0,
            heard: (now, 0),
            // The first ping comes early by chance, so that sockets opened together don't wake together for ever.
            pinged: now.saturating_sub(Duration::from_millis(jitter(interval.as_millis() as u64 / 4))),
            progress: (now, 0),
            close_asked: None,
            wide: true,
            line: self,
        };
        run.tell(|handler, socket| handler.opened(socket));
        while run.phase != Phase::Over {
            run.read();
            run.write();
            run.check();
            run.wait();
        }
    }
}

impl Run<'_> {
    fn now(&self) -> Duration {
        self.line.register.clock.mono()
    }

    /// Calls the handler; its panic closes the socket and nothing else.
    fn tell(&mut self, call: impl FnOnce(&mut dyn Handler, &Socket)) {
        let (handler, socket) = (&mut *self.handler, &self.line.socket);
        if catch_unwind(AssertUnwindSafe(|| call(handler, socket))).is_err() {
            count(&self.line.register.counters.panics);
            self.line.register.threads.count_panic();
            log::error!(socket = socket.id(); "a panic was caught in a WebSocket's handler");
            self.fail(1011, "internal error");
        }
    }

    /// Whether bytes of the peer's are wanted: not while so much waits for it, or so many pongs, that it must read first.
    fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => !(self.blocked && (self.pongs >= PONGS_WAITING || self.line.socket.is_half_full())),
            Phase::Closing(_) | Phase::Lingering(_) => true,
            Phase::Over => false,
        }
    }

    fn read(&mut self) {
        if !(self.readable || self.left) || !self.reads() {
            return;
        }
        self.line.wire.begin();
        if let Phase::Lingering(_) = self.phase {
            if !self.line.wire.discard() {
                self.phase = Phase::Over;
            }
            return self.left = !self.line.wire.is_dry();
        }
        self.narrow();
        self.left = true;
        for _ in 0..ROUND_MESSAGES {
            match self.codec.read(&mut self.line.wire) {
                Ok(message) => self.take(message),
                Err(Fault::Io(e)) if e.kind() == ErrorKind::WouldBlock => {
                    self.left = !self.line.wire.is_dry();
                    break;
                }
                Err(fault) => self.fault(&fault),
            }
            if !self.reads() || matches!(self.phase, Phase::Lingering(_)) {
                break;
            }
        }
        let read = self.line.wire.bytes_read();
        if read != self.heard.1 {
            self.heard = (self.now(), read);
        }
    }

    /// Strangers' messages are held small until what is expected of them has come.
    fn narrow(&mut self) {
        let wide = self.line.socket.expected().is_none();
        if wide != self.wide {
            self.wide = wide;
            let bytes = if wide { MESSAGE_BYTES } else { MESSAGE_BYTES_UNSETTLED };
            self.codec.set_config(|c| (c.max_message_size, c.max_frame_size) = (Some(bytes), Some(bytes)));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) => {
                count(&self.line.register.counters.frames_in);
                // After a close was asked for, nothing more is begun.
                if self.phase == Phase::Open && self.line.socket.is_open() {
                    self.tell(|handler, _| handler.text(&text));
                    self.narrow();
                }
            }
            Message::Binary(_) => {
                count(&self.line.register.counters.protocol_errors);
                self.fail(1003, "text frames alone");
            }
            Message::Ping(_) if self.blocked => self.pongs += 1,
            Message::Close(_) if self.phase == Phase::Open => {
                // The answer is queued in the codec and leaves with the next flush.
                self.line.socket.shut();
                self.phase = Phase::Closing(self.now() + FAREWELL);
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }

    /// What the codec found wrong: ours to answer where it was the peer's doing.
    fn fault(&mut self, fault: &Fault) {
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        let (code, reason) = match fault {
            Fault::Capacity(_) => (1009, "message too big"),
            Fault::Utf8(_) => (1007, "text must be UTF-8"),
            Fault::Protocol(ResetWithoutClosingHandshake) => return self.phase = Phase::Over,
            Fault::Protocol(_) => (1002, "protocol error"),
            // The handshake is complete, or the connection broke.
            _ => return self.phase = Phase::Over,
        };
        count(&self.line.register.counters.protocol_errors);
        log::debug!(socket = self.line.socket.id(), code = code; "a WebSocket's peer broke the protocol: {fault}");
        if self.phase == Phase::Open { self.fail(code, reason) } else { self.phase = Phase::Over }
    }

    /// Closes for a cause: what is queued is dropped, the peer is told why and has a moment to take it.
    fn fail(&mut self, code: u16, reason: &'static str) {
        self.line.socket.shut();
        if self.phase == Phase::Open {
            self.phase = Phase::Lingering(self.now() + FAREWELL);
            self.close_frame(Closing { code, reason });
        }
    }

    fn close_frame(&mut self, closing: Closing) {
        let code = Some(CloseCode::from(closing.code)).filter(|c| c.is_allowed()).unwrap_or(CloseCode::Error);
        let frame = CloseFrame { code, reason: shorten(closing.reason, 120).into() };
        let closed = self.codec.close(&mut self.line.wire, Some(frame));
        self.written(closed);
    }

    fn write(&mut self) {
        if self.line.socket.take_slow() {
            log::warn!(socket = self.line.socket.id(); "a WebSocket's reader is too slow: closed");
            self.fail(1008, "too slow a reader");
        }
        let mut empty = false;
        for _ in 0..ROUND_FRAMES {
            if self.blocked || self.phase != Phase::Open {
                break;
            }
            match self.line.socket.take() {
                Work::Frame(text) => {
                    count(&self.line.register.counters.frames_out);
                    self.fed = true;
                    let written = self.codec.write(&mut self.line.wire, Message::text(&*text));
                    self.written(written);
                }
                Work::Close(closing) => {
                    self.phase = Phase::Closing(self.now() + FAREWELL);
                    self.close_frame(closing);
                }
                Work::None => {
                    empty = true;
                    break;
                }
            }
        }
        if self.phase != Phase::Over {
            let flushed = self.codec.flush(&mut self.line.wire);
            self.written(flushed);
        }
        if self.blocked || self.phase == Phase::Over {
            return;
        }
        self.pongs = 0;
        if matches!(self.phase, Phase::Lingering(_)) && !self.finished {
            self.finished = true;
            self.line.wire.finish();
        }
        if empty && self.phase == Phase::Open && std::mem::take(&mut self.fed) {
            self.tell(|handler, _| handler.drained());
        }
        if self.phase == Phase::Open && !self.left && self.line.wire.may_trim() {
            (self.codec, self.wide) = (codec(), true);
        }
    }

    /// Notes how a write ended.
    fn written(&mut self, written: Result<(), Fault>) {
        self.blocked = match written {
            Ok(()) => false,
            Err(Fault::Io(e)) if e.kind() == ErrorKind::WouldBlock => true,
            Err(_) => {
                self.phase = Phase::Over; // broken, or the close handshake is complete
                false
            }
        };
    }

    /// Does what is due.
    fn check(&mut self) {
        let now = self.now();
        let taken = self.line.wire.bytes_written();
        if !self.blocked || taken != self.progress.1 {
            self.progress = (now, taken);
        }
        match self.phase {
            Phase::Open => self.check_open(now),
            Phase::Closing(until) | Phase::Lingering(until) if now >= until => self.phase = Phase::Over,
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Over => {}
        }
    }

    fn check_open(&mut self, now: Duration) {
        if self.close_asked.is_none() && self.line.socket.is_closing() {
            (self.close_asked, self.progress.0) = (Some(now), now);
        }
        if now >= self.stalls() {
            if self.close_asked.is_none() {
                count(&self.line.register.counters.slow_dropped);
            }
            return self.phase = Phase::Over; // nothing reaches it, not even a farewell
        }
        if let Some((_, code)) = self.line.socket.expected().filter(|(due, _)| now >= *due) {
            return self.fail(code, "nothing came in time");
        }
        if let Some((_, code, reason)) = self.line.socket.ends().filter(|(due, ..)| now >= *due) {
            return self.fail(code, reason);
        }
        if !self.reads() {
            self.heard.0 = now; // its silence is our doing; the stall has its own deadline
        }
        let interval = self.interval();
        if now >= self.heard.0 + 2 * interval {
            count(&self.line.register.counters.silent_dropped);
            return self.fail(1011, "keepalive timeout");
        }
        if now >= self.pinged + interval {
            self.pinged = now;
            if !self.blocked {
                let pinged = self.codec.write(&mut self.line.wire, Message::Ping(Default::default()));
                self.written(pinged);
                let flushed = if self.phase == Phase::Open { self.codec.flush(&mut self.line.wire) } else { Ok(()) };
                self.written(flushed);
            }
        }
    }

    /// When a peer that takes nothing is dropped.
    fn stalls(&self) -> Duration {
        match (self.blocked, self.close_asked) {
            (false, _) => Duration::MAX,
            (true, None) => self.progress.0 + STALL,
            (true, Some(asked)) => (self.progress.0 + FAREWELL).min(asked + FAREWELL_WHOLE),
        }
    }

    fn interval(&self) -> Duration {
        self.line.register.settings.get().ping_interval.clamp(Duration::from_millis(1), Duration::from_secs(24 * 3600))
    }

    /// The next own deadline.
    fn due(&self) -> Duration {
        match self.phase {
            Phase::Over => Duration::ZERO,
            Phase::Closing(until) | Phase::Lingering(until) => until,
            Phase::Open => {
                let interval = self.interval();
                let expected = self.line.socket.expected().map_or(Duration::MAX, |(due, _)| due);
                let ends = self.line.socket.ends().map_or(Duration::MAX, |(due, ..)| due);
                expected.min(ends).min(self.stalls()).min(self.heard.0 + 2 * interval).min(self.pinged + interval)
            }
        }
    }

    fn wait(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let reads = self.reads();
        let idle = self.line.socket.sleep(self.blocked) && !(reads && self.left);
        let wait = if idle { self.due().saturating_sub(self.now()) } else { Duration::ZERO };
        let timeout = Timespec::try_from(wait).ok(); // a time beyond the kernel's own reckoning is no deadline
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, reads);
        wanted.set(PollFlags::OUT, self.blocked);
        let mut fds = [PollFd::new(&self.line.wire, wanted), PollFd::new(&*self.line.wake, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return,
            Err(e) => {
                log::error!(socket = self.line.socket.id(); "poll failed on a WebSocket: {e}");
                return self.phase = Phase::Over;
            }
        }
        let (socket, woken) = (fds[0].revents(), !fds[1].revents().is_empty());
        // A broken connection is found by reading, or by writing where nothing is read.
        self.readable = socket.intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP);
        if !socket.is_empty() && self.blocked {
            self.blocked = !socket.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP);
        }
        if woken {
            let _ = rustix::io::read(&*self.line.wake, &mut [0u8; 8]); // resets it; a failure means that it was reset
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.socket.end();
    }
}
