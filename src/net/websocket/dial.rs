//! A blocking WebSocket to a service out there, `ws://` or `wss://`: for channels that hold one open.
//!
//! Invariant: connecting, the handshakes (TLS included), each read and each write have deadlines; whoever cancels ends what blocks at
//! once; a message is at most [`MESSAGE_MAX`] bytes, and nothing is queued without a bound. No text of an error holds more of the
//! address than its origin: paths and queries hold tickets. After a failure the connection is of no more use.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rustls::RootCertStore;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Uri;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error as Fault, Message, WebSocket};

use crate::base::cancel::{Cancel, Guard};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::net::client::origin;
use crate::net::reach;
use crate::net::tls::{self, Tls};
use crate::net::websocket::timed::Timed;

/// The longest message taken or sent.
pub const MESSAGE_MAX: usize = 1024 * 1024;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A text message.
    Text(String),
    /// A ping, a pong, or a message that is no text: the peer lives.
    Sign,
    /// Nothing, in time.
    Nothing,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The peer's close code, if it closed (1005 where it gave none).
    pub code: Option<u16>,
    /// The same in words; `Stopped` where it was cancelled, else `Transient` or `Timeout`.
    pub error: Error,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        ended.error
    }
}

/// An open connection.
pub struct Dialed {
    socket: WebSocket<Wire>,
    origin: String,
    cancel: Cancel,
    _guard: Guard,
    send_within: Duration,
}

enum Wire {
    Plain(Timed),
    Secure(Box<Tls<Timed>>),
}

/// Connects and shakes hands, all of it within `timeout`, which is later the deadline of each send. `cancel` ends the connection
/// whenever it is set.
///
/// # Errors
/// `Invalid` for what is no WebSocket's address, `Transient` or `Timeout` where nobody answers, `Denied` for 401 and 403, `Throttled`
/// for 429, `Permanent` for other refusals and where the peer isn't trusted, `Stopped` where it was cancelled.
pub fn dial(url: &str, cancel: &Cancel, timeout: Duration) -> Result<Dialed> {
    trusting(url, cancel, timeout, None)
}

/// The same where `roots` alone are trusted, not those whom the web trusts.
fn trusting(url: &str, cancel: &Cancel, timeout: Duration, roots: Option<RootCertStore>) -> Result<Dialed> {
    let origin = origin(url);
    match open(url, &origin, cancel, timeout, roots) {
        Err(_) if cancel.is_set() => Err(stopped(&origin)),
        done => done,
    }
}

