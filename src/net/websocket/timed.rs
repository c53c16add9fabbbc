//! A stream that waits, but never beyond a deadline: what WebSocket clients read and write.
//!
//! Invariant: it blocks in `poll` alone. Fails with `WouldBlock` at its deadline, else as the system does; a part that was read or
//! written before is not lost.

use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::clock::Clock;

/// A non-blocking stream that waits until its deadline, then says `WouldBlock`.
#[derive(Debug)]
pub struct Timed {
    /// The stream, set not to block.
    pub stream: TcpStream,
    /// The deadline's clock.
    pub clock: Clock,
    /// Until when it waits, on that clock.
    pub deadline: Duration,
}

impl Timed {
    /// Waits at most this long from now on.
    pub fn allow(&mut self, timeout: Duration) {
        self.deadline = self.clock.mono().saturating_add(timeout);
    }

    fn wait(&self, for_what: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_sub(self.clock.mono());
        if left.is_zero() {
            return Err(IoKind::WouldBlock.into());
        }
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&self.stream, for_what)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn retry(&mut self, for_what: PollFlags, mut work: impl FnMut(&mut TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match work(&mut self.stream) {
                Err(e) if e.kind() == IoKind::WouldBlock => self.wait(for_what)?,
                Err(e) if e.kind() == IoKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.retry(PollFlags::IN, |s| s.read(buf))
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, |s| s.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
