//! What goes by age and by size, what never does, and what the disk gets back.

use super::*;
use crate::domain::{Attachment, Decision, MessageState, Said};
use crate::store::AuditEntry;
use crate::store::sqlite::schema;

const DAY: Duration = Duration::from_secs(86_400);

/// Nothing may stay that may go.
fn nothing_kept() -> Retention {
    Retention { max_bytes: 1, ..brief() }
}

fn now(home: &Home) -> i64 {
    home.clock.unix_ms()
}

fn wrote(home: &Home, user: &str, text: &str, external: Option<&str>) -> String {
    let external_id = external.map(str::to_string);
    accept(home, NewInbound { received_ms: now(home), external_id, ..hello(user, text) }).unwrap().id
}

/// A message that is answered, and whose reply is sent.
fn exchanged(home: &Home, user: &str, text: &str) -> String {
    let id = wrote(home, user, text, None);
    answer_all(home);
    send_all(home);
    id
}

fn send_all(home: &Home) {
    while let Some(delivery) = take(home) {
        record(home, &delivery, Outcome::Sent);
    }
}

fn texts(home: &Home) -> Vec<String> {
    let mut all: Vec<_> = home.messages(None, page(500)).unwrap().items.into_iter().map(|m| m.message).collect();
    all.retain(|text| !text.is_empty());
    all.sort();
    all
}

/// Bytes of the database and its log, as files.
fn on_disk(home: &Home) -> u64 {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    size(home.path()) + size(home.path().with_extension("db-wal"))
}

