//! SIGTERM: what runs ends or goes on later, what waits hears of it, nothing is lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{DOOR, knock, with_sink};
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::model::{Act, Model};
use crate::support::sink::Sink;
use crate::support::{eventually, figure, heavy, merged, pause};

#[test]
fn a_drain_lets_the_running_turn_finish() {
    let (model, sink) = (Model::slow(900), Sink::new());
    let mut gateway = Gateway::start(with_sink(&model, &sink));
    let id = knock(&gateway, "ana", "hi");
    eventually("the turn", 5, || (!model.asked().is_empty()).then_some(()));
    let (code, took) = gateway.term();
    assert_eq!(code, 0, "{}", gateway.log());
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(sink.got().len(), 1, "the reply left in one last pass");
    gateway.restart();
    assert_eq!(gateway.message(&id)["state"], "answered");
    pause(300);
    assert_eq!((model.times("hi"), sink.got().len()), (1, 1));
}

#[test]
fn a_turn_that_is_cut_short_goes_on_at_the_next_start() {
    let model = Model::scripted(|q| if q.number == 0 { Act::Hang } else { Act::Say(format!("echo: {}", q.text)) });
    let sink = Sink::new();
    let config = merged(with_sink(&model, &sink), json!({"gateway": {"shutdown": {"drainTimeout": 500}}}));
    let mut gateway = Gateway::start(config);
    let id = knock(&gateway, "ana", "hi");
    knock(&gateway, "ana", "then");
    eventually("the turn", 5, || (!model.asked().is_empty()).then_some(()));
    let (code, took) = gateway.term();
    assert_eq!(code, 0, "{}", gateway.log());
    assert!(took < Duration::from_secs(4), "drainTimeout is 0.5 s: {took:?}");
    gateway.restart();
    gateway.until_state(&id, "answered", 10);
    let got = sink.until(2, 10);
    assert_eq!([got[0].text(), got[1].text()], ["echo: hi", "echo: then"]);
    let life = gateway.message(&id).to_string();
    assert!(life.contains("interrupted"), "its timeline tells: {life}");
}

#[test]
fn draining_it_takes_nothing_new() {
    let model = Model::slow(1500);
    let mut gateway = Gateway::start(model.config());
    let mut waiting = {
        let call =
            gateway.call("POST", "/webhook/default?wait=20000").token(ADMIN).json(&json!({"userId": "ana", "message": "hi"}));
        Some(std::thread::spawn(move || call.attempt()))
    };
    eventually("the turn", 5, || (!model.asked().is_empty()).then_some(()));
    let mut connection = crate::support::http::Connection::open(gateway.port).unwrap();
    connection.send("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    connection.answer().unwrap().expect("an answer").expect(200);
    gateway.signal(Signal::TERM);
    pause(150);
    let body = json!({"userId": "bob", "message": "late"});
    if let Ok(answer) = gateway.call("POST", "/webhook/default").token(ADMIN).json(&body).attempt() {
        assert!(answer.header("retry-after").is_some());
        answer.expect_error(503, "unavailable");
    }
    let waited = waiting.take().unwrap().join().unwrap();
    if let Ok(answer) = waited {
        assert!(matches!(answer.status, 200 | 202), "who waited hears of it: {}", answer.text());
    } else {
        panic!("who waited got no answer: {waited:?}");
    }
    assert_eq!(gateway.wait_exit(15).code(), Some(0));
    gateway.restart();
    assert_eq!(model.times("late"), 0);
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let model = Model::scripted(|q| if q.number == 0 { Act::Hang } else { Act::Say(format!("echo: {}", q.text)) });
        let sink = Sink::new();
        let mut gateway = Gateway::start(with_sink(&model, &sink));
        let id = knock(&gateway, "ana", "hi");
        eventually("the turn", 5, || (!model.asked().is_empty()).then_some(()));
        gateway.signal(first);
        pause(300);
        assert!(gateway.exited().is_none(), "it waits for the turn");
        let began = Instant::now();
        gateway.signal(second);
        gateway.wait_exit(5);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        gateway.restart();
        gateway.until_state(&id, "answered", 10);
        assert_eq!(sink.until(1, 10)[0].text(), "echo: hi");
    }
}

#[test]
fn a_drain_under_load_loses_nothing() {
    let _alone = heavy();
    let (model, sink) = (Model::slow(30), Sink::new());
    let config = merged(with_sink(&model, &sink), json!({"gateway": {"shutdown": {"drainTimeout": 1000}}}));
    let mut gateway = Gateway::start(config);
    let mut accepted = Vec::new();
    for round in 0..4 {
        let (port, texts) = (gateway.port, std::sync::Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for user in 0..8 {
                let texts = &texts;
                scope.spawn(move || {
                    for n in 0.. {
                        let text = format!("r{round}-u{user}-{n}");
                        let body = json!({"userId": format!("u{user}"), "message": text, "messageId": text});
                        let call = crate::support::http::Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body);
                        match call.attempt() {
                            Ok(answer) if answer.status == 202 => texts.lock().unwrap().push(text),
                            _ => return,
                        }
                        pause(15);
                    }
                });
            }
            pause(600);
            let (code, took) = gateway.term();
            assert_eq!(code, 0, "{}", gateway.log());
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
        accepted.extend(texts.into_inner().unwrap());
        gateway.restart();
    }
    eventually("all replies", 40, || (sink.got().len() >= accepted.len()).then_some(()));
    pause(300);
    let mut said: Vec<String> = sink.got().iter().map(|d| d.text().trim_start_matches("echo: ").to_string()).collect();
    figure(&format!("drained 4 times under load: {} accepted, {} delivered", accepted.len(), said.len()));
    said.sort();
    let delivered = said.len();
    said.dedup();
    assert_eq!(said.len(), delivered, "doubled");
    let lost: Vec<&String> = accepted.iter().filter(|a| said.binary_search(a).is_err()).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}
