//! The outbox: order per target, retries, dead letters, receipts, idempotency keys.

use super::*;
use crate::domain::DeliveryState;
use crate::store::StoreError;

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| d.message.as_str()).collect()
}

fn take_text(home: &Home) -> Option<String> {
    take(home).map(|d| d.message)
}

fn push(user: &str, text: &str, reply_to: Option<&str>) -> NewOutbound {
    NewOutbound {
        channel: "websocket".into(),
        handoff: Handoff::Receipt,
        in_reply_to: reply_to.map(Into::into),
        ..letter(user, text)
    }
}

#[test]
fn each_target_gets_one_at_a_time_and_in_order() {
    let home = Home::new();
    let room = |text: &str| NewOutbound { conversation: Some("room".into()), ..letter("a", text) };
    enqueue(&home, vec![letter("a", "a1"), letter("a", "a2"), letter("b", "b1"), room("r1"), room("r2")]).unwrap();
    let first: Vec<_> = std::iter::from_fn(|| take(&home)).collect();
    assert_eq!(texts(&first), ["a1", "b1", "r1"]);
    assert_eq!((first[0].state, first[0].attempts), (DeliveryState::Sending, 1));
    record(&home, &first[0], retry_after(5));
    record(&home, &first[2], Outcome::Sent);
    assert_eq!((take_text(&home).as_deref(), take_text(&home)), (Some("r2"), None), "a waits behind its head, others don't");
    assert_eq!(home.next_delivery_due(), Some(Duration::from_secs(5)));
    home.clock.advance(Duration::from_secs(5));
    let again = take(&home).unwrap();
    assert_eq!((again.id.as_str(), again.attempts, again.last_error.as_deref()), (first[0].id.as_str(), 2, Some("busy")));
    record(&home, &again, Outcome::Sent);
    assert_eq!((take_text(&home).as_deref(), home.next_delivery_due()), (Some("a2"), None));
}

#[test]
fn a_pause_longer_than_a_quarter_of_an_hour_is_kept() {
    let home = Home::new();
    enqueue(&home, vec![letter("a", "a1")]).unwrap();
    record(&home, &take(&home).unwrap(), retry_after(3600));
    home.clock.advance(Duration::from_secs(3599));
    assert_eq!(take(&home), None);
    home.clock.advance(Duration::from_secs(1));
    assert_eq!(take_text(&home).as_deref(), Some("a1"));
}

#[test]
fn a_try_that_was_none_is_not_counted() {
    let home = Home::new();
    enqueue(&home, vec![letter("a", "a1")]).unwrap();
    record(&home, &take(&home).unwrap(), Outcome::Untried);
    assert_eq!(take(&home).unwrap().attempts, 1);
    let home = Home::new();
    enqueue(&home, vec![letter("a", "a1"), letter("b", "b1")]).unwrap();
    // A channel that is down for ten minutes: others go on, and no try is spent.
    for _ in 0..60 {
        let held = take(&home).unwrap();
        assert_eq!((held.message.as_str(), held.attempts), ("a1", 1));
        record(&home, &held, Outcome::Held { after: Duration::from_secs(10), reason: "it is down".into() });
        if let Some(other) = take(&home) {
            record(&home, &other, Outcome::Sent);
        }
        assert_eq!(take(&home), None);
        home.clock.advance(Duration::from_secs(10));
    }
    let at_last = take(&home).unwrap();
    assert_eq!((at_last.attempts, at_last.last_error.as_deref()), (1, Some("it is down")));
}

#[test]
fn a_dead_letter_is_kept_and_revived_at_its_place() {
    let home = Home::new();
    enqueue(&home, vec![letter("a", "a1"), letter("a", "a2"), letter("a", "a3")]).unwrap();
    let first = take(&home).unwrap();
    record(&home, &first, Outcome::Dead { reason: "gone".into() });
    let dead = home.delivery(&first.id).unwrap();
    assert_eq!((dead.state, dead.attempts, dead.last_error.as_deref()), (DeliveryState::Dead, 1, Some("gone")));
    assert!(matches!(
        home.record_attempt(Attempt { delivery_id: first.id.clone(), outcome: Outcome::Sent }),
        Err(StoreError::Conflict(_))
    ));
    let second = take(&home).unwrap();
    assert_eq!((second.message.as_str(), home.depths().pending), ("a2", 2));
    assert!(matches!(home.retry_delivery(&second.id), Err(StoreError::Conflict(_))));
    assert!(matches!(home.drop_delivery(&second.id), Err(StoreError::Conflict(_))), "it is being sent");
    let revived = home.retry_delivery(&first.id).unwrap();
    assert_eq!((revived.state, revived.attempts), (DeliveryState::Pending, 0), "it has all its tries again");
    record(&home, &second, retry_after(60));
    assert_eq!(take(&home).unwrap().id, first.id, "the revived one is older, and not put off");
    record(&home, &first, Outcome::Sent);
    assert_eq!(take(&home), None);
    home.drop_delivery(&second.id).unwrap();
    assert_eq!(take_text(&home).as_deref(), Some("a3"), "what was put off is gone, with its pause");
    assert_eq!(home.delivery(&second.id), Err(StoreError::NotFound));
    assert_eq!(home.retry_delivery(&second.id), Err(StoreError::NotFound));
    assert_eq!(home.drop_delivery(&second.id), Err(StoreError::NotFound));
}

