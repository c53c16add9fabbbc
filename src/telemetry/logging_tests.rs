//! Tests of the log: what reaches the sink, what is lost and told, who is never held up.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A sink in memory that can be told to fail or to hang.
#[derive(Clone, Default)]
struct Sink {
    written: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    /// While held elsewhere, writes wait.
    gate: Arc<Mutex<()>>,
    /// Writes take at most so many bytes, 0 for all; then they fail once.
    part: Arc<AtomicUsize>,
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
    }

    fn messages(&self) -> Vec<String> {
        self.lines().iter().map(|l| l["message"].as_str().unwrap().to_string()).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.gate.lock());
        assert!(!self.panics.load(Ordering::SeqCst), "a sink that panics");
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let part = self.part.swap(0, Ordering::SeqCst);
        if part > 0 {
            self.fails.store(true, Ordering::SeqCst);
        }
        let taken = if part == 0 { bytes.len() } else { part.min(bytes.len()) };
        self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(level: LevelFilter) -> (Logger, Sink, Clock) {
    let (sink, clock) = (Sink::default(), Clock::manual(1_795_334_400_123));
    (Logger::to(Box::new(sink.clone()), level, clock.clone()).unwrap(), sink, clock)
}

/// Logs as the macros do, from a place of its own for each `line`.
fn log_at(logger: &Logger, line: u32, level: Level, message: &str) {
    logger.log(
        &Record::builder()
            .level(level)
            .target("gatelet::test")
            .module_path(Some("gatelet::test"))
            .file(Some("test.rs"))
            .line(Some(line))
            .args(format_args!("{message}"))
            .build(),
    );
}

#[test]
fn the_macros_fields_reach_the_line() {
    log::set_max_level(LevelFilter::Trace); // the macros ask it even where they are given a logger
    let (logger, sink, _) = start(LevelFilter::Info);
    let secret = crate::base::secret::Secret::new("canary-0123456789");
    log::info!(logger: logger, userId = "ana\nroot\r\n{}", count = 3, token:? = secret, shown:% = secret; "taken\nin {secret}");
    assert!(logger.flush(DEADLINE));
    let text = sink.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("canary"), "{text}");
    let line = &sink.lines()[0];
    for (key, expected) in [
        ("time", Value::from("2026-11-22T08:00:00.123Z")),
        ("level", "info".into()),
        ("message", "taken\nin ***".into()),
        ("userId", "ana\nroot\r\n{}".into()),
        ("count", 3.into()),
        ("token", "***".into()),
        ("shown", "***".into()),
    ] {
        assert_eq!(line[key], expected, "{key}");
    }
    assert!(logger.stop(DEADLINE));
}

#[test]
fn levels_filter_and_change_live() {
    let (logger, sink, _) = start(LevelFilter::Info);
    for (level, record_level, passes) in [
        (LevelFilter::Info, Level::Info, true),
        (LevelFilter::Info, Level::Debug, false),
        (LevelFilter::Debug, Level::Debug, true),
        (LevelFilter::Debug, Level::Trace, false),
        (LevelFilter::Error, Level::Warn, false),
        (LevelFilter::Error, Level::Error, true),
        (LevelFilter::Off, Level::Error, false),
    ] {
        logger.set_level(level);
        let before = sink.text().len();
        log_at(&logger, 1, record_level, "m");
        assert!(logger.flush(DEADLINE));
        assert_eq!((sink.text().len() > before, logger.level()), (passes, level), "{record_level} at {level}");
    }
    logger.stop(DEADLINE);
}

#[test]
fn of_other_crates_only_warnings_and_errors() {
    let (logger, sink, _) = start(LevelFilter::Trace);
    for (module, level, passes) in [
        ("gatelet", Level::Trace, true),
        ("gatelet::net::door", Level::Trace, true),
        ("ureq::run", Level::Info, false),
        ("tungstenite", Level::Trace, false),
        ("gatelets", Level::Debug, false),
        ("rustls::conn", Level::Warn, true),
    ] {
        let before = sink.text().len();
        // The module decides, not the target, which is free text.
        logger.log(&Record::builder().level(level).target("gatelet").module_path(Some(module)).args(format_args!("m")).build());
        assert!(logger.flush(DEADLINE));
        assert_eq!(sink.text().len() > before, passes, "{module} at {level}");
    }
    logger.stop(DEADLINE);
}

