//! Hosts and origins: what a page in a browser on this machine can not do.

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway};
use crate::support::http::Connection;
use crate::support::merged;
use crate::support::model::echo_config;

#[test]
fn a_foreign_host_is_refused_everywhere() {
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"allowedHosts": ["gate.example"]}})));
    let port = gateway.port;
    for (host, good) in [
        (format!("127.0.0.1:{port}"), true),
        ("127.0.0.1".into(), true),
        (format!("localhost:{port}"), true),
        (format!("LOCALHOST:{port}"), true),
        (format!("[::1]:{port}"), true),
        ("gate.example".into(), true),
        (format!("Gate.Example:{port}"), true),
        (format!("evil.example:{port}"), false),
        ("gate.example.evil.example".into(), false),
        ("127.0.0.1.evil.example".into(), false),
        ("localhost.evil.example".into(), false),
        ("203.0.113.7".into(), false),
    ] {
        for path in ["/health", "/api/config", "/", "/openapi.json"] {
            let answer = gateway.call("GET", path).header("Host", &host).token(ADMIN).send();
            assert_eq!(answer.status == 403, !good, "{host} {path}: {}", answer.status);
        }
    }
    for head in [
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ] {
        let mut connection = Connection::open(port).unwrap();
        connection.send(head).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert!(matches!(answer.status, 400 | 403), "{head:?}: {}", answer.status);
    }
}

#[test]
fn a_browser_of_another_origin_changes_nothing() {
    let gateway = Gateway::start(echo_config());
    let body = json!({"userId": "ana", "message": "forged"});
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let call = gateway.call("POST", "/webhook/default").token(ADMIN).header("Origin", origin).json(&body);
        call.send().expect_error(403, "forbidden");
    }
    let own = format!("http://127.0.0.1:{}", gateway.port);
    gateway.call("POST", "/webhook/default").token(ADMIN).header("Origin", &own).json(&body).send().expect(202);
    for (method, path) in [("GET", "/health"), ("OPTIONS", "/api/config"), ("GET", "/nope"), ("GET", "/")] {
        let answer = gateway.call(method, path).header("Origin", "https://evil.example").send();
        assert!(answer.header("access-control-allow-origin").is_none(), "{method} {path}");
    }
    let page = gateway.call("GET", "/health").send();
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}
