//! A scripted model's server, OpenAI-compatible and Anthropic-compatible (by the path that is asked): says `echo: <the user's last
//! words>` unless its script wills otherwise, and remembers what it was asked. Its faults are those of real servers on bad days.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pause;
use super::server::{self, Asked, Served};
use super::wire::{Wire, begin};

/// One question to the model.
#[derive(Clone, Debug)]
pub struct Question {
    /// How many came before it.
    pub number: usize,
    /// What the user said last.
    pub text: String,
    /// The names of the tools that it may call, as they are on the wire.
    pub tools: Vec<String>,
    /// What came of the calls since the user's last words, in order.
    pub results: Vec<String>,
    /// How often it called tools since the user's last words.
    pub rounds: usize,
    /// The whole request.
    pub body: Value,
    /// When it came.
    pub at: Instant,
}

impl Question {
    /// The words of this conversation before the last ones, as one text.
    pub fn history(&self) -> String {
        let messages = self.body["messages"].as_array().cloned().unwrap_or_default();
        messages[..messages.len().saturating_sub(1)].iter().map(|m| m["content"].to_string()).collect::<Vec<_>>().join("\n")
    }
}

/// What the model does about a question.
#[derive(Clone, Debug)]
pub enum Act {
    /// Says this: word by word where a stream was asked for.
    Say(String),
    /// Does that after a pause (ms).
    After(u64, Box<Act>),
    /// Calls these tools (names as on the wire, arguments as JSON text), in pieces where a stream was asked for.
    Call(Vec<(String, String)>),
    /// Says this, then calls these tools.
    SayAndCall(String, Vec<(String, String)>),
    /// Streams half of a call of this tool with these arguments, then closes.
    HalfCall(String, String),
    /// Streams these words with a pause (ms) before each.
    Slowly(u64, Vec<String>),
    /// Answers with this status, headers and body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Reads the question and never says a word (until the caller hangs up, or 60 s).
    Hang,
    /// Streams one word, then nothing more.
    HangBetweenChunks,
    /// Streams one word, then resets the connection.
    ResetMidStream,
    /// Closes the connection without an answer.
    Close,
    /// Bytes that are no HTTP.
    Garbage,
    /// A stream of events that are no JSON.
    GarbageEvents,
    /// A web page with status 200, as captive portals give.
    Html,
    /// JSON that ends in the middle, though the framing is whole.
    TruncatedJson,
    /// A body that has no end.
    EndlessBody,
    /// A whole answer in which the content is null.
    NullContent,
    /// A whole answer without choices.
    EmptyChoices,
}

/// A configuration whose agent `main` is an echo that all tests share: for those that ask nothing of the model itself.
pub fn echo_config() -> Value {
    static SHARED: OnceLock<Model> = OnceLock::new();
    SHARED.get_or_init(Model::echo).config()
}

type Script = dyn Fn(&Question) -> Act + Send + Sync;

/// A call for [`Act::Call`].
pub fn call(name: &str, arguments: Value) -> (String, String) {
    (name.to_string(), arguments.to_string())
}

/// The server.
pub struct Model {
    served: Served,
    asked: Arc<Mutex<Vec<Question>>>,
    wire: Wire,
}

impl Model {
    /// One that echoes.
    pub fn echo() -> Self {
        Model::scripted(|q| Act::Say(format!("echo: {}", q.text)))
    }

    /// One that echoes after `ms`.
    pub fn slow(ms: u64) -> Self {
        Model::scripted(move |q| Act::After(ms, Box::new(Act::Say(format!("echo: {}", q.text)))))
    }

    /// One that does what `script` says.
    pub fn scripted(script: impl Fn(&Question) -> Act + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, script): (_, Box<Script>) = (asked.clone(), Box::new(script));
        let served = server::serve(move |request, stream| take(request, stream, &seen, &*script));
        Model { served, asked, wire: Wire::OpenAi }
    }

    /// The same one, configured for Anthropic's format.
    pub fn anthropic(self) -> Self {
        Model { wire: Wire::Anthropic, ..self }
    }

    /// Its entry under `providers`.
    pub fn provider(&self) -> Value {
        let name = match self.wire {
            Wire::OpenAi => "openai",
            Wire::Anthropic => "anthropic",
        };
        json!({"type": name, "baseUrl": self.base(), "apiKey": "key-00000000000000000000"})
    }

    /// Its `baseUrl`.
    pub fn base(&self) -> String {
        let base = if matches!(self.wire, Wire::OpenAi) { "/v1" } else { "" };
        format!("http://127.0.0.1:{}{base}", self.served.port)
    }

    /// A configuration whose agent `main` is this model.
    pub fn config(&self) -> Value {
        json!({"providers": {"stub": self.provider()}, "agents": {"main": {"provider": "stub", "model": "stub"}}})
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often exactly these words were asked.
    pub fn times(&self, text: &str) -> usize {
        self.asked().iter().filter(|q| q.text == text).count()
    }
}

