//! The channel against senders and receivers, honest and otherwise.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use super::*;
use crate::base::secret::Secret;
use crate::channel::memory::{self, common, fresh, parts};
use crate::channel::registry::Registry;
use crate::config::ChannelKind;
use crate::net::scripted::{Scripted, answer, hang, reset};

const NOW_MS: i64 = 1_790_000_000_000;
const TOKEN: &str = "a-token-of-the-channel";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhook(config: config::Webhook) -> Webhook {
    Webhook::new("door", true, config, Arc::new(Client::new(2)), Clock::manual(NOW_MS), None)
}

fn with_reply(url: String) -> config::Webhook {
    config::Webhook { reply_url: Some(url), secret: Some(Secret::new(SECRET)), ..config::Webhook::default() }
}

fn delivery() -> Delivery {
    Delivery {
        channel: "door".into(),
        conversation_id: Some("room".into()),
        session_id: Some("ses_1".into()),
        in_reply_to: Some("msg_1".into()),
        metadata: Some(json!({"k": 1})),
        ..memory::delivery("4711", "Hello 🙂")
    }
}

#[test]
fn credentials() {
    let (body, now_s) = (b"{}", NOW_MS / 1000);
    let signature = Key::of(&Secret::new(SECRET)).unwrap().sign("msg_1", now_s, body);
    let wrong = signature.replace("v1,", "v1,A");
    let at = now_s.to_string();
    let good = [("webhook-id", "msg_1"), ("webhook-timestamp", at.as_str()), ("webhook-signature", signature.as_str())];
    let bad = [good[0], good[1], ("webhook-signature", wrong.as_str())];
    let bearer_text = format!("Bearer {TOKEN}");
    let bearer = ("authorization", bearer_text.as_str());
    let hub_secret = "It's a Secret to Everybody";
    let hub_body = b"Hello, World!";
    let hub = ("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    let signed = || Verdict::Signed("msg_1".into());
    let lower = format!("bearer {TOKEN}");
    for (secret, token, headers, body, expected) in [
        (None, None, vec![], &body[..], Verdict::Unprotected),
        (None, None, vec![bearer], body, Verdict::Unprotected),
        (Some(SECRET), None, vec![], body, Verdict::Refused),
        (Some(SECRET), None, good.to_vec(), body, signed()),
        (Some(SECRET), None, good.to_vec(), b"{ }", Verdict::Refused),
        (Some(SECRET), None, bad.to_vec(), body, Verdict::Refused),
        (Some(SECRET), None, good[..2].to_vec(), body, Verdict::Refused),
        (Some(SECRET), None, vec![bearer], body, Verdict::Refused),
        (Some(""), None, good.to_vec(), body, Verdict::Refused),
        (Some("whsec_!!"), None, good.to_vec(), body, Verdict::Refused),
        (None, Some(TOKEN), vec![bearer], body, Verdict::Token),
        (None, Some(TOKEN), vec![("authorization", lower.as_str())], body, Verdict::Token),
        (None, Some(TOKEN), vec![bearer, good[2]], body, Verdict::Token),
        (None, Some(TOKEN), vec![("authorization", TOKEN)], body, Verdict::Refused),
        (None, Some(TOKEN), vec![("authorization", "Bearer a-token-of-the-channe")], body, Verdict::Refused),
        (None, Some(TOKEN), vec![("authorization", "Bearer ")], body, Verdict::Refused),
        (None, Some(""), vec![("authorization", "Bearer ")], body, Verdict::Refused),
        (None, Some(TOKEN), vec![], body, Verdict::Refused),
        (Some(SECRET), Some(TOKEN), vec![bearer], body, Verdict::Token),
        (Some(SECRET), Some(TOKEN), good.to_vec(), body, signed()),
        (Some(SECRET), Some(TOKEN), [&bad[..], &[bearer]].concat(), body, Verdict::Refused),
        (Some(hub_secret), None, vec![hub], hub_body, Verdict::Hub),
        (Some(hub_secret), None, vec![hub], b"Hello, World?", Verdict::Refused),
        (Some(hub_secret), None, [&[hub], &bad[..]].concat(), hub_body, Verdict::Refused),
    ] {
        let config = config::Webhook { secret: secret.map(Secret::new), token: token.map(Secret::new), ..Default::default() };
        let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        assert_eq!(webhook(config).verify(find, body), expected, "{headers:?}");
    }
}

#[test]
fn what_a_reply_is() {
    let peer = Scripted::says(answer("204 No Content", "text/plain", ""));
    let channel = webhook(with_reply(peer.url("/replies?key=1")));
    channel.deliver(&delivery(), &fresh()).unwrap();
    let seen = &peer.seen()[0];
    assert_eq!(seen.line, "POST /replies?key=1 HTTP/1.1");
    let body = json!({"id": "dlv_1", "inReplyTo": "msg_1", "sessionId": "ses_1", "userId": "4711", "conversationId": "room",
        "message": "Hello 🙂", "metadata": {"k": 1}});
    assert_eq!(seen.json(), body);
    let header = |name| seen.header(name);
    assert_eq!((header("webhook-id"), header("webhook-timestamp")), (Some("dlv_1"), Some("1790000000")));
    assert_eq!((header("content-type"), header("authorization")), (Some("application/json"), None));
    let signed =
        Signed { id: header("webhook-id"), timestamp: header("webhook-timestamp"), signature: header("webhook-signature") };
    let verified = Key::of(&Secret::new(SECRET)).unwrap().verify(signed, seen.body.as_bytes(), NOW_MS / 1000);
    assert_eq!(verified.as_deref(), Some("dlv_1"));
    let status = channel.status();
    assert_eq!((status.state, status.sent, status.failed, status.last_sent_ms), (ChannelState::Connected, 1, 0, Some(NOW_MS)));
}

#[test]
fn which_secret_signs() {
    for (secret, reply_secret, by) in [
        (Some("one"), Some("two"), Some("two")),
        (Some("one"), None, Some("one")),
        (None, Some("two"), Some("two")),
        (None, None, None),
    ] {
        let peer = Scripted::says(answer("200 OK", "text/plain", "ok"));
        let (secret, reply_secret) = (secret.map(Secret::new), reply_secret.map(Secret::new));
        webhook(config::Webhook { secret, reply_secret, ..with_reply(peer.url("/")) }).deliver(&delivery(), &fresh()).unwrap();
        let seen = &peer.seen()[0];
        let expected = by.map(|s| Key::of(&Secret::new(s)).unwrap().sign("dlv_1", NOW_MS / 1000, seen.body.as_bytes()));
        assert_eq!(seen.header("webhook-signature"), expected.as_deref());
    }
}

#[track_caller]
fn check(peer: &Scripted, kind: ErrorKind, says: &str) {
    let begun = Instant::now();
    let channel = webhook(with_reply(peer.url("/secret?canary")));
    let error = channel.deliver(&delivery(), &fresh()).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.text.contains(says) && !error.to_string().contains("canary"), "{error}");
    let status = channel.status();
    assert_eq!((status.state, status.sent, status.failed), (ChannelState::Degraded, 0, 1));
    assert_eq!(status.last_error, Some(error.to_string()));
    assert!(begun.elapsed() < Duration::from_secs(5));
    channel.reconnect();
    assert_eq!((channel.status().state, channel.status().last_error), (ChannelState::Connected, None));
}

