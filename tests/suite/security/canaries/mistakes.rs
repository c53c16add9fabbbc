//! Mistakes in a configuration that has secrets: what is said about them names the place, never what stood there.

use serde_json::{Value, json};

use super::Outputs;
use crate::support::gateway::{ADMIN, Gateway};
use crate::support::{eventually, merged};

/// Put where a secret or something beside it belongs.
const WRONG: &str = "canary-of-a-mistake-0123456789";

/// Changes that are wrong each in another way.
fn mistakes() -> Vec<Value> {
    let url = format!("http://user:{WRONG}@127.0.0.1:1/x");
    let mqtt = format!("mqtt://user:{WRONG}@127.0.0.1:1");
    vec![
        json!({"gateway": {"auth": {"token": [WRONG]}}}),
        json!({"gateway": {"auth": {"token": {"env": 5, "text": WRONG}}}}),
        json!({"gateway": {"auth": {"tokens": {"ana": WRONG}}}}),
        json!({"gateway": {"auth": {"tokens": [WRONG]}}}),
        json!({"gateway": {"auth": {"tokens": [{"name": "x", "role": "admin", "tokn": WRONG}]}}}),
        json!({"gateway": {"auth": {"tokens": [{"name": "x", "role": "user", "token": WRONG}, {"name": "y", "role": "user", "token": WRONG}]}}}),
        json!({"gateway": {"auth": {"oauthProviders": [{"name": "h", "clientSecret": {"value": WRONG}}]}}}),
        json!({"providers": {"p": {"type": "openai", "baseUrl": url, "apiKey": WRONG}}}),
        json!({"providers": {"p": {"type": "openai", "apikey": WRONG}}}),
        json!({"providers": {"p": {"type": WRONG, "apiKey": WRONG}}}),
        json!({"providers": {"p": WRONG}}),
        json!({"channels": {"c": {"type": "telegram", "token": WRONG, "apiRoot": url}}}),
        json!({"channels": {"c": {"type": "telegram", "token": format!("{WRONG}\n")}}}),
        json!({"channels": {"c": {"type": "slack", "appToken": WRONG, "bottoken": WRONG}}}),
        json!({"channels": {"c": {"type": "matrix", "homeserver": url, "userId": "@a:b", "password": WRONG}}}),
        json!({"channels": {"c": {"type": "mqtt", "url": mqtt, "password": WRONG}}}),
        json!({"channels": {"c": {"type": "webhook", "replyUrl": url, "secret": WRONG}}}),
        json!({"channels": {"c": {"type": "webhook", "secret": format!("whsec_{WRONG}")}}}),
        json!({"tools": {"mcp": {"m": {"url": url, "token": WRONG}}}}),
        json!({"tools": {"mcp": {"m": {"command": "relative", "env": {"SECRET": WRONG}}}}}),
        json!({"tools": {"mcp": {"m": {"url": "http://127.0.0.1:1/", "token": {"file": ["x", WRONG]}}}}}),
    ]
}

/// Each over HTTP.
pub fn over_http(gateway: &Gateway, outputs: &mut Outputs) {
    for (n, change) in mistakes().into_iter().enumerate() {
        let whole = merged(gateway.read_config(), change.clone());
        for (method, body) in [("PATCH", &change), ("PUT", &whole)] {
            let answer = gateway.call(method, "/api/config?dryRun=true").token(ADMIN).json(body).send();
            assert!(matches!(answer.status, 400 | 403), "mistake {n} is none: {change} {}", answer.text());
            let shown = format!("{:?}\n{}", answer.headers, answer.text());
            assert!(!shown.contains(WRONG), "mistake {n}: {shown}");
            outputs.note(format!("{method} with mistake {n}"), shown);
        }
    }
}

/// Each in the file, and files that are no JSON behind a secret; noticed by the running gateway, and told by the commands.
pub fn in_the_file(gateway: &Gateway, outputs: &mut Outputs) {
    let good = std::fs::read_to_string(&gateway.config_path).unwrap();
    let whole: Value = serde_json::from_str(&good).unwrap();
    let mut texts: Vec<String> = mistakes().into_iter().map(|m| merged(whole.clone(), m).to_string()).collect();
    for broken in [
        format!("{{\"gateway\":{{\"auth\":{{\"token\":\"{WRONG}\",}}}}}}"),
        format!("{{\"gateway\":{{\"auth\":{{\"token\":\"{WRONG}"),
        format!("{{\"gateway\":{{\"auth\":{{\"token\":{WRONG}}}}}}}"),
        format!("{{\"gateway\":{{\"auth\":{{\"token\":\"{WRONG}\",\"token\":\"{WRONG}\"}}}}}}"),
        WRONG.to_string(),
        format!("\"{WRONG}\""),
        format!("{{\"{WRONG}\\u0000\": 1"),
    ] {
        texts.push(broken);
    }
    let before = outputs.0.len();
    for (n, text) in texts.iter().enumerate() {
        gateway.write_config(text);
        assert_ne!(outputs.note_command(gateway, &["check"]), 0, "text {n} is fine: {text}");
        if n % 4 == 0 {
            outputs.note_command(gateway, &["doctor"]);
        }
    }
    eventually("the mistake to be noticed", 10, || {
        gateway.call("GET", "/ready").send().text().contains("degraded").then_some(())
    });
    for (place, bytes) in &outputs.0[before..] {
        let shown = String::from_utf8_lossy(bytes);
        assert!(!shown.contains(WRONG), "{place}: {shown}");
    }
    let log = std::fs::read_to_string(gateway.data.join("suite-log")).unwrap();
    assert!(!log.contains(WRONG), "{}", log.lines().find(|l| l.contains(WRONG)).unwrap_or_default());
    gateway.write_config(&good);
    eventually("the good one again", 10, || (!gateway.get("/ready").text().contains("\"configuration\":\"$")).then_some(()));
}
