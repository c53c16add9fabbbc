//! Durable accept at 1, 16 and 64 senders, beside a bare group-commit loop; bytes written per message.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scenario;
use crate::Outcome;
use crate::gateway::{Gateway, Setting, TOKEN, fresh};
use crate::group;
use crate::http;
use crate::load;
use crate::model::{Manner, Model};
use crate::stats::Spread;
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "accept",
    title: "Durable accept: POST /webhook/default, 202 after the fsync",
    note: "Messages of 300 bytes with a new messageId each; every sender is a user of its own and sends its next one after the 202. \
*Bare* is N threads that hand rows of 300 bytes to one writer, which commits all that waits (SQLite, WAL, synchronous FULL, same disk, no \
index, no HTTP). *Accept alone* has one turn worker (`workers.turns` 1) held by a model that never answers, so that the disk serves \
acceptance only; *with turns* has the default 4 workers and a model that answers at once, so that each accepted message also brings \
the commits of its turn. Every round begins with a new database. Bytes are what the kernel counts as written by the process.",
    run,
};

/// The bytes of a message's text.
const SIZE: usize = 300;

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (rounds, lasting) = setting.pick((2, Duration::from_millis(500)), (5, Duration::from_secs(2)));
    let (hanging, instant) = (Model::start(Manner::Hanging)?, Model::start(Manner::Instant)?);
    let mut alone = hanging.config();
    alone["gateway"] = json!({"workers": {"turns": 1}});
    let with_turns = instant.config();
    for senders in [1, 16, 64] {
        let (mut bare, mut bare_bytes) = (Vec::new(), Vec::new());
        let (mut pure, mut bytes, mut costs, mut both) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let folder = fresh(setting)?;
            let grouped = group::run(&folder, senders, SIZE, lasting)?;
            fs::remove_dir_all(&folder)?;
            bare.push(grouped.rate);
            bare_bytes.push(grouped.bytes);
            let accepted = accept(setting, &alone, senders, lasting)?;
            pure.push(accepted.rate);
            bytes.push(accepted.bytes);
            costs.push(accepted.cost);
            both.push(accept(setting, &with_turns, senders, lasting)?.rate);
        }
        let what = if senders == 1 { "1 sender".to_string() } else { format!("{senders} senders") };
        let mut row = Row::spread(format!("accept alone, {what}"), "/s", Spread::of(&pure));
        row = row.beside("bare", Spread::of(&bare).mid, Spread::ratio(&pure, &bare));
        table.add(SCENARIO.name, if senders == 64 { row.budget(Budget::RatioAtLeast(0.8)) } else { row });
        let row = Row::spread(format!("with turns, {what}"), "/s", Spread::of(&both));
        table.add(SCENARIO.name, row.beside("bare", Spread::of(&bare).mid, Spread::ratio(&both, &bare)));
        let row = Row::spread(format!("written per message, {what}"), "bytes", Spread::of(&bytes));
        table.add(SCENARIO.name, row.beside("bare", Spread::of(&bare_bytes).mid, Spread::ratio(&bytes, &bare_bytes)));
        table.add(SCENARIO.name, Row::spread(format!("processor time per message, {what}"), "µs", Spread::of(&costs)));
    }
    Ok(())
}

/// What a round came to.
struct Accepted {
    /// Messages accepted per second.
    rate: f64,
    /// Bytes written for each.
    bytes: f64,
    /// The gateway's processor time for each, in microseconds.
    cost: f64,
}

/// One round with a gateway of its own.
fn accept(setting: &Setting, config: &Value, senders: usize, lasting: Duration) -> Outcome<Accepted> {
    let gateway = Gateway::start(setting, config)?;
    let before = gateway.look()?;
    let loaded = load::run(gateway.address, senders, lasting, 202, messages())?;
    let (after, served) = (gateway.look()?, loaded.served as f64);
    Ok(Accepted {
        rate: loaded.rate(),
        bytes: (after.written - before.written) as f64 / served,
        cost: (after.cpu - before.cpu) * 1e6 / served,
    })
}

/// Writes one message after the other, each sender's as a user of its own.
fn messages() -> impl FnMut(usize, &mut Vec<u8>) {
    let (text, mut next) = ("x".repeat(SIZE), 0_u64);
    move |sender, request| {
        next += 1;
        let body = format!(r#"{{"messageId":"m-{next}","userId":"sender-{sender}","message":"{text}"}}"#);
        http::post(request, "/webhook/default", TOKEN, &body);
    }
}

/// `drive ADDRESS SENDERS SECONDS`: the same load on a gateway that runs already, for a profiler beside it.
pub fn drive(words: &[String]) -> Outcome<()> {
    let [address, senders, seconds] = words else { return Err("drive needs ADDRESS SENDERS SECONDS".into()) };
    let loaded = load::run(address.parse()?, senders.parse()?, Duration::from_secs(seconds.parse()?), 202, messages())?;
    println!("{:.0} messages/s, p50 {:.0} µs, p99 {:.0} µs", loaded.rate(), loaded.times.at(0.5), loaded.times.at(0.99));
    Ok(())
}
