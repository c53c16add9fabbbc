//! The console in a real browser: scripts of `tests/browser` drive Chromium against a gateway of their own. `.ci/run` installs the
//! browser and names its folder in `GATELET_BROWSER`; without that these tests say so and count as skipped.

mod hostile;
mod page;
mod tour;
mod work;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::{heavy, skipped};

/// Runs a script against `gateway`; `answer` does what the script asks for and says what came of it. Gives whether there was a browser.
fn browse(script: &str, gateway: &mut Gateway, mut answer: impl FnMut(&str, &mut Gateway) -> String) -> bool {
    let Some(browser) = std::env::var_os("GATELET_BROWSER") else {
        skipped(&format!("{script}: GATELET_BROWSER names no folder with a browser (.ci/run installs it)"));
        return false;
    };
    let _alone = heavy(); // a browser takes all that the machine has
    let file = format!("{}/tests/browser/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(file).env("GATELET_BROWSER", browser).env("GATELET_URL", format!("http://127.0.0.1:{}", gateway.port));
    command.envs([("ADMIN", ADMIN), ("OPERATOR", OPERATOR), ("USER_TOKEN", USER)]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starting node");
    let (mut to, from) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
    let errors = child.stderr.take().expect("its errors");
    let said = Mutex::new(String::new());
    let status = std::thread::scope(|scope| {
        scope.spawn(|| {
            let text = std::io::read_to_string(errors).unwrap_or_default();
            *said.lock().expect("a lock") = text;
        });
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            match line.strip_prefix("ASK ") {
                Some(what) => writeln!(to, "{}", answer(what, gateway)).expect("answering the script"),
                None => crate::support::figure(&line),
            }
        }
        child.wait().expect("the script's end")
    });
    let said = said.into_inner().expect("a lock");
    assert!(status.success(), "{script}: {status}\n{said}\n{}", if said.is_empty() { gateway.log() } else { String::new() });
    true
}
