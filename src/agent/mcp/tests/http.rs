//! Servers at addresses: both eras, and what they do wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::json;

use super::fake::{Watched, quick, text, watched};
use super::*;
use crate::agent::mcp::http::Address;
use crate::base::cancel::Why;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::net::scripted::{EVENTS, Scripted, Seen, answer, hang};

/// Looks after the server at `peer`.
fn at(peer: &Scripted) -> Watched {
    let (threads, token) = (Threads::new(), Some(Secret::new("canary-0123456789")));
    let (name, url, client) = ("fake".to_string(), peer.url("/mcp"), Arc::new(Client::new(4)));
    let address = Address { name, url, token, client, clock: Clock::system(), threads: threads.clone() };
    watched("http", Box::new(Arc::new(address)), threads, quick())
}

fn method(seen: &Seen) -> String {
    if seen.body.is_empty() { String::new() } else { seen.json()["method"].as_str().unwrap_or_default().to_string() }
}

fn result(seen: &Seen, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": seen.json()["id"], "result": result}).to_string()
}

fn ok(seen: &Seen, value: Value) -> String {
    answer("200 OK", "application/json", &result(seen, value))
}

/// Answers the legacy handshake, session included, and the list; `act` does the rest.
fn legacy(act: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |_, seen, stream| {
        let said = match method(seen).as_str() {
            "server/discover" => answer(
                "400 Bad Request",
                "application/json",
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#,
            ),
            "initialize" => {
                let able = json!({"tools": {"listChanged": false}});
                let body = result(seen, json!({"protocolVersion": "2025-11-25", "capabilities": able}));
                answer("200 OK", "application/json", &body).replace("\r\n\r\n", "\r\nMcp-Session-Id: session-1\r\n\r\n")
            }
            "notifications/initialized" => answer("202 Accepted", "text/plain", ""),
            "tools/list" => ok(seen, json!({"tools": [{"name": "do"}]})),
            _ => {
                act(seen, stream);
                return false;
            }
        };
        let _ = stream.write_all(said.as_bytes());
        false
    })
}

fn events(all: &[&str]) -> String {
    format!("{EVENTS}{}", all.concat())
}

fn event(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

#[test]
fn the_legacy_era_over_http() {
    let peer = legacy(|seen, stream| {
        // The stream begins with an event of empty data, and holds other things before the answer.
        let notification = event(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
        let body = event(&result(seen, text("done")));
        let all =
            events(&["id: prime\ndata:\n\n", ": hold on\n\n", &notification, &event("no json"), &body, &event("never read")]);
        let _ = stream.write_all(all.as_bytes());
    });
    let server = at(&peer);
    let status = server.reach(ServerState::Connected);
    assert_eq!((status.era, status.transport), (Some("legacy"), "http"));
    assert_eq!(server.tool("do", json!({"a": 1})).unwrap(), "done");
    drop(server);
    for seen in peer.seen() {
        let named = (seen.header("mcp-session-id"), seen.header("mcp-protocol-version"));
        let expected = match method(&seen).as_str() {
            "server/discover" => (None, Some("2026-07-28")),
            "initialize" => (None, None),
            "" => (Some("session-1"), None), // DELETE
            _ => (Some("session-1"), Some("2025-11-25")),
        };
        assert_eq!(named, expected, "{seen:?}");
        assert_eq!(seen.header("authorization"), Some("Bearer canary-0123456789"));
        assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
    }
    assert!(peer.seen().last().unwrap().line.starts_with("DELETE /mcp"), "the session is ended");
}

#[test]
fn the_modern_era_over_http() {
    let peer = Scripted::new(|_, seen, stream| {
        let schema = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
        let broken = json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}});
        let said = match method(seen).as_str() {
            "server/discover" => {
                ok(seen, json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}))
            }
            "tools/list" => {
                ok(seen, json!({"tools": [{"name": "wö", "inputSchema": schema}, {"name": "broken", "inputSchema": broken}]}))
            }
            _ => ok(seen, text("done")),
        };
        let _ = stream.write_all(said.as_bytes());
        false
    });
    let server = at(&peer);
    let status = server.reach(ServerState::Connected);
    assert_eq!((status.era, status.tools, status.left_out), (Some("modern"), 1, 1));
    assert_eq!(server.tool("wö", json!({"region": "us-west1"})).unwrap(), "done");
    drop(server);
    for seen in peer.seen() {
        assert_eq!((seen.header("mcp-protocol-version"), seen.header("mcp-session-id")), (Some("2026-07-28"), None), "{seen:?}");
        assert_eq!(seen.header("mcp-method"), Some(method(&seen).as_str()));
    }
    let call = peer.seen().pop().unwrap();
    assert_eq!((call.header("mcp-name"), call.header("mcp-param-region")), (Some("=?base64?d8O2?="), Some("us-west1")));
}

