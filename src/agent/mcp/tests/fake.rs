//! A server that does exactly what it is told, over pipes of its own: no process, and nothing on disk.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::agent::mcp::link::{Link, Opener, Signals};
use crate::agent::mcp::pipes::{Ends, Pipes};
use crate::agent::mcp::process::Piped;
use crate::agent::mcp::text::Stderr;

/// The server's side of one connection.
pub struct Side {
    /// Which connection it is, from 1.
    pub number: usize,
    input: BufReader<PipeReader>,
    output: PipeWriter,
}

impl Side {
    /// The next message; `None` once the input is closed.
    pub fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.input.read_line(&mut line).ok().filter(|n| *n > 0)?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Writes a line as it is; false once nobody reads.
    pub fn say(&mut self, line: &str) -> bool {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Writes these bytes; false once nobody reads.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.output.write_all(bytes).is_ok()
    }

    pub fn answer(&mut self, request: &Value, result: Value) {
        self.say(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string());
    }

    pub fn refuse(&mut self, request: &Value, code: i64) {
        self.say(&json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}}).to_string());
    }

    pub fn tell(&mut self, method: &str) -> bool {
        self.say(&json!({"jsonrpc": "2.0", "method": method}).to_string())
    }

    /// Answers what settles the protocol and the list of tools (`tools`); gives the first message that is anything else.
    pub fn greet(&mut self, tools: &[&str]) -> Option<Value> {
        loop {
            let message = self.hear()?;
            match message["method"].as_str().unwrap_or_default() {
                "server/discover" => self.refuse(&message, -32601),
                "initialize" => {
                    let able = json!({"tools": {"listChanged": true}});
                    self.answer(&message, json!({"protocolVersion": "2025-11-25", "capabilities": able, "serverInfo": {}}));
                }
                "notifications/initialized" => {}
                "tools/list" => self.list(&message, tools),
                "ping" => self.answer(&message, json!({})),
                _ => return Some(message),
            }
        }
    }

    pub fn list(&mut self, request: &Value, tools: &[&str]) {
        let tools: Vec<_> = tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
        self.answer(request, json!({"tools": tools}));
    }

    /// Reads until the input is closed.
    pub fn rest(&mut self) {
        while self.hear().is_some() {}
    }
}

/// Text as a result.
pub fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// Opens connections to `act`, each on a thread of its own.
pub struct Fake<F> {
    act: Arc<F>,
    opened: Mutex<usize>,
    threads: Threads,
}

impl<F: Fn(Side) + Send + Sync + 'static> Opener for Fake<F> {
    fn open(&self, signals: &Arc<Signals>) -> Result<Arc<dyn Link>> {
        let number = {
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            *opened
        };
        let ((input, stdin), (stdout, output)) = (pipe().unwrap(), pipe().unwrap());
        let act = self.act.clone();
        std::thread::spawn(move || act(Side { number, input: BufReader::new(input), output }));
        let ends = Ends { stdin: stdin.into(), stdout: stdout.into(), stderr: None };
        let clock = Clock::system();
        let pipes = Pipes::start("fake", ends, Stderr::new("fake", Vec::new()), signals, &clock, &self.threads)?;
        Ok(Arc::new(Piped { pipes, child: Mutex::default(), clock }))
    }
}

/// Paces for tests.
pub fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace { retry: ms(20), probe: ms(300), wait: ms(3000), refresh: ms(30), settled: ms(60_000) }
}

/// What is left when a test is over: nothing.
pub struct Watched {
    pub server: Arc<Server>,
    pub threads: Threads,
}

impl std::ops::Deref for Watched {
    type Target = Arc<Server>;

    fn deref(&self) -> &Self::Target {
        &self.server
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.server.stop();
        let late = self.threads.join(Duration::from_secs(10));
        assert!(std::thread::panicking() || late.is_empty(), "threads that stay: {late:?}");
    }
}

/// Looks after a server behind `opener`.
pub fn watched(transport: &'static str, opener: Box<dyn Opener>, threads: Threads, pace: Pace) -> Watched {
    let parts = Parts {
        name: "fake".to_string(),
        transport,
        opener,
        wanted: None,
        timeout: LONG,
        identity: Fingerprint::of("fake"),
        binding: "fake".to_string(),
        pace,
        clock: Clock::system(),
    };
    Watched { server: Server::start(parts, &threads), threads }
}

/// Looks after a server that does what `act` says, connection by connection.
pub fn fake(act: impl Fn(Side) + Send + Sync + 'static) -> Watched {
    paced(quick(), act)
}

/// The same at another pace.
pub fn paced(pace: Pace, act: impl Fn(Side) + Send + Sync + 'static) -> Watched {
    let threads = Threads::new();
    let opener = Fake { act: Arc::new(act), opened: Mutex::new(0), threads: threads.clone() };
    watched("stdio", Box::new(opener), threads, pace)
}
