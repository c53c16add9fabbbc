//! Which external id each message got: MQTT has no message id of its own, and packet ids are used again and again.
//!
//! A message gets the next serial of its session. Until the broker is known to have our PUBACK, its serial is remembered under
//! its packet id and a digest; what comes again (DUP) with both gets the same serial, and the store tells that it is a duplicate.
//! The ledger travels in the channel's cursor, committed with the message, so that this holds across a kill at any moment.
//!
//! Invariant: a message is never taken for another one that the broker may not have sent before: once the PUBACK is known to be
//! there, the packet id is free for a new message, and a rare repeat (a broker that lost what it knew) counts as new. At most
//! [`GIVEN_MAX`] are remembered, more than can be under way. A cursor that can't be read begins a new ledger. Cannot fail.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::codec::Received;
use crate::base::ids::new_id;

/// Messages remembered: version 5 has at most `protocol::RECEIVE_MAX` under way, brokers allow a 3.1.1 client 10 to 100.
const GIVEN_MAX: usize = 128;

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The client id that was made where none is configured.
    pub client_id: String,
    /// The filter that the session is subscribed to; empty before the first time.
    #[serde(default)]
    pub filter: String,
    /// The broker's session, by a name of our own.
    session: String,
    /// The last serial.
    serial: u64,
    given: VecDeque<Given>,
}

/// Packet id, serial, digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Given(u16, u64, u64);

impl Ledger {
    /// What a cursor holds; a new ledger where it holds none.
    pub fn read(cursor: Option<&str>, channel: &str, now_ms: i64) -> Ledger {
        cursor.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| Ledger {
            client_id: client_id(channel, now_ms),
            filter: String::new(),
            session: new_id("mq", now_ms),
            serial: 0,
            given: VecDeque::new(),
        })
    }

    /// The cursor that holds it.
    pub fn cursor(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // numbers and texts alone
    }

    /// The broker began a new session: its packet ids mean nothing any more.
    pub fn begin(&mut self, filter: &str, now_ms: i64) {
        self.filter = filter.to_string();
        self.session = new_id("mq", now_ms);
        self.given.clear();
    }

    /// The serial of a message, the same one for the same message.
    pub fn serial(&mut self, message: &Received) -> u64 {
        let Some(packet_id) = message.packet_id else { return self.next() };
        let digest = digest(message);
        let known = self.given.iter().position(|g| g.0 == packet_id);
        if let Some(Given(_, serial, former)) = known.and_then(|i| self.given.get(i))
            && message.is_again
            && *former == digest
        {
            return *serial;
        }
        known.map(|i| self.given.remove(i));
        let serial = self.next();
        self.given.push_back(Given(packet_id, serial, digest));
        if self.given.len() > GIVEN_MAX {
            self.given.pop_front();
        }
        serial
    }

    /// The broker has our PUBACK of that serial and of those before; whether that was news.
    pub fn settle(&mut self, serial: u64) -> bool {
        let before = self.given.len();
        self.given.retain(|g| g.1 > serial);
        self.given.len() != before
    }

    /// The external id of a serial.
    pub fn external_id(&self, serial: u64) -> String {
        format!("{}-{serial}", self.session)
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// At most 23 characters of `A-Za-z0-9`, which every broker must take.
fn client_id(channel: &str, now_ms: i64) -> String {
    let name: String = channel.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let random: String = new_id("", now_ms).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("gatelet{name}{}", &random[random.len().saturating_sub(8)..])
}

fn digest(message: &Received) -> u64 {
    let mut sha = Sha256::new();
    sha.update((message.topic.len() as u64).to_be_bytes());
    sha.update(message.topic.as_bytes());
    sha.update(&message.payload);
    let whole: [u8; 32] = sha.finalize().into();
    whole[..8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte)) >> 11 // JSON readers are exact up to 53 bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(packet_id: u16, text: &str, is_again: bool) -> Received {
        let payload = text.as_bytes().to_vec();
        Received {
            topic: "t/ana".into(),
            payload,
            packet_id: Some(packet_id),
            is_again,
            is_retained: false,
            id: None,
            is_cut: false,
        }
    }

    #[test]
    fn what_comes_again_is_told_from_what_is_new() {
        let mut ledger = Ledger::read(None, "home", 0);
        let mut check = |what: &str, m: Received, expected: u64| {
            assert_eq!(ledger.serial(&m), expected, "{what}");
            ledger = Ledger::read(Some(&ledger.cursor()), "home", 1); // as after a kill
        };
        check("first", message(1, "on", false), 1);
        check("again", message(1, "on", true), 1);
        check("the packet id used anew for the same words", message(1, "on", false), 2);
        check("that one again", message(1, "on", true), 2);
        check("other words under DUP: the first try was never seen", message(1, "off", true), 3);
        check("DUP of what was never seen", message(7, "on", true), 4);
        check("QoS 0 never comes again", Received { packet_id: None, ..message(1, "off", true) }, 5);
    }

    #[test]
    fn a_settled_packet_id_is_free_for_a_new_message() {
        let mut ledger = Ledger::read(None, "home", 0);
        assert_eq!((ledger.serial(&message(1, "on", false)), ledger.serial(&message(2, "on", false))), (1, 2));
        assert!(ledger.settle(1) && !ledger.settle(1));
        // The broker sent a new one under packet id 1, which was lost on the way; this is its second try.
        assert_eq!(ledger.serial(&message(1, "on", true)), 3);
        assert_eq!(ledger.serial(&message(2, "on", true)), 2);
    }

    #[test]
    fn a_new_session_forgets_packet_ids_and_keeps_serials() {
        let mut ledger = Ledger::read(None, "home", 0);
        let (id, serial) = (ledger.client_id.clone(), ledger.serial(&message(1, "on", false)));
        let before = ledger.external_id(serial);
        ledger.begin("t/+", 5);
        let after = ledger.serial(&message(1, "on", true));
        assert_ne!(before, ledger.external_id(after));
        assert_eq!((ledger.client_id.as_str(), ledger.filter.as_str()), (id.as_str(), "t/+"));
        assert!(id.len() <= 23 && id.starts_with("gatelethome"), "{id}");
    }

    #[test]
    fn it_stays_small_and_survives_what_is_no_ledger() {
        let mut ledger = Ledger::read(Some("{\"clientId\":7}"), "a/b c", 0);
        for n in 1..=60_000u16 {
            ledger.serial(&message(n, "on", false));
        }
        assert_eq!(ledger.given.len(), GIVEN_MAX);
        assert!(ledger.cursor().len() < 6 * 1024, "{}", ledger.cursor().len());
    }
}