/// Calls a tool whose request is answered by `act`; the failure must have that kind and those words.
#[track_caller]
fn check_call(act: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static, kind: ErrorKind, says: &str) {
    let peer = legacy(act);
    let server = at(&peer);
    server.reach(ServerState::Connected);
    let begun = Instant::now();
    let error = server.try_tool("do", json!({}), Duration::from_millis(400), &Cancel::new()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(2000), "{:?}", begun.elapsed());
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.text.contains(says) && !format!("{error:?}").contains("canary"), "{error}");
    let calls = peer.seen().iter().filter(|s| method(s) == "tools/call").count();
    assert_eq!(calls, 1, "a call is sent once, whatever becomes of it");
}

fn says(status: &'static str, body: &'static str) -> impl Fn(&Seen, &mut TcpStream) {
    move |_, stream| drop(stream.write_all(answer(status, "application/json", body).as_bytes()))
}

#[test]
fn calls_that_fail() {
    let (transient, permanent) = (ErrorKind::Transient, ErrorKind::Permanent);
    check_call(|_, _| hang(), ErrorKind::Timeout, "did not answer in time");
    check_call(|_, _| (), transient, "not known"); // closed without an answer
    check_call(says("200 OK", "{"), transient, "no message");
    check_call(says("200 OK", r#"{"jsonrpc":"2.0","id":99999,"result":{}}"#), transient, "something else");
    check_call(says("202 Accepted", ""), transient, "notification");
    check_call(says("500 Oops", "canary-0123456789"), transient, "500");
    check_call(says("401 Unauthorized", ""), transient, "401");
    check_call(says("429 Slow", ""), transient, "429");
    check_call(says("413 Too Large", ""), permanent, "413");
    check_call(
        says("400 Bad", r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"unknown tool"}}"#),
        permanent,
        "unknown tool",
    );
    check_call(|_, s| drop(s.write_all(answer("200 OK", "text/html", "<p>").as_bytes())), transient, "text/html");
    check_call(|_, s| drop(s.write_all(events(&["data:\n\n"]).as_bytes())), transient, "broke off");
    let flood = |_: &Seen, s: &mut TcpStream| {
        let _ = s.write_all(EVENTS.as_bytes());
        while s.write_all(event(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#).as_bytes()).is_ok() {}
    };
    check_call(flood, ErrorKind::Timeout, "did not answer in time");
    let endless = |_: &Seen, s: &mut TcpStream| {
        let _ = s.write_all(format!("{EVENTS}data: ").as_bytes());
        while s.write_all(&[b'x'; 65536]).is_ok() {}
    };
    check_call(endless, transient, "beyond all bounds");
}

#[test]
fn a_broken_answer_goes_on_where_the_server_lets_us() {
    let last = Arc::new(Mutex::new(Value::Null));
    let peer = legacy(move |seen, stream| {
        let said = match (seen.header("last-event-id"), seen.line.starts_with("GET")) {
            (None, false) => {
                *last.lock().unwrap() = seen.json()["id"].clone();
                events(&["id: a\nretry: 30\ndata:\n\n"]) // and closes
            }
            (Some("a"), true) => events(&["id: b\n", &event(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#)]),
            (Some("b"), true) => events(&[&event(&json!({"id": *last.lock().unwrap(), "result": text("at last")}).to_string())]),
            other => panic!("{other:?}"),
        };
        let _ = stream.write_all(said.as_bytes());
    });
    let server = at(&peer);
    server.reach(ServerState::Connected);
    assert_eq!(server.tool("do", json!({})).unwrap(), "at last");
}

#[test]
fn a_forgotten_session_is_begun_anew_once() {
    for status in ["404 Not Found", "400 Bad Request"] {
        let forgot = Arc::new(Mutex::new(true));
        let peer = legacy(move |seen, stream| {
            let said = if std::mem::take(&mut *forgot.lock().unwrap()) {
                let body = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#;
                answer(status, "application/json", body)
            } else {
                ok(seen, text("done"))
            };
            let _ = stream.write_all(said.as_bytes());
        });
        let server = at(&peer);
        server.reach(ServerState::Connected);
        assert_eq!(server.tool("do", json!({})).unwrap(), "done");
        let count = |what: &str| peer.seen().iter().filter(|s| method(s) == what).count();
        assert_eq!((count("initialize"), count("tools/call"), server.status().restarts), (2, 2, 0), "{status}");
    }
    let peer = legacy(|_, stream| drop(stream.write_all(answer("404 Not Found", "text/plain", "").as_bytes())));
    let server = at(&peer);
    server.reach(ServerState::Connected);
    assert!(server.tool("do", json!({})).unwrap_err().text.contains("just begun"), "and not for ever");
}

#[track_caller]
fn check_cancel(server: &Server) {
    let cancel = Cancel::new();
    let set = cancel.clone();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        set.set(Why::Asked);
        Instant::now()
    });
    let error = server.try_tool("do", json!({}), LONG, &cancel).unwrap_err();
    assert!(waker.join().unwrap().elapsed() < Duration::from_millis(500));
    assert_eq!(error.kind, ErrorKind::Stopped, "{error}");
}

#[test]
fn cancelling_hangs_up_on_a_modern_server() {
    let hung_up = Arc::new(Mutex::new(false));
    let noted = hung_up.clone();
    let peer = Scripted::new(move |_, seen, stream| {
        let said = match method(seen).as_str() {
            "server/discover" => ok(seen, json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})),
            "tools/list" => ok(seen, json!({"tools": [{"name": "do"}]})),
            "tools/call" => {
                let _ = stream.write_all(EVENTS.as_bytes());
                *noted.lock().unwrap() = matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_));
                return false;
            }
            other => panic!("{other}"), // nothing else is told
        };
        let _ = stream.write_all(said.as_bytes());
        false
    });
    let server = at(&peer);
    server.reach(ServerState::Connected);
    check_cancel(&server);
    eventually("the connection's end at the server", || hung_up.lock().unwrap().then_some(()));
}

