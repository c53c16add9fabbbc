//! Answers that come piece by piece: their end, their readers, and who is told that a client is gone.
//!
//! Invariant: no reader of a stream costs anybody else anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::net::http::Stream;

fn head() -> Response {
    Response::new(200, "text/event-stream", &b"not looked at"[..])
}

/// What a client got of a chunked answer's body, and whether its end came.
fn chunks(client: &mut Client) -> (String, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = client.kept.windows(2).position(|w| w == b"\r\n") else {
            if client.more() {
                continue;
            }
            return (String::from_utf8(body).unwrap(), false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&client.kept[..at]).unwrap(), 16).unwrap();
        while client.kept.len() < at + 2 + size + 2 {
            if !client.more() {
                return (String::from_utf8(body).unwrap(), false);
            }
        }
        body.extend_from_slice(&client.kept[at + 2..at + 2 + size]);
        assert_eq!(&client.kept[at + 2 + size..at + 4 + size], b"\r\n");
        client.kept.drain(..at + 4 + size);
        if size == 0 {
            return (String::from_utf8(body).unwrap(), true);
        }
    }
}

impl House {
    /// A client with the stream that answers it.
    fn streaming(&self, request: &[u8]) -> (Client, Stream) {
        let mut client = self.connect();
        client.send(request);
        let stream = self.parked(1).remove(0).stream(head());
        (client, stream)
    }

    fn is_left(&self, count: usize) {
        self.until("its place", |h| h.door.stats().open == count);
    }
}

/// Counts how often it is told.
fn told(responder: &Responder) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    responder.on_gone(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    count
}

fn is(count: &Arc<AtomicUsize>, wanted: usize) -> bool {
    count.load(Ordering::SeqCst) == wanted
}

#[test]
fn a_stream_and_then_the_next_request() {
    let house = House::open(usual());
    let (mut client, stream) = house.streaming(&[get("/park"), get("/quick")].concat());
    let answer = client.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("transfer-encoding"), answer.header("content-length")),
        (200, Some("chunked"), None)
    );
    assert_eq!(answer.header("connection"), None);
    for piece in ["one ", "", "two "] {
        assert!(stream.send(piece));
    }
    client.send(&get("/work")); // waits as well
    house.lives();
    assert!(!house.seen().contains(&"GET /work".to_string()), "read ahead of its turn");
    stream.finish("three");
    assert_eq!(chunks(&mut client), ("one two three".into(), true));
    assert_eq!(client.answer().unwrap().body, b"quick");
    assert_eq!(client.answer().unwrap().body, b"work");
    for _ in 0..20 {
        client.send(&get("/park"));
        house.parked(1).remove(0).stream(head()).finish("");
        client.answer().unwrap();
        assert_eq!(chunks(&mut client), (String::new(), true));
        assert_eq!(client.ask(&get("/quick")).body, b"quick");
    }
    let served = house.toy.served.lock().unwrap().clone();
    assert_eq!(served.iter().filter(|(path, status)| path == "/park" && *status == 200).count(), 21);
}

