//! Turns that wait for a person: parking, deciding, expiring, over restarts and against everything else that ends a turn.

use super::*;
use crate::domain::{Decision, MessageState};
use crate::store::{Depths, StoreError, Withdrawn};

fn state(home: &Home, id: &str) -> ApprovalState {
    home.approval(id).unwrap().state
}

fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(StoreError::Conflict(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parked_turn_waits_with_its_session_and_goes_on_where_it_was() {
    let mut home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2"), ("b", "b1")]);
    let first = claim(&home).unwrap();
    for (kind, detail, data) in [
        (StepKind::Asked, "shell.run", "{\"calls\":[1]}".repeat(50)),
        (StepKind::Called, "shell.run", "call 1 =x".to_string()),
        (StepKind::Result, "shell.run", "many\nlines".to_string()),
    ] {
        home.record_step(&ids[0], Step { data, ..step(kind, detail) }).unwrap();
    }
    let asked = vec![question(&home, &first, "c1"), question(&home, &first, "c2")];
    home.park_turn(&ids[0], asked.clone(), step(StepKind::Parked, "2 calls")).unwrap();
    for restarts in 0..3 {
        accept_all(&home, &[("a", "later")]);
        let depths = home.depths();
        assert_eq!((depths.waiting_approval, depths.running, depths.queued), (1, 0, 3 + restarts), "{restarts}");
        let message = home.message(&ids[0]).unwrap();
        let expected = ["accepted", "started", "tools_asked", "tool_called", "tool_result", "waiting_approval"];
        assert_eq!((message.state, events(&message)), (MessageState::WaitingApproval, expected.to_vec()));
        assert_eq!((message.timeline[3].detail.as_str(), message.timeline[5].detail.as_str()), ("shell.run", "2 calls"));
        let waiting = home.messages(Some(MessageState::WaitingApproval), page(9)).unwrap().items;
        assert_eq!(waiting.iter().map(|m| m.message.as_str()).collect::<Vec<_>>(), ["a1"]);
        let b = claim(&home).unwrap();
        assert_eq!((b.text.as_str(), claim(&home)), ("b1", None), "its session waits with it, others don't");
        home.release_turn(&b.message_id).unwrap();
        if restarts == 0 {
            home.restart()
        } else {
            home.crash()
        }
        assert_eq!((home.recovery().resumed, home.recovery().set_aside), (0, 0));
    }
    assert_eq!(home.next_approval_due(), Some(Duration::from_secs(600)));
    let allowed = home.decide_approval(&asked[0].id, Decision::Allow, "ana").unwrap();
    let expected =
        Approval { state: ApprovalState::Allowed, decided_by: Some("ana".into()), decided_ms: Some(NOW_MS), ..asked[0].clone() };
    assert_eq!((&allowed, &home.approval(&asked[0].id).unwrap()), (&expected, &expected));
    assert_eq!((claim_text(&home).as_deref(), claim(&home)), (Some("b1"), None), "one is still pending");
    let denied = home.decide_approval(&asked[1].id, Decision::Deny, "bob").unwrap();
    assert_eq!((denied.state, home.depths().waiting_approval, home.next_approval_due()), (ApprovalState::Denied, 0, None));
    let again = claim(&home).unwrap();
    assert_eq!((again.text.as_str(), again.attempts, again.failures), ("a1", 2, 0));
    assert_eq!(again.approvals, [allowed, denied]);
    let steps: Vec<_> = again.steps.iter().map(|s| (s.kind, s.data.len())).collect();
    let expected =
        [(StepKind::Started, 0), (StepKind::Asked, 650), (StepKind::Called, 9), (StepKind::Result, 10), (StepKind::Parked, 0)];
    assert_eq!((steps, again.steps[2].data.as_str()), (expected.to_vec(), "call 1 =x"));
    home.finish_turn(answer(&ids[0], "done", vec![])).unwrap();
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM steps"), 0);
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM ended WHERE journal LIKE '%call 1%'"), 0);
    assert_eq!(answer_all(&home), ["a2", "later", "later", "later"]);
    assert_eq!(events(&home.message(&ids[0]).unwrap())[3..5], ["tool_called", "tool_result"]);
}

#[test]
fn the_first_decision_counts() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1")]);
    let (_, asked) = park(&home, &["c1"]);
    let outcomes: Vec<_> = std::thread::scope(|s| {
        let (home, id) = (&home, &asked[0].id);
        let decide = |n: usize| {
            let decision = [Decision::Allow, Decision::Deny][n % 2];
            s.spawn(move || home.decide_approval(id, decision, &n.to_string()))
        };
        let deciding: Vec<_> = (0..16).map(decide).collect();
        deciding.into_iter().map(|d| d.join().unwrap()).collect()
    });
    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!((won.len(), home.approval(&asked[0].id).unwrap()), (1, won[0].clone()));
    let why = refused(home.decide_approval(&asked[0].id, Decision::Allow, "late"));
    assert!(why.contains(&format!("by {}", won[0].decided_by.clone().unwrap())), "{why}");
    assert_eq!(claim(&home).unwrap().approvals.len(), 1);
    assert_eq!(claim(&home), None, "it was queued once");
    assert_eq!(home.decide_approval("apr_none", Decision::Allow, "a"), Err(StoreError::NotFound));
    assert_eq!(home.approval("apr_none"), Err(StoreError::NotFound));
}

#[test]
fn nobody_in_time_is_a_no_whatever_the_clock_and_the_process_do() {
    // (seconds before, a restart, the wall clock's jump, seconds after, whether it is over then)
    for (before, restarts, jump_s, after, over) in [
        (599, false, 0, 0, false),
        (600, false, 0, 0, true),
        (300, true, 0, 299, false),
        (300, true, 0, 300, true),
        (300, false, -86_400, 299, false),
        (300, false, -86_400, 300, true),
        (300, true, -86_400, 599, false),
        (300, true, -86_400, 600, true),
        (300, false, 299, 0, false),
        (300, false, 86_400, 0, true),
        (300, true, 86_400, 0, true),
    ] {
        let case = format!("{before} s, restart {restarts}, jump {jump_s} s, {after} s");
        let mut home = Home::new();
        accept_all(&home, &[("a", "a1"), ("a", "a2")]);
        let (turn, asked) = park(&home, &["c1", "c2"]);
        home.clock.advance(Duration::from_secs(before));
        home.clock.jump(jump_s * 1000);
        if restarts {
            home.crash();
        }
        home.clock.advance(Duration::from_secs(after));
        assert_eq!(home.next_approval_due().unwrap().is_zero(), over, "{case}");
        let expired = home.expire_approvals().unwrap();
        assert_eq!(expired.len(), if over { 2 } else { 0 }, "{case}");
        if !over {
            continue;
        }
        assert_eq!((home.next_approval_due(), home.expire_approvals()), (None, Ok(vec![])), "{case}");
        assert_eq!((&expired[0].id, expired[0].state, &expired[0].decided_by), (&asked[0].id, ApprovalState::Expired, &None));
        assert_eq!(refused(home.decide_approval(&asked[1].id, Decision::Allow, "late")), "nobody decided in time");
        let again = claim(&home).unwrap();
        assert_eq!((&again.message_id, again.approvals == expired), (&turn.message_id, true), "{case}");
        home.finish_turn(answer(&again.message_id, "no", vec![])).unwrap();
        assert_eq!(claim_text(&home).as_deref(), Some("a2"), "{case}");
    }
}

#[test]
fn a_decision_that_comes_before_the_expiry_is_written_is_late_all_the_same() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1")]);
    let (_, asked) = park(&home, &["c1"]);
    home.clock.advance(Duration::from_secs(600));
    assert_eq!(refused(home.decide_approval(&asked[0].id, Decision::Always, "a")), "nobody decided in time");
    assert_eq!((state(&home, &asked[0].id), home.learned_rules()), (ApprovalState::Pending, Ok(vec![])));
    assert_eq!(home.expire_approvals().unwrap().len(), 1);
    assert_eq!(home.depths(), Depths { queued: 1, ..Depths::default() });
}

