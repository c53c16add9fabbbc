//! The two wire formats as a model's server speaks them: chat completions, and Anthropic's messages.

use std::io::{self, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::pause;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire {
    OpenAi,
    Anthropic,
}

/// What a request says.
#[derive(Debug, Default)]
pub struct Heard {
    /// The user's last words.
    pub text: String,
    /// The tools that are offered.
    pub tools: Vec<String>,
    /// What came of calls since the user's last words.
    pub results: Vec<String>,
    /// Messages with calls since then.
    pub rounds: usize,
}

/// The text of a content: a string, or parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<_> = parts.iter().filter_map(|p| p["text"].as_str()).collect();
            (!texts.is_empty()).then(|| texts.join(" "))
        }
        _ => None,
    }
}

impl Wire {
    /// What a request's body says.
    pub fn heard(self, body: &Value) -> Heard {
        let mut heard = Heard::default();
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = if self == Wire::OpenAi { &tool["function"]["name"] } else { &tool["name"] };
            heard.tools.push(name.as_str().unwrap_or_default().to_string());
        }
        for message in body["messages"].as_array().into_iter().flatten() {
            let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_call = |p: &Value| p["type"] == "tool_use";
            match message["role"].as_str().unwrap_or_default() {
                "tool" => heard.results.push(text_of(&message["content"]).unwrap_or_default()),
                "assistant" if message["tool_calls"].is_array() || parts.iter().any(is_call) => heard.rounds += 1,
                "user" => {
                    let results = parts.iter().filter(|p| p["type"] == "tool_result");
                    heard.results.extend(results.map(|r| text_of(&r["content"]).unwrap_or_default()));
                    if let Some(text) = text_of(&message["content"]) {
                        heard = Heard { text, tools: heard.tools, ..Heard::default() };
                    }
                }
                _ => {}
            }
        }
        heard
    }

    /// A whole answer that is not streamed.
    pub fn whole(self, content: Value, calls: &[(String, String)]) -> String {
        let numbered = calls.iter().enumerate();
        match self {
            Wire::OpenAi => {
                let mut message = json!({"role": "assistant", "content": content});
                let function = |(i, (name, arguments)): (usize, &(String, String))| {
                    json!({"id": id(i), "type": "function", "function": {"name": name, "arguments": arguments}})
                };
                if !calls.is_empty() {
                    message["tool_calls"] = numbered.map(function).collect();
                }
                let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
                json!({"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "usage": usage(),
                    "choices": [{"index": 0, "finish_reason": reason, "message": message}]})
            }
            Wire::Anthropic => {
                let text = content.as_str().map(|t| json!({"type": "text", "text": t}));
                let call = |(i, (name, arguments)): (usize, &(String, String))| {
                    let input: Value = serde_json::from_str(arguments).unwrap_or(json!(arguments));
                    json!({"type": "tool_use", "id": id(i), "name": name, "input": input})
                };
                let blocks: Vec<Value> = text.into_iter().chain(numbered.map(call)).collect();
                let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
                json!({"id": "x", "type": "message", "role": "assistant", "model": "stub", "content": blocks,
                    "stop_reason": reason, "usage": {"input_tokens": 5, "output_tokens": 5}})
            }
        }
        .to_string()
    }

    /// The beginning of a whole answer, up to its text.
    pub fn whole_begin(self) -> &'static str {
        match self {
            Wire::OpenAi => r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":""#,
            Wire::Anthropic => r#"{"id":"x","type":"message","role":"assistant","content":[{"type":"text","text":""#,
        }
    }

    /// A whole answer in which there is nothing.
    pub fn whole_empty(self) -> String {
        match self {
            Wire::OpenAi => json!({"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": []}),
            Wire::Anthropic => json!({"id": "x", "type": "message", "role": "assistant", "model": "stub", "content": []}),
        }
        .to_string()
    }

    /// Streams these words.
    pub fn speak(self, stream: &mut TcpStream, words: &[String], before_each_ms: u64) -> io::Result<()> {
        for word in words {
            pause(before_each_ms);
            match self {
                Wire::OpenAi => self.event(stream, &chunk(json!({"content": word}), Value::Null))?,
                Wire::Anthropic => {
                    let delta = json!({"type": "text_delta", "text": word});
                    self.event(stream, &json!({"type": "content_block_delta", "index": 0, "delta": delta}))?;
                }
            }
        }
        Ok(())
    }

    /// Streams these calls, their arguments in pieces; of a half one only the first of them.
    pub fn call(self, stream: &mut TcpStream, calls: &[(String, String)], is_half: bool) -> io::Result<()> {
        if self == Wire::Anthropic {
            self.event(stream, &json!({"type": "content_block_stop", "index": 0}))?;
        }
        for (i, (name, arguments)) in calls.iter().enumerate() {
            let index = i + 1; // of Anthropic's blocks the first is the text
            self.event(
                stream,
                &match self {
                    Wire::OpenAi => {
                        let function = json!({"name": name, "arguments": ""});
                        let call = json!({"index": i, "id": id(i), "type": "function", "function": function});
                        chunk(json!({"tool_calls": [call]}), Value::Null)
                    }
                    Wire::Anthropic => {
                        let block = json!({"type": "tool_use", "id": id(i), "name": name, "input": {}});
                        json!({"type": "content_block_start", "index": index, "content_block": block})
                    }
                },
            )?;
            let letters: Vec<char> = arguments.chars().collect();
            let size = letters.len().div_ceil(3).clamp(1, 4096);
            for piece in letters.chunks(size).take(if is_half { 1 } else { usize::MAX }) {
                let piece: String = piece.iter().collect();
                self.event(
                    stream,
                    &match self {
                        Wire::OpenAi => {
                            let call = json!({"index": i, "function": {"arguments": piece}});
                            chunk(json!({"tool_calls": [call]}), Value::Null)
                        }
                        Wire::Anthropic => {
                            let delta = json!({"type": "input_json_delta", "partial_json": piece});
                            json!({"type": "content_block_delta", "index": index, "delta": delta})
                        }
                    },
                )?;
            }
            if self == Wire::Anthropic && !is_half {
                self.event(stream, &json!({"type": "content_block_stop", "index": index}))?;
            }
        }
        Ok(())
    }

    /// The end of a stream, with its usage.
    pub fn end(self, stream: &mut TcpStream, with_calls: bool) -> io::Result<()> {
        match self {
            Wire::OpenAi => {
                self.event(stream, &chunk(json!({}), json!(if with_calls { "tool_calls" } else { "stop" })))?;
                // Its choices are empty, as in the real one.
                let usage = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [],
                    "usage": usage()});
                self.event(stream, &usage)?;
                frame(stream, "data: [DONE]\n\n")?;
            }
            Wire::Anthropic => {
                if !with_calls {
                    self.event(stream, &json!({"type": "content_block_stop", "index": 0}))?;
                }
                let reason = if with_calls { "tool_use" } else { "end_turn" };
                let delta = json!({"stop_reason": reason, "stop_sequence": null});
                self.event(stream, &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}))?;
                self.event(stream, &json!({"type": "message_stop"}))?;
            }
        }
        stream.write_all(b"0\r\n\r\n")
    }

    fn event(self, stream: &mut TcpStream, data: &Value) -> io::Result<()> {
        match self {
            Wire::OpenAi => frame(stream, &format!("data: {data}\n\n")),
            Wire::Anthropic => frame(stream, &format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())),
        }
    }
}

