//! The writer: group commit, commands that fail alone, panics, a full queue, the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::StoreError;
use crate::store::sqlite::sql::{Sql, conflict};

/// Holds the writer until the sender is dropped, so that commands pile up behind it.
fn hold(home: &Home) -> crossbeam_channel::Sender<()> {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let (begun, begins) = crossbeam_channel::bounded(1);
    let work = move |_: &Sql<'_>| {
        let _ = begun.send(());
        let _ = held.recv();
        Ok(())
    };
    home.submit(true, work, Box::new(|_| {}));
    wait(&begins);
    release
}

#[test]
fn what_waits_together_is_committed_together() {
    let home = Home::new();
    let (tell, told) = crossbeam_channel::unbounded();
    let held = hold(&home);
    let before = home.stats();
    for n in 0..300 {
        let tell = tell.clone();
        home.accept(hello(&n.to_string(), "x"), Box::new(move |outcome| tell.send(outcome.unwrap()).unwrap()));
    }
    drop(held);
    for _ in 0..300 {
        wait(&told);
    }
    let after = home.stats();
    assert_eq!((after.commands - before.commands, after.commits - before.commits, after.durable - before.durable), (300, 2, 2));
    std::thread::scope(|s| {
        for n in 0..64 {
            let home = &home;
            s.spawn(move || (0..20).for_each(|_| drop(accept(home, hello(&n.to_string(), "x")).unwrap())));
        }
    });
    let commits = home.stats().commits - after.commits;
    assert!(commits < 64 * 20 / 2, "{commits} commits of {} messages", 64 * 20);
}

#[test]
fn soft_writes_do_not_wait_for_the_disk_and_a_durable_one_takes_them_along() {
    let home = Home::new();
    let id = accept_all(&home, &[("a", "1")]).remove(0);
    let start = home.stats();
    claim(&home).unwrap();
    home.defer_turn(&id, Duration::ZERO, "down").unwrap();
    claim(&home).unwrap();
    assert_eq!((home.stats().commits - start.commits, home.stats().durable), (3, start.durable));
    home.finish_turn(answer(&id, "r", vec![letter("a", "r")])).unwrap();
    let sent = take(&home).unwrap();
    record(&home, &sent, Outcome::Sent);
    assert_eq!(home.stats().durable - start.durable, 1, "two waits in a message's life: accept and finish");
    let before = home.stats();
    assert_eq!((claim(&home), take(&home), home.next_turn_due()), (None, None, None));
    assert_eq!(home.stats(), before, "looking for work writes nothing");
}

#[test]
fn a_bad_command_and_a_panic_fail_alone() {
    let home = Home::new();
    let (tell, told) = crossbeam_channel::unbounded();
    let held = hold(&home);
    let twin = hello("ana", "twin");
    for (n, message) in [hello("ana", "1"), twin.clone(), twin, hello("bob", "2")].into_iter().enumerate() {
        let tell = tell.clone();
        home.accept(message, Box::new(move |outcome| tell.send((n, outcome.map(drop))).unwrap()));
        if n == 1 {
            let undone = |sql: &Sql<'_>| {
                sql.exec("DELETE FROM inbox", ())?;
                sql.count(|depths| depths.queued += 1000);
                panic!("inside a command");
            };
            home.submit(false, undone, Box::new(|_: Result<()>| panic!("inside what is told")));
            let refused = |sql: &Sql<'_>| {
                sql.exec("DELETE FROM work", ())?;
                conflict::<()>("no")
            };
            home.submit(false, refused, Box::new(|_| {}));
        }
    }
    drop(held);
    let mut outcomes: Vec<_> = (0..4).map(|_| wait(&told)).collect();
    outcomes.sort_by_key(|(n, _)| *n);
    let ok: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.is_ok()).collect();
    assert_eq!(ok, [true, true, false, true], "{outcomes:?}");
    assert_eq!((home.depths().queued, home.threads.panics(), home.health(true)), (3, 2, Ok(())));
    assert_eq!(answer_all(&home), ["1", "2", "twin"]);
}

