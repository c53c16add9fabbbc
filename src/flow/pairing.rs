//! Unknown senders, and who lets them in.
//!
//! Invariant: a code comes from the system's randomness, is told to its sender alone, and is good once; the store holds who waits and
//! who was let in. A sender is told something at most once an hour, in bounded memory: one that is forgotten is told once more. A
//! decision leaves a trace, a wrong code too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::base::error::shorten;
use crate::base::ids::{new_code, new_id};
use crate::base::limit::Limiter;
use crate::channel::{Incoming, NotNow};
use crate::domain::{Handoff, NewOutbound, PAIRING_MS, Pairing};
use crate::flow::{Flow, turns};
use crate::store::{AuditEntry, Result, StoreError};

/// How often a sender is told why nothing of theirs is taken.
const TELL_WINDOW: Duration = Duration::from_secs(3600);
/// Conversations of waiting senders that are remembered, at most.
const PLACES_MAX: usize = 64;
/// Longest name that is kept of who calls itself so, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Who was told something lately.
#[derive(Default)]
pub(super) struct Tells(Limiter);

impl Tells {
    fn key(channel: &str, sender: &str) -> String {
        format!("{channel}\0{sender}")
    }

    /// Whether that sender may be told something now.
    pub(super) fn is_due(&self, channel: &str, sender: &str, now: Duration) -> bool {
        self.0.peek(&Self::key(channel, sender), 1, TELL_WINDOW, now).allowed
    }

    /// They were told.
    pub(super) fn told(&self, channel: &str, sender: &str, now: Duration) {
        self.0.take(&Self::key(channel, sender), 1, TELL_WINDOW, now);
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self, now: Duration) {
        self.0.sweep(now);
    }
}

/// Where those who wait wrote from, as (channel, sender, conversation): only for the word that they were let in.
#[derive(Default)]
pub(super) struct Places(Mutex<VecDeque<(String, String, String)>>);

impl Places {
    fn put(&self, channel: &str, sender: &str, conversation: &str) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|(c, s, _)| (c.as_str(), s.as_str()) != (channel, sender));
        if places.len() >= PLACES_MAX {
            places.pop_front();
        }
        places.push_back((channel.to_string(), sender.to_string(), conversation.to_string()));
    }

    fn take(&self, channel: &str, sender: &str) -> Option<String> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = places.iter().position(|(c, s, _)| (c.as_str(), s.as_str()) == (channel, sender))?;
        places.remove(at).map(|(_, _, conversation)| conversation)
    }
}

impl Flow {
    /// Has the sender wait to be let in; what they are told, or `None` where too many wait.
    ///
    /// # Errors
    /// Where the store or the system's randomness fails.
    pub(super) fn pairing_for(&self, channel: &str, incoming: &Incoming) -> std::result::Result<Option<String>, NotNow> {
        let now_ms = self.clock.unix_ms();
        let asked = Pairing {
            code: new_code().map_err(|e| NotNow(e.to_string()))?,
            channel: channel.to_string(),
            user_id: incoming.sender.clone(),
            name: shorten(&incoming.sender_name, NAME_BYTES_MAX),
            created_ms: now_ms,
            expires_ms: now_ms + PAIRING_MS,
        };
        let pairing = match self.store.ask_pairing(asked) {
            Ok(pairing) => pairing,
            Err(StoreError::Conflict(why)) => {
                log::warn!(channel; "an unknown sender could not ask to be let in: {why}");
                return Ok(None);
            }
            Err(e) => return Err(NotNow(e.to_string())),
        };
        if let Some(conversation) = &incoming.conversation {
            self.places.put(channel, &incoming.sender, conversation);
        }
        let (code, name) = (&pairing.code, &pairing.name);
        let detail = json!({"channel": channel, "userId": pairing.user_id, "name": name, "expiresMs": pairing.expires_ms});
        log::info!(channel, user_id = pairing.user_id.as_str(), name = name.as_str(); "an unknown sender asks to be let in");
        self.store.audit(AuditEntry {
            at_ms: now_ms,
            actor: "gateway".into(),
            action: "pairing.asked".into(),
            detail: detail.clone(),
        });
        self.hub.event("pairing.asked", detail);
        Ok(Some(format!(
            "I don't know you yet. Give this code to the person who runs this gateway: {code}. It is good for one hour; they let you \
             in with: gatelet pairings approve {code}"
        )))
    }

