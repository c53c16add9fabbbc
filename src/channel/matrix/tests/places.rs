//! Rooms: who is meant, who may bring us in, and what goes out.

use super::lacking::lacking;
use super::*;

#[test]
fn an_encrypted_room_is_told_once_and_not_read() {
    let told = Arc::new(AtomicUsize::new(0));
    let seen = told.clone();
    let peer = homeserver(move |method, path, n| {
        if path.starts_with("/sync") && n < 3 {
            let events = json!([{"type": "m.room.encrypted", "event_id": "$e", "sender": "@ana:x"}, message("$1", "plain")]);
            return says(batch(&format!("s{}", n + 1), events));
        }
        if path.contains("/account_data/gatelet") {
            if method == "PUT" {
                seen.fetch_add(1, Ordering::SeqCst);
                return says(json!({}));
            }
            return if seen.load(Ordering::SeqCst) > 0 { says(json!({"told": true})) } else { None };
        }
        path.ends_with("/state/m.room.encryption").then(|| Does::Says("200 OK", json!({"algorithm": "m.megolm.v1.aes-sha2"})))
    });
    let running = start(peer);
    running.until("three batches", |r| r.cursor().as_deref() == Some("s3"));
    running.matrix.reconnect(); // even after that
    running.until("more", |r| r.calls("whoami").len() >= 2);
    pause(150);
    let sent = running.calls("/send/");
    assert_eq!(sent.len(), 1, "{:?}", running.lines());
    assert_eq!((&sent[0].json()["msgtype"], &sent[0].json()["body"]), (&json!("m.notice"), &json!(send::ENCRYPTED)));
    assert!(running.inlet.texts().is_empty());
    let refused = running.matrix.deliver(&delivery(Some(ROOM), "hi"), &fresh()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permanent, "{refused}");
    assert_eq!(running.calls("/send/").len(), 1);
}

#[test]
fn groups_know_who_is_meant() {
    let with = |id: &str, relation: Value, body: &str| {
        let mut event = message(id, body);
        event["content"]["m.relates_to"] = relation;
        event
    };
    let reply = |to: &str| json!({"m.in_reply_to": {"event_id": to}});
    let events = json!([
        message("$1", "hello all"),
        message("$2", "Gate: hello"),
        with("$3", reply("$ours"), "and you?"),
        with("$4", reply("$theirs"), "and you?"),
        with("$5", json!({"rel_type": "m.thread", "event_id": "$root"}), "in a thread, @bot:x"),
    ]);
    let peer = homeserver(move |_, path, n| match path {
        p if p.starts_with("/sync") && n == 0 => says(batch("s1", events.clone())),
        p if p.ends_with("/joined_members") => says(json!({"joined": {ME: {}, "@ana:x": {}, "@eve:x": {}}})),
        p if p.ends_with("/event/%24ours") => says(json!({"sender": ME})),
        p if p.ends_with("/event/%24theirs") => says(json!({"sender": "@eve:x"})),
        _ => None,
    });
    let running = start(peer);
    running.until("all", |r| r.inlet.texts().len() == 5);
    let offered = running.inlet.offered.lock().unwrap();
    let mentioned: Vec<_> =
        offered.iter().map(|i| matches!(&i.place, Place::Group { id, mentioned: true } if id == ROOM)).collect();
    assert_eq!(mentioned, [false, true, true, false, true]);
    assert_eq!(offered[4].conversation.as_deref(), Some("!r:x/$root"));
    assert_eq!(offered[1].metadata, Some(json!({"matrix": {"eventId": "$2"}})));
}

#[test]
fn invitations_follow_the_policy() {
    let invite = |inviter: &str, direct: bool| {
        let content = json!({"membership": "invite", "is_direct": direct});
        json!({"invite_state": {"events": [{"type": "m.room.member", "state_key": ME, "sender": inviter, "content": content}]}})
    };
    let invites = json!({"!a:x": invite("@ana:x", true), "!e:x": invite("@eve:x", true), "!g:x": invite("@ana:x", false)});
    let peer = homeserver(move |_, path, n| match (path.starts_with("/sync"), n) {
        (true, 0) => says(json!({"next_batch": "s1", "rooms": {"invite": invites}})),
        _ if path == "/rooms/%21a%3Ax/join" && n == 0 => refuses("429 Too Many Requests", "M_LIMIT_EXCEEDED"),
        _ => None,
    });
    let mut common = common();
    (common.dm_policy, common.allow_from) = (config::DmPolicy::Allowlist, vec!["@ana:x".into()]);
    (common.group_policy, common.groups) = (config::GroupPolicy::Allowlist, vec!["!other:x".into()]);
    let inlet = known();
    let running = start_with(peer, inlet, true, common);
    running.until("the answers", |r| r.calls("/account_data/m.direct").iter().any(|s| s.line.starts_with("PUT")));
    running.until("the rejections", |r| r.calls("/leave").len() == 2);
    let lines = running.lines().join("\n");
    assert!(lines.contains("%21a%3Ax/join") && lines.contains("%21e%3Ax/leave") && lines.contains("%21g%3Ax/leave"), "{lines}");
    assert_eq!(running.calls("%21a%3Ax/join").len(), 2, "tried again after a pause was asked for");
    let put = running.calls("/account_data/m.direct").into_iter().find(|s| s.line.starts_with("PUT")).unwrap();
    assert_eq!(put.json(), json!({"@ana:x": ["!a:x"]}));
}

