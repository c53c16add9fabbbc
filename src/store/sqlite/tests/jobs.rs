//! Jobs and their history.

use super::*;
use crate::domain::{Job, JobRun, When, Work};
use crate::store::{AuditEntry, StoreError};

fn job(id: &str, next_ms: Option<i64>) -> Job {
    Job {
        id: id.into(),
        by: "config".into(),
        when: When::Cron("0 7 * * 1-5".into()),
        timezone: Some("Europe/Vienna".into()),
        work: Work::Turn { agent: "main".into(), prompt: "Wake \"me\"\nüp".into() },
        user_id: "ana".into(),
        channel: None,
        catch_up: true,
        enabled: true,
        next_ms,
        updated_ms: NOW_MS,
    }
}

fn run(id: &str, due_ms: i64) -> JobRun {
    JobRun { job_id: id.into(), due_ms, at_ms: due_ms + 3, outcome: "ran".into(), detail: format!("msg_{due_ms}") }
}

fn dues(home: &Home, id: &str) -> Vec<i64> {
    home.job_runs(id, page(500)).unwrap().items.iter().map(|run| run.due_ms).collect()
}

#[test]
fn jobs_are_kept_as_they_are_and_listed_by_id() {
    let mut home = Home::new();
    let once = Job { when: When::At("2027-01-01T00:00:00Z".into()), timezone: None, ..job("b", Some(5)) };
    let often =
        Job { when: When::Every(60_000), work: Work::Message("tick".into()), channel: Some("door".into()), ..job("c", None) };
    let all = [Job { enabled: false, catch_up: false, ..job("a", Some(i64::MAX)) }, once, often];
    for (n, one) in all.iter().rev().enumerate() {
        let durable = home.stats().durable;
        home.put_job(one.clone()).unwrap();
        assert_eq!(home.stats().durable, durable + 1, "job {n}");
    }
    home.crash();
    assert_eq!(home.jobs().unwrap(), all);
    assert_eq!((home.job("b").unwrap(), home.job("B")), (all[1].clone(), Err(StoreError::NotFound)));
    home.delete_job("b").unwrap();
    assert_eq!((home.delete_job("b"), home.jobs().unwrap().len()), (Err(StoreError::NotFound), 2));
    home.restart();
    assert_eq!(home.job("b"), Err(StoreError::NotFound));
}

#[test]
fn a_run_is_recorded_once_for_each_time_that_was_due() {
    let mut home = Home::new();
    home.put_job(job("j", Some(100))).unwrap();
    let refused = |outcome: Result<()>| assert!(matches!(outcome, Err(StoreError::Conflict(_))), "{outcome:?}");
    refused(home.record_run(run("j", 99), Some(200)));
    home.record_run(run("j", 100), Some(200)).unwrap();
    refused(home.record_run(run("j", 100), Some(300)));
    home.crash();
    refused(home.record_run(run("j", 100), Some(300)));
    assert_eq!((home.job("j").unwrap().next_ms, dues(&home, "j")), (Some(200), vec![100]), "a refusal writes nothing");
    home.put_job(job("j", Some(150))).unwrap();
    refused(home.record_run(run("j", 200), None));
    home.record_run(run("j", 150), None).unwrap();
    for due in [0, 150, i64::MIN] {
        refused(home.record_run(run("j", due), Some(1)));
    }
    assert_eq!((home.job("j").unwrap().next_ms, dues(&home, "j")), (None, vec![150, 100]), "a change keeps the history");
    assert_eq!(home.record_run(run("none", 1), None), Err(StoreError::NotFound));
    assert_eq!(home.job_runs("none", page(9)), Err(StoreError::NotFound));
    assert_eq!(home.job_runs("j", page(1)).unwrap().items, [run("j", 150)]);
}

