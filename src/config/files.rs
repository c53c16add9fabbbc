//! The configuration on disk: where it is, reading it, writing it, and the last one that worked.
//!
//! Invariant: a file with problems is never half used: either the whole file counts, or the whole last configuration that
//! worked, and the answer says which. Writing is atomic (`disk`). Finding and loading create nothing.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind as IoKind};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::disk;
use super::document::{DOCUMENT_BYTES_MAX, parse, text};
use super::problem::Problem;
use super::resolve::{Env, Resolved, resolve, unfit_token};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::ids::new_token;
use crate::base::secret::Secret;

/// The file in the data directory with the admin's token, where the configuration names none.
pub const TOKEN_FILE: &str = "token";
/// The file in the data directory with the last configuration that worked.
pub const LAST_GOOD_FILE: &str = "config.last.json";
/// Bytes of a secret's file at most.
/// Where the units of systemd/ have it.
const SERVICE_DATA: &str = "/var/lib/gatelet";
const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;

/// The environment variable of a name; what `Places::find` and [`load`] ask.
pub type Var<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn system_var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The configuration file; `None` where there is none, which means `{}`. One that was named explicitly may be absent: that
    /// is a problem of it.
    pub file: Option<PathBuf>,
    /// Where a configuration is written to: `file`, or else `gatelet.json` in the data directory.
    pub target: PathBuf,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Where the socket listens that a service manager passed, if it did; set by who adopts it.
    pub passed: Option<SocketAddr>,
}

impl Places {
    /// Finds them: the file by `--config`, `$GATELET_CONFIG`, `config/gatelet.json`, `/etc/gatelet/gatelet.json`,
    /// `<data directory>/gatelet.json`; the data directory by `--data-dir`, `$GATELET_DATA_DIR`, `$STATE_DIRECTORY` (the first of
    /// several), `$XDG_STATE_HOME/gatelet`, `~/.local/state/gatelet`.
    ///
    /// # Errors
    /// `Invalid` where no data directory is known.
    pub fn find(config: Option<&Path>, data_dir: Option<&Path>, var: Var<'_>) -> Result<Places> {
        Places::find_among(&["config/gatelet.json", "/etc/gatelet/gatelet.json"], config, data_dir, var)
    }

    /// [`Places::find`] with other usual places.
    pub(super) fn find_among(usual: &[&str], config: Option<&Path>, data_dir: Option<&Path>, var: Var<'_>) -> Result<Places> {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let named = |name| var(name).map(PathBuf::from);
        let state = || var("STATE_DIRECTORY").and_then(|all| all.split(':').find(|s| !s.is_empty()).map(PathBuf::from));
        // Both variables count only where they are absolute, as their specification says.
        let xdg = || named("XDG_STATE_HOME").filter(|p| p.is_absolute()).map(|p| p.join("gatelet"));
        let home = || named("HOME").filter(|p| p.is_absolute()).map(|p| p.join(".local/state/gatelet"));
        let data_dir =
            data_dir.map(Path::to_path_buf).or_else(|| named("GATELET_DATA_DIR")).or_else(state).or_else(xdg).or_else(home);
        let data_dir = data_dir.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "no data directory is known").hint("name one: --data-dir DIR, or $GATELET_DATA_DIR")
        })?;
        let data_dir = absolute(&data_dir)?;
        let own = data_dir.join("gatelet.json");
        let usual = usual.iter().map(PathBuf::from).chain([own.clone()]);
        let found = match config.map(Path::to_path_buf).or_else(|| named("GATELET_CONFIG")) {
            Some(explicit) => Some(explicit),
            // What cannot be looked at is taken for found: reading it then tells why.
            None => usual.into_iter().find(|path| path.try_exists().unwrap_or(true)),
        };
        let file = found.map(|path| absolute(&path)).transpose()?;
        Ok(Places { target: file.clone().unwrap_or(own), file, data_dir, passed: None })
    }

    /// What to tell somebody who found nothing here and may have meant the service's data; `None` where there is no service.
    pub fn or_the_service(&self) -> Option<String> {
        self.or_else_in(Path::new(SERVICE_DATA))
    }

    pub(super) fn or_else_in(&self, other: &Path) -> Option<String> {
        // Not followed: it leads to a folder that only root may look into.
        let is_elsewhere =
            self.data_dir != other && !store_path(&Value::Null, &self.data_dir).exists() && other.symlink_metadata().is_ok();
        is_elsewhere.then(|| format!("the service's data is in {0}: --data-dir {0}", other.display()))
    }

    /// Makes the data directory with mode 0700 where it is not there.
    ///
    /// # Errors
    /// `Permanent` where it can't be made or is not a directory.
    pub fn make_data_dir(&self) -> Result<()> {
        let shown = self.data_dir.display();
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(|e| {
            Error::new(ErrorKind::Permanent, format!("the data directory {shown} cannot be made: {e}"))
                .hint("choose another one with --data-dir, or give this user the right to write there")
        })
    }

    /// The last configuration that worked.
    pub fn last_good(&self) -> PathBuf {
        self.data_dir.join(LAST_GOOD_FILE)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::new(ErrorKind::Invalid, format!("the path {} has no absolute form: {e}", path.display())))
}