fn open(url: &str, origin: &str, cancel: &Cancel, timeout: Duration, roots: Option<RootCertStore>) -> Result<Dialed> {
    let invalid = || Error::new(ErrorKind::Invalid, format!("{origin} is no address of a WebSocket"));
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let is_secure = match uri.scheme_str() {
        Some("wss") => true,
        Some("ws") => false,
        _ => return Err(invalid()),
    };
    let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(invalid)?.trim_matches(['[', ']']).to_string();
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let clock = Clock::system();
    let stream = reach::connect(origin, &host, port, timeout, cancel)?;
    let lost = |e: std::io::Error| Error::new(ErrorKind::Transient, format!("{origin} broke the connection off: {}", e.kind()));
    let handle = stream.try_clone().map_err(lost)?;
    // A guard of its own: it lives as long as the connection, and ends reads and writes on it.
    let guard = cancel.on_set(move || {
        let _ = handle.shutdown(Shutdown::Both); // already closed is as good
    });
    stream.set_nonblocking(true).map_err(lost)?;
    let timed = Timed { stream, deadline: timeout, clock };
    let wire = match is_secure {
        true => Wire::Secure(Box::new(tls::client(&host, timed, roots).map_err(|_| invalid())?)),
        false => Wire::Plain(timed),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    match tungstenite::client::client_with_config(ClientRequestBuilder::new(uri), wire, Some(config)) {
        Ok((socket, _)) => {
            Ok(Dialed { socket, origin: origin.to_string(), cancel: cancel.clone(), _guard: guard, send_within: timeout })
        }
        Err(HandshakeError::Interrupted(_)) => {
            Err(Error::new(ErrorKind::Timeout, format!("{origin} did not answer the handshake in time")))
        }
        Err(HandshakeError::Failure(fault)) => Err(refused(origin, fault)),
    }
}

impl Dialed {
    /// Waits for the next message, at most `timeout`.
    ///
    /// # Errors
    /// Where the connection is over.
    pub fn recv(&mut self, timeout: Duration) -> Result<Got, Ended> {
        self.timed().allow(timeout);
        match self.socket.read() {
            Ok(Message::Text(text)) => Ok(Got::Text(text.as_str().to_string())),
            Ok(Message::Close(frame)) => {
                self.timed().allow(Duration::from_secs(1));
                let _ = self.socket.flush(); // our part of the close; the peer may be gone
                Err(self.closed(frame.as_ref()))
            }
            Ok(_) => {
                let send_within = self.send_within;
                self.timed().allow(send_within);
                self.socket.flush().map_err(|fault| self.ended(fault))?; // the answer to a ping
                Ok(Got::Sign)
            }
            Err(Fault::Io(e)) if e.kind() == IoKind::WouldBlock => Ok(Got::Nothing),
            Err(fault) => Err(self.ended(fault)),
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// Where it was not taken in time, or the connection is over.
    pub fn send(&mut self, text: &str) -> Result<(), Ended> {
        self.put(Message::text(text))
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// As [`Dialed::send`].
    pub fn ping(&mut self) -> Result<(), Ended> {
        self.put(Message::Ping(Default::default()))
    }

    /// Says goodbye with that code, waits for nothing.
    pub fn close(mut self, code: u16) {
        self.timed().allow(Duration::from_secs(1));
        let _ = self.socket.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() })); // the peer may be gone
        let _ = self.socket.flush();
    }

    fn put(&mut self, message: Message) -> Result<(), Ended> {
        let send_within = self.send_within;
        self.timed().allow(send_within);
        match self.socket.send(message) {
            Ok(()) => Ok(()),
            Err(Fault::Io(e)) if e.kind() == IoKind::WouldBlock && !self.cancel.is_set() => {
                let text = format!("{} takes nothing more", self.origin);
                Err(Ended { code: None, error: Error::new(ErrorKind::Timeout, text) })
            }
            Err(fault) => Err(self.ended(fault)),
        }
    }

    fn timed(&mut self) -> &mut Timed {
        match self.socket.get_mut() {
            Wire::Plain(timed) => timed,
            Wire::Secure(tls) => &mut tls.sock,
        }
    }

    fn closed(&self, frame: Option<&CloseFrame>) -> Ended {
        let (code, reason) = frame.map_or((1005, String::new()), |f| (u16::from(f.code), shorten(&f.reason, 123)));
        let text = format!("{} closed the connection: {code} {reason}", self.origin);
        Ended { code: Some(code), error: Error::new(ErrorKind::Transient, text.trim_end()) }
    }

    fn ended(&self, fault: Fault) -> Ended {
        let error = match fault {
            _ if self.cancel.is_set() => stopped(&self.origin),
            Fault::Capacity(_) => {
                Error::new(ErrorKind::Transient, format!("{} sent more than {MESSAGE_MAX} bytes at once", self.origin))
            }
            Fault::Protocol(_) | Fault::Utf8(_) => {
                Error::new(ErrorKind::Transient, format!("{} breaks the WebSocket protocol", self.origin))
            }
            _ => Error::new(ErrorKind::Transient, format!("{} broke the connection off", self.origin)),
        };
        Ended { code: None, error }
    }
}

fn stopped(origin: &str) -> Error {
    Error::new(ErrorKind::Stopped, format!("the connection to {origin} was ended here"))
}

fn refused(origin: &str, fault: Fault) -> Error {
    let response = match fault {
        Fault::Http(response) => response,
        Fault::Io(e) if e.kind() == IoKind::InvalidData => {
            return Error::new(
                ErrorKind::Permanent,
                format!("no trusted TLS connection to {origin}: {}", shorten(&e.to_string(), 200)),
            )
            .hint("check the server's certificate and its name, and this machine's clock");
        }
        Fault::Io(_) => return Error::new(ErrorKind::Transient, format!("{origin} broke the handshake off")),
        _ => return Error::new(ErrorKind::Transient, format!("{origin} speaks no WebSocket")),
    };
    let status = response.status().as_u16();
    let seconds = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let kind = match status {
        401 | 403 => ErrorKind::Denied,
        429 => ErrorKind::Throttled(seconds.map(Duration::from_secs)),
        408 | 500.. => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    };
    Error::new(kind, format!("{origin} refused the connection: {status}"))
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(s) => s.read(buf),
            Wire::Secure(s) => s.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(s) => s.write(buf),
            Wire::Secure(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Wire::Plain(s) => s.flush(),
            Wire::Secure(s) => s.flush(),
        }
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