#[test]
fn cancelling_tells_a_legacy_server() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let peer = legacy(move |seen, stream| match method(seen).as_str() {
        "tools/call" => hang(),
        other => {
            noted.lock().unwrap().push((other.to_string(), seen.json()["params"]["requestId"].clone()));
            let _ = stream.write_all(answer("202 Accepted", "text/plain", "").as_bytes());
        }
    });
    let server = at(&peer);
    server.reach(ServerState::Connected);
    check_cancel(&server);
    eventually("the cancellation at the server", || (!told.lock().unwrap().is_empty()).then_some(()));
    let call = peer.seen().into_iter().find(|s| method(s) == "tools/call").unwrap();
    assert_eq!(told.lock().unwrap()[0], ("notifications/cancelled".to_string(), call.json()["id"].clone()));
}

#[test]
fn addresses_that_need_a_person() {
    for (status, body, says) in [
        ("401 Unauthorized", "", "401"),
        ("403 Forbidden", "", "403"),
        (
            "400 Bad Request",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"x","data":{"supported":["2031-01-01"]}}}"#,
            "2031-01-01",
        ),
    ] {
        let peer = Scripted::says(answer(status, "application/json", body));
        let server = at(&peer);
        let error = server.reach(ServerState::Misconfigured).last_error.unwrap();
        assert!(error.contains(says), "{error}");
    }
    let peer = Scripted::says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    let server = at(&peer);
    assert!(eventually("its failure", || server.status().last_error).contains("redirects"), "and the credential stays here");
}

