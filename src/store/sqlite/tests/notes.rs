//! Notes: keeping, finding in any script, forgetting without a trace.

use super::*;
use crate::domain::{NOTE_BYTES_MAX, NOTES_MAX, Note};
use crate::store::StoreError;

fn note(user: &str, text: &str) -> Note {
    Note {
        id: new_id("not", NOW_MS),
        user_id: user.into(),
        agent: "main".into(),
        text: text.into(),
        created_ms: NOW_MS,
        updated_ms: NOW_MS,
    }
}

fn keep(home: &Home, user: &str, texts: &[&str]) -> Vec<Note> {
    let notes: Vec<_> = texts.iter().map(|text| note(user, text)).collect();
    notes.iter().for_each(|note| home.add_note(note.clone()).unwrap());
    notes
}

fn found(home: &Home, text: &str) -> Vec<String> {
    home.search_notes("ana", "main", text, 10).unwrap().into_iter().map(|note| note.text).collect()
}

#[test]
fn notes_are_found_in_any_script() {
    let home = Home::new();
    let notes = [
        "Ana's bicycle is blue and stands in the cellar",
        "她住在东京塔附近，喜欢喝绿茶",
        "猫の名前はミケです",
        "ชอบกินผัดไทยมาก",
        "Der Schlüssel für die Straße liegt unter der Fußmatte",
        "Любит борщ со сметаной",
        "मुझे हिन्दी पसंद है",
        "서울에서 태어났어요",
        "loves 🍕 and ☕️, not 🥦",
        "WLAN password: correct-horse; router at 192.168.1.1",
        "cafe\u{301} on Mondays at 8",
        "ភាសាខ្មែរ ល្អ",
    ];
    keep(&home, "ana", &notes);
    for (sought, expected) in [
        ("What colour is her BICYCLE?", Some(0)),
        ("bicycles standing around", Some(0)),
        ("东京", Some(1)),
        ("我想去東京塔", Some(1)),
        ("绿茶好喝吗", Some(1)),
        ("茶", Some(1)),
        ("ミケ", Some(2)),
        ("猫の名前は何？", Some(2)),
        ("ผัดไทยอร่อยไหม", Some(3)),
        ("schlussel", Some(4)),
        ("STRASSE", Some(4)),
        ("борщ", Some(5)),
        ("БОРЩ?", Some(5)),
        ("हिन्दी", Some(6)),
        ("서울", Some(7)),
        ("🍕?", Some(8)),
        ("☕", Some(8)),
        ("horse", Some(9)),
        ("192.168.1.1", Some(9)),
        ("Café", Some(10)),
        ("ខ្មែរ", Some(11)),
        ("zebra", None),
        ("🚲", None),
        ("京东", None),
    ] {
        assert_eq!(found(&home, sought).first().map(String::as_str), expected.map(|n| notes[n]), "{sought}");
    }
}

#[test]
fn no_text_is_an_error_and_none_is_syntax() {
    let home = Home::new();
    keep(&home, "ana", &["alpha beta", "gamma delta"]);
    keep(&home, "eve", &["alpha of eve's"]);
    for (sought, expected) in [
        ("alpha AND gamma", 2),
        ("alpha NOT beta", 1),
        ("NEAR(alpha gamma, 1)", 2),
        ("alp*", 0),
        ("\"alpha", 1),
        ("alpha\" OR text : \"gamma", 2),
        ("text : gamma", 1),
        ("{owner text} : alpha", 1),
        ("^beta", 1),
        ("-alpha", 1),
        ("alpha + gamma", 2),
        ("'; DROP TABLE notes; --", 0),
        ("\0alpha\0", 1),
        ("*", 0),
        ("\"\"\"\"", 0),
        ("()", 0),
        ("®", 0),
        ("\u{301}\u{200d}", 0),
        ("", 0),
        ("what is the", 0),
    ] {
        assert_eq!(found(&home, sought).len(), expected, "{sought:?}");
    }
    for c in (0..=0x2FFF).chain(0xE000..0x10000).chain(0x1F000..0x20100).chain(0xE0000..0xE0200).filter_map(char::from_u32) {
        let text = format!("{c}a{c}{c}");
        assert!(home.search_notes("ana", "main", &text, 1).is_ok(), "{c:?}");
    }
}

#[test]
fn the_best_come_first_and_common_words_count_little() {
    let home = Home::new();
    keep(
        &home,
        "ana",
        &["what is it that you do", "the dog", "a dog named Rex", "Rex the dog likes the river, Rex swims", "the river"],
    );
    let names = found(&home, "what is the name of the dog, is it Rex?");
    assert!(names[..2].iter().all(|text| text.contains("Rex")), "{names:?}");
    assert!(!names.contains(&"what is it that you do".to_string()), "{names:?}");
    assert_eq!(home.search_notes("ana", "main", "dog river", 2).unwrap().len(), 2);
    assert_eq!(home.search_notes("ana", "main", "dog river", 0).unwrap(), vec![]);
}

