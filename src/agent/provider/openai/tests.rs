//! The provider against servers that answer in all the ways that real and broken ones do.
#![allow(clippy::disallowed_methods)]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::agent::provider::{Answer, Failure, Provider};
use crate::base::clock::Clock;
use crate::base::error::{ErrorKind, Result};
use crate::config::{self, ProviderKind};
use crate::net::client::Client;
use crate::net::scripted::{EVENTS, Scripted, Seen, answer, hang, pause};

const KEY: &str = "sk-canary-0123456789";
const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_millis(600);

fn provider(peer: &Scripted, clock: &Clock) -> OpenAi {
    let config = config::Provider {
        kind: ProviderKind::OpenAi,
        base_url: peer.url("/v1"),
        api_key: Some(Secret::new(KEY)),
        connect_timeout: SECOND,
        first_byte_timeout: DEADLINE,
        chunk_timeout: DEADLINE,
    };
    OpenAi::new(config, Arc::new(Client::new(2)), clock.clone(), 300 * SECOND)
}

fn ask(model: &str, clock: &Clock) -> Completion {
    let messages = vec![ChatMessage::new(ChatRole::User, "hi")];
    Completion { max_output_tokens: Some(64), ..Completion::of(model, messages, clock.mono() + 10 * SECOND) }
}

fn complete(peer: &Scripted) -> (Result<Answer, Failure>, String) {
    let (clock, mut streamed) = (Clock::system(), String::new());
    let result = provider(peer, &clock).complete(&ask("m", &clock), &mut |d| streamed.push_str(d));
    (result, streamed)
}

fn events(data: &[&str]) -> String {
    EVENTS.to_string() + &data.iter().map(|d| format!("data: {d}\n\n")).collect::<String>()
}

fn delta(text: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}).to_string()
}

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"model":"m-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
const NULL: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}"#;

#[track_caller]
fn check_answer(head_and_body: impl Into<Vec<u8>>, text: &str, tokens: (u64, u64), finish: &str) {
    let (result, streamed) = complete(&Scripted::says(head_and_body));
    let answer = result.unwrap_or_else(|f| panic!("{}", f.error));
    assert_eq!((answer.text.as_str(), streamed.as_str()), (text, text));
    assert_eq!((answer.tokens_in, answer.tokens_out), tokens);
    assert_eq!(answer.finish, finish);
}