#[test]
fn an_expiry_that_cannot_be_written_is_tried_again_after_a_pause() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1")]);
    park(&home, &["c1"]);
    home.clock.advance(Duration::from_secs(600));
    let file = Connection::open(home.path()).unwrap();
    let fails = "CREATE TRIGGER fails BEFORE UPDATE ON approvals BEGIN SELECT RAISE(ABORT, 'no'); END";
    file.execute_batch(fails).unwrap();
    assert!(home.expire_approvals().is_err());
    assert_eq!(home.next_approval_due(), Some(Duration::from_secs(1)));
    file.execute_batch("DROP TRIGGER fails").unwrap();
    assert_eq!(home.expire_approvals().unwrap().len(), 1);
}

#[test]
fn whatever_ends_a_message_cancels_what_it_waits_for() {
    type End<'a> = &'a dyn Fn(&Home, &Claim);
    let ends: [(&str, End<'_>); 2] = [
        ("cancelled", &|home, turn| {
            let stop = accept(home, NewInbound { urgent: true, ..hello("a", "/stop") }).unwrap();
            let gone = home.cancel_waiting(&turn.session_id, Some(&stop.id), "stopped by /stop").unwrap();
            assert_eq!(gone, Withdrawn { ended: vec![turn.message_id.clone()], running: vec![] });
        }),
        ("erased", &|home, _| assert_eq!(home.erase_user("a"), Ok(1))),
    ];
    for (case, end) in ends {
        let mut home = Home::new();
        accept_all(&home, &[("a", "a1")]);
        let (turn, asked) = park(&home, &["c1", "c2"]);
        home.decide_approval(&asked[0].id, Decision::Deny, "ana").unwrap();
        end(&home, &turn);
        for _ in 0..2 {
            let states = [state(&home, &asked[0].id), state(&home, &asked[1].id)];
            assert_eq!(states, [ApprovalState::Denied, ApprovalState::Cancelled], "{case}");
            assert_eq!(
                (home.message(&turn.message_id).unwrap().state, home.depths().waiting_approval),
                (MessageState::Cancelled, 0)
            );
            assert_eq!(refused(home.decide_approval(&asked[1].id, Decision::Allow, "late")), "its turn was stopped");
            home.crash();
        }
        home.clock.advance(Duration::from_secs(600));
        assert_eq!((home.expire_approvals(), home.next_approval_due()), (Ok(vec![]), None), "{case}");
    }
}

#[test]
fn decisions_and_cancellations_race_and_one_of_them_wins() {
    for round in 0..20 {
        let home = Home::new();
        accept_all(&home, &[("a", "a1")]);
        let (turn, asked) = park(&home, &["c1"]);
        let stop = accept(&home, NewInbound { urgent: true, ..hello("a", "/stop") }).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| home.decide_approval(&asked[0].id, Decision::Allow, "ana"));
            s.spawn(|| home.cancel_waiting(&turn.session_id, Some(&stop.id), "stopped").unwrap());
        });
        // A decision first is a message that is queued, and cancelled as such.
        let message = home.message(&turn.message_id).unwrap();
        assert_eq!((message.state, message.error.as_deref()), (MessageState::Cancelled, Some("stopped")), "{round}");
        assert_eq!(home.depths(), Depths { queued: 1, ..Depths::default() });
        assert_eq!((claim_text(&home).as_deref(), claim(&home)), (Some("/stop"), None));
    }
}