#[test]
fn a_stranger_is_told_what_the_gate_says() {
    let inlet = answering(|_| Ok(Taken::Tell("your **code** is 1234".into())));
    let peer = homeserver(|_, path, n| match (path.starts_with("/sync"), n) {
        (true, 0) => says(batch("s1", json!([message("$1", "hi")]))),
        _ => None,
    });
    let running = start_with(peer, inlet, true, common());
    running.until("the words", |r| !r.calls("/send/").is_empty());
    let sent = &running.calls("/send/")[0];
    assert!(sent.line.contains("/rooms/%21r%3Ax/send/m.room.message/gatelet-told-%241 "), "{}", sent.line);
    assert!(sent.json()["formatted_body"].as_str().unwrap().contains("<strong>code</strong>"));
}

#[test]
fn a_delivery_is_the_same_event_however_often_it_is_sent() {
    let running = start(homeserver(|_, _, _| None));
    let mut delivery = delivery(Some("!r:x/$root"), &"word ".repeat(9000));
    delivery.metadata = Some(json!({"matrix": {"eventId": "$asked"}}));
    let recorded = Mutex::new(Vec::new());
    let record = |n: u32| recorded.lock().unwrap().push(n);
    running.matrix.deliver(&delivery, &Progress { done: 0, record: &record, may_repeat: false }).unwrap();
    running.matrix.deliver(&delivery, &Progress { done: 2, record: &record, may_repeat: false }).unwrap();
    let sent = running.calls("/send/");
    let keys: Vec<_> = sent.iter().map(|s| target(s).1.rsplit('/').next().unwrap().to_string()).collect();
    assert_eq!(keys, ["gatelet-dlv_1-0", "gatelet-dlv_1-1", "gatelet-dlv_1-2", "gatelet-dlv_1-2"]);
    assert_eq!(*recorded.lock().unwrap(), [1, 2, 3, 3]);
    let relation = |n: usize| sent[n].json()["m.relates_to"].clone();
    assert_eq!(relation(0)["m.in_reply_to"]["event_id"], "$asked");
    assert_eq!((&relation(0)["rel_type"], &relation(0)["event_id"]), (&json!("m.thread"), &json!("$root")));
    assert_eq!((&relation(1)["m.in_reply_to"]["event_id"], &relation(1)["is_falling_back"]), (&json!("$root"), &json!(true)));
    assert_eq!(relation(2), relation(3));
    assert_eq!(running.matrix.status().sent, 2);
}

#[test]
fn what_a_homeserver_refuses_has_its_kind() {
    let asked = Some(Duration::from_millis(1234));
    for (status, code, kind) in [
        ("429 Too Many Requests", "M_LIMIT_EXCEEDED", ErrorKind::Throttled(asked)),
        ("403 Forbidden", "M_FORBIDDEN", ErrorKind::Permanent),
        ("413 Payload Too Large", "M_TOO_LARGE", ErrorKind::Permanent),
        ("404 Not Found", "M_NOT_FOUND", ErrorKind::Permanent),
        ("500 Internal Server Error", "M_UNKNOWN", ErrorKind::Unclear),
        ("502 Bad Gateway", "", ErrorKind::Unclear),
    ] {
        let code = code.to_string();
        let peer = homeserver(move |_, path, _| if path.contains("/send/") { refuses(status, &code) } else { None });
        let running = start(peer);
        let error = running.matrix.deliver(&delivery(Some(ROOM), "hi"), &fresh()).unwrap_err();
        assert_eq!(error.kind, kind, "{status}: {error}");
    }
    let running = start(homeserver(|_, _, _| None));
    let error = running.matrix.deliver(&delivery(Some("general"), "hi"), &fresh()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permanent, "{error}");
}

