//! The gateway's side of a program that runs: starts its supervisor, reads what the program writes, and sees that it ends.
//!
//! Invariant: the wait ends at the deadline, at a cancellation or at the bound of output, and [`KILL_WAIT`] later at the latest. The
//! supervisor lives as long as we hold the other end of its standard input, and its program with it. Fails where nothing could be
//! run, and with `Stopped` where it was cancelled.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::supervise::{self, Order};
use super::{KILL_WAIT, Runner, WRITTEN_BYTES_MAX, identity};
use crate::agent::tools::{Context, OUTPUT_BYTES_MAX};
use crate::base::error::{Error, ErrorKind, Result, shorten};

/// The beginning and the end of an output that are given back where all of it is too long.
const HEAD_BYTES_MAX: usize = 10 * 1024;
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// The longest status line that is read.
const STATUS_BYTES_MAX: usize = 1024;

/// The supervisor's standard input: taken and dropped, it has the program killed.
type Leash = Arc<Mutex<Option<ChildStdin>>>;

fn cut(leash: &Leash) {
    drop(leash.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Why a program was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killed {
    Late,
    TooLong,
}

/// Runs an order in `cwd`, at most for `timeout`; what it came to, and what it wrote.
///
/// # Errors
/// See the file's head.
pub fn run(runner: &Runner, order: &Order, cwd: &Path, timeout: Duration, context: &Context<'_>) -> Result<String> {
    let begun = context.clock.mono();
    let until = context.deadline.min(begun + timeout);
    if context.cancel.is_set() {
        return Err(cancelled());
    }
    if until <= begun {
        return Err(Error::new(ErrorKind::Timeout, "no time was left to run the program"));
    }
    let (mut supervisor, output) = start(runner, order, cwd)?;
    let leash: Leash = Arc::new(Mutex::new(supervisor.stdin.take()));
    let (hung_up, alive) = std::io::pipe().map_err(failed)?;
    let hold = leash.clone();
    let _guard = context.cancel.on_set(move || {
        cut(&hold);
        drop(alive); // wakes the wait
    });
    let mut seen = Seen { output, cancelled: hung_up, written: Vec::new(), status: Vec::new(), killed: None };
    let ended = seen.watch(&mut supervisor, &leash, until, context);
    if !ended {
        let _ = supervisor.kill(); // it hangs itself
    }
    cut(&leash);
    if seen.status.is_empty() {
        kill_session(supervisor.id()); // before the wait: until then its number is nobody else's
    }
    let _ = supervisor.wait();
    if context.cancel.is_set() {
        return Err(cancelled());
    }
    seen.told(until.saturating_sub(begun))
}

fn failed(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Transient, format!("the program could not be started: {e}"))
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Stopped, "the program was cancelled and killed")
}

/// Kills what is left in the session of a supervisor that ended without a word (its own program may have killed it).
fn kill_session(leader: u32) {
    for pid in supervise::processes() {
        if supervise::stat(pid, supervise::SESSION) == i32::try_from(leader).ok()
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL); // it may have ended meanwhile
        }
    }
}

fn start(runner: &Runner, order: &Order, cwd: &Path) -> Result<(Child, PipeReader)> {
    let (output, writer) = std::io::pipe().map_err(failed)?;
    // The command holds the pipe's other end: it is dropped here, so that the pipe ends with the program.
    let mut command = Command::new(&runner.program);
    command.args(&runner.words).args(order.words());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("HOME", cwd).current_dir(cwd);
    command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
    let supervisor = command.spawn().map_err(failed)?;
    Ok((supervisor, output))
}

/// What can be read.
struct Ready {
    status: bool,
    output: bool,
}

/// What came of a program so far.
struct Seen {
    output: PipeReader,
    /// Ends when the call is cancelled.
    cancelled: PipeReader,
    written: Vec<u8>,
    status: Vec<u8>,
    killed: Option<Killed>,
}

