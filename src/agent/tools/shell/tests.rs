//! Programs that behave and programs that don't, under a real supervisor: this test binary, started again.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use super::*;
use crate::agent::tools::support_tests::Around;
use crate::base::cancel::Why;
use crate::base::threads::{STACK, Threads};

const SECOND: Duration = Duration::from_secs(1);
/// What the test harness says before the supervisor begins.
const HARNESS: &str = "\nrunning 1 test\n";

/// Not a test of its own: the supervisor, where the harness was started as one.
#[test]
fn runner() {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(at) = words.iter().position(|w| w == "--") {
        std::process::exit(supervise::main(words[at + 1..].to_vec()).into());
    }
}

fn runner_of_tests() -> Runner {
    let words = ["--exact", "agent::tools::shell::tests::runner", "--nocapture", "--test-threads=2", "--"];
    Runner { program: std::env::current_exe().unwrap(), words: words.map(OsString::from).to_vec() }
}

fn command(path: impl Into<PathBuf>, args: &[&str]) -> ShellCommand {
    ShellCommand {
        path: path.into(),
        args: args.iter().map(|a| a.to_string()).collect(),
        about: None,
        cwd: None,
        timeout: 20 * SECOND,
        max_memory: 1 << 30,
        max_processes: 16,
    }
}

/// A folder with the tool in it, for some commands.
struct Home {
    dir: tempfile::TempDir,
    around: Around,
    shell: Shell,
}

impl Home {
    fn of(commands: &[(&str, ShellCommand)]) -> Home {
        Home::in_folder(tempfile::tempdir().unwrap(), commands)
    }

    fn in_folder(dir: tempfile::TempDir, commands: &[(&str, ShellCommand)]) -> Home {
        let tools = Tools {
            default: crate::config::Action::Ask,
            rules: vec![],
            mcp: BTreeMap::new(),
            shell: commands.iter().map(|(name, c)| (name.to_string(), c.clone())).collect(),
            shell_dir: dir.path().join("shell"),
        };
        Home { shell: Shell::by(&tools, runner_of_tests()).unwrap(), around: Around::new(), dir }
    }

    fn call(&self, command: &str, args: &[&str]) -> Result<String> {
        let told = self.around.call(&self.shell, json!({"command": command, "args": args}))?;
        Ok(told.replacen(HARNESS, "", 1))
    }

    fn bind(&self, command: &str) -> Result<String> {
        self.shell.binding(json!({"command": command}).as_object().unwrap())
    }
}

/// A shell's script as a command: the configuration refuses it, here it is the worst program that there can be.
fn script(text: &str) -> ShellCommand {
    command("/bin/sh", &["-c", text])
}

fn run_script(text: &str, change: impl FnOnce(&mut ShellCommand)) -> (Result<String>, Duration) {
    let mut command = script(text);
    change(&mut command);
    let begun = Instant::now();
    (Home::of(&[("it", command)]).call("it", &["-c", text]), begun.elapsed())
}

/// Whether a process runs whose command line holds this.
fn runs(marker: &str) -> bool {
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|p| fs::read(p.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).replace('\0', " ").starts_with(marker))
}

#[test]
fn without_commands_there_is_no_tool() {
    let tools = crate::config::Tools {
        default: crate::config::Action::Ask,
        rules: vec![],
        mcp: BTreeMap::new(),
        shell: BTreeMap::new(),
        shell_dir: "/nowhere".into(),
    };
    assert!(Shell::new(&tools).is_none());
}

#[test]
fn what_the_model_is_told() {
    let described = ShellCommand { about: Some("counts lines".into()), ..command("/usr/bin/wc", &["-l", "*", "..."]) };
    let home = Home::of(&[("wc", described), ("uptime", command("/usr/bin/uptime", &[]))]);
    let about = home.shell.about();
    assert_eq!(about.spec.description, "Run a program (* is any text): uptime; wc -l * ... (counts lines)");
    assert_eq!(about.spec.schema["properties"]["command"], json!({"enum": ["uptime", "wc"]}));
    assert!(about.dangerous && !about.idempotent && !about.safe);
    assert_eq!(home.shell.wait(), 20 * SECOND + KILL_WAIT);
}

