//! What every command has in common: help, manual page, completions, exit codes, a reader that goes away.

use std::process::{Command, Stdio};

use super::{check, said};
use crate::support::gateway::{ADMIN, BINARY, Gateway, USER, free_port};
use crate::support::model::echo_config;
use crate::support::skipped;

/// What each command is called with where a gateway is asked: every one of them but those of [`ALONE`].
const ASKING: &[&[&str]] = &[
    &["status"],
    &["chat"],
    &["send", "bob", "x"],
    &["logs"],
    &["logs", "-f", "-n", "3"],
    &["agents"],
    &["agents", "tools"],
    &["channels"],
    &["channels", "reconnect", "default"],
    &["messages"],
    &["messages", "show", "msg_x"],
    &["messages", "retry", "msg_x"],
    &["sessions"],
    &["sessions", "show", "bob"],
    &["sessions", "erase", "bob"],
    &["approvals"],
    &["approvals", "allow", "apr_x"],
    &["pairings"],
    &["pairings", "reject", "ABCD3467"],
    &["outbox"],
    &["outbox", "retry", "dlv_x"],
    &["outbox", "drop", "dlv_x"],
    &["jobs"],
    &["jobs", "add", "bob", "--every", "1h", "--message", "x"],
    &["jobs", "remove", "x"],
    &["jobs", "run", "x"],
    &["jobs", "runs", "x"],
    &["memory", "list", "bob"],
    &["memory", "add", "bob", "x"],
    &["memory", "edit", "not_x", "x"],
    &["memory", "forget", "not_x"],
    &["config"],
    &["config", "get", "gateway"],
    &["config", "set", "log.level", "info"],
];

/// Commands that ask nobody.
const ALONE: &[&str] =
    &["init", "check", "doctor", "token", "serve", "backup", "restore", "help", "man", "completions", "version"];

/// The commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = check(&["--help"], &[], "", 0).out;
    let rows = help.lines().take_while(|l| !l.starts_with("options")).filter_map(|l| l.strip_prefix("  "));
    let names: Vec<String> = rows.filter_map(|l| l.split(' ').next()).filter(|n| !n.is_empty()).map(str::to_string).collect();
    assert!(names.len() >= 24, "{names:?}");
    names
}

#[test]
fn every_command_ends_with_the_code_of_what_went_wrong() {
    for name in commands() {
        assert!(ALONE.contains(&name.as_str()) || ASKING.iter().any(|w| w[0] == name), "{name} is in neither table");
    }
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    // Ten wrong credentials a minute, and the address is refused as such: a gateway for every few of them.
    for words in ASKING.chunks(4) {
        each_ends_with_its_code(words, &nowhere);
    }
    for name in ALONE {
        check(&[name, "--nonsense"], &[], "", 2);
        check(&[name, "--agent", "x"], &[], "", 2);
        assert!(check(&[name, "--help"], &[], "", 0).out.starts_with(&format!("gatelet {name}: ")));
    }
}

fn each_ends_with_its_code(all: &[&[&str]], nowhere: &str) {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    for words in all {
        let none = check(words, &[("GATELET_URL", nowhere), ("GATELET_TOKEN", ADMIN)], "hi\n", 4);
        assert!(none.err.contains(nowhere) && none.out.is_empty(), "{words:?}: {} {}", none.out, none.err);
        let wrong = check(words, &[("GATELET_URL", &url), ("GATELET_TOKEN", "wrong-token-0123456789")], "hi\n", 5);
        assert!(!wrong.err.contains("wrong-token") && wrong.out.is_empty(), "{words:?}: {}", wrong.err);
        // What is another's, or an operator's, is refused to a user; what is not there is not, and another's
        // sessions are as if they were not there.
        let user = said(words, &[("GATELET_URL", &url), ("GATELET_TOKEN", USER)], "");
        let is_own = matches!(words[0], "chat" | "sessions") || words.iter().any(|w| w.ends_with("_x"));
        assert!(user.code == 5 || is_own, "{words:?} as a user: {} {}", user.code, user.out);
        let bad = check(&[words, &["--nonsense"][..]].concat(), &[], "", 2);
        assert!(bad.err.contains("--nonsense"), "{words:?}: {}", bad.err);
    }
}

