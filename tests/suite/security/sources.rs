//! What the sources and the lock file show: doors that are the only ones, and what is not there at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The product's files with their code, tests cut off.
fn product() -> Vec<(PathBuf, String)> {
    fn gather(folder: &Path, all: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                gather(&path, all);
            } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                all.push((path, text.split("#[cfg(test)]").next().unwrap().to_string()));
            }
        }
    }
    let mut all = Vec::new();
    gather(&root().join("src"), &mut all);
    assert!(all.len() > 150, "{}", all.len());
    all
}

/// D1: a secret is compared by `Secret::matches` and `Fingerprint::matches`, which take the same time wherever the first
/// difference stands, and nowhere else: a revealed one beside `==` is a finding.
#[test]
fn secrets_are_compared_in_one_place() {
    let mut findings = Vec::new();
    for (path, text) in product() {
        for (n, line) in text.lines().enumerate() {
            let is_compared = line.contains("reveal()")
                && ["==", "!=", "starts_with(", "ends_with(", ".contains("].iter().any(|c| line.contains(c));
            if is_compared || line.contains("PartialEq") && line.contains("Secret") {
                findings.push(format!("{}:{}: {}", path.display(), n + 1, line.trim()));
            }
        }
    }
    assert_eq!(findings, Vec::<String>::new());
    let secret = std::fs::read_to_string(root().join("src/base/secret.rs")).unwrap();
    assert!(secret.contains("ct_eq") && !secret.contains("PartialEq for Secret"), "Secret has no == of its own");
}

/// H17: the variables that the program looks at; none of them lifts a rule.
#[test]
fn only_these_variables_are_read() {
    let known = [
        "GATELET_CONFIG",
        "GATELET_DATA_DIR",
        "GATELET_URL",
        "GATELET_TOKEN", // where, and who asks: the command line's
        "GATELET_INIT_API_KEY",
        "GATELET_INIT_TELEGRAM_TOKEN", // what `gatelet init` writes to files
        "GATELET_CRASH_AT",
        "GATELET_PANIC_AT", // builds for tests alone
    ];
    let mut found = BTreeSet::new();
    for (_, text) in product() {
        for part in text.split("\"GATELET_").skip(1) {
            found.insert(format!("GATELET_{}", part.split('"').next().unwrap()));
        }
    }
    let unknown: Vec<_> = found.iter().filter(|v| !known.contains(&v.as_str()) && !v.contains('{')).collect();
    assert!(unknown.is_empty(), "a variable that nobody decided on: {unknown:?}");
    assert!(found.contains("GATELET_CONFIG"), "{found:?}");
}

/// I4, K3, K7, K21, H1: what could unpack, match at leisure, or run a shell is not in the program; the WebSocket library is a mended one.
#[test]
fn what_is_not_in_the_program() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--package", "gatelet"])
        .current_dir(root())
        .output()
        .expect("cargo tree");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let packages: BTreeSet<&str> = tree.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert!(packages.contains("tungstenite") && packages.len() > 40, "{}", String::from_utf8_lossy(&output.stderr));
    for absent in [
        "regex",
        "fancy-regex",
        "flate2",
        "brotli",
        "zstd",
        "zip",
        "tar",
        "xz2",
        "image",
        "openssl",
        "native-tls",
        "tokio",
        "async-std",
    ] {
        assert!(!packages.contains(absent), "{absent} is in the program");
    }
    let version = tree.lines().find_map(|l| l.strip_prefix("tungstenite v0.")).expect("its version");
    let minor: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert!(minor > 20, "tungstenite 0.{minor}: handshakes without a bound up to 0.20.0");
    for (path, text) in product() {
        let shells = ["\"/bin/sh\"", "\"sh\"", "\"bash\"", "\"/bin/bash\""]
            .iter()
            .filter(|s| text.contains(&format!("Command::new({s}")))
            .count();
        assert_eq!(shells, 0, "{} starts a shell", path.display());
    }
}
