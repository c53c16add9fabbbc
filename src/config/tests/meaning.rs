//! Good documents: what they mean, how they are shown, what changes between two of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CANARY, EXAMPLE, World, lines, read};
use crate::base::secret::Secret;
use crate::config::*;
use crate::domain::Role;

#[test]
fn nothing_configured() {
    for text in ["{}", EXAMPLE, r#"{"$schema": "x", "channels": {}, "agents": {}, "tools": {"shell": null}}"#] {
        let resolved = read(text).unwrap();
        let config = &resolved.config;
        assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8787");
        assert_eq!((config.gateway.auth.mode, resolved.token), (AuthMode::Token, TokenSource::ToMake));
        assert!(config.gateway.auth.token.is_none() && config.gateway.auth.tokens.is_empty());
        let limit = RateLimit { window: Duration::from_secs(60), max_requests: 100, per_user: true };
        assert_eq!(config.gateway.rate_limit, Some(limit));
        assert_eq!(config.gateway.limits.max_body_bytes, 1_048_576);
        assert_eq!(config.gateway.workers, Workers { http: 4, turns: 4, deliveries: 2 });
        assert_eq!(config.gateway.local_socket.as_deref(), Some("/data/gatelet.sock".as_ref()));
        assert_eq!((config.store.retention, config.store.write_budget), (Retention::default(), Some(1 << 30)));
        assert_eq!(config.store.path, std::path::Path::new("/data/gatelet.db"));
        assert_eq!(config.channels.keys().collect::<Vec<_>>(), ["default"]);
        assert!(config.channels["default"].enabled);
        assert_eq!(config.agents.keys().collect::<Vec<_>>(), ["main"]);
        let main = &config.agents["main"];
        assert!(main.provider.is_none() && main.model == "auto" && main.system_prompt.len() <= 300, "{main:?}");
        let all = Binding { channel: "*".into(), user: "*".into(), agent: "main".into() };
        assert_eq!(config.bindings.last(), Some(&all));
    }
}

