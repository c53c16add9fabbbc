//! What turns used, what sessions came to, what is to be forgotten, and a database of before all that.

use super::*;
use crate::domain::{MessageState, Said, Summary, Usage};
use crate::store::StoreError;
use crate::store::sqlite::schema;

const DAY: i64 = NOW_MS / 86_400_000;

fn spent(provider: &str, tokens_in: u64, tokens_out: u64, calls: u64) -> Spent {
    Spent { provider: provider.into(), tokens_in, tokens_out, calls }
}

fn used(day: i64, user: &str, provider: &str, counts: (u64, u64, u64)) -> Usage {
    let (tokens_in, tokens_out, calls) = counts;
    Usage { day, user_id: user.into(), agent: "main".into(), provider: provider.into(), tokens_in, tokens_out, calls }
}

#[test]
fn what_turns_used_adds_up_by_day_user_and_provider() {
    let mut home = Home::new();
    let turn = |home: &Home, user: &str, spent: Vec<Spent>| {
        accept_all(home, &[(user, "x")]);
        let id = claim(home).unwrap().message_id;
        home.finish_turn(FinishedTurn { spent, ..answer(&id, "r", vec![]) }).unwrap();
    };
    turn(&home, "ana", vec![spent("a", 10, 1, 1), spent("b", 20, 2, 3)]);
    turn(&home, "ana", vec![spent("a", 100, 10, 1)]);
    turn(&home, "bob", vec![spent("a", 7, 7, 1), spent("idle", 0, 0, 0)]);
    turn(&home, "eve", vec![spent("silent", 0, 0, 2)]);
    accept_all(&home, &[("ana", "fails")]);
    let failed = claim(&home).unwrap().message_id;
    home.fail_turn(&failed, "no", vec![], vec![spent("a", 1000, 0, 4)]).unwrap();
    home.clock.advance(Duration::from_secs(86_400));
    turn(&home, "ana", vec![spent("a", 1, 1, 1)]);
    let huge = spent("b", u64::MAX, u64::MAX, u64::MAX);
    turn(&home, "max", vec![huge.clone(), huge]);
    home.crash();
    home.erase_user("ana").unwrap();
    let first = [
        used(DAY, "ana", "a", (1110, 11, 6)),
        used(DAY, "ana", "b", (20, 2, 3)),
        used(DAY, "bob", "a", (7, 7, 1)),
        used(DAY, "eve", "silent", (0, 0, 2)),
    ];
    let second = [used(DAY + 1, "ana", "a", (1, 1, 1)), used(DAY + 1, "max", "b", (1 << 41, 1 << 41, 1 << 41))];
    assert_eq!(home.usage(DAY, None).unwrap(), [&second[..], &first[..]].concat());
    assert_eq!(home.usage(DAY + 1, Some("ana")).unwrap(), second[..1]);
    assert_eq!(home.usage(DAY + 2, None).unwrap(), vec![]);
    for (day, agent, user, tokens) in [
        (DAY, "main", None, 1110 + 11 + 22 + 14),
        (DAY, "main", Some("ana"), 1110 + 11 + 22),
        (DAY, "main", Some("bob"), 14),
        (DAY, "other", None, 0),
        (DAY + 1, "main", Some("ana"), 2),
        (DAY - 1, "main", None, 0),
    ] {
        assert_eq!(home.tokens_of(day, agent, user), Ok(tokens), "{day} {agent} {user:?}");
    }
    home.clock.advance(Duration::from_secs(800 * 86_400));
    home.prune().unwrap();
    assert_eq!(home.usage(0, None).unwrap(), second, "accounts are kept long, and not for ever");
}

