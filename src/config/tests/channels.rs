//! Channels: who may speak, and what each type needs.

use serde_json::json;

use super::{World, complaints, lines};
use crate::config::{ChannelKind, DmPolicy, GroupPolicy, OnUnknown, Queue};
use std::time::Duration;

#[track_caller]
fn check(channel: serde_json::Value, expected: &[&str]) {
    let found = complaints(&json!({"channels": {"c": channel}}).to_string());
    assert_eq!(found, expected, "{channel}");
}

/// Names can be taken by others: allow-lists take immutable ids alone, for every type.
#[test]
fn a_name_is_no_id() {
    let token = "token-0123456789abcdef";
    let of = |kind: &str, key: &str, id: &str| {
        let mut channel = match kind {
            "slack" => json!({"appToken": token, "botToken": token}),
            "matrix" => json!({"homeserver": "https://home.example", "userId": "@bot:home.example", "accessToken": token}),
            "mqtt" => json!({"url": "mqtt://broker"}),
            _ => json!({"token": token}),
        };
        channel["type"] = json!(kind);
        channel[key] = json!([id]);
        complaints(&json!({"channels": {"c": channel}}).to_string())
    };
    for (kind, key, id, good) in [
        ("telegram", "allowFrom", "123456789", true),
        ("telegram", "allowFrom", "@ana", false),
        ("telegram", "allowFrom", "ana", false),
        ("telegram", "allowFrom", "-1001234567890", false), // a group is no sender
        ("telegram", "allowFrom", "١٢٣", false),
        ("telegram", "allowFrom", " ", false),
        ("telegram", "groups", "-1001234567890", true),
        ("telegram", "groups", "@our_group", false),
        ("matrix", "allowFrom", "@ana:home.example", true),
        ("matrix", "allowFrom", "ana", false),
        ("matrix", "allowFrom", "@ana", false),
        ("matrix", "groups", "!abc:home.example", true),
        ("matrix", "groups", "#room:home.example", false),
        ("discord", "allowFrom", "80351110224678912", true),
        ("discord", "allowFrom", "ana#1234", false),
        ("discord", "groups", "general", false),
        ("slack", "allowFrom", "U012AB3CD", true),
        ("slack", "allowFrom", "C012AB3CD", false),
        ("slack", "allowFrom", "ana", false),
        ("slack", "groups", "C012AB3CD", true),
        ("slack", "groups", "#general", false),
        ("mqtt", "allowFrom", "ana", true), // the level of the topic is the id
    ] {
        let found = of(kind, key, id);
        assert_eq!(found.is_empty(), good, "{kind} {key} {id}: {found:?}");
        let at = format!("$.channels.c.{key}[0]: not an id but perhaps a name, which anybody can take; expected ");
        assert!(good || (found.len() == 1 && found[0].starts_with(&at)), "{found:?}");
    }
}

#[test]
fn an_mqtt_channel() {
    let of = |url: &str| json!({"type": "mqtt", "url": url});
    let address = "$.channels.c.url: not a broker's address; expected mqtt://host:1883 or mqtts://host:8883";
    let host = "$.channels.c.url: no valid host stands after ://";
    check(of("mqtt://broker.home"), &[]);
    check(of("mqtts://[fd00::1]:8884/"), &[]);
    check(of("broker.home:1883"), &[address]);
    check(of("tcp://broker.home"), &[address]);
    check(of("https://broker.home"), &[address]);
    check(of("mqtt://"), &[host]);
    check(of("mqtt://broker:port"), &[host]);
    check(of("mqtt://broker:70000"), &[host]);
    check(of("mqtt://broker/path"), &[host]);
    let user = "a user and password in an address are shown wherever it is; use `username` and `password`";
    check(of("mqtt://ana:secret@broker"), &[&format!("$.channels.c.url: {user}"), host]);
    let subscribe = "$.channels.c.subscribe: needs exactly one level `+`, which is the user, and no `#`";
    for topic in ["gatelet/in", "gatelet/+/+", "gatelet/#", "gatelet/+/#", "gatelet/in+", "+/in+"] {
        check(json!({"type": "mqtt", "url": "mqtt://b", "subscribe": topic}), &[subscribe]);
    }
    let publish = "$.channels.c.publish: needs `{user}` and neither `+` nor `#`";
    for topic in ["gatelet/out", "gatelet/out/{user}/#", "gatelet/+/{user}"] {
        check(json!({"type": "mqtt", "url": "mqtt://b", "publish": topic}), &[publish]);
    }
}

