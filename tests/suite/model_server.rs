//! With a real language model: the main job on real input. `.ci/run` starts the model server and names it in
//! `GATELET_MODEL_URL`; without it these tests say so and count as skipped.

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway, USER};
use crate::support::ws::Ws;
use crate::support::{figure, heavy, skipped};

/// The wire formats that the server speaks.
const FORMATS: [&str; 2] = ["openai", "anthropic"];

/// A gateway whose agent `main` is the real model, asked in that format.
fn with_real_model(what: &str, format: &str) -> Option<Gateway> {
    let Ok(url) = std::env::var("GATELET_MODEL_URL") else {
        skipped(&format!("{what}: GATELET_MODEL_URL names no model server (.ci/run starts one)"));
        return None;
    };
    Some(Gateway::start(json!({
        "providers": {"real": {"type": format, "baseUrl": url, "apiKey": null}},
        "agents": {"main": {"provider": "real", "model": "auto", "maxOutputTokens": 24}}})))
}

fn texts(sessions: &Value) -> Vec<(String, String)> {
    let all = sessions["sessions"].as_array().expect("sessions");
    all.iter()
        .flat_map(|s| s["transcript"].as_array().expect("a transcript"))
        .map(|e| (e["role"].as_str().unwrap().to_string(), e["text"].as_str().unwrap().to_string()))
        .collect()
}

#[test]
fn a_webhook_gets_the_models_reply_and_the_session_shows_both_turns() {
    FORMATS.into_iter().for_each(check_webhook);
}

fn check_webhook(format: &str) {
    let Some(gateway) = with_real_model("a webhook with a real model", format) else { return };
    let _alone = heavy();
    let mut replies = Vec::new();
    for words in ["Say hello.", "Name one colour."] {
        let began = std::time::Instant::now();
        let body = json!({"userId": "carl", "message": words});
        let call = gateway.call("POST", "/webhook/default?wait=60000").token(ADMIN).json(&body);
        let reply = call.patience(std::time::Duration::from_secs(70)).send().expect(200).field("reply");
        assert!(!reply.trim().is_empty(), "the model said something");
        figure(&format!("a real model's reply ({format}) to {words:?} in {:?}: {reply:?}", began.elapsed()));
        replies.push(reply);
    }
    let said = texts(&gateway.get("/api/sessions/carl").expect(200).json());
    let wanted = [("user", "Say hello."), ("assistant", &replies[0]), ("user", "Name one colour."), ("assistant", &replies[1])];
    assert_eq!(said, wanted.map(|(role, text)| (role.to_string(), text.to_string())));
}

#[test]
fn a_websocket_sees_the_model_speak() {
    FORMATS.into_iter().for_each(check_websocket);
}

fn check_websocket(format: &str) {
    let Some(gateway) = with_real_model("a WebSocket with a real model", format) else { return };
    let _alone = heavy();
    let mut ws = Ws::join(&gateway, USER);
    ws.send(json!({"type": "message", "id": "c1", "message": "Count from one to five."}));
    let mut frames = Vec::new();
    while frames.last().is_none_or(|f: &Value| f["type"] != "message" && f["type"] != "error") {
        frames.push(ws.until_any(&["accepted", "delta", "message", "error"]));
    }
    let message = frames.last().unwrap();
    assert_eq!(message["type"], "message", "{message}");
    let spoken: String = frames.iter().filter(|f| f["type"] == "delta").map(|f| f["text"].as_str().unwrap()).collect();
    assert!(frames.iter().filter(|f| f["type"] == "delta").count() >= 2, "{frames:?}");
    let whole = message["message"].as_str().unwrap();
    assert_eq!(spoken.trim(), whole.trim(), "the deltas are the message");
}
