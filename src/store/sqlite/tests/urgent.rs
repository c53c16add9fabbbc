//! Urgent messages beside their sessions, and what they stop.

use super::*;
use crate::domain::MessageState;
use crate::store::{Depths, StoreError, Withdrawn};

fn urgent(user: &str, text: &str) -> NewInbound {
    NewInbound { urgent: true, ..hello(user, text) }
}

fn urgent_text(home: &Home) -> Option<String> {
    home.claim_urgent().unwrap().map(|claim| claim.text)
}

#[test]
fn an_urgent_message_is_taken_beside_its_session_and_leaves_its_order() {
    for before in ["queued", "running", "waiting", "deferred"] {
        let mut home = Home::new();
        let ids = accept_all(&home, &[("a", "a1"), ("a", "a2")]);
        match before {
            "running" => drop(claim(&home).unwrap()),
            "waiting" => drop(park(&home, &["c"])),
            "deferred" => {
                claim(&home).unwrap();
                home.defer_turn(&ids[0], Duration::from_secs(30), "down").unwrap();
            }
            _ => {}
        }
        accept(&home, urgent("a", "/stop")).unwrap();
        accept(&home, hello("a", "a3")).unwrap();
        accept(&home, urgent("b", "/status")).unwrap();
        let depths = home.depths();
        let stop = home.claim_urgent().unwrap().unwrap();
        assert_eq!((stop.text.as_str(), stop.attempts), ("/stop", 1), "{before}");
        assert_eq!((urgent_text(&home).as_deref(), urgent_text(&home)), (Some("/status"), None), "{before}");
        assert_eq!(home.depths().running, depths.running + 2);
        home.finish_turn(answer(&stop.message_id, "ok", vec![])).unwrap();
        assert_eq!((home.depths().queued, home.depths().running), (depths.queued - 2, depths.running + 1), "{before}");
        if before == "running" {
            assert_eq!(claim(&home), None, "{before}");
            home.finish_turn(answer(&ids[0], "r", vec![])).unwrap();
        }
        let expected = match before {
            "queued" => vec!["a1", "a2", "a3"],
            "running" => vec!["a2", "a3"],
            "waiting" => vec![],
            _ => {
                assert_eq!((claim(&home), home.next_turn_due()), (None, Some(Duration::from_secs(30))), "{before}");
                home.clock.advance(Duration::from_secs(30));
                vec!["a1", "a2", "a3"]
            }
        };
        assert_eq!(answer_all(&home), expected, "{before}");
        home.crash();
        assert_eq!((urgent_text(&home).as_deref(), home.recovery().resumed), (Some("/status"), 1), "{before}: it ran");
    }
}

#[test]
fn a_session_whose_head_is_urgent_is_not_held_by_it() {
    let home = Home::new();
    accept(&home, urgent("a", "/stop")).unwrap();
    accept_all(&home, &[("a", "a1")]);
    let stop = home.claim_urgent().unwrap().unwrap();
    assert_eq!((claim_text(&home).as_deref(), claim(&home)), (Some("a1"), None));
    accept_all(&home, &[("a", "a2")]);
    home.finish_turn(answer(&stop.message_id, "ok", vec![])).unwrap();
    assert_eq!(claim(&home), None, "a1 still runs");

    accept(&home, urgent("b", "/help")).unwrap();
    let help = claim(&home).unwrap();
    assert_eq!((help.text.as_str(), urgent_text(&home)), ("/help", None), "a turn worker may take it as well");
    accept_all(&home, &[("b", "b1")]);
    assert_eq!(claim(&home), None, "then it holds its session as any other");
    home.finish_turn(answer(&help.message_id, "ok", vec![])).unwrap();
    assert_eq!(claim_text(&home).as_deref(), Some("b1"));
}