#[test]
fn a_matrix_channel() {
    let of = |more: serde_json::Value| {
        let mut channel = json!({"type": "matrix", "homeserver": "https://home.example", "userId": "@bot:home.example"});
        channel.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        channel
    };
    check(of(json!({"password": "a-password"})), &[]);
    check(of(json!({"password": "a pass phrase, mit Umlauten: äöü"})), &[]);
    check(of(json!({"password": "two\nlines"})), &["$.channels.c.password: control characters, which no password has"]);
    check(of(json!({})), &["$.channels.c: needs `accessToken` or `password`"]);
    let account = "$.channels.c.userId: not an account; expected a whole Matrix id, as @ana:example.org";
    check(of(json!({"password": "a-password", "userId": "bot"})), &[account]);
    let found = complaints(&json!({"channels": {"c": of(json!({"password": "x", "homeserver": "home.example"}))}}).to_string());
    assert!(found.len() == 1 && found[0].starts_with("$.channels.c.homeserver: "), "{found:?}");
}

/// What is left out: nobody is let in by default, but where something else is the check.
#[test]
fn who_may_speak_by_default() {
    let doc = json!({"channels": {
        "tg": {"type": "telegram", "token": "1:x"},
        "mq": {"type": "mqtt", "url": "mqtts://broker:8000"},
        "strict": {"type": "mqtt", "url": "mqtt://broker", "dmPolicy": "allowlist"},
        "door": {"type": "webhook"},
        "all": {"type": "telegram", "token": "1:y", "dmPolicy": "allowlist", "groupPolicy": "off", "requireMention": false,
            "queue": "interrupt", "maxAge": 1000, "onUnknown": "hold", "allowFrom": ["1"], "groups": ["-1"]},
    }});
    let config = World::default().resolve(&doc).unwrap().config;
    for (name, policy) in [
        ("tg", DmPolicy::Pairing),
        ("mq", DmPolicy::Open),
        ("strict", DmPolicy::Allowlist),
        ("door", DmPolicy::Open),
        ("all", DmPolicy::Allowlist),
    ] {
        assert_eq!(config.channels[name].common.dm_policy, policy, "{name}");
    }
    let (tg, all) = (&config.channels["tg"].common, &config.channels["all"].common);
    assert_eq!((tg.group_policy, tg.groups.len(), tg.allow_from.len()), (GroupPolicy::Allowlist, 0, 0));
    assert_eq!((tg.require_mention, tg.queue, tg.max_age, tg.on_unknown), (true, Queue::Followup, None, OnUnknown::Resend));
    assert_eq!((all.group_policy, all.require_mention, all.queue), (GroupPolicy::Off, false, Queue::Interrupt));
    assert_eq!((all.max_age, all.on_unknown), (Some(Duration::from_millis(1000)), OnUnknown::Hold));
    let ChannelKind::Mqtt(mq) = &config.channels["mq"].kind else { panic!() };
    assert_eq!((mq.tls, mq.host.as_str(), mq.port), (true, "broker", 8000));
    let ChannelKind::Mqtt(strict) = &config.channels["strict"].kind else { panic!() };
    assert_eq!((strict.tls, strict.port), (false, 1883));
}

/// A channel that is switched off has no secrets fetched, of whatever type; one that is on names what is missing.
#[test]
fn a_switched_off_channel_fetches_nothing() {
    let unset = || json!({"env": "UNSET"});
    for (kind, rest) in [
        ("telegram", json!({"token": unset()})),
        ("discord", json!({"token": unset()})),
        ("slack", json!({"appToken": unset(), "botToken": unset()})),
        ("matrix", json!({"homeserver": "https://h.example", "userId": "@b:h.example", "accessToken": unset()})),
        ("mqtt", json!({"url": "mqtt://b", "password": unset()})),
    ] {
        let mut channel = rest.clone();
        channel["type"] = json!(kind);
        let on = World::default().resolve(&json!({"channels": {"c": channel}})).map_err(lines).unwrap_err();
        assert!(!on.is_empty() && on.iter().all(|p| p.contains("\"UNSET\" is not set")), "{kind}: {on:?}");
        channel["enabled"] = json!(false);
        let off = World::default().resolve(&json!({"channels": {"c": channel}})).unwrap();
        assert!(matches!(off.config.channels["c"].kind, ChannelKind::Off(name) if name == kind), "{kind}");
        assert!(off.secrets.is_empty(), "{kind}");
    }
}

#[test]
fn who_is_told() {
    let of = |list: serde_json::Value| json!({"gateway": {"notify": list}});
    assert_eq!(World::default().resolve(&of(json!(["ana", "bo b"]))).unwrap().config.gateway.notify, ["ana", "bo b"]);
    assert!(World::default().resolve(&json!({})).unwrap().config.gateway.notify.is_empty());
    for bad in ["", " ", "a\nb"] {
        let found = complaints(&of(json!(["ana", bad])).to_string());
        assert!(found.len() == 1 && found[0].starts_with("$.gateway.notify[1]: "), "{bad:?}: {found:?}");
    }
}
