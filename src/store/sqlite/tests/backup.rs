//! Copies of a database in use, and what such a copy does in another's place.

use super::*;
use crate::domain::{DeliveryState, Job, MessageState, When, Work};
use crate::store::sqlite::backup::{self, HeldBack};

fn copy_of(home: &Home, name: &str) -> PathBuf {
    let target = home.path().with_file_name(name);
    let mut last = (0, 0);
    backup::copy(&home.path(), &target, &mut |done, of| {
        assert!(done <= of && done >= last.0, "{done} of {of} after {last:?}");
        last = (done, of);
    })
    .unwrap();
    assert_eq!((last.0, std::fs::metadata(&target).unwrap().len()), (last.1, last.1), "all of it was reported");
    target
}

#[test]
fn what_waited_in_a_copy_is_held_and_can_be_retried() {
    let home = Home::new();
    let ids = accept_all(&home, &[("ana", "answered"), ("bob", "waits for a person"), ("eve", "queued")]);
    let first = claim(&home).unwrap();
    home.finish_turn(answer(&first.message_id, "yes", vec![letter("ana", "yes")])).unwrap();
    park(&home, &["rm"]);
    let receipt = NewOutbound { handoff: Handoff::Receipt, channel: "websocket".into(), ..letter("ana", "unseen") };
    enqueue(&home, vec![receipt, letter("zoe", "sent"), letter("zoe", "waits")]).unwrap();
    let taken: Vec<Delivery> = std::iter::from_fn(|| take(&home)).take(2).collect();
    record(&home, taken.iter().find(|d| d.message == "sent").unwrap(), Outcome::Sent);
    for channel in ["mqtt", "matrix"] {
        home.set_cursor(channel, "here").unwrap();
    }
    let job = |id: &str, next_ms| Job {
        id: id.into(),
        by: "admin".into(),
        when: When::Every(60_000),
        timezone: None,
        work: Work::Message("tick".into()),
        user_id: "ana".into(),
        channel: None,
        catch_up: true,
        enabled: true,
        next_ms: Some(next_ms),
        updated_ms: NOW_MS,
    };
    home.put_job(job("due", NOW_MS - 1)).unwrap();
    home.put_job(job("later", NOW_MS + 1_000_000)).unwrap();

    let copy = copy_of(&home, "copy.db");
    let held = backup::hold_back(&copy, &home.clock, "yesterday", &|channel| channel == "mqtt").unwrap();
    assert_eq!(held, HeldBack { deliveries: 3, messages: 2, jobs: 1 });
    backup::check(&copy).unwrap();
    let threads = Threads::new();
    let store = SqliteStore::open(&copy, home.clock.clone(), &threads).unwrap();
    assert!(!store.recovery().unclean, "nobody died");
    assert_eq!((claim(&store), take(&store)), (None, None), "nothing goes on by itself");
    assert!(store.unacknowledged("websocket", "ana", 10).unwrap().is_empty());
    let unknown = store.deliveries(Some(DeliveryState::Unknown), page(10)).unwrap().items;
    assert_eq!(unknown.len(), 3);
    assert!(unknown.iter().all(|d| d.last_error.as_deref().is_some_and(|e| e.contains("yesterday"))), "{unknown:?}");
    assert_eq!(store.message(&ids[0]).unwrap().state, MessageState::Answered);
    assert!(ids[1..].iter().all(|id| store.message(id).unwrap().state == MessageState::Failed));
    assert!(store.approvals(Some(ApprovalState::Pending), page(10)).unwrap().items.is_empty());
    assert_eq!((store.cursor("mqtt").unwrap().as_deref(), store.cursor("matrix").unwrap()), (Some("here"), None));
    assert_eq!((store.job("due").unwrap().next_ms, store.job("later").unwrap().next_ms), (None, Some(NOW_MS + 1_000_000)));
    assert_eq!(store.job_runs("due", page(10)).unwrap().items[0].outcome, "skipped");
    assert_eq!(store.audit_trail(page(1)).unwrap().items[0].action, "store.restored");
    // A person may have it done all the same.
    store.retry_message(&ids[2]).unwrap();
    assert_eq!(claim_text(&store).as_deref(), Some("queued"));
    let waits = unknown.iter().find(|d| d.message == "waits").unwrap();
    store.retry_delivery(&waits.id).unwrap();
    assert_eq!(take(&store).map(|d| d.id), Some(waits.id.clone()));
    store.close();
    // The original knows nothing of all that.
    assert_eq!(home.message(&ids[2]).unwrap().state, MessageState::Queued);
}

#[test]
fn what_is_no_whole_database_is_told() {
    let home = Home::new();
    accept_all(&home, &[("ana", &"x".repeat(200_000))]);
    let copy = copy_of(&home, "copy.db");
    backup::check(&copy).unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(&copy, &bytes).unwrap();
    let damaged = backup::check(&copy).unwrap_err();
    assert!(damaged.text.contains("damaged"), "{damaged}");
    std::fs::write(&copy, "no database, whatever it is called").unwrap();
    assert!(backup::check(&copy).is_err());
    assert!(backup::copy(&copy, &home.path().with_file_name("other.db"), &mut |_, _| {}).is_err());
}

#[test]
fn the_lock_tells_who_uses_a_database() {
    let mut home = Home::new();
    assert_eq!(backup::user_of(&home.path()), Some(std::process::id()));
    assert!(backup::lock(&home.path()).is_err());
    home.store().close();
    home.die();
    assert_eq!(backup::user_of(&home.path()), None);
    let lock = backup::lock(&home.path()).unwrap();
    assert!(SqliteStore::open(&home.path(), home.clock.clone(), &home.threads).is_err());
    drop(lock);
    home.open();
}
