//! The hidden command behind `shell.run`: this program again, as the supervisor of another one.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::agent::tools::shell::supervise;

/// Runs it where the words behind the program's name ask for it.
pub fn run(words: &[OsString]) -> Option<ExitCode> {
    let (word, rest) = words.split_first()?;
    (word == supervise::WORD).then(|| ExitCode::from(supervise::main(rest.iter().cloned())))
}
