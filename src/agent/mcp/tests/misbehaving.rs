//! Servers that hang, babble, flood, mix up, break off and do not listen.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::json;

use super::fake::{Side, fake, paced, quick, text};
use super::*;
use crate::base::cancel::Why;
use crate::base::error::ErrorKind;

const SOON: Duration = Duration::from_millis(150);

/// Calls `tool` with a short deadline; the failure must come by it, and be of that kind.
#[track_caller]
fn check_fails(server: &Server, arguments: Value, kind: ErrorKind, says: &str) {
    let begun = Instant::now();
    let error = server.try_tool("do", arguments, SOON, &Cancel::new()).unwrap_err();
    assert!(begun.elapsed() < SOON + Duration::from_millis(800), "{:?}", begun.elapsed());
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.text.contains(says), "{error}");
}

/// Greets, then answers every call with its own text.
fn polite(mut side: Side) {
    while let Some(request) = side.greet(&["do"]) {
        if request["method"] == "tools/call" {
            side.answer(&request, text("done"));
        }
    }
}

#[test]
fn one_that_hangs_is_called_off_and_started_again() {
    let server = fake(|mut side| {
        if side.number > 1 {
            return polite(side);
        }
        side.greet(&["do"]);
        side.rest(); // hears all, pings too, and says nothing any more
    });
    server.reach(ServerState::Connected);
    check_fails(&server, json!({}), ErrorKind::Timeout, "whether the call had an effect is not known");
    server.reach(ServerState::Degraded);
    assert_eq!(eventually("the second one", || server.tool("do", json!({})).ok()), "done");
    let status = server.status();
    assert_eq!(status.restarts, 1);
    assert!(status.last_error.unwrap().contains("did not answer ping in time"));
}

#[test]
fn one_that_is_slow_but_there_stays() {
    let (heard, late) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (heard_in, late_in) = (heard.clone(), late.clone());
    let server = fake(move |mut side| {
        let first = side.greet(&["do"]).unwrap();
        let Some(cancelled) = side.greet(&["do"]) else { return };
        assert_eq!((&cancelled["method"], &cancelled["params"]["requestId"]), (&json!("notifications/cancelled"), &first["id"]));
        heard_in.fetch_add(1, Ordering::SeqCst);
        side.answer(&first, text("too late"));
        late_in.fetch_add(1, Ordering::SeqCst);
        polite(side);
    });
    server.reach(ServerState::Connected);
    check_fails(&server, json!({}), ErrorKind::Timeout, "in time");
    eventually("the late answer", || (late.load(Ordering::SeqCst) == 1).then_some(()));
    assert_eq!(server.tool("do", json!({})).unwrap(), "done", "and not what comes too late");
    server.reach(ServerState::Connected);
    assert_eq!((heard.load(Ordering::SeqCst), server.status().restarts), (1, 0));
}

#[test]
fn a_cancelled_call_comes_back_at_once_and_the_server_hears_of_it() {
    let heard = Arc::new(AtomicUsize::new(0));
    let noted = heard.clone();
    let server = fake(move |mut side| {
        while let Some(message) = side.greet(&["do"]) {
            noted.fetch_add(usize::from(message["method"] == "notifications/cancelled"), Ordering::SeqCst);
        }
    });
    server.reach(ServerState::Connected);
    let cancel = Cancel::new();
    let set = cancel.clone();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        set.set(Why::Asked);
        Instant::now()
    });
    let error = server.try_tool("do", json!({}), LONG, &cancel).unwrap_err();
    assert!(waker.join().unwrap().elapsed() < Duration::from_millis(500));
    assert_eq!(error.kind, ErrorKind::Stopped, "{error}");
    assert_eq!(server.try_tool("do", json!({}), LONG, &cancel).unwrap_err().kind, ErrorKind::Stopped, "set before it began");
    eventually("the cancellation at the server", || (heard.load(Ordering::SeqCst) >= 1).then_some(()));
}

