//! What the process costs now, as the kernel tells it.
//!
//! Invariant: four small reads, no descriptor left open, and no walk over the open descriptors where the kernel counts them
//! itself. A figure that can't be read is `None`, not 0.

use std::fs;

/// Ticks a second in `/proc/self/stat`: fixed for programs on every machine that we are built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// The most that it ever was, bytes.
    pub resident_bytes_max: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Processor time used so far, user and system, seconds.
    pub cpu_seconds: Option<f64>,
    /// Bytes that it had written to disk so far.
    pub written_bytes: Option<u64>,
}

impl Process {
    /// Reads it.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Process {
            resident_bytes: status_value(&status, "VmRSS:").map(|kib| kib * 1024),
            resident_bytes_max: status_value(&status, "VmHWM:").map(|kib| kib * 1024),
            threads: status_value(&status, "Threads:"),
            open_fds: open_fds(),
            cpu_seconds: cpu_seconds(&stat),
            written_bytes: written_bytes(),
        }
    }
}

pub(super) fn status_value(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Bytes that the process had written to disk so far, as the kernel counts them.
pub fn written_bytes() -> Option<u64> {
    status_value(&fs::read_to_string("/proc/self/io").ok()?, "write_bytes:")
}

fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the folder's size is the number of its entries.
    match fs::metadata("/proc/self/fd").map(|m| m.len()) {
        Ok(0) | Err(_) => Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64), // without the walk's own
        Ok(count) => Some(count),
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets and may hold anything: count from behind it.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let before = Process::read();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = Process::read();
        drop(files);
        assert!(after.open_fds.unwrap() >= 50 && before.open_fds.unwrap() >= 3, "{before:?} {after:?}");
        assert!(before.resident_bytes.unwrap() > 100_000 && before.resident_bytes_max >= before.resident_bytes);
        assert!(before.threads.unwrap() >= 1 && before.cpu_seconds.unwrap() >= 0.0);
    }

    #[test]
    fn nonsense_is_none() {
        assert_eq!(status_value("VmRSS:\t  12 kB\nThreads:\tx", "VmRSS:"), Some(12));
        assert_eq!(status_value("VmRSS:\t  12 kB\nThreads:\tx", "Threads:"), None);
        assert_eq!(status_value("", "VmRSS:"), None);
        for (stat, seconds) in [("1 (a) b) c) R 1 1 1 1 1 1 1 1 1 1 150 50 0", Some(2.0)), ("1 (a) R 1 1", None), ("", None)] {
            assert_eq!(cpu_seconds(stat), seconds, "{stat}");
        }
    }
}
