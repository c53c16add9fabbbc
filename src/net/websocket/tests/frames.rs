//! What goes over the wire: the whole way, fragments, floods, and the close code of each violation.

use super::*;
use crate::net::http::Peer as From;

/// Takes one connection as the door would, and hands it over.
fn door(bench: &Bench, listener: &TcpListener, handler: impl Handler + 'static) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let end = loop {
        let mut part = [0; 512];
        let n = stream.read(&mut part).unwrap();
        bytes.extend(&part[..n]);
        if let Some(i) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break i + 4;
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let headers = text.lines().skip(1).filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_string()));
    let head = crate::net::http::Head {
        method: "GET".into(),
        path: "/ws".into(),
        query: None,
        headers: headers.collect(),
        peer: From::Local,
        request_id: "r1".into(),
        received: Duration::ZERO,
    };
    assert_eq!(head.header("authorization"), Some("Bearer t0ken"));
    let answer = handshake(&head).unwrap().response(None, &head.request_id);
    let slot = bench.sockets.reserve().unwrap();
    bench.sockets.start(slot, stream, bytes[end..].to_vec(), answer, Box::new(handler)).unwrap();
}

#[test]
fn the_whole_way() {
    struct Greets(Echo);
    impl Handler for Greets {
        fn opened(&mut self, socket: &Socket) {
            assert!(socket.send("ready"));
            self.0.opened(socket);
        }
        fn text(&mut self, text: &str) {
            self.0.text(text);
        }
        fn closed(&mut self) {}
    }
    let (bench, listener) = (Bench::real(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| door(&bench, &listener, Greets(Echo::default())));
        let mut client = client::connect(&url, Some("t0ken"), LONG).unwrap();
        assert_eq!(client.recv(LONG).unwrap().as_deref(), Some("ready"));
        assert_eq!(client.recv(Duration::ZERO).unwrap(), None);
        for text in ["hi", "", "grüße 🌍", &"x".repeat(200_000)] {
            client.send(text).unwrap();
            assert_eq!(client.recv(LONG).unwrap().as_deref(), Some(text));
        }
        bench.sockets.all()[0].send("pushed");
        assert_eq!(client.recv(LONG).unwrap().as_deref(), Some("pushed"));
        bench.sockets.close_all(1001, "draining");
        let error = client.recv(LONG).unwrap_err();
        assert_eq!((error.kind, error.text.as_str()), (ErrorKind::Transient, "the gateway closed the connection: 1001 draining"));
    });
    eventually("all is over", || bench.is_empty());
    let counts = bench.sockets.counts();
    assert_eq!((counts.opened, counts.closed, counts.frames_in, counts.frames_out), (1, 1, 4, 6));
}

#[test]
fn frames_that_came_with_the_head_are_read_first() {
    let (bench, (ours, theirs), (handler, events)) = (Bench::real(), pair(), Watch::new());
    let (first, second) = (frame(0x81, b"first"), frame(0x81, b"second"));
    let (rest, later) = ([&first[..], &second[..4]].concat(), &second[4..]);
    bench
        .sockets
        .start(bench.sockets.reserve().unwrap(), ours, rest, b"HTTP/1.1 101\r\n\r\n".to_vec(), Box::new(handler))
        .unwrap();
    let mut peer = Peer::new(theirs);
    peer.raw(later);
    for expected in [Event::Opened, Event::Text("first".into()), Event::Text("second".into())] {
        assert_eq!(next(&events), expected);
    }
    let mut head = [0; 16];
    peer.stream().read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101\r\n\r\n");
}