#[test]
fn receivers_that_refuse_or_break() {
    use ErrorKind::{Denied, Permanent, Throttled, Transient};
    let after = |s| Throttled(Some(Duration::from_secs(s)));
    for (text, kind, says) in [
        (answer("410 Gone", "text/plain", "no more"), Permanent, "410: no more"),
        (answer("404 Not Found", "text/html", "<html>canary"), Permanent, "404: (a web page)"),
        (answer("400 Bad Request", "application/json", r#"{"error":{"message":"bad"}}"#), Permanent, "400: bad"),
        (answer("401 Unauthorized", "text/plain", ""), Denied, "401"),
        (answer("429 Slow", "text/plain", "").replace("\r\n\r\n", "\r\nRetry-After: 90\r\n\r\n"), after(90), "429"),
        (answer("503 Busy", "text/plain", "").replace("\r\n\r\n", "\r\nRetry-After: 5\r\n\r\n"), after(5), "503"),
        (answer("503 Busy", "text/plain", ""), Transient, "503"),
        (answer("500 Oops", "text/plain", ""), Transient, "500"),
        ("garbage\r\n\r\n".to_string(), Transient, "not answer in HTTP"),
        (String::new(), Transient, "broke the connection off"),
    ] {
        check(&Scripted::says(text), kind, says);
    }
    let resets = Scripted::new(|_, _, s| {
        reset(s);
        false
    });
    check(&resets, Transient, "broke the connection off");
    let canary = Scripted::says("");
    let moved = format!("HTTP/1.1 308 Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", canary.url("/?canary"));
    check(&Scripted::says(moved), Permanent, "never followed");
    assert_eq!(canary.connections(), 0);
}

#[test]
fn a_receipt_counts_whatever_its_body_is() {
    let endless = Scripted::new(|_, _, s| {
        let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let mut sent = 0usize;
        while sent < 1 << 30 && s.write_all(&[b'x'; 65536]).is_ok() {
            sent += 65536;
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
        false
    });
    let silent = Scripted::new(|_, _, s| {
        s.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n").unwrap();
        hang();
        false
    });
    for peer in [endless, silent] {
        let begun = Instant::now();
        webhook(with_reply(peer.url("/"))).deliver(&delivery(), &fresh()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn an_interrupt_is_not_the_receivers_fault() {
    let peer = Scripted::new(|_, _, _| {
        hang();
        false
    });
    let client = Arc::new(Client::new(1));
    let channel = Webhook::new("door", true, with_reply(peer.url("/")), client.clone(), Clock::manual(NOW_MS), None);
    std::thread::scope(|s| {
        let delivering = s.spawn(|| channel.deliver(&delivery(), &fresh()));
        while peer.seen().is_empty() {
            std::thread::yield_now();
        }
        client.interrupt();
        assert_eq!(delivering.join().unwrap().unwrap_err().kind, ErrorKind::Stopped);
    });
    assert_eq!((channel.status().state, channel.status().failed), (ChannelState::Connected, 0));
}

#[test]
fn without_a_reply_url_nothing_can_be_sent() {
    let channel = webhook(config::Webhook::default());
    assert_eq!(channel.handoff(), None);
    assert_eq!(channel.deliver(&delivery(), &fresh()).unwrap_err().kind, ErrorKind::Permanent);
    assert_eq!(webhook(with_reply("http://127.0.0.1:1/".into())).handoff(), Some(Handoff::Worker));
}

#[test]
fn the_registry_and_a_reload() {
    let parts = parts("", &Arc::default(), &Clock::manual(NOW_MS));
    let channels = |enabled| {
        let kind = || ChannelKind::Webhook(config::Webhook::default());
        let channel = |enabled| config::Channel { enabled, common: common(), kind: kind() };
        BTreeMap::from([("a".to_string(), channel(true)), ("b".to_string(), channel(enabled))])
    };
    let before = Registry::new(&channels(false), &parts, None);
    assert!(before.webhook("a").is_some() && before.webhook("b").is_none() && before.webhook("c").is_none());
    assert!(before.get("b").is_some(), "a channel that is switched off is there to be seen");
    assert_eq!(before.get("b").unwrap().deliver(&delivery(), &fresh()).unwrap_err().kind, ErrorKind::Transient);
    before.webhook("a").unwrap().note_received();
    let states = |r: &Registry| r.statuses().iter().map(|s| (s.name.clone(), s.state, s.received)).collect::<Vec<_>>();
    let stopped = [("a".into(), ChannelState::Connected, 1), ("b".into(), ChannelState::Stopped, 0)];
    assert_eq!(states(&before), stopped);
    let after = Registry::new(&channels(true), &parts, Some(&before));
    assert_eq!(states(&after), [stopped[0].clone(), ("b".into(), ChannelState::Connected, 0)]);
    let chat: Arc<dyn Channel> = Arc::new(webhook(config::Webhook::default()));
    assert_eq!(after.with("websocket", chat).all().map(|(n, _)| n.to_string()).collect::<Vec<_>>(), ["a", "b", "websocket"]);
}