/// A configuration that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file it was to come from; `None` where there is none.
    pub path: Option<PathBuf>,
    /// The document in use, as it was written.
    pub doc: Value,
    /// What is meant by it.
    pub resolved: Resolved,
    /// The problems of the file, where the last configuration that worked is used in its place; else empty.
    pub problems: Vec<Problem>,
    /// Whether that is so.
    pub used_last_good: bool,
}

/// Loads the configuration at start: the file, or `{}` where there is none, or the last configuration that worked where the file
/// has problems.
///
/// # Errors
/// The file's problems, where no earlier configuration works either.
pub fn load(places: &Places, var: Var<'_>) -> Result<Loaded, Vec<Problem>> {
    let problems = match load_file(places, var) {
        Ok(loaded) => return Ok(loaded),
        Err(problems) => problems,
    };
    let last = places.last_good();
    let earlier = read_document(&last).and_then(|doc| Ok((resolve_here(&doc, places, var)?, doc)));
    match earlier {
        Ok((resolved, doc)) => Ok(Loaded { path: places.file.clone(), doc, resolved, problems, used_last_good: true }),
        Err(_) => Err(problems),
    }
}

/// Loads the file, or `{}` where there is none; for `check` and for reloads, which fall back to nothing.
///
/// # Errors
/// All its problems.
pub fn load_file(places: &Places, var: Var<'_>) -> Result<Loaded, Vec<Problem>> {
    let doc = match &places.file {
        Some(path) => read_document(path)?,
        None => Value::Object(Map::new()),
    };
    let resolved = resolve_here(&doc, places, var)?;
    Ok(Loaded { path: places.file.clone(), doc, resolved, problems: Vec::new(), used_last_good: false })
}

/// The document as it is written, its meaning unlooked at: `{}` where there is no file.
///
/// # Errors
/// Where it can't be read, or is no JSON.
pub fn written(places: &Places) -> Result<Value, Vec<Problem>> {
    places.file.as_deref().map_or_else(|| Ok(Value::Object(Map::new())), read_document)
}

/// Where the database is by a document as it is written.
pub fn store_path(doc: &Value, data_dir: &Path) -> PathBuf {
    let path = doc.pointer("/store/path").and_then(Value::as_str);
    data_dir.join(path.map(str::trim).filter(|p| !p.is_empty()).unwrap_or("gatelet.db"))
}

/// Resolves a document against this machine: its environment and its files.
///
/// # Errors
/// All its problems.
pub fn resolve_here(doc: &Value, places: &Places, var: Var<'_>) -> Result<Resolved, Vec<Problem>> {
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let bytes = disk::read(path, SECRET_FILE_BYTES_MAX)?;
        if bytes.len() > SECRET_FILE_BYTES_MAX { Err(io::Error::new(IoKind::InvalidData, "it is too long")) } else { Ok(bytes) }
    };
    resolve(doc, &Env { data_dir: &places.data_dir, passed: places.passed, var, read: &read })
}

