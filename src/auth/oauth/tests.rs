//! Providers that say what they are told to, over real sockets: who is let in, who never is, and how often anybody is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicI64};

use serde_json::{Value, json};

use super::*;
use crate::auth::{Authenticator, Login};
use crate::base::secret::Secret;
use crate::config::{AuthMode, NamedToken, OauthProvider, OauthRole};
use crate::net::scripted::{Scripted, answer, hang};

mod signed;

const NOW_S: i64 = 1_800_000_000;
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn provider(change: impl FnOnce(&mut OauthProvider)) -> OauthProvider {
    let role = |equals: &str, role| OauthRole { claim: "groups".into(), equals: equals.into(), role };
    let mut provider = OauthProvider {
        name: "home".into(),
        issuer: None,
        introspection_url: None,
        userinfo_url: None,
        client_id: Some("gate let".into()),
        client_secret: Some(Secret::new("s%cret")),
        audience: None,
        user_id_claim: "sub".into(),
        roles: vec![role("root", Role::Admin), role("ops", Role::Operator)],
        users: BTreeMap::from([("77".to_string(), "ana".to_string())]),
        taken: BTreeSet::from(["admin", "panel", "ana"].map(str::to_string)),
        is_first: true,
    };
    change(&mut provider);
    provider
}

fn auth(providers: Vec<OauthProvider>) -> Auth {
    let tokens = vec![NamedToken { name: "panel".into(), role: Role::Operator, token: Secret::new("panel-token-0123456789") }];
    let cache = CacheSettings { ttl: Duration::from_secs(300), max_entries: 8 };
    Auth { mode: AuthMode::Token, token: None, tokens, oauth_providers: providers, cache }
}

fn introspecting(url: String, change: impl FnOnce(&mut OauthProvider)) -> OauthProvider {
    provider(|p| {
        p.introspection_url = Some(url);
        change(p);
    })
}

fn clock() -> Clock {
    Clock::manual(NOW_S * 1000)
}

fn shown(login: Login) -> String {
    match login {
        Login::Principal(p) => format!("{} {}", p.id, p.role.as_str()),
        other => format!("{other:?}").split('(').next().unwrap().to_string(),
    }
}

fn ok(body: &Value) -> String {
    answer("200 OK", "application/json", &body.to_string())
}

/// What one introspection's answer makes of a token.
#[track_caller]
fn introspected(said: &str, expected: &str) {
    let said_now = said.to_string();
    let peer = Scripted::says(said_now);
    let config = introspecting(peer.url("/introspect"), |p| p.audience = Some("gatelet".into()));
    let authenticator = Authenticator::new(&auth(vec![config]), clock());
    assert_eq!(shown(authenticator.login(Some("opaque"), HOME)), "Unknown");
    assert_eq!(shown(authenticator.ask("opaque", HOME)), expected, "{}", &said[..said.len().min(300)]);
    let asked = &peer.seen()[0];
    assert_eq!(asked.line, "POST /introspect HTTP/1.1");
    assert_eq!(asked.body, "token=opaque&token_type_hint=access_token");
    assert_eq!(asked.header("authorization"), Some("Basic Z2F0ZSUyMGxldDpzJTI1Y3JldA=="));
}