    /// Lets in who waits under that code, or sends them away, in the name of `by`. Blocks for the commit.
    ///
    /// # Errors
    /// `NotFound` for a code that nobody waits under.
    pub fn decide_pairing(self: &Arc<Self>, code: &str, approve: bool, by: &str) -> Result<Pairing> {
        let code = code.trim().to_ascii_uppercase();
        let decided = self.store.decide_pairing(&code, approve);
        let (action, detail) = match &decided {
            Ok(p) => {
                let action = if approve { "pairing.approved" } else { "pairing.rejected" };
                (action, json!({"channel": p.channel, "userId": p.user_id, "name": p.name}))
            }
            Err(StoreError::NotFound) => ("pairing.refused", json!({"why": "nobody waits under that code"})),
            Err(_) => return decided,
        };
        let at_ms = self.clock.unix_ms();
        self.store.audit(AuditEntry { at_ms, actor: by.to_string(), action: action.to_string(), detail: detail.clone() });
        let pairing = decided?;
        log::info!(channel = pairing.channel.as_str(), user_id = pairing.user_id.as_str(), by; "{action}");
        self.hub.event("pairing.decided", json!({"pairing": detail, "approved": approve, "by": by}));
        let conversation = self.places.take(&pairing.channel, &pairing.user_id);
        if approve {
            self.welcome(&pairing, conversation);
        }
        Ok(pairing)
    }

    /// Tells somebody that they were let in. A word that doesn't get through changes nothing: they may write all the same.
    fn welcome(self: &Arc<Self>, pairing: &Pairing, conversation: Option<String>) {
        let channels = self.channels.get();
        if channels.get(&pairing.channel).and_then(|c| c.handoff()) != Some(Handoff::Worker) {
            return;
        }
        let message = NewOutbound {
            id: new_id("dlv", self.clock.unix_ms()),
            channel: pairing.channel.clone(),
            handoff: Handoff::Worker,
            user_id: {
                let settings = self.settings.get();
                let linked = settings.routes.linked(&pairing.channel, &pairing.user_id).map(str::to_string);
                linked.unwrap_or_else(|| self.unlinked(&pairing.channel, &pairing.user_id))
            },
            peer: pairing.user_id.clone(),
            conversation,
            session_id: None,
            in_reply_to: None,
            text: "You were let in. Write to me now.".to_string(),
            metadata: None,
        };
        let flow = self.clone();
        self.store.enqueue(
            vec![message],
            None,
            Box::new(move |result| match result {
                Ok(deliveries) => turns::send_off(&flow, &deliveries),
                Err(e) => log::warn!("somebody who was let in could not be told: {e}"),
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_told_once_an_hour_and_memory_is_bounded() {
        let (tells, s) = (Tells::default(), Duration::from_secs);
        for (channel, sender, at, due) in [
            ("tg", "1", 0, true),
            ("tg", "1", 10, false),
            ("tg", "1", 3599, false),
            ("tg", "2", 10, true),
            ("mx", "1", 10, true),
            ("tg", "1", 3600, true),
            ("tg", "1", 7199, false),
        ] {
            assert_eq!(tells.is_due(channel, sender, s(at)), due, "{channel} {sender} at {at}");
            if due {
                tells.told(channel, sender, s(at));
            }
        }
        (0..50_000).for_each(|i| tells.told("tg", &i.to_string(), s(1)));
        assert!(tells.0.len() <= crate::base::limit::KEYS_MAX);
    }

    #[test]
    fn places_are_given_once_and_bounded() {
        let places = Places::default();
        places.put("mx", "@ana:home", "!old:home");
        places.put("mx", "@ana:home", "!new:home");
        assert_eq!(places.take("tg", "@ana:home"), None);
        assert_eq!(places.take("mx", "@ana:home").as_deref(), Some("!new:home"));
        assert_eq!(places.take("mx", "@ana:home"), None);
        (0..1000).for_each(|i| places.put("mx", &i.to_string(), "!r"));
        assert_eq!(places.0.lock().unwrap().len(), PLACES_MAX);
    }
}
