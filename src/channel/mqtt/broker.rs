//! A scripted broker over a real socket, for tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// The listener.
pub struct Broker(TcpListener);

/// One client.
pub struct Client {
    pub stream: TcpStream,
    pub connect: Vec<u8>,
}

impl Broker {
    /// One that nobody connected to.
    pub fn new() -> Self {
        Broker(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next client, with its CONNECT.
    pub fn accept(&self) -> Client {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = Client { stream, connect: Vec::new() };
        client.connect = client.packet();
        client
    }

    /// The next client, accepted and subscribed. `session`: whether it has one.
    pub fn serve(&self, session: u8) -> Client {
        let mut client = self.accept();
        client.say(&[0x20, 3, session, 0, 0]);
        let subscribe = client.until(0x82);
        client.say(&[0x90, 4, subscribe[2], subscribe[3], 0, 1]);
        client
    }
}

impl Client {
    /// Sends bytes.
    pub fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet, whole; empty where the client is gone.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        if self.stream.read_exact(&mut packet).is_err() {
            return Vec::new();
        }
        let mut length = usize::from(packet[1] & 0x7F);
        while packet.last().unwrap() & 0x80 != 0 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            length |= usize::from(byte[0] & 0x7F) << (7 * (packet.len() - 1));
            packet.push(byte[0]);
        }
        let head = packet.len();
        packet.resize(head + length, 0);
        self.stream.read_exact(&mut packet[head..]).unwrap();
        packet
    }

    /// The next packet that begins so; PINGREQs on the way are answered, others are passed over.
    pub fn until(&mut self, first: u8) -> Vec<u8> {
        loop {
            let packet = self.packet();
            assert!(!packet.is_empty(), "the client is gone while {first:#x} was expected");
            if packet[0] == first {
                return packet;
            }
            if packet[0] == 0xC0 {
                self.say(&[0xD0, 0]);
            }
        }
    }

    /// Sends a message of `ana` with QoS 1.
    pub fn publish(&mut self, packet_id: u8, text: &str, is_again: bool) {
        let first = if is_again { 0x3A } else { 0x32 };
        let mut packet = vec![first, (2 + 14 + 3 + text.len()) as u8, 0, 14];
        packet.extend(b"gatelet/in/ana");
        packet.extend([0, packet_id, 0]);
        packet.extend(text.as_bytes());
        self.say(&packet);
    }
}