#[test]
fn a_hung_sink_holds_nobody_and_losses_are_told() {
    let (logger, sink, _) = start(LevelFilter::Trace);
    let held = sink.gate.lock().unwrap();
    for i in 0..QUEUE_MAX * 2 {
        log_at(&logger, 1, Level::Debug, &i.to_string());
    }
    assert!(logger.dropped() >= QUEUE_MAX as u64 - 1, "{}", logger.dropped());
    assert!(!logger.flush(Duration::from_millis(20)), "a deadline holds");
    assert!(!logger.stop(Duration::from_millis(20)), "this one, too");
    assert_eq!(logger.latest(1, LevelFilter::Trace)[0].message, (QUEUE_MAX * 2 - 1).to_string(), "memory has it all the same");
    drop(held);
    assert!(logger.flush(DEADLINE));
    let (dropped, messages) = (logger.dropped() as usize, sink.messages());
    let (told, written): (Vec<_>, Vec<_>) = messages.iter().partition(|m| m.contains("were lost"));
    assert_eq!(written.len() + dropped, QUEUE_MAX * 2);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with(&format!("{dropped} log records were lost")), "{}", told[0]);
    assert_eq!(logger.core.waiting_bytes.load(Ordering::SeqCst), 0);
    assert!(logger.stop(DEADLINE));
}

#[test]
fn records_that_wait_are_bounded_in_bytes() {
    let (logger, sink, _) = start(LevelFilter::Trace);
    let held = sink.gate.lock().unwrap();
    let long = "x".repeat(100_000);
    (0..QUEUE_MAX).for_each(|_| log_at(&logger, 1, Level::Debug, &long));
    assert!(logger.core.waiting_bytes.load(Ordering::SeqCst) <= QUEUE_BYTES_MAX);
    assert!(logger.dropped() as usize >= QUEUE_MAX - QUEUE_BYTES_MAX / 4096 - 1, "{}", logger.dropped());
    drop(held);
    assert!(logger.stop(DEADLINE));
}

#[test]
fn a_sink_that_fails_and_heals() {
    for (name, breaks) in [("fails", 0), ("panics", 1), ("takes a part, then fails", 2)] {
        let (logger, sink, _) = start(LevelFilter::Info);
        log_at(&logger, 1, Level::Info, "before");
        assert!(logger.flush(DEADLINE), "{name}");
        match breaks {
            0 => sink.fails.store(true, Ordering::SeqCst),
            1 => sink.panics.store(true, Ordering::SeqCst),
            _ => sink.part.store(9, Ordering::SeqCst),
        }
        for line in 2..5 {
            log_at(&logger, line, Level::Info, "lost");
        }
        assert!(logger.flush(DEADLINE), "{name}");
        assert_eq!(logger.dropped(), 3, "{name}");
        sink.fails.store(false, Ordering::SeqCst);
        sink.panics.store(false, Ordering::SeqCst);
        log_at(&logger, 9, Level::Info, "after");
        assert!(logger.stop(DEADLINE), "{name}");
        let whole: Vec<_> = sink.text().lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).collect();
        let messages: Vec<_> = whole.iter().map(|l| l["message"].as_str().unwrap()).collect();
        assert_eq!(messages[..2], ["before", "after"], "{name}");
        assert!(messages[2].starts_with("3 log records were lost") && messages.len() == 3, "{name}: {messages:?}");
        assert_eq!(sink.text().lines().count(), 3 + usize::from(breaks == 2), "{name}: the torn line stands alone");
    }
}

