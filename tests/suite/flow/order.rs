//! One session: one turn at a time, in order. Many sessions: side by side, none starved.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{DOOR, with_door};
use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model};
use crate::support::sink::Sink;
use crate::support::{eventually, side_by_side};

#[test]
fn messages_of_one_session_are_handled_in_order_one_at_a_time() {
    const USERS: usize = 6;
    const EACH: usize = 8;
    static RUNNING: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);
    let enter = |user: &str, by: i32| {
        let mut running = RUNNING.lock().unwrap();
        let count = running.get_or_insert_default().entry(user.to_string()).or_default();
        *count = count.checked_add_signed(by).unwrap();
        *count
    };
    let sink = Sink::new();
    let model = Model::scripted(move |q| {
        let user = q.text.split('-').next().unwrap().to_string();
        let at_once = enter(&user, 1);
        crate::support::pause(40);
        enter(&user, -1);
        Act::Say(if at_once == 1 { q.text.clone() } else { format!("{at_once} turns of one session at once") })
    });
    let gateway = Gateway::start(with_door(model.config(), &sink));
    side_by_side(USERS, |user| {
        for n in 0..EACH {
            let body =
                json!({"userId": format!("u{user}"), "message": format!("u{user}-{n}"), "messageId": format!("u{user}-{n}")});
            gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
        }
    });
    let delivered = sink.until(USERS * EACH, 30);
    for user in 0..USERS {
        let said: Vec<&str> = delivered.iter().filter(|d| d.body["userId"] == format!("u{user}")).map(|d| d.text()).collect();
        let wanted: Vec<String> = (0..EACH).map(|n| format!("u{user}-{n}")).collect();
        assert_eq!(said, wanted, "deliveries in order");
        let asked: Vec<String> =
            model.asked().iter().filter(|q| q.text.starts_with(&format!("u{user}-"))).map(|q| q.text.clone()).collect();
        assert_eq!(asked, wanted, "turns in order, each once");
    }
}

#[test]
fn sessions_do_not_wait_for_each_other() {
    let model = Model::slow(800);
    let gateway = Gateway::start(model.config());
    let began = Instant::now();
    let replies = side_by_side(4, |i| gateway.ask(&format!("u{i}"), "hi"));
    let took = began.elapsed();
    assert!(replies.iter().all(|r| r == "echo: hi"));
    assert!(took < Duration::from_millis(2200), "four workers, four sessions of 0.8 s each: {took:?}");
}

#[test]
fn a_busy_session_starves_nobody() {
    let model = Model::slow(60);
    let gateway = Gateway::start(model.config());
    for n in 0..60 {
        gateway.tell("chatterbox", &format!("n{n}"));
    }
    let began = Instant::now();
    assert_eq!(gateway.ask("quiet", "me too"), "echo: me too");
    assert!(began.elapsed() < Duration::from_secs(2), "answered after {:?}", began.elapsed());
    assert!(model.times("n59") == 0, "the other session still has work");
}

#[test]
fn waiting_turns_are_bounded_by_the_workers() {
    let model = Model::slow(1500);
    let config = crate::support::merged(model.config(), json!({"gateway": {"workers": {"turns": 2}}}));
    let gateway = Gateway::start(config);
    for i in 0..6 {
        gateway.tell(&format!("u{i}"), "hi");
    }
    eventually("two turns", 5, || (model.asked().len() == 2).then_some(()));
    crate::support::pause(500);
    assert_eq!(model.asked().len(), 2, "two workers, two turns at a time");
}
