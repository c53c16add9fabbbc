//! What is said at which time, what hostile packets do (nothing), and which links there are.

use std::net::IpAddr;
use std::time::Duration;

use super::links::{self, Link};
use super::responder::{Responder, Say};
use super::wire::{self, A, AAAA, ANY, Message, PTR, Question, Record, SRV, TXT};

const SERVICE: [&str; 3] = ["_gatelet", "_tcp", "local"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn link() -> Link {
    Link { via: [192, 0, 2, 7].into(), addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()] }
}

/// A responder, its time, and what it said so far.
struct Bench {
    responder: Responder,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Bench { responder: Responder::new("Pi.lan", 8787, "1.2.3", ms(0)), now: ms(0) }
    }

    /// One that has claimed its name and announced it.
    fn settled() -> Self {
        let mut bench = Bench::new();
        bench.run(5000);
        bench
    }

    /// What it says in so many ms, with when.
    fn run(&mut self, for_ms: u64) -> Vec<(u64, Message)> {
        let (until, mut said) = (self.now + ms(for_ms), Vec::new());
        while let Some(at) = self.responder.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let say = self.responder.tick(self.now).expect("a deadline has something to do");
            let packet = self.responder.packet(say, &link());
            said.push((self.now.as_millis() as u64, wire::read(&packet).expect("its own packets are well-formed")));
        }
        self.now = until;
        said
    }

    fn hear(&mut self, message: &Message) {
        self.responder.hear(self.now, &wire::write(message));
    }

    fn asks(&mut self, labels: &[&str], kind: u16) -> Vec<(u64, Message)> {
        self.hear(&question(labels, kind));
        self.run(3000)
    }
}

fn question(labels: &[&str], kind: u16) -> Message {
    Message { questions: vec![Question { name: wire::name(labels), kind }], ..Message::default() }
}

fn kinds(records: &[Record]) -> Vec<u16> {
    records.iter().map(|r| r.kind).collect()
}

fn instance(label: &str) -> Vec<u8> {
    wire::name(&[label, SERVICE[0], SERVICE[1], SERVICE[2]])
}

fn place(label: &str, port: u16, ttl: u32) -> Record {
    let data = [&[0; 4][..], &port.to_be_bytes(), &wire::name(&["other", "local"])].concat();
    Record { name: instance(label), kind: SRV, is_all: true, ttl, data }
}

#[test]
fn a_name_is_claimed_announced_twice_and_taken_back() {
    let mut bench = Bench::new();
    assert_eq!(bench.responder.goodbye(), None, "nothing was said yet");
    let said = bench.run(10_000);
    let (probes, announced) = said.split_at(3);
    for (n, (at, probe)) in probes.iter().enumerate() {
        assert!(!probe.is_response && probe.questions == [Question { name: instance("pi"), kind: ANY }], "{probe:?}");
        assert_eq!(kinds(&probe.claims), [TXT, SRV]);
        assert!(n == 0 && *at < 250 || *at == probes[0].0 + 250 * n as u64, "{at}");
    }
    assert_eq!(announced.iter().map(|(at, _)| at - probes[0].0).collect::<Vec<_>>(), [750, 1750]);
    let records = &announced[0].1.answers;
    assert!(announced[0].1.is_response && announced[0] == (announced[0].0, announced[1].1.clone()));
    assert_eq!(kinds(records), [PTR, PTR, SRV, TXT, A, AAAA]);
    assert_eq!((&records[1].name, &records[1].data), (&wire::name(&SERVICE), &instance("pi")));
    assert_eq!(records[2].data, [&[0, 0, 0, 0, 0x22, 0x53][..], b"\x02pi\x05local\0"].concat());
    assert_eq!(records[3].data, b"\x0dversion=1.2.3\x06path=/");
    assert_eq!((&records[4].data[..], records[4].is_all, records[2].is_all), (&[192, 0, 2, 7][..], false, true));
    let goodbye = bench.responder.packet(bench.responder.goodbye().unwrap(), &link());
    let goodbye = wire::read(&goodbye).unwrap().answers;
    assert_eq!((kinds(&goodbye), goodbye.iter().map(|r| r.ttl).sum::<u32>()), (vec![PTR, SRV, TXT], 0));
    assert_eq!(bench.responder.deadline(), None, "unasked it sleeps");
}