#[test]
fn one_that_babbles_is_borne_and_then_not() {
    let server = fake(|mut side| {
        side.say("Starting up…");
        side.say("{\"not\": \"json-rpc\"}");
        side.say("\u{0}\u{1b}[31m[[[[");
        let request = side.greet(&["do"]).unwrap();
        side.say("debug: called");
        side.answer(&request, text("done"));
        side.greet(&["do"]);
        if side.number == 1 {
            while side.say("babble") {}
        }
        side.rest();
    });
    server.reach(ServerState::Connected);
    assert_eq!(server.tool("do", json!({})).unwrap(), "done");
    assert!(server.tool("do", json!({})).is_err());
    eventually("another one", || (server.status().restarts == 1).then_some(()));
    assert!(server.status().last_error.unwrap().contains("does not speak MCP"));
}

#[test]
fn a_line_beyond_all_bounds_ends_the_connection() {
    let server = fake(|mut side| {
        if side.number > 1 {
            return polite(side);
        }
        side.greet(&["do"]);
        side.write(&vec![b'x'; 6 << 20]); // and never a line feed
        side.rest();
    });
    server.reach(ServerState::Connected);
    assert!(server.try_tool("do", json!({}), LONG, &Cancel::new()).is_err());
    assert_eq!(eventually("another one", || server.tool("do", json!({})).ok()), "done");
    assert!(server.status().last_error.unwrap().contains("beyond all bounds"));
}

#[test]
fn a_flood_of_notifications_holds_nobody_and_is_read_in_portions() {
    let said = Arc::new(AtomicU64::new(0));
    let counted = said.clone();
    let server = fake(move |side| {
        let side = Arc::new(std::sync::Mutex::new(side));
        let request = side.lock().unwrap().greet(&["do"]).unwrap();
        for _ in 0..50_000 {
            side.lock().unwrap().tell("notifications/message");
        }
        side.lock().unwrap().answer(&request, text("done"));
        while side.lock().unwrap().tell("notifications/message") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    server.reach(ServerState::Connected);
    assert_eq!(server.tool("do", json!({})).unwrap(), "done", "while it floods");
    std::thread::sleep(Duration::from_millis(200));
    let before = said.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1500));
    let portion = said.load(Ordering::SeqCst) - before;
    assert!(portion < 10_000, "{portion} notifications were read in 1.5 s");
    assert_eq!(server.status().state, ServerState::Connected);
}

#[test]
fn answers_out_of_order_and_to_nothing() {
    let server = fake(|mut side| {
        let first = side.greet(&["do"]).unwrap();
        let second = side.greet(&["do"]).unwrap();
        let mut nobody = first.clone();
        for id in [json!(9999), json!("1"), json!(null), json!(-4)] {
            nobody["id"] = id;
            side.answer(&nobody, text("nobody's"));
        }
        for request in [second, first] {
            let said = request["params"]["arguments"]["say"].as_str().unwrap().to_string();
            side.answer(&request, text(&said));
            side.answer(&request, text("once more"));
        }
        side.rest();
    });
    server.reach(ServerState::Connected);
    let other = server.server.clone();
    let a = std::thread::spawn(move || other.tool("do", json!({"say": "a"})).unwrap());
    assert_eq!(server.tool("do", json!({"say": "b"})).unwrap(), "b");
    assert_eq!(a.join().unwrap(), "a");
}

