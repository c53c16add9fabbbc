//! Bounds and deadlines: slow readers, floods, silence, what is expected, places.

use super::*;

#[test]
fn a_slow_reader_is_dropped_and_nobody_waits_for_it() {
    let bench = Bench::real();
    let (slow, mut slow_peer, events) = bench.watched();
    let (quick, mut quick_peer, _events) = bench.watched();
    let text: Arc<str> = "x".repeat(1000).into();
    let (mut took, mut sent) = (Vec::new(), 0);
    while sent < 1_000_000 {
        let before = bench.clock.mono();
        let taken = slow.send(text.clone());
        took.push(bench.clock.mono() - before);
        if !taken {
            break;
        }
        sent += 1;
        if sent % 100 == 0 {
            assert!(quick.send("still quick"));
            assert_eq!(quick_peer.text(), "still quick");
        }
    }
    took.sort();
    // Of all sends 99 in 100: the system itself may set the test aside for longer.
    assert!(took[took.len() * 99 / 100] < Duration::from_millis(1), "{:?}", &took[took.len() * 99 / 100..]);
    // What was taken is in the queue, in the codec and in the kernel's buffers, and all of them are bounded.
    assert!((1000..20_000).contains(&sent), "{sent}");
    assert!(!slow.is_open() && slow.room() == 0);
    assert_eq!(next(&events), Event::Closed);
    let counts = bench.sockets.counts();
    assert_eq!((counts.slow_dropped, counts.waiting_bytes), (1, 0));
    assert!(slow_peer.drained() < 20_000_000);
    assert!(quick.is_open());
}

#[test]
fn a_reader_that_takes_nothing_is_dropped_after_ten_seconds() {
    let bench = Bench::still();
    let (socket, mut peer, events) = bench.watched();
    peer.takes_little();
    fill(&socket, 500_000);
    bench.advance(Duration::from_secs(9));
    assert!(socket.is_open());
    // A little progress is progress.
    let waiting = bench.sockets.counts().waiting_bytes;
    peer.stream().read_exact(&mut vec![0; 300_000]).unwrap();
    eventually("the kernel took more", || bench.sockets.counts().waiting_bytes < waiting);
    bench.advance(Duration::from_secs(8));
    assert!(socket.is_open() && events.is_empty());
    eventually("it is over", || {
        bench.advance(Duration::from_secs(1));
        !events.is_empty()
    });
    assert_eq!(bench.sockets.counts().slow_dropped, 1);
    assert_eq!(peer.close_code(), None, "nothing could be said to it");
}

#[test]
fn a_peer_that_is_not_read_is_not_silent() {
    let bench = Bench::still();
    bench.sockets.set(Settings { open_max: 1, ping_interval: Duration::from_secs(4) });
    let (socket, mut peer, _events) = bench.watched();
    peer.takes_little();
    fill(&socket, 950_000);
    for _ in 0..3 {
        bench.advance(Duration::from_secs(5));
        let waiting = bench.sockets.counts().waiting_bytes;
        assert!(waiting > QUEUE_BYTES / 2, "still not read: {waiting}");
        peer.stream().read_exact(&mut vec![0; 100_000]).unwrap();
        eventually("the kernel took more", || bench.sockets.counts().waiting_bytes < waiting);
    }
    assert!(socket.is_open());
    assert_eq!(bench.sockets.counts().silent_dropped, 0);
}

#[test]
fn all_readers_together_are_bounded() {
    let bench = Bench::still();
    let mut slow: Vec<_> = (0..30).map(|_| bench.watched()).collect();
    for (socket, peer, _) in &mut slow {
        peer.takes_little();
        fill(socket, 600_000);
    }
    let waiting = bench.sockets.counts().waiting_bytes;
    assert!((socket::TOTAL_BYTES..socket::TOTAL_BYTES + 50_001).contains(&waiting), "{waiting}");
    assert!(slow.iter().all(|(socket, ..)| socket.is_open()), "what waits already is no reason to drop anybody");
    // A reader that reads is served all the same; one more that doesn't is held short.
    let (quick, mut quick_peer, _events) = bench.watched();
    let (late, mut late_peer, late_events) = bench.watched();
    late_peer.takes_little();
    assert_eq!((quick.room(), late.room()), (socket::SHARE_BYTES, socket::SHARE_BYTES));
    for _ in 0..100 {
        let text = "q".repeat(30_000);
        assert!(quick.send(&*text));
        assert!(quick_peer.text() == text);
        if !late.send("l".repeat(10_000)) {
            break;
        }
    }
    eventually("it had its second to read why", || {
        bench.advance(Duration::from_millis(300));
        !late_events.is_empty()
    });
    assert_eq!(bench.sockets.counts().slow_dropped, 1);
    drop((slow, quick_peer));
    eventually("all is over", || bench.is_empty());
    assert_eq!(bench.sockets.counts().waiting_bytes, 0);
}

#[test]
fn a_frame_too_long_for_any_queue_is_refused_alone() {
    let bench = Bench::real();
    let (socket, mut peer, _events) = bench.watched();
    assert!(!socket.send("x".repeat(QUEUE_BYTES + 1)));
    let longest = "x".repeat(QUEUE_BYTES);
    assert!(socket.is_open() && socket.send(&*longest));
    assert!(peer.text() == longest);
}

