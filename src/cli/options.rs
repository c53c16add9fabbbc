//! What was asked for on the command line and in the environment.
//!
//! Invariant: what no form of the command takes is refused here, with the nearest thing that it does take; a command sees words of one
//! of its forms and options of that form alone. Fails with a sentence for the person.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::secret::Secret;
use crate::cli::define::{self, COMMANDS, Command, EVERYWHERE, Form, Opt};
use crate::config::nearest;

/// The command and all that was said with it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The words behind it, those of one of its forms; where none were said and the first form has a name, that.
    pub arguments: Vec<String>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--url`, or `$GATELET_URL`.
    pub url: Option<String>,
    /// `--token`, or `$GATELET_TOKEN`.
    pub token: Option<Secret>,
    /// `--json`.
    pub json: bool,
    /// The other options, in order; a switch has an empty value.
    given: Vec<(&'static str, String)>,
}

impl Options {
    /// The value of an option; the last one where it was said twice.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Whether a switch was set.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The words behind the command.
    pub fn words(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// The options but those known everywhere, in order.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// What the words came to.
#[derive(Debug)]
pub enum Parsed {
    /// Show the help: of a command, or all of it.
    Help(Option<&'static str>),
    /// Run a command.
    Run(Box<Options>, define::Run),
}

/// Reads the words behind the program's name.
///
/// # Errors
/// A sentence for the person.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    let Words { help, name, arguments, options } = read(words)?;
    let command = match &name {
        None => define::command("serve").ok_or("there is no command serve")?,
        Some(name) => define::command(name).ok_or_else(|| {
            let near = close(name, COMMANDS.iter().map(|c| c.name));
            format!("there is no command {name:?}{near}")
        })?,
    };
    if help {
        return Ok(Parsed::Help(name.map(|_| command.name)));
    }
    let form = form_of(command, &arguments)?;
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let mut found = Options {
        arguments,
        config: None,
        data_dir: None,
        url: set("GATELET_URL"),
        token: set("GATELET_TOKEN").map(Secret::new),
        json: false,
        given: Vec::new(),
    };
    if found.arguments.is_empty() {
        found.arguments.extend(form.name().map(str::to_string));
    }
    for (option, value) in options {
        if !command.options_of(form).any(|o| o.name == option.name) {
            return Err(misplaced(command, form, option));
        }
        if option.name == "config" || option.name == "data-dir" {
            let place = if option.name == "config" { &mut found.config } else { &mut found.data_dir };
            *place = Some(value.into());
            continue;
        }
        let value = value.into_string().map_err(|_| format!("the value of --{} is not valid UTF-8", option.name))?;
        if !option.choices.is_empty() && !option.choices.contains(&value.as_str()) {
            return Err(format!("--{} takes {}, not {value:?}", option.name, option.choices.join(", ")));
        }
        match option.name {
            "url" => found.url = Some(value),
            "token" => found.token = Some(Secret::new(value)),
            "json" => found.json = true,
            name => found.given.push((name, value)),
        }
    }
    Ok(Parsed::Run(Box::new(found), command.run))
}

#[derive(Default)]
struct Words {
    help: bool,
    name: Option<String>,
    arguments: Vec<String>,
    options: Vec<(&'static Opt, OsString)>,
}

/// Tells options, command and arguments apart.
fn read(words: impl IntoIterator<Item = OsString>) -> Result<Words, String> {
    use lexopt::prelude::*;
    let known = define::all_options();
    let mut found = Words::default();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next().map_err(|e| e.to_string())? {
        let option = match word {
            Short('V') | Long("version") => {
                found.name.get_or_insert_with(|| "version".to_string());
                continue;
            }
            Value(word) => {
                let word = word.into_string().map_err(|_| "an argument is not valid UTF-8".to_string())?;
                if found.name.is_none() {
                    found.name = Some(word);
                } else {
                    found.arguments.push(word);
                }
                continue;
            }
            Short(letter) => {
                known.iter().find(|o| o.short == Some(letter)).ok_or_else(|| format!("there is no option -{letter}"))
            }
            Long(name) => known.iter().find(|o| o.name == name).ok_or_else(|| unknown(name, found.name.as_deref(), &known)),
        }?;
        if option.name == "help" {
            found.help = true;
            continue;
        }
        let value = match option.value {
            Some(_) => parser.value().map_err(|_| format!("--{} needs a value", option.name))?,
            None => OsString::new(),
        };
        found.options.push((option, value));
    }
    Ok(found)
}

/// `; did you mean x?` where something of that kind is near.
fn close<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).filter(|(_, far)| *far <= 2).map_or(String::new(), |(near, _)| format!("; did you mean {near}?"))
}

fn unknown(name: &str, command: Option<&str>, known: &[&'static Opt]) -> String {
    let own: Vec<&str> = match command.and_then(define::command) {
        Some(command) => command.forms.iter().flat_map(|f| command.options_of(f)).map(|o| o.name).collect(),
        None => known.iter().map(|o| o.name).collect(),
    };
    let near = nearest(name, own).filter(|(_, far)| *far <= 2).map_or(String::new(), |(n, _)| format!("; did you mean --{n}?"));
    format!("there is no option --{name}{near}")
}

fn misplaced(command: &Command, form: &Form, option: &Opt) -> String {
    let form = form.name().map_or(String::new(), |name| format!(" {name}"));
    let takes = |c: &&Command| c.forms.iter().any(|f| f.options.iter().chain(c.options).any(|o| o.name == option.name));
    let others: Vec<&str> = COMMANDS.iter().filter(takes).map(|c| c.name).collect();
    format!("{}{form} takes no --{}; it belongs to {}", command.name, option.name, others.join(", "))
}

/// The form whose words these are.
fn form_of(command: &'static Command, words: &[String]) -> Result<&'static Form, String> {
    let name = command.name;
    let first = &command.forms[0];
    let Some(word) = words.first() else {
        if first.is_silent() {
            return Ok(first);
        }
        let all: Vec<&str> = command.forms.iter().map(|f| f.words).collect();
        return Err(format!("{name} needs {}", all.join(", or ")));
    };
    let named = command.forms.iter().find(|f| f.name() == Some(word));
    let (form, behind) = match named {
        Some(form) => (form, &words[1..]),
        None if first.name().is_none() => (first, words),
        None => {
            let names: Vec<&str> = command.forms.iter().filter_map(Form::name).collect();
            let near = close(word, names.iter().copied());
            return Err(format!("{name} takes {}, not {word:?}{near}", names.join(", ")));
        }
    };
    let called = form.name().map_or(name.to_string(), |form| format!("{name} {form}"));
    if let Some((missing, _)) = form.arguments().skip(behind.len()).find(|(_, needed)| *needed) {
        return Err(format!("{called} needs {missing}"));
    }
    match behind.get(form.arguments().count()) {
        Some(extra) => Err(format!("{called} does not take {extra:?}")),
        None => Ok(form),
    }
}

/// Whether an option is known to every command.
pub fn is_everywhere(option: &Opt) -> bool {
    EVERYWHERE.iter().any(|o| o.name == option.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &str) {
        let shown = match parse(words.iter().map(OsString::from)) {
            Ok(Parsed::Help(of)) => format!("help {}", of.unwrap_or("-")),
            Ok(Parsed::Run(o, _)) => {
                let config = o.config.as_ref().map_or(String::new(), |c| format!(" config={}", c.display()));
                let more: String = o.given().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{:?}{}{config}{more}", o.arguments, if o.json { " json" } else { "" })
            }
            Err(e) => format!("error: {e}"),
        };
        assert_eq!(shown, expected, "{words:?}");
    }

    #[test]
    fn words() {
        check(&[], "[]");
        check(&["--config", "a.json"], "[] config=a.json");
        check(&["send", "ana", "hi there", "--json"], "[\"ana\", \"hi there\"] json");
        check(&["--json", "send", "--key", "k", "ana", "--channel=c", "hi"], "[\"ana\", \"hi\"] json key=k channel=c");
        check(&["check", "--config=b"], "[] config=b");
        check(&["send", "ana", "--", "--not-an-option"], "[\"ana\", \"--not-an-option\"]");
        check(&["status", "-h"], "help status");
        check(&["--help"], "help -");
        check(&["memory", "add", "ana", "likes tea"], "[\"add\", \"ana\", \"likes tea\"]");
        check(&["outbox"], "[\"list\"]");
        check(&["outbox", "list", "dead"], "[\"list\", \"dead\"]");
        check(&["logs", "-fn", "5"], "[] follow= lines=5");
        check(&["logs", "-n5", "--level", "warn"], "[] lines=5 level=warn");
        check(&["-V"], "[]");
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        check(&["agents", "tools", "x"], "error: agents tools does not take \"x\"");
        check(&["agents", "tool"], "error: agents takes list, tools, not \"tool\"; did you mean tools?");
        check(&["--config"], "error: --config needs a value");
        check(&["--nope"], "error: there is no option --nope");
        check(&["status", "--jsn"], "error: there is no option --jsn; did you mean --json?");
        check(&["status", "-x"], "error: there is no option -x");
        check(&["status", "x"], "error: status does not take \"x\"");
        check(&["statos"], "error: there is no command \"statos\"; did you mean status?");
        check(&["status", "--agent", "a"], "error: status takes no --agent; it belongs to chat, jobs, memory");
        check(&["jobs", "list", "--cron", "x"], "error: jobs list takes no --cron; it belongs to jobs");
        check(&["logs", "--level", "loud"], "error: --level takes error, warn, info, debug, trace, not \"loud\"");
        check(&["memory"], "error: memory needs list USER, or add USER TEXT, or edit ID TEXT, or forget ID");
        check(&["memory", "add", "ana"], "error: memory add needs TEXT");
        check(&["send", "ana"], "error: send needs MESSAGE");
        check(&["backup"], "error: backup needs DIR");
        check(&["status", "--json=x"], "error: unexpected argument for option '--json': \"x\"");
    }
}
