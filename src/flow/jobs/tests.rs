//! Jobs over the real store, with a clock of the tests' own: what is due, what was missed, and clocks that jump.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::agent::Agents;
use crate::agent::mcp::Servers;
use crate::agent::tools::{Policy, Toolbox};
use crate::auth::Authenticator;
use crate::base::stop::Stop;
use crate::base::threads::{STACK, Threads};
use crate::channel::chat::Chat;
use crate::channel::registry::Registry;
use crate::config::{Env, Resolved, resolve};
use crate::domain::{DeliveryState, Standing, WEBSOCKET_CHANNEL, Work};
use crate::flow::{Parts, Settings, run_errands};
use crate::net::client::Client;
use crate::store::sqlite::SqliteStore;
use crate::store::{Page, Seen, Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// 2026-11-22T12:00:00Z, a Sunday.
const NOW_MS: i64 = 1_795_348_800_000;
const HOUR: u64 = 3_600_000;

fn configured(jobs: Value) -> Resolved {
    let env = Env {
        data_dir: Path::new("/nowhere"),
        passed: None,
        var: &|_| None,
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
    };
    resolve(&json!({"jobs": jobs}), &env).unwrap()
}

/// A gateway's flow without its workers and its timer: the tests are the timer.
struct Rig {
    flow: Arc<Flow>,
    store: Arc<SqliteStore>,
    clock: Clock,
    threads: Threads,
    stop: Stop,
    _folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.set();
    }
}

fn flow_of(store: &Arc<SqliteStore>, clock: &Clock, threads: &Threads, stop: &Stop, jobs: Value) -> Arc<Flow> {
    let config = configured(jobs).config;
    let client = Arc::new(Client::new(1));
    let parts = Parts {
        store: store.clone(),
        clock: clock.clone(),
        metrics: Metrics::new(clock.clone()),
        channels: Registry::default().with(WEBSOCKET_CHANNEL, Arc::new(Chat::new(clock.clone()))),
        agents: Agents::new(&config, &client, clock, None),
        tools: Toolbox::new(Policy::new(&config.tools), Vec::new()),
        mcp: Arc::new(Servers::new(&config.tools.mcp, None, &client, clock, threads)),
        client: client.clone(),
        delivery_client: client,
        auth: Arc::new(Authenticator::new(&config.gateway.auth, clock.clone())),
        threads: threads.clone(),
    };
    let flow = Arc::new(Flow::new(parts, &config));
    let (queue, end) = (flow.answers.1.clone(), stop.clone());
    threads.spawn("answers", STACK, stop, move || run_errands(&queue, &end)).unwrap();
    flow.sync_jobs();
    flow
}

impl Rig {
    fn new(jobs: Value) -> Self {
        let (clock, threads, stop) = (Clock::manual(NOW_MS), Threads::new(), Stop::new());
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("gatelet.db"), clock.clone(), &threads).unwrap();
        let seen = Seen { channel: WEBSOCKET_CHANNEL.into(), peer: "ana".into(), conversation: None, at_ms: NOW_MS };
        store.saw("ana", seen).unwrap();
        let flow = flow_of(&store, &clock, &threads, &stop, jobs);
        let rig = Rig { flow, store, clock, threads, stop, _folder: folder };
        rig.look();
        rig
    }

    /// The gateway starts anew on what is on disk.
    fn restart(&mut self, jobs: Value) {
        self.flow = flow_of(&self.store, &self.clock, &self.threads, &self.stop, jobs);
        self.look();
    }

    /// What the timer does when it wakes, and the errands that it hands out.
    fn look(&self) -> Option<Duration> {
        for _ in 0..100 {
            let next = self.flow.tick_jobs();
            match self.flow.errands.1.try_recv() {
                Ok(errand) => errand(),
                Err(_) => return next,
            }
        }
        panic!("it spins");
    }

    /// Time passes as the timer has it: from one deadline to the next.
    fn pass(&self, ms: u64) {
        let end = self.clock.mono() + Duration::from_millis(ms);
        for _ in 0..10_000 {
            let now = self.clock.mono();
            let next = self.look().map_or(end, |next| next.max(now + Duration::from_millis(1)).min(end));
            if now >= end {
                return;
            }
            self.clock.advance(next - now);
        }
        panic!("it spins");
    }

    fn put(&self, when: When, work: Work, catch_up: bool) -> Job {
        let job = Job {
            id: "j".into(),
            by: "admin".into(),
            when,
            timezone: None,
            work,
            user_id: "ana".into(),
            channel: None,
            catch_up,
            enabled: true,
            next_ms: None,
            updated_ms: 0,
        };
        let job = self.flow.put_job(job, true).unwrap();
        self.look();
        job
    }

    /// The outcomes of a job's runs, oldest first.
    fn runs(&self, id: &str) -> Vec<String> {
        let mut runs = self.store.job_runs(id, Page { cursor: None, limit: 100 }).unwrap().items;
        runs.reverse();
        runs.into_iter().map(|r| r.outcome).collect()
    }

    fn sent(&self) -> usize {
        self.store.deliveries(Some(DeliveryState::Pending), Page { cursor: None, limit: 500 }).unwrap().items.len()
    }

    fn messages(&self) -> Vec<crate::domain::InboundMessage> {
        self.store.messages(None, Page { cursor: None, limit: 500 }).unwrap().items
    }

    fn next(&self, id: &str) -> Option<i64> {
        self.store.job(id).unwrap().next_ms
    }
}