#[test]
fn the_webhook_default_is_always_there() {
    let door = read(r#"{"channels": {"door": {"type": "webhook"}}}"#).unwrap().config;
    assert_eq!(door.channels.keys().collect::<Vec<_>>(), ["default", "door"]);
    let off =
        read(r#"{"channels": {"default": {"type": "webhook", "enabled": false, "token": "0123456789abcdef"}}}"#).unwrap().config;
    assert!(!off.channels["default"].enabled);
    let ChannelKind::Webhook(webhook) = &off.channels["default"].kind else { panic!() };
    assert!(webhook.token.is_none(), "what is switched off fetches no secrets");
}

#[test]
fn a_whole_document() {
    let world = World::default()
        .var("PANEL_TOKEN", "panel-token-0123456789")
        .file("door.key", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\r\n");
    let doc = json!({
        "gateway": {"listen": "localhost:0", "auth": {"token": "literal-token-0123", "tokens": [{"name": "panel", "role": "operator", "token": {"env": "PANEL_TOKEN"}}]},
            "rateLimit": {"enabled": false}, "localSocket": null, "allowedHosts": ["Pi.Home:80"], "allowedOrigins": ["HTTPS://Panel.example/"], "trustedProxies": ["10.0.0.0/8"]},
        "users": {"ana": {"telegram": "123", "matrix": "@ana:home"}},
        "channels": {"door": {"type": "webhook", "secret": {"file": "door.key"}, "replyUrl": "http://127.0.0.1:9/hook/", "messagePath": "/a/b"},
            "tg": {"type": "telegram", "enabled": false, "token": {"env": "UNSET"}}},
        "providers": {"zeta": {"type": "openai", "baseUrl": "http://127.0.0.1:8080/v1/", "apiKey": null}, "alpha": {"type": "builtin", "chunkTimeout": 5}},
        "agents": {"zoe": {"enabled": false}, "bob": {"fallbacks": ["alpha"], "maxOutputTokens": 7}},
        "bindings": [{"channel": "tg", "agent": "zoe"}, {"channel": "default", "user": "ana", "agent": "bob"}],
        "store": {"path": "/var/x.db"}, "log": {"level": "debug", "format": "json"}
    });
    let resolved = world.resolve(&doc).unwrap();
    let config = &resolved.config;
    let auth = &config.gateway.auth;
    assert!(auth.token.as_ref().is_some_and(|t| t.matches("literal-token-0123")) && resolved.token == TokenSource::Configured);
    assert!(auth.tokens[0].token.matches("panel-token-0123456789") && auth.tokens[0].role == Role::Operator);
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:0");
    assert_eq!((config.gateway.rate_limit, &config.gateway.local_socket), (None, &None));
    assert_eq!(
        (config.gateway.allowed_hosts.join(""), config.gateway.allowed_origins.join("")),
        ("pi.home:80".into(), "https://panel.example".into())
    );
    assert_eq!(config.users["ana"]["matrix"], "@ana:home");
    let ChannelKind::Webhook(door) = &config.channels["door"].kind else { panic!() };
    assert!(door.secret.as_ref().is_some_and(|s| s.matches("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")), "the newline is left out");
    assert_eq!(door.reply_url.as_deref(), Some("http://127.0.0.1:9/hook"));
    let ChannelKind::Off(kind) = config.channels["tg"].kind else { panic!("its secret is not fetched") };
    assert_eq!(kind, "telegram");
    assert_eq!(config.providers["zeta"].base_url, "http://127.0.0.1:8080/v1");
    assert_eq!(config.providers["alpha"].chunk_timeout, Duration::from_millis(5));
    assert_eq!(config.agents["bob"].provider.as_deref(), Some("zeta"), "the first in the document, not in the alphabet");
    assert_eq!(config.bindings.last().unwrap().agent, "bob", "the first agent that is switched on");
    assert_eq!((config.store.path.to_str(), config.log.level), (Some("/var/x.db"), ::log::LevelFilter::Debug));
}

#[test]
fn the_admins_token() {
    let kept = World::default().file("token", "kept-token-0123456789\n");
    for doc in [
        json!({}),
        json!({"gateway": {"auth": {"token": {"file": "token"}}}}),
        json!({"gateway": {"auth": {"token": {"file": "/data/token"}}}}),
    ] {
        let mut fresh = World::default().resolve(&doc).unwrap();
        assert_eq!((fresh.token, fresh.config.gateway.auth.token.is_none()), (TokenSource::ToMake, true), "{doc}");
        let resolved = kept.resolve(&doc).unwrap();
        assert!(
            resolved.token == TokenSource::Kept
                && resolved.config.gateway.auth.token.as_ref().is_some_and(|t| t.matches("kept-token-0123456789"))
        );
        fresh.set_token(Secret::new("kept-token-0123456789"));
        assert!(diff(&resolved, &fresh).is_empty(), "a made token is the kept one");
        assert_eq!(resolved.effective().pointer("/gateway/auth/token"), Some(&json!("***")));
        let found = lines(World::default().file("token", "short\n").resolve(&doc).unwrap_err());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("$.gateway.auth.token: the file \"token\" holds 5 characters"), "{found:?}");
    }
    let other = lines(World::default().resolve(&json!({"gateway": {"auth": {"token": {"file": "other"}}}})).unwrap_err());
    assert_eq!(other, ["$.gateway.auth.token: the file \"other\" does not exist in the data directory"]);
    let none = kept.resolve(&json!({"gateway": {"auth": {"mode": "none", "token": {"env": "UNSET"}}}})).unwrap();
    assert_eq!((none.token, none.config.gateway.auth.token.is_none()), (TokenSource::NotNeeded, true));
}

/// The example of the contract, which shows all sections: with its two variables set it works.
#[test]
fn all_sections_at_once() {
    let text = r#"{
        "gateway": {
            "listen": "127.0.0.1:8787",
            "auth": {"mode": "token", "token": {"file": "token"}, "tokens": [{"name": "panel", "role": "operator", "token": {"env": "PANEL_TOKEN"}}], "oauthProviders": []},
            "rateLimit": {"enabled": true, "window": 60000, "maxRequests": 100, "perUser": true},
            "heartbeat": {"interval": 30000}, "retry": {"maxRetries": 3, "delay": 1000}, "pool": {"maxSize": 10},
            "cache": {"ttl": 300000, "maxEntries": 1024},
            "limits": {"maxConnections": 256, "maxWebSockets": 1024, "maxHeaderBytes": 16384, "maxBodyBytes": 1048576, "requestTimeout": 10000, "idleTimeout": 60000, "maxMemory": 134217728},
            "workers": {"http": 4, "turns": 4, "deliveries": 2}, "shutdown": {"drainTimeout": 30000},
            "localSocket": "gatelet.sock", "allowedHosts": [], "allowedOrigins": [], "trustedProxies": []
        },
        "users": {"ana": {"telegram": "123", "matrix": "@ana:home"}},
        "channels": {"door": {"type": "webhook", "secret": {"env": "DOOR_SECRET"}, "replyUrl": null}},
        "providers": {"local": {"type": "openai", "baseUrl": "http://127.0.0.1:8080/v1", "apiKey": null}},
        "agents": {"main": {"provider": "local", "model": "auto", "fallbacks": [], "systemPrompt": "...", "maxHistory": 40}},
        "bindings": [{"channel": "door", "user": "*", "agent": "main"}],
        "tools": {"default": "ask", "rules": [{"tool": "time.*", "action": "allow"}], "mcp": {}},
        "jobs": [], "store": {"path": "gatelet.db"}, "log": {"level": "info", "format": "auto"}
    }"#;
    let doc = parse(text.as_bytes()).unwrap();
    let world = World::default().var("PANEL_TOKEN", "panel-token-0123456789").var("DOOR_SECRET", "door-secret-0123456789");
    let resolved = world.resolve(&doc).unwrap();
    assert_eq!(resolved.token, TokenSource::ToMake);
    // All that is written there are defaults, or shown as they are written.
    let mut expected = resolved.effective();
    merge(&mut expected, &doc);
    for (at, shown) in [
        ("/gateway/auth/token", json!("***")),
        ("/gateway/auth/tokens/0/token", json!("***")),
        ("/channels/door/secret", json!("***")),
        ("/channels/door/replyUrl", Value::Null),
        ("/providers/local/apiKey", Value::Null),
        (
            "/tools/rules",
            json!([{"tool": "time.*", "action": "allow", "agent": null, "channel": null, "user": null, "role": null, "arguments": {}}]),
        ),
    ] {
        let (parent, name) = at.rsplit_once('/').unwrap();
        expected.pointer_mut(parent).unwrap()[name] = shown;
    }
    assert_eq!(resolved.effective(), expected);
    let missing = lines(World::default().resolve(&doc).unwrap_err());
    assert_eq!(missing.len(), 2, "{missing:?}");
}

/// A document with a secret at every place where one can be.
fn secretive() -> Value {
    let secret = |n: u8| format!("{CANARY}-{n}");
    json!({
        "gateway": {"auth": {"token": secret(0), "tokens": [
            {"name": "a", "role": "user", "token": secret(1)}, {"name": "b", "role": "user", "token": {"env": "B"}}]}},
        "channels": {"door": {"type": "webhook", "secret": secret(2), "token": secret(3), "replySecret": {"file": "reply"}, "replyUrl": "http://a.example/"},
            "tg": {"type": "telegram", "token": secret(4), "enabled": false},
            "mx": {"type": "matrix", "homeserver": "h", "userId": "u", "accessToken": secret(5), "password": secret(6), "enabled": false},
            "mq": {"type": "mqtt", "url": "mqtt://a", "password": secret(7), "enabled": false},
            "sl": {"type": "slack", "appToken": secret(8), "botToken": secret(9), "enabled": false}},
        "providers": {"p": {"type": "openai", "baseUrl": "http://a.example", "apiKey": secret(10)}},
        "tools": {"mcp": {"files": {"command": "/bin/x", "env": {"KEY": secret(11), "B": {"env": "B"}}},
            "web": {"url": "http://a.example/mcp", "token": secret(12)}}}
    })
}

fn secretive_world() -> World {
    World::default().var("B", &format!("{CANARY}-b")).file("reply", format!("{CANARY}-reply"))
}

#[test]
fn no_secret_is_ever_seen() {
    let resolved = secretive_world().resolve(&secretive()).unwrap();
    let mut shown = format!("{resolved:?} {} {:?}", resolved.effective(), diff(&resolved, &read("{}").unwrap()));
    // Every document with one more mistake in it.
    for at in ["/gateway", "/channels/door", "/providers/p", "/gateway/auth/tokens/0", "/tools/mcp/files", "/tools/mcp/web"] {
        let mut doc = secretive();
        doc.pointer_mut(at).unwrap()["mistake"] = CANARY.into();
        shown += &format!("{:?}", secretive_world().resolve(&doc).unwrap_err());
        shown += &format!("{:?}", restore(&doc, &json!({"log": "***"})).map(drop));
        shown += &format!("{:?}", restore(&json!({"log": "***"}), &doc));
    }
    // Every secret where it is unfit: too short, doubled.
    let text = secretive().to_string();
    for doc in
        [text.replace(CANARY, "canary"), text.replace("-1\"", "-0\""), text.replace("{\"env\":\"B\"}", "{\"env\":\"UNSET\"}")]
    {
        shown += &format!("{:?}", secretive_world().resolve(&parse(doc.as_bytes()).unwrap()).unwrap_err());
    }
    shown += &format!("{:?}", parse(text.replace("\"door\"", "\"door").as_bytes()).unwrap_err());
    assert!(shown.len() > 10_000 && !shown.contains("canary-"), "{shown}");
}

#[test]
fn redaction_there_and_back() {
    let (doc, world) = (secretive(), secretive_world());
    let before = world.resolve(&doc).unwrap();
    let back = restore(&before.effective(), &doc).unwrap();
    let after = world.resolve(&back).unwrap();
    assert!(diff(&before, &after).is_empty() && before.effective() == after.effective());
    assert_eq!(back.pointer("/channels/door/replySecret"), Some(&json!({"file": "reply"})), "as it was written");
    assert_eq!(back.pointer("/gateway/auth/tokens/1/token"), Some(&json!({"env": "B"})));
    assert_eq!(before.effective().pointer("/tools/mcp/files/env"), Some(&json!({"KEY": "***", "B": "***"})));
    for at in ["/tools/mcp/files/env", "/tools/mcp/web/token"] {
        assert_eq!(back.pointer(at), doc.pointer(at));
    }
    assert_eq!(forbidden_over_http(&doc, &back), None, "what was read may be sent back");

    // Tokens are known by their names, whatever their order.
    let mut swapped = before.effective();
    swapped.pointer_mut("/gateway/auth/tokens").unwrap().as_array_mut().unwrap().reverse();
    let swapped = restore(&swapped, &doc).unwrap();
    assert_eq!(swapped.pointer("/gateway/auth/tokens/0"), Some(&json!({"name": "b", "role": "user", "token": {"env": "B"}})));

    // The token that the gateway made is no part of the document.
    let fresh = read("{}").unwrap();
    let back = restore(&fresh.effective(), &json!({})).unwrap();
    assert_eq!(back.pointer("/gateway/auth").unwrap().get("token"), None);
    assert!(diff(&fresh, &World::default().resolve(&back).unwrap()).is_empty());
}

#[test]
fn redaction_that_stands_for_nothing() {
    for (new, expected) in [
        (
            json!({"channels": {"new": {"type": "webhook", "secret": "***"}}}),
            "$.channels.new.secret: found \"***\", which stands for a secret that is there already, and there is none; give its value",
        ),
        (
            json!({"gateway": {"auth": {"tokens": [{"name": "c", "role": "user", "token": "***"}]}}}),
            "$.gateway.auth.tokens[0].token: found \"***\", which stands for a secret that is there already, and there is none; give its value",
        ),
        (
            json!({"agents": {"main": {"systemPrompt": "***"}}}),
            "$.agents.main.systemPrompt: found \"***\", which stands for a secret; no secret belongs here",
        ),
        (
            json!({"channels": {"door": {"type": "webhook", "secret": {"env": "***"}}}}),
            "$.channels.door.secret.env: found \"***\", which stands for a secret; no secret belongs here",
        ),
        (
            json!({"gateway": {"tokn": ["***"]}}),
            "$.gateway.tokn[0]: found \"***\", which stands for a secret; no secret belongs here",
        ),
        (
            json!({"tools": {"mcp": {"m": {"env": {"KEY": "***"}}}}}),
            "$.tools.mcp.m.env.KEY: found \"***\", which stands for a secret that is there already, and there is none; give its value",
        ),
        (
            json!({"tools": {"mcp": {"files": {"command": "/bin/x", "args": ["***"]}}}}),
            "$.tools.mcp.files.args[0]: found \"***\", which stands for a secret; no secret belongs here",
        ),
        (json!("***"), "$: found \"***\", which stands for a secret; no secret belongs here"),
    ] {
        assert_eq!(lines(restore(&new, &secretive()).unwrap_err()), [expected], "{new}");
    }
    // Two entries of one name: neither is surely meant.
    let twins = json!({"gateway": {"auth": {"tokens": [{"name": "a", "token": "x"}, {"name": "a", "token": "y"}]}}});
    let new = json!({"gateway": {"auth": {"tokens": [{"name": "a", "token": "***"}]}}});
    assert_eq!(restore(&new, &twins).unwrap_err().len(), 1);
}

#[test]
fn changes() {
    let world = World::default().var("A", "secret-a-0123456789").var("B", "secret-b-0123456789");
    let base = json!({
        "gateway": {"auth": {"tokens": [{"name": "a", "role": "user", "token": {"env": "A"}}]}},
        "channels": {"door": {"type": "webhook", "secret": {"env": "A"}}, "gone": {"type": "webhook"}}
    });
    let old = world.resolve(&base).unwrap();
    for (patch, applied, restart) in [
        (json!({}), &[][..], &[][..]),
        (json!({"gateway": {"rateLimit": {"maxRequests": 5}}}), &["gateway.rateLimit.maxRequests"], &[]),
        (json!({"gateway": {"rateLimit": {"maxRequests": 100}}}), &[], &[]), // the default, spelled out
        (
            json!({"gateway": {"listen": "127.0.0.1:1", "workers": {"http": 5}, "localSocket": "other.sock", "heartbeat": {"interval": 50}}, "store": {"path": "x"}}),
            &["gateway.heartbeat.interval"],
            &["gateway.listen", "gateway.localSocket", "gateway.workers.http", "store.path"],
        ),
        (
            json!({"channels": {"gone": null, "new": {"type": "webhook", "token": {"env": "B"}}}}),
            &["channels.gone", "channels.new"],
            &[],
        ),
        (json!({"channels": {"door": {"secret": {"env": "B"}}}}), &["channels.door.secret"], &[]),
        (json!({"channels": {"door": {"secret": "secret-a-0123456789"}}}), &[], &[]), // the same secret, written otherwise
        (json!({"channels": {"door": {"enabled": false}}}), &["channels.door.enabled", "channels.door.secret"], &[]),
        (
            json!({"gateway": {"auth": {"tokens": [{"name": "a", "role": "user", "token": {"env": "B"}}]}}}),
            &["gateway.auth.tokens"],
            &[],
        ),
        (json!({"gateway": {"auth": {"tokens": []}}}), &["gateway.auth.tokens"], &[]),
        (json!({"gateway": {"auth": {"token": "admin-token-0123456789"}}}), &["gateway.auth.token"], &[]),
        (
            json!({"log": {"level": "debug"}, "agents": {"main": {"maxHistory": 1}}}),
            &["agents.main.maxHistory", "log.level"],
            &[],
        ),
    ] {
        let mut doc = base.clone();
        merge(&mut doc, &patch);
        let plan = diff(&old, &world.resolve(&doc).unwrap());
        assert_eq!(
            (
                plan.applied.iter().map(String::as_str).collect::<Vec<_>>().as_slice(),
                plan.restart.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
            ),
            (applied, restart),
            "{patch}"
        );
    }
}

#[test]
fn a_secret_behind_the_same_name_changes() {
    let doc = json!({"channels": {"door": {"type": "webhook", "secret": {"env": "A"}}}});
    let [old, new] = ["first-0123456789", "second-0123456789"].map(|s| World::default().var("A", s).resolve(&doc).unwrap());
    assert_eq!(diff(&old, &new).applied, ["channels.door.secret"]);
    assert_eq!(old.effective(), new.effective());
}
