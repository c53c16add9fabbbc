//! What doctor looks at on the machine itself: clock, data directory, configuration file, port, service.
//!
//! Invariant: see the module's head. A look that the system refuses is a finding, not a failure of ours.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{DEADLINE, Finding, within};
use crate::base::clock::Clock;
use crate::cli::output::size;
use crate::config::Store;
use crate::config::files::Places;
use crate::store::sqlite::backup;
use crate::telemetry::rfc3339;

/// When this was written: a clock before it is wrong.
const WRITTEN_MS: i64 = 1_767_225_600_000;
/// A clock more than this long after it likely is, too.
const FAR_MS: i64 = 30 * 365 * 86_400_000;
/// Free space below which it fails, and below which a person should look.
const FREE_MIN: u64 = 20 * 1024 * 1024;
const FREE_FEW: u64 = 200 * 1024 * 1024;
/// An fsync longer than this is slow: each message costs two.
const SYNC_SLOW: Duration = Duration::from_millis(500);
/// Magic numbers of file systems that hold nothing over a restart.
const FLEETING: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
/// Those on which SQLite's log can't be relied upon, or which know no modes.
const UNFIT: [(u64, &str); 6] =
    [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9P"), (0x4d44, "FAT"), (0x2011_bab0, "exFAT")];

/// The wall clock.
pub fn clock() -> Finding {
    let now = Clock::system().unix_ms();
    let shown = rfc3339(now);
    if now < WRITTEN_MS {
        return Finding::fail(
            "clock",
            format!("it says {shown}, which is over"),
            "set it, or let NTP set it: timedatectl set-ntp true",
        );
    }
    if now > WRITTEN_MS + FAR_MS {
        return Finding::fail(
            "clock",
            format!("it says {shown}, which is far off"),
            "set it, or let NTP set it: timedatectl set-ntp true",
        );
    }
    let by_systemd = Path::new("/run/systemd/timesync").exists();
    if by_systemd && !Path::new("/run/systemd/timesync/synchronized").exists() {
        return Finding::warn(
            "clock",
            format!("{shown}, not yet set by NTP"),
            "wait for the network; jobs wait for a clock that is set",
        );
    }
    Finding::ok("clock", shown)
}

/// The data directory: there, ours, private, with room, on a disk that keeps what is synced.
pub fn data(places: &Places) -> Vec<Finding> {
    let folder = places.data_dir.clone();
    match within(DEADLINE, move || look_at(&folder)) {
        Some(mut found) => {
            if let Some(hint) = places.or_the_service() {
                found.push(Finding::warn("data directory", "it is not that of the service", hint));
            }
            found
        }
        None => vec![Finding::fail("data directory", "the disk does not answer", "look at the disk: dmesg")],
    }
}

fn look_at(folder: &Path) -> Vec<Finding> {
    let (name, shown) = ("data directory", folder.display());
    let meta = match fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return vec![Finding::fail(name, format!("{shown} is no directory"), "name another one with --data-dir")],
        Err(e) if e.kind() == IoKind::NotFound => return vec![not_there(folder)],
        Err(e) => return vec![Finding::fail(name, format!("{shown}: {e}"), "run this as the gateway's user, or as root")],
    };
    let mut found = Vec::new();
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        found.push(Finding::ok(name, format!("{shown}, mode {mode:04o}")));
    } else {
        let hint = format!("chmod 700 {shown}");
        found.push(Finding::warn(name, format!("{shown} is open to others (mode {mode:04o})"), hint));
    }
    found.push(written_and_synced(folder, meta.uid()));
    found.extend(space(folder));
    found.extend(kind(folder));
    found
}

