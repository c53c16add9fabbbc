//! A stub model: an OpenAI-compatible server in this process that answers at once, or never.
//!
//! Invariant: it costs as little as it can (a thread per connection, one write per answer), so that what is measured is the
//! gateway. It speaks HTTP/1.1 keep-alive and bodies with a Content-Length or chunked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::Outcome;

/// What the model does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Streams a short answer in one write.
    Instant,
    /// Calls `time.now` first, then streams a short answer; each in one write.
    Calling,
    /// Reads the question and never answers.
    Hanging,
}

/// A model that runs until the process ends.
pub struct Model {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
    /// Bytes of the latest question's body.
    bytes: Arc<AtomicU64>,
}

impl Model {
    /// Starts one.
    pub fn start(manner: Manner) -> Outcome<Model> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let (address, asked, bytes) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, size) = (asked.clone(), bytes.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counter, size) = (counter.clone(), size.clone());
                std::thread::spawn(move || {
                    let _ = converse(stream, manner, &counter, &size);
                });
            }
        });
        Ok(Model { address, asked, bytes })
    }

    /// How many questions it was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The size of the latest question's body in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A configuration whose only agent asks this model, with its deadlines out of the way.
    pub fn config(&self) -> Value {
        json!({
            "providers": {"stub": {"type": "openai", "baseUrl": format!("http://{}/v1", self.address), "apiKey": "stub-key-0123456789", "firstByteTimeout": 600_000}},
            "agents": {"main": {"provider": "stub", "model": "stub", "turnTimeout": 600_000}},
        })
    }
}

const MODELS: &str = r#"{"object":"list","data":[{"id":"stub","object":"model"}]}"#;
const WHOLE: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"stub","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Here is the answer."}}],"usage":{"prompt_tokens":5,"completion_tokens":5,"total_tokens":10}}"#;

/// The streamed answer: role, two pieces of text (or a call), the end, the usage.
fn streamed(calls: bool) -> String {
    let piece = |delta: &str, end: &str| {
        format!(
            r#"data: {{"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":[{{"index":0,"delta":{delta},"finish_reason":{end}}}]}}"#
        )
    };
    let usage = r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":5,"total_tokens":10}}"#;
    let (first, second, end) = if calls {
        let call =
            r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"time_now","arguments":""}}]}"#;
        (call, r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#, "\"tool_calls\"")
    } else {
        (r#"{"content":"Here is "}"#, r#"{"content":"the answer."}"#, "\"stop\"")
    };
    let events = [
        piece(r#"{"role":"assistant","content":null}"#, "null"),
        piece(first, "null"),
        piece(second, "null"),
        piece("{}", end),
        usage.to_string(),
        "data: [DONE]".to_string(),
    ];
    let mut out = String::from("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for event in events {
        out.push_str(&format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2));
    }
    out + "0\r\n\r\n"
}

fn converse(mut stream: TcpStream, manner: Manner, asked: &AtomicU64, bytes: &AtomicU64) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let (stream_answer, stream_call, mut buffer, mut chunk) = (streamed(false), streamed(true), Vec::new(), [0; 16384]);
    let json_answer =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    loop {
        let Some(question) = question(&buffer) else {
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                n => buffer.extend_from_slice(&chunk[..n]),
            }
            continue;
        };
        if question.get {
            stream.write_all(json_answer(MODELS).as_bytes())?;
        } else {
            asked.fetch_add(1, Ordering::Relaxed);
            bytes.store(question.body as u64, Ordering::Relaxed);
            match manner {
                Manner::Hanging => {
                    // Until the caller gives up.
                    while stream.read(&mut chunk)? > 0 {}
                    return Ok(());
                }
                Manner::Calling if !question.has_result => stream.write_all(stream_call.as_bytes())?,
                Manner::Instant | Manner::Calling if question.stream => stream.write_all(stream_answer.as_bytes())?,
                Manner::Instant | Manner::Calling => stream.write_all(json_answer(WHOLE).as_bytes())?,
            }
        }
        buffer.drain(..question.total);
    }
}

struct Question {
    total: usize,
    /// Bytes of the body.
    body: usize,
    /// Whether it tells what came of a call.
    has_result: bool,
    get: bool,
    stream: bool,
}

/// A whole request at the beginning of `bytes`, if it is there.
fn question(bytes: &[u8]) -> Option<Question> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let total = if text.contains("transfer-encoding: chunked") {
        head + bytes[head..].windows(5).position(|w| w == b"0\r\n\r\n")? + 5
    } else {
        let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length:")).map_or("0", str::trim);
        head + length.parse::<usize>().ok()?
    };
    let body = bytes.get(head..total)?;
    let stream = body.windows(14).any(|w| w.starts_with(b"\"stream\":true") || w == b"\"stream\": true");
    let has_result = body.windows(13).any(|w| w == b"\"role\":\"tool\"");
    Some(Question { total, body: body.len(), has_result, get: text.starts_with("get "), stream })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_whole_before_they_are_answered() {
        let plain = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 16\r\n\r\n{\"stream\":true} ";
        let found = question(plain).unwrap();
        assert!((found.total, found.get, found.stream) == (plain.len(), false, true));
        assert!(question(&plain[..plain.len() - 1]).is_none());
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(question(chunked).unwrap().total, chunked.len());
        assert!(question(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().get);
    }

    #[test]
    fn the_stream_is_well_framed() {
        for stream in [streamed(false), streamed(true)] {
            let (_, mut rest) = stream.split_once("\r\n\r\n").unwrap();
            loop {
                let (size, after) = rest.split_once("\r\n").unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                assert_eq!(&after[size..size + 2], "\r\n");
                if size == 0 {
                    break;
                }
                assert!(after.starts_with("data: "));
                rest = &after[size + 2..];
            }
        }
    }
}
