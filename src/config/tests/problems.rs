//! Bad documents and the exact problems that they lead to, all at once.

use serde_json::json;

use super::{CANARY, World, complaints, lines};

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(complaints(text), expected, "{text}");
}

#[test]
fn form() {
    check(
        r#"{"gatway": {}, "gateway": {"listen": 8787, "limits": {"maxBodyBytes": "a lot", "maxBodyByte": 1, "maxHeaderBytes": 12},
            "rateLimit": {"enabled": "true", "window": "60000", "maxRequests": 0}, "auth": {"mode": "tokn", "token": 1},
            "heartbeat": null, "allowedHosts": ["", 1], "localSocket": false}, "log": [], "jobs": {}}"#,
        &[
            "$.gatway: unknown key; the nearest known one is \"gateway\"",
            "$.gateway.listen: found 8787, expected a text of 1 to 64 bytes; write it in quotes",
            "$.gateway.limits.maxBodyBytes: found a text, expected a whole number from 1024 to 67108864",
            "$.gateway.limits.maxBodyByte: unknown key; the nearest known one is \"maxBodyBytes\"",
            "$.gateway.limits.maxHeaderBytes: found 12, expected a whole number from 1024 to 1048576",
            "$.gateway.rateLimit.enabled: found a text, expected true or false; write it without quotes",
            "$.gateway.rateLimit.window: found a text, expected a whole number from 1 to 86400000; write it without quotes",
            "$.gateway.rateLimit.maxRequests: found 0, expected a whole number from 1 to 1000000000",
            "$.gateway.auth.mode: found \"tokn\", expected \"token\", \"none\" or \"oauth\"; did you mean \"token\"",
            "$.gateway.auth.token: found 1, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"} or null",
            "$.gateway.heartbeat: found null, expected an object; leave the key out for its default",
            "$.gateway.allowedHosts[0]: found 0 bytes of text, expected a text of 1 to 1024 bytes",
            "$.gateway.allowedHosts[1]: found 1, expected a text of 1 to 1024 bytes; write it in quotes",
            "$.gateway.localSocket: found false, expected a text of 1 to 4096 bytes or null; write it in quotes",
            "$.log: found a list, expected an object",
            "$.jobs: found an object, expected a list",
        ],
    );
    check(
        r#"{"gateway": {"maxBodyBytes": 2048, "limits": {"maxMemory": 1.5, "maxConnections": -1, "requestTimeout": 1e30}}}"#,
        &[
            "$.gateway.maxBodyBytes: unknown key; the nearest known one is \"mdns\", and a key of this name belongs in $.gateway.limits",
            "$.gateway.limits.maxMemory: found 1.5, expected a whole number from 1048576 to 1099511627776",
            "$.gateway.limits.maxConnections: found -1, expected a whole number from 1 to 1000000",
            "$.gateway.limits.requestTimeout: found 1e+30, expected a whole number from 1 to 3600000",
        ],
    );
}

#[test]
fn types_of_channels_and_providers() {
    check(
        r#"{"channels": {"door": {"type": "webhook", "apiRoot": "x", "secrt": 1}, "tg": {"type": "telegrm", "token": "x", "zzz": 1},
            "none": {"token": "x"}, "mq": {"type": "mqtt"}, "websocket": {"type": "webhook"}, "openai": {"type": "webhook"}, "a b": {"type": "webhook"}, "n": {"type": 3}},
            "providers": {"p": {"type": "openai"}, "b": {"type": "builtin", "apiKey": "x"}}}"#,
        &[
            "$.channels.door.apiRoot: a key of type telegram, which this is not; leave it out, or change the type",
            "$.channels.door.secrt: unknown key; the nearest known one is \"secret\"",
            "$.channels.tg.type: found \"telegrm\", expected \"telegram\", \"matrix\", \"mqtt\", \"discord\", \"slack\" or \"webhook\"; did you mean \"telegram\"",
            "$.channels.tg.zzz: unknown key; the nearest known one is \"type\"",
            "$.channels.none.type: missing, expected \"telegram\", \"matrix\", \"mqtt\", \"discord\", \"slack\" or \"webhook\"",
            "$.channels.mq.url: missing, expected a text of 1 to 2048 bytes",
            "$.channels[\"a b\"]: not a name; expected 1 to 64 of the characters A-Z a-z 0-9 _ . -",
            "$.channels.n.type: found 3, expected \"telegram\", \"matrix\", \"mqtt\", \"discord\", \"slack\" or \"webhook\"",
            "$.providers.p.baseUrl: missing, expected a text of 1 to 2048 bytes",
            "$.providers.b.apiKey: a key of type openai, which this is not; leave it out, or change the type",
            "$.channels.websocket: \"websocket\" is the name of the WebSocket chat; choose another one",
            "$.channels.openai: \"openai\" is the name of the OpenAI-compatible API; choose another one",
        ],
    );
}

