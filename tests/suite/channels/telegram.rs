//! Telegram: conversations over the scripted Bot API, with its failures, kills and restarts: nothing lost, nothing said twice.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::telegram::{Fault, TOKEN, Telegram};
use crate::support::{eventually, merged, pause, skipped};

fn started(telegram: &Telegram, model: &Model, more: Value) -> Gateway {
    let quick = json!({"gateway": {"retry": {"maxRetries": 5, "delay": 20}}});
    Gateway::start(merged(telegram.config(model.config(), more), quick))
}

fn channel(gateway: &Gateway) -> Value {
    let all = gateway.get("/api/channels").expect(200).json();
    let all = all["channels"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["name"] == "tg").unwrap_or_else(|| panic!("the channel tg"))
}

#[test]
fn a_conversation() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = started(&telegram, &model, json!({}));
    telegram.says(7, "one");
    telegram.says(8, "other");
    telegram.says(7, "two");
    telegram.until(3, 15);
    assert_eq!(telegram.texts(7), ["echo: one", "echo: two"]);
    assert_eq!(telegram.texts(8), ["echo: other"]);
    eventually("all confirmed", 5, || (telegram.pending() == 0).then_some(()));
    let status = channel(&gateway);
    assert_eq!((&status["state"], &status["received"], &status["sent"]), (&json!("connected"), &json!(3), &json!(3)), "{status}");
    assert!(!gateway.log().contains("CANARY") && !gateway.get("/metrics").text().contains("CANARY"));
}

#[test]
fn a_restart_loses_nothing_and_repeats_nothing() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let mut gateway = started(&telegram, &model, json!({}));
    for n in 0..3 {
        telegram.says(7, &format!("before {n}"));
        telegram.until(2 * n + 1, 15);
        gateway.term();
        telegram.says(7, &format!("meanwhile {n}"));
        gateway.restart();
        telegram.until(2 * n + 2, 15);
    }
    pause(300);
    let wanted: Vec<String> = (0..3).flat_map(|n| [format!("echo: before {n}"), format!("echo: meanwhile {n}")]).collect();
    assert_eq!(telegram.texts(7), wanted);
}

#[test]
fn killed_between_poll_and_answer() {
    let (telegram, model) = (Telegram::new(), Model::slow(700));
    let mut gateway = started(&telegram, &model, json!({}));
    for n in 0..4 {
        telegram.says(7, &format!("m{n}"));
        pause(5 + 150 * n); // before and behind the commit, and in the turn
        gateway.kill9();
        gateway.restart();
        // Answered before the next kill: a message whose turn dies three times is set aside.
        telegram.until(n as usize + 1, 30);
    }
    pause(500);
    assert_eq!(telegram.texts(7), ["echo: m0", "echo: m1", "echo: m2", "echo: m3"]);
}

#[test]
fn too_fast_is_obeyed_and_a_long_reply_goes_on_where_it_was() {
    let telegram = Telegram::new();
    let long = ["a", "b", "c"].map(|c| c.repeat(4000)).join("\n");
    let said = long.clone();
    let model = Model::scripted(move |_| crate::support::model::Act::Say(said.clone()));
    let _gateway = started(&telegram, &model, json!({}));
    let slower = Fault::Refuse(429, "Too Many Requests: retry after 1".into(), json!({"retry_after": 1}));
    telegram.fail(&format!("sendMessage:{}", "b".repeat(4000)), slower);
    telegram.says(7, "tell me");
    let sent = telegram.until(3, 15);
    assert_eq!(telegram.texts(7).join("\n"), long, "each part once, in order");
    assert!(sent[1].at - sent[0].at >= Duration::from_millis(990), "{:?}", sent[1].at - sent[0].at);
}

#[test]
fn markup_that_is_refused_goes_plain() {
    let (telegram, model) = (Telegram::new(), Model::scripted(|_| crate::support::model::Act::Say("**a** <b>".into())));
    let _gateway = started(&telegram, &model, json!({}));
    telegram.fail("sendMessage", Fault::Refuse(400, "Bad Request: can't parse entities: x".into(), json!({})));
    telegram.says(7, "plain");
    telegram.until(1, 15);
    telegram.says(7, "marked");
    telegram.until(2, 15);
    assert_eq!(telegram.texts(7), ["**a** <b>", "a <b>"]);
}

#[test]
fn a_batch_with_poison_resets_and_repeats() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    for n in 0..100 {
        match n {
            50 => telegram.push(json!({"message": {"text": 5}})),
            _ => telegram.says(100 + n, &format!("m{n}")),
        };
    }
    let repeat = telegram.says(7, "twice");
    telegram.push(json!({"update_id": repeat, "message": crate::support::telegram::message(7, 7, "private", "twice")}));
    telegram.fail("getUpdates", Fault::Reset);
    telegram.fail("getUpdates", Fault::ResetAfter);
    let _gateway = started(&telegram, &model, json!({}));
    telegram.until(100, 60);
    eventually("all confirmed", 15, || (telegram.pending() == 0).then_some(()));
    pause(300);
    assert_eq!(telegram.sent().len(), 100, "99 and the one that came twice");
    assert_eq!(telegram.texts(7), ["echo: twice"]);
}

#[test]
fn numbers_that_begin_anew() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let mut gateway = started(&telegram, &model, json!({}));
    telegram.says(7, "high");
    telegram.until(1, 15);
    eventually("confirmed", 15, || (telegram.pending() == 0).then_some(()));
    gateway.term();
    telegram.count_from(5);
    gateway.restart();
    telegram.says(7, "low");
    telegram.until(2, 15);
    assert_eq!(telegram.texts(7), ["echo: high", "echo: low"]);
}