#[test]
fn who_has_no_room_gets_one_which_is_remembered() {
    let peer = homeserver(move |method, path, _| {
        if path.starts_with("/rooms/%21gone") {
            return refuses("403 Forbidden", "M_FORBIDDEN");
        }
        if !path.ends_with("/account_data/m.direct") || method == "PUT" {
            return None;
        }
        says(json!({"@eve:x": ["!gone:x"], "@bob:x": "garbage", "@cleo:x": ["!c:x"]}))
    });
    let running = start(peer);
    running.until("a poll", |r| !r.calls("/sync").is_empty());
    let to = |peer: &str| {
        let mut delivery = delivery(None, "hello");
        delivery.peer = peer.to_string();
        running.matrix.deliver(&delivery, &fresh()).unwrap();
        target(running.calls("/send/").last().unwrap()).1.split('/').nth(2).unwrap().to_string()
    };
    assert_eq!(to("@cleo:x"), "%21c%3Ax");
    assert_eq!((to("@ana:x"), running.calls("/createRoom").len()), ("%21new%3Ax".to_string(), 1));
    assert_eq!((to("@ana:x"), running.calls("/createRoom").len()), ("%21new%3Ax".to_string(), 1), "remembered");
    assert_eq!((to("@eve:x"), running.calls("/createRoom").len()), ("%21new%3Ax".to_string(), 2), "the old one is closed to us");
    let body = running.calls("/createRoom")[0].json();
    assert_eq!((&body["invite"], &body["is_direct"]), (&json!(["@ana:x"]), &json!(true)));
}

#[test]
fn typing_is_shown_and_never_holds_anybody_long() {
    let running = start(homeserver(|_, path, n| if path.contains("/typing/") && n > 0 { Some(Does::Hangs) } else { None }));
    running.matrix.typing("@ana:x", Some("!r:x/$root"));
    let typing = &running.calls("/typing/")[0];
    assert!(typing.line.starts_with("PUT /_matrix/client/v3/rooms/%21r%3Ax/typing/%40bot%3Ax "), "{}", typing.line);
    assert_eq!(typing.json(), json!({"typing": true, "timeout": 10_000}));
    running.matrix.typing("@nobody:x", None);
    let clock = Clock::system();
    running.matrix.typing("@ana:x", Some(ROOM));
    assert!(clock.mono() < Duration::from_secs(3));
}

/// E7: of a `/sync` with an owner who names nobody in a room of three, and of the answer that tells how many are there, each field in turn
/// is missing: it never becomes a direct chat, nor a message that names us, nor anybody else's.
#[test]
fn what_is_missing_never_gives_more() {
    let mut said = message("$1", "hi");
    said["content"]["m.relates_to"] = json!({"m.in_reply_to": {"event_id": "$theirs"}});
    said["content"]["m.mentions"] = json!({"user_ids": ["@eve:x"]});
    said["unsigned"] = json!({"age": 1});
    let mut sync = batch("s1", json!([said]));
    sync["rooms"]["join"][ROOM]["summary"] =
        json!({"m.joined_member_count": 3, "m.invited_member_count": 0, "m.heroes": ["@ana:x", "@eve:x"]});
    let members = json!({"joined": {ME: {"display_name": "Gate"}, "@ana:x": {}, "@eve:x": {}}});
    let whole = std::iter::once(("whole".to_string(), sync.clone()));
    let syncs: Vec<_> = whole.chain(lacking(&sync)).map(|(_, s)| (s, members.clone())).collect();
    let mut bare = sync.clone();
    bare["rooms"]["join"][ROOM]["summary"] = json!({});
    // A member who is missing from the list is the homeserver's word on who is there.
    let lists = lacking(&members).into_iter().filter(|(what, _)| !what.starts_with("without /joined/"));
    let all: Vec<_> = syncs.into_iter().chain(lists.map(|(_, m)| (bare.clone(), m))).collect();
    for (sync, members) in all {
        let (once, shown) = (sync.clone(), format!("{sync} {members}"));
        let peer = homeserver(move |_, path, n| match path {
            p if p.starts_with("/sync") && n == 0 => says(once.clone()),
            p if p.ends_with("/joined_members") => says(members.clone()),
            p if p.contains("/event/") => says(json!({"sender": "@eve:x"})),
            _ => None,
        });
        let running = start(peer);
        running.until("the next poll", |r| r.calls("/sync").len() > 1);
        for incoming in running.inlet.offered.lock().unwrap().iter() {
            let Place::Group { id, mentioned: false } = &incoming.place else { panic!("{:?}: {shown}", incoming.place) };
            assert_eq!((id.as_str(), incoming.sender.as_str()), (ROOM, "@ana:x"), "{shown}");
        }
    }
}
