//! A browser as the attacker, against every route: foreign names, foreign pages, requests that look harmless.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DOOR, Described, afresh, check_answer, described, walked};
use crate::support::gateway::{ADMIN, Gateway, OPERATOR, credentials};
use crate::support::http::Connection;
use crate::support::model::Model;
use crate::support::sink::Sink;
use crate::support::ws::Ws;
use crate::support::{eventually, merged};

/// All that lasts: the configuration file as it is, and every row of every table.
fn state(gateway: &Gateway) -> BTreeMap<String, Vec<String>> {
    let file = std::fs::read_to_string(&gateway.config_path).expect("the configuration");
    let mut all = BTreeMap::from([("configuration".to_string(), vec![file])]);
    let database = rusqlite::Connection::open(gateway.data.join("gatelet.db")).expect("the store's file");
    let mut tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").expect("tables");
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).expect("names").map(|n| n.expect("a name")).collect();
    for name in names {
        let mut rows = database.prepare(&format!("SELECT * FROM \"{name}\"")).expect("a table");
        let columns = rows.column_count();
        let text = |row: &rusqlite::Row| Ok((0..columns).map(|n| format!("{:?}|", row.get_ref_unwrap(n))).collect::<String>());
        let rows = rows.query_map([], text).expect("rows").map(|r| r.expect("a row")).collect();
        all.insert(name, rows);
    }
    all
}

/// A gateway in which there is something of everything; the last value fills in a route's parameters.
fn furnished() -> (Gateway, Model, Sink, impl Fn(&str, &str) -> String) {
    let (model, sink) = (Model::echo(), Sink::scripted(|_, _| 410.into()));
    let door = json!({"channels": {"door": {"replyUrl": sink.url}}, "providers": {"stub": model.provider()}});
    let gateway = walked(door);
    let message = gateway.tell("ana", "hello");
    gateway.until_state(&message, "answered", 10);
    let note = gateway.post("/api/memory", json!({"userId": "ana", "text": "likes tea"})).expect(201).field("id");
    let job = json!({"id": "weekly", "every": 604_800_000, "message": "hi", "userId": "ana"});
    gateway.post("/api/jobs", job).expect(201);
    let body = json!({"userId": "carl", "message": "to nobody"});
    gateway.call("POST", "/webhook/door").token(DOOR).json(&body).send().expect(202);
    let dead = eventually("a dead letter", 10, || {
        let list = gateway.get("/api/outbox?state=dead").expect(200).json();
        list["outbox"][0]["id"].as_str().map(str::to_string)
    });
    let fill = move |path: &str, name: &str| match (name, path) {
        ("userId", _) => "ana".into(),
        ("name" | "channel", _) => "door".into(),
        ("id", p) if p.starts_with("/api/messages") => message.clone(),
        ("id", p) if p.starts_with("/api/memory") => note.clone(),
        ("id", p) if p.starts_with("/api/outbox") => dead.clone(),
        ("id", p) if p.starts_with("/api/jobs") => "weekly".to_string(),
        ("model", _) => "main".into(),
        _ => "x".into(),
    };
    (gateway, model, sink, fill)
}

/// B9: reading changes nothing, whatever is read, and by whomever.
#[test]
fn reading_changes_nothing() {
    let (gateway, _model, _sink, fill) = furnished();
    let routes = described(&gateway);
    gateway.settled();
    let before = state(&gateway);
    let rows = |s: &BTreeMap<String, Vec<String>>| s.values().map(Vec::len).sum::<usize>();
    assert!(rows(&before) > 10 && before["inbox"].len() >= 2, "there is something that could change: {}", rows(&before));
    let mut read = 0;
    for route in &routes {
        let path = route.filled(|name| fill(&route.path, name));
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            for token in [None, Some(OPERATOR), Some(ADMIN)] {
                let call = afresh(gateway.call(method, &path));
                let answer = token.into_iter().fold(call, |call, token| call.token(token)).send();
                check_answer(&answer, &format!("{method} {path}"));
                read += usize::from(answer.status == 200 && method == "GET" && token == Some(ADMIN));
            }
        }
    }
    let reads = routes.iter().filter(|r| r.method == "GET").count();
    assert!(read >= reads - 4, "most of what can be read was there to be read: {read} of {reads}");
    for (name, rows) in state(&gateway) {
        assert_eq!(rows, before[&name], "{name} changed by reading");
    }
}

