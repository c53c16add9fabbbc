//! `jobs`: what is meant, and every way to be wrong.

use super::{complaints, read};
use crate::config::Job;
use crate::domain::{When, Work};

#[test]
fn what_is_meant() {
    let text = r#"{"jobs": [
        {"id": "news", "cron": "0 8 * * mon-fri", "timezone": "Europe/Berlin", "agent": "main", "prompt": "Any news?", "userId": "ana",
            "channel": "default", "catchUp": true},
        {"every": 60000, "message": "hi", "userId": "bob", "channel": "websocket"},
        {"at": "2020-01-01T00:00:00Z", "message": "it was", "userId": "bob"}]}"#;
    let jobs = read(text).unwrap().config.jobs;
    let job = |id: &str, when, work, user: &str, channel: Option<&str>| Job {
        id: id.into(),
        when,
        timezone: None,
        work,
        user_id: user.into(),
        channel: channel.map(str::to_string),
        catch_up: false,
    };
    let turn = Work::Turn { agent: "main".into(), prompt: "Any news?".into() };
    let news = job("news", When::Cron("0 8 * * mon-fri".into()), turn, "ana", Some("default"));
    assert_eq!(jobs[0], Job { timezone: Some("Europe/Berlin".into()), catch_up: true, ..news });
    assert_eq!(jobs[1], job("job-2", When::Every(60_000), Work::Message("hi".into()), "bob", Some("websocket")));
    let past = job("job-3", When::At("2020-01-01T00:00:00Z".into()), Work::Message("it was".into()), "bob", None);
    assert_eq!(jobs[2], past, "a time that is over is no mistake: the job was");
}

fn check(job: &str, expected: &[&str]) {
    assert_eq!(complaints(&format!(r#"{{"jobs": [{job}]}}"#)), expected, "{job}");
}

#[test]
fn what_is_wrong() {
    let times = "$.jobs[0]: needs exactly one of `at`, `every` and `cron`";
    let works = "$.jobs[0]: needs either `agent` and `prompt` (a turn) or `message` (a text), not parts of both";
    let nobody = "$.jobs[0].userId: is missing: who gets it";
    check("{}", &[times, works, nobody]);
    check(r#"{"every": 1000, "cron": "* * * * *", "message": "x", "userId": "a"}"#, &[times]);
    check(r#"{"every": 1000, "message": "x", "prompt": "x", "userId": "a"}"#, &[works]);
    check(r#"{"every": 1000, "prompt": "x", "userId": "a"}"#, &[works]);
    check(
        r#"{"every": 1000, "agent": "mian", "prompt": "x", "userId": "a", "channel": "defualt"}"#,
        &[
            "$.jobs[0].agent: there is no agent \"mian\"; the nearest one is \"main\"",
            "$.jobs[0].channel: there is no channel \"defualt\"; the nearest one is \"default\"",
        ],
    );
    check(
        r#"{"every": 999, "message": "x", "userId": "a"}"#,
        &["$.jobs[0].every: found 999, expected a whole number from 1000 to 31536000000 or null"],
    );
    check(
        r#"{"cron": "0 0 31 2 *", "message": "x", "userId": "a"}"#,
        &["$.jobs[0].cron: never comes: none of these months has that day"],
    );
    check(
        r#"{"cron": "0 8 * * *", "timezone": "Mars/Olympus", "message": "x", "userId": "a"}"#,
        &["$.jobs[0].timezone: there is no such time zone on this system; expected a name as Europe/Berlin"],
    );
    check(
        r#"{"at": "tomorrow", "message": "x", "userId": "a"}"#,
        &["$.jobs[0].at: not a time; expected RFC 3339, as 2027-01-31T08:00:00+01:00"],
    );
    check(
        r#"{"every": 1000, "timezone": "UTC", "message": "x", "userId": "a"}"#,
        &["$.jobs[0].timezone: belongs to a cron line, which this is not; leave it out"],
    );
    check(
        r#"{"id": "a/b", "every": 1000, "message": "x", "userId": "a\n"}"#,
        &["$.jobs[0].id: must hold neither control characters nor slashes", "$.jobs[0].userId: must not hold control characters"],
    );
    let job = r#"{"id": "x", "every": 1000, "message": "x", "userId": "a"}"#;
    let second = r#"{"id": "job-3", "every": 1000, "message": "x", "userId": "a"}"#;
    let third = r#"{"every": 1000, "message": "x", "userId": "a"}"#;
    check(&format!("{job}, {job}"), &["$.jobs[1].id: there is a job \"x\" before it already; choose another id"]);
    check(&format!("{job}, {second}, {third}"), &["$.jobs[2].id: there is a job \"job-3\" before it already; choose another id"]);
}
