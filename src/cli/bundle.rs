//! The folder that a backup is: `manifest.json`, `gatelet.db`, `attachments/` with the files that it names, `gatelet.json` where there is a
//! configuration, and `data/` with what else stands in the data directory.
//!
//! Invariant: the folder is 0700 and its files 0600, whatever the umask; it gets its name once all of it is on the disk. The manifest names
//! every file with its length and SHA-256, and what it names never leads out of the folder. No link is followed. Fails with a sentence.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::Failure;
use crate::config::give;

/// The version of this layout.
pub const FORMAT: u64 = 1;
/// The database's name in the folder.
pub const DATABASE: &str = "gatelet.db";
/// The folder of the files that came with messages.
pub const ATTACHMENTS: &str = "attachments";
/// The configuration's.
pub const CONFIGURATION: &str = "gatelet.json";
/// The folder of all else.
pub const DATA: &str = "data";
const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read.
const MANIFEST_MAX: u64 = 64 * 1024 * 1024;
/// Most files of a data directory, and how deep its folders go.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 16;

/// What a backup says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u64,
    /// The gatelet that made it.
    pub version: String,
    /// When the database was as it is in it, in ms since 1970.
    pub made_ms: i64,
    /// The same for people.
    pub made_at: String,
    /// Whether secrets are in it.
    pub with_secrets: bool,
    /// Its files.
    pub files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// A sentence about a file.
pub fn failed(path: &Path, what: &str, e: &std::io::Error) -> Failure {
    Failure::Failed(format!("{} {what}: {e}", path.display()))
}

/// A folder that is being written.
pub struct Draft {
    /// Where it stands meanwhile.
    pub folder: PathBuf,
    target: PathBuf,
    files: Vec<Entry>,
    is_done: bool,
}

impl Draft {
    /// Begins one that will be called `target`.
    ///
    /// # Errors
    /// Where that is there already, or its parent can't be written.
    pub fn begin(target: &Path) -> Result<Draft, Failure> {
        let target = std::path::absolute(target).map_err(|e| failed(target, "is no path", &e))?;
        let name = target.file_name().ok_or_else(|| Failure::Failed(format!("{} is no folder's name", target.display())))?;
        let is_empty_folder = fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_none());
        if fs::symlink_metadata(&target).is_ok() && !is_empty_folder {
            return Err(Failure::Failed(format!("{} is there already; name a folder that isn't", target.display())));
        }
        let folder = target.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let _ = fs::remove_dir_all(&folder); // what a backup that was cut off left behind
        make_folder(&folder)?;
        Ok(Draft { folder, target, files: Vec::new(), is_done: false })
    }

    /// Takes a file along as `name`.
    ///
    /// # Errors
    /// Where one of them can't be read or written.
    pub fn take(&mut self, from: &Path, name: &str) -> Result<(), Failure> {
        let to = self.folder.join(name);
        if let Some(parent) = to.parent() {
            make_folder(parent)?;
        }
        let (bytes, sha256) = copy_file(from, &to)?;
        self.files.push(Entry { path: name.into(), bytes, sha256 });
        Ok(())
    }

    /// Takes a file along as `name` if it is there with that length: another process may remove it at any time. Tells whether it was.
    ///
    /// # Errors
    /// Where it is there and can't be read, or the copy can't be written.
    pub fn take_kept(&mut self, from: &Path, name: &str, bytes: u64) -> Result<bool, Failure> {
        match fs::symlink_metadata(from) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(from, "can't be read", &e)),
            Ok(found) if !found.is_file() || found.len() != bytes => return Ok(false),
            Ok(_) => {}
        }
        match self.take(from, name) {
            Err(_) if !from.exists() => {
                let _ = fs::remove_file(self.folder.join(name)); // hardly ever begun, and in no manifest
                Ok(false)
            }
            taken => taken.map(|()| true),
        }
    }

    /// Takes a text along as the file `name`.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        write_new(&self.folder.join(name), text.as_bytes())?;
        self.noted(name)
    }

    /// Adds a file that stands in the folder already.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn noted(&mut self, name: &str) -> Result<(), Failure> {
        let (bytes, sha256) = digest(&self.folder.join(name))?;
        self.files.push(Entry { path: name.into(), bytes, sha256 });
        Ok(())
    }

    /// Writes the manifest, and gives the folder its name. Gives its size in bytes.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn finish(mut self, mut manifest: Manifest) -> Result<u64, Failure> {
        manifest.files = std::mem::take(&mut self.files);
        let text = serde_json::to_string_pretty(&manifest).map_err(|e| Failure::Failed(e.to_string()))?;
        write_new(&self.folder.join(MANIFEST), text.as_bytes())?;
        sync_folders(&self.folder, DEPTH_MAX)?;
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        fs::rename(&self.folder, &self.target)
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(|e| failed(&self.target, "can't be made", &e))?;
        self.is_done = true;
        Ok(manifest.files.iter().map(|f| f.bytes).sum())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_dir_all(&self.folder); // the failure that brought us here is told already
        }
    }
}

