//! The Messages API as its servers speak it.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::time::Duration;

use super::*;
use crate::agent::provider::tests::{Kind, ask, complete};
use crate::agent::provider::{Answer, Sampling};
use crate::base::clock::Clock;
use crate::domain::{CallResult, ToolCall};
use crate::net::scripted::{EVENTS, Scripted, answer};

const K: Kind = Kind::Anthropic;
const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn answered(text: impl Into<Vec<u8>>) -> Answer {
    let (outcome, streamed) = complete(K, &Scripted::says(text));
    let answer = outcome.unwrap_or_else(|f| panic!("{}", f.error));
    assert_eq!(answer.text, streamed);
    answer
}

#[test]
fn a_stream_with_all_that_can_be_in_one() {
    let events = [
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-x","stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":200,"cache_read_input_tokens":3000,"output_tokens":1}}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hidden"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo 🙂"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"srv","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"mcp_a_read","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"a"}}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"time_now","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"b\"}"}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
        r#"{"type":"a_later_invention","index":3}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#,
        r#"{"type":"message_stop"}"#,
        "never read",
    ];
    let named = |e: &&str| {
        let name = serde_json::from_str::<Value>(e).map_or(String::new(), |j| j["type"].as_str().unwrap().to_string());
        format!("event: {name}\ndata: {e}\n\n")
    };
    let answer = answered(EVENTS.to_string() + &events.iter().map(named).collect::<String>());
    let call = |id: &str, name: &str, arguments: &str| ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() };
    let calls = vec![call("toolu_1", "mcp.a.read", r#"{"path": "ab"}"#), call("toolu_2", "time.now", "{}")];
    let (text, finish, model) = ("Hello 🙂".to_string(), "tool_use".to_string(), "claude-x".to_string());
    assert_eq!(answer, Answer { text, calls, tokens_in: 3210, tokens_out: 89, finish, model });
}

#[test]
fn other_shapes() {
    let stream = |middle: &str| K.begin() + middle + &K.end("end_turn");
    assert_eq!(answered(stream(&K.text("Hello"))).text, "Hello");
    // Text and input that come with the block's start, as some servers do; events without a type in their data.
    let start = r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hel"}}"#;
    let tool = r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"time_now","input":{"a":1}}}"#;
    let untyped = "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}";
    let got = answered(stream(&format!("{start}\n\n{tool}\n\n{untyped}\n\n")));
    assert_eq!(
        (got.text.as_str(), got.calls[0].arguments.as_str(), got.tokens_in, got.tokens_out),
        ("Hello", r#"{"a":1}"#, 7, 2)
    );
    // A stream that ends behind the stop reason, without `message_stop`.
    let end = K.end("end_turn");
    assert_eq!(answered(K.begin() + &K.text("Hello") + end.split("event: message_stop").next().unwrap()).text, "Hello");
    // Not streamed.
    let whole = r#"{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"x"},
        {"type":"text","text":"Hello"},{"type":"tool_use","id":"t","name":"time_now","input":{}}],
        "stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":1}}"#;
    let got = answered(answer("200 OK", "application/json", whole));
    assert_eq!((got.text.as_str(), got.calls.len(), got.tokens_in, got.model.as_str()), ("Hello", 1, 3, "claude-x"));
    assert_eq!(got.calls[0].arguments, "{}");
    // A call without a word.
    let got = answered(stream(&K.call(0, "time_now")));
    assert_eq!((got.text.as_str(), got.calls.len()), ("", 1));
}

#[test]
fn answers_that_are_none() {
    let stream = |middle: &str, reason: &str| K.begin() + middle + &K.end(reason);
    let error = |kind: &str| {
        format!("event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"m\"}}}}\n\n")
    };
    use crate::base::error::ErrorKind::{Denied, Permanent, Throttled, Transient};
    for (text, kind, says) in [
        (stream("", "max_tokens"), Permanent, "before its answer began"),
        (stream("", "refusal"), Permanent, "content filter"),
        (stream("", "end_turn"), Transient, "is empty"),
        (stream(&error("overloaded_error"), ""), Transient, "reports: m"),
        (stream(&error("rate_limit_error"), ""), Throttled(None), "reports: m"),
        (stream(&error("authentication_error"), ""), Denied, "reports: m"),
        (stream(&error("invalid_request_error"), ""), Permanent, "reports: m"),
    ] {
        let failure = complete(K, &Scripted::says(text)).0.unwrap_err();
        assert!(failure.error.kind == kind && failure.error.text.contains(says), "{}", failure.error);
    }
}

/// What is asked, as the server sees it.
fn sent(change: impl FnOnce(&mut Completion)) -> Value {
    let clock = Clock::system();
    let mut ask = ask(&clock);
    change(&mut ask);
    Messages::default().body("m", &ask)
}

