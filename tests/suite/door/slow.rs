//! Slow, silent and many: connections that hold on cost no thread and slow nobody down.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{assert_same_size, assert_well, gateway, hasty};
use crate::support::gateway::{ADMIN, Gateway, Stat};
use crate::support::http::Connection;
use crate::support::model::{Model, echo_config};
use crate::support::{eventually, figure, from_env, heavy, merged, pause, percentile, raise_open_files, side_by_side, skipped};

/// TH2: a body that does not come holds nobody up, and ends at its deadline.
#[test]
fn a_body_that_does_not_come_stalls_nothing() {
    let mut gateway = hasty();
    let before = gateway.settled();
    let head = format!(
        "POST /webhook/default HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{\""
    );
    let mut held: Vec<Connection> = (0..40).map(|_| Connection::open(gateway.port).unwrap()).collect();
    for connection in &mut held {
        connection.send(&head).unwrap();
    }
    assert_well(&mut gateway, "TH2");
    let reply = gateway.ask("ana", "hi");
    assert_eq!(reply, "echo: hi");
    let began = Instant::now();
    for connection in &mut held {
        connection.patience(Duration::from_secs(5));
        if let Ok(Some(answer)) = connection.answer() {
            answer.expect_error(408, "request_timeout");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(4), "their deadline is 1 s, they ended after {:?}", began.elapsed());
    assert_same_size(before, gateway.stat(), 4096, "TH2");
    // Without a credential the body is not even waited for.
    let bare = "POST /api/message HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nxx";
    let began = Instant::now();
    let mut connection = Connection::open(gateway.port).unwrap();
    connection.send(bare).unwrap();
    connection.answer().unwrap().expect("an answer").expect_error(401, "unauthorized");
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert_well(&mut gateway, "TH2 without a credential");
}

/// TH5: idle connections cost no thread, and end.
#[test]
fn idle_connections_cost_no_thread_and_end() {
    let mut gateway = hasty();
    let before = gateway.settled();
    let silent: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(("127.0.0.1", gateway.port)).unwrap()).collect();
    let mut kept: Vec<Connection> = (0..30)
        .map(|_| {
            let mut connection = Connection::open(gateway.port).unwrap();
            connection.send("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
            connection.answer().unwrap().expect("an answer").expect(200);
            connection
        })
        .collect();
    assert_same_size(before, gateway.stat(), 8192, "idle connections");
    assert_well(&mut gateway, "idle connections");
    for connection in &mut kept {
        assert!(connection.closed_within(Duration::from_secs(4)), "idleTimeout is 1.5 s");
    }
    for stream in &silent {
        stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        let mut rest = Vec::new();
        let ended = (&mut &*stream).read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "still open");
    }
    eventually("the descriptors", 5, || (gateway.stat().fds <= before.fds + 2).then_some(()));
}

/// A head that comes byte by byte has one deadline in all, not one for each byte.
#[test]
fn a_slow_head_has_a_total_deadline() {
    let gateway = hasty();
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let began = Instant::now();
    let mut ended = false;
    for byte in b"GET /health HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat_n(&b'x', 60)) {
        if stream.write_all(&[*byte]).is_err() {
            ended = true;
            break;
        }
        match stream.read(&mut [0u8; 512]) {
            Ok(0) => ended = true,
            Ok(_) => ended = true, // 408
            Err(_) => {}
        }
        if ended {
            break;
        }
        pause(80);
    }
    assert!(ended && began.elapsed() < Duration::from_secs(3), "requestTimeout is 1 s; after {:?}", began.elapsed());
}

/// TH6 and TH7: without descriptors it waits, and serves again when there are some.
#[test]
fn running_out_of_descriptors_passes() {
    let mut gateway = Gateway::prepare(echo_config()).through_shell("ulimit -n 64").begin();
    for _ in 0..3 {
        let held: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(("127.0.0.1", gateway.port)).ok()).collect();
        pause(400);
        assert!(gateway.exited().is_none(), "the process ended");
        drop(held);
        let began = Instant::now();
        eventually("service again", 1, || gateway.healthy().then_some(()));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(gateway.ask("ana", "hi"), "echo: hi", "all of it serves again");
    let cpu = gateway.stat().cpu;
    pause(500);
    assert!(gateway.stat().cpu - cpu < Duration::from_millis(100), "it does not spin");
}

/// TH8: the threads are all there from the start, so a limit on them later ends nothing.
#[test]
fn running_out_of_threads_passes() {
    let mut gateway = gateway();
    let before = gateway.settled();
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", gateway.port)).unwrap()).collect();
    let answers = side_by_side(30, |_| gateway.call("GET", "/health").send().status);
    assert!(answers.iter().all(|s| *s == 200));
    assert_eq!(gateway.stat().threads, before.threads, "no thread for a connection");
    drop(held);
    // Connections that end by a reset before they are accepted.
    for _ in 0..300 {
        let stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }
    assert_well(&mut gateway, "resets");
    eventually("the descriptors", 5, || (gateway.stat().fds <= before.fds + 2).then_some(()));
}

