//! Messages that are answered together.

use super::*;
use crate::domain::{MessageState, Said, Standing};
use crate::store::{StoreError, Withdrawn};

fn wrote(home: &Home, user: &str, text: &str) -> String {
    put(home, NewInbound { collect: true, ..hello(user, text) })
}

fn put(home: &Home, message: NewInbound) -> String {
    accept(home, NewInbound { received_ms: home.clock.unix_ms(), ..message }).unwrap().id
}

fn quiet(home: &Home) {
    home.clock.advance(Duration::from_secs(2));
}

/// A turn's texts, the head's first.
fn texts(claim: &Claim) -> Vec<&str> {
    std::iter::once(&claim.text).chain(claim.more.iter().map(|one| &one.text)).map(String::as_str).collect()
}

/// What of everybody's is to be claimed, answering each turn with its texts.
fn turns(home: &Home) -> Vec<String> {
    std::iter::from_fn(|| {
        let claim = claim(home)?;
        let said = texts(&claim).join("+");
        home.finish_turn(answer(&claim.message_id, &said, vec![])).unwrap();
        Some(said)
    })
    .collect()
}

fn transcript(home: &Home, session: &str, limit: usize) -> Vec<String> {
    let shown = |e: crate::domain::Entry| format!("{}{} {}", if e.role == Said::User { "u" } else { "a" }, e.turn, e.text);
    home.history(session, limit).unwrap().into_iter().map(shown).collect()
}

fn states(home: &Home, ids: &[String]) -> Vec<MessageState> {
    ids.iter().map(|id| home.message(id).unwrap().state).collect()
}

#[test]
fn what_one_wrote_in_one_go_is_one_turn_and_stands_in_the_transcript_once() {
    let home = Home::new();
    let ids: Vec<_> = ["one", "two", "three"].iter().map(|text| wrote(&home, "ana", text)).collect();
    assert_eq!((claim(&home), home.next_turn_due()), (None, Some(Duration::from_secs(2))), "ana may be writing still");
    let before = home.stats();
    assert_eq!((claim(&home), home.stats()), (None, before), "and who waits asks nobody");
    quiet(&home);
    let turn = claim(&home).unwrap();
    assert_eq!((texts(&turn), turn.attempts), (vec!["one", "two", "three"], 1));
    assert_eq!(turn.more.iter().map(|one| &one.message_id).collect::<Vec<_>>(), [&ids[1], &ids[2]]);
    assert_eq!((states(&home, &ids), claim(&home)), (vec![MessageState::Running; 3], None));
    for (state, count) in [(MessageState::Running, 3), (MessageState::Queued, 0), (MessageState::Answered, 0)] {
        assert_eq!(home.messages(Some(state), page(9)).unwrap().items.len(), count, "{state:?}");
    }
    let late = wrote(&home, "ana", "late");
    let out = NewOutbound { in_reply_to: Some(ids[0].clone()), ..letter("ana", "re") };
    assert_eq!(home.finish_turn(answer(&ids[1], "re", vec![])).map(drop), Err(conflict_of_not_running()), "not its own turn");
    home.finish_turn(answer(&ids[0], "re", vec![out])).unwrap();
    assert_eq!(states(&home, &ids), [MessageState::Answered; 3]);
    assert_eq!(states(&home, &[late]), [MessageState::Queued], "what came during the turn is not in it");
    let [head, joined] = [0, 1].map(|n| home.message(&ids[n]).unwrap());
    assert_eq!((head.reply.as_deref(), head.deliveries.len(), head.deliveries[0].message.as_str()), (Some("re"), 1, "re"));
    assert_eq!((joined.reply.as_deref(), joined.deliveries.len(), joined.attempts), (None, 0, 1));
    assert_eq!(joined.timeline[1].detail, format!("together with {}", ids[0]));
    quiet(&home);
    assert_eq!(turns(&home), ["late"]);
    let all = ["u1 one", "u1 two", "u1 three", "a1 re", "u2 late", "a2 late"];
    for limit in 0..=8 {
        assert_eq!(transcript(&home, &head.session_id, limit), all[all.len() - limit.min(6)..], "limit {limit}");
    }
    assert_eq!(home.sessions(page(9)).unwrap().items[0].turns, 2);
    let rest = (home.depths(), home.sql::<i64>("SELECT count(*) FROM bundled"));
    assert_eq!(rest, (crate::store::Depths { pending: 1, ..Default::default() }, 0));
}

