//! Watching the configuration file: calls back once a change of it has settled.
//!
//! Invariant: no wake-up while nothing happens in the file's directory. The directory is watched, not the file, so that a
//! rename into its place is seen; where the file is a link, its target's directory is watched, too; where the directory is
//! replaced or absent, the nearest one above it. Fails at start where the system has no watch left; later it only misses a
//! change, which SIGHUP makes up for.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};

/// A change has settled when nothing happened for this long.
const SETTLED: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Pauses at most before calling back although it goes on.
const ROUNDS_MAX: usize = 10;

/// Writing is noted when the file is closed, not at each write: a database beside the file then wakes nobody.
fn flags() -> WatchFlags {
    WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    wake: Arc<OwnedFd>,
    over: Stop,
}

impl Watcher {
    /// Starts watching the file at `path` (absolute) on a thread of its own. `on_change` is called on that thread, once for
    /// changes that come close together, also when the file disappears; also after our own writes, so it compares. What
    /// changes after this call is seen: start it before the file is read. The thread ends when the watcher is dropped; the
    /// owner drops it when `stop` is set.
    ///
    /// # Errors
    /// `Transient` where the system has no watch or no thread left.
    pub fn start(path: &Path, threads: &Threads, stop: &Stop, on_change: impl Fn() + Send + 'static) -> Result<Watcher> {
        let refused = |e: Errno| {
            Error::new(ErrorKind::Transient, format!("the configuration file cannot be watched: {e}"))
                .hint("raise fs.inotify.max_user_instances; until then SIGHUP reloads")
        };
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused)?);
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(refused)?;
        let mut watch = Watch { path: path.to_path_buf(), events, watched: BTreeSet::new(), last: Signature::of(path) };
        watch.renew().map_err(refused)?;
        let over = Stop::new();
        let (awake, ends, also) = (wake.clone(), over.clone(), stop.clone());
        threads.spawn("config-watch", STACK, stop, move || {
            while !ends.is_set() && !also.is_set() {
                match watch.wait(&awake) {
                    Ok(true) if !ends.is_set() && !also.is_set() => on_change(),
                    Ok(_) => {}
                    Err(e) => {
                        log::error!("the configuration file is no longer watched: {e}; SIGHUP still reloads it");
                        return;
                    }
                }
            }
        })?;
        Ok(Watcher { wake, over })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.set();
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes()); // it only fails where it is awake already
    }
}

/// What the events of a moment were about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Others,
    Ours,
}

/// Whether one of them can be read within `timeout`, or ever.
fn ready(fds: &[&OwnedFd], timeout: Option<&Timespec>) -> Result<bool, Errno> {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    match poll(&mut polled, timeout) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(e),
    }
}

struct Watch {
    path: PathBuf,
    events: OwnedFd,
    watched: BTreeSet<i32>,
    last: Signature,
}

impl Watch {
    /// Waits for the next change of the file that has settled; false where it was woken for the end or saw another file change.
    fn wait(&mut self, wake: &OwnedFd) -> Result<bool, Errno> {
        if !ready(&[&self.events, wake], None)? || ready(&[wake], Some(&NOW))? {
            return Ok(false);
        }
        let mut touched = false;
        for _ in 0..ROUNDS_MAX {
            // A burst of events costs one wake-up a round, not one each.
            if ready(&[wake], Some(&SETTLED))? {
                return Ok(false);
            }
            match self.drain()? {
                Seen::Nothing => break,
                Seen::Ours => touched = true,
                Seen::Others => {}
            }
        }
        // A directory may have taken the place of a watched one; then what is in it may be new, too.
        self.renew()?;
        if self.watched.is_empty() {
            self.renew()?; // its directory went away between looking and watching; the one above is next
        }
        let now = Signature::of(&self.path);
        let changed = touched || now != self.last;
        self.last = now;
        Ok(changed)
    }

    /// Takes all events that are there. Events of other names matter only if they change the file's signature.
    fn drain(&self) -> Result<Seen, Errno> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut seen = Seen::Nothing;
        loop {
            match reader.next() {
                Ok(event) => {
                    let named = event.file_name().is_some_and(|name| Some(name.to_bytes()) == self.name());
                    let ours = named && !event.events().contains(inotify::ReadFlags::ATTRIB);
                    seen = if ours || seen == Seen::Ours { Seen::Ours } else { Seen::Others };
                }
                Err(Errno::WOULDBLOCK) => return Ok(seen),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn name(&self) -> Option<&[u8]> {
        self.path.file_name().map(|name| name.as_encoded_bytes())
    }

    /// Watches the directories that matter now, and no others.
    fn renew(&mut self) -> Result<(), Errno> {
        let mut now = BTreeSet::new();
        for folder in folders(&self.path) {
            match inotify::add_watch(&self.events, &folder, flags()) {
                Ok(id) => drop(now.insert(id)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {} // went away meanwhile, or is not ours to see
                Err(e) => return Err(e),
            }
        }
        for gone in self.watched.difference(&now) {
            let _ = inotify::remove_watch(&self.events, *gone); // where its directory is gone, so is the watch
        }
        self.watched = now;
        Ok(())
    }
}

/// The directories whose events tell of the file: its own, or the nearest one above that is there, and the one where a link
/// leads.
fn folders(path: &Path) -> Vec<PathBuf> {
    let near = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let real = path.canonicalize().ok();
    near.into_iter().chain(real.as_deref().and_then(Path::parent)).map(Path::to_path_buf).collect()
}

/// What differs when a file was changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature(Option<(u64, u64, u64, i64, i64)>);

impl Signature {
    fn of(path: &Path) -> Signature {
        let meta = std::fs::metadata(path).ok();
        Signature(meta.map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec())))
    }
}
