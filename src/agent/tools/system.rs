//! `system.status`: how this machine is.
//!
//! Invariant: reads, and changes nothing; what the board doesn't show is left out, and nothing of it is a path, a name or a process of
//! somebody. It never fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{About, Context, Tool};
use crate::agent::provider::ToolSpec;
use crate::base::error::Result;

/// Zones of temperature that are told.
const ZONES_MAX: usize = 4;
/// What is read of one file.
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// What the bits of a Pi's `get_throttled` mean: now, and since the start.
const THROTTLED: [(&str, u32); 4] =
    [("under-voltage", 0), ("frequency capped", 1), ("throttled", 2), ("soft temperature limit", 3)];

/// Where the system shows itself.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// The data directory, whose disk is told of.
    pub data: PathBuf,
}

/// The tool.
pub struct SystemStatus {
    about: About,
    places: Places,
}

impl SystemStatus {
    /// The tool, with the disk of the data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self::at(Places { proc: "/proc".into(), sys: "/sys".into(), data: data_dir.to_path_buf() })
    }

    /// The same over other places: for tests.
    pub fn at(places: Places) -> Self {
        let spec = ToolSpec {
            name: "system.status".into(),
            wire: "system_status".into(),
            description: "Load, memory, disk, uptime and temperature of this machine.".into(),
            schema: json!({"type": "object", "properties": {}}),
        };
        SystemStatus { about: About { spec: Arc::new(spec), idempotent: true, dangerous: false, safe: false }, places }
    }

    fn lines(&self) -> Vec<String> {
        let parts = [self.uptime(), self.load(), self.memory(), self.disk()].into_iter().flatten();
        parts.chain(self.temperatures()).chain(self.throttling()).collect()
    }

    fn uptime(&self) -> Option<String> {
        let seconds = word(&self.places.proc.join("uptime"), 0)?.parse::<f64>().ok()? as u64;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        Some(format!("uptime: {days} d {hours} h {minutes} min"))
    }

    fn load(&self) -> Option<String> {
        let text = read(&self.places.proc.join("loadavg"))?;
        let mut words = text.split_whitespace();
        let (one, five, fifteen) = (words.next()?, words.next()?, words.next()?);
        let stat = read(&self.places.proc.join("stat")).unwrap_or_default();
        let cores =
            stat.lines().filter(|l| l.strip_prefix("cpu").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))).count();
        let cores = if cores > 0 { format!(" on {cores} cores") } else { String::new() };
        Some(format!("load (1, 5, 15 min): {one} {five} {fifteen}{cores}"))
    }

    fn memory(&self) -> Option<String> {
        let text = read(&self.places.proc.join("meminfo"))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (total, free) = (kib("MemTotal")?, kib("MemAvailable")?);
        let swap = match (kib("SwapTotal"), kib("SwapFree")) {
            (Some(total), Some(free)) if total > 0 => {
                format!(", swap {} of {} MiB used", total.saturating_sub(free) / 1024, total / 1024)
            }
            _ => String::new(),
        };
        Some(format!("memory: {} of {} MiB available{swap}", free / 1024, total / 1024))
    }

    fn disk(&self) -> Option<String> {
        let disk = rustix::fs::statvfs(&self.places.data).ok()?;
        let mib = |blocks: u64| (u128::from(blocks) * u128::from(disk.f_frsize)) >> 20;
        let read_only = if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) { ", read-only" } else { "" };
        Some(format!("disk of the data: {} of {} MiB free{read_only}", mib(disk.f_bavail), mib(disk.f_blocks)))
    }

    fn temperatures(&self) -> Vec<String> {
        let thermal = self.places.sys.join("class/thermal");
        let mut zones: Vec<_> = std::fs::read_dir(&thermal).into_iter().flatten().flatten().map(|e| e.path()).collect();
        zones.retain(|z| z.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("thermal_zone")));
        zones.sort();
        let told = zones.iter().filter_map(|zone| {
            let millis = word(&zone.join("temp"), 0)?.parse::<i64>().ok().filter(|t| (-100_000..=200_000).contains(t))?;
            let kind = word(&zone.join("type"), 0).unwrap_or_default();
            let kind: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(32).collect();
            Some(format!("temperature {kind}: {:.1} °C", millis as f64 / 1000.0))
        });
        told.take(ZONES_MAX).collect()
    }

    /// Of a Raspberry Pi.
    fn throttling(&self) -> Option<String> {
        let text = word(&self.places.sys.join("devices/platform/soc/soc:firmware/get_throttled"), 0)?;
        let bits = u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
        let named = |shift: u32| -> Vec<_> {
            THROTTLED.iter().filter(|(_, bit)| bits >> (bit + shift) & 1 == 1).map(|(name, _)| *name).collect()
        };
        let (now, before) = (named(0).join(", "), named(16).join(", "));
        let part = |list: String| if list.is_empty() { "no".to_string() } else { list };
        Some(format!("throttling: {}; since the start: {}", part(now), part(before)))
    }
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn word(path: &Path, n: usize) -> Option<String> {
    read(path)?.split_whitespace().nth(n).map(str::to_string)
}