#[test]
fn what_is_asked_is_answered_soon_and_once_a_second() {
    let pi = ["PI", "_GateLet", "_tcp", "local"];
    type Case<'a> = (&'a [&'a str], u16, &'a [u16], &'a [u16]);
    let cases: [Case; 11] = [
        (&["_services", "_dns-sd", "_udp", "local"], PTR, &[PTR], &[]),
        (&SERVICE, PTR, &[PTR], &[SRV, TXT, A, AAAA]),
        (&SERVICE, ANY, &[PTR], &[SRV, TXT, A, AAAA]),
        (&pi, SRV, &[SRV], &[A, AAAA]),
        (&pi, TXT, &[TXT], &[]),
        (&pi, ANY, &[SRV, TXT], &[A, AAAA]),
        (&["pi", "local"], A, &[A, AAAA], &[]),
        (&["pi", "local"], SRV, &[], &[]),
        (&["other", "local"], A, &[], &[]),
        (&["_gatelet", "_udp", "local"], PTR, &[], &[]),
        (&["other", "_gatelet", "_tcp", "local"], ANY, &[], &[]),
    ];
    for (labels, kind, answers, more) in cases {
        let mut bench = Bench::settled();
        let said = bench.asks(labels, kind);
        assert_eq!(said.len(), usize::from(!answers.is_empty()), "{labels:?} {kind}");
        for (at, answer) in said {
            assert!((5020..=5120).contains(&at), "{at}");
            assert_eq!((kinds(&answer.answers), kinds(&answer.more)), (answers.to_vec(), more.to_vec()), "{labels:?} {kind}");
        }
    }
    // A hundred askers in two seconds.
    let mut bench = Bench::settled();
    let mut said = Vec::new();
    for _ in 0..100 {
        bench.hear(&question(&SERVICE, PTR));
        said.extend(bench.run(20));
    }
    assert!((2..=3).contains(&said.len()) && said.windows(2).all(|w| w[1].0 - w[0].0 >= 1000), "{}", said.len());
    // Who knows it already is not told again, unless it is about to forget.
    for (ttl, answers) in [(4500, 0), (2250, 0), (2249, 1)] {
        let mut bench = Bench::settled();
        let known = Record { name: wire::name(&SERVICE), kind: PTR, is_all: false, ttl, data: instance("pi") };
        bench.hear(&Message { answers: vec![known], ..question(&SERVICE, PTR) });
        assert_eq!(bench.run(3000).len(), answers, "{ttl}");
    }
    // Nothing is told of a name that is not claimed yet.
    assert!(Bench::new().asks(&SERVICE, PTR).iter().take(3).all(|(_, m)| !m.is_response));
}

#[test]
fn a_name_that_is_taken_is_given_up() {
    let response = |r: Record| Message { is_response: true, answers: vec![r], ..Message::default() };
    let claim = |r: Record| Message { claims: vec![r], ..question(&["pi", "_gatelet", "_tcp", "local"], ANY) };
    let earlier = Record { kind: TXT, data: vec![], ..place("pi", 0, 120) };
    let later = Record { kind: SRV, data: vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], ..place("pi", 0, 120) };
    // When what is heard, after so many ms; what it is called then, and when it begins again, if it does.
    let cases: [(&str, u64, Message, &str); 7] = [
        ("somebody has it", 600, response(place("PI", 1, 120)), "Pi (2)"),
        ("somebody gives it up", 600, response(place("pi", 1, 0)), "Pi"),
        ("another's", 600, response(place("pa", 1, 120)), "Pi"),
        ("another kind", 600, response(Record { kind: A, ..place("pi", 1, 120) }), "Pi"),
        ("a later claim", 600, claim(later.clone()), "Pi"),
        ("an earlier claim", 600, claim(earlier), "Pi"),
        ("a claim when it is ours", 4000, claim(later), "Pi"),
    ];
    for (what, at, message, called) in cases {
        let mut bench = Bench::new();
        bench.run(at);
        bench.hear(&message);
        assert_eq!(bench.responder.label(), called, "{what}");
        let said = bench.run(5000);
        let probes = said.iter().filter(|(_, m)| !m.is_response).count();
        let announced = said.iter().filter(|(_, m)| m.is_response).count();
        match what {
            "somebody has it" => assert_eq!((probes, announced), (3, 2), "{what}"),
            "a later claim" => assert!(probes == 3 && said[0].0 >= 1600, "{what}: {said:?}"),
            "a claim when it is ours" => assert!(probes == 0 && announced == 1 && said[0].0 <= 4250, "{what}: {said:?}"),
            _ => assert!(probes < 3, "{what}: {probes}"),
        }
    }
    // One who comes later and will not look is met by a new claim, in which it wins; without end, it is met ever more slowly.
    let mut bench = Bench::settled();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..6000 {
        bench.hear(&response(place(&bench.responder.label(), 1, 120)));
        bench.run(10);
        names.insert(bench.responder.label());
    }
    assert!((10..40).contains(&names.len()), "{} names in a minute", names.len());
    // However long the name of the machine is, the number is told.
    let mut long = Bench { responder: Responder::new(&"n".repeat(64), 1, "1", ms(0)), now: ms(0) };
    long.run(600);
    long.hear(&response(Record { name: instance(&"n".repeat(63)), ..place("", 1, 120) }));
    assert!(long.responder.label().ends_with("n (2)") && long.responder.label().len() < 63);
    assert!(Responder::new("", 1, "1", ms(0)).label() == "gatelet");
}

