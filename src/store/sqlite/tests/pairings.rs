//! Pairings: codes that are good once and not for ever, senders who are let in.

use super::*;
use crate::domain::{PAIRING_MS, Pairing};
use crate::store::StoreError;

fn stranger(home: &Home, channel: &str, user: &str) -> Pairing {
    let now = home.clock.unix_ms();
    Pairing {
        code: format!("{channel}-{user}-{now}"),
        channel: channel.into(),
        user_id: user.into(),
        name: format!("{user} calls itself ana"),
        created_ms: now,
        expires_ms: now + PAIRING_MS,
    }
}

fn ask(home: &Home, channel: &str, user: &str) -> Result<Pairing> {
    home.ask_pairing(stranger(home, channel, user))
}

fn waiting(home: &Home) -> Vec<String> {
    home.pairings(page(99)).unwrap().items.into_iter().map(|p| p.user_id).collect()
}

fn hour() -> Duration {
    Duration::from_millis(PAIRING_MS as u64)
}

#[test]
fn a_code_lets_one_sender_in_once() {
    let mut home = Home::new();
    let code = ask(&home, "door", "ana").unwrap().code;
    assert_eq!(home.is_paired("door", "ana"), Ok(false));
    let let_in = home.decide_pairing(&code, true).unwrap();
    assert_eq!((let_in.user_id.as_str(), home.decide_pairing(&code, true)), ("ana", Err(StoreError::NotFound)));
    for start in 0..3 {
        let paired = [("door", "ana"), ("side", "ana"), ("door", "bob"), ("", "")].map(|(c, p)| home.is_paired(c, p).unwrap());
        assert_eq!((paired, waiting(&home).len()), ([true, false, false, false], 0), "start {start}");
        if start == 0 { home.crash() } else { home.restart() }
    }
    assert!(matches!(ask(&home, "door", "ana"), Err(StoreError::Conflict(_))), "who is in does not wait");
    home.unpair("door", "ana").unwrap();
    assert_eq!((home.unpair("door", "ana"), home.is_paired("door", "ana")), (Err(StoreError::NotFound), Ok(false)));
    home.crash();
    assert_eq!(home.is_paired("door", "ana"), Ok(false));
    let code = ask(&home, "door", "ana").unwrap().code;
    home.decide_pairing(&code, false).unwrap();
    assert_eq!((home.is_paired("door", "ana"), home.decide_pairing(&code, true)), (Ok(false), Err(StoreError::NotFound)));
}

#[test]
fn a_sender_has_one_code_and_a_channel_three() {
    let mut home = Home::new();
    let first = ask(&home, "door", "ana").unwrap();
    home.clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&home, "door", "ana").unwrap(), first, "it may ask again, and gains no time by it");
    ask(&home, "door", "bob").unwrap();
    ask(&home, "door", "cleo").unwrap();
    assert!(matches!(ask(&home, "door", "dan"), Err(StoreError::Conflict(_))));
    assert_eq!(ask(&home, "door", "ana").unwrap(), first, "also where no place is left");
    ask(&home, "side", "dan").unwrap();
    home.crash();
    assert!(matches!(ask(&home, "door", "dan"), Err(StoreError::Conflict(_))));
    assert_eq!(waiting(&home), ["dan", "cleo", "bob", "ana"]);
    let listed = home.pairings(page(3)).unwrap();
    let rest = home.pairings(Page { cursor: listed.next, limit: 3 }).unwrap();
    assert_eq!((rest.items, rest.next), (vec![first], None));
    home.clock.advance(hour() - Duration::from_secs(60));
    assert_eq!(waiting(&home), ["dan", "cleo", "bob"], "one is over");
    ask(&home, "door", "eve").unwrap();
    assert!(matches!(ask(&home, "door", "ana"), Err(StoreError::Conflict(_))));
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM pairings"), 4, "what is over is removed");
}

#[test]
fn two_senders_who_draw_the_same_code_are_not_one() {
    let home = Home::new();
    let first = ask(&home, "door", "ana").unwrap();
    let twin = Pairing { code: first.code.clone(), ..stranger(&home, "side", "mallory") };
    assert!(matches!(home.ask_pairing(twin), Err(StoreError::Conflict(_))));
    assert_eq!(home.decide_pairing(&first.code, true).unwrap().user_id, "ana");
    assert_eq!(home.is_paired("side", "mallory"), Ok(false));
}

