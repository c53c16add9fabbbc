//! The tools for jobs, through the door.

use super::*;
use crate::domain::{Job, When, Work};

fn open() -> Toolbox {
    toolbox(Action::Allow, &[], &[])
}

fn job(id: &str, user: &str, by: &str) -> Job {
    Job {
        id: id.into(),
        by: by.into(),
        when: When::Cron("0 8 * * *".into()),
        timezone: Some("UTC".into()),
        work: Work::Message("tea".into()),
        user_id: user.into(),
        channel: None,
        catch_up: false,
        enabled: true,
        next_ms: Some(NOW_MS + 1000),
        updated_ms: NOW_MS,
    }
}

#[test]
fn a_job_is_made_once_and_for_its_user() {
    let mut desk = Desk::new();
    let arguments = r#"{"everySeconds": 60.0, "prompt": "Any news?"}"#;
    let told = desk.call(&open(), "job.create", arguments);
    assert_eq!(desk.call(&open(), "job.create", arguments), told, "the same call again");
    let jobs = desk.store.jobs.lock().unwrap().clone();
    assert_eq!(jobs.len(), 1);
    let made = &jobs[0];
    assert_eq!(told, format!("+Made as {}, next at 2026-09-21T14:14:20.000Z.", made.id));
    let turn = Work::Turn { agent: "main".into(), prompt: "Any news?".into() };
    assert_eq!((made.user_id.as_str(), made.by.as_str(), &made.work, made.next_ms), ("ana", "ana", &turn, Some(NOW_MS + 60_000)));
    assert!(made.id.starts_with("job_01m5yh0000"), "{}", made.id);
    let listed = desk.call(&open(), "job.list", "");
    let expected = format!(r#"+{{"id":"{}","next":"2026-09-21T14:14:20.000Z","prompt":"Any news?","everySeconds":60}}"#, made.id);
    assert_eq!(listed, expected);
    assert_eq!(desk.call(&open(), "job.delete", &json!({"id": made.id}).to_string()), "+Deleted.");
    assert_eq!(desk.call(&open(), "job.list", ""), "+No jobs.");
}

#[test]
fn jobs_that_are_none() {
    for (arguments, expected) in [
        (r#"{"prompt": "x"}"#, "-give exactly one of at, everySeconds and cron"),
        (r#"{"prompt": "x", "everySeconds": 60, "cron": "* * * * *"}"#, "-give exactly one of"),
        (r#"{"everySeconds": 60}"#, "-give either a prompt or a message"),
        (r#"{"everySeconds": 60, "prompt": "x", "message": "x"}"#, "-give either"),
        (r#"{"everySeconds": 59, "message": "x"}"#, "-everySeconds must be 60 to"),
        (r#"{"everySeconds": -60, "message": "x"}"#, "-everySeconds must be 60 to"),
        (r#"{"cron": "0 0 31 2 *", "message": "x"}"#, "-cron never comes"),
        (r#"{"cron": "0 8 * * *", "timezone": "Mars/Olympus", "message": "x"}"#, "-timezone there is no such"),
        (r#"{"at": "2026-09-21T14:13:20Z", "message": "x"}"#, "-that time is over; it is 2026-09-21T14:13:20.000Z now"),
        (r#"{"at": "soon", "message": "x"}"#, "-at not a time; expected RFC 3339"),
        (r#"{"everySeconds": 60, "message": "x", "userId": "bob"}"#, "-the arguments don't fit"),
    ] {
        let mut desk = Desk::new();
        let told = desk.call(&open(), "job.create", arguments);
        assert!(told.starts_with(expected), "{arguments}: {told}");
        assert!(desk.store.jobs.lock().unwrap().is_empty());
    }
    let long = json!({"everySeconds": 60, "message": "x".repeat(4097)}).to_string();
    assert_eq!(Desk::new().call(&open(), "job.create", &long), "-prompt and message may have 4096 bytes");
}

#[test]
fn others_jobs_do_not_exist() {
    let mut desk = Desk::new();
    desk.store.jobs.lock().unwrap().extend([job("j1", "bob", "bob"), job("j2", "bob", "ana"), job("j3", "ana", "config")]);
    let none = desk.call(&open(), "job.delete", r#"{"id": "j0"}"#);
    assert_eq!(none, "-there is no such job. job list gives the ids");
    for id in ["j1", "j2"] {
        assert_eq!(desk.call(&open(), "job.delete", &json!({"id": id}).to_string()), none);
    }
    assert!(desk.call(&open(), "job.delete", r#"{"id": "j3"}"#).starts_with("-an operator made this job"));
    assert_eq!(desk.store.jobs.lock().unwrap().len(), 3);
    let listed = desk.call(&open(), "job.list", "");
    assert!(listed.contains("\"j3\"") && !listed.contains("j1") && !listed.contains("j2"), "{listed}");
}

#[test]
fn there_is_an_end_to_them() {
    let mut desk = Desk::new();
    let create = r#"{"everySeconds": 60, "message": "x"}"#;
    desk.store.jobs.lock().unwrap().extend((0..20).map(|i| job(&format!("j{i}"), "ana", "ana")));
    desk.store.jobs.lock().unwrap().push(job("c", "ana", "config"));
    assert_eq!(desk.call(&open(), "job.create", create), "-this user has 20 jobs already. delete some first");
    desk.store.jobs.lock().unwrap()[7].next_ms = None;
    assert!(desk.call(&open(), "job.create", create).starts_with("+Made"), "one that is over makes room");
    let jobs = desk.store.jobs.lock().unwrap().clone();
    assert!(jobs.len() == 21 && jobs.iter().all(|j| j.id != "j7"));
    desk.store.is_down = true;
    for (tool, arguments) in [("job.create", create), ("job.list", ""), ("job.delete", r#"{"id": "j1"}"#)] {
        assert_eq!(desk.call(&open(), tool, arguments), "-the jobs can't be reached now. try again later");
    }
}

#[test]
fn a_person_is_asked_unless_a_rule_allows_it() {
    let create = r#"{"everySeconds": 60, "message": "x"}"#;
    for (default, rules, standing, expected) in [
        (Action::Ask, &USUAL[..], Standing::User, "?May agent"),
        (Action::Ask, &["allow job.*"][..], Standing::User, "+Made"),
        (Action::Allow, &[][..], Standing::Unverified, "-the gateway's rules forbid"),
    ] {
        let told = Desk::of(standing).call(&toolbox(default, rules, &[]), "job.create", create);
        assert!(told.starts_with(expected), "{told}");
    }
}
