//! Discord: the gateway in, REST out.

use serde_json::{Value, json};

use super::client;
use crate::support::discord::{BOT, Discord, TOKEN};
use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::{eventually, merged, pause};

fn config(model: &Model, discord: &Discord) -> Value {
    merged(model.config(), json!({"channels": {"home": discord.config()}, "gateway": {"retry": {"maxRetries": 5, "delay": 50}}}))
}

fn until_posts(discord: &Discord, n: usize) -> Vec<String> {
    eventually("a reply in Discord", 20, || Some(discord.texts()).filter(|t| t.len() >= n))
}

#[test]
fn a_conversation_and_a_restart_that_resumes() {
    let (model, discord) = (Model::echo(), Discord::new());
    let mut gateway = Gateway::start(config(&model, &discord));
    discord.direct(900, 11, "hi");
    assert_eq!(until_posts(&discord, 1), ["echo: hi"]);
    assert_eq!(discord.posts()[0]["channel_id"], "900");
    discord.repeat_last();
    discord.event("MESSAGE_UPDATE", json!({"id": "1", "channel_id": "900", "content": "edited"}));
    discord.event("MESSAGE_CREATE", json!("poison"));
    gateway.term();
    discord.direct(900, 11, "while you were away");
    gateway.restart();
    assert_eq!(until_posts(&discord, 2)[1], "echo: while you were away");
    pause(300);
    assert_eq!((discord.posts().len(), discord.sessions()), (2, (1, 1)), "nothing is said twice, no session begun anew");
    let shown = format!("{}{}", gateway.log(), gateway.get("/api/channels").expect(200).text());
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[test]
fn a_session_that_is_lost_is_caught_up_from_the_channels() {
    let (model, discord) = (Model::echo(), Discord::new());
    let mut gateway = Gateway::start(config(&model, &discord));
    discord.direct(900, 11, "hi");
    until_posts(&discord, 1);
    gateway.term();
    discord.direct(900, 11, "missed");
    discord.forget_session();
    gateway.restart();
    assert_eq!(until_posts(&discord, 2)[1], "echo: missed");
    assert_eq!(discord.sessions().0, 2);
}

#[test]
fn in_a_guild_it_answers_where_it_is_named() {
    let (model, discord) = (Model::echo(), Discord::new());
    let _gateway = Gateway::start(config(&model, &discord));
    discord.in_guild(800, 11, "nobody named");
    discord.in_guild(800, 11, &format!("<@{BOT}> hi"));
    assert_eq!(until_posts(&discord, 1), ["echo: hi"]);
    assert!(discord.posts()[0]["message_reference"]["message_id"].is_string());
    pause(300);
    assert_eq!(discord.posts().len(), 1);
}

#[test]
fn killed_behind_the_commit() {
    let (model, discord) = (Model::echo(), Discord::new());
    let mut gateway = Gateway::prepare(config(&model, &discord)).env("GATELET_CRASH_AT", "channel.taken:1");
    gateway.spawn();
    eventually("a session", 20, || (discord.sessions().0 == 1).then_some(()));
    discord.direct(900, 11, "hi");
    gateway.wait_exit(20);
    let mut gateway = Gateway::prepare_in(&gateway.data, "suite-config.json", gateway.read_config());
    gateway.spawn();
    until_posts(&discord, 1);
    pause(300);
    assert_eq!(discord.texts(), ["echo: hi"]);
}

#[test]
fn connections_that_end_and_sends_that_are_refused() {
    let (model, discord) = (Model::echo(), Discord::new());
    let _gateway = Gateway::start(config(&model, &discord));
    discord.direct(900, 11, "one");
    until_posts(&discord, 1);
    for (n, end) in [Discord::reset, Discord::ask_to_reconnect, |d: &Discord| d.close(4000), |d: &Discord| d.close(4009)]
        .into_iter()
        .enumerate()
    {
        end(&discord);
        pause(100);
        discord.direct(900, 11, &format!("after {n}"));
        assert_eq!(until_posts(&discord, n + 2)[n + 1], format!("echo: after {n}"));
    }
    discord.limit_next(2);
    let long = "word ".repeat(1000);
    discord.direct(900, 11, &long);
    let texts = until_posts(&discord, 8);
    let said = texts[5..].join(" ");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), format!("echo: {long}").split_whitespace().collect::<Vec<_>>());
    assert!(texts.iter().all(|t| t.len() <= 2000));
}

/// The stand-in is read by a well-known library.
#[test]
fn the_python_library_discord_py_reads_the_same() {
    let discord = Discord::new();
    discord.direct(900, 11, "hi");
    if client("discord_client.py", &[&discord.api_root(), TOKEN]) {
        assert_eq!((discord.texts(), discord.sessions()), (vec!["echo: hi".to_string()], (1, 1)));
    }
}