fn conflict_of_not_running() -> StoreError {
    StoreError::Conflict("the message is not running".into())
}

#[test]
fn only_what_one_sender_wrote_without_a_break_is_merged() {
    let home = Home::new();
    // One room is one user's session here; who wrote stands in `peer`.
    let said = |text: &str| NewInbound { collect: true, ..hello("room", text) };
    let by = |peer: &str, text: &str| NewInbound { peer: peer.into(), ..said(text) };
    let messages = [
        by("ana", "a1"),
        by("ana", "a2"),
        by("bob", "b1"),
        by("ana", "a3"),
        NewInbound { standing: Standing::Operator, ..by("ana", "as operator") },
        by("ana", "a4"),
        NewInbound { collect: false, ..by("ana", "/new") },
        by("ana", "a5"),
        by("ana", "a6"),
    ];
    for message in messages {
        put(&home, message);
    }
    assert_eq!(
        claim(&home).map(|turn| texts(&turn).join("+")).as_deref(),
        Some("a1+a2"),
        "bob's word ended it: nothing to wait for"
    );
    let ids: Vec<_> = home.messages(Some(MessageState::Running), page(9)).unwrap().items.into_iter().map(|m| m.id).collect();
    home.finish_turn(answer(&ids[1], "r", vec![])).unwrap();
    quiet(&home);
    assert_eq!(turns(&home), ["b1", "a3", "as operator", "a4", "/new", "a5+a6"]);
}

#[test]
fn an_urgent_message_joins_nothing_and_is_not_held_up() {
    let home = Home::new();
    wrote(&home, "ana", "one");
    let stop = put(&home, NewInbound { urgent: true, collect: true, ..hello("ana", "/stop") });
    wrote(&home, "ana", "two");
    assert_eq!(claim(&home).map(|turn| texts(&turn).join("+")).as_deref(), Some("one"));
    let urgent = home.claim_urgent().unwrap().unwrap();
    assert_eq!((urgent.message_id.as_str(), urgent.more.len()), (stop.as_str(), 0));
}

#[test]
fn the_quiet_window_goes_on_with_each_word_and_ends() {
    let home = Home::new();
    wrote(&home, "ana", "0");
    wrote(&home, "bob", "b");
    for second in 1..=14 {
        home.clock.advance(Duration::from_secs(1));
        if second == 2 {
            assert_eq!(claim_text(&home).as_deref(), Some("b"), "ana holds nobody up");
        }
        assert_eq!(claim(&home), None, "second {second}");
        wrote(&home, "ana", &second.to_string());
        assert!(home.next_turn_due().is_some_and(|due| due <= Duration::from_secs(2)), "second {second}");
    }
    home.clock.advance(Duration::from_secs(1));
    let turn = std::iter::repeat_with(|| {
        claim(&home).or_else(|| {
            home.clock.advance(Duration::from_secs(1));
            None
        })
    });
    assert_eq!(turn.take(3).flatten().next().unwrap().more.len(), 14, "but not for ever");
}

#[test]
fn a_wall_clock_that_jumps_holds_nobody_up() {
    for jump in [-NOW_MS, -3_600_000, 3_600_000] {
        let home = Home::new();
        wrote(&home, "ana", "one");
        assert_eq!(claim(&home), None);
        home.clock.jump(jump);
        wrote(&home, "ana", "two");
        quiet(&home);
        assert_eq!(turns(&home), ["one+two"], "jump {jump}");
    }
}