#[test]
fn hostile_packets_do_nothing() {
    let head = |counts: [u8; 4]| [&[0, 0, 0, 0][..], &counts.map(|c| [0, c]).concat()].concat();
    let with = |counts, body: &[u8]| [&head(counts)[..], body].concat();
    let asked = wire::write(&question(&SERVICE, PTR));
    let long = [&[63][..], &[b'n'; 63]].concat().repeat(5);
    // A name of pointers, each to the one before: read in time, or given up.
    let ladder: Vec<u8> = (0..200u16)
        .flat_map(|n| [1, b'x', 0xc0 | ((12 + 4 * n.saturating_sub(1)) >> 8) as u8, (12 + 4 * n.saturating_sub(1)) as u8])
        .collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("half a head", head([1, 0, 0, 0])[..7].to_vec()),
        ("fewer questions than it says", head([255, 0, 0, 0])),
        ("fewer records than it says", with([0, 255, 255, 255], &[])),
        ("a pointer to itself", with([1, 0, 0, 0], &[0xc0, 12, 0, 12, 0, 1])),
        ("a pointer forwards", with([1, 0, 0, 0], &[0xc0, 14, 0, 12, 0, 1])),
        ("a pointer behind the end", with([1, 0, 0, 0], &[0xff, 0xff, 0, 12, 0, 1])),
        ("half a pointer", with([1, 0, 0, 0], &[0xc0])),
        ("two pointers in a circle", with([1, 0, 0, 0], &[1, b'a', 0xc0, 16, 1, b'b', 0xc0, 12])),
        ("a circle through a label", with([1, 0, 0, 0], &[1, b'a', 0xc0, 12, 0, 12, 0, 1])),
        ("a ladder", with([200, 0, 0, 0], &ladder)),
        ("a reserved label", with([1, 0, 0, 0], &[0x40, 0, 0, 12, 0, 1])),
        ("a label behind the end", with([1, 0, 0, 0], &[63, b'a'])),
        ("a name without end", with([1, 0, 0, 0], &long)),
        ("a name that is too long", with([1, 0, 0, 0], &[&long[..], &[0, 0, 12, 0, 1]].concat())),
        ("data behind the end", with([0, 1, 0, 0], &[0, 0, 16, 0, 1, 0, 0, 0, 9, 0xff, 0xff])),
        ("a place without a name", with([0, 1, 0, 0], &[0, 0, 33, 0, 1, 0, 0, 0, 9, 0, 6, 0, 0, 0, 0, 0, 1])),
        ("a place that is cut", with([0, 1, 0, 0], &[0, 0, 33, 0, 1, 0, 0, 0, 9, 0, 3, 0, 0, 0])),
        ("data longer than its name", with([0, 1, 0, 0], &[0, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 0, 0])),
        ("another operation", [&[0, 0, 0x28, 0][..], &asked[4..]].concat()),
        ("an error", [&[0, 0, 0, 3][..], &asked[4..]].concat()),
        ("another class", [&asked[..asked.len() - 1], &[3]].concat()),
        ("noise", (0..9000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
    ];
    for (what, packet) in cases {
        let mut bench = Bench::settled();
        bench.responder.hear(bench.now, &packet);
        assert_eq!((bench.responder.deadline(), bench.responder.label()), (None, "Pi".into()), "{what}");
    }
    // No cut and no single wrong byte of a good packet makes it fall over.
    let good = Bench::settled().responder.packet(Say::Goodbye, &link());
    for at in 0..good.len() {
        assert_eq!(wire::read(&good[..at]), None, "cut at {at}");
        for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            Bench::settled().responder.hear(ms(5000), &bad);
        }
    }
    // Compressed as others do it: the question's name is pointed at.
    let compressed = [
        &with([1, 1, 0, 0], &wire::name(&SERVICE))[..],
        &[0, 12, 0x80, 1],
        &[0xc0, 12, 0, 12, 0, 1, 0, 0, 0x11, 0x94, 0, 5, 2, b'p', b'i', 0xc0, 12],
    ]
    .concat();
    let read = wire::read(&compressed).unwrap();
    assert_eq!((read.questions[0].kind, &read.answers[0].data), (PTR, &instance("pi")));
}

