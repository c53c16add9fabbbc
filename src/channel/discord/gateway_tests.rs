//! Discord's gateway protocol as a value: no sockets, no waiting.

use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::{Gateway, INTENTS, Session, Step};
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;

const TOKEN: &str = "canary.token.0123456789";

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn session(seq: u64) -> Session {
    Session { id: "s1".into(), url: "wss://resume.example".into(), seq }
}

fn begun(session: Option<Session>) -> Gateway {
    Gateway::new(Secret::new(TOKEN), session, "42".into(), s(0))
}

fn sent(step: &Step) -> Value {
    match step {
        Step::Send(text) => serde_json::from_str(text).unwrap(),
        other => panic!("nothing to send: {other:?}"),
    }
}

fn frame(gateway: &mut Gateway, frame: Value, at: u64) -> Vec<Step> {
    gateway.frame(&frame.to_string(), s(at), 500)
}

fn hello() -> Value {
    json!({"op": 10, "d": {"heartbeat_interval": 40_000}})
}

#[test]
fn a_session_is_begun_and_another_is_resumed() {
    let mut gateway = begun(None);
    let identify = sent(&frame(&mut gateway, hello(), 0)[0]);
    assert_eq!(
        (&identify["op"], &identify["d"]["token"], &identify["d"]["intents"]),
        (&json!(2), &json!(TOKEN), &json!(INTENTS))
    );
    let ready =
        json!({"op": 0, "t": "READY", "s": 1, "d": {"session_id": "s9", "resume_gateway_url": "wss://r", "user": {"id": "7"}}});
    assert_eq!(frame(&mut gateway, ready, 1), [Step::Ready { resumed: false }]);
    assert_eq!((gateway.me(), gateway.session().unwrap().seq), ("7", 1));

    let mut gateway = begun(Some(session(5)));
    let resume = sent(&frame(&mut gateway, hello(), 0)[0]);
    assert_eq!(resume, json!({"op": 6, "d": {"token": TOKEN, "session_id": "s1", "seq": 5}}));
    let missed = frame(&mut gateway, json!({"op": 0, "t": "MESSAGE_CREATE", "s": 6, "d": {}}), 1);
    assert!(matches!(missed[0], Step::Event { seq: 6, .. }));
    assert_eq!(gateway.session().unwrap().seq, 5, "not taken yet: it comes again");
    gateway.taken(6);
    gateway.taken(3);
    assert_eq!(gateway.session().unwrap().seq, 6, "it never goes back");
    assert_eq!(frame(&mut gateway, json!({"op": 0, "t": "RESUMED", "s": 7, "d": {}}), 2), [Step::Ready { resumed: true }]);
    assert!(!format!("{gateway:?}").contains("canary"), "{gateway:?}");
}

#[test]
fn heartbeats_are_due_after_a_jitter_and_must_be_answered() {
    let mut gateway = begun(Some(session(5)));
    assert_eq!((gateway.due(s(1)), gateway.wait(s(1))), (None, s(29)));
    frame(&mut gateway, hello(), 1);
    frame(&mut gateway, hello(), 2); // a second one changes nothing
    assert_eq!((gateway.due(s(20)), gateway.wait(s(20))), (None, s(1)));
    assert_eq!(sent(&gateway.due(s(21)).unwrap()), json!({"op": 1, "d": 5}));
    assert_eq!(gateway.due(s(22)), None);
    frame(&mut gateway, json!({"op": 11}), 23);
    assert_eq!(sent(&gateway.due(s(61)).unwrap())["op"], 1);
    assert!(matches!(gateway.due(s(101)), Some(Step::Leave(_))), "a zombie");
    assert!(gateway.session().is_some(), "which is resumed");
    let asked = sent(&frame(&mut begun(None), json!({"op": 1, "d": null}), 3)[0]);
    assert_eq!(asked, json!({"op": 1, "d": null}));
    assert!(matches!(begun(None).due(s(30)), Some(Step::Leave(_))), "no hello");
}

#[test]
fn what_ends_a_session_and_what_does_not() {
    for (what, is_kept) in
        [(json!({"op": 7, "d": null}), true), (json!({"op": 9, "d": true}), true), (json!({"op": 9, "d": false}), false)]
    {
        let mut gateway = begun(Some(session(5)));
        frame(&mut gateway, hello(), 0);
        assert!(matches!(frame(&mut gateway, what.clone(), 1)[0], Step::Leave(_)), "{what}");
        assert_eq!(gateway.session().is_some(), is_kept, "{what}");
    }
    for (code, kind, is_kept) in [
        (4000, None, true),
        (4002, None, true),
        (4008, None, true),
        (1006, None, true),
        (4003, None, false),
        (4007, None, false),
        (4009, None, false),
        (1000, None, false),
        (4004, Some(ErrorKind::Denied), true),
        (4010, Some(ErrorKind::Permanent), true),
        (4012, Some(ErrorKind::Permanent), true),
        (4013, Some(ErrorKind::Permanent), true),
        (4014, Some(ErrorKind::Denied), true),
    ] {
        let mut gateway = begun(Some(session(5)));
        assert_eq!(gateway.closed(code).map(|e| e.kind), kind, "{code}");
        assert_eq!(gateway.session().is_some(), is_kept, "{code}");
    }
    for text in ["", "null", "[]", "{\"op\":0}", "{\"op\":\"x\"}", "{\"op\":99,\"d\":{}}"] {
        assert_eq!(begun(None).frame(text, s(0), 0), [], "{text}");
    }
}