#[test]
fn what_introspection_says() {
    let good = json!({"active": true, "sub": "1", "aud": "gatelet", "exp": NOW_S + 60});
    let with = |changes: Value| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        ok(&claims)
    };
    for (changes, expected) in [
        (json!({}), "1 user"),
        (json!({"aud": ["other", "gatelet"]}), "1 user"),
        (json!({"exp": null}), "1 user"),
        (json!({"exp": NOW_S as f64 + 1.5}), "1 user"),
        (json!({"groups": ["x", "ops"]}), "1 operator"),
        (json!({"groups": ["ops", "root"]}), "1 admin"),
        (json!({"groups": "ops"}), "1 operator"),
        (json!({"groups": "ops root"}), "1 user"),
        (json!({"groups": {"ops": true}}), "1 user"),
        (json!({"groups": [["ops"]]}), "1 user"),
        (json!({"role": "admin", "scope": "admin", "groups": null}), "1 user"),
        // Nobody else's identity by one's own choice of a subject.
        (json!({"sub": "tg:7"}), "home:tg:7 user"),
        (json!({"sub": "panel"}), "home:panel user"),
        (json!({"sub": "admin"}), "home:admin user"),
        (json!({"sub": "ana"}), "home:ana user"),
        // Unless `users` says so.
        (json!({"sub": "77"}), "ana user"),
        (json!({"active": false}), "Wrong"),
        (json!({"active": "true"}), "Wrong"),
        (json!({"active": null}), "Wrong"),
        (json!({"exp": NOW_S}), "Wrong"),
        (json!({"exp": NOW_S - 1}), "Wrong"),
        (json!({"exp": "soon"}), "Wrong"),
        (json!({"exp": i64::MIN}), "Wrong"),
        (json!({"nbf": NOW_S + 61}), "Wrong"),
        (json!({"nbf": NOW_S + 59}), "1 user"),
        (json!({"iat": NOW_S + 3600}), "Wrong"),
        (json!({"aud": "other"}), "Wrong"),
        (json!({"aud": "gatelet2"}), "Wrong"),
        (json!({"aud": null}), "Wrong"),
        (json!({"aud": []}), "Wrong"),
        (json!({"sub": null}), "Wrong"),
        (json!({"sub": ""}), "Wrong"),
        (json!({"sub": " "}), "Wrong"),
        (json!({"sub": 1}), "Wrong"),
        (json!({"sub": "a\nb"}), "Wrong"),
        (json!({"sub": "x".repeat(257)}), "Wrong"),
        (json!({"junk": "x".repeat(70_000)}), "Unavailable"),
    ] {
        introspected(&with(changes), expected);
    }
    for (said, expected) in [
        (answer("200 OK", "application/json", "[]"), "Unavailable"),
        (answer("200 OK", "application/json", ""), "Unavailable"),
        (answer("200 OK", "text/html", "<p>hello"), "Unavailable"),
        (answer("401 Unauthorized", "application/json", "{\"active\":true,\"sub\":\"1\",\"aud\":\"gatelet\"}"), "Unavailable"),
        (answer("429 Too Many Requests", "text/plain", ""), "Unavailable"),
        (answer("500 Oops", "text/plain", ""), "Unavailable"),
        (answer("201 Created", "application/json", &good.to_string()), "Unavailable"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{\"active\":true".into(), "Unavailable"),
        (String::new(), "Unavailable"),
    ] {
        if !said.is_empty() {
            introspected(&said, expected);
        }
    }
}

#[test]
fn what_userinfo_says() {
    let person = ok(&json!({"sub": "1", "email": "a@b.example", "groups": ["ops"]}));
    for (said, audience, expected) in [
        (person.clone(), false, "1 operator"),
        (person.clone(), true, "Wrong"),
        (answer("401 Unauthorized", "text/plain", ""), false, "Wrong"),
        (answer("403 Forbidden", "text/plain", ""), false, "Wrong"),
        (answer("404 Not Found", "text/plain", ""), false, "Unavailable"),
        (answer("502 Bad Gateway", "text/plain", ""), false, "Unavailable"),
    ] {
        let peer = Scripted::says(said.clone());
        let config = provider(|p| {
            p.userinfo_url = Some(peer.url("/me"));
            p.audience = audience.then(|| "gatelet".into());
        });
        let authenticator = Authenticator::new(&auth(vec![config]), clock());
        assert_eq!(shown(authenticator.ask("opaque", HOME)), expected, "{said}");
        let bearers: Vec<_> = peer.seen().iter().map(|s| s.header("authorization").unwrap().to_string()).collect();
        assert_eq!(bearers, if audience { vec![] } else { vec!["Bearer opaque".to_string()] });
    }
}

