//! The door under attack: no input ends the process, stalls it or makes it grow; /health is 200 within a second after each.

mod announced;
mod framing;
mod protocol;
mod slow;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::gateway::{Gateway, Stat};
use crate::support::model::echo_config;
use crate::support::{figure, heavy, merged, pause};

fn gateway() -> Gateway {
    Gateway::start(echo_config())
}

/// A gateway with short deadlines.
fn hasty() -> Gateway {
    let config = json!({"gateway": {"limits": {"requestTimeout": 1000, "idleTimeout": 1500}}});
    Gateway::start(merged(echo_config(), config))
}

#[track_caller]
fn assert_well(gateway: &mut Gateway, what: &str) {
    let began = Instant::now();
    assert!(gateway.healthy(), "{what}: /health is not 200 within a second");
    assert!(began.elapsed() < Duration::from_secs(1), "{what}: /health took {:?}", began.elapsed());
    assert!(gateway.exited().is_none(), "{what}: the process ended");
}

#[track_caller]
fn assert_same_size(before: Stat, after: Stat, more_kb: u64, what: &str) {
    assert_eq!(after.threads, before.threads, "{what}: threads");
    assert!(after.rss_kb < before.rss_kb + more_kb, "{what}: memory {} → {} KiB", before.rss_kb, after.rss_kb);
}

#[test]
fn idle_it_rests() {
    let _alone = heavy();
    let gateway = gateway();
    gateway.ask("ana", "hi");
    pause(2500);
    let before = gateway.stat();
    pause(4000);
    let after = gateway.stat();
    let (wakeups, cpu, written) =
        (after.wakeups - before.wakeups, after.cpu - before.cpu, after.write_bytes - before.write_bytes);
    figure(&format!("idle for 4 s: {wakeups} wake-ups, {cpu:?} of processor time, {written} bytes written"));
    assert!(wakeups <= 16, "{wakeups} wake-ups in 4 s");
    assert_eq!(written, 0, "bytes written");
    assert!(cpu <= Duration::from_millis(20));
}
