//! The codec against bytes written by hand, cut anywhere, and against noise.

use super::codec::*;

fn all(version: Version, pieces: &[&[u8]]) -> Result<Vec<Packet>, Malformed> {
    let mut decoder = Decoder::new(version);
    let mut packets = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(packet) = decoder.next()? {
            packets.push(packet);
        }
    }
    Ok(packets)
}

fn received(topic: &str, payload: &[u8]) -> Received {
    let (topic, payload) = (topic.to_string(), payload.to_vec());
    Received { topic, payload, packet_id: None, is_again: false, is_retained: false, id: None, is_cut: false }
}

const V5: Version = Version::V5;
const V4: Version = Version::V4;

#[test]
fn packets_of_a_broker() {
    let greeted = |code, limits: Limits| Packet::ConnAck { has_session: false, code, limits, reason: String::new() };
    let limits = Limits { receive_max: u16::MAX, packet_max: u32::MAX, qos_max: 2, retains: true, keep_alive_s: None };
    let with = Limits { receive_max: 20, retains: false, keep_alive_s: Some(10), ..limits };
    let check = |version, bytes: &[u8], expected: Packet| {
        assert_eq!(all(version, &[bytes]).unwrap(), std::slice::from_ref(&expected), "{bytes:02x?}");
        // Whatever the pieces, it is the same.
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(all(version, &single).unwrap(), [expected], "{bytes:02x?} byte by byte");
        for n in 0..bytes.len() {
            assert_eq!(all(version, &[&bytes[..n]]), Ok(vec![]), "{bytes:02x?} cut at {n}");
        }
    };
    check(V4, &[0x20, 2, 0, 5], greeted(5, limits));
    check(V5, &[0x20, 2, 0, 1], greeted(1, limits)); // a broker of 3.1.1 answers version 5
    check(V5, &[0x20, 11, 0, 0, 8, 0x21, 0, 20, 0x25, 0, 0x13, 0, 10], greeted(0, with));
    check(V4, &[0x20, 2, 1, 0], Packet::ConnAck { has_session: true, code: 0, limits, reason: String::new() });
    check(V4, b"\x30\x05\x00\x01thi", Packet::Publish(received("t", b"hi")));
    let one = Received { packet_id: Some(258), is_again: true, ..received("t", b"hi") };
    check(V4, b"\x3A\x07\x00\x01t\x01\x02hi", Packet::Publish(one.clone()));
    let named = Received { id: Some("x".into()), is_retained: true, is_again: false, ..one };
    check(V5, b"\x33\x10\x00\x01t\x01\x02\x08\x26\x00\x02id\x00\x01xhi", Packet::Publish(named));
    check(V5, &[0x40, 2, 0, 7], Packet::PubAck { packet_id: 7, code: 0, reason: String::new() });
    check(V5, b"\x40\x09\x00\x07\x87\x05\x1F\x00\x02no", Packet::PubAck { packet_id: 7, code: 0x87, reason: "no".into() });
    check(V4, &[0x90, 3, 0, 7, 1], Packet::SubAck { packet_id: 7, code: 1, reason: String::new() });
    check(V5, &[0x90, 4, 0, 7, 0, 0x87], Packet::SubAck { packet_id: 7, code: 0x87, reason: String::new() });
    check(V5, &[0xB0, 4, 0, 9, 0, 0], Packet::UnsubAck { packet_id: 9 });
    check(V4, &[0xD0, 0], Packet::PingResp);
    check(V5, &[0xE0, 0], Packet::Disconnect { code: 0, reason: String::new() });
    check(V5, &[0xE0, 1, 0x8E], Packet::Disconnect { code: 0x8E, reason: String::new() });
}