#[test]
fn four_who_see_a_job_due_run_it_once() {
    let home = Home::new();
    home.put_job(job("j", Some(0))).unwrap();
    let ran: usize = std::thread::scope(|s| {
        let work = || (0..20).filter(|due| home.record_run(run("j", *due), Some(due + 1)).is_ok()).count();
        let all: Vec<_> = (0..4).map(|_| s.spawn(work)).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let next = home.job("j").unwrap().next_ms.unwrap();
    assert_eq!((ran as i64, dues(&home, "j")), (next, (0..next).rev().collect::<Vec<_>>()));
}

#[test]
fn history_and_jobs_are_bounded() {
    let home = Home::new();
    for n in 0..20 {
        home.put_job(job(&format!("j{n}"), Some(0))).unwrap();
    }
    assert!(matches!(home.put_job(job("one more", None)), Err(StoreError::Conflict(_))));
    home.put_job(job("j3", Some(0))).unwrap();
    home.record_run(run("j4", 0), None).unwrap();
    for due in 0..250 {
        home.record_run(run("j3", due), Some(due + 1)).unwrap();
    }
    assert_eq!(dues(&home, "j3"), (150..250).rev().collect::<Vec<_>>());
    assert_eq!(dues(&home, "j4"), [0], "another's history is its own");
    let first = home.job_runs("j3", page(60)).unwrap();
    let rest = home.job_runs("j3", Page { cursor: first.next, limit: 60 }).unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (60, 40, None));
    assert_eq!(home.job_runs("j3", Page { cursor: Some("x".into()), limit: 1 }), Err(StoreError::BadCursor));
    let long = JobRun { detail: "ü".repeat(100_000), ..run("j3", 250) };
    home.record_run(long, None).unwrap();
    assert!(home.job_runs("j3", page(1)).unwrap().items[0].detail.len() < 1_100);
    home.delete_job("j3").unwrap();
    home.put_job(job("j3", Some(9))).unwrap();
    assert_eq!(dues(&home, "j3"), Vec::<i64>::new(), "a history goes with its job");
}

/// What a user is reminded of is theirs: it goes with them, with what the audit has of their words. The configuration's jobs stay.
#[test]
fn an_erased_users_jobs_and_words_leave_no_trace() {
    let mut home = Home::new();
    let made = |id: &str, by: &str, user: &str, text: &str| Job {
        by: by.into(),
        user_id: user.into(),
        work: Work::Message(text.into()),
        ..job(id, Some(100))
    };
    for job in [
        made("own", "ana", "ana", "canary: the doctor"),
        made("for", "op", "ana", "canary: the pills"),
        made("kept", "config", "ana", "from the file"),
        made("bobs", "bob", "bob", "bob's"),
    ] {
        home.put_job(job.clone()).unwrap();
        home.record_run(run(&job.id, 100), Some(200)).unwrap();
    }
    let entry = |action: &str, user: &str, detail: serde_json::Value| {
        let mut detail = detail;
        detail["userId"] = user.into();
        home.audit(AuditEntry { at_ms: NOW_MS, actor: user.into(), action: action.into(), detail });
    };
    let json = |text: &str| serde_json::json!({"tool": "memory.save", "arguments": text, "question": text, "outcome": text});
    for action in ["tool.called", "approval.asked", "tool.refused"] {
        let mut detail = json("canary: my door's code");
        if action != "tool.refused" {
            detail["outcome"] = "ok".into(); // a word of ours
        }
        entry(action, "ana", detail);
        entry(action, "bob", json("bob's own"));
    }
    entry("pairing.asked", "ana", serde_json::json!({"name": "canary"}));
    home.erase_user("ana").unwrap();
    let left: Vec<String> = home.jobs().unwrap().into_iter().map(|j| j.id).collect();
    assert_eq!(left, ["bobs", "kept"]);
    assert_eq!((dues(&home, "kept"), home.job_runs("own", page(9))), (vec![100], Err(StoreError::NotFound)));
    let trail = home.audit_trail(page(20)).unwrap().items;
    assert_eq!(trail.len(), 7, "who did what when stays");
    for entry in &trail {
        let words = [&entry.detail["arguments"], &entry.detail["question"]];
        assert_eq!(words.iter().all(|w| w.is_null()), entry.actor == "ana", "{entry:?}");
        assert!(entry.detail["tool"] == "memory.save" || entry.action == "pairing.asked", "{entry:?}");
    }
    assert_no_trace(&home, "canary");
    home.crash();
    assert_no_trace(&home, "canary");
}
