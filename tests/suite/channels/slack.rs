//! Slack: Socket Mode in, `chat.postMessage` out.

use serde_json::{Value, json};

use super::client;
use crate::support::gateway::Gateway;
use crate::support::model::Model;
use crate::support::slack::{APP_TOKEN, BOT_TOKEN, Slack};
use crate::support::{eventually, merged, pause};

fn config(model: &Model, slack: &Slack) -> Value {
    merged(model.config(), json!({"channels": {"work": slack.config()}, "gateway": {"retry": {"maxRetries": 5, "delay": 50}}}))
}

fn until_posts(slack: &Slack, n: usize) -> Vec<String> {
    eventually("a reply in Slack", 20, || Some(slack.texts()).filter(|t| t.len() >= n))
}

#[test]
fn a_conversation_and_a_restart_that_repeats_nothing() {
    let (model, slack) = (Model::echo(), Slack::new());
    slack.direct("U0ANA123", "hi"); // before there is anybody to hear it
    let mut gateway = Gateway::start(config(&model, &slack));
    assert_eq!(until_posts(&slack, 1), ["echo: hi"]);
    assert_eq!(slack.posts()[0]["channel"], "DU0ANA123");
    slack.event(json!({"type": "message", "subtype": "message_changed", "channel": "DU0ANA123", "message": {"text": "edited"}}));
    slack.event(json!("poison"));
    slack.direct("U0ANA123", "again");
    assert_eq!(until_posts(&slack, 2)[1], "echo: again");
    eventually("all is acknowledged", 10, || (slack.waiting() == 0).then_some(()));
    gateway.term();
    gateway.restart();
    slack.direct("U0ANA123", "third");
    assert_eq!(until_posts(&slack, 3)[2], "echo: third");
    pause(300);
    assert_eq!(slack.posts().len(), 3, "nothing is said twice");
    let shown = format!("{}{}", gateway.log(), gateway.get("/api/channels").expect(200).text());
    assert!(!shown.contains(APP_TOKEN) && !shown.contains(BOT_TOKEN) && !shown.contains("ticket"), "{shown}");
}

#[test]
fn in_a_channel_it_answers_where_it_is_named_once_and_in_the_thread() {
    let (model, slack) = (Model::echo(), Slack::new());
    let _gateway = Gateway::start(config(&model, &slack));
    slack.in_channel("C0ROOM12", "U0ANA123", "nobody named");
    slack.in_channel("C0ROOM12", "U0ANA123", "<@U0BOT> hi");
    slack.event(json!({"type": "app_mention", "channel": "C0ROOM12", "user": "U0ANA123", "text": "<@U0BOT> deeper",
        "ts": "1700000001.000200", "thread_ts": "1700000001.000100"}));
    until_posts(&slack, 2);
    pause(300);
    let mut texts = slack.texts();
    texts.sort();
    assert_eq!(texts, ["echo: deeper", "echo: hi"], "two events of one message are one");
    let deeper = slack.posts().into_iter().find(|p| p["text"] == "echo: deeper").unwrap();
    assert_eq!((&deeper["channel"], &deeper["thread_ts"]), (&json!("C0ROOM12"), &json!("1700000001.000100")));
}

#[test]
fn killed_between_the_commit_and_the_acknowledgement() {
    let (model, slack) = (Model::echo(), Slack::new());
    let mut gateway = Gateway::prepare(config(&model, &slack)).env("GATELET_CRASH_AT", "channel.taken:1");
    slack.direct("U0ANA123", "hi");
    gateway.spawn();
    gateway.wait_exit(20);
    assert_eq!(slack.waiting(), 1, "not acknowledged: it comes again");
    let mut gateway = Gateway::prepare_in(&gateway.data, "suite-config.json", gateway.read_config());
    gateway.spawn();
    eventually("it is acknowledged", 20, || (slack.waiting() == 0).then_some(()));
    until_posts(&slack, 1);
    pause(300);
    assert_eq!(slack.texts(), ["echo: hi"]);
}

#[test]
fn connections_that_end_and_sends_that_are_refused() {
    let (model, slack) = (Model::echo(), Slack::new());
    let _gateway = Gateway::start(config(&model, &slack));
    slack.direct("U0ANA123", "one");
    until_posts(&slack, 1);
    slack.reset();
    slack.direct("U0ANA123", "two");
    until_posts(&slack, 2);
    slack.refresh();
    slack.direct("U0ANA123", "three");
    until_posts(&slack, 3);
    assert!(slack.connections() >= 3);
    slack.limit_next(2);
    slack.direct("U0ANA123", "four");
    assert_eq!(until_posts(&slack, 4), ["echo: one", "echo: two", "echo: three", "echo: four"]);
    let long = "word ".repeat(2000);
    slack.direct("U0ANA123", &long);
    let texts = until_posts(&slack, 7);
    let said = texts[4..].join(" ");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), format!("echo: {long}").split_whitespace().collect::<Vec<_>>());
    assert!(texts.iter().all(|t| t.len() <= 4000));
}

/// The stand-in is read by Slack's own library.
#[test]
fn the_python_library_of_slack_reads_the_same() {
    let slack = Slack::new();
    slack.direct("U0ANA123", "hi");
    if client("slack_client.py", &[&slack.api_root(), APP_TOKEN, BOT_TOKEN]) {
        assert_eq!((slack.texts(), slack.waiting()), (vec!["echo: hi".to_string()], 0));
    }
}
