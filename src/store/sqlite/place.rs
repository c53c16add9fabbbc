//! Where the database lives: its folder, its files' modes, and the lock that keeps a second gatelet out.
//!
//! Invariant: the folder that it makes is 0700 and every file 0600, whatever the umask; the lock is the open descriptor's, so
//! that no crash leaves it behind. Fails with a sentence that names the path and what to do.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError, set_permissions};
use std::io::{ErrorKind as IoKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::remains::outlast;

/// Makes the folder where it is missing.
pub(super) fn prepare_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let refused = |e| refused(folder, "the data directory can't be made", &e);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refused)?;
    set_permissions(folder, Permissions::from_mode(0o700)).map_err(refused)?;
    // The folder's own entry must last as well, or a power cut takes all of it.
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(parent).and_then(|p| p.sync_all()).map_err(refused)?;
    }
    Ok(())
}

/// Takes the lock; it is held as long as the file is open.
pub(super) fn lock(database: &Path) -> Result<File> {
    let path = beside(database, ".lock");
    let mut file = private(&path)?;
    match outlast(|| file.try_lock(), |e| matches!(e, TryLockError::WouldBlock)) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid); // only for the sentence
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            let folder = database.parent().unwrap_or(database).display();
            return Err(Error::new(ErrorKind::Permanent, format!("another gatelet{who} already uses {folder}"))
                .hint("stop it first, or give this one a data directory of its own (--data-dir)"));
        }
        Err(TryLockError::Error(e)) => return Err(refused(&path, "the lock can't be taken", &e)),
    }
    let pid = std::process::id().to_string();
    // Written over, then cut: to empty it first would give its block back and take another.
    file.write_all(pid.as_bytes())
        .and_then(|()| file.set_len(pid.len() as u64))
        .map_err(|e| refused(&path, "the lock can't be written", &e))?;
    Ok(file)
}

/// Makes the database's file where it is missing, and closes it to others. SQLite gives its log the same mode.
pub(super) fn prepare_file(database: &Path) -> Result<()> {
    private(database).map(drop)
}

fn private(path: &Path) -> Result<File> {
    let refused = |e| refused(path, "the data directory is not writable", &e);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(refused)?;
    let mode = file.metadata().map_err(refused)?.permissions().mode() & 0o777;
    if mode != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(refused)?;
    }
    Ok(file)
}

/// `path` with `suffix` behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn refused(path: &Path, what: &str, e: &std::io::Error) -> Error {
    let hint = match e.kind() {
        IoKind::PermissionDenied => "give the user that gatelet runs as the right to write there",
        IoKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        IoKind::StorageFull => "the disk is full: free some space",
        _ => "choose another place with --data-dir or store.path",
    };
    Error::new(ErrorKind::Permanent, format!("{what} ({}: {e})", path.display())).hint(hint)
}
