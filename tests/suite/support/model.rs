//! A scripted OpenAI-compatible server: says `echo: <the user's last words>` unless its script wills otherwise, and remembers
//! what it was asked. Its faults are those of real servers on bad days.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pause;
use super::server::{self, Asked, Served};

/// One question to the model.
#[derive(Clone, Debug)]
pub struct Question {
    /// How many came before it.
    pub number: usize,
    /// What the user said last.
    pub text: String,
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

/// The server.
pub struct Model {
    served: Served,
    asked: Arc<Mutex<Vec<Question>>>,
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
        Model { served, asked }
    }

    /// Its entry under `providers`.
    pub fn provider(&self) -> Value {
        json!({"type": "openai", "baseUrl": format!("http://127.0.0.1:{}/v1", self.served.port), "apiKey": "key-00000000000000000000"})
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
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let said = body["messages"].as_array().and_then(|m| m.iter().rev().find(|m| m["role"] == "user")).map(|m| &m["content"]);
    let text = match said {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    let question = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let question = Question { number: seen.len(), text, body, at: Instant::now() };
        seen.push(question.clone());
        question
    };
    let streamed = question.body["stream"] == true;
    act(script(&question), streamed, stream)
}

fn act(what: Act, streamed: bool, stream: &mut TcpStream) -> io::Result<()> {
    let hung_up = || Err(io::ErrorKind::ConnectionAborted.into());
    let json_type = [("Content-Type", "application/json")];
    match what {
        Act::After(ms, then) => {
            pause(ms);
            act(*then, streamed, stream)
        }
        Act::Say(text) if streamed => {
            speak(stream, &text.split_inclusive(' ').map(str::to_string).collect::<Vec<_>>(), 0)?;
            end_stream(stream)
        }
        Act::Slowly(ms, words) if streamed => {
            speak(stream, &words, ms)?;
            end_stream(stream)
        }
        Act::Say(text) => server::answer(stream, 200, &json_type, whole(json!(text)).as_bytes()),
        Act::Slowly(ms, words) => {
            pause(ms * words.len() as u64);
            server::answer(stream, 200, &json_type, whole(json!(words.concat())).as_bytes())
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
            speak(stream, &["half ".into()], 0)?;
            wait_for_hangup(stream);
            hung_up()
        }
        Act::ResetMidStream => {
            speak(stream, &["half ".into()], 0)?;
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
        Act::TruncatedJson => {
            server::answer(stream, 200, &json_type, br#"{"id":"x","choices":[{"index":0,"message":{"role":"assi"#)
        }
        Act::EndlessBody => endless(stream, streamed),
        Act::NullContent => server::answer(stream, 200, &json_type, whole(Value::Null).as_bytes()),
        Act::EmptyChoices => {
            let body = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": []}).to_string();
            server::answer(stream, 200, &json_type, body.as_bytes())
        }
    }
}

fn whole(content: Value) -> String {
    json!({"id": "x", "object": "chat.completion", "created": 1, "model": "stub",
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]})
    .to_string()
}

fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stub",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn event(stream: &mut TcpStream, data: &str) -> io::Result<()> {
    let event = format!("data: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
}

/// The head of a stream and these words, with the first chunk's null content that real servers send.
fn speak(stream: &mut TcpStream, words: &[String], before_each_ms: u64) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    event(stream, &chunk(json!({"role": "assistant", "content": null}), Value::Null).to_string())?;
    for word in words {
        pause(before_each_ms);
        event(stream, &chunk(json!({"content": word}), Value::Null).to_string())?;
    }
    Ok(())
}

/// The end of a stream, with the empty choices of its usage chunk.
fn end_stream(stream: &mut TcpStream) -> io::Result<()> {
    event(stream, &chunk(json!({}), json!("stop")).to_string())?;
    let usage = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}});
    event(stream, &usage.to_string())?;
    event(stream, "[DONE]")?;
    stream.write_all(b"0\r\n\r\n")
}

fn endless(stream: &mut TcpStream, streamed: bool) -> io::Result<()> {
    let word = "x".repeat(16 * 1024);
    if streamed {
        speak(stream, &[], 0)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            event(stream, &chunk(json!({"content": word}), Value::Null).to_string())?;
        }
    } else {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"")?;
        let began = Instant::now();
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
