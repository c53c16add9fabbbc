//! The OpenAI-compatible face on the wire: shapes, streams, errors, whose session it is, and what a caller that goes leaves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, OTHER, USER};
use crate::support::http::{Call, Connection};
use crate::support::model::{Act, Model, Question, echo_config};
use crate::support::{eventually, merged, pause, side_by_side};

const PATH: &str = "/v1/chat/completions";

fn request(text: &str, more: Value) -> Value {
    merged(json!({"model": "gatelet/main", "messages": [{"role": "user", "content": text}]}), more)
}

fn ask(gateway: &Gateway, body: &Value) -> Call {
    gateway.call("POST", PATH).token(ADMIN).json(body)
}

/// A streamed answer's connection behind its head.
fn stream(gateway: &Gateway, body: &Value) -> Connection {
    let mut connection = Connection::open(gateway.port).unwrap();
    connection.send(ask(gateway, &merged(body.clone(), json!({"stream": true}))).bytes()).unwrap();
    let head = connection.head().unwrap().expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!((head.header("content-length"), head.header("cache-control")), (None, Some("no-store")));
    assert!(head.header("x-request-id").is_some());
    connection
}

/// All that comes: the events of one connection, split where several came in one chunk.
fn events(connection: &mut Connection) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = connection.event().unwrap() {
        all.extend(event.split("\n\n").map(|e| e.strip_prefix("data: ").unwrap_or(e).to_string()));
    }
    all
}

fn spoken(events: &[String]) -> String {
    let chunks = events.iter().filter_map(|e| serde_json::from_str::<Value>(e).ok());
    chunks.filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_string)).collect()
}

#[test]
fn a_whole_answer_has_the_documented_shape() {
    let gateway = Gateway::start(echo_config());
    let answer = ask(&gateway, &request("hi", json!({}))).send().expect(200).json();
    let id = answer["id"].as_str().unwrap().strip_prefix("chatcmpl-").unwrap().to_string();
    let mut expected = json!({
        "object": "chat.completion", "model": "gatelet/main",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "echo: hi", "refusal": null, "annotations": []},
            "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}, "system_fingerprint": null});
    expected["id"] = answer["id"].clone();
    expected["created"] = answer["created"].clone();
    assert_eq!(answer, expected);
    assert_eq!(gateway.message(&id)["channel"], "openai", "a message like any other");
    let models = gateway.call("GET", "/v1/models").token(USER).send().expect(200).json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("gatelet/main")));
    let one = gateway.call("GET", "/v1/models/gatelet%2Fmain").token(USER).send().expect(200).json();
    assert_eq!(one, models["data"][0]);
}

#[test]
fn a_stream_comes_as_it_is_spoken_and_the_connection_goes_on() {
    let words = ["one ", "two ", "three"].map(String::from).to_vec();
    let model = Model::scripted(move |_| Act::Slowly(150, words.clone()));
    let gateway = Gateway::start(model.config());
    let began = Instant::now();
    let mut connection = stream(&gateway, &request("count", json!({"stream_options": {"include_usage": true}})));
    let first: Value = serde_json::from_str(&connection.event().unwrap().unwrap()).unwrap();
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!((&first["object"], &first["usage"]), (&json!("chat.completion.chunk"), &Value::Null));
    let second = connection.event().unwrap().unwrap();
    let early = began.elapsed();
    let rest = events(&mut connection);
    assert!(began.elapsed() - early > Duration::from_millis(200), "all at once");
    let all: Vec<_> = [second].into_iter().chain(rest).collect();
    assert_eq!(spoken(&all), "one two three");
    let chunk = |i: usize| serde_json::from_str::<Value>(&all[i]).unwrap();
    assert_eq!(all.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(chunk(all.len() - 3)["choices"][0]["finish_reason"], "stop");
    let usage = chunk(all.len() - 2);
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(10)));
    // The same connection takes the next request.
    connection.send(ask(&gateway, &request("again", json!({}))).bytes()).unwrap();
    assert_eq!(connection.answer().unwrap().unwrap().status, 200);
}