/// The head of a stream, and what real servers send before the first word: a null content; an open block and a ping.
pub fn begin(stream: &mut TcpStream, wire: Wire) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    match wire {
        Wire::OpenAi => wire.event(stream, &chunk(json!({"role": "assistant", "content": null}), Value::Null)),
        Wire::Anthropic => {
            let message = json!({"id": "x", "type": "message", "role": "assistant", "model": "stub", "content": [],
                "stop_reason": null, "usage": {"input_tokens": 5, "output_tokens": 1}});
            wire.event(stream, &json!({"type": "message_start", "message": message}))?;
            let block = json!({"type": "text", "text": ""});
            wire.event(stream, &json!({"type": "content_block_start", "index": 0, "content_block": block}))?;
            wire.event(stream, &json!({"type": "ping"}))
        }
    }
}

fn id(number: usize) -> String {
    format!("call-{number}")
}

fn usage() -> Value {
    json!({"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10})
}

fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stub",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

/// One chunk of the transfer coding.
fn frame(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::support::model::{Act, Model, call};

    /// Asks the scripted model of that format and gives its answer as it is on the wire.
    fn ask(model: &Model, body: &Value) -> String {
        let base = model.provider()["baseUrl"].as_str().unwrap().to_string();
        let (host, path) = match base.strip_prefix("http://").unwrap().split_once('/') {
            Some((host, _)) => (host.to_string(), "/v1/chat/completions"),
            None => (base.strip_prefix("http://").unwrap().to_string(), "/v1/messages"),
        };
        let body = body.to_string();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_scripted_model_calls_tools_and_hears_of_their_results() {
        let model = || {
            Model::scripted(|q| match (q.rounds, q.results.last()) {
                (0, _) if q.tools.is_empty() => Act::Call(vec![call("plain", json!({}))]),
                (0, _) => Act::SayAndCall("Let me see.".into(), vec![call(&q.tools[0], json!({"a": "ü"})), call("b", json!({}))]),
                (n, last) => Act::Say(format!("{n}: {}", last.map_or("", |l| l))),
            })
        };
        let opening = json!({"role": "user", "content": "go"});
        let call = |i: usize| json!({"id": id(i), "type": "function", "function": {"name": "b", "arguments": "{}"}});
        let asked = json!({"role": "assistant", "content": null, "tool_calls": [call(0)]});
        let result = json!({"role": "tool", "tool_call_id": "call-0", "content": "noon"});
        let tools = json!([{"type": "function", "function": {"name": "time_now"}}]);
        for streamed in [true, false] {
            let model = model();
            let first = ask(&model, &json!({"stream": streamed, "tools": tools, "messages": [opening]}));
            assert!(first.contains("time_now") && first.contains("tool_calls") && first.contains("see."), "{first}");
            let second = ask(&model, &json!({"stream": streamed, "tools": tools, "messages": [opening, asked, result]}));
            assert!(second.contains("1:") && second.contains("noon") && second.contains("stop"), "{second}");
            assert!(ask(&model, &json!({"stream": streamed, "messages": [opening]})).contains("plain"));
            assert_eq!(model.asked()[1].text, "go");
        }
        let asked = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "call-0", "name": "b", "input": {}}]});
        let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call-0", "content": "noon"}]});
        let tools = json!([{"name": "time_now", "input_schema": {}}]);
        for streamed in [true, false] {
            let model = model().anthropic();
            let first = ask(&model, &json!({"stream": streamed, "tools": tools, "messages": [opening]}));
            assert!(first.contains("time_now") && first.contains("\"tool_use\"") && first.contains("see."), "{first}");
            let second = ask(&model, &json!({"stream": streamed, "tools": tools, "messages": [opening, asked, result]}));
            assert!(second.contains("1:") && second.contains("noon") && second.contains("end_turn"), "{second}");
            assert_eq!(model.asked()[1].text, "go");
        }
    }
}
