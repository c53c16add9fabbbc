//! Streams of events: an answer that comes in pieces, and the lasting one by which a server tells that its tools changed.
//!
//! Invariant: of a stream no more than one event is held. The lasting one is opened again for as long as the connection lives, apart
//! by growing pauses, from where it broke off; a server that does not offer it is not asked again.

use std::time::Duration;

use crate::agent::mcp::http::{CONNECT_MAX, Http, REPLIES_MAX};
use crate::agent::mcp::link::Ask;
use crate::agent::mcp::wire::{self, Era, Protocol, Said};
use crate::agent::provider::sse::Sse;
use crate::base::backoff::Retry;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result};
use crate::net::client::{Call, Deadlines, Reply};

/// How long a lasting stream may be silent before it is opened anew: a dead peer looks the same.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// In which time so many of the server's own requests are answered.
const REPLIES_WINDOW: Duration = Duration::from_secs(60);
/// How long it may take to open.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// The pause after its first failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Failures in a row after which the supervisor is to look whether the server is there, and after which pauses grow no more.
const SUSPECT: u32 = 3;
const GROWTH_MAX: u32 = 9;
/// A stream that held so long makes former failures forgotten.
const HELD: Duration = Duration::from_secs(10);
/// The longest pause that a server may wish for.
const WISH_MAX: Duration = Duration::from_secs(600);

/// A stream that is being read.
pub struct Stream {
    reply: Reply,
    sse: Sse,
}

impl Stream {
    /// The stream in the body of `reply`.
    pub fn new(reply: Reply) -> Self {
        Stream { reply, sse: Sse::default() }
    }

    /// Goes on with another body, where the first one broke off.
    pub fn go_on(&mut self, reply: Reply) {
        let mut sse = Sse::default();
        let _ = sse.feed(format!("id: {}\n\n", self.sse.last_id()).as_bytes(), &mut Vec::new()); // far within the bound
        (self.reply, self.sse) = (reply, sse);
    }

    /// What to go on from; empty where the server does not offer it.
    pub fn last_id(&self) -> &str {
        self.sse.last_id()
    }

    /// The pause before a reconnect that the server wishes.
    pub fn wish(&self) -> Option<Duration> {
        self.sse.retry_ms().map(|ms| Duration::from_millis(ms).min(WISH_MAX))
    }

    /// Reads until `take` gives something, or to the end (`None`). `silence` bounds each read, where the call's own deadlines don't.
    ///
    /// # Errors
    /// As [`Reply::read`]; `Permanent` where an event is beyond the bound.
    pub fn read<T>(&mut self, silence: Option<Duration>, mut take: impl FnMut(Said) -> Option<T>) -> Result<Option<T>> {
        let (mut buffer, mut events) = ([0u8; 4096], Vec::new());
        loop {
            let n = match silence {
                Some(limit) => self.reply.read_within(&mut buffer, limit)?,
                None => self.reply.read(&mut buffer)?,
            };
            if n == 0 {
                return Ok(None);
            }
            let fed = self.sse.feed(&buffer[..n], &mut events);
            // An event without data, by which streams begin, is no message; neither is what can't be read.
            for said in events.drain(..).flat_map(|event| wire::read(event.data.as_bytes()).unwrap_or_default()) {
                if let Some(found) = take(said) {
                    return Ok(Some(found));
                }
            }
            fed.map_err(|_| Error::new(ErrorKind::Permanent, "it sent an event beyond all bounds"))?;
        }
    }
}

/// Waits, at most until `cancel` is set.
pub fn pause(cancel: &Cancel, time: Duration) {
    let (tx, rx) = crossbeam_channel::bounded::<()>(1);
    let _hook = cancel.on_set(move || drop(tx));
    let _ = rx.recv_timeout(time); // either way it is over
}

/// Why the lasting stream is not open.
enum NoStream {
    /// The server does not offer it.
    NotOffered,
    /// It may open later.
    Failed,
}