#[test]
fn a_turn_takes_a_bounded_number_and_the_rest_is_the_next() {
    let home = Home::new();
    for n in 0..50 {
        wrote(&home, "ana", &n.to_string());
    }
    let first = claim(&home).expect("a full turn has nothing to wait for");
    assert_eq!((first.text.as_str(), first.more.len(), first.more[19].text.as_str()), ("0", 20, "20"));
    home.finish_turn(answer(&first.message_id, "r", vec![])).unwrap();
    quiet(&home);
    assert_eq!(turns(&home).len(), 2);
    let shown = transcript(&home, &first.session_id, 500);
    assert_eq!((shown.len(), shown.iter().filter(|e| e.starts_with('u')).count()), (53, 50));
    for _ in 0..3 {
        wrote(&home, "ana", &"ü".repeat(10_000));
    }
    quiet(&home);
    let turn = claim(&home).unwrap();
    assert_eq!(turn.more.len(), 1, "nor more than a prompt takes");
}

/// Two messages in one turn that runs; the ids, and the turn.
fn pair(home: &Home) -> (Vec<String>, Claim) {
    let ids = vec![wrote(home, "ana", "one"), wrote(home, "ana", "two")];
    quiet(home);
    (ids, claim(home).unwrap())
}

#[test]
fn what_joined_stays_with_its_head_whatever_interrupts_it() {
    let mut home = Home::new();
    let (ids, turn) = pair(&home);
    wrote(&home, "ana", "three");
    quiet(&home);
    home.defer_turn(&turn.message_id, Duration::from_secs(5), "down").unwrap();
    assert_eq!((states(&home, &ids), claim(&home)), (vec![MessageState::Queued; 2], None));
    home.clock.advance(Duration::from_secs(5));
    let again = claim(&home).unwrap();
    assert_eq!((texts(&again), again.failures), (vec!["one", "two", "three"], 1), "what came while it waited joins it");
    home.release_turn(&again.message_id).unwrap();
    home.restart();
    home.record_step(&claim(&home).unwrap().message_id, Step { data: "[]".into(), ..step(StepKind::Asked, "t") }).unwrap();
    wrote(&home, "ana", "four");
    quiet(&home);
    home.crash();
    assert_eq!(home.recovery().resumed, 1);
    let again = claim(&home).unwrap();
    assert_eq!(texts(&again), ["one", "two", "three"], "a turn that took a step takes no more");
    assert_eq!(home.depths().queued, 3, "two that joined, and one behind");
    home.finish_turn(answer(&again.message_id, "r", vec![])).unwrap();
    assert_eq!((turns(&home), home.depths().queued), (vec!["four".to_string()], 0));
}

#[test]
fn a_turn_that_asks_a_person_waits_as_a_whole() {
    let home = Home::new();
    let ids = [wrote(&home, "ana", "one"), wrote(&home, "ana", "two")];
    quiet(&home);
    let (turn, asked) = park(&home, &["c1"]);
    assert_eq!((states(&home, &ids), claim(&home)), (vec![MessageState::WaitingApproval; 2], None));
    assert_eq!(home.messages(Some(MessageState::WaitingApproval), page(9)).unwrap().items.len(), 2);
    home.decide_approval(&asked[0].id, crate::domain::Decision::Allow, "admin").unwrap();
    assert_eq!(texts(&claim(&home).unwrap()), ["one", "two"]);
    home.finish_turn(answer(&turn.message_id, "r", vec![])).unwrap();
    assert_eq!(states(&home, &ids), [MessageState::Answered; 2]);
}

#[test]
fn a_turn_that_fails_is_retried_whole_by_any_of_its_messages() {
    for by in 0..2 {
        let mut home = Home::new();
        let (ids, turn) = pair(&home);
        wrote(&home, "ana", "behind");
        quiet(&home);
        home.fail_turn(&turn.message_id, "no model", vec![letter("ana", "sorry")], vec![]).unwrap();
        let failed = home.message(&ids[1]).unwrap();
        assert_eq!((states(&home, &ids), failed.error.as_deref()), (vec![MessageState::Failed; 2], Some("no model")));
        assert_eq!(home.deliveries(None, page(9)).unwrap().items.len(), 1, "told once");
        home.crash();
        home.retry_message(&ids[by]).unwrap();
        assert!(matches!(home.retry_message(&ids[1 - by]), Err(StoreError::Conflict(_))), "by {by}");
        assert_eq!(states(&home, &ids), [MessageState::Queued; 2]);
        assert_eq!(turns(&home), ["one+two", "behind"], "by {by}");
        assert_eq!(transcript(&home, &turn.session_id, 9)[..3], ["u1 one", "u1 two", "a1 one+two"]);
    }
}

