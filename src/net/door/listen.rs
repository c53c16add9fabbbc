//! The listening socket and the process's descriptors.
//!
//! Invariant: a listener given out is non-blocking and holds a burst of connections until the door comes to them. Fails with a
//! sentence and a hint where the address can't be had.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::remains::outlast;

/// Connections that the kernel holds for us; the standard library's 128 overflow in a burst, and the client then waits for a
/// second before it tries again.
const BACKLOG: i32 = 1024;
/// Descriptors that are left to everything but connections: the store, channels, providers.
const HEADROOM: u64 = 64;

/// Listens on `addr` (port 0: one that the system chooses).
///
/// # Errors
/// `Permanent`, with a hint, where the port is taken, not permitted, or the address is not this machine's.
pub fn bind(addr: SocketAddr) -> Result<TcpListener> {
    let listener =
        outlast(|| TcpListener::bind(addr), |e| e.kind() == io::ErrorKind::AddrInUse).map_err(|e| refused(addr, &e))?;
    rustix::net::listen(&listener, BACKLOG).map_err(|e| refused(addr, &e.into()))?;
    listener.set_nonblocking(true).map_err(|e| refused(addr, &e))?;
    Ok(listener)
}

/// The socket that a service manager listens on for us (systemd's socket activation), if it does: connections that come while the gateway
/// is not there wait in it. Programs that the gateway starts don't get it.
///
/// # Errors
/// `Permanent` where what was passed is no listening TCP socket.
pub fn adopt() -> Result<Option<TcpListener>> {
    let unfit = |e: io::Error| {
        Error::new(ErrorKind::Permanent, format!("the socket that was passed by the service manager can't be used: {e}"))
            .hint("the socket unit needs one ListenStream= with a port, and Accept=no")
    };
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(None);
    }
    let Some(listener) = passed.take_tcp_listener(0).map_err(unfit)? else { return Ok(None) };
    rustix::io::fcntl_setfd(&listener, FdFlags::CLOEXEC).map_err(|e| unfit(e.into()))?;
    listener.set_nonblocking(true).map_err(unfit)?;
    if passed.len() > 1 {
        log::warn!("{} sockets were passed by the service manager; the first is served, the others are not", passed.len());
    }
    Ok(Some(listener))
}

fn refused(addr: SocketAddr, e: &io::Error) -> Error {
    let (text, hint) = match e.kind() {
        io::ErrorKind::AddrInUse => (
            format!("another program listens on {addr} already"),
            "stop it (is it another gatelet?), or set gateway.listen to another port".to_string(),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on {addr}"),
            "use a port above 1023 in gateway.listen, or grant CAP_NET_BIND_SERVICE".to_string(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("this machine doesn't have the address {}", addr.ip()),
            "set gateway.listen to one of its addresses, to 127.0.0.1, or to 0.0.0.0 for all of them".to_string(),
        ),
        _ => (format!("can't listen on {addr}: {e}"), "check gateway.listen".to_string()),
    };
    Error::new(ErrorKind::Permanent, text).hint(hint)
}

/// Raises this process's limit of descriptors as far as it may go, and gives the limit that holds then. Called once, at start,
/// before threads and files; a refusal leaves the limit as it is, which costs connections, not correctness.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The connections that the descriptor limit leaves room for: all but [`HEADROOM`], or half where there are few.
pub(super) fn room_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit - HEADROOM.min(limit / 2)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        for (addr, text) in [
            (taken.local_addr().unwrap(), "another program listens on"),
            ("192.0.2.1:0".parse().unwrap(), "this machine doesn't have the address 192.0.2.1"),
        ] {
            let error = bind(addr).unwrap_err();
            assert!(error.text.starts_with(text) && error.hint.contains("gateway.listen"), "{error}");
        }
    }

    /// R1: what a killed gateway was about to start holds the port for a moment.
    #[test]
    fn a_port_that_is_freed_soon_is_waited_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let threads = crate::base::threads::Threads::new();
        let hold = move || {
            std::thread::park_timeout(std::time::Duration::from_millis(60));
            drop(taken);
        };
        threads.spawn_once("holder", crate::base::threads::STACK, hold).unwrap();
        assert_eq!(bind(addr).unwrap().local_addr().unwrap(), addr);
    }

    #[test]
    fn connections_leave_room_for_the_rest() {
        let limit = raise_descriptor_limit();
        let room = room_for_connections() as u64;
        assert!(room < limit && room > 0, "{room} of {limit}");
    }
}