#[test]
fn sessions_tell_their_tokens_and_transcripts_their_turns() {
    let home = Home::new();
    accept_all(&home, &[("ana", "1"), ("ana", "2"), ("ana", "3")]);
    let session = claim(&home).unwrap().session_id;
    let first = home.messages(None, page(9)).unwrap().items.remove(2).id;
    home.fail_turn(&first, "no", vec![], vec![spent("a", 5, 0, 1)]).unwrap();
    answer_all(&home);
    home.retry_message(&first).unwrap();
    answer_all(&home);
    let ana = home.sessions(page(9)).unwrap().items.remove(0);
    assert_eq!((ana.turns, ana.tokens_in, ana.tokens_out), (3, 3 * 3 + 5, 3 * 4));
    let told: Vec<_> = home.history(&session, 99).unwrap().into_iter().map(|e| (e.turn, e.role, e.text)).collect();
    let expected = [
        (1, Said::User, "2"),
        (1, Said::Assistant, "re: 2"),
        (2, Said::User, "3"),
        (2, Said::Assistant, "re: 3"),
        (3, Said::User, "1"),
        (3, Said::Assistant, "re: 1"),
    ];
    assert_eq!(told, expected.map(|(turn, role, text)| (turn, role, text.to_string())));
}

#[test]
fn a_session_keeps_its_model_and_its_summary_until_it_is_erased() {
    let mut home = Home::new();
    let session =
        accept(&home, NewInbound { standing: crate::domain::Standing::Operator, ..hello("ana", "1") }).unwrap().session_id;
    home.set_model(&session, Some("small")).unwrap();
    let summary = |text: &str, until| Summary { text: text.into(), until };
    assert_eq!(home.summary(&session), Ok(None));
    home.set_summary(&session, summary("first", 3)).unwrap();
    home.set_summary(&session, summary("second", 7)).unwrap();
    home.crash();
    let turn = claim(&home).unwrap();
    assert_eq!((turn.model.as_deref(), turn.standing), (Some("small"), crate::domain::Standing::Operator));
    assert_eq!(home.summary(&session), Ok(Some(summary("second", 7))));
    assert_eq!(home.sessions(page(9)).unwrap().items[0].model.as_deref(), Some("small"));
    home.set_model(&session, None).unwrap();
    home.release_turn(&turn.message_id).unwrap();
    assert_eq!(claim(&home).unwrap().model, None);
    home.erase_user("ana").unwrap();
    assert_eq!(home.summary(&session), Ok(None));
    assert_eq!(home.set_summary(&session, summary("late", 9)), Err(StoreError::NotFound));
    assert_eq!(home.set_model(&session, Some("x")), Err(StoreError::NotFound));
    assert_eq!(home.summary("ses_none"), Err(StoreError::NotFound));
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM summaries"), 0);
}

#[test]
fn a_turn_that_is_to_be_forgotten_leaves_its_outside_id_alone() {
    let mut home = Home::new();
    let secret = "canary-0815";
    let message = || NewInbound { external_id: Some("1".into()), metadata: Some(secret.into()), ..hello("anon", secret) };
    let first = accept(&home, message()).unwrap();
    let turn = claim(&home).unwrap();
    home.set_summary(&turn.session_id, Summary { text: secret.into(), until: 1 }).unwrap();
    home.record_step(&first.id, Step { data: secret.repeat(99), ..step(StepKind::Asked, secret) }).unwrap();
    let out =
        NewOutbound { in_reply_to: Some(first.id.clone()), session_id: Some(turn.session_id.clone()), ..letter("anon", "sent") };
    let sent = home.finish_turn(FinishedTurn { forget: true, ..answer(&first.id, "sent", vec![out]) }).unwrap();
    assert_eq!(sent.len(), 1);
    for _ in 0..2 {
        let kept = home.message(&first.id).unwrap();
        assert_eq!((kept.state, kept.message.as_str(), kept.reply), (MessageState::Answered, "", None));
        assert_eq!(home.history(&turn.session_id, 9), Ok(vec![]));
        assert_eq!(home.sessions(page(9)).unwrap().items, vec![]);
        assert_eq!(accept(&home, message()).unwrap(), Accepted { duplicate: true, ..first.clone() });
        home.restart();
    }
    assert_no_trace(&home, secret);
    assert_eq!(take(&home).unwrap().message, "sent", "what is to be sent has its text");
    assert_eq!(home.tokens_of(DAY, "main", Some("anon")), Ok(7));
    assert_ne!(accept(&home, hello("anon", "next")).unwrap().session_id, turn.session_id);
}

