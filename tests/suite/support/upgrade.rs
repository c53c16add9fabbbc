//! The server's side of a WebSocket, on a connection of the scripted HTTP server.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};
use tungstenite::{Error, Message};

use super::server::Asked;

/// What came.
pub enum Came {
    Json(Value),
    Nothing,
    Gone,
}

/// One socket.
pub struct Peer(WebSocket<TcpStream>);

impl Peer {
    /// Answers the handshake; reads wait for 20 ms from then on.
    pub fn accept(asked: &Asked, stream: &TcpStream) -> io::Result<Peer> {
        let key = asked.header("sec-websocket-key").ok_or(io::ErrorKind::InvalidData)?;
        let mut stream = stream.try_clone()?;
        let accept = derive_accept_key(key.as_bytes());
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Peer(WebSocket::from_raw_socket(stream, Role::Server, None)))
    }

    pub fn say(&mut self, frame: &Value) -> io::Result<()> {
        self.0.send(Message::text(frame.to_string())).map_err(io::Error::other)
    }

    pub fn hear(&mut self) -> Came {
        match self.0.read() {
            Ok(Message::Text(text)) => serde_json::from_str(&text).map_or(Came::Gone, Came::Json),
            Ok(Message::Close(_)) => {
                let _ = self.0.flush();
                Came::Gone
            }
            Ok(_) => {
                let _ = self.0.flush();
                Came::Nothing
            }
            Err(Error::Io(e)) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Came::Nothing,
            Err(_) => Came::Gone,
        }
    }

    /// Closes it with that code.
    pub fn close(mut self, code: u16) {
        let _ = self.0.close(Some(CloseFrame { code: code.into(), reason: "".into() }));
        let _ = self.0.flush();
    }

    /// Ends it in the hard way.
    pub fn reset(self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.0.get_ref(), Some(Duration::ZERO));
        let _ = self.0.get_ref().shutdown(std::net::Shutdown::Both);
    }
}
