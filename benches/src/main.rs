//! `cargo run --release -p gatelet-bench`: one command that prints this machine's figures of the built gateway as ratios to
//! baselines measured in the same run.
//!
//! Invariant: the gateway is measured as users get it: the release binary, over its public contract, in a process of its own.
//! What is compared takes turns in one run; a figure of one machine says nothing about another. Fails with a sentence and
//! exit code 1 (2 for wrong words); a missed budget is a line in the table, not a failure.
#![forbid(unsafe_code)]
// This is a measuring program: real time and plain threads are what it is made of; the gateway's doors to both are the gateway's.
#![allow(clippy::disallowed_methods)]

mod baseline;
mod chart;
mod gateway;
mod group;
mod http;
mod load;
mod machine;
mod model;
mod multiply;
mod options;
mod proc;
mod scenario;
mod socket;
mod stats;
mod table;

use std::process::ExitCode;

use options::{Command, Options};
use table::Table;

/// What anything here may fail with: a sentence.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(why) => {
            eprintln!("{why}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Help => {
            println!("{}", options::USAGE);
            Ok(())
        }
        Command::Bare => baseline::bare(),
        Command::Axum => baseline::axum(),
        Command::Drive(words) => scenario::drive(&words),
        Command::Measure(options) => measure(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("gatelet-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for and prints it in the form that was asked for.
fn measure(options: &Options) -> Outcome<()> {
    proc::raise_descriptor_limit();
    let setting = gateway::Setting::prepare(options)?;
    let mut table = Table::default();
    for scenario::Scenario { name, run, .. } in scenario::ALL {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("measuring {name} …");
            let begin = std::time::Instant::now();
            if let Err(why) = run(&setting, &mut table) {
                table.failed(name, &why.to_string());
                eprintln!("  {name}: {why}");
            }
            eprintln!("  {:.1} s", begin.elapsed().as_secs_f64());
        }
    }
    let machine = machine::Machine::look(&setting.folder, options);
    match options.form {
        options::Form::Text => print!("{}", table.text(&machine)),
        options::Form::Markdown => publish(&table, &machine, options)?,
        options::Form::Json => println!("{}", table.json(&machine)),
    }
    if table.is_whole() { Ok(()) } else { Err("not all was measured to its end".into()) }
}

/// Writes the document and its plots.
fn publish(table: &Table, machine: &machine::Machine, options: &Options) -> Outcome<()> {
    let images = options.out.join(table::IMAGES);
    std::fs::create_dir_all(&images)?;
    for (name, svg) in table.images() {
        std::fs::write(images.join(name), svg)?;
    }
    let (command, binary) = match options.allocators {
        Some(_) => (".ci/allocators --markdown", "the static program that is shipped"),
        None => ("cargo run --release -p gatelet-bench -- --markdown", "the release binary"),
    };
    let document = options.out.join("PERFORMANCE.md");
    std::fs::write(&document, table.markdown(machine, command, binary, &options.only))?;
    eprintln!("written: {}, its plots beside it in {}", document.display(), table::IMAGES);
    Ok(())
}
