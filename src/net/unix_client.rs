//! The client's way to the local socket: ureq over a Unix socket.
//!
//! Invariant: connecting, sending and reading all have deadlines; an interrupt of the client wakes a blocked call. Fails with
//! the system's own error where the socket is absent or refuses.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::sockopt::{Timeout as Side, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport};
use ureq::{Error, Timeout};

use crate::net::client::link;

/// Opens connections to one Unix socket, whatever host a URL names.
#[derive(Debug)]
pub struct UnixWire {
    path: PathBuf,
}

impl UnixWire {
    /// For the socket at `path`.
    pub fn new(path: PathBuf) -> Self {
        UnixWire { path }
    }
}

impl Connector for UnixWire {
    type Out = UnixTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<UnixTransport>, Error> {
        link::connecting();
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io)?;
        // A full backlog blocks connect for as long as the send timeout says.
        set_socket_timeout(&socket, Side::Send, details.timeout.not_zero().map(|d| *d)).map_err(io)?;
        connect(&socket, &SocketAddrUnix::new(&self.path).map_err(io)?).map_err(|e| or_timeout(io_error(e), Timeout::Connect))?;
        let stream = Arc::new(Socket(UnixStream::from(socket)));
        (details.register_shutdown)(Arc::downgrade(&stream) as Weak<dyn ShutdownHandle>)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers }))
    }
}

fn io_error(e: rustix::io::Errno) -> std::io::Error {
    e.into()
}

fn io(e: rustix::io::Errno) -> Error {
    Error::Io(e.into())
}

fn or_timeout(e: std::io::Error, reason: Timeout) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(e),
    }
}

#[derive(Debug)]
struct Socket(UnixStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both); // already closed is as good
    }
}

/// One connection.
#[derive(Debug)]
pub struct UnixTransport {
    stream: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.0.set_write_timeout(limit(timeout))?;
        (&self.stream.0).write_all(&self.buffers.output()[..amount]).map_err(|e| or_timeout(e, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = link::limited(timeout).for_read();
        self.stream.0.set_read_timeout(limit(timeout))?;
        let read = loop {
            match (&self.stream.0).read(self.buffers.input_append_buf()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(|e| or_timeout(e, timeout.reason))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        let idle = self.stream.0.set_nonblocking(true).is_ok()
            && matches!((&self.stream.0).read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
        idle && self.stream.0.set_nonblocking(false).is_ok()
    }
}

fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|d| *d)
}

/// A resolver for where there is nothing to look up.
#[derive(Debug)]
pub struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut one = self.empty();
        one.push(([127, 0, 0, 1], 0).into()); // ureq wants one; UnixWire does not look at it
        Ok(one)
    }
}
