//! What channels keep: cursors, and the parts of a delivery that were confirmed.

use super::*;
use crate::domain::DeliveryState;
use crate::store::StoreError;

fn at(cursor: &str, external: &str) -> NewInbound {
    NewInbound { cursor: Some(cursor.into()), external_id: Some(external.into()), ..hello("ana", "hi") }
}

fn cursor(home: &Home) -> Option<String> {
    home.cursor("door").unwrap()
}

#[test]
fn a_cursor_comes_with_its_message_also_where_that_is_known() {
    let mut home = Home::new();
    assert_eq!(cursor(&home), None);
    accept(&home, at("10", "1")).unwrap();
    accept(&home, hello("ana", "without")).unwrap();
    assert_eq!(cursor(&home).as_deref(), Some("10"), "a message without one leaves it");
    assert!(accept(&home, at("11", "1")).unwrap().duplicate);
    assert_eq!(cursor(&home).as_deref(), Some("11"));
    accept(&home, NewInbound { channel: "side".into(), ..at("5", "1") }).unwrap();
    home.crash();
    assert_eq!((cursor(&home).as_deref(), home.cursor("side").unwrap().as_deref()), (Some("11"), Some("5")));
    home.set_cursor("door", "9").unwrap();
    assert_eq!(cursor(&home).as_deref(), Some("9"), "what the service gives counts, not what is greater");
    home.crash();
    assert_eq!(cursor(&home).as_deref(), Some("9"));
}

#[test]
fn a_cursor_is_never_ahead_of_its_message() {
    let home = Home::new();
    let first = accept(&home, at("1", "a")).unwrap();
    // Refused alone, and refused with the disk.
    let twin = NewInbound { id: first.id, ..at("2", "b") };
    assert!(matches!(accept(&home, twin), Err(StoreError::Conflict(_))));
    assert_eq!(cursor(&home).as_deref(), Some("1"));
    home.shared.pages_max.store(1, std::sync::atomic::Ordering::SeqCst);
    let big = NewInbound { text: "x".repeat(100_000), ..at("3", "c") };
    assert!(matches!(accept(&home, big), Err(StoreError::Unavailable(_))));
    home.shared.pages_max.store(0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!((cursor(&home).as_deref(), home.sql::<i64>("SELECT count(*) FROM inbox")), (Some("1"), 1));
}

#[test]
fn a_cursor_is_durable_with_its_message_and_soft_alone_and_writes_nothing_twice() {
    let home = Home::new();
    let before = home.stats();
    home.set_cursor("door", "1").unwrap();
    assert_eq!((home.stats().commits - before.commits, home.stats().durable - before.durable), (1, 0));
    home.set_cursor("door", "1").unwrap();
    assert_eq!(home.stats().commits - before.commits, 1, "it says what is kept already");
    accept(&home, at("2", "a")).unwrap();
    accept(&home, at("3", "a")).unwrap();
    assert_eq!(home.stats().durable - before.durable, 2, "a duplicate's cursor, too, is acknowledged upstream");
}

fn parts(home: &Home, id: &str) -> (DeliveryState, u32) {
    let delivery = home.delivery(id).unwrap();
    let listed = home.deliveries(None, page(9)).unwrap().items;
    assert_eq!(listed.iter().find(|d| d.id == id).unwrap().parts_sent, delivery.parts_sent);
    (delivery.state, delivery.parts_sent)
}

#[test]
fn a_delivery_goes_on_behind_its_confirmed_parts_until_it_is_sent() {
    let mut home = Home::new();
    let id = enqueue(&home, vec![letter("ana", "long")]).unwrap().remove(0).id;
    assert!(matches!(home.record_part(&id, 1), Err(StoreError::Conflict(_))), "it is not being sent");
    assert_eq!(home.record_part("dlv_none", 1), Err(StoreError::NotFound));
    let first = take(&home).unwrap();
    assert_eq!(first.parts_sent, 0);
    let before = home.stats();
    home.record_part(&id, 1).unwrap();
    home.record_part(&id, 2).unwrap();
    assert_eq!((home.stats().commits - before.commits, home.stats().durable), (2, before.durable), "soft");
    home.record_part(&id, 1).unwrap();
    assert_eq!(parts(&home, &id), (DeliveryState::Sending, 2), "what was confirmed stays so");
    home.crash();
    let again = take(&home).unwrap();
    assert_eq!((again.parts_sent, again.attempts), (2, 2), "after a crash");
    record(&home, &again, retry_after(1));
    home.clock.advance(Duration::from_secs(1));
    let again = take(&home).unwrap();
    home.record_part(&id, 3).unwrap();
    record(&home, &again, Outcome::Untried);
    let again = take(&home).unwrap();
    assert_eq!(again.parts_sent, 3, "after a retry and a try that was none");
    record(&home, &again, Outcome::Dead { reason: "gone".into() });
    assert_eq!(parts(&home, &id), (DeliveryState::Dead, 3));
    home.restart();
    assert_eq!(home.retry_delivery(&id).unwrap().parts_sent, 3);
    let again = take(&home).unwrap();
    assert_eq!((again.parts_sent, again.attempts), (3, 1), "a dead one that is revived");
    record(&home, &again, Outcome::Sent);
    assert_eq!((parts(&home, &id), home.sql::<i64>("SELECT count(*) FROM parts")), ((DeliveryState::Sent, 0), 0));
}

#[test]
fn what_was_cut_off_keeps_its_parts_where_a_person_decides() {
    let mut home = Home::new();
    enqueue(&home, vec![letter("ana", "long")]).unwrap();
    let sending = home.claim_delivery(&|_| CutOff::Held).unwrap().unwrap();
    home.record_part(&sending.id, 4).unwrap();
    home.crash();
    assert_eq!(parts(&home, &sending.id), (DeliveryState::Unknown, 4));
    home.retry_delivery(&sending.id).unwrap();
    assert_eq!(take(&home).unwrap().parts_sent, 4);
}

#[test]
fn parts_go_with_their_delivery_and_not_to_the_next_one() {
    // A row's number may be given out again once the row is gone.
    let drop_it = |home: &Home, id: &str| home.drop_delivery(id).unwrap();
    let erase_it = |home: &Home, _: &str| assert_eq!(home.erase_user("ana"), Ok(0));
    type End<'a> = &'a dyn Fn(&Home, &str);
    let ways: [(&str, End<'_>); 2] = [("dropped", &drop_it), ("erased", &erase_it)];
    for (way, end) in ways {
        let home = Home::new();
        enqueue(&home, vec![letter("ana", "long")]).unwrap();
        let first = take(&home).unwrap();
        home.record_part(&first.id, 2).unwrap();
        record(&home, &first, Outcome::Dead { reason: "gone".into() });
        end(&home, &first.id);
        assert_eq!(home.sql::<i64>("SELECT count(*) FROM parts"), 0, "{way}");
        enqueue(&home, vec![letter("ana", "next")]).unwrap();
        assert_eq!(take(&home).unwrap().parts_sent, 0, "{way}");
    }
}
