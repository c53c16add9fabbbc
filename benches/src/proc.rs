//! What the kernel says of a process: memory, threads, wake-ups, bytes written, processor time.
//!
//! Invariant: read-only. Fails where the process is gone or /proc hides it.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Outcome;

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// What of it is the process's own (heap, stacks); the rest are pages of files, which the kernel can drop and read again.
    pub own: u64,
    /// Threads.
    pub threads: u64,
    /// Voluntary context switches of all threads that live: each is one wake-up.
    pub wakeups: u64,
    /// Bytes that the process caused to be written to the disk.
    pub written: u64,
    /// Processor time, in seconds.
    pub cpu: f64,
}

/// Looks at a process.
pub fn look(pid: u32) -> Outcome<Look> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let mut wakeups = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Ok(text) = fs::read_to_string(task?.path().join("status")) {
            wakeups += field(&text, "voluntary_ctxt_switches:")?;
        }
    }
    Ok(Look {
        rss: field(&status, "VmRSS:")? * 1024,
        own: field(&status, "RssAnon:")? * 1024,
        threads: field(&status, "Threads:")?,
        wakeups,
        written: field(&io, "write_bytes:")?,
        cpu: processor_time(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?,
    })
}

/// Processor time of a process by the names of its threads, in seconds; those whose names differ by a number are one.
pub fn by_thread(pid: u32) -> Outcome<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue }; // it has ended
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).ok_or("a strange /proc stat")?.0;
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_string();
        *all.entry(name).or_insert(0.0) += processor_time(&stat)?;
    }
    Ok(all)
}

/// User and system time in a line of /proc/…/stat, in seconds.
fn processor_time(stat: &str) -> Outcome<f64> {
    let after_name: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = after_name.get(11..13).ok_or("a short /proc stat")?.iter().filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Looks at this process.
pub fn look_at_self() -> Outcome<Look> {
    look(std::process::id())
}

/// The number after the line's name.
fn field(text: &str, name: &str) -> Outcome<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("/proc has no {name}"))?;
    Ok(line.split_whitespace().next().unwrap_or("").parse()?)
}

/// Lets this process and those that it starts have as many descriptors as the system allows.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the scenario that needs them says so when it can't connect.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
