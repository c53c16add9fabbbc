//! The thread between the pipes and those who wait: it waits for all of a server's streams at once.
//!
//! Invariant: nobody else touches the streams, and it never blocks but in `poll`. A message that is no answer leaves nothing behind;
//! a server that floods us with such is read in portions. Ends, and everybody who waits with it, where the server closes its output,
//! sends a line beyond the bound, babbles, or takes nothing for too long.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::Value;

use crate::agent::mcp::pipes::{Ends, Pipes, REPLY_BYTES_MAX};
use crate::agent::mcp::text::Stderr;
use crate::agent::mcp::wire::{self, Lines, MESSAGE_BYTES_MAX, Refusal, Said};
use crate::base::error::{Error, ErrorKind};

/// How long a server may leave its input unread while something waits.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Lines in a row that are no messages, before it is taken for something else than an MCP server.
const GARBAGE_MAX: u32 = 100;
/// Messages that are no answers, within a second in which nobody waits; what is beyond stays unread until the next second.
const FLOOD_MAX: u32 = 1000;
const FLOOD_WINDOW: Duration = Duration::from_secs(1);

/// What it ends with.
type Over = &'static str;

/// The thread's state.
pub struct Pump {
    pipes: Arc<Pipes>,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    log: Stderr,
    lines: Lines,
    garbage: u32,
    /// When the window of messages began that are no answers, and how many came in it.
    flood: (Duration, u32),
    /// Since when something waits to be written and nothing was taken.
    stuck: Option<Duration>,
}

/// Which streams have something for us.
struct Ready {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Pump {
    /// A pump between `ends` and `pipes`.
    pub fn new(pipes: Arc<Pipes>, ends: Ends, log: Stderr) -> Self {
        let Ends { stdin, stdout, stderr } = ends;
        let (lines, garbage, flood, stuck) = (Lines::default(), 0, (Duration::ZERO, 0), None);
        Pump { pipes, stdin: Some(stdin), stdout, stderr, log, lines, garbage, flood, stuck }
    }

    /// Runs until it is over.
    pub fn run(mut self) {
        let end = OnEnd(self.pipes.clone());
        let mut buffer = vec![0u8; 16 * 1024];
        let why = loop {
            if let Err(why) = self.turn(&mut buffer) {
                break why;
            }
        };
        self.read_stderr(&mut buffer); // its last words
        self.log.end_line();
        self.pipes.calls.end(Error::new(ErrorKind::Transient, why));
        drop(end);
    }

