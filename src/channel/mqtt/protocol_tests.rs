//! The protocol as a value: what it says when, and when it gives up.

use std::time::Duration;

use super::codec::{Publish, Version};
use super::protocol::{Event, Hello, Protocol};
use crate::base::error::{Error, ErrorKind};

const NOTHING: Duration = Duration::ZERO;
const SUBACK: &[u8] = &[0x90, 4, 0, 1, 0, 1];

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn hello() -> Protocol {
    let hello = Hello { version: Version::V5, client_id: "c", username: None, password: None, status: "s" };
    let mut protocol = Protocol::new(&hello, NOTHING);
    assert_eq!(protocol.out().drain(..).next(), Some(0x10));
    protocol
}

fn said(protocol: &mut Protocol, bytes: &[u8], now: Duration) -> Result<Vec<Event>, Error> {
    protocol.feed(bytes);
    let mut events = Vec::new();
    while let Some(event) = protocol.next(now)? {
        events.push(event);
    }
    Ok(events)
}

fn open() -> Protocol {
    let mut protocol = hello();
    let events = said(&mut protocol, &[0x20, 3, 1, 0, 0], NOTHING).unwrap();
    assert!(matches!(events[..], [Event::Accepted { has_session: true }]));
    protocol.subscribe("in/+", true, None, NOTHING);
    assert!(matches!(said(&mut protocol, SUBACK, NOTHING).unwrap()[..], [Event::Subscribed]));
    protocol.out().clear();
    protocol
}

fn message(packet_id: u8, first: u8) -> Vec<u8> {
    [first, 7, 0, 1, b't', 0, packet_id, 0, b'x'].to_vec()
}

#[test]
fn refusals_are_told_apart() {
    for (connack, kind) in [
        (&[0x20u8, 3, 0, 0x86, 0][..], ErrorKind::Denied),
        (&[0x20, 3, 0, 0x87, 0], ErrorKind::Denied),
        (&[0x20, 2, 0, 5], ErrorKind::Denied),
        (&[0x20, 2, 0, 3], ErrorKind::Transient),
        (&[0x20, 3, 0, 0x85, 0], ErrorKind::Permanent),
        (&[0x20, 3, 0, 0x9F, 0], ErrorKind::Throttled(None)),
        (&[0x20, 5, 0, 0, 2, 0x24, 0], ErrorKind::Permanent), // no QoS 1
        (&[0xD0, 0], ErrorKind::Transient),                   // out of order
        (b"HTTP/1.1 400", ErrorKind::Transient),
    ] {
        assert_eq!(said(&mut hello(), connack, NOTHING).unwrap_err().kind, kind, "{connack:02x?}");
    }
    for connack in [&[0x20, 2, 0, 1][..], &[0x20, 3, 0, 0x84, 0]] {
        assert!(matches!(said(&mut hello(), connack, NOTHING).unwrap()[..], [Event::OtherVersion]));
    }
    for (bytes, kind) in [
        (&[0xE0u8, 1, 0x8E][..], ErrorKind::Transient),
        (&[0xE0, 1, 0x87], ErrorKind::Denied),
        (&[0xE0, 0], ErrorKind::Transient),
    ] {
        assert_eq!(said(&mut open(), bytes, NOTHING).unwrap_err().kind, kind, "{bytes:02x?}");
    }
    let mut refused = hello();
    said(&mut refused, &[0x20, 3, 0, 0, 0], NOTHING).unwrap();
    refused.subscribe("in/+", true, None, NOTHING);
    assert_eq!(said(&mut refused, &[0x90, 4, 0, 1, 0, 0x87], NOTHING).unwrap_err().kind, ErrorKind::Denied);
}

#[test]
fn what_is_late_ends_it() {
    let mut greeting = hello();
    assert!(greeting.tick(at(14)).is_ok());
    assert_eq!((greeting.due(), greeting.tick(at(15)).unwrap_err().kind), (at(15), ErrorKind::Timeout));

    let mut half_open = open();
    assert_eq!(half_open.due(), at(30));
    half_open.tick(at(30)).unwrap();
    assert_eq!(*half_open.out(), [0xC0, 0]);
    assert!(half_open.tick(at(49)).is_ok());
    assert_eq!((half_open.due(), half_open.tick(at(50)).unwrap_err().kind), (at(50), ErrorKind::Timeout));

    let mut busy = open();
    busy.tick(at(30)).unwrap();
    busy.unread(at(49)); // its answer may lie unread
    assert!(busy.tick(at(60)).is_ok());
    said(&mut busy, &[0xD0, 0], at(60)).unwrap();
    assert!(busy.tick(at(89)).is_ok());

    let mut silent = open();
    let publish = Publish { topic: "t", payload: b"x", packet_id: None, retain: false, properties: &[] };
    silent.publish(1, &publish, at(1)).unwrap();
    assert_eq!((silent.due(), silent.tick(at(21)).unwrap_err().kind), (at(21), ErrorKind::Timeout));
}

