//! Asking a person on the terminal.
//!
//! Invariant: a secret is not shown while it is typed, and the terminal is as it was afterwards. The end of the input is a refusal, not an empty
//! answer. Fails with a sentence.

use std::io::{BufRead, IsTerminal, stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::Failure;
use crate::cli::output::{styled, write};

/// How often a question is asked again where the answer does not fit.
const TRIES: u32 = 5;
/// The longest answer.
const ANSWER_MAX: usize = 8 * 1024;

/// Whether there is somebody to ask.
pub fn is_possible() -> bool {
    stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks until `fit` takes the answer; an empty answer is `preset`.
///
/// # Errors
/// Where the input ends, or nothing fits.
pub fn line<T>(question: &str, preset: &str, fit: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    for _ in 0..TRIES {
        let shown = if preset.is_empty() { String::new() } else { styled("2", &format!(" [{preset}]")) };
        write(&format!("{}{shown}: ", styled("1", question)));
        let answer = read()?;
        match fit(if answer.is_empty() { preset } else { &answer }) {
            Ok(value) => return Ok(value),
            Err(why) => write(&format!("  {}\n", styled("33", &why))),
        }
    }
    Err(Failure::Failed("no answer fitted".into()))
}

/// Asks for a secret, which is not shown.
///
/// # Errors
/// Where the input ends.
pub fn secret(question: &str) -> Result<String, Failure> {
    write(&format!("{}{}: ", styled("1", question), styled("2", " (not shown; empty for none)")));
    let _hidden = Hidden::begin();
    let answer = read();
    write("\n");
    answer
}

/// `yes` or `no`.
///
/// # Errors
/// Where the input ends, or nothing fits.
pub fn yes(question: &str, preset: bool) -> Result<bool, Failure> {
    line(question, if preset { "yes" } else { "no" }, |answer| match answer.to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("yes or no".into()),
    })
}

fn read() -> Result<String, Failure> {
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line).map_err(|e| Failure::Failed(format!("standard input can't be read: {e}")))?;
    if read == 0 || line.len() > ANSWER_MAX {
        return Err(Failure::Failed("nothing was written: the answers ended".into()));
    }
    Ok(line.trim().to_string())
}

/// A terminal without its echo; it comes back when this is dropped.
struct Hidden(Option<Termios>);

impl Hidden {
    fn begin() -> Hidden {
        let former = tcgetattr(stdin()).ok();
        if let Some(former) = &former {
            let mut hidden = former.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &hidden); // then it is shown: asked for all the same
        }
        Hidden(former)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(former) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, former); // nothing more can be done about it
        }
    }
}
