//! 1 to 1,000 WebSockets: memory, what they cost at rest, and how soon a push to one arrives.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Scenario, mib};
use crate::Outcome;
use crate::chart::{Chart, Series};
use crate::gateway::{CROWD, Gateway, ONE, Setting, TOKEN};
use crate::http::{self, Connection};
use crate::socket::Socket;
use crate::stats::Times;
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "sockets",
    title: "1 to 1,000 WebSockets",
    note: "`limits.maxWebSockets` 2048 and `limits.maxConnections` 2048; one gateway, whose sockets become more and more: one of a user to whom `POST /api/message` \
speaks at each number while all are open, the rest of another user, idle. The push is counted from the 202, which comes when the message is on disk, to the frame (it may leave before the \
202 is read: then it counts as 0), and from the request's first byte. Memory is the process's resident memory beyond what it was before the first socket; the kernel's own share of a \
thread and a socket is not in it. *At rest* is over 5 s with all open.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let counts: &[usize] = if setting.quick { &[1, 10, 100] } else { &[1, 10, 100, 1000] };
    let gateway = Gateway::start(
        setting,
        &json!({"gateway": {"limits": {"maxWebSockets": 2048, "maxConnections": 2048}}, "providers": {"offline": {"type": "builtin"}}}),
    )?;
    let (mut one, mut crowd) = (Socket::open(gateway.address, ONE)?, Vec::new());
    // The first push makes caches that no number of sockets adds to; so does the first socket.
    let mut connection = Connection::open(gateway.address)?;
    push(&mut one, &mut connection, 20)?;
    drop(one);
    std::thread::sleep(Duration::from_secs(1));
    let before = gateway.look()?;
    one = Socket::open(gateway.address, ONE)?;
    let mut lines = <[Vec<(f64, f64)>; 5]>::default();
    for &count in counts {
        while crowd.len() + 1 < count {
            crowd.push(Socket::open(gateway.address, CROWD)?);
        }
        std::thread::sleep(Duration::from_millis(500));
        let now = gateway.look()?;
        let memory = mib(now.rss.saturating_sub(before.rss));
        if count == counts[counts.len() - 1] {
            rest(setting, &gateway, count, table)?;
        }
        let row = Row::one(format!("memory for {count}"), "MiB", memory);
        let why = format!(
            "each has a thread of its own, whose touched stack and whose buffers are {:.0} KiB",
            now.own.saturating_sub(before.own) as f64 / 1024.0 / count as f64
        );
        let row = if count >= 100 { row.budget(Budget::AtMost(0.02 * count as f64)).because(why) } else { row };
        table.add(SCENARIO.name, row);
        let (whole, after_accept) = push(&mut one, &mut connection, setting.pick(20, 200))?;
        let (shown, asked) =
            ((after_accept.at(0.5) / 1e3, after_accept.at(0.99) / 1e3), (whole.at(0.5) / 1e3, whole.at(0.99) / 1e3));
        for (what, value, bound) in [
            ("202 → frame, p50", shown.0, None),
            ("202 → frame, p99", shown.1, Some(5.0)),
            ("POST → frame, p50", asked.0, None),
            ("POST → frame, p99", asked.1, None),
        ] {
            let row = Row::one(format!("{what}, {count} open"), "ms", value);
            table.add(SCENARIO.name, if let Some(bound) = bound { row.budget(Budget::AtMost(bound)) } else { row });
        }
        for (line, value) in lines.iter_mut().zip([memory, asked.0, asked.1, shown.0, shown.1]) {
            line.push((count as f64, value));
        }
    }
    plots(lines, table);
    drop(crowd);
    Ok(())
}

/// What the open sockets cost while nothing happens.
fn rest(setting: &Setting, gateway: &Gateway, count: usize, table: &mut Table) -> Outcome<()> {
    let (before, seconds) = (gateway.look()?, setting.pick(1, 5));
    std::thread::sleep(Duration::from_secs(seconds));
    let after = gateway.look()?;
    let part = SCENARIO.name;
    table.add(part, Row::one(format!("threads, {count} open"), "", after.threads as f64));
    let cpu = (after.cpu - before.cpu) / seconds as f64 * 100.0;
    table.add(part, Row::one(format!("processor time at rest, {count} open"), "% of a core", cpu));
    let wakeups = (after.wakeups - before.wakeups) as f64 / seconds as f64;
    table.add(part, Row::one(format!("wake-ups at rest, {count} open"), "/s", wakeups).budget(Budget::AtMost(2.0)));
    Ok(())
}

fn plots(lines: [Vec<(f64, f64)>; 5], table: &mut Table) {
    let [memory, asked, asked_99, ..] = lines;
    let budget = memory.iter().map(|(count, _)| (*count, 0.02 * count)).collect();
    let line = |name: &str, points| Series { name: name.to_string(), points };
    let chart = |file, title, y, series| Chart { file, title, x: "WebSockets open", y, is_log: false, series };
    table.plot(
        SCENARIO.name,
        chart(
            "sockets-memory",
            "Memory for open WebSockets",
            "MiB",
            vec![line("resident memory", memory), line("budget", budget)],
        ),
    );
    let pushes = vec![line("p50", asked), line("p99", asked_99)];
    table.plot(SCENARIO.name, chart("sockets-push", "From POST /api/message to the frame, by open WebSockets", "ms", pushes));
}

/// Speaks to user `one` some times: from the request to the frame, and from the 202 to the frame.
fn push(socket: &mut Socket, connection: &mut Connection, times: usize) -> Outcome<(Times, Times)> {
    let (tx, frames) = mpsc::channel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Outcome<()> {
            for _ in 0..times {
                let frame = socket.until("message")?;
                let arrived = Instant::now();
                socket.send(&json!({"type": "ack", "messageId": frame["messageId"]}))?;
                tx.send(arrived)?;
            }
            Ok(())
        });
        let (mut whole, mut after_accept) = (Times::default(), Times::default());
        for n in 0..times {
            let mut request = Vec::new();
            http::post(
                &mut request,
                "/api/message",
                TOKEN,
                &json!({"userId": "one", "message": format!("push {n}")}).to_string(),
            );
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
    })
}