#[test]
fn an_unfinished_stream_shows_that_it_is_not_whole() {
    let house = House::open(usual());
    let (mut client, stream) = house.streaming(&get("/park"));
    stream.send("half");
    client.answer().unwrap();
    drop(stream);
    assert_eq!(chunks(&mut client), ("half".into(), false));
    // HTTP/1.0 has no chunks: the end of the connection is the end of the body, and a reset is none.
    let old = b"GET /park HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (mut client, stream) = house.streaming(old);
    stream.send("all ");
    stream.finish("of it");
    let answer = client.answer().unwrap();
    assert_eq!((answer.header("transfer-encoding"), answer.header("connection")), (None, Some("close")));
    while client.more() {}
    assert_eq!(client.kept, b"all of it");
    let (mut client, stream) = house.streaming(old);
    stream.send("half");
    client.answer().unwrap();
    while client.kept.is_empty() {
        assert!(client.more());
    }
    drop(stream);
    let end = client.stream.read(&mut [0; 16]).map_err(|e| e.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    house.is_left(0);
    house.lives();
}

#[test]
fn a_reader_that_falls_behind_is_dropped() {
    let house = House::open(usual());
    let (slow, stream) = house.streaming(&get("/park"));
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while stream.send(&piece) {
        sent += piece.len();
        assert!(sent < 64 << 20, "what waits for a reader has no bound");
        house.lives();
    }
    house.is_left(0);
    assert!(!stream.send("more"));
    stream.finish("the end");
    drop(slow);
    // A piece of any size is taken where none waits before it; and the last one always.
    let (mut client, stream) = house.streaming(&get("/park"));
    let big = "y".repeat(8 << 20);
    assert!(stream.send(&big));
    stream.finish("end");
    client.answer().unwrap();
    let (body, whole) = chunks(&mut client);
    assert_eq!((body.len(), whole), (big.len() + 3, true));
    assert_eq!(client.ask(&get("/quick")).status, 200);
}

#[test]
fn a_reader_that_stands_still_is_dropped() {
    let house = House::open(Limits { request_timeout: Duration::from_millis(100), ..usual() });
    let mut client = house.connect();
    client.send(&get("/park"));
    let responder = house.parked(1).remove(0);
    let gone = told(&responder);
    let stream = responder.stream(head());
    assert!(stream.send(vec![b'x'; 8 << 20])); // more than the sockets hold: some of it waits
    house.until("its end", |h| h.door.stats().expired == 1);
    house.is_left(0);
    assert!(is(&gone, 1) && !stream.send("x"));
    // One that was sent all so far may be silent for as long as it likes.
    let (mut quiet, stream) = house.streaming(&get("/park"));
    stream.send("a");
    quiet.answer().unwrap();
    for _ in 0..20 {
        std::thread::park_timeout(Duration::from_millis(15));
        house.lives();
    }
    assert!(stream.send("b"));
    stream.finish("c");
    assert_eq!(chunks(&mut quiet), ("abc".into(), true));
}

#[test]
fn who_asks_is_told_that_the_client_is_gone() {
    let house = House::open(usual());
    for streaming in [false, true] {
        for half in [false, true] {
            for ahead in [&b""[..], b"GET /quick HTTP/1.1\r\n"] {
                let mut client = house.connect();
                client.send(&[&get("/park")[..], ahead].concat());
                let responder = house.parked(1).remove(0);
                let gone = told(&responder);
                let (parked, stream) = if streaming { (None, Some(responder.stream(head()))) } else { (Some(responder), None) };
                house.lives();
                assert!(is(&gone, 0));
                if half {
                    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
                } else {
                    drop(client);
                }
                house.until("the news", |_| is(&gone, 1));
                house.lives();
                drop((parked, stream));
            }
        }
    }
    house.is_left(0);
}

#[test]
fn who_does_not_ask_is_not_disturbed() {
    let house = House::open(usual());
    // A client that shut down its sending side, and nobody asked: it gets its answer whole.
    let (mut client, stream) = house.streaming(&get("/park"));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    house.lives();
    stream.send("a");
    house.lives();
    stream.finish("b");
    client.answer().unwrap();
    assert_eq!((chunks(&mut client), client.ends()), (("ab".into(), true), true));
    // Answered in time: nobody is told later.
    let mut client = house.connect();
    client.send(&get("/park"));
    let responder = house.parked(1).remove(0);
    let gone = told(&responder);
    responder.send(Response::empty(204));
    assert_eq!(client.answer().unwrap().status, 204);
    client.send(&get("/park"));
    let responder = house.parked(1).remove(0);
    let late = told(&responder);
    responder.stream(head()).finish("x");
    client.answer().unwrap();
    assert!(chunks(&mut client).1);
    assert_eq!(client.ask(&get("/quick")).status, 200);
    drop(client);
    house.is_left(0);
    assert!(is(&gone, 0) && is(&late, 0));
    // Gone before anybody asked: told all the same.
    let mut client = house.connect();
    client.send(&get("/park"));
    let responder = house.parked(1).remove(0);
    drop(client);
    house.lives();
    let gone = told(&responder);
    house.until("the news", |_| is(&gone, 1));
    drop(responder);
    house.is_left(0);
}

#[test]
fn many_streams_at_once_hold_no_thread() {
    let house = House::open(usual());
    let threads = house.threads.live();
    const STREAMS: usize = 64;
    const PIECES: usize = 200;
    let pairs: Vec<_> = (0..STREAMS).map(|_| house.streaming(&get("/park"))).collect();
    assert_eq!(house.threads.live(), threads);
    let (clients, streams): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    std::thread::scope(|s| {
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                s.spawn(move || {
                    client.answer().unwrap();
                    let (body, whole) = chunks(&mut client);
                    assert_eq!(client.ask(&get("/quick")).status, 200);
                    (body, whole)
                })
            })
            .collect();
        std::thread::scope(|s| {
            for part in 0..4 {
                let streams = &streams;
                s.spawn(move || {
                    for n in 0..PIECES {
                        streams.iter().skip(part).step_by(4).for_each(|stream| assert!(stream.send(format!("{n} "))));
                    }
                });
            }
        });
        house.lives();
        streams.into_iter().for_each(|stream| stream.finish(""));
        let wanted: String = (0..PIECES).map(|n| format!("{n} ")).collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (wanted.clone(), true));
        }
    });
}

