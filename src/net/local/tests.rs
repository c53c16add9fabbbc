//! The local socket as its users see it, and the requests that bring tiny_http down.
//!
//! Invariant: each socket lies in a folder of its own; every read has a deadline.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use std::io::Read;

use super::*;
use crate::net::http::{Lane, Peer};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Toy {
    parked: Mutex<Vec<Responder>>,
    seen: Mutex<Vec<String>>,
    served: Mutex<Vec<u16>>,
}

impl Service for Toy {
    type Context = &'static str;

    fn plan(&self, head: &Head) -> Plan<&'static str> {
        assert_eq!(head.peer, Peer::Local);
        self.seen.lock().unwrap().push(format!("{} {}", head.method, head.path));
        let read = |context, body_max| Plan::Read { context, body_max, lane: Lane::Quick };
        match head.path.as_str() {
            "/echo" => read("echo", 1 << 20),
            "/small" => read("echo", 10),
            "/park" => read("park", 10),
            "/panic" => read("panic", 10),
            "/drop" => read("drop", 10),
            "/upgrade" => Plan::Upgrade("upgrade"),
            _ => Plan::Answer(Response::new(404, "text/plain", &b"none"[..])),
        }
    }

    fn call(&self, context: &'static str, request: Request, responder: Responder) {
        match context {
            "echo" => responder.send(Response::new(200, "text/plain", request.body)),
            "park" => self.parked.lock().unwrap().push(responder),
            "panic" => panic!("a panic for the test"),
            _ => drop(responder),
        }
    }

    fn upgrade(&self, _: &'static str, _: Head, _: std::net::TcpStream, _: Vec<u8>) {
        unreachable!("the local socket upgrades nothing");
    }

    fn refusal(&self, status: u16, _: &str, _: &str) -> Response {
        Response::new(status, "text/plain", &b"refused"[..])
    }

    fn served(&self, served: &Served<'_>) {
        self.served.lock().unwrap().push(served.status);
    }
}

struct House {
    folder: tempfile::TempDir,
    toy: Arc<Toy>,
    threads: Threads,
    stop: Stop,
}

impl House {
    fn open() -> House {
        let house =
            House { folder: tempfile::tempdir().unwrap(), toy: Arc::default(), threads: Threads::new(), stop: Stop::new() };
        house.start().unwrap();
        house
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("gatelet.sock")
    }

    fn start(&self) -> Result<Local> {
        Local::start(&self.path(), self.toy.clone(), Clock::system(), &self.threads, &self.stop)
    }

