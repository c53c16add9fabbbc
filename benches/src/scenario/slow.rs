//! 10,000 connections that send a byte a second, and what a real client feels of them.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde_json::{Value, json};

use super::{Scenario, mib};
use crate::Outcome;
use crate::gateway::{Gateway, Setting};
use crate::http::{self, Connection};
use crate::proc::Look;
use crate::stats::{Spread, Times};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "slow",
    title: "10,000 slow connections",
    note: "10,000 senders on 200 loopback addresses each send a byte of a request's head per second; one that is closed comes back 5 s later. Meanwhile a \
real client on 127.0.0.1 asks /health every 5 ms, in turns on a kept connection and on a new one. *Default limits* is `maxConnections` 256: \
the gateway has to choose whom to keep. *All held* is `maxConnections` 12000 and `requestTimeout` 120000: every slow connection is kept.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    round(setting, table, "default limits", &json!({}))?;
    round(setting, table, "all held", &json!({"gateway": {"limits": {"maxConnections": 12000, "requestTimeout": 120_000}}}))
}

fn round(setting: &Setting, table: &mut Table, name: &str, config: &Value) -> Outcome<()> {
    let (count, lasting) = setting.pick((1000, Duration::from_secs(1)), (10_000, Duration::from_secs(8)));
    let gateway = Gateway::start(setting, config)?;
    let address = gateway.address;
    let (calm, _) = ask(address, lasting.min(Duration::from_secs(2)))?;
    let before = gateway.look()?;
    let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (beset, failed, during) = std::thread::scope(|scope| -> Outcome<(Times, usize, Look)> {
        let dribble = scope.spawn(|| dribble(address, count, &opened, &stop));
        let measured = (|| -> Outcome<_> {
            let begin = Instant::now();
            while opened.load(Ordering::Relaxed) < count && !dribble.is_finished() && begin.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (times, failed) = ask(address, lasting)?;
            Ok((times, failed, gateway.look()?))
        })();
        stop.store(true, Ordering::Relaxed);
        dribble.join().map_err(|_| "the slow senders panicked")??;
        measured
    })?;
    let part = SCENARIO.name;
    for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
        let (a, b) = (beset.at(quantile) / 1e3, calm.at(quantile) / 1e3);
        let row = Row::one(format!("{name}: real client, {label}"), "ms", a).beside("without them", b, Spread::of(&[a / b]));
        table.add(part, if quantile > 0.5 { row.budget(Budget::AtMost(200.0)) } else { row });
    }
    let asked = beset.len() + failed;
    let row = Row::one(format!("{name}: real requests failed, of {asked}"), "", failed as f64);
    table.add(part, row.budget(Budget::AtMost(0.0)));
    let more = during.threads as f64 - before.threads as f64;
    table.add(part, Row::one(format!("{name}: threads more"), "", more).budget(Budget::AtMost(0.0)));
    table.add(part, Row::one(format!("{name}: memory more"), "MiB", mib(during.rss.saturating_sub(before.rss))));
    Ok(())
}

/// A real client's requests, every 5 ms, in turns on a kept connection and on a new one: their times, and how many failed.
fn ask(address: SocketAddr, lasting: Duration) -> Outcome<(Times, usize)> {
    let (mut times, mut failed, mut kept) = (Times::default(), 0, None);
    let begin = Instant::now();
    let mut due = begin;
    for turn in 0_u32.. {
        due += Duration::from_millis(5);
        if due > begin + lasting {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        let mut fresh = None;
        let slot = if turn % 2 == 0 { &mut kept } else { &mut fresh };
        match once(slot, address) {
            Ok(()) => times.add(at.elapsed().as_nanos() as f64 / 1e3),
            Err(_) => {
                failed += 1;
                *slot = None;
            }
        }
    }
    Ok((times, failed))
}

fn once(slot: &mut Option<Connection>, address: SocketAddr) -> Outcome<()> {
    if slot.is_none() {
        *slot = Some(Connection::open(address)?);
    }
    let connection = slot.as_mut().ok_or("no connection")?;
    match connection.exchange(http::HEALTH)? {
        (200, _) => Ok(()),
        (status, _) => Err(format!("answered {status}").into()),
    }
}

/// How many turns of 10 ms a sender that was closed stays away.
const PAUSE: u32 = 500;

/// Holds `count` connections and sends a byte on each every second, until told to stop.
fn dribble(address: SocketAddr, count: usize, opened: &AtomicUsize, stop: &AtomicBool) -> Outcome<()> {
    let mut senders: Vec<(Option<TcpStream>, u32)> = Vec::with_capacity(count);
    for at in 0..count {
        senders.push((Some(slow_one(address, at)?), 0));
        opened.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    for turn in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begin = Instant::now();
        for at in (turn as usize % 100..count).step_by(100) {
            let (stream, away_until) = &mut senders[at];
            match stream {
                Some(open) => match open.write(b"a") {
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => (*stream, *away_until) = (None, turn + PAUSE),
                },
                None if turn >= *away_until => *stream = slow_one(address, at).ok(),
                None => {}
            }
        }
        std::thread::sleep(Duration::from_millis(10).saturating_sub(begin.elapsed()));
    }
    Ok(())
}

/// One slow sender, from one of 200 addresses, its head begun.
fn slow_one(address: SocketAddr, at: usize) -> Outcome<TcpStream> {
    let SocketAddr::V4(to) = address else { return Err("not an IPv4 address".into()) };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let from = Ipv4Addr::new(127, 0, 1, (at % 200) as u8 + 1);
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &to)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
