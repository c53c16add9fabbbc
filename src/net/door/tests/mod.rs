//! The door as its clients see it: raw bytes over loopback, against a service made for tests.
//!
//! Invariant: ports are the system's choice, every read has a deadline, and nothing waits by sleeping where it can wait for an
//! event.

mod faults;
mod http;
mod places;
mod responders;
mod streams;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use super::*;
use crate::net::http::{Head, Lane, Plan, Request, Responder, Response, Served};

const PATIENCE: Duration = Duration::from_secs(10);

/// A service whose paths are behaviours.
#[derive(Default)]
struct Toy {
    parked: Mutex<Vec<Responder>>,
    seen: Mutex<Vec<String>>,
    served: Mutex<Vec<(String, u16)>>,
    gate: Mutex<Option<crossbeam_channel::Receiver<()>>>,
}

impl Service for Toy {
    type Context = &'static str;

    fn plan(&self, head: &Head) -> Plan<&'static str> {
        self.seen.lock().unwrap().push(format!("{} {}", head.method, head.path));
        let read = |context, lane| Plan::Read { context, body_max: 1 << 20, lane };
        match head.path.as_str() {
            "/quick" => read("quick", Lane::Quick),
            "/work" => read("work", Lane::Work),
            "/gated" => read("gated", Lane::Work),
            "/echo" => read("echo", Lane::Quick),
            "/small" => Plan::Read { context: "echo", body_max: 10, lane: Lane::Quick },
            "/park" => read("park", Lane::Quick),
            "/drop" => read("drop", Lane::Work),
            "/big" => read("big", Lane::Quick),
            "/where" => read("where", Lane::Quick),
            "/panic-quick" => read("panic", Lane::Quick),
            "/panic-work" => read("panic", Lane::Work),
            "/panic-plan" => panic!("a panic for the test"),
            "/upgrade" => Plan::Upgrade("upgrade"),
            "/deny" => Plan::Answer(Response::new(401, "text/plain", &b"deny"[..])),
            _ => Plan::Answer(Response::new(404, "text/plain", &b"none"[..])),
        }
    }

    fn call(&self, context: &'static str, request: Request, responder: Responder) {
        let text = |body: Vec<u8>| Response::new(200, "text/plain", body);
        let size = || request.head.query_value("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        match context {
            "echo" => responder.send(text(request.body.clone())),
            "big" => responder.send(text(vec![b'x'; size()])),
            "where" => responder.send(text(format!("{:?}", request.head.peer).into_bytes())),
            "park" => self.parked.lock().unwrap().push(responder),
            "drop" => drop(responder),
            "panic" => panic!("a panic for the test"),
            "gated" => {
                let gate = self.gate.lock().unwrap().clone();
                gate.map(|g| g.recv());
                responder.send(text(b"gated".to_vec()));
            }
            name => responder.send(text(name.as_bytes().to_vec())),
        }
    }

    fn upgrade(&self, _: &'static str, _: Head, mut stream: TcpStream, rest: Vec<u8>) {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        stream.write_all(&rest).unwrap();
        self.seen.lock().unwrap().push(format!("nodelay {}", stream.nodelay().unwrap()));
    }

    fn refusal(&self, status: u16, _: &str, request_id: &str) -> Response {
        Response::new(status, "text/plain", format!("refused {status} {request_id}").into_bytes())
    }

    fn served(&self, served: &Served<'_>) {
        self.served.lock().unwrap().push((served.path.to_string(), served.status));
    }
}

/// A running door.
struct House {
    toy: Arc<Toy>,
    door: Door,
    threads: Threads,
    limits: Arc<Live<Limits>>,
}

fn usual() -> Limits {
    Limits {
        max_connections: 256,
        max_websockets: 8,
        max_header_bytes: 16 * 1024,
        max_body_bytes: 1 << 20,
        request_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        max_memory: 0,
        max_attachment_bytes: 0,
    }
}

impl House {
    fn open(limits: Limits) -> House {
        let (toy, threads, limits) = (Arc::new(Toy::default()), Threads::new(), Arc::new(Live::new(limits)));
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let door = Door::start(listener, toy.clone(), limits.clone(), 2, Clock::system(), &threads, &Stop::new()).unwrap();
        House { toy, door, threads, limits }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.door.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, kept: Vec::new() }
    }

    /// Sends `bytes` on a connection of its own and gives the statuses of all answers until its end.
    fn statuses(&self, bytes: &[u8]) -> Vec<u16> {
        let mut client = self.connect();
        let _ = client.stream.write_all(bytes); // a refusal may close before all is sent
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        std::iter::from_fn(|| client.answer().map(|a| a.status)).collect()
    }

    /// `/quick` answers on a new connection.
    fn lives(&self) {
        let answer = self.connect().ask(&get("/quick"));
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"quick"[..]));
    }

    /// Waits for `what`, at most [`PATIENCE`].
    #[allow(clippy::disallowed_methods)] // what another thread does has no event that a test could wait for
    fn until(&self, name: &str, mut what: impl FnMut(&House) -> bool) {
        for _ in 0..PATIENCE.as_millis() {
            if what(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{name} did not come");
    }

    fn parked(&self, count: usize) -> Vec<Responder> {
        self.until("a parked responder", |h| h.toy.parked.lock().unwrap().len() >= count);
        std::mem::take(&mut *self.toy.parked.lock().unwrap())
    }

    fn seen(&self) -> Vec<String> {
        self.toy.seen.lock().unwrap().clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.door.close(Duration::ZERO);
        self.toy.gate.lock().unwrap().take();
        let late = self.threads.join(PATIENCE);
        if !std::thread::panicking() {
            assert_eq!(late, Vec::<String>::new(), "threads that did not end");
        }
    }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn post(target: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").into_bytes()
}

fn post_length(target: &str, body: &str) -> Vec<u8> {
    post(target, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// One answer, read.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }
}

/// A client that reads one answer at a time.
struct Client {
    stream: TcpStream,
    kept: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn ask(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes);
        self.answer().expect("an answer")
    }

    /// The next answer, or `None` at the connection's end.
    fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.kept.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more() {
                assert!(self.kept.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&self.kept));
                return None;
            }
        };
        let head = String::from_utf8(self.kept.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |n| n.parse().unwrap());
        if method != "HEAD" {
            while self.kept.len() < length {
                assert!(self.more(), "half a body: {} of {length}", self.kept.len());
            }
            answer.body = self.kept.drain(..length).collect();
        }
        Some(answer)
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.kept.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(e) => panic!("no answer: {e}"),
        }
    }

    /// Whether the connection ends, without another byte.
    fn ends(&mut self) -> bool {
        !self.more() && self.kept.is_empty()
    }
}
