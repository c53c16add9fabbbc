//! The hidden command behind `shell.run`, by the built binary: what it runs, and that nothing outlives the one who ordered it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::gateway::BINARY;

/// The binary as a supervisor, for a program and its arguments.
fn supervise(words: &[&str]) -> Command {
    let m = std::fs::metadata(words[0]).unwrap();
    let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    let (written, changed) = (ns(m.mtime(), m.mtime_nsec()), ns(m.ctime(), m.ctime_nsec()));
    let identity = format!("{}:{}:{}:{:o}:{written}:{changed}", m.dev(), m.ino(), m.size(), m.mode());
    let mut command = Command::new(BINARY);
    command.args(["__exec", &identity, "5", "268435456", "16", "--"]).args(words).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How many processes have a command line that begins so.
fn count(marker: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").starts_with(marker)).count()
}

#[track_caller]
fn gone(marker: &str) {
    let begun = Instant::now();
    while count(marker) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(3), "{marker} runs on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_runs_a_program_and_tells_its_end() {
    for (words, code, out, status) in [
        (&["/bin/echo", "--", "-n", "$HOME;`x`"][..], 0, "-- -n $HOME;`x`\n", "exit 0\n"),
        (&["/bin/false"], 0, "", "exit 1\n"),
        (&["/bin/sh", "-c", "kill -KILL $$"], 0, "", "signal 9\n"),
        (&["/bin/sh", "-c", "grep NoNewPrivs /proc/self/status; echo err >&2"], 0, "NoNewPrivs:\t1\nerr\n", "exit 0\n"),
    ] {
        // Its input stays open: `output` would close it, which is the sign to kill.
        let mut child = supervise(words).spawn().unwrap();
        let input = child.stdin.take();
        let done = child.wait_with_output().unwrap();
        drop(input);
        let (found_out, found_status) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!((done.status.code(), found_out.as_ref(), found_status.as_ref()), (Some(code), out, status), "{words:?}");
    }
}

#[test]
fn without_an_order_it_does_nothing() {
    for words in [
        &["__exec"][..],
        &["__exec", "1"],
        &["__exec", "0:0:0", "1", "1", "1", "--", "/bin/echo", "canary"],
        &["__exec", "--help"],
    ] {
        let done = Command::new(BINARY).args(words).output().unwrap();
        assert_eq!((done.status.code(), done.stdout.is_empty()), (Some(1), true), "{words:?}");
    }
    let help = Command::new(BINARY).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("__exec"));
}

fn started(script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = supervise(&["/bin/sh", "-c", script]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "on\n");
    (child, out)
}

/// R37: when the gateway dies, so does what it ran, daemons included.
#[test]
fn nothing_outlives_the_end_of_its_input() {
    let (mut child, mut out) =
        started("trap '' TERM HUP; setsid sleep 7201.5 & (setsid sh -c 'sleep 7201.5' &); echo on; sleep 7201.5; sleep 7201.5");
    let begun = Instant::now();
    while count("sleep 7201.5") < 3 {
        assert!(begun.elapsed() < Duration::from_secs(5), "all three run");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut status = String::new();
    child.stderr.take().unwrap().read_to_string(&mut status).unwrap();
    assert_eq!(status, "signal 9\n");
    assert!(out.read_to_string(&mut status).is_ok());
    gone("sleep 7201.5");
}

/// What a program writes beyond anybody's patience does not hold its supervisor.
#[test]
fn a_reader_that_is_gone_changes_nothing() {
    let (mut child, out) = started("echo on; while :; do echo 0123456789; done");
    drop(out);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
