//! Reading and writing small files so that a power cut leaves the old one or the new one, never a mixture.
//!
//! Invariant: what is written is on disk when the call returns (file and folder are synced), is never readable for others while
//! it is written, and a failure leaves the old file as it was and no other one behind. Reading is bounded and never blocks on a
//! pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Mode of a new file: it may hold secrets.
const MODE: u32 = 0o600;
/// Links that are followed from a configuration file to what it is.
const LINKS_MAX: usize = 16;

/// The bytes of a regular file of at most `max` bytes; of a longer one `max + 1`.
///
/// # Errors
/// Of the system; `InvalidInput` where it is no regular file.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32; // a pipe would hold us until somebody writes
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the file at `path` (or at the end of its links) whole; its mode stays, a new one has 0600.
///
/// # Errors
/// Of the system; the old file is then as it was.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = follow(path)?;
    let mode = match fs::metadata(&path) {
        Ok(old) => old.permissions().mode() & 0o777,
        Err(e) if e.kind() == ErrorKind::NotFound => MODE,
        Err(e) => return Err(e),
    };
    put(&path, bytes, mode, |temp| fs::rename(temp, &path))
}

/// Makes a file that is not there yet, with mode 0600; false where it is there already (it then stays as it is).
///
/// # Errors
/// Of the system; nothing is then made.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let made = put(path, bytes, MODE, |temp| match renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE) {
        // Some file systems don't know the flag; a link refuses an existing name just as well.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(temp, path)?;
            fs::remove_file(temp)
        }
        done => done.map_err(io::Error::from),
    });
    match made {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes a file beside `path`, syncs it, lets `place` put it in its place, and syncs the folder. One writer at a time: the name
/// beside it is always the same, so that crashes don't pile files up.
fn put(path: &Path, bytes: &[u8], mode: u32, place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a file's path"));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let temp = folder.join(format!(".{}.tmp", name.to_string_lossy()));
    match fs::remove_file(&temp) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let like = if path.exists() { path } else { folder };
    let written = write_new(&temp, bytes, mode, like).and_then(|()| place(&temp));
    if let Err(e) = written {
        let _ = fs::remove_file(&temp); // the first error is the one to tell
        return Err(e);
    }
    File::open(folder)?.sync_all()
}

/// Gives what root makes in the place of another user's file, or in their folder, to that user: a service could not read what
/// `sudo gatelet token new` left there otherwise. Anybody else's files are their own. A file system without owners is no failure.
///
/// # Errors
/// Where `like` can't be looked at.
pub fn give(made: impl AsFd, like: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(like)?;
        let _ = fchown(made, Some(owner.uid()), Some(owner.gid()));
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, like: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    give(&file, like)?;
    file.write_all(bytes)?;
    if mode != MODE {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.sync_all()
}

/// The file at the end of links: replacing the link itself would cut it off from its file.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // Not a link, or not there.
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "too many links"))
}
