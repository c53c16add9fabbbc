//! The same gateway, static with musl, on musl's own allocator, on mimalloc, and the usual one with glibc beside them.
//!
//! Invariant: measured only where the programs were given (`--allocators`), which `.ci/allocators` builds of this commit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::accept::{self, Rounds};
use super::{Scenario, idle, mib};
use crate::Outcome;
use crate::gateway::{Gateway, OWN, Setting};
use crate::model::{Manner, Model};
use crate::stats::{Spread, Times};
use crate::table::{Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "allocators",
    title: "Static with musl, and its allocators",
    note: "Static programs for x86_64, built as the ones for small boards are: *musl's own* is gatelet as it is shipped, which all other parts measure, *mimalloc* has it as Rust's allocator (SQLite, which is C, keeps musl's); *glibc* is the \
dynamic release binary. They take turns. *Start* is as in the part of that name, the median of a round; accept is as above, alone; *at rest* is 3 s after the start, *after* is a second after 2,000 messages of \
16 senders were answered and a second after the acceptance of 64 senders.",
    run,
};

/// One program and its figures, one for each round.
struct Program {
    name: &'static str,
    path: PathBuf,
    accepts: [Rounds; 2],
    /// With a new data directory, and with one that exists.
    starts: [Vec<f64>; 2],
    at_rest: Vec<f64>,
    own: Vec<f64>,
    answered: Vec<f64>,
    accepted: Vec<f64>,
}

const SENDERS: [usize; 2] = [16, 64];

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let Some(folder) = &setting.allocators else { return Ok(()) };
    let program = |name, path| Program {
        name,
        path,
        accepts: Default::default(),
        starts: Default::default(),
        at_rest: Vec::new(),
        own: Vec::new(),
        answered: Vec::new(),
        accepted: Vec::new(),
    };
    let mut programs = [
        program("musl's own", folder.join(OWN)),
        program("mimalloc", folder.join("gatelet-mimalloc")),
        program("glibc", setting.dynamic.clone()),
    ];
    let (rounds, lasting) = setting.pick((1, Duration::from_millis(200)), (3, Duration::from_secs(2)));
    let (hanging, instant) = (Model::start(Manner::Hanging)?, Model::start(Manner::Instant)?);
    for round in 0..rounds {
        for turn in 0..programs.len() {
            let at = (round + turn) % programs.len();
            let Program { path, accepts, starts, at_rest, own, answered, accepted, .. } = &mut programs[at];
            let times = boots(path, setting)?;
            starts.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
            for (senders, into) in SENDERS.into_iter().zip(accepts) {
                let gateway = Gateway::start_of(path, setting, &accept::alone(&hanging))?;
                accept::load(&gateway, senders, lasting, into)?;
                if senders == SENDERS[1] {
                    std::thread::sleep(Duration::from_secs(1));
                    accepted.push(mib(gateway.look()?.rss));
                }
            }
            let gateway = Gateway::start_of(path, setting, &instant.config())?;
            std::thread::sleep(setting.pick(Duration::from_millis(300), Duration::from_secs(3)));
            let look = gateway.look()?;
            at_rest.push(mib(look.rss));
            own.push(mib(look.own));
            idle::talk(&gateway, setting.pick(200, 2000))?;
            gateway.settled(Duration::from_secs(120))?;
            std::thread::sleep(Duration::from_secs(1));
            answered.push(mib(gateway.look()?.rss));
        }
    }
    show(&programs, table)
}

/// Milliseconds from the process's start to the first answer, medians: with a new data directory, and with the same again.
fn boots(path: &Path, setting: &Setting) -> Outcome<[f64; 2]> {
    let config = json!({"providers": {"offline": {"type": "builtin"}}});
    let (mut new, mut existing) = (Times::default(), Times::default());
    for _ in 0..setting.pick(2, 15) {
        let first = Gateway::start_of(path, setting, &config)?;
        new.add(first.boot.as_nanos() as f64 / 1e6);
        let again = Gateway::launch(path, &config, first.end()?)?;
        existing.add(again.boot.as_nanos() as f64 / 1e6);
    }
    Ok([new.at(0.5), existing.at(0.5)])
}

fn show(programs: &[Program], table: &mut Table) -> Outcome<()> {
    type Of = fn(&Program) -> &Vec<f64>;
    let figures: [(&str, &'static str, Of); 10] = [
        ("start, new data directory", "ms", |p| &p.starts[0]),
        ("start, existing data directory", "ms", |p| &p.starts[1]),
        ("accept, 16 senders", "/s", |p| &p.accepts[0].rate),
        ("accept, 64 senders", "/s", |p| &p.accepts[1].rate),
        ("until the 202, p99, 64 senders", "ms", |p| &p.accepts[1].p99),
        ("processor time per message, 64 senders", "µs", |p| &p.accepts[1].cost),
        ("memory at rest", "MiB", |p| &p.at_rest),
        ("of it the process's own", "MiB", |p| &p.own),
        ("memory after 2,000 answers", "MiB", |p| &p.answered),
        ("memory after acceptance by 64", "MiB", |p| &p.accepted),
    ];
    let own = &programs[0];
    for (what, unit, of) in figures {
        table.add(SCENARIO.name, Row::spread(format!("{what}: {}", own.name), unit, Spread::of(of(own))));
        for other in &programs[1..] {
            let row = Row::spread(format!("{what}: {}", other.name), unit, Spread::of(of(other)));
            let row = row.beside(own.name, Spread::of(of(own)).mid, Spread::ratio(of(other), of(own)));
            table.add(SCENARIO.name, row);
        }
    }
    for program in programs {
        let bytes = std::fs::metadata(&program.path)?.len() as f64;
        table.add(SCENARIO.name, Row::one(format!("size: {}", program.name), "bytes", bytes));
    }
    Ok(())
}
