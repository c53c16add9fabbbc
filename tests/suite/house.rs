//! The house rules that neither the compiler nor clippy holds, read from the sources themselves.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 450;
const MAIN_LINES_MAX: usize = 30;

struct Source {
    /// Relative to `src/`.
    path: String,
    text: String,
}

impl Source {
    /// The part before the file's test module.
    fn without_tests(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    /// The top-level module that it belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// Whether it is compiled for tests alone: a file of tests, or one whose `mod` line stands under `#[cfg(test)]`.
    fn is_test(&self, all: &[Source]) -> bool {
        let name = self.path.trim_end_matches(".rs").trim_end_matches("/mod").rsplit('/').next().unwrap_or_default();
        let declared = |s: &Source| {
            let mut lines = s.text.lines().map(str::trim).peekable();
            let is_it = |l: &str| l.trim_start_matches("pub ").trim_start_matches("pub(crate) ") == format!("mod {name};");
            while let Some(line) = lines.next() {
                if line == "#[cfg(test)]" && lines.peek().is_some_and(|l| is_it(l)) {
                    return true;
                }
            }
            false
        };
        self.path.ends_with("tests.rs") || self.path.contains("/tests/") || all.iter().any(declared)
    }
}

/// The sources that are not compiled for tests alone.
fn product(all: &[Source]) -> Vec<&Source> {
    all.iter().filter(|s| !s.is_test(all)).collect()
}

fn sources() -> Vec<Source> {
    sources_in("src")
}

fn sources_in(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, into: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                into.push(Source { path: name, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut all = Vec::new();
    walk(&root, &root, &mut all);
    assert!(all.len() > 10, "the sources are where they are looked for");
    all
}

/// Fails with all findings at once: one line a finding.
fn check(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The names that follow `crate::` in a text, those of a braced list included.
fn crate_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + found.len()..];
        let name_of = |s: &'_ str| s.len() - s.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut begins) = (0, true);
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    c if depth == 0 && begins && !c.is_whitespace() => {
                        names.push(&list[i..i + name_of(&list[i..])]);
                        begins = false;
                    }
                    _ => {}
                }
            }
        } else {
            names.push(&rest[..name_of(rest)]);
        }
    }
    names
}

/// The code alone: lines without what follows `//`.
fn code_of(text: &str) -> String {
    text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn names_after_crate_are_found() {
    let found = crate_names("use crate::base::clock; use crate::{\n  domain::{A, B}, store::S,\n}; mycrate::no; crate::net::x()");
    assert_eq!(found, ["base", "domain", "store", "net"]);
}

#[test]
fn modules_import_only_from_above() {
    let all = sources();
    let lib = &all.iter().find(|s| s.path == "lib.rs").unwrap().text;
    let order: Vec<&str> =
        lib.lines().filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')).collect();
    assert!(order.len() > 5, "lib.rs lists the modules: {order:?}");
    let place = |name: &str| order.iter().position(|m| *m == name);
    let mut findings = Vec::new();
    for source in product(&all).into_iter().filter(|s| s.path.contains('/')) {
        let Some(own) = place(source.module()) else {
            findings.push(format!("{}: its module is not in lib.rs", source.path));
            continue;
        };
        for name in crate_names(&code_of(source.without_tests())) {
            if place(name).is_some_and(|p| p > own) {
                findings.push(format!("{} imports from {name}, which stands below it", source.path));
            }
        }
    }
    check("a module imports only from those above it in lib.rs", findings);
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path).collect();
    check("every file opens with //!", silent);
}

#[test]
fn files_are_small() {
    let findings = product(&sources())
        .into_iter()
        .map(|s| (s, s.without_tests().lines().count()))
        .filter(|(s, n)| *n > if s.path == "main.rs" { MAIN_LINES_MAX - 1 } else { FILE_LINES_MAX })
        .map(|(s, n)| format!("{}: {n} lines", s.path))
        .collect();
    check("a file has at most 450 lines before its tests, main.rs fewer than 30", findings);
}

#[test]
fn only_the_command_line_prints_and_nothing_is_left_undone() {
    let mut findings = Vec::new();
    for source in product(&sources()) {
        let code = code_of(source.without_tests());
        if !source.path.starts_with("cli/") && source.path != "main.rs" {
            for word in ["println!", "print!(", "eprintln!", "dbg!"] {
                if code.contains(word) {
                    findings.push(format!("{}: {word}", source.path));
                }
            }
        }
        for word in ["TODO", "FIXME", "XXX"] {
            if source.text.contains(word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
        for word in ["todo!", "unimplemented!"] {
            if code.contains(word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
    }
    check("no print outside cli/, nothing left undone", findings);
}

#[test]
fn effects_have_one_door() {
    let doors = [
        ("Instant::now(", "base/clock.rs"),
        ("SystemTime::now(", "base/clock.rs"),
        ("thread::spawn(", "base/threads.rs"),
        ("thread::Builder", "base/threads.rs"),
        ("thread::sleep(", ""),
        ("unsafe ", ""),
    ];
    let mut findings = Vec::new();
    for source in product(&sources()) {
        let code = code_of(source.without_tests());
        for (word, door) in doors {
            if source.path != door && code.contains(word) {
                findings.push(format!("{}: {word} belongs to {}", source.path, if door.is_empty() { "nowhere" } else { door }));
            }
        }
    }
    check("time, threads and pauses have one door each", findings);
}

#[test]
fn sql_stays_in_the_store() {
    let mut findings = Vec::new();
    for source in product(&sources()).into_iter().filter(|s| !s.path.starts_with("store/")) {
        if code_of(source.without_tests()).contains("rusqlite") {
            findings.push(source.path.clone());
        }
    }
    check("SQL never leaves store/", findings);
}

/// The documents name the tests that hold what they say: a name there must be a test.
#[test]
fn the_tests_that_the_documents_name_exist() {
    let code: String = ["src", "tests"].into_iter().flat_map(sources_in).map(|s| s.text).collect();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/weaknesses.md")).unwrap();
    let rows = page.lines().filter(|l| l.starts_with("| S")).count();
    assert_eq!(rows, 35, "each of the 35 has its row");
    let read = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap();
    let (senders, webhooks) = (read("senders.md"), read("webhooks.md"));
    for (page, letter, rows) in [(&senders, 'E', 16), (&webhooks, 'F', 9)] {
        let missing: Vec<_> = (1..=rows).filter(|n| !page.contains(&format!("\n| {letter}{n} |"))).collect();
        assert!(missing.is_empty(), "each case of {letter} has its row: {missing:?}");
    }
    for (page, least) in [(page, 40), (senders, 35), (webhooks, 12)] {
        let named = page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|n| n.trim_end_matches('_').contains('_') && n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        let mut count = 0;
        for name in named {
            count += 1;
            assert!(code.contains(&format!("fn {name}()")), "a page names {name}, which is no test");
        }
        assert!(count > least, "the page names its tests: {count}");
    }
}
