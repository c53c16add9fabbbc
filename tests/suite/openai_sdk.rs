//! The OpenAI-compatible face with OpenAI's own Python library. `.ci/run` installs it and names its interpreter in
//! `GATELET_CLIENT_PYTHON`; without that this test says so and counts as skipped.

use std::process::Command;

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway, USER};
use crate::support::model::{Act, Model, Question, call};
use crate::support::{eventually, figure, merged, skipped};

/// Echoes, but for a few words; see the script.
fn model() -> Model {
    Model::scripted(|q: &Question| match q.text.as_str() {
        "ill" | "ill once" => Act::Status(401, vec![], String::new()),
        "slow" => Act::Slowly(100, ["word ", "by ", "word ", "it ", "comes"].map(String::from).to_vec()),
        "endless" => Act::Slowly(50, vec!["on and ".into(); 200]),
        "broken" => Act::ResetMidStream,
        text => Act::Say(format!("echo: {text}")),
    })
}

#[test]
fn the_python_library_of_openai() {
    let Ok(python) = std::env::var("GATELET_CLIENT_PYTHON") else {
        skipped("OpenAI's library: GATELET_CLIENT_PYTHON names no interpreter that has it (.ci/run installs it)");
        return;
    };
    let model = model();
    let more = json!({"agents": {"second": {"provider": "stub", "model": "stub"}}, "gateway": {"retry": {"maxRetries": 1, "delay": 10}}});
    let gateway = Gateway::start(merged(model.config(), more));
    let limit = json!({"gateway": {"rateLimit": {"enabled": true, "maxRequests": 2, "window": 60000}}});
    let limited = Gateway::start(merged(model.config(), limit));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/openai_sdk.py");
    let base = |g: &Gateway| format!("http://127.0.0.1:{}/v1", g.port);
    let mut command = Command::new(python);
    command.args([script, &base(&gateway), &base(&limited)]);
    command.envs([("ADMIN", ADMIN), ("USER", USER), ("WRONG", "wrong-token-0123456789abcdef")]);
    let output = command.output().expect("running the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    figure(text(&output.stdout).trim());
    assert_eq!(model.times("ill once"), 1, "what failed was not sent again by itself");
    eventually("the connections' end", 10, || {
        let open = gateway.get("/api/metrics").expect(200).json()["activeConnections"].as_u64()?;
        (open <= 1).then_some(())
    });
}

/// The scripted models stand in for real servers: what the official clients can't read, they must not say.
#[test]
fn the_scripted_models_are_read_by_official_clients() {
    let Ok(python) = std::env::var("GATELET_CLIENT_PYTHON") else {
        skipped("the official clients: GATELET_CLIENT_PYTHON names no interpreter that has them (.ci/run installs them)");
        return;
    };
    let script = |q: &Question| match q.text.as_str() {
        "call" => Act::SayAndCall("Let me see.".into(), vec![call("time_now", json!({"offset": "+01:00"}))]),
        text => Act::Say(format!("echo: {text}")),
    };
    let (chat, messages) = (Model::scripted(script), Model::scripted(script).anthropic());
    let base = |m: &Model| m.provider()["baseUrl"].as_str().unwrap_or_default().to_string();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/fakes.py");
    let output = Command::new(python).args([file, &base(&chat), &base(&messages)]).output().expect("running the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
