//! Turns: order, fairness, ends, retries.

use std::sync::Mutex;

use super::*;
use crate::domain::{MessageState, Step, StepKind};
use crate::store::StoreError;

#[test]
fn sessions_take_turns_and_each_keeps_its_order() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("c", "c2")]);
    assert_eq!(answer_all(&home), ["a1", "b1", "c1", "a2", "c2", "a3"]);
    assert_eq!(claim(&home), None);
}

#[test]
fn a_session_has_one_turn_at_a_time() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1"), ("a", "a2"), ("b", "b1")]);
    let first = claim(&home).unwrap();
    assert_eq!((claim_text(&home).as_deref(), claim_text(&home)), (Some("b1"), None));
    accept_all(&home, &[("a", "a3")]);
    assert_eq!(claim(&home), None, "a further message doesn't open the session");
    home.finish_turn(answer(&first.message_id, "r", vec![])).unwrap();
    assert_eq!((claim_text(&home).as_deref(), claim_text(&home)), (Some("a2"), None));
}

#[test]
fn four_workers_keep_the_order_of_forty_sessions() {
    let home = Home::new();
    let told = Mutex::new(std::collections::HashMap::<String, Vec<u32>>::new());
    std::thread::scope(|s| {
        for sender in 0..4 {
            let home = &home;
            s.spawn(move || {
                for n in 0..20 {
                    for user in 0..10 {
                        accept(home, hello(&format!("u{sender}-{user}"), &n.to_string())).unwrap();
                    }
                }
            });
        }
        for _ in 0..4 {
            s.spawn(|| {
                let done = || told.lock().unwrap().values().map(Vec::len).sum::<usize>() == 800;
                while !done() {
                    let Some(claim) = claim(&home) else {
                        std::thread::yield_now();
                        continue;
                    };
                    told.lock().unwrap().entry(claim.user_id).or_default().push(claim.text.parse().unwrap());
                    home.finish_turn(answer(&claim.message_id, "r", vec![])).unwrap();
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), 40);
    for (user, order) in told {
        assert_eq!(order, (0..20).collect::<Vec<_>>(), "{user}");
    }
    assert_eq!(home.depths(), crate::store::Depths::default());
}

#[test]
fn a_turn_that_is_not_running_ends_without_a_trace() {
    let home = Home::new();
    let id = accept_all(&home, &[("ana", "hi")]).remove(0);
    let out = || vec![letter("ana", "reply")];
    let refused = |outcome: Result<Vec<Delivery>>| assert!(matches!(outcome, Err(StoreError::Conflict(_))), "{outcome:?}");
    refused(home.finish_turn(answer(&id, "not yet", out())));
    let claimed = claim(&home).unwrap();
    home.finish_turn(answer(&id, "first", out())).unwrap();
    refused(home.finish_turn(answer(&id, "second", out())));
    refused(home.fail_turn(&id, "late", out(), vec![]));
    assert!(matches!(home.defer_turn(&id, Duration::ZERO, "late"), Err(StoreError::Conflict(_))));
    assert!(matches!(home.release_turn(&id), Err(StoreError::Conflict(_))));
    let step = Step { kind: StepKind::Called, detail: String::new(), data: String::new(), at_ms: 0 };
    assert!(matches!(home.record_step(&id, step), Err(StoreError::Conflict(_))));
    assert_eq!(home.finish_turn(answer("msg_none", "", vec![])), Err(StoreError::NotFound));
    let texts: Vec<_> = home.history(&claimed.session_id, 9).unwrap().into_iter().map(|e| e.text).collect();
    assert_eq!((texts, home.deliveries(None, page(9)).unwrap().items.len()), (vec!["hi".to_string(), "first".into()], 1));
}

#[test]
fn a_turn_whose_delivery_cannot_be_written_is_not_finished_in_part() {
    let home = Home::new();
    let id = accept_all(&home, &[("ana", "hi")]).remove(0);
    let session = claim(&home).unwrap().session_id;
    let (out, mut twin) = (letter("ana", "one"), letter("ana", "two"));
    twin.id = out.id.clone();
    let outcome = home.finish_turn(answer(&id, "reply", vec![out.clone(), twin]));
    assert!(matches!(outcome, Err(StoreError::Conflict(_))), "{outcome:?}");
    assert_eq!(home.message(&id).unwrap().state, MessageState::Running);
    assert_eq!((home.history(&session, 9).unwrap(), home.deliveries(None, page(9)).unwrap().items), (vec![], vec![]));
    home.finish_turn(answer(&id, "reply", vec![out])).unwrap();
}

#[test]
fn a_deferred_session_waits_as_a_whole_by_the_monotonic_clock() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1"), ("b", "b1")]);
    let a = claim(&home).unwrap();
    home.defer_turn(&a.message_id, Duration::from_secs(10), "down").unwrap();
    accept_all(&home, &[("a", "a2")]);
    assert_eq!((claim_text(&home).as_deref(), claim_text(&home)), (Some("b1"), None));
    assert_eq!(home.next_turn_due(), Some(Duration::from_secs(10)));
    home.clock.jump(3_600_000);
    assert_eq!(claim(&home), None, "a wall clock that jumps wakes nothing");
    home.clock.advance(Duration::from_secs(10));
    assert_eq!(home.next_turn_due(), Some(Duration::ZERO));
    let again = claim(&home).unwrap();
    assert_eq!((again.text.as_str(), again.attempts, again.failures), ("a1", 2, 1));
    let kinds: Vec<_> = again.steps.iter().map(|s| s.kind).collect();
    assert_eq!((kinds, home.next_turn_due()), (vec![StepKind::Started, StepKind::Retried], None));
}

#[test]
fn a_failed_message_is_told_and_can_be_retried_at_its_place() {
    let home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2"), ("a", "a3")]);
    claim(&home).unwrap();
    home.defer_turn(&ids[0], Duration::ZERO, "down").unwrap();
    claim(&home).unwrap();
    let notice = NewOutbound { in_reply_to: Some(ids[0].clone()), ..letter("a", "sorry") };
    assert_eq!(home.fail_turn(&ids[0], "refused", vec![notice], vec![]).unwrap()[0].message, "sorry");
    assert_eq!(claim_text(&home).as_deref(), Some("a2"));
    home.retry_message(&ids[0]).unwrap();
    assert!(matches!(home.retry_message(&ids[0]), Err(StoreError::Conflict(_))));
    assert_eq!(claim(&home), None, "a2 still runs");
    home.finish_turn(answer(&ids[1], "r", vec![])).unwrap();
    let again = claim(&home).unwrap();
    assert_eq!((again.text.as_str(), again.failures, again.attempts), ("a1", 0, 3));
    home.finish_turn(answer(&ids[0], "r", vec![])).unwrap();
    assert_eq!(claim_text(&home).as_deref(), Some("a3"));
    let message = home.message(&ids[0]).unwrap();
    assert_eq!((message.state, message.error, message.deliveries.len()), (MessageState::Answered, None, 1));
    assert_eq!(home.retry_message("msg_none"), Err(StoreError::NotFound));
}

#[test]
fn a_journal_goes_on_where_it_was_cut_off() {
    let mut home = Home::new();
    let id = accept_all(&home, &[("a", "a1")]).remove(0);
    let long = "line\n".repeat(10_000);
    claim(&home).unwrap();
    for detail in ["short", &long] {
        home.record_step(&id, Step { kind: StepKind::Asked, detail: "x".into(), data: detail.into(), at_ms: NOW_MS + 1 })
            .unwrap();
    }
    home.crash();
    let steps = claim(&home).unwrap().steps;
    let kinds: Vec<_> = steps.iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [StepKind::Started, StepKind::Asked, StepKind::Asked, StepKind::Interrupted]);
    assert_eq!((steps[1].data.as_str(), steps[2].data == long), ("short", true));
    home.finish_turn(answer(&id, "r", vec![])).unwrap();
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM steps"), 0, "an answered turn needs no journal's details");
}

#[test]
fn a_journal_is_bounded() {
    let home = Home::new();
    let id = accept_all(&home, &[("a", "a1")]).remove(0);
    for _ in 0..200 {
        claim(&home).unwrap();
        home.defer_turn(&id, Duration::ZERO, &"ä".repeat(500)).unwrap();
    }
    let again = claim(&home).unwrap();
    assert_eq!((again.attempts, again.failures), (201, 200));
    assert!(again.steps.len() <= 64 && home.sql::<i64>("SELECT length(journal) FROM work") < 20_000);
}

#[test]
fn a_full_journal_drops_nothing_that_a_turn_goes_on_from() {
    let home = Home::new();
    let id = accept_all(&home, &[("a", "a1")]).remove(0);
    claim(&home).unwrap();
    for n in 0..1000 {
        let data = if n % 100 == 0 { format!("{n} ").repeat(99) } else { n.to_string() };
        home.record_step(&id, Step { kind: StepKind::Called, detail: "d".into(), data, at_ms: n }).unwrap();
        if n % 10 == 0 {
            home.record_step(&id, Step { at_ms: n, ..step(StepKind::Retried, "note") }).unwrap();
        }
    }
    let full = home.record_step(&id, step(StepKind::Result, "one more"));
    assert!(matches!(full, Err(StoreError::Conflict(_))), "{full:?}");
    home.release_turn(&id).unwrap();
    let steps = claim(&home).unwrap().steps;
    let (called, notes): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.kind == StepKind::Called);
    assert_eq!((called.len(), notes.len()), (1000, 64));
    for (n, step) in called.iter().enumerate() {
        assert!(step.at_ms == n as i64 && step.data.trim().split(' ').all(|word| word == n.to_string()), "{n}: {step:?}");
    }
    assert!(notes[0].at_ms > 300 && notes[63].kind == StepKind::Interrupted, "the oldest notes went");
    home.finish_turn(answer(&id, "r", vec![])).unwrap();
}

#[test]
fn a_released_turn_was_not_started() {
    let home = Home::new();
    let id = accept_all(&home, &[("a", "a1"), ("a", "a2")]).remove(0);
    claim(&home).unwrap();
    home.release_turn(&id).unwrap();
    let again = claim(&home).unwrap();
    assert_eq!((again.text.as_str(), again.attempts, again.failures), ("a1", 1, 0));
}
