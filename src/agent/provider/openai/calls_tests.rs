//! Tool calls in all the shapes in which servers send them, and what is sent about them.

use serde_json::json;

use super::*;
use crate::agent::provider::tests::{Kind, ask, complete};
use crate::agent::provider::{Answer, Sampling};
use crate::base::clock::Clock;
use crate::domain::CallResult;
use crate::net::scripted::{EVENTS, Scripted, answer};

/// Streams these `tool_calls` (a delta each) and gives what came of them: `id name arguments`.
#[track_caller]
fn check(deltas: &[&str], wanted: &[&str]) {
    let chunk = |d: &&str| format!("data: {{\"choices\":[{{\"delta\":{d}}}]}}\n\n");
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    check_answer(EVENTS.to_string() + &deltas.iter().map(chunk).collect::<String>() + end, wanted);
}

#[track_caller]
fn check_answer(text: String, wanted: &[&str]) {
    let shown = |a: Answer| a.calls.iter().map(|c| format!("{} {} {}", c.id, c.name, c.arguments)).collect::<Vec<_>>();
    let calls = complete(Kind::OpenAi, &Scripted::says(text)).0.map(shown);
    assert_eq!(calls.unwrap_or_else(|f| panic!("{}", f.error)), wanted);
}

#[test]
fn in_pieces() {
    // As OpenAI does: id and name in the first delta of each, pieces of two calls one after the other.
    check(
        &[
            r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"time_now","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"z"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"\":1}"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"mcp_a_read","arguments":"{}"}}]}"#,
        ],
        &[r#"a time.now {"z":1}"#, "b mcp.a.read {}"],
    );
    // Interleaved; id and name repeated in each piece, or an empty text or null in their place.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"time_now","arguments":"{\"x\":"}},{"index":1,"id":"b","function":{"name":"time_now","arguments":"{\"y\":"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"time_now","arguments":"2}"}},{"index":0,"id":"a","function":{"name":"time_now","arguments":"1}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":null,"function":{"name":null,"arguments":null}}]}"#,
        ],
        &[r#"a time.now {"x":1}"#, r#"b time.now {"y":2}"#],
    );
    // Id and name that come later; another id in each piece, without a name.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"time_now"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"other","function":{"arguments":"}"}}]}"#,
        ],
        &["a time.now {}"],
    );
    // Without index: by id, else the last one.
    check(
        &[
            r#"{"tool_calls":[{"id":"a","function":{"name":"time_now","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":":"}}]}"#,
            r#"{"tool_calls":[{"id":"b","function":{"name":"time_now","arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"id":"a","function":{"arguments":"1}"}}]}"#,
        ],
        &[r#"a time.now {"x":1}"#, "b time.now {}"],
    );
    // Without index and id, the name in each piece.
    check(
        &[
            r#"{"tool_calls":[{"function":{"name":"time_now","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"function":{"name":"time_now","arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"function":{"name":"time_now","arguments":"{\"x\":2}"}}]}"#,
        ],
        &[r#"call_0 time.now {"x":1}"#, r#"call_1 time.now {"x":2}"#],
    );
}

#[test]
fn at_once() {
    // All with index 0, told apart by their ids.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"time_now","arguments":"{\"x\":1}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"time_now","arguments":"{\"x\":2}"}}]}"#,
        ],
        &[r#"a time.now {"x":1}"#, r#"b time.now {"x":2}"#],
    );
    // Neither index nor id; arguments as an object, missing, blank.
    check(
        &[r#"{"content":"","tool_calls":[{"function":{"name":"time_now","arguments":{"x":{"y":[1]}}}},
            {"function":{"name":"mcp_a_read"}},{"function":{"name":"mcp_a_read","arguments":" "}}]}"#
            .replace('\n', "")
            .as_str()],
        &[r#"call_0 time.now {"x":{"y":[1]}}"#, "call_1 mcp.a.read {}", "call_2 mcp.a.read {}"],
    );
    // An object that is said twice.
    let twice = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"time_now","arguments":{"x":1}}}]}"#;
    check(&[twice, twice], &[r#"a time.now {"x":1}"#]);
    // The call that this API had before.
    check(
        &[
            r#"{"function_call":{"name":"time_now","arguments":"{\"x\""}}"#,
            r#"{"function_call":{"arguments":":1}"},"tool_calls":null}"#,
        ],
        &[r#"call_0 time.now {"x":1}"#],
    );
    // A message in place of a delta, and answers that are not streamed.
    let message = r#"{"content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"time_now","arguments":"{}"}},
        {"id":"a","function":{"name":"time_now","arguments":"{}"}}]}"#;
    let whole = format!(r#"{{"choices":[{{"message":{message},"finish_reason":"tool_calls"}}]}}"#);
    check_answer(answer("200 OK", "application/json", &whole), &["a time.now {}", "call_1 time.now {}"]);
    let event = format!("{EVENTS}data: {}\n\ndata: [DONE]\n\n", whole.replace('\n', ""));
    check_answer(event, &["a time.now {}", "call_1 time.now {}"]);
}

#[test]
fn what_is_sent_about_tools() {
    let clock = Clock::system();
    let mut ask = ask(&clock);
    let call = |name: &str, arguments: &str| ToolCall { id: "a".into(), name: name.into(), arguments: arguments.into() };
    let result = |is_error| ChatMessage::result(&CallResult { call_id: "a".into(), is_error, content: "noon".into() });
    ask.messages.extend([
        ChatMessage::asked("", vec![call("time.now", "{\"x\": 1}")]),
        result(false),
        ChatMessage::asked("Hm.", vec![call("rm -rf", "{broken")]),
        result(true),
    ]);
    ask.sampling = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".into()],
        response_format: Some(json!({"type": "json_object"})),
    };
    let body = Chat::default().body("m", &ask);
    let function = |name: &str, arguments: &str| json!([{"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}}]);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": function("time_now", "{\"x\":1}")},
            {"role": "tool", "tool_call_id": "a", "content": "noon"},
            {"role": "assistant", "content": "Hm.", "tool_calls": function("rm_-rf", "{\"not_an_object\":\"{broken\"}")},
            {"role": "tool", "tool_call_id": "a", "content": "noon"}])
    );
    assert_eq!(
        body["tools"][0],
        json!({"type": "function", "function": {"name": "time_now", "description": "does time.now",
            "parameters": {"type": "object", "properties": {}}}})
    );
    assert_eq!((&body["temperature"], &body["top_p"], &body["stop"]), (&json!(0.5), &json!(0.9), &json!(["END"])));
    assert_eq!(body["response_format"]["type"], "json_object");
}
