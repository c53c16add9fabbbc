//! Taking in: dedup, sessions, where users were seen, lists.

use serde_json::json;

use super::*;
use crate::domain::{MessageState, Said};
use crate::store::{Seen, StoreError};

fn outside(user: &str, conversation: Option<&str>, external: &str) -> NewInbound {
    NewInbound { external_id: Some(external.into()), conversation: conversation.map(Into::into), ..hello(user, "x") }
}

#[test]
fn an_outside_id_is_one_message_for_its_channel_and_conversation() {
    let mut home = Home::new();
    let first = accept(&home, outside("ana", None, "1")).unwrap();
    assert!(!first.duplicate);
    for crashes in 0..3 {
        for (case, message, duplicate) in [
            ("the same", outside("ana", None, "1"), true),
            ("an empty conversation is none", outside("ana", Some(""), "1"), true),
            ("another channel", NewInbound { channel: "side".into(), ..outside("ana", None, "1") }, crashes > 0),
            ("another peer", outside("bob", None, "1"), crashes > 0),
            ("another conversation", outside("ana", Some("room"), "1"), crashes > 0),
            ("another id", outside("ana", None, "2"), crashes > 0),
            ("another user in one conversation", outside("bob", Some("room"), "1"), true),
            ("no id", hello("ana", "x"), false),
        ] {
            let accepted = accept(&home, message.clone()).unwrap();
            assert_eq!(accepted.duplicate, duplicate, "{case}, after {crashes} crashes");
            assert_eq!(accepted.id == message.id, !duplicate, "{case}");
        }
        let again = accept(&home, outside("ana", None, "1")).unwrap();
        assert_eq!(again, Accepted { duplicate: true, ..first.clone() });
        answer_all(&home);
        home.crash();
    }
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM inbox"), 5 + 3, "a duplicate writes nothing");
}

#[test]
fn dedup_outlives_erasure_and_pruning_for_seven_days() {
    let home = Home::new();
    let first = accept(&home, outside("ana", None, "1")).unwrap();
    answer_all(&home);
    home.erase_user("ana").unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    for (later, duplicate) in [(week / 2, true), (week / 2 - Duration::from_secs(1), true), (Duration::from_secs(2), false)] {
        home.clock.advance(later);
        home.prune().unwrap();
        let again = accept(&home, NewInbound { received_ms: home.clock.unix_ms(), ..outside("ana", None, "1") }).unwrap();
        assert_eq!(again.duplicate, duplicate);
        assert_eq!((again.id == first.id, again.session_id == first.session_id), (duplicate, duplicate));
    }
}

#[test]
fn an_outside_id_whose_key_is_taken_by_another_is_no_duplicate() {
    let home = Home::new();
    accept(&home, outside("ana", None, "1")).unwrap();
    let key = crate::store::sqlite::inbox::dedup_key("door", "", "peer-ana", "2");
    Connection::open(home.path()).unwrap().execute("UPDATE dedup SET hash = ?1", [key]).unwrap();
    let second = accept(&home, outside("ana", None, "2")).unwrap();
    assert!(!second.duplicate);
    let again = accept(&home, outside("ana", None, "2")).unwrap();
    assert_eq!(again, Accepted { duplicate: true, ..second });
}

#[test]
fn a_session_is_of_agent_channel_conversation_and_user_until_it_ends() {
    let home = Home::new();
    let session = |m: NewInbound| accept(&home, m).unwrap().session_id;
    let ana = session(hello("ana", "a"));
    for (other, same) in [
        (hello("ana", "b"), true),
        (hello("bob", "b"), false),
        (NewInbound { agent: "other".into(), ..hello("ana", "b") }, false),
        (NewInbound { channel: "side".into(), ..hello("ana", "b") }, false),
        (NewInbound { conversation: Some("room".into()), ..hello("ana", "b") }, false),
        (NewInbound { peer: "elsewhere".into(), ..hello("ana", "b") }, true),
    ] {
        assert_eq!(session(other.clone()) == ana, same, "{other:?}");
    }
    let claim = claim(&home).unwrap();
    assert_eq!(claim.session_id, ana);
    home.finish_turn(FinishedTurn { ends_session: true, ..answer(&claim.message_id, "bye", vec![]) }).unwrap();
    let next = session(hello("ana", "c"));
    assert_ne!(next, ana);
    home.erase_user("ana").unwrap();
    assert_ne!(session(hello("ana", "d")), next);
}