/// The ways in which a foreign page or name shows; each is refused wherever it knocks.
fn foreign(port: u16) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "203.0.113.7", "0.0.0.0.evil.example:8787"] {
        all.push(("Host", host.to_string()));
    }
    all.push(("Host", format!("evil.example:{port}")));
    for origin in ["https://evil.example", "null", "file://", "http://127.0.0.1:1", "http://localhost.evil.example", ""] {
        all.push(("Origin", origin.to_string()));
    }
    all.push(("Origin", format!("http://127.0.0.1:{}", port ^ 1))); // another program of this machine
    all.push(("Origin", format!("http://127.0.0.1:{port}.evil.example")));
    all
}

fn knock(gateway: &Gateway, route: &Described, header: (&str, &str), token: Option<&str>) -> u16 {
    let call = afresh(route.call(gateway)).header(header.0, header.1);
    let answer = token.into_iter().fold(call, |call, token| call.token(token)).send();
    check_answer(&answer, &format!("{} {} with {header:?}", route.method, route.path));
    answer.status
}

/// B2, B3, B4, B5, B6, B8: on every route and in every mode, with the right credential, as a page would have it if the browser
/// could be made to send it.
#[test]
fn foreign_pages_and_names_reach_no_route() {
    let modes = [
        ("token", json!({})),
        ("none", json!({"gateway": {"auth": {"mode": "none", "token": null, "tokens": null}}})),
        ("without a proxy", json!({"gateway": {"trustedProxies": null}})),
        ("another host", json!({"gateway": {"allowedHosts": ["gate.example"], "allowedOrigins": ["https://panel.example"]}})),
    ];
    for (mode, more) in modes {
        let more = if mode == "none" { merged(json!({"gateway": {"auth": credentials()}}), more) } else { more };
        let gateway = walked(more);
        let token = (mode != "none").then_some(ADMIN);
        let before = gateway.read_config();
        for route in described(&gateway) {
            let what = format!("{mode}: {} {}", route.method, route.path);
            for (name, value) in foreign(gateway.port) {
                let status = knock(&gateway, &route, (name, &value), token);
                assert_eq!(status, 403, "{what} with {name}: {value}");
            }
            // Older browsers send no Origin with some requests, but say where they come from.
            if route.method != "GET" {
                let status = knock(&gateway, &route, ("Sec-Fetch-Site", "cross-site"), token);
                assert_eq!(status, 403, "{what}, from a foreign page");
            }
            // What a page may send without asking first.
            if route.takes_body {
                for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
                    let call = afresh(gateway.call(&route.method, &route.filled(|_| "door".into()))).header("Content-Type", kind);
                    let call = call.token(if route.need == "channel" { DOOR } else { ADMIN }).body("{}");
                    let answer = call.send();
                    assert_eq!(answer.status, 415, "{what} as {kind:?}: {}", answer.text());
                }
            }
        }
        for (name, value) in foreign(gateway.port) {
            let bearer = format!("Bearer {ADMIN}");
            for more in [&[("Authorization", bearer.as_str()), (name, value.as_str())][..], &[(name, value.as_str())]] {
                assert!(Ws::dial(&gateway, more).is_err_and(|a| a.status == 403), "{mode}: a socket with {name}: {value}");
            }
        }
        assert_eq!(gateway.read_config(), before, "{mode}");
        let sessions: Value = match token {
            Some(token) => gateway.call("GET", "/api/sessions").token(token).send().expect(200).json(),
            None => gateway.call("GET", "/api/sessions").send().expect(200).json(),
        };
        assert_eq!(sessions["sessions"], json!([]), "{mode}: nobody has written");
    }
}

/// B4, on every route: no name, two names, and a name in the address.
#[test]
fn a_request_has_one_name_of_ours() {
    let gateway = walked(json!({}));
    for route in described(&gateway) {
        let path = route.filled(|_| "x".into());
        let method = &route.method;
        for head in [
            format!("{method} {path} HTTP/1.1\r\n"),
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n"),
            format!("{method} {path} HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1\r\n"),
            format!("{method} http://evil.example{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
            format!("{method} {path} HTTP/1.1\r\nHost: evil.example@127.0.0.1\r\n"),
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost : evil.example\r\n"),
        ] {
            let mut connection = Connection::open(gateway.port).unwrap();
            connection.send(format!("{head}Authorization: Bearer {ADMIN}\r\nConnection: close\r\n\r\n")).unwrap();
            let answer = connection.answer_to(method).unwrap().expect("an answer");
            assert!(matches!(answer.status, 400 | 403), "{head:?}: {}", answer.status);
        }
    }
}
