//! The channel against a scripted broker over real sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::broker::{Broker, Client};
use super::open;
use crate::base::clock::Clock;
use crate::base::error::ErrorKind;
use crate::base::secret::Secret;
use crate::channel::counters::Counters;
use crate::channel::memory;
use crate::channel::memory::{MemoryInlet, common, fresh, parts};
use crate::channel::{Channel, ChannelState, Incoming, NotNow, Taken};
use crate::config;
use crate::domain::{Accepted, Delivery};

fn config(port: u16) -> config::Mqtt {
    config::Mqtt {
        tls: false,
        host: "127.0.0.1".into(),
        port,
        username: Some("bot".into()),
        password: Some(Secret::new("geheim")),
        client_id: None,
        ca_file: None,
        subscribe: "gatelet/in/+".into(),
        publish: "gatelet/out/{user}".into(),
        home_assistant: false,
    }
}

fn answering(answer: impl Fn(&Incoming) -> Result<Taken, NotNow> + Send + Sync + 'static) -> Arc<MemoryInlet> {
    let mut inlet = MemoryInlet::default();
    inlet.answer = Some(Box::new(answer));
    Arc::new(inlet)
}

fn start(config: config::Mqtt, inlet: &Arc<MemoryInlet>) -> Arc<dyn Channel> {
    let parts = parts("home", inlet, &Clock::system());
    open(parts, config, &common(), Arc::new(Counters::new(ChannelState::Connecting, 0)))
}

#[allow(clippy::disallowed_methods)] // the channel lives by real sockets and threads here
fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if probe() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still waiting for: {what}");
}

fn is_connected(channel: &Arc<dyn Channel>) -> bool {
    channel.status().state == ChannelState::Connected
}

fn delivery(peer: &str) -> Delivery {
    Delivery { user_id: peer.into(), ..memory::delivery(peer, "the answer") }
}

fn acknowledged(client: &mut Client) -> u8 {
    client.until(0x40)[3]
}

#[test]
fn a_message_is_acknowledged_after_it_is_taken_and_an_answer_goes_out() {
    let (broker, release) = (Broker::new(), Arc::new(Mutex::new(())));
    let held = release.lock().unwrap();
    let gate = release.clone();
    let inlet = answering(move |i| {
        drop(gate.lock());
        Ok(Taken::Accepted(Accepted { id: i.external_id.clone(), session_id: "s".into(), duplicate: false }))
    });
    let channel = start(config(broker.port()), &inlet);
    let mut client = broker.serve(0);
    assert!(client.connect.windows(10).any(|w| w == b"\x00\x03bot\x00\x06gehe".get(..10).unwrap()), "{:?}", client.connect);
    let status = client.until(0x31);
    assert!(status.ends_with(b"online"), "retained: {status:?}");
    client.publish(9, "hello", false);
    eventually("the offer", || inlet.texts() == ["hello"]);
    // While the disk is slow, pings are answered and nothing is acknowledged.
    client.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err());
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(held);
    assert_eq!(acknowledged(&mut client), 9);
    let first = inlet.offered.lock().unwrap()[0].clone();
    assert_eq!((first.sender.as_str(), first.conversation), ("ana", None));

    let (told, outcome) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(channel.deliver(&delivery("ana"), &fresh())));
        let publish = client.until(0x32);
        let text = String::from_utf8_lossy(&publish).into_owned();
        assert!(text.contains("gatelet/out/ana") && text.contains("dlv_1") && text.ends_with("the answer"), "{text}");
        assert!(outcome.try_recv().is_err(), "not before the receipt");
        let at = 4 + usize::from(publish[3]) + usize::from(publish[1] & 0x80 != 0);
        client.say(&[0x40, 2, publish[at], publish[at + 1]]);
        outcome.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    });
    let refused = channel.deliver(&delivery("a/b"), &fresh()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Permanent);
    assert_eq!(channel.status().sent, 1);
    // What the broker refuses for one recipient says nothing about the connection: others must not wait for it.
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| channel.deliver(&delivery("eve"), &fresh()));
        let publish = client.until(0x32);
        let at = 4 + usize::from(publish[3]) + usize::from(publish[1] & 0x80 != 0);
        client.say(&[0x40, 3, publish[at], publish[at + 1], 0x87]);
        assert!(!sending.join().unwrap().unwrap_err().is_passing());
    });
    let status = channel.status();
    assert_eq!((status.state, status.failed, status.holds_back()), (ChannelState::Connected, 1, None));

    channel.stop();
    assert!(client.until(0x31).ends_with(b"offline"));
    assert_eq!(client.until(0xE0), [0xE0, 0]);
    eventually("the stop", || channel.status().state == ChannelState::Stopped);
    assert_eq!(channel.deliver(&delivery("ana"), &fresh()).unwrap_err().kind, ErrorKind::Transient);
}

