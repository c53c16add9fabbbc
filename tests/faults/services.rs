//! Providers, channels and the network on bad days.
//!
//! Invariant: the services are scripted ones, or real programs, on loopback; what they got is counted on their side.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::rig::Rig;
use crate::row::{Row, Trials};
use crate::support::cable::Cable;
use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model, call};
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::Load;
use crate::support::telegram::{Fault, Telegram};
use crate::support::{Random, eventually, merged, pause, percentile, side_by_side};

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R16",
            fault: "a provider that hangs for ever",
            injection: "no byte of an answer, for 3 of 4 turn workers, while another user writes",
            holds: "the deadline ends it, its user is told, another one's median at most 50 ms more",
            trials: (1, 200),
            run: Some(hanging),
            tests: &["waiting_turns_are_bounded_by_the_workers"],
            lacks: "",
        },
        Row {
            id: "R17",
            fault: "a provider that answers with rubbish",
            injection: "15 kinds: reset, garbage, a web page, cut JSON, no end, half a call, 429, 500, 529, the same call for ever, ...; once or always",
            holds: "answered or failed and said so, another user unharmed, memory bounded, no panic",
            trials: (30, 1500),
            run: Some(rubbish),
            tests: &[
                "a_provider_that_keeps_failing_ends_in_a_failed_message",
                "a_provider_that_recovers_answers_after_all",
                "an_answer_without_end_is_cut_off",
                "an_endless_loop_ends_at_max_rounds",
            ],
            lacks: "",
        },
        Row {
            id: "R18",
            fault: "Telegram on a bad day",
            injection: "409, 429 with a pause, 500, resets, updates given twice, numbers that begin anew, updates of no known shape",
            holds: "lost 0, doubled 0, each update answered once",
            trials: (12, 1000),
            run: Some(telegram),
            tests: &[
                "a_batch_with_poison_resets_and_repeats",
                "numbers_that_begin_anew",
                "a_second_poller_is_told_and_overcome",
                "a_wrong_token_is_misconfigured_and_shown_nowhere",
            ],
            lacks: "",
        },
        Row {
            id: "R31",
            fault: "the network goes and comes",
            injection: "every connection to the receiver reset and new ones refused for 50 to 800 ms, under load",
            holds: "lost 0; doubled only what was cut within a send, under the same id; served again within 5 s",
            trials: (4, 100),
            run: Some(cable),
            tests: &[
                "telegram_goes_and_comes_back",
                "the_mqtt_broker_goes_and_comes_back",
                "a_line_of_a_kilobyte_a_second",
                "a_dead_resolver_holds_up_its_name_alone",
            ],
            lacks: "",
        },
        Row {
            id: "R32",
            fault: "the MQTT broker restarts, or forgets its sessions",
            injection: "mosquitto ended and begun again, by turns without its memory",
            holds: "found again, subscribed anew, each message answered once",
            trials: (2, 100),
            run: Some(broker),
            tests: &[
                "a_broker_that_restarts_or_forgets_is_found_again",
                "twenty_in_flight_and_killed_none_is_lost_and_none_answered_twice",
            ],
            lacks: "",
        },
    ]
}

/// Short deadlines, few tries.
fn hurried(model: &Model) -> serde_json::Value {
    let provider = json!({"connectTimeout": 500, "firstByteTimeout": 400, "chunkTimeout": 400});
    merged(
        model.config(),
        json!({"providers": {"stub": provider}, "agents": {"main": {"turnTimeout": 4000}},
            "tools": {"rules": [{"tool": "time.*", "action": "allow"}]},
            "gateway": {"retry": {"maxRetries": 2, "delay": 30}}}),
    )
}

fn hanging(trials: &mut Trials) {
    let model = Model::scripted(|q| if q.text.contains("ill") { Act::Hang } else { Act::Say(format!("echo: {}", q.text)) });
    let config = merged(hurried(&model), json!({"providers": {"stub": {"firstByteTimeout": 1500}}}));
    let mut gateway = Gateway::start(config);
    let median = |gateway: &Gateway| {
        let mut times: Vec<Duration> = (0..15)
            .map(|n| {
                let began = Instant::now();
                assert_eq!(gateway.ask("bob", &format!("well {n}")), format!("echo: well {n}"));
                began.elapsed()
            })
            .collect();
        percentile(&mut times, 50)
    };
    for n in 0..trials.wanted {
        trials.trial(&format!("hang {n}"), |trials| {
            let before = median(&gateway);
            let ids: Vec<String> = (0..3).map(|k| gateway.tell(&format!("ana{k}"), &format!("ill {n}"))).collect();
            let meanwhile = median(&gateway);
            let began = Instant::now();
            for id in ids {
                let life = gateway.until_state(&id, "failed", 30);
                if life["error"].as_str().is_none_or(str::is_empty) {
                    return Err(format!("it does not say why: {life}"));
                }
            }
            trials.recovered(began.elapsed());
            if meanwhile > before + Duration::from_millis(50) {
                return Err(format!("another user's median went from {before:?} to {meanwhile:?}"));
            }
            Ok(())
        });
    }
    assert_eq!(gateway.term().0, 0);
}

