//! 200 callers who wait for a reply that does not come, and what /health takes meanwhile.

use std::time::Duration;

use serde_json::json;

use super::Scenario;
use crate::Outcome;
use crate::gateway::{Gateway, Setting, TOKEN};
use crate::http::{self, Connection};
use crate::load;
use crate::model::{Manner, Model};
use crate::stats::{Spread, Times};
use crate::table::{Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "waiting",
    title: "200 waiting callers",
    note: "200 connections hold `POST /webhook/default?wait=300000` at a model that never answers, each for a user of its own; one client asks /health \
without pause. Two gateways take turns, one with the callers and one without.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let (rounds, lasting) = setting.pick((2, Duration::from_millis(300)), (5, Duration::from_secs(1)));
    let model = Model::start(Manner::Hanging)?;
    let mut config = model.config();
    config["gateway"] = json!({"limits": {"maxConnections": 512}});
    let (crowded, empty) = (Gateway::start(setting, &config)?, Gateway::start(setting, &config)?);
    let threads = crowded.look()?.threads;
    let mut callers = Vec::new();
    for n in 0..200 {
        let mut request = Vec::new();
        let body = json!({"messageId": format!("m-{n}"), "userId": format!("caller-{n}"), "message": "hello"}).to_string();
        http::post(&mut request, "/webhook/default?wait=300000", TOKEN, &body);
        let mut caller = Connection::open(crowded.address)?;
        caller.send(&request)?;
        callers.push(caller);
    }
    std::thread::sleep(Duration::from_secs(1));
    let more_threads = crowded.look()?.threads as f64 - threads as f64;
    let (mut with, mut without) = (Times::default(), Times::default());
    for _ in 0..rounds {
        for (gateway, times) in [(&crowded, &mut with), (&empty, &mut without)] {
            times.join(load::run(gateway.address, 1, lasting, 200, |_, request| request.extend_from_slice(http::HEALTH))?.times);
        }
    }
    for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
        let (a, b) = (with.at(quantile), without.at(quantile));
        table.add(SCENARIO.name, Row::one(format!("/health, {label}"), "µs", a).beside("without them", b, Spread::of(&[a / b])));
    }
    table.add(SCENARIO.name, Row::one("threads more", "", more_threads));
    drop(callers);
    Ok(())
}