#[test]
fn what_comes_again_after_a_kill_is_one_message() {
    let broker = Broker::new();
    let inlet = Arc::new(MemoryInlet::default());
    let channel = start(config(broker.port()), &inlet);
    let mut client = broker.serve(0);
    client.publish(1, "on", false);
    client.publish(2, "on", false);
    eventually("both", || inlet.texts().len() == 2);
    channel.stop();
    drop(client); // the acknowledgements are lost with it
    // Another process, the same cursor.
    let channel = start(config(broker.port()), &inlet);
    let mut client = broker.accept();
    client.say(&[0x20, 3, 1, 0, 0]);
    for id in [1, 2] {
        client.publish(id, "on", true);
    }
    client.publish(3, "on", true); // never seen before
    assert_eq!([1, 2, 3].map(|_| acknowledged(&mut client)), [1, 2, 3]);
    let ids: Vec<String> = inlet.offered.lock().unwrap().iter().map(|i| i.external_id.clone()).collect();
    assert_eq!((&ids[2], &ids[3]), (&ids[0], &ids[1]));
    assert!(ids[0] != ids[1] && !ids[..4].contains(&ids[4]), "{ids:?}");
    // Confirmed by the ping behind: the same packet id and words are another message now.
    client.until(0xC0);
    client.say(&[0xD0, 0]);
    client.publish(1, "on", true);
    acknowledged(&mut client);
    let ids: Vec<String> = inlet.offered.lock().unwrap().iter().map(|i| i.external_id.clone()).collect();
    assert!(!ids[..5].contains(&ids[5]), "{ids:?}");
    channel.stop();
}

#[test]
fn what_cannot_be_taken_now_is_not_acknowledged_and_comes_again() {
    let broker = Broker::new();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = full.clone();
    let inlet = answering(move |i| match is_full.load(Ordering::SeqCst) {
        true => Err(NotNow("the disk is full".into())),
        false => Ok(Taken::Accepted(Accepted { id: i.external_id.clone(), session_id: "s".into(), duplicate: false })),
    });
    let channel = start(config(broker.port()), &inlet);
    let mut client = broker.serve(0);
    client.publish(1, "one", false);
    client.publish(2, "two", false);
    while !client.packet().is_empty() {} // it leaves, without a PUBACK
    eventually("degraded", || channel.status().last_error.is_some_and(|e| e.contains("the disk is full")));
    full.store(false, Ordering::SeqCst);
    let mut client = broker.serve(1);
    client.publish(1, "one", true);
    client.publish(2, "two", true);
    assert_eq!([acknowledged(&mut client), acknowledged(&mut client)], [1, 2]);
    assert_eq!(inlet.texts().last().unwrap(), "two");
    eventually("connected", || is_connected(&channel));
    channel.stop();
}

#[test]
fn an_older_broker_is_spoken_to_in_its_own_version() {
    for answer in [Some(&[0x20u8, 2, 0, 1][..]), None] {
        let broker = Broker::new();
        let inlet = Arc::new(MemoryInlet::default());
        let channel = start(config(broker.port()), &inlet);
        let mut first = broker.accept();
        assert_eq!(first.connect.windows(5).find(|w| w.starts_with(b"MQTT")).unwrap()[4], 5);
        answer.iter().for_each(|a| first.say(a));
        drop(first);
        let mut client = broker.accept();
        assert_eq!(client.connect.windows(5).find(|w| w.starts_with(b"MQTT")).unwrap()[4], 4);
        client.say(&[0x20, 2, 0, 0]);
        let subscribe = client.until(0x82);
        client.say(&[0x90, 3, subscribe[2], subscribe[3], 1]);
        client.say(b"\x33\x12\x00\x0egatelet/in/ana\x00\x05"); // retained, from before: nobody says it now
        assert_eq!(acknowledged(&mut client), 5);
        client.say(b"\x32\x14\x00\x0egatelet/in/ana\x00\x06hi");
        assert_eq!(acknowledged(&mut client), 6);
        assert_eq!(inlet.texts(), ["hi"]);
        channel.stop();
    }
}

