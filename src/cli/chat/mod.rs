//! `gatelet chat`: a conversation in this terminal, over the WebSocket.
//!
//! Invariant: a line is said again until the gateway has it on disk (`accepted`), under the same id, so that it is one message however often the
//! connection breaks; replies are acknowledged when they are shown, and shown once. On a pipe it ends when every line has its reply. A
//! decision goes out for the question that was on the screen. Fails as the gateway refuses, or where it stays away.

mod markdown;
mod screen;

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind};
use crate::base::ids::new_id;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, STACK_SMALL, Threads};
use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{field, styled, write};
use crate::cli::remote::Remote;
use crate::net::websocket::client::{Connection, connect};
use screen::Screen;

/// How often the sources (the gateway, the keyboard) are looked at in turn.
const TURN: Duration = Duration::from_millis(30);
/// How long a reply may take after the last line was read from a pipe.
const LAST_REPLY: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);
/// Pauses before connecting again: they double up to the last.
const PAUSE: Duration = Duration::from_millis(300);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a pipe waits for a gateway that is gone.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Deliveries that are remembered as shown, and questions that wait.
const SHOWN_MAX: usize = 1_000;
const QUESTIONS_MAX: usize = 100;

/// Runs it.
///
/// # Errors
/// `Unreachable`, `Refused`; `Failed` where a message failed on a pipe.
pub fn run(options: &Options) -> Result<(), Failure> {
    let remote = Remote::find(options, true)?;
    let connection = open(&remote)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !options.json;
    let mut talk = Talk {
        connection,
        remote,
        is_terminal,
        agent: options.value("agent").map(str::to_string),
        json: options.json,
        screen: Screen::new(is_terminal),
        open: HashSet::new(),
        sent: Vec::new(),
        shown: VecDeque::new(),
        questions: VecDeque::new(),
        failures: 0,
        interrupts: 0,
        clock: Clock::system(),
    };
    let (keys, interrupts) = (lines()?, if is_terminal { interrupts()? } else { crossbeam_channel::never() });
    talk.run(&keys, &interrupts)
}

