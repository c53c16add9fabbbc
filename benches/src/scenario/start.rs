//! From the start of the process to the first 200 on /health.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
messages with their replies and was closed by SIGTERM. *The process alone* is `gatelet version`, from before it is made until it has ended. The phases \
are the gateway's own (`gatelet_start_phase_seconds`), one after the other, medians of the same starts: *configuration* read and checked, *listener* bound and \
signals caught, *store* opened, recovered and its index filled, *parts* made (new: the admin's token, too, on disk), *door* with its workers; what comes \
after is in nobody's way. The first answer may come when the door's thread runs, before that phase has ended.",
    run,
};

fn run(setting: &Setting, table: &mut Table) -> Outcome<()> {
    let runs = setting.pick(5, 30);
    let config = json!({"providers": {"offline": {"type": "builtin"}}});
    let (mut new, mut existing, mut bare) = (Starts::default(), Starts::default(), Times::default());
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
        new.add(&Gateway::start_in(setting, &config, fresh(setting)?)?)?;
        let again = Gateway::start_in(setting, &config, data)?;
        existing.add(&again)?;
        data = again.end()?;
    }
    for (name, starts) in [("new", &new), ("existing", &existing)] {
        let (own, process) = (starts.whole.at(0.5) / 1e3, bare.at(0.5) / 1e3);
        let row = Row::one(format!("{name} data directory, p50 of {runs}"), "ms", own);
        let row = row.beside("the process alone", process, Spread::of(&[own / process])).budget(Budget::AtMost(3.0));
        let phases: Vec<_> = starts.medians().iter().map(|(phase, ms)| format!("{phase} {ms:.2}")).collect();
        let why = format!("the process alone takes {process:.2} ms, then come {} ms", phases.join(", "));
        table.add(SCENARIO.name, row.because(why));
        table.add(SCENARIO.name, Row::one(format!("{name} data directory, slowest"), "ms", starts.whole.at(1.0) / 1e3));
    }
    for ((phase, ms), (_, of_new)) in existing.medians().into_iter().zip(new.medians()) {
        let row = Row::one(format!("{phase}, existing data directory"), "ms", ms);
        table.add(SCENARIO.name, row.beside("new", of_new, Spread::of(&[ms / of_new])));
    }
    Ok(())
}

/// What starts took.
#[derive(Default)]
struct Starts {
    whole: Times,
    phases: Vec<(String, Times)>,
}

impl Starts {
    fn add(&mut self, gateway: &Gateway) -> Outcome<()> {
        self.whole.add(gateway.boot.as_nanos() as f64 / 1e3);
        // It answers before the last phase has ended, and says nothing of them until then.
        for _ in 0..100 {
            let (_, body) = Connection::open(gateway.address)?.exchange(&http::get("/api/metrics", TOKEN))?;
            let metrics: Value = serde_json::from_slice(&body)?;
            let phases = metrics["startMs"].as_object().ok_or("metrics without startMs")?;
            for (phase, ms) in phases.iter().filter(|(phase, _)| *phase != "workers") {
                let micros = ms.as_f64().ok_or("a phase that is no number")? * 1e3;
                let at = self.phases.iter().position(|(known, _)| known == phase).unwrap_or(self.phases.len());
                if at == self.phases.len() {
                    self.phases.push((phase.clone(), Times::default()));
                }
                self.phases[at].1.add(micros);
            }
            if !phases.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the start never came to its end".into())
    }

    /// The phases in their order, in ms.
    fn medians(&self) -> Vec<(&str, f64)> {
        self.phases.iter().map(|(phase, times)| (phase.as_str(), times.at(0.5) / 1e3)).collect()
    }
}

/// Microseconds of a process that does nothing.
fn version(setting: &Setting) -> Outcome<f64> {
    let begin = Instant::now();
    let status = Command::new(&setting.binary).arg("version").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let micros = begin.elapsed().as_nanos() as f64 / 1e3;
    if status.success() { Ok(micros) } else { Err(format!("gatelet version: {status}").into()) }
}
