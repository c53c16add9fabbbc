//! Going out: signed, tried again while it may help, a dead letter where it can't, never silently gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{DOOR, impatient, with_door};
use crate::support::gateway::{Gateway, OPERATOR, USER};
use crate::support::model::{Model, echo_config};
use crate::support::sink::{Delivered, Receipt, Sink, signed_by};
use crate::support::{eventually, merged, pause};

/// Sends `text` by the channel `door`; gives the message's id.
fn knock(gateway: &Gateway, text: &str) -> String {
    let body = json!({"userId": "ana", "message": text});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).field("id")
}

fn outbox(gateway: &Gateway, state: &str) -> Vec<Value> {
    let list = gateway.call("GET", &format!("/api/outbox?state={state}")).token(OPERATOR).send().expect(200).json();
    list["deliveries"].as_array().or(list["outbox"].as_array()).unwrap_or_else(|| panic!("a list of deliveries: {list}")).clone()
}

#[test]
fn replies_are_standard_webhooks() {
    for (keys, secret) in [
        (
            json!({"replySecret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}),
            Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ),
        (json!({"replySecret": "a plain secret of some length"}), Some("a plain secret of some length")),
        (
            json!({"secret": "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="}),
            Some("whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="),
        ),
        (json!({}), None),
    ] {
        let (model, sink) = (Model::echo(), Sink::new());
        let gateway = Gateway::start(merged(with_door(model.config(), &sink), json!({"channels": {"door": keys}})));
        let body = json!({"userId": "ana", "message": "ding", "conversationId": "hall", "metadata": {"k": [1, null]}});
        let accepted = gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
        let got = &sink.until(1, 10)[0];
        assert!(!got.id.is_empty() && got.body["id"].as_str().is_some_and(|id| !id.is_empty()), "{}", got.body);
        let fields = [
            ("inReplyTo", json!(accepted.field("id"))),
            ("sessionId", json!(accepted.field("sessionId"))),
            ("userId", json!("ana")),
            ("conversationId", json!("hall")),
            ("message", json!("echo: ding")),
            ("metadata", json!({"k": [1, null]})),
        ];
        for (name, value) in fields {
            assert_eq!(got.body[name], value, "{name} of {}", got.body);
        }
        assert!(got.header("content-type").starts_with("application/json"));
        match secret {
            Some(secret) => {
                assert!(signed_by(got, secret), "signature {:?} with {keys}", got.header("webhook-signature"));
                let stamped: u64 = got.header("webhook-timestamp").parse().expect("seconds since 1970");
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
                assert!(stamped.abs_diff(now) < 30, "{stamped} at {now}");
            }
            None => assert_eq!(got.header("webhook-signature"), "", "nothing to sign with"),
        }
    }
}

#[test]
fn what_may_pass_is_tried_again_with_the_same_id() {
    let (model, sink) = (Model::echo(), Sink::scripted(|n, _| [500, 503, 200][n.min(2)].into()));
    let gateway = Gateway::start(impatient(with_door(model.config(), &sink), 3, 60));
    let id = knock(&gateway, "ding");
    let got = sink.until(3, 15);
    assert!(got.iter().all(|d| d.id == got[0].id && d.raw == got[0].raw), "the same id and body at every try");
    let gaps: Vec<Duration> = got.windows(2).map(|w| w[1].at - w[0].at).collect();
    assert!(gaps[0] >= Duration::from_millis(55) && gaps[1] >= Duration::from_millis(110), "the pause doubles: {gaps:?}");
    let life = eventually("the record", 5, || Some(gateway.message(&id)).filter(|m| m["deliveries"][0]["state"] == "sent"));
    assert_eq!(life["deliveries"][0]["attempts"], 3, "{life:#}");
    pause(300);
    assert_eq!(sink.got().len(), 3, "a receipt ends it");
}

/// A receiver that always answers `status`: after `tries` tries the delivery must be a dead letter.
fn check_dead(status: u16, retries: u32, tries: usize) {
    let open = std::sync::Arc::new(AtomicBool::new(false));
    let now_open = open.clone();
    let sink = Sink::scripted(move |_, _| if now_open.load(Ordering::SeqCst) { 204.into() } else { status.into() });
    let gateway = Gateway::start(impatient(with_door(echo_config(), &sink), retries, 20));
    let id = knock(&gateway, "ding");
    let dead = eventually("a dead letter", 15, || outbox(&gateway, "dead").into_iter().next());
    pause(200);
    assert_eq!(sink.got().len(), tries, "tries at {status}");
    assert_eq!((&dead["state"], &dead["attempts"]), (&json!("dead"), &json!(tries)), "{dead:#}");
    assert!(dead["lastError"].as_str().is_some_and(|e| e.contains(&status.to_string())), "says why: {dead:#}");
    assert_eq!(gateway.message(&id)["deliveries"][0]["state"], "dead");
    assert_eq!(gateway.message(&id)["state"], "answered", "the message itself was answered");

    let retry = format!("/api/outbox/{}/retry", dead["id"].as_str().unwrap());
    gateway.call("POST", &retry).token(USER).send().expect_error(403, "forbidden");
    open.store(true, Ordering::SeqCst);
    let answer = gateway.call("POST", &retry).token(OPERATOR).send();
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    let got = sink.until(tries + 1, 10);
    assert_eq!((got[tries].status, &got[tries].id), (204, &got[0].id), "delivered with the same id");
    eventually("the record", 5, || (gateway.message(&id)["deliveries"][0]["state"] == "sent").then_some(()));
    assert!(outbox(&gateway, "dead").is_empty());
    gateway.call("POST", &retry).token(OPERATOR).send().expect_error(409, "conflict");
}

#[test]
fn what_cannot_pass_is_a_dead_letter_at_once_and_a_person_can_revive_it() {
    check_dead(410, 3, 1);
    check_dead(400, 3, 1);
}

#[test]
fn when_no_try_is_left_it_is_a_dead_letter() {
    check_dead(500, 2, 3);
    check_dead(503, 0, 1);
}

#[test]
fn a_dead_letter_can_be_removed() {
    let sink = Sink::scripted(|_, _| 410.into());
    let gateway = Gateway::start(with_door(echo_config(), &sink));
    knock(&gateway, "ding");
    let dead = eventually("a dead letter", 15, || outbox(&gateway, "dead").into_iter().next());
    let path = format!("/api/outbox/{}", dead["id"].as_str().unwrap());
    assert!(matches!(gateway.call("DELETE", &path).token(OPERATOR).send().status, 200 | 204));
    assert!(outbox(&gateway, "dead").is_empty());
    gateway.call("DELETE", &path).token(OPERATOR).send().expect_error(404, "not_found");
}

#[test]
fn retry_after_is_obeyed() {
    for status in [429, 503] {
        let sink = Sink::scripted(move |n, _| match n {
            0 => Receipt { status, headers: vec![("Retry-After", "1".into())], ..Receipt::default() },
            _ => 200.into(),
        });
        let gateway = Gateway::start(impatient(with_door(echo_config(), &sink), 3, 10));
        knock(&gateway, "ding");
        let got = sink.until(2, 15);
        let gap = got[1].at - got[0].at;
        assert!(gap >= Duration::from_millis(990), "after {status}: {gap:?}");
        assert!(gap < Duration::from_secs(4), "after {status}: {gap:?}");
    }
}

#[test]
fn a_receiver_that_is_not_there_yet_gets_it_later() {
    let sink = Sink::scripted(|_, _| 200.into());
    let nobody = format!("http://127.0.0.1:{}/sink", crate::support::gateway::free_port());
    let config = impatient(with_door(echo_config(), &sink), 0, 20);
    let config = merged(config, json!({"channels": {"door": {"replyUrl": nobody}}}));
    let gateway = Gateway::start(config.clone());
    knock(&gateway, "ding");
    let dead = eventually("a dead letter", 15, || outbox(&gateway, "dead").into_iter().next());
    assert!(dead["lastError"].as_str().is_some_and(|e| !e.is_empty()));
    // The person corrects the address, and retries.
    let patch = json!({"channels": {"door": {"replyUrl": sink.url}}});
    gateway.call("PATCH", "/api/config").token(crate::support::gateway::ADMIN).json(&patch).send().expect(200);
    gateway.post(&format!("/api/outbox/{}/retry", dead["id"].as_str().unwrap()), json!({}));
    assert_eq!(sink.until(1, 10)[0].text(), "echo: ding");
}

#[test]
fn a_redirect_is_no_receipt_and_is_not_followed() {
    let canary = Sink::new();
    let location = canary.url.clone();
    let sink =
        Sink::scripted(move |_, _| Receipt { status: 302, headers: vec![("Location", location.clone())], ..Receipt::default() });
    let gateway = Gateway::start(impatient(with_door(echo_config(), &sink), 1, 10));
    let id = knock(&gateway, "ding");
    eventually("a dead letter", 15, || outbox(&gateway, "dead").into_iter().next());
    assert_eq!(gateway.message(&id)["deliveries"][0]["state"], "dead");
    assert!(canary.got().is_empty(), "what was meant for one receiver went to another");
}

#[test]
fn a_slow_receiver_holds_up_nobody_else() {
    let stuck = Sink::scripted(|_, _| Receipt { status: 200, after: 3000, ..Receipt::default() });
    let sink = Sink::new();
    let config = with_door(echo_config(), &sink);
    let slow = json!({"channels": {"swamp": {"type": "webhook", "token": DOOR, "replyUrl": stuck.url}}});
    let gateway = Gateway::start(merged(config, slow));
    let body = json!({"userId": "ana", "message": "slow"});
    gateway.call("POST", "/webhook/swamp").token(DOOR).json(&body).send().expect(202);
    pause(200);
    let began = std::time::Instant::now();
    for n in 0..5 {
        knock(&gateway, &format!("n{n}"));
    }
    sink.until(5, 10);
    assert!(began.elapsed() < Duration::from_millis(2500), "the other channel's replies took {:?}", began.elapsed());
}

#[test]
fn replies_to_one_user_keep_their_order_through_retries() {
    let sink = Sink::scripted(|n, _: &Delivered| if n == 0 { 500.into() } else { 200.into() });
    let gateway = Gateway::start(impatient(with_door(echo_config(), &sink), 3, 200));
    for n in 0..4 {
        knock(&gateway, &format!("n{n}"));
    }
    let got = eventually("four receipts", 15, || Some(sink.got()).filter(|g| g.iter().filter(|d| d.status == 200).count() == 4));
    let taken: Vec<&str> = got.iter().filter(|d| d.status == 200).map(Delivered::text).collect();
    assert_eq!(taken, ["echo: n0", "echo: n1", "echo: n2", "echo: n3"]);
}

#[test]
fn what_was_delivered_is_not_sent_again_at_a_restart() {
    let sink = Sink::new();
    let mut gateway = Gateway::start(with_door(echo_config(), &sink));
    for n in 0..20 {
        knock(&gateway, &format!("n{n}"));
    }
    sink.until(20, 15);
    eventually("the records", 5, || (outbox(&gateway, "sent").len() == 20).then_some(()));
    gateway.kill9();
    gateway.restart();
    pause(700);
    assert_eq!(sink.got().len(), 20);
    assert_eq!(gateway.term().0, 0);
    gateway.restart();
    pause(500);
    assert_eq!(sink.got().len(), 20);
}

#[test]
fn what_was_not_delivered_is_sent_after_a_restart() {
    let open = std::sync::Arc::new(AtomicBool::new(false));
    let now_open = open.clone();
    let sink = Sink::scripted(move |_, _| if now_open.load(Ordering::SeqCst) { 200.into() } else { 500.into() });
    let mut gateway = Gateway::start(impatient(with_door(echo_config(), &sink), 50, 100));
    knock(&gateway, "ding");
    sink.until(1, 10);
    gateway.kill9();
    open.store(true, Ordering::SeqCst);
    gateway.restart();
    let got = eventually("the receipt", 15, || Some(sink.got()).filter(|g| g.last().is_some_and(|d| d.status == 200)));
    assert!(got.iter().all(|d| d.id == got[0].id), "one delivery");
}