#[test]
fn errors_have_openais_shape_wherever_they_are_made() {
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"limits": {"maxBodyBytes": 2000}}})));
    let call = |method: &str, path: &str| gateway.call(method, path);
    let good = request("hi", json!({}));
    call("POST", PATH).json(&good).send().expect_openai_error(401, "invalid_api_key");
    let wrong = call("POST", PATH).token("wrong-token-0123456789").json(&good).send();
    assert!(wrong.header("www-authenticate").is_some());
    wrong.expect_openai_error(401, "invalid_api_key");
    call("GET", "/v1/nothing").token(ADMIN).send().expect_openai_error(404, "not_found");
    call("GET", "/v1").token(ADMIN).send().expect_openai_error(404, "not_found");
    let answer = call("GET", PATH).token(ADMIN).send();
    assert_eq!(answer.header("allow"), Some("POST"));
    answer.expect_openai_error(405, "method_not_allowed");
    call("POST", PATH)
        .token(ADMIN)
        .header("Content-Type", "text/plain")
        .body("x")
        .send()
        .expect_openai_error(415, "unsupported_media_type");
    ask(&gateway, &request(&"x".repeat(3000), json!({}))).send().expect_openai_error(413, "payload_too_large");
    call("POST", PATH)
        .token(ADMIN)
        .header("Content-Type", "application/json")
        .body("{")
        .send()
        .expect_openai_error(400, Value::Null);
    let error = ask(&gateway, &request("hi", json!({"n": 3}))).send().expect_openai_error(400, Value::Null);
    assert_eq!((&error["param"], &error["type"]), (&json!("n"), &json!("invalid_request_error")));
    ask(&gateway, &request("hi", json!({"model": "gatelet/gone"}))).send().expect_openai_error(404, "model_not_found");
    ask(&gateway, &good).header("Idempotency-Key", &"k".repeat(300)).send().expect_openai_error(400, Value::Null);
    ask(&gateway, &good).header("Host", "evil.example").send().expect_openai_error(403, "forbidden");
    // Elsewhere the contract's own.
    call("GET", "/api/agents").send().expect_error(401, "unauthorized");
    drop(gateway);
    let limit = json!({"gateway": {"rateLimit": {"enabled": true, "maxRequests": 1, "window": 60000}}});
    let gateway = Gateway::start(merged(echo_config(), limit));
    gateway.call("GET", "/v1/models").token(USER).send().expect(200);
    let limited = gateway.call("POST", PATH).token(USER).json(&good).send();
    assert!(limited.header("retry-after").is_some() && limited.header("ratelimit-limit") == Some("1"));
    let error = limited.expect_openai_error(429, "rate_limit_exceeded");
    assert_eq!(error["type"], "rate_limit_error");
}

#[test]
fn a_session_is_its_users_alone() {
    let model = Model::echo();
    let gateway = Gateway::start(model.config());
    let as_user = |token: &str, user: &str, text: &str| {
        gateway.call("POST", PATH).token(token).json(&request(text, json!({"user": user}))).send()
    };
    as_user(USER, "ana", "n1").expect(200);
    as_user(USER, "ana", "n2").expect(200);
    assert!(model.asked()[1].history().contains("echo: n1"), "the session's transcript is the history");
    as_user(OTHER, "bob", "n3").expect(200);
    assert!(!model.asked()[2].history().contains("n1"));
    as_user(OPERATOR, "ana", "n4").expect(200);
    assert!(model.asked()[3].history().contains("n2"));
    for (token, user) in [(USER, "bob"), (USER, "admin"), (OTHER, "ana")] {
        as_user(token, user, "x").expect_openai_error(403, "forbidden");
    }
    assert_eq!(model.asked().len(), 4);
    let sessions = gateway.get("/api/sessions/ana").expect(200).json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1), "{sessions}");
    // Without a user each request stands alone.
    for n in ["m1", "m2"] {
        gateway.call("POST", PATH).token(USER).json(&request(n, json!({}))).send().expect(200);
    }
    assert!(!model.asked()[5].history().contains("m1") && !model.asked()[5].history().contains("n1"));
}