#[test]
fn sessions_that_were_forgotten_are_pruned_many_at_a_time() {
    let home = Home::new();
    for n in 0..700 {
        let id = accept_all(&home, &[(&format!("anon-{n}"), "x")]).remove(0);
        claim(&home).unwrap();
        home.finish_turn(FinishedTurn { forget: true, ..answer(&id, "r", vec![]) }).unwrap();
    }
    home.clock.advance(Duration::from_secs(8 * 86_400));
    let before = home.stats().commits;
    home.prune().unwrap();
    assert!(home.stats().commits - before < 20, "{}", home.stats().commits - before);
    assert_eq!((home.sql::<i64>("SELECT count(*) FROM inbox"), home.sql::<i64>("SELECT count(*) FROM sessions")), (1, 1));
}

#[test]
fn a_database_of_the_first_version_goes_on() {
    let mut home = Home::new();
    home.die();
    for file in std::fs::read_dir(home.path().parent().unwrap()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let old = Connection::open(home.path()).unwrap();
    schema::migrate(&old, &schema::MIGRATIONS[..1]).unwrap();
    old.execute_batch(
        "PRAGMA journal_mode = WAL;
         INSERT INTO meta VALUES ('running', 1);
         INSERT INTO sessions VALUES (1, 'ses_1', 'ana', 'door', '', 'main', 5, 0);
         INSERT INTO uses VALUES (1, 6, 1);
         INSERT INTO inbox VALUES (1, 'msg_1', 1, 'p', 'x', 5, NULL, 'one'), (2, 'msg_2', 1, 'p', NULL, 6, NULL, 'two'),
            (3, 'msg_3', 1, 'p', NULL, 7, NULL, 'three');
         INSERT INTO ended VALUES (1, 1, 1, 3, 1, 6, 9, 3, 4, 's5 - ' || char(10), 'reply');
         INSERT INTO steps VALUES (1, 2, 'long detail');
         INSERT INTO work VALUES (1, 2, 1, 1, 0, 0, 0, 's6 - ' || char(10) || 't7 1 ' || char(10)), (1, 3, 0, 0, 0, 0, 0, '');",
    )
    .unwrap();
    drop(old);
    home.open();
    assert_eq!(home.sql::<i64>("PRAGMA user_version"), schema::MIGRATIONS.len() as i64);
    assert_eq!((home.recovery().resumed, home.depths().queued, home.claim_urgent()), (1, 2, Ok(None)));
    let turn = claim(&home).unwrap();
    assert_eq!((turn.text.as_str(), turn.standing, turn.model), ("two", crate::domain::Standing::Unverified, None));
    let kinds: Vec<_> = turn.steps.iter().map(|s| (s.kind, s.data.as_str())).collect();
    assert_eq!(kinds, [(StepKind::Started, ""), (StepKind::Asked, "long detail"), (StepKind::Interrupted, "")]);
    home.finish_turn(answer("msg_2", "r", vec![])).unwrap();
    let session = home.sessions_of("ana", 9, page(9)).unwrap().items.remove(0);
    assert_eq!((session.turns, session.tokens_in, session.transcript.len()), (2, 3, 4));
    home.add_note(crate::domain::Note {
        id: "not_1".into(),
        user_id: "ana".into(),
        agent: "main".into(),
        text: "likes tea".into(),
        created_ms: 1,
        updated_ms: 1,
    })
    .unwrap();
    assert_eq!(home.search_notes("ana", "main", "tea", 9).unwrap().len(), 1);
    home.crash();
    assert_eq!((claim_text(&home).as_deref(), home.sql::<String>("PRAGMA integrity_check")), (Some("three"), "ok".into()));
}