#[test]
fn a_peer_that_sends_and_does_not_read_is_not_read_any_more() {
    let bench = Bench::real();
    let (_socket, mut peer) = bench.start(Echo::default());
    let mut sends = peer.stream().try_clone().unwrap();
    const MESSAGES: usize = 8000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let text = "y".repeat(1000);
            for i in 0..MESSAGES {
                sends.write_all(&frame(0x81, format!("{i} {text}").as_bytes())).unwrap();
            }
        });
        // It reads late: were the gateway to read on meanwhile, its answers would overflow the queue.
        let _ = crossbeam_channel::after(Duration::from_millis(300)).recv();
        for i in 0..MESSAGES {
            assert_eq!(peer.text().split(' ').next(), Some(i.to_string().as_str()));
        }
    });
    assert_eq!(bench.sockets.counts().slow_dropped, 0);
}

#[test]
fn a_flood_of_pings_is_bounded_and_answered() {
    let bench = Bench::still();
    let (socket, mut peer, events) = bench.watched();
    let pings: Vec<u8> = (0..1000).flat_map(|_| frame(0x89, &[b'p'; 125])).collect();
    // More pongs than all buffers hold: at last the gateway reads no more, and so we can't write any more.
    peer.stream().set_nonblocking(true).unwrap();
    let mut written = 0;
    let mut idle = 0;
    while idle < 200 && written < 200_000_000 {
        match peer.stream().write(&pings) {
            Ok(n) => (written, idle) = (written + n, 0),
            Err(_) => {
                idle += 1;
                let _ = crossbeam_channel::after(Duration::from_millis(1)).recv();
            }
        }
    }
    assert!(written < 50_000_000, "{written}");
    assert!(socket.is_open());
    eventually("it is dropped", || {
        bench.advance(Duration::from_secs(11));
        !events.is_empty()
    });
}

#[test]
fn pings_go_out_and_silence_is_closed() {
    let bench = Bench::still();
    let (answers, mut answering, heard) = bench.watched();
    let (silent, mut mute, events) = bench.watched();
    for round in 0..4 {
        if round == 3 {
            // From here on it is closing, for which it has a second: the clock must not take that from it.
            eventually("silence is seen", || !silent.is_open());
            break;
        }
        bench.advance(INTERVAL);
        assert!(matches!(answering.0.read().unwrap(), Message::Ping(_)), "round {round}");
        answering.send("pong is sent before this");
        assert_eq!(next(&heard), Event::Text("pong is sent before this".into()), "round {round}");
        if round == 0 {
            assert!(events.is_empty());
        }
    }
    assert!(answers.is_open());
    assert_eq!(mute.close_code(), Some(1011));
    let _ = mute.stream().shutdown(std::net::Shutdown::Both);
    assert_eq!(next(&events), Event::Closed);
    assert_eq!(bench.sockets.counts().silent_dropped, 1);
}

#[test]
fn a_new_interval_holds_for_open_sockets() {
    let bench = Bench::still();
    let (_socket, mut peer, _events) = bench.watched();
    bench.sockets.set(Settings { open_max: 1, ping_interval: Duration::from_millis(100) });
    bench.advance(Duration::from_millis(100));
    assert!(matches!(peer.0.read().unwrap(), Message::Ping(_)));
}

#[test]
fn what_is_expected_must_come_in_time() {
    struct Asks(Watch, Option<Socket>);
    impl Handler for Asks {
        fn opened(&mut self, socket: &Socket) {
            socket.expect_within(Duration::from_secs(5), 1008);
            self.1 = Some(socket.clone());
            self.0.opened(socket);
        }
        fn text(&mut self, text: &str) {
            if text.starts_with("auth") {
                self.1.as_ref().unwrap().settled();
            }
            self.0.text(text);
        }
        fn closed(&mut self) {
            self.0.closed();
        }
    }
    for (what, sent, code) in [
        ("nothing", None, Some(1008)),
        ("something else", Some("hello".to_string()), Some(1008)),
        ("too long for a stranger", Some("auth".repeat(MESSAGE_BYTES_UNSETTLED / 4 + 1)), Some(1009)),
        ("what was expected", Some("auth".to_string()), None),
    ] {
        let (bench, (watch, events)) = (Bench::still(), Watch::new());
        let (socket, mut peer) = bench.start(Asks(watch, None));
        assert_eq!(next(&events), Event::Opened);
        bench.advance(Duration::from_millis(4999));
        if let Some(text) = sent {
            peer.send(&text);
            assert!(code == Some(1009) || next(&events) == Event::Text(text), "{what}");
        }
        bench.advance(Duration::from_millis(1));
        match code {
            Some(_) => assert_eq!(peer.close_code(), code, "{what}"),
            None => {
                let long = "z".repeat(MESSAGE_BYTES);
                peer.send(&long);
                assert_eq!(next(&events), Event::Text(long), "{what}: known now");
                assert!(socket.is_open());
            }
        }
    }
}

#[test]
fn places_are_counted_from_the_reservation_on() {
    let bench = Bench::new(Clock::system(), 2);
    let kept = bench.sockets.reserve().unwrap();
    let (_socket, peer, _events) = bench.watched();
    assert!(bench.sockets.reserve().is_none());
    drop(kept);
    drop(bench.sockets.reserve().unwrap());
    drop(peer);
    eventually("the place is free", || bench.is_empty());
    bench.sockets.set(Settings { open_max: 0, ping_interval: INTERVAL });
    assert!(bench.sockets.reserve().is_none());
}
