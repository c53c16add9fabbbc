//! Names to addresses, within a deadline and remembered for a short time.
//!
//! Invariant: an address written in digits is never looked up; the system's resolver, which takes no deadline, runs on a named
//! thread that the caller leaves behind at its own deadline or when it is cancelled, and at most [`LOOKUPS_MAX`] such threads exist. Fails where the
//! name is unknown or the deadline is over; a failure is not remembered.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use crate::base::cache::Cache;
use crate::base::clock::Clock;
use crate::base::threads::{STACK, Threads};
use crate::net::client::link;

/// Lookups at a time; beyond them a call fails at once as if its deadline were over.
const LOOKUPS_MAX: usize = 8;
/// How long an answer is used. Short: addresses at home change when a router restarts.
const REMEMBERED: Duration = Duration::from_secs(30);
const NAMES_MAX: usize = 64;
const ADDRESSES_MAX: usize = 8;

/// The resolver.
#[derive(Debug)]
pub struct Names {
    known: Cache<Vec<SocketAddr>>,
    threads: Threads,
}

impl Names {
    /// A resolver that knows nothing yet.
    pub fn new() -> Self {
        Names { known: Cache::new(NAMES_MAX, Clock::system()), threads: Threads::new() }
    }

    /// The addresses of a name, asked of the system; ends early where the call that this thread is in is cancelled.
    ///
    /// # Errors
    /// Where the name is unknown, or was not found in time.
    pub fn look_up(&self, host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if self.threads.live() >= LOOKUPS_MAX {
            return Err(Error::Timeout(Timeout::Resolve));
        }
        let (tx, rx) = crossbeam_channel::bounded(2);
        let wake = tx.clone();
        let _guard = link::on_cancel(move || drop(wake.try_send(Ok(Vec::new()))));
        let target = (host.to_string(), port);
        let started = self.threads.spawn_once("resolve", STACK, move || {
            let _ = tx.send(target.to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>()));
        });
        started.map_err(|e| Error::Io(std::io::Error::other(e)))?;
        match rx.recv_timeout(*timeout.after) {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            Ok(_) => Err(Error::HostNotFound),
            Err(_) => Err(Error::Timeout(Timeout::Resolve)),
        }
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let host = uri.host().unwrap_or_default();
        let digits = host.trim_start_matches('[').trim_end_matches(']');
        let found = match digits.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => self.known.get(&format!("{host}:{port}"), || self.look_up(host, port, timeout).map(|a| (a, REMEMBERED)))?,
        };
        let mut addresses = self.empty();
        for address in found {
            addresses.push(address);
        }
        Ok(addresses)
    }
}