#[test]
fn answers_as_real_servers_give_them() {
    let (a, b) = (delta("Hel"), delta("lo 🙂"));
    check_answer(events(&[NULL, &a, &b, STOP, USAGE, "[DONE]"]), "Hello 🙂", (7, 2), "stop");
    check_answer(events(&[&a, &b, STOP]), "Hello 🙂", (0, 0), "stop");
    check_answer(events(&[&a, &b, "[DONE]"]), "Hello 🙂", (0, 0), "stop");
    check_answer(events(&["", r#"{"choices":[]}"#, "{}", &a, STOP, "[DONE]", "not read"]), "Hel", (0, 0), "stop");
    check_answer(events(&[&a, &STOP.replace("stop", "length"), "[DONE]"]), "Hel", (0, 0), "length");
    check_answer(events(&[r#"{"error":null,"choices":[{"delta":{"content":"x"}}]}"#, "[DONE]"]), "x", (0, 0), "stop");
    check_answer(events(&[r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#, STOP]), "a\u{fffd}", (0, 0), "stop");
    check_answer(
        events(&[r#"{"choices":[{"delta":{"content":[{"type":"text","text":"p"},{"type":"x"}]}}]}"#, STOP]),
        "p",
        (0, 0),
        "stop",
    );
    check_answer(EVENTS.to_string() + &format!(": ping\r\n\r\ndata: {a}\r\n\r\ndata: [DONE]"), "Hel", (0, 0), "stop");
    check_answer(EVENTS.replace("event-stream", "plain") + &format!("data:{a}\r\rdata:{STOP}\r\r"), "Hel", (0, 0), "stop");
    let whole = r#"{"model":"m","choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    check_answer(answer("200 OK", "application/json", whole), "Hello", (3, 1), "stop");
    check_answer(answer("200 OK", "text/event-stream", &format!("\n {whole}")), "Hello", (3, 1), "stop");
}

#[track_caller]
fn check_failure(peer: Scripted, kind: ErrorKind, says: &str, streamed_before: &str) {
    let begun = Instant::now();
    let (result, streamed) = complete(&peer);
    let failure = result.unwrap_err();
    let shown = format!("{} {:?}", failure.error, failure.error);
    assert_eq!(failure.error.kind, kind, "{shown}");
    assert!(shown.contains(says) && !shown.contains("canary"), "{shown}");
    assert_eq!((streamed.as_str(), failure.after_first_byte), (streamed_before, !streamed_before.is_empty()), "{shown}");
    assert!(begun.elapsed() < 8 * SECOND, "{:?}", begun.elapsed());
}

#[test]
fn answers_that_are_none() {
    use ErrorKind::{Denied, Permanent, Throttled, Transient};
    let a = delta("Hel");
    for (text, kind, says, before) in [
        (events(&[]), Transient, "without a word", ""),
        (events(&[NULL]), Transient, "without a word", ""),
        (events(&[&a]), Transient, "in the middle", "Hel"),
        (events(&[&a, &a[..20]]), Transient, "broken", "Hel"),
        (events(&["garbage"]), Transient, "broken", ""),
        (events(&[STOP, "[DONE]"]), Transient, "is empty", ""),
        (events(&["[DONE]"]), Transient, "is empty", ""),
        (events(&[&delta(" \n"), STOP]), Transient, "is empty", " \n"),
        (events(&[&STOP.replace("stop", "length")]), Permanent, "before its answer began", ""),
        (events(&[&STOP.replace("stop", "tool_calls")]), Permanent, "not given", ""),
        (events(&[&a, r#"{"error":{"message":"out of memory","code":500}}"#]), Transient, "out of memory", "Hel"),
        (events(&[r#"{"error":{"message":"bad key sk-canary-0123456789","code":401}}"#]), Denied, "bad key ***", ""),
        (EVENTS.to_string() + "event: error\ndata: boom\n\n", Transient, "boom", ""),
        (answer("200 OK", "text/html", "<html>Welcome</html>"), Permanent, "web page", ""),
        (answer("200 OK", "text/plain", "\n<!doctype html>"), Permanent, "web page", ""),
        (answer("200 OK", "application/json", r#"{"models":[]}"#), Permanent, "not what was asked for", ""),
        (answer("200 OK", "application/json", r#"{"choices":[{"mess"#), Transient, "broken", ""),
        (answer("200 OK", "application/json", r#"{"error":{"message":"overloaded"}}"#), Transient, "overloaded", ""),
        (answer("500 Oops", "application/json", r#"{"error":{"message":"cuda"}}"#), Transient, "500: cuda", ""),
        (answer("401 No", "application/json", r#"{"error":"sk-canary-0123456789?"}"#), Denied, "401: ***?", ""),
        (
            answer("429 Slow", "text/plain", "x").replace("\r\n\r\n", "\r\nRetry-After: 5\r\n\r\n"),
            Throttled(Some(5 * SECOND)),
            "429",
            "",
        ),
        (EVENTS.to_string() + "data: " + &"x".repeat(2 << 20), Permanent, "beyond its bound", ""),
    ] {
        check_failure(Scripted::says(text), kind, says, before);
    }
}

#[test]
fn a_server_that_holds_the_line_after_a_whole_text_is_not_waited_for() {
    let peer = Scripted::new(|_, _, s| {
        s.write_all(events(&[&delta("Hello"), STOP]).as_bytes()).unwrap();
        hang();
        false
    });
    let begun = Instant::now();
    assert_eq!(complete(&peer).0.unwrap().text, "Hello");
    assert!(begun.elapsed() < 5 * SECOND);
}

#[test]
fn the_turns_deadline_holds_against_drips() {
    let drip = |step_ms| {
        Scripted::new(move |_, _, s| {
            s.write_all(EVENTS.as_bytes()).unwrap();
            let text = events(&[&delta("x")]);
            let mut text = text[EVENTS.len()..].bytes().cycle();
            while s.write_all(&[text.next().unwrap()]).is_ok() {
                pause(step_ms);
            }
            false
        })
    };
    // By the machine's clock: one byte after the other, each within the chunk's deadline.
    let clock = Clock::system();
    let ask_ms = |ms| Completion { deadline: clock.mono() + Duration::from_millis(ms), ..ask("m", &clock) };
    let begun = Instant::now();
    let failure = provider(&drip(20), &clock).complete(&ask_ms(400), &mut |_| {}).unwrap_err();
    assert_eq!(failure.error.kind, ErrorKind::Timeout);
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    // By the turn's clock, between two chunks.
    let clock = Clock::manual(0);
    let failure = provider(&drip(0), &clock).complete(&ask("m", &clock), &mut |_| clock.advance(6 * SECOND)).unwrap_err();
    assert_eq!((failure.error.kind, failure.after_first_byte), (ErrorKind::Timeout, true), "{}", failure.error);
    // Over before it begins: nothing is sent.
    let peer = drip(0);
    let late = Completion { deadline: Duration::ZERO, ..ask("m", &clock) };
    assert_eq!(provider(&peer, &clock).complete(&late, &mut |_| {}).unwrap_err().error.kind, ErrorKind::Timeout);
    assert_eq!(peer.connections(), 0);
}

#[test]
fn characters_are_never_split() {
    let peer = Scripted::new(|_, _, s| {
        for byte in events(&[&delta("你好"), &delta("🙂"), STOP, "[DONE]"]).bytes() {
            s.write_all(&[byte]).unwrap();
        }
        false
    });
    let (clock, mut deltas) = (Clock::system(), Vec::new());
    provider(&peer, &clock).complete(&ask("m", &clock), &mut |d| deltas.push(d.to_string())).unwrap();
    assert_eq!(deltas, ["你好", "🙂"]);
}

#[test]
fn what_is_sent() {
    let peer = Scripted::new(|_, _, s| {
        let chunk = |t: String| format!("{:x}\r\n{t}\r\n", t.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = events(&[&delta("ok"), STOP, "[DONE]"])[EVENTS.len()..].to_string();
        s.write_all(format!("{head}{}0\r\n\r\n", chunk(body)).as_bytes()).unwrap();
        true
    });
    let clock = Clock::system();
    let provider = provider(&peer, &clock);
    for _ in 0..3 {
        provider.complete(&ask("m", &clock), &mut |_| {}).unwrap();
    }
    let seen = &peer.seen()[0];
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
        "stream_options": {"include_usage": true}, "max_tokens": 64});
    assert_eq!(seen.json(), body);
    assert_eq!((peer.connections(), peer.seen().len()), (1, 3), "the connection is used again");
}

#[test]
fn fields_that_a_server_does_not_know_are_left_out_from_then_on() {
    let peer = Scripted::new(|_, seen, s| {
        let refused =
            |what: &str| answer("400 Bad Request", "application/json", &json!({"error": {"message": what}}).to_string());
        let text = if seen.body.contains("stream_options") {
            refused("Unknown field stream_options")
        } else if seen.body.contains("\"max_tokens\"") {
            refused("Use 'max_completion_tokens' instead of 'max_tokens'")
        } else {
            answer("200 OK", "application/json", r#"{"choices":[{"message":{"content":"ok"}}]}"#)
        };
        s.write_all(text.as_bytes()).unwrap();
        true
    });
    let clock = Clock::system();
    let provider = provider(&peer, &clock);
    for requests in [3, 4] {
        assert_eq!(provider.complete(&ask("m", &clock), &mut |_| {}).unwrap().text, "ok");
        assert_eq!(peer.seen().len(), requests);
    }
    let stubborn = Scripted::says(answer("400 Bad", "text/plain", "stream_options max_completion_tokens"));
    check_failure(stubborn, ErrorKind::Permanent, "400", "");
}

#[test]
fn auto_is_the_servers_first_model_asked_for_once_in_a_while() {
    let peer = Scripted::new(|_, seen, s| {
        let text = if seen.line.starts_with("GET /v1/models ") {
            answer("200 OK", "application/json", r#"{"object":"list","data":[{"id":"first"},{"id":"second"},{}]}"#)
        } else if seen.json()["model"] == "first" {
            answer("200 OK", "application/json", r#"{"choices":[{"message":{"content":"ok"}}]}"#)
        } else {
            answer("404 Not Found", "text/plain", "no such model")
        };
        s.write_all(text.as_bytes()).unwrap();
        true
    });
    let clock = Clock::manual(0);
    let provider = provider(&peer, &clock);
    assert_eq!(provider.models().unwrap(), ["first", "second"]);
    for (advance_s, requests) in [(0, 3), (1, 4), (300, 6)] {
        clock.advance(advance_s * SECOND);
        assert_eq!(provider.complete(&ask("auto", &clock), &mut |_| {}).unwrap().model, "first");
        assert_eq!(peer.seen().len(), requests, "after {advance_s} s");
    }
    // A refusal makes it ask anew: the server may have been given another model.
    assert!(provider.complete(&ask("gone", &clock), &mut |_| {}).is_err());
    provider.complete(&ask("auto", &clock), &mut |_| {}).unwrap();
    assert_eq!(peer.seen().len(), 9);
}

#[test]
fn lists_of_models_that_are_none() {
    for (body, says) in [("[]", "no list"), ("<html>", "no list"), (r#"{"data":7}"#, "no list"), (r#"{"data":[]}"#, "no model")] {
        let (peer, clock) = (Scripted::says(answer("200 OK", "application/json", body)), Clock::system());
        let error = provider(&peer, &clock).complete(&ask("auto", &clock), &mut |_| {}).unwrap_err().error;
        assert!(error.kind == ErrorKind::Permanent && error.text.contains(says), "{body}: {error}");
    }
}

#[test]
fn images_are_parts_of_the_users_message() {
    let (chat, clock) = (Chat::default(), Clock::system());
    let mut asked = ask("m", &clock);
    assert_eq!(chat.body("m", &asked)["messages"][0]["content"], "hi", "a text alone stays a text");
    asked.messages[0].images.extend(Image::of(b"GIF89a"));
    let url = json!({"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}});
    assert_eq!(chat.body("m", &asked)["messages"][0]["content"], json!([{"type": "text", "text": "hi"}, url]));
    asked.messages[0].text = " ".into();
    assert_eq!(chat.body("m", &asked)["messages"][0]["content"], json!([url]));
    chat.refusals.note("m", "tools");
    assert_eq!(chat.body("m", &asked)["messages"][0]["content"], json!([url]), "also for models that know no tools");
}

#[test]
fn a_server_that_refuses_images_is_asked_without_them() {
    let asked_for = |bodies: &[&'static str]| {
        let refusals: Vec<String> = bodies.iter().map(|b| answer("400 Bad Request", "application/json", b)).collect();
        let peer = Scripted::new(move |n, _, stream| {
            let fine = events(&[&delta("seen"), STOP]);
            stream.write_all(refusals.get(n).unwrap_or(&fine).as_bytes()).unwrap();
            false
        });
        let clock = Clock::system();
        let provider = provider(&peer, &clock);
        let mut asked = ask("m", &clock);
        asked.messages[0].images.extend(Image::of(b"GIF89a"));
        let first = provider.complete(&asked, &mut |_| {}).map(|a| a.text).map_err(|f| f.error.kind);
        let second = provider.complete(&asked, &mut |_| {}).map(|a| a.text).map_err(|f| f.error.kind);
        let held = |s: &Seen| s.body.contains("image_url");
        (first, second, peer.seen().iter().map(held).collect::<Vec<_>>())
    };
    let fine = || Ok("seen".to_string());
    let blind = r#"{"error":{"message":"image input is not supported"}}"#;
    assert_eq!(asked_for(&[blind]), (fine(), fine(), vec![true, false, false]), "remembered");
    let broken = r#"{"error":{"message":"Could not process image"}}"#;
    assert_eq!(asked_for(&[broken]), (fine(), fine(), vec![true, false, true]), "one broken image blinds nobody");
    let other = r#"{"error":{"message":"no such thing"}}"#;
    assert_eq!(asked_for(&[other, other]), (Err(ErrorKind::Permanent), fine(), vec![true, false, true]), "once only");
}