#[test]
fn an_address_is_named_on_its_own_link() {
    let leaf = |address: &str| format!("     |-- {address}\n        /32 host LOCAL\n");
    let trie = ["127.0.0.1", "192.168.1.5", "192.168.1.6", "10.0.0.2", "10.9.9.9", "192.168.1.5"].map(leaf).concat();
    let trie = format!("Main:\n  |-- 127.0.0.0\n     /8 host LOCAL\n  |-- 192.168.1.255\n     /32 link BROADCAST\n{trie}");
    let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n\
        eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
        tun0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\n\
        wlan0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\nbad\n";
    let six = "00000000000000000000000000000001 01 80 10 80       lo\n\
        fd000000000000000000000000000005 02 40 00 80     eth0\nfd0000000000000000000000000000aa 02 40 00 01     eth0\n\
        fd0000000000000000000000000000bb 02 40 00 40     eth0\nfe800000000000000000000000000005 02 40 20 80     eth0\n\
        fd000000000000000000000000000009 04 40 00 80     usb0\nbad\n";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a [&'a str])]);
    let cases: [Case; 7] = [
        (
            "0.0.0.0",
            &[("192.168.1.5", &["192.168.1.5", "192.168.1.6"]), ("127.0.0.1", &["127.0.0.1"]), ("10.0.0.2", &["10.0.0.2"])],
        ),
        (
            "::",
            &[
                ("192.168.1.5", &["192.168.1.5", "192.168.1.6", "fd00::5"]),
                ("127.0.0.1", &["127.0.0.1", "::1"]),
                ("10.0.0.2", &["10.0.0.2"]),
            ],
        ),
        ("192.168.1.6", &[("192.168.1.5", &["192.168.1.6"])]),
        ("::ffff:192.168.1.6", &[("192.168.1.5", &["192.168.1.6"])]),
        ("fd00::5", &[("192.168.1.5", &["fd00::5"])]),
        ("10.9.9.9", &[]),
        ("192.0.2.1", &[]),
    ];
    for (listen, wanted) in cases {
        let wanted: Vec<Link> = wanted
            .iter()
            .map(|(via, all)| Link { via: via.parse().unwrap(), addresses: all.iter().map(|a| a.parse().unwrap()).collect() })
            .collect();
        let mut found = links::of(listen.parse::<IpAddr>().unwrap(), &trie, routes, six);
        found.sort_by_key(|l| wanted.iter().position(|w| w.via == l.via));
        assert_eq!(found, wanted, "{listen}");
    }
    assert_eq!(links::of("0.0.0.0".parse().unwrap(), "", "", ""), []);
    assert!(!links::now("0.0.0.0".parse().unwrap()).is_empty(), "this machine has a loopback at least");
}