fn read_document(path: &Path) -> Result<Value, Vec<Problem>> {
    let bytes = disk::read(path, DOCUMENT_BYTES_MAX).map_err(|e| {
        let message = match e.kind() {
            IoKind::NotFound => "there is no such file".into(),
            _ => format!("cannot be read: {e}"),
        };
        vec![Problem::new("$", format!("{}: {message}", path.display()))]
    })?;
    parse(&bytes)
}

/// Writes a document to where the configuration is kept, atomically; its folder is made where it is not there.
///
/// # Errors
/// `Transient` where the disk refuses it; the old file is then as it was.
pub fn save(places: &Places, doc: &Value) -> Result<()> {
    write(&places.target, doc)
}

/// The same where there is none yet; false where there is one, which stays as it is. A new file has mode 0600.
///
/// # Errors
/// `Transient` where the disk refuses it.
pub fn create(places: &Places, doc: &Value) -> Result<bool> {
    let refused = |e: io::Error| {
        Error::new(ErrorKind::Transient, format!("{} cannot be written: {e}", places.target.display()))
            .hint("name another file with --config, or give this user the right to write there")
    };
    if let Some(folder) = places.target.parent().filter(|f| !f.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(refused)?;
    }
    disk::create(&places.target, text(doc).as_bytes()).map_err(refused)
}

/// Keeps a secret in the file `name` of `folder` (which is made, mode 0700), mode 0600, in place of one that is there. Gives its path.
///
/// # Errors
/// `Transient` where the disk refuses it.
pub fn keep_secret(folder: &Path, name: &str, secret: &Secret) -> Result<PathBuf> {
    let path = folder.join(name);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| disk::replace(&path, format!("{}\n", secret.reveal()).as_bytes()))
        .map_err(|e| Error::new(ErrorKind::Transient, format!("the secret {} cannot be kept: {e}", path.display())))?;
    Ok(path)
}

/// Keeps a copy of a document that was applied as the last one that worked; writes only where it differs from the one kept.
///
/// # Errors
/// `Transient` where the disk refuses it.
pub fn keep_last_good(places: &Places, doc: &Value) -> Result<()> {
    let path = places.last_good();
    match disk::read(&path, DOCUMENT_BYTES_MAX * 2) {
        Ok(kept) if kept == text(doc).as_bytes() => Ok(()),
        _ => write(&path, doc),
    }
}

fn write(path: &Path, doc: &Value) -> Result<()> {
    let text = text(doc);
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::new(ErrorKind::Invalid, "the configuration is longer than 1 MiB"));
    }
    disk::replace(path, text.as_bytes()).map_err(|e| {
        Error::new(ErrorKind::Transient, format!("{} cannot be written: {e}", path.display()))
            .hint("the gateway's user needs the right to write there, and the disk needs room")
    })
}

/// Puts a new token (256 random bits) in the place of the one at `path`, atomically; a new file has mode 0600.
///
/// # Errors
/// `Transient` where the disk refuses it.
pub fn renew_token(path: &Path) -> Result<Secret> {
    let token = new_token()?;
    disk::replace(path, format!("{token}\n").as_bytes())
        .map_err(|e| Error::new(ErrorKind::Transient, format!("the token {} cannot be kept: {e}", path.display())))?;
    Ok(Secret::new(token))
}

/// The admin's token in the data directory, made (256 random bits, mode 0600) where there is none; whether it was made.
///
/// # Errors
/// `Transient` where the disk refuses it, `Invalid` where the file is there and holds no fit token.
pub fn ensure_token(data_dir: &Path) -> Result<(Secret, bool)> {
    let path = data_dir.join(TOKEN_FILE);
    let refused = |e: io::Error| Error::new(ErrorKind::Transient, format!("the token {} cannot be kept: {e}", path.display()));
    let token = new_token()?;
    if disk::create(&path, format!("{token}\n").as_bytes()).map_err(refused)? {
        return Ok((Secret::new(token), true));
    }
    let bytes = disk::read(&path, SECRET_FILE_BYTES_MAX).map_err(refused)?;
    let token = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_string();
    match unfit_token(&token) {
        None => Ok((Secret::new(token), false)),
        Some(complaint) => Err(Error::new(ErrorKind::Invalid, format!("the token file {} holds {complaint}", path.display()))
            .hint("remove it, and the next start makes a new one")),
    }
}
