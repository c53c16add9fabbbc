//! `shell.run`: runs a program that the configuration file names.
//!
//! Invariant: never a shell, and nothing but what `tools.shell.commands` lists: its absolute path, and arguments each of which fits its
//! pattern. The file that runs is the one that was looked at (device, inode, size, times), or none. A program gets an empty
//! environment but three names, no input, no descriptor of ours, no new rights, limits, and a session of its own; when its time is
//! over, its call is cancelled, it writes beyond `WRITTEN_BYTES_MAX`, or the gateway dies, it is killed with all its children
//! (see [`supervise`]). What can't start is an error; what it came to (exit code, signal) stands first in the output.

mod arguments;
mod identity;
mod run;
pub mod supervise;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{About, Context, Tool};
use crate::agent::provider::ToolSpec;
use crate::base::error::{Error, ErrorKind, Result};
use crate::config::{ShellCommand, Tools};

pub use identity::Identity;

/// What a program may write before it is killed for it.
const WRITTEN_BYTES_MAX: usize = 1024 * 1024;
/// How long the killing of a program with all its children may take.
const KILL_WAIT: Duration = Duration::from_secs(4);

/// How this program is started again as the supervisor of another one.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Ourselves.
    pub program: PathBuf,
    /// The words before those of [`supervise::Order`].
    pub words: Vec<OsString>,
}

impl Runner {
    /// The running executable, also where its file was replaced meanwhile, with the hidden command of the command line.
    pub fn own() -> Self {
        Runner { program: "/proc/self/exe".into(), words: vec![supervise::WORD.into()] }
    }
}

/// The tool.
pub struct Shell {
    about: About,
    commands: BTreeMap<String, ShellCommand>,
    folder: PathBuf,
    runner: Runner,
    /// What the last binding of each command was made to, until a call of it runs.
    bound: Mutex<BTreeMap<String, Identity>>,
}

impl Shell {
    /// The tool for the configured programs; `None` where there are none.
    pub fn new(tools: &Tools) -> Option<Self> {
        Self::by(tools, Runner::own())
    }

    /// The same with another runner: for tests, whose executable has no command line.
    pub fn by(tools: &Tools, runner: Runner) -> Option<Self> {
        if tools.shell.is_empty() {
            return None;
        }
        let names: Vec<_> = tools.shell.keys().collect();
        let schema = json!({"type": "object", "properties": {
            "command": {"enum": names}, "args": {"type": "array", "items": {"type": "string"}}
        }, "required": ["command"]});
        let spec = ToolSpec { name: "shell.run".into(), wire: "shell_run".into(), description: describe(&tools.shell), schema };
        Some(Shell {
            about: About { spec: Arc::new(spec), idempotent: false, dangerous: true, safe: false },
            commands: tools.shell.clone(),
            folder: tools.shell_dir.clone(),
            runner,
            bound: Mutex::default(),
        })
    }

    /// The program and the arguments that are asked for, where they fit.
    fn asked(&self, arguments: &Map<String, Value>) -> Result<(&str, &ShellCommand, Vec<String>)> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Invalid, why));
        let name = arguments.get("command").and_then(Value::as_str).unwrap_or_default();
        let Some((name, command)) = self.commands.get_key_value(name) else {
            return refuse("there is no such command".into());
        };
        let args = match arguments.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => match list.iter().map(|a| a.as_str().map(str::to_string)).collect() {
                Some(args) => args,
                None => return refuse("args is a list of texts".into()),
            },
            Some(_) => return refuse("args is a list of texts".into()),
        };
        match arguments::check(&command.args, &args) {
            Ok(()) => Ok((name, command, args)),
            Err(why) => refuse(why),
        }
    }

    /// The directory that a program runs in.
    fn directory(&self, command: &ShellCommand) -> Result<PathBuf> {
        if let Some(cwd) = &command.cwd {
            return Ok(cwd.clone());
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|e| Error::new(ErrorKind::Transient, format!("the folder for programs cannot be made: {e}")))?;
        Ok(self.folder.clone())
    }
}

/// What the model is told: each command with its patterns.
fn describe(commands: &BTreeMap<String, ShellCommand>) -> String {
    let list = commands.iter().map(|(name, command)| {
        let args: String = command.args.iter().map(|a| format!(" {a}")).collect();
        let about = command.about.as_ref().map_or(String::new(), |about| format!(" ({about})"));
        format!("{name}{args}{about}")
    });
    format!("Run a program (* is any text): {}", list.collect::<Vec<_>>().join("; "))
}

impl Tool for Shell {
    fn about(&self) -> &About {
        &self.about
    }

    fn binding(&self, arguments: &Map<String, Value>) -> Result<String> {
        let (name, command, _) = self.asked(arguments)?;
        let identity = Identity::of(&command.path)?;
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), identity.clone());
        let cwd = command.cwd.as_deref().unwrap_or(Path::new("")).display();
        let path = command.path.display();
        Ok(if cwd.to_string().is_empty() { format!("{path}\0{identity}") } else { format!("{path} in {cwd}\0{identity}") })
    }

    fn wait(&self) -> Duration {
        self.commands.values().map(|c| c.timeout).max().unwrap_or_default() + KILL_WAIT
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        let (name, command, args) = self.asked(arguments)?;
        let identity = Identity::of(&command.path)?;
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if bound.is_some_and(|bound| bound != identity) {
            return Err(identity::changed());
        }
        let cwd = self.directory(command)?;
        let order = supervise::Order {
            identity,
            cpu_s: command.timeout.as_secs() + 1,
            memory: command.max_memory,
            processes: command.max_processes,
            path: command.path.clone(),
            args: args.into_iter().map(OsString::from).collect(),
        };
        run::run(&self.runner, &order, &cwd, command.timeout, context)
    }
}

#[cfg(test)]
mod tests;