#[test]
fn after_the_stop_records_go_nowhere() {
    let (logger, sink, _) = start(LevelFilter::Info);
    log_at(&logger, 1, Level::Info, "last");
    assert!(logger.stop(DEADLINE));
    for line in 0..QUEUE_MAX as u32 * 2 {
        log_at(&logger, line, Level::Error, "late");
    }
    assert!(logger.flush(DEADLINE) && logger.stop(DEADLINE), "both are harmless");
    assert_eq!((sink.messages(), logger.dropped()), (vec!["last".to_string()], 0));
}

#[test]
fn a_flood_becomes_fifty_lines_and_a_summary() {
    let (logger, sink, clock) = start(LevelFilter::Trace);
    for _ in 0..10_000 {
        log_at(&logger, 1, Level::Warn, "refused");
        log_at(&logger, 2, Level::Error, "failed");
    }
    log_at(&logger, 3, Level::Info, "else");
    (0..100).for_each(|_| log_at(&logger, 4, Level::Debug, "detail"));
    assert!(logger.flush(DEADLINE));
    let count = |text: &str| sink.messages().iter().filter(|m| m.contains(text)).count();
    assert_eq!((count("refused"), count("failed"), count("else"), count("detail")), (50, 50, 1, 100));
    assert_eq!(logger.left_out(), 19_900);
    clock.advance(Duration::from_secs(10));
    log_at(&logger, 1, Level::Warn, "refused"); // opens a new window, tells of the former one
    assert!(logger.flush(DEADLINE) && logger.flush(DEADLINE));
    assert_eq!((count("9950 more like this were left out"), count("refused")), (2, 51));
    assert!(logger.stop(DEADLINE));
}

#[test]
fn the_summary_of_a_flood_needs_no_further_record() {
    let (logger, sink, clock) = start(LevelFilter::Info);
    (0..60).for_each(|_| log_at(&logger, 1, Level::Info, "again"));
    assert!(logger.flush(DEADLINE));
    clock.advance(Duration::from_secs(10));
    assert!(logger.flush(DEADLINE) && logger.flush(DEADLINE)); // the thread looks once more between the two
    assert_eq!(sink.messages().last().map(String::as_str), Some("10 more like this were left out within 10 s"));
    assert!(logger.latest(1, LevelFilter::Info)[0].message.starts_with("10 more"));
    assert!(logger.stop(DEADLINE));

    let (logger, items) = Logger::unwritten(LevelFilter::Info, clock, false);
    (0..60).for_each(|_| log_at(&logger, 1, Level::Info, "again"));
    let nudges = items.try_iter().filter(|item| matches!(item, Item::Nudge)).count();
    assert_eq!(nudges, 1, "the thread is woken once, to learn when the window ends");
}

#[test]
fn a_formatter_that_panics_or_logs_harms_nobody() {
    struct Nasty<'a>(Option<&'a Logger>);
    impl std::fmt::Display for Nasty<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self.0 {
                Some(logger) => log::info!(logger: logger, "from inside"),
                None => panic!("in a formatter"),
            }
            f.write_str("outside")
        }
    }
    log::set_max_level(LevelFilter::Trace); // the macros ask it even where they are given a logger
    let (logger, sink, _) = start(LevelFilter::Info);
    log::info!(logger: logger, "{}", Nasty(None));
    log::info!(logger: logger, key:% = Nasty(None); "with a field");
    log::info!(logger: logger, "{}", Nasty(Some(&logger)));
    assert!(logger.stop(DEADLINE));
    assert_eq!(sink.messages(), ["(could not be shown)", "with a field", "from inside", "outside"]);
}

#[test]
fn parallel_callers_lose_nothing() {
    let (logger, sink, _) = start(LevelFilter::Trace);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let logger = &logger;
            scope.spawn(move || (0..200).for_each(|i| log_at(logger, 1, Level::Debug, &format!("{thread} {i}"))));
        }
    });
    assert!(logger.stop(DEADLINE));
    let mut messages = sink.messages();
    messages.sort();
    messages.dedup();
    assert_eq!((messages.len(), logger.dropped()), (1600, 0));
}