#[test]
fn parking_again_changes_no_decision_and_cannot_wait_for_nothing() {
    let home = Home::new();
    let id = accept_all(&home, &[("a", "a1")]).remove(0);
    let (_, asked) = park(&home, &["c1"]);
    assert_eq!(refused(home.park_turn(&id, asked.clone(), step(StepKind::Parked, ""))), "the message is not running");
    home.decide_approval(&asked[0].id, Decision::Deny, "ana").unwrap();
    let again = claim(&home).unwrap();
    let twice = [question(&home, &again, "c1"), question(&home, &again, "c2")];
    home.park_turn(&id, twice.to_vec(), step(StepKind::Parked, "")).unwrap();
    assert_eq!((state(&home, &asked[0].id), home.approval(&twice[0].id)), (ApprovalState::Denied, Err(StoreError::NotFound)));
    home.decide_approval(&twice[1].id, Decision::Allow, "ana").unwrap();
    let again = claim(&home).unwrap();
    assert_eq!(again.approvals.iter().map(|a| a.call_id.as_str()).collect::<Vec<_>>(), ["c1", "c2"]);
    home.park_turn(&id, vec![], step(StepKind::Parked, "")).unwrap();
    assert_eq!((home.depths(), claim_text(&home).as_deref()), (Depths { queued: 1, ..Depths::default() }, Some("a1")));
}

