//! The bytes of one socket: what tungstenite reads from and writes to, and how it is set up.
//!
//! Invariant: never blocks, and gives at most a budget of bytes per round, so that no flood (endless empty fragments, say) holds
//! its thread inside the codec. It follows the frame boundaries of what it has given, to tell when the codec holds nothing and
//! may be replaced by a small new one. Fails with the socket's own errors; `WouldBlock` means: wait.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::socket::QUEUE_BYTES;

/// A message, and a frame, of a peer's at most.
pub const MESSAGE_BYTES: usize = 256 * 1024;
/// The same before what is expected has come (see [`super::Socket::expect_within`]): strangers get less.
pub const MESSAGE_BYTES_UNSETTLED: usize = 16 * 1024;
/// Bytes read in one round at most.
const ROUND_BYTES: usize = 64 * 1024;
/// What leaves the codec with a buffer that is worth giving back.
const HEAVY: u64 = 16 * 1024;
/// The kernel's send buffer asked for (it doubles it): without it one reader that doesn't read costs up to 4 MiB in there. It
/// tells of room by the third, so a reader of less than about 2 KiB a second seems to stand still.
const SEND_BUFFER: usize = 32 * 1024;
/// Read at once, and kept for each socket: a chat message fits. It grows with a longer one.
const READ_BUFFER: usize = 1024;
/// Small writes are joined up to this.
const WRITE_BUFFER: usize = 16 * 1024;

/// A codec with small buffers (its own default is 128 KiB a socket) and all its bounds set.
pub fn codec() -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(QUEUE_BYTES + 8 * WRITE_BUFFER)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    WebSocketContext::new(Role::Server, Some(config))
}

/// A non-blocking stream with a head still to be written and bytes that were read before.
pub struct Wire {
    stream: TcpStream,
    head: Vec<u8>,
    rest: Vec<u8>,
    budget: usize,
    dry: bool,
    taken: u64,
    given: u64,
    frames: Frames,
    heavy: bool,
}

impl Wire {
    /// A wire over `stream`: writes `head` (the answer to the handshake) before all else, reads `rest` first.
    ///
    /// # Errors
    /// Where the stream can't be made non-blocking.
    pub fn new(stream: TcpStream, head: Vec<u8>, rest: Vec<u8>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let _ = stream.set_nodelay(true); // slower without it, not wrong
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER); // likewise
        let frames = Frames::default();
        Ok(Wire { stream, head, rest, budget: 0, dry: false, taken: 0, given: 0, frames, heavy: false })
    }

    /// Begins a round of reading.
    pub fn begin(&mut self) {
        (self.budget, self.dry) = (ROUND_BYTES, false);
    }

    /// Whether the last round left nothing to read at once.
    pub fn is_dry(&self) -> bool {
        self.dry
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.taken
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.given
    }

    /// Whether the codec has grown large buffers while, as far as reading goes, it holds nothing: no part of a frame, no
    /// fragments. True once for each growth.
    pub fn may_trim(&mut self) -> bool {
        let may = self.heavy && self.dry && self.frames.at_rest();
        self.heavy &= !may;
        may
    }

    /// Ends our direction: the peer sees the end after all that was written.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write); // the peer may be gone: then it is finished, too
    }

    /// Reads and forgets what there is, within one round's budget; false where nothing will ever come again. What was unread
    /// when a socket closes would make the kernel send a reset, which may destroy our last frame on its way.
    pub fn discard(&mut self) -> bool {
        let mut scratch = [0u8; 4096];
        loop {
            match self.read_raw(&mut scratch) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn read_raw(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.dry || self.budget == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = if self.rest.is_empty() {
            loop {
                match self.stream.read(buf) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.dry = true;
                        return Err(e);
                    }
                    Ok(n) => {
                        // A short read has emptied the socket; what comes later, poll tells.
                        self.dry = n < buf.len() && n > 0;
                        break n;
                    }
                }
            }
        } else {
            let n = buf.len().min(self.rest.len());
            buf[..n].copy_from_slice(&self.rest[..n]);
            self.rest.drain(..n);
            if self.rest.is_empty() {
                self.rest = Vec::new(); // its buffer is the size of a head
            }
            n
        };
        self.budget = self.budget.saturating_sub(n);
        self.given += n as u64;
        Ok(n)
    }

    fn write_raw(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(buf) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.taken += n as u64;
                    return Ok(n);
                }
            }
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_raw(buf)?;
        self.heavy |= self.frames.follow(&buf[..n]) > HEAVY;
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.flush()?;
        self.heavy |= buf.len() as u64 > HEAVY;
        self.write_raw(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            let written = self.write_raw(&head);
            if let Some(left) = head.get(*written.as_ref().unwrap_or(&0)..) {
                self.head = left.to_vec();
            }
            if written? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// Follows the boundaries of frames in a stream of bytes: headers alone, payloads are counted.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 14],
    have: usize,
    payload_left: u64,
    /// A data message has begun and its last fragment has not come.
    fragments: bool,
}