impl Seen {
    /// Reads until the supervisor is gone; false where it doesn't go.
    fn watch(&mut self, supervisor: &mut Child, leash: &Leash, mut until: Duration, context: &Context<'_>) -> bool {
        let Some(mut status) = supervisor.stderr.take() else { return false };
        let (mut output_open, mut dying) = (true, false);
        loop {
            let left = until.saturating_sub(context.clock.mono());
            let too_long = self.written.len() > WRITTEN_BYTES_MAX;
            if left.is_zero() && dying {
                return false;
            }
            if !dying && (left.is_zero() || too_long || context.cancel.is_set()) {
                dying = true;
                self.killed = Some(if too_long { Killed::TooLong } else { Killed::Late });
                cut(leash);
                until = context.clock.mono() + KILL_WAIT;
                continue;
            }
            let Some(ready) = self.wait(&status, output_open, dying, left) else { return false };
            if ready.output {
                output_open = self.read_output();
            }
            if ready.status && !self.read_status(&mut status) {
                self.drain();
                return true;
            }
        }
    }

    /// Waits for whatever comes next; `None` where that is impossible.
    fn wait(&self, status: &ChildStderr, output_open: bool, dying: bool, limit: Duration) -> Option<Ready> {
        let mut fds = vec![PollFd::new(status, PollFlags::IN)];
        if output_open {
            fds.push(PollFd::new(&self.output, PollFlags::IN));
        }
        if !dying {
            fds.push(PollFd::new(&self.cancelled, PollFlags::IN));
        }
        let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        Some(Ready { status: is_ready(fds.first()), output: output_open && is_ready(fds.get(1)) })
    }

    /// One read; false at the end.
    fn read_status(&mut self, status: &mut ChildStderr) -> bool {
        let mut buffer = [0; STATUS_BYTES_MAX];
        match status.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                let room = STATUS_BYTES_MAX - self.status.len();
                self.status.extend_from_slice(&buffer[..n.min(room)]);
                true
            }
        }
    }

    /// One read; false at the end. Beyond the bound it is read and forgotten.
    fn read_output(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.output.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                let room = (WRITTEN_BYTES_MAX + 1).saturating_sub(self.written.len());
                self.written.extend_from_slice(&buffer[..n.min(room)]);
                true
            }
        }
    }

    /// Reads what is left in the pipe, whoever still holds its other end.
    fn drain(&mut self) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A pipe holds 64 KiB: more than the bound is never left.
        for _ in 0..64 {
            let mut fds = [PollFd::new(&self.output, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().is_empty();
            if !ready || !self.read_output() {
                return;
            }
        }
    }

    fn told(&self, timeout: Duration) -> Result<String> {
        let status = String::from_utf8_lossy(&self.status);
        let status = status.lines().next().unwrap_or_default();
        let outcome = match (self.killed, status.split_once(' ')) {
            (_, None) if status == "changed" => return Err(identity::changed()),
            (_, Some(("error", why))) => {
                return Err(Error::new(ErrorKind::Permanent, format!("the program could not be run: {}", shorten(why, 200))));
            }
            (Some(Killed::Late), _) => format!("killed: it ran longer than {} ms", timeout.as_millis()),
            (Some(Killed::TooLong), _) => format!("killed: it wrote more than {WRITTEN_BYTES_MAX} bytes"),
            (None, Some(("exit", code))) => format!("exit {code}"),
            (None, Some(("signal", signal))) => format!("killed by signal {signal}"),
            (None, _) => return Err(Error::new(ErrorKind::Transient, "the program's supervisor ended without a word")),
        };
        Ok(format!("{outcome}\n\n{}", shown(&self.written)))
    }
}

/// Output as text, without control characters but line ends and tabs; of a long one the beginning and the end.
fn shown(written: &[u8]) -> String {
    let clean = |bytes: &[u8]| -> String {
        String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
    };
    if written.len() <= HEAD_BYTES_MAX + TAIL_BYTES_MAX {
        return bounded(clean(written), OUTPUT_BYTES_MAX - 512);
    }
    let (head, rest) = written.split_at(HEAD_BYTES_MAX);
    let (middle, tail) = rest.split_at(rest.len() - TAIL_BYTES_MAX);
    let (head, tail) = (bounded(clean(head), HEAD_BYTES_MAX), bounded(clean(tail), TAIL_BYTES_MAX));
    format!("{head}\n[cut: {} bytes]\n{tail}", middle.len())
}

/// Bytes that are no UTF-8 become three each.
fn bounded(text: String, max: usize) -> String {
    if text.len() > max { shorten(&text, max) } else { text }
}