#[test]
fn without_a_user_the_request_is_the_history_and_nothing_stays() {
    let model = Model::echo();
    let agent = json!({"agents": {"main": {"systemPrompt": "You are a lamp."}}});
    let gateway = Gateway::start(merged(model.config(), agent));
    let body = json!({"model": "gatelet/main", "temperature": 0.25, "top_p": 0.5, "stop": ["END"], "max_tokens": 17,
        "response_format": {"type": "json_object"}, "messages": [
        {"role": "system", "content": "Shine brightly."}, {"role": "user", "content": "secret-one"},
        {"role": "assistant", "content": "secret-two"}, {"role": "user", "content": "/new secret-three"}]});
    let answer = ask(&gateway, &body).send().expect(200).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "echo: /new secret-three", "no command of the chat's");
    let asked = &model.asked()[0].body;
    let history: Vec<_> =
        asked["messages"].as_array().unwrap().iter().map(|m| (m["role"].as_str().unwrap(), &m["content"])).collect();
    assert_eq!(history[0].0, "system");
    let system = history[0].1.as_str().unwrap();
    assert!(system.find("You are a lamp.").unwrap() < system.find("Shine brightly.").unwrap(), "{system}");
    let (one, two, three) = (json!("secret-one"), json!("secret-two"), json!("/new secret-three"));
    assert_eq!(history[history.len() - 3..], [("user", &one), ("assistant", &two), ("user", &three)]);
    assert_eq!(
        (&asked["temperature"], &asked["top_p"], &asked["response_format"]["type"]),
        (&json!(0.25), &json!(0.5), &json!("json_object"))
    );
    assert!(asked["max_tokens"] == 17 || asked["max_completion_tokens"] == 17, "{asked}");
    assert!(asked["stop"] == json!(["END"]) || asked["stop"] == "END", "{asked}");
    // Nothing of it is kept.
    let id = answer["id"].as_str().unwrap().trim_start_matches("chatcmpl-").to_string();
    let all = [
        gateway.get("/api/sessions").expect(200).text(),
        gateway.get("/api/sessions/admin").text(),
        gateway.get("/api/messages").expect(200).text(),
        gateway.get(&format!("/api/messages/{id}")).text(),
    ];
    assert!(!all.concat().contains("secret-"), "{all:?}");
}

#[test]
fn a_turn_that_fails_says_so_once() {
    let model = Model::scripted(|q: &Question| match q.text.as_str() {
        "ill" => Act::Status(401, vec![], String::new()),
        "broken" if q.number == 0 => Act::ResetMidStream,
        text => Act::Say(format!("echo: {text}")),
    });
    let gateway = Gateway::start(merged(model.config(), json!({"gateway": {"retry": {"maxRetries": 2, "delay": 10}}})));
    // The first try broke off behind "half ", the next one says something else: what went out is not doubled.
    let all = events(&mut stream(&gateway, &request("broken", json!({}))));
    assert_eq!(spoken(&all), "half ");
    let error: Value = serde_json::from_str(all.last().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "upstream_failed", "{all:?}");
    assert!(!all.contains(&"[DONE]".to_string()));
    let answer = ask(&gateway, &request("ill", json!({}))).send();
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.expect_openai_error(502, "upstream_failed")["type"], "server_error");
    let all = events(&mut stream(&gateway, &request("ill", json!({}))));
    let error: Value = serde_json::from_str(all.last().unwrap()).unwrap();
    assert_eq!((spoken(&all).as_str(), &error["error"]["code"]), ("", &json!("upstream_failed")), "{all:?}");
    assert_eq!(model.times("ill"), 2);
}