#[test]
fn users_are_seen_where_they_were_last() {
    let home = Home::new();
    let seen = |channel: &str, peer: &str, at_ms| Seen { channel: channel.into(), peer: peer.into(), conversation: None, at_ms };
    assert_eq!(home.seen("ana").unwrap(), vec![]);
    home.saw("ana", seen("websocket", "ana", NOW_MS - 5)).unwrap();
    accept(&home, hello("ana", "x")).unwrap();
    home.saw("ana", seen("websocket", "ana", NOW_MS + 5)).unwrap();
    assert_eq!(home.seen("ana").unwrap(), [seen("websocket", "ana", NOW_MS + 5), seen("door", "peer-ana", NOW_MS)]);
    let before = home.stats().commands;
    home.saw("ana", seen("websocket", "ana", NOW_MS + 9)).unwrap();
    assert_eq!(home.stats().commands, before, "what is known already is not written again");
    home.saw("ana", seen("door", "moved", NOW_MS + 10)).unwrap();
    assert_eq!(home.seen("ana").unwrap()[0], seen("door", "moved", NOW_MS + 10));
}

#[test]
fn a_message_tells_its_life() {
    let home = Home::new();
    let metadata = Some(json!({"a": [1, "ü"]}));
    let id = accept(&home, NewInbound { metadata: metadata.clone(), conversation: Some("room".into()), ..hello("ana", "hi\0ü") })
        .unwrap()
        .id;
    let claimed = claim(&home).unwrap();
    assert_eq!((claimed.metadata, claimed.text.as_str(), claimed.conversation.as_deref()), (metadata, "hi\0ü", Some("room")));
    home.defer_turn(&id, Duration::ZERO, "the provider\nis down").unwrap();
    claim(&home).unwrap();
    let out = NewOutbound { in_reply_to: Some(id.clone()), session_id: Some(claimed.session_id), ..letter("ana", "yo") };
    home.finish_turn(answer(&id, "yo", vec![out])).unwrap();
    let sent = take(&home).unwrap();
    record(&home, &sent, Outcome::Sent);
    let message = home.message(&id).unwrap();
    assert_eq!(events(&message), ["accepted", "started", "retried", "started", "answered", "delivery_sent"]);
    assert_eq!(message.timeline[2].detail, "the provider is down");
    assert_eq!((message.state, message.reply.as_deref(), message.attempts), (MessageState::Answered, Some("yo"), 2));
    assert_eq!(message.deliveries[0].in_reply_to, Some(id));
    assert_eq!(message.deliveries[0].session_id, Some(message.session_id));
    assert_eq!(home.message("msg_none"), Err(StoreError::NotFound));
}

#[test]
fn lists_are_newest_first_and_go_on_where_they_ended() {
    let home = Home::new();
    let ids = accept_all(&home, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]);
    let states: Vec<_> = std::iter::from_fn(|| claim(&home)).take(4).map(|c| c.message_id).collect();
    home.finish_turn(answer(&states[0], "r", vec![])).unwrap();
    home.fail_turn(&states[1], "no", vec![], vec![]).unwrap();
    home.finish_turn(answer(&states[2], "r", vec![])).unwrap();
    let list = |state, limit| {
        let (mut found, mut cursor) = (vec![], None);
        loop {
            let page = home.messages(state, Page { cursor, limit }).unwrap();
            assert!(page.items.len() <= limit.clamp(1, 500));
            found.extend(page.items.into_iter().map(|m| ids.iter().position(|id| *id == m.id).unwrap() + 1));
            cursor = page.next;
            if cursor.is_none() {
                return found;
            }
        }
    };
    for limit in [0, 1, 2, 5, 9999] {
        for (state, expected) in [
            (None, vec![5, 4, 3, 2, 1]),
            (Some(MessageState::Queued), vec![5]),
            (Some(MessageState::Running), vec![4]),
            (Some(MessageState::WaitingApproval), vec![]),
            (Some(MessageState::Answered), vec![3, 1]),
            (Some(MessageState::Failed), vec![2]),
            (Some(MessageState::Cancelled), vec![]),
        ] {
            assert_eq!(list(state, limit), expected, "{state:?} by {limit}");
        }
    }
    let bad = Page { cursor: Some("1; DROP".into()), limit: 5 };
    let refused = StoreError::BadCursor;
    assert_eq!(home.messages(None, bad.clone()).unwrap_err(), refused);
    assert_eq!(home.sessions(bad.clone()).unwrap_err(), refused);
    assert_eq!(home.deliveries(None, bad.clone()).unwrap_err(), refused);
    assert_eq!(home.audit_trail(bad).unwrap_err(), refused);
}

