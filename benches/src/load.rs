//! The load generator: one thread, N keep-alive connections, one request outstanding on each; the same for every server.
//!
//! Invariant: a connection sends its next request only after the whole answer to its last (a closed loop), and what is counted
//! was answered inside of the measured time. An answer of another status than the first, or a closed connection, is an error of
//! the whole run: a fast refusal must not pass for speed.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::Outcome;
use crate::http::{self, Extent};
use crate::stats::Times;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Requests answered inside of the measured time.
    pub answers: u64,
    /// Requests answered in all, warm-up and end included: what the server did.
    pub served: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Request to answer, each.
    pub times: Times,
}

impl Loaded {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

/// How long before the measured time the load begins.
const WARM_UP: Duration = Duration::from_millis(100);

struct Line {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

/// What all lines share: the form of the last answer, so that the next one of the same form needs no parsing.
struct Sight {
    expected: u16,
    last: Option<Extent>,
}

impl Sight {
    /// Whether `bytes` is a whole answer.
    fn whole(&mut self, bytes: &[u8]) -> Outcome<bool> {
        if let Some(last) = self.last
            && bytes.len() == last.total
            && bytes[9..12]
                == [b'0' + (self.expected / 100) as u8, b'0' + (self.expected / 10 % 10) as u8, b'0' + (self.expected % 10) as u8]
            && bytes[last.head - 4..last.head] == *b"\r\n\r\n"
        {
            return Ok(true);
        }
        let Some(found) = http::extent(bytes)? else { return Ok(false) };
        if found.status != self.expected {
            return Err(format!("answered {}: {}", found.status, String::from_utf8_lossy(&bytes[found.head..])).into());
        }
        if found.total != bytes.len() {
            return Err("more came than one answer".into());
        }
        self.last = Some(found);
        Ok(true)
    }
}

/// Loads `address` over `connections` for `lasting`; `fill` writes each next request of a connection to the cleared buffer.
pub fn run(
    address: SocketAddr,
    connections: usize,
    lasting: Duration,
    expected: u16,
    mut fill: impl FnMut(usize, &mut Vec<u8>),
) -> Outcome<Loaded> {
    let mut lines = Vec::with_capacity(connections);
    for at in 0..connections {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut request = Vec::with_capacity(1024);
        fill(at, &mut request);
        lines.push(Line { stream, request, answer: vec![0; 4096], filled: 0, sent: Instant::now() });
    }
    let mut sight = Sight { expected, last: None };
    let begin = Instant::now() + WARM_UP;
    let mut loaded = Loaded { answers: 0, served: 0, elapsed: lasting, times: Times::default() };
    let mut note = |line: &Line, now: Instant| {
        loaded.served += 1;
        if now >= begin && now < begin + lasting {
            loaded.answers += 1;
            loaded.times.add((now - line.sent).as_nanos() as f64 / 1e3);
        }
    };
    if let [line] = lines.as_mut_slice() {
        // One connection: blocking calls, as a lone client would.
        while Instant::now() < begin + lasting {
            let now = line.send().and_then(|()| line.answered(&mut sight))?;
            note(line, now.ok_or("no answer within 30 s")?);
            line.next(0, &mut fill);
        }
        return Ok(loaded);
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, line) in lines.iter_mut().enumerate() {
        line.stream.set_nonblocking(true)?;
        epoll::add(&poll, &line.stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
        line.send()?;
    }
    let mut ready = Vec::with_capacity(connections);
    let mut outstanding = connections;
    while outstanding > 0 {
        ready.clear();
        epoll::wait(
            &poll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 }),
        )?;
        if ready.is_empty() {
            return Err("no answer within 30 s".into());
        }
        for event in &ready {
            let at = event.data.u64() as usize;
            let line = &mut lines[at];
            let Some(now) = line.answered(&mut sight)? else { continue };
            note(line, now);
            if now >= begin + lasting {
                outstanding -= 1;
                continue;
            }
            line.next(at, &mut fill);
            line.send()?;
        }
    }
    Ok(loaded)
}

impl Line {
    fn send(&mut self) -> Outcome<()> {
        self.sent = Instant::now();
        Ok(self.stream.write_all(&self.request)?)
    }

    /// Reads what is there; when the answer is whole, the time at which it was.
    fn answered(&mut self, sight: &mut Sight) -> Outcome<Option<Instant>> {
        loop {
            if self.filled == self.answer.len() {
                return Err("an answer of over 4 KiB".into());
            }
            match self.stream.read(&mut self.answer[self.filled..]) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e.into()),
            }
            if sight.whole(&self.answer[..self.filled])? {
                self.filled = 0;
                return Ok(Some(Instant::now()));
            }
        }
    }

    fn next(&mut self, at: usize, fill: &mut impl FnMut(usize, &mut Vec<u8>)) {
        self.request.clear();
        fill(at, &mut self.request);
    }
}