#[test]
fn changes_of_the_list_are_followed_even_before_the_handshake_is_done() {
    let server = fake(|mut side| {
        let probe = side.hear().unwrap();
        side.refuse(&probe, -32601);
        side.tell("notifications/tools/list_changed"); // before the answer to initialize
        let mut lists = 0;
        while let Some(message) = side.hear() {
            match message["method"].as_str().unwrap() {
                "initialize" => {
                    let able = json!({"tools": {"listChanged": true}});
                    side.answer(&message, json!({"protocolVersion": "2025-06-18", "capabilities": able}));
                }
                "tools/list" => {
                    lists += 1;
                    match lists {
                        1 | 2 => side.list(&message, &["do"]),
                        3 => side.list(&message, &["do", "more"]),
                        _ => side.refuse(&message, -32603),
                    }
                    if lists == 2 {
                        side.tell("notifications/tools/list_changed");
                    }
                }
                "tools/call" => {
                    side.tell("notifications/tools/list_changed");
                    side.answer(&message, text("done"));
                }
                _ => {}
            }
        }
    });
    eventually("both tools", || (server.status().tools == 2).then_some(()));
    assert_eq!(server.status().protocol_version, Some("2025-06-18"));
    // A list that is refused leaves the former one.
    assert_eq!(server.tool("more", json!({})).unwrap(), "done");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((server.status().tools, server.status().state), (2, ServerState::Connected));
}

#[test]
fn endless_changes_are_looked_at_ever_less_often() {
    let lists = Arc::new(AtomicU64::new(0));
    let counted = lists.clone();
    let server = fake(move |mut side| {
        while let Some(message) = side.greet_but("tools/list") {
            counted.fetch_add(1, Ordering::SeqCst);
            side.list(&message, &["do"]);
            side.tell("notifications/tools/list_changed");
        }
    });
    server.reach(ServerState::Connected);
    std::thread::sleep(Duration::from_millis(1200));
    let read = lists.load(Ordering::SeqCst);
    assert!((2..=9).contains(&read), "30, 60, 120, … ms apart: {read} lists within 1.2 s");
}

#[test]
fn one_that_ends_in_the_middle_of_a_call() {
    let server = fake(|mut side| {
        let call = side.greet(&["do"]);
        if side.number == 1 || call.is_none() {
            return; // its output closes
        }
        side.answer(&call.unwrap(), text("done"));
        polite(side);
    });
    server.reach(ServerState::Connected);
    let error = server.tool("do", json!({})).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(error.text.contains("it ended; whether the call had an effect is not known"), "{error}");
    assert_eq!(server.tools().len(), 1, "its tools stay known");
    assert_eq!(eventually("another one", || server.tool("do", json!({})).ok()), "done");
}

