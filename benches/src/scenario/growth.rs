//! What the size of the store costs: start, accept, reply, lists and memory with up to 100,000 sessions and a million messages,
//! beside a store that is all but empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Scenario, accept, mib, reply};
use crate::Outcome;
use crate::chart::{Chart, Series};
use crate::gateway::{Gateway, ONE, Setting, TOKEN, fresh};
use crate::http::{self, Connection};
use crate::load;
use crate::model::{Manner, Model};
use crate::multiply::{multiply, size, user};
use crate::socket::Socket;
use crate::stats::{Spread, Times};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "growth",
    title: "As the store grows",
    note: "A store of each size, all measured in turns in one run, some 20 requests at a time, as ratios to the first; a p99 is that of all rounds together. *Empty* has what the gateway itself was sent for this: 10 messages of each of 100 \
users over the webhook and 500 of one user over a WebSocket. The others were multiplied from 20 messages that a gateway wrote (half of them over a WebSocket, with their \
deliveries): the same rows in the same tables with numbers, ids, users and times of their own, 10 messages in each session, the sessions' rows mixed as if all had written in turns; *bytes for each \
message* compares both. The requests come from 100 users with 10 messages each, in the large stores spread over all of it. *Accept* is `POST /webhook/default` until its 202 with turns held back, *reply* the same \
with `?wait=10000` and a model that answers at once, *sessions* `GET /api/sessions` (a page of the latest; the first one after a start finds out which those are), *transcript* `GET /api/sessions/USER`. The files are in the system's cache: a board that has \
less memory than its store reads the disk as well.",
    run,
};

/// Users that are measured in each store.
const USERS: u64 = 100;
/// Messages of each session.
const EACH: u64 = 10;
/// The bytes of a message's text.
const TEXT: usize = 300;

/// A store and what was measured on it, a round each.
struct Store {
    name: String,
    messages: u64,
    /// The measured users are every so-manyth.
    step: u64,
    data: PathBuf,
    /// Of its database, when it was made.
    mib: f64,
    start: Times,
    /// The first list of sessions after each of them, in microseconds.
    first: Times,
    /// By what was asked: p50 of each round, and the times of all rounds, in microseconds.
    p50: Vec<Vec<f64>>,
    all: Vec<Times>,
    rss: f64,
    asked: u64,
}

/// What is asked, in the order of `p50` and `all`.
const ASKED: [&str; 5] = ["accept, 1 sender", "accept, 16 senders", "reply", "sessions", "transcript"];

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (instant, hanging) = (Model::start(Manner::Instant)?, Model::start(Manner::Hanging)?);
    let sizes: &[u64] = if setting.quick { &[1_000] } else { &[1_000, 10_000, 100_000] };
    let (empty, bytes) = empty(setting, &instant)?;
    let seed = seed(setting, &instant)?;
    let mut stores = vec![empty];
    for sessions in sizes {
        stores.push(large(setting, &seed, *sessions, bytes, table)?);
    }
    starts(setting, &instant, &mut stores)?;
    replies(setting, &instant, &mut stores)?;
    accepts(setting, &hanging, &mut stores)?;
    show(&stores, table);
    Ok(fs::remove_dir_all(seed)?)
}

fn store(name: String, messages: u64, step: u64, data: PathBuf) -> Store {
    Store {
        mib: size(&data).map_or(f64::NAN, |(bytes, _)| bytes as f64 / 1_048_576.0),
        name,
        messages,
        step,
        data,
        start: Times::default(),
        first: Times::default(),
        p50: vec![Vec::new(); ASKED.len()],
        all: vec![Times::default(); ASKED.len()],
        rss: f64::NAN,
        asked: 0,
    }
}