/// What [`run_child`] starts: a process of its own, since it has one log, one panic hook and one stderr.
#[test]
fn child() {
    let Ok(format) = env::var("GATELET_TEST_LOG_FORMAT") else { return };
    let format = if format == "text" { Format::Text } else { Format::Auto };
    log::error!("before the start: goes nowhere");
    let logger = Logger::init(LevelFilter::Info, format, Clock::system()).unwrap();
    assert!(Logger::init(LevelFilter::Info, format, Clock::system()).is_err(), "a process has one log");
    install_panic_hook();
    log::info!(userId = "ana\nroot"; "hello");
    log::debug!("not asked for");
    logger.set_level(LevelFilter::Debug);
    log::debug!("asked for");
    let threads = Threads::new();
    threads.spawn_once("fragile", STACK, || panic!("{}", "boom\n".repeat(1000))).unwrap();
    assert!(threads.join(DEADLINE).is_empty());
    assert!(logger.flush(DEADLINE) && logger.stop(DEADLINE));
    log::error!("after the stop: goes nowhere");
    println!("dropped {}", logger.dropped());
}

/// Runs [`child`]; gives its stdout and, unless `closed`, its stderr, after `prepare` saw stderr's device and inode.
fn run_child(format: &str, closed: bool, journal: bool) -> (String, String) {
    let (mut reader, writer) = io::pipe().unwrap();
    let stat = rustix::fs::fstat(&reader).unwrap();
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino + u64::from(!journal));
    let mut command = std::process::Command::new(env::current_exe().unwrap());
    command.args(["--exact", "telemetry::logging::tests::child", "--nocapture", "--test-threads=1"]);
    command.env("GATELET_TEST_LOG_FORMAT", format).env("JOURNAL_STREAM", stream);
    command.stdout(std::process::Stdio::piped()).stderr(writer);
    let mut shown = String::new();
    let child = if closed {
        drop(reader);
        command.spawn().unwrap()
    } else {
        let child = command.spawn().unwrap();
        drop(command); // and with it our end to write
        io::Read::read_to_string(&mut reader, &mut shown).unwrap();
        child
    };
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?} {shown}");
    (String::from_utf8(out.stdout).unwrap(), shown)
}

#[test]
fn a_process_logs_to_stderr() {
    let (out, shown) = run_child("auto", false, false);
    let lines: Vec<Value> = shown.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
    let messages: Vec<_> = lines.iter().map(|l| l["message"].as_str().unwrap()).collect();
    assert_eq!(messages[..2], ["hello", "asked for"], "{shown}");
    assert!(messages[2].starts_with("panic: boom\nboom") && messages[2].len() < 600, "{shown}");
    assert!(lines[2]["place"].as_str().unwrap().contains("logging_tests.rs:") && lines[2]["thread"] == "fragile", "{shown}");
    assert!(messages[3].starts_with("a panic was caught") && messages.len() == 4, "{shown}");
    assert!(out.contains("dropped 0"), "{out}");
}

#[test]
fn under_journald_lines_have_priorities() {
    let (_, shown) = run_child("auto", false, true);
    let priorities: Vec<_> = shown.lines().map(|l| l.split_once('{').unwrap().0).collect();
    assert_eq!(priorities, ["<6>", "<7>", "<3>", "<3>"]);
}

#[test]
fn text_for_people_has_no_colour_on_a_pipe() {
    let (_, shown) = run_child("text", false, true);
    let first = shown.lines().next().unwrap();
    assert!(first.ends_with(r"[ INFO] gatelet::telemetry::logging::tests: hello userId=ana\nroot"), "{shown}");
    assert_eq!((shown.lines().count(), shown.contains('\x1b')), (4, false), "{shown}");
}

#[test]
fn a_closed_stderr_stops_nothing() {
    let (out, _) = run_child("auto", true, false);
    assert!(out.contains("dropped 4"), "{out}");
}
