//! From the start of the process to the first 200 on /health.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::Scenario;
use crate::Outcome;
use crate::gateway::{Gateway, Setting, TOKEN, fresh};
use crate::http::{self, Connection};
use crate::stats::{Spread, Times};
use crate::table::{Budget, Row, Table};

pub const SCENARIO: Scenario = Scenario {
    name: "start",
    title: "Start → first 200 on /health",
    note: "From before the process is made to the answer, the store opened; tried every 50 µs. *New* is an empty data directory; *existing* holds 500 \
messages with their replies and was closed by SIGTERM. *The process alone* is `gatelet version`, from before it is made until it has ended.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let runs = setting.pick(5, 30);
    let config = json!({"providers": {"offline": {"type": "builtin"}}});
    let (mut new, mut existing, mut bare) = (Times::default(), Times::default(), Times::default());
    let first = Gateway::start(setting, &config)?;
    let mut connection = Connection::open(first.address)?;
    for n in 0..setting.pick(20, 500) {
        let mut request = Vec::new();
        let body = json!({"messageId": format!("m-{n}"), "userId": format!("sender-{}", n % 20), "message": "hello"}).to_string();
        http::post(&mut request, "/webhook/default?wait=10000", TOKEN, &body);
        connection.exchange(&request)?;
    }
    drop(connection);
    let mut data = first.end()?;
    for _ in 0..runs {
        bare.add(version(setting)?);
        new.add(Gateway::start_in(setting, &config, fresh(setting)?)?.boot.as_nanos() as f64 / 1e3);
        let again = Gateway::start_in(setting, &config, data)?;
        existing.add(again.boot.as_nanos() as f64 / 1e3);
        data = again.end()?;
    }
    for (name, times) in [("new", new), ("existing", existing)] {
        let (own, process) = (times.at(0.5) / 1e3, bare.at(0.5) / 1e3);
        let row = Row::one(format!("{name} data directory, p50 of {runs}"), "ms", own);
        let row = row.beside("the process alone", process, Spread::of(&[own / process])).budget(Budget::AtMost(3.0));
        let why = format!(
            "the process alone takes {process:.2} ms; the rest is the configuration, the store, the threads and the answer"
        );
        table.add(SCENARIO.name, row.because(why));
        table.add(SCENARIO.name, Row::one(format!("{name} data directory, slowest"), "ms", times.at(1.0) / 1e3));
    }
    Ok(())
}

/// Microseconds of a process that does nothing.
fn version(setting: &Setting) -> Outcome<f64> {
    let begin = Instant::now();
    let status = Command::new(&setting.binary).arg("version").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let micros = begin.elapsed().as_nanos() as f64 / 1e3;
    if status.success() { Ok(micros) } else { Err(format!("gatelet version: {status}").into()) }
}
