//! Webhooks against those who repeat, guess and steer: a replay is one message whatever is changed about it and whatever dies in
//! between, nothing tells a channel that exists from one that doesn't, and no body picks its session or agent.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::http::Answer;
use crate::support::model::Model;
use crate::support::sink::{hub_signature, sign};
use crate::support::{figure, merged, percentile};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn now() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string()
}

/// A gateway with the channel `door`, and one request that it took, to be sent again.
struct Replay {
    gateway: Gateway,
    model: Model,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Replay {
    fn new(keys: Value, body: Value, headers: impl Fn(&[u8]) -> Vec<(&'static str, String)>) -> Self {
        let model = Model::echo();
        let channel = merged(json!({"type": "webhook"}), keys);
        let gateway = Gateway::start(merged(model.config(), json!({"channels": {"door": channel}})));
        let body = body.to_string();
        let headers = headers(body.as_bytes());
        Replay { gateway, model, body, headers }
    }

    fn signed() -> Self {
        Replay::new(json!({"secret": SECRET}), json!({"userId": "ana", "message": "hi"}), |body| {
            let stamp = now();
            let signature = sign(SECRET, "evt_1", &stamp, body);
            vec![("webhook-id", "evt_1".into()), ("webhook-timestamp", stamp), ("webhook-signature", signature)]
        })
    }

    fn send(&self, path: &str, rename: impl Fn(&str) -> String) -> Answer {
        let call = self.gateway.call("POST", path).header("Content-Type", "application/json").body(self.body.clone());
        self.headers.iter().fold(call, |call, (name, value)| call.header(&rename(name), value)).send()
    }

    fn again(&self) -> Answer {
        self.send("/webhook/door", str::to_string)
    }
}

/// F5: the memory of what came is as durable as what came.
#[test]
fn a_hundred_replays_over_kills_are_one_message() {
    let by_body = |keys: Value, headers: fn(&[u8]) -> Vec<(&'static str, String)>| {
        Replay::new(keys, json!({"userId": "ana", "message": "hi", "messageId": "evt_1"}), headers)
    };
    for mut replay in [
        Replay::signed(),
        by_body(json!({"secret": SECRET}), |body| vec![("x-hub-signature-256", hub_signature(SECRET, body))]),
        by_body(json!({"token": "door-token-0123456789abcdef"}), |_| {
            vec![("authorization", "Bearer door-token-0123456789abcdef".into())]
        }),
    ] {
        let first = replay.again().expect(202);
        assert_eq!(first.field("status"), "accepted");
        // A kill amid its turn would rightly ask the model once more.
        replay.gateway.until_state(&first.field("id"), "answered", 20);
        for n in 1..100 {
            if n % 25 == 0 {
                replay.gateway.kill9();
                replay.gateway.restart();
            }
            let again = replay.again().expect(202);
            assert_eq!((again.field("status").as_str(), again.field("id")), ("duplicate", first.field("id")), "replay {n}");
        }
        assert_eq!(replay.model.times("hi"), 1);
    }
}

/// F6: what the signature doesn't cover makes no new message of an old one.
#[test]
fn a_replay_in_other_clothes_is_the_same_message() {
    let replay = Replay::signed();
    let first = replay.again().expect(202);
    let as_it_is = |name: &str| name.to_string();
    for path in ["/webhook/door?x=1", "/webhook/door?", "/webhook/door?wait=0", "/webhook/d%6for"] {
        let again = replay.send(path, as_it_is);
        assert_eq!(
            (again.status, again.field("status").as_str(), again.field("id")),
            (202, "duplicate", first.field("id")),
            "{path}"
        );
    }
    for again in
        [replay.send("/webhook/door", str::to_uppercase), replay.send("/webhook/door", |n| n.replace("webhook", "WebHook"))]
    {
        assert_eq!((again.field("status").as_str(), again.field("id")), ("duplicate", first.field("id")));
    }
    // Another way to write the path is the same channel or none, never a second memory.
    for path in ["/webhook/door/", "/webhook//door", "/webhook/Door", "//webhook/door", "/webhook/./door"] {
        let again = replay.send(path, as_it_is);
        let known = again.status == 202 && again.field("id") == first.field("id");
        assert!(known || matches!(again.status, 401 | 404), "{path}: {} {}", again.status, again.text());
    }
    // A header that the sender did not sign is no other id.
    let call = replay.gateway.call("POST", "/webhook/door").header("Content-Type", "application/json").body(replay.body.clone());
    let call = replay.headers.iter().fold(call, |call, (name, value)| call.header(name, value));
    assert_eq!(call.header("Idempotency-Key", "another").send().expect(202).field("id"), first.field("id"));
    replay.gateway.until_state(&first.field("id"), "answered", 20);
    assert_eq!(replay.model.times("hi"), 1);
}

/// F7: a guess learns nothing from status, body, headers or time.
#[test]
fn an_unknown_path_takes_as_long_as_a_known_one() {
    let replay = Replay::signed();
    let _alone = crate::support::heavy();
    let headers = [("webhook-id", "evt_1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,AAAA")];
    let time = |path: &str| {
        let call = replay.gateway.call("POST", path).header("Content-Type", "application/json").body(replay.body.clone());
        let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
        let began = Instant::now();
        let status = call.send().status;
        (status, began.elapsed())
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let mut statuses = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let ((one, fast), (other, slow)) = (time("/webhook/door"), time("/webhook/nope"));
        known.push(fast);
        unknown.push(slow);
        statuses.0.push(one);
        statuses.1.push(other);
    }
    assert_eq!(statuses.0, statuses.1, "the same at every try, over the limit of wrong credentials, too");
    assert!(statuses.0.contains(&401));
    let (a, b) = (percentile(&mut known, 50), percentile(&mut unknown, 50));
    let (low, high) = (percentile(&mut known, 10), percentile(&mut known, 90));
    figure(&format!(
        "a wrong signature, median of 300: known path {a:?} (10th to 90th percentile {low:?} to {high:?}), unknown {b:?}"
    ));
    let apart = a.max(b) - a.min(b);
    assert!(apart < (high - low).max(Duration::from_micros(300)), "{a:?} and {b:?}: more than the noise");
}

/// F9: the session is made of channel, conversation and user, the agent is the configuration's; no field of a body names either.
#[test]
fn no_body_picks_its_session_or_its_agent() {
    let model = Model::echo();
    let token = "door-token-0123456789abcdef";
    let foreign = json!({"type": "webhook", "token": token, "messagePath": "/text", "userPath": "/from/id", "idPath": "/seq"});
    let config = merged(
        model.config(),
        json!({
        "agents": {"other": {"provider": "stub", "model": "other"}},
        "channels": {"door": {"type": "webhook", "token": token}, "mapped": foreign},
        "bindings": [{"channel": "mapped", "user": "*", "agent": "main"}, {"channel": "*", "user": "*", "agent": "main"}]}),
    );
    let gateway = Gateway::start(config);
    let post =
        |path: &str, body: Value| gateway.call("POST", path).token(token).json(&body).send().expect(202).field("sessionId");
    let bobs = gateway.post("/webhook/default", json!({"userId": "bob", "message": "mine"})).expect(202).field("sessionId");
    let plain = post("/webhook/door", json!({"userId": "ana", "message": "hi"}));
    let steered = json!({"userId": "ana", "message": "hi again", "sessionId": bobs, "session": bobs, "agent": "other", "agentId": "other",
        "channel": "default", "role": "admin", "metadata": {"sessionId": bobs, "agent": "other", "userId": "bob", "channel": "default"}});
    assert_eq!(post("/webhook/door", steered), plain);
    let mapped = post("/webhook/mapped", json!({"text": "hi", "from": {"id": 7}, "seq": 1}));
    // A mapped body's other fields are another's words for other things, `conversationId` among them.
    let steered = json!({"text": "again", "from": {"id": 7}, "seq": 2, "userId": "bob", "conversationId": "x", "sessionId": bobs, "agent": "other"});
    assert_eq!(post("/webhook/mapped", steered), mapped);
    assert!(plain != bobs && mapped != bobs && mapped != plain);
    crate::support::eventually("all answered", 20, || (model.asked().len() == 5).then_some(()));
    assert!(model.asked().iter().all(|q| q.body["model"] == "stub"), "the agent is the configuration's");
    let list = gateway.call("GET", "/api/sessions?limit=100").token(ADMIN).send().expect(200).json();
    let of = |id: &str| list["sessions"].as_array().unwrap().iter().find(|s| s["id"] == id).cloned().unwrap_or_default();
    assert_eq!(
        (&of(&bobs)["userId"], &of(&plain)["userId"], &of(&mapped)["userId"]),
        (&json!("bob"), &json!("ana"), &json!("7"))
    );
}
