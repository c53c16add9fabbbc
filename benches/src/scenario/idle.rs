//! What the gateway costs at rest: memory, wake-ups, bytes written; and its memory after work.

use std::time::Duration;

use super::{Scenario, mib};
use crate::Outcome;
use crate::gateway::{Gateway, Setting, TOKEN};
use crate::http;
use crate::model::{Manner, Model};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "idle",
    title: "At rest",
    note: "3 s after its start, then over 5 s without any request. A wake-up is a voluntary context switch of any thread. Then 16 senders bring 2,000 \
messages, each answered by the stub model, and memory is read a second after the last turn has ended.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let model = Model::start(Manner::Instant)?;
    let gateway = Gateway::start(setting, &model.config())?;
    std::thread::sleep(Duration::from_secs(setting.pick(1, 3)));
    let (before, seconds) = (gateway.look()?, setting.pick(1, 5));
    std::thread::sleep(Duration::from_secs(seconds));
    let after = gateway.look()?;
    let part = SCENARIO.name;
    let why = format!(
        "{:.1} MiB of it are pages of the program's file, which the kernel can drop and read again; {:.1} MiB are its own: heap, \
         and the touched part of {} stacks",
        mib(after.rss - after.own),
        mib(after.own),
        after.threads
    );
    table.add(part, Row::one("memory (RSS)", "MiB", mib(after.rss)).budget(Budget::AtMost(3.5)).because(why));
    table.add(part, Row::one("of it the process's own", "MiB", mib(after.own)));
    table.add(part, Row::one("threads", "", after.threads as f64));
    let wakeups = (after.wakeups - before.wakeups) as f64 / seconds as f64;
    table.add(part, Row::one("wake-ups", "/s", wakeups).budget(Budget::AtMost(2.0)));
    table.add(part, Row::one("written to disk", "bytes", (after.written - before.written) as f64).budget(Budget::AtMost(0.0)));
    table.add(part, Row::one("processor time", "% of a core", (after.cpu - before.cpu) / seconds as f64 * 100.0));
    let messages = setting.pick(200, 2000);
    talk(&gateway, messages)?;
    gateway.settled(Duration::from_secs(120))?;
    if model.asked() < messages {
        return Err(format!("{messages} messages, and the model was asked {} times", model.asked()).into());
    }
    std::thread::sleep(Duration::from_secs(1));
    let worked = gateway.look()?;
    table.add(part, Row::one(format!("memory after {messages} messages"), "MiB", mib(worked.rss)));
    let written = (worked.written - after.written) as f64 / messages as f64;
    table.add(part, Row::one("written per message with its turn, 16 senders", "bytes", written));
    Ok(())
}

/// `messages` messages from 16 senders, 100 users.
pub(super) fn talk(gateway: &Gateway, messages: u64) -> Outcome<()> {
    std::thread::scope(|scope| {
        let sender = |at: u64| {
            let mut connection = http::Connection::open(gateway.address)?;
            for n in (at..messages).step_by(16) {
                let mut request = Vec::new();
                let body = format!(r#"{{"messageId":"m-{n}","userId":"user-{}","message":"hello there"}}"#, n % 100);
                http::post(&mut request, "/webhook/default", TOKEN, &body);
                let (status, body) = connection.exchange(&request)?;
                if status != 202 {
                    return Err(format!("answered {status}: {}", String::from_utf8_lossy(&body)).into());
                }
            }
            Ok(())
        };
        let senders: Vec<_> = (0..16).map(|at| scope.spawn(move || -> Outcome<()> { sender(at) })).collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| "a sender panicked")?)
    })
}