#[test]
fn one_that_never_comes_up_is_tried_ever_less_often() {
    let tries = Arc::new(AtomicU64::new(0));
    let counted = tries.clone();
    let server = fake(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    std::thread::sleep(Duration::from_millis(1000));
    let tried = tries.load(Ordering::SeqCst);
    assert!((2..=7).contains(&tried), "20, 40, 80, … ms apart: {tried} tries in a second");
    let status = server.status();
    assert!(matches!(status.state, ServerState::Degraded | ServerState::Connecting), "{status:?}");
    assert!(server.tools().is_empty());
}

#[test]
fn one_that_never_reads_its_input() {
    let done = Arc::new(AtomicUsize::new(0));
    let calls = done.clone();
    let patient = Pace { probe: LONG, ..quick() };
    let server = paced(patient, move |mut side| {
        side.greet_until_listed(&["do"]);
        std::thread::sleep(Duration::from_secs(2));
        while let Some(message) = side.hear() {
            calls.fetch_add(usize::from(message["method"] == "tools/call"), Ordering::SeqCst);
        }
    });
    server.reach(ServerState::Connected);
    let big = json!({"text": "x".repeat(300_000)});
    let begun = Instant::now();
    // The pipe takes a part of the first one; the others wait behind it and are never written.
    check_fails(&server, big.clone(), ErrorKind::Timeout, "not known");
    check_fails(&server, big.clone(), ErrorKind::Transient, "the call was not made");
    check_fails(&server, big.clone(), ErrorKind::Transient, "the call was not made");
    assert!(begun.elapsed() < Duration::from_millis(1900), "{:?}", begun.elapsed());
    eventually("it reads at last", || (done.load(Ordering::SeqCst) > 0).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(done.load(Ordering::SeqCst), 1, "what was given up before it was written never is");
}

#[test]
fn what_waits_for_a_deaf_server_is_bounded() {
    let server = paced(Pace { probe: LONG, ..quick() }, |mut side| {
        side.greet_until_listed(&["do"]);
        std::thread::sleep(Duration::from_secs(3));
    });
    server.reach(ServerState::Connected);
    let wait = Duration::from_millis(1000);
    let call = move |server: Arc<Server>| {
        let begun = Instant::now();
        let error = server.try_tool("do", json!({"text": "x".repeat(300_000)}), wait, &Cancel::new()).unwrap_err();
        (error.text, begun.elapsed() < wait)
    };
    let callers: Vec<_> = std::iter::repeat_n(server.server.clone(), 8).map(|s| std::thread::spawn(move || call(s))).collect();
    let failed: Vec<_> = callers.into_iter().map(|c| c.join().unwrap()).collect();
    let at_once = failed.iter().filter(|(_, at_once)| *at_once).count();
    assert_eq!(at_once, 5, "1 MiB holds three of them, and the others fail at once: {failed:?}");
}

#[test]
fn what_servers_ask_is_answered_with_nothing() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = heard.clone();
    let server = fake(move |mut side| {
        let request = side.greet(&["do"]).unwrap();
        for (id, method) in ["ping", "roots/list", "sampling/createMessage", "elicitation/create"].iter().enumerate() {
            side.say(&json!({"jsonrpc": "2.0", "id": format!("s{id}"), "method": method}).to_string());
            let answer = side.hear().unwrap();
            noted.lock().unwrap().push((answer["id"].clone(), answer["error"]["code"].clone()));
        }
        side.answer(&request, text("done"));
        side.rest();
    });
    server.reach(ServerState::Connected);
    assert_eq!(server.tool("do", json!({})).unwrap(), "done");
    let no = json!(-32601);
    let expected = [(json!("s0"), Value::Null), (json!("s1"), no.clone()), (json!("s2"), no.clone()), (json!("s3"), no)];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn a_stop_ends_whatever_is_under_way() {
    let server = fake(|mut side| {
        side.greet(&["do"]);
        side.rest();
    });
    server.reach(ServerState::Connected);
    let tools = server.tools();
    let other = server.server.clone();
    let call = std::thread::spawn(move || other.tool("do", json!({})));
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    server.stop();
    assert!(server.ended(server.parts.clock.mono() + LONG));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert!(call.join().unwrap().unwrap_err().text.contains("was ended"));
    assert_eq!((server.status().state, server.tools().len(), tools.len()), (ServerState::Stopped, 0, 1));
    assert!(server.call(&offer(), &serde_json::Map::new(), LONG, &Cancel::new()).unwrap_err().text.contains("was stopped"));
}

fn offer() -> crate::agent::mcp::catalog::Offer {
    let mut catalog = crate::agent::mcp::catalog::Catalog::new("fake", None, false);
    catalog.add(&json!({"name": "do"}));
    catalog.offers.remove(0)
}

impl Side {
    /// As [`Side::greet`], but that method is the caller's.
    fn greet_but(&mut self, own: &str) -> Option<Value> {
        loop {
            let message = self.hear()?;
            match message["method"].as_str().unwrap_or_default() {
                method if method == own => return Some(message),
                "server/discover" => self.refuse(&message, -32601),
                "initialize" => {
                    let able = json!({"tools": {"listChanged": true}});
                    self.answer(&message, json!({"protocolVersion": "2025-11-25", "capabilities": able}));
                }
                "ping" => self.answer(&message, json!({})),
                _ => {}
            }
        }
    }

    /// Greets and stops reading as soon as the tools are listed.
    fn greet_until_listed(&mut self, tools: &[&str]) -> bool {
        let Some(request) = self.greet_but("tools/list") else { return false };
        self.list(&request, tools);
        true
    }
}