#[test]
fn violations_close_with_their_codes() {
    let announced = |first: u8, len: u64| [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    let many = |n: usize| [frame(0x01, &vec![b'a'; 100_000]), frame(0x00, &vec![b'a'; n - 100_000])].concat();
    for (what, bytes, code, violation) in [
        ("unmasked", vec![0x81, 1, b'a'], 1002, true),
        ("reserved bits", frame(0xc1, b"a"), 1002, true),
        ("an unknown data opcode", frame(0x83, b"a"), 1002, true),
        ("an unknown control opcode", frame(0x8b, b""), 1002, true),
        ("a fragmented ping", frame(0x09, b""), 1002, true),
        ("a ping too long", frame(0x89, &[0; 126]), 1002, true),
        ("a continuation of nothing", frame(0x80, b"a"), 1002, true),
        ("text within a fragmented text", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002, true),
        ("half a close code", frame(0x88, &[3]), 1002, true),
        ("binary", frame(0x82, b"a"), 1003, true),
        ("binary in fragments", [frame(0x02, b"a"), frame(0x80, b"b")].concat(), 1003, true),
        ("no UTF-8", frame(0x81, &[0xff, 0xfe]), 1007, true),
        ("no UTF-8 in the first fragment", frame(0x01, &[0xc0, 0x80]), 1007, true),
        ("a character cut off at the end", [frame(0x01, "é".as_bytes().split_at(1).0), frame(0x80, b"")].concat(), 1007, true),
        ("no UTF-8 in a close's reason", frame(0x88, &[3, 232, 0xff]), 1007, true),
        ("a frame too long, announced alone", announced(0x81, MESSAGE_BYTES as u64 + 1), 1009, true),
        ("a frame of 2^63 bytes", announced(0x81, 1 << 63), 1009, true),
        ("fragments too long together", many(MESSAGE_BYTES + 1), 1009, true),
        ("a close", frame(0x88, &[3, 232]), 1000, false),
        ("a close with a code that must not be sent", frame(0x88, &1005u16.to_be_bytes()), 1002, false),
    ] {
        let bench = Bench::still();
        let (socket, mut peer, events) = bench.watched();
        peer.raw(&bytes);
        assert_eq!(peer.close_code(), Some(code), "{what}");
        assert_eq!(peer.stream().read(&mut [0]).unwrap(), 0, "{what}: the gateway ends its side first");
        let _ = peer.stream().shutdown(std::net::Shutdown::Both);
        assert_eq!(next(&events), Event::Closed, "{what}");
        assert!(!socket.is_open() && !socket.send("x"), "{what}");
        assert_eq!(bench.sockets.counts().protocol_errors, u64::from(violation), "{what}");
    }
}

#[test]
fn fragments_and_pings_between_them_make_one_message() {
    let bench = Bench::real();
    let bytes = [
        frame(0x01, "gr".as_bytes()),
        frame(0x89, b"p1"),
        frame(0x00, &"ü".as_bytes()[..1]),
        frame(0x00, b""),
        frame(0x80, [&"ü".as_bytes()[1..], b"n"].concat().as_slice()),
        frame(0x81, b"next"),
    ]
    .concat();
    for cut in [1, 2, 5, 1000] {
        let (_socket, mut peer, events) = bench.watched();
        bytes.chunks(cut).for_each(|part| peer.raw(part));
        assert_eq!((next(&events), next(&events)), (Event::Text("grün".into()), Event::Text("next".into())), "cut by {cut}");
        assert_eq!(peer.0.read().unwrap(), Message::Pong("p1".into()), "cut by {cut}");
    }
}

#[test]
fn the_longest_message_is_taken_and_the_next_ones_too() {
    let bench = Bench::real();
    let (_socket, mut peer) = bench.start(Echo::default());
    let longest = "é".repeat(MESSAGE_BYTES / 2);
    for round in 0..5 {
        // A part of the next frame comes together with the end of the long one, or does not.
        let next = frame(0x81, b"next");
        let cut = [0, 1, 5, next.len(), 3][round];
        peer.raw(&[&frame(0x81, longest.as_bytes()), &next[..cut]].concat());
        assert!(peer.text() == longest, "round {round}");
        peer.raw(&next[cut..]);
        assert_eq!(peer.text(), "next", "round {round}");
    }
    // More small ones behind it than one round handles.
    peer.raw(&[&frame(0x81, longest.as_bytes())[..], &frame(0x81, b"next").repeat(200)].concat());
    assert!(peer.text() == longest);
    (0..200).for_each(|_| assert_eq!(peer.text(), "next"));
}

#[test]
fn many_small_frames_in_one_segment_are_all_handled() {
    let bench = Bench::real();
    let (_socket, mut peer, events) = bench.watched();
    let bytes: Vec<u8> = (0..500).flat_map(|i| frame(0x81, i.to_string().as_bytes())).collect();
    peer.raw(&bytes);
    for i in 0..500 {
        assert_eq!(next(&events), Event::Text(i.to_string()));
    }
}

#[test]
fn an_endless_message_of_empty_fragments_does_not_keep_pushes_back() {
    let bench = Bench::real();
    let (socket, mut peer, _events) = bench.watched();
    let mut floods = peer.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let part: Vec<u8> = (0..1000).flat_map(|_| frame(0x00, b"")).collect();
            let _ = floods.write_all(&frame(0x01, b""));
            while floods.write_all(&part).is_ok() {}
        });
        for i in 0..20 {
            assert!(socket.send(i.to_string()));
            assert_eq!(peer.text(), i.to_string());
        }
        socket.close(1008, "enough");
        assert_eq!(peer.close_code(), Some(1008));
        let _ = peer.stream().shutdown(std::net::Shutdown::Both);
    });
    eventually("all is over", || bench.is_empty());
}