/// A store that the gateway wrote itself, and the bytes of each of its messages.
fn empty(setting: &Setting, model: &Model) -> Outcome<(Store, f64)> {
    let bare = Gateway::start(setting, &model.config())?.end()?;
    let before = size(&bare)?.0;
    let gateway = Gateway::start_in(setting, &model.config(), bare)?;
    std::thread::scope(|scope| {
        let speak = |at: u64| (at..USERS).step_by(10).try_for_each(|n| spoken(&gateway, &user(n), EACH));
        let all: Vec<_> = (0..10).map(|at| scope.spawn(move || speak(at))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a sender panicked")?)
    })?;
    socketed(&gateway, USERS * EACH / 2)?;
    gateway.settled(Duration::from_secs(60))?;
    let data = gateway.end()?;
    let (bytes, messages) = size(&data)?;
    Ok((store("empty".into(), messages, 1, data), (bytes - before) as f64 / messages as f64))
}

/// The data directory of which the others are multiplied.
fn seed(setting: &Setting, model: &Model) -> Outcome<PathBuf> {
    let gateway = Gateway::start(setting, &model.config())?;
    spoken(&gateway, "seed", EACH)?;
    socketed(&gateway, EACH)?;
    gateway.settled(Duration::from_secs(60))?;
    gateway.end()
}

/// Messages of one user over the webhook, each with its reply.
fn spoken(gateway: &Gateway, user: &str, count: u64) -> Outcome<()> {
    let mut connection = Connection::open(gateway.address)?;
    for _ in 0..count {
        let mut request = Vec::new();
        http::post(&mut request, "/webhook/default?wait=10000", TOKEN, &message(user).to_string());
        let (status, body) = connection.exchange(&request)?;
        if status != 200 {
            return Err(format!("answered {status}: {}", String::from_utf8_lossy(&body)).into());
        }
    }
    Ok(())
}

/// Messages of the user `one` over a WebSocket, each reply acknowledged.
fn socketed(gateway: &Gateway, count: u64) -> Outcome<()> {
    let mut socket = Socket::open(gateway.address, ONE)?;
    for n in 0..count {
        socket.send(&json!({"type": "message", "id": format!("s-{n}"), "message": "x".repeat(TEXT)}))?;
        let frame = socket.until("message")?;
        socket.send(&json!({"type": "ack", "messageId": frame["messageId"]}))?;
    }
    // The last acknowledgement is on its way: what comes behind it comes after it.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// A message with an outside id that no other has.
fn message(user: &str) -> Value {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({"messageId": format!("m-{next}"), "userId": user, "message": "x".repeat(TEXT)})
}

/// A store of that many sessions.
fn large(setting: &Setting, seed: &Path, sessions: u64, written: f64, table: &mut Table) -> Outcome<Store> {
    let data = fresh(setting)?;
    let before = size(seed)?.0;
    fs::copy(seed.join("gatelet.db"), data.join("gatelet.db"))?;
    let begin = Instant::now();
    multiply(&data, ["seed", "one"], sessions, sessions * EACH)?;
    let (bytes, messages) = size(&data)?;
    let each = (bytes - before) as f64 / (sessions * EACH) as f64;
    eprintln!("  {messages} messages made in {:.1} s, {:.0} MiB", begin.elapsed().as_secs_f64(), mib(bytes));
    let what = format!("bytes for each message, {}", named(sessions));
    let row = Row::one(what, "bytes", each).beside("written by a gateway", written, Spread::of(&[each / written]));
    table.add(SCENARIO.name, row);
    // Of every pair of sessions, the first is of the webhook.
    Ok(store(named(sessions), messages, sessions / 2 / USERS * 2, data))
}

fn named(sessions: u64) -> String {
    let short = |n: u64| if n >= 1_000_000 { format!("{} M", n / 1_000_000) } else { format!("{} k", n / 1000) };
    format!("{} sessions, {} messages", short(sessions), short(sessions * EACH))
}

/// Starts and ends each some times, with a list of sessions between.
fn starts(setting: &Setting, model: &Model, stores: &mut [Store]) -> Outcome<()> {
    for _ in 0..setting.pick(3, 15) {
        for store in stores.iter_mut() {
            let gateway = Gateway::start_in(setting, &model.config(), store.data.clone())?;
            store.start.add(gateway.boot.as_nanos() as f64 / 1e3);
            store.first.add(asked(&mut Connection::open(gateway.address)?, "/api/sessions")?);
            gateway.end()?;
        }
    }
    Ok(())
}

/// Runs a gateway on each store and calls `ask` for each in turns, round by round. Gives the gateways, which still run.
fn in_turns(
    setting: &Setting,
    config: &Value,
    stores: &mut [Store],
    rounds: usize,
    ask: impl Fn(&Gateway, &mut Store) -> Outcome<()>,
) -> Outcome<Vec<Gateway>> {
    let gateways: Vec<Gateway> =
        stores.iter().map(|s| Gateway::start_in(setting, config, s.data.clone())).collect::<Outcome<_>>()?;
    for round in 0..rounds {
        for turn in 0..stores.len() {
            let at = (round + turn) % stores.len();
            ask(&gateways[at], &mut stores[at])?;
        }
    }
    Ok(gateways)
}

impl Store {
    /// One of the measured users after the other.
    fn next_user(&mut self) -> String {
        self.asked += 1;
        user(self.asked % USERS * self.step)
    }

    fn note(&mut self, what: usize, times: Times) {
        self.p50[what].push(times.at(0.5));
        self.all[what].join(times);
    }
}

/// Replies, lists of sessions and transcripts; and the memory after them.
fn replies(setting: &Setting, model: &Model, stores: &mut [Store]) -> Outcome<()> {
    let (rounds, each) = setting.pick((2, 20), (30, 20));
    let ask = |gateway: &Gateway, store: &mut Store| {
        let mut connection = Connection::open(gateway.address)?;
        let mut times = <[Times; 3]>::default();
        // One kind after the other: a list that reads much would be felt by what comes right behind it.
        for _ in 0..each {
            let user = store.next_user();
            let id = message(&user)["messageId"].as_str().unwrap_or_default().to_string();
            times[0].add(reply::webhook(&mut connection, &id, &user)?);
        }
        for _ in 0..each / 4 {
            let path = format!("/api/sessions/{}", store.next_user());
            times[2].add(asked(&mut connection, &path)?);
        }
        for _ in 0..each / 4 {
            times[1].add(asked(&mut connection, "/api/sessions")?);
        }
        for (at, times) in times.into_iter().enumerate() {
            store.note(at + 2, times);
        }
        Ok(())
    };
    for (gateway, store) in in_turns(setting, &model.config(), stores, rounds, ask)?.into_iter().zip(stores) {
        store.rss = mib(gateway.look()?.rss);
        gateway.end()?;
    }
    Ok(())
}

/// Microseconds of a GET by the admin.
fn asked(connection: &mut Connection, path: &str) -> Outcome<f64> {
    let begin = Instant::now();
    let (status, body) = connection.exchange(&http::get(path, TOKEN))?;
    let micros = begin.elapsed().as_nanos() as f64 / 1e3;
    if status == 200 { Ok(micros) } else { Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&body)).into()) }
}

