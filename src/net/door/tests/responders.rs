//! Answers that come later, from other threads, or not at all.
//!
//! Invariant: who waits costs no thread; a handler that fails costs its own request alone.

use super::*;

fn answer_all(responders: Vec<Responder>) {
    for responder in responders {
        responder.send(Response::new(202, "text/plain", &b"later"[..]));
    }
}

#[test]
fn parked_callers_cost_no_thread_and_no_time() {
    let house = House::open(usual());
    let threads = house.threads.live();
    let mut waiting: Vec<_> = (0..200).map(|_| house.connect()).collect();
    waiting.iter_mut().for_each(|c| c.send(&get("/park")));
    let parked = house.parked(200);
    let mut client = house.connect();
    for _ in 0..100 {
        assert_eq!(client.ask(&get("/quick")).status, 200);
        assert_eq!(client.ask(&get("/work")).status, 200);
    }
    assert_eq!((house.threads.live(), house.door.stats().open), (threads, 201));
    std::thread::scope(|s| drop(s.spawn(|| answer_all(parked))));
    for client in &mut waiting {
        assert_eq!(client.answer().unwrap().body, b"later");
        assert_eq!(client.ask(&get("/quick")).status, 200, "it goes on");
    }
}

#[test]
fn the_next_request_waits_for_a_parked_one() {
    let house = House::open(usual());
    let mut client = house.connect();
    // Behind the parked one: in the same packet, in the next one, and a client that closed its half.
    client.send(&[get("/park"), get("/quick")].concat());
    let parked = house.parked(1);
    client.send(&get("/work"));
    let mut closed = house.connect();
    closed.send(&get("/park"));
    closed.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let parked = parked.into_iter().chain(house.parked(1)).collect();
    house.lives();
    assert_eq!(house.seen().iter().filter(|s| *s == "GET /work").count(), 0, "read ahead of its turn");
    answer_all(parked);
    let bodies: Vec<_> = (0..3).map(|_| client.answer().unwrap().body).collect();
    assert_eq!(bodies, [&b"later"[..], b"quick", b"work"]);
    assert_eq!((closed.answer().unwrap().status, closed.ends()), (202, true));
}

#[test]
fn a_client_that_leaves_keeps_its_place_until_it_is_answered() {
    let house = House::open(usual());
    for _ in 0..50 {
        let mut client = house.connect();
        client.send(&get("/park"));
        drop(client);
    }
    let parked = house.parked(50);
    house.lives();
    assert!(house.door.stats().open >= 50);
    answer_all(parked);
    house.until("all places", |h| h.door.stats().open == 0);
    house.lives();
}

#[test]
fn answers_race_with_the_next_request() {
    // The client's next request comes at the moment of the answer: over many rounds both orders of the race happen.
    let house = House::open(usual());
    let stop = Stop::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.is_set() {
                let parked = std::mem::take(&mut *house.toy.parked.lock().unwrap());
                answer_all(parked);
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    let mut client = house.connect();
                    for round in 0..500 {
                        assert_eq!(client.ask(&get("/park")).status, 202, "round {round}");
                        if round % 3 == 0 {
                            client.send(&[get("/park"), get("/work"), get("/park")].concat());
                            let statuses: Vec<_> = (0..3).map(|_| client.answer().unwrap().status).collect();
                            assert_eq!(statuses, [202, 200, 202], "round {round}");
                        }
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.set();
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn a_panic_answers_500_and_the_thread_lives() {
    let house = House::open(usual());
    let threads = house.threads.live();
    let mut client = house.connect();
    for round in 1..=5 {
        for path in ["/panic-quick", "/panic-work", "/panic-plan"] {
            assert_eq!(client.ask(&get(path)).status, 500, "{path}");
        }
        house.until("the count", |h| h.threads.panics() == 3 * round); // which comes behind the answer
        assert_eq!(house.threads.live(), threads);
    }
    assert_eq!(client.ask(&get("/work")).status, 200);
    house.lives();
}

#[test]
fn a_dropped_responder_answers_500() {
    let house = House::open(usual());
    let mut client = house.connect();
    assert_eq!(client.ask(&get("/drop")).status, 500);
    client.send(&get("/park"));
    drop(house.parked(1));
    assert_eq!(client.answer().unwrap().status, 500);
    assert_eq!(client.ask(&get("/quick")).status, 200);
}

#[test]
fn an_answer_larger_than_the_socket_reaches_a_slow_reader() {
    let house = House::open(usual());
    const SIZE: usize = 8 << 20;
    let mut slow = house.connect();
    slow.send(&[get(&format!("/big?n={SIZE}")), get("/quick")].concat());
    let mut parked = house.connect();
    parked.send(&get("/park"));
    for responder in house.parked(1) {
        responder.send(Response::new(200, "text/plain", vec![b'p'; SIZE])); // from this thread, which it must not hold
    }
    for _ in 0..20 {
        house.lives(); // nobody else waits for them
    }
    assert_eq!(slow.answer().unwrap().body.len(), SIZE);
    assert_eq!(slow.answer().unwrap().body, b"quick");
    assert_eq!(parked.answer().unwrap().body.len(), SIZE);
    assert_eq!(parked.ask(&get("/quick")).status, 200);
}

/// A connection whose first request is on its way when the drain begins: a reset would be all that its client is told.
#[test]
fn a_drain_waits_a_moment_for_a_first_request() {
    let house = House::open(usual());
    let (mut first, mut silent, mut known) = (house.connect(), house.connect(), house.connect());
    assert_eq!(known.ask(&get("/quick")).status, 200);
    house.until("three", |h| h.door.stats().accepted == 3);
    house.door.close(PATIENCE);
    assert!(known.ends(), "that one had its turn");
    let answer = first.ask(&get("/work"));
    assert_eq!((answer.status, answer.header("connection"), first.ends()), (200, Some("close"), true));
    assert!(silent.ends(), "but not for ever");
    assert_eq!(house.threads.join(PATIENCE / 2), Vec::<String>::new());
}

#[test]
fn a_drain_answers_what_is_under_way() {
    let house = House::open(usual());
    let (mut idle, mut half, mut parked) = (house.connect(), house.connect(), house.connect());
    assert_eq!(idle.ask(&get("/quick")).status, 200);
    half.send(b"GET /quick HTTP/1.1\r\n");
    parked.send(&get("/park"));
    let responders = house.parked(1);
    house.lives(); // so the half head was read, too
    house.door.close(PATIENCE);
    assert!(idle.ends(), "who waits for nothing is closed");
    assert!(TcpStream::connect(house.door.local_addr()).is_err(), "nobody comes in any more");
    let answer = half.ask(b"Host: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection"), half.ends()), (200, Some("close"), true));
    answer_all(responders);
    let answer = parked.answer().unwrap();
    assert_eq!((answer.status, answer.header("connection"), parked.ends()), (202, Some("close"), true));
    assert_eq!(house.threads.join(PATIENCE), Vec::<String>::new());
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let house = House::open(usual());
    let mut client = house.connect();
    client.send(&get("/park"));
    let responders = house.parked(1);
    house.door.close(Duration::from_millis(50));
    assert!(client.ends());
    answer_all(responders); // finds nobody, and does no harm
    assert_eq!(house.threads.join(PATIENCE), Vec::<String>::new());
}