#[test]
fn sessions_are_listed_by_use_with_their_transcripts() {
    let home = Home::new();
    for text in ["1", "2", "3"] {
        accept_all(&home, &[("ana", text), ("bob", text)]);
        home.clock.advance(Duration::from_secs(1));
        answer_all(&home);
    }
    accept_all(&home, &[("ana", "4")]);
    home.clock.advance(Duration::from_secs(1));
    answer_all(&home);
    let users =
        |page: &Page| home.sessions(page.clone()).map(|l| (l.items.into_iter().map(|s| s.user_id).collect::<Vec<_>>(), l.next));
    let (first, next) = users(&page(1)).unwrap();
    let (second, end) = users(&Page { cursor: next, limit: 1 }).unwrap();
    assert_eq!((first, second, end), (vec!["ana".into()], vec!["bob".into()], None));
    let ana = home.sessions_of("ana", 3, page(9)).unwrap().items.remove(0);
    let said: Vec<_> = ana.transcript.iter().map(|e| (e.role, e.text.as_str())).collect();
    assert_eq!(said, [(Said::Assistant, "re: 3"), (Said::User, "4"), (Said::Assistant, "re: 4")]);
    assert_eq!((ana.turns, home.history(&ana.id, 99).unwrap().len(), home.history(&ana.id, 0).unwrap()), (4, 8, vec![]));
    assert_eq!(home.history("ses_none", 9), Err(StoreError::NotFound));
    assert_eq!(home.sessions_of("nobody", 3, page(9)).unwrap().items, vec![]);
    // What is erased takes no place of a page.
    home.erase_user("ana").unwrap();
    assert_eq!(users(&page(1)).unwrap(), (vec!["bob".into()], None));
    accept_all(&home, &[("ana", "5")]);
    assert_eq!(users(&page(9)).unwrap(), (vec!["ana".into(), "bob".into()], None));
}

/// The first page comes from memory where that is certain: it is what the table says, whatever was used, erased or forgotten, and
/// however the clock went.
#[test]
fn the_latest_sessions_are_those_of_the_table() {
    let mut home = Home::new();
    accept_all(&home, &[("u0", "hi")]);
    home.die();
    let old = "WITH RECURSIVE k(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM k WHERE n < 1400)";
    let file = rusqlite::Connection::open(home.path()).unwrap();
    file.execute_batch(&format!(
        "{old} INSERT INTO sessions (n, id, user_id, channel, conversation, agent, created_ms, state)
             SELECT n, 'ses_' || n, 'old' || n, 'door', '', 'main', 1, 0 FROM k;
         {old} INSERT INTO uses (session, updated_ms, turns) SELECT n, n, 0 FROM k;"
    ))
    .unwrap();
    home.open();
    for step in 0..150u64 {
        let user = format!("u{}", step * step % 23);
        accept_all(&home, &[(&user, "hi")]);
        match step % 10 {
            3 => home.clock.jump(-5_000),
            5 => drop(home.erase_user(&format!("u{}", step % 23)).unwrap()),
            7 if step % 40 == 7 => home.crash(),
            _ => home.clock.advance(Duration::from_secs(1)),
        }
        if step % 3 > 0 {
            answer_all(&home);
        }
        let limit = [1, 5, 20, 400][(step % 4) as usize];
        let listed: Vec<_> = home.sessions(page(limit)).unwrap().items.into_iter().map(|s| s.user_id).collect();
        let expected: String = home.sql(&format!(
            "SELECT group_concat(user_id) FROM (SELECT s.user_id FROM uses u JOIN sessions s ON s.n = u.session
             WHERE s.state < 2 ORDER BY u.updated_ms DESC, u.session DESC LIMIT {limit})"
        ));
        assert_eq!(listed.join(","), expected, "{step}");
    }
}

