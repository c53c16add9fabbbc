//! The command line: what is asked for, and how the answer leaves (text, exit code).
//!
//! Invariant: the only place that prints. Plain text on a pipe, colour on a terminal alone. Exit codes: 0 done, 1 failed,
//! 2 usage, 3 invalid configuration, 4 can't reach the gateway, 5 refused.

mod agents;
mod approvals;
mod chat;
mod check;
mod exec;
mod jobs;
mod lists;
mod memory;
mod options;
mod output;
mod pairings;
mod remote;
mod send;
mod serve;
mod status;

use std::process::ExitCode;

use crate::config::files::{self, Places};
use options::{Options, Parsed};

/// How a command ended, where it did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 1.
    Failed(String),
    /// 2.
    Usage(String),
    /// 3: which one, and every problem, a line each.
    Configuration(String, Vec<String>),
    /// 4.
    Unreachable(String),
    /// 5.
    Refused(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Configuration(..) => 3,
            Failure::Unreachable(_) => 4,
            Failure::Refused(_) => 5,
        }
    }
}

const USAGE: &str = "\
gatelet: a gateway between the places where people write and the AI agents that answer them

usage: gatelet [command] [options]

commands:
  serve                 serve until SIGTERM (the default)
  check                 check the configuration and say every problem
  status                how the running gateway is
  chat                  talk to the gateway's agent in this terminal
  send USER MESSAGE     send a message to a user ('-' reads it from standard input)
  agents [tools]        the agents and how they are, or the tools that they have
  approvals             what waits for a decision
  approvals allow ID    let a tool call run; deny ID: don't; always ID: let it run, and every one exactly like it
  pairings              unknown senders who wait; approve CODE lets one in, reject CODE doesn't
  channels              the channels and how they are; reconnect NAME
  messages              messages that came in; list STATE, show ID, retry ID
  sessions              conversations; show USER, erase USER
  outbox                what is to be sent, was, or could not be; list STATE, retry ID, drop ID
  memory list USER      what agents keep about a user; add USER TEXT, edit ID TEXT, forget ID
  jobs                  scheduled turns and messages
  jobs add USER         make one (--at, --every or --cron; --message, or --agent and --prompt); remove ID, run ID, runs ID
  version               the version

options:
  --config FILE         the configuration file ($GATELET_CONFIG)
  --data-dir DIR        the data directory ($GATELET_DATA_DIR)
  --url URL             the gateway to talk to ($GATELET_URL)
  --token TOKEN         the credential ($GATELET_TOKEN)
  --json                answer in JSON
  --channel NAME        send: the channel to use
  --key KEY             send: a repeat with the same key is the same message
  --agent NAME          chat: the agent to talk to; memory: whose notes; jobs: whose turn
  --at TIME             jobs: once, in RFC 3339; --every 90s, 15m, 2h, 1d; --cron 'M H D M W' with --timezone ZONE
  --prompt TEXT         jobs: what the agent is asked; --message TEXT is sent as it is
  --id ID, --catch-up   jobs: its id; make up for missed runs, once
  -h, --help            this text
";

/// Runs the command line.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = exec::run(&words) {
        return code;
    }
    let result = match options::parse(words) {
        Ok(Parsed::Help) => {
            output::text(USAGE.trim_end());
            Ok(())
        }
        Ok(Parsed::Run(options)) => run(&options),
        Err(usage) => Err(Failure::Usage(usage)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Configuration(file, problems) => {
                    output::error(&format!("the configuration is invalid: {file}"));
                    problems.iter().for_each(|p| output::problem(p));
                }
                Failure::Usage(why) => output::error(&format!("{why}; see gatelet --help")),
                Failure::Failed(why) | Failure::Unreachable(why) | Failure::Refused(why) => output::error(why),
            }
            ExitCode::from(failure.code())
        }
    }
}

/// What a configuration is called.
fn name(places: &Places) -> String {
    places.file.as_ref().map_or("the built-in default".to_string(), |p| p.display().to_string())
}

/// Every problem of a configuration.
fn invalid(places: &Places, problems: &[crate::config::Problem]) -> Failure {
    Failure::Configuration(name(places), problems.iter().map(ToString::to_string).collect())
}

impl Options {
    /// Where configuration and data are.
    fn places(&self) -> Result<Places, Failure> {
        Places::find(self.config.as_deref(), self.data_dir.as_deref(), &files::system_var)
            .map_err(|e| Failure::Failed(e.to_string()))
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    match options.command.as_str() {
        "serve" => serve::run(options),
        "check" => check::run(options),
        "status" => status::run(options),
        "chat" => chat::run(options),
        "send" => send::run(options),
        "agents" => agents::run(options),
        "approvals" => approvals::run(options),
        "pairings" => pairings::run(options),
        "channels" => lists::channels(options),
        "messages" => lists::messages(options),
        "sessions" => lists::sessions(options),
        "outbox" => lists::outbox(options),
        "jobs" => jobs::run(options),
        "memory" => memory::run(options),
        "version" => {
            output::text(&if options.json {
                serde_json::json!({"version": env!("CARGO_PKG_VERSION")}).to_string()
            } else {
                format!("gatelet {}", env!("CARGO_PKG_VERSION"))
            });
            Ok(())
        }
        // The contract's further commands come with what they command.
        other => Err(Failure::Usage(format!("there is no command {other:?} in this version"))),
    }
}
