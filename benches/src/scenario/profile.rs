//! Where the processor time of a message goes, and what the binary is made of: by `perf`, `nm` and `size`, from a build with symbols.
//!
//! Invariant: measured only where that build was given (`--symbols`), which `.ci/allocators` makes of this commit. Fails where one of
//! the tools is missing or refused (`perf_event_paranoid`), with what it said.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Scenario;
use super::accept::{self, Rounds};
use crate::Outcome;
use crate::gateway::{Gateway, Setting};
use crate::model::{Manner, Model};
use crate::stats::Spread;
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "profile",
    title: "Where it goes: time and size by profile",
    note: "*Accept* is that of 64 senders, alone, as above, of a dynamic build of the same source with its symbols, sampled by `perf` 4,999 times a second and \
thread. A part's share of the samples is taken as its share of the processor time of a message; *system* is the kernel on behalf of the thread that is \
named. *Binary* is the same build by `nm` and `size`: code by the crate it came from, generic code counted where it was written. SQLite and the \
cryptography of ring are C and assembly.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let Some(binary) = &setting.symbols else { return Ok(()) };
    time(setting, binary, table)?;
    size(setting, binary, table)
}

fn time(setting: &Setting, binary: &Path, table: &mut Table) -> Outcome<()> {
    let lasting = setting.pick(Duration::from_millis(500), Duration::from_secs(5));
    let hanging = Model::start(Manner::Hanging)?;
    let gateway = Gateway::start_of(binary, setting, &accept::alone(&hanging))?;
    let file = setting.folder.join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-F", "4999", "-p", &gateway.pid().to_string(), "-o"]).arg(&file);
    let mut perf = perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(300)); // until it has attached itself
    let mut rounds = Rounds::default();
    let loaded = accept::load(&gateway, 64, lasting, &mut rounds);
    let pid = rustix::process::Pid::from_child(&perf);
    // It may have ended by itself: then what it said is told below.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    perf.wait()?;
    loaded?;
    let report = ["report", "--stdio", "-q", "--no-children", "-g", "none", "--sort", "comm,dso,sym", "-t", "|", "-i"];
    let report = output(Command::new("perf").args(report).arg(&file))?;
    let (mut parts, mut names) = (BTreeMap::<String, f64>::new(), BTreeMap::<String, f64>::new());
    for (share, thread, object, symbol) in report.lines().filter_map(sample) {
        *parts.entry(part(thread, object, symbol)).or_default() += share;
        *names.entry(symbol.to_string()).or_default() += share;
    }
    let (all, cost) = (parts.values().sum::<f64>(), Spread::of(&rounds.cost).mid);
    if all <= 0.0 {
        return Err("perf saw nothing".into());
    }
    table.add(SCENARIO.name, Row::one("accept: processor time per message", "µs", cost));
    for (name, share) in largest(parts) {
        table.add(SCENARIO.name, Row::one(format!("accept: {name}"), "µs", share / all * cost));
    }
    for (name, share) in largest(names).into_iter().take(8) {
        let name: String = name.chars().take(60).collect();
        table.add(SCENARIO.name, Row::one(format!("accept: the function `{name}`"), "µs", share / all * cost));
    }
    Ok(())
}

/// A line of perf's report: percent, thread, object, symbol.
fn sample(line: &str) -> Option<(f64, &str, &str, &str)> {
    let mut fields = line.splitn(4, '|').map(str::trim);
    let share = fields.next()?.trim_end_matches('%').parse().ok()?;
    let (thread, object, symbol) = (fields.next()?, fields.next()?, fields.next()?);
    Some((share, thread, object, symbol.split_once("] ").map_or(symbol, |(_, name)| name)))
}

