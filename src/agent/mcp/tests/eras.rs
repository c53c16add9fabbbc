//! Which era is settled, whatever a server answers.

use std::sync::Mutex;

use serde_json::json;

use super::fake::fake;
use super::*;
use crate::agent::mcp::catalog::Catalog;
use crate::agent::mcp::handshake::Host;
use crate::agent::mcp::link::{Ask, Failure, Link};
use crate::agent::mcp::wire::{Era, Protocol, Refusal};
use crate::base::error::{Error, ErrorKind};

/// Answers by a script: the method that is expected, and what it is answered.
struct Script(Mutex<Vec<(&'static str, Result<Value, Failure>)>>);

impl Link for Script {
    fn request(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        let (method, answer) = self.0.lock().unwrap().remove(0);
        assert_eq!(ask.method, method);
        answer
    }

    fn initialized(&self, _: Protocol, _: Duration) -> Result<(), Failure> {
        Ok(())
    }

    fn follow(&self, _: Protocol, _: bool) -> Result<()> {
        Ok(())
    }

    fn lost(&self) -> Option<Error> {
        None
    }

    fn close(&self) {}
}

type Answers = Vec<(&'static str, Result<Value, Failure>)>;

#[track_caller]
fn check(first: Era, answers: Answers, expected: Result<(Era, &str, bool), (ErrorKind, &str)>) {
    let script = Script(Mutex::new(answers));
    let (clock, cancel) = (Clock::system(), Cancel::new());
    let host = Host { link: &script, clock: &clock, cancel: &cancel, probe: LONG, wait: LONG };
    match (host.greet(first), expected) {
        (Ok(got), Ok(expected)) => assert_eq!((got.protocol.era, got.protocol.version, got.changes), expected),
        (Err(got), Err((kind, says))) => {
            assert_eq!(got.kind, kind, "{got}");
            assert!(got.text.contains(says), "{got}");
        }
        (got, expected) => panic!("{got:?} is not {expected:?}"),
    }
    assert!(script.0.lock().unwrap().is_empty(), "all that was scripted was asked");
}

fn refusal(code: i64, supported: &[&str]) -> Result<Value, Failure> {
    Err(Failure::Refused(Refusal { code, message: "no".to_string(), data: json!({"supported": supported}) }))
}

fn found(versions: &[&str]) -> Result<Value, Failure> {
    Ok(json!({"supportedVersions": versions, "capabilities": {"tools": {"listChanged": true}}}))
}

fn initialized(version: &str) -> Result<Value, Failure> {
    Ok(json!({"protocolVersion": version, "capabilities": {"tools": {}}}))
}

#[test]
fn eras_are_settled_as_the_specification_has_it() {
    let (discover, initialize) = ("server/discover", "initialize");
    let modern = Ok((Era::Modern, "2026-07-28", true));
    let legacy = Ok((Era::Legacy, "2025-11-25", false));
    let m = Era::Modern;
    check(m, vec![(discover, found(&["2026-07-28"]))], modern);
    check(m, vec![(discover, found(&["2025-11-25", "2026-07-28"]))], modern);
    // It knows the question, and advertises the legacy era alone.
    check(m, vec![(discover, found(&["2025-11-25"])), (initialize, initialized("2025-11-25"))], legacy);
    // Any refusal that no modern server gives, and silence.
    for code in [-32601, -32602, -32600, -32000, 0] {
        check(m, vec![(discover, refusal(code, &[])), (initialize, initialized("2025-11-25"))], legacy);
    }
    check(m, vec![(discover, Err(Failure::Late)), (initialize, initialized("2025-11-25"))], legacy);
    check(m, vec![(discover, Ok(json!("?"))), (initialize, initialized("2025-11-25"))], legacy);
    check(m, vec![(discover, refusal(-32022, &["2025-11-25"])), (initialize, initialized("2025-11-25"))], legacy);
    let older = Ok((Era::Legacy, "2024-11-05", false));
    check(m, vec![(discover, refusal(-32601, &[])), (initialize, initialized("2024-11-05"))], older);
    // Too slow for the first probe, and modern after all.
    check(
        m,
        vec![(discover, Err(Failure::Late)), (initialize, refusal(-32022, &["2026-07-28"])), (discover, found(&["2026-07-28"]))],
        modern,
    );
    // After one that ended at the probe.
    check(Era::Legacy, vec![(initialize, initialized("2025-11-25"))], legacy);
    check(Era::Legacy, vec![(initialize, refusal(-32022, &["2026-07-28"])), (discover, found(&["2026-07-28"]))], modern);
}

#[test]
fn where_no_era_is_shared() {
    let (discover, initialize, m) = ("server/discover", "initialize", Era::Modern);
    check(m, vec![(discover, refusal(-32022, &["2031-01-01"]))], Err((ErrorKind::Invalid, "2031-01-01")));
    check(
        m,
        vec![(discover, refusal(-32601, &[])), (initialize, initialized("2023-01-01"))],
        Err((ErrorKind::Invalid, "2023-01-01")),
    );
    check(m, vec![(discover, refusal(-32021, &[]))], Err((ErrorKind::Permanent, "refused server/discover: no (-32021)")));
    check(
        m,
        vec![(discover, refusal(-32601, &[])), (initialize, refusal(-32601, &[]))],
        Err((ErrorKind::Permanent, "refused initialize")),
    );
    check(m, vec![(discover, Err(Failure::Late)), (initialize, Err(Failure::Late))], Err((ErrorKind::Timeout, "initialize")));
    let gone = || Err(Failure::Lost(Error::new(ErrorKind::Transient, "gone")));
    check(m, vec![(discover, gone())], Err((ErrorKind::Transient, "gone")));
    let again =
        vec![(discover, Err(Failure::Late)), (initialize, refusal(-32022, &["2026-07-28"])), (discover, Err(Failure::Late))];
    check(m, again, Err((ErrorKind::Permanent, "initialize")));
}

#[test]
fn a_list_has_an_end_even_where_the_server_knows_none() {
    let page = |i: usize| ("tools/list", Ok(json!({"tools": [{"name": format!("t{i}")}], "nextCursor": "again"})));
    let script = Script(Mutex::new((0..16).map(page).collect()));
    let (clock, cancel) = (Clock::system(), Cancel::new());
    let host = Host { link: &script, clock: &clock, cancel: &cancel, probe: LONG, wait: LONG };
    let mut catalog = Catalog::new("s", None, false);
    host.list(Protocol::MODERN, &mut catalog).unwrap();
    assert_eq!(catalog.offers.len(), 16);
}

#[test]
fn a_server_that_ends_at_the_probe_is_begun_with_in_the_old_way() {
    let server = fake(|mut side| {
        let first = side.hear().unwrap();
        if first["method"] != "initialize" {
            return;
        }
        side.answer(&first, json!({"protocolVersion": "2025-03-26", "capabilities": {"tools": {}}}));
        side.greet(&["do"]);
    });
    let status = server.reach(ServerState::Connected);
    assert_eq!((status.protocol_version, status.restarts), (Some("2025-03-26"), 1));
}

#[test]
fn a_modern_server_tells_changes_by_subscription() {
    let server = fake(|mut side| {
        let mut tools = vec!["do"];
        while let Some(message) = side.hear() {
            let meta = &message["params"]["_meta"];
            assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28", "each request says it: {message}");
            match message["method"].as_str().unwrap() {
                "server/discover" => side.answer(&message, found(&["2026-07-28"]).unwrap()),
                "tools/list" => side.list(&message, &tools.clone()),
                "subscriptions/listen" => {
                    assert_eq!(message["params"]["notifications"], json!({"toolsListChanged": true}));
                    side.tell("notifications/subscriptions/acknowledged");
                    tools.push("more");
                    side.tell("notifications/tools/list_changed");
                }
                other => panic!("{other}"),
            }
        }
    });
    eventually("both tools", || (server.status().tools == 2).then_some(()));
    assert_eq!((server.status().era, server.status().restarts), (Some("modern"), 0));
}
