//! Connections for calls whose address somebody else chose: opened where the address is allowed, and nowhere else.
//!
//! Invariant: what is checked is the very address that is connected to; between the two nothing is looked up again. One address
//! of several that is not allowed spoils them all: a name that leads here and elsewhere is a trick. It fails with
//! [`NotAllowed`], before a packet leaves.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ureq::Error;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

use super::link::{self, Wire};

/// Says whether an address may be connected to.
pub type Check = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// Why nothing was connected to.
#[derive(Debug)]
pub struct NotAllowed;

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is not allowed")
    }
}

impl std::error::Error for NotAllowed {}

/// A `Wire` behind a check.
pub struct GuardedWire {
    wire: Wire,
    check: Check,
}

impl fmt::Debug for GuardedWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedWire").finish_non_exhaustive()
    }
}

impl GuardedWire {
    /// One that connects where `check` says yes.
    pub fn new(check: Check) -> Self {
        GuardedWire { wire: Wire::default(), check }
    }
}

impl Connector for GuardedWire {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        link::connecting();
        if !details.addrs.iter().all(|address| (self.check)(*address)) {
            return Err(Error::Other(Box::new(NotAllowed)));
        }
        self.wire.connect(details, None)
    }
}

#[cfg(test)]
mod tests;