#[test]
fn a_credential_is_not_carried_to_where_a_redirect_leads() {
    let elsewhere = Scripted::says(ok(&json!({"active": true, "sub": "1"})));
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url("/"));
    for is_userinfo in [false, true] {
        let peer = Scripted::says(redirect.clone());
        let config = provider(|p| match is_userinfo {
            true => p.userinfo_url = Some(peer.url("/")),
            false => p.introspection_url = Some(peer.url("/")),
        });
        assert_eq!(shown(Authenticator::new(&auth(vec![config]), clock()).ask("opaque", HOME)), "Unavailable");
        assert_eq!((peer.seen().len(), elsewhere.seen().len()), (1, 0));
    }
}

#[test]
fn what_was_said_is_kept_until_it_is_over() {
    let (clock, up) = (clock(), Arc::new(AtomicBool::new(true)));
    let (is_up, ends) = (up.clone(), Arc::new(AtomicI64::new(NOW_S + 900)));
    let end = ends.clone();
    let peer = Scripted::new(move |_, seen, stream| {
        let good = json!({"active": !seen.body.contains("bad"), "sub": "1", "exp": end.load(Ordering::SeqCst)});
        let said = if is_up.load(Ordering::SeqCst) { ok(&good) } else { answer("500 Oops", "text/plain", "") };
        stream.write_all(said.as_bytes()).is_ok()
    });
    let authenticator = Authenticator::new(&auth(vec![introspecting(peer.url("/i"), |_| {})]), clock.clone());
    let ask = |token: &str| (shown(authenticator.ask(token, HOME)), peer.seen().len());
    assert_eq!(ask("good"), ("1 user".into(), 1));
    assert_eq!(ask("good"), ("1 user".into(), 1));
    assert_eq!(shown(authenticator.login(Some("good"), HOME)), "1 user");
    assert_eq!(ask("bad"), ("Wrong".into(), 2));
    assert_eq!(ask("bad"), ("Wrong".into(), 2));
    clock.advance(Duration::from_secs(11));
    assert_eq!(ask("bad"), ("Wrong".into(), 3));
    clock.advance(Duration::from_secs(300));
    assert_eq!(ask("good"), ("1 user".into(), 4), "cache.ttl is over");

    up.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(300));
    assert_eq!(ask("good"), ("1 user".into(), 5), "who was let in goes on");
    assert_eq!(ask("new"), ("Unavailable".into(), 5), "and the provider is left alone for a moment");
    clock.advance(Duration::from_secs(3));
    assert_eq!(ask("new"), ("Unavailable".into(), 6));
    clock.advance(Duration::from_secs(286));
    assert_eq!(ask("good"), ("Unavailable".into(), 7), "the token itself has ended");

    up.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(3));
    assert_eq!(ask("good").0, "Wrong");
    ends.store(NOW_S + 9000, Ordering::SeqCst);
    clock.advance(Duration::from_secs(11));
    assert_eq!(ask("good").0, "1 user");
    for i in 0..50 {
        ask(&format!("token {i}").replace(' ', "-"));
    }
    let oauth = authenticator.table.get().oauth.clone().unwrap();
    assert!(oauth.said.len() <= 8 && oauth.let_in.len() <= 8);
}

#[test]
fn parallel_questions_are_one() {
    let peer = Scripted::new(|_, _, stream| {
        crate::net::scripted::pause(100);
        stream.write_all(ok(&json!({"active": true, "sub": "1"})).as_bytes()).is_ok()
    });
    let authenticator = Authenticator::new(&auth(vec![introspecting(peer.url("/i"), |_| {})]), Clock::system());
    std::thread::scope(|s| {
        for _ in 0..20 {
            s.spawn(|| assert_eq!(shown(authenticator.ask("good", HOME)), "1 user"));
        }
    });
    assert_eq!(peer.seen().len(), 1);
}

