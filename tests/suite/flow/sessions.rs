//! Sessions and their transcripts: both turns are there, each user's own, erased when asked.

use serde_json::{Value, json};

use super::{DOOR, with_door};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, OTHER, USER};
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;

fn transcript(session: &Value) -> Vec<(String, String)> {
    let entries = session["transcript"].as_array().unwrap_or_else(|| panic!("a transcript in {session}"));
    entries.iter().map(|e| (e["role"].as_str().unwrap().into(), e["text"].as_str().unwrap().into())).collect()
}

#[test]
fn both_turns_are_in_the_transcript() {
    let gateway = Gateway::start(echo_config());
    for text in ["one", "two"] {
        gateway.ask("ana", text);
    }
    let json = gateway.call("GET", "/api/sessions/ana").token(USER).send().expect(200).json();
    let sessions = json["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{json}");
    let said: Vec<(&str, &str)> = vec![("user", "one"), ("assistant", "echo: one"), ("user", "two"), ("assistant", "echo: two")];
    let said: Vec<(String, String)> = said.into_iter().map(|(r, t)| (r.into(), t.into())).collect();
    assert_eq!(transcript(&sessions[0]), said);
}

#[test]
fn a_transcript_outlives_the_process() {
    let mut gateway = Gateway::start(echo_config());
    gateway.ask("ana", "one");
    gateway.kill9();
    gateway.restart();
    gateway.ask("ana", "two");
    let json = gateway.get("/api/sessions/ana").expect(200).json();
    assert_eq!(transcript(&json["sessions"][0]).len(), 4, "one session, both turns: {json}");
}

#[test]
fn sessions_are_never_shared_by_default() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let mut ids = std::collections::HashSet::new();
    for (channel, token, user) in
        [("default", ADMIN, "ana"), ("default", ADMIN, "carl"), ("door", DOOR, "ana"), ("door", DOOR, "carl")]
    {
        let body = json!({"userId": user, "message": "hi"});
        let answer = gateway.call("POST", &format!("/webhook/{channel}")).token(token).json(&body).send().expect(202);
        ids.insert(answer.field("sessionId"));
    }
    assert_eq!(ids.len(), 4, "one for each channel and user");
}

#[test]
fn others_sessions_and_messages_do_not_exist_for_a_user() {
    let gateway = Gateway::start(echo_config());
    gateway.ask("bob", "secret words");
    let id = gateway.tell("bob", "more");
    let own = gateway.call("GET", "/api/sessions/bob").token(OTHER).send().expect(200);
    assert!(own.text().contains("secret words"));
    for (method, path) in [("GET", "/api/sessions/bob"), ("DELETE", "/api/sessions/bob"), ("GET", &format!("/api/messages/{id}"))]
    {
        let answer = gateway.call(method, path).token(USER).send();
        assert!(matches!(answer.status, 403 | 404), "{method} {path}: {}", answer.status);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    let list = gateway.call("GET", "/api/sessions").token(USER).send();
    assert!(!list.text().contains("bob") && !list.text().contains("secret"), "{}", list.text());
    assert!(gateway.get("/api/sessions/bob").expect(200).text().contains("secret words"), "nothing was erased");
    gateway.call("GET", "/api/sessions/bob").token(OPERATOR).send().expect(200);
}

#[test]
fn erased_is_erased() {
    let (model, sink) = (Model::echo(), Sink::new());
    let mut gateway = Gateway::start(with_door(model.config(), &sink));
    let body = json!({"userId": "ana", "message": "forget-me-not", "messageId": "m1"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    sink.until(1, 10);
    gateway.ask("ana", "forget-me-not-either");
    let other = gateway.ask("bob", "keep me");
    gateway.call("DELETE", "/api/sessions/ana").token(USER).send().expect(204);
    let after = gateway.get("/api/sessions/ana");
    assert!(after.status == 404 || after.json()["sessions"].as_array().is_some_and(Vec::is_empty), "{}", after.text());
    for path in ["/api/sessions", "/api/outbox", "/api/audit"] {
        assert!(!gateway.get(path).text().contains("forget-me-not"), "{path}");
    }
    assert!(gateway.get("/api/sessions/bob").text().contains(&other));
    // The same message sent again is still the same: erasing does not open the door to repeats.
    let again = gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send();
    assert_eq!(again.field("status"), "duplicate");
    assert_eq!(gateway.ask("ana", "hello"), "echo: hello");
    assert!(!model.asked().last().unwrap().history().contains("forget-me-not"));
    gateway.kill9();
    gateway.restart();
    assert!(!gateway.get("/api/sessions/ana").text().contains("forget-me-not"));
}

#[test]
fn lists_go_on_at_their_cursor() {
    let gateway = Gateway::start(echo_config());
    for n in 0..7 {
        gateway.ask(&format!("u{n}"), "hi");
    }
    let (mut seen, mut path, mut pages) = (Vec::new(), "/api/sessions?limit=3".to_string(), 0);
    loop {
        let page = gateway.get(&path).expect(200).json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 3);
        seen.extend(sessions.iter().map(|s| s["userId"].as_str().unwrap().to_string()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = format!("/api/sessions?limit=3&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!((pages, seen), (3, (0..7).map(|n| format!("u{n}")).collect::<Vec<_>>()));
    for bad in [
        "limit=0",
        "limit=-1",
        "limit=abc",
        "limit=99999999999999999999",
        "limit=%zz",
        "cursor=%00",
        "cursor=%ff",
        "cursor=garbage%27",
    ] {
        for list in ["sessions", "messages", "audit"] {
            gateway.get(&format!("/api/{list}?{bad}")).expect(400);
        }
    }
}