#[test]
fn what_waits_is_bounded_and_a_refused_turn_can_still_be_ended() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1"), ("b", "b1"), ("b", "b2")]);
    let calls: Vec<_> = (0..40).map(|n| n.to_string()).collect();
    park(&home, &calls.iter().map(String::as_str).collect::<Vec<_>>());
    let b = claim(&home).unwrap();
    let why = refused(home.park_turn(&b.message_id, vec![question(&home, &b, "c")], step(StepKind::Parked, "")));
    assert!(why.contains("40 questions"), "{why}");
    assert_eq!((home.message(&b.message_id).unwrap().state, claim(&home)), (MessageState::Running, None));
    home.fail_turn(&b.message_id, "too many questions", vec![], vec![]).unwrap();
    assert_eq!(claim_text(&home).as_deref(), Some("b2"), "its session goes on");
}

#[test]
fn always_leaves_a_rule_for_exactly_that_call_once() {
    let mut home = Home::new();
    accept_all(&home, &[("a", "1"), ("b", "2"), ("c", "3")]);
    for (user, call) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let (turn, asked) = park(&home, &[call, &format!("{call} too")]);
        assert_eq!(turn.user_id, user);
        let decided = home.decide_approval(&asked[0].id, Decision::Always, "op").unwrap();
        assert_eq!((decided.state, decided.decided_by.as_deref()), (ApprovalState::Allowed, Some("op")));
        home.decide_approval(&asked[1].id, Decision::Allow, "op").unwrap();
    }
    accept_all(&home, &[("a", "again")]);
    answer_all(&home);
    accept_all(&home, &[("a", "again")]);
    let (_, asked) = park(&home, &["x"]);
    home.decide_approval(&asked[0].id, Decision::Always, "another").unwrap();
    home.crash();
    let rules = home.learned_rules().unwrap();
    let told: Vec<_> = rules.iter().map(|r| (r.user_id.as_str(), r.digest.as_str(), r.by.as_str())).collect();
    assert_eq!(told, [("a", "digest-x", "op"), ("b", "digest-x", "op"), ("c", "digest-y", "op")]);
    assert_eq!((rules[0].tool.as_str(), &rules[0].arguments), ("shell.run", &serde_json::json!({"call": "x"})));
    home.forget_rule(&rules[1].id).unwrap();
    assert_eq!(home.forget_rule(&rules[1].id), Err(StoreError::NotFound));
    home.erase_user("a").unwrap();
    assert_eq!(home.learned_rules().unwrap(), [rules[2].clone()]);
}

#[test]
fn rules_are_bounded_and_a_refused_one_leaves_the_question_open() {
    let home = Home::new();
    accept_all(&home, &[("a", "1")]);
    let calls: Vec<_> = (0..21).map(|n| n.to_string()).collect();
    let (_, asked) = park(&home, &calls.iter().map(String::as_str).collect::<Vec<_>>());
    for approval in &asked[..20] {
        home.decide_approval(&approval.id, Decision::Always, "op").unwrap();
    }
    let why = refused(home.decide_approval(&asked[20].id, Decision::Always, "op"));
    assert!(why.contains("20 rules"), "{why}");
    assert_eq!((state(&home, &asked[20].id), home.depths().waiting_approval), (ApprovalState::Pending, 1));
    home.decide_approval(&asked[20].id, Decision::Allow, "op").unwrap();
    assert_eq!(home.depths().waiting_approval, 0);
}

