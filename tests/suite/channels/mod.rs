//! The channels that hold a connection, each against its real server, or a stand-in that a well-known client library reads.

mod authority;
mod discord;
mod files;
mod matrix;
mod mqtt;
mod previews;
mod slack;
mod telegram;
mod weight;

use std::process::Command;

use crate::support::skipped;

/// Runs a script of `tests/clients` by the interpreter that has the client libraries; skips loudly without one.
fn client(script: &str, arguments: &[&str]) -> bool {
    let Ok(python) = std::env::var("GATELET_CLIENT_PYTHON") else {
        skipped(&format!("{script}: GATELET_CLIENT_PYTHON names no interpreter that has the library (.ci/run installs it)"));
        return false;
    };
    let file = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).arg(file).args(arguments).output().expect("running the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    true
}