#[test]
fn what_no_broker_sends_is_refused() {
    for (version, bytes) in [
        (V4, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        (V5, b"\x15\x03\x03\x00\x02\x02\x16"), // a TLS alert
        (V5, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        (V5, &[0x40, 0xFF, 0xFF, 0x7F]),       // a giant PUBACK
        (V4, b"\x34\x05\x00\x01t\x00\x01"),    // QoS 2
        (V4, b"\x32\x05\x00\x01t\x00\x00"),    // packet id 0
        (V4, b"\x30\x03\x00\x01+"),            // a wildcard
        (V4, b"\x30\x03\x00\x01\x00"),         // NUL
        (V4, b"\x30\x03\x00\x01\xFF"),         // not UTF-8
        (V4, b"\x30\x03\x00\x09t"),            // a topic beyond the end
        (V5, b"\x30\x05\x00\x01t\x7Fx"),       // properties beyond the end
        (V5, b"\x30\x05\x00\x01t\x01\x7E"),    // an unknown property
        (V5, &[0x20, 6, 0, 0, 3, 0x21, 0, 0]), // a receive maximum of 0
        (V4, &[0xE0, 0]),                      // 3.1.1 has no DISCONNECT from a broker
        (V4, &[0xD1, 0]),
        (V4, &[0x10, 0]),
        (V4, &[0x00, 0]),
    ] {
        assert!(all(version, &[bytes]).is_err(), "{bytes:02x?}");
    }
}

#[test]
fn a_message_beyond_all_bounds_is_skipped_as_it_comes() {
    let length = 200 * 1024 * 1024usize;
    let mut decoder = Decoder::new(V4);
    decoder.feed(&[0x32, (length & 0x7F) as u8 | 0x80, (length >> 7 & 0x7F) as u8 | 0x80, (length >> 14 & 0x7F) as u8 | 0x80]);
    decoder.feed(&[(length >> 21) as u8]);
    decoder.feed(b"\x00\x01t\x00\x05");
    let chunk = vec![b'x'; 1 << 20];
    let mut left = length - 5;
    let mut found = Vec::new();
    while left > 0 {
        let n = left.min(chunk.len());
        decoder.feed(&chunk[..n]);
        left -= n;
        found.extend(std::iter::from_fn(|| decoder.next().unwrap()));
    }
    decoder.feed(&[0xD0, 0]);
    found.extend(std::iter::from_fn(|| decoder.next().unwrap()));
    let [Packet::Publish(message), Packet::PingResp] = &found[..] else { panic!("{} packets", found.len()) };
    assert!(message.is_cut && message.packet_id == Some(5) && message.payload.len() <= KEPT);
}

#[test]
fn noise_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..48)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Lengths are kept short, so that bodies are reached.
                if i == 1 { (state >> 33) as u8 % 46 } else { (state >> 33) as u8 }
            })
            .collect();
        for version in [V4, V5] {
            let _ = all(version, &[&bytes]);
        }
    }
}

#[test]
fn packets_of_a_client() {
    let check = |expected: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(out, expected, "{out:02x?}");
    };
    let hello = Connect {
        client_id: "c",
        username: Some("u"),
        password: Some("p"),
        keep_alive_s: 60,
        will: ("s", "off"),
        session_expiry_s: 9,
        receive_max: 16,
        packet_max: 4,
    };
    check(b"\x10\x1B\x00\x04MQTT\x04\xEC\x00\x3C\x00\x01c\x00\x01s\x00\x03off\x00\x01u\x00\x01p", &|o| connect(o, V4, &hello));
    check(
        b"\x10\x2A\x00\x04MQTT\x05\xEC\x00\x3C\x0D\x11\x00\x00\x00\x09\x21\x00\x10\x27\x00\x00\x00\x04\x00\x01c\x00\x00\x01s\x00\x03off\x00\x01u\x00\x01p",
        &|o| connect(o, V5, &hello),
    );
    let message = Publish { topic: "t", payload: b"hi", packet_id: Some(3), retain: true, properties: &[("id", "x")] };
    check(b"\x33\x07\x00\x01t\x00\x03hi", &|o| publish(o, V4, &message));
    check(b"\x33\x12\x00\x01t\x00\x03\x0A\x01\x01\x26\x00\x02id\x00\x01xhi", &|o| publish(o, V5, &message));
    check(b"\x82\x06\x00\x02\x00\x01+\x01", &|o| subscribe(o, V4, 2, "+", true));
    check(b"\x82\x07\x00\x02\x00\x00\x01+\x25", &|o| subscribe(o, V5, 2, "+", true));
    check(b"\xA2\x05\x00\x02\x00\x01+", &|o| unsubscribe(o, V4, 2, "+"));
    check(b"\x40\x02\x01\x02", &|o| acknowledge(o, 258));
}
