//! Clients on bad days: slow, many, impatient, repeating themselves, more than it can serve.
//!
//! Invariant: all of them on loopback; what is asserted of the gateway is its process's own memory, threads and descriptors.

use std::collections::HashSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::row::{Row, Trials};
use crate::support::gateway::{ADMIN, USER};
use crate::support::http::Call;
use crate::support::oracle::DOOR;
use crate::support::ws::Ws;
use crate::support::{eventually, pause, percentile, raise_open_files, side_by_side};

/// The rows of this family.
pub fn rows() -> Vec<Row> {
    vec![
        Row {
            id: "R23",
            fault: "slow clients by the thousand",
            injection: "2,000 (long: 10,000) connections that send a head byte by byte, a door wide enough for all",
            holds: "a real client's p99 below 200 ms, no thread more, less than 20 MB more, descriptors back",
            trials: (1, 5),
            run: Some(slow),
            tests: &["slow_connections_slow_nobody_down", "a_slow_head_has_a_total_deadline"],
            lacks: "",
        },
        Row {
            id: "R24",
            fault: "a great many WebSockets",
            injection: "200 (long: 1,000) of one user at rest, 20 pushes to all of them, 10 (50) that never read",
            holds: "each socket below 24 KiB (debug: 40), a push at all of them within 1 s, who never reads holds up nobody",
            trials: (1, 5),
            run: Some(sockets),
            tests: &["a_reader_that_does_not_read_holds_up_nobody"],
            lacks: "",
        },
        Row {
            id: "R25",
            fault: "what aborts, stalls or smuggles through other servers",
            injection: "the inputs TH1, TH1b, TH2, TH9, TH10 and heads without end, again and again",
            holds: "the process lives, /health within 1 s, nothing smuggled",
            trials: (80, 10_000),
            run: Some(inputs),
            tests: &["a_body_that_does_not_come_stalls_nothing"],
            lacks: "",
        },
        Row {
            id: "R26",
            fault: "churn of connections",
            injection: "connected and closed, reset, half closed, cut within a request; 16 at a time",
            holds: "descriptors and threads back, serves within 1 s",
            trials: (1500, 50_000),
            run: Some(churn),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R33",
            fault: "one message a hundred times at once",
            injection: "100 senders with the same messageId at the same moment",
            holds: "one message, one answer, one id for all of them",
            trials: (2, 100),
            run: Some(repeats),
            tests: &["an_idempotency_key_makes_a_hundred_one"],
            lacks: "",
        },
        Row {
            id: "R34",
            fault: "an idempotency key with another body",
            injection: "POST /api/message twice with one key and different words",
            holds: "409 or 422, nothing sent a second time",
            trials: (10, 100),
            run: Some(other_body),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R41",
            fault: "ten times as many senders as it is meant for",
            injection: "16 senders that wait for their answers without a pause between, then 160, then 16",
            holds: "goodput stays at 80 % or more (short, on a busy machine: half), the rest waits or hears 503, as before after it",
            trials: (1, 5),
            run: Some(overload),
            tests: &[],
            lacks: "",
        },
        Row {
            id: "R42",
            fault: "one who abuses beside ten who don't",
            injection: "rate limit of 20 a second for each user; one sends without a pause, ten every 100 ms",
            holds: "the ten succeed in 99 % or more, the one is limited",
            trials: (1, 10),
            run: Some(abuse),
            tests: &["requests_are_limited_for_each_key"],
            lacks: "",
        },
    ]
}

/// How long requests of a real client take until it is over.
fn latencies(port: u16, over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let answer = Call::new(port, "GET", "/health").patience(Duration::from_secs(10)).attempt();
        times.push(if answer.is_ok_and(|a| a.status == 200) { began.elapsed() } else { Duration::from_secs(10) });
        pause(3);
    }
    times
}

fn connect_from(ours: Ipv4Addr, port: u16) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&fd, &SocketAddr::from((ours, 0))).ok()?;
    connect(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()?;
    Some(TcpStream::from(fd))
}

