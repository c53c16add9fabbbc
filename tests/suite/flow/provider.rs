//! Providers on bad days: the message is answered after another try or ends as failed, visibly; nobody else waits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::impatient;
use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model, Question};
use crate::support::{eventually, merged};

/// A model that is well for all but the word `ill`, and for that one `times` times acts as told.
pub fn sometimes(times: usize, act: Act) -> Model {
    let left = std::sync::Mutex::new(times);
    Model::scripted(move |q: &Question| {
        let mut left = left.lock().unwrap();
        if q.text == "ill" && *left > 0 {
            *left -= 1;
            return act.clone();
        }
        Act::Say(format!("echo: {}", q.text))
    })
}

/// The model's configuration with short deadlines.
pub fn hurried(model: &Model) -> Value {
    let provider = json!({"connectTimeout": 500, "firstByteTimeout": 400, "chunkTimeout": 400});
    let config = json!({"providers": {"stub": provider}, "agents": {"main": {"turnTimeout": 4000}}});
    impatient(merged(model.config(), config), 2, 30)
}

pub fn modes() -> Vec<(&'static str, Act)> {
    vec![
        ("no first byte", Act::Hang),
        ("silence between chunks", Act::HangBetweenChunks),
        ("reset in mid-stream", Act::ResetMidStream),
        ("close without an answer", Act::Close),
        ("garbage", Act::Garbage),
        ("events that are no JSON", Act::GarbageEvents),
        ("a web page", Act::Html),
        ("truncated JSON", Act::TruncatedJson),
        ("empty choices", Act::EmptyChoices),
        ("null content", Act::NullContent),
        ("500", Act::Status(500, vec![], "{\"error\":\"boom\"}".into())),
        ("503", Act::Status(503, vec![("Retry-After", "0".into())], String::new())),
        ("half a tool call", Act::HalfCall("time_now".into(), "{\"zone\":\"UTC\"}".into())),
        ("429", Act::Status(429, vec![], "slow down".into())),
        ("529", Act::Status(529, vec![], String::new())),
    ]
}

/// The provider fails in every try: the message must end as failed and say why, and another user not wait for it.
pub fn check_failing(name: &str, model: &Model) {
    let gateway = Gateway::start(hurried(model));
    let id = gateway.tell("ana", "ill");
    let began = Instant::now();
    assert_eq!(gateway.ask("bob", "well"), "echo: well", "{name}");
    assert!(began.elapsed() < Duration::from_millis(1500), "{name}: another session waited {:?}", began.elapsed());
    let life = eventually(&format!("{name}: an end"), 30, || {
        Some(gateway.message(&id)).filter(|m| m["state"] == "failed" || m["state"] == "answered")
    });
    if life["state"] == "failed" {
        assert!(life["error"].as_str().is_some_and(|e| !e.is_empty()), "{name}: says why: {life:#}");
        let tries = model.times("ill");
        assert!((1..=9).contains(&tries), "{name}: the provider was asked {tries} times");
    } else {
        assert!(matches!(name, "null content" | "empty choices"), "{name}: answered with {}", life["reply"]);
    }
    assert_eq!(gateway.ask("ana", "well again"), "echo: well again", "{name}: the session goes on");
}

#[test]
fn a_provider_that_keeps_failing_ends_in_a_failed_message() {
    for (name, act) in modes() {
        check_failing(name, &sometimes(usize::MAX, act));
    }
}

/// The provider fails once: the message must be answered all the same.
pub fn check_recovering(name: &str, model: &Model) {
    let gateway = Gateway::start(hurried(model));
    let id = gateway.tell("ana", "ill");
    let life = eventually(&format!("{name}: an end"), 30, || {
        Some(gateway.message(&id)).filter(|m| m["state"] == "failed" || m["state"] == "answered")
    });
    assert_eq!((&life["state"], &life["reply"]), (&json!("answered"), &json!("echo: ill")), "{name}: {life:#}");
    let sessions = gateway.get("/api/sessions/ana").expect(200).text();
    assert!(!sessions.contains("half "), "{name}: half an answer is in the transcript");
}

/// Whole answers: whether asking again can help is the gateway's choice.
pub fn is_whole(name: &str) -> bool {
    matches!(name, "null content" | "empty choices" | "a web page")
}