#[test]
fn keys_that_would_do_nothing() {
    check(
        r#"{"gateway": {"auth": {"mode": "oauth"}}, "channels": {"tg": {"type": "telegram", "token": "1:x", "dmPolicy": "pairing"}, "off": {"type": "slack", "appToken": "x", "botToken": "y", "enabled": false},
                "w": {"type": "webhook", "queue": "collect", "maxAge": 1000, "deliverOnly": true, "dmPolicy": "open", "groups": ["g"]},
                "v": {"type": "webhook", "dmPolicy": "pairing"}, "u": {"type": "webhook", "allowFrom": ["ana"]}},
            "providers": {"a": {"type": "anthropic", "apiKey": "k"}}, "agents": {"main": {"tokensPerDay": 5, "provider": "a"}}}"#,
        &[
            "$.gateway.auth.mode: mode \"oauth\" needs an identity provider; set oauthProviders, or use \"token\"",
            "$.channels.v.dmPolicy: a webhook's credential is its check, and its dmPolicy is \"open\"; leave this out, and set `secret` or `token`",
            "$.channels.u.allowFrom: a webhook's credential is its check, and its dmPolicy is \"open\"; leave this out, and set `secret` or `token`",
        ],
    );
}

#[test]
fn identity_providers() {
    let with = |mode: &str, provider: &str| {
        format!(
            r#"{{"gateway": {{"auth": {{"mode": "{mode}", "oauthProviders": [{provider}]}}}}, "users": {{"ana": {{"home": "1"}}}}}}"#
        )
    };
    let at = "$.gateway.auth.oauthProviders";
    for (provider, expected) in [
        (r#""issuer": "https://id.example", "audience": "gatelet""#, ""),
        (r#""issuer": "http://127.0.0.1:9", "clientId": "g""#, ""),
        (r#""userinfoUrl": "http://[::1]:9/me""#, ""),
        (r#""introspectionUrl": "http://localhost/i", "clientId": "g", "clientSecret": "s""#, ""),
        ("", "[0]: nobody to ask; expected issuer, introspectionUrl or userinfoUrl"),
        (r#""issuer": "https://id.example""#, ""),
        (
            r#""issuer": "http://id.example", "clientId": "g""#,
            "[0].issuer: credentials would cross the network readable; expected https://, or an address of this machine",
        ),
        (
            r#""issuer": "http://localhost.evil.example", "clientId": "g""#,
            "[0].issuer: credentials would cross the network readable; expected https://, or an address of this machine",
        ),
        (r#""introspectionUrl": "https://a/i", "clientId": "g""#, ""),
        (
            r#""userinfoUrl": "https://a/i", "audience": "g""#,
            "[0].userinfoUrl: userinfo tells no audience; use introspectionUrl or issuer, or leave audience out",
        ),
        (r#""userinfoUrl": "https://a/i?x=1""#, "[0].userinfoUrl: not the address of an endpoint; leave out what begins with ?"),
        (
            r#""userinfoUrl": "https://u:p@a/i""#,
            "[0].userinfoUrl: a user and password in a web address are shown wherever it is; use a key of type secret",
        ),
    ] {
        let comma = if provider.is_empty() { "" } else { "," };
        for mode in ["token", "oauth"] {
            let text = with(mode, &format!(r#"{{"name": "home"{comma} {provider}}}"#));
            let want = if expected.is_empty() { vec![] } else { vec![format!("{at}{expected}")] };
            check(&text, &want.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    let good = r#""userinfoUrl": "https://a/i""#;
    check(
        &with("none", &format!(r#"{{"name": "home", {good}}}"#)),
        &["$.gateway.auth.oauthProviders: mode \"none\" asks nobody who they are; leave the list empty, or use mode \"oauth\""],
    );
    for name in ["default", "websocket", "openai"] {
        check(
            &with("oauth", &format!(r#"{{"name": "{name}", {good}}}"#)),
            &["$.gateway.auth.oauthProviders[0].name: a channel is called so; choose another name"],
        );
    }
    check(
        &with("oauth", &format!(r#"{{"name": "a:b", {good}}}, {{"name": "a:b", {good}}}"#)),
        &[
            "$.gateway.auth.oauthProviders[1].name: the same name as $.gateway.auth.oauthProviders[0]; names are unique",
            r#"$.gateway.auth.oauthProviders[0].name: not a name; expected letters, digits, "-", "_" and ".""#,
            r#"$.gateway.auth.oauthProviders[1].name: not a name; expected letters, digits, "-", "_" and ".""#,
        ],
    );
}

#[test]
fn names_that_are_not_there() {
    check(
        r#"{"providers": {"local": {"type": "builtin"}}, "agents": {"ana": {"provider": "locl", "fallbacks": ["local", "cloud"]}, "bob": {}},
            "bindings": [{"channel": "dor", "agent": "main"}, {"channel": "websocket", "agent": "bob"}, {"channel": "default", "agent": "ana"}, {}],
            "users": {"ana": {"telegram": "1"}, "bob": {"telegram": "1", "matrix": "1"}, "*": {"telegram": "2"}, "": {}},
            "channels": {"door": {"type": "webhook", "replyUrl": "http://u:p@a/", "idPath": "id"}}}"#,
        &[
            "$.bindings[3].agent: missing, expected a text of 1 to 64 bytes",
            "$.users[\"\"]: not an id; expected 1 to 256 bytes without control characters",
            "$.users.bob.telegram: this id belongs to $.users.ana already; one id is one user",
            "$.users[\"*\"]: \"*\" stands for all users and cannot be one; choose another id",
            "$.channels.door.replyUrl: a user and password in a web address are shown wherever it is; use a key of type secret",
            "$.channels.door.idPath: not a JSON Pointer; expected a path that begins with /, as in /comment/body",
            "$.agents.ana.provider: there is no provider \"locl\"; the nearest one is \"local\"",
            "$.agents.ana.fallbacks[1]: there is no provider \"cloud\"; the nearest one is \"local\"",
            "$.bindings[0].channel: there is no channel \"dor\"; the nearest one is \"door\"",
            "$.bindings[0].agent: there is no agent \"main\"; the nearest one is \"ana\"",
        ],
    );
}

#[test]
fn addresses() {
    let insecure =
        |listen: &str, rest: &str| format!(r#"{{"gateway": {{"listen": "{listen}", "auth": {{"mode": "none"{rest}}}}}}}"#);
    for (text, refused) in [
        (insecure("0.0.0.0:8787", ""), true),
        (insecure("[::]:8787", ""), true),
        (insecure("192.168.1.5:80", ""), true),
        (insecure("[::ffff:10.0.0.1]:80", ""), true),
        (insecure("0.0.0.0:8787", r#", "allowInsecure": false"#), true),
        (insecure("0.0.0.0:8787", r#", "allowInsecure": true"#), false),
        (r#"{"gateway": {"listen": "0.0.0.0:1", "allowInsecure": true, "auth": {"mode": "none"}}}"#.into(), false),
        (insecure("127.0.0.1:8787", ""), false),
        (insecure("127.8.8.8:8787", ""), false),
        (insecure("[::1]:8787", ""), false),
        (insecure("[::ffff:127.0.0.1]:8787", ""), false),
        (insecure("localhost:8787", ""), false),
        (r#"{"gateway": {"listen": "0.0.0.0:8787"}}"#.into(), false), // with a token
    ] {
        let found = complaints(&text);
        assert_eq!(found.len(), usize::from(refused), "{text}: {found:?}");
        assert!(found.iter().all(|p| p.starts_with("$.gateway.listen: ") && p.contains("makes everybody admin")), "{found:?}");
    }
    check(
        r#"{"gateway": {"listen": ":8787", "allowedHosts": ["https://a"], "allowedOrigins": ["a.example"], "trustedProxies": ["lan"], "localSocket": "~/s"}, "store": {"path": "~/x.db"}}"#,
        &[
            "$.gateway.listen: found \":8787\", expected an address and a port; 127.0.0.1:8787 is for this machine alone, 0.0.0.0:8787 for the network",
            "$.gateway.localSocket: begins with \"~\", which only a shell understands; write the directory out",
            "$.gateway.allowedHosts[0]: not a host; expected a name or an address, as in gateway.example or 192.168.1.5:8787",
            "$.gateway.allowedOrigins[0]: not an origin; expected scheme and host without a path, as in https://panel.example",
            "$.gateway.trustedProxies[0]: not an address or network; expected 192.168.1.5 or 10.0.0.0/8",
            "$.store.path: begins with \"~\", which only a shell understands; write the directory out",
        ],
    );
}

#[test]
fn tokens_that_are_none() {
    for (token, why) in [
        ("", "an empty text"),
        ("   ", "an empty text"),
        ("short", "5 characters, expected at least 16"),
        ("fifteen-chars-x", "15 characters"),
        ("***", "stands for a secret and is none"),
        ("changeme", "a placeholder"),
        ("CHANGE-ME-please-now", "a placeholder"),
        ("your-token-here-please", "a placeholder"),
        ("${GATELET_TOKEN_UNSET}", "a placeholder"),
        ("<insert a token here>", "blanks"),
        ("<insert-a-token-0123>", "a placeholder"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "a placeholder"),
        ("xyxyxyxyxyxyxyxyxyxyxyxy", "a placeholder"),
        ("0123456789abcdef 0123", "blanks"),
        ("0123456789abcdef\\r\\nX: 1", "control characters"),
        ("0123456789abcdéfgh", "beyond ASCII"),
        ("十六字的口令十六字的口令十六字的口令", "beyond ASCII"),
    ] {
        for doc in [
            format!(r#"{{"gateway": {{"auth": {{"token": "{token}"}}}}}}"#),
            format!(r#"{{"gateway": {{"auth": {{"tokens": [{{"name": "a", "role": "user", "token": "{token}"}}]}}}}}}"#),
            format!(r#"{{"channels": {{"door": {{"type": "webhook", "token": "{token}"}}}}}}"#),
        ] {
            let found = complaints(&doc);
            assert!(found.len() == 1 && found[0].contains("oken: ") && found[0].contains(why), "{doc}: {found:?}");
        }
    }
    for good in ["kit-admin-token-0123456789abcdef", "door-token-0123456789abcdef", "0123456789abcdef", "p@ss-w0rd!p@ss-w0rd!"] {
        check(&json!({"gateway": {"auth": {"token": good}}}).to_string(), &[]);
    }
}

#[test]
fn tokens_of_two() {
    check(
        r#"{"gateway": {"auth": {"token": "0123456789abcdef", "tokens": [
            {"name": "a", "role": "user", "token": "0123456789abcdef"}, {"name": "a", "role": "user", "token": "0123456789abcdeg"},
            {"name": "b", "role": "user", "token": "0123456789abcdeg"}, {"name": "admin", "role": "user", "token": "0123456789abcdeh"},
            {"name": "admin2", "role": "admin", "token": "0123456789abcdei"}, {"name": " c", "role": "user", "token": "0123456789abcdej"}, {"name": ""}]}}}"#,
        &[
            "$.gateway.auth.tokens[6].name: found 0 bytes of text, expected a text of 1 to 64 bytes",
            "$.gateway.auth.tokens[6].role: missing, expected \"user\", \"operator\" or \"admin\"",
            "$.gateway.auth.tokens[6].token: missing, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"}",
            "$.gateway.auth.tokens[0].token: the same token as $.gateway.auth.token; each principal has its own",
            "$.gateway.auth.tokens[1].name: the same name as $.gateway.auth.tokens[0]; names are unique",
            "$.gateway.auth.tokens[2].token: the same token as $.gateway.auth.tokens[1].token; each principal has its own",
            "$.gateway.auth.tokens[3].name: \"admin\" is the principal of gateway.auth.token; choose another name",
            "$.gateway.auth.tokens[5].name: not a name; expected no blanks around it, no control characters, not \"*\"",
        ],
    );
}

#[test]
fn secrets_that_are_not_found() {
    let world = World::default()
        .var("EMPTY", " ")
        .var("SHORT", CANARY.get(..9).unwrap())
        .file("short", CANARY.get(..9).unwrap())
        .file("empty", "\n\n")
        .file("binary", [0xff, 0xfe])
        .file("denied", "denied");
    let doc = json!({"channels": {
        "a": {"type": "webhook", "secret": {"env": "UNSET"}, "token": {"file": "absent"}, "replySecret": {"file": "/run/absent"}},
        "b": {"type": "webhook", "secret": {"env": "EMPTY"}, "token": {"file": "empty"}, "replySecret": {"file": "denied"}},
        "c": {"type": "webhook", "secret": {"env": "SHORT"}, "token": {"file": "short"}, "replySecret": {"file": "binary"}},
        "d": {"type": "webhook", "secret": {"env": ""}, "token": {"env": 1}, "replySecret": {"env": "A", "file": "b"}},
        "e": {"type": "webhook", "secret": {"envv": CANARY}, "token": [CANARY], "replySecret": {"env": format!("{CANARY}!")}},
        "f": {"type": "webhook", "secret": "whsec_c2hvcnQ=", "replySecret": "whsec_!!"},
        "off": {"type": "webhook", "enabled": false, "secret": {"env": "UNSET"}},
    }});
    let found = lines(world.resolve(&doc).unwrap_err());
    assert_eq!(
        found,
        [
            "$.channels.d.secret.env: found an empty text, expected the variable's name",
            "$.channels.d.token.env: found 1, expected the variable's name",
            "$.channels.d.replySecret: found another object, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"}",
            "$.channels.e.secret: found another object, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"}",
            "$.channels.e.token: found a list, expected a text, {\"env\": \"NAME\"} or {\"file\": \"PATH\"} or null",
            "$.channels.a.secret: the environment variable \"UNSET\" is not set; set it for the gateway's process",
            "$.channels.a.token: the file \"absent\" does not exist in the data directory",
            "$.channels.a.replySecret: the file \"/run/absent\" does not exist",
            "$.channels.b.secret: the environment variable \"EMPTY\" is empty",
            "$.channels.b.token: the file \"empty\" is empty",
            "$.channels.b.replySecret: the file \"denied\" cannot be read: permission denied",
            "$.channels.c.secret: the environment variable \"SHORT\" holds 9 characters, expected at least 16; `openssl rand -hex 32` makes a good one",
            "$.channels.c.token: the file \"short\" holds 9 characters, expected at least 16; `openssl rand -hex 32` makes a good one",
            "$.channels.c.replySecret: the file \"binary\" is not UTF-8",
            "$.channels.e.replySecret: \"env\" holds no variable's name; expected letters, digits and _",
            "$.channels.f.secret: a whsec_ secret of 5 bytes, expected 24 to 64",
            "$.channels.f.replySecret: a whsec_ secret that is not base64",
        ]
    );
}

#[test]
fn a_flood_of_problems_is_bounded() {
    let rules: Vec<_> = (0..900).map(|_| json!({"tol": 1})).collect();
    let found = complaints(&json!({"tools": {"rules": rules}}).to_string());
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "$: and 2600 problems more");
}