/// Reads a backup's manifest, and checks every file that it names.
///
/// # Errors
/// Where it is none, of a newer gatelet, or damaged.
pub fn open(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(MANIFEST);
    let mut text = String::new();
    let read = File::open(&path).and_then(|f| f.take(MANIFEST_MAX).read_to_string(&mut text));
    read.map_err(|e| Failure::Failed(format!("{} is no backup: its {MANIFEST} can't be read: {e}", folder.display())))?;
    let unread = |e: String| Failure::Failed(format!("{} is no backup that this gatelet can read: {e}", folder.display()));
    let document: serde_json::Value = serde_json::from_str(&text).map_err(|e| unread(e.to_string()))?;
    if document["format"].as_u64().is_some_and(|f| f > FORMAT) {
        return Err(unread("it comes from a newer gatelet; restore it with that one".into()));
    }
    let manifest: Manifest = serde_json::from_value(document).map_err(|e| unread(e.to_string()))?;
    for file in &manifest.files {
        if !Path::new(&file.path).components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(unread("its manifest names a file outside of it".into()));
        }
        if !is_as_written(&folder.join(&file.path), file)? {
            return Err(Failure::Failed(format!(
                "the backup is damaged: {} is not as it was written",
                folder.join(&file.path).display()
            )));
        }
    }
    if !manifest.files.iter().any(|f| f.path == DATABASE) {
        return Err(unread("it has no database".into()));
    }
    Ok(manifest)
}

/// Whether a file is the one of an entry, byte for byte.
///
/// # Errors
/// Where it can't be read.
pub fn is_as_written(path: &Path, entry: &Entry) -> Result<bool, Failure> {
    let (bytes, sha256) = digest(path)?;
    Ok((bytes, sha256.as_str()) == (entry.bytes, entry.sha256.as_str()))
}

/// Whether a folder is a backup.
pub fn is_one(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file() && folder.join(DATABASE).is_file()
}

/// The regular files below `root` that `wanted` lets through, by their paths relative to it; it is asked about folders, too.
///
/// # Errors
/// Where a folder can't be read, or there are more than [`FILES_MAX`].
pub fn files_below(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| failed(&folder, "can't be read", &e))? {
            let entry = entry.map_err(|e| failed(&folder, "can't be read", &e))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|e| failed(&entry.path(), "can't be read", &e))?);
            if !wanted(&path) {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if kind.is_file()
                && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            {
                found.push(name.to_string());
            }
            if found.len() > FILES_MAX {
                return Err(Failure::Failed(format!("{} holds more than {FILES_MAX} files", root.display())));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a folder, with mode 0700, where it is missing.
///
/// # Errors
/// Where it can't be made.
pub fn make_folder(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| File::open(folder));
    made.and_then(|made| give(made, parent(folder))).map_err(|e| failed(folder, "can't be made", &e))
}

/// Copies a file to a new one; gives its length and SHA-256.
///
/// # Errors
/// Where one of them can't be read or written.
pub fn copy_file(from: &Path, to: &Path) -> Result<(u64, String), Failure> {
    let mut source = File::open(from).map_err(|e| failed(from, "can't be read", &e))?;
    let mut target = private(to)?;
    let hashed = pour(&mut source, |bytes| target.write_all(bytes).map_err(|e| failed(to, "can't be written", &e)), from)?;
    target.sync_all().map_err(|e| failed(to, "can't be written", &e))?;
    Ok(hashed)
}

/// Whose folder it lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn digest(path: &Path) -> Result<(u64, String), Failure> {
    let mut file = File::open(path).map_err(|e| failed(path, "can't be read", &e))?;
    pour(&mut file, |_| Ok(()), path)
}

fn pour(source: &mut File, mut put: impl FnMut(&[u8]) -> Result<(), Failure>, path: &Path) -> Result<(u64, String), Failure> {
    let (mut hash, mut length) = (Sha256::new(), 0u64);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let n = source.read(&mut buffer).map_err(|e| failed(path, "can't be read", &e))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        put(&buffer[..n])?;
        length += n as u64;
    }
    Ok((length, hash.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

fn private(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let opened = opened.and_then(|file| give(&file, parent(path)).map(|()| file));
    opened.map_err(|e| failed(path, "can't be made", &e))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| failed(path, "can't be written", &e))
}

/// Syncs a folder and those in it, so that their entries last.
fn sync_folders(folder: &Path, depth: usize) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path(), depth - 1)?;
        }
    }
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed(folder, "can't be written", &e))
}