fn not_there(folder: &Path) -> Finding {
    let above = folder.ancestors().find(|f| f.is_dir()).unwrap_or(Path::new("/"));
    let can = rustix::fs::access(above, rustix::fs::Access::WRITE_OK).is_ok();
    let message = format!("{} is not there yet", folder.display());
    if can {
        Finding::ok("data directory", format!("{message}; the first start makes it"))
    } else {
        Finding::fail(
            "data directory",
            message,
            format!("{} can't be written by this user; name another one with --data-dir", above.display()),
        )
    }
}

fn written_and_synced(folder: &Path, owner: u32) -> Finding {
    let path = folder.join(format!(".doctor-{}.tmp", std::process::id()));
    let clock = Clock::system();
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(b"doctor").and_then(|()| file.sync_all()))
        .and_then(|()| File::open(folder)?.sync_all());
    let took = clock.mono();
    let _ = fs::remove_file(&path); // not there where it could not be made
    match written {
        Ok(()) if took > SYNC_SLOW => Finding::warn(
            "disk",
            format!("writing and syncing a small file took {} ms", took.as_millis()),
            "each message waits for two of these: a better SD card or an SSD helps",
        ),
        Ok(()) => Finding::ok("disk", format!("a small file is written and synced in {:.1} ms", took.as_secs_f64() * 1e3)),
        Err(e) => {
            let hint = match e.kind() {
                IoKind::PermissionDenied => {
                    format!("run this as the gateway's user (the directory belongs to user {owner}), or as root")
                }
                IoKind::ReadOnlyFilesystem => {
                    "the file system is mounted read-only; a failing SD card does that: dmesg".to_string()
                }
                IoKind::StorageFull => "the disk is full: free some space".to_string(),
                _ => "look at the disk: dmesg".to_string(),
            };
            Finding::fail("disk", format!("{} can't be written: {e}", folder.display()), hint)
        }
    }
}

fn space(folder: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let inodes = disk.f_files == 0 || disk.f_favail > 1000;
    let message = format!("{} free", size(free));
    Some(if free < FREE_MIN || !inodes {
        Finding::fail(
            "space",
            if inodes { message } else { "no inodes left".into() },
            "free some space: messages are refused once nothing can be written",
        )
    } else if free < FREE_FEW {
        Finding::warn("space", message, "free some space soon")
    } else {
        Finding::ok("space", message)
    })
}

/// What is kept, beside the bound on it.
pub fn kept(store: &Store) -> Finding {
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let [log, ..] = backup::companions(&store.path);
    let files = fs::read_dir(backup::attachments_folder(&store.path)).into_iter().flatten().flatten();
    let files: u64 = files.map(|file| file.metadata().map_or(0, |m| m.len())).sum();
    let (bytes, max) = (length(&store.path) + length(&log) + files, store.retention.max_bytes);
    let message = format!("{} of {}", size(bytes), size(max));
    if bytes < max {
        return Finding::ok("kept", message);
    }
    let hint =
        "the oldest settled messages go; where /ready says 503, what is left waits for a person, or store.maxBytes is too small";
    Finding::warn("kept", message, hint)
}

