//! What a run found: a line for the one who started it, a record a row that is kept, and the page that is made of the records.
//!
//! Invariant: the page holds no figure that is not in a record; a row without a record says so. A record tells commit, seed, mode, build and
//! machine, so rows of different runs can stand side by side. Nothing of it names a host, a person or a path.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::row::{Row, upper_bound};
use crate::table;

/// The prose of the page, with `{rows}` where the table goes.
const PAGE: &str = include_str!("page.md");

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    std::fs::create_dir_all(&folder).expect("the folder of records");
    folder
}

fn path(row: &Row, mode: &str) -> PathBuf {
    folder().join(format!("{}-{mode}.json", row.id))
}

fn ms(value: &Value) -> Option<String> {
    let ms = value.as_f64()?;
    Some(match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    })
}

fn recovery(record: &Value) -> Option<String> {
    Some(format!("{} (slowest {})", ms(&record["median_ms"])?, ms(&record["slowest_ms"])?))
}

fn percent(bound: f64) -> String {
    match bound * 100.0 {
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 10.0 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

fn figures(record: &Value) -> String {
    let all = record["figures"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|f| format!("{} {}", f[0].as_str().unwrap_or_default(), f[1].as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn bound(record: &Value) -> String {
    percent(upper_bound(record["trials"].as_u64().unwrap_or(0), record["failed"].as_u64().unwrap_or(0)))
}

/// One line about one row.
pub fn line(row: &Row, record: &Value) -> String {
    if let Some(why) = record["absent"].as_str() {
        return format!("{:<4} {}: NOT HERE: {why}", row.id, row.fault);
    }
    let verdict = if record["failed"] == 0 { "held" } else { "BROKEN" };
    let mut line = format!(
        "{:<4} {verdict}: {}: {} trials, {} failures, 95 % bound {}, {:.1} s",
        row.id,
        row.fault,
        record["trials"],
        record["failed"],
        bound(record),
        record["took_s"].as_f64().unwrap_or(0.0)
    );
    if let Some(recovery) = recovery(record) {
        let _ = write!(line, "; serves again after {recovery}");
    }
    if !figures(record).is_empty() {
        let _ = write!(line, "; {}", figures(record));
    }
    line
}

/// Keeps a record.
pub fn keep(row: &Row, mut record: Value) {
    record["commit"] = json!(commit());
    record["machine"] = json!(machine());
    let mode = record["mode"].as_str().unwrap_or("short").to_string();
    std::fs::write(path(row, &mode), record.to_string()).expect("keeping a record");
}

/// Writes the page of all that is kept; of a row that has both, the long run counts.
pub fn write() {
    let mut table = String::from(
        "| row | fault | injected by | holds | trials | failed | 95 % bound | serves again | figures | run |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let (mut machines, mut ran) = (Vec::new(), 0);
    for row in table::rows() {
        let kept = ["long", "short"].iter().find_map(|mode| std::fs::read(path(&row, mode)).ok());
        let record: Value = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
        ran += u32::from(record["trials"].as_u64().unwrap_or(0) > 0);
        if let Some(machine) = record["machine"].as_str().filter(|m| !machines.contains(&m.to_string())) {
            machines.push(machine.to_string());
        }
        let _ = writeln!(table, "{}", table_line(&row, &record));
    }
    let page =
        PAGE.replace("{rows}", table.trim_end()).replace("{machines}", &machines.join("; ")).replace("{ran}", &ran.to_string());
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RELIABILITY.md"), page).expect("writing the page");
}

fn table_line(row: &Row, record: &Value) -> String {
    let cell = |key: &str| record[key].as_u64().map(|n| n.to_string()).unwrap_or_default();
    let mut notes = figures(record);
    let mut also = |text: String| {
        if !notes.is_empty() {
            notes += "; ";
        }
        notes += &text;
    };
    if let Some(why) = record["absent"].as_str() {
        also(format!("not on this machine: {why}"));
    }
    if !row.tests.is_empty() {
        let names: Vec<String> = row.tests.iter().map(|t| format!("`{t}`")).collect();
        also(format!("tests: {}", names.join(", ")));
    }
    if !row.lacks.is_empty() {
        also(format!("**not measured**: {}", row.lacks));
    }
    let has_run = record["trials"].as_u64().is_some_and(|n| n > 0);
    let run = match record["mode"].as_str() {
        Some(mode) => format!(
            "{mode}, {}, seed {}, {}",
            record["build"].as_str().unwrap_or_default(),
            record["seed"],
            record["commit"].as_str().unwrap_or_default()
        ),
        None if row.run.is_some() => "**not run**".into(),
        None => "with the suite".into(),
    };
    let failed = match record["failed"].as_u64() {
        Some(0) | None => cell("failed"),
        Some(n) => format!("**{n}**"),
    };
    [
        row.id.to_string(),
        row.fault.to_string(),
        row.injection.to_string(),
        row.holds.to_string(),
        cell("trials"),
        failed,
        if has_run { bound(record) } else { String::new() },
        recovery(record).unwrap_or_default(),
        notes,
        run,
    ]
    .iter()
    .fold("|".to_string(), |line, cell| format!("{line} {} |", cell.replace('|', "\\|").replace('\n', " ")))
}

fn commit() -> String {
    let ask = |words: &[&str]| -> String {
        let shown = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output();
        shown.ok().and_then(|o| String::from_utf8(o.stdout).ok()).map(|s| s.trim().to_string()).unwrap_or_default()
    };
    let changed = if ask(&["status", "--porcelain", "--", "src", "tests", "Cargo.lock"]).is_empty() { "" } else { "+" };
    ask(&["rev-parse", "--short=10", "HEAD"]) + changed
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let memory: u64 = after(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    // The numbers alone: what follows them may name whoever built it.
    let kernel: String = read("/proc/sys/kernel/osrelease").chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} {}, {cores} cores, {} MiB, Linux {kernel}",
        std::env::consts::ARCH,
        after(&read("/proc/cpuinfo"), "model name"),
        memory / 1024
    )
}