#[test]
fn a_provider_that_recovers_answers_after_all() {
    for (name, act) in modes().into_iter().filter(|(name, _)| !is_whole(name)) {
        check_recovering(name, &sometimes(1, act));
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let model = sometimes(usize::MAX, Act::EndlessBody);
    let gateway = Gateway::start(hurried(&model));
    assert_eq!(gateway.ask("bob", "well"), "echo: well");
    let before = gateway.stat().rss_kb;
    let id = gateway.tell("ana", "ill");
    let mut peak = 0;
    let life = eventually("an end", 40, || {
        peak = peak.max(gateway.stat().rss_kb);
        Some(gateway.message(&id)).filter(|m| m["state"] == "failed" || m["state"] == "answered")
    });
    assert!(peak < before + 40 * 1024, "memory grew from {before} to {peak} KiB");
    if life["state"] == "answered" {
        assert!(
            life["reply"].as_str().is_some_and(|r| r.len() < 4 << 20),
            "an answer of {} bytes",
            life["reply"].to_string().len()
        );
    }
    assert_eq!(gateway.ask("bob", "well"), "echo: well");
}

#[test]
fn throttling_is_obeyed() {
    let model = sometimes(1, Act::Status(429, vec![("Retry-After", "1".into())], String::new()));
    let gateway = Gateway::start(hurried(&model));
    let id = gateway.tell("ana", "ill");
    gateway.until_state(&id, "answered", 15);
    let asked = model.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_millis(990), "asked again after {:?}", asked[1].at - asked[0].at);
}

#[test]
fn what_cannot_pass_is_not_tried_again() {
    for status in [400, 401, 403, 404] {
        let model = sometimes(usize::MAX, Act::Status(status, vec![], "{\"error\":{\"message\":\"no\"}}".into()));
        let gateway = Gateway::start(hurried(&model));
        let id = gateway.tell("ana", "ill");
        gateway.until_state(&id, "failed", 15);
        assert_eq!(model.times("ill"), 1, "after {status}");
    }
}

#[test]
fn who_waits_hears_of_the_failure() {
    for (act, status, code) in
        [(Act::Status(401, vec![], String::new()), 502, "upstream_failed"), (Act::Hang, 504, "upstream_timeout")]
    {
        let model = sometimes(usize::MAX, act);
        let gateway = Gateway::start(impatient(hurried(&model), 0, 10));
        let answer = gateway.post("/webhook/default?wait=15000", json!({"userId": "ana", "message": "ill"}));
        answer.expect_error(status, code);
    }
}

#[test]
fn a_key_of_the_provider_is_seen_by_nobody_else() {
    let model = sometimes(usize::MAX, Act::Status(401, vec![], "bad key key-00000000000000000000".into()));
    let gateway = Gateway::start(merged(hurried(&model), json!({"log": {"level": "debug"}})));
    let id = gateway.tell("ana", "ill");
    gateway.until_state(&id, "failed", 15);
    let key = "key-00000000000000000000";
    for path in ["/api/config", "/api/agents", "/api/metrics", "/ready", "/api/sessions/ana", &format!("/api/messages/{id}")] {
        assert!(!gateway.get(path).text().contains(key), "{path} shows the key");
    }
    assert!(!gateway.log().contains(key), "the log shows the key");
}

#[test]
fn a_fallback_answers_where_the_first_one_cannot() {
    let broken = Model::scripted(|_| Act::Status(500, vec![], String::new()));
    let second = Model::scripted(|_| Act::Say("from the second".into()));
    let config = json!({"providers": {"second": second.provider()}, "agents": {"main": {"fallbacks": ["second"]}}});
    let gateway = Gateway::start(merged(hurried(&broken), config));
    assert_eq!(gateway.ask("ana", "hi"), "from the second");
}

#[test]
fn a_failed_message_says_so_after_a_restart_too() {
    let model = sometimes(usize::MAX, Act::Status(401, vec![], String::new()));
    let mut gateway = Gateway::start(hurried(&model));
    let id = gateway.tell("ana", "ill");
    gateway.until_state(&id, "failed", 15);
    gateway.kill9();
    gateway.restart();
    assert_eq!(gateway.message(&id)["state"], "failed");
    assert_eq!(model.times("ill"), 1, "and is not tried again by itself");
}

#[test]
fn the_history_reaches_the_model_within_its_bound() {
    let model = Model::echo();
    let gateway =
        Gateway::start(merged(model.config(), json!({"agents": {"main": {"maxHistory": 4, "systemPrompt": "You are a lamp."}}})));
    for n in 0..5 {
        assert_eq!(gateway.ask("ana", &format!("n{n}")), format!("echo: n{n}"));
    }
    assert_eq!(gateway.ask("bob", "other"), "echo: other");
    let asked = model.asked();
    assert_eq!(asked[0].body["messages"][0]["role"], "system");
    assert!(asked[0].body["messages"][0]["content"].to_string().contains("You are a lamp."));
    assert!(asked[1].history().contains("n0") && asked[1].history().contains("echo: n0"), "{}", asked[1].history());
    let last = asked[4].history();
    assert!(last.contains("echo: n3") && last.contains("n2") && !last.contains("n1"), "four entries: {last}");
    assert!(!asked[5].history().contains("n4"), "another user's session");
    assert_eq!(asked[0].body["model"], "stub");
}
