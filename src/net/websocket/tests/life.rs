//! Lives of sockets: order, closing from either side, panics, replays, many at a time.

use super::*;
use std::sync::Weak;

#[test]
fn frames_keep_the_order_of_each_sender() {
    let bench = Bench::real();
    let (socket, mut peer, _events) = bench.watched();
    const EACH: usize = 200;
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let socket = socket.clone();
            scope.spawn(move || (0..EACH).for_each(|i| assert!(socket.send(format!("{sender} {i}")))));
        }
        let mut seen = [0; 4];
        for _ in 0..4 * EACH {
            let text = peer.text();
            let (sender, i) = text.split_once(' ').unwrap();
            let sender: usize = sender.parse().unwrap();
            assert_eq!(i, seen[sender].to_string());
            seen[sender] += 1;
        }
    });
}

#[test]
fn a_close_follows_what_was_queued() {
    let bench = Bench::still();
    let (socket, mut peer, events) = bench.watched();
    for i in 0..1000 {
        assert!(socket.send(format!("{i} {}", "x".repeat(900))));
    }
    socket.close(4401, "credential revoked");
    socket.close(1000, "too late to matter");
    assert!(!socket.send("after the close"));
    for i in 0..1000 {
        assert_eq!(peer.text().split(' ').next(), Some(i.to_string().as_str()));
    }
    peer.send("on its way already");
    assert_eq!(peer.close_code(), Some(4401));
    assert!(peer.0.read().is_err(), "the gateway ends the connection");
    assert_eq!(next(&events), Event::Closed, "without the text");
}

