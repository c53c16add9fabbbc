//! When what is past its time goes, and what people are told of the room that is left.

use super::*;

/// Waits for the thread that a tick began.
fn tick(home: &Home) {
    home.flow.tick_retention(home.clock.mono());
    for _ in 0..500 {
        if !home.flow.is_retaining() {
            return;
        }
        let _ = crossbeam_channel::after(Duration::from_millis(10)).recv();
    }
    panic!("retention does not end");
}

fn messages(home: &Home) -> usize {
    home.flow
        .store
        .messages(None, Page { cursor: None, limit: 99 })
        .unwrap()
        .items
        .iter()
        .filter(|m| !m.message.is_empty())
        .count()
}

#[test]
fn what_is_old_goes_at_its_time_and_not_because_a_clock_jumped() {
    let home =
        Home::new(json!({"dmPolicy": "open"}), json!({"store": {"retention": {"transcripts": {"maxAge": 86_400_000u64}}}}));
    let answered = |id: &str| {
        home.take(direct("1", id));
        let claim = home.claim();
        home.flow.store.cancel_turn(&claim.message_id, "done", Vec::new()).unwrap();
    };
    home.flow.sync_retention();
    (0..3).for_each(|n| answered(&format!("m{n}")));
    tick(&home);
    assert_eq!(messages(&home), 3, "it is not time");
    home.clock.advance(Duration::from_secs(300));
    tick(&home);
    assert_eq!(messages(&home), 3, "nothing is old");
    // The wall clock alone, two days ahead: nothing goes in the first hour after that was seen.
    home.clock.jump(2 * 86_400_000);
    home.clock.advance(Duration::from_secs(3600));
    tick(&home);
    assert_eq!(messages(&home), 3);
    home.clock.advance(Duration::from_secs(3600));
    answered("late");
    tick(&home);
    assert_eq!(messages(&home), 1, "it stayed there");
}