fn kind(folder: &Path) -> Option<Finding> {
    let magic = rustix::fs::statfs(folder).ok()?.f_type as u64 & 0xffff_ffff;
    let named = |list: &[(u64, &'static str)]| list.iter().find(|(m, _)| *m == magic).map(|(_, name)| *name);
    if let Some(name) = named(&FLEETING) {
        return Some(Finding::warn(
            "file system",
            format!("{name}: it is empty after a restart"),
            "choose a directory on a disk: --data-dir",
        ));
    }
    let unfit = named(&UNFIT)?;
    Some(Finding::fail(
        "file system",
        format!("{unfit}: the database can't be kept safe there"),
        "choose a directory on a local disk: --data-dir",
    ))
}

/// A configuration file that others may read although a secret stands in it.
pub fn open_file(file: &Path, doc: &Value) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let has_secrets = crate::config::without_secrets(doc) != *doc;
    (has_secrets && mode & 0o044 != 0).then(|| {
        let hint = format!("chmod 600 {}, or keep the secret in a file of its own: {{\"file\": \"…\"}}", file.display());
        Finding::warn("configuration", format!("a secret stands in it, and others may read it (mode {mode:04o})"), hint)
    })
}

/// The port: ours, or free.
pub fn port(listen: SocketAddr, is_ours: bool) -> Finding {
    if is_ours {
        return Finding::ok("port", format!("the gateway answers on {listen}"));
    }
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("port", format!("{listen} is free; no gateway runs here")),
        Err(e) => {
            let hint = match e.kind() {
                IoKind::AddrInUse => format!(
                    "another program has it (ss -ltnp 'sport = :{}'), or a gateway that this user can't ask",
                    listen.port()
                ),
                IoKind::PermissionDenied => {
                    "ports below 1024 need a right of their own; choose a higher one (gateway.listen)".to_string()
                }
                IoKind::AddrNotAvailable => "no interface has this address now; choose another one (gateway.listen)".to_string(),
                _ => "choose another one (gateway.listen)".to_string(),
            };
            Finding::fail("port", format!("{listen} can't be had: {e}"), hint)
        }
    }
}

/// The systemd unit, where there is one.
pub fn service() -> Vec<Finding> {
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let ask = || {
        let asked = Command::new("systemctl")
            .args(["show", "gatelet.service", "--property=LoadState,ActiveState,SubState,NRestarts,UnitFileState"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(Ok(said)) = within(DEADLINE, ask) else { return Vec::new() };
    unit(&said).into_iter().collect()
}

fn unit(said: &str) -> Option<Finding> {
    let of = |key: &str| said.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    if of("LoadState") != "loaded" {
        return None;
    }
    let (state, restarts) = (of("ActiveState"), of("NRestarts").parse::<u64>().unwrap_or(0));
    let look = "journalctl -u gatelet -e";
    Some(match state {
        "failed" => Finding::fail("service", "gatelet.service has failed", look),
        "active" if restarts > 0 => Finding::warn("service", format!("active, after {restarts} restarts by itself"), look),
        "active" if of("UnitFileState") == "disabled" => {
            Finding::warn("service", "active, but not started at boot", "systemctl enable gatelet")
        }
        "active" => Finding::ok("service", "gatelet.service is active"),
        other => Finding::warn("service", format!("gatelet.service is {other}"), "systemctl start gatelet"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn units() {
        for (said, expected) in [
            ("", None),
            ("LoadState=not-found\nActiveState=inactive", None),
            ("LoadState=loaded\nActiveState=active\nNRestarts=0\nUnitFileState=enabled", Some(State::Ok)),
            ("LoadState=loaded\nActiveState=active\nNRestarts=3", Some(State::Warn)),
            ("LoadState=loaded\nActiveState=active\nNRestarts=0\nUnitFileState=disabled", Some(State::Warn)),
            ("LoadState=loaded\nActiveState=failed", Some(State::Fail)),
            ("LoadState=loaded\nActiveState=inactive", Some(State::Warn)),
        ] {
            assert_eq!(unit(said).map(|f| f.state), expected, "{said}");
        }
    }

    #[test]
    fn a_directory_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let state = |folder: &Path, check: &str| look_at(folder).into_iter().find(|f| f.check == check).map(|f| f.state);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(state(folder.path(), "data directory"), Some(State::Ok));
        assert_eq!(state(folder.path(), "disk").map(|s| s != State::Fail), Some(true));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(state(folder.path(), "data directory"), Some(State::Warn));
        assert_eq!(state(&folder.path().join("a/b"), "data directory"), Some(State::Ok));
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(state(&folder.path().join("file"), "data directory"), Some(State::Fail));
    }

    #[test]
    fn a_port_is_free_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!((port(address, false).state, port(address, true).state), (State::Fail, State::Ok));
        drop(listener);
        assert_eq!(port(address, false).state, State::Ok);
    }
}