fn kinds() -> Vec<(&'static str, Act)> {
    let json = |text: &str| text.to_string();
    vec![
        ("reset", Act::ResetMidStream),
        ("closed", Act::Close),
        ("garbage", Act::Garbage),
        ("events of garbage", Act::GarbageEvents),
        ("a web page", Act::Html),
        ("cut JSON", Act::TruncatedJson),
        ("no content", Act::NullContent),
        ("no choices", Act::EmptyChoices),
        ("no end", Act::EndlessBody),
        ("half a call", Act::HalfCall("time_now".into(), json("{\"zone\":\"UTC\"}"))),
        ("silence between", Act::HangBetweenChunks),
        ("429", Act::Status(429, vec![("Retry-After", "0".into())], json("slow down"))),
        ("500", Act::Status(500, vec![], json("{\"error\":\"boom\"}"))),
        ("529", Act::Status(529, vec![], String::new())),
        ("the same call for ever", Act::Call(vec![call("time_now", json!({"zone": "UTC"}))])),
    ]
}

fn rubbish(trials: &mut Trials) {
    let kinds = kinds();
    // What is said tells the model how to fail, and how often.
    let tried: std::sync::Mutex<HashMap<String, u32>> = std::sync::Mutex::default();
    let script = kinds.clone();
    let model = Model::scripted(move |q| {
        let Some((_, rest)) = q.text.split_once("ill ") else { return Act::Say(format!("echo: {}", q.text)) };
        let mut words = rest.split(' ').map(|w| w.parse::<usize>().unwrap_or(0));
        let (kind, times) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        let mut tried = tried.lock().unwrap();
        let count = tried.entry(q.text.clone()).or_default();
        *count += 1;
        if *count as usize <= times { script[kind].1.clone() } else { Act::Say("well".into()) }
    });
    let mut gateway = Gateway::start(hurried(&model));
    gateway.ask("bob", "well");
    let before = gateway.stat().rss_kb;
    let (mut answered, mut failed, mut peak) = (0, 0, 0);
    for n in 0..trials.wanted as usize {
        let (kind, times) = (n % kinds.len(), if (n / kinds.len()).is_multiple_of(2) { 1 } else { 1000 });
        trials.trial(&format!("{} x{times}", kinds[kind].0), |_| {
            let id = gateway.tell(&format!("u{kind}"), &format!("ill {kind} {times} {n}"));
            if gateway.ask("bob", "well") != "echo: well" {
                return Err("another user is not answered".into());
            }
            let life = eventually("an end", 40, || {
                peak = peak.max(gateway.stat().rss_kb);
                Some(gateway.message(&id)).filter(|m| m["state"] == "failed" || m["state"] == "answered")
            });
            if life["state"] == "answered" {
                answered += 1;
                return Ok(());
            }
            failed += 1;
            if life["error"].as_str().is_none_or(str::is_empty) { Err(format!("it does not say why: {life}")) } else { Ok(()) }
        });
    }
    trials.figure("answered after all", answered);
    trials.figure("failed and said why", failed);
    trials.figure("memory", format!("{before} to at most {peak} KiB"));
    if peak > before + 40 * 1024 || gateway.log().contains("panic") {
        trials.fail(&format!("memory {before} to {peak} KiB, or a panic: {}", gateway.log()));
    }
    assert_eq!(gateway.term().0, 0);
}

/// Updates of one gateway's life. Few, since each failed poll doubles the pause before the next.
const BATCH: u64 = 6;

fn telegram(trials: &mut Trials) {
    let batches = trials.wanted.div_ceil(BATCH);
    let seed = trials.random.between(1, 1 << 30);
    let mut at = 0;
    while at < batches {
        let many = (batches - at).min(4);
        for found in side_by_side(many as usize, |n| bad_day(seed + at + n as u64)) {
            trials.count(BATCH);
            found.iter().for_each(|why| trials.fail(why));
        }
        at += many;
    }
}

