//! Sockets under a call: a transport over any of them, and connecting over TCP in a way that can be cut short.
//!
//! Invariant: connecting, sending and reading all have deadlines; an interrupt of the client wakes what blocks on a connection,
//! the call's cancellation also what still connects. Fails with the system's own error.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle, Transport};
use ureq::{Error, Timeout};

use crate::base::clock::Clock;
use crate::net::client::link;

/// A connected socket that blocks.
pub trait Socket: fmt::Debug + Send + Sync + 'static {
    /// Reads some bytes, within that time.
    fn read_within(&self, buffer: &mut [u8], limit: Option<Duration>) -> io::Result<usize>;
    /// Writes all, each write within that time.
    fn write_within(&self, bytes: &[u8], limit: Option<Duration>) -> io::Result<()>;
    /// Whether the peer neither closed it nor said anything unasked.
    fn is_idle(&self) -> bool;
    /// Ends both directions: whoever blocks on it returns.
    fn cut(&self);
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn read_within(&self, buffer: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
                self.set_read_timeout(limit)?;
                let mut stream = self;
                loop {
                    match stream.read(buffer) {
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        read => return read,
                    }
                }
            }

            fn write_within(&self, bytes: &[u8], limit: Option<Duration>) -> io::Result<()> {
                self.set_write_timeout(limit)?;
                let mut stream = self;
                stream.write_all(bytes)
            }

            fn is_idle(&self) -> bool {
                let mut stream = self;
                let is_silent = self.set_nonblocking(true).is_ok()
                    && matches!(stream.read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
                is_silent && self.set_nonblocking(false).is_ok()
            }

            fn cut(&self) {
                let _ = self.shutdown(std::net::Shutdown::Both); // already closed is as good
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A socket as ureq shuts it down.
#[derive(Debug)]
struct Shared<S>(S);

impl<S: Socket> ShutdownHandle for Shared<S> {
    fn shutdown(&self) {
        self.0.cut();
    }
}

/// One connection.
#[derive(Debug)]
pub struct SocketTransport<S> {
    socket: Arc<Shared<S>>,
    buffers: LazyBuffers,
}

impl<S: Socket> SocketTransport<S> {
    /// A transport over a socket, known to the client's interrupt.
    pub fn new(socket: S, details: &ConnectionDetails) -> Result<Self, Error> {
        let socket = Arc::new(Shared(socket));
        let transport = SocketTransport {
            buffers: LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size()),
            socket,
        };
        (details.register_shutdown)(transport.handle())?;
        Ok(transport)
    }

    /// What shuts it down from another thread.
    pub fn handle(&self) -> Weak<dyn ShutdownHandle> {
        Arc::downgrade(&self.socket) as Weak<dyn ShutdownHandle>
    }
}

impl<S: Socket> Transport for SocketTransport<S> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let output = &self.buffers.output()[..amount];
        self.socket.0.write_within(output, limit(timeout)).map_err(|e| or_timeout(e, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = link::limited(timeout).for_read();
        let read = self.socket.0.read_within(self.buffers.input_append_buf(), limit(timeout));
        let read = read.map_err(|e| or_timeout(e, timeout.reason))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.socket.0.is_idle()
    }
}

fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|d| *d)
}

/// An error of the system, or that the time was over.
pub fn or_timeout(e: io::Error, reason: Timeout) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(e),
    }
}

/// Connects to the first of these addresses that takes it. Each but the last may use half of the time that is left.
pub fn open(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
    let (clock, within) = (Clock::system(), limit(timeout));
    let mut last = Error::Io(ErrorKind::AddrNotAvailable.into());
    for (i, address) in addresses.iter().enumerate() {
        let left = within.map(|w| w.saturating_sub(clock.mono()));
        let share = if i + 1 < addresses.len() { left.map(|l| l / 2) } else { left };
        match open_one(*address, share, &clock) {
            Ok(stream) => return Ok(stream),
            Err(e) if e.kind() == ErrorKind::TimedOut => last = Error::Timeout(timeout.reason),
            // The call was cut short: no other address is tried.
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => return Err(Error::Io(e)),
            Err(e) => last = Error::Io(e),
        }
    }
    Err(last)
}

fn open_one(address: SocketAddr, within: Option<Duration>, clock: &Clock) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait(&socket, within, clock)?,
        Err(e) => return Err(e.into()),
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until `socket` is connected, or failed to be.
fn wait(socket: &OwnedFd, within: Option<Duration>, clock: &Clock) -> io::Result<()> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let ringing = bell.clone();
    let _guard = link::on_cancel(move || {
        let _ = rustix::io::write(&*ringing, &1u64.to_ne_bytes()); // an eventfd that is full rings as well
    });
    let until = within.map(|w| clock.mono() + w);
    loop {
        let left = until.map(|u| u.saturating_sub(clock.mono()));
        if left.is_some_and(|l| l.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut both = [PollFd::new(socket, PollFlags::OUT), PollFd::new(&*bell, PollFlags::IN)];
        let left = left.and_then(|l| Timespec::try_from(l).ok());
        match poll(&mut both, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) if !both[1].revents().is_empty() => return Err(ErrorKind::ConnectionAborted.into()),
            Ok(_) if !both[0].revents().is_empty() => return Ok(()),
            Ok(_) => {} // the time is looked at above
        }
    }
}
