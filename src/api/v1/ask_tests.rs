//! Requests as clients write them.

use serde_json::json;

use super::*;

fn base(more: Value) -> Value {
    let mut request = json!({"model": "gatelet/main", "messages": [{"role": "user", "content": "hi"}]});
    if let (Some(into), Value::Object(more)) = (request.as_object_mut(), more) {
        into.extend(more);
    }
    request
}

#[track_caller]
fn fails(more: Value, expected: &[&str]) {
    let request = base(more);
    let problems = read(&request).map_or_else(|e| e.errors, |q| vec![("passed".into(), format!("{q:?}"))]);
    let found: Vec<_> = problems.iter().map(|(path, message)| format!("{path}: {message}")).collect();
    assert_eq!(found, expected, "{request}");
}

fn passes(more: Value) -> Question {
    let request = base(more);
    read(&request).unwrap_or_else(|e| panic!("{request}: {:?}", e.errors))
}

fn said(question: &Question) -> Vec<(Said, &str)> {
    question.asked.history.iter().flatten().map(|s| (s.role, s.content.as_str())).collect()
}

#[test]
fn the_least_that_is_asked() {
    let question = passes(json!({}));
    let asked = Asked { history: Some(Vec::new()), forget: true, ..Asked::default() };
    let expected =
        Question { model: "gatelet/main".into(), text: "hi".into(), asked, user: None, stream: false, include_usage: false };
    assert_eq!(question, expected);
}

#[test]
fn all_that_is_read() {
    let question = passes(json!({
        "messages": [
            {"role": "system", "content": "Be a lamp."},
            {"role": "user", "content": "one", "name": "ana"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function"}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
            {"role": "assistant", "content": [{"type": "text", "text": "t"}, {"type": "refusal", "refusal": "wo"}]},
            {"role": "user", "content": [{"type": "text", "text": "thr"}, {"type": "text", "text": "ee"}]},
            {"role": "developer", "content": [{"type": "text", "text": "Shine."}]},
        ],
        "stream": true, "stream_options": {"include_usage": true}, "temperature": 0, "top_p": 1.0, "stop": "END",
        "max_tokens": 5, "max_completion_tokens": 7, "response_format": {"type": "json_object"}, "n": 1, "tools": [], "functions": null,
        "logprobs": true, "seed": 3, "logit_bias": {}, "frequency_penalty": 0.2, "what_is_new": {"x": 1}, "modalities": ["text"],
        "parallel_tool_calls": false, "tool_choice": "none", "store": false, "metadata": {"a": "b"}, "user": null,
    }));
    assert_eq!(question.text, "three");
    let history = [(Said::User, "one"), (Said::User, "Result of a tool call: 42"), (Said::Assistant, "two")];
    assert_eq!(said(&question), history);
    let asked = &question.asked;
    assert_eq!((asked.system.as_deref(), asked.temperature, asked.top_p), (Some("Be a lamp.\n\nShine."), Some(0.0), Some(1.0)));
    assert_eq!((&asked.stop[..], asked.max_tokens, question.stream), (&["END".to_string()][..], Some(7), true));
    assert_eq!((&asked.response_format, question.include_usage), (&Some(json!({"type": "json_object"})), true));
}

#[test]
fn with_a_user_the_last_words_count() {
    let question = passes(json!({"user": "ana", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "old"}, {"role": "assistant", "content": "older"},
        {"role": "user", "content": "new"}, {"role": "assistant", "content": "begun"}]}));
    assert_eq!((question.user.as_deref(), question.text.as_str()), (Some("ana"), "new"));
    let asked = Asked { system: Some("Be brief.".into()), ..Asked::default() };
    assert_eq!(question.asked, asked);
    assert_eq!(passes(json!({"user": ""})).user, None);
}

#[test]
fn what_is_refused() {
    fails(json!({"model": null}), &["$.model: is missing"]);
    fails(json!({"model": 1}), &["$.model: expected a string"]);
    fails(json!({"messages": null}), &["$.messages: is missing"]);
    fails(json!({"messages": []}), &["$.messages: expected an array of 1 to 2048 messages"]);
    fails(json!({"messages": "hi"}), &["$.messages: expected an array of 1 to 2048 messages"]);
    fails(
        json!({"temperature": 2.5, "top_p": -1, "n": 2, "max_tokens": 0}),
        &[
            "$.n: an agent gives one answer: expected 1",
            "$.max_tokens: expected a whole number of at least 1",
            "$.temperature: expected a number from 0 to 2",
            "$.top_p: expected a number from 0 to 1",
        ],
    );
    let tools = "an agent uses the gateway's own tools; tools of the caller's are not taken";
    fails(json!({"tools": [{"type": "function"}]}), &[&format!("$.tools: {tools}")]);
    fails(json!({"functions": [{"name": "x"}]}), &[&format!("$.functions: {tools}")]);
    fails(json!({"audio": {"voice": "x"}}), &["$.modalities: agents speak in text alone"]);
    fails(json!({"stream": "yes"}), &["$.stream: expected true or false"]);
    fails(json!({"user": "a\u{7}"}), &["$.user: must not hold control characters"]);
    fails(json!({"user": 7}), &["$.user: expected a string"]);
    fails(json!({"response_format": {"type": "xml"}}), &["$.response_format.type: expected text, json_object or json_schema"]);
    let stop = "$.stop: expected a string or at most 4 of them, of 1 to 256 bytes each";
    fails(json!({"stop": ["a", "b", "c", "d", "e"]}), &[stop]);
    fails(json!({"stop": ""}), &[stop]);
    let image = json!([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    fails(
        json!({"messages": [{"role": "user", "content": image}]}),
        &["$.messages[0].content[1]: a part of type image_url can't be read here; agents take text alone"],
    );
    fails(
        json!({"messages": [{"role": "robot", "content": "x"}, {"role": "user"}]}),
        &[
            "$.messages[0].role: expected system, developer, user, assistant or tool",
            "$.messages[1].content: expected a string or an array of parts",
        ],
    );
    fails(
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
        &["$.messages[1]: the last message must be the user's"],
    );
    fails(json!({"messages": [{"role": "system", "content": "a"}]}), &["$.messages[0]: the last message must be the user's"]);
    fails(
        json!({"user": "ana", "messages": [{"role": "system", "content": "a"}]}),
        &["$.messages[0]: one message must be the user's"],
    );
    fails(json!({"messages": [{"role": "user", "content": "  "}]}), &["$.messages: the user's last message must not be empty"]);
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    fails(
        json!({"messages": [{"role": "user", "content": long}]}),
        &["$.messages: the user's last message must have at most 262144 bytes"],
    );
    let many: Vec<_> = (0..5).map(|_| json!({"role": "user", "content": "y".repeat(TEXT_BYTES_MAX)})).collect();
    fails(json!({"messages": many}), &["$.messages: must have at most 1048576 bytes of text in all"]);
    assert_eq!(read(&json!([])).unwrap_err().errors[0].0, "$");
}