/// One gateway with some faults of each kind; what went wrong.
fn bad_day(seed: u64) -> Vec<String> {
    let (model, telegram, mut random) = (Model::echo(), Telegram::new(), Random::new(seed));
    let config = telegram.config(model.config(), json!({}));
    let mut gateway = Gateway::start(merged(config, json!({"gateway": {"retry": {"maxRetries": 100, "delay": 20}}})));
    let (mut said, mut found, mut polls) = (Vec::new(), Vec::new(), 0);
    for n in 0..BATCH {
        let fault = match random.between(0, 7) {
            0 => Some(Fault::Refuse(409, "Conflict: terminated by other getUpdates request".into(), json!(null))),
            1 => Some(Fault::Refuse(500, "Internal Server Error".into(), json!(null))),
            2 => Some(Fault::Reset),
            3 => Some(Fault::ResetAfter), // the updates are given again
            4 => {
                telegram.fail("sendMessage", Fault::Refuse(429, "Too Many Requests".into(), json!({"retry_after": 1})));
                None
            }
            5 => {
                telegram.push(json!({"message": {"chat": 7, "from": [], "text": {"no": "shape"}}}));
                None
            }
            _ => None,
        };
        if let Some(fault) = fault.filter(|_| polls < 3) {
            polls += 1;
            telegram.fail("getUpdates", fault);
        }
        if n == BATCH / 2 && random.between(0, 2) == 0 {
            // After a week of silence numbers begin anew, lower or higher; nothing is pending then.
            eventually("an empty queue", 30, || (telegram.pending() == 0).then_some(()));
            telegram.count_from(if random.between(0, 2) == 0 { 10 } else { 5_000_000 });
        }
        telegram.says(7 + (n % 3) as i64, &format!("m{n}"));
        said.push(format!("echo: m{n}"));
        pause(random.between(0, 200));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) && telegram.sent().len() < said.len() {
        pause(50);
    }
    pause(200);
    let mut counts: HashMap<String, usize> = HashMap::new();
    telegram.sent().into_iter().for_each(|s| *counts.entry(s.text).or_default() += 1);
    for text in &said {
        match counts.remove(text) {
            Some(1) => {}
            None => found.push(format!("{text} is lost (seed {seed}): {}", gateway.log())),
            Some(n) => found.push(format!("{text} came {n} times (seed {seed})")),
        }
    }
    if !counts.is_empty() {
        found.push(format!("phantoms (seed {seed}): {counts:?}"));
    }
    assert_eq!(gateway.term().0, 0);
    found
}

fn cable(trials: &mut Trials) {
    let data = TempDir::with_prefix("gatelet-fault-").expect("a folder");
    let mut rig = Rig::on(data.path(), json!({}), Model::echo());
    let far = rig.sink.url.clone();
    let port: u16 = far.split([':', '/']).filter_map(|p| p.parse().ok()).next().expect("a port");
    let cable = Cable::to(port);
    let mut config = rig.gateway.read_config();
    config["channels"]["door"]["replyUrl"] = json!(format!("http://127.0.0.1:{}/sink", cable.port));
    rig.gateway.write_config(&config.to_string());
    rig.start();
    let load = Load::begin(&rig.world, rig.gateway.port, 10, 100);
    for n in 0..trials.wanted {
        pause(trials.random.between(100, 500));
        let away = trials.random.between(50, 800);
        let took = trials.trial(&format!("away {n} for {away} ms"), |_| {
            // A send that is cut off here is in doubt, as by a death. Noted first: who is cut off tries again within the millisecond.
            rig.world.killed();
            cable.pull();
            pause(away);
            cable.plug();
            let took = rig.round_trip(10);
            if took > Duration::from_secs(5) { Err(format!("{took:?}")) } else { Ok(took) }
        });
        took.into_iter().for_each(|took| trials.recovered(took));
    }
    load.end();
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn broker(trials: &mut Trials) {
    let Some(mut mosquitto) = Mosquitto::start(false) else { return trials.absent("mosquitto is not installed") };
    let model = Model::echo();
    let channel = mosquitto.channel();
    let config = merged(model.config(), json!({"channels": {"home": channel}}));
    let mut gateway = Gateway::start(config.clone());
    for n in 0..trials.wanted {
        // A line that breaks again and again within the minute is tried ever less often: patience, not a fault.
        if n > 0 && n % 4 == 0 {
            gateway = Gateway::start(config.clone());
        }
        let took = trials.trial(&format!("restart {n}"), |_| {
            if n % 2 == 0 {
                mosquitto.end();
            } else {
                mosquitto.forget();
            }
            pause(100);
            mosquitto.begin();
            let began = Instant::now();
            let listener = mosquitto.listen("gatelet/out/ana");
            let text = format!("m{n}");
            eventually("the gateway at the broker", 30, || {
                let all = gateway.get("/api/channels").expect(200).json();
                all["channels"].as_array()?.iter().any(|c| c["name"] == "home" && c["state"] == "connected").then_some(())
            });
            mosquitto.publish("gatelet/in/ana", &text);
            listener.until(&format!("echo: {text}"));
            pause(150);
            let times = listener.lines().iter().filter(|l| l.ends_with(&format!("echo: {text}"))).count();
            if times == 1 { Ok(began.elapsed()) } else { Err(format!("answered {times} times")) }
        });
        took.into_iter().for_each(|took| trials.recovered(took));
    }
    assert_eq!(gateway.term().0, 0);
}
