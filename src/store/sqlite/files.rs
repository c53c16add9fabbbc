//! The files beside the database: one folder, one file an attachment, under names from the system's randomness.
//!
//! Invariant: no part of a path comes from outside; a name that is not of our form opens nothing, and no link is followed. A file is
//! whole or not there: it is written under another name, brought to the disk, and renamed. Folder 0700, files 0600. Fails with the
//! system's errors; what can't be removed is logged and swept at the next start.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::ids::new_id;
use crate::store::sqlite::place::beside;

const PREFIX: &str = "att";

/// The folder; made when the first file is put.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// The folder of the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Files { folder: folder_of(path) }
    }

    /// Puts a file; it is on the disk then. Gives its name.
    pub(super) fn put(&self, bytes: &[u8], now_ms: i64) -> io::Result<String> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let name = new_id(PREFIX, now_ms);
        let (unfinished, whole) = (self.folder.join(format!("{name}.part")), self.folder.join(&name));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&unfinished, &whole))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(e) = written {
            let _ = fs::remove_file(&unfinished); // else it is swept
            let _ = fs::remove_file(&whole);
            return Err(e);
        }
        Ok(name)
    }

    /// The bytes of a file.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        if !is_ours(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let mut bytes = Vec::new();
        OpenOptions::new().read(true).custom_flags(no_link).open(self.folder.join(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes files.
    pub(super) fn remove_all(&self, names: &[String]) {
        for name in names.iter().filter(|name| is_ours(name)) {
            match fs::remove_file(self.folder.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    log::warn!("an attachment's file could not be removed: {e}; the next start tries again");
                }
                _ => {}
            }
        }
    }

    /// Removes files that are not `known`; links go themselves, folders stay. Gives how many went, and the known ones that are not
    /// there.
    pub(super) fn sweep(&self, known: &BTreeSet<String>) -> (u64, Vec<String>) {
        let (mut gone, mut missing) = (0, known.clone());
        for entry in fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_name().to_str().is_some_and(|name| missing.remove(name)) {
                gone += u64::from(fs::remove_file(entry.path()).is_ok());
            }
        }
        (gone, missing.into_iter().collect())
    }
}

/// Where the files of the database at `path` are.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    beside(path, "-attachments")
}

/// Whether `put` could have made that name.
pub(super) fn is_ours(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.strip_prefix(PREFIX).and_then(|n| n.strip_prefix('_')).is_some_and(|n| n.len() == 26 && n.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_our_names_open_anything() {
        let home = tempfile::tempdir().unwrap();
        let files = Files::beside(&home.path().join("t.db"));
        fs::write(home.path().join("secret"), "s").unwrap();
        let name = files.put(b"abc", 5).unwrap();
        let folder = home.path().join("t.db-attachments");
        let link = format!("att_{}", "0".repeat(26));
        std::os::unix::fs::symlink(home.path().join("secret"), folder.join(&link)).unwrap();
        for (asked, found) in [(name.as_str(), true), ("../secret", false), ("", false), (".", false), (&link, false)] {
            assert_eq!(files.read(asked).is_ok(), found, "{asked}");
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(&name))), (0o700, 0o600));
        files.remove_all(&["../secret".into(), link.clone()]);
        assert!(home.path().join("secret").exists() && fs::symlink_metadata(folder.join(&link)).is_err());
        fs::write(folder.join("att_x.part"), "half").unwrap();
        assert_eq!(files.sweep(&BTreeSet::from([name.clone(), link.clone()])), (1, vec![link]));
        assert_eq!(files.read(&name).unwrap(), b"abc");
    }
}
