//! Jobs: by the API, by the configuration, by the command line; over a kill.

use serde_json::{Value, json};

use super::{DOOR, with_door};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR};
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;
use crate::support::{eventually, merged, pause};

fn runs(gateway: &Gateway, id: &str) -> Vec<Value> {
    let answer = gateway.call("GET", &format!("/api/jobs/{id}/runs?limit=100")).token(ADMIN).send().expect(200).json();
    answer["runs"].as_array().cloned().unwrap_or_default()
}

fn add(gateway: &Gateway, body: Value) -> Value {
    gateway.call("POST", "/api/jobs").token(ADMIN).json(&body).send().expect(201).json()
}

#[test]
fn every_second_over_a_kill_and_never_twice() {
    let (model, sink) = (Model::echo(), Sink::new());
    let mut gateway = Gateway::start(with_door(model.config(), &sink));
    let body = json!({"userId": "carl", "message": "ding"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    sink.until(1, 10);
    let made = add(&gateway, json!({"id": "tick", "every": 1000, "message": "tock", "userId": "carl", "catchUp": true}));
    assert_eq!(
        (&made["by"], &made["every"], &made["message"], &made["enabled"]),
        (&json!("admin"), &json!(1000), &json!("tock"), &json!(true))
    );
    sink.until(3, 10);
    gateway.kill9();
    gateway.restart();
    sink.until(5, 15);
    gateway.call("DELETE", "/api/jobs/tick").token(ADMIN).send().expect(204);
    pause(1500);
    let ids: Vec<String> = sink.got().iter().skip(1).map(|got| got.id.clone()).collect();
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert!(ids.len() <= unique.len() + 1, "at most the one that the kill cut is sent again: {ids:?}");
    pause(1500);
    assert_eq!(sink.got().len(), ids.len() + 1, "a job that is gone runs no more");
    gateway.call("GET", "/api/jobs/tick/runs").token(ADMIN).send().expect_error(404, "not_found");
}

#[test]
fn a_turn_now_and_by_its_schedule() {
    let (model, sink) = (Model::echo(), Sink::new());
    let gateway = Gateway::start(with_door(model.config(), &sink));
    let body = json!({"userId": "carl", "message": "ding"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    sink.until(1, 10);
    let job = json!({"cron": "0 8 * * *", "timezone": "Europe/Berlin", "agent": "main", "prompt": "Any news?", "userId": "carl"});
    let made = add(&gateway, job.clone());
    let id = made["id"].as_str().unwrap().to_string();
    assert!(id.starts_with("job_") && made["nextMs"].is_i64(), "{made}");
    let run = gateway.call("POST", &format!("/api/jobs/{id}/run")).token(ADMIN).send().expect(202).json();
    assert_eq!(run["outcome"], "ran");
    gateway.until_state(run["detail"].as_str().unwrap(), "answered", 10);
    assert!(sink.until(2, 10)[1].text().contains("Any news?"));
    assert_eq!(runs(&gateway, &id).len(), 1);
    // Changed: from now on every second.
    let changed = json!({"every": 1000, "agent": "main", "prompt": "And now?", "userId": "carl"});
    let answer = gateway.call("PUT", &format!("/api/jobs/{id}")).token(ADMIN).json(&changed).send().expect(200).json();
    assert_eq!((&answer["id"], &answer["cron"]), (&json!(id), &Value::Null));
    assert!(sink.until(4, 15)[2].text().contains("And now?"));
    let audit = gateway.call("GET", "/api/audit?limit=100").token(ADMIN).send().expect(200).text();
    for action in ["job.created", "job.run", "job.changed"] {
        assert!(audit.contains(action), "{action} is in the audit trail");
    }
}

#[test]
fn what_the_api_refuses() {
    let jobs = json!({"jobs": [{"id": "mine", "every": 3_600_000, "message": "hi", "userId": "ana"}]});
    let gateway = Gateway::start(merged(echo_config(), jobs));
    eventually("the configuration's job is there", 10, || {
        let list = gateway.call("GET", "/api/jobs").token(ADMIN).send().expect(200).json();
        (list["jobs"][0]["id"] == "mine" && list["jobs"][0]["by"] == "config").then_some(())
    });
    gateway.call("GET", "/api/jobs").token(OPERATOR).send().expect_error(403, "forbidden");
    for (method, path) in [("PUT", "/api/jobs/mine"), ("DELETE", "/api/jobs/mine")] {
        let body = json!({"every": 1000, "message": "x", "userId": "ana"});
        gateway.call(method, path).token(ADMIN).json(&body).send().expect_error(409, "conflict");
    }
    let post = |body: Value| gateway.call("POST", "/api/jobs").token(ADMIN).json(&body).send();
    post(json!({"id": "mine", "every": 1000, "message": "x", "userId": "ana"})).expect_error(409, "conflict");
    for (body, path) in [
        (json!({"every": 999, "message": "x", "userId": "ana"}), "$.every"),
        (json!({"message": "x", "userId": "ana"}), "$"),
        (json!({"every": 1000, "userId": "ana"}), "$"),
        (json!({"every": 1000, "message": "x"}), "$.userId"),
        (json!({"cron": "0 0 31 2 *", "message": "x", "userId": "ana"}), "$.cron"),
        (json!({"cron": "0 8 * * *", "timezone": "Mars/Olympus", "message": "x", "userId": "ana"}), "$.timezone"),
        (json!({"at": "2020-01-01T00:00:00Z", "message": "x", "userId": "ana"}), "$.at"),
        (json!({"every": 1000, "agent": "nobody", "prompt": "x", "userId": "ana"}), "$.agent"),
        (json!({"every": 1000, "message": "x", "userId": "ana", "channel": "nowhere"}), "$.channel"),
        (json!({"every": 1000, "message": "x", "userId": "ana", "evry": 1}), "$.evry"),
    ] {
        let answer = post(body.clone()).expect_error(400, "validation_failed").json();
        let paths: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| e["path"].clone()).collect();
        assert!(paths.contains(&json!(path)), "{body}: {answer}");
    }
    gateway.call("POST", "/api/jobs/none/run").token(ADMIN).send().expect_error(404, "not_found");
    let never = add(&gateway, json!({"every": 3_600_000, "message": "x", "userId": "never-seen"}));
    let path = format!("/api/jobs/{}/run", never["id"].as_str().unwrap());
    gateway.call("POST", &path).token(ADMIN).send().expect_error(409, "conflict");
}