fn hi() -> Work {
    Work::Message("hi".into())
}

fn ask() -> Work {
    Work::Turn { agent: "main".into(), prompt: "Any news?".into() }
}

#[test]
fn a_turn_of_a_user_one_at_a_time() {
    let rig = Rig::new(json!([]));
    rig.put(When::Every(HOUR), ask(), false);
    rig.pass(HOUR - 1);
    assert_eq!(rig.runs("j"), [""; 0]);
    rig.pass(1);
    assert_eq!(rig.runs("j"), ["ran"]);
    let made = &rig.messages()[0];
    let shown = (made.user_id.as_str(), made.channel.as_str(), made.agent.as_str(), made.message.as_str());
    assert_eq!(shown, ("ana", "websocket", "main", "Any news?"));
    rig.pass(2 * HOUR);
    assert_eq!(rig.runs("j"), ["ran", "skipped", "skipped"], "its turn has not ended");
    assert!(matches!(rig.flow.run_job("j"), Err(StoreError::Conflict(_))));
    let claim = rig.store.claim_turn().unwrap().unwrap();
    assert_eq!(claim.standing, Standing::User, "whoever made it");
    rig.store.cancel_turn(&made.id, "enough", Vec::new()).unwrap();
    rig.pass(HOUR);
    assert_eq!(rig.runs("j"), ["ran", "skipped", "skipped", "ran"]);
    assert_eq!(rig.next("j"), Some(NOW_MS + 5 * HOUR as i64));
    rig.store.cancel_waiting(&made.session_id, None, "enough").unwrap();
    let run = rig.flow.run_job("j").unwrap();
    assert_eq!((run.outcome.as_str(), rig.next("j")), ("ran", Some(NOW_MS + 5 * HOUR as i64)), "beside its schedule");
    assert_eq!((rig.runs("j").len(), rig.messages().len()), (5, 3));
}

#[test]
fn the_turn_before_counts_over_a_restart() {
    let mut rig = Rig::new(json!([]));
    rig.put(When::Every(HOUR), ask(), false);
    rig.pass(HOUR);
    rig.restart(json!([]));
    rig.pass(HOUR);
    assert_eq!(rig.runs("j"), ["ran", "skipped"]);
}

#[test]
fn a_crash_before_the_record_makes_nothing_twice() {
    for work in [hi(), ask()] {
        let mut rig = Rig::new(json!([]));
        let job = rig.put(When::Every(HOUR), work, false);
        rig.clock.advance(Duration::from_millis(HOUR + 5));
        let key = format!("job:j:{}:{}", job.updated_ms, job.next_ms.unwrap());
        let run::Ended::Ran(made) = rig.flow.start_run(&job, key).wait() else { panic!() };
        rig.restart(json!([]));
        let runs = rig.store.job_runs("j", Page { cursor: None, limit: 10 }).unwrap().items;
        assert_eq!((runs.len(), runs[0].detail.as_str()), (1, made.as_str()));
        assert_eq!(rig.sent() + rig.messages().len(), 1);
    }
}

#[test]
fn what_was_missed() {
    let at = "2026-11-22T13:00:00Z";
    for (when, catch_up, down, expected, sent, next) in [
        (When::Every(HOUR), true, 5 * HOUR + 7, "ran", 1, Some(6)),
        (When::Every(HOUR), false, 5 * HOUR + 7, "skipped", 0, Some(6)),
        (When::Every(HOUR), false, HOUR + 100_000, "ran", 1, Some(2)), // a restart
        (When::Cron("0 13 * * *".into()), true, 72 * HOUR, "ran", 1, Some(73)),
        (When::Cron("0 13 * * *".into()), false, 72 * HOUR, "skipped", 0, Some(73)),
        (When::At(at.into()), true, 72 * HOUR, "ran", 1, None),
        (When::At(at.into()), false, 72 * HOUR, "skipped", 0, None),
    ] {
        let mut rig = Rig::new(json!([]));
        rig.put(when.clone(), hi(), catch_up);
        rig.clock.advance(Duration::from_millis(down)); // nobody looks
        rig.restart(json!([]));
        assert_eq!((rig.runs("j"), rig.sent()), (vec![expected.to_string()], sent), "{when:?} {catch_up} {down}");
        assert_eq!(rig.next("j"), next.map(|h: i64| NOW_MS + h * HOUR as i64), "{when:?} {catch_up} {down}");
        rig.restart(json!([]));
        assert_eq!(rig.runs("j").len(), 1, "once");
    }
}

