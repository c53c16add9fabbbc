//! Requests, responses, and the service that turns one into the other: the same for the door and the local socket.
//!
//! Invariant: a `Responder` answers exactly once; dropped without an answer (a panic, say) it answers 500 by itself. Header
//! values can't hold CR, LF or NUL: such a value is dropped when it is set.

use std::borrow::Cow;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

pub use crate::net::stream::{Sink, Stream, Tell};

use crate::net::stream::Gathered;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address, and the address of ours that it reached.
    Tcp {
        /// Theirs.
        ip: IpAddr,
        /// Ours.
        local: IpAddr,
    },
    /// The local socket: a trusted user of this machine.
    Local,
}

/// A request's head: all before the body.
#[derive(Clone, Debug)]
pub struct Head {
    /// As it was sent (methods are case-sensitive).
    pub method: String,
    /// The path, percent-encoded as it was sent, without the query.
    pub path: String,
    /// What followed `?`.
    pub query: Option<String>,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Where it came from.
    pub peer: Peer,
    /// The caller's own `X-Request-Id` if that is well formed, else a new one.
    pub request_id: String,
    /// When its head was complete (`Clock::mono`).
    pub received: Duration,
}

impl Head {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The value of a query parameter, percent-decoded; `None` where absent. One that can't be decoded is U+FFFD, which nothing takes
    /// for a value: an empty one would count as absent.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query.as_deref()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| percent_decode(&value.replace('+', " ")).unwrap_or_else(|| "\u{fffd}".into()))
        })
    }
}

/// `%XX` to bytes to text; `None` where that is no UTF-8 or holds a NUL, or an escape is broken.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b => b,
        });
    }
    String::from_utf8(out).ok().filter(|t| !t.contains('\0'))
}

/// A whole request.
#[derive(Clone, Debug)]
pub struct Request {
    /// All before the body.
    pub head: Head,
    /// The body, within the bound that the service named.
    pub body: Vec<u8>,
}

/// An answer. `X-Request-Id`, `Date`, `Content-Length` and `Connection` are added when it is written.
#[derive(Clone, Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body; not sent in answer to HEAD.
    pub body: Cow<'static, [u8]>,
    /// Close the connection after it.
    pub close: bool,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Response { status, headers: Vec::new(), body: Cow::Borrowed(b""), close: false }
    }

    /// An answer with a body of that content type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Response { body: body.into(), ..Response::empty(status) }.with("Content-Type", content_type)
    }

    /// An answer in JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Response::new(status, "application/json", value.to_string().into_bytes())
    }

    /// Adds a header. A value that could break the head (CR, LF, NUL) is left out, whole.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        if !value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            self.headers.push((name, value));
        }
        self
    }

    /// Closes the connection after this answer.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The headers set so far.
    pub fn headers(&self) -> &[(&'static str, Cow<'static, str>)] {
        &self.headers
    }

    /// The first header of that name as it was set.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_ref())
    }
}

/// On which thread a request is handled once its body is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// On the door's own: memory alone, never blocks. A handler that answers later parks its responder and returns.
    Quick,
    /// On a worker of the fixed pool: may block.
    Work,
}

/// What a service decides when the head is there and the body is not.
pub enum Plan<C> {
    /// Answer this now. A body that is still to come is not read.
    Answer(Response),
    /// Read a body of at most `body_max` bytes (413 beyond), then `call` with this context.
    Read {
        /// Handed to `call`.
        context: C,
        /// The bound of the body.
        body_max: usize,
        /// The lane of a body of at most `quick_body_max` bytes; a longer one goes to `Work`.
        lane: Lane,
    },
    /// Take the connection over: `upgrade` gets the socket. The service itself writes the answer to the handshake.
    Upgrade(C),
}

/// One answered request, for logs and metrics.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    /// The method, or empty where no head could be read.
    pub method: &'a str,
    /// The path, likewise.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The request's id.
    pub request_id: &'a str,
    /// From the complete head to the answer; of a streamed one, to its end.
    pub took: Duration,
    /// Whether the answer was given whole; a streamed one may break off.
    pub whole: bool,
}

/// A body longer than this is handled by a worker even in the quick lane: parsing and digesting it takes time.
pub const QUICK_BODY_MAX: usize = 16 * 1024;

/// What the door and the local socket serve. Called from several threads at once.
pub trait Service: Send + Sync + 'static {
    /// What `plan` finds out and `call` needs: principal, route.
    type Context: Send + 'static;

    /// Decides on a head: who, allowed, too fast, which route, how much body. On the door's thread: memory alone.
    fn plan(&self, head: &Head) -> Plan<Self::Context>;

    /// Handles a request. May keep the responder and answer later, from any thread.
    fn call(&self, context: Self::Context, request: Request, responder: Responder);

    /// Takes a connection over. `rest` holds bytes that came behind the head. The stream is blocking, TCP_NODELAY. Runs on the
    /// door's thread: must hand over to a thread of its own at once.
    fn upgrade(&self, context: Self::Context, head: Head, stream: TcpStream, rest: Vec<u8>);

    /// The answer to what is refused before or beside `plan` and `call`: a malformed head, a body too large or too slow, too
    /// many connections, a panic. `status` is 400, 408, 411, 413, 414, 417, 431, 500, 501, 503 or 505; `path` is empty where no
    /// head could be read.
    fn refusal(&self, status: u16, path: &str, request_id: &str) -> Response;

    /// Told of each answer.
    fn served(&self, served: &Served<'_>);
}