#[test]
fn notes_are_their_users_and_agents_own() {
    let home = Home::new();
    keep(&home, "ana", &["ana's secret"]);
    keep(&home, "bob", &["bob's secret"]);
    home.add_note(Note { agent: "other".into(), ..note("ana", "the other agent's secret") }).unwrap();
    assert_eq!(found(&home, "secret"), ["ana's secret"]);
    let texts = |user, agent| -> Vec<_> {
        home.notes(user, agent, page(9)).unwrap().items.into_iter().map(|note| note.text).collect::<Vec<_>>()
    };
    assert_eq!(texts("ana", None), ["the other agent's secret", "ana's secret"]);
    assert_eq!((texts("ana", Some("main")), texts("eve", None)), (vec!["ana's secret".to_string()], vec![]));
    let first = home.notes("ana", None, page(1)).unwrap();
    let rest = home.notes("ana", None, Page { cursor: first.next, limit: 1 }).unwrap();
    assert_eq!((rest.items[0].text.as_str(), rest.next), ("ana's secret", None));
}

#[test]
fn a_note_is_kept_once_changed_and_forgotten() {
    let mut home = Home::new();
    let first = keep(&home, "ana", &["likes tea"]).remove(0);
    home.add_note(Note { text: "a repeat".into(), ..first.clone() }).unwrap();
    home.crash();
    assert_eq!((home.note(&first.id), found(&home, "repeat")), (Ok(first.clone()), vec![]));
    home.clock.advance(Duration::from_secs(5));
    let changed = home.change_note(&first.id, "likes coffee").unwrap();
    assert_eq!(changed, Note { text: "likes coffee".into(), updated_ms: NOW_MS + 5000, ..first.clone() });
    assert_eq!((found(&home, "tea"), found(&home, "coffee").len()), (vec![], 1));
    home.forget_note(&first.id).unwrap();
    assert_eq!((found(&home, "coffee"), home.note(&first.id)), (vec![], Err(StoreError::NotFound)));
    assert_eq!(home.forget_note(&first.id), Err(StoreError::NotFound));
    assert_eq!(home.change_note(&first.id, "x"), Err(StoreError::NotFound));
    assert_eq!(home.sql::<i64>("SELECT count(*) FROM words_docsize"), 0);
}

#[test]
fn notes_are_bounded() {
    let home = Home::new();
    let long = "x".repeat(NOTE_BYTES_MAX + 1);
    assert!(matches!(home.add_note(note("ana", &long)), Err(StoreError::Conflict(_))));
    let kept = keep(&home, "ana", &["first"]).remove(0);
    assert!(matches!(home.change_note(&kept.id, &long), Err(StoreError::Conflict(_))));
    assert_eq!(found(&home, "first"), ["first"], "a change that is refused changes nothing");
    std::thread::scope(|s| {
        for thread in 0..8 {
            let home = &home;
            s.spawn(move || (thread..NOTES_MAX - 1).step_by(8).for_each(|n| drop(keep(home, "ana", &[&format!("note {n}")]))));
        }
    });
    assert!(matches!(home.add_note(note("ana", "one more")), Err(StoreError::Conflict(_))));
    home.add_note(kept).unwrap();
    home.add_note(note("bob", "his first")).unwrap();
    home.add_note(Note { agent: "other".into(), ..note("ana", "the other's first") }).unwrap();
    assert_eq!(home.search_notes("ana", "main", "note", 5000).unwrap().len(), 100);
}

#[test]
fn forgetting_leaves_no_byte() {
    let home = Home::new();
    let canary = |n: usize| format!("canary{}secret{n} kanarienvogel金丝雀之歌", "xqz".repeat(n % 9));
    let others: Vec<String> = (0..400).map(|n| format!("candid cantata {n} {}", "lorem ipsum ".repeat(n % 40))).collect();
    let mut forgotten = Vec::new();
    for (n, other) in others.iter().enumerate() {
        keep(&home, "bob", &[other]);
        if n % 2 == 0 {
            forgotten.extend(keep(&home, "ana", &[&canary(n)]));
        }
    }
    let (single, rest) = forgotten.split_at(30);
    single.iter().for_each(|note| home.forget_note(&note.id).unwrap());
    home.change_note(&rest[0].id, "harmless").unwrap();
    keep(&home, "eve", &[&canary(1), &canary(8)]);
    home.erase_user("eve").unwrap();
    home.erase_user("ana").unwrap();
    assert_eq!(home.notes("ana", None, page(9)).unwrap().items, vec![]);
    assert_eq!(home.search_notes("bob", "main", "candid", 500).unwrap().len(), 100);
    home.sql::<String>("PRAGMA integrity_check");
    for secret in ["canary", "secret", "kanarienvogel", "kanarienvog", "雀", "金 ", "harmless"] {
        assert_no_trace(&home, secret);
    }
}
