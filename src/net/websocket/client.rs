//! A small blocking WebSocket client, for the command line and for tests.
//!
//! Invariant: every call has a deadline (but for the resolver's own, where a name is given instead of an address); messages
//! beyond [`MESSAGE_MAX`] are refused. Plain `ws` alone: TLS is a proxy's task. Fails with words for a person; after a failure
//! the connection is of no more use.

use std::io::{self, ErrorKind as IoKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tungstenite::client::ClientRequestBuilder;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error as Fault, Message, WebSocket};

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::net::websocket::timed::Timed;

/// The longest message taken: more than a gateway queues for one reader.
pub const MESSAGE_MAX: usize = 2 * 1024 * 1024;
/// Frames without text that one call reads: a peer that sends nothing else doesn't hold the caller for ever.
const CONTROL_FRAMES: usize = 10_000;
/// The port of an address that names none.
const PORT: u16 = 8787;
/// The path of an address that names none.
const PATH: &str = "/ws";

/// An open connection.
pub struct Connection {
    socket: WebSocket<Timed>,
    timeout: Duration,
}

/// Where to connect.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    path: String,
}

/// Connects and shakes hands. `url` is `ws://host:port/path`, or the gateway's own `http://host:port`; port and path may be left
/// out (8787, `/ws`). `timeout` is for the whole of it, and later for each send.
///
/// # Errors
/// `Invalid` for an address that can't be used, `Transient` or `Timeout` where nobody answers, `Denied` for 401 and 403,
/// `Throttled` for 429, `Permanent` for any other refusal.
pub fn connect(url: &str, token: Option<&str>, timeout: Duration) -> Result<Connection> {
    let target = parse(url)?;
    let clock = Clock::system();
    let stream = Timed { stream: dial(&target, &clock, timeout)?, deadline: timeout, clock };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let address = format!("ws://{host}:{}{}", target.port, target.path);
    let uri = address.parse().map_err(|_| unusable(url))?;
    let mut request = ClientRequestBuilder::new(uri);
    if let Some(token) = token {
        request = request.with_header("Authorization", format!("Bearer {token}"));
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    match tungstenite::client::client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(Connection { socket, timeout }),
        Err(HandshakeError::Interrupted(_)) => Err(Error::new(ErrorKind::Timeout, format!("{url} did not answer in time"))),
        Err(HandshakeError::Failure(fault)) => Err(refused(url, fault)),
    }
}

impl Connection {
    /// Sends a text frame.
    ///
    /// # Errors
    /// Where it is not sent in time, or the connection is over.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.socket.get_mut().allow(self.timeout);
        self.socket.send(Message::text(text)).map_err(ended)
    }

    /// Waits for the next text frame, at most `timeout` (zero: takes what is there); `None` where none came. Pings are answered
    /// meanwhile, and only then: a connection that nobody reads is closed by the gateway. To wait for other things beside it,
    /// call this with zero until it gives `None`, then poll its descriptor (`AsFd`).
    ///
    /// # Errors
    /// Where the connection is over: `Denied` after 1008 and 4401, `Stopped` after a close by us, else `Transient`.
    pub fn recv(&mut self, timeout: Duration) -> Result<Option<String>> {
        self.socket.get_mut().allow(timeout);
        for _ in 0..CONTROL_FRAMES {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_string())),
                Ok(Message::Close(frame)) => {
                    let _ = self.socket.flush(); // our part of the close; the peer may be gone
                    return Err(closed(frame.as_ref()));
                }
                Ok(_) => {}
                Err(Fault::Io(e)) if e.kind() == IoKind::WouldBlock => return Ok(None),
                Err(fault) => return Err(ended(fault)),
            }
        }
        Ok(None)
    }

    /// Says goodbye with 1000 and waits at most `timeout` for the answer.
    pub fn close(mut self, timeout: Duration) {
        self.socket.get_mut().allow(timeout);
        let said = self.socket.close(None);
        while said.is_ok() && self.socket.read().is_ok() {} // ends with the peer's close, or in time
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().stream.as_fd()
    }
}

fn parse(url: &str) -> Result<Target> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("ws", url));
    match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => {}
        "wss" | "https" => {
            return Err(Error::new(ErrorKind::Invalid, format!("{scheme} is not supported here"))
                .hint("use the gateway's own address (http://…), or an SSH tunnel to it"));
        }
        _ => return Err(unusable(url)),
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |i| rest.split_at(i));
    let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(|| unusable(url))?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), str::parse).map_err(|_| unusable(url))?;
    if host.is_empty() || port == 0 || host.contains(['@', '?', '#']) {
        return Err(unusable(url));
    }
    let path = if path.trim_end_matches('/').is_empty() { PATH } else { path };
    Ok(Target { host: host.to_string(), port, path: path.to_string() })
}

fn unusable(url: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} is no address of a gateway", shorten(url, 200)))
        .hint("it looks like http://127.0.0.1:8787")
}

