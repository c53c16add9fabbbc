//! 1,000 idle WebSockets: memory for each, what they cost at rest, and how soon a push to one arrives.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Scenario, mib};
use crate::Outcome;
use crate::gateway::{CROWD, Gateway, ONE, Setting, TOKEN};
use crate::http::{self, Connection};
use crate::socket::Socket;
use crate::stats::Times;
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "sockets",
    title: "1,000 idle WebSockets",
    note: "`limits.maxWebSockets` 2048 and `limits.maxConnections` 2048; 999 sockets of one user and one of another, to whom `POST /api/message` \
speaks while all are open. The push is counted from the 202, which comes when the message is on disk, to the frame (it may leave before the \
202 is read: then it counts as 0), and from the request's first byte. Memory is the process's resident memory; the kernel's own share of a \
thread and a socket is not in it.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let count = setting.pick(200, 1000);
    let gateway = Gateway::start(
        setting,
        &json!({"gateway": {"limits": {"maxWebSockets": 2048, "maxConnections": 2048}}, "providers": {"offline": {"type": "builtin"}}}),
    )?;
    std::thread::sleep(Duration::from_secs(1));
    let before = gateway.look()?;
    let one = Socket::open(gateway.address, ONE)?;
    let crowd: Vec<Socket> = (1..count).map(|_| Socket::open(gateway.address, CROWD)).collect::<Outcome<_>>()?;
    std::thread::sleep(Duration::from_secs(1));
    let (open, seconds) = (gateway.look()?, setting.pick(2, 5));
    std::thread::sleep(Duration::from_secs(seconds));
    let rest = gateway.look()?;
    let part = SCENARIO.name;
    let more = rest.rss.saturating_sub(before.rss);
    table.add(part, Row::one(format!("memory for {count}"), "MiB", mib(more)).budget(Budget::AtMost(0.02 * count as f64)));
    table.add(part, Row::one("memory for each", "KiB", more as f64 / 1024.0 / count as f64));
    table.add(part, Row::one("threads", "", rest.threads as f64));
    table.add(part, Row::one("processor time at rest", "% of a core", (rest.cpu - open.cpu) / seconds as f64 * 100.0));
    let wakeups = (rest.wakeups - open.wakeups) as f64 / seconds as f64;
    table.add(part, Row::one("wake-ups at rest", "/s", wakeups).budget(Budget::AtMost(2.0)));
    let (whole, after_accept) = push(&gateway, one, setting.pick(20, 300))?;
    table.add(part, Row::one("202 → frame, p50", "ms", after_accept.at(0.5) / 1e3));
    table.add(part, Row::one("202 → frame, p99", "ms", after_accept.at(0.99) / 1e3).budget(Budget::AtMost(5.0)));
    table.add(part, Row::one("POST → frame, p50", "ms", whole.at(0.5) / 1e3));
    table.add(part, Row::one("POST → frame, p99", "ms", whole.at(0.99) / 1e3));
    drop(crowd);
    Ok(())
}

/// Speaks to user `one` some times: from the request to the frame, and from the 202 to the frame.
fn push(gateway: &Gateway, mut socket: Socket, times: usize) -> Outcome<(Times, Times)> {
    let (tx, frames) = mpsc::channel();
    let reader = std::thread::spawn(move || -> Outcome<()> {
        for _ in 0..times {
            let frame = socket.until("message")?;
            let arrived = Instant::now();
            socket.send(&json!({"type": "ack", "messageId": frame["messageId"]}))?;
            tx.send(arrived)?;
        }
        Ok(())
    });
    let mut connection = Connection::open(gateway.address)?;
    let (mut whole, mut after_accept) = (Times::default(), Times::default());
    for n in 0..times {
        let mut request = Vec::new();
        http::post(&mut request, "/api/message", TOKEN, &json!({"userId": "one", "message": format!("push {n}")}).to_string());
        let begin = Instant::now();
        let (status, body) = connection.exchange(&request)?;
        let accepted = Instant::now();
        if status != 202 {
            return Err(format!("answered {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        let Ok(arrived) = frames.recv_timeout(Duration::from_secs(10)) else {
            return Err("a push did not arrive within 10 s".into());
        };
        whole.add((arrived - begin).as_nanos() as f64 / 1e3);
        after_accept.add(arrived.saturating_duration_since(accepted).as_nanos() as f64 / 1e3);
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.join().map_err(|_| "the reader panicked")??;
    Ok((whole, after_accept))
}
