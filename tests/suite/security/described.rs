//! The description of the API against the API: schemathesis makes requests of `/openapi.json`, some as it says and some that break
//! it, and each answer has to be one that is described. `.ci/run` installs it and names it in `GATELET_SCHEMATHESIS`; without that
//! the test says so and counts as skipped.

use std::process::Command;

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::model::echo_config;
use crate::support::{figure, from_env, heavy, merged, skipped};

#[test]
fn every_answer_is_as_it_is_described() {
    let Some(program) = std::env::var_os("GATELET_SCHEMATHESIS") else {
        return skipped("the description: GATELET_SCHEMATHESIS names no schemathesis (.ci/run installs it)");
    };
    let _alone = heavy();
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"trustedProxies": ["127.0.0.1"]}})));
    let before = gateway.read_config();
    let clients = format!("{}/tests/clients", env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.env("PYTHONPATH", &clients).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder.path());
    command.args(["--no-color", "--config-file", &format!("{clients}/schemathesis.toml"), "run"]);
    command.arg(format!("http://127.0.0.1:{}/openapi.json", gateway.port));
    command.args(["--header", &format!("Authorization: Bearer {ADMIN}"), "--continue-on-failure", "--warnings", "off"]);
    // A WebSocket is no request; `tests/suite/websocket` is about it.
    command.args(["--exclude-path", "/ws", "--request-timeout", "20"]);
    // The same requests each time; more of them, or others, by hand.
    command.args(["--seed", &from_env("GATELET_SEED", 1).to_string()]);
    command.args(["--max-examples", &from_env("GATELET_EXAMPLES", 15).to_string()]);
    let output = command.output().expect("schemathesis");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = said.lines().filter(|l| !l.contains(ADMIN)).collect::<Vec<_>>().join("\n");
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let counted = said.lines().find(|l| l.contains("generated")).unwrap_or_default().trim();
    let many: u64 = counted.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(many > 1000, "{shown}");
    figure(&format!("schemathesis: {counted}"));
    assert_eq!(gateway.read_config(), before, "the configuration was asked about alone");
    assert!(gateway.healthy());
}