fn open(remote: &Remote) -> Result<Connection, Failure> {
    let url = format!("{}/ws", remote.base.replacen("http", "ws", 1));
    connect(&url, remote.token.as_ref().map(|t| t.reveal()), CONNECT).map_err(|e| match e.kind {
        ErrorKind::Denied => Failure::Refused(e.to_string()),
        ErrorKind::Invalid => Failure::Usage(e.to_string()),
        _ => Failure::Unreachable(format!("can't reach the gateway at {}: {e}. Is it running? (gatelet serve)", remote.base)),
    })
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

/// Each Ctrl-C.
fn interrupts() -> Result<Receiver<()>, Failure> {
    let (tx, rx) = crossbeam_channel::bounded(4);
    let mut signals = Signals::new([SIGINT]).map_err(|e| Failure::Failed(format!("Ctrl-C can't be handled: {e}")))?;
    let read = move || {
        for _ in signals.forever() {
            let _ = tx.try_send(()); // full: one is looked at soon
        }
    };
    Threads::new().spawn_once("interrupts", STACK_SMALL, read).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(rx)
}

struct Talk {
    connection: Connection,
    remote: Remote,
    is_terminal: bool,
    agent: Option<String>,
    json: bool,
    screen: Screen,
    /// Accepted messages without their reply, by their ids.
    open: HashSet<String>,
    /// Messages that are not accepted yet: our id and the frame.
    sent: Vec<(String, String)>,
    /// Deliveries that were shown: one that comes again is acknowledged again.
    shown: VecDeque<String>,
    /// Questions that wait for this person, the one on the screen first.
    questions: VecDeque<Value>,
    failures: u32,
    /// Ctrl-C in a row.
    interrupts: u32,
    clock: Clock,
}

/// Whether the conversation goes on.
enum Go {
    On,
    Over,
}

impl Talk {
    fn run(&mut self, lines: &Receiver<String>, interrupts: &Receiver<()>) -> Result<(), Failure> {
        let mut ended: Option<Duration> = None;
        loop {
            if let Err(e) = self.receive() {
                if e.kind == ErrorKind::Denied {
                    let hint =
                        if self.remote.token.is_none() { ". A credential is needed: --token, or GATELET_TOKEN" } else { "" };
                    return Err(Failure::Refused(format!("{e}{hint}")));
                }
                if let Go::Over = self.reconnect(&e, interrupts)? {
                    return Ok(());
                }
                continue;
            }
            if interrupts.try_recv().is_ok()
                && let Go::Over = self.interrupted()
            {
                return Ok(());
            }
            match lines.try_recv() {
                Ok(line) => {
                    if let Go::Over = self.line(&line) {
                        return Ok(());
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    let since = *ended.get_or_insert(self.clock.mono());
                    if self.is_terminal || (self.open.is_empty() && self.sent.is_empty()) {
                        return self.outcome();
                    }
                    if self.clock.mono() - since > LAST_REPLY {
                        return Err(Failure::Failed("a reply did not come in time; it is kept for the next connection".into()));
                    }
                }
            }
        }
    }

    fn receive(&mut self) -> Result<(), Error> {
        match self.connection.recv(TURN)? {
            Some(frame) => self.show(&serde_json::from_str(&frame).unwrap_or(Value::Null)),
            None => Ok(()),
        }
    }

    fn outcome(&self) -> Result<(), Failure> {
        if self.is_terminal || self.failures == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{} messages failed", self.failures)))
    }

    /// Connects again, and says again what was not accepted.
    fn reconnect(&mut self, why: &Error, interrupts: &Receiver<()>) -> Result<Go, Failure> {
        self.screen.note(&format!("{why}; connecting again"));
        let (since, stop, mut pause) = (self.clock.mono(), Stop::new(), PAUSE);
        loop {
            match open(&self.remote) {
                Ok(connection) => {
                    self.connection = connection;
                    let frames: Vec<String> = self.sent.iter().map(|(_, frame)| frame.clone()).collect();
                    if frames.iter().all(|frame| self.connection.send(frame).is_ok()) {
                        return Ok(Go::On);
                    }
                }
                Err(Failure::Unreachable(why)) if !self.is_terminal && self.clock.mono() - since > AWAY_MAX => {
                    return Err(Failure::Unreachable(why));
                }
                Err(Failure::Unreachable(_)) => {}
                Err(other) => return Err(other),
            }
            if stop.wait(pause) || interrupts.try_recv().is_ok() {
                return Ok(Go::Over);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Ctrl-C: stops what is being answered; again, leaves.
    fn interrupted(&mut self) -> Go {
        self.interrupts += 1;
        if self.interrupts > 1 {
            write("\n");
            return Go::Over;
        }
        let is_busy = !self.open.is_empty() || !self.sent.is_empty();
        if is_busy {
            self.tell(&json!({"type": "stop"}));
        }
        self.screen.note(if is_busy { "stopped; Ctrl-C again leaves" } else { "Ctrl-C again leaves" });
        self.screen.prompt();
        Go::On
    }

    /// A frame whose loss shows at the next read.
    fn tell(&mut self, frame: &Value) {
        let _ = self.connection.send(&frame.to_string());
    }

    fn line(&mut self, line: &str) -> Go {
        self.interrupts = 0;
        let word = line.trim();
        if self.is_terminal && matches!(word, "/quit" | "/exit") {
            return Go::Over;
        }
        if self.is_terminal
            && let Some(question) = self.questions.front().cloned()
        {
            self.decide(&question, word);
            return Go::On;
        }
        if word.is_empty() {
            self.screen.prompt();
            return Go::On;
        }
        let id = new_id("cli", self.clock.unix_ms());
        let mut frame = json!({"type": "message", "id": id, "message": line});
        if let Some(agent) = &self.agent {
            frame["agent"] = json!(agent);
        }
        self.tell(&frame);
        self.sent.push((id, frame.to_string()));
        Go::On
    }

    /// The line under a question.
    fn decide(&mut self, question: &Value, word: &str) {
        let decision = match word.to_lowercase().as_str() {
            "y" | "yes" | "allow" => "allow",
            "n" | "no" | "deny" => "deny",
            "a" | "always" => "always",
            "" => {
                self.questions.pop_front();
                self.screen.note("left open: gatelet approvals");
                return self.next_question();
            }
            _ => return write(&styled("1", "y, n or always (Enter leaves it open)> ")),
        };
        self.questions.pop_front();
        self.tell(&json!({"type": "approve", "id": field(question, "id"), "decision": decision}));
        self.next_question();
    }

    fn next_question(&mut self) {
        match self.questions.front() {
            Some(next) => self.screen.question(next),
            None => self.screen.prompt(),
        }
    }

    fn show(&mut self, frame: &Value) -> Result<(), Error> {
        if self.json {
            write(&format!("{frame}\n"));
        }
        let id = frame["messageId"].as_str().unwrap_or_default();
        match frame["type"].as_str().unwrap_or_default() {
            "ready" => {
                self.screen.note(&format!(
                    "connected to gatelet {} as {} (/help, /quit)",
                    field(frame, "version"),
                    field(frame, "userId")
                ));
                self.screen.prompt();
            }
            "accepted" => {
                self.sent.retain(|(ours, _)| frame["id"] != ours.as_str());
                self.open.insert(id.to_string());
            }
            "delta" if !self.json => self.screen.delta(id, frame["text"].as_str().unwrap_or_default()),
            "message" => {
                let delivery = frame["deliveryId"].as_str().unwrap_or_default();
                self.connection.send(&json!({"type": "ack", "messageId": delivery}).to_string())?;
                self.open.remove(id);
                if self.is_new(delivery) && !self.json {
                    self.screen.reply(id, frame["message"].as_str().unwrap_or_default());
                }
            }
            "approval" if !self.json => self.approval(frame),
            "error" => {
                self.failures += 1;
                self.sent.retain(|(ours, _)| frame["id"] != ours.as_str());
                self.open.remove(id);
                if !self.json {
                    self.screen.error(frame);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_new(&mut self, delivery: &str) -> bool {
        let is_new = !self.shown.iter().any(|shown| shown == delivery);
        if is_new {
            self.shown.truncate(SHOWN_MAX - 1);
            self.shown.push_front(delivery.to_string());
        }
        is_new
    }

    /// A question, or what became of one.
    fn approval(&mut self, frame: &Value) {
        let same = |question: &Value| question["id"] == frame["id"];
        if frame["mayDecide"] == true && self.is_terminal {
            if self.questions.len() < QUESTIONS_MAX && !self.questions.iter().any(same) {
                self.questions.push_back(frame.clone());
                if self.questions.len() == 1 {
                    self.screen.question(frame);
                }
            }
            return;
        }
        let was_shown = self.questions.front().is_some_and(same);
        self.questions.retain(|question| !same(question));
        let said = match frame["state"].as_str().unwrap_or_default() {
            "pending" => format!("waits for an operator: {}", field(frame, "tool")),
            state => format!("{}: {state}", field(frame, "tool")),
        };
        self.screen.note(&said);
        if was_shown {
            self.next_question();
        }
    }
}
