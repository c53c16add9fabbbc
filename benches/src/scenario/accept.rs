//! Durable accept at 1 to 64 senders, beside a bare group-commit loop; bytes written per message.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scenario;
use crate::Outcome;
use crate::chart::{Chart, Series};
use crate::gateway::{Gateway, Setting, TOKEN, fresh};
use crate::group;
use crate::http;
use crate::load;
use crate::model::{Manner, Model};
use crate::proc;
use crate::stats::{Spread, Times};
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
/// How many send at once.
const SENDERS: [usize; 4] = [1, 4, 16, 64];

/// What a number of senders came to, a figure for each round.
#[derive(Default)]
struct Figures {
    bare: Rounds,
    pure: Rounds,
    both: Rounds,
}

/// Figures of the rounds of one of the three.
#[derive(Default)]
pub(super) struct Rounds {
    /// Messages accepted per second.
    pub(super) rate: Vec<f64>,
    /// Bytes written for each.
    bytes: Vec<f64>,
    /// The gateway's processor time for each, in microseconds.
    pub(super) cost: Vec<f64>,
    /// The same by thread, in all rounds together: seconds.
    threads: BTreeMap<String, f64>,
    /// From the request to its 202, in milliseconds.
    p50: Vec<f64>,
    pub(super) p99: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, rate: f64, bytes: f64, cost: f64, times: &Times) {
        self.rate.push(rate);
        self.bytes.push(bytes);
        self.cost.push(cost);
        self.p50.push(times.at(0.5) / 1e3);
        self.p99.push(times.at(0.99) / 1e3);
    }
}

/// The settings of a gateway that only accepts: its one turn worker waits for a model that never answers.
pub(super) fn alone(hanging: &Model) -> Value {
    let mut config = hanging.config();
    config["gateway"] = json!({"workers": {"turns": 1}});
    config
}

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (rounds, lasting) = setting.pick((2, Duration::from_millis(200)), (5, Duration::from_millis(1500)));
    let (hanging, instant) = (Model::start(Manner::Hanging)?, Model::start(Manner::Instant)?);
    let (alone, with_turns) = (alone(&hanging), instant.config());
    let mut all = Vec::new();
    for senders in SENDERS {
        let mut figures = Figures::default();
        for _ in 0..rounds {
            let folder = fresh(setting)?;
            let before = proc::look_at_self()?.cpu;
            let grouped = group::run(&folder, senders, SIZE, lasting)?;
            let cost = (proc::look_at_self()?.cpu - before) * 1e6 / (grouped.rate * lasting.as_secs_f64());
            fs::remove_dir_all(&folder)?;
            figures.bare.add(grouped.rate, grouped.bytes, cost, &grouped.times);
            accept(setting, &alone, senders, lasting, &mut figures.pure)?;
            accept(setting, &with_turns, senders, lasting, &mut figures.both)?;
        }
        show(senders, &figures, table);
        all.push(figures);
    }
    plots(&all, table);
    Ok(())
}

/// One round with a gateway of its own.
fn accept(setting: &Setting, config: &Value, senders: usize, lasting: Duration, into: &mut Rounds) -> Outcome<()> {
    load(&Gateway::start(setting, config)?, senders, lasting, into)
}

/// One round on a gateway that was just started.
pub(super) fn load(gateway: &Gateway, senders: usize, lasting: Duration, into: &mut Rounds) -> Outcome<()> {
    let (before, busy) = (gateway.look()?, proc::by_thread(gateway.pid())?);
    let loaded = load::run(gateway.address, senders, lasting, 202, messages())?;
    let (after, served) = (gateway.look()?, loaded.served as f64);
    let (bytes, cost) = ((after.written - before.written) as f64 / served, (after.cpu - before.cpu) * 1e6 / served);
    into.add(loaded.rate(), bytes, cost, &loaded.times);
    for (name, seconds) in proc::by_thread(gateway.pid())? {
        let since = seconds - busy.get(&name).copied().unwrap_or(0.0);
        *into.threads.entry(name).or_insert(0.0) += since;
    }
    Ok(())
}

fn show(senders: usize, figures: &Figures, table: &mut Table) {
    let what = if senders == 1 { "1 sender".to_string() } else { format!("{senders} senders") };
    let Figures { bare, pure, both } = figures;
    let beside = |what: String, unit, own: &[f64], to: &[f64]| {
        Row::spread(what, unit, Spread::of(own)).beside("bare", Spread::of(to).mid, Spread::ratio(own, to))
    };
    let rate = beside(format!("accept alone, {what}"), "/s", &pure.rate, &bare.rate);
    let why = format!(
        "a message takes {:.0} µs of the gateway's processor time ({}), a bare row {:.0}; the load generator runs on the same cores",
        Spread::of(&pure.cost).mid,
        shares(&pure.threads),
        Spread::of(&bare.cost).mid
    );
    let held = if senders == 64 { rate.budget(Budget::RatioAtLeast(0.8)).because(why) } else { rate };
    let rows = [
        held,
        beside(format!("until the 202, alone, p50, {what}"), "ms", &pure.p50, &bare.p50),
        beside(format!("until the 202, alone, p99, {what}"), "ms", &pure.p99, &bare.p99),
        beside(format!("with turns, {what}"), "/s", &both.rate, &bare.rate),
        beside(format!("written per message, alone, {what}"), "bytes", &pure.bytes, &bare.bytes),
        beside(format!("processor time per message, alone, {what}"), "µs", &pure.cost, &bare.cost),
    ];
    rows.into_iter().for_each(|row| table.add(SCENARIO.name, row));
}

/// What each thread had of the processor time, the busiest first.
fn shares(threads: &BTreeMap<String, f64>) -> String {
    let all: f64 = threads.values().sum();
    let mut of: Vec<_> = threads.iter().map(|(name, seconds)| (100.0 * seconds / all.max(f64::MIN_POSITIVE), name)).collect();
    of.sort_by(|a, b| b.0.total_cmp(&a.0));
    let busy = of.iter().filter(|(share, _)| *share >= 3.0).map(|(share, name)| format!("thread `{name}` {share:.0} %"));
    busy.collect::<Vec<_>>().join(", ")
}

fn plots(all: &[Figures], table: &mut Table) {
    let line = |name: &str, rounds: &dyn Fn(&Figures) -> &Vec<f64>| Series {
        name: name.to_string(),
        points: SENDERS.iter().zip(all).map(|(senders, of)| (*senders as f64, Spread::of(rounds(of)).mid)).collect(),
    };
    let rates = vec![
        line("accept alone", &|f| &f.pure.rate),
        line("with turns", &|f| &f.both.rate),
        line("bare group commit", &|f| &f.bare.rate),
    ];
    let times = vec![
        line("accept alone, p50", &|f| &f.pure.p50),
        line("accept alone, p99", &|f| &f.pure.p99),
        line("bare, p50", &|f| &f.bare.p50),
        line("bare, p99", &|f| &f.bare.p99),
    ];
    let chart = |file, title, y, series| Chart { file, title, x: "senders at once", y, is_log: true, series };
    table.plot(SCENARIO.name, chart("accept-rate", "Messages on disk per second, by senders", "messages/s", rates));
    table.plot(SCENARIO.name, chart("accept-time", "From the request to its 202, by senders", "ms", times));
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
