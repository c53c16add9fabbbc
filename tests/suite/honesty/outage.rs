//! The network goes, and comes back: what was said meanwhile is drained in order, nobody storms the service, and no try is spent.

use serde_json::{Value, json};

use super::counterpart::{CHANNEL, Counterpart, Mqtt};
use crate::support::cable::Cable;
use crate::support::gateway::Gateway;
use crate::support::model::echo_config;
use crate::support::telegram::Telegram;
use crate::support::{eventually, figure, merged, pause};

/// How long it is away, in ms; what is longer is shown by the library's tests, on a manual clock.
const AWAY_MS: u64 = 5_000;
/// Connections that may be tried in that time: pauses of 1, 2 and 4 s, one for each, a call or two each.
const TRIED_MAX: usize = 8;

fn state(gateway: &Gateway) -> Value {
    let all = gateway.get("/api/channels").expect(200).json();
    let mut all = all["channels"].as_array().cloned().unwrap_or_default().into_iter();
    all.find(|c| c["name"] == CHANNEL).unwrap_or_else(|| panic!("the channel"))
}

fn check(name: &str, service: &dyn Counterpart, cable: &Cable, user: &str, channel: Value) {
    let own = json!({"channels": {CHANNEL: channel}, "gateway": {"retry": {"maxRetries": 1, "delay": 100}}});
    let gateway = Gateway::start(merged(echo_config(), own));
    eventually("connected", 20, || (state(&gateway)["state"] == "connected").then_some(()));
    service.say(&gateway, "before");
    eventually("the first answer", 20, || (service.arrived().len() == 1).then_some(()));
    cable.pull();
    eventually("the loss to be seen", 20, || (state(&gateway)["state"] == "degraded").then_some(()));
    for n in 0..5 {
        service.say(&gateway, &format!("in {n}"));
        gateway
            .post("/api/message", json!({"userId": user, "channel": CHANNEL, "message": format!("echo: out {n}")}))
            .expect(202);
    }
    pause(AWAY_MS);
    let shown = state(&gateway);
    assert!(shown["lastError"].is_string(), "{shown}");
    let tried = cable.plug();
    assert!((1..=TRIED_MAX).contains(&tried), "{name}: {tried} connections in {AWAY_MS} ms");
    let arrived = eventually("all", 40, || Some(service.arrived()).filter(|a| a.len() >= 11));
    let texts =
        |kind: &str| -> Vec<String> { arrived.iter().filter(|a| a.text.contains(kind)).map(|a| a.text.clone()).collect() };
    let wanted = |kind: &str| (0..5).map(|n| format!("echo: {kind} {n}")).collect::<Vec<_>>();
    assert_eq!((texts("out"), texts("in ")), (wanted("out"), wanted("in")), "{name}: in order, once");
    assert!(arrived.iter().all(|a| !a.is_marked), "{name}: nothing was in doubt: {arrived:?}");
    assert_eq!(gateway.get("/api/outbox?state=dead").expect(200).json()["outbox"], json!([]), "{name}: no try was spent");
    figure(&format!("{name} away for {AWAY_MS} ms: {tried} connections tried, 10 messages drained in order"));
}

#[test]
fn telegram_goes_and_comes_back() {
    let telegram = Telegram::new();
    let port = telegram.root().rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    let cable = Cable::to(port);
    let channel = merged(telegram.channel(), json!({"apiRoot": format!("http://127.0.0.1:{}", cable.port)}));
    check("Telegram", &telegram, &cable, "7", channel);
}

#[test]
fn the_mqtt_broker_goes_and_comes_back() {
    let Some(mqtt) = Mqtt::start() else { return };
    let cable = Cable::to(mqtt.port());
    let channel = merged(mqtt.channel(), json!({"url": format!("mqtt://127.0.0.1:{}", cable.port)}));
    check("MQTT", &mqtt, &cable, "ana", channel);
}