#[test]
fn a_program_that_behaves() {
    let home = Home::of(&[
        ("echo", command("/bin/echo", &["*", "..."])),
        ("false", command("/bin/false", &[])),
        ("pwd", command("/bin/pwd", &[])),
    ]);
    assert_eq!(home.call("echo", &["a", "你 好"]).unwrap(), "exit 0\n\na 你 好\n");
    assert_eq!(home.call("false", &[]).unwrap(), "exit 1\n\n");
    let folder = home.dir.path().join("shell").canonicalize().unwrap();
    assert_eq!(home.call("pwd", &[]).unwrap(), format!("exit 0\n\n{}\n", folder.display()));
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    let elsewhere = Home::of(&[("pwd", ShellCommand { cwd: Some("/usr".into()), ..command("/bin/pwd", &[]) })]);
    assert_eq!(elsewhere.call("pwd", &[]).unwrap(), "exit 0\n\n/usr\n");
    assert_eq!(run_script("kill -SEGV $$", |_| ()).0.unwrap(), "killed by signal 11\n\n");
    assert_eq!(run_script("echo a; echo b >&2; exit 7", |_| ()).0.unwrap(), "exit 7\n\na\nb\n");
    assert_eq!(run_script("printf 'a\\033[31m\\000\\377\\tb'", |_| ()).0.unwrap(), "exit 0\n\na[31m\u{fffd}\tb");
}