#[test]
fn deliveries_are_listed_by_state() {
    let home = Home::new();
    let letters = ["a", "b", "c", "d", "e"].map(|user| letter(user, user)).to_vec();
    enqueue(&home, letters).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| take(&home)).take(4).collect();
    record(&home, &taken[0], Outcome::Sent);
    record(&home, &taken[1], Outcome::Dead { reason: "no".into() });
    record(&home, &taken[2], retry_after(9));
    let list = |state| texts(&home.deliveries(state, page(9)).unwrap().items).join("");
    for (state, expected) in [
        (None, "edcba"),
        (Some(DeliveryState::Pending), "ec"),
        (Some(DeliveryState::Sending), "d"),
        (Some(DeliveryState::Sent), "a"),
        (Some(DeliveryState::Dead), "b"),
        (Some(DeliveryState::Unknown), ""),
    ] {
        assert_eq!(list(state), expected, "{state:?}");
    }
    let first = home.deliveries(None, page(3)).unwrap();
    let rest = home.deliveries(None, Page { cursor: first.next, limit: 3 }).unwrap();
    assert_eq!((texts(&rest.items), rest.next), (vec!["b", "a"], None));
}

#[test]
fn a_receipt_settles_by_delivery_or_by_message_and_only_the_users_own() {
    let home = Home::new();
    let id = accept_all(&home, &[("ana", "hi")]).remove(0);
    claim(&home).unwrap();
    let replies = vec![push("ana", "1", Some(&id)), push("ana", "2", Some(&id))];
    home.finish_turn(answer(&id, "r", replies)).unwrap();
    let third = enqueue(&home, vec![push("ana", "3", None), push("bob", "4", Some("msg_elsewhere"))]).unwrap();
    assert_eq!((take(&home), home.depths().unacknowledged, home.depths().pending), (None, 4, 0), "no worker takes them");
    let waits = |user: &str| home.unacknowledged("websocket", user, 9).unwrap().len();
    for (user, channel, named, settled, left) in [
        ("bob", "websocket", third[0].id.as_str(), 0, 3),
        ("ana", "door", &third[0].id, 0, 3),
        ("ana", "websocket", "nothing", 0, 3),
        ("ana", "websocket", &third[0].id, 1, 2),
        ("ana", "websocket", &third[0].id, 0, 2),
        ("ana", "websocket", &id, 2, 0),
        ("bob", "websocket", "msg_elsewhere", 1, 0),
    ] {
        assert_eq!(home.acknowledge(channel, user, named), Ok(settled), "{user} {named}");
        assert_eq!(waits("ana"), left, "{user} {named}");
    }
    assert_eq!((waits("bob"), home.depths().unacknowledged), (0, 0));
    let sent = home.delivery(&third[0].id).unwrap();
    assert_eq!((sent.state, sent.sent_ms), (DeliveryState::Sent, Some(NOW_MS)));
}

#[test]
fn what_nobody_confirms_is_bounded_and_ends_as_dead_letters() {
    let mut home = Home::new();
    for hundred in 0..10 {
        enqueue(&home, (0..100).map(|n| push("ana", &(hundred * 100 + n).to_string(), None)).collect()).unwrap();
    }
    enqueue(&home, vec![push("bob", "b", None)]).unwrap();
    assert_eq!(home.depths().unacknowledged, 1001);
    enqueue(&home, vec![push("ana", "1000", None), push("ana", "1001", None)]).unwrap();
    let dead = home.deliveries(Some(DeliveryState::Dead), page(9)).unwrap().items;
    assert_eq!(texts(&dead), ["1", "0"]);
    assert!(dead[0].last_error.as_deref().unwrap().contains("1000 messages"));
    let waiting = home.unacknowledged("websocket", "ana", 2).unwrap();
    assert_eq!((texts(&waiting), home.depths().unacknowledged), (vec!["2", "3"], 1001));
    home.crash();
    assert_eq!((home.depths().unacknowledged, home.recovery().unknown + home.recovery().resent), (1001, 0));
}

#[test]
fn an_idempotency_key_makes_a_repeat_harmless() {
    let mut home = Home::new();
    let ask = |home: &Home, caller: &str, digest: &str| {
        let key = Some((caller.to_string(), "k".to_string(), digest.to_string()));
        told(|done| home.enqueue(vec![letter("a", "1"), letter("b", "2")], key, done))
    };
    let first = ask(&home, "panel", "d").unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&home, "panel", "d").unwrap(), first);
        assert!(matches!(ask(&home, "panel", "other"), Err(StoreError::Conflict(_))));
        home.crash();
    }
    assert_ne!(ask(&home, "someone", "d").unwrap(), first);
    assert_eq!(home.depths().pending, 4);
    let at_once = |days: u64| {
        home.clock.advance(Duration::from_secs(days * 24 * 3600));
        home.prune().unwrap();
        let repeated = ask(&home, "panel", "d").unwrap();
        repeated[0].id == first[0].id
    };
    assert_eq!((at_once(6), at_once(2)), (true, false));
}

#[test]
fn pruning_takes_what_was_sent_and_leaves_what_a_person_may_want() {
    let home = Home::new();
    enqueue(&home, (0..1200).map(|n| letter("a", &n.to_string())).collect()).unwrap();
    for n in 0..1198 {
        let outcome = if n % 600 == 7 { Outcome::Dead { reason: "no".into() } } else { Outcome::Sent };
        record(&home, &take(&home).unwrap(), outcome);
    }
    accept_all(&home, &[("ana", "hi")]);
    answer_all(&home);
    assert_eq!(home.prune(), Ok(0), "nothing is old yet");
    home.clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(home.prune(), Ok(1196));
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM outbox"), 5);
    let ana = home.sessions_of("ana", 9, page(9)).unwrap().items.remove(0);
    assert_eq!(ana.transcript.len(), 2, "transcripts stay");
    home.erase_user("ana").unwrap();
    home.clock.advance(Duration::from_secs(8 * 24 * 3600));
    accept_all(&home, &[("bob", "hi")]);
    home.prune().unwrap();
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM inbox"), 1, "of an erased user nothing stays but for a while");
}
