//! The command line: what is asked for, and how the answer leaves (text, exit code).
//!
//! Invariant: the only place that prints. Plain text on a pipe, colour on a terminal alone. Exit codes: 0 done, 1 failed,
//! 2 usage, 3 invalid configuration, 4 can't reach the gateway, 5 refused.

mod agents;
mod approvals;
mod ask;
mod backup;
mod bundle;
mod chat;
mod check;
mod completions;
mod config;
mod define;
mod doctor;
mod exec;
mod help;
mod init;
mod jobs;
mod lists;
mod logs;
mod man;
mod memory;
mod options;
mod output;
mod pairings;
mod remote;
mod restore;
mod send;
mod serve;
mod status;
mod table;
mod token;
mod version;

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

/// Runs the command line.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = exec::run(&words) {
        return code;
    }
    let result = match options::parse(words) {
        Ok(Parsed::Help(None)) => {
            output::write(&help::all());
            Ok(())
        }
        Ok(Parsed::Help(Some(name))) => {
            output::write(&define::command(name).map_or_else(help::all, help::one));
            Ok(())
        }
        Ok(Parsed::Run(options, run)) => run(&options),
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
