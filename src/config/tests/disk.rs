//! Files: where they are, atomic writes, the last configuration that worked, the token.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use super::{CANARY, lines};
use crate::config::disk;
use crate::config::files::*;
use crate::config::{TokenSource, parse, text};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn places(dir: &Path) -> Places {
    let file = dir.join("gatelet.json");
    Places { file: Some(file.clone()), target: file, data_dir: dir.to_path_buf(), passed: None }
}

fn no_vars(_: &str) -> Option<String> {
    None
}

#[test]
fn where_things_are() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("usual.json"), "{}").unwrap();
    let find = |config: Option<&str>, data: Option<&str>, usual: &str, vars: &[(&str, &str)]| {
        let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        let usual = at(usual);
        let found = Places::find_among(&[usual.to_str().unwrap()], config.map(Path::new), data.map(Path::new), &var);
        found.map(|p| (p.file.map(|f| f.to_str().unwrap().to_string()), p.data_dir.to_str().unwrap().to_string()))
    };
    let usual = Some(at("usual.json").to_str().unwrap().to_string());
    let home = ("HOME", "/home/a");
    let some = |s: &str| Some(s.to_string());
    for (config, data, name, vars, expected) in [
        (None, None, "usual.json", &[home][..], Some((usual.clone(), "/home/a/.local/state/gatelet"))),
        (None, None, "absent.json", &[home], Some((None, "/home/a/.local/state/gatelet"))),
        (Some("/x/c.json"), Some("/x/d"), "usual.json", &[home, ("GATELET_CONFIG", "/y")], Some((some("/x/c.json"), "/x/d"))),
        (
            None,
            None,
            "usual.json",
            &[("GATELET_CONFIG", "/y"), ("GATELET_DATA_DIR", "/d"), ("STATE_DIRECTORY", "/s")],
            Some((some("/y"), "/d")),
        ),
        (
            None,
            None,
            "usual.json",
            &[home, ("GATELET_CONFIG", ""), ("STATE_DIRECTORY", "/s/a:/s/b")],
            Some((usual.clone(), "/s/a")),
        ),
        (None, None, "usual.json", &[home, ("XDG_STATE_HOME", "/xdg")], Some((usual.clone(), "/xdg/gatelet"))),
        (
            None,
            None,
            "usual.json",
            &[home, ("XDG_STATE_HOME", "relative")],
            Some((usual.clone(), "/home/a/.local/state/gatelet")),
        ),
        (None, None, "usual.json", &[], None),
    ] {
        let found = find(config, data, name, vars);
        assert_eq!(found.ok(), expected.map(|(f, d)| (f, d.to_string())), "{config:?} {data:?} {vars:?}");
    }
    // Whoever finds nothing there may have meant another place, if it is one: a link to where only root may look counts.
    std::os::unix::fs::symlink("/nowhere", at("service")).unwrap();
    let here = places(dir.path());
    assert!(here.or_else_in(&at("service")).is_some_and(|hint| hint.ends_with("/service")));
    assert_eq!(here.or_else_in(&at("absent")), None);
    assert_eq!(here.or_else_in(dir.path()), None);
    // The last place is the data directory, and PUT writes there where there is nothing.
    let data = dir.path().to_str().unwrap();
    assert_eq!(find(None, Some(data), "absent.json", &[]).unwrap().0, None);
    fs::write(at("gatelet.json"), "{}").unwrap();
    assert_eq!(find(None, Some(data), "absent.json", &[]).unwrap().0, at("gatelet.json").to_str().map(String::from));
}

#[test]
fn the_data_directory_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut here = places(&dir.path().join("a/b"));
    here.make_data_dir().unwrap();
    here.make_data_dir().unwrap();
    assert_eq!(mode(&here.data_dir), 0o700);
    fs::write(dir.path().join("file"), "").unwrap();
    here.data_dir = dir.path().join("file");
    assert!(here.make_data_dir().unwrap_err().to_string().contains("cannot be made"));
}

#[test]
fn writing_is_atomic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    disk::replace(&path, b"one").unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"one"[..], 0o600));
    // The old file's mode stays, a crash's leavings go, a link stays a link.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(dir.path().join(".c.json.tmp"), "half").unwrap();
    let link = dir.path().join("link.json");
    symlink("c.json", &link).unwrap();
    disk::replace(&link, b"two").unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o640));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(dir.path()), ["c.json", "link.json"]);
}

#[test]
fn a_failed_write_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    fs::write(&path, "old").unwrap();
    // Something that can't be removed stands where the new file is written.
    fs::create_dir(dir.path().join(".c.json.tmp")).unwrap();
    assert!(disk::replace(&path, b"new").is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    fs::remove_dir(dir.path().join(".c.json.tmp")).unwrap();
    // The new file can't take its place: a folder stands there.
    let folder = dir.path().join("d.json");
    fs::create_dir_all(folder.join("x")).unwrap();
    assert!(disk::replace(&folder, b"new").is_err());
    assert!(disk::replace(&dir.path().join("absent/c.json"), b"new").is_err());
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    symlink(&a, &b).unwrap();
    symlink(&b, &a).unwrap();
    assert!(disk::replace(&a, b"new").is_err(), "links in a circle");
    assert_eq!(names(dir.path()), ["a", "b", "c.json", "d.json"]);
}