#[test]
fn what_waits_for_anybody_never_goes() {
    let mut home = Home::new();
    let gone = exchanged(&home, "ana", "settled");
    // Unanswered: queued, deferred, running, failed, waiting for a person.
    let failed = wrote(&home, "bob", "failed", None);
    claim(&home).unwrap();
    home.fail_turn(&failed, "no", vec![], vec![]).unwrap();
    wrote(&home, "cid", "asks", None);
    let (_, asked) = park(&home, &["c1"]);
    let deferred = wrote(&home, "dan", "deferred", None);
    claim(&home).unwrap();
    home.defer_turn(&deferred, DAY, "later").unwrap();
    wrote(&home, "eve", "running", None);
    claim(&home).unwrap();
    // Answered, and the reply is not there yet: dead, unknown, on its way, waiting for a receipt.
    for (user, outcome) in [
        ("fay", Outcome::Dead { reason: "no".into() }),
        ("gus", Outcome::Unknown { reason: "cut".into() }),
        ("hal", retry_after(99_999)),
    ] {
        let id = wrote(&home, user, user, None);
        claim(&home).unwrap();
        let out = NewOutbound { in_reply_to: Some(id.clone()), ..letter(user, "reply") };
        home.finish_turn(answer(&id, "reply", vec![out])).unwrap();
        record(&home, &take(&home).unwrap(), outcome);
    }
    let id = wrote(&home, "ivy", "ivy", None);
    claim(&home).unwrap();
    let out = NewOutbound { in_reply_to: Some(id.clone()), handoff: Handoff::Receipt, ..letter("ivy", "reply") };
    home.finish_turn(answer(&id, "reply", vec![out])).unwrap();
    wrote(&home, "joe", "queued", None);
    let (before, pairing) = (
        home.depths(),
        crate::domain::Pairing {
            code: String::new(),
            channel: "door".into(),
            user_id: "stranger".into(),
            name: "S".into(),
            created_ms: now(&home),
            expires_ms: now(&home) + 3_600_000,
        },
    );
    home.ask_pairing(pairing).unwrap();
    home.keep(nothing_kept());
    let gone_now = home.make_room().unwrap();
    assert!(gone_now >= 1 && home.space().is_full(), "{gone_now}");
    home.clock.advance(DAY * 400);
    home.keep(Retention { transcripts: Kept { max_age: Some(DAY), max_bytes: Some(1) }, ..nothing_kept() });
    home.prune().unwrap();
    home.make_room().unwrap();
    let waits = ["asks", "deferred", "failed", "fay", "gus", "hal", "ivy", "queued", "running"];
    assert_eq!((texts(&home), home.depths()), (waits.map(String::from).to_vec(), before));
    assert_eq!(home.message(&gone), Err(crate::store::StoreError::NotFound));
    for state in [DeliveryState::Dead, DeliveryState::Unknown, DeliveryState::Pending] {
        let kept = home.deliveries(Some(state), page(9)).unwrap().items;
        assert!(!kept.is_empty() && kept.iter().all(|d| d.message == "reply"), "{state:?} {kept:?}");
    }
    assert_eq!(home.pairings(page(9)).unwrap().items.len(), 0, "its time is over");
    assert_eq!(home.approval(&asked[0].id).unwrap().state, ApprovalState::Pending);
    home.crash();
    home.keep(nothing_kept());
    home.make_room().unwrap();
    assert_eq!(texts(&home), waits.map(String::from).to_vec());
    // Once a person has seen to them, they may go as well.
    for delivery in home.deliveries(None, page(99)).unwrap().items {
        let _ = home.drop_delivery(&delivery.id);
    }
    home.make_room().unwrap();
    assert!(!texts(&home).iter().any(|text| ["fay", "gus", "hal", "ivy"].contains(&text.as_str())), "{:?}", texts(&home));
    assert_eq!(home.sql::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn the_oldest_go_first_and_no_more_than_has_to() {
    let home = Home::new();
    let text = "x".repeat(20_000);
    for n in 0..400 {
        exchanged(&home, &format!("u{}", n % 7), &format!("{n:03} {text}"));
        home.clock.advance(Duration::from_secs(60));
    }
    let full = home.space().used;
    assert!(full > 16_000_000, "{full}");
    home.keep(Retention { max_bytes: 12 << 20, ..brief() });
    assert!(home.space().is_full());
    home.make_room().unwrap();
    let kept: Vec<_> = texts(&home).iter().map(|text| text[..3].parse::<usize>().unwrap()).collect();
    assert!((100..350).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept, (400 - kept.len()..400).collect::<Vec<_>>(), "what is kept is the newest, without a gap");
    assert!(!home.space().is_above_aim() && !home.space().is_high(), "{:?}", home.space());
    let used = home.space().used;
    assert!(used > 8 << 20, "{used} is kept: not more went than a step beyond the aim");
    assert_eq!(home.make_room(), Ok(0), "there is room");
}

#[test]
fn repeats_are_known_though_their_message_went() {
    let mut home = Home::new();
    let first = wrote(&home, "ana", "CANARY-1", Some("ext-1"));
    answer_all(&home);
    send_all(&home);
    exchanged(&home, "ana", "CANARY-2");
    let session = home.message(&first).unwrap().session_id;
    home.keep(nothing_kept());
    home.make_room().unwrap();
    for _ in 0..2 {
        let again = accept(&home, NewInbound { external_id: Some("ext-1".into()), ..hello("ana", "again") }).unwrap();
        assert_eq!((again.duplicate, &again.id), (true, &first));
        assert_eq!(home.history(&session, 9), Ok(vec![]), "a tombstone is in no transcript");
        let tombstone = home.message(&first).unwrap();
        assert_eq!((tombstone.state, tombstone.message.as_str(), tombstone.reply), (MessageState::Answered, "", None));
        home.crash();
        home.keep(nothing_kept());
        home.make_room().unwrap();
    }
    let leaked: i64 =
        home.sql("SELECT count(*) FROM inbox i LEFT JOIN ended e ON e.seq = i.seq WHERE i.text || e.text LIKE '%CANARY%'");
    assert_eq!(leaked, 0);
    wrote(&home, "bob", "the newest", None);
    home.clock.advance(DAY * 8);
    home.prune().unwrap();
    home.prune().unwrap();
    assert_eq!(texts(&home), ["the newest"]);
    let left = ["inbox", "ended", "dedup", "sessions", "uses"].map(|t| home.sql::<i64>(&format!("SELECT count(*) FROM {t}")));
    assert_eq!(left, [1, 0, 0, 1, 1], "inbox, ended, dedup, sessions, uses");
    assert!(!accept(&home, NewInbound { external_id: Some("ext-1".into()), ..hello("ana", "new") }).unwrap().duplicate);
}

#[test]
fn a_turn_goes_as_a_whole_and_the_rest_of_its_session_stays() {
    let home = Home::new();
    let collects = |text: &str| {
        accept(&home, NewInbound { collect: true, received_ms: now(&home), ..hello("ana", text) }).unwrap();
    };
    ["a", "b", "c"].into_iter().for_each(collects);
    home.clock.advance(Duration::from_secs(2));
    answer_all(&home);
    send_all(&home);
    home.clock.advance(DAY * 3);
    let last = exchanged(&home, "ana", "d");
    home.keep(Retention { transcripts: Kept { max_age: Some(DAY * 2), max_bytes: None }, ..brief() });
    home.prune().unwrap();
    let session = home.message(&last).unwrap().session_id;
    let said: Vec<_> = home.history(&session, 99).unwrap().into_iter().map(|e| (e.turn, e.role, e.text)).collect();
    assert_eq!(said, [(2, Said::User, "d".to_string()), (2, Said::Assistant, "re: d".to_string())]);
    exchanged(&home, "ana", "e");
    assert_eq!(home.sessions(page(9)).unwrap().items[0].turns, 3, "turns are numbered on");
    home.clock.advance(DAY * 3);
    home.prune().unwrap();
    assert_eq!(home.history(&session, 99), Ok(vec![]));
}

#[test]
fn each_kind_is_held_to_its_bytes() {
    let home = Home::new();
    for n in 0..300 {
        home.audit(AuditEntry {
            at_ms: now(&home),
            actor: "admin".into(),
            action: "tried".into(),
            detail: serde_json::json!({"n": n, "more": "x".repeat(100)}),
        });
        exchanged(&home, "ana", &format!("{n:03} {}", "y".repeat(500)));
    }
    enqueue(&home, (0..300).map(|n| letter("ana", &format!("{n:03} {}", "z".repeat(500)))).collect()).unwrap();
    send_all(&home);
    let kept = |max_bytes| Kept { max_age: None, max_bytes: Some(max_bytes) };
    let roomy = Retention { transcripts: kept(1 << 30), outbox: kept(1 << 30), audit: kept(1 << 30), ..Retention::default() };
    home.keep(roomy);
    assert_eq!(home.prune(), Ok(0));
    home.keep(Retention { transcripts: kept(50_000), outbox: kept(40_000), audit: kept(10_000), ..roomy });
    // What was light enough is not weighed again until something is added to it.
    exchanged(&home, "ana", "new");
    home.audit(AuditEntry { at_ms: 1, actor: "a".into(), action: "b".into(), detail: serde_json::json!(1) });
    home.health(true).unwrap();
    assert!(home.prune().unwrap() > 500);
    let sum = |sql: &str| home.sql::<i64>(sql);
    let transcripts =
        sum("SELECT sum(length(i.text) + length(e.text) + length(e.journal)) FROM ended e JOIN inbox i ON i.seq = e.seq");
    let outbox = sum("SELECT sum(length(coalesce(text, ''))) FROM outbox");
    let audit = sum("SELECT sum(length(actor) + length(action) + length(detail)) FROM audit");
    // Messages and deliveries go a hundred at a time.
    assert!(transcripts <= 50_000 && outbox <= 40_000 && (9_000..=10_000).contains(&audit), "{transcripts} {outbox} {audit}");
    assert_eq!(home.audit_trail(page(1)).unwrap().items[0].at_ms, 1, "the newest stay");
    assert!(texts(&home).contains(&"new".to_string()));
    assert_eq!(home.prune(), Ok(0));
}

#[test]
fn files_go_by_age_and_by_bytes_and_with_their_messages() {
    let home = Home::new();
    let with_file = |user: &str| {
        let file = Attachment::new("ref", "a.png", "image/png", None).unwrap();
        let message = NewInbound { attachments: vec![file], received_ms: now(&home), ..hello(user, user) };
        let id = accept(&home, message).unwrap().id;
        home.keep_attachment(&id, 0, &[7; 1000]).unwrap();
        id
    };
    let files = || std::fs::read_dir(home.path().parent().unwrap().join("gatelet.db-attachments")).unwrap().count();
    let old = with_file("old");
    answer_all(&home);
    let waits = with_file("waits");
    assert_eq!(claim_text(&home).as_deref(), Some("waits"));
    home.clock.advance(DAY * 10);
    let young = with_file("young");
    answer_all(&home);
    send_all(&home);
    let attachments = |max_age: u32, max_bytes| Kept { max_age: (max_age > 0).then_some(DAY * max_age), max_bytes };
    home.keep(Retention { attachments: attachments(9, None), ..brief() });
    home.prune().unwrap();
    assert_eq!((files(), home.attachment(&old, 0).is_ok(), home.attachment(&waits, 0).is_ok()), (2, false, true));
    assert_eq!(home.message(&old).unwrap().attachments.len(), 1, "the message says that there was one");
    home.keep(Retention { attachments: attachments(0, Some(1500)), ..brief() });
    home.prune().unwrap();
    assert_eq!((files(), home.attachment(&young, 0).is_ok()), (1, false), "an unanswered one's stays");
    home.keep(brief());
    let newest = with_file("newest");
    answer_all(&home);
    send_all(&home);
    exchanged(&home, "ana", "behind it");
    home.keep(nothing_kept());
    home.make_room().unwrap();
    assert_eq!((files(), home.attachment(&newest, 0).is_ok(), home.attachment(&waits, 0).is_ok()), (1, false, true));
}

#[test]
fn a_year_stays_within_its_bound() {
    let mut home = Home::new();
    let max_bytes = 8 << 20;
    let keep = Retention { max_bytes, ..brief() };
    home.keep(keep);
    let unanswered = wrote(&home, "first", "unanswered", None);
    claim(&home).unwrap();
    home.fail_turn(&unanswered, "no", vec![], vec![]).unwrap();
    let text = "w".repeat(2_000);
    let mut most = 0;
    for day in 0..365 {
        for n in 0..24 {
            let id = format!("{day}-{n}");
            wrote(&home, &format!("u{}", (day * 7 + n) % 50), &format!("{id} {text}"), Some(&id));
        }
        answer_all(&home);
        send_all(&home);
        home.clock.advance(DAY);
        home.prune().unwrap();
        if home.space().is_high() {
            home.make_room().unwrap();
        }
        most = most.max(on_disk(&home));
        assert!(!home.space().is_full(), "day {day}: {:?}", home.space());
        if day % 100 == 99 {
            home.crash();
            home.keep(keep);
        }
    }
    let written = 365 * 24 * 2 * 2_000;
    assert!(most <= max_bytes + (1 << 20) && written > 4 * max_bytes, "{most} bytes at most, of {written}");
    assert_eq!(home.message(&unanswered).unwrap().state, MessageState::Failed);
    assert_eq!(texts(&home).len(), 500, "a page of them, at least");
    assert_eq!(home.sql::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_burst_is_given_back_once_it_is_quiet_and_then_nothing_is_written() {
    let home = Home::new();
    let text = "v".repeat(20_000);
    (0..300).for_each(|_| drop(exchanged(&home, "ana", &text)));
    wrote(&home, "bob", "stays", None);
    let full = on_disk(&home);
    home.keep(nothing_kept());
    home.make_room().unwrap();
    home.tidy();
    home.health(false).unwrap();
    assert!(on_disk(&home) >= full, "it is not quiet yet");
    home.clock.advance(Duration::from_secs(11));
    tidied(&home, |size| size < full / 4 && size < 2 << 20);
    home.tidy();
    settle();
    let last = on_disk(&home);
    let stamp = || std::fs::metadata(home.path()).unwrap().modified().unwrap();
    let (before, commits) = (stamp(), home.stats());
    for _ in 0..10 {
        home.clock.advance(Duration::from_secs(30));
        home.tidy();
        settle();
    }
    assert_eq!((stamp(), home.stats(), on_disk(&home)), (before, commits, last), "at rest nothing is written");
    assert_eq!((texts(&home), home.sql::<String>("PRAGMA integrity_check")), (vec!["stays".to_string()], "ok".into()));
}

/// Gives the writer time: anything put behind what was asked of it would cut that short.
fn settle() {
    let _ = crossbeam_channel::after(Duration::from_millis(30)).recv();
}

/// Tidies until the files have such a size.
#[track_caller]
fn tidied(home: &Home, fits: impl Fn(u64) -> bool) {
    for _ in 0..300 {
        home.tidy();
        settle();
        if fits(on_disk(home)) {
            return;
        }
    }
    panic!("{} bytes are left", on_disk(home));
}

#[test]
fn a_database_of_before_is_listed_where_that_is_cheap() {
    let mut home = Home::new();
    home.die();
    std::fs::remove_file(home.path()).unwrap();
    let old = Connection::open(home.path()).unwrap();
    old.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL").unwrap();
    schema::migrate(&old, schema::MIGRATIONS).unwrap();
    drop(old);
    home.open();
    assert_eq!(home.sql::<i64>("PRAGMA auto_vacuum"), 0);
    (0..200).for_each(|_| drop(exchanged(&home, "ana", &"u".repeat(10_000))));
    wrote(&home, "bob", "stays", None);
    home.keep(nothing_kept());
    home.make_room().unwrap();
    home.clock.advance(Duration::from_secs(11));
    tidied(&home, |size| size < 1 << 20);
    assert_eq!((home.sql::<i64>("PRAGMA auto_vacuum"), texts(&home)), (2, vec!["stays".to_string()]));
    home.crash();
    assert_eq!(claim_text(&home).as_deref(), Some("stays"));
}

#[test]
fn caches_are_dropped_and_come_again() {
    let home = Home::new();
    let id = exchanged(&home, "ana", "hi");
    for _ in 0..3 {
        home.shrink();
        assert_eq!(home.message(&id).unwrap().message, "hi");
        exchanged(&home, "ana", "more");
    }
    let (_, asked) = {
        wrote(&home, "bob", "asks", None);
        park(&home, &["c"])
    };
    home.shrink();
    home.decide_approval(&asked[0].id, Decision::Allow, "op").unwrap();
}
