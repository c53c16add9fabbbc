//! Places and deadlines: the slow, the idle and the many.
//!
//! Invariant: short limits, real time: what is checked is that something ends in time, and not before others are served.

use super::*;

fn short() -> Limits {
    Limits { request_timeout: Duration::from_millis(150), idle_timeout: Duration::from_millis(400), ..usual() }
}

fn few(max_connections: usize) -> Limits {
    Limits { max_connections, ..usual() }
}

#[test]
fn deadlines_end_connections() {
    let house = House::open(short());
    let mut silent = house.connect();
    let mut head = house.connect();
    head.send(b"GET /quick HTT");
    let mut body = house.connect();
    body.send(&post("/echo", "Content-Length: 5\r\n", "ab"));
    let mut idle = house.connect();
    assert_eq!(idle.ask(&get("/quick")).status, 200);
    let mut worked = house.connect();
    assert_eq!(worked.ask(&get("/work")).status, 200);
    assert!(silent.ends(), "who never says anything is closed without a word");
    let answer = head.answer().unwrap();
    assert_eq!((answer.status, answer.header("connection"), head.ends()), (408, Some("close"), true));
    let answer = body.answer().unwrap();
    assert_eq!((answer.status, body.ends()), (408, true));
    assert_eq!(idle.ask(&get("/quick")).status, 200, "the idle time is another");
    assert!(idle.ends() && worked.ends());
    house.until("all places", |h| h.door.stats().open == 0);
    assert_eq!(house.door.stats().expired, 5);
}

#[test]
fn a_trickle_does_not_lengthen_a_deadline() {
    let house = House::open(short());
    let mut client = house.connect();
    client.send(b"GET /quick HTTP/1.1\r\n");
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut chunk = [0; 64];
    let bytes = (0..500).find_map(|_| {
        let _ = client.stream.write_all(b"a");
        client.stream.read(&mut chunk).ok()
    });
    assert!(bytes.is_some_and(|n| chunk[..n].starts_with(b"HTTP/1.1 408")), "{bytes:?}");
}

#[test]
fn who_does_not_read_its_answer_is_closed() {
    let house = House::open(short());
    let mut client = house.connect();
    client.send(&get("/big?n=20000000"));
    house.until("the request", |h| h.door.stats().accepted == 1);
    house.until("its end", |h| h.door.stats().open == 0);
    house.lives();
}

#[test]
fn a_parked_request_outlives_the_idle_time() {
    let house = House::open(Limits { idle_timeout: Duration::from_millis(60), ..usual() });
    let mut client = house.connect();
    client.send(&get("/park"));
    let responders = house.parked(1);
    let (_never, quiet) = crossbeam_channel::bounded::<()>(0);
    assert!(quiet.recv_timeout(Duration::from_millis(300)).is_err());
    for responder in responders {
        responder.send(Response::empty(204));
    }
    assert_eq!(client.answer().unwrap().status, 204);
    assert!(client.ends(), "and then its idle time runs, though no answer woke the door");
}

#[test]
fn shorter_limits_hold_for_those_who_are_there() {
    let house = House::open(usual());
    let mut client = house.connect();
    assert_eq!(client.ask(&get("/quick")).status, 200);
    house.limits.set(short());
    house.door.wake();
    assert!(client.ends());
}

#[test]
fn slow_connections_yield_to_those_who_ask() {
    let house = House::open(few(16));
    let mut slow: Vec<_> = (0..200).map(|_| house.connect()).collect();
    for client in &mut slow {
        let _ = client.stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ");
    }
    for _ in 0..50 {
        house.lives();
    }
    let stats = house.door.stats();
    assert!(stats.open <= 16 && stats.evicted >= 184 && stats.refused == 0, "{stats:?}");
    assert_eq!(house.threads.live(), 3, "the door and two workers");
}

#[test]
fn stalled_bodies_yield_too() {
    let house = House::open(few(8));
    let mut stalled: Vec<_> = (0..8).map(|_| house.connect()).collect();
    stalled.iter_mut().for_each(|c| c.send(&post("/echo", "Content-Length: 5\r\n", "ab")));
    house.until("their heads", |h| h.seen().len() == 8);
    for _ in 0..20 {
        house.lives();
    }
    assert_eq!(house.door.stats().refused, 0);
}

#[test]
fn where_all_are_being_answered_a_comer_is_refused() {
    let house = House::open(few(4));
    let mut busy: Vec<_> = (0..4).map(|_| house.connect()).collect();
    busy.iter_mut().for_each(|c| c.send(&get("/park")));
    let parked = house.parked(4);
    for _ in 0..20 {
        let mut late = house.connect();
        let answer = late.answer().unwrap();
        assert_eq!((answer.status, answer.header("retry-after"), late.ends()), (503, Some("1"), true));
    }
    assert_eq!(house.door.stats().refused, 20);
    drop(parked);
    for client in &mut busy {
        assert_eq!(client.answer().unwrap().status, 500);
    }
    house.lives();
}

#[test]
fn a_full_queue_of_workers_refuses() {
    let house = House::open(Limits { max_connections: 2000, ..usual() });
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    *house.toy.gate.lock().unwrap() = Some(gate);
    let over = 20;
    let count = workers::QUEUE_MAX + 2 + over;
    let mut clients: Vec<_> = (0..count).map(|_| house.connect()).collect();
    clients.iter_mut().for_each(|c| c.send(&get("/gated")));
    let refused = |h: &House| h.toy.served.lock().unwrap().iter().filter(|(_, s)| *s == 503).count();
    house.until("refusals", |h| refused(h) >= over);
    house.lives();
    drop(open);
    let mut statuses: Vec<_> = clients.iter_mut().map(|c| c.answer().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|s| **s == 503).count(), over);
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), count - over);
}

#[test]
fn churn_leaves_nothing_behind() {
    let house = House::open(usual());
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    house.lives();
    for round in 0..1000 {
        let mut client = house.connect();
        match round % 4 {
            0 => {}
            1 => drop(client.stream.write_all(b"GET /qu")),
            2 => drop(client.stream.write_all(&get("/work"))),
            _ => drop(client.stream.write_all(&post("/echo", "Content-Length: 9\r\n", "ab"))),
        }
    }
    house.until("all places", |h| h.door.stats().open == 0);
    // Other tests of this process open descriptors too: far fewer than a thousand.
    assert!(open() < 900, "{}", open());
    house.lives();
}