#[test]
fn answers_in_json_are_json() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    gateway.ask("ana", "hello");
    let lists = ASKING.iter().filter(|w| w.len() == 1 && w[0] != "chat").map(|w| w[0]).chain(["version"]);
    for name in lists {
        let answer = check(&[name, "--json"], &[("GATELET_URL", &url), ("GATELET_TOKEN", ADMIN)], "", 0).out;
        for line in answer.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{name}: {line}");
        }
        assert!(!answer.is_empty(), "{name}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let gateway = Gateway::start(echo_config());
    let url = format!("http://127.0.0.1:{}", gateway.port);
    for i in 0..20 {
        gateway.ask("ana", &format!("hello {i}"));
    }
    for words in [
        "--help",
        "man",
        "completions bash",
        "help jobs",
        "messages",
        "outbox",
        "logs",
        "config",
        "config schema",
        "messages --json",
    ] {
        for reader in ["head -n 1", "true"] {
            let script = format!("{BINARY} {words} | {reader}; echo \"${{PIPESTATUS[0]}}\"");
            let mut command = Command::new("bash");
            command.args(["-c", &script]).env("GATELET_URL", &url).env("GATELET_TOKEN", ADMIN).stdin(Stdio::null());
            let output = command.output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(out.trim_end().ends_with('0') && err.is_empty(), "{words} | {reader}: {out} {err}");
        }
    }
}

#[test]
fn the_manual_page_is_good_roff() {
    let page = check(&["man"], &[], "", 0).out;
    for name in commands() {
        assert!(page.contains(&format!("\n.SS {name}\n")), "{name}");
    }
    if Command::new("groff").arg("--version").output().is_err() {
        return skipped("groff is not installed");
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("gatelet.1");
    std::fs::write(&path, &page).unwrap();
    let output = Command::new("groff").args(["-ww", "-man", "-Tutf8"]).arg(&path).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Wrong usage."));
}

#[test]
fn bash_offers_what_fits() {
    let script = check(&["completions", "bash"], &[], "", 0).out;
    for (words, expected, missing) in [
        ("gatelet ''", "status serve --config", "list --agent"),
        ("gatelet st", "status", "serve"),
        ("gatelet outbox ''", "list retry drop --json", "--agent --cron status"),
        ("gatelet outbox r", "retry", "drop"),
        ("gatelet jobs add --c", "--cron --channel --catch-up --config", "--json"),
        ("gatelet jobs list --c", "--config", "--cron"),
        ("gatelet --config x jobs ''", "add remove", "status"),
        ("gatelet logs --level ''", "error warn info debug trace", "--json"),
        ("gatelet logs -n ''", "", "--json"),
        ("gatelet help ''", "serve doctor", "list"),
        ("gatelet completions ''", "bash zsh fish", "status"),
    ] {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _gatelet; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        let offered = String::from_utf8_lossy(&output.stdout).into_owned();
        let offers = |word: &str| offered.split_whitespace().any(|w| w == word);
        assert!(expected.split(' ').filter(|w| !w.is_empty()).all(offers), "{words}: {offered}");
        assert!(!missing.split(' ').any(offers), "{words}: {offered}");
        assert!(output.stderr.is_empty(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for shell in ["zsh", "fish"] {
        let script = check(&["completions", shell], &[], "", 0).out;
        assert!(commands().iter().all(|name| script.contains(name.as_str())), "{shell}");
        assert!(script.contains("gateway'\\''s agent"), "{shell} keeps an apostrophe of the table");
    }
    check(&["completions", "csh"], &[], "", 2);
}

#[test]
fn the_page_of_commands_is_what_the_help_says() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md")).unwrap();
    for name in commands() {
        let help = check(&["help", &name], &[], "", 0).out;
        let own = help.split("\noptions of every command:").next().unwrap();
        assert!(page.contains(own.trim_end()), "docs/commands.md has another help of {name}:\n{own}");
    }
}
