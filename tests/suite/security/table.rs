//! The table of `docs/SECURITY.md`: whole, and true.

use std::path::{Path, PathBuf};

/// The classes, and how many cases each has.
const CASES: [(char, u32); 11] =
    [('A', 13), ('B', 11), ('C', 12), ('D', 17), ('E', 16), ('F', 9), ('G', 14), ('H', 17), ('I', 5), ('J', 5), ('K', 22)];

fn sources(folder: &Path, all: &mut String) {
    for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<PathBuf>>() {
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Whether there is a test of that name, and not merely a function.
fn is_test(code: &str, name: &str) -> bool {
    code.match_indices(&format!("fn {name}()")).any(|(at, _)| {
        let attributes =
            code[..at].lines().rev().skip_while(|line| line.trim().is_empty()).take_while(|l| l.trim().starts_with("#["));
        attributes.into_iter().any(|line| line.trim() == "#[test]")
    })
}

#[test]
fn every_case_has_its_row_and_every_name_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/SECURITY.md")).unwrap();
    let mut code = String::new();
    ["src", "tests/suite"].iter().for_each(|folder| sources(&root.join(folder), &mut code));
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect()))
        .filter(|row: &Vec<&str>| row[0].len() <= 3 && row[0].ends_with(|c: char| c.is_ascii_digit()))
        .collect();
    let found: Vec<String> = rows.iter().map(|row| row[0].to_string()).collect();
    let wanted: Vec<String> = CASES.iter().flat_map(|(class, n)| (1..=*n).map(move |n| format!("{class}{n}"))).collect();
    assert_eq!(found, wanted, "each case once, in order");
    let mut named = 0;
    for row in &rows {
        let [case, elsewhere, here] = row[..] else { panic!("three columns: {row:?}") };
        assert!(!elsewhere.is_empty() && here.contains('`'), "{case} says what holds it");
        let names = here.split('`').skip(1).step_by(2).filter(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        let missing: Vec<&str> = names.inspect(|_| named += 1).filter(|n| *n != "trace" && !is_test(&code, n)).collect();
        assert!(missing.is_empty(), "{case} names what is no test: {missing:?}");
    }
    crate::support::figure(&format!("the table of security: {} cases, {named} names of tests", rows.len()));
}
