//! Disks that fail, files that are wrong, a second process.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use super::*;
use crate::store::sqlite::schema;
use crate::store::{AuditEntry, StoreError};

fn refusal(path: &std::path::Path) -> String {
    SqliteStore::open(path, Clock::system(), &Threads::new()).unwrap_err().to_string()
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_heals() {
    let home = Home::new();
    let kept = accept_all(&home, &[("ana", "a1"), ("ana", "a2")]);
    let running = claim(&home).unwrap();
    home.shared.pages_max.store(1, Ordering::SeqCst); // SQLite takes the present size where that is more
    let big = || NewInbound { text: "x".repeat(100_000), ..hello("bob", "") };
    for _ in 0..3 {
        let refused = accept(&home, big());
        assert_eq!(refused, Err(StoreError::Unavailable("the disk is full (SQLite code 13)".into())));
        assert!(home.health(false).is_err());
    }
    let out = vec![NewOutbound { text: "y".repeat(100_000), ..letter("ana", "") }];
    let refused = home.finish_turn(answer(&running.message_id, "r", out.clone()));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(claim(&home), None, "the turn is still in its worker's hand");
    assert_eq!(home.messages(None, page(9)).unwrap().items.len(), 2, "reading goes on");
    home.shared.pages_max.store(0, Ordering::SeqCst);
    assert!(home.health(false).is_err(), "nothing was tried yet");
    assert_eq!((home.health(true), home.health(false)), (Ok(()), Ok(())));
    home.finish_turn(answer(&running.message_id, "r", out)).unwrap();
    accept(&home, big()).unwrap();
    assert_eq!(claim(&home).unwrap().message_id, kept[1]);
    assert_eq!(home.sql::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_batch_that_meets_a_full_disk_is_refused_whole() {
    let home = Home::new();
    home.shared.pages_max.store(1, Ordering::SeqCst);
    let outcomes: Vec<_> = std::thread::scope(|s| {
        let senders: Vec<_> = (0..32)
            .map(|n| {
                s.spawn({
                    let home = &home;
                    move || accept(home, NewInbound { text: "x".repeat(50_000), ..hello(&n.to_string(), "") })
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(outcomes.iter().all(|o| matches!(o, Err(StoreError::Unavailable(_)))), "{outcomes:?}");
    assert_eq!((home.sql::<i64>("SELECT count(*) FROM inbox"), home.depths().queued, claim(&home)), (0, 0, None));
}

#[test]
fn folder_and_files_are_for_their_owner_alone() {
    let mut home = Home::new();
    accept_all(&home, &[("ana", "hi")]);
    home.message("none").unwrap_err();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = home.path().parent().unwrap().to_path_buf();
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    assert_eq!(mode(&folder), 0o700);
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    home.die();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    home.open();
    assert_eq!(mode(&home.path()), 0o600);
}

#[test]
fn a_second_instance_is_refused_and_the_first_is_unharmed() {
    let mut home = Home::new();
    accept_all(&home, &[("ana", "hi")]);
    let (said, pid) = (refusal(&home.path()), std::process::id());
    let folder = home.path().parent().unwrap().display().to_string();
    assert!(said.starts_with(&format!("another gatelet (process {pid}) already uses {folder}. ")), "{said}");
    assert_eq!(claim_text(&home).as_deref(), Some("hi"));
    home.restart(); // a lock file that is left behind locks nobody out
}

#[test]
fn what_is_not_ours_is_refused_with_a_sentence_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatelet.db");
    let newer = |path: &std::path::Path| {
        let store = SqliteStore::open(path, Clock::system(), &Threads::new()).unwrap();
        store.close();
        drop(store);
        Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    };
    let foreign = |path: &std::path::Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let torn = |path: &std::path::Path| {
        let home = Home::new();
        accept_all(&home, &[("ana", "hi")]);
        home.store().close();
        let mut bytes = std::fs::read(home.path()).unwrap();
        bytes[1024..].fill(0xff);
        std::fs::write(path, bytes).unwrap();
    };
    type Make<'a> = &'a dyn Fn(&std::path::Path);
    let cases: [(&str, Make<'_>, &str); 5] = [
        ("newer", &newer, "comes from a newer gatelet (its version is 99, ours 6). run the newer gatelet"),
        ("foreign", &foreign, "another program's database. set store.path"),
        ("text", &|path| std::fs::write(path, "no database ".repeat(999)).unwrap(), "not a database, or its head is damaged"),
        ("torn", &torn, "the database is damaged (SQLite code 11). restore a backup"),
        ("folder", &|path| std::fs::create_dir(path).unwrap(), "not writable"),
    ];
    for (case, make, expected) in cases {
        make(&path);
        let before = std::fs::read(&path).ok();
        let said = refusal(&path);
        assert!(said.contains(expected) && said.contains("gatelet.db"), "{case}: {said}");
        assert!(before == std::fs::read(&path).ok(), "{case}: it was touched");
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(folder.path().join("gatelet.db-wal"));
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // Root may write anywhere but where there is nothing to write to.
    for path in ["/proc/gatelet/gatelet.db", "/dev/null/gatelet.db", "/sys/gatelet.db"] {
        let said = refusal(std::path::Path::new(path));
        assert!(said.contains("data directory") && said.contains(". "), "{path}: {said}");
    }
}

#[test]
fn migrations_run_from_any_version_and_only_once() {
    let conn = Connection::open_in_memory().unwrap();
    let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2)"];
    for upto in [1, 2, 2] {
        schema::migrate(&conn, &steps[..upto]).unwrap();
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, upto as i64);
    }
    assert_eq!(conn.query_row("SELECT sum(y) FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    let broken = [steps[0], steps[1], "CREATE TABLE b (x); CREATE TABLE a (x)"];
    assert!(schema::migrate(&conn, &broken).is_err());
    assert!(conn.prepare("SELECT * FROM b").is_err(), "a migration that fails leaves nothing");
    assert!(schema::migrate(&conn, &steps[..1]).is_err(), "a newer file is refused");
}

#[test]
fn an_audit_trail_is_kept_in_order() {
    let home = Home::new();
    for n in 0..3 {
        home.audit(AuditEntry { at_ms: n, actor: "admin".into(), action: "tried".into(), detail: serde_json::json!({"n": n}) });
    }
    home.health(true).unwrap(); // a write behind them
    let trail = home.audit_trail(page(2)).unwrap();
    assert_eq!(trail.items.iter().map(|e| e.at_ms).collect::<Vec<_>>(), [2, 1]);
    let rest = home.audit_trail(Page { cursor: trail.next, limit: 2 }).unwrap();
    assert_eq!((rest.items[0].detail.clone(), rest.next), (serde_json::json!({"n": 0}), None));
    home.clock.advance(Duration::from_secs(91 * 24 * 3600));
    home.prune().unwrap();
    assert_eq!(home.audit_trail(page(9)).unwrap().items, vec![]);
}