    fn turn(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        let ready = self.wait()?;
        if ready.stderr {
            self.read_stderr(buffer);
        }
        if ready.stdin {
            self.write()?;
        }
        if ready.stdout {
            match read(&self.stdout, buffer) {
                Ok(0) => return Err("it ended"),
                Ok(n) => self.take(&buffer[..n])?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err("its output broke off"),
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<Ready, Over> {
        let (writes, closed, left) = {
            let out = self.pipes.lock();
            (!out.queue.is_empty(), out.closed, out.left)
        };
        if left {
            return Err("it was ended");
        }
        if closed {
            self.stdin = None;
        }
        let now = self.pipes.clock.mono();
        let writes = writes && self.stdin.is_some();
        self.stuck = writes.then(|| self.stuck.unwrap_or(now));
        let stall = self.stuck.map(|since| (since + STALL_MAX).saturating_sub(now));
        if stall.is_some_and(|left| left.is_zero()) {
            return Err("it does not read its input");
        }
        let paused = self.paused(now);
        self.poll(writes, paused.is_none(), [stall, paused].into_iter().flatten().min())
    }

    fn poll(&self, writes: bool, reads: bool, at_most: Option<Duration>) -> Result<Ready, Over> {
        // In the place of a stream that is of no interest stands the bell: `poll` tells errors of all that it is given.
        let bell = self.pipes.bell.as_fd();
        let stdin = self.stdin.as_ref().filter(|_| writes);
        let streams = [None, stdin, Some(&self.stdout).filter(|_| reads), self.stderr.as_ref()];
        let flags = |i| if i == 1 && stdin.is_some() { PollFlags::OUT } else { PollFlags::IN };
        let place = |i: usize| PollFd::from_borrowed_fd(streams[i].map_or(bell, |fd| fd.as_fd()), flags(i));
        let mut fds = [place(0), place(1), place(2), place(3)];
        let timeout = at_most.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return Err("the system refused to wait for it"),
        }
        let ready = |i: usize| !fds[i].revents().is_empty();
        if ready(0) {
            let _ = rustix::io::read(bell, &mut [0u8; 8]); // it rang; what for is seen in the next turn
        }
        Ok(Ready { stdin: stdin.is_some() && ready(1), stdout: reads && ready(2), stderr: self.stderr.is_some() && ready(3) })
    }

    /// How long the server's output is left unread, because it floods us while nobody waits for it.
    fn paused(&mut self, now: Duration) -> Option<Duration> {
        let ends = self.flood.0 + FLOOD_WINDOW;
        if now >= ends {
            self.flood = (now, 0);
        }
        let floods = self.flood.1 > FLOOD_MAX && self.pipes.calls.is_idle();
        floods.then(|| ends.saturating_sub(now).max(Duration::from_millis(1)))
    }

    fn read_stderr(&mut self, buffer: &mut [u8]) {
        let Some(stderr) = &self.stderr else { return };
        match read(stderr, buffer) {
            Ok(0) => self.stderr = None,
            Ok(n) => self.log.feed(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.stderr = None,
        }
    }

    fn write(&mut self) -> Result<(), Over> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        let mut out = self.pipes.lock();
        while let Some((_, line)) = out.queue.front() {
            match rustix::io::write(stdin, &line[out.written..]) {
                Ok(n) => {
                    self.stuck = None;
                    out.written += n;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(_) => return Err("it closed its input"),
            }
            if out.queue.front().is_some_and(|(_, line)| out.written == line.len()) {
                let line = out.queue.pop_front();
                out.bytes -= line.map_or(0, |(_, line)| line.len());
                out.written = 0;
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let mut lines = std::mem::take(&mut self.lines);
        let mut outcome = Ok(());
        let fed = lines.feed(bytes, MESSAGE_BYTES_MAX, |line| {
            if outcome.is_ok() {
                outcome = self.line(line);
            }
        });
        self.lines = lines;
        outcome?;
        fed.map_err(|_| "it sent a line beyond all bounds")
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Over> {
        let Ok(all) = wire::read(line) else {
            self.garbage += 1;
            log::debug!(
                "a line of an MCP server's output is no message: {}",
                String::from_utf8_lossy(&line[..line.len().min(100)]).escape_debug()
            );
            return if self.garbage > GARBAGE_MAX { Err("it does not speak MCP") } else { Ok(()) };
        };
        self.garbage = 0;
        for said in all {
            self.said(said);
        }
        Ok(())
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Answer { id, result } => {
                if self.pipes.calls.answer(id, result) {
                    return;
                }
                self.unsubscribed(id); // else it comes too late, or answers nothing that we asked
            }
            Said::Asks { id, method } => {
                let _ = self.pipes.put(None, wire::reply(&id, &method), REPLY_BYTES_MAX); // who doesn't read gets no answer
            }
            Said::Tells { method, params } => match method.as_str() {
                "notifications/tools/list_changed" => self.pipes.signals.changed(),
                "notifications/cancelled" => {
                    if let Some(id) = params.get("requestId").and_then(Value::as_u64) {
                        self.unsubscribed(id);
                    }
                }
                _ => {}
            },
            Said::Blames(Refusal { code, message, .. }) => {
                log::debug!(code; "an MCP server could not read what it was sent: {}", super::text::one_line(&message, 200));
            }
        }
        self.flood.1 = self.flood.1.saturating_add(1);
    }

    /// Notes that the server tells no changes any more, if that was the request.
    fn unsubscribed(&self, id: u64) {
        let mut out = self.pipes.lock();
        if out.subscription == Some(id) {
            out.subscription = None;
            log::debug!("an MCP server tells no changes of its tools any more");
        }
    }
}

/// Reads what is there.
fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(fd, buffer)
}

/// Fails all who wait when the thread ends, also where it panicked.
struct OnEnd(Arc<Pipes>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.calls.end(Error::new(ErrorKind::Transient, "its connection broke off")); // the first reason stays
        self.0.signals.ring();
    }
}