#[test]
fn approvals_are_listed_by_state_and_pruned_with_the_audit() {
    let home = Home::new();
    accept_all(&home, &[("a", "1"), ("b", "2")]);
    let (turn, asked) = park(&home, &["1", "2", "3"]);
    let (_, open) = park(&home, &["4"]);
    for (approval, decision) in asked.iter().zip([Decision::Allow, Decision::Deny, Decision::Allow]) {
        home.decide_approval(&approval.id, decision, "op").unwrap();
    }
    let list = |state, page: Page| {
        let listed = home.approvals(state, page).unwrap();
        (listed.items.iter().map(|a| a.call_id.clone()).collect::<String>(), listed.next)
    };
    for (state, expected) in [
        (None, "4321"),
        (Some(ApprovalState::Pending), "4"),
        (Some(ApprovalState::Allowed), "31"),
        (Some(ApprovalState::Denied), "2"),
        (Some(ApprovalState::Expired), ""),
    ] {
        assert_eq!(list(state, page(9)), (expected.into(), None), "{state:?}");
    }
    let (first, next) = list(None, page(3));
    assert_eq!((first.as_str(), list(None, Page { cursor: next, limit: 3 })), ("432", ("1".to_string(), None)));
    assert_eq!(home.approvals(None, Page { cursor: Some("x".into()), limit: 3 }), Err(StoreError::BadCursor));
    home.clock.advance(Duration::from_secs(91 * 24 * 3600));
    home.prune().unwrap();
    assert_eq!(list(None, page(9)).0, "4321", "neither message has ended");
    assert_eq!(claim(&home).unwrap().message_id, turn.message_id);
    home.finish_turn(answer(&turn.message_id, "r", vec![])).unwrap();
    home.prune().unwrap();
    assert_eq!(list(None, page(9)).0, "4");
    assert_eq!(state(&home, &open[0].id), ApprovalState::Pending);
}

#[test]
fn a_waiting_message_that_is_cancelled_lets_the_next_one_run() {
    let mut home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2"), ("a", "a3")]);
    let (turn, _) = park(&home, &["c1"]);
    assert_eq!(home.cancel_waiting(&turn.session_id, Some(&ids[1]), "no").unwrap().ended, [ids[0].clone()]);
    assert_eq!(claim_text(&home).as_deref(), Some("a2"));
    home.crash();
    assert_eq!(answer_all(&home), ["a2", "a3"]);
}

#[test]
fn sessions_that_wait_do_not_spin_the_index() {
    let mut home = Home::new();
    for n in 0..30 {
        let user = n.to_string();
        accept_all(&home, &[(&user, "head"), (&user, "behind")]);
        park(&home, &["c"]);
    }
    home.crash();
    let before = home.stats();
    for _ in 0..50 {
        assert_eq!((claim(&home), home.next_turn_due()), (None, None), "memory knows that nothing is to be done");
        home.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(home.stats(), before);
    for n in 0..30 {
        accept(&home, NewInbound { urgent: true, ..hello(&n.to_string(), "/status") }).unwrap();
    }
    assert_eq!((claim(&home), home.next_turn_due()), (None, None), "an urgent one behind is none of its business");
    home.crash();
    assert_eq!((claim(&home), home.next_turn_due()), (None, None));
    assert_eq!(std::iter::from_fn(|| home.claim_urgent().unwrap()).count(), 30);
}

#[test]
fn more_sessions_that_wait_than_memory_holds_do_not_spin_it_either() {
    let mut home = Home::new();
    home.die();
    let file = Connection::open(home.path()).unwrap();
    file.execute_batch(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO sessions SELECT i, 'ses_' || i, 'u' || i, 'door', '', 'main', 0, 0, NULL FROM n;
         INSERT INTO inbox SELECT n, 'msg_' || n, n, 'p', NULL, 0, NULL, 't', 0 FROM sessions;
         INSERT INTO inbox SELECT n + 5000, 'msg_b' || n, n, 'p', NULL, 0, NULL, 'behind', 0 FROM sessions;
         INSERT INTO work SELECT session, seq, CASE WHEN seq < 4990 THEN 2 ELSE 0 END, 1, 0, 0, 0, '', 0, 0 FROM inbox;
         COMMIT;",
    )
    .unwrap();
    drop(file);
    home.open();
    assert_eq!((home.depths().waiting_approval, home.depths().queued), (4989, 5011));
    assert_eq!(std::iter::from_fn(|| claim_text(&home)).collect::<String>(), "t".repeat(11));
    let before = home.stats();
    assert_eq!((claim(&home), home.next_turn_due(), home.stats()), (None, None, before));
}