/// A reader at any moment sees the old document or the new one, whole.
#[test]
fn a_reader_never_sees_a_mixture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    let documents = [1, 2].map(|n| text(&json!({"log": {}, "users": {"a".repeat(5000 * n): {}}})));
    disk::replace(&path, documents[0].as_bytes()).unwrap();
    let (threads, seen) = (crate::base::threads::Threads::new(), path.clone());
    let (tx, rx) = crossbeam_channel::bounded::<()>(0);
    let expected = documents.clone();
    threads
        .spawn_once("reader", 1 << 20, move || {
            while rx.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                let found = fs::read_to_string(&seen).unwrap();
                assert!(expected.contains(&found), "{} bytes", found.len());
            }
        })
        .unwrap();
    (0..100).for_each(|i| disk::replace(&path, documents[i % 2].as_bytes()).unwrap());
    drop(tx);
    assert!(threads.join(std::time::Duration::from_secs(10)).is_empty());
    assert_eq!(threads.panics(), 0);
}

#[test]
fn the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let here = places(dir.path());
    let file = here.file.clone().unwrap();

    // No file and nothing kept: the file was named, so that is a problem.
    let found = lines(load(&here, &no_vars).unwrap_err());
    assert_eq!(found, [format!("$: {}: there is no such file", file.display())]);
    // No file named: the empty document.
    let none = Places { file: None, ..here.clone() };
    assert_eq!(load(&none, &no_vars).unwrap().doc, json!({}));

    fs::write(&file, r#"{"log": {"level": "debug"}}"#).unwrap();
    let loaded = load(&here, &no_vars).unwrap();
    assert!(!loaded.used_last_good && loaded.problems.is_empty());
    keep_last_good(&here, &loaded.doc).unwrap();
    assert_eq!(mode(&here.last_good()), 0o600);
    let ino = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = ino(&here.last_good());
    keep_last_good(&here, &loaded.doc).unwrap();
    assert_eq!(ino(&here.last_good()), before, "the same one is not written again");

    for bad in ["", "{", "[]", r#"{"lgo": {}}"#, r#"{"log": {"level": "loud"}}"#, r#"{"gateway": {"auth": {"token": "short"}}}"#]
    {
        fs::write(&file, bad).unwrap();
        let loaded = load(&here, &no_vars).unwrap();
        assert!(loaded.used_last_good && loaded.problems.len() == 1, "{bad}");
        assert_eq!(loaded.resolved.config.log.level, ::log::LevelFilter::Debug);
        assert!(load_file(&here, &no_vars).is_err());
    }
    fs::remove_file(&file).unwrap();
    assert!(load(&here, &no_vars).unwrap().used_last_good, "a file that was wiped");
    fs::write(here.last_good(), "{").unwrap();
    assert_eq!(load(&here, &no_vars).unwrap_err().len(), 1, "the file's problems, not the copy's");
}

#[test]
fn saving_and_loading() {
    let dir = tempfile::tempdir().unwrap();
    let here = places(dir.path());
    let doc = json!({"gateway": {"auth": {"token": CANARY}}, "agents": {"b": {}, "a": {}}});
    save(&here, &doc).unwrap();
    assert_eq!(mode(&here.target), 0o600);
    let loaded = load(&here, &no_vars).unwrap();
    assert_eq!(loaded.doc.to_string(), doc.to_string(), "in the same order");
    let long = json!({"agents": {"a": {"systemPrompt": "x".repeat(1 << 20)}}});
    assert!(save(&here, &long).is_err());
    assert_eq!(parse(&fs::read(&here.target).unwrap()).unwrap(), doc);
}

#[test]
fn the_token_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let (token, made) = ensure_token(dir.path()).unwrap();
    assert!(made && token.reveal().len() == 43 && mode(&dir.path().join(TOKEN_FILE)) == 0o600);
    let (again, made) = ensure_token(dir.path()).unwrap();
    assert!(!made && again.matches(token.reveal()));
    assert_eq!(names(dir.path()), [TOKEN_FILE]);
    let here = Places { file: None, target: dir.path().join("x"), data_dir: dir.path().to_path_buf(), passed: None };
    let loaded = load(&here, &no_vars).unwrap();
    assert_eq!(loaded.resolved.token, TokenSource::Kept);
    assert!(loaded.resolved.config.gateway.auth.token.is_some_and(|t| t.matches(token.reveal())));
    fs::write(dir.path().join(TOKEN_FILE), "").unwrap();
    assert!(ensure_token(dir.path()).unwrap_err().to_string().contains("remove it"));
    assert!(ensure_token(&dir.path().join("absent")).is_err());
}

#[test]
fn what_is_no_file_does_not_hold_us() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
        assert!(disk::read(path, 10).is_err(), "{}", path.display());
    }
    fs::write(dir.path().join("long"), "x".repeat(100)).unwrap();
    assert_eq!(disk::read(&dir.path().join("long"), 10).unwrap().len(), 11);
}

/// `sudo gatelet token new` on a service's files.
#[test]
fn what_root_writes_belongs_to_whom_it_is_for() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can give a file away, and nothing is given then
    }
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(4321), Some(4322)).unwrap();
    let owner = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    let file = dir.path().join("token");
    assert!(disk::create(&file, b"one").unwrap());
    assert_eq!(owner(&file), (4321, 4322), "a new file: its folder's owner");
    chown(&file, Some(0), Some(4323)).unwrap();
    disk::replace(&file, b"two").unwrap();
    assert_eq!((owner(&file), fs::read(&file).unwrap().as_slice()), ((0, 4323), b"two".as_slice()), "one that is there: its own");
}
