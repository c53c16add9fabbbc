//! What a start puts right.

use super::*;
use crate::domain::{CutOff, DeliveryState, MessageState};
use crate::store::Recovery;

#[test]
fn a_crash_loses_nothing_and_runs_again_what_ran() {
    let mut home = Home::new();
    assert_eq!(home.recovery(), Recovery::default());
    let ids = accept_all(&home, &[("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")]);
    claim(&home).unwrap();
    let b = claim(&home).unwrap();
    home.defer_turn(&b.message_id, Duration::from_secs(30), "down").unwrap();
    home.crash();
    assert_eq!(home.recovery(), Recovery { unclean: true, resumed: 1, ..Recovery::default() });
    assert_eq!((home.depths().queued, home.depths().running), (4, 0));
    let again = claim(&home).unwrap();
    assert_eq!((again.text.as_str(), again.attempts), ("a1", 2), "the oldest first, the start that was cut off counted");
    assert_eq!((claim_text(&home).as_deref(), claim_text(&home)), (Some("c1"), None), "b is still put off");
    assert_eq!(home.next_turn_due(), Some(Duration::from_secs(30)));
    assert_eq!(events(&home.message(&ids[0]).unwrap()), ["accepted", "started", "interrupted", "started"]);
    home.restart();
    assert_eq!(home.recovery(), Recovery { resumed: 2, ..Recovery::default() });
    home.clock.advance(Duration::from_secs(30));
    assert_eq!(answer_all(&home), ["a1", "c1", "b1", "a2"], "what was put off stands behind what is due");
}

#[test]
fn a_wall_clock_that_jumped_back_strands_nothing() {
    let mut home = Home::new();
    let id = accept_all(&home, &[("a", "a1")]).remove(0);
    claim(&home).unwrap();
    home.defer_turn(&id, Duration::from_secs(60), "down").unwrap();
    enqueue(&home, vec![letter("a", "d1")]).unwrap();
    record(&home, &take(&home).unwrap(), retry_after(60));
    home.die();
    home.clock.jump(-NOW_MS);
    home.open();
    assert_eq!((claim_text(&home).as_deref(), take(&home).unwrap().attempts), (Some("a1"), 2));
}

