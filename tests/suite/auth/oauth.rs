//! Bearers of identity providers: a scripted one whose clock and moods are ours, and the real `oidc-provider`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::gateway::{ADMIN, Gateway, USER, credentials};
use crate::support::http::Call;
use crate::support::model::echo_config;
use crate::support::server::{Served, answer, serve};
use crate::support::ws::Ws;
use crate::support::{eventually, merged, side_by_side, skipped};

/// Longer than a provider may take.
const LATE: Duration = Duration::from_secs(8);

/// An introspection endpoint that knows some tokens.
struct Introspection {
    served: Served,
    known: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl Introspection {
    fn new() -> Self {
        let known: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let (asked, hangs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (tokens, count, stuck) = (known.clone(), asked.clone(), hangs.clone());
        let served = serve(move |request, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            while stuck.load(Ordering::SeqCst) {
                crate::support::pause(50);
            }
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let token = body.split(['=', '&']).nth(1).unwrap_or_default().to_string();
            let said = tokens.lock().unwrap().get(&token).cloned().unwrap_or(json!({"active": false}));
            answer(stream, 200, &[("Content-Type", "application/json")], said.to_string().as_bytes())
        });
        Introspection { served, known, asked, hangs }
    }

    fn knows(&self, token: &str, changes: Value) {
        let claims = merged(json!({"active": true, "aud": "gatelet", "exp": now_s() + 600}), changes);
        self.known.lock().unwrap().insert(token.into(), claims);
    }

    fn provider(&self) -> Value {
        json!({"name": "home", "introspectionUrl": format!("http://127.0.0.1:{}/i", self.served.port), "clientId": "gatelet",
            "clientSecret": "canary-client-secret", "audience": "gatelet", "roles": [{"claim": "groups", "equals": "ops", "role": "operator"}]})
    }

    fn gateway(&self) -> Gateway {
        let auth = merged(credentials(), json!({"oauthProviders": [self.provider()]}));
        Gateway::start(merged(echo_config(), json!({"gateway": {"auth": auth}, "users": {"ana": {"home": "77"}}})))
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn me(gateway: &Gateway, token: &str) -> Call {
    gateway.call("GET", "/api/me").token(token).patience(LATE)
}

#[test]
fn who_comes_by_an_identity_provider() {
    let idp = Introspection::new();
    let gateway = idp.gateway();
    let mut ana = Ws::join(&gateway, USER);
    ana.say("c1", "hi");
    ana.until("message");
    for (sub, groups, id, role) in [
        ("1", json!([]), "1", "user"),
        ("2", json!(["ops"]), "2", "operator"),
        ("admin", json!(["admin"]), "home:admin", "user"),
        ("op", json!(null), "home:op", "user"),
        ("ana", json!("user"), "home:ana", "user"),
        ("77", json!([]), "ana", "user"),
    ] {
        let token = format!("canary-token-{sub}");
        idp.knows(&token, json!({"sub": sub, "groups": groups}));
        let said = me(&gateway, &token).send().expect(200).json();
        assert_eq!((&said["userId"], &said["role"]), (&json!(id), &json!(role)), "{said}");
        let may = if role == "operator" { 200 } else { 403 };
        gateway.call("GET", "/api/channels").token(&token).send().expect(may);
        gateway.call("GET", "/api/config").token(&token).send().expect_error(403, "forbidden");
        // Ana's own session is there for her and for operators, for nobody who is merely called like her.
        let sees = if id == "ana" || role == "operator" { 200 } else { 404 };
        gateway.call("GET", "/api/sessions/ana").token(&token).send().expect(sees);
    }
    assert_eq!(idp.asked.load(Ordering::SeqCst), 6, "each token was asked about once");
    // The role is asked for before anything else, also where the first request of a token is the forbidden one.
    idp.knows("canary-token-first", json!({"sub": "9"}));
    gateway.call("PATCH", "/api/config").token("canary-token-first").json(&json!({})).send().expect_error(403, "forbidden");
    me(&gateway, "canary-token-none").send().expect_error(401, "unauthorized");
    // A webhook's bearer is the channel's own: no identity provider sees it.
    let asked = idp.asked.load(Ordering::SeqCst);
    let hook = gateway.call("POST", "/webhook/default").token("canary-token-hook").json(&json!({"message": "hi", "userId": "u"}));
    hook.send().expect(401);
    assert_eq!(idp.asked.load(Ordering::SeqCst), asked);
    let shown =
        gateway.get("/api/config").text() + &gateway.get("/api/logs").text() + &gateway.get("/api/audit").text() + &gateway.log();
    assert!(!shown.contains("canary"), "a token or the client's secret is shown");
}

#[test]
fn a_provider_that_hangs_lets_nobody_in_and_holds_up_nobody() {
    let idp = Introspection::new();
    let gateway = idp.gateway();
    idp.knows("in", json!({"sub": "1"}));
    me(&gateway, "in").send().expect(200);
    idp.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let strangers = side_by_side(9, |i| {
        if i < 8 {
            let refused = me(&gateway, &format!("new{i}")).send().expect_error(503, "unavailable");
            return assert!(refused.header("retry-after").is_some());
        }
        crate::support::pause(300);
        for _ in 0..20 {
            let asked = Instant::now();
            me(&gateway, ADMIN).send().expect(200);
            gateway.get("/api/channels").expect(200);
            me(&gateway, "in").send().expect(200);
            assert!(asked.elapsed() < Duration::from_secs(1), "held up for {:?}", asked.elapsed());
        }
    });
    assert_eq!(strangers.len(), 9);
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    idp.hangs.store(false, Ordering::SeqCst);
    idp.knows("later", json!({"sub": "2"}));
    eventually("the provider is asked again", 10, || (me(&gateway, "later").send().status == 200).then_some(()));
}

#[test]
fn a_websocket_lasts_as_long_as_its_token_and_its_provider() {
    let idp = Introspection::new();
    let gateway = idp.gateway();
    idp.knows("long", json!({"sub": "1"}));
    idp.knows("short", json!({"sub": "2", "exp": now_s() + 4}));
    let mut by_header = Ws::join(&gateway, "long");
    let mut by_frame = Ws::open(&gateway, &[]);
    by_frame.send(json!({"type": "auth", "token": "long"}));
    assert_eq!(by_frame.until("ready")["userId"], "1");
    let mut short = Ws::join(&gateway, "short");
    // As much may be said as by anybody else.
    short.say("c1", &"x".repeat(20_000));
    assert_eq!(short.close_code(Duration::from_secs(6)), Some(4401), "its token has ended");
    let mut nobody = Ws::open(&gateway, &[("Authorization", "Bearer nobodys")]);
    assert_eq!(nobody.until("error")["status"], 401);
    assert_eq!(nobody.close_code(LATE), Some(1008));
    assert!(Ws::dial(&gateway, &[("Authorization", "Bearer nobodys")]).is_err(), "known now, before the upgrade");
    by_header.say("c1", "hi");
    assert_eq!(by_header.until("message")["message"], "echo: hi");

    let patch = json!({"gateway": {"auth": {"oauthProviders": []}}});
    gateway.call("PATCH", "/api/config").token(ADMIN).json(&patch).send().expect(200);
    for ws in [&mut by_header, &mut by_frame] {
        assert_eq!(ws.close_code(Duration::from_secs(2)), Some(4401));
    }
    me(&gateway, "long").send().expect_error(401, "unauthorized");
}

/// The real provider; ends when its standard input closes.
struct Oidc {
    child: Child,
    issuer: String,
    port: u16,
}

impl Oidc {
    /// `None`, said loudly, where it is not installed here.
    fn start() -> Option<Self> {
        let Some(folder) = std::env::var_os("GATELET_OIDC_PROVIDER") else {
            skipped("oidc-provider: GATELET_OIDC_PROVIDER names no folder that it is installed in");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc_provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its issuer");
        let issuer = line.trim().to_string();
        let port = issuer.rsplit(':').next().and_then(|p| p.parse().ok()).expect("its port");
        Some(Oidc { child, issuer, port })
    }

    fn form(&self, path: &str, client: &str, fields: &str) -> Value {
        let basic = match client {
            "panel" => "cGFuZWw6YS1zZWNyZXQtb2YtdGhpcy1ydW4=",
            _ => "b3BhcXVlOmEtc2VjcmV0LW9mLXRoaXMtcnVu",
        };
        let call = Call::new(self.port, "POST", path).header("Authorization", &format!("Basic {basic}"));
        let sent = call.header("Content-Type", "application/x-www-form-urlencoded").body(fields).send().expect(200);
        if sent.body.is_empty() { Value::Null } else { sent.json() }
    }

    fn token(&self, client: &str, scope: &str) -> String {
        let fields = format!("grant_type=client_credentials&scope={scope}&resource=urn:gatelet");
        self.form("/token", client, &fields)["access_token"].as_str().expect("a token").to_string()
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        let _ = self.child.stdin.take().map(|mut i| i.flush());
        let _ = self.child.wait();
    }
}

#[test]
fn the_real_provider() {
    let Some(oidc) = Oidc::start() else { return };
    let provider = json!({"name": "oidc", "issuer": oidc.issuer, "clientId": "gateway", "clientSecret": "a-secret-of-this-run",
        "audience": "urn:gatelet", "userIdClaim": "client_id", "roles": [{"claim": "scope", "equals": "ES256", "role": "operator"}]});
    let auth = merged(credentials(), json!({"mode": "oauth", "oauthProviders": [provider]}));
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"auth": auth, "cache": {"ttl": 500}}})));
    for (client, scope, role) in
        [("panel", "RS256", "user"), ("panel", "ES256", "operator"), ("panel", "EdDSA", "user"), ("opaque", "ES256", "operator")]
    {
        let token = oidc.token(client, scope);
        assert_eq!(token.contains('.'), client == "panel");
        let said = me(&gateway, &token).send().expect(200).json();
        assert_eq!((&said["userId"], &said["role"]), (&json!(client), &json!(role)), "{scope}");
        let mut ws = Ws::join(&gateway, &token);
        ws.say(scope, "hi");
        assert_eq!(ws.until("message")["message"], "echo: hi");
        // Another signature, another token.
        let last = if token.ends_with('A') { 'B' } else { 'A' };
        let wrong = format!("{}{last}{}", &token[..token.len() - 10], &token[token.len() - 9..]);
        if wrong != token {
            me(&gateway, &wrong).send().expect_error(401, "unauthorized");
        }
    }
    let token = oidc.token("opaque", "RS256");
    me(&gateway, &token).send().expect(200);
    oidc.form("/token/revocation", "opaque", &format!("token={token}"));
    eventually("a revoked token is over with the answer about it", 5, || {
        (me(&gateway, &token).send().status == 401).then_some(())
    });
}
