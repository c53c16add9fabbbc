//! What attackers try at gateways, case by case: `docs/SECURITY.md` has the table of all of them, and names the test that holds
//! each. Those that belong to one part of the gateway stand with that part; here are the ones that go through all of it.

mod browsers;
mod canaries;
mod described;
mod policy;
mod routes;
mod sources;
mod surface;
mod table;

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Call};
use crate::support::merged;
use crate::support::model::echo_config;

/// The credential of the channel `door`.
const DOOR: &str = "suite-door-token-0123456789abcdef";

/// A gateway whose wrong guesses count for the address that a request is forwarded for: each request of a walk has its own, so
/// that the limit of guesses decides nothing here.
fn walked(more: Value) -> Gateway {
    let config = json!({
        "gateway": {"trustedProxies": ["127.0.0.1"]},
        "channels": {"door": {"type": "webhook", "token": DOOR}}});
    Gateway::start(merged(merged(echo_config(), config), more))
}

/// From an address that nobody has used before.
fn afresh(call: Call) -> Call {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::SeqCst);
    call.header("X-Forwarded-For", &format!("198.18.{}.{}", n >> 8 & 255, n & 255))
}

/// One route of the description.
#[derive(Clone, Debug)]
struct Described {
    method: String,
    /// As the description has it: `/api/messages/{id}`.
    path: String,
    /// Who may: `public`, `channel`, `user`, `operator`, `admin`.
    need: String,
    takes_body: bool,
}

impl Described {
    /// The path with each parameter filled in by `value`.
    fn filled(&self, value: impl Fn(&str) -> String) -> String {
        let part = |p: &str| match p.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) => value(name),
            None => p.to_string(),
        };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// With a body that comes to nothing where it takes one.
    fn call(&self, gateway: &Gateway) -> Call {
        let path = self.filled(|name| if name == "channel" { "door".into() } else { "x".into() });
        let call = gateway.call(&self.method, &path);
        if self.takes_body { call.header("Content-Type", "application/json").body("{") } else { call }
    }
}

/// Every route, as the gateway describes itself: the description is made of the route table (a test in `api/openapi` holds that
/// nothing is missing). A file of the console, which is no interface and stands in no description, comes last.
fn described(gateway: &Gateway) -> Vec<Described> {
    let api = gateway.call("GET", "/openapi.json").send().expect(200).json();
    let mut routes = Vec::new();
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            routes.push(Described {
                method: method.to_uppercase(),
                path: path.clone(),
                need: operation["x-role"].as_str().expect("who may").to_string(),
                takes_body: operation["requestBody"].is_object(),
            });
        }
    }
    let page = gateway.call("GET", "/").send().expect(200).text();
    let file = page.split('"').find(|p| p.starts_with("/console/")).expect("a file of the console").to_string();
    routes.push(Described { method: "GET".into(), path: file, need: "public".into(), takes_body: false });
    routes
}

/// What holds for every answer whatever was asked: no page of another origin is told that it may read it, and no browser guesses
/// what it is.
#[track_caller]
fn check_answer(answer: &Answer, what: &str) {
    let shared = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
    assert!(shared.is_none(), "{what}: {shared:?}");
    assert!(answer.header("set-cookie").is_none(), "{what}: a browser would send a cookie along by itself");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}: {:?}", answer.headers);
    assert!(answer.status < 500, "{what}: {} {}", answer.status, answer.text());
}
