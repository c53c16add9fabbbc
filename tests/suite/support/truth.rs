//! Truth files: what happened outside the gateway, appended line by line, read back for the count.
//!
//! Invariant: a line is in the file before `note` returns. They stand outside the process that is killed, so they need no fsync.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One append-only file; each line's fields are separated by tabs.
pub struct Truth {
    path: PathBuf,
    file: Mutex<File>,
}

impl Truth {
    /// A new file of that name in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("a truth file");
        Truth { path, file: Mutex::new(file) }
    }

    /// Appends one line.
    pub fn note(&self, fields: &[&str]) {
        let line = fields.join("\t") + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("appending to a truth file");
    }

    /// All lines so far, in the order in which they were noted.
    pub fn lines(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(&self.path).expect("reading a truth file");
        text.lines().map(|l| l.split('\t').map(str::to_string).collect()).collect()
    }
}