/// What a sample belongs to.
fn part(thread: &str, object: &str, symbol: &str) -> String {
    if object.starts_with('[') {
        let of = match thread {
            "store" => "the database's log: writing and syncing",
            "door" => "sockets",
            _ => "waking threads, answers on their way",
        };
        return format!("system, thread `{}`: {of}", thread.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-'));
    }
    if object.starts_with("gatelet") { origin(symbol).to_string() } else { "the C library: memory, locks".to_string() }
}

/// Where code comes from, by its symbol.
fn origin(symbol: &str) -> &'static str {
    let name = symbol.trim_start_matches(|c: char| !c.is_alphanumeric());
    let name = ["dyn ", "mut ", "const "].iter().fold(name, |name, word| name.strip_prefix(word).unwrap_or(name));
    let Some((krate, rest)) = name.split_once("::") else { return "SQLite and ring, in C" };
    match krate {
        "gatelet" if rest.starts_with("store") => "gatelet: store",
        "gatelet" if ["net", "api", "auth"].iter().any(|module| rest.starts_with(module)) => "gatelet: HTTP, API, WebSocket",
        "gatelet" if rest.starts_with("flow") || rest.starts_with("domain") => "gatelet: flow",
        "gatelet" if rest.starts_with("agent") => "gatelet: agents, tools, MCP",
        "gatelet" if rest.starts_with("channel") => "gatelet: channels",
        "gatelet" if rest.starts_with("cli") => "gatelet: command line",
        "gatelet" => "gatelet: the rest",
        "std" | "core" | "alloc" | "hashbrown" | "gimli" | "addr2line" | "rustc_demangle" | "miniz_oxide" => "Rust's library",
        "rustls" | "webpki" | "ring" | "rustls_pki_types" => "TLS in Rust",
        "crossbeam_channel" | "crossbeam_utils" => "crossbeam-channel",
        "serde" | "serde_json" | "serde_core" | "indexmap" | "zmij" | "itoa" => "serde_json",
        "ureq" | "ureq_proto" | "http" | "bytes" => "ureq",
        _ => "other crates",
    }
}

fn size(setting: &Setting, binary: &Path, table: &mut Table) -> Outcome<()> {
    let mut code = BTreeMap::<String, f64>::new();
    for line in output(Command::new("nm").args(["-S", "-C", "--defined-only"]).arg(binary))?.lines() {
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some(bytes), Some("t" | "T"), Some(name)) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        *code.entry(origin(name).to_string()).or_default() += u64::from_str_radix(bytes, 16)? as f64;
    }
    let mut tables = BTreeMap::<&str, f64>::new();
    for line in output(Command::new("size").arg("-A").arg(binary))?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(section), Some(bytes)) = (fields.next(), fields.next().and_then(|b| b.parse::<f64>().ok())) else { continue };
        let what = match section {
            ".eh_frame" | ".eh_frame_hdr" | ".gcc_except_table" => "tables for unwinding",
            ".rodata" => "constants: texts, console, tables",
            ".data.rel.ro" | ".rela.dyn" | ".data" | ".got" => "addresses and data",
            _ => continue,
        };
        *tables.entry(what).or_default() += bytes;
    }
    let largest = largest(code);
    let kb = |bytes: f64| format!("{:.0} KB", bytes / 1e3);
    let own: f64 = largest.iter().filter(|(name, _)| name.starts_with("gatelet")).map(|(_, bytes)| bytes).sum();
    let all: f64 = largest.iter().map(|(_, bytes)| bytes).sum();
    let of_tables: Vec<_> = tables.iter().map(|(name, bytes)| format!("{name} {}", kb(*bytes))).collect();
    let why = format!("{} of code, {} of them its own, then {}", kb(all), kb(own), of_tables.join(", "));
    let shipped = std::fs::metadata(&setting.binary)?.len() as f64;
    let row = Row::one("binary: the file that is measured here", "bytes", shipped);
    table.add(SCENARIO.name, row.budget(Budget::AtMost(4e6)).because(why));
    for (name, bytes) in largest {
        table.add(SCENARIO.name, Row::one(format!("binary: code, {name}"), "KB", bytes / 1e3));
    }
    for (name, bytes) in tables {
        table.add(SCENARIO.name, Row::one(format!("binary: {name}"), "KB", bytes / 1e3));
    }
    Ok(())
}

/// The largest first.
fn largest(of: BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let mut all: Vec<_> = of.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

/// What a tool printed.
fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if !out.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_belong_to_parts() {
        let check = |line: &str, expected: Option<(f64, &str)>| {
            let found = sample(line).map(|(share, thread, object, symbol)| (share, part(thread, object, symbol)));
            assert_eq!(found, expected.map(|(share, name)| (share, name.to_string())), "{line}");
        };
        check("", None);
        check("# Samples: 5K of event 'cpu-clock'", None);
        check(" 5.96%|store |gatelet |[.] sqlite3VdbeExec", Some((5.96, "SQLite and ring, in C")));
        check("1.5%|door|gatelet|[.] gatelet::net::door::run::Loop<S>::pass", Some((1.5, "gatelet: HTTP, API, WebSocket")));
        check("1%|store|gatelet|[.] <gatelet::store::sqlite::x as core::y>::z", Some((1.0, "gatelet: store")));
        check("1%|store|gatelet|[.] <&mut serde_json::Serializer<W> as serde::Serializer>::x", Some((1.0, "serde_json")));
        check("2%|store|libc.so.6|[.] memcpy", Some((2.0, "the C library: memory, locks")));
        check(
            "9%|http-2|[kernel.kallsyms]|[k] do_futex",
            Some((9.0, "system, thread `http`: waking threads, answers on their way")),
        );
    }
}
