//! Taking connections in.
//!
//! Invariant: nothing that `accept` returns ends the door; a flood of comers is taken in batches, between which those who have a
//! place are served. An error that would come back at once (no descriptors, say) pauses accepting, without a spin.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};

use crate::base::ids::new_id;
use crate::net::door::admit::{Verdict, household};
use crate::net::door::conn::Conn;
use crate::net::door::head::Persist;
use crate::net::door::reply::{Asked, Line, write_now};
use crate::net::door::run::{Armed, LISTENER, Loop, Slot};
use crate::net::door::slab::Key;
use crate::net::http::Service;

/// Connections taken in at one pass.
const BATCH: usize = 64;
/// Accepting pauses for so long after an error that is not the comer's own.
const PAUSE: Duration = Duration::from_millis(50);
/// Such errors are logged at most this often.
const LOG_PAUSE: Duration = Duration::from_secs(1);

impl<S: Service> Loop<S> {
    /// Takes in who waits.
    pub fn accept(&mut self) {
        if self.accept_at.take_if(|at| *at <= self.now).is_some() {
            let Some(listener) = &self.listener else { return };
            let data = epoll::EventData::new_u64(LISTENER);
            if let Err(e) = epoll::add(&self.epoll, listener, data, epoll::EventFlags::IN) {
                return self.accept_failed(e);
            }
        }
        if self.accept_at.is_some() {
            return;
        }
        for _ in 0..BATCH {
            let Some(listener) = &self.listener else { return };
            match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => self.welcome(fd, peer),
                Err(Errno::AGAIN) => return,
                // The comer's own trouble: the next one may have none.
                Err(Errno::INTR) => {}
                Err(
                    Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::NONET
                    | Errno::NOPROTOOPT
                    | Errno::OPNOTSUPP,
                ) => drop(self.core.counters.accept_errors.fetch_add(1, Ordering::Relaxed)),
                Err(e) => return self.accept_failed(e),
            }
        }
    }

    /// Pauses. Where descriptors ran out, one connection that waits for nothing better gives its own back.
    fn accept_failed(&mut self, e: Errno) {
        self.core.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
        if self.logged_at.is_none_or(|at| self.now >= at + LOG_PAUSE) {
            self.logged_at = Some(self.now);
            log::warn!("connections can't be accepted for now: {e} ({} are open)", self.slots.len());
        }
        if matches!(e, Errno::MFILE | Errno::NFILE)
            && let Verdict::Evict(victim) = self.admission.turn_out(self.places(), self.now, &self.slots)
        {
            self.evict(victim);
        }
        if let Some(listener) = &self.listener {
            let _ = epoll::delete(&self.epoll, listener); // absent where adding it is what failed
            self.accept_at = Some(self.now + PAUSE);
        }
    }

    fn places(&self) -> usize {
        self.limits.max_connections.clamp(1, self.room)
    }

    fn evict(&mut self, victim: Key) {
        self.core.counters.evicted.fetch_add(1, Ordering::Relaxed);
        self.drop_slot(victim);
    }

    fn welcome(&mut self, fd: OwnedFd, peer: Option<SocketAddrAny>) {
        self.core.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.now = self.core.clock.mono(); // a batch of comers takes its time
        let stream = TcpStream::from(fd);
        // A peer without an address is gone already.
        let Some(peer) = peer.and_then(|p| SocketAddr::try_from(p).ok()) else { return };
        let address = household(peer.ip());
        match self.admission.admit(address, self.slots.len(), self.places(), self.now, &self.slots) {
            Verdict::Free => {}
            Verdict::Evict(victim) => self.evict(victim),
            Verdict::Refuse => return self.turn_away(&stream),
        }
        let _ = stream.set_nodelay(true); // a socket that is broken already shows it at the first read
        let local = if self.local.is_unspecified() { stream.local_addr().map_or(self.local, |a| a.ip()) } else { self.local };
        self.seat(stream, peer.ip(), local, address);
    }

    fn seat(&mut self, stream: TcpStream, ip: IpAddr, local: IpAddr, address: IpAddr) {
        let key = self.slots.insert(|_| Slot {
            line: Arc::new(Line::new(stream)),
            conn: Conn::new(self.now),
            ip: ip.to_canonical(),
            local: local.to_canonical(),
            address,
            armed: Armed::No,
            pending: None,
            stream: None,
        });
        self.admission.opened(address);
        self.core.counters.open.store(self.slots.len(), Ordering::Relaxed);
        self.note(Some(self.now + self.limits.request_timeout));
        self.arm(key, Armed::Read);
    }

    /// Says that there is no place: one write, one read of what the comer sent meanwhile, closed.
    fn turn_away(&mut self, stream: &TcpStream) {
        self.core.counters.refused.fetch_add(1, Ordering::Relaxed);
        let request_id = new_id("req", self.core.clock.unix_ms());
        let received = self.core.clock.mono();
        let asked = Asked { method: "", path: "", request_id: &request_id, received, persist: Persist::Close, modern: true };
        let mut out = Vec::new();
        self.core.render(&mut out, &asked, &self.core.refusal(503, "", &request_id));
        if write_now(stream, &out).is_some() {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::Read::read(&mut &*stream, &mut self.scratch);
        }
    }
}
