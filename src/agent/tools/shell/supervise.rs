//! The other process of `shell.run`: this program again, which limits itself, starts one program, and ends with all that came of it.
//!
//! Invariant: the program runs from the very file whose identity was ordered, in a session without a terminal, with descriptors
//! 0 to 2 alone (a script's own file beside them), limits on time, memory, files and processes, and without a way to new rights.
//! When the program ends, or standard input does (the gateway closes it, or died), everything it left behind is killed: its
//! process group at once, and what had left that group (a daemon) as soon as it falls to us, who are its reaper. What holds only
//! as far as the system lets it: the number of processes is not limited for root, a limit of memory below what the supervisor needs
//! itself comes an instant after the program's start, and a program that forks away faster than it is
//! killed is given up after `SWEEP_WAIT`. It says one line on standard error: `exit N`, `signal N`, `changed`, or `error …`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getrlimit, getuid, kill_process,
    kill_process_group, pidfd_open, prlimit, set_child_subreaper, setrlimit, setsid, wait as wait_any,
};

use super::identity::Identity;
use crate::base::clock::Clock;

/// The hidden word of the command line.
pub const WORD: &str = "__exec";
/// How long what a program left behind is hunted.
const SWEEP_WAIT: Duration = Duration::from_secs(2);
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// The largest file that a program may write.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Descriptors that it may have.
const DESCRIPTORS_MAX: u64 = 64;
/// What the supervisor may still need of memory, if it lives within a program's limit.
const OWN_MEMORY_MORE: u64 = 32 * 1024 * 1024;

/// What to run, and within what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The file that it has to be.
    pub identity: Identity,
    /// Processor time of each process, in s.
    pub cpu_s: u64,
    /// Address space of each process, in bytes.
    pub memory: u64,
    /// Processes at a time.
    pub processes: u64,
    /// Its path.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl Order {
    /// The words behind [`WORD`].
    pub fn words(&self) -> Vec<OsString> {
        let numbers = [self.cpu_s, self.memory, self.processes].map(|n| OsString::from(n.to_string()));
        let mut words = vec![OsString::from(self.identity.to_string())];
        words.extend(numbers);
        words.extend(["--".into(), self.path.clone().into_os_string()]);
        words.extend(self.args.iter().cloned());
        words
    }

    /// The order in those words.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Option<Order> {
        let mut words = words.into_iter();
        let identity = Identity::parse(words.next()?.to_str()?);
        let mut number = || words.next()?.to_str()?.parse::<u64>().ok();
        let (cpu_s, memory, processes) = (number()?, number()?, number()?);
        (words.next()? == OsStr::new("--")).then_some(())?;
        Some(Order { identity, cpu_s, memory, processes, path: words.next()?.into(), args: words.collect() })
    }
}

/// Does what the words say, to the end. The exit code says whether a program was run.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let line = match Order::parse(words) {
        None => "error no order; this command is for the gateway alone".to_string(),
        Some(order) => match obey(&order) {
            Ok(Ended::Status(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
            Ok(Ended::Changed) => "changed".to_string(),
            Err(e) => format!("error {e}"),
        },
    };
    let ran = line.starts_with("exit") || line.starts_with("signal");
    let _ = writeln!(io::stderr(), "{line}"); // where nobody listens any more, nobody is told
    u8::from(!ran)
}

enum Ended {
    Status(WaitStatus),
    Changed,
}