fn take(request: &Asked, stream: &mut TcpStream, seen: &Mutex<Vec<Question>>, script: &Script) -> io::Result<()> {
    if request.method == "GET" {
        let list = json!({"object": "list", "data": [{"id": "stub", "object": "model"}]}).to_string();
        return server::answer(stream, 200, &[("Content-Type", "application/json")], list.as_bytes());
    }
    let wire = if request.path.ends_with("/v1/messages") { Wire::Anthropic } else { Wire::OpenAi };
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let heard = wire.heard(&body);
    let question = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, at) = (seen.len(), Instant::now());
        let question =
            Question { number, text: heard.text, tools: heard.tools, results: heard.results, rounds: heard.rounds, body, at };
        seen.push(question.clone());
        question
    };
    let streamed = question.body["stream"] == true;
    act(script(&question), wire, streamed, stream)
}

fn act(what: Act, wire: Wire, streamed: bool, stream: &mut TcpStream) -> io::Result<()> {
    let hung_up = || Err(io::ErrorKind::ConnectionAborted.into());
    let json_type = [("Content-Type", "application/json")];
    match what {
        Act::After(ms, then) => {
            pause(ms);
            act(*then, wire, streamed, stream)
        }
        Act::Say(text) if streamed => {
            begin(stream, wire)?;
            wire.speak(stream, &text.split_inclusive(' ').map(str::to_string).collect::<Vec<_>>(), 0)?;
            wire.end(stream, false)
        }
        Act::Slowly(ms, words) if streamed => {
            begin(stream, wire)?;
            wire.speak(stream, &words, ms)?;
            wire.end(stream, false)
        }
        Act::Call(calls) => act(Act::SayAndCall(String::new(), calls), wire, streamed, stream),
        Act::SayAndCall(text, calls) if streamed => {
            begin(stream, wire)?;
            wire.speak(stream, &text.split_inclusive(' ').map(str::to_string).collect::<Vec<_>>(), 0)?;
            wire.call(stream, &calls, false)?;
            wire.end(stream, true)
        }
        Act::SayAndCall(text, calls) => {
            let said = if text.is_empty() { Value::Null } else { json!(text) };
            server::answer(stream, 200, &json_type, wire.whole(said, &calls).as_bytes())
        }
        Act::HalfCall(name, arguments) => {
            begin(stream, wire)?;
            wire.call(stream, &[(name, arguments)], true)?;
            hung_up()
        }
        Act::Say(text) => server::answer(stream, 200, &json_type, wire.whole(json!(text), &[]).as_bytes()),
        Act::Slowly(ms, words) => {
            pause(ms * words.len() as u64);
            server::answer(stream, 200, &json_type, wire.whole(json!(words.concat()), &[]).as_bytes())
        }
        Act::Status(status, headers, body) => {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            server::answer(stream, status, &headers, body.as_bytes())
        }
        Act::Hang => {
            wait_for_hangup(stream);
            hung_up()
        }
        Act::HangBetweenChunks => {
            begin(stream, wire)?;
            wire.speak(stream, &["half ".into()], 0)?;
            wait_for_hangup(stream);
            hung_up()
        }
        Act::ResetMidStream => {
            begin(stream, wire)?;
            wire.speak(stream, &["half ".into()], 0)?;
            pause(30);
            rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?; // a close then sends RST
            hung_up()
        }
        Act::Close => hung_up(),
        Act::Garbage => {
            stream.write_all(b"\x00\xff\x13garbage\r\n\r\n\r\n")?;
            hung_up()
        }
        Act::GarbageEvents => {
            let events = "data: {\"choices\":[{\n\ndata: \u{7}\n\nnonsense: 1\n\n";
            server::answer(stream, 200, &[("Content-Type", "text/event-stream")], events.as_bytes())
        }
        Act::Html => server::answer(stream, 200, &[("Content-Type", "text/html")], b"<html><body>Please log in</body></html>"),
        Act::TruncatedJson => server::answer(stream, 200, &json_type, wire.whole_begin().as_bytes()),
        Act::EndlessBody => endless(stream, wire, streamed),
        Act::NullContent => server::answer(stream, 200, &json_type, wire.whole(Value::Null, &[]).as_bytes()),
        Act::EmptyChoices => server::answer(stream, 200, &json_type, wire.whole_empty().as_bytes()),
    }
}

fn endless(stream: &mut TcpStream, wire: Wire, streamed: bool) -> io::Result<()> {
    let word = "x".repeat(16 * 1024);
    let began = Instant::now();
    if streamed {
        begin(stream, wire)?;
        while began.elapsed() < Duration::from_secs(60) {
            wire.speak(stream, std::slice::from_ref(&word), 0)?;
        }
    } else {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", wire.whole_begin());
        stream.write_all(head.as_bytes())?;
        while began.elapsed() < Duration::from_secs(60) {
            stream.write_all(word.as_bytes())?;
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

fn wait_for_hangup(stream: &TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = io::Read::read(&mut &*stream, &mut [0u8; 1]);
}
