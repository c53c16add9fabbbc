//! What a command, a form of it and an option are; the commands themselves stand in `commands`.
//!
//! Invariant: parsing, help, the manual page and the completions read this table and nothing else, so that none of them knows what
//! another one doesn't. An option of one name takes a value everywhere or nowhere. It cannot fail.

mod commands;

pub use commands::{COMMANDS, EVERYWHERE};

use crate::cli::Failure;
use crate::cli::options::Options;

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// Without the dashes.
    pub name: &'static str,
    /// Its letter, if it has one.
    pub short: Option<char>,
    /// What its value is called (`FILE`, `DIR`); `None` for a switch.
    pub value: Option<&'static str>,
    /// The only values that it takes; empty where it takes others.
    pub choices: &'static [&'static str],
    /// What it does, without a final stop.
    pub about: &'static str,
}

/// One way of using a command. In its words, lower case stands for itself, `UPPER` for an argument, `[UPPER]` for one that may be left
/// out.
#[derive(Debug)]
pub struct Form {
    /// The words behind the command.
    pub words: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Options of this form alone.
    pub options: &'static [&'static Opt],
}

/// What does a command.
pub type Run = fn(&Options) -> Result<(), Failure>;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Under which heading the help has it.
    pub group: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What else a person has to know, in paragraphs; or empty.
    pub more: &'static str,
    /// The ways of using it; without words it is the first one.
    pub forms: &'static [Form],
    /// Options of all forms, beside those that are known everywhere.
    pub options: &'static [&'static Opt],
    /// Does it.
    pub run: Run,
}

impl Form {
    /// The word that names the form; `None` where it begins with an argument or has no words.
    pub fn name(&self) -> Option<&'static str> {
        self.words.split(' ').next().filter(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
    }

    /// Its arguments, with whether they are needed.
    pub fn arguments(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let words = self.words.split(' ').filter(|w| w.starts_with(|c: char| !c.is_ascii_lowercase()));
        words.map(|w| w.strip_prefix('[').and_then(|w| w.strip_suffix(']')).map_or((w, true), |w| (w, false)))
    }

    /// Whether it can stand without any word.
    pub fn is_silent(&self) -> bool {
        self.arguments().all(|(_, needed)| !needed)
    }
}

impl Command {
    /// The options of a form: its own, the command's, those known everywhere.
    pub fn options_of<'a>(&'a self, form: &'a Form) -> impl Iterator<Item = &'static Opt> + 'a {
        form.options.iter().chain(self.options).chain(EVERYWHERE).copied()
    }
}

/// The command of that name.
pub fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name)
}

/// Every option that any command knows, each once.
pub fn all_options() -> Vec<&'static Opt> {
    let mut all: Vec<&'static Opt> = EVERYWHERE.to_vec();
    for command in COMMANDS {
        for option in command.forms.iter().flat_map(|f| f.options).chain(command.options) {
            if !all.iter().any(|known| known.name == option.name) {
                all.push(option);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_option_is_the_same_everywhere() {
        let (mut values, mut letters) = (HashMap::new(), HashMap::new());
        for command in COMMANDS {
            for form in command.forms {
                for option in command.options_of(form) {
                    let name = option.name;
                    let takes = values.insert(name, option.value.is_some());
                    assert!(takes.is_none_or(|t| t == option.value.is_some()), "{name} takes a value in one place alone");
                    if let Some(short) = option.short {
                        assert_eq!(*letters.entry(short).or_insert(name), name, "-{short} has two meanings");
                    }
                    let twice = command.options_of(form).filter(|o| o.name == name).count();
                    assert_eq!(twice, 1, "{} has {name} twice", command.name);
                }
            }
        }
    }

    #[test]
    fn the_table_fits_a_terminal_and_is_well_formed() {
        for (i, command) in COMMANDS.iter().enumerate() {
            assert!(!COMMANDS[..i].iter().any(|c| c.name == command.name), "{} stands there twice", command.name);
            assert!(command.about.len() <= 64 && !command.about.ends_with('.'), "{}: {}", command.name, command.about);
            assert!(!command.forms.is_empty(), "{}", command.name);
            for (n, form) in command.forms.iter().enumerate() {
                let missing = form.arguments().skip_while(|(_, needed)| *needed).any(|(_, needed)| needed);
                assert!(!missing, "{} {}: what may be left out stands last", command.name, form.words);
                assert!(!command.forms[..n].iter().any(|f| f.name() == form.name()), "{} {}: twice", command.name, form.words);
            }
        }
    }
}