fn dial(target: &Target, clock: &Clock, timeout: Duration) -> Result<TcpStream> {
    let unreachable = |e: &io::Error| {
        Error::new(ErrorKind::Transient, format!("can't reach {}:{}: {e}", target.host, target.port))
            .hint("is the gateway running? see: gatelet status")
    };
    let addresses: Vec<SocketAddr> =
        (target.host.as_str(), target.port).to_socket_addrs().map_err(|e| unreachable(&e))?.collect();
    let mut last = io::Error::new(IoKind::NotFound, "the name has no address");
    for address in addresses {
        let left = timeout.saturating_sub(clock.mono()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true); // slower without it, not wrong
                stream.set_nonblocking(true).map_err(|e| unreachable(&e))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(unreachable(&last))
}

fn refused(url: &str, fault: Fault) -> Error {
    let Fault::Http(response) = fault else {
        return match fault {
            Fault::Io(e) => Error::new(ErrorKind::Transient, format!("{url} ended the connection: {e}")),
            Fault::HttpFormat(_) => {
                Error::new(ErrorKind::Invalid, "the token or the address holds characters that can't be sent")
            }
            fault => Error::new(ErrorKind::Permanent, format!("{url} speaks no WebSocket: {fault}")),
        };
    };
    let status = response.status().as_u16();
    let seconds = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let kind = match status {
        401 | 403 => ErrorKind::Denied,
        429 => ErrorKind::Throttled(seconds.map(Duration::from_secs)),
        500.. => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    };
    let hint = if kind == ErrorKind::Denied { "check the token: gatelet token" } else { "" };
    Error::new(kind, format!("{url} refused the connection: {status}")).hint(hint)
}

fn closed(frame: Option<&CloseFrame>) -> Error {
    let (code, reason) = frame.map_or((1005, String::new()), |f| (u16::from(f.code), shorten(&f.reason, 123)));
    let kind = if matches!(code, 1008 | 4401) { ErrorKind::Denied } else { ErrorKind::Transient };
    Error::new(kind, format!("the gateway closed the connection: {code} {reason}").trim_end())
}

fn ended(fault: Fault) -> Error {
    match fault {
        Fault::ConnectionClosed | Fault::AlreadyClosed => Error::new(ErrorKind::Stopped, "the connection is closed"),
        Fault::Io(e) if e.kind() == IoKind::WouldBlock => Error::new(ErrorKind::Timeout, "the gateway takes nothing more"),
        fault => Error::new(ErrorKind::Transient, format!("the connection broke: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn addresses() {
        let target = |host: &str, port, path: &str| Some(Target { host: host.into(), port, path: path.into() });
        for (url, expected) in [
            ("ws://127.0.0.1:9000/ws", target("127.0.0.1", 9000, "/ws")),
            ("http://127.0.0.1:9000", target("127.0.0.1", 9000, "/ws")),
            ("HTTP://pi.local/", target("pi.local", 8787, "/ws")),
            ("pi.local:80/chat", target("pi.local", 80, "/chat")),
            ("http://[::1]:9000/", target("::1", 9000, "/ws")),
            ("[::1]", target("::1", 8787, "/ws")),
            ("", None),
            ("http://", None),
            ("http://:80", None),
            ("http://pi:0", None),
            ("http://pi:99999", None),
            ("http://pi:8787x", None),
            ("http://[::1]80", None),
            ("http://user:pass@pi", None),
            ("ftp://pi", None),
        ] {
            assert_eq!(parse(url).ok(), expected, "{url}");
        }
        let secure = parse("wss://pi").unwrap_err();
        assert_eq!((secure.kind, secure.text.as_str()), (ErrorKind::Invalid, "wss is not supported here"));
    }

    #[test]
    fn an_address_and_a_token_that_cannot_be_sent_are_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let error = connect(&url, Some("a\r\nX-Evil: 1"), Duration::from_secs(5)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        drop(listener);
        let error = connect(&url, None, Duration::from_secs(5)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    }

    #[test]
    fn a_server_that_says_nothing_is_left_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let error = connect(&url, None, Duration::from_millis(50)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    }

    #[test]
    fn refusals_are_told_apart() {
        for (status, kind) in [
            ("401 Unauthorized", ErrorKind::Denied),
            ("403 Forbidden", ErrorKind::Denied),
            ("429 Too Many Requests\r\nRetry-After: 7", ErrorKind::Throttled(Some(Duration::from_secs(7)))),
            ("503 Service Unavailable", ErrorKind::Transient),
            ("404 Not Found", ErrorKind::Permanent),
            ("200 OK", ErrorKind::Permanent),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut request = [0; 2048];
                    let n = stream.read(&mut request).unwrap();
                    assert!(request[..n].starts_with(b"GET /ws HTTP/1.1\r\n"));
                    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
                });
                assert_eq!(connect(&url, None, Duration::from_secs(5)).err().unwrap().kind, kind, "{status}");
            });
        }
    }
}
