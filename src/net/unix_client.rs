//! The client's way to the local socket: ureq over a Unix socket.
//!
//! Invariant: connecting, sending and reading all have deadlines; an interrupt of the client wakes a blocked call. Fails with
//! the system's own error where the socket is absent or refuses.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::sockopt::{Timeout as Side, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};
use ureq::{Error, Timeout};

use crate::net::client::link;
use crate::net::client::socket::{SocketTransport, or_timeout};

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
    type Out = SocketTransport<UnixStream>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        link::connecting();
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io)?;
        // A full backlog blocks connect for as long as the send timeout says.
        set_socket_timeout(&socket, Side::Send, details.timeout.not_zero().map(|d| *d)).map_err(io)?;
        connect(&socket, &SocketAddrUnix::new(&self.path).map_err(io)?).map_err(|e| or_timeout(io_error(e), Timeout::Connect))?;
        Ok(Some(SocketTransport::new(UnixStream::from(socket), details)?))
    }
}

fn io_error(e: rustix::io::Errno) -> std::io::Error {
    e.into()
}

fn io(e: rustix::io::Errno) -> Error {
    Error::Io(e.into())
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
