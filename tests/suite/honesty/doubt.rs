//! Sends that left and were never answered, and many that were.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::telegram::{Fault, Telegram};
use crate::support::{eventually, figure, heavy, merged, pause, side_by_side};

fn started(telegram: &Telegram, model: &Model, on_unknown: &str) -> Gateway {
    let quick = json!({"gateway": {"retry": {"maxRetries": 5, "delay": 20}}});
    Gateway::start(merged(telegram.config(model.config(), json!({"onUnknown": on_unknown})), quick))
}

fn outbox(gateway: &Gateway, state: &str) -> Vec<Value> {
    let all = gateway.get(&format!("/api/outbox?state={state}&limit=500")).expect(200).json();
    all["outbox"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_answer_that_never_came_is_held_and_shown_where_that_is_asked_for() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let mut gateway = started(&telegram, &model, "hold");
    telegram.fail("sendMessage:echo: one", Fault::ResetAfter);
    telegram.says(7, "one");
    let unknown = eventually("it to be unknown", 15, || outbox(&gateway, "unknown").pop());
    telegram.says(7, "two");
    eventually("the next one", 15, || telegram.texts(7).contains(&"echo: two".to_string()).then_some(()));
    assert_eq!(telegram.texts(7), ["echo: one", "echo: two"], "sent once, and the next one flows");
    let id = unknown["inReplyTo"].as_str().expect("a message").to_string();
    let life = gateway.message(&id);
    let told = life["timeline"].as_array().expect("a timeline").iter().any(|e| e["event"] == "delivery_unknown");
    assert!(told && life["state"] == "answered", "{life:#}");
    assert!(unknown["lastError"].as_str().unwrap_or_default().contains("not known"), "{unknown}");
    eventually("the record of the second", 15, || (outbox(&gateway, "sent").len() == 1).then_some(()));
    // It stays so over a restart, and goes out again when a person says so.
    gateway.kill9();
    gateway.restart();
    telegram.says(7, "three");
    eventually("the third one", 15, || (telegram.texts(7).len() == 3).then_some(()));
    assert_eq!(outbox(&gateway, "unknown").len(), 1);
    gateway.post(&format!("/api/outbox/{}/retry", unknown["id"].as_str().expect("an id")), json!({})).expect(200);
    eventually("it again", 15, || (telegram.texts(7).len() == 4).then_some(()));
    assert_eq!(telegram.texts(7)[3], "echo: one", "not marked: whoever sent it again has looked");
}

#[test]
fn an_answer_that_never_came_is_sent_again_and_marked_by_default() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = started(&telegram, &model, "resend");
    telegram.fail("sendMessage:echo: one", Fault::ResetAfter);
    telegram.says(7, "one");
    telegram.until(2, 15);
    assert_eq!(telegram.texts(7), ["echo: one", "(This may be a repeat.)\necho: one"]);
    // What never arrived is sent again as it is: a reset in the middle of the request can't be told from one after it.
    telegram
        .fail("sendMessage:echo: two", Fault::Refuse(429, "Too Many Requests: retry after 1".into(), json!({"retry_after": 1})));
    telegram.says(7, "two");
    telegram.until(3, 15);
    assert_eq!(telegram.texts(7)[2], "echo: two");
    let sent = eventually("the record", 5, || Some(outbox(&gateway, "sent")).filter(|s| s.len() == 2));
    assert!(sent[1]["unclearMs"].is_i64() && sent[0]["unclearMs"].is_null(), "{sent:?}");
}

#[test]
fn a_thousand_that_were_delivered_and_restarts_that_send_none_of_them() {
    let _alone = heavy();
    let (telegram, model) = (Telegram::new(), Model::echo());
    let mut gateway = started(&telegram, &model, "resend");
    let users: Vec<i64> = (100..120).collect();
    for user in &users {
        telegram.says(*user, "hello");
    }
    telegram.until(20, 30);
    let began = Instant::now();
    side_by_side(8, |part| {
        for n in (part..980).step_by(8) {
            let user = users[n % users.len()].to_string();
            gateway.post("/api/message", json!({"userId": user, "channel": "tg", "message": format!("n{n}")})).expect(202);
        }
    });
    telegram.until(1000, 60);
    let took = began.elapsed();
    eventually("the records", 10, || {
        (outbox(&gateway, "pending").is_empty() && outbox(&gateway, "sending").is_empty()).then_some(())
    });
    for (n, way) in ["kill -9", "SIGTERM"].into_iter().enumerate() {
        match way {
            "SIGTERM" => assert_eq!(gateway.term().0, 0),
            _ => gateway.kill9(),
        }
        gateway.restart();
        telegram.says(100, "still there?");
        telegram.until(1001 + n, 15);
        pause(300);
        assert_eq!(telegram.sent().len(), 1001 + n, "{way}: nothing was sent again");
    }
    figure(&format!("1,000 delivered rows ({took:?}), kill -9 and SIGTERM, 2 restarts: 0 sends"));
}