#[test]
fn what_joined_falls_with_its_head() {
    let cancelled = [MessageState::Cancelled; 2];
    let home = Home::new();
    let (ids, turn) = pair(&home);
    let waiting = home.cancel_waiting(&turn.session_id, None, "stopped").unwrap();
    let runs = Withdrawn { ended: vec![], running: vec![ids[0].clone()] };
    assert_eq!((waiting, states(&home, &ids)), (runs, vec![MessageState::Running; 2]), "it is in the turn that runs");
    home.cancel_turn(&turn.message_id, "stopped", vec![]).unwrap();
    assert_eq!((states(&home, &ids), claim(&home)), (cancelled.to_vec(), None));

    let (ids, turn) = pair(&home);
    home.defer_turn(&turn.message_id, Duration::from_secs(60), "down").unwrap();
    assert_eq!(home.cancel_waiting(&turn.session_id, None, "stopped").unwrap().ended, ids);
    assert_eq!((states(&home, &ids), home.depths()), (cancelled.to_vec(), crate::store::Depths::default()));

    let (ids, turn) = pair(&home);
    home.finish_turn(FinishedTurn { forget: true, ..answer(&turn.message_id, "secret-reply", vec![]) }).unwrap();
    assert_eq!(states(&home, &ids), [MessageState::Answered; 2]);
    assert_eq!(home.message(&ids[1]).unwrap().message, "");
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM bundled"), 0);
}

#[test]
fn erasing_a_user_takes_turns_with_several_messages_whole() {
    let home = Home::new();
    let (first, failing) = pair(&home);
    home.fail_turn(&failing.message_id, "r", vec![], vec![]).unwrap();
    let (ids, _) = pair(&home);
    home.erase_user("ana").unwrap();
    let all: Vec<_> = first.into_iter().chain(ids).collect();
    assert_eq!(states(&home, &all), [MessageState::Cancelled; 4]);
    assert!(matches!(home.retry_message(&all[1]), Err(StoreError::Conflict(_))));
    let left = (home.depths(), home.sql::<i64>("SELECT count(*) FROM bundled"), home.sql::<i64>("SELECT count(*) FROM work"));
    assert_eq!((left, claim(&home)), ((crate::store::Depths::default(), 0, 0), None));
}

#[test]
fn a_turn_of_several_that_ends_the_process_again_and_again_is_set_aside_whole() {
    let mut home = Home::new();
    let (ids, _) = pair(&home);
    home.crash();
    for _ in 0..2 {
        assert_eq!(texts(&claim(&home).unwrap()), ["one", "two"]);
        home.crash();
    }
    assert_eq!((home.recovery().set_aside, states(&home, &ids)), (1, vec![MessageState::Failed; 2]));
    assert_eq!(claim(&home), None);
}

#[test]
fn a_disk_that_fails_joins_nobody() {
    let home = Home::new();
    for _ in 0..20 {
        wrote(&home, "ana", &"x".repeat(900));
    }
    quiet(&home);
    home.shared.pages_max.store(1, std::sync::atomic::Ordering::SeqCst);
    let first = home.claim_turn();
    home.shared.pages_max.store(0, std::sync::atomic::Ordering::SeqCst);
    let turn = match first {
        Ok(turn) => turn.unwrap(), // its pages had room
        Err(StoreError::Unavailable(_)) => claim(&home).unwrap(),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(turn.more.len(), 19);
    home.finish_turn(answer(&turn.message_id, "r", vec![])).unwrap();
    assert_eq!((claim(&home), home.depths()), (None, crate::store::Depths::default()));
}
