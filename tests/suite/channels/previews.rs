//! An answer that is shown on Telegram while it is made: one message from the first word to the last, whatever happens in between.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model};
use crate::support::telegram::{Fault, Telegram};
use crate::support::{eventually, merged, pause};

const WORDS: [&str; 6] = ["one ", "two ", "three ", "four ", "five ", "six"];
const ANSWER: &str = "one two three four five six";

/// A model that takes some two seconds for its answer, and a gateway that shows it.
fn prepared(telegram: &Telegram, model: &Model) -> Gateway {
    let quick = json!({"gateway": {"retry": {"maxRetries": 5, "delay": 20}}});
    Gateway::prepare(merged(telegram.config(model.config(), json!({"preview": true})), quick))
}

fn slow() -> Model {
    Model::scripted(|_| Act::Slowly(350, WORDS.map(str::to_string).to_vec()))
}

/// Waits until the answer is there; gives all texts.
#[track_caller]
fn answered(telegram: &Telegram) -> Vec<String> {
    eventually("the answer", 30, || telegram.texts(7).contains(&ANSWER.to_string()).then_some(()));
    pause(300); // nothing comes behind it
    telegram.texts(7)
}

#[test]
fn one_message_from_the_first_word_to_the_last() {
    let (telegram, model) = (Telegram::new(), slow());
    let gateway = prepared(&telegram, &model).begin();
    telegram.says(7, "count");
    let first = telegram.until(1, 15).remove(0);
    assert!(first.text.starts_with("one") && first.text.ends_with(" …") && first.text != ANSWER, "{}", first.text);
    assert_eq!(answered(&telegram), [ANSWER]);
    assert_eq!(telegram.sent()[0].id, first.id);
    let edits = telegram.calls("editMessageText");
    assert!((2..=4).contains(&edits), "one a second, and the answer: {edits}");
    let sent = gateway.get("/api/outbox?state=sent").expect(200).json();
    assert!(!sent.to_string().contains("lastError"), "{sent}");
}

#[test]
fn what_fails_on_the_way_costs_no_answer_and_doubles_none() {
    for (method, fault) in [
        // The very first, and one in between.
        ("sendMessage".to_string(), Fault::Refuse(429, "Too Many Requests: retry after 1".into(), json!({"retry_after": 1}))),
        ("editMessageText".into(), Fault::Refuse(429, "Too Many Requests: retry after 1".into(), json!({"retry_after": 1}))),
        ("editMessageText".into(), Fault::ResetAfter),
        // The edit that makes it the answer: refused, cut off, cut off behind it.
        (
            format!("editMessageText:{ANSWER}"),
            Fault::Refuse(429, "Too Many Requests: retry after 1".into(), json!({"retry_after": 1})),
        ),
        (format!("editMessageText:{ANSWER}"), Fault::Reset),
        (format!("editMessageText:{ANSWER}"), Fault::ResetAfter),
        (format!("editMessageText:{ANSWER}"), Fault::Refuse(400, "Bad Request: message can't be edited".into(), Value::Null)),
    ] {
        let (telegram, model) = (Telegram::new(), slow());
        let _gateway = prepared(&telegram, &model).begin();
        telegram.fail(&method, fault.clone());
        telegram.says(7, "count");
        let texts = answered(&telegram);
        let answers = texts.iter().filter(|t| *t == ANSWER).count();
        assert_eq!(answers, 1, "{method} {fault:?}: {texts:?}");
        // A preview that can't become the answer says that it is none.
        let can_stay = matches!(&fault, Fault::Refuse(400, ..));
        assert!(texts.iter().all(|t| t == ANSWER || (can_stay && t.ends_with(" …"))), "{method} {fault:?}: {texts:?}");
    }
}

#[test]
fn a_restart_before_the_delivery_knows_the_preview() {
    let (telegram, model) = (Telegram::new(), slow());
    let mut gateway = prepared(&telegram, &model).env("GATELET_CRASH_AT", "turn.finished:1").begin();
    telegram.says(7, "count");
    gateway.wait_exit(20);
    let shown = telegram.until(1, 1).remove(0);
    assert!(shown.text.ends_with(" …"), "{}", shown.text);
    let _gateway = gateway.env("GATELET_CRASH_AT", "").begin();
    assert_eq!(answered(&telegram), [ANSWER]);
    assert_eq!(telegram.sent()[0].id, shown.id);
}

#[test]
fn a_kill_in_the_turn_leaves_no_second_answer() {
    let (telegram, model) = (Telegram::new(), slow());
    let mut gateway = prepared(&telegram, &model).begin();
    telegram.says(7, "count");
    telegram.until(1, 15);
    gateway.kill9();
    gateway.restart();
    let texts = answered(&telegram);
    assert_eq!(texts.iter().filter(|t| *t == ANSWER).count(), 1, "{texts:?}");
    assert!(texts.iter().all(|t| t == ANSWER || t.ends_with(" …")), "what is left says that it is no answer: {texts:?}");
}

#[test]
fn what_is_stopped_goes_away() {
    let (telegram, model) = (Telegram::new(), slow());
    let _gateway = prepared(&telegram, &model).begin();
    telegram.says(7, "count");
    let shown = telegram.until(1, 15).remove(0);
    telegram.says(7, "/stop");
    eventually("it goes", 10, || telegram.sent().iter().all(|s| s.id != shown.id).then_some(()));
    pause(500);
    assert!(telegram.texts(7).iter().all(|t| t != ANSWER && !t.ends_with(" …")), "{:?}", telegram.texts(7));
}