/// How long `n` requests of a real client take, each on a connection of its own.
fn latencies(port: u16, over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let answer = crate::support::http::Call::new(port, "GET", "/health").patience(Duration::from_secs(10)).attempt();
        times.push(if answer.is_ok_and(|a| a.status == 200) { began.elapsed() } else { Duration::from_secs(10) });
        pause(3);
    }
    times
}

/// TH6, R23: `count` connections that send their heads byte by byte, while a real client is served.
fn check_slow(count: u64, limits: serde_json::Value) {
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"limits": limits}})));
    assert!(gateway.healthy());
    let before = gateway.settled();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| latencies(gateway.port, &over));
        let mut slow = Vec::new();
        let mut peak = before;
        let began = Instant::now();
        for n in 0..count {
            // From several addresses: one address alone may have a share of its own.
            let ours = Ipv4Addr::new(127, 0, 1, 1 + (n % 200) as u8);
            if let Some(mut stream) = connect_from(ours, gateway.port) {
                let _ = stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ");
                slow.push(stream);
            }
            if n % 100 == 0 {
                pause(1);
            }
        }
        for _ in 0..6 {
            for stream in &mut slow {
                let _ = stream.write_all(b"x");
            }
            let now = gateway.stat();
            peak = Stat {
                rss_kb: peak.rss_kb.max(now.rss_kb),
                threads: peak.threads.max(now.threads),
                fds: peak.fds.max(now.fds),
                ..now
            };
            pause(250);
        }
        over.store(true, Ordering::SeqCst);
        let mut times = client.join().expect("the client");
        let (median, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        figure(&format!(
            "{count} slow connections ({} opened, {} descriptors held) in {:?}: a real client's p50 {median:?}, p99 {p99:?} of {} requests; memory {} → {} KiB, threads {} → {}",
            slow.len(),
            peak.fds,
            began.elapsed(),
            times.len(),
            before.rss_kb,
            peak.rss_kb,
            before.threads,
            peak.threads
        ));
        assert!(p99 < Duration::from_millis(200), "p99 {p99:?}");
        assert_eq!(peak.threads, before.threads, "the thread count does not move");
        assert!(peak.rss_kb < before.rss_kb + 20 * 1024, "memory {} → {} KiB", before.rss_kb, peak.rss_kb);
    });
    eventually("the descriptors to go back", 15, || (gateway.stat().fds <= before.fds + 4).then_some(()));
    eventually("health", 1, || gateway.healthy().then_some(()));
}

fn connect_from(ours: Ipv4Addr, port: u16) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&fd, &SocketAddr::from((ours, 0))).ok()?;
    connect(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()?;
    Some(TcpStream::from(fd))
}

#[test]
fn slow_connections_slow_nobody_down() {
    let _alone = heavy();
    let count = from_env("GATELET_SLOW_CONNECTIONS", 1500);
    let files = raise_open_files(2 * count + 500);
    if files < count + 500 {
        return skipped(&format!("{count} slow connections: this system allows {files} open files"));
    }
    // As it comes: most of them are turned away or make room.
    check_slow(count, json!({}));
    // With a door wide enough for all of them at a time.
    check_slow(count, json!({"maxConnections": count + 100}));
}

#[test]
fn waiting_callers_slow_nobody_down() {
    let model = Model::slow(2500);
    let gateway =
        Gateway::start(merged(model.config(), json!({"gateway": {"workers": {"turns": 64}, "limits": {"maxConnections": 400}}})));
    let before = gateway.settled();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            side_by_side(200, |n| {
                let body = json!({"userId": format!("u{n}"), "message": "hi"});
                gateway.call("POST", "/webhook/default?wait=4000").token(ADMIN).json(&body).send().status
            })
        });
        pause(600);
        let client = scope.spawn(|| latencies(gateway.port, &over));
        pause(1200);
        assert_eq!(gateway.stat().threads, before.threads, "no thread for one that waits");
        over.store(true, Ordering::SeqCst);
        let mut times = client.join().expect("the client");
        let p99 = percentile(&mut times, 99);
        figure(&format!("200 waiting callers: /health p99 {p99:?} of {}", times.len()));
        assert!(p99 < Duration::from_millis(200), "{p99:?}");
        let statuses = waiting.join().expect("the callers");
        assert!(statuses.iter().all(|s| matches!(s, 200 | 202)), "{statuses:?}");
        assert!(statuses.contains(&200), "{statuses:?}");
    });
}

#[test]
fn many_connections_evict_the_slow_and_not_the_busy() {
    let gateway = Gateway::start(merged(echo_config(), json!({"gateway": {"limits": {"maxConnections": 20}}})));
    let _half: Vec<_> = (0..60)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\n").ok()?;
            Some(stream)
        })
        .collect();
    for _ in 0..20 {
        assert!(gateway.healthy(), "unfinished heads keep nobody out");
    }
}