#[test]
fn a_second_poller_is_told_and_overcome() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let words = "Conflict: can't use getUpdates method while webhook is active";
    telegram.fail("getUpdates", Fault::Refuse(409, words.into(), json!({})));
    let gateway = started(&telegram, &model, json!({}));
    let shown = eventually("the error", 10, || channel(&gateway)["lastError"].as_str().map(str::to_string));
    assert!(shown.contains("deleteWebhook") && !shown.contains("CANARY"), "{shown}");
    telegram.says(7, "after");
    telegram.until(1, 15);
    assert_eq!(telegram.calls("deleteWebhook"), 0, "nobody's webhook is taken away");
}

#[test]
fn a_wrong_token_is_misconfigured_and_shown_nowhere() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = started(&telegram, &model, json!({"token": "77:CANARY-wrong-0123456789"}));
    let status = eventually("the state", 10, || Some(channel(&gateway)).filter(|c| c["state"] == "misconfigured"));
    assert!(status["lastError"].as_str().is_some_and(|e| e.contains("401") && !e.contains("CANARY")), "{status}");
    assert!(!gateway.log().contains("CANARY"), "{}", gateway.log());
}

#[test]
fn a_recipient_who_is_gone_holds_nobody() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = started(&telegram, &model, json!({}));
    telegram.fail("sendMessage:echo: blocked", Fault::Refuse(403, "Forbidden: bot was blocked by the user".into(), json!({})));
    telegram.says(7, "blocked");
    let dead = eventually("a dead letter", 15, || {
        let list = gateway.get("/api/outbox?state=dead").expect(200).json();
        list["deliveries"].as_array().or(list["outbox"].as_array())?.first().cloned()
    });
    assert!(dead["lastError"].as_str().is_some_and(|e| e.contains("blocked")), "{dead}");
    telegram.says(8, "fine");
    telegram.until(1, 15);
    assert_eq!(channel(&gateway)["state"], "connected");
}

#[test]
fn groups_are_answered_where_the_bot_is_meant() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let _gateway = started(&telegram, &model, json!({"groupPolicy": "allowlist", "groups": ["-100500"]}));
    let named =
        json!({"entities": [{"type": "mention", "offset": 0, "length": 8}], "message_thread_id": 9, "is_topic_message": true});
    telegram.says_in(-100500, 7, "just talking", json!({}));
    telegram.says_in(-100600, 7, "@GateBot elsewhere", named.clone());
    telegram.says_in(-100500, 7, "@GateBot hi", named);
    let sent = telegram.until(1, 15);
    assert_eq!((sent[0].chat, sent[0].text.as_str()), (-100500, "echo: @GateBot hi"));
    assert_eq!((&sent[0].body["message_thread_id"], &sent[0].body["reply_parameters"]["message_id"]), (&json!(9), &json!(7)));
    pause(300);
    assert_eq!(telegram.sent().len(), 1);
}

#[test]
fn strangers_are_paired_and_no_kind_of_update_goes_past_the_check() {
    let (telegram, model) = (Telegram::new(), Model::echo());
    let gateway = started(&telegram, &model, json!({"dmPolicy": "pairing"}));
    let message = |text: &str| crate::support::telegram::message(7, 7, "private", text);
    for kind in ["edited_message", "channel_post", "edited_channel_post", "business_message", "edited_business_message"] {
        telegram.push(json!({kind: message("let me in")}));
    }
    telegram.push(json!({"callback_query": {"id": "1", "from": {"id": 7}, "data": "x", "message": message("x")}}));
    telegram.push(json!({"message_reaction": {"user": {"id": 7}, "new_reaction": []}}));
    telegram.push(json!({"chat_join_request": {"from": {"id": 7}}}));
    telegram.says(7, "hello");
    telegram.until(1, 15);
    let pairings = gateway.get("/api/pairings").expect(200).json();
    let code = pairings["pairings"][0]["code"].as_str().unwrap_or_else(|| panic!("{pairings}")).to_string();
    assert_eq!(pairings["pairings"][0]["userId"], "7", "{pairings}");
    assert_eq!((telegram.sent().len(), model.asked().len()), (1, 0), "one word to the stranger, and no turn");
    let answer = gateway.post(&format!("/api/pairings/{code}"), json!({"decision": "approve"}));
    assert_eq!(answer.status / 100, 2, "{}", answer.text());
    telegram.says(7, "now");
    eventually("the answer", 15, || telegram.texts(7).contains(&"echo: now".to_string()).then_some(()));
}

/// What a well-known library can't read, the fake must not say.
#[test]
fn the_fake_is_read_by_a_client_library() {
    let Ok(python) = std::env::var("GATELET_CLIENT_PYTHON") else {
        skipped("python-telegram-bot: GATELET_CLIENT_PYTHON names no interpreter that has it (.ci/run installs it)");
        return;
    };
    let telegram = Telegram::new();
    telegram.says(7, "first");
    telegram.says(7, "second");
    telegram.says_in(-100500, 7, "in a group", json!({}));
    let slower = Fault::Refuse(429, "Too Many Requests: retry after 3".into(), json!({"retry_after": 3}));
    telegram.fail("sendMessage:too fast", slower);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/telegram_bot.py");
    let output = Command::new(python).args([file, &telegram.root(), TOKEN]).output().expect("running the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
