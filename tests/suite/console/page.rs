//! The console as it is served, without a browser.

use serde_json::json;

use crate::support::gateway::{ADMIN, Gateway, OPERATOR, USER};
use crate::support::merged;
use crate::support::model::echo_config;

#[test]
fn the_page_and_its_files() {
    // However tight the rate limit is: a page comes in many files, and each costs less than a refusal.
    let limit = json!({"gateway": {"rateLimit": {"enabled": true, "maxRequests": 3, "window": 60000}}});
    let gateway = Gateway::start(merged(echo_config(), limit));
    let page = gateway.call("GET", "/").send().expect(200);
    let policy = page.header("content-security-policy").expect("a policy").to_string();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!((page.header("x-frame-options"), page.header("referrer-policy")), (Some("DENY"), Some("no-referrer")));
    let (tag, text) = (page.header("etag").expect("a tag").to_string(), page.text());
    gateway.call("GET", "/").header("If-None-Match", &tag).send().expect(304);
    assert!(!text.contains("<style") && !text.contains("style="), "nothing inline");
    assert_eq!(text.matches("<script").count(), text.matches("<script type=\"module\" src=").count(), "nothing inline");
    let files: Vec<_> = text.split('"').filter(|p| p.starts_with("/console/")).collect();
    assert!(files.len() > 5, "{text}");
    for path in files {
        let file = gateway.call("GET", path).send().expect(200);
        assert!(file.header("cache-control").is_some_and(|c| c.contains("immutable")), "{path}");
        assert_eq!((file.header("x-content-type-options"), file.header("content-encoding")), (Some("nosniff"), Some("deflate")));
        let head = gateway.call("HEAD", path).send().expect(200);
        assert_eq!(head.header("content-length"), file.header("content-length"), "{path}");
    }
    for path in ["/console/000000000000/app.js", "/console/x/../app.js", "/console/", "/app.js"] {
        gateway.call("GET", path).send().expect(404);
    }
}

#[test]
fn who_am_i() {
    let gateway = Gateway::start(echo_config());
    gateway.call("GET", "/api/me").send().expect_error(401, "unauthorized");
    for (token, id, role) in [(ADMIN, "admin", "admin"), (OPERATOR, "op", "operator"), (USER, "ana", "user")] {
        let me = gateway.call("GET", "/api/me").token(token).send().expect(200).json();
        assert_eq!((&me["userId"], &me["role"]), (&json!(id), &json!(role)));
    }
}

#[test]
fn a_dry_run_says_what_a_change_comes_to_and_changes_nothing() {
    let gateway = Gateway::start(echo_config());
    let before = gateway.read_config();
    let ask =
        |method: &str, body: &serde_json::Value| gateway.call(method, "/api/config?dryRun=true").token(ADMIN).json(body).send();
    let patch = json!({"log": {"level": "warn"}, "gateway": {"workers": {"turns": 2}}});
    let plan = ask("PATCH", &patch).expect(200).json();
    assert_eq!((&plan["applied"], &plan["restartRequired"]), (&json!(["log.level"]), &json!(["gateway.workers.turns"])));
    let wrong = ask("PATCH", &json!({"log": {"level": "loud"}, "stor": {}}));
    let wrong = wrong.expect_error(400, "validation_failed").json();
    assert_eq!(wrong["errors"].as_array().map(Vec::len), Some(2), "{wrong}");
    ask("PUT", &merged(before.clone(), patch.clone())).expect(200);
    let stale = gateway.call("PATCH", "/api/config?dryRun=true").token(ADMIN).header("If-Match", "\"stale\"").json(&patch).send();
    stale.expect_error(412, "precondition_failed");
    gateway.call("PATCH", "/api/config?dryRun=maybe").token(ADMIN).json(&patch).send().expect_error(400, "validation_failed");
    gateway.call("PATCH", "/api/config?dryRun=true").token(OPERATOR).json(&patch).send().expect_error(403, "forbidden");
    assert_eq!((gateway.read_config(), &gateway.get("/api/config").json()["log"]["level"]), (before, &json!("info")));
    let done = gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200).json();
    assert_eq!(done, plan, "it does what it said");
}

#[test]
fn the_schema_is_for_those_who_may_change_the_configuration() {
    let gateway = Gateway::start(echo_config());
    let schema = gateway.get("/api/config/schema").expect(200).json();
    assert_eq!(schema["properties"]["log"]["properties"]["level"]["default"], "info");
    gateway.call("GET", "/api/config/schema").token(OPERATOR).send().expect_error(403, "forbidden");
}
