//! What each kind of channel weighs while it is connected and nobody writes: memory and threads.

use serde_json::{Map, Value, json};

use crate::support::discord::Discord;
use crate::support::gateway::Gateway;
use crate::support::model::echo_config;
use crate::support::mosquitto::Mosquitto;
use crate::support::slack::Slack;
use crate::support::synapse::Synapse;
use crate::support::telegram::Telegram;
use crate::support::{eventually, figure, merged, pause};

/// Memory in KiB and threads with these channels, all of them connected for a while.
fn weight(channels: &[(&str, Value)]) -> (u64, u64) {
    let named: Map<String, Value> = channels.iter().map(|(name, channel)| (name.to_string(), channel.clone())).collect();
    let gateway = Gateway::start(merged(echo_config(), json!({"channels": named})));
    eventually("all are connected", 40, || {
        let all = gateway.get("/api/channels").expect(200).json();
        let up = all["channels"].as_array().unwrap().iter().filter(|c| c["state"] == "connected").count();
        (up >= channels.len()).then_some(())
    });
    pause(300);
    let stat = gateway.settled();
    (stat.rss_kb, stat.threads)
}

#[test]
fn what_each_kind_of_channel_weighs() {
    let (Some(broker), Some(synapse)) = (Mosquitto::start(false), Synapse::start("the weight of channels")) else { return };
    synapse.person("bot");
    let (telegram, slack, discord) = (Telegram::new(), Slack::new(), Discord::new());
    let all = [
        ("tg", telegram.config(json!({}), json!({}))["channels"]["tg"].clone()),
        ("mx", synapse.channel("bot")),
        ("home", broker.channel()),
        ("dc", discord.config()),
        ("sl", slack.config()),
    ];
    let (none, threads) = weight(&[]);
    let mut told = vec![format!("none {none} KiB in {threads} threads")];
    for one in &all {
        let (kib, more) = weight(std::slice::from_ref(one));
        told.push(format!(
            "{} +{} KiB, +{} threads",
            one.1["type"].as_str().unwrap_or_default(),
            kib as i64 - none as i64,
            more - threads
        ));
        assert!(kib < none + 6 * 1024, "{told:?}");
    }
    let (kib, more) = weight(&all);
    told.push(format!("all five +{} KiB, +{} threads", kib as i64 - none as i64, more - threads));
    figure(&format!("idle memory by channel: {}", told.join("; ")));
    assert!(kib < none + 16 * 1024 && more <= threads + 12, "{told:?}");
}