#[test]
fn a_brokers_own_keep_alive_counts() {
    let mut protocol = hello();
    said(&mut protocol, &[0x20, 6, 0, 0, 3, 0x13, 0, 10], NOTHING).unwrap();
    assert_eq!(protocol.due(), at(5));
}

#[test]
fn acknowledgements_are_confirmed_by_the_ping_behind_them() {
    let mut protocol = open();
    said(&mut protocol, &message(1, 0x32), at(1)).unwrap();
    protocol.tick(at(1)).unwrap();
    assert!(protocol.out().is_empty(), "nothing is acknowledged by itself");
    protocol.acknowledge(1, 77);
    protocol.tick(at(1)).unwrap();
    assert_eq!(*protocol.out(), [0x40, 2, 0, 1, 0xC0, 0]);
    // One acknowledged behind the ping is not confirmed by its answer.
    said(&mut protocol, &message(2, 0x32), at(2)).unwrap();
    protocol.acknowledge(2, 78);
    assert!(matches!(said(&mut protocol, &[0xD0, 0], at(2)).unwrap()[..], [Event::Confirmed { serial: 77 }]));
    protocol.tick(at(2)).unwrap();
    assert!(matches!(said(&mut protocol, &[0xD0, 0], at(2)).unwrap()[..], [Event::Confirmed { serial: 78 }]));
    protocol.acknowledge(2, 78); // of no effect
    protocol.out().clear();
    protocol.tick(at(3)).unwrap();
    assert!(protocol.out().is_empty());
}

#[test]
fn more_than_was_asked_for_ends_it() {
    let mut protocol = open();
    for id in 1..=16 {
        assert_eq!(said(&mut protocol, &message(id, 0x32), NOTHING).unwrap().len(), 1);
    }
    assert_eq!(said(&mut protocol, &message(1, 0x3A), NOTHING).unwrap().len(), 0, "in hands already");
    assert!(said(&mut protocol, &message(17, 0x32), NOTHING).is_err());
    let mut protocol = open();
    said(&mut protocol, &message(1, 0x32), NOTHING).unwrap();
    assert!(said(&mut protocol, &message(1, 0x32), NOTHING).is_err(), "another message under an id in use");
}

#[test]
fn what_is_published_is_bounded_and_settled() {
    let mut protocol = hello();
    // At most two under way, of 64 bytes.
    said(&mut protocol, &[0x20, 11, 0, 0, 8, 0x21, 0, 2, 0x27, 0, 0, 0, 64], NOTHING).unwrap();
    protocol.subscribe("in/+", true, None, NOTHING);
    said(&mut protocol, SUBACK, NOTHING).unwrap();
    protocol.out().clear();
    let long = Publish { topic: "t", payload: &[b'x'; 60], packet_id: None, retain: false, properties: &[] };
    assert_eq!(protocol.publish(1, &long, NOTHING).unwrap_err().kind, ErrorKind::Permanent);
    assert!(protocol.out().is_empty());
    let publish = Publish { payload: b"x", ..long };
    protocol.publish(2, &publish, NOTHING).unwrap();
    protocol.publish(3, &publish, NOTHING).unwrap();
    assert_eq!(protocol.publish(4, &publish, NOTHING).unwrap_err().kind, ErrorKind::Throttled(None));
    let ids: Vec<u8> = protocol.out().chunks(11).map(|p| p[6]).collect();
    for (id, code, expected) in [(ids[1], 0x10, None), (ids[0], 0x87, Some(ErrorKind::Denied))] {
        let events = said(&mut protocol, &[0x40, 3, 0, id, code], NOTHING).unwrap();
        let [Event::Settled { ticket, outcome }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(*ticket, if id == ids[0] { 2 } else { 3 });
        assert_eq!(outcome.as_ref().err().map(|e| e.kind), expected);
    }
    assert_eq!(said(&mut protocol, &[0x40, 2, 0, ids[0]], NOTHING).unwrap().len(), 0, "an acknowledgement of nothing");
}