fn obey(order: &Order) -> io::Result<Ended> {
    let _ = setsid(); // fails only where we lead a session already
    set_child_subreaper(Some(getpid()))?;
    rustix::thread::set_no_new_privs(true)?;
    let file = open(&order.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(file);
    if Identity::in_metadata(&file.metadata()?) != order.identity {
        return Ok(Ended::Changed);
    }
    if is_script(&file) {
        fcntl_setfd(&file, FdFlags::empty())?; // its interpreter opens it by this descriptor
    }
    limit(order)?;
    let memory = Rlimit { current: Some(order.memory), maximum: Some(order.memory) };
    // Inherited where we fit into it ourselves, so that not even the program's first instant is without it.
    if own_memory().is_some_and(|own| own.saturating_add(OWN_MEMORY_MORE) < order.memory) {
        let _ = setrlimit(Resource::As, memory); // a narrower one is in force already
    }
    let child = start(order, &file)?;
    // A pid of 1 or more: spawn gave it.
    let pid = Pid::from_raw(child.id() as i32).ok_or(io::ErrorKind::Other)?;
    let _ = prlimit(Some(pid), Resource::As, memory); // it may be over already
    wait(pid)?;
    Ok(Ended::Status(sweep(pid)?))
}

fn is_script(file: &File) -> bool {
    let mut begin = [0; 2];
    // An O_PATH descriptor can't be read; a file that may be run but not read is none.
    let read = File::open(own_path(file)).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"#!"
}

fn own_path(file: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

/// Limits of ours that the program inherits.
fn limit(order: &Order) -> io::Result<()> {
    let running = if getuid().is_root() { 0 } else { tasks_of_user() };
    for (resource, most) in [
        (Resource::Cpu, order.cpu_s),
        (Resource::Fsize, FILE_BYTES_MAX),
        (Resource::Core, 0),
        (Resource::Nofile, DESCRIPTORS_MAX),
        // It counts all tasks of the user, the gateway's threads too.
        (Resource::Nproc, running.saturating_add(order.processes)),
    ] {
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Processes and threads of our user.
fn tasks_of_user() -> u64 {
    let uid = getuid().as_raw();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|p| p.metadata().is_ok_and(|m| m.uid() == uid) && pid_of(&p.file_name()).is_some());
    own.map(|p| std::fs::read_dir(p.path().join("task")).map_or(1, |tasks| tasks.count() as u64)).sum()
}

fn pid_of(name: &OsStr) -> Option<i32> {
    name.to_str()?.parse().ok()
}

fn start(order: &Order, file: &File) -> io::Result<Child> {
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(own_path(file));
    command.arg0(&order.path).args(&order.args).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::from(out.try_clone()?)).stderr(Stdio::from(out));
    command.spawn()
}

/// Address space of ours, in bytes.
fn own_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmSize:")?.split_whitespace().next()?.parse::<u64>().ok())?;
    kib.checked_mul(1024)
}

/// Waits for the end of the program or of standard input.
fn wait(pid: Pid) -> io::Result<()> {
    let program: OwnedFd = pidfd_open(pid, PidfdFlags::empty())?;
    let input = io::stdin();
    loop {
        let mut fds = [PollFd::new(&program, PollFlags::IN), PollFd::new(&input, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => return Ok(()), // nobody writes to our input: whatever it shows is its end
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Kills the program and all that it left behind, and gives its status.
fn sweep(pid: Pid) -> io::Result<WaitStatus> {
    let clock = Clock::system();
    let mut status = None;
    while clock.mono() < SWEEP_WAIT {
        // Its zombie holds the number until the group is dead: nobody else's is hit.
        if status.is_none() {
            let _ = kill_process_group(pid, Signal::KILL); // an empty group is fine
        }
        loop {
            match wait_any(WaitOptions::NOHANG) {
                Ok(Some((ended, how))) => {
                    if ended == pid {
                        status = Some(how);
                    }
                }
                Ok(None) => break,
                Err(Errno::INTR) => {}
                // No children any more.
                Err(_) => return status.ok_or_else(|| io::Error::other("the program's end was missed")),
            }
        }
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: SWEEP_PAUSE.as_nanos() as _ };
        let _ = poll(&mut [], Some(&pause));
    }
    status.ok_or_else(|| io::Error::other("the program can't be killed"))
}

/// Our children, those that fell to us included.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().get();
    processes().filter(|pid| stat(*pid, PARENT) == Some(own)).filter_map(Pid::from_raw).collect()
}

/// All processes that we can see.
pub(super) fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|p| pid_of(&p.file_name()))
}

/// Fields of `/proc/*/stat` behind the name.
const PARENT: usize = 1;
/// See [`PARENT`].
pub(super) const SESSION: usize = 3;

/// A number of a process.
pub(super) fn stat(pid: i32, field: usize) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}