#[test]
fn erasing_a_user_leaves_no_text_and_no_work() {
    let home = Home::new();
    let secret = "canary-4711";
    let ids = accept_all(&home, &[("ana", secret), ("ana", secret), ("bob", "stays"), ("eve", secret)]);
    let claimed = claim(&home).unwrap();
    let out = NewOutbound { in_reply_to: Some(claimed.message_id.clone()), ..letter("ana", secret) };
    home.finish_turn(answer(&claimed.message_id, secret, vec![out])).unwrap();
    enqueue(&home, vec![letter("ana", secret), letter("bob", "stays")]).unwrap();
    let sending = take(&home).unwrap();
    assert_eq!(sending.user_id, "ana");
    let running = std::iter::from_fn(|| claim(&home)).find(|c| c.user_id == "ana").unwrap();
    assert_eq!((home.erase_user("ana").unwrap(), home.erase_user("eve").unwrap(), home.erase_user("nobody").unwrap()), (1, 1, 0));
    assert_eq!(home.sessions_of("ana", 9, page(9)).unwrap().items, vec![]);
    assert_eq!(home.history(&claimed.session_id, 9).unwrap(), vec![]);
    let first = home.message(&ids[0]).unwrap();
    assert_eq!((first.state, first.message.as_str(), first.reply), (MessageState::Answered, "", None));
    assert_eq!(home.message(&ids[1]).unwrap().state, MessageState::Cancelled);
    let ended_elsewhere = home.finish_turn(answer(&running.message_id, "late", vec![letter("ana", "late")]));
    assert!(matches!(ended_elsewhere, Err(StoreError::Conflict(_))), "{ended_elsewhere:?}");
    assert!(matches!(home.retry_message(&ids[1]), Err(StoreError::Conflict(_))));
    record_gone(&home, &sending);
    assert_eq!(take(&home).unwrap().message, "stays");
    assert_eq!((take(&home), home.depths().pending), (None, 1));
    assert_no_trace(&home, secret);
}

/// What was being sent when its user was erased can't be recorded any more, and doesn't block its target.
fn record_gone(home: &Home, delivery: &Delivery) {
    let attempt = Attempt { delivery_id: delivery.id.clone(), outcome: Outcome::Sent };
    assert!(matches!(home.record_attempt(attempt), Err(StoreError::Conflict(_) | StoreError::NotFound)));
}

/// Ids of two channels that read alike are two users, whoever comes first, for good.
#[test]
fn ids_that_read_alike_are_told_apart() {
    let mut home = Home::new();
    let from = |home: &Home, channel: &str, peer: &str, user: &str, is_bare: bool| {
        let message = NewInbound { channel: channel.into(), peer: peer.into(), is_bare, ..hello(user, "hi") };
        let id = accept(home, message).unwrap().id;
        home.message(&id).unwrap().user_id
    };
    for round in 0..3 {
        for (channel, peer, user, is_bare, expected) in [
            ("tg", "7", "7", true, "7"),
            ("home", "7", "7", true, "home:7"),
            ("tg", "7", "7", true, "7"),
            // A link, a principal and a webhook's credential say who it is.
            ("door", "7", "7", false, "7"),
            ("tg", "9", "ana", false, "ana"),
            ("tg", "ana", "ana", true, "tg:ana"),
            ("door", "bob", "bob", false, "bob"),
            ("home", "bob", "bob", true, "home:bob"),
            ("home", "eve", "eve", true, "eve"),
        ] {
            assert_eq!(from(&home, channel, peer, user, is_bare), expected, "{channel} {peer} in round {round}");
        }
        if round == 0 {
            home.crash()
        } else {
            home.erase_user("7").unwrap(); // erased is not unseen: nobody takes the name over
        }
    }
    let places = |user: &str| home.seen(user).unwrap().into_iter().map(|s| s.channel).collect::<Vec<_>>();
    assert_eq!((places("home:7"), places("eve")), (vec!["home".to_string()], vec!["home".to_string()]));
}
