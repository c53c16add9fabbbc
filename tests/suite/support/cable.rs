//! A cable between the gateway and a service, which can be pulled: connections through it are reset and new ones refused at once. Or it
//! is a narrow one.
//!
//! Invariant: loopback alone, a port of the kernel's; what goes through is not changed. It counts who tries.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The cable.
pub struct Cable {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_pulled: AtomicBool,
    is_over: AtomicBool,
    /// Bytes a second each way; 0: as many as come.
    pace: AtomicUsize,
    /// Connections that were tried while it was pulled.
    tried: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Cable {
    /// One that leads to that port.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let own = listener.local_addr().expect("its number").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                // Under the lock, or one that comes while it is pulled would live through it.
                let mut open = shared.open.lock().unwrap();
                if shared.is_pulled.load(Ordering::SeqCst) {
                    shared.tried.fetch_add(1, Ordering::SeqCst);
                    reset(&stream);
                    continue;
                }
                if let Ok(far) = TcpStream::connect(("127.0.0.1", port)) {
                    open.extend([stream.try_clone(), far.try_clone()].into_iter().flatten());
                    carry(&stream, &far, &shared);
                    carry(&far, &stream, &shared);
                }
            }
        });
        Cable { port: own, state }
    }

    /// Lets so many bytes a second through, each way of each connection.
    pub fn narrow(&self, pace: usize) {
        self.state.pace.store(pace, Ordering::SeqCst);
    }

    /// Pulls it.
    pub fn pull(&self) {
        self.state.is_pulled.store(true, Ordering::SeqCst);
        self.state.open.lock().unwrap().drain(..).for_each(|s| reset(&s));
    }

    /// Puts it back; gives how often a connection was tried meanwhile.
    pub fn plug(&self) -> usize {
        self.state.is_pulled.store(false, Ordering::SeqCst);
        self.state.tried.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener
    }
}

fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn carry(from: &TcpStream, to: &TcpStream, state: &Arc<State>) {
    let state = state.clone();
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let pace = state.pace.load(Ordering::SeqCst);
            let most = if pace == 0 { buffer.len() } else { (pace / 20).clamp(1, buffer.len()) };
            let Ok(n) = from.read(&mut buffer[..most]) else { break };
            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                break;
            }
            if pace > 0 {
                super::pause(1000 * n as u64 / pace as u64);
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
