//! The bench that these tests share: a registry, peers over loopback TCP, handlers that tell what they saw.

mod bounds;
mod frames;
mod life;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::*;

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(20);
pub const INTERVAL: Duration = Duration::from_secs(30);

/// A registry with its parts.
pub struct Bench {
    pub clock: Clock,
    pub threads: Threads,
    pub sockets: Sockets,
}

impl Bench {
    pub fn new(clock: Clock, open_max: usize) -> Self {
        let threads = Threads::new();
        let sockets = Sockets::new(clock.clone(), threads.clone(), Settings { open_max, ping_interval: INTERVAL });
        Bench { clock, threads, sockets }
    }

    pub fn real() -> Self {
        Bench::new(Clock::system(), 1000)
    }

    /// A clock that the test moves: the only deadlines are those it comes to.
    pub fn still() -> Self {
        Bench::new(Clock::manual(0), 1000)
    }

    /// A socket served by `handler`, and its peer's end.
    pub fn start(&self, handler: impl Handler + 'static) -> (Socket, Peer) {
        let (ours, theirs) = pair();
        let slot = self.sockets.reserve().unwrap();
        let socket = self.sockets.start(slot, ours, Vec::new(), Vec::new(), Box::new(handler)).unwrap();
        (socket, Peer::new(theirs))
    }

    /// A socket whose events can be read.
    pub fn watched(&self) -> (Socket, Peer, Receiver<Event>) {
        let (handler, events) = Watch::new();
        let (socket, peer) = self.start(handler);
        assert_eq!(next(&events), Event::Opened);
        (socket, peer, events)
    }

    /// Moves the clock and lets all threads see it.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.sockets.all().iter().for_each(Socket::refresh);
    }

    /// All threads have ended, and nothing of any socket is left.
    pub fn is_empty(&self) -> bool {
        self.threads.live() == 0 && self.sockets.open() == 0 && self.sockets.0.places.load(Ordering::SeqCst) == 0
    }
}

/// Both ends of a connection.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    theirs.set_write_timeout(Some(LONG)).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

/// The client's end: whole messages, or raw bytes.
pub struct Peer(pub WebSocket<TcpStream>);

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        Peer(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// Makes the kernel hold little of what it doesn't read.
    pub fn takes_little(&mut self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(self.stream(), 16 * 1024).unwrap();
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next text.
    pub fn text(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return text.as_str().to_string(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The code that the socket is closed with, after whatever else comes; `None` where it just ends.
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|f| f.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads raw bytes to the end of the connection.
    pub fn drained(&mut self) -> usize {
        let (mut scratch, mut all) = ([0; 65536], 0);
        while let Ok(n @ 1..) = self.stream().read(&mut scratch) {
            all += n;
        }
        all
    }
}

/// A client's frame: first byte, payload; masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..126 => bytes.push(0x80 | n as u8),
        n @ 126..65536 => bytes.extend([0x80 | 126, (n >> 8) as u8, n as u8]),
        n => {
            bytes.push(0x80 | 127);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    let mask = [0x11, 0x22, 0x33, 0x44];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// What a handler saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Opened,
    Text(String),
    Closed,
}

/// Tells what it sees.
pub struct Watch(Sender<Event>);

impl Watch {
    pub fn new() -> (Self, Receiver<Event>) {
        let (tx, rx) = unbounded();
        (Watch(tx), rx)
    }
}

impl Handler for Watch {
    fn opened(&mut self, _: &Socket) {
        let _ = self.0.send(Event::Opened);
    }

    fn text(&mut self, text: &str) {
        let _ = self.0.send(Event::Text(text.to_string()));
    }

    fn closed(&mut self) {
        let _ = self.0.send(Event::Closed);
    }
}

/// Sends back what comes.
#[derive(Default)]
pub struct Echo(Option<Socket>);

impl Handler for Echo {
    fn opened(&mut self, socket: &Socket) {
        self.0 = Some(socket.clone());
    }

    fn text(&mut self, text: &str) {
        self.0.as_ref().unwrap().send(text);
    }

    fn closed(&mut self) {}
}

/// The next event.
pub fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(LONG).unwrap()
}

/// Sends until `bytes` wait: the kernel takes no more.
pub fn fill(socket: &Socket, bytes: usize) {
    let text: Arc<str> = "x".repeat(50_000).into();
    eventually("the kernel is full", || {
        if socket.room() > QUEUE_BYTES - bytes {
            assert!(socket.send(text.clone()));
        }
        socket.room() <= QUEUE_BYTES - bytes
    });
}

/// Waits until `done`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = crossbeam_channel::after(LONG);
    while !done() {
        assert!(deadline.try_recv().is_err(), "never came true: {what}");
        let _ = crossbeam_channel::after(Duration::from_millis(1)).recv();
    }
}
