//! The built-in tools through the door.

use super::*;
use crate::base::clock::Clock;
use crate::domain::{Entry, NOTE_BYTES_MAX, Note, Said};

fn usual() -> Toolbox {
    toolbox(Action::Ask, &USUAL, &[])
}

#[test]
fn time_now() {
    let mut desk = Desk::of(Standing::Unverified);
    let told = desk.call(&usual(), "time.now", "");
    assert_eq!(told, r#"+{"utc":"2026-09-21T14:13:20.000Z","weekday":"Monday","unixMs":1790000000000}"#);
    let told = desk.call(&usual(), "time.now", r#"{"offset": "+11:30"}"#);
    assert!(told.ends_with(r#","local":"2026-09-22T01:43:20.000+11:30","localWeekday":"Tuesday"}"#), "{told}");
    let told = desk.call(&usual(), "time.now", r#"{"offset": "-03:30"}"#);
    assert!(told.ends_with(r#","local":"2026-09-21T10:43:20.000-03:30","localWeekday":"Monday"}"#), "{told}");
    assert!(desk.call(&usual(), "time.now", r#"{"offset": "Mars"}"#).starts_with("-offset is none. write hours"));
    desk.clock = Clock::manual(i64::MAX);
    assert!(desk.call(&usual(), "time.now", r#"{"offset": "+14:00"}"#).starts_with("+{"), "no time is too late");
}

#[test]
fn a_note_is_saved_once() {
    let mut desk = Desk::new();
    let told = desk.call(&usual(), "memory.save", r#"{"text": " likes tea "}"#);
    assert_eq!(desk.call(&usual(), "memory.save", r#"{"text": " likes tea "}"#), told, "the same call again");
    let notes = desk.store.notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 1);
    let note = &notes[0];
    assert_eq!(told, format!("+Saved as {}.", note.id));
    assert!(note.id.starts_with("not_01m5yh0000") && note.id.len() == 30, "it begins with the message's time: {}", note.id);
    let shown = (note.user_id.as_str(), note.agent.as_str(), note.text.as_str(), note.created_ms);
    assert_eq!(shown, ("ana", "main", "likes tea", NOW_MS));
}

#[test]
fn notes_that_are_none() {
    let mut desk = Desk::new();
    let long = format!(r#"{{"text": "{}"}}"#, "é".repeat(NOTE_BYTES_MAX / 2 + 1));
    assert_eq!(
        desk.call(&usual(), "memory.save", &long),
        "-the note has 2002 bytes, a note may have 2000. save the essence of it"
    );
    assert_eq!(desk.call(&usual(), "memory.save", r#"{"text": " \n"}"#), "-the note is empty");
    for i in 0..3 {
        desk.store.notes.lock().unwrap().push(note(&format!("n{i}"), "ana", "main", "x"));
    }
    assert!(desk.call(&usual(), "memory.save", r#"{"text": "x"}"#).starts_with("-this user has 1000 notes already. forget"));
    desk.store.is_down = true;
    for (tool, arguments) in
        [("memory.save", r#"{"text": "x"}"#), ("memory.search", r#"{"query": "x"}"#), ("memory.forget", r#"{"id": "n1"}"#)]
    {
        assert_eq!(desk.call(&usual(), tool, arguments), "-the memory can't be reached now. try again later");
    }
    assert_eq!(desk.call(&usual(), "session.history", ""), "-the history can't be read now. try again later");
}

fn note(id: &str, user: &str, agent: &str, text: &str) -> Note {
    let (id, user_id, agent, text) = (id.into(), user.into(), agent.into(), text.into());
    Note { id, user_id, agent, text, created_ms: 0, updated_ms: NOW_MS }
}

#[test]
fn others_notes_do_not_exist() {
    let mut desk = Desk::new();
    let all = [note("n1", "ana", "main", "tea"), note("n2", "bob", "main", "tea"), note("n3", "ana", "other", "tea")];
    desk.store.notes.lock().unwrap().extend(all);
    let none = desk.call(&usual(), "memory.forget", r#"{"id": "n0"}"#);
    assert_eq!(none, "-there is no such note. memory search gives the ids");
    for id in ["n2", "n3"] {
        assert_eq!(desk.call(&usual(), "memory.forget", &json!({"id": id}).to_string()), none);
    }
    let named = desk.call(&usual(), "memory.forget", r#"{"id": "n2", "userId": "bob"}"#);
    assert_eq!(named, "-the arguments don't fit ($ stands for them all): $.userId: no such field; there is id");
    assert_eq!(desk.store.notes.lock().unwrap().len(), 3);
    // Also where the store gives more than it was asked for.
    assert_eq!(desk.call(&usual(), "memory.search", r#"{"query": "tea"}"#), r#"+{"id":"n1","saved":"2026-09-21","text":"tea"}"#);
    assert_eq!(desk.call(&usual(), "memory.search", r#"{"query": "coffee"}"#), "+Nothing found.");
    assert_eq!(desk.call(&usual(), "memory.forget", r#"{"id": "n1"}"#), "+Forgotten.");
    assert_eq!(desk.store.notes.lock().unwrap().len(), 2);
}

#[test]
fn histories() {
    let mut desk = Desk::of(Standing::Unverified);
    assert_eq!(desk.call(&usual(), "session.history", ""), "+Nothing earlier.");
    let entry = |i: usize| {
        let role = if i.is_multiple_of(2) { Said::User } else { Said::Assistant };
        Entry { role, text: format!("\"{i}\"\n"), at_ms: NOW_MS, message_id: None, turn: 0 }
    };
    desk.store.history.lock().unwrap().extend((0..100).map(entry));
    let mut check = |arguments: &str, first: usize, last: usize| {
        let told = desk.call(&usual(), "session.history", arguments);
        let lines: Vec<_> = told[1..].lines().collect();
        assert_eq!(lines.len(), last - first + 1, "{arguments}");
        let line = |i: usize| {
            let from = if i.is_multiple_of(2) { "user" } else { "assistant" };
            format!(r#"{{"at":"2026-09-21T14:13","from":"{from}","text":"\"{i}\"\n"}}"#)
        };
        assert_eq!((lines[0], lines[lines.len() - 1]), (line(first).as_str(), line(last).as_str()), "{arguments}");
    };
    check("", 80, 99);
    check(r#"{"limit": 50}"#, 50, 99);
    check(r#"{"limit": 0}"#, 99, 99);
    check(r#"{"limit": 10, "skip": 40}"#, 50, 59);
    check(r#"{"limit": 50.0, "skip": 90}"#, 0, 9);
    assert_eq!(desk.call(&usual(), "session.history", r#"{"skip": 100}"#), "+Nothing earlier.");
    assert!(desk.call(&usual(), "session.history", r#"{"limit": 51}"#).starts_with("-the arguments don't fit"));
    desk.store.history.lock().unwrap().iter_mut().for_each(|e| e.text = "\"\n".repeat(50_000));
    let told = desk.call(&usual(), "session.history", r#"{"limit": 50}"#);
    assert!(told.lines().count() == 50 && !told.contains("[cut here"), "all entries fit: {} bytes", told.len());
}

#[test]
fn messages() {
    let send = |default: Action, rules: &[&str], arguments: &str| {
        let mut desk = Desk::new();
        let told = desk.call(&toolbox(default, rules, &[]), "message.send", arguments);
        let sent = desk.post.0.lock().unwrap().clone();
        assert_eq!(sent.len(), usize::from(told == "+It is on its way as dlv_1."), "{told}");
        let sent = sent.first().map(|(user, channel, text, key)| {
            assert_eq!((text.as_str(), key.as_str()), ("hi", "msg_1/call_1"));
            format!("{user} {}", channel.as_deref().unwrap_or("-"))
        });
        sent.unwrap_or(told)
    };
    let (own, own_named, bob) =
        (r#"{"text": "hi"}"#, r#"{"text": "hi", "user": "ana", "channel": "mx"}"#, r#"{"text": "hi", "user": "bob"}"#);
    for (default, rules, arguments, expected) in [
        (Action::Allow, vec![], own, "ana -"),
        (Action::Allow, vec![], own_named, "ana mx"),
        (Action::Ask, vec![], own, "?May agent"),
        (Action::Deny, vec![], own, "-the gateway's rules forbid"),
        // To another one: only where a rule names whom.
        (Action::Allow, vec![], bob, "?May agent"),
        (Action::Ask, vec!["allow message.send"], bob, "?May agent"),
        (Action::Ask, vec!["allow *"], bob, "?May agent"),
        (Action::Ask, vec!["allow message.send user=ana"], bob, "?May agent"),
        (Action::Ask, vec!["allow message.send arguments.text=hi"], bob, "?May agent"),
        (Action::Ask, vec!["allow message.send arguments.user=carl", "allow *"], bob, "?May agent"),
        (Action::Ask, vec!["allow message.send arguments.user=bob"], bob, "bob -"),
        (Action::Ask, vec!["allow message.* arguments.user=b*"], bob, "bob -"),
        (Action::Allow, vec!["deny message.send arguments.user=*"], bob, "-the gateway's rules forbid"),
        (Action::Allow, vec![], r#"{"text": "hi", "user": "Ana"}"#, "?May agent"),
        (Action::Allow, vec![], r#"{"text": "hi", "user": "ana "}"#, "?May agent"),
        (Action::Allow, vec![], r#"{"text": "hi", "user": ""}"#, "?May agent"),
        (Action::Allow, vec!["allow * arguments.user=*"], r#"{"text": "hi", "user": ""}"#, "-user is empty"),
        (Action::Allow, vec!["allow * arguments.user=*"], r#"{"text": "hi", "user": "nobody"}"#, "-nobody was never seen"),
        (Action::Allow, vec![], r#"{"text": " "}"#, "-text is empty"),
        (Action::Allow, vec![], r#"{"text": "hi", "user": ["bob"]}"#, "-the arguments don't fit"),
    ] {
        let told = send(default, &rules, arguments);
        assert!(told.starts_with(expected), "{rules:?} {arguments}: {told}");
    }
}

#[test]
fn strangers() {
    let toolbox = toolbox(Action::Allow, &["allow *"], &[]);
    let names: Vec<_> = toolbox.offered(&who(Standing::Unverified), None).iter().map(|s| s.name.clone()).collect();
    assert_eq!(names, ["time.now", "session.history"]);
    for (tool, argument) in
        [("memory.save", "text"), ("memory.search", "query"), ("memory.forget", "id"), ("message.send", "text")]
    {
        let told = Desk::of(Standing::Unverified).call(&toolbox, tool, &json!({argument: "x"}).to_string());
        assert!(told.starts_with("-the gateway's rules forbid"), "{tool}: {told}");
    }
}