#[test]
fn what_comes_after_a_close_was_asked_for_is_not_begun() {
    let bench = Bench::still();
    let (socket, mut peer, events) = bench.watched();
    peer.takes_little();
    fill(&socket, 200_000);
    socket.close(1001, "draining");
    peer.send("late");
    eventually("it was read", || bench.sockets.counts().frames_in == 1);
    assert_eq!(peer.close_code(), Some(1001), "after all that was queued");
    let _ = peer.0.flush();
    assert_eq!(next(&events), Event::Closed);
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_left_after_a_second() {
    let bench = Bench::still();
    let (socket, _peer, events) = bench.watched();
    socket.close(1001, "draining");
    eventually("its thread has seen it", || !socket.is_closing());
    bench.advance(Duration::from_millis(999));
    assert!(events.is_empty());
    // The thread may have begun to wait only after the clock moved.
    eventually("it is over", || {
        bench.advance(Duration::from_secs(1));
        !events.is_empty()
    });
}

#[test]
fn a_close_is_not_held_up_by_a_reader_that_takes_nothing() {
    let bench = Bench::still();
    let (socket, mut peer, events) = bench.watched();
    peer.takes_little();
    fill(&socket, 500_000);
    socket.close(1001, "draining");
    eventually("it is over", || {
        bench.advance(Duration::from_millis(300));
        !events.is_empty()
    });
    assert!(bench.clock.mono() < Duration::from_secs(8), "{:?}", bench.clock.mono());
}

#[test]
fn a_peer_that_vanishes_is_noticed() {
    type End = fn(Peer);
    let resets: End = |mut peer| {
        // Unread bytes make the close a reset.
        let mut one = [0; 1];
        peer.stream().read_exact(&mut one).unwrap();
    };
    let half: End = |mut peer| {
        peer.stream().shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(peer.close_code(), None);
    };
    for (what, end) in [("an end", drop as End), ("a reset", resets), ("half an end", half)] {
        let bench = Bench::still();
        let (socket, peer, events) = bench.watched();
        assert!(socket.send("unread"));
        end(peer);
        assert_eq!(next(&events), Event::Closed, "{what}");
        eventually(what, || bench.is_empty());
        assert_eq!(bench.sockets.counts().protocol_errors, 0, "{what}");
    }
}

#[test]
fn a_panic_closes_its_own_socket_alone() {
    struct Panics(&'static str, Watch);
    impl Panics {
        fn at(&self, place: &str) {
            assert!(self.0 != place, "on purpose, at {place}");
        }
    }
    impl Handler for Panics {
        fn opened(&mut self, socket: &Socket) {
            self.1.opened(socket);
            self.at("opened");
        }
        fn text(&mut self, _: &str) {
            self.at("text");
        }
        fn drained(&mut self) {
            self.at("drained");
        }
        fn closed(&mut self) {
            self.1.closed();
            self.at("closed");
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            self.at("drop");
        }
    }
    for (place, code) in
        [("opened", Some(1011)), ("text", Some(1011)), ("drained", Some(1011)), ("closed", Some(1000)), ("drop", Some(1000))]
    {
        let bench = Bench::real();
        let (_other, mut unharmed) = bench.start(Echo::default());
        let (watch, events) = Watch::new();
        let (socket, mut peer) = bench.start(Panics(place, watch));
        assert_eq!(next(&events), Event::Opened);
        if place == "drained" {
            socket.send("drains");
        } else if place != "opened" {
            peer.send("hi");
        }
        if code == Some(1000) {
            peer.0.close(None).unwrap();
            assert_eq!(peer.close_code(), None, "{place}");
        } else {
            assert_eq!(peer.close_code(), code, "{place}");
        }
        drop(peer);
        assert_eq!(next(&events), Event::Closed, "{place}");
        eventually("its thread is over", || bench.threads.live() == 1);
        assert_eq!((bench.sockets.counts().panics, bench.threads.panics(), bench.sockets.open()), (1, 1, 1), "{place}");
        unharmed.send("still here");
        assert_eq!(unharmed.text(), "still here", "{place}");
    }
}

#[test]
fn a_long_replay_goes_on_as_the_reader_takes_it() {
    const PARTS: usize = 300;
    struct Replays(usize, Option<Socket>);
    impl Handler for Replays {
        fn opened(&mut self, socket: &Socket) {
            self.1 = Some(socket.clone());
            self.drained();
        }
        fn text(&mut self, _: &str) {}
        fn drained(&mut self) {
            let socket = self.1.as_ref().unwrap();
            while self.0 < PARTS {
                let text = format!("{} {}", self.0, "x".repeat(50_000));
                if socket.room() < text.len() || !socket.send(text) {
                    break;
                }
                self.0 += 1;
            }
        }
        fn closed(&mut self) {}
    }
    let bench = Bench::real();
    let (_socket, mut peer) = bench.start(Replays(0, None));
    for i in 0..PARTS {
        assert_eq!(peer.text().split(' ').next(), Some(i.to_string().as_str()));
    }
    assert_eq!(bench.sockets.counts().slow_dropped, 0);
}

#[test]
fn the_deepest_json_does_not_overflow_a_sockets_stack() {
    #[derive(serde::Deserialize)]
    #[serde(tag = "type")]
    enum Frame {
        Message { message: serde_json::Value },
    }
    struct Parses(Option<Socket>);
    impl Handler for Parses {
        fn opened(&mut self, socket: &Socket) {
            self.0 = Some(socket.clone());
        }
        fn text(&mut self, text: &str) {
            let depth = match serde_json::from_str(text) {
                Ok(Frame::Message { message }) => message.clone().to_string().matches('{').count(),
                Err(_) => 0,
            };
            self.0.as_ref().unwrap().send(depth.to_string());
        }
        fn closed(&mut self) {}
    }
    let bench = Bench::real();
    let (_socket, mut peer) = bench.start(Parses(None));
    for (nested, depth) in [(126, 126), (127, 0), (10_000, 0)] {
        peer.send(&format!(r#"{{"type":"Message","message":{}1{}}}"#, r#"{"a":"#.repeat(nested), "}".repeat(nested)));
        assert_eq!(peer.text(), depth.to_string(), "{nested} levels");
    }
}

#[test]
fn drained_means_that_nothing_waits() {
    struct Many(Option<Socket>, Sender<usize>);
    impl Handler for Many {
        fn opened(&mut self, socket: &Socket) {
            (0..1000).for_each(|i| assert!(socket.send(i.to_string())));
            self.0 = Some(socket.clone());
        }
        fn text(&mut self, _: &str) {}
        fn drained(&mut self) {
            let _ = self.1.send(self.0.as_ref().unwrap().room());
        }
        fn closed(&mut self) {}
    }
    let (bench, (tx, rooms)) = (Bench::real(), unbounded());
    let (_socket, mut peer) = bench.start(Many(None, tx));
    (0..1000).for_each(|i| assert_eq!(peer.text(), i.to_string()));
    assert_eq!(rooms.recv_timeout(LONG).unwrap(), QUEUE_BYTES);
    assert!(rooms.is_empty(), "once for all of them");
}

#[test]
fn draining_closes_all_and_takes_no_more() {
    let bench = Bench::real();
    let (_socket, mut peer, _events) = bench.watched();
    let reserved = bench.sockets.reserve().unwrap();
    bench.sockets.drain(1001, "draining");
    assert_eq!(peer.close_code(), Some(1001));
    assert!(bench.sockets.reserve().is_none());
    let (ours, theirs) = pair();
    bench.sockets.start(reserved, ours, Vec::new(), Vec::new(), Box::new(Echo::default())).unwrap();
    assert_eq!(Peer::new(theirs).close_code(), Some(1001));
    drop(peer);
    assert_eq!(bench.threads.join(LONG), Vec::<String>::new());
    assert!(bench.is_empty());
}

#[test]
fn two_hundred_come_and_go_and_leave_nothing() {
    let bench = Bench::real();
    let mut open: Vec<_> = (0..200).map(|_| bench.watched()).collect();
    assert_eq!((bench.threads.live(), bench.sockets.open()), (200, 200));
    for (i, (socket, peer, _)) in open.iter_mut().enumerate() {
        assert!(socket.send(i.to_string()));
        assert_eq!(peer.text(), i.to_string());
    }
    let mut handles = Vec::new();
    for (i, (socket, mut peer, events)) in open.into_iter().enumerate() {
        match i % 4 {
            0 => drop(peer),
            1 => socket.close(1001, "draining"),
            2 => peer.0.close(None).unwrap(),
            _ => peer.raw(&[0xff; 20]),
        }
        handles.push((socket, events));
    }
    eventually("all is over", || bench.is_empty());
    for (socket, events) in handles {
        assert_eq!((next(&events), events.try_recv().is_err()), (Event::Closed, true));
        assert!(!socket.holds_descriptor(), "a handle kept its eventfd open");
    }
    let counts = bench.sockets.counts();
    assert_eq!((counts.opened, counts.closed), (200, 200));
}

#[test]
fn a_storm_of_reconnects_stays_within_its_places() {
    let bench = Bench::new(Clock::system(), 20);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..50 {
                    let (ours, theirs) = pair();
                    let Some(slot) = bench.sockets.reserve() else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    assert!(bench.sockets.open() <= 20);
                    bench.sockets.start(slot, ours, Vec::new(), Vec::new(), Box::new(Echo::default())).unwrap();
                    let mut peer = Peer::new(theirs);
                    if round % 2 == 0 {
                        peer.send("hi");
                        assert_eq!(peer.text(), "hi");
                    }
                }
            });
        }
    });
    eventually("all is over", || bench.is_empty());
    let counts = bench.sockets.counts();
    assert_eq!(counts.opened + refused.into_inner() as u64, 400);
    assert_eq!(counts.opened, counts.closed);
}

#[test]
fn a_handle_does_not_keep_a_socket_alive() {
    let bench = Bench::real();
    let (socket, peer, _events) = bench.watched();
    let inner: Weak<_> = Arc::downgrade(&socket.0);
    drop(socket);
    drop(peer);
    eventually("all is freed", || inner.strong_count() == 0);
}
