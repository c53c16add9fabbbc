//! A webhook channel's own credential: signatures, tokens, and what an outsider can learn.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::http::{Answer, Call};
use crate::support::merged;
use crate::support::model::echo_config;
use crate::support::sink::{hub_signature, sign};

/// The channel `door` with these keys; gives what becomes of a body with these headers.
struct Door {
    gateway: Gateway,
    body: String,
}

impl Door {
    fn new(keys: Value) -> Self {
        let config = merged(echo_config(), json!({"channels": {"door": merged(json!({"type": "webhook"}), keys)}}));
        Door { gateway: Gateway::start(config), body: json!({"userId": "ana", "message": "hi"}).to_string() }
    }

    fn knock(&self, headers: &[(&str, &str)]) -> Answer {
        self.call("/webhook/door", headers).send()
    }

    fn call(&self, path: &str, headers: &[(&str, &str)]) -> Call {
        let call = self.gateway.call("POST", path).header("Content-Type", "application/json").body(self.body.clone());
        headers.iter().fold(call, |call, (name, value)| call.header(name, value))
    }
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn standard_webhooks_are_verified() {
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    for secret in [secret, "a plain secret of some length"] {
        let door = Door::new(json!({"secret": secret}));
        let body = door.body.as_bytes();
        let stamp = |by: i64| (now_s() + by).to_string();
        let good = |id: &str, by: i64| (stamp(by), sign(secret, id, &stamp(by), body));
        let check = |id: &str, stamp: &str, signature: &str, status: u16, what: &str| {
            let answer = door.knock(&[("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", signature)]);
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            answer
        };
        let (now, signature) = good("m1", 0);
        let first = check("m1", &now, &signature, 202, "valid");
        for _ in 0..5 {
            let replay = check("m1", &now, &signature, 202, "a replay");
            assert_eq!((replay.field("status").as_str(), replay.field("id")), ("duplicate", first.field("id")));
        }
        let (now, signature) = good("m2", 0);
        check("m2", &now, &format!("v1,AAAA {signature}"), 202, "one of two signatures (rotation)");
        let (now, signature) = good("m3", 0);
        check("m4", &now, &signature, 401, "another id");
        check("m3", &stamp(1), &signature, 401, "another timestamp");
        check("m3", &now, &signature[3..], 401, "no version");
        check("m3", &now, &signature.replace("v1,", "v2,"), 401, "another version");
        check("m3", &now, "v1,%%%", 401, "no base64");
        check("m3", &now, "v1,", 401, "an empty signature");
        check("m3", &now, "", 401, "no signature");
        check("m3", &now, &sign("another secret of some length", "m3", &now, body), 401, "another key");
    }
}

#[test]
fn stale_webhooks_are_refused() {
    let secret = "a plain secret of some length";
    let door = Door::new(json!({"secret": secret}));
    for (stamp, what) in [
        ((now_s() - 400).to_string(), "old"),
        ((now_s() + 400).to_string(), "to come"),
        ("soon".into(), "no number"),
        (String::new(), "none"),
        ("99999999999999999999".into(), "too large"),
    ] {
        let signature = sign(secret, "m1", &stamp, door.body.as_bytes());
        let answer = door.knock(&[("webhook-id", "m1"), ("webhook-timestamp", &stamp), ("webhook-signature", &signature)]);
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    }
}

#[test]
fn hub_signatures_and_tokens_are_verified() {
    let door = Door::new(json!({"secret": "a plain secret of some length", "token": "door-token-0123456789abcdef"}));
    let good = hub_signature("a plain secret of some length", door.body.as_bytes());
    for (headers, status) in [
        (vec![("X-Hub-Signature-256", good.as_str())], 202),
        (vec![("X-Hub-Signature-256", &good[..good.len() - 1])], 401),
        (vec![("X-Hub-Signature-256", &good[7..])], 401),
        (vec![("X-Hub-Signature-256", "sha256=")], 401),
        (vec![("X-Hub-Signature", good.as_str())], 401),
        (vec![("Authorization", "Bearer wrong-token-0123456789")], 401),
        (vec![], 401),
    ] {
        assert_eq!(door.knock(&headers).status, status, "{headers:?}");
    }
    let door = Door::new(json!({"token": "door-token-0123456789abcdef"}));
    door.knock(&[("Authorization", "Bearer door-token-0123456789abcdef")]).expect(202);
    // A channel's own credential opens that channel, nothing else.
    for path in ["/webhook/default", "/webhook/other"] {
        let call = door.call(path, &[("Authorization", "Bearer door-token-0123456789abcdef")]);
        call.send().expect_error(401, "unauthorized");
    }
    let token = "door-token-0123456789abcdef";
    door.gateway.call("GET", "/api/config").token(token).send().expect_error(401, "unauthorized");
    door.gateway.call("GET", "/api/sessions/ana").token(token).send().expect_error(401, "unauthorized");
}

#[test]
fn an_unknown_channel_and_a_wrong_credential_look_alike() {
    let door = Door::new(json!({"token": "door-token-0123456789abcdef"}));
    let strip = |answer: Answer| {
        let mut json = answer.json();
        json["requestId"] = Value::Null;
        let names: Vec<String> = answer.headers.iter().map(|(n, _)| n.clone()).collect();
        (answer.status, json, names)
    };
    let wrong = strip(door.call("/webhook/door", &[("Authorization", "Bearer wrong-token-0123456789")]).send());
    let unknown = strip(door.call("/webhook/nope", &[("Authorization", "Bearer wrong-token-0123456789")]).send());
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.0, 401);
    let none = strip(door.call("/webhook/nope", &[]).send());
    assert_eq!(none, wrong, "and so does none at all");
}

#[test]
fn a_disabled_channel_is_closed() {
    let door = Door::new(json!({"token": "door-token-0123456789abcdef", "enabled": false}));
    door.knock(&[("Authorization", "Bearer door-token-0123456789abcdef")]).expect_error(401, "unauthorized");
}

#[test]
fn a_new_webhook_credential_counts_at_once() {
    let door = Door::new(json!({"token": "door-token-0123456789abcdef"}));
    let patch = json!({"channels": {"door": {"token": "door-token-two-0123456789abc"}}});
    door.gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200);
    door.knock(&[("Authorization", "Bearer door-token-0123456789abcdef")]).expect_error(401, "unauthorized");
    door.knock(&[("Authorization", "Bearer door-token-two-0123456789abc")]).expect(202);
}