#[test]
fn a_key_makes_a_repeat_harmless() {
    let model = Model::slow(200);
    let gateway = Gateway::start(model.config());
    for more in [json!({}), json!({"user": "ana"})] {
        let key = format!("key-{}", more["user"]);
        let asked = model.asked().len();
        let body = request("once", more);
        let ids = side_by_side(3, |_| {
            let answer = ask(&gateway, &body).header("Idempotency-Key", &key).send().expect(200).json();
            assert_eq!(answer["choices"][0]["message"]["content"], "echo: once");
            answer["id"].to_string()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(model.asked().len() - asked, 1);
    }
    // Another principal's key is another key.
    let asked = model.asked().len();
    for token in [ADMIN, USER] {
        let call = gateway.call("POST", PATH).token(token).json(&request("mine", json!({})));
        call.header("Idempotency-Key", "same").send().expect(200);
    }
    assert_eq!(model.asked().len() - asked, 2);
}

#[test]
fn streams_hold_no_worker() {
    let model = Model::scripted(|q: &Question| match q.text.as_str() {
        "long" => Act::Slowly(20, vec!["la ".into(); 20]),
        text => Act::Say(format!("echo: {text}")),
    });
    let workers = json!({"gateway": {"workers": {"http": 1, "turns": 8}, "limits": {"maxConnections": 128}}});
    let gateway = Gateway::start(merged(model.config(), workers));
    let before = gateway.settled().threads;
    let mut open: Vec<_> = (0..64).map(|_| stream_sent(&gateway, &request("long", json!({})))).collect();
    for _ in 0..20 {
        gateway.call("GET", "/api/sessions").token(ADMIN).send().expect(200); // the one worker is free
    }
    assert!(gateway.stat().threads <= before + 1, "a thread for each stream");
    for connection in &mut open {
        assert_eq!(connection.head().unwrap().expect("a head").status, 200);
        assert_eq!(spoken(&events(connection)), "la ".repeat(20));
    }
}

/// A streaming request whose answer is not looked at yet.
fn stream_sent(gateway: &Gateway, body: &Value) -> Connection {
    let mut connection = Connection::open(gateway.port).unwrap();
    connection.send(ask(gateway, &merged(body.clone(), json!({"stream": true}))).bytes()).unwrap();
    connection
}

#[test]
fn a_caller_that_goes_leaves_nothing_open() {
    let model = Model::scripted(|q: &Question| match q.text.as_str() {
        "long" => Act::Slowly(50, vec!["la ".into(); 30]),
        text => Act::Say(format!("echo: {text}")),
    });
    let gateway = Gateway::start(model.config());
    let open = || gateway.get("/api/metrics").expect(200).json()["activeConnections"].as_u64().unwrap();
    let mut streaming = stream(&gateway, &request("long", json!({})));
    streaming.event().unwrap();
    let mut plain = Connection::open(gateway.port).unwrap();
    plain.send(ask(&gateway, &request("long", json!({}))).bytes()).unwrap();
    eventually("both under way", 5, || (open() == 3).then_some(()));
    pause(100);
    drop((streaming, plain));
    eventually("their end", 1, || (open() == 1).then_some(()));
    // Nobody waits for them: the turns are cut short, in no more than a moment.
    eventually("the turns' end", 2, || {
        let messages = gateway.get("/api/messages").expect(200).json();
        let states: Vec<_> = messages["messages"].as_array()?.iter().map(|m| m["state"].clone()).collect();
        (states == [json!("cancelled"), json!("cancelled")]).then_some(())
    });
    // Nobody else notices.
    ask(&gateway, &request("hi", json!({}))).send().expect(200);
}

/// A question on behalf of somebody who has gone is for nobody.
#[test]
fn a_caller_that_goes_withdraws_the_question_that_its_turn_waits_for() {
    let model = crate::tools::told();
    let gateway = Gateway::start(merged(model.config(), json!({"tools": {"default": "ask"}})));
    for streams in [false, true] {
        let body = request("CALL time.now {}", json!({"user": "ana", "stream": streams}));
        let mut caller = Connection::open(gateway.port).unwrap();
        caller.send(ask(&gateway, &body).bytes()).unwrap();
        let question = crate::tools::asked(&gateway);
        let message = question["messageId"].as_str().unwrap();
        gateway.until_state(message, "waiting_approval", 10);
        drop(caller);
        assert_eq!(gateway.until_state(message, "cancelled", 5)["state"], "cancelled");
        assert!(crate::tools::pending(&gateway).is_empty(), "nobody is asked any more");
        let late = format!("/api/approvals/{}", question["id"].as_str().unwrap());
        gateway.post(&late, json!({"decision": "allow"})).expect_error(409, "conflict");
        // The session goes on.
        assert_eq!(gateway.ask("ana", "hi"), "echo: hi");
    }
    assert_eq!(model.asked().iter().filter(|q| !q.results.is_empty()).count(), 0, "no call was made");
}

#[test]
fn a_drain_ends_streams_with_a_word() {
    let model = Model::scripted(|_| Act::Slowly(300, vec!["la ".into(); 100]));
    let config = json!({"gateway": {"shutdown": {"drainTimeout": 500}}, "agents": {"main": {"turnTimeout": 60000}}});
    let mut gateway = Gateway::start(merged(model.config(), config));
    let mut connection = stream(&gateway, &request("long", json!({})));
    connection.event().unwrap();
    gateway.signal(rustix::process::Signal::TERM);
    let all = events(&mut connection);
    let error: Value = serde_json::from_str(all.last().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "upstream_timeout", "{all:?}");
    assert_eq!(gateway.wait_exit(20).code(), Some(0));
}
