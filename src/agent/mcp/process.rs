//! Servers that are programs: started, spoken to over their standard streams, and ended.
//!
//! Invariant: a program gets the environment that is configured and nothing else, a process group of its own, and no terminal; it is
//! started by its path, never by a shell. It is ended within a bounded time, together with what is left of its group: its input is
//! closed, which well-behaved servers end by, then it is asked to (SIGTERM), then it has to (SIGKILL). Nothing outlives an orderly
//! end but what left its group by itself. After a kill -9 of the gateway the closed input is all that ends it, beside the service
//! manager, which ends whatever is in the gateway's cgroup.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::{Map, Value, json};

use crate::agent::mcp::link::{Ask, Failure, Link, Opener, Signals};
use crate::agent::mcp::pipes::{Ends, Pipes};
use crate::agent::mcp::text::Stderr;
use crate::agent::mcp::wire::{self, Era, Protocol};
use crate::base::clock::Clock;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::base::stop::Stop;
use crate::base::threads::Threads;

/// How long a server has after its input is closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long its end is waited for after SIGKILL: only a system call that can't be interrupted takes longer.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(10);
/// The longest that [`Link::close`] takes.
pub const CLOSE_WAIT: Duration = Duration::from_millis(5_500);

/// A program to start.
pub struct Program {
    /// The server's name.
    pub name: String,
    /// Its path.
    pub command: std::path::PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, all of it.
    pub env: Vec<(String, Secret)>,
    /// Where it runs.
    pub cwd: std::path::PathBuf,
    /// Time.
    pub clock: Clock,
    /// Where its connection's thread is registered.
    pub threads: Threads,
}

impl Opener for Program {
    fn open(&self, signals: &Arc<Signals>) -> Result<Arc<dyn Link>> {
        let mut child = self.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(ErrorKind::Bug, "a program was started without pipes"));
        };
        let stderr = child.stderr.take().map(Into::into);
        let ends = Ends { stdin: stdin.into(), stdout: stdout.into(), stderr };
        let log = Stderr::new(&self.name, self.env.iter().map(|(_, secret)| secret.clone()).collect());
        match Pipes::start(&self.name, ends, log, signals, &self.clock, &self.threads) {
            Ok(pipes) => Ok(Arc::new(Piped { pipes, child: Mutex::new(Some(child)), clock: self.clock.clone() })),
            Err(e) => {
                end(&mut child, Duration::ZERO, &self.clock);
                Err(e)
            }
        }
    }
}

impl Program {
    fn spawn(&self) -> Result<Child> {
        if !self.cwd.is_dir() {
            return Err(wrong(&self.cwd, "is no directory"));
        }
        let mut command = Command::new(&self.command);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value.reveal())));
        command.current_dir(&self.cwd).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => wrong(&self.command, "does not exist, or what it is written for doesn't"),
            std::io::ErrorKind::PermissionDenied => wrong(&self.command, "may not be run by this user"),
            _ => Error::new(ErrorKind::Transient, format!("the program could not be started: {e}")),
        })
    }
}

fn wrong(path: &Path, how: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{} {how}", path.display())).hint("see tools.mcp in the configuration")
}

/// The connection to a program, or to a test's stand-in for one.
pub struct Piped {
    /// Its streams.
    pub pipes: Arc<Pipes>,
    /// The process.
    pub child: Mutex<Option<Child>>,
    /// Time.
    pub clock: Clock,
}

impl Link for Piped {
    fn request(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        self.pipes.request(ask)
    }

    fn initialized(&self, _: Protocol, _: Duration) -> Result<(), Failure> {
        self.pipes.notify(wire::notification("notifications/initialized", &Map::new()))
    }

    fn follow(&self, protocol: Protocol, changes: bool) -> Result<()> {
        if protocol.era == Era::Modern && changes {
            let filter = Map::from_iter([("notifications".to_string(), json!({"toolsListChanged": true}))]);
            let _ = self.pipes.subscribe("subscriptions/listen", &filter); // where it is over, the supervisor sees it
        }
        Ok(())
    }

    fn lost(&self) -> Option<Error> {
        self.pipes.over()
    }

    fn close(&self) {
        self.pipes.close(Error::new(ErrorKind::Transient, "it was ended"));
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let how = end(&mut child, GRACE, &self.clock);
            log::debug!("an MCP server's process ended: {how:?}");
        }
        self.pipes.leave();
    }
}

/// Nothing is left of a connection that nobody closed: a panic came in between.
impl Drop for Piped {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, when its input was closed or before.
    Own,
    /// When it was asked to.
    Asked,
    /// When it had to.
    Killed,
    /// It has not.
    Left,
}

/// Ends a process whose input is closed, and its group.
pub fn end(child: &mut Child, grace: Duration, clock: &Clock) -> Ending {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ending::Left };
    // It is looked at without being reaped: as long as it is there, dead or alive, its id and its group's are nobody else's.
    let ended = || {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
    };
    let never = Stop::new();
    let within = |time: Duration| {
        let until = clock.mono() + time;
        while !ended() {
            if clock.mono() >= until {
                return false;
            }
            never.wait(LOOK);
        }
        true
    };
    let mut how = if within(grace) { Ending::Own } else { Ending::Asked };
    if how == Ending::Asked {
        let _ = kill_process_group(pid, Signal::TERM); // it may have gone just now
        if !within(grace) {
            how = Ending::Killed;
        }
    }
    let _ = kill_process_group(pid, Signal::KILL); // and what it left behind
    if !within(KILL_WAIT) {
        return Ending::Left;
    }
    let _ = child.try_wait(); // reaps it
    how
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, grace_ms: u64, expected: Ending) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        Stop::new().wait(Duration::from_millis(150)); // it sets its traps
        drop(child.stdin.take());
        assert_eq!(end(&mut child, Duration::from_millis(grace_ms), &Clock::system()), expected, "{script}");
        let mut left = Vec::new();
        for _ in 0..100 {
            left = alive(pid);
            if left.is_empty() {
                break;
            }
            Stop::new().wait(LOOK);
        }
        assert!(left.is_empty(), "left of the group after {script}: {left:?}");
    }

    /// The processes of a group that run. (Dead ones wait for whoever adopted them to reap them; not every container has one.)
    fn alive(group: Pid) -> Vec<String> {
        let stats = std::fs::read_dir("/proc").unwrap().filter_map(|e| std::fs::read_to_string(e.ok()?.path().join("stat")).ok());
        let runs = |stat: &String| {
            let after: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            after.first() != Some(&"Z") && after.get(2) == Some(&group.as_raw_nonzero().to_string().as_str())
        };
        stats.filter(runs).collect()
    }

    #[test]
    fn processes_end_whatever_they_do() {
        check("cat", 2000, Ending::Own);
        check("exit 3", 2000, Ending::Own);
        check("exec sleep 60", 200, Ending::Asked);
        check("trap '' TERM; while :; do sleep 1; done", 200, Ending::Killed);
        check("(trap '' TERM; sleep 60) & exec cat", 2000, Ending::Own);
    }
}
