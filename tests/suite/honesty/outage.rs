//! The network goes, and comes back: what was said meanwhile is drained in order, nobody storms the service, and no try is spent.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::counterpart::{CHANNEL, Counterpart, Mqtt};
use crate::flow::{DOOR, with_door};
use crate::support::cable::Cable;
use crate::support::gateway::Gateway;
use crate::support::model::{Model, echo_config};
use crate::support::sink::Sink;
use crate::support::telegram::Telegram;
use crate::support::{eventually, figure, merged, pause, skipped};

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

/// The door's replies go to this place instead.
fn with_receiver(config: Value, sink: &Sink, place: &str) -> Value {
    merged(with_door(config, sink), json!({"channels": {"door": {"replyUrl": format!("http://{place}/sink")}}}))
}

fn said_at_the_door(gateway: &Gateway, texts: &[String]) {
    for text in texts {
        gateway.call("POST", "/webhook/door").token(DOOR).json(&json!({"userId": "ana", "message": text})).send().expect(202);
    }
}

fn port_of(url: &str) -> u16 {
    url.split([':', '/']).filter_map(|part| part.parse().ok()).next().expect("a port")
}

/// 8 kbit/s to the model and to the receiver: slow is no fault. Nothing is tried twice, nobody else waits.
#[test]
fn a_line_of_a_kilobyte_a_second() {
    let (model, sink) = (Model::echo(), Sink::new());
    let (to_model, to_sink) = (Cable::to(port_of(&model.base())), Cable::to(port_of(&sink.url)));
    let config = with_receiver(model.config(), &sink, &format!("127.0.0.1:{}", to_sink.port));
    let text = config.to_string().replace(&format!(":{}", port_of(&model.base())), &format!(":{}", to_model.port));
    let gateway = Gateway::start(serde_json::from_str(&text).expect("JSON"));
    assert_eq!(gateway.ask("bob", "hi"), "echo: hi", "the line is there");
    to_model.narrow(1000);
    to_sink.narrow(1000);
    let texts: Vec<_> = (0..3).map(|n| format!("{n} {}", "x".repeat(300))).collect();
    let begin = Instant::now();
    said_at_the_door(&gateway, &texts);
    let taken = begin.elapsed();
    let got = sink.until(3, 60);
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(2), "the line was not narrow: {took:?}");
    let replies: Vec<_> = got.iter().map(|one| one.text().to_string()).collect();
    assert_eq!(replies, texts.iter().map(|text| format!("echo: {text}")).collect::<Vec<_>>(), "in order");
    pause(3_000);
    assert_eq!((sink.got().len(), model.times(&texts[0]), model.asked().len()), (3, 1, 4), "once");
    assert!(taken < Duration::from_secs(2), "acceptance does not wait for the line: {taken:?}");
    figure(&format!("a line of 1,000 bytes a second: 3 messages taken in {taken:?}, answered and delivered in {took:?}"));
}

/// A name server that hears questions and answers none, until it is let.
struct Names {
    address: &'static str,
    answers: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Names {
    /// None where the port of name servers is not to be had.
    fn begin() -> Option<Self> {
        let address = "127.9.9.9";
        let socket = UdpSocket::bind((address, 53)).ok()?;
        let names = Names { address, answers: Arc::default(), asked: Arc::default() };
        let (answers, asked) = (names.answers.clone(), names.asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::SeqCst);
                if answers.load(Ordering::SeqCst) {
                    let _ = socket.send_to(&answer(&buffer[..n]), from);
                }
            }
        });
        Some(names)
    }
}

/// RFC 1035: the question again, and 127.0.0.1 where it is for an address of that kind.
fn answer(question: &[u8]) -> Vec<u8> {
    let name = question[12..].iter().position(|b| *b == 0).expect("the name's end");
    let end = 12 + name + 5;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let mut out = question[..end].to_vec();
    out[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    out
}

/// A name that nobody resolves holds up what is to go there and nothing else; what waited goes when it resolves.
#[test]
fn a_dead_resolver_holds_up_its_name_alone() {
    let may_mount = std::process::Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|s| s.success());
    let Some(names) = Names::begin().filter(|_| may_mount) else {
        return skipped("the dead resolver: be root, and let namespaces be made");
    };
    let sink = Sink::new();
    let config = with_receiver(echo_config(), &sink, &format!("receiver.test:{}", port_of(&sink.url)));
    let retries = json!({"gateway": {"retry": {"maxRetries": 20, "delay": 500}}});
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("nameserver {}\n", names.address)).expect("writing it");
    let script = format!(
        "[ -e /etc/resolv.conf ] || : >/etc/resolv.conf; mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        file.path().display()
    );
    let mut gateway = Gateway::prepare(merged(config, retries)).through(&["unshare", "--mount", "sh", "-c", &script]).begin();
    let before = gateway.settled().threads;
    let texts: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    said_at_the_door(&gateway, &texts);
    eventually("the name server is asked", 20, || (names.asked.load(Ordering::SeqCst) > 0).then_some(()));
    let begin = Instant::now();
    for n in 0..20 {
        assert_eq!(gateway.ask(&format!("u{n}"), "hi"), "echo: hi");
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "others wait for it: {took:?}");
    let more = gateway.stat().threads.saturating_sub(before);
    assert!(more <= 8, "{more} threads more");
    assert!(sink.got().is_empty());
    gateway.kill9();
    gateway.restart();
    names.answers.store(true, Ordering::SeqCst);
    let got = sink.until(10, 60);
    assert_eq!(
        got.iter().map(|one| one.text().to_string()).collect::<Vec<_>>(),
        texts.iter().map(|t| format!("echo: {t}")).collect::<Vec<_>>()
    );
    figure(&format!(
        "a dead resolver: 20 others answered in {took:?}, {more} threads more, 10 messages delivered when it answers"
    ));
}
