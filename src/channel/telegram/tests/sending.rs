//! What goes out: parts, markup, refusals, previews.

use super::*;

#[test]
fn replies_are_marked_up_and_go_where_the_message_came_from() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    let opened = fake.open(&inlet);
    opened.0.deliver(&delivery("**a** < b"), &fresh()).unwrap();
    let topic = Delivery {
        conversation_id: Some("-100/9".into()),
        metadata: Some(json!({"messageId": 77})),
        ..delivery(&format!("{}\nend", "x".repeat(4072)))
    };
    opened.0.deliver(&topic, &fresh()).unwrap();
    let sent = fake.sent.lock().unwrap().clone();
    assert_eq!((&sent[0]["text"], &sent[0]["chat_id"]), (&json!("<b>a</b> &lt; b"), &json!(7)));
    assert!(sent[0]["reply_parameters"].is_null() && sent[0]["message_thread_id"].is_null());
    assert_eq!((&sent[1]["chat_id"], &sent[1]["message_thread_id"]), (&json!(-100), &json!(9)));
    assert_eq!(sent[1]["reply_parameters"], json!({"message_id": 77, "allow_sending_without_reply": true}));
    assert_eq!((&sent[2]["text"], &sent[2]["reply_parameters"]), (&json!("end"), &Value::Null), "the first part alone answers");
    let status = opened.0.status();
    assert_eq!((status.sent, status.failed), (2, 0));
}

#[test]
fn parts_that_were_confirmed_are_not_sent_again() {
    let refusals = AtomicUsize::new(0);
    let fake = Fake::scripted(move |method, body| {
        let third = method == "sendMessage" && body["text"].as_str().unwrap().starts_with('c');
        (third && refusals.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| refuse(429, "Too Many Requests: retry after 8", json!({"retry_after": 8})))
            .flatten()
    });
    let opened = fake.open(&Arc::new(MemoryInlet::default()));
    let long = delivery(&["a", "b", "c", "d"].map(|c| c.repeat(4000)).join("\n"));
    let recorded = Mutex::new(Vec::new());
    let record = |n| recorded.lock().unwrap().push(n);
    let error = opened.0.deliver(&long, &Progress { done: 0, record: &record, may_repeat: false }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttled(Some(Duration::from_secs(8))));
    opened.0.deliver(&long, &Progress { done: 2, record: &record, may_repeat: false }).unwrap();
    assert_eq!(*recorded.lock().unwrap(), [1, 2, 3, 4]);
    let first: Vec<_> = fake.sent.lock().unwrap().iter().map(|b| b["text"].as_str().unwrap()[..1].to_string()).collect();
    assert_eq!(first, ["a", "b", "c", "c", "d"]);
}

/// What a delivery that is refused once by `script` ends with.
#[track_caller]
fn check_sent(status: u16, description: &'static str, parameters: Value, kind: Option<ErrorKind>, calls: usize) {
    let refusals = AtomicUsize::new(0);
    let fake = Fake::scripted(move |method, _| {
        (method == "sendMessage" && refusals.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| refuse(status, description, parameters.clone()))
            .flatten()
    });
    let opened = fake.open(&Arc::new(MemoryInlet::default()));
    let result = opened.0.deliver(&delivery("**hi**"), &fresh());
    assert_eq!(result.as_ref().err().map(|e| e.kind), kind, "{description}");
    assert!(!format!("{result:?}").contains("CANARY"));
    assert_eq!(fake.sent.lock().unwrap().len(), calls, "{description}");
    eventually("the poll", || opened.0.status().state == ChannelState::Connected);
    if description.contains("parse entities") {
        let plain = fake.sent.lock().unwrap()[1].clone();
        assert_eq!((&plain["text"], &plain["parse_mode"]), (&json!("**hi**"), &Value::Null));
    }
    if description.contains("upgraded") {
        assert_eq!(fake.sent.lock().unwrap()[1]["chat_id"], -1009);
    }
}

