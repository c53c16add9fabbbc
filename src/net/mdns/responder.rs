//! What the responder says and when, as a value: packets and the time go in, what is to be sent and a deadline come out.
//!
//! Invariant: a name is claimed (three probes) before it is announced, and given up for the next one where somebody else has it; whoever
//! comes later gives way. Answers gather for 20 to 120 ms and leave at most once a second, however many ask, or 4 times a second
//! for one that is about to claim our name. The host's name is the machine's: its addresses are told, never claimed nor taken back.

use std::net::IpAddr;
use std::time::Duration;

use super::links::Link;
use super::wire::{self, A, AAAA, ANY, Message, Name, PTR, Question, Record, SRV, TXT};
use crate::base::ids::jitter;

const SERVICE: [&str; 3] = ["_gatelet", "_tcp", "local"];
const PROBES: u8 = 3;
const ANNOUNCEMENTS: u8 = 2;
const PROBE_PAUSE: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// Pause before a further name, once so many were taken that somebody must be playing.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENT_AFTER: u32 = 15;
/// Seconds for which others may remember: of names, and of what goes by the machine's address.
const TTL: u32 = 4500;
const TTL_HOST: u32 = 120;

/// Records, as bits.
pub type Which = u8;
const TYPES: Which = 1;
const POINTER: Which = 2;
const PLACE: Which = 4;
const TEXTS: Which = 8;
const ADDRESSES: Which = 16;
const OWN: Which = POINTER | PLACE | TEXTS;
const ALL: Which = OWN | TYPES | ADDRESSES;

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// "Does anybody have this name?"
    Probe,
    /// These records.
    Records(Which),
    /// They are no more.
    Goodbye,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Probing(u8),
    Announcing(u8),
    Settled,
}

/// The responder of one service.
#[derive(Debug)]
pub struct Responder {
    host: String,
    port: u16,
    version: &'static str,
    /// 1 is the host's name as it is, 2 is "name (2)".
    number: u32,
    phase: Phase,
    /// When the phase goes on.
    next: Duration,
    asked: Which,
    answer_at: Duration,
    /// When records were sent last.
    sent: Option<Duration>,
}

impl Responder {
    /// One for a machine called `host`, which begins to claim its name at `now`.
    pub fn new(host: &str, port: u16, version: &'static str, now: Duration) -> Self {
        let host = host.split('.').next().filter(|h| !h.is_empty()).unwrap_or("gatelet").to_string();
        let (phase, next) = (Phase::Probing(0), now + wait(250));
        Responder { host, port, version, number: 1, phase, next, asked: 0, answer_at: now, sent: None }
    }

    /// What the service is called.
    pub fn label(&self) -> String {
        // A label has 63 bytes, and the number must be among them.
        if self.number < 2 { self.host.clone() } else { format!("{:.48} ({})", self.host, self.number) }
    }

    /// Claims the name anew, as on a network that it was not on before.
    pub fn begin(&mut self, now: Duration) {
        (self.phase, self.next, self.asked) = (Phase::Probing(0), now + wait(250), 0);
    }