impl Frames {
    /// Follows `bytes`; gives the longest payload announced in them.
    fn follow(&mut self, mut bytes: &[u8]) -> u64 {
        let mut longest = 0;
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let n = (bytes.len() as u64).min(self.payload_left);
                self.payload_left -= n;
                bytes = &bytes[n as usize..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_len() {
                self.payload_left = self.payload_len();
                longest = longest.max(self.payload_left);
                let (last, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
                if opcode < 8 {
                    self.fragments = !last;
                }
                self.have = 0;
            }
        }
        longest
    }

    fn at_rest(&self) -> bool {
        self.have == 0 && self.payload_left == 0 && !self.fragments
    }

    fn header_len(&self) -> usize {
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        mask + match self.header[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn payload_len(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        match self.header[1] & 0x7f {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            n => u64::from(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_reads_a_budget_and_tells_whether_more_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut wire = Wire::new(listener.accept().unwrap().0, Vec::new(), vec![1; 10_000]).unwrap();
        theirs.write_all(&[2; 100_000]).unwrap();
        let (mut rounds, mut all) = (Vec::new(), 0);
        while all < 110_000 {
            wire.begin();
            let mut buf = [0; 4096];
            let mut round = 0;
            let end = loop {
                match wire.read(&mut buf) {
                    Ok(n) => round += n,
                    Err(e) => break e.kind(),
                }
            };
            assert_eq!(end, ErrorKind::WouldBlock);
            all += round;
            rounds.push(round);
            assert!(round < ROUND_BYTES + buf.len() && (wire.is_dry() || round >= ROUND_BYTES), "{rounds:?}");
        }
        assert!(rounds.len() > 1 && wire.bytes_read() == 110_000 && wire.rest.capacity() == 0, "{rounds:?}");
    }

    #[test]
    fn boundaries_are_followed_however_the_bytes_are_cut() {
        let long = |opcode: u8, len: usize| {
            let mut frame = vec![opcode, 0xff];
            frame.extend((len as u64).to_be_bytes());
            frame.extend([1, 2, 3, 4]);
            frame.extend(vec![0x81; len]); // payload that looks like headers
            frame
        };
        for (what, bytes, at_rest, longest) in [
            ("nothing", vec![], true, 0),
            ("half a header", vec![0x81], false, 0),
            ("a header without its mask", vec![0x81, 0x80, 0, 0, 0], false, 0),
            ("an empty frame", vec![0x81, 0x80, 0, 0, 0, 0], true, 0),
            ("an unmasked frame", vec![0x81, 1, b'a'], true, 1),
            ("two frames", [vec![0x81, 1, b'a'], vec![0x89, 0]].concat(), true, 1),
            ("16 bits of length", [vec![0x81, 0xfe, 1, 0, 0, 0, 0, 0], vec![0; 256]].concat(), true, 256),
            ("one byte short", [vec![0x81, 0xfe, 1, 0, 0, 0, 0, 0], vec![0; 255]].concat(), false, 256),
            ("64 bits of length", long(0x81, 70_000), true, 70_000),
            ("a first fragment", long(0x01, 10), false, 10),
            ("a ping between fragments", [long(0x01, 10), long(0x89, 5)].concat(), false, 10),
            ("all fragments", [long(0x01, 10), long(0x89, 5), long(0x00, 1), long(0x80, 0)].concat(), true, 10),
        ] {
            for cut in [1, 2, 3, 7, 4096, usize::MAX] {
                let mut frames = Frames::default();
                let found = bytes.chunks(cut).map(|part| frames.follow(part)).max().unwrap_or(0);
                assert_eq!((frames.at_rest(), found), (at_rest, longest), "{what}, cut by {cut}");
            }
        }
    }
}