#[test]
fn refusals_of_a_send_are_told_apart() {
    use ErrorKind::{Denied, Permanent, Throttled, Transient};
    check_sent(400, "Bad Request: can't parse entities: unmatched tag", json!({}), None, 2);
    check_sent(400, "Bad Request: group chat was upgraded to a supergroup chat", json!({"migrate_to_chat_id": -1009}), None, 2);
    check_sent(400, "Bad Request: chat not found", json!({}), Some(Permanent), 1);
    check_sent(403, "Forbidden: bot was blocked by the user", json!({}), Some(Permanent), 1);
    check_sent(401, "Unauthorized", json!({}), Some(Denied), 1);
    check_sent(429, "Too Many Requests", json!({}), Some(Throttled(None)), 1);
    check_sent(500, "Internal Server Error", json!({}), Some(Transient), 1);
}

#[test]
fn what_cannot_be_sent_is_permanent() {
    let fake = Fake::new();
    let opened = fake.open(&Arc::new(MemoryInlet::default()));
    for bad in [
        delivery(" \n "),
        Delivery { peer: "ana".into(), ..delivery("hi") },
        Delivery { conversation_id: Some("-1/x".into()), ..delivery("hi") },
    ] {
        assert_eq!(opened.0.deliver(&bad, &fresh()).unwrap_err().kind, ErrorKind::Permanent);
    }
    assert!(fake.sent.lock().unwrap().is_empty());
}

#[test]
fn typing_is_shown_and_resending_follows_the_configuration() {
    let fake = Fake::new();
    let hold = config::ChannelCommon { on_unknown: config::OnUnknown::Hold, ..common() };
    let inlet = Arc::new(MemoryInlet::default());
    let (resends, holds) = (fake.open(&inlet), fake.open_with(&inlet, &hold));
    assert_eq!((resends.0.repeats().cut_off(), holds.0.repeats().cut_off()), (CutOff::Resent, CutOff::Held));
    resends.0.typing("7", Some("-100/9"));
    let seen = fake.peer.seen();
    let typed = seen.iter().find(|s| s.line.contains("sendChatAction")).unwrap().json();
    assert_eq!(typed, json!({"action": "typing", "chat_id": -100, "message_thread_id": 9}));
}

/// A delivery that is to take the place of message 991.
fn adopted(text: &str) -> Delivery {
    Delivery { metadata: Some(json!({"preview": 991})), created_ms: Clock::system().unix_ms(), ..delivery(text) }
}

/// Methods called and their bodies, polls left out.
fn called(fake: &Fake) -> Vec<(String, Value)> {
    let method = |line: &str| line.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_string();
    fake.peer.seen().iter().map(|s| (method(&s.line), s.json())).filter(|(m, _)| !m.starts_with("get")).collect()
}

#[test]
fn what_there_is_of_an_answer_is_one_message_that_is_edited() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    let opened = fake.open(&inlet);
    assert_eq!(opened.0.preview_every(None), Some(Duration::from_secs(1)));
    assert_eq!(opened.0.preview_every(Some("-100/9")), Some(Duration::from_secs(4)), "20 a minute in a group");
    let metadata = json!({"messageId": 77});
    let first = Preview { peer: "7", conversation: Some("-100/9"), metadata: Some(&metadata), text: "**so", message: None };
    let message = opened.0.preview(&first).unwrap();
    let long = format!("```\n{}", "x".repeat(5000));
    opened.0.preview(&Preview { text: &long, message: Some(&message), ..first }).unwrap();
    opened.0.unpreview("7", Some("-100/9"), &message);
    let called = called(&fake);
    assert_eq!(called.iter().map(|(m, _)| m.as_str()).collect::<Vec<_>>(), ["sendMessage", "editMessageText", "deleteMessage"]);
    assert_eq!((&called[0].1["text"], &called[0].1["parse_mode"]), (&json!("**so …"), &Value::Null), "plain");
    assert_eq!((&called[0].1["message_thread_id"], &called[0].1["reply_parameters"]["message_id"]), (&json!(9), &json!(77)));
    assert_eq!((&called[1].1["message_id"], &called[2].1["message_id"]), (&message, &message));
    let shown = called[1].1["text"].as_str().unwrap();
    assert!(shown.encode_utf16().count() <= 4096 && shown.ends_with(" …"), "{}", shown.len());
}