#[test]
fn a_stream_in_answer_to_head_is_its_head() {
    let house = House::open(usual());
    let (mut client, stream) = house.streaming(b"HEAD /park HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(stream.send("never"));
    stream.finish("seen");
    let answer = client.answer_to("HEAD").unwrap();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(client.ask(&get("/quick")).body, b"quick");
}

#[test]
fn a_drain_lets_streams_end_until_its_deadline() {
    let house = House::open(usual());
    let (mut ended, stream) = house.streaming(&get("/park"));
    let mut cut = house.connect();
    cut.send(&get("/park"));
    let responder = house.parked(1).remove(0);
    let gone = told(&responder);
    let broken = responder.stream(head());
    assert!(stream.send("a") && broken.send("a"));
    house.lives();
    house.door.close(Duration::from_millis(300));
    ended.answer().unwrap();
    stream.finish("b");
    assert_eq!((chunks(&mut ended), ended.ends()), (("ab".into(), true), true));
    cut.answer().unwrap();
    assert_eq!(chunks(&mut cut), ("a".into(), false));
    house.until("the news", |_| is(&gone, 1));
    assert!(!broken.send("b"));
    drop(broken);
    assert_eq!(house.threads.join(PATIENCE), Vec::<String>::new());
}

#[test]
fn answers_race_with_clients_that_leave() {
    let house = House::open(usual());
    let (stop, told_in_all) = (Stop::new(), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut round = 0;
            while !stop.is_set() {
                for responder in std::mem::take(&mut *house.toy.parked.lock().unwrap()) {
                    round += 1;
                    let counter = told_in_all.clone();
                    responder.on_gone(move || {
                        counter.fetch_add(1, Ordering::SeqCst);
                    });
                    match round % 4 {
                        0 => responder.send(Response::empty(204)),
                        1 => drop(responder.stream(head())),
                        2 => responder.stream(head()).finish("x"),
                        _ => {
                            let stream = responder.stream(head());
                            (0..50).take_while(|_| stream.send("piece ")).count();
                            stream.finish("");
                        }
                    }
                }
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let house = &house;
                s.spawn(move || {
                    for round in 0..300 {
                        let mut client = house.connect();
                        client.send(&get("/park"));
                        match (round + n) % 3 {
                            0 => continue, // leaves at once
                            1 => client.stream.shutdown(std::net::Shutdown::Write).unwrap(),
                            _ => {}
                        }
                        client.more();
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        house.until("all places", |h| h.door.stats().open == 0 && h.toy.parked.lock().unwrap().is_empty());
        stop.set();
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(told_in_all.load(Ordering::SeqCst) > 0, "some left before their answer");
    assert_eq!(house.threads.panics(), 0);
    house.lives();
}
