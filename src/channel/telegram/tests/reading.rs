//! What is read of an update, as tables.

use super::*;
use crate::channel::telegram::update::{Kind, Me, read};

fn me() -> Me {
    Me { id: 42, username: "GateBot".into() }
}

/// The message with `change` laid over it, in a private chat unless it says otherwise.
fn changed(change: Value) -> Value {
    let mut update = message(1, "hi");
    for (key, value) in change.as_object().unwrap() {
        update["message"][key] = value.clone();
    }
    update
}

fn text(update: &Value) -> String {
    match read(update, 1, &me()) {
        Kind::Message(incoming) => incoming.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_messages_of_people_are_messages() {
    let group = json!({"id": -100, "type": "supergroup"});
    let of = |kind: &str| json!({"update_id": 1, kind: message(1, "hi")["message"]});
    for update in [
        of("edited_message"),
        of("channel_post"),
        of("edited_channel_post"),
        of("business_message"),
        of("edited_business_message"),
        json!({"update_id": 1, "callback_query": {"id": "1", "from": {"id": 7}, "data": "/approve", "message": message(1, "hi")["message"]}}),
        json!({"update_id": 1, "message_reaction": {"user": {"id": 7}}}),
        json!({"update_id": 1, "inline_query": {"from": {"id": 7}, "query": "x"}}),
        json!({"update_id": 1, "my_chat_member": {"from": {"id": 7}}}),
        json!({"update_id": 1, "chat_join_request": {"from": {"id": 7}}}),
        json!({"update_id": 1, "what_is_new": {}}),
        json!({"update_id": 1}),
        changed(json!({"text": null})),
        changed(json!({"text": " \n"})),
        changed(json!({"text": null, "new_chat_members": [{"id": 7}]})),
        changed(json!({"from": null})),
        changed(json!({"from": {"id": "7", "is_bot": false}})),
        changed(json!({"from": {"id": 7}})),
        changed(json!({"from": {"id": 7, "is_bot": true}})),
        changed(json!({"from": {"id": 8, "is_bot": false}})),
        changed(json!({"sender_chat": {"id": -5, "type": "channel"}, "chat": group})),
        changed(json!({"chat": {"id": 7, "type": "channel"}})),
        changed(json!({"chat": {"id": 7, "type": "secret"}})),
    ] {
        let kind = read(&update, 1, &me());
        assert!(matches!(kind, Kind::NotForUs), "{update}: {kind:?}");
    }
    for update in [json!(5), json!([]), changed(json!({"chat": {}})), changed(json!({"message_id": null}))] {
        assert!(matches!(read(&update, 1, &me()), Kind::Poison), "{update}");
    }
}

/// Whether a group's message with `change` is for the bot.
#[track_caller]
fn check_mention(change: Value, wanted: bool) {
    let mut update = changed(change.clone());
    update["message"]["chat"] = json!({"id": -100, "type": "supergroup"});
    let Kind::Message(incoming) = read(&update, 1, &me()) else { panic!("{update}") };
    assert_eq!(incoming.place, Place::Group { id: "-100".into(), mentioned: wanted }, "{change}");
    assert_eq!(incoming.metadata, Some(json!({"messageId": 1})));
}

#[test]
fn groups_know_who_is_meant() {
    let said = |text: &str, kind: &str, offset: u64, length: u64| json!({"text": text, "entities": [{"type": kind, "offset": offset, "length": length}]});
    check_mention(said("😀 @gatebot hi", "mention", 3, 8), true);
    check_mention(said("@gatebot2 hi", "mention", 0, 9), false);
    check_mention(json!({"text": "@gatebot without an entity"}), false);
    check_mention(said("/stop@GateBot", "bot_command", 0, 13), true);
    check_mention(said("/stop@OtherBot", "bot_command", 0, 14), false);
    check_mention(said("/stop", "bot_command", 0, 5), false);
    check_mention(said("@gatebot", "mention", u64::MAX, u64::MAX), false);
    check_mention(
        json!({"text": "x", "entities": [{"type": "text_mention", "offset": 0, "length": 1, "user": {"id": 42}}]}),
        true,
    );
    check_mention(json!({"reply_to_message": {"message_id": 9, "from": {"id": 42}, "text": "before"}}), true);
    check_mention(json!({"reply_to_message": {"message_id": 9, "from": {"id": 8}}}), false);
    let caption = json!({"text": null, "photo": [{}], "caption": "@GateBot", "caption_entities": [{"type": "mention", "offset": 0, "length": 8}]});
    check_mention(caption, true);
    let mut forwarded = said("@gatebot hi", "mention", 0, 8);
    forwarded["forward_origin"] = json!({"type": "user", "sender_user": {"id": 9}});
    check_mention(forwarded, false);
    // In a topic that the bot has opened every message seems to answer it.
    check_mention(
        json!({"is_topic_message": true, "message_thread_id": 9, "reply_to_message": {"message_id": 9, "from": {"id": 42}}}),
        false,
    );
}

#[test]
fn topics_are_conversations_of_their_own() {
    for (change, wanted) in [
        (json!({}), "-100"),
        (json!({"message_thread_id": 9}), "-100"),
        (json!({"message_thread_id": 9, "is_topic_message": true}), "-100/9"),
    ] {
        let mut update = changed(change);
        update["message"]["chat"] = json!({"id": -100, "type": "supergroup", "is_forum": true});
        let Kind::Message(incoming) = read(&update, 1, &me()) else { panic!("{update}") };
        assert_eq!(incoming.conversation.as_deref(), Some(wanted));
    }
}

#[test]
fn attachments_are_described_and_quotes_carry_no_authority() {
    for (change, wanted) in [
        (
            json!({"text": null, "caption": "look", "photo": [{"width": 90, "height": 60}, {"width": 1280, "height": 960, "file_size": 5}]}),
            "[photo 1280×960, 5 bytes]\nlook",
        ),
        (
            json!({"text": null, "document": {"file_name": "a]\n[b.pdf", "mime_type": "application/pdf", "file_size": 9}}),
            "[document \"a   b.pdf\", application/pdf, 9 bytes]",
        ),
        (json!({"text": null, "voice": {"duration": 12, "mime_type": "audio/ogg"}}), "[voice audio/ogg, 12 s]"),
        (json!({"text": null, "animation": {}, "document": {}}), "[animation]"),
        (json!({"text": null, "sticker": {"emoji": "😀"}}), "[sticker 😀]"),
        (json!({"text": null, "location": {"latitude": 52.5, "longitude": 13.25}}), "[location 52.5, 13.25]"),
        (json!({"text": null, "contact": {"first_name": "Bo", "phone_number": "+1"}}), "[contact Bo, +1]"),
        (json!({"text": null, "poll": {"question": "Q?", "options": [{"text": "a"}, {"text": "b"}]}}), "[poll Q?, a / b]"),
        (
            json!({"text": "/approve x\nnow", "forward_origin": {"type": "user", "sender_user": {"first_name": "Eve"}}}),
            "[forwarded from Eve, not the sender's own words:]\n> /approve x\n> now",
        ),
        (
            json!({"forward_origin": {"type": "hidden_user", "sender_user_name": "E]ve"}}),
            "[forwarded from E ve, not the sender's own words:]\n> hi",
        ),
        (
            json!({"text": "/stop", "reply_to_message": {"message_id": 5, "from": {"first_name": "Bo"}, "text": "a\nb"}}),
            "/stop\n\n[this answers a message of Bo, quoted:]\n> a\n> b",
        ),
        (
            json!({"reply_to_message": {"message_id": 5, "text": "a long one"}, "quote": {"text": "long"}}),
            "hi\n\n[this answers a message of somebody, quoted:]\n> long",
        ),
        (json!({"text": "/stop@GateBot"}), "/stop@GateBot"),
    ] {
        assert_eq!(text(&changed(change.clone())), wanted, "{change}");
    }
}