#[test]
fn answers_that_would_come_back_in_are_refused_where_the_broker_cannot_prevent_it() {
    let broker = Broker::new();
    let channel =
        start(config::Mqtt { publish: "gatelet/in/{user}".into(), ..config(broker.port()) }, &Arc::new(MemoryInlet::default()));
    broker.accept().say(&[0x20, 2, 0, 1]);
    eventually("the refusal", || channel.status().state == ChannelState::Misconfigured);
    channel.stop();
}

#[test]
fn what_is_no_broker_is_told() {
    for (bytes, state) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], ChannelState::Degraded),
        (&[0x20, 3, 0, 0x86, 0], ChannelState::Misconfigured),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], ChannelState::Degraded),
    ] {
        let broker = Broker::new();
        let inlet = Arc::new(MemoryInlet::default());
        let channel = start(config(broker.port()), &inlet);
        let mut client = broker.accept();
        client.say(bytes);
        eventually("an error", || channel.status().state == state);
        let status = channel.status();
        assert!(status.last_error.is_some() && !format!("{status:?}").contains("geheim"), "{status:?}");
        channel.stop();
    }
}

#[test]
fn a_flood_waits_while_the_disk_is_slow() {
    let (broker, release) = (Broker::new(), Arc::new(Mutex::new(())));
    let held = release.lock().unwrap();
    let gate = release.clone();
    let inlet = answering(move |_| {
        drop(gate.lock());
        Ok(Taken::Ignored("seen"))
    });
    let channel = start(config(broker.port()), &inlet);
    let mut client = broker.serve(0);
    for _ in 0..200 {
        client.say(b"\x30\x13\x00\x0egatelet/in/ana\x00hi"); // QoS 0 knows no bounds
    }
    eventually("the first", || !inlet.texts().is_empty());
    drop(held);
    eventually("all of them", || inlet.texts().len() == 200);
    assert!(is_connected(&channel));
    channel.stop();
}

#[test]
#[allow(clippy::disallowed_methods)] // a delivery blocks until its receipt
fn what_was_published_and_not_acknowledged_may_have_arrived() {
    let broker = Broker::new();
    let channel = start(config(broker.port()), &Arc::new(MemoryInlet::default()));
    let away = channel.deliver(&delivery("ana"), &fresh()).unwrap_err();
    assert_eq!(away.kind, ErrorKind::Transient, "nothing is connected yet: {away}");
    let mut client = broker.serve(0);
    eventually("connected", || is_connected(&channel));
    let sender = channel.clone();
    let sent = std::thread::spawn(move || sender.deliver(&delivery("ana"), &fresh()).unwrap_err());
    client.until(0x32);
    drop(client); // it has the message, and dies before its PUBACK
    let broken = sent.join().unwrap();
    assert_eq!(broken.kind, ErrorKind::Unclear, "{broken}");
    let mut client = broker.serve(1);
    eventually("connected again", || is_connected(&channel));
    let sender = channel.clone();
    let again = std::thread::spawn(move || {
        let progress = crate::channel::Progress { may_repeat: true, ..fresh() };
        sender.deliver(&delivery("ana"), &progress)
    });
    let packet = client.until(0x32);
    let said = String::from_utf8_lossy(&packet).into_owned();
    assert!(said.contains("repeat") && said.contains("possible") && said.contains("dlv_1"), "{said:?}");
    channel.stop();
    assert_eq!(again.join().unwrap().unwrap_err().kind, ErrorKind::Unclear, "the channel ended before the receipt");
}
