//! What an agent with tools costs: the prompt for "hi", and the time that the gateway itself adds to a turn with a tool call.

use serde_json::json;

use super::Scenario;
use crate::Outcome;
use crate::gateway::{Gateway, Setting};
use crate::group;
use crate::http::Connection;
use crate::model::{Manner, Model};
use crate::stats::{Spread, Times};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "tools",
    title: "Prompts, and turns with a tool call",
    note: "*Prompt*: bytes of the whole request body that the model's server gets for the message \"hi\" in a new session, without tools and \
with the default set; beside it what rivals were measured to send for the same (OpenClaw 60 KB, ZeroClaw 59 KB, NullClaw 38 KB). *Turn*: \
`POST /webhook/default?wait=10000` until its 200, with a model that calls `time.now` and then answers, both at once: two questions to the \
model, one call, and four commits with an fsync (message, call asked for, result, reply). *fsync* as in the table above.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    prompt(setting, table, "prompt for \"hi\", no tools", &json!({"default": "deny", "rules": []}), 2048.0)?;
    prompt(setting, table, "prompt for \"hi\", default tools", &json!({}), 4096.0)?;
    let (blocks, each) = setting.pick((2, 20), (8, 50));
    let model = Model::start(Manner::Calling)?;
    let gateway = Gateway::start(setting, &model.config())?;
    let mut http = Connection::open(gateway.address)?;
    super::reply::webhook(&mut http, "warm-up", "sender-0")?;
    let (mut fsyncs, mut turns) = (Times::default(), Times::default());
    for block in 0..blocks {
        fsyncs.join(group::fsyncs(&setting.folder, each)?);
        for n in 0..each {
            turns.add(super::reply::webhook(&mut http, &format!("t-{block}-{n}"), &format!("sender-{}", n % 10))?);
        }
    }
    for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
        let (own, four) = (turns.at(quantile) / 1e3, 4.0 * fsyncs.at(quantile) / 1e3);
        table.add(
            SCENARIO.name,
            Row::one(format!("turn with one tool call, {label}"), "ms", own).beside("4 fsync", four, Spread::of(&[own / four])),
        );
    }
    Ok(())
}

fn prompt(setting: &Setting, table: &mut Table, what: &str, tools: &serde_json::Value, bound: f64) -> Outcome<()> {
    let model = Model::start(Manner::Instant)?;
    let mut config = model.config();
    config["tools"] = tools.clone();
    let gateway = Gateway::start(setting, &config)?;
    super::reply::greet(&mut Connection::open(gateway.address)?)?;
    let own = model.bytes() as f64;
    let row = Row::one(what, "bytes", own).beside("NullClaw's", 38_000.0, Spread::of(&[own / 38_000.0]));
    table.add(SCENARIO.name, row.budget(Budget::AtMost(bound)));
    Ok(())
}