#[test]
fn what_is_sent() {
    let peer = Scripted::says(K.begin() + &K.text("ok") + &K.end("end_turn"));
    let clock = Clock::system();
    let ask = Completion { max_output_tokens: Some(64), tools: Vec::new(), ..ask(&clock) };
    K.provider(&peer, &clock, SECOND).complete(&ask, &mut |_| {}).unwrap();
    let seen = &peer.seen()[0];
    assert_eq!(seen.line, "POST /v1/messages HTTP/1.1", "the base ends in /v1 here");
    let header = |name| seen.header(name).unwrap_or_default();
    assert_eq!((header("x-api-key"), header("anthropic-version")), ("sk-canary-0123456789", "2023-06-01"));
    assert_eq!(seen.header("authorization"), None);
    let hi = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
    assert_eq!(seen.json(), json!({"model": "m", "max_tokens": 64, "stream": true, "messages": [hi]}));
    assert_eq!(Messages::base("https://api.anthropic.com"), "https://api.anthropic.com");
}

#[test]
fn sampling_and_tools() {
    let body = sent(|ask| {
        let stop = vec!["END".into(), "\n".into()];
        let format = Some(json!({"type": "json_object"}));
        ask.sampling = Sampling { temperature: Some(1.5), top_p: Some(0.5), stop, response_format: format };
    });
    assert_eq!(body["max_tokens"], MAX_TOKENS);
    assert_eq!((&body["temperature"], &body["top_p"], &body["stop_sequences"]), (&json!(1.0), &json!(0.5), &json!(["END"])));
    assert!(body.get("response_format").is_none());
    assert_eq!(
        body["tools"][1],
        json!({"name": "mcp_a_read", "description": "does mcp.a.read",
        "input_schema": {"type": "object", "properties": {}}})
    );
}

#[test]
fn turns_alternate_and_begin_with_the_user() {
    let say = ChatMessage::new;
    let call = |id: &str| ToolCall { id: id.into(), name: "time.now".into(), arguments: r#"{"a":1}"#.into() };
    let result = |id: &str, is_error| ChatMessage::result(&CallResult { call_id: id.into(), is_error, content: "noon".into() });
    use ChatRole::{Assistant, System, User};
    let body = sent(|ask| {
        ask.messages = vec![
            say(System, "one\n"),
            say(Assistant, "I begin"),
            say(User, "a"),
            say(User, " "),
            say(System, "two"),
            say(User, "b"),
            ChatMessage::asked("", vec![call("x.1"), call("2")]),
            result("2", true),
            result("x.1", false),
            say(User, "c"),
            say(Assistant, " \n"),
        ];
    });
    assert_eq!(body["system"], "one\n\ntwo");
    let text = |t: &str| json!({"type": "text", "text": t});
    let tool_use = |id: &str| json!({"type": "tool_use", "id": id, "name": "time_now", "input": {"a": 1}});
    let wanted = json!([
        {"role": "user", "content": [text("(The conversation begins.)")]},
        {"role": "assistant", "content": [text("I begin")]},
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [tool_use("x_1"), tool_use("2")]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "x_1", "content": "noon"},
            {"type": "tool_result", "tool_use_id": "2", "content": "noon", "is_error": true},
            text("c")]}]);
    assert_eq!(body["messages"], wanted);
}

#[test]
fn auto_is_the_servers_first_model() {
    let peer = Scripted::new(|_, seen, s| {
        let text = if seen.line.starts_with("GET /v1/models ") {
            assert_eq!(seen.header("x-api-key"), Some("sk-canary-0123456789"));
            answer("200 OK", "application/json", r#"{"data":[{"type":"model","id":"first"},{"id":"second"}],"has_more":false}"#)
        } else {
            let whole = json!({"type": "message", "content": [{"type": "text", "text": seen.json()["model"]}]});
            answer("200 OK", "application/json", &whole.to_string())
        };
        s.write_all(text.as_bytes()).is_ok()
    });
    let clock = Clock::system();
    let provider = K.provider(&peer, &clock, SECOND);
    for requests in [2, 3] {
        let auto = Completion { model: "auto".into(), ..ask(&clock) };
        assert_eq!(provider.complete(&auto, &mut |_| {}).unwrap().text, "first");
        assert_eq!(peer.seen().len(), requests);
    }
    assert_eq!(provider.models().unwrap(), ["first", "second"]);
}

#[test]
fn images_are_blocks_of_the_users_turn() {
    let messages = Messages::default();
    let mut asked = ask(&Clock::system());
    asked.tools.clear();
    asked.messages = vec![ChatMessage::new(ChatRole::User, "what is it?")];
    asked.messages[0].images.extend(Image::of(b"GIF89a"));
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}});
    let body = messages.body("m", &asked);
    assert_eq!(body["messages"], json!([{"role": "user", "content": [image, {"type": "text", "text": "what is it?"}]}]));
    asked.messages[0].text = String::new();
    assert_eq!(messages.body("m", &asked)["messages"][0]["content"], json!([image]));
}
