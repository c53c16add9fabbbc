//! Both wire formats against servers on bad days: the same table of faults, and the same bounds.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use super::anthropic::Anthropic;
use super::openai::OpenAi;
use super::*;
use crate::base::cancel::Why;
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::error::ErrorKind::{Denied, Permanent, Stopped, Throttled, Timeout, Transient};
use crate::base::secret::Secret;
use crate::config::{self, ProviderKind};
use crate::net::client::Client;
use crate::net::scripted::{EVENTS, Scripted, answer, hang, pause, reset};

const KEY: &str = "sk-canary-0123456789";
const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_millis(600);

/// A wire format, as its server speaks it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    OpenAi,
    Anthropic,
}

pub const KINDS: [Kind; 2] = [Kind::OpenAi, Kind::Anthropic];

impl Kind {
    pub fn provider(self, peer: &Scripted, clock: &Clock, patience: Duration) -> Box<dyn Provider> {
        let config = config::Provider {
            kind: ProviderKind::OpenAi,
            base_url: peer.url("/v1"),
            api_key: Some(Secret::new(KEY)),
            connect_timeout: SECOND,
            first_byte_timeout: patience,
            chunk_timeout: patience,
        };
        let client = Arc::new(Client::new(2));
        match self {
            Kind::OpenAi => Box::new(OpenAi::new(config, client, clock.clone(), 300 * SECOND)),
            Kind::Anthropic => Box::new(Anthropic::new(config, client, clock.clone(), 300 * SECOND)),
        }
    }

    fn event(self, json: Value) -> String {
        match self {
            Kind::OpenAi => format!("data: {json}\n\n"),
            Kind::Anthropic => format!("event: {}\ndata: {json}\n\n", json["type"].as_str().unwrap()),
        }
    }

    /// The head of a stream and what comes before the first word.
    pub fn begin(self) -> String {
        EVENTS.to_string()
            + &match self {
                Kind::OpenAi => self.event(json!({"choices": [{"delta": {"role": "assistant", "content": null}}]})),
                Kind::Anthropic => self.event(json!({"type": "message_start", "message": {"model": "m-1", "content": [],
                    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": null, "output_tokens": 1}}})),
            }
    }

    pub fn text(self, words: &str) -> String {
        match self {
            Kind::OpenAi => self.event(json!({"choices": [{"delta": {"content": words}}]})),
            Kind::Anthropic => {
                self.event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}))
                    + &self
                        .event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}))
            }
        }
    }

    pub fn call(self, index: usize, name: &str) -> String {
        let id = format!("id{index}");
        match self {
            Kind::OpenAi => self.event(json!({"choices": [{"delta": {"tool_calls": [
                {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]}}]})),
            Kind::Anthropic => self.event(json!({"type": "content_block_start", "index": index + 1,
                "content_block": {"type": "tool_use", "id": id, "name": name, "input": {}}})),
        }
    }

    pub fn arguments(self, index: usize, piece: &str) -> String {
        match self {
            Kind::OpenAi => self.event(json!({"choices": [{"delta": {"tool_calls": [
                {"index": index, "function": {"arguments": piece}}]}}]})),
            Kind::Anthropic => self.event(json!({"type": "content_block_delta", "index": index + 1,
                "delta": {"type": "input_json_delta", "partial_json": piece}})),
        }
    }

    pub fn end(self, reason: &str) -> String {
        match self {
            Kind::OpenAi => {
                self.event(json!({"choices": [{"delta": {}, "finish_reason": reason}]}))
                    + &self.event(json!({"choices": [], "model": "m-1", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}))
                    + "data: [DONE]\n\n"
            }
            Kind::Anthropic => {
                self.event(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}}))
                    + &self.event(json!({"type": "message_stop"}))
            }
        }
    }

    /// A whole answer that is not streamed, up to its text.
    fn whole_begin(self) -> &'static str {
        match self {
            Kind::OpenAi => r#"{"choices":[{"message":{"content":""#,
            Kind::Anthropic => r#"{"type":"message","content":[{"type":"text","text":""#,
        }
    }
}

pub fn specs() -> Vec<Arc<ToolSpec>> {
    let spec = |name: &str, wire: &str| ToolSpec {
        name: name.into(),
        wire: wire.into(),
        description: format!("does {name}"),
        schema: json!({"type": "object", "properties": {}}),
    };
    vec![Arc::new(spec("time.now", "time_now")), Arc::new(spec("mcp.a.read", "mcp_a_read"))]
}

pub fn ask(clock: &Clock) -> Completion {
    let messages = vec![ChatMessage::new(ChatRole::User, "hi")];
    Completion { tools: specs(), ..Completion::of("m", messages, clock.mono() + 10 * SECOND) }
}

