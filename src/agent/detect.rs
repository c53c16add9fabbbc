//! Whether a model server already listens on this machine, for agents without a configured provider.
//!
//! Invariant: only loopback is asked, without any credential, and never our own port. One search at a time, each within its
//! deadlines; what was found stays until a call to it fails, and after a search in vain nothing is asked for a while. It cannot
//! fail: nothing found is an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::cache::Cache;
use crate::base::clock::Clock;
use crate::net::client::{Call, Client, Deadlines};

/// Where model servers listen by custom: Ollama, llama.cpp.
pub const CUSTOMARY: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 11434), ([127, 0, 0, 1], 8080)];

const CONNECT: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// After a search in vain.
const VAIN: Duration = Duration::from_secs(30);
/// What was found is not searched again by itself.
const FOUND: Duration = Duration::from_secs(10 * 365 * 86_400);
const KEY: &str = "found";

/// The search and its outcome.
pub struct Detector {
    client: Arc<Client>,
    addresses: Vec<SocketAddr>,
    outcome: Cache<Option<SocketAddr>>,
}

impl Detector {
    /// A search at the customary addresses, but for `own_port`.
    pub fn new(client: Arc<Client>, clock: Clock, own_port: u16) -> Self {
        Self::at(CUSTOMARY.map(SocketAddr::from).to_vec(), client, clock, own_port)
    }

    /// A search at these addresses, in this order, but for `own_port`.
    pub fn at(mut addresses: Vec<SocketAddr>, client: Arc<Client>, clock: Clock, own_port: u16) -> Self {
        addresses.retain(|a| a.port() != own_port);
        Detector { client, addresses, outcome: Cache::new(1, clock) }
    }

    /// The first address where an OpenAI-compatible server answers. Blocks for at most about a second for each address.
    pub fn find(&self) -> Option<SocketAddr> {
        let search = || {
            let found = self.addresses.iter().copied().find(|a| self.answers(*a));
            Ok::<_, ()>((found, if found.is_some() { FOUND } else { VAIN }))
        };
        self.outcome.get(KEY, search).unwrap_or_default()
    }

    /// A call to what was found has failed: search anew at the next question.
    pub fn forget(&self) {
        self.outcome.forget(KEY);
    }

    fn answers(&self, address: SocketAddr) -> bool {
        let call = Call::get(format!("http://{address}/v1/models"), Deadlines::within(CONNECT, ANSWER));
        let Ok(mut reply) = self.client.send(&call) else { return false };
        let body = if reply.status() == 200 { reply.read_all(ANSWER_BYTES_MAX).unwrap_or_default() } else { Vec::new() };
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        json.is_some_and(|j| j.get("data").is_some_and(Value::is_array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::scripted::{Scripted, answer, hang};
    use std::net::TcpListener;

    fn models() -> Scripted {
        Scripted::says(answer("200 OK", "application/json", r#"{"object":"list","data":[{"id":"m"}]}"#))
    }

    fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn detector(addresses: &[SocketAddr], clock: &Clock, own_port: u16) -> Detector {
        Detector::at(addresses.to_vec(), Arc::new(Client::new(1)), clock.clone(), own_port)
    }

    #[test]
    fn finds_the_first_that_answers_as_it_should() {
        let (good, clock) = (models(), Clock::manual(0));
        for bad in [
            answer("200 OK", "text/html", "<html>"),
            answer("200 OK", "application/json", r#"{"models":[]}"#),
            answer("401 No", "application/json", r#"{"data":[]}"#),
            "garbage".to_string(),
        ] {
            let bad = Scripted::says(bad);
            assert_eq!(detector(&[nobody(), bad.addr, good.addr], &clock, 1).find(), Some(good.addr));
            assert_eq!(bad.seen()[0].header("authorization"), None);
        }
        let silent = Scripted::new(|_, _, _| {
            hang();
            false
        });
        assert_eq!(detector(&[silent.addr, good.addr], &clock, 1).find(), Some(good.addr));
    }

    #[test]
    fn our_own_port_is_not_asked() {
        let own = models();
        assert_eq!(detector(&[own.addr], &Clock::manual(0), own.addr.port()).find(), None);
        assert_eq!(own.connections(), 0);
    }

    #[test]
    fn what_was_found_stays_until_it_fails_and_a_vain_search_rests() {
        let (peer, clock) = (models(), Clock::manual(0));
        let found = detector(&[peer.addr], &clock, 1);
        for (advance_s, fails, searches) in [(0, false, 1), (86_400, false, 1), (0, true, 2)] {
            clock.advance(Duration::from_secs(advance_s));
            if fails {
                found.forget();
            }
            assert_eq!((found.find(), peer.seen().len()), (Some(peer.addr), searches));
        }
        let other = Scripted::says(answer("404 Not Found", "text/plain", "no"));
        let vain = detector(&[other.addr], &clock, 1);
        for (advance_s, searches) in [(0, 1), (29, 1), (1, 2)] {
            clock.advance(Duration::from_secs(advance_s));
            assert_eq!((vain.find(), other.seen().len()), (None, searches));
        }
    }
}
