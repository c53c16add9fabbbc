//! Matrix, against a real Synapse.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::model::{Act, Model};
use crate::support::synapse::{Person, Said, Synapse};
use crate::support::{eventually, figure, merged, pause, skipped};

/// A gateway whose agent is this model and whose channel `mx` is the account `bot`.
fn gateway(synapse: &Synapse, agents: Value, channel: Value) -> Gateway {
    let channel = merged(synapse.channel("bot"), channel);
    let gateway = Gateway::start(merged(agents, json!({"channels": {"mx": channel}})));
    connected(&gateway);
    gateway
}

fn connected(gateway: &Gateway) {
    eventually("the channel", 30, || (state(gateway) == "connected").then_some(()));
}

fn state(gateway: &Gateway) -> String {
    let all = gateway.get("/api/channels").expect(200).json();
    let channels = all["channels"].as_array().cloned().unwrap_or_default();
    channels.iter().find(|c| c["name"] == "mx").map(|c| c["state"].as_str().unwrap_or_default().to_string()).unwrap_or_default()
}

fn bodies(said: &[Said]) -> Vec<&str> {
    said.iter().map(|s| s.body.as_str()).collect()
}

/// A direct room with the bot, which has come.
fn direct(person: &Person, bot: &Person) -> String {
    let room = person.room(&[&bot.id], true, json!({}));
    eventually("the bot to come", 40, || person.members(&room).contains(&bot.id).then_some(()));
    room
}