fn slow(trials: &mut Trials) {
    let count: u64 = if trials.is_long { 10_000 } else { 2_000 };
    let files = raise_open_files(2 * count + 500);
    if files < count + 500 {
        return trials.absent(&format!("{count} slow connections: this system allows {files} open files"));
    }
    for _ in 0..trials.wanted {
        trials.trial("slow", |trials| {
            let mut rig = Rig::new(json!({"gateway": {"limits": {"maxConnections": count + 100}}}));
            rig.start();
            let (before, over) = (rig.gateway.settled(), AtomicBool::new(false));
            let port = rig.gateway.port;
            let (mut times, peak) = std::thread::scope(|scope| {
                let client = scope.spawn(|| latencies(port, &over));
                let mut all = Vec::new();
                for n in 0..count {
                    // From several addresses: one address alone has a share of its own.
                    if let Some(mut stream) = connect_from(Ipv4Addr::new(127, 0, 1, 1 + (n % 200) as u8), port) {
                        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ");
                        all.push(stream);
                    }
                }
                let mut peak = rig.gateway.stat();
                for _ in 0..6 {
                    all.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
                    peak.rss_kb = peak.rss_kb.max(rig.gateway.stat().rss_kb);
                    pause(250);
                }
                over.store(true, Ordering::SeqCst);
                (client.join().expect("the client"), peak)
            });
            let p99 = percentile(&mut times, 99);
            trials.figure("held", peak.fds);
            trials.figure("p99 of a real client", format!("{:.1} ms", p99.as_secs_f64() * 1000.0));
            trials.figure("more memory", format!("{} KiB", peak.rss_kb.saturating_sub(before.rss_kb)));
            let began = Instant::now();
            eventually("the descriptors", 15, || (rig.gateway.stat().fds <= before.fds + 4).then_some(()));
            trials.recovered(began.elapsed());
            if p99 > Duration::from_millis(200) || peak.threads > before.threads || peak.rss_kb > before.rss_kb + 20 * 1024 {
                return Err(format!("p99 {p99:?}; {before:?} to {peak:?}"));
            }
            rig.verdict()
        });
    }
}

fn sockets(trials: &mut Trials) {
    let (count, lazy) = if trials.is_long { (1000, 50) } else { (200, 10) };
    raise_open_files(4 * count as u64 + 1000);
    for _ in 0..trials.wanted {
        trials.trial("sockets", |trials| {
            let mut rig = Rig::new(json!({"gateway": {"limits": {"maxConnections": 2048}}}));
            rig.start();
            let before = rig.gateway.settled();
            let mut all: Vec<Ws> = (0..count).map(|_| Ws::join(&rig.gateway, USER)).collect();
            let silent: Vec<Ws> = (0..lazy).map(|_| Ws::join(&rig.gateway, USER)).collect();
            let held = rig.gateway.settled();
            let each = held.rss_kb.saturating_sub(before.rss_kb) as f64 / (count + lazy) as f64;
            let mut pushes = Vec::new();
            for n in 0..20 {
                let began = Instant::now();
                rig.gateway
                    .post("/api/message", json!({"userId": "ana", "channel": "websocket", "message": format!("push {n}")}))
                    .expect(202);
                for ws in &mut all {
                    let message = ws.until("message");
                    if message["message"] != format!("push {n}") {
                        return Err(format!("instead of push {n}: {message}"));
                    }
                }
                pushes.push(began.elapsed());
            }
            let (median, slowest) = (percentile(&mut pushes, 50), percentile(&mut pushes, 100));
            trials.figure("sockets", count + lazy);
            trials.figure("each", format!("{each:.1} KiB"));
            trials.figure("a push at all of them", format!("{} ms, slowest {}", median.as_millis(), slowest.as_millis()));
            drop(all);
            drop(silent);
            eventually("the threads to end", 15, || (rig.gateway.stat().threads <= before.threads).then_some(()));
            let most = if cfg!(debug_assertions) { 40.0 } else { 24.0 };
            if each > most || slowest > Duration::from_secs(1) {
                return Err(format!("{each:.1} KiB a socket, slowest push {slowest:?}"));
            }
            rig.verdict()
        });
    }
}

