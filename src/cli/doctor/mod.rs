//! `gatelet doctor`: looks for what is wrong with machine, configuration and connections, and says what to do.
//!
//! Invariant: it changes nothing (one small file in the data directory is written, synced and removed), every look has a deadline, and no finding holds a
//! secret. Ends with 1 where something fails; a warning alone is 0.

mod machine;
mod reach;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::base::threads::{STACK, Threads};
use crate::cli::options::Options;
use crate::cli::output::{harmless, styled, text};
use crate::cli::remote::Remote;
use crate::cli::{Failure, name};
use crate::config::Config;
use crate::config::files::{self, Places};
use crate::store::sqlite::backup;

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// The same for the gateway on this machine.
const GATEWAY: Duration = Duration::from_secs(8);
/// The same for the whole database.
const DATABASE: Duration = Duration::from_secs(60);

/// How a look came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works; a person should look.
    Warn,
    /// It doesn't work.
    Fail,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub state: State,
    /// In a sentence.
    pub message: String,
    /// What to do, or empty.
    pub hint: String,
}

impl Finding {
    fn new(check: impl Into<String>, state: State, message: impl Into<String>) -> Finding {
        Finding { check: check.into(), state, message: message.into(), hint: String::new() }
    }

    /// All is well.
    pub fn ok(check: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(check, State::Ok, message)
    }

    /// It works all the same.
    pub fn warn(check: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { hint: hint.into(), ..Finding::new(check, State::Warn, message) }
    }

    /// It doesn't.
    pub fn fail(check: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { hint: hint.into(), ..Finding::new(check, State::Fail, message) }
    }
}

/// Runs it.
///
/// # Errors
/// `Failed` where something fails.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = options.places()?;
    let mut report = Report { json: options.json, found: Vec::new() };
    report.add(machine::clock());
    report.add_all(machine::data(&places));
    let (config, about) = configuration(&places);
    report.add_all(about);
    let (reached, running) = gateway(options);
    if let Some(config) = &config {
        report.add(machine::port(config.gateway.listen, reached));
        report.add_all(reach::names(config));
        report.add_all(reach::providers(config));
        match running {
            Some(answer) => report.add_all(reach::channels_of(&answer)),
            None => report.add_all(reach::channels(config)),
        }
        report.add_all(database(config));
    }
    report.add_all(machine::service());
    report.end()
}

/// Whether the gateway answers, and its channels where it tells them to us. Another program may have its port, and say nothing.
fn gateway(options: &Options) -> (bool, Option<Value>) {
    let options = options.clone();
    let ask = move || {
        let remote = Remote::find(&options, false).ok()?;
        remote.ask("/health").ok().filter(|(status, body)| *status == 200 && body["status"] == "ok")?;
        Some(remote.ask("/api/channels").ok().filter(|(status, _)| *status == 200).map(|(_, body)| body))
    };
    let answer = within(GATEWAY, ask).flatten();
    (answer.is_some(), answer.flatten())
}

struct Report {
    json: bool,
    found: Vec<Finding>,
}

impl Report {
    fn add_all(&mut self, found: Vec<Finding>) {
        found.into_iter().for_each(|finding| self.add(finding));
    }

    /// Shows a finding at once: the next one may take a while.
    fn add(&mut self, finding: Finding) {
        if !self.json {
            let (colour, word) = match finding.state {
                State::Ok => ("32", "ok  "),
                State::Warn => ("33", "warn"),
                State::Fail => ("31", "fail"),
            };
            text(&format!("{} {}: {}", styled(colour, word), styled("1", &harmless(&finding.check)), harmless(&finding.message)));
            if !finding.hint.is_empty() {
                text(&format!("     {}", harmless(&finding.hint)));
            }
        }
        self.found.push(finding);
    }

    fn end(self) -> Result<(), Failure> {
        let failed = self.found.iter().filter(|f| f.state == State::Fail).count();
        if self.json {
            let body: Value = json!({"healthy": failed == 0, "checks": self.found});
            text(&body.to_string());
        }
        match failed {
            0 => Ok(()),
            1 => Err(Failure::Failed("1 check failed".into())),
            n => Err(Failure::Failed(format!("{n} checks failed"))),
        }
    }
}

fn configuration(places: &Places) -> (Option<Config>, Vec<Finding>) {
    let called = name(places);
    match files::load_file(places, &files::system_var) {
        Ok(loaded) => {
            let mut found = vec![Finding::ok("configuration", format!("{called} is valid"))];
            found.extend(places.file.as_deref().and_then(|file| machine::open_file(file, &loaded.doc)));
            (Some(loaded.resolved.config), found)
        }
        Err(problems) => {
            let found = problems.iter().map(|p| {
                Finding::fail("configuration", p.to_string(), format!("mend {called}; gatelet check shows all at once"))
            });
            let config = files::load(places, &files::system_var).ok().map(|l| l.resolved.config);
            (config, found.collect())
        }
    }
}

fn database(config: &Config) -> Vec<Finding> {
    let path = config.store.path.clone();
    if !path.exists() {
        return vec![Finding::ok("database", "there is none yet; the first start makes it")];
    }
    let checked = within(DATABASE, move || backup::check(&path));
    let whole = match checked {
        Some(Ok(())) => Finding::ok("database", format!("{} is whole", config.store.path.display())),
        Some(Err(e)) => Finding::fail("database", e.text, e.hint),
        None => Finding::warn(
            "database",
            format!("looking through it takes more than {} s", DATABASE.as_secs()),
            "it is large, or the disk is slow",
        ),
    };
    vec![whole, machine::kept(&config.store)]
}

/// What `work` gives, if it comes in time; a thread that doesn't is left to the end of the process.
fn within<T: Send + 'static>(deadline: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tx, rx) = crossbeam_channel::bounded(1);
    let told = move || {
        let _ = tx.send(work()); // too late: nobody waits any more
    };
    Threads::new().spawn_once("look", STACK, told).ok()?;
    rx.recv_timeout(deadline).ok()
}