#[test]
fn changes_are_followed_over_a_stream_of_their_own() {
    for era in ["legacy", "modern"] {
        let lists = Mutex::new(0);
        let peer = Scripted::new(move |_, seen, stream| {
            let able = json!({"tools": {"listChanged": true}});
            let said = match (method(seen).as_str(), era) {
                ("server/discover", "modern") => ok(seen, json!({"supportedVersions": ["2026-07-28"], "capabilities": able})),
                ("server/discover", _) => answer("404 Not Found", "text/plain", ""),
                ("initialize", _) => ok(seen, json!({"protocolVersion": "2025-11-25", "capabilities": able})),
                ("notifications/initialized", _) => answer("202 Accepted", "text/plain", ""),
                ("tools/list", _) => {
                    let mut lists = lists.lock().unwrap();
                    *lists += 1;
                    let tools: Vec<_> = (0..*lists).map(|i| json!({"name": format!("t{i}")})).collect();
                    ok(seen, json!({"tools": tools}))
                }
                ("subscriptions/listen", "modern") | ("", "legacy") => {
                    let ack = event(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#);
                    let changed = event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
                    let _ = stream.write_all(events(&[&ack, &changed]).as_bytes());
                    hang();
                    return false;
                }
                other => panic!("{other:?}"),
            };
            let _ = stream.write_all(said.as_bytes());
            false
        });
        let server = at(&peer);
        eventually("the second list", || (server.status().tools == 2).then_some(()));
        let begun = Instant::now();
        drop(server);
        assert!(begun.elapsed() < Duration::from_secs(3), "{era}: a silent stream holds no stop: {:?}", begun.elapsed());
    }
}

#[test]
fn another_server_at_the_address_is_greeted_anew() {
    let modern = Arc::new(Mutex::new(false));
    let switch = modern.clone();
    let peer = Scripted::new(move |_, seen, stream| {
        let refusal = |code: i64| {
            let error = json!({"code": code, "message": "no", "data": {"supported": ["2026-07-28"]}});
            let body = json!({"jsonrpc": "2.0", "id": seen.json()["id"], "error": error}).to_string();
            answer("400 Bad Request", "application/json", &body)
        };
        let said = match (method(seen).as_str(), *modern.lock().unwrap()) {
            ("server/discover", true) => ok(seen, json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})),
            (_, true) if seen.header("mcp-protocol-version") != Some("2026-07-28") => refusal(-32022),
            ("initialize", false) => ok(seen, json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}})),
            ("notifications/initialized", false) => answer("202 Accepted", "text/plain", ""),
            (_, false) if seen.header("mcp-protocol-version") != Some("2025-11-25") => refusal(-32000),
            ("tools/list", _) => ok(seen, json!({"tools": [{"name": "do"}]})),
            _ => ok(seen, text("done")),
        };
        let _ = stream.write_all(said.as_bytes());
        false
    });
    let server = at(&peer);
    eventually("its tools", || (server.status().tools == 1).then_some(()));
    for era in ["legacy", "modern", "legacy"] {
        *switch.lock().unwrap() = era == "modern";
        eventually(era, || server.tool("do", json!({})).ok().filter(|_| server.status().era == Some(era)));
    }
}

#[test]
fn an_address_where_nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let peer_url = format!("http://127.0.0.1:{port}/mcp");
    let threads = Threads::new();
    let (name, client) = ("fake".to_string(), Arc::new(Client::new(1)));
    let address = Address { name, url: peer_url, token: None, client, clock: Clock::system(), threads: threads.clone() };
    let server = watched("http", Box::new(Arc::new(address)), threads, quick());
    let status = server.reach(ServerState::Degraded);
    assert!(status.last_error.unwrap().contains("refused the connection"));
}
