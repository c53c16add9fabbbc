//! `gatelet chat`: a conversation in this terminal, over the WebSocket.
//!
//! Invariant: a line is said to be sent once the gateway has it on disk (`accepted`); replies are acknowledged when they are
//! shown. On a pipe it ends when every line has its reply.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use serde_json::{Value, json};

use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::ids::new_id;
use crate::base::threads::{STACK, Threads};
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{harmless, styled, write};
use crate::cli::remote::Remote;
use crate::net::websocket::client::{Connection, connect};

/// How often the two sources (the gateway, the keyboard) are looked at in turn.
const TURN: Duration = Duration::from_millis(30);
/// How long a reply may take after the last line was read from a pipe.
const LAST_REPLY: Duration = Duration::from_secs(300);

/// Runs it.
///
/// # Errors
/// `Unreachable`, `Refused`; `Failed` where a message failed on a pipe.
pub fn run(options: &Options) -> Result<(), Failure> {
    let remote = Remote::find(options, true)?;
    let url = format!("{}/ws", remote.base.replacen("http", "ws", 1));
    let connection =
        connect(&url, remote.token.as_ref().map(|t| t.reveal()), Duration::from_secs(10)).map_err(|e| match e.kind {
            ErrorKind::Denied => Failure::Refused(e.to_string()),
            ErrorKind::Invalid => Failure::Usage(e.to_string()),
            _ => Failure::Unreachable(format!("can't reach the gateway at {}: {e}. Is it running? (gatelet serve)", remote.base)),
        })?;
    let clock = Clock::system();
    let mut talk = Talk {
        connection,
        interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        agent: options.value("agent").map(str::to_string),
        json: options.json,
        open: HashSet::new(),
        sent: HashMap::new(),
        streamed: HashMap::new(),
        failures: 0,
        clock,
    };
    talk.run(&lines()?)
}

/// The lines of standard input, from a thread of their own.
fn lines() -> Result<Receiver<String>, Failure> {
    let (tx, rx) = crossbeam_channel::bounded(16);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                return;
            }
        }
    };
    Threads::new().spawn_once("stdin", STACK, read).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(rx)
}

struct Talk {
    connection: Connection,
    interactive: bool,
    agent: Option<String>,
    json: bool,
    /// Messages without their reply: by our id until accepted, then by theirs.
    open: HashSet<String>,
    /// Our ids of messages that are not accepted yet.
    sent: HashMap<String, ()>,
    /// What was shown of each reply so far.
    streamed: HashMap<String, String>,
    failures: u32,
    clock: Clock,
}

impl Talk {
    fn run(&mut self, lines: &Receiver<String>) -> Result<(), Failure> {
        let gone = |e: crate::base::error::Error| Failure::Unreachable(format!("the connection ended: {e}"));
        let mut ended: Option<Duration> = None;
        loop {
            match self.connection.recv(TURN) {
                Ok(Some(frame)) => {
                    let frame: Value = serde_json::from_str(&frame).unwrap_or(Value::Null);
                    self.show(&frame).map_err(gone)?;
                }
                Ok(None) => {}
                Err(e) if e.kind == ErrorKind::Denied => return Err(Failure::Refused(e.to_string())),
                Err(e) => return Err(gone(e)),
            }
            match lines.try_recv() {
                Ok(line) if line.trim().is_empty() => self.prompt(),
                Ok(line) if self.interactive && matches!(line.trim(), "/quit" | "/exit") => return Ok(()),
                Ok(line) => self.say(&line).map_err(gone)?,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    let since = *ended.get_or_insert(self.clock.mono());
                    if self.interactive || (self.open.is_empty() && self.sent.is_empty()) {
                        return self.outcome();
                    }
                    if self.clock.mono() - since > LAST_REPLY {
                        return Err(Failure::Failed("a reply did not come in time; it is kept for the next connection".into()));
                    }
                }
            }
        }
    }

    fn outcome(&self) -> Result<(), Failure> {
        if self.interactive || self.failures == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{} messages failed", self.failures)))
    }

    fn prompt(&self) {
        if self.interactive {
            write(&styled("1", "you> "));
        }
    }

    fn say(&mut self, line: &str) -> crate::base::error::Result<()> {
        let id = new_id("cli", self.clock.unix_ms());
        let mut frame = json!({"type": "message", "id": id, "message": line});
        if let Some(agent) = &self.agent {
            frame["agent"] = json!(agent);
        }
        self.connection.send(&frame.to_string())?;
        self.sent.insert(id, ());
        Ok(())
    }

    fn show(&mut self, frame: &Value) -> crate::base::error::Result<()> {
        if self.json {
            write(&format!("{frame}\n"));
        }
        let field = |key: &str| frame[key].as_str().unwrap_or("").to_string();
        let id = field("messageId");
        match frame["type"].as_str().unwrap_or("") {
            "ready" => {
                if self.interactive {
                    write(&format!(
                        "{} (/help, /quit)\n",
                        styled("2", &format!("connected to gatelet {} as {}", field("version"), field("userId")))
                    ));
                }
                self.prompt();
            }
            "accepted" => {
                self.sent.remove(&field("id"));
                self.open.insert(id);
            }
            "delta" if !self.json => {
                let text = field("text");
                let shown = self.streamed.entry(id).or_default();
                let begins = shown.is_empty();
                shown.push_str(&text);
                // A pipe gets whole replies alone: two at a time would mingle.
                if self.interactive {
                    write(&format!("{}{}", if begins { styled("32", "agent> ") } else { String::new() }, harmless(&text)));
                }
            }
            "message" => {
                self.connection.send(&json!({"type": "ack", "messageId": field("deliveryId")}).to_string())?;
                self.reply(&id, &field("message"));
            }
            "error" => {
                self.failures += 1;
                self.sent.remove(&field("id"));
                self.open.remove(&id);
                if !self.json {
                    write(&format!("\n{} {}\n", styled("31", "error:"), harmless(&field("message"))));
                }
                self.prompt();
            }
            _ => {}
        }
        Ok(())
    }

    fn reply(&mut self, id: &str, text: &str) {
        let shown = self.streamed.remove(id);
        self.open.remove(id);
        if self.json {
            return;
        }
        match shown {
            Some(shown) if self.interactive && shown == text => write("\n"),
            _ if self.interactive => write(&format!("\r{}{}\n", styled("32", "agent> "), harmless(text))),
            _ => write(&format!("{}\n", harmless(text))),
        }
        self.prompt();
    }
}