/// Acceptance alone, by one sender and by 16.
fn accepts(setting: &Setting, model: &Model, stores: &mut [Store]) -> Outcome<()> {
    let (rounds, lasting) = setting.pick((2, Duration::from_millis(100)), (10, Duration::from_millis(300)));
    let config = accept::alone(model);
    let ask = |gateway: &Gateway, store: &mut Store| {
        for (what, senders) in [(0, 1), (1, 16)] {
            let loaded = load::run(gateway.address, senders, lasting, 202, |_, request| {
                http::post(request, "/webhook/default", TOKEN, &message(&store.next_user()).to_string());
            })?;
            store.note(what, loaded.times);
        }
        Ok(())
    };
    // These are the last: they are killed, and their stores removed, since their turns would hold up an orderly end.
    in_turns(setting, &config, stores, rounds, ask).map(drop)
}

fn show(stores: &[Store], table: &mut Table) {
    let (empty, part) = (&stores[0], SCENARIO.name);
    for (at, store) in stores.iter().enumerate().skip(1) {
        let held = at + 1 == stores.len();
        for (what, asked) in ASKED.iter().enumerate() {
            let milli = |rounds: &[f64]| Spread::of(&rounds.iter().map(|us| us / 1e3).collect::<Vec<_>>());
            let (own, beside) = (&store.p50[what], &empty.p50[what]);
            let row = Row::spread(format!("{asked}, p50: {}", store.name), "ms", milli(own));
            let row = row.beside("empty", milli(beside).mid, Spread::ratio(own, beside));
            table.add(part, if held { row.budget(Budget::RatioAtMost(1.2)).because(reason(what, store)) } else { row });
            let (own, beside) = (store.all[what].at(0.99) / 1e3, empty.all[what].at(0.99) / 1e3);
            // Of the lists there are too few for a p99.
            if what < 3 {
                let row = Row::one(format!("{asked}, p99: {}", store.name), "ms", own);
                table.add(part, row.beside("empty", beside, Spread::of(&[own / beside])));
            }
        }
        let first = "sessions, the first after a start";
        for (what, own, beside) in [("start", &store.start, &empty.start), (first, &store.first, &empty.first)] {
            let tries = own.len();
            let (own, beside) = (own.at(0.5) / 1e3, beside.at(0.5) / 1e3);
            let row = Row::one(format!("{what}, p50 of {tries}: {}", store.name), "ms", own);
            table.add(part, row.beside("empty", beside, Spread::of(&[own / beside])));
        }
        let row = Row::one(format!("memory more than empty: {}", store.name), "MiB", store.rss - empty.rss);
        table.add(part, if held { row.budget(Budget::AtMost(8.0)) } else { row });
    }
    plots(stores, table);
}

/// Why what is asked takes longer in a large store, where it does.
fn reason(what: usize, store: &Store) -> String {
    match ASKED[what] {
        "sessions" | "transcript" => format!(
            "a reader's pages are fetched anew after every write, with a call to the kernel for each, and in trees of {:.0} MiB the way to \
a row leads over more of them",
            store.mib
        ),
        _ => format!(
            "the writer's own cache has 1 MiB, the database {:.0} MiB: other pages are read again from the kernel's",
            store.mib
        ),
    }
}

fn plots(stores: &[Store], table: &mut Table) {
    let line = |name: &str, value: &dyn Fn(&Store) -> f64| Series {
        name: name.to_string(),
        points: stores.iter().map(|store| (store.messages as f64, value(store))).collect(),
    };
    let asked = |what: usize| line(ASKED[what], &|s| Spread::of(&s.p50[what]).mid / 1e3);
    let start = line("start", &|s| s.start.at(0.5) / 1e3);
    let x = "messages in the store";
    let chart = |file, title, y, is_log, series| Chart { file, title, x, y, is_log, series };
    let plots = [
        chart(
            "growth-write",
            "Accepting and answering, by the size of the store (p50)",
            "ms",
            true,
            vec![asked(0), asked(1), asked(2)],
        ),
        chart("growth-read", "Lists and start, by the size of the store (p50)", "ms", true, vec![asked(3), asked(4), start]),
        chart(
            "growth-memory",
            "Memory after the same work, by the size of the store",
            "MiB",
            false,
            vec![line("resident memory", &|s| s.rss)],
        ),
    ];
    plots.into_iter().for_each(|plot| table.plot(SCENARIO.name, plot));
}
