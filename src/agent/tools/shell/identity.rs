//! Which file a program is: what an approval is bound to, and what is looked at again on the descriptor that runs.
//!
//! Invariant: two files never share one, and a file that was written to, replaced, or given other rights has another one than
//! before. Symbolic links are followed: it is the file behind them. Fails where there is none to run.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::base::error::{Error, ErrorKind, Result};

/// Device, inode, size, mode, and the times of its last changes in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// Of the file behind a path.
    ///
    /// # Errors
    /// Where it can't be run.
    pub fn of(path: &Path) -> Result<Identity> {
        let name = path.display();
        let found = std::fs::metadata(path);
        let found = found.map_err(|e| Error::new(ErrorKind::Permanent, format!("{name} cannot be run: {e}")))?;
        if !found.is_file() || found.mode() & 0o111 == 0 {
            return Err(Error::new(ErrorKind::Permanent, format!("{name} is no program")));
        }
        Ok(Self::in_metadata(&found))
    }

    /// Of an open file.
    pub fn in_metadata(m: &Metadata) -> Identity {
        let changed = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let (written, touched) = (changed(m.mtime(), m.mtime_nsec()), changed(m.ctime(), m.ctime_nsec()));
        Identity(format!("{}:{}:{}:{:o}:{written}:{touched}", m.dev(), m.ino(), m.size(), m.mode()))
    }

    /// As it was printed.
    pub fn parse(text: &str) -> Identity {
        Identity(text.to_string())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of a program that is not the one that was approved.
pub fn changed() -> Error {
    Error::new(ErrorKind::Denied, "the program's file changed since the call was looked at; nothing was run")
}
