//! What was asked for on the command line and in the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::secret::Secret;

/// The options of all commands; each command looks at its own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The command.
    pub command: String,
    /// What stands behind it.
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
    /// `--channel`.
    pub channel: Option<String>,
    /// `--key`.
    pub key: Option<String>,
    /// `--agent`.
    pub agent: Option<String>,
    /// What describes a job: `--at`, `--every`, `--cron`, `--timezone`, `--prompt`, `--message`, `--id`, `--catch-up`, by their names.
    pub job: Vec<(&'static str, String)>,
}

/// Options with a value that describe a job.
const JOB: &[&str] = &["at", "every", "cron", "timezone", "prompt", "message", "id"];

/// What the words came to.
#[derive(Debug)]
pub enum Parsed {
    /// Show the usage.
    Help,
    /// Run a command.
    Run(Box<Options>),
}

/// Reads the words behind the program's name.
///
/// # Errors
/// A sentence for the person.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
    use lexopt::prelude::*;
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let mut options = Options { url: set("GATELET_URL"), token: set("GATELET_TOKEN").map(Secret::new), ..Options::default() };
    let mut command = None;
    let mut parser = lexopt::Parser::from_args(words);
    let value = |parser: &mut lexopt::Parser, word: &str| parser.value().map_err(|_| format!("{word} needs a value"));
    let text = |value: OsString| value.into_string().map_err(|_| "an argument is not valid UTF-8".to_string());
    while let Some(word) = parser.next().map_err(|e| e.to_string())? {
        match word {
            Short('h') | Long("help") => return Ok(Parsed::Help),
            Short('V') | Long("version") => command = Some("version".to_string()),
            Long("json") => options.json = true,
            Long("config") => options.config = Some(value(&mut parser, "--config")?.into()),
            Long("data-dir") => options.data_dir = Some(value(&mut parser, "--data-dir")?.into()),
            Long("url") => options.url = Some(text(value(&mut parser, "--url")?)?),
            Long("token") => options.token = Some(Secret::new(text(value(&mut parser, "--token")?)?)),
            Long("channel") => options.channel = Some(text(value(&mut parser, "--channel")?)?),
            Long("key") => options.key = Some(text(value(&mut parser, "--key")?)?),
            Long("agent") => options.agent = Some(text(value(&mut parser, "--agent")?)?),
            Long("catch-up") => options.job.push(("catch-up", String::new())),
            Long(name) if JOB.contains(&name) => {
                let name = JOB.iter().copied().find(|n| *n == name).unwrap_or_default();
                options.job.push((name, text(value(&mut parser, &format!("--{name}"))?)?));
            }
            Value(word) if command.is_none() => command = Some(text(word)?),
            Value(word) => options.arguments.push(text(word)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    options.command = command.unwrap_or_else(|| "serve".to_string());
    let takes = match options.command.as_str() {
        "send" | "approvals" | "pairings" | "channels" | "messages" | "sessions" | "outbox" | "jobs" => 2,
        "memory" => 3,
        "agents" => 1,
        _ => 0,
    };
    if options.arguments.len() > takes {
        return Err(format!("{} does not take {:?}", options.command, options.arguments[takes]));
    }
    Ok(Parsed::Run(Box::new(options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &str) {
        let shown = match parse(words.iter().map(OsString::from)) {
            Ok(Parsed::Help) => "help".to_string(),
            Ok(Parsed::Run(o)) => format!("{} {:?} json={} config={:?}", o.command, o.arguments, o.json, o.config),
            Err(e) => format!("error: {e}"),
        };
        assert_eq!(shown, expected, "{words:?}");
    }

    #[test]
    fn words() {
        check(&[], "serve [] json=false config=None");
        check(&["--config", "a.json"], "serve [] json=false config=Some(\"a.json\")");
        check(&["send", "ana", "hi there", "--json"], "send [\"ana\", \"hi there\"] json=true config=None");
        check(&["check", "--config=b"], "check [] json=false config=Some(\"b\")");
        check(&["send", "ana", "--", "--not-an-option"], "send [\"ana\", \"--not-an-option\"] json=false config=None");
        check(&["status", "-h"], "help");
        check(&["memory", "add", "ana", "likes tea"], "memory [\"add\", \"ana\", \"likes tea\"] json=false config=None");
        check(&["agents", "tools", "x"], "error: agents does not take \"x\"");
        check(&["-V"], "version [] json=false config=None");
        check(&["--config"], "error: --config needs a value");
        check(&["--nope"], "error: invalid option '--nope'");
        check(&["status", "x"], "error: status does not take \"x\"");
    }
}
