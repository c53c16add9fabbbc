//! What the figures were measured on: processor, cores, memory, kernel, file system, commit, date.
//!
//! Invariant: nothing that names a person, a host or a path.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::options::Options;

/// A description of this machine and this run.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Architecture and the processor's own name.
    pub processor: String,
    /// Cores that this program may use.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The file system that the data directories were on.
    pub file_system: String,
    /// The working tree's commit, short, and what was measured beyond it: changes, another binary; empty where git doesn't know.
    pub commit: String,
    /// The day, as YYYY-MM-DD (UTC).
    pub date: String,
    /// Whether the rounds were short.
    pub quick: bool,
}

impl Machine {
    /// Looks; what can't be found is empty.
    pub fn look(folder: &Path, options: &Options) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            line.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
        };
        let model = after(&read("/proc/cpuinfo"), "model name");
        let memory: u64 = after(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
        let release = read("/proc/sys/kernel/osrelease");
        // The numbers alone: what follows them may name whoever built it.
        let kernel: String = release.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Machine {
            processor: format!("{} {model}", std::env::consts::ARCH).trim().to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory / 1024,
            kernel,
            file_system: file_system(folder, &read("/proc/self/mounts")),
            commit: commit(options.binary.is_some()),
            date: date((seconds / 86400) as i64),
            quick: options.quick,
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let Machine { processor, cores, memory_mib, kernel, file_system, commit, date, quick } = self;
        let quick = if *quick { ", quick (rough figures)" } else { "" };
        // cargo leaves these checks on where it doesn't optimize.
        let rough = if cfg!(debug_assertions) { ", **this program and its baselines not optimized**" } else { "" };
        format!(
            "{processor}, {cores} cores, {memory_mib} MiB, Linux {kernel}, {file_system}; commit {commit}, {date}{quick}{rough}"
        )
    }
}

/// The type of the file system with the longest mount point above `folder`.
fn file_system(folder: &Path, mounts: &str) -> String {
    let folder = folder.canonicalize().unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|f| f.len() > 2 && folder.starts_with(f[1]));
    above.max_by_key(|f| f[1].len()).map(|f| f[2].to_string()).unwrap_or_default()
}

fn commit(is_given: bool) -> String {
    let git = |words: &[&str]| {
        Command::new("git").args(words).output().ok().and_then(|o| String::from_utf8(o.stdout).ok()).unwrap_or_default()
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).trim().to_string();
    // What the figures come from: the gateway and this program. The document itself is about to change anyway.
    let changed = !git(&["status", "--porcelain", "--", ":/src", ":/benches", ":/Cargo.toml", ":/Cargo.lock"]).is_empty();
    let (changed, given) =
        (if changed { " with changes" } else { "" }, if is_given { ", a binary built apart (--binary)" } else { "" });
    format!("{commit}{changed}{given}")
}

/// A day since 1970 as a date of the Gregorian calendar.
fn date(day: i64) -> String {
    // Years begin in March here, so that the leap day is a year's last.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let in_era = shifted.rem_euclid(146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_edges() {
        for (day, expected) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_819, "2027-01-01")] {
            assert_eq!(date(day), expected);
        }
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw 0 0\nb /proc proc rw 0 0\n";
        assert_eq!(file_system(Path::new("/proc/self"), mounts), "proc");
        assert_eq!(file_system(Path::new("/usr"), mounts), "ext4");
    }
}
