//! The watch on a real folder: every way in which programs change a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::base::stop::Stop;
use crate::base::threads::Threads;
use crate::config::Watcher;

/// Longer than a change takes to settle.
const QUIET: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(10);

struct Watched {
    dir: tempfile::TempDir,
    path: PathBuf,
    calls: Receiver<()>,
    watcher: Option<Watcher>,
    threads: Threads,
}

impl Watched {
    fn new(name: &str, prepare: impl Fn(&Path)) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (path, threads) = (dir.path().join(name), Threads::new());
        let (tx, calls) = crossbeam_channel::unbounded();
        let watcher = Watcher::start(&path, &threads, &Stop::new(), move || tx.send(()).unwrap()).unwrap();
        Watched { dir, path, calls, watcher: Some(watcher), threads }
    }

    /// What happens leads to exactly one call.
    #[track_caller]
    fn once(&self, what: &str, happens: impl FnOnce(&Path)) {
        happens(&self.path);
        assert_eq!(self.calls.recv_timeout(LONG), Ok(()), "{what}");
        assert_eq!(self.calls.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout), "{what}: twice");
    }

    /// What happens leads to no call.
    #[track_caller]
    fn never(&self, what: &str, happens: impl FnOnce(&Path)) {
        happens(self.dir.path());
        assert_eq!(self.calls.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout), "{what}");
    }
}

#[test]
fn every_way_to_change_a_file() {
    let mut w = Watched::new("c.json", |dir| fs::write(dir.join("c.json"), "{}").unwrap());
    w.never("nothing", |_| {});
    w.once("written in place", |p| fs::write(p, "{\"log\":{}}").unwrap());
    w.once("renamed into its place", |p| {
        fs::write(p.with_extension("new"), "{}").unwrap();
        fs::rename(p.with_extension("new"), p).unwrap();
    });
    w.once("our own way", |p| crate::config::disk::replace(p, b"{\"jobs\":[]}").unwrap());
    w.once("many times at once", |p| (0..50).for_each(|i| fs::write(p, " ".repeat(i)).unwrap()));
    w.once("removed", |p| fs::remove_file(p).unwrap());
    w.once("made again", |p| fs::write(p, "{}").unwrap());
    w.never("another file", |dir| fs::write(dir.join("other"), "x").unwrap());
    w.never("read", |dir| drop(fs::read(dir.join("c.json")).unwrap()));
    let threads = w.threads.clone();
    w.watcher = None;
    assert!(threads.join(LONG).is_empty(), "it ends when it is dropped");
}

#[test]
fn a_replaced_directory() {
    let w = Watched::new("conf/c.json", |dir| {
        fs::create_dir_all(dir.join("conf")).unwrap();
        fs::write(dir.join("conf/c.json"), "{}").unwrap();
    });
    let conf = w.path.parent().unwrap().to_path_buf();
    w.once("the directory moved away", |_| fs::rename(&conf, conf.with_extension("old")).unwrap());
    w.never("the old place means nothing now", |dir| fs::write(dir.join("conf.old/c.json"), "x").unwrap());
    w.once("another one in its place", |p| {
        fs::create_dir(&conf).unwrap();
        fs::write(p, "{\"log\":{}}").unwrap();
    });
    w.once("and written there", |p| fs::write(p, "{}").unwrap());
}

#[test]
fn a_link_to_elsewhere() {
    let w = Watched::new("c.json", |dir| {
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/1.json"), "{}").unwrap();
        fs::write(dir.join("real/2.json"), "{ }").unwrap();
        std::os::unix::fs::symlink("real/1.json", dir.join("c.json")).unwrap();
    });
    w.once("its target", |p| fs::write(p, "{\"log\":{}}").unwrap());
    w.once("the link itself", |p| {
        let new = p.with_extension("new");
        std::os::unix::fs::symlink("real/2.json", &new).unwrap();
        fs::rename(&new, p).unwrap();
    });
    w.once("the new target", |p| fs::write(p, "{\"jobs\":[]}").unwrap());
}
