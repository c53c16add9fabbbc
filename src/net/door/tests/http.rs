//! What HTTP/1.1 asks of a server: keep-alive, pipelining, HEAD, Expect, chunked bodies, ids, refusals, upgrades.
//!
//! Invariant: each test would fail against a server that answers less, or in another order.

use super::*;

#[test]
fn a_connection_serves_many_requests() {
    let house = House::open(usual());
    let mut client = house.connect();
    for path in ["/quick", "/work", "/quick", "/deny", "/work", "/none"] {
        let answer = client.ask(&get(path));
        let expected = if path == "/deny" {
            401
        } else if path == "/none" {
            404
        } else {
            200
        };
        assert_eq!((answer.status, answer.header("connection")), (expected, None), "{path}");
        assert!(answer.header("date").is_some_and(|d| d.ends_with(" GMT")), "{path}");
    }
    assert_eq!(house.door.stats().accepted, 1);
    let peer = client.ask(&get("/where"));
    assert_eq!(String::from_utf8(peer.body).unwrap(), "Tcp { ip: 127.0.0.1, local: 127.0.0.1 }");
}

#[test]
fn a_connection_closes_when_it_should() {
    let house = House::open(usual());
    for (request, told, closes) in [
        ("GET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close"), true),
        ("GET /work HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close"), true),
        ("GET /quick HTTP/1.0\r\n\r\n", Some("close"), true),
        ("GET /work HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive"), false),
        ("POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Some("close"), true),
        ("POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None, false),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Some("close"), true),
    ] {
        let mut client = house.connect();
        let answer = client.ask(request.as_bytes());
        assert_eq!(answer.header("connection"), told, "{request:?}");
        if closes {
            assert!(client.ends(), "{request:?}");
        } else {
            assert_eq!(client.ask(&get("/quick")).status, 200, "{request:?}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let house = House::open(usual());
    let mut client = house.connect();
    let paths = ["/work", "/quick", "/quick", "/work", "/deny", "/quick", "/none", "/work", "/quick"];
    let mut bytes: Vec<u8> = paths.iter().flat_map(|p| get(p)).collect();
    bytes.extend(post_length("/echo", "body"));
    bytes.extend(get("/quick"));
    client.send(&bytes);
    let bodies: Vec<_> = (0..11).map(|_| String::from_utf8(client.answer().unwrap().body).unwrap()).collect();
    let expected = ["work", "quick", "quick", "work", "deny", "quick", "none", "work", "quick", "body", "quick"];
    assert_eq!(bodies, expected);
}

#[test]
fn a_long_pipeline_is_read_as_it_is_answered() {
    let house = House::open(usual());
    let client = house.connect();
    let mut writer = Client { stream: client.stream.try_clone().unwrap(), kept: Vec::new() };
    const COUNT: usize = 20_000;
    std::thread::scope(|s| {
        s.spawn(move || {
            let request = get("/quick");
            for _ in 0..COUNT / 100 {
                writer.send(&request.repeat(100));
            }
        });
        let mut client = client;
        for i in 0..COUNT {
            assert_eq!(client.answer().unwrap().status, 200, "answer {i}");
        }
    });
}

#[test]
fn half_a_close_still_gets_its_answers() {
    let house = House::open(usual());
    assert_eq!(house.statuses(&[get("/work"), get("/quick"), get("/work")].concat()), [200, 200, 200]);
}

#[test]
fn head_and_bodiless_answers() {
    let house = House::open(usual());
    let mut client = house.connect();
    for (path, length) in [("/quick", "5"), ("/work", "4"), ("/deny", "4"), ("/big?n=100000", "100000")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = client.answer_to("HEAD").unwrap();
        assert_eq!(answer.header("content-length"), Some(length), "{path}");
    }
    assert_eq!(client.ask(&get("/quick")).body, b"quick", "nothing was sent behind the heads");
}

#[test]
fn bodies_within_their_bound() {
    let house = House::open(usual());
    let long = "y".repeat(200_000);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut client = house.connect();
    for (request, body) in [
        (post_length("/echo", "hello"), "hello"),
        (post_length("/echo", &long), long.as_str()), // goes to a worker: too long for the quick lane
        (post("/echo", chunked, "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n"), "hello!"),
        (post("/echo", chunked, &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len())), long.as_str()),
        (post_length("/small", "0123456789"), "0123456789"),
    ] {
        let answer = client.ask(&request);
        assert_eq!((answer.status, answer.body == body.as_bytes()), (200, true), "{} bytes", body.len());
    }
    for request in [
        post_length("/small", "0123456789a"),
        post("/small", chunked, "b\r\n0123456789a\r\n0\r\n\r\n"),
        post("/echo", "Content-Length: 1048577\r\n", ""),
        post("/echo", "Content-Length: 99999999999999\r\n", ""),
        post("/echo", "Content-Length: 18446744073709551615\r\n", ""),
    ] {
        let mut client = house.connect();
        let answer = client.ask(&request);
        assert_eq!((answer.status, answer.header("connection"), client.ends()), (413, Some("close"), true));
    }
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let house = House::open(usual());
    for _ in 0..20 {
        let mut client = house.connect();
        client.send(&post("/deny", "Content-Length: 200000\r\n", ""));
        client.send(&[b'z'; 200_000]);
        assert_eq!(client.answer().unwrap().status, 401);
        assert!(client.ends());
    }
}

#[test]
fn expect() {
    let house = House::open(usual());
    let invited = |path: &str, length: usize, status: u16| {
        let mut client = house.connect();
        client.send(&post(path, &format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), ""));
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, status, "{path} {length}");
        client
    };
    let mut client = invited("/echo", 5, 100);
    assert_eq!(client.ask(b"hello").body, b"hello");
    assert_eq!(client.ask(&get("/quick")).status, 200);
    assert!(invited("/deny", 5, 401).ends());
    assert!(invited("/small", 11, 413).ends());
    let mut hasty = house.connect();
    let answer = hasty.ask(&post("/echo", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"));
    assert_eq!(answer.status, 200, "who sends the body at once needs no invitation");
    let answer = house.connect().ask(&post("/echo", "Expect: something\r\nContent-Length: 5\r\n", ""));
    assert_eq!(answer.status, 417);
    let answer = house.connect().ask(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.status, 200, "HTTP/1.0 knows no expectation");
}

#[test]
fn request_ids() {
    let house = House::open(usual());
    let mut client = house.connect();
    let mut id_for = |line: &str| {
        let answer = client.ask(format!("GET /quick HTTP/1.1\r\nHost: a\r\n{line}\r\n").as_bytes());
        answer.header("x-request-id").unwrap().to_string()
    };
    assert_eq!(id_for("X-Request-Id: my_Own-1\r\n"), "my_Own-1");
    let longest = "a".repeat(64);
    assert_eq!(id_for(&format!("X-Request-Id: {longest}\r\n")), longest);
    let made = id_for("");
    assert!(made.starts_with("req_") && made.len() == 30 && made != id_for(""), "{made}");
    for bad in ["", "a b", "a.b", "<x>", &"a".repeat(65)] {
        assert!(id_for(&format!("X-Request-Id: {bad}\r\n")).starts_with("req_"), "{bad:?}");
    }
    let refused = house.connect().ask(b"GET / HTTP/1.1\r\n\r\n");
    let id = refused.header("x-request-id").unwrap().to_string();
    assert_eq!(String::from_utf8(refused.body).unwrap(), format!("refused 400 {id}"));
}

#[test]
fn each_answer_is_told_once() {
    let house = House::open(usual());
    let mut client = house.connect();
    for path in ["/quick", "/work", "/deny"] {
        client.ask(&get(path));
    }
    client.ask(&post("/small", "Content-Length: 11\r\n", ""));
    house.connect().ask(b"nonsense\r\n\r\n");
    let told = house.toy.served.lock().unwrap().clone();
    let expected = [("/quick", 200), ("/work", 200), ("/deny", 401), ("/small", 413), ("", 400)];
    assert_eq!(told, expected.map(|(p, s)| (p.to_string(), s)));
}

#[test]
fn an_upgrade_leaves_the_door() {
    let house = House::open(usual());
    let mut client = house.connect();
    client.ask(&get("/work"));
    let request = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfirst frame";
    assert_eq!(client.ask(request).status, 101);
    while client.more() {}
    assert_eq!(client.kept, b"first frame");
    house.until("the place", |h| h.door.stats().open == 0);
    assert_eq!((house.door.stats().handed_over, house.seen().last().unwrap().as_str()), (1, "nodelay true"));
    assert_eq!(house.statuses(&post_length("/upgrade", "body")), [400]);
}
