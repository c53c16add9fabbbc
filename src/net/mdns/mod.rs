//! The gateway announced on the local network: `_gatelet._tcp.local` by multicast DNS (RFC 6762, RFC 6763), for clients that look for it.
//!
//! Ours, since a responder is small: `mdns-sd` makes a program that does nothing else 426 KB larger and brings 12 crates and a thread
//! that is not ours. It speaks over IPv4, whose multicast every link has, and names IPv6 addresses too. It leaves to others what only the
//! machine's own responder can do (questions by unicast and from other ports, negative answers).
//!
//! Invariant: what is told is the host's name, the port, the version and `/`: nothing that is not open at `GET /health`. A gateway that
//! only this machine reaches is not announced. Switched off, there is no thread and no socket; switched on and unasked, the thread wakes
//! once in a while. A flood costs a bounded share of time. Where the network refuses, it is logged and tried again.

mod links;
mod responder;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::base::clock::Clock;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::net::mdns::links::Link;
use crate::net::mdns::responder::{Responder, Say};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// How often it is looked which links there are.
const LOOK: Duration = Duration::from_secs(30);
/// Packets taken in at a time, and the rest after so many: a flood is left to the kernel to drop.
const BATCH: usize = 16;
const REST: Duration = Duration::from_millis(50);
/// The longest packet (RFC 6762, 17).
const PACKET_MAX: usize = 9000;

/// What announces the gateway, while it is switched on.
pub struct Announcer {
    listen: SocketAddr,
    clock: Clock,
    threads: Threads,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Stop,
    bell: Arc<OwnedFd>,
}

impl Announcer {
    /// One for a gateway that listens on `listen`; switched off.
    pub fn new(listen: SocketAddr, clock: Clock, threads: Threads) -> Self {
        Announcer { listen, clock, threads, running: Mutex::new(None) }
    }

    /// Switches it on or off. Off, the last word is said by its thread on its way out. What fails is logged.
    pub fn set(&self, on: bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match (on, running.take()) {
            (true, None) => *running = self.start(),
            (false, Some(was)) => {
                was.stop.set();
                let _ = rustix::io::write(&was.bell, &1u64.to_ne_bytes()); // a full counter wakes as well
            }
            (_, same) => *running = same,
        }
    }

    fn start(&self) -> Option<Running> {
        if self.listen.ip().to_canonical().is_loopback() {
            log::warn!("gateway.mdns: nothing is announced, since {} is reached from this machine alone", self.listen);
            return None;
        }
        let refused = |e: &dyn std::fmt::Display| log::error!("gateway.mdns: nothing is announced: {e}");
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new).inspect_err(|e| refused(e)).ok()?;
        let stop = Stop::new();
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (listen, clock, bell_there, stop_there) = (self.listen, self.clock.clone(), bell.clone(), stop.clone());
        let work = move || Line::new(listen, &node, &clock, &bell_there, &stop_there).serve();
        self.threads.spawn("mdns", STACK, &stop, work).inspect_err(|e| refused(e)).ok()?;
        Some(Running { stop, bell })
    }
}

/// The thread's own.
struct Line<'a> {
    listen: SocketAddr,
    clock: &'a Clock,
    bell: &'a OwnedFd,
    stop: &'a Stop,
    responder: Responder,
    links: Vec<Link>,
    socket: Option<UdpSocket>,
    /// Whether it is told already that the network refuses.
    is_refused: bool,
}

impl<'a> Line<'a> {
    fn new(listen: SocketAddr, node: &str, clock: &'a Clock, bell: &'a OwnedFd, stop: &'a Stop) -> Self {
        let responder = Responder::new(node, listen.port(), env!("CARGO_PKG_VERSION"), clock.mono());
        Line { listen, clock, bell, stop, responder, links: Vec::new(), socket: None, is_refused: false }
    }

    fn serve(&mut self) {
        let mut look_at = self.clock.mono();
        while !self.stop.is_set() {
            let now = self.clock.mono();
            if now >= look_at {
                self.look(now);
                look_at = now + LOOK;
            }
            while let Some(say) = self.responder.tick(now).filter(|_| self.socket.is_some()) {
                self.say(say);
            }
            let next = self.responder.deadline().filter(|_| self.socket.is_some());
            let is_full = self.wait(next.map_or(look_at, |next| next.min(look_at)), true) && self.take_in();
            if is_full {
                self.wait(self.clock.mono() + REST, false);
            }
        }
        if let Some(goodbye) = self.responder.goodbye() {
            self.say(goodbye);
        }
    }

    /// Waits until `until`, or the bell rings, or a packet is there (true).
    fn wait(&self, until: Duration, for_packets: bool) -> bool {
        let timeout = Timespec::try_from(until.saturating_sub(self.clock.mono())).ok();
        let mut fds = vec![PollFd::new(self.bell, PollFlags::IN)];
        fds.extend(self.socket.as_ref().filter(|_| for_packets).map(|socket| PollFd::new(socket, PollFlags::IN)));
        poll(&mut fds, timeout.as_ref()).is_ok() && fds.get(1).is_some_and(|fd| !fd.revents().is_empty())
    }

    /// Takes in what is there; true where more may be.
    fn take_in(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut packet = [0; PACKET_MAX];
        for _ in 0..BATCH {
            match socket.recv_from(&mut packet) {
                // From another port come questions of those who don't listen to answers for all.
                Ok((n, from)) if from.port() == PORT => self.responder.hear(self.clock.mono(), &packet[..n]),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => return true, // a link that went, say: not at once again
            }
        }
        true
    }

    fn say(&self, what: Say) {
        let Some(socket) = &self.socket else { return };
        for link in &self.links {
            let sent = sockopt::set_ip_multicast_if(socket, &link.via)
                .map_err(io::Error::from)
                .and_then(|()| socket.send_to(&self.responder.packet(what, link), (GROUP, PORT)));
            if let Err(e) = sent {
                log::debug!("mDNS over {}: {e}", link.via); // the link is going, or full: others ask again
            }
        }
    }

    /// Looks which links there are; a new one, or a changed address, is announced from the beginning.
    fn look(&mut self, now: Duration) {
        let links = links::now(self.listen.ip());
        if links == self.links && (self.socket.is_some() || links.is_empty()) {
            return;
        }
        match open(&links) {
            Ok(socket) => (self.socket, self.is_refused) = (Some(socket), false),
            Err(e) => {
                self.socket = None;
                if !std::mem::replace(&mut self.is_refused, true) {
                    log::warn!("gateway.mdns: nothing can be announced now: {e}; it is tried again");
                }
                return;
            }
        }
        self.links = links;
        self.responder.begin(now);
        log::info!("on {} links it is announced as {}", self.links.len(), self.responder.label());
    }
}

/// The socket that hears and speaks on these links: of multicast alone, so that nobody from further away is heard.
fn open(links: &[Link]) -> io::Result<UdpSocket> {
    let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?; // the machine's own responder has the port, too
    bind(&fd, &SocketAddrV4::new(GROUP, PORT))?;
    let socket = UdpSocket::from(fd);
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_loop_v4(true)?;
    let mut joined = 0;
    for link in links {
        match socket.join_multicast_v4(&GROUP, &link.via) {
            Ok(()) => joined += 1,
            Err(e) => log::debug!("mDNS over {}: {e}", link.via),
        }
    }
    if joined == 0 && !links.is_empty() {
        return Err(io::Error::other("no link takes part in multicast"));
    }
    Ok(socket)
}