    /// Sends `bytes` and reads until `bodies` of answers came or the end.
    fn talk(&self, bytes: &[u8], until: &str) -> String {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(bytes);
        let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&all).contains(until) {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => all.extend_from_slice(&chunk[..n]),
                Err(e) => panic!("no answer to {:?}: {e}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    fn check(&self, request: &str, status: u16, body: &str) {
        let answer = self.talk(request.as_bytes(), body);
        // A 100 may go before the answer.
        let found = answer.split("HTTP/1.1 ").any(|part| part.starts_with(&status.to_string()) && part.ends_with(body));
        assert!(found, "{request:.80?}: not {status} {body:?} but {answer:?}");
    }

    #[allow(clippy::disallowed_methods)] // what another thread does has no event that a test could wait for
    fn until(&self, name: &str, mut what: impl FnMut() -> bool) {
        for _ in 0..PATIENCE.as_millis() {
            if what() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{name} did not come");
    }

    fn parked(&self) -> Responder {
        let mut found = None;
        self.until("a parked request", || {
            found = self.toy.parked.lock().unwrap().pop();
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.set();
        let late = self.threads.join(PATIENCE);
        if !std::thread::panicking() {
            assert_eq!(late, Vec::<String>::new(), "threads that did not end");
            assert!(!self.path().exists(), "the file is left behind");
        }
    }
}

fn post(path: &str, lines: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: local\r\n{lines}\r\n{body}")
}

#[test]
fn requests_and_their_answers() {
    let house = House::open();
    let mode = std::fs::metadata(house.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    house.check("GET /echo HTTP/1.1\r\nHost: local\r\n\r\n", 200, "\r\n\r\n");
    house.check(&post("/echo", "Content-Length: 5\r\n", "hello"), 200, "hello");
    let long = "y".repeat(100_000) + "end";
    house.check(&post("/echo", &format!("Content-Length: {}\r\n", long.len()), &long), 200, "yend");
    house.check(&post("/echo", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), 200, "hello");
    house.check(&post("/echo", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), 200, "hello");
    house.check("GET /none HTTP/1.1\r\nHost: local\r\n\r\n", 404, "none");
    house.check("GET /panic HTTP/1.1\r\nHost: local\r\n\r\n", 500, "refused");
    house.check("GET /drop HTTP/1.1\r\nHost: local\r\n\r\n", 500, "refused");
    house.check("GET /upgrade HTTP/1.1\r\nHost: local\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 501, "refused");
    house.check("GET /upgrade HTTP/1.1\r\nHost: local\r\n\r\n", 501, "refused");
    let answer = house.talk(b"GET /none HTTP/1.1\r\nHost: local\r\nX-Request-Id: mine\r\n\r\n", "none");
    assert!(answer.contains("X-Request-Id: mine\r\n") && answer.contains("Date: "), "{answer}");
    house.until("the count", || house.threads.panics() == 1); // which comes behind the answer
    assert_eq!(house.toy.served.lock().unwrap().len(), 11);
}

#[test]
fn what_brings_tiny_http_down_does_not() {
    let house = House::open();
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: local\r\n\r\n";
    for (lines, body, status) in [
        ("Content-Length: 11\r\n", "0123456789a", 413),
        ("Content-Length: 2000\r\n", &"z".repeat(2000) as &str, 413),
        ("Content-Length: 99999999999999\r\n", hidden, 413),
        ("Content-Length: 18446744073709551615\r\n", hidden, 413),
        ("Content-Length: 0\r\nContent-Length: 36\r\n", "", 400),
        ("Content-Length: +3\r\n", "abc", 400),
        ("Transfer-Encoding: identity\r\n", "0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n", "b\r\n0123456789a\r\n0\r\n\r\n", 413),
        ("Transfer-Encoding: chunked\r\n", "zz\r\n", 400),
        ("Connection: upgrade\r\nContent-Length: 5\r\n", "hello", 400),
    ] {
        house.check(&post("/small", lines, body), status, "refused");
    }
    house.check(&post("/none", "Content-Length: 99999999999999\r\n", ""), 404, "none");
    house.check(&post("/echo", "Content-Length: 5\r\n", "hello"), 200, "hello");
    assert_eq!(house.toy.seen.lock().unwrap().iter().find(|s| s.contains("smuggled")), None);
    assert_eq!(house.threads.panics(), 0);
}

#[test]
fn parked_requests_hold_nobody_and_have_a_bound() {
    let house = House::open();
    let get = "GET /park HTTP/1.1\r\nHost: local\r\n\r\n";
    std::thread::scope(|s| {
        let (mut waiting, mut parked) = (Vec::new(), Vec::new());
        for _ in 0..IN_FLIGHT_MAX {
            waiting.push(s.spawn(|| house.check(get, 202, "later")));
            parked.push(house.parked()); // one by one: in a burst, tiny_http leaves some unread
            if waiting.len() == IN_FLIGHT_MAX / 2 {
                house.check(&post("/echo", "Content-Length: 5\r\n", "hello"), 200, "hello");
            }
        }
        house.check(get, 503, "refused");
        for responder in parked {
            responder.send(Response::new(202, "text/plain", &b"later"[..]));
        }
        assert!(waiting.into_iter().all(|w| w.join().is_ok()));
    });
    house.check("GET /none HTTP/1.1\r\nHost: local\r\n\r\n", 404, "none");
}

#[test]
fn too_many_bodies_beyond_every_bound_close_it() {
    let house = House::open();
    for _ in 0..GIVEN_UP_MAX {
        house.check(&post("/small", "Content-Length: 99999999999999\r\n", ""), 413, "refused");
    }
    house.until("its end", || UnixStream::connect(house.path()).is_err());
}

#[test]
fn what_lies_at_its_path() {
    let house = House::open();
    let taken = house.start().unwrap_err();
    assert!(taken.text.starts_with("another program answers on the local socket"), "{taken}");
    house.check("GET /none HTTP/1.1\r\nHost: local\r\n\r\n", 404, "none");
    let other = House { folder: tempfile::tempdir().unwrap(), toy: Arc::default(), threads: Threads::new(), stop: Stop::new() };
    drop(std::os::unix::net::UnixListener::bind(other.path()).unwrap()); // stale
    other.start().unwrap();
    other.check("GET /none HTTP/1.1\r\nHost: local\r\n\r\n", 404, "none");
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = listen(file.path()).err().unwrap();
    assert!(refused.text.ends_with("it is no socket"), "{refused}");
    assert!(file.path().exists());
    assert!(listen(Path::new("/nowhere/at/all")).is_err());
}