    /// When `tick` has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let next = (self.phase != Phase::Settled).then_some(self.next);
        let answer = (self.asked != 0).then_some(self.answer_at);
        next.into_iter().chain(answer).min()
    }

    /// What is to be sent at `now`.
    pub fn tick(&mut self, now: Duration) -> Option<Say> {
        if self.phase != Phase::Settled && now >= self.next {
            return Some(self.go_on(now));
        }
        if self.asked != 0 && now >= self.answer_at {
            self.sent = Some(now);
            return Some(Say::Records(std::mem::take(&mut self.asked)));
        }
        None
    }

    fn go_on(&mut self, now: Duration) -> Say {
        match self.phase {
            Phase::Probing(sent) if sent < PROBES => {
                (self.phase, self.next) = (Phase::Probing(sent + 1), now + PROBE_PAUSE);
                return Say::Probe;
            }
            Phase::Announcing(sent) if sent + 1 >= ANNOUNCEMENTS => self.phase = Phase::Settled,
            _ => (self.phase, self.next) = (Phase::Announcing(1), now + SECOND),
        }
        (self.sent, self.asked) = (Some(now), 0);
        Say::Records(ALL)
    }

    /// The last word; `None` where nothing was said.
    pub fn goodbye(&self) -> Option<Say> {
        (!matches!(self.phase, Phase::Probing(_))).then_some(Say::Goodbye)
    }

    /// Takes a packet in.
    pub fn hear(&mut self, now: Duration, packet: &[u8]) {
        let Some(message) = wire::read(packet) else { return };
        if message.is_response { self.hear_others(now, &message) } else { self.hear_query(now, &message) }
    }

    fn hear_others(&mut self, now: Duration, message: &Message) {
        let own = self.claims();
        let differs = |r: &Record| {
            r.ttl > 0
                && own.iter().any(|o| o.kind == r.kind && o.name.eq_ignore_ascii_case(&r.name))
                && !own.iter().any(|o| o.says_as(r))
        };
        if !message.answers.iter().chain(&message.more).any(differs) {
            return;
        }
        match self.phase {
            Phase::Probing(0) => {} // nothing is claimed yet: the probe will be contradicted
            Phase::Probing(_) => {
                self.number = self.number.saturating_add(1);
                self.begin(now);
                if self.number > PATIENT_AFTER {
                    self.next = now + PATIENCE;
                }
                log::info!("the name is taken on the local network; the next one: {}", self.label());
            }
            _ => self.begin(now),
        }
    }

    fn hear_query(&mut self, now: Duration, message: &Message) {
        let own = self.claims();
        let mut theirs: Vec<&Record> = message.claims.iter().filter(|r| r.name.eq_ignore_ascii_case(&own[0].name)).collect();
        if matches!(self.phase, Phase::Probing(_)) {
            // Two claim it at the same time: the later in order has it, the other looks again after a second (RFC 6762, 8.2).
            theirs.sort_by(|a, b| (a.kind, &a.data).cmp(&(b.kind, &b.data)));
            let lowered = |r: &Record| (r.kind, if r.kind == SRV { lower(&r.data) } else { r.data.clone() });
            if theirs.iter().map(|r| lowered(r)).gt(own.iter().map(lowered)) {
                (self.phase, self.next) = (Phase::Probing(0), now + SECOND);
            }
            return;
        }
        let asked = message.questions.iter().fold(0, |asked, q| asked | self.asked_by(q, &message.answers));
        if asked == 0 {
            return;
        }
        let pause = if theirs.is_empty() { SECOND } else { PROBE_PAUSE };
        let at = (now + Duration::from_millis(20) + wait(100)).max(self.sent.map_or(now, |sent| sent + pause));
        self.answer_at = if self.asked == 0 { at } else { at.min(self.answer_at) };
        self.asked |= asked;
    }

    /// Which records answer a question, but for those that the asker knows.
    fn asked_by(&self, q: &Question, known: &[Record]) -> Which {
        let is = |kinds: &[u16]| q.kind == ANY || kinds.contains(&q.kind);
        let named = |name: &Name| name.eq_ignore_ascii_case(&q.name);
        let is_known = |r: &Record| known.iter().any(|k| k.ttl >= r.ttl / 2 && k.says_as(r));
        let when = |so: bool, which: Which| if so { which } else { 0 };
        let [types, pointer] = self.pointers();
        when(named(&types.name) && is(&[PTR]) && !is_known(&types), TYPES)
            | when(named(&pointer.name) && is(&[PTR]) && !is_known(&pointer), POINTER)
            | when(named(&pointer.data) && is(&[SRV]), PLACE)
            | when(named(&pointer.data) && is(&[TXT]), TEXTS)
            | when(named(&self.host_name()) && is(&[A, AAAA]), ADDRESSES)
    }

    /// The packet that says it on a link.
    pub fn packet(&self, what: Say, link: &Link) -> Vec<u8> {
        let own = self.claims();
        let message = match what {
            Say::Probe => {
                let claims = own.into_iter().map(|r| Record { is_all: false, ..r }).collect();
                let name = self.pointers()[1].data.clone();
                Message { questions: vec![Question { name, kind: ANY }], claims, ..Message::default() }
            }
            Say::Records(which) => {
                // Who is told of the service wants to know where it is, and who is told that wants the address.
                let with =
                    which | if which & POINTER != 0 { ALL & !TYPES } else { 0 } | if which & PLACE != 0 { ADDRESSES } else { 0 };
                Message {
                    is_response: true,
                    answers: self.records(which, link),
                    more: self.records(with & !which, link),
                    ..Message::default()
                }
            }
            Say::Goodbye => {
                let gone = self.records(OWN, link).into_iter().map(|r| Record { ttl: 0, ..r }).collect();
                Message { is_response: true, answers: gone, ..Message::default() }
            }
        };
        wire::write(&message)
    }

    fn records(&self, which: Which, link: &Link) -> Vec<Record> {
        let ([types, pointer], [texts, place]) = (self.pointers(), self.claims());
        let named = [(TYPES, types), (POINTER, pointer), (PLACE, place), (TEXTS, texts)];
        let mut records: Vec<Record> = named.into_iter().filter(|(bit, _)| which & bit != 0).map(|(_, r)| r).collect();
        for address in link.addresses.iter().filter(|_| which & ADDRESSES != 0) {
            let (kind, data) = match address {
                IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
            };
            records.push(Record { name: self.host_name(), kind, is_all: false, ttl: TTL_HOST, data });
        }
        records
    }

    fn host_name(&self) -> Name {
        wire::name(&[&self.host, "local"])
    }

    /// The kinds of services that are here, and the service: shared with whoever has some.
    fn pointers(&self) -> [Record; 2] {
        let service = wire::name(&SERVICE);
        let record = |name, data| Record { name, kind: PTR, is_all: false, ttl: TTL, data };
        let instance = wire::name(&[&self.label(), SERVICE[0], SERVICE[1], SERVICE[2]]);
        [record(wire::name(&["_services", "_dns-sd", "_udp", "local"]), service.clone()), record(service, instance)]
    }

    /// What is said of the name that is ours alone, in the order of kinds.
    fn claims(&self) -> [Record; 2] {
        let name = self.pointers()[1].data.clone();
        let texts = [format!("version={}", self.version), "path=/".into()];
        let texts = texts.iter().flat_map(|t| [&[t.len().min(255) as u8], &t.as_bytes()[..t.len().min(255)]].concat()).collect();
        let place = [&[0, 0, 0, 0][..], &self.port.to_be_bytes(), &self.host_name()].concat();
        let record = |kind, ttl, data| Record { name: name.clone(), kind, is_all: true, ttl, data };
        [record(TXT, TTL, texts), record(SRV, TTL_HOST, place)]
    }
}

/// A place with its name in lower case, as it is read.
fn lower(place: &[u8]) -> Vec<u8> {
    let (fixed, name) = place.split_at(place.len().min(6));
    [fixed, &name.to_ascii_lowercase()].concat()
}

/// A random pause of up to `ms`.
fn wait(ms: u64) -> Duration {
    Duration::from_millis(jitter(ms))
}
