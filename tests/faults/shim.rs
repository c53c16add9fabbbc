//! The other side of `shim.c`: it is compiled once a run, put before a gateway, its dials are turned while that one runs, and its
//! record of what was done to the files is read.
//!
//! Invariant: files of the run's own folder alone. Where there is no C compiler, or the gateway under test is a static program, rows that
//! need it say so.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::gateway::Gateway;

/// The numbers of the control file, in the order of `shim.c`.
#[derive(Clone, Copy)]
#[repr(u64)]
#[allow(missing_docs)] // `shim.c` says what each is
pub enum Dial {
    ClockShiftNs,
    SyncFailFrom,
    SyncFailCount,
    SyncErrno,
    SyncDelayUs,
    WriteFailFrom,
    WriteFailCount,
    WriteErrno,
    AllocFailFrom,
    AllocFailCount,
    RandomErrno,
    ThreadErrno,
    Syncs,
    Writes,
    Bytes,
    Allocs,
}

/// Errors that dials give.
pub const EIO: i64 = 5;
pub const EAGAIN: i64 = 11;
pub const ENOSPC: i64 = 28;

/// The shim of one gateway.
pub struct Shim {
    control: File,
    folder: TempDir,
}

/// The compiled library; why not, where it can't be had.
fn library() -> Result<&'static Path, &'static str> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (source, library) =
            (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c"), folder.join("faults-shim.so"));
        let made = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .output()
            .map_err(|e| format!("no C compiler for tests/faults/shim.c: {e}"))?;
        if made.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
    });
    made.as_deref().map_err(|why| why.as_str())
}

impl Shim {
    /// One with all dials at 0.
    ///
    /// # Errors
    /// Why it can't be had.
    pub fn new() -> Result<Self, &'static str> {
        library()?;
        let folder = TempDir::with_prefix("gatelet-shim-").expect("a folder");
        File::create(folder.path().join("log")).expect("the log");
        let control = OpenOptions::new().create_new(true).read(true).write(true).open(folder.path().join("control"));
        let control = control.expect("the control file");
        control.set_len(4096).expect("the control file");
        Ok(Shim { control, folder })
    }

    /// That gateway behind this shim; what is done in its data folder counts.
    pub fn before(&self, gateway: Gateway, is_recorded: bool) -> Gateway {
        let root = gateway.data.clone();
        let gateway = gateway
            .env("LD_PRELOAD", library().expect("compiled"))
            .env("GATELET_SHIM_CONTROL", self.folder.path().join("control"))
            .env("GATELET_SHIM_ROOT", root);
        if is_recorded { gateway.env("GATELET_SHIM_LOG", self.log_path()) } else { gateway }
    }

    /// Where the record is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Turns a dial.
    pub fn set(&self, dial: Dial, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), dial as u64 * 8).expect("the control file");
    }

    /// Reads a dial.
    pub fn get(&self, dial: Dial) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, dial as u64 * 8).expect("the control file");
        i64::from_ne_bytes(bytes)
    }

    /// From the next sync on, `count` of them fail with `errno`.
    pub fn fail_syncs(&self, after: i64, count: i64, errno: i64) {
        self.set(Dial::SyncErrno, errno);
        self.set(Dial::SyncFailCount, count);
        self.set(Dial::SyncFailFrom, self.get(Dial::Syncs) + after);
    }

    /// The same for writes.
    pub fn fail_writes(&self, after: i64, count: i64, errno: i64) {
        self.set(Dial::WriteErrno, errno);
        self.set(Dial::WriteFailCount, count);
        self.set(Dial::WriteFailFrom, self.get(Dial::Writes) + after);
    }

    /// Syncs, writes and allocations succeed again.
    pub fn heal(&self) {
        for dial in [Dial::SyncFailFrom, Dial::WriteFailFrom, Dial::AllocFailFrom, Dial::SyncDelayUs] {
            self.set(dial, 0);
        }
    }
}

/// One thing that was done to a file of the folder, or that the runner noted between.
#[derive(Clone, Debug)]
pub enum Done {
    Create {
        path: String,
    },
    Write {
        path: String,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        path: String,
        length: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    SyncBegun {
        path: String,
    },
    Synced {
        path: String,
    },
    /// A sync that failed: what it was to bring to the disk may be gone for good, though the process still reads it.
    SyncFailed {
        path: String,
    },
    /// The runner's own: a 2xx was received for this message.
    Accepted {
        name: String,
    },
    /// The runner's own: the receiver got this delivery of this message.
    Delivered {
        id: String,
        name: String,
    },
}

/// The runner's notes in the record: one append each, so they stand where they belong among the calls.
pub struct Notes(File);

impl Notes {
    /// Into that record.
    pub fn new(shim: &Shim) -> Self {
        Notes(OpenOptions::new().append(true).open(shim.log_path()).expect("the record"))
    }

    /// A 2xx was received.
    pub fn accepted(&self, name: &str) {
        (&self.0).write_all(format!("A {name} 0 0\n").as_bytes()).expect("a note");
    }

    /// A delivery came; noted before it is answered.
    pub fn delivered(&self, id: &str, name: &str) {
        (&self.0).write_all(format!("D {name} 0 {}\n{id}", id.len()).as_bytes()).expect("a note");
    }
}

/// Reads a record.
pub fn read(path: &Path) -> Vec<Done> {
    let all = std::fs::read(path).expect("the record");
    let (mut at, mut list) = (0, Vec::new());
    while at < all.len() {
        let end = at + all[at..].iter().position(|b| *b == b'\n').expect("a head");
        let head = String::from_utf8_lossy(&all[at..end]).into_owned();
        let words: Vec<&str> = head.split(' ').collect();
        assert_eq!(words.len(), 4, "a head of four words: {head}");
        let (path, number): (String, i64) = (words[1].to_string(), words[2].parse().expect("a number"));
        let length: usize = match words[0] {
            "W" | "R" | "D" => words[3].parse().expect("a length"),
            _ => 0,
        };
        let bytes = all[end + 1..end + 1 + length].to_vec();
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        list.push(match words[0] {
            "C" => Done::Create { path },
            "W" => Done::Write { path, at: number as u64, bytes },
            "T" => Done::Truncate { path, length: number as u64 },
            "R" => Done::Rename { from: path, to: text() },
            "U" => Done::Unlink { path },
            "s" => Done::SyncBegun { path },
            "S" => Done::Synced { path },
            "F" => Done::SyncFailed { path },
            "A" => Done::Accepted { name: path },
            "D" => Done::Delivered { id: text(), name: path },
            other => panic!("an unknown record {other}"),
        });
        at = end + 1 + length;
    }
    list
}