#[test]
fn a_channel_that_is_to_show_none_says_so() {
    let (fake, inlet) = (Fake::new(), Arc::new(MemoryInlet::default()));
    let token = crate::base::secret::Secret::new(TOKEN);
    let config = config::Telegram { token, api_root: fake.peer.url(""), preview: false };
    let counters = Arc::new(Counters::new(ChannelState::Connecting, 0));
    let opened = Opened(open(parts("tg", &inlet, &Clock::system()), config, &common(), counters));
    assert_eq!(opened.0.preview_every(None), None);
}

/// Delivers in the place of a preview, where calls answer as `script` says; gives the calls (method, message, first letter), the parts
/// recorded, and how it ended.
fn put(
    delivery: &Delivery,
    on_unknown: config::OnUnknown,
    script: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static,
) -> (Vec<String>, Vec<u32>, Option<ErrorKind>) {
    let fake = Fake::scripted(move |method, _| script(method));
    let opened = fake.open_with(&Arc::new(MemoryInlet::default()), &config::ChannelCommon { on_unknown, ..common() });
    let recorded = Mutex::new(Vec::new());
    let record = |n| recorded.lock().unwrap().push(n);
    let result = opened.0.deliver(delivery, &Progress { done: 0, record: &record, may_repeat: false });
    let shown = called(&fake).into_iter().map(|(method, body)| {
        let text = body["text"].as_str().unwrap_or_default().chars().next().unwrap_or('-');
        format!("{method} {} {text}", body["message_id"])
    });
    (shown.collect(), recorded.into_inner().unwrap(), result.err().map(|e| e.kind))
}

#[test]
fn the_answer_takes_the_place_of_its_preview() {
    use config::OnUnknown::{Hold, Resend};
    let two = adopted(&format!("{}\nb", "a".repeat(4072)));
    let bad = |status, words: &'static str| {
        move |method: &str| (method == "editMessageText").then(|| refuse(status, words, json!({}))).flatten()
    };
    let (edit, anew, next) = ("editMessageText 991 a", "sendMessage null a", "sendMessage null b");
    let calls = |calls: &[&str]| calls.iter().map(|c| c.to_string()).collect::<Vec<_>>();
    assert_eq!(put(&two, Resend, |_| None), (calls(&[edit, next]), vec![1, 2], None));
    // Tried before and cut off behind the edit.
    let same = "Bad Request: message is not modified: specified new message content is exactly the same";
    assert_eq!(put(&two, Resend, bad(400, same)), (calls(&[edit, next]), vec![1, 2], None));
    // Somebody deleted it.
    let gone = "Bad Request: message to edit not found";
    assert_eq!(put(&two, Resend, bad(400, gone)), (calls(&[edit, anew, next]), vec![1, 2], None));
    // What may pass is tried again there: never a second message.
    for on_unknown in [Resend, Hold] {
        let ended = Some(ErrorKind::Transient);
        assert_eq!(put(&two, on_unknown, bad(502, "Bad Gateway")), (calls(&[edit]), vec![], ended));
        let ended = Some(ErrorKind::Throttled(None));
        assert_eq!(put(&two, on_unknown, bad(429, "Too Many Requests")), (calls(&[edit]), vec![], ended));
    }
}

#[test]
fn a_preview_that_is_old_goes_before_the_answer_comes() {
    use config::OnUnknown::Resend;
    let old = Delivery { created_ms: Clock::system().unix_ms() - 11 * 60 * 1000, ..adopted("a") };
    let bad = |status| move |method: &str| (method == "deleteMessage").then(|| refuse(status, "x", json!({}))).flatten();
    let anew = vec!["deleteMessage 991 -".to_string(), "sendMessage null a".into()];
    assert_eq!(put(&old, Resend, |_| None), (anew.clone(), vec![1], None));
    assert_eq!(put(&old, Resend, bad(400)), (anew.clone(), vec![1], None), "it is gone, or has to stay");
    let ended = Some(ErrorKind::Transient);
    assert_eq!(put(&old, Resend, bad(500)), (anew[..1].to_vec(), vec![], ended), "it may be the answer already");
}