#[test]
fn clocks_that_jump() {
    let day = 24 * HOUR as i64;
    // Forward: one run, in its rhythm after it.
    let rig = Rig::new(json!([]));
    rig.put(When::Every(60_000), hi(), false);
    rig.clock.jump(3 * day);
    rig.pass(1);
    assert_eq!(rig.runs("j"), ["ran"]);
    rig.pass(120_000);
    assert_eq!(rig.runs("j").len(), 3);
    // Back by days: it goes on within its pause; what ran under the same times before doesn't stand in its way.
    rig.clock.jump(-3 * day);
    rig.pass(60_000);
    assert_eq!(rig.runs("j").len(), 4);
    rig.pass(10 * 60_000);
    assert_eq!((rig.runs("j").len(), rig.sent()), (14, 14));
    // Back by ten seconds, again and again, faster than it runs.
    let rig = Rig::new(json!([]));
    rig.put(When::Every(5000), hi(), false);
    for _ in 0..30 {
        rig.pass(1000);
        rig.clock.jump(-10_000);
    }
    assert!((5..=7).contains(&rig.runs("j").len()), "{:?}", rig.runs("j"));
    assert_eq!(rig.sent(), rig.runs("j").len());
    // A daily one: an hour back does not repeat it, an hour forward does not drop it.
    let rig = Rig::new(json!([]));
    rig.put(When::Cron("0 13 * * *".into()), hi(), false);
    rig.pass(HOUR + 1000);
    rig.clock.jump(-(HOUR as i64));
    rig.pass(3 * HOUR);
    assert_eq!(rig.runs("j"), ["ran"], "13:00 came twice");
    rig.pass(20 * HOUR); // 11:00 on the next day
    rig.clock.jump(3 * HOUR as i64);
    rig.pass(1000);
    assert_eq!(rig.runs("j"), ["ran", "ran"], "13:00 was left out");
    // It was a month ahead and is put right.
    rig.clock.jump(30 * day);
    rig.pass(1000);
    rig.clock.jump(-30 * day);
    rig.pass(24 * HOUR);
    assert_eq!(rig.runs("j").len(), 4);
}

#[test]
fn a_clock_that_was_never_set() {
    let jobs = json!([{"id": "c", "every": 1000, "message": "hi", "userId": "ana"}]);
    let mut rig = Rig::new(jobs.clone());
    let due = rig.next("c");
    rig.clock.jump(-NOW_MS);
    rig.restart(jobs.clone());
    rig.pass(3 * HOUR);
    assert_eq!((rig.runs("c"), rig.next("c")), (vec![], due), "in 1970 nothing runs, and nothing is changed");
    rig.clock.jump(NOW_MS + 1_000_000);
    rig.pass(60_000);
    assert_eq!(rig.runs("c")[..2], ["skipped", "ran"], "what was missed, then the clock is believed");
    // Two days behind what the store knows: waited for an hour, and then believed.
    rig.clock.jump(-48 * HOUR as i64);
    let before = rig.runs("c").len();
    rig.restart(jobs);
    rig.pass(HOUR - 60_000);
    assert_eq!(rig.runs("c").len(), before.min(100));
    rig.pass(180_000);
    let newest = rig.store.job_runs("c", Page { cursor: None, limit: 1 }).unwrap().items;
    assert!(newest[0].at_ms >= rig.clock.unix_ms() - 1000, "it runs again");
}