#[test]
fn a_message_that_ends_the_process_three_times_is_set_aside() {
    let mut home = Home::new();
    let ids = accept_all(&home, &[("poison", "p"), ("poison", "p2"), ("ana", "a")]);
    for death in 1..=3 {
        assert_eq!(claim_text(&home).as_deref(), Some("p"), "death {death}");
        home.crash();
        home.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(home.recovery(), Recovery { unclean: true, set_aside: 1, ..Recovery::default() });
    let failed = home.message(&ids[0]).unwrap();
    assert_eq!((failed.state, failed.error.as_deref()), (MessageState::Failed, Some("its turn ended the process 3 times")));
    assert_eq!(answer_all(&home), ["p2", "a"], "the rest flows");
    home.retry_message(&ids[0]).unwrap();
    claim(&home).unwrap();
    home.crash();
    assert_eq!(claim_text(&home).as_deref(), Some("p"), "a retry begins without strikes");
}

/// R39: a board with a bad power supply, and a turn that takes longer than the power lasts.
#[test]
fn cuts_of_the_power_are_no_messages_fault() {
    let mut home = Home::new();
    accept_all(&home, &[("ana", "a")]);
    for cut in 1..=20 {
        claim(&home).unwrap();
        home.die();
        home.clock.reboot();
        home.open();
        assert_eq!(home.recovery(), Recovery { unclean: true, resumed: 1, ..Recovery::default() }, "cut {cut}");
    }
    for _ in 1..=3 {
        claim(&home).unwrap();
        home.crash();
    }
    assert_eq!(home.recovery().set_aside, 1, "what ends the process of a machine that stays up is told from it");
}

#[test]
fn an_outside_killer_does_not_make_a_healthy_message_fail() {
    // (deaths that miss it before, whether it is set aside at its 3rd, 4th … strike)
    for (misses, hits, set_aside) in [(0, 3, true), (3, 3, false), (3, 4, true), (5, 5, false)] {
        let mut home = Home::new();
        for _ in 0..misses {
            home.crash();
        }
        accept_all(&home, &[("ana", "a")]);
        for hit in 0..hits {
            assert_eq!(home.recovery().set_aside, 0, "{misses} misses, {hit} hits");
            claim(&home).unwrap();
            home.crash();
        }
        assert_eq!(home.recovery().set_aside == 1, set_aside, "{misses} misses, {hits} hits");
    }
}

/// R39: a killer that comes again within milliseconds hits the same turns again, since they are resumed first.
#[test]
fn turns_that_end_together_are_given_more_time() {
    let mut home = Home::new();
    accept_all(&home, &[("ana", "a"), ("bob", "b")]);
    for death in 1..=6 {
        assert_eq!(home.recovery().set_aside, 0, "before death {death}");
        claim(&home).unwrap();
        claim(&home).unwrap();
        home.crash();
    }
    assert_eq!(home.recovery().set_aside, 2, "nobody knows which of them it is");
    // One that still does it when it is alone is the one.
    let mut home = Home::new();
    accept_all(&home, &[("ana", "a"), ("bob", "b")]);
    for _ in 1..=3 {
        claim(&home).unwrap();
        claim(&home).unwrap();
        home.crash();
    }
    claim(&home).unwrap();
    home.crash();
    assert_eq!(home.recovery(), Recovery { unclean: true, set_aside: 1, ..Recovery::default() });
}

#[test]
fn deaths_of_long_ago_excuse_nobody_and_are_not_kept_for_ever() {
    let mut home = Home::new();
    for _ in 0..120 {
        home.crash();
    }
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM deaths"), 100);
    home.clock.advance(Duration::from_secs(3601));
    accept_all(&home, &[("ana", "a")]);
    for _ in 0..3 {
        claim(&home).unwrap();
        home.crash();
    }
    assert_eq!(home.recovery().set_aside, 1);
}

#[test]
fn strikes_end_with_a_release_and_a_clean_close_gives_none() {
    let mut home = Home::new();
    let id = accept_all(&home, &[("ana", "a")]).remove(0);
    for _ in 0..5 {
        claim(&home).unwrap();
        home.crash();
        claim(&home).unwrap();
        home.crash();
        claim(&home).unwrap();
        home.release_turn(&id).unwrap();
        claim(&home).unwrap();
        home.restart();
    }
    assert_eq!((home.recovery().set_aside, claim_text(&home).as_deref()), (0, Some("a")));
}

#[test]
fn what_was_being_sent_is_sent_again_or_kept_as_unknown() {
    let mut home = Home::new();
    let keyed = |text: &str| NewOutbound { channel: "keyed".into(), ..letter("a", text) };
    enqueue(&home, vec![keyed("k1"), keyed("k2"), letter("a", "d1"), letter("a", "d2")]).unwrap();
    let claim_all = |home: &Home| -> Vec<Delivery> {
        std::iter::from_fn(|| {
            home.claim_delivery(&|channel| if channel == "door" { CutOff::Held } else { CutOff::Resent }).unwrap()
        })
        .collect()
    };
    let before = home.stats();
    assert_eq!(claim_all(&home).iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), ["k1", "d1"]);
    let after = home.stats();
    assert_eq!((after.commits - before.commits, after.durable - before.durable), (2, 1), "the mark that matters is durable");
    home.crash();
    assert_eq!((home.recovery().resent, home.recovery().unknown, home.depths().pending), (1, 1, 3));
    let unknown = home.deliveries(Some(DeliveryState::Unknown), page(9)).unwrap().items;
    assert_eq!((unknown.len(), unknown[0].message.as_str(), unknown[0].attempts), (1, "d1", 1));
    let again = claim_all(&home);
    assert_eq!(again.iter().map(|d| (d.message.as_str(), d.attempts)).collect::<Vec<_>>(), [("k1", 2), ("d2", 1)]);
    for delivery in &again {
        record(&home, delivery, Outcome::Sent);
    }
    home.retry_delivery(&unknown[0].id).unwrap();
    let rest = claim_all(&home);
    assert_eq!(rest.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), ["k2", "d1"]);
}