impl Tool for SystemStatus {
    fn about(&self) -> &About {
        &self.about
    }

    fn run(&self, _: &Map<String, Value>, _: &Context<'_>) -> Result<String> {
        let lines = self.lines();
        Ok(if lines.is_empty() { "this system shows nothing of itself".into() } else { lines.join("\n") })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::agent::tools::http::HttpGet;
    use crate::agent::tools::shell::Shell;
    use crate::agent::tools::support_tests::{Around, wire};

    /// A system of these files; the disk is told of where the folder `data` is.
    fn told(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let tool = SystemStatus::at(Places { proc: at("proc"), sys: at("sys"), data: at("data") });
        Around::new().call(&tool, json!({})).unwrap()
    }

    #[test]
    fn a_pi() {
        let found = told(&[
            ("proc/uptime", "93784.12 1.0\n"),
            ("proc/loadavg", "0.10 0.20 0.30 1/99 1234\n"),
            ("proc/stat", "cpu  1 2\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nintr 5\n"),
            (
                "proc/meminfo",
                "MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable:   512000 kB\nSwapTotal: 102400 kB\nSwapFree: 51200 kB\n",
            ),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/cooling_device0/type", "fan"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ]);
        let expected = "uptime: 1 d 2 h 3 min\nload (1, 5, 15 min): 0.10 0.20 0.30 on 4 cores\nmemory: 500 of 1000 MiB available, swap 50 of 100 MiB used\n\
             temperature cpu-thermal: 48.3 °C\nthrottling: under-voltage, throttled; since the start: under-voltage, throttled";
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_missing_or_broken_is_left_out() {
        assert_eq!(told(&[]), "this system shows nothing of itself");
        for (name, text) in [
            ("proc/uptime", ""),
            ("proc/uptime", "soon"),
            ("proc/loadavg", "0.1"),
            ("proc/meminfo", "MemTotal: 5 kB\n"),
            ("proc/meminfo", "\u{fffd}"),
            ("sys/class/thermal/thermal_zone0/temp", "hot"),
            ("sys/class/thermal/thermal_zone0/temp", "-274000"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "x"),
        ] {
            assert_eq!(told(&[(name, text)]), "this system shows nothing of itself", "{name} {text}");
        }
        assert_eq!(told(&[("proc/loadavg", "1 2 3 4")]), "load (1, 5, 15 min): 1 2 3");
        assert!(told(&[("data/x", "")]).starts_with("disk of the data: "));
        assert_eq!(
            told(&[("sys/devices/platform/soc/soc:firmware/get_throttled", "0x0")]),
            "throttling: no; since the start: no"
        );
        let hot =
            told(&[("sys/class/thermal/thermal_zone0/temp", "50000"), ("sys/class/thermal/thermal_zone0/type", "a\u{1b}[2Jb c")]);
        assert_eq!(hot, "temperature a2Jb: 50.0 °C");
        let many: Vec<_> = (0..9).map(|i| format!("sys/class/thermal/thermal_zone{i}/temp")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1000")).collect();
        assert_eq!(told(&many).lines().count(), ZONES_MAX);
    }

    #[test]
    fn this_machine() {
        let tool = SystemStatus::new(&std::env::temp_dir());
        assert!(tool.about().idempotent && !tool.about().dangerous && !tool.about().safe);
        let found = Around::new().call(&tool, json!({})).unwrap();
        for part in ["uptime: ", "load ", "memory: ", "disk of the data: "] {
            assert!(found.contains(part), "{found}");
        }
    }

    /// What the three tools with effects cost in every prompt.
    #[test]
    fn they_are_told_in_few_bytes() {
        let command = crate::config::ShellCommand {
            path: "/usr/bin/uptime".into(),
            args: vec![],
            about: None,
            cwd: None,
            timeout: std::time::Duration::from_secs(1),
            max_memory: 1 << 30,
            max_processes: 1,
        };
        let tools = crate::config::Tools {
            default: crate::config::Action::Ask,
            rules: vec![],
            mcp: Default::default(),
            shell: [("uptime".to_string(), command)].into(),
            shell_dir: "/nowhere".into(),
        };
        let shell = Shell::new(&tools).unwrap();
        let text = wire(&[&HttpGet::new(), &shell, &SystemStatus::new(Path::new("/"))]);
        assert!(text.len() <= 700, "{} bytes: {text}", text.len());
    }
}