#[test]
fn the_configurations_jobs() {
    let daily =
        json!({"id": "news", "cron": "0 8 * * *", "timezone": "Europe/Berlin", "agent": "main", "prompt": "x", "userId": "ana"});
    let hourly = json!({"every": HOUR, "message": "hi", "userId": "ana"});
    let mut rig = Rig::new(json!([daily, hourly]));
    let ids = |rig: &Rig| rig.store.jobs().unwrap().into_iter().map(|j| format!("{} {}", j.id, j.by)).collect::<Vec<_>>();
    assert_eq!(ids(&rig), ["job-2 config", "news config"]);
    assert_eq!(rig.next("news"), Some(NOW_MS + 19 * HOUR as i64));
    rig.put(When::Every(HOUR), hi(), false);
    rig.pass(HOUR / 2);
    let kept = rig.store.jobs().unwrap();
    rig.restart(json!([daily, hourly]));
    assert_eq!(rig.store.jobs().unwrap(), kept, "nothing is written where nothing changed");
    // A reload changes one and drops the other; what the API made stays.
    let mut later = daily.clone();
    later["cron"] = json!("0 9 * * *");
    rig.flow.settings.set(Settings::new(&configured(json!([later])).config));
    rig.flow.sync_jobs();
    rig.look();
    assert_eq!(ids(&rig), ["j admin", "news config"]);
    assert_eq!(rig.next("news"), Some(NOW_MS + 20 * HOUR as i64));
    let news = rig.store.job("news").unwrap();
    assert!(matches!(rig.flow.put_job(news.clone(), false), Err(StoreError::Conflict(_))));
    assert!(matches!(rig.flow.put_job(news, true), Err(StoreError::Conflict(_))));
    assert!(matches!(rig.flow.delete_job("news"), Err(StoreError::Conflict(_))));
    assert!(matches!(rig.flow.delete_job("nobody"), Err(StoreError::NotFound)));
    rig.flow.delete_job("j").unwrap();
    rig.flow.settings.set(Settings::new(&configured(json!([])).config));
    rig.flow.sync_jobs();
    rig.look();
    assert_eq!(ids(&rig), [""; 0]);
    assert_eq!(rig.look(), None, "without jobs nothing wakes the timer");
}

#[test]
fn many_at_once() {
    let all: Vec<_> = (0..20).map(|_| json!({"at": "2026-11-22T13:00:00Z", "message": "hi", "userId": "ana"})).collect();
    let rig = Rig::new(json!(all));
    rig.pass(HOUR + 1000);
    assert_eq!(rig.sent(), 20);
    for job in rig.store.jobs().unwrap() {
        assert_eq!((rig.runs(&job.id), job.next_ms), (vec!["ran".to_string()], None), "{}", job.id);
    }
}

#[test]
fn what_fails_is_told_and_comes_again() {
    let nobody = |work: Value| {
        let mut job = json!({"every": HOUR, "userId": "nobody"});
        job.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
        job
    };
    let rig = Rig::new(json!([
        nobody(json!({"message": "hi"})),
        nobody(json!({"agent": "main", "prompt": "/stop"})),
        nobody(json!({"agent": "main", "prompt": "hi"})),
        nobody(json!({"agent": "main", "prompt": "hi", "channel": "default"})),
    ]));
    rig.pass(HOUR);
    let told: Vec<_> = (1..=4)
        .map(|i| {
            let runs = rig.store.job_runs(&format!("job-{i}"), Page { cursor: None, limit: 10 }).unwrap().items;
            assert_eq!(runs.len(), 1);
            let words = if runs[0].outcome == "ran" { "" } else { runs[0].detail.as_str() };
            format!("{} {words}", runs[0].outcome).trim_end().to_string()
        })
        .collect();
    assert_eq!(told[0], "failed the user was never seen there, or anywhere");
    assert_eq!(told[1], "failed the prompt is a command; those are for people");
    assert_eq!(told[2], "ran", "the reply waits in the chat");
    assert!(told[3].starts_with("failed"), "{}", told[3]);
    assert_eq!(rig.next("job-1"), Some(NOW_MS + 2 * HOUR as i64));
}

#[test]
fn while_the_gateway_drains_nothing_begins() {
    let mut rig = Rig::new(json!([]));
    rig.put(When::Every(HOUR), hi(), false);
    rig.flow.drain();
    rig.clock.advance(Duration::from_millis(HOUR));
    assert_eq!((rig.look(), rig.runs("j").len()), (None, 0));
    rig.clock.advance(Duration::from_secs(60));
    rig.restart(json!([]));
    assert_eq!(rig.runs("j"), ["ran"], "a restart misses nothing");
}

#[test]
fn next_runs() {
    let job = |when| Job {
        id: "j".into(),
        by: "admin".into(),
        when,
        timezone: None,
        work: hi(),
        user_id: "ana".into(),
        channel: None,
        catch_up: false,
        enabled: true,
        next_ms: None,
        updated_ms: 0,
    };
    assert_eq!(next_run(&job(When::Every(5)), 100), Some(105));
    assert_eq!(next_run(&job(When::Cron("0 0 1 1 *".into())), 0), Some(31_536_000_000));
    assert_eq!(next_run(&job(When::Cron("0 0 31 2 *".into())), 0), None);
    assert_eq!(next_run(&job(When::At("1970-01-01T00:00:01Z".into())), 999), Some(1000));
    assert_eq!(next_run(&job(When::At("1970-01-01T00:00:01Z".into())), 1000), None);
}