#[test]
fn a_backlog_beyond_what_memory_holds_flows_after_a_start() {
    let mut home = Home::new();
    home.die();
    let mut conn = Connection::open(home.path()).unwrap();
    let many = conn.transaction().unwrap();
    many.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO inbox (seq, id, session, peer, external_id, received_ms, metadata, text) SELECT i, 'msg_' || i, i % 25000 + 1, 'p', NULL, 0, NULL, 't' FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
         INSERT INTO sessions SELECT i, 'ses_' || i, 'u' || i, 'door', '', 'main', 0, 0, NULL FROM n;
         INSERT INTO uses SELECT n, 0, 0, 0, 0 FROM sessions;
         INSERT INTO work SELECT session, seq, 0, 0, 0, 0, 0, '', 0, 0 FROM inbox;",
    )
    .unwrap();
    many.commit().unwrap();
    drop(conn);
    let clock = Clock::system();
    home.open();
    let took = clock.mono();
    assert!(took < Duration::from_secs(5), "{took:?} to open");
    assert_eq!(home.depths().queued, 100_000);
    let (mut sessions, mut early) = (std::collections::HashSet::new(), 0);
    while sessions.len() < 2_500 {
        let claim = claim(&home).expect("more than is held in memory");
        home.finish_turn(answer(&claim.message_id, "r", vec![])).unwrap();
        early += usize::from(!sessions.insert(claim.session_id));
    }
    assert!(early < 10, "{early} sessions had a second turn before 2,500 had their first");
}

#[test]
fn what_is_in_doubt_says_since_when_and_of_which_part() {
    let mut home = Home::new();
    enqueue(&home, vec![letter("a", "d1"), letter("b", "d2"), letter("c", "d3")]).unwrap();
    let cut_off = |home: &Home| home.claim_delivery(&|_| CutOff::Looked).unwrap().unwrap();
    let doubt = |d: &Delivery| (d.unclear_ms.map(|ms| ms - NOW_MS), d.unclear_part, d.in_doubt_since().is_some());
    let first = cut_off(&home);
    assert_eq!(doubt(&first), (None, 0, false));
    home.record_part(&first.id, 2).unwrap();
    home.clock.advance(Duration::from_secs(5));
    home.crash();
    let again = cut_off(&home);
    assert_eq!(
        (again.id.as_str(), doubt(&again)),
        (first.id.as_str(), (Some(0), 2, true)),
        "since it was begun, of its third part"
    );
    home.crash();
    assert_eq!(doubt(&home.delivery(&first.id).unwrap()), (Some(0), 2, true), "the first try of a part counts");
    let again = cut_off(&home);
    home.record_part(&again.id, 3).unwrap();
    assert_eq!(doubt(&home.delivery(&first.id).unwrap()), (Some(0), 2, false), "that part was confirmed");
    home.crash();
    assert_eq!(doubt(&home.delivery(&first.id).unwrap()), (Some(5000), 3, true), "the next one is in doubt");
    let sent = cut_off(&home);
    record(&home, &sent, Outcome::Sent);
    let shown = home.delivery(&first.id).unwrap();
    assert_eq!((shown.state, shown.unclear_ms.is_some()), (DeliveryState::Sent, true), "it stays to be seen");

    // A row's number must not hand the doubt on, and a person's retry ends it.
    let unknown = |home: &Home| {
        let delivery = cut_off(home);
        record(home, &delivery, Outcome::Unknown { reason: "no answer".into() });
        delivery.id
    };
    let (second, third) = (unknown(&home), unknown(&home));
    assert_eq!(home.deliveries(Some(DeliveryState::Unknown), page(9)).unwrap().items.len(), 2);
    assert_eq!(home.retry_delivery(&second).unwrap().unclear_ms, None);
    home.drop_delivery(&third).unwrap();
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM unclear"), 1, "that of the first one");
    home.clock.advance(Duration::from_secs(100 * 24 * 3600));
    home.prune().unwrap();
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM unclear"), 0);
}