#[test]
fn a_provider_that_hangs_is_waited_for_so_long_and_no_longer() {
    let peer = Scripted::new(|_, _, _| {
        hang();
        false
    });
    let clock = Clock::system();
    let authenticator = Authenticator::new(&auth(vec![introspecting(peer.url("/i"), |_| {})]), clock.clone());
    assert_eq!(shown(authenticator.ask("good", HOME)), "Unavailable");
    let took = clock.mono();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(shown(authenticator.login(Some("good"), HOME)), "Unavailable");
    assert!(clock.mono() - took < Duration::from_secs(1));
}

#[test]
fn guesses_are_failed_logins_and_stop_being_asked_about() {
    let peer = Scripted::new(|_, _, stream| stream.write_all(ok(&json!({"active": false})).as_bytes()).is_ok());
    let authenticator = Authenticator::new(&auth(vec![introspecting(peer.url("/i"), |_| {})]), clock());
    let said: Vec<_> = (0..15).map(|i| shown(authenticator.ask(&format!("guess{i}"), HOME))).collect();
    assert_eq!(said.iter().filter(|s| *s == "Wrong").count(), 10);
    assert_eq!(said.iter().filter(|s| *s == "TooMany").count(), 5);
    assert_eq!(peer.seen().len(), 10);
    assert_eq!(shown(authenticator.login(Some("panel-token-0123456789"), HOME)), "panel operator");
    let long = "x".repeat(20_000);
    for never_one in ["", "a b", "a\u{1}", "ä", &long] {
        assert_eq!(shown(authenticator.ask(never_one, "10.0.0.1".parse().unwrap())), "Wrong");
    }
    assert_eq!(peer.seen().len(), 10);
}

#[test]
fn one_is_asked_after_the_other_and_nobody_is_let_in_for_silence() {
    let good = ok(&json!({"active": true, "sub": "1"}));
    let bad = ok(&json!({"active": false}));
    let down = answer("500 Oops", "text/plain", "");
    for (first, second, expected) in [
        (&good, &good, "1 user"),
        (&bad, &good, "work:1 user"),
        (&down, &good, "work:1 user"),
        (&down, &bad, "Unavailable"),
        (&bad, &down, "Unavailable"),
        (&bad, &bad, "Wrong"),
    ] {
        let (a, b) = (Scripted::says(first.clone()), Scripted::says(second.clone()));
        let providers =
            vec![introspecting(a.url("/"), |_| {}), introspecting(b.url("/"), |p| (p.name, p.is_first) = ("work".into(), false))];
        assert_eq!(shown(Authenticator::new(&auth(providers), clock()).ask("opaque", HOME)), expected);
    }
}

#[test]
fn a_reload_keeps_what_was_said_or_ends_it() {
    let peer = Scripted::new(|_, _, stream| {
        stream.write_all(ok(&json!({"active": true, "sub": "1", "groups": ["ops"]})).as_bytes()).is_ok()
    });
    let config = introspecting(peer.url("/i"), |_| {});
    let authenticator = Authenticator::new(&auth(vec![config.clone()]), clock());
    let Login::Principal(principal) = authenticator.ask("good", HOME) else { panic!() };
    authenticator.replace(&auth(vec![config.clone()]));
    assert!(authenticator.still_good(&principal));
    assert_eq!(authenticator.role_of("1"), Some(Role::Operator));
    assert_eq!((authenticator.named_role_of("1"), authenticator.role_of("ana")), (None, None));
    assert_eq!((shown(authenticator.login(Some("good"), HOME)), peer.seen().len()), ("1 operator".into(), 1));
    let lesser = |p: &mut OauthProvider| p.roles.clear();
    let other_secret = |p: &mut OauthProvider| p.client_secret = Some(Secret::new("other"));
    for change in [lesser as fn(&mut OauthProvider), other_secret] {
        let mut changed = config.clone();
        change(&mut changed);
        authenticator.replace(&auth(vec![changed]));
        assert!(!authenticator.still_good(&principal));
        assert_eq!(shown(authenticator.login(Some("good"), HOME)), "Unknown");
    }
    authenticator.replace(&auth(vec![]));
    assert!(!authenticator.still_good(&principal));
    assert_eq!(shown(authenticator.login(Some("good"), HOME)), "Wrong");
}