/// Asks once; the outcome and what was streamed.
pub fn complete(kind: Kind, peer: &Scripted) -> (Result<Answer, Failure>, String) {
    let (clock, mut streamed) = (Clock::system(), String::new());
    let outcome = kind.provider(peer, &clock, DEADLINE).complete(&ask(&clock), &mut |d| streamed.push_str(d));
    (outcome, streamed)
}

/// A peer that sends `first` and then does `then`.
fn after(first: String, then: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |_, _, s| {
        s.write_all(first.as_bytes()).unwrap();
        pause(30);
        then(s);
        false
    })
}

#[track_caller]
fn check_fault(kind: Kind, fault: &str, peer: Scripted, wanted: ErrorKind, says: &str) {
    let begun = Instant::now();
    let (outcome, streamed) = complete(kind, &peer);
    let failure = outcome.err().unwrap_or_else(|| panic!("{kind:?}, {fault}: answered"));
    let shown = format!("{kind:?}, {fault}: {} {:?}", failure.error, failure.error);
    assert_eq!(failure.error.kind, wanted, "{shown}");
    assert!(shown.contains(says) && !shown.contains("canary"), "{shown}");
    assert!(failure.error.text.len() < 400, "{shown}");
    assert_eq!(failure.after_first_byte, !streamed.is_empty(), "{shown}");
    assert_eq!(peer.seen().len(), 1, "asked once: {shown}");
    assert!(begun.elapsed() < 9 * SECOND, "{:?}: {shown}", begun.elapsed());
}

#[test]
fn faults_of_the_connection() {
    for kind in KINDS {
        let half = kind.begin() + &kind.text("half ");
        check_fault(kind, "hang before the head", after(String::new(), |_| hang()), Timeout, "did not begin");
        check_fault(kind, "hang after the head", after(EVENTS.into(), |_| hang()), Timeout, "fell silent");
        check_fault(kind, "hang in mid-stream", after(half.clone(), |_| hang()), Timeout, "fell silent");
        check_fault(kind, "reset in mid-stream", after(half.clone(), |s| reset(s)), Transient, "in the middle of its answer");
        check_fault(kind, "end in mid-stream", after(half, |_| ()), Transient, "in the middle of its answer");
        check_fault(kind, "end at once", after(String::new(), |_| ()), Transient, "broke the connection off");
        check_fault(kind, "no HTTP", Scripted::says("\0\u{13}garbage\r\n\r\n\r\n"), Transient, "does not answer in HTTP");
        let called = kind.begin() + &kind.call(0, "time_now") + &kind.arguments(0, "{\"zo");
        check_fault(kind, "end in a tool call", after(called.clone(), |_| ()), Transient, "in the middle of a tool call");
        check_fault(kind, "reset in a tool call", after(called, |s| reset(s)), Transient, "in the middle of a tool call");
    }
}

