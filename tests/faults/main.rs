//! The fault suite: every fault of the table is really brought about, against the built binary, and counted from outside of it.
//!
//! `cargo test --test faults` runs the short mode (minutes); `cargo test --release --test faults -- --long` the long one (hours). What a run
//! found is kept under the build's folder, a file a row; `--write` makes `docs/RELIABILITY.md` of all that is kept.
//!
//! Invariant: nothing of a row's figures is written by hand; processes, folders and mounts that a run made are gone with it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code, unused_imports)] // shared with the suite, which uses all of it
#[path = "../suite/support/mod.rs"]
mod support;

mod configs;
mod disk;
mod kills;
mod life;
mod peers;
mod power;
mod report;
mod resources;
mod rig;
mod row;
mod services;
mod shim;
mod table;

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
cargo test --test faults -- [OPTIONS] [ROW or part of a title ...]
  --long        the long mode
  --write       then write docs/RELIABILITY.md of all that is kept
  --seed N      another seed than the clock's
  --trials N    so many trials of each row
  --list        what there is";

#[derive(Default)]
struct Options {
    is_long: bool,
    is_written: bool,
    is_list: bool,
    seed: Option<u64>,
    trials: Option<u64>,
    wanted: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--long" => options.is_long = true,
            "--write" => options.is_written = true,
            "--list" => options.is_list = true,
            "--seed" => options.seed = Some(number()?),
            "--trials" => options.trials = Some(number()?),
            // What a call of all test programs may bring along.
            "--nocapture" | "--quiet" | "-q" | "--exact" | "--include-ignored" => {}
            "--ignored" => options.wanted.push("nothing of this program".into()),
            other if other.starts_with("--test-threads") => {}
            other if other.starts_with('-') => return Err(format!("unknown option {other}\n{USAGE}")),
            other => options.wanted.push(other.to_string()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    // A trial tells its own panic; where it came from is enough here.
    std::panic::set_hook(Box::new(|info| {
        if let Some(place) = info.location() {
            eprintln!("    at {}:{}", place.file(), place.line());
        }
    }));
    if let Err(why) = table::check() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let seed = options.seed.unwrap_or_else(|| support::from_env("GATELET_SEED", clock));
    let matches = |row: &row::Row| {
        let words = &options.wanted;
        words.is_empty() || words.iter().any(|w| row.id.eq_ignore_ascii_case(w) || row.fault.contains(w.as_str()))
    };
    let mut is_broken = false;
    let began = Instant::now();
    for row in table::rows().into_iter().filter(|row| matches(row)) {
        if options.is_list {
            println!("{:<4} {}", row.id, row.fault);
            continue;
        }
        let mut row = row;
        if let Some(n) = options.trials {
            row.trials = (n, n);
        }
        let record = row::run(&row, options.is_long, seed);
        if record.is_null() {
            continue;
        }
        is_broken |= record["failed"] != 0;
        println!("{}", report::line(&row, &record));
        report::keep(&row, record);
    }
    println!("faults: {:.0} s, seed {seed}", began.elapsed().as_secs_f64());
    if options.is_written {
        report::write();
    }
    if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
