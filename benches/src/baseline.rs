//! The servers that `/health` is compared with, each in a process of its own: this program runs itself as one.
//!
//! Invariant: each does the least that still is its kind of server, and answers the same body. It prints its address on one
//! line and ends when its standard input closes, so that none outlives the run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::Outcome;

const BODY: &str = "{\"status\":\"ok\",\"version\":\"0.1.0\"}";

/// A baseline that runs; killed when dropped.
pub struct Baseline {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Baseline {
    /// Starts this program as `serve-bare` or `serve-axum`.
    pub fn start(word: &str) -> Outcome<Baseline> {
        let mut child = Command::new(std::env::current_exe()?).arg(word).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{word} did not start"))?;
        Ok(Baseline { child, address })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends the process when standard input does.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// The bare blocking responder: a thread per connection, a search for the end of the head, one write.
pub fn bare() -> Outcome<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    end_with_parent();
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            let _ = respond(stream);
        })?;
    }
    Ok(())
}

fn respond(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let found = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let (mut buffer, mut filled) = ([0; 4096], 0);
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            n => filled += n,
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            let answer = if buffer.starts_with(b"GET /health ") { found.as_str() } else { missing };
            stream.write_all(answer.as_bytes())?;
            filled = 0;
        }
    }
}

/// axum on tokio with two workers, as its documentation sets it up, TCP_NODELAY on.
pub fn axum() -> Outcome<()> {
    use axum::serve::ListenerExt;
    #[derive(serde::Serialize)]
    struct Health {
        status: &'static str,
        version: &'static str,
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let health = || async { axum::Json(Health { status: "ok", version: "0.1.0" }) };
        let app = axum::Router::new().route("/health", axum::routing::get(health));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        end_with_parent();
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await?;
        Ok(())
    })
}
