//! What brought other servers down: each as raw bytes, with the statuses that it gets, and a second request that must not be.
//!
//! Invariant: after each of them the door answers at once, and nothing hidden in a body was taken for a request.

use super::*;

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn faults_of_others() {
    let house = House::open(usual());
    let hidden_length = HIDDEN.len();
    let line = |n: usize| "x".repeat(n);
    for (name, bytes, statuses) in [
        ("TH1", post("/deny", "Content-Length: 99999999999999\r\n", ""), vec![401]),
        ("TH1 read", post("/echo", "Content-Length: 99999999999999\r\n", HIDDEN), vec![413]),
        ("TH1b", post("/deny", "Content-Length: 18446744073709551615\r\n", ""), vec![401]),
        ("TH1b read", post("/echo", "Content-Length: 18446744073709551615\r\n", HIDDEN), vec![413]),
        ("TH1c", post("/deny", "Content-Length: 18446744073709551616\r\n", HIDDEN), vec![400]),
        ("TH2 deny", post("/deny", "Content-Length: 5000\r\n", "ab"), vec![401]),
        ("TH3", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", line(10 << 20)).into_bytes(), vec![431]),
        ("TH3 line", format!("GET /{}", line(10 << 20)).into_bytes(), vec![414]),
        ("TH4", format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "a: b\r\n".repeat(1 << 20)).into_bytes(), vec![431]),
        ("TH9 identity", post("/echo", "Transfer-Encoding: identity\r\nContent-Length: 36\r\n", HIDDEN), vec![400]),
        ("TH9 identity alone", post("/echo", "Transfer-Encoding: identity\r\n", HIDDEN), vec![501]),
        (
            "TH9 two lengths",
            post("/echo", &format!("Content-Length: 0\r\nContent-Length: {hidden_length}\r\n"), HIDDEN),
            vec![400],
        ),
        (
            "TH9 equal lengths",
            post("/echo", &format!("Content-Length: {hidden_length}\r\nContent-Length: {hidden_length}\r\n"), HIDDEN),
            vec![400],
        ),
        ("TH9 bad length", post("/echo", "Content-Length: +36x\r\n", HIDDEN), vec![400]),
        ("TH9 both", post("/echo", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", HIDDEN), vec![400]),
        ("TH9 twice chunked", post("/echo", "Transfer-Encoding: chunked, chunked\r\n", HIDDEN), vec![400]),
        ("TH9 space before colon", post("/echo", "Transfer-Encoding : chunked\r\n", HIDDEN), vec![400]),
        ("TH9 folded", post("/echo", "Transfer-Encoding:\r\n chunked\r\n", HIDDEN), vec![400]),
        ("TH9 vertical tab", post("/echo", "Transfer-Encoding: \x0bchunked\r\n", HIDDEN), vec![400]),
        ("TH10", post("/deny", "Transfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")), vec![401]),
        ("TH10 in a chunk", post("/deny", "Transfer-Encoding: chunked\r\n", &format!("30\r\n{HIDDEN}")), vec![401]),
        ("chunk lies", post("/echo", "Transfer-Encoding: chunked\r\n", &format!("1\r\nab{HIDDEN}")), vec![400]),
        ("chunk size 0x", post("/echo", "Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{HIDDEN}")), vec![400]),
        ("length lies", [post("/deny", "Content-Length: 1\r\n", "a"), HIDDEN.into()].concat(), vec![401]),
        ("header injection", b"GET /quick HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\r\n b: c\r\n\r\n".to_vec(), vec![400]),
        ("two hosts", b"GET /smuggled HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), vec![400]),
        ("no host", b"GET /smuggled HTTP/1.1\r\n\r\n".to_vec(), vec![400]),
        ("other host", b"GET http://b/smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), vec![400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![505]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), vec![400]),
        ("nothing", Vec::new(), vec![]),
        ("blank lines", b"\r\n".repeat(100_000), vec![400]),
        ("zeros", vec![0; 100_000], vec![400]),
    ] {
        for _ in 0..5 {
            assert_eq!(house.statuses(&bytes), statuses, "{name}");
        }
        house.lives();
    }
    assert_eq!(house.seen().iter().find(|s| s.contains("smuggled")), None);
    house.until("all places", |h| h.door.stats().open == 0);
    assert_eq!(house.threads.panics(), 0);
}

#[test]
fn half_a_body_and_silence_hold_nobody() {
    // TH2, TH5, TH6: those who stall cost a place each, and no thread.
    let house = House::open(usual());
    let threads = house.threads.live();
    let mut stalled: Vec<_> = (0..100).map(|_| house.connect()).collect();
    for (i, client) in stalled.iter_mut().enumerate() {
        match i % 4 {
            0 => {}
            1 => client.send(&post("/echo", "Content-Length: 5000\r\n", "ab")),
            2 => client.send(b"GET / HTTP/1.1\r\nX: "),
            _ => client.send(&post("/echo", "Transfer-Encoding: chunked\r\n", "5\r\nab")),
        }
    }
    for _ in 0..50 {
        house.lives();
    }
    assert_eq!(house.threads.live(), threads);
}

#[test]
fn a_client_that_resets_is_forgotten() {
    let house = House::open(usual());
    for _ in 0..100 {
        let mut client = house.connect();
        client.send(&[get("/big?n=1000000"), get("/work"), get("/quick")].concat());
        drop(client); // with unread answers: a reset
    }
    house.until("all places", |h| h.door.stats().open == 0);
    house.lives();
}