#[test]
fn wrong_codes_in_a_row_withdraw_all_that_wait_over_restarts() {
    let mut home = Home::new();
    let code = ask(&home, "door", "ana").unwrap().code;
    ask(&home, "side", "bob").unwrap();
    for n in 0..4 {
        assert_eq!(home.decide_pairing("wrong", true), Err(StoreError::NotFound));
        if n % 2 == 0 { home.crash() } else { home.restart() }
    }
    home.decide_pairing(&code, false).unwrap();
    let code = ask(&home, "door", "ana").unwrap().code;
    for _ in 0..4 {
        assert_eq!(home.decide_pairing("", false), Err(StoreError::NotFound));
        home.crash();
        assert_eq!(waiting(&home), ["ana", "bob"], "a right one ended the row");
    }
    let durable = home.stats().durable;
    assert_eq!(home.decide_pairing("wrong", true), Err(StoreError::NotFound));
    assert_eq!((waiting(&home).len(), home.stats().durable), (0, durable + 1));
    home.crash();
    assert_eq!(home.decide_pairing(&code, true), Err(StoreError::NotFound), "it was withdrawn for good");
    let code = ask(&home, "door", "ana").unwrap().code;
    for _ in 0..3 {
        home.decide_pairing("wrong", true).unwrap_err();
    }
    assert_eq!(home.decide_pairing(&code, true).unwrap().user_id, "ana", "the count began anew");
}

#[test]
fn a_code_that_is_over_is_a_wrong_one() {
    let home = Home::new();
    let code = ask(&home, "door", "ana").unwrap().code;
    home.clock.advance(hour() - Duration::from_millis(1));
    assert_eq!(waiting(&home), ["ana"]);
    home.clock.advance(Duration::from_millis(1));
    ask(&home, "door", "bob").unwrap();
    for left in (0..4).rev() {
        assert_eq!(home.decide_pairing(&code, true), Err(StoreError::NotFound));
        assert_eq!(waiting(&home).len(), 1, "{left} tries left");
    }
    assert_eq!((home.decide_pairing(&code, true), waiting(&home).len()), (Err(StoreError::NotFound), 0));
    assert_eq!(home.is_paired("door", "ana"), Ok(false));
}

#[test]
fn no_jump_of_the_wall_clock_makes_a_code_eternal() {
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;
    // (jump, a restart behind it, the code is still good)
    for (jump, restart, good) in
        [(-YEAR_MS, false, true), (-YEAR_MS, true, true), (-NOW_MS, true, true), (YEAR_MS, false, false), (YEAR_MS, true, false)]
    {
        let mut home = Home::new();
        let code = ask(&home, "door", "ana").unwrap().code;
        home.clock.jump(jump);
        if restart {
            home.restart();
        }
        assert_eq!(waiting(&home).len(), usize::from(good), "jump {jump}, restart {restart}");
        home.clock.advance(hour());
        assert_eq!(waiting(&home).len(), 0, "jump {jump}, restart {restart}");
        for user in ["bob", "cleo", "dan"] {
            ask(&home, "door", user).unwrap();
        }
        assert_eq!(home.decide_pairing(&code, true), Err(StoreError::NotFound), "jump {jump}, restart {restart}");
    }
}

#[test]
fn one_code_is_decided_once_by_many_who_have_it() {
    let home = Home::new();
    for round in 0..10 {
        let code = ask(&home, "door", &round.to_string()).unwrap().code;
        let decided: usize = std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|_| s.spawn(|| usize::from(home.decide_pairing(&code, true).is_ok()))).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(decided, 1);
    }
}

#[test]
fn a_new_code_does_not_fall_with_the_one_that_was_over_before_it() {
    let home = Home::new();
    for _ in 0..20 {
        ask(&home, "door", "ana").unwrap();
        home.clock.advance(hour());
        // Both see in memory that a code is over; the first one removes it and puts another.
        std::thread::scope(|s| {
            for user in ["bob", "cleo"] {
                let home = &home;
                s.spawn(move || ask(home, "door", user).unwrap());
            }
        });
        assert_eq!(waiting(&home).len(), 2);
        home.clock.advance(hour());
    }
}

#[test]
fn who_is_let_in_is_bounded_and_a_refusal_costs_nobody_its_place() {
    let home = Home::new();
    for n in 0..20 {
        let code = ask(&home, "door", &n.to_string()).unwrap().code;
        home.decide_pairing(&code, true).unwrap();
    }
    let code = ask(&home, "door", "one more").unwrap().code;
    assert!(matches!(home.decide_pairing(&code, true), Err(StoreError::Conflict(_))));
    home.unpair("door", "0").unwrap();
    assert_eq!(home.decide_pairing(&code, true).unwrap().user_id, "one more");
}

#[test]
fn a_disk_that_fails_lets_nobody_in() {
    let home = Home::new();
    let code = ask(&home, "door", "ana").unwrap().code;
    home.shared.pages_max.store(1, std::sync::atomic::Ordering::SeqCst);
    let big = NewInbound { text: "x".repeat(200_000), ..hello("bob", "") };
    accept(&home, big).unwrap_err();
    let outcome = home.ask_pairing(Pairing { name: "n".repeat(200_000), ..stranger(&home, "door", "bob") });
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert_eq!(waiting(&home), ["ana"]);
    home.shared.pages_max.store(0, std::sync::atomic::Ordering::SeqCst);
    home.decide_pairing(&code, true).unwrap();
    home.close();
    assert_eq!(home.is_paired("door", "ana"), Err(StoreError::Stopped), "a closed store lets nobody in");
}