impl Http {
    /// Follows the server's changes until the connection is closed.
    pub(super) fn listen(&self, protocol: Protocol) {
        let (mut failures, mut before): (u32, Option<Stream>) = (0, None);
        while !self.0.quit.is_set() {
            match self.open_stream(protocol, before.as_ref().map_or("", |s| s.last_id())) {
                Err(NoStream::NotOffered) => return log::debug!("the MCP server {} tells no changes", self.0.at.name),
                Err(NoStream::Failed) => {
                    before = None; // perhaps it is the place to go on from that it does not know
                    failures = GROWTH_MAX.min(failures + 1);
                }
                Ok(reply) => {
                    let mut stream = match before.take() {
                        Some(mut stream) => {
                            self.0.signals.changed(); // what was told meanwhile may not be told again
                            stream.go_on(reply);
                            stream
                        }
                        None => {
                            if failures > 0 {
                                self.0.signals.changed();
                            }
                            Stream::new(reply)
                        }
                    };
                    let begun = self.0.at.clock.mono();
                    self.drain(&mut stream, protocol);
                    let held = self.0.at.clock.mono().saturating_sub(begun) >= HELD;
                    failures = if held { 1 } else { GROWTH_MAX.min(failures + 1) };
                    before = Some(stream);
                }
            }
            if failures >= SUSPECT {
                self.0.signals.suspect();
            }
            let wish = before.as_ref().and_then(Stream::wish).unwrap_or_default();
            let grown = Retry { max_retries: u32::MAX, delay: PAUSE }.growing(failures);
            pause(&self.0.quit, grown.max(wish));
        }
    }

    fn open_stream(&self, protocol: Protocol, last_id: &str) -> Result<Reply, NoStream> {
        let url = self.0.at.url.as_str();
        let deadlines = Deadlines { connect: CONNECT_MAX, send: OPEN_MAX, first_byte: OPEN_MAX, read: SILENCE_MAX, total: None };
        let call = if protocol.era == Era::Modern {
            let (params, deadline, cancel) = (Http::filter(), Duration::ZERO, &self.0.quit);
            let ask = Ask {
                method: "subscriptions/listen",
                params: &params,
                protocol: Some(protocol),
                mirrored: None,
                deadline,
                cancel,
            };
            self.posted(&ask, deadlines).1
        } else {
            let call = self.dressed(Call::get(url, deadlines), Some(protocol));
            if last_id.is_empty() { call } else { call.header("Last-Event-ID", last_id) }
        };
        match self.0.at.client.send(&call.cancel(&self.0.quit)) {
            Ok(reply) if reply.status() == 200 && reply.content_type() == "text/event-stream" => Ok(reply),
            Ok(reply) => match (protocol.era, reply.status()) {
                (Era::Modern, 408 | 429) => Err(NoStream::Failed),
                // A legacy server says otherwise that the session is gone, or has such a stream still; both pass.
                (Era::Modern, 200..=499) | (Era::Legacy, 200..=299 | 405 | 406 | 501) => Err(NoStream::NotOffered),
                _ => Err(NoStream::Failed),
            },
            Err(_) => Err(NoStream::Failed),
        }
    }

    /// Reads a lasting stream to its end.
    fn drain(&self, stream: &mut Stream, protocol: Protocol) {
        let (mut replies, mut window) = (0, Duration::ZERO);
        let over = stream.read(Some(SILENCE_MAX), |said| {
            match said {
                Said::Tells { method, .. } if method == "notifications/tools/list_changed" => self.0.signals.changed(),
                Said::Asks { id, method } if protocol.era == Era::Legacy => {
                    let now = self.0.at.clock.mono();
                    if now >= window {
                        (replies, window) = (0, now + REPLIES_WINDOW);
                    }
                    replies += 1;
                    if replies <= REPLIES_MAX {
                        let _ = self.tell(wire::reply(&id, &method), protocol, PAUSE); // it asked; it need not hear
                    }
                }
                _ => {}
            }
            None::<()>
        });
        if let Err(e) = over {
            log::debug!("the stream of an MCP server's changes broke off: {e}");
        }
    }
}