/// H1, H10: no text of an argument does anything.
#[test]
fn arguments_are_only_arguments() {
    let home = Home::of(&[("echo", command("/bin/echo", &["*", "..."])), ("fixed", command("/bin/echo", &["fixed"]))]);
    let canary = home.dir.path().join("canary");
    let touch = format!("touch {}", canary.display());
    for arg in [
        format!("; {touch}"),
        format!("&& {touch}"),
        format!("|| {touch}"),
        format!("| {touch}"),
        format!("& {touch} &"),
        format!("`{touch}`"),
        format!("$({touch})"),
        format!("<({touch})"),
        format!("> {}", canary.display()),
        format!("'; {touch} #"),
        format!("\"; {touch} #"),
        format!("${{IFS}}{touch}"),
        "$HOME".into(),
        "~".into(),
        "*".into(),
        "{a,b}".into(),
        "a\\b".into(),
        "%s".into(),
    ] {
        assert_eq!(home.call("echo", &["x", &arg]).unwrap(), format!("exit 0\n\nx {arg}\n"));
        assert_eq!(home.call("fixed", &[&arg]).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(home.call(&format!("echo{arg}"), &[]).unwrap_err().kind, ErrorKind::Invalid);
    }
    for arg in ["-oProxyCommand=x", "--help", "-", "a\nb", "a\rb", "a\0b", "\u{1b}[2J", "../x", "/a/../b"] {
        assert_eq!(home.call("echo", &[arg]).unwrap_err().kind, ErrorKind::Invalid, "{arg:?}");
    }
    for arguments in [
        json!({}),
        json!({"command": "/bin/echo"}),
        json!({"command": 1}),
        json!({"command": "echo", "args": "x"}),
        json!({"command": "echo", "args": [1]}),
    ] {
        assert_eq!(home.around.call(&home.shell, arguments.clone()).unwrap_err().kind, ErrorKind::Invalid, "{arguments}");
    }
    assert!(!canary.exists());
    assert!(!home.dir.path().join("shell").read_dir().unwrap().any(|_| true), "nothing was written");
}

/// H5, H12: what a program finds around it.
#[test]
fn surroundings() {
    let home = Home::of(&[("env", command("/usr/bin/env", &[])), ("ls", command("/bin/ls", &["/proc/self/fd"]))]);
    let folder = home.dir.path().join("shell");
    let told = home.call("env", &[]).unwrap();
    let mut names: Vec<_> = told.lines().skip(2).collect();
    names.sort();
    assert_eq!(names, [format!("HOME={}", folder.display()), "LANG=C.UTF-8".into(), "PATH=/usr/bin:/bin".into()]);
    // What this process was given by the one that started it is not ours to close: a program run by hand has it, too.
    let by_hand = std::process::Command::new("/bin/ls").arg("/proc/self/fd").output().unwrap();
    let told = home.call("ls", &["/proc/self/fd"]).unwrap();
    assert_eq!(told.lines().skip(2).collect::<Vec<_>>(), String::from_utf8(by_hand.stdout).unwrap().lines().collect::<Vec<_>>());
    let told = run_script("cat; readlink /proc/self/fd/0; cat /proc/self/status /proc/self/limits; cat /proc/$$/stat", |c| {
        c.max_memory = 4_000_000_000
    })
    .0
    .unwrap();
    let line = |begin: &str| {
        let line = told.lines().find(|l| l.starts_with(begin)).unwrap_or_default();
        line.split_whitespace().skip(begin.split(' ').count()).take(2).collect::<Vec<_>>().join(" ")
    };
    assert!(told.contains("\n/dev/null\n"), "{told}");
    assert_eq!(line("NoNewPrivs:"), "1");
    // Where the tests themselves were given less than that, no more can be set.
    use rustix::process::{Resource, getrlimit};
    for (begin, resource, wanted) in [
        ("Max cpu time", Resource::Cpu, 21),
        ("Max file size", Resource::Fsize, 16 << 20),
        ("Max core file size", Resource::Core, 0),
        ("Max open files", Resource::Nofile, 64),
        ("Max address space", Resource::As, 4_000_000_000),
    ] {
        let expected = getrlimit(resource).maximum.map_or(wanted, |given| given.min(wanted));
        assert_eq!(line(begin), format!("{expected} {expected}"), "{begin}");
    }
    if rustix::process::getuid().is_root() {
        let expected = getrlimit(Resource::Nproc).maximum.map_or(16, |given| given.min(16));
        assert_eq!(line("Max processes"), format!("{expected} {expected}"));
    }
    // pid (comm) state ppid pgrp session tty: its own group, a session that is not ours, no terminal. Our own is read from the
    // same kind of line: a session that was begun outside of a process namespace is 0 in it, which the call's type can't be.
    let fields = |line: &str| line.rsplit_once(") ").unwrap().1.split(' ').map(str::to_string).collect::<Vec<_>>();
    let (stat, own) = (fields(told.lines().last().unwrap()), fields(&fs::read_to_string("/proc/self/stat").unwrap()));
    let pid = told.lines().last().unwrap().split(' ').next().unwrap();
    assert!(stat[2] == pid && stat[3] != own[3] && stat[4] == "0", "{stat:?}");
}

#[test]
fn limits_hold() {
    let dd = Home::of(&[
        (
            "memory",
            ShellCommand { max_memory: 2 << 30, ..command("/bin/dd", &["if=/dev/zero", "of=/dev/null", "bs=3G", "count=1"]) },
        ),
        ("disk", command("/bin/dd", &["if=/dev/zero", "of=big", "bs=1M", "count=20"])),
    ]);
    let told = dd.call("memory", &["if=/dev/zero", "of=/dev/null", "bs=3G", "count=1"]).unwrap();
    assert!(told.starts_with("exit 1") && told.contains("memory"), "{told}");
    let told = dd.call("disk", &["if=/dev/zero", "of=big", "bs=1M", "count=20"]).unwrap();
    assert!(told.starts_with("killed by signal 25") || told.contains("File too large"), "{told}");
    assert_eq!(fs::metadata(dd.dir.path().join("shell/big")).unwrap().len(), 16 << 20);
    let (told, took) = run_script("while :; do :; done", |c| c.timeout = SECOND);
    assert!(told.unwrap().starts_with("killed: it ran longer than 1000 ms"));
    assert!(took < 4 * SECOND, "{took:?}");
}

/// R37: what ignores signals, has children, leaves its group, or its session.
#[test]
fn nothing_outlives_its_time() {
    for (text, timeout, expected) in [
        ("trap '' TERM INT HUP; echo on; sleep 7101.5; sleep 7101.5", SECOND, "killed: it ran longer than 1000 ms\n\non\n"),
        ("sleep 7102.5 & sleep 7102.5 & wait", SECOND / 2, "killed: it ran longer than 500 ms\n\n"),
        (
            "setsid sleep 7103.5 & (setsid sh -c 'setsid sleep 7103.5 & sleep 7103.5' &) ; sleep 7103.5",
            SECOND,
            "killed: it ran longer than 1000 ms\n\n",
        ),
        (
            "i=0; while [ $i -lt 60 ]; do setsid sleep 7104.5 & i=$((i+1)); done; wait",
            SECOND,
            "killed: it ran longer than 1000 ms\n\n",
        ),
        // A daemon is left behind: the call ends with the program, and the daemon with the call.
        ("(setsid sleep 7105.5 >/dev/null 2>&1 &); echo done; sleep 0.3", 20 * SECOND, "exit 0\n\ndone\n"),
        ("setsid sleep 7106.5 & echo done; sleep 0.3", 20 * SECOND, "exit 0\n\ndone\n"),
    ] {
        let (told, took) = run_script(text, |c| c.timeout = timeout);
        assert_eq!(told.unwrap(), expected, "{text}");
        assert!(took < timeout.min(SECOND) + 3 * SECOND, "{text}: {took:?}");
    }
    for marker in 7101..=7106 {
        assert!(!runs(&format!("sleep {marker}.5")), "{marker}");
    }
}

/// A program that kills its supervisor gains nothing by it.
#[test]
fn a_supervisor_that_is_killed() {
    let (told, took) = run_script("kill -9 $PPID; sleep 7109.5 & sleep 7109.5", |_| ());
    let error = told.unwrap_err();
    assert!(error.text.contains("without a word") && took < 4 * SECOND, "{error} {took:?}");
    let over = Instant::now();
    while runs("sleep 7109.5") {
        assert!(over.elapsed() < 2 * SECOND);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn output_is_bounded() {
    let (told, took) = run_script("yes 0123456789abcde", |_| ());
    let told = told.unwrap();
    assert!(told.starts_with("killed: it wrote more than 1048576 bytes\n\n0123456789abcde\n"), "{}", &told[..80]);
    assert!(told.len() < crate::agent::tools::OUTPUT_BYTES_MAX && took < 15 * SECOND, "{} {took:?}", told.len());
    let told = run_script("echo begin; yes | head -c 100000; echo end", |_| ()).0.unwrap();
    assert!(told.starts_with("exit 0\n\nbegin\n") && told.ends_with("y\nend\n") && told.contains("\n[cut: "), "{told}");
    assert!(told.len() < crate::agent::tools::OUTPUT_BYTES_MAX, "{}", told.len());
    let told = run_script("head -c 14000 /dev/zero | tr '\\000' '\\377'", |_| ()).0.unwrap();
    assert!(told.len() < crate::agent::tools::OUTPUT_BYTES_MAX, "bytes that are no text: {}", told.len());
}

#[test]
fn a_cancelled_call_ends_at_once() {
    let home = Home::of(&[("it", script("echo on; sleep 7107.5"))]);
    let (cancel, threads) = (home.around.cancel.clone(), Threads::new());
    let later = move || {
        std::thread::sleep(Duration::from_millis(500));
        cancel.set(Why::Asked);
    };
    threads.spawn_once("cancel", STACK, later).unwrap();
    let begun = Instant::now();
    let error = home.call("it", &["-c", "echo on; sleep 7107.5"]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stopped);
    assert!(begun.elapsed() < 3 * SECOND && !runs("sleep 7107.5"), "{:?}", begun.elapsed());
    // And one that was cancelled before it began.
    assert_eq!(home.call("it", &["-c", "echo on; sleep 7107.5"]).unwrap_err().kind, ErrorKind::Stopped);
    assert!(!runs("sleep 7107.5"));
}

/// The turn's own deadline comes first.
#[test]
fn the_turn_ends_it() {
    let mut home = Home::of(&[("it", script("sleep 7108.5"))]);
    home.around.turn = SECOND / 2;
    let told = home.call("it", &["-c", "sleep 7108.5"]).unwrap();
    let ms: u64 = told.strip_prefix("killed: it ran longer than ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((200..=500).contains(&ms), "{told}");
    assert!(!runs("sleep 7108.5"));
}

/// H4, H6: another file behind the same path, in every way that it can come there.
#[test]
fn a_program_that_changed_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let (one, link) = (dir.path().join("one"), dir.path().join("link"));
    fs::copy("/bin/echo", &one).unwrap();
    symlink(&one, &link).unwrap();
    let home = Home::in_folder(dir, &[("one", command(&one, &[])), ("link", command(&link, &[]))]);
    let canary = "#!/bin/sh\necho canary\n";
    let changes: [(&str, &dyn Fn()); 5] = [
        ("renamed over", &|| {
            fs::write(one.with_extension("new"), canary).unwrap();
            fs::set_permissions(one.with_extension("new"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(one.with_extension("new"), &one).unwrap();
        }),
        ("written in place", &|| fs::write(&one, canary.replace("canary", "CANARY")).unwrap()),
        ("written, its old time put back", &|| {
            let before = fs::metadata(&one).unwrap().modified().unwrap();
            fs::write(&one, canary).unwrap();
            fs::File::options().write(true).open(&one).unwrap().set_modified(before).unwrap();
        }),
        ("other rights", &|| fs::set_permissions(&one, fs::Permissions::from_mode(0o4755)).unwrap()),
        ("the link turned", &|| {
            fs::remove_file(&link).unwrap();
            symlink("/bin/true", &link).unwrap();
        }),
    ];
    for (what, change) in changes {
        let name = if what == "the link turned" { "link" } else { "one" };
        let before = home.bind(name).unwrap();
        std::thread::sleep(Duration::from_millis(20)); // file times are as coarse as the kernel's tick
        change();
        let error = home.call(name, &[]).unwrap_err();
        assert!(error.kind == ErrorKind::Denied && error.text.contains("changed"), "{what}: {error}");
        assert_ne!(home.bind(name).unwrap(), before, "{what}: an approval of before is none any more");
        assert!(home.call(name, &[]).unwrap().starts_with("exit 0"), "{what}: bound anew, it runs");
    }
    // The supervisor looks again, at the very file that it runs.
    let order = supervise::Order {
        identity: Identity::of(Path::new("/bin/true")).unwrap(),
        cpu_s: 1,
        memory: 1 << 30,
        processes: 1,
        path: one,
        args: vec![],
    };
    let runner = runner_of_tests();
    let done = std::process::Command::new(runner.program)
        .args(runner.words)
        .args(order.words())
        .stdin(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(1), "changed\n"));
    assert_eq!(String::from_utf8_lossy(&done.stdout), HARNESS);
}

#[test]
fn what_can_not_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let (plain, junk, lost) =
        (file("plain", "x", 0o644), file("junk", "\x7fELFjunk", 0o755), file("lost", "#!/nowhere/x\n", 0o755));
    let good = file("good", "#!/bin/sh\necho \"$1\" from a script\n", 0o755);
    let gone = ShellCommand { cwd: Some(dir.path().join("absent")), ..command("/bin/true", &[]) };
    let commands = [
        ("absent", command(dir.path().join("absent"), &[])),
        ("folder", command(dir.path(), &[])),
        ("plain", command(plain, &[])),
        ("junk", command(junk, &[])),
        ("lost", command(lost, &[])),
        ("gone", gone),
        ("good", command(good, &["*"])),
    ];
    let home = Home::of(&commands);
    for name in ["absent", "folder", "plain"] {
        assert_eq!(home.bind(name).unwrap_err().kind, ErrorKind::Permanent, "{name}");
        assert_eq!(home.call(name, &[]).unwrap_err().kind, ErrorKind::Permanent, "{name}");
    }
    for name in ["junk", "lost"] {
        assert!(home.call(name, &[]).unwrap_err().text.contains("could not be run"), "{name}");
    }
    assert!(home.call("gone", &[]).unwrap_err().text.contains("could not be started"));
    assert_eq!(home.call("good", &["words"]).unwrap(), "exit 0\n\nwords from a script\n");
}

#[test]
fn orders_there_and_back() {
    let order = supervise::Order {
        identity: Identity::of(Path::new("/bin/true")).unwrap(),
        cpu_s: 1,
        memory: 2,
        processes: 3,
        path: "/a b".into(),
        args: ["--", "-x", "", "ü"].map(OsString::from).to_vec(),
    };
    assert_eq!(supervise::Order::parse(order.words()), Some(order.clone()));
    for cut in 0..6 {
        assert_eq!(supervise::Order::parse(order.words().into_iter().take(cut)), None);
    }
}