#[test]
fn faults_of_the_answer() {
    for kind in KINDS {
        let stream = |events: &str| Scripted::says(kind.begin() + events);
        let json = |status: &str, body: &str| Scripted::says(answer(status, "application/json", body));
        check_fault(kind, "events that are no JSON", stream("data: {\"choices\":[{\n\ndata: \u{7}\n\n"), Transient, "broken");
        check_fault(
            kind,
            "a web page",
            Scripted::says(answer("200 OK", "text/html", "<html>Log in</html>")),
            Permanent,
            "web page",
        );
        check_fault(kind, "a web page in disguise", json("200 OK", " <!doctype html>"), Permanent, "web page");
        check_fault(kind, "truncated JSON", json("200 OK", kind.whole_begin()), Transient, "broken");
        check_fault(kind, "other JSON", json("200 OK", r#"{"models":[]}"#), Permanent, "not what was asked for");
        check_fault(
            kind,
            "JSON that is an error",
            json("200 OK", r#"{"error":{"type":"overloaded_error","message":"busy"}}"#),
            Transient,
            "busy",
        );
        check_fault(kind, "nothing", stream(&kind.end("stop")), Transient, "is empty");
        check_fault(
            kind,
            "an error with our key",
            stream("data: {\"error\":{\"type\":\"authentication_error\",\"message\":\"sk-canary-0123456789?\"}}\n\n"),
            Denied,
            "***?",
        );
        check_fault(
            kind,
            "an event beyond its bound",
            stream(&("data: ".to_string() + &"x".repeat(2 << 20))),
            Permanent,
            "beyond its bound",
        );
        check_fault(
            kind,
            "no name of the tool",
            stream(&(kind.call(0, " ") + &kind.end("tool_calls"))),
            Transient,
            "without naming it",
        );
        let cut = kind.call(0, "time_now") + &kind.arguments(0, "{\"zo") + &kind.end("max_tokens");
        check_fault(kind, "output over in a tool call", stream(&cut), Permanent, "in the middle of a tool call");
    }
}

#[test]
fn statuses() {
    let five = Throttled(Some(5 * SECOND));
    for kind in KINDS {
        for (status, extra, wanted) in [
            ("429 Slow", "Retry-After: 5\r\n", five),
            ("429 Slow", "", Throttled(None)),
            ("500 Oops", "", Transient),
            ("503 Busy", "Retry-After: 5\r\n", five),
            ("529 Busy", "", Transient),
            ("529 Busy", "Retry-After: 5\r\n", five),
            ("504 Late", "", Transient),
            ("401 No", "", Denied),
            ("403 No", "", Denied),
            ("400 Bad", "", Permanent),
            ("404 None", "", Permanent),
            ("413 Large", "", Permanent),
        ] {
            let body = r#"{"type":"error","error":{"type":"some_error","message":"no, sk-canary-0123456789"}}"#;
            let text = format!("HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n{body}", body.len());
            check_fault(kind, status, Scripted::says(text), wanted, "no, ***");
        }
    }
}

#[test]
fn bodies_without_end() {
    let flood = |head: String, word: String| {
        Scripted::new(move |_, _, s| {
            let mut sent = head.len();
            let _ = s.write_all(head.as_bytes());
            while sent < 1 << 30 && s.write_all(word.as_bytes()).is_ok() {
                sent += word.len();
            }
            assert!(sent < 64 << 20, "{sent} bytes were taken");
            false
        })
    };
    for kind in KINDS {
        let x = "x".repeat(16 * 1024);
        let stream = flood(kind.begin(), kind.text(&x));
        check_fault(kind, "a stream without end", stream, Permanent, "longer than");
        let whole = flood(format!("HTTP/1.1 200 OK\r\n\r\n{}", kind.whole_begin()), x.clone());
        check_fault(kind, "JSON without end", whole, Permanent, "more than");
        let arguments = flood(kind.begin() + &kind.call(0, "time_now") + &kind.arguments(0, "{\"a\":\""), kind.arguments(0, &x));
        check_fault(kind, "arguments without end", arguments, Permanent, "arguments of more than");
        let error = flood("HTTP/1.1 500 Oops\r\nContent-Length: 1073741824\r\n\r\n".into(), x);
        check_fault(kind, "an error of 1 GB", error, Transient, "answered 500");
    }
}

#[test]
fn calls_beyond_their_bounds() {
    for kind in KINDS {
        let calls: String = (0..100).map(|i| kind.call(i, "time_now") + &kind.arguments(i, "{}")).collect();
        check_fault(
            kind,
            "100 calls",
            Scripted::says(kind.begin() + &calls + &kind.end("tool_use")),
            Permanent,
            "more than 16 tools",
        );
        let huge = kind.arguments(0, &"x".repeat(10 << 20));
        let huge = Scripted::says(kind.begin() + &kind.call(0, "time_now") + &huge + &kind.end("tool_use"));
        check_fault(kind, "10 MB of arguments at once", huge, Permanent, "beyond its bound");
    }
}

#[test]
fn wrong_calls_are_given_on_as_the_model_wrote_them() {
    for kind in KINDS {
        let long = "x".repeat(5000);
        let calls = kind.call(0, "rm_rf")
            + &kind.call(1, "time_now")
            + &kind.arguments(1, "not {json")
            + &kind.call(2, &long)
            + &kind.arguments(2, "[1]");
        let text = kind.begin() + &kind.text("Let me see.") + &calls + &kind.end("tool_use");
        let (outcome, streamed) = complete(kind, &Scripted::says(text));
        let calls = outcome.unwrap().calls;
        let shown: Vec<_> = calls.iter().map(|c| (c.id.as_str(), &c.name[..c.name.len().min(9)], c.arguments.as_str())).collect();
        assert_eq!(shown, [("id0", "rm_rf", "{}"), ("id1", "time.now", "not {json"), ("id2", "xxxxxxxxx", "[1]")]);
        assert!(calls[2].name.len() < 300);
        assert_eq!(streamed, "Let me see.");
    }
}

#[test]
fn a_byte_now_and_then_holds_a_turn_to_its_deadline_alone() {
    for kind in KINDS {
        let peer = Scripted::new(move |_, _, s| {
            let words = kind.begin() + &kind.text("half ") + &kind.arguments(0, "x").repeat(100);
            for byte in words.bytes() {
                if s.write_all(&[byte]).is_err() {
                    break;
                }
                pause(5);
            }
            false
        });
        let (clock, begun) = (Clock::system(), Instant::now());
        let late = Completion { deadline: clock.mono() + SECOND, ..ask(&clock) };
        let failure = kind.provider(&peer, &clock, DEADLINE).complete(&late, &mut |_| {}).unwrap_err();
        assert_eq!(failure.error.kind, Timeout, "{kind:?}: {}", failure.error);
        assert!(begun.elapsed() < 4 * SECOND, "{kind:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn the_key_stays_with_its_origin() {
    for kind in KINDS {
        let canary = Scripted::says(answer("200 OK", "text/plain", "stolen"));
        for status in [301, 302, 307, 308] {
            let text = format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", canary.url("/v1"));
            check_fault(kind, "a redirect", Scripted::says(text), Permanent, "never followed");
        }
        assert_eq!(canary.connections(), 0);
    }
}

#[test]
fn a_call_is_cut_short_wherever_it_is() {
    for kind in KINDS {
        let half = kind.begin() + &kind.text("half ");
        for (model, sent) in [("m", String::new()), ("m", EVENTS.to_string()), ("m", half), ("auto", String::new())] {
            let what = format!("{kind:?}, {model}, after {} bytes", sent.len());
            let peer = after(sent, |_| hang());
            let (clock, cancel) = (Clock::system(), Cancel::new());
            let provider = kind.provider(&peer, &clock, 10 * SECOND);
            let ask = Completion { model: model.into(), cancel: cancel.clone(), ..ask(&clock) };
            std::thread::scope(|s| {
                let turn = s.spawn(|| (provider.complete(&ask, &mut |_| {}).unwrap_err(), Instant::now()));
                while peer.seen().is_empty() {
                    pause(1);
                }
                pause(60);
                let begun = Instant::now();
                cancel.set(Why::Asked);
                let (failure, ended) = turn.join().unwrap();
                assert_eq!(failure.error.kind, Stopped, "{what}: {}", failure.error);
                assert!(ended - begun < DEADLINE, "{what}: {:?}", ended - begun);
            });
        }
    }
}

#[test]
fn tools_that_a_server_refuses_are_left_out_from_then_on() {
    for kind in KINDS {
        let peer = Scripted::new(move |_, seen, s| {
            let text = if seen.body.contains("\"tools\"") {
                answer("500 No", "application/json", r#"{"error":{"message":"tools param requires --jinja flag"}}"#)
            } else {
                kind.begin() + &kind.text("without") + &kind.end("stop")
            };
            let _ = s.write_all(text.as_bytes());
            false
        });
        let clock = Clock::system();
        let provider = kind.provider(&peer, &clock, DEADLINE);
        let called = vec![ToolCall { id: "1".into(), name: "time.now".into(), arguments: "{}".into() }];
        let result = CallResult { call_id: "1".into(), is_error: false, content: "noon".into() };
        let mut ask = ask(&clock);
        ask.messages.extend([ChatMessage::asked("", called), ChatMessage::result(&result)]);
        for requests in [2, 3] {
            assert_eq!(provider.complete(&ask, &mut |_| {}).unwrap().text, "without");
            assert_eq!(peer.seen().len(), requests);
        }
        let (with, without) = (peer.seen()[0].body.clone(), peer.seen()[2].body.clone());
        assert!(with.contains("tool_use") || with.contains("tool_calls"), "{with}");
        assert!(!without.contains("tool_use") && !without.contains("tool_calls"), "{without}");
        assert!(without.contains("[Called the tool time.now with {}]") && without.contains("[A tool gave: noon]"), "{without}");
        // Another model may know tools.
        let other = Completion { model: "other".into(), ..ask };
        provider.complete(&other, &mut |_| {}).unwrap();
        assert_eq!(peer.seen().len(), 5);
    }
}

#[test]
fn calls_where_none_were_offered() {
    for kind in KINDS {
        for (words, wanted) in [("", None), ("Well.", Some("Well."))] {
            let said = if words.is_empty() { String::new() } else { kind.text(words) };
            let peer = Scripted::says(kind.begin() + &said + &kind.call(0, "time_now") + &kind.end("tool_use"));
            let clock = Clock::system();
            let plain = Completion { tools: Vec::new(), ..ask(&clock) };
            match (kind.provider(&peer, &clock, DEADLINE).complete(&plain, &mut |_| {}), wanted) {
                (Ok(answer), Some(text)) => assert_eq!((answer.text.as_str(), answer.calls.len()), (text, 0)),
                (Err(failure), None) => assert!(failure.error.text.contains("not given"), "{}", failure.error),
                (outcome, _) => panic!("{kind:?}: {outcome:?}"),
            }
        }
    }
}
