//! The fuzz targets: one program, told by `GATELET_FUZZ` which parser to try. libFuzzer makes the inputs and keeps those that reach
//! something new; `tests/fuzz/run` builds and runs it.
//!
//! Invariant: a target does nothing but parse: no file, no socket, no thread. It fails by a panic, which libFuzzer keeps the input of.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use gatelet::agent::mcp::fuzz as mcp;
use gatelet::agent::provider::fuzz as provider;
use gatelet::channel::fuzz as channel;
use gatelet::config;
use gatelet::net::door::fuzz as door;
use gatelet::net::guard::Target;
use gatelet::net::websocket::fuzz as websocket;
use libfuzzer_sys::fuzz_target;

type Run = fn(&[u8]);

const TARGETS: &[(&str, Run)] = &[
    ("head", door::head),
    ("body", door::body),
    ("handshake", websocket::handshakes),
    ("frames", websocket::frames),
    ("configuration", configuration),
    ("webhook", channel::webhook),
    ("events", provider::events),
    ("openai", provider::openai),
    ("anthropic", provider::anthropic),
    ("mcp", mcp::messages),
    ("payloads", channel::payloads),
    ("mqtt", channel::mqtt),
    ("addresses", addresses),
];

fn target() -> Run {
    static CHOSEN: OnceLock<Run> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("GATELET_FUZZ").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("GATELET_FUZZ names no target: {name:?}")).1
    })
}

/// A configuration: parsed, resolved, shown, put back, merged, compared.
fn configuration(data: &[u8]) {
    let Ok(doc) = config::parse(data) else { return };
    let again = config::parse(config::text(&doc).as_bytes()).expect("what it writes it reads");
    // A fraction of more digits than it keeps is read as its neighbour now and then; no key of a configuration takes one.
    if !has_fraction(&doc) {
        assert_eq!(doc, again);
        assert_eq!(config::revision(&doc), config::revision(&again));
    }
    let secret = |_: &str| Some("fuzz-secret-0123456789abcdef".to_string());
    let file = |_: &Path| Ok(b"fuzz-file-secret-0123456789abcdef".to_vec());
    let env = config::Env { data_dir: Path::new("/data"), passed: None, var: &secret, read: &file };
    let shown = config::effective(&doc);
    let _ = config::restore(&shown, &doc);
    let _ = config::forbidden_over_http(&doc, &again);
    let Ok(resolved) = config::resolve(&doc, &env) else { return };
    let text = format!("{resolved:?} {}", resolved.effective());
    assert!(!text.contains("fuzz-secret-") && !text.contains("fuzz-file-secret"), "a secret is shown");
    let back = config::restore(&resolved.effective(), &doc).expect("what is shown can be put back");
    config::resolve(&back, &env).unwrap_or_else(|p| panic!("what was put back is not valid: {p:?}"));
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(items) => items.iter().any(has_fraction),
        serde_json::Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// An address that a model gives: what is taken is http or https, with a host and without a credential, and reads as itself.
fn addresses(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(target) = Target::parse(first) else { return };
    let url = target.url();
    assert!(url.starts_with("http://") || url.starts_with("https://"), "{url}");
    let authority = url.split('/').nth(2).unwrap_or_default();
    assert!(!authority.is_empty() && !authority.contains(['@', '\\', ' ']), "{url}");
    assert_eq!(Target::parse(&url).expect("reads as itself").url(), url);
    let _ = target.join(second);
}

fuzz_target!(|data: &[u8]| target()(data));