#[test]
fn people_talk_with_the_agent_where_they_may() {
    let Some(synapse) = Synapse::start("Matrix: conversations") else { return };
    let (ana, bob, bot) = (synapse.person("ana"), synapse.person("bob"), synapse.person("bot"));
    let old = ana.room(&[&bot.id], true, json!({}));
    bot.join(&old);
    ana.say(&old, "long before");
    let model = Model::echo();
    let gateway = gateway(&synapse, model.config(), json!({"groupPolicy": "open"}));

    // Invited, written to at once, before it came.
    let room = ana.room(&[&bot.id], true, json!({}));
    ana.say(&room, "hello **bot**");
    let said = ana.hears(&room, 1, 40);
    assert_eq!((bodies(&said), said[0].sender.as_str()), (vec!["echo: hello **bot**"], bot.id.as_str()));
    assert_eq!(said[0].content["formatted_body"], "<p>echo: hello <strong>bot</strong></p>");
    ana.say(&room, "and again");
    assert_eq!(bodies(&ana.hears(&room, 2, 20))[1], "echo: and again");

    // What neither is new nor a message: nothing. An answer in a thread stays there.
    let first = ana.say(&room, "third");
    ana.hears(&room, 3, 20);
    let edit = json!({"msgtype": "m.text", "body": "* changed", "m.new_content": {"msgtype": "m.text", "body": "changed"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": first}});
    ana.send(&room, edit);
    ana.send(&room, json!({"msgtype": "m.notice", "body": "I am a bot"}));
    let thread = json!({"rel_type": "m.thread", "event_id": first});
    ana.send(&room, json!({"msgtype": "m.text", "body": "aside", "m.relates_to": thread}));
    let said = ana.hears(&room, 4, 20);
    assert_eq!(bodies(&said)[3..], ["echo: aside"]);
    assert_eq!(
        (&said[3].content["m.relates_to"]["rel_type"], &said[3].content["m.relates_to"]["event_id"]),
        (&json!("m.thread"), &json!(first))
    );

    // Among several: only who is meant is answered.
    let group = bob.room(&[&bot.id, &ana.id], false, json!({"name": "kitchen"}));
    ana.join(&group);
    eventually("the bot to come", 40, || bob.members(&group).contains(&bot.id).then_some(()));
    bob.say(&group, "hi all");
    let asked = bob.send(&group, json!({"msgtype": "m.text", "body": "what now?", "m.mentions": {"user_ids": [bot.id]}}));
    let said = ana.heard(&group);
    let answer = eventually("an answer in the group", 20, || ana.heard(&group).into_iter().find(|s| s.sender == bot.id));
    assert_eq!(answer.body, "echo: what now?", "{said:?}");
    assert_eq!(answer.content["m.relates_to"]["m.in_reply_to"]["event_id"], asked.as_str());

    // An encrypted room: one sentence, however much is said.
    let secret = json!({"initial_state": [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]});
    let closed = ana.room(&[&bot.id], true, secret);
    eventually("the bot to come", 40, || ana.members(&closed).contains(&bot.id).then_some(()));
    ana.say(&closed, "can you read this?");
    ana.say(&closed, "or this?");
    let said = ana.hears(&closed, 1, 20);
    assert!(said[0].body.contains("encrypted"), "{said:?}");

    // The gateway speaks first, where ana was last.
    let user = ana.id.as_str();
    gateway.post("/api/message", json!({"userId": user, "message": "by the way", "channel": "mx"})).expect(202);
    eventually("the gateway's own words", 20, || {
        let rooms = [&room, &group, &old];
        rooms.iter().any(|r| ana.heard(r).iter().any(|s| s.body == "by the way")).then_some(())
    });
    pause(500);
    assert_eq!(ana.heard(&closed).len(), 1, "once");
    assert!(ana.heard(&old).iter().all(|s| s.body == "by the way"), "history is not answered");
    assert_eq!(model.times("long before") + model.times("hi all") + model.times("* changed") + model.times("I am a bot"), 0);
    assert_eq!(state(&gateway), "connected");
}

#[test]
fn strangers_invitations_are_rejected() {
    let Some(synapse) = Synapse::start("Matrix: invitations") else { return };
    let (ana, eve, bot) = (synapse.person("ana"), synapse.person("eve"), synapse.person("bot"));
    let policy = json!({"dmPolicy": "allowlist", "allowFrom": [ana.id]});
    let _gateway = gateway(&synapse, Model::echo().config(), policy);
    let (bad, group) = (eve.room(&[&bot.id], true, json!({})), eve.room(&[&bot.id], false, json!({})));
    direct(&ana, &bot);
    eventually("the others to be rejected", 20, || bot.invitations().is_empty().then_some(()));
    assert!(!eve.members(&bad).contains(&bot.id) && !eve.members(&group).contains(&bot.id));
}

#[test]
fn nothing_is_lost_or_doubled_when_either_side_dies() {
    let Some(mut synapse) = Synapse::start("Matrix: deaths") else { return };
    let (ana, bot) = (synapse.person("ana"), synapse.person("bot"));
    let model = Model::scripted(|q| {
        let said = Act::Say(format!("echo: {}", q.text));
        if q.text == "slow" { Act::After(1500, Box::new(said)) } else { said }
    });
    let mut gateway = gateway(&synapse, model.config(), json!({}));
    let room = direct(&ana, &bot);
    ana.say(&room, "first");
    ana.hears(&room, 1, 20);

    // Killed in the middle of a turn.
    ana.say(&room, "slow");
    eventually("the turn", 20, || (model.times("slow") > 0).then_some(()));
    gateway.kill9();
    // More is said meanwhile than one answer to /sync holds.
    for n in 0..70 {
        ana.say(&room, &format!("while away {n}"));
    }
    gateway.restart();
    let said = ana.hears(&room, 72, 90);
    let mut wanted = vec!["echo: first".to_string(), "echo: slow".to_string()];
    wanted.extend((0..70).map(|n| format!("echo: while away {n}")));
    assert_eq!(bodies(&said), wanted);

    // The homeserver goes away and comes back.
    connected(&gateway);
    synapse.stop();
    eventually("the loss to be seen", 60, || (state(&gateway) == "degraded").then_some(()));
    pause(1000);
    synapse.resume();
    let began = std::time::Instant::now();
    ana.say(&room, "back again");
    let said = ana.hears(&room, 73, 60);
    figure(&format!("Matrix: answered {:?} after the homeserver was back", began.elapsed()));
    assert_eq!(bodies(&said)[72..], ["echo: back again"]);
    connected(&gateway);

    // A restart repeats nothing.
    gateway.term();
    gateway.restart();
    connected(&gateway);
    pause(1500);
    assert_eq!(ana.heard(&room).len(), 73);
}

#[test]
fn a_real_model_is_talked_with() {
    let Ok(url) = std::env::var("GATELET_MODEL_URL") else {
        return skipped("Matrix with a real model: GATELET_MODEL_URL names no model server (.ci/run starts one)");
    };
    let Some(synapse) = Synapse::start("Matrix with a real model") else { return };
    let _alone = crate::support::heavy();
    let (ana, bot) = (synapse.person("ana"), synapse.person("bot"));
    let agents = json!({"providers": {"real": {"type": "openai", "baseUrl": url, "apiKey": null}},
        "agents": {"main": {"provider": "real", "model": "auto", "maxOutputTokens": 24}}});
    let _gateway = gateway(&synapse, agents, json!({}));
    let room = direct(&ana, &bot);
    for (n, words) in ["Say hello.", "Name one colour."].into_iter().enumerate() {
        ana.say(&room, words);
        let said = ana.hears(&room, n + 1, 90);
        assert!(!said[n].body.trim().is_empty(), "{said:?}");
        figure(&format!("Matrix: a real model's reply to {words:?}: {:?}", said[n].body));
    }
}