#[test]
fn a_session_goes_on_whatever_became_of_its_urgent_head() {
    type End<'a> = &'a dyn Fn(&Home, &str);
    let ends: [(&str, End<'_>, &[&str]); 5] = [
        ("failed", &|home, id| drop(home.fail_turn(id, "no", vec![], vec![]).unwrap()), &["a1"]),
        ("cancelled", &|home, id| home.cancel_turn(id, "no", vec![]).unwrap(), &["a1"]),
        ("released", &|home, id| drop(home.release_turn(id).unwrap()), &["/x", "a1"]),
        ("deferred", &|home, id| drop(home.defer_turn(id, Duration::ZERO, "no").unwrap()), &["/x", "a1"]),
        ("deferred for long", &|home, id| drop(home.defer_turn(id, Duration::from_secs(9), "no").unwrap()), &["/x", "a1"]),
    ];
    for (case, end, expected) in ends {
        let home = Home::new();
        let id = accept(&home, urgent("a", "/x")).unwrap().id;
        home.claim_urgent().unwrap().unwrap();
        // The session's place in the index comes and goes while the urgent one runs.
        assert_eq!(claim(&home), None, "{case}");
        end(&home, &id);
        accept_all(&home, &[("a", "a1")]);
        if case == "deferred for long" {
            assert_eq!((urgent_text(&home), claim(&home)), (None, None), "{case}");
            assert_eq!(home.next_turn_due(), Some(Duration::from_secs(9)), "{case}");
            home.clock.advance(Duration::from_secs(9));
        }
        assert_eq!(answer_all(&home), expected, "{case}");
        assert_eq!((home.depths(), urgent_text(&home)), (Depths { pending: home.depths().pending, ..Depths::default() }, None));
    }
}

#[test]
fn looking_for_urgent_ones_asks_memory_alone() {
    let home = Home::new();
    accept_all(&home, &[("a", "a1")]);
    let before = home.stats();
    assert_eq!(urgent_text(&home), None);
    accept(&home, urgent("a", "/x")).unwrap();
    let id = home.claim_urgent().unwrap().unwrap().message_id;
    home.finish_turn(answer(&id, "ok", vec![])).unwrap();
    assert_eq!((urgent_text(&home), home.stats().commits), (None, before.commits + 3));
    home.erase_user("a").unwrap();
    accept(&home, urgent("b", "/y")).unwrap();
    home.erase_user("b").unwrap();
    assert!(!home.shared.has_urgent());
}

#[test]
fn only_a_running_turn_is_cancelled_as_such() {
    let mut home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2")]);
    let refused = |home: &Home, id: &str| assert!(matches!(home.cancel_turn(id, "x", vec![]), Err(StoreError::Conflict(_))));
    refused(&home, &ids[0]);
    assert_eq!(home.cancel_turn("msg_none", "x", vec![]), Err(StoreError::NotFound));
    let turn = claim(&home).unwrap();
    home.record_step(&ids[0], Step { data: "x".repeat(500), ..step(StepKind::Asked, "t") }).unwrap();
    let spent = vec![Spent { provider: "p".into(), tokens_in: 5, tokens_out: 6, calls: 1 }];
    home.cancel_turn(&ids[0], "stopped by /stop", spent).unwrap();
    for _ in 0..2 {
        let message = home.message(&ids[0]).unwrap();
        assert_eq!(
            (message.state, message.error.as_deref(), message.reply.as_deref()),
            (MessageState::Cancelled, Some("stopped by /stop"), None)
        );
        let last = message.timeline.last().unwrap();
        assert_eq!((last.event.as_str(), last.detail.as_str()), ("cancelled", "stopped by /stop"));
        refused(&home, &ids[0]);
        assert!(matches!(home.finish_turn(answer(&ids[0], "late", vec![])), Err(StoreError::Conflict(_))));
        assert!(matches!(home.retry_message(&ids[0]), Err(StoreError::Conflict(_))));
        home.crash();
    }
    assert_eq!(home.history(&turn.session_id, 9), Ok(vec![]), "what was not answered is in no transcript");
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM steps"), 0);
    assert_eq!(home.tokens_of(NOW_MS / 86_400_000, "main", Some("a")), Ok(11));
    assert_eq!(claim_text(&home).as_deref(), Some("a2"));
}

#[test]
fn stopping_takes_what_stands_before_and_nothing_else() {
    let home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")]);
    let running = claim(&home).unwrap();
    let status = accept(&home, urgent("a", "/status")).unwrap();
    let stop = accept(&home, urgent("a", "/stop")).unwrap();
    accept_all(&home, &[("a", "a4")]);
    assert_eq!(urgent_text(&home).as_deref(), Some("/status"));
    home.release_turn(&status.id).unwrap();
    let stopped = home.cancel_waiting(&running.session_id, Some(&stop.id), "stopped by /stop").unwrap();
    let runs = vec![ids[0].clone()];
    assert_eq!(stopped, Withdrawn { ended: vec![ids[1].clone(), ids[3].clone()], running: runs.clone() });
    let again = home.cancel_waiting(&running.session_id, Some(&stop.id), "again");
    assert_eq!(again, Ok(Withdrawn { ended: vec![], running: runs }));
    for none in [("ses_none", stop.id.as_str()), (&running.session_id, "msg_none")] {
        assert_eq!(home.cancel_waiting(none.0, Some(none.1), "x"), Err(StoreError::NotFound));
    }
    let message = home.message(&ids[1]).unwrap();
    assert_eq!((message.state, message.error.as_deref()), (MessageState::Cancelled, Some("stopped by /stop")));
    home.cancel_turn(&ids[0], "stopped by /stop", vec![]).unwrap();
    assert_eq!(answer_all(&home), ["b1", "/status", "/stop", "a4"]);
}

/// The stop is a row before its author is told of it: whoever loses what ran, it does not run again.
#[test]
fn what_was_stopped_does_not_run_again() {
    const WHY: &str = "stopped by its user";
    for back in ["crash", "release", "defer", "park", "retry"] {
        let mut home = Home::new();
        let ids = accept_all(&home, &[("a", "a1"), ("a", "a2")]);
        let turn = claim(&home).unwrap();
        home.cancel_waiting(&turn.session_id, Some(&ids[1]), WHY).unwrap();
        let id = turn.message_id.as_str();
        let stopped = Ok(Some(WHY.to_string()));
        match back {
            "crash" => home.crash(),
            "release" => assert_eq!(home.release_turn(id), stopped),
            "defer" => assert_eq!(home.defer_turn(id, Duration::from_secs(600), "down"), stopped),
            "park" => {
                let asked = vec![question(&home, &turn, "c1")];
                assert_eq!(home.park_turn(id, asked, step(StepKind::Parked, "1 call")), stopped);
                assert!(home.approvals(None, page(9)).unwrap().items.is_empty(), "nobody is asked");
            }
            _ => {
                home.fail_turn(&turn.message_id, "down", vec![], vec![]).unwrap();
                home.retry_message(&turn.message_id).unwrap();
                assert_eq!(claim_text(&home).as_deref(), Some("a1"));
                home.crash();
                assert_eq!(answer_all(&home), ["a1", "a2"], "a person asked for it since");
                continue;
            }
        }
        let message = home.message(&ids[0]).unwrap();
        assert_eq!((message.state, message.error.as_deref()), (MessageState::Cancelled, Some(WHY)), "{back}");
        assert_eq!(answer_all(&home), ["a2"], "{back}");
        let depths = home.depths();
        assert_eq!((depths.queued, depths.running), (0, 0), "{back}");
    }
}

#[test]
fn stopping_a_deferred_session_lets_it_go_on_at_once() {
    let home = Home::new();
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2")]);
    let turn = claim(&home).unwrap();
    home.defer_turn(&ids[0], Duration::from_secs(600), "down").unwrap();
    assert_eq!(home.cancel_waiting(&turn.session_id, Some(&ids[1]), "no").unwrap().ended, [ids[0].clone()]);
    assert_eq!(claim_text(&home).as_deref(), Some("a2"));
}

#[test]
fn a_process_that_dies_in_an_urgent_turn_takes_it_again() {
    let mut home = Home::new();
    accept_all(&home, &[("a", "a1")]);
    park(&home, &["c"]);
    accept(&home, urgent("a", "/x")).unwrap();
    for death in 1..3 {
        let taken = home.claim_urgent().unwrap().unwrap();
        assert_eq!((taken.text.as_str(), taken.attempts), ("/x", death));
        home.crash();
        assert_eq!((home.depths().waiting_approval, home.depths().queued, claim(&home)), (1, 1, None));
    }
    home.claim_urgent().unwrap().unwrap();
    home.crash();
    assert_eq!((home.recovery().set_aside, home.claim_urgent()), (1, Ok(None)), "the third death is its own");
}

#[test]
fn four_workers_and_an_urgent_one_keep_the_order_of_what_is_not_urgent() {
    let home = Home::new();
    let told = std::sync::Mutex::new(std::collections::HashMap::<String, Vec<u32>>::new());
    let done = std::sync::atomic::AtomicUsize::new(0);
    let over = || done.load(std::sync::atomic::Ordering::SeqCst) == 600;
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 0..60 {
                for user in 0..10 {
                    let message = NewInbound { urgent: n % 3 == 0, ..hello(&user.to_string(), &n.to_string()) };
                    accept(&home, message).unwrap();
                }
            }
        });
        for worker in 0..5 {
            let (home, told, done) = (&home, &told, &done);
            s.spawn(move || {
                while !over() {
                    let next = if worker == 0 { home.claim_urgent().unwrap() } else { claim(home) };
                    let Some(claim) = next else {
                        std::thread::yield_now();
                        continue;
                    };
                    let n: u32 = claim.text.parse().unwrap();
                    if !n.is_multiple_of(3) {
                        told.lock().unwrap().entry(claim.user_id).or_default().push(n);
                    }
                    home.finish_turn(answer(&claim.message_id, "r", vec![])).unwrap();
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    for (user, order) in told.into_inner().unwrap() {
        assert_eq!(order, (0..60).filter(|n| n % 3 != 0).collect::<Vec<_>>(), "{user}");
    }
    assert_eq!(home.depths(), Depths::default());
}