/// The way back to one caller; answers once.
pub struct Responder(Option<Box<dyn Reply>>);

/// What stands behind a [`Responder`]: the door's connection, the local socket's request, or a test's channel.
pub trait Reply: Send {
    /// Writes the answer; does not block.
    fn reply(self: Box<Self>, response: Response);
    /// The answer for a handler that gave none.
    fn abandoned(&self) -> Response;
    /// Begins an answer that comes piece by piece; does not block.
    fn stream(self: Box<Self>, head: Response) -> Box<dyn Sink>;
    /// Has `tell` called when the caller goes away; a way back that can't know drops it.
    fn on_gone(&self, tell: Tell) {
        drop(tell);
    }
}

impl Responder {
    /// A responder over `reply`.
    pub fn new(reply: Box<dyn Reply>) -> Self {
        Responder(Some(reply))
    }

    /// A responder for tests and for calls from within: the answer comes out of the channel.
    pub fn memory() -> (Self, crossbeam_channel::Receiver<Response>) {
        let (tx, rx) = crossbeam_channel::bounded(1);
        (Responder::new(Box::new(Memory(tx))), rx)
    }

    /// Answers.
    pub fn send(mut self, response: Response) {
        if let Some(reply) = self.0.take() {
            reply.reply(response);
        }
    }

    /// Begins an answer that comes piece by piece: status and headers of `head` go out now, its body is not looked at. Never
    /// blocks, and no thread is held while the stream is open. Over the door the client gets it as chunks (in HTTP/1.0: until the
    /// connection closes); the local socket and [`memory`](Self::memory) gather the pieces and answer at the end.
    pub fn stream(mut self, head: Response) -> Stream {
        Stream::new(self.0.take().map(|reply| reply.stream(head)))
    }

    /// Has `tell` called, at most once, when the caller goes away before its answer is whole, whether it is still parked or being
    /// streamed. It runs on the door's thread: it must be short and not block, and it must not own this responder. It may come while
    /// the answer is just being given.
    ///
    /// A client that merely shut down its sending side counts as gone. That is legal HTTP, but no client that waits for an agent is
    /// known to do it (curl, browsers and the OpenAI libraries close wholly), and TCP can't tell the two apart; hence this is asked
    /// for by the request, and nobody else is affected. The local socket and `memory` never call it.
    pub fn on_gone(&self, tell: impl FnOnce() + Send + 'static) {
        if let Some(reply) = &self.0 {
            reply.on_gone(Box::new(tell));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            let response = reply.abandoned();
            reply.reply(response);
        }
    }
}

struct Memory(crossbeam_channel::Sender<Response>);

impl Reply for Memory {
    fn reply(self: Box<Self>, response: Response) {
        let _ = self.0.send(response); // who asked may be gone
    }

    fn abandoned(&self) -> Response {
        Response::empty(500)
    }

    fn stream(self: Box<Self>, head: Response) -> Box<dyn Sink> {
        Gathered::sink(self, head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_responder_that_is_dropped_answers_500() {
        let (responder, answer) = Responder::memory();
        drop(responder);
        assert_eq!(answer.recv().unwrap().status, 500);
    }

    #[test]
    fn a_stream_in_memory_is_whole_or_nothing() {
        let (responder, answer) = Responder::memory();
        let stream = responder.stream(Response::new(202, "text/plain", &b"ignored"[..]));
        assert!(stream.send("a") && answer.try_recv().is_err());
        stream.finish("b");
        let answer = answer.recv().unwrap();
        assert_eq!((answer.status, &*answer.body), (202, &b"ab"[..]));
        let (responder, answer) = Responder::memory();
        drop(responder.stream(Response::empty(200)));
        assert_eq!(answer.recv().unwrap().status, 500);
    }

    #[test]
    fn a_header_value_cannot_break_the_head() {
        let response = Response::empty(200).with("X-A", "b\r\nX-Evil: 1").with("X-B", "fine");
        assert_eq!((response.header("X-A"), response.header("x-b")), (None, Some("fine")));
    }

    #[test]
    fn a_query_value_that_is_broken_is_not_an_empty_one() {
        let head = |query: &str| Head {
            method: "GET".into(),
            path: "/".into(),
            query: Some(query.into()),
            headers: Vec::new(),
            peer: Peer::Local,
            request_id: "r".into(),
            received: Duration::ZERO,
        };
        for (query, value) in [
            ("b=1", None),
            ("a", Some("")),
            ("a=", Some("")),
            ("b=1&a=x+y%20z&a=second", Some("x y z")),
            ("a=%00", Some("\u{fffd}")),
            ("a=x%zz", Some("\u{fffd}")),
            ("a=%ff", Some("\u{fffd}")),
        ] {
            assert_eq!(head(query).query_value("a").as_deref(), value, "{query}");
        }
    }

    #[test]
    fn percent_decoding() {
        for (text, decoded) in [
            ("a%20b", Some("a b")),
            ("%E4%BD%A0", Some("你")),
            ("%", None),
            ("%zz", None),
            ("%00", None),
            ("%ff", None),
            ("", Some("")),
        ] {
            assert_eq!(percent_decode(text).as_deref(), decoded, "{text}");
        }
    }
}