fn inputs(trials: &mut Trials) {
    let mut rig = Rig::new(json!({"gateway": {"limits": {"requestTimeout": 1000}}}));
    rig.start();
    let smuggled = "GET /api/config HTTP/1.1\r\nHost: x\r\n\r\n";
    let heads: [(&str, String); 8] = [
        ("TH1", "Content-Length: 99999999999999\r\n\r\n".into()),
        ("TH1b", "Content-Length: 18446744073709551615\r\n\r\n".into()),
        ("TH2", "Content-Length: 5000\r\n\r\n{\"".into()),
        ("TH9", format!("Transfer-Encoding: identity\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len())),
        ("TH9, two lengths", format!("Content-Length: 0\r\nContent-Length: 36\r\n\r\n{smuggled}")),
        ("TH9, a sign", format!("Content-Length: +36\r\n\r\n{smuggled}")),
        ("TH10", format!("Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}")),
        ("a head without end", "a: b\r\n".repeat(20_000)),
    ];
    let before = rig.gateway.settled();
    for n in 0..trials.wanted {
        let (name, rest) = &heads[n as usize % heads.len()];
        trials.trial(name, |_| {
            let mut stream = TcpStream::connect(("127.0.0.1", rig.gateway.port)).map_err(|e| e.to_string())?;
            let _ = stream.write_all(format!("POST /api/message HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}").as_bytes());
            if *name != "TH2" {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                let mut answer = vec![0; 8192];
                let n = std::io::Read::read(&mut stream, &mut answer).unwrap_or(0);
                let text = String::from_utf8_lossy(&answer[..n]).into_owned();
                if text.matches("HTTP/1.1 ").count() > 1 {
                    return Err(format!("two answers: {text}"));
                }
            }
            if n % 8 == 7 { rig.lives() } else { Ok(()) }
        });
    }
    eventually("the descriptors", 5, || (rig.gateway.stat().fds <= before.fds + 4).then_some(()));
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn churn(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    let before = rig.gateway.settled();
    let port = rig.gateway.port;
    side_by_side(16, |part| {
        for n in (part as u64..trials.wanted).step_by(16) {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            match n % 4 {
                0 => {}
                1 => drop(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))),
                2 => drop(stream.shutdown(std::net::Shutdown::Write)),
                _ => drop(stream.write_all(b"POST /webhook/door HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")),
            }
        }
    });
    trials.count(trials.wanted);
    let began = Instant::now();
    if let Err(why) = rig.lives() {
        trials.fail(&why);
    }
    rig.round_trip(2);
    trials.recovered(began.elapsed());
    eventually("the descriptors", 5, || (rig.gateway.stat().fds <= before.fds + 8).then_some(()));
    if rig.gateway.stat().threads > before.threads {
        trials.fail("a thread more");
    }
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn repeats(trials: &mut Trials) {
    let mut rig = Rig::new(json!({"gateway": {"limits": {"maxConnections": 512}}}));
    rig.start();
    let port = rig.gateway.port;
    for n in 1..=trials.wanted {
        trials.trial(&format!("repeat {n}"), |_| {
            let body = json!({"userId": "r", "message": format!("r-{n}"), "messageId": format!("r-{n}")});
            let ids = side_by_side(100, |_| {
                Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).send().expect(202).field("id")
            });
            let ids: HashSet<String> = ids.into_iter().collect();
            rig.world.accepted.note(&["r", &n.to_string(), ids.iter().next().map_or("", |i| i)]);
            if ids.len() == 1 { Ok(()) } else { Err(format!("{} ids", ids.len())) }
        });
    }
    if let Err(why) = rig.verdict() {
        trials.fail(&why);
    }
}

fn other_body(trials: &mut Trials) {
    let mut rig = Rig::new(json!({}));
    rig.start();
    rig.round_trip(10);
    for n in 0..trials.wanted {
        trials.trial(&format!("key {n}"), |_| {
            let say = |text: &str| {
                rig.gateway.post(
                    "/api/message",
                    json!({"userId": "rig", "channel": "door", "message": text, "idempotencyKey": format!("k{n}")}),
                )
            };
            let (first, again, other) = (say("once"), say("once"), say("something else"));
            let ids = |a: &crate::support::http::Answer| -> Value { a.json()["id"].clone() };
            if first.status != 202 || again.status != 202 || ids(&first) != ids(&again) {
                return Err(format!("{} and {}", first.text(), again.text()));
            }
            if !matches!(other.status, 409 | 422) { Err(format!("{}: {}", other.status, other.text())) } else { Ok(()) }
        });
    }
    eventually("the messages", 20, || {
        (rig.sink.got().iter().filter(|d| d.text() == "once").count() as u64 == trials.wanted).then_some(())
    });
    pause(200);
    let texts: Vec<String> = rig.sink.got().iter().map(|d| d.text().to_string()).collect();
    if texts.iter().filter(|t| *t == "once").count() as u64 != trials.wanted || texts.iter().any(|t| t == "something else") {
        trials.fail("something was sent twice, or what was refused was sent");
    }
}

/// Answers a second that so many senders get, each waiting for its own; and how many were told no, or got none.
fn goodput(rig: &Rig, senders: usize, seconds: u64) -> (f64, u64) {
    let (port, began) = (rig.gateway.port, Instant::now());
    let counts = side_by_side(senders, |sender| {
        let (mut answered, mut refused) = (0u64, 0u64);
        let body = json!({"userId": format!("o{sender}"), "message": "hi"});
        while began.elapsed() < Duration::from_secs(seconds) {
            let call = Call::new(port, "POST", "/webhook/default?wait=10000").token(ADMIN).json(&body);
            match call.patience(Duration::from_secs(15)).attempt() {
                Ok(answer) if answer.status == 200 => answered += 1,
                _ => refused += 1,
            }
        }
        (answered, refused)
    });
    let (answered, refused) = counts.into_iter().fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
    (answered as f64 / began.elapsed().as_secs_f64(), refused)
}

fn overload(trials: &mut Trials) {
    let seconds = if trials.is_long { 20 } else { 1 };
    for _ in 0..trials.wanted {
        trials.trial("overload", |trials| {
            let mut rig = Rig::new(json!({}));
            rig.start();
            // By turns, the best of each: what else this machine does is not the gateway's.
            let rounds: Vec<_> = (0..3).map(|_| (goodput(&rig, 16, seconds), goodput(&rig, 160, seconds))).collect();
            let best = |rates: &mut dyn Iterator<Item = f64>| rates.fold(0.0, f64::max);
            let (rated, under) = (best(&mut rounds.iter().map(|r| r.0.0)), best(&mut rounds.iter().map(|r| r.1.0)));
            let refused: u64 = rounds.iter().map(|r| r.1.1).sum();
            let (after, _) = goodput(&rig, 16, seconds);
            trials.figure("rated", format!("{rated:.0} answers/s"));
            trials.figure("under overload", format!("{under:.0} /s"));
            trials.figure("of them told no", refused);
            trials.figure("after it", format!("{after:.0} /s"));
            rig.lives()?;
            let least = if trials.is_long { 0.8 } else { 0.5 };
            if under < rated * least {
                return Err(format!("{under:.0} of {rated:.0} a second"));
            }
            if trials.is_long && after < rated * 0.6 {
                return Err(format!("after it {after:.0} of {rated:.0} a second"));
            }
            rig.verdict()
        });
    }
}

fn abuse(trials: &mut Trials) {
    for n in 0..trials.wanted {
        trials.trial(&format!("abuse {n}"), |trials| {
            let limit = json!({"enabled": true, "window": 1000, "maxRequests": 20, "perUser": true});
            let mut rig = Rig::new(json!({"gateway": {"rateLimit": limit}}));
            rig.start();
            let (port, began) = (rig.gateway.port, Instant::now());
            let counts = side_by_side(11, |user| {
                let (mut ok, mut limited, mut number) = (0u64, 0u64, 0u64);
                while began.elapsed() < Duration::from_secs(4) {
                    number += 1;
                    let body = json!({"userId": format!("a{user}"), "message": "hi", "messageId": format!("a{user}-{number}")});
                    match Call::new(port, "POST", "/webhook/door").token(DOOR).json(&body).attempt() {
                        Ok(answer) if answer.status == 202 => ok += 1,
                        _ => limited += 1,
                    }
                    if user > 0 {
                        pause(100);
                    }
                }
                (ok, limited)
            });
            let (ok, bad) = counts[1..].iter().fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
            trials.figure("of the ten succeeded", format!("{ok} of {}", ok + bad));
            trials.figure("of the one", format!("{} of {}", counts[0].0, counts[0].0 + counts[0].1));
            rig.lives()?;
            if (ok as f64) < 0.99 * (ok + bad) as f64 || counts[0].1 == 0 {
                return Err(format!("{counts:?}"));
            }
            Ok(())
        });
    }
}