#[test]
fn a_full_queue_is_busy_at_once_and_keeps_the_audit() {
    let home = Home::new();
    let held = hold(&home);
    let (told, busy) = (std::sync::Arc::new(AtomicUsize::new(0)), std::sync::Arc::new(AtomicUsize::new(0)));
    for n in 0..2000 {
        let (told, busy) = (told.clone(), busy.clone());
        let done = move |outcome| {
            told.fetch_add(1, Ordering::SeqCst);
            if outcome == Err(StoreError::Busy) {
                busy.fetch_add(1, Ordering::SeqCst);
            }
        };
        home.accept(hello(&n.to_string(), "x"), Box::new(done));
    }
    assert_eq!((busy.load(Ordering::SeqCst), told.load(Ordering::SeqCst)), (2000 - 1024, 2000 - 1024));
    let entry = |n| crate::store::AuditEntry { at_ms: n, actor: "a".into(), action: "b".into(), detail: serde_json::Value::Null };
    (0..10).for_each(|n| home.audit(entry(n)));
    drop(held);
    home.health(true).unwrap();
    assert_eq!((told.load(Ordering::SeqCst), home.depths().queued), (2000, 1024));
    assert_eq!(home.audit_trail(page(99)).unwrap().items.len(), 10);
}

#[test]
fn closing_writes_what_waits_and_leaves_one_file() {
    let mut home = Home::new();
    let (tell, told) = crossbeam_channel::unbounded();
    let held = hold(&home);
    for n in 0..500 {
        let tell = tell.clone();
        home.accept(hello(&n.to_string(), "x"), Box::new(move |outcome| tell.send(outcome.map(drop)).unwrap()));
    }
    let store = home.store();
    std::thread::scope(|s| {
        s.spawn(|| store.close());
        drop(held);
    });
    assert_eq!((0..500).map(|_| wait(&told)).filter(std::result::Result::is_ok).count(), 500);
    let stopped = Err(StoreError::Stopped);
    assert_eq!(accept(&home, hello("a", "x")).map(drop), stopped);
    assert_eq!((home.claim_turn().map(drop), home.message("m").map(drop)), (stopped.clone(), stopped.clone()));
    assert_eq!((home.health(true), home.release_turn("m").map(drop)), (stopped.clone(), stopped));
    home.close();
    let left = std::fs::read_dir(home.path().parent().unwrap()).unwrap().map(|f| f.unwrap().file_name()).collect::<Vec<_>>();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with("-wal")), "{left:?}");
    assert_eq!(home.threads.join(Duration::from_secs(5)), Vec::<String>::new());
    drop(store);
    home.crash();
    assert_eq!((home.recovery().unclean, home.depths().queued), (false, 500));
}

#[test]
fn a_store_that_is_dropped_by_its_own_writer_does_not_hang() {
    let threads = Threads::new();
    let store = SqliteStore::memory(Clock::system(), &threads).unwrap();
    let folder = store.temporary.clone().unwrap();
    let (own, clock) = (store.clone(), Clock::system());
    let held = std::sync::Mutex::new(Some(own));
    store.accept(hello("a", "x"), Box::new(move |_| drop(held.lock().unwrap().take())));
    drop(store);
    assert_eq!(threads.join(Duration::from_secs(10)), Vec::<String>::new());
    assert!(clock.mono() < Duration::from_secs(5) && !folder.exists());
}

#[test]
fn readers_see_one_state_and_do_not_wait_for_the_writer() {
    let home = Home::new();
    let id = accept_all(&home, &[("ana", "hi")]).remove(0);
    let held = hold(&home);
    std::thread::scope(|s| {
        for _ in 0..16 {
            s.spawn(|| (0..50).for_each(|_| assert_eq!(home.message(&id).unwrap().message, "hi")));
        }
    });
    drop(held);
}

#[test]
fn what_a_message_writes_is_bounded() {
    // Measured before there were tools and usage: 10,462 bytes either way. The list of what pages are for costs 1 to 3 %, and how
    // what need not wait for the disk falls into commits another 1 to 2 on a busy machine.
    for (spent, most) in [(false, 11_200), (true, 11_900)] {
        let home = Home::new();
        let log = home.path().with_extension("db-wal");
        let one = |n: usize| {
            accept(&home, NewInbound { external_id: Some(format!("ext-{n}")), ..hello(&format!("u{}", n % 5), "hi") }).unwrap();
            let claim = claim(&home).unwrap();
            let reply = "Hello there, what can I do for you?";
            let to = (Some(claim.message_id.clone()), Some(claim.session_id.clone()));
            let out = NewOutbound { in_reply_to: to.0, session_id: to.1, ..letter(&claim.user_id, reply) };
            let mut turn = answer(&claim.message_id, reply, vec![out]);
            if !spent {
                turn.spent.clear();
            }
            home.finish_turn(turn).unwrap();
            let sent = take(&home).unwrap();
            record(&home, &sent, Outcome::Sent);
        };
        (0..50).for_each(one);
        let before = std::fs::metadata(&log).unwrap().len();
        (50..150).for_each(one);
        let each = (std::fs::metadata(&log).unwrap().len() - before) / 100;
        assert!((5_000..most).contains(&each), "{each} bytes for a message, spent {spent}");
    }
}
