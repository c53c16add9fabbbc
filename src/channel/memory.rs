//! The other side of an adapter, in memory: an inlet that keeps what it takes, for tests.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::base::clock::Clock;
use crate::base::threads::Threads;
use crate::channel::{ChannelState, Incoming, Inlet, NotNow, Parts, Progress, Taken};
use crate::config;
use crate::domain::{Accepted, Delivery, DeliveryState};
use crate::net::client::Client;

/// What an inlet answers for something that comes in.
pub type Answer = Box<dyn Fn(&Incoming) -> Result<Taken, NotNow> + Send + Sync>;

/// The inlet.
#[derive(Default)]
pub struct MemoryInlet {
    /// All that was offered, duplicates too.
    pub offered: Mutex<Vec<Incoming>>,
    /// What was committed last, by channel.
    pub cursors: Mutex<BTreeMap<String, String>>,
    /// States that were told: channel, state, why.
    pub changes: Mutex<Vec<(String, ChannelState, String)>>,
    /// What it answers; without it everything is accepted, once for each external id.
    pub answer: Option<Answer>,
    seen: Mutex<HashSet<String>>,
}

#[allow(dead_code)] // not every adapter asks for all of it
impl MemoryInlet {
    /// One that answers so.
    pub fn answering(answer: impl Fn(&Incoming) -> Result<Taken, NotNow> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(MemoryInlet { answer: Some(Box::new(answer)), ..MemoryInlet::default() })
    }

    /// The texts that were offered.
    pub fn texts(&self) -> Vec<String> {
        self.offered.lock().unwrap().iter().map(|i| i.text.clone()).collect()
    }
}

impl Inlet for MemoryInlet {
    fn take(&self, channel: &str, incoming: Incoming) -> Result<Taken, NotNow> {
        self.offered.lock().unwrap().push(incoming.clone());
        let taken = match &self.answer {
            Some(answer) => answer(&incoming)?,
            None => {
                let duplicate = !self.seen.lock().unwrap().insert(incoming.external_id.clone());
                let id = format!("msg_{}", incoming.external_id);
                Taken::Accepted(Accepted { id, session_id: "ses_1".into(), duplicate })
            }
        };
        if let Some(cursor) = incoming.cursor {
            self.cursors.lock().unwrap().insert(channel.to_string(), cursor);
        }
        Ok(taken)
    }

    fn cursor(&self, channel: &str) -> Result<Option<String>, NotNow> {
        Ok(self.cursors.lock().unwrap().get(channel).cloned())
    }

    fn set_cursor(&self, channel: &str, cursor: &str) -> Result<(), NotNow> {
        self.cursors.lock().unwrap().insert(channel.to_string(), cursor.to_string());
        Ok(())
    }

    fn changed(&self, channel: &str, state: ChannelState, why: &str) {
        self.changes.lock().unwrap().push((channel.to_string(), state, why.to_string()));
    }
}

/// What an adapter called `name` is made with.
pub fn parts(name: &str, inlet: &Arc<MemoryInlet>, clock: &Clock) -> Parts {
    Parts {
        name: name.to_string(),
        client: Arc::new(Client::new(2)),
        clock: clock.clone(),
        threads: Threads::new(),
        inlet: inlet.clone(),
    }
}

/// A delivery of which nothing was confirmed.
pub fn fresh() -> Progress<'static> {
    Progress { done: 0, record: &|_| {}, may_repeat: false }
}

/// A text that is being sent to `peer`, for the first time.
pub fn delivery(peer: &str, text: &str) -> Delivery {
    Delivery {
        id: "dlv_1".into(),
        state: DeliveryState::Sending,
        channel: "test".into(),
        user_id: "ana".into(),
        peer: peer.into(),
        conversation_id: None,
        session_id: None,
        in_reply_to: None,
        message: text.into(),
        metadata: None,
        attempts: 1,
        parts_sent: 0,
        unclear_ms: None,
        unclear_part: 0,
        last_error: None,
        created_ms: 0,
        sent_ms: None,
        next_attempt_ms: None,
    }
}

/// What all types have, everybody let in.
pub fn common() -> config::ChannelCommon {
    config::ChannelCommon {
        dm_policy: config::DmPolicy::Open,
        allow_from: Vec::new(),
        group_policy: config::GroupPolicy::Open,
        groups: Vec::new(),
        require_mention: true,
        queue: config::Queue::Followup,
        max_age: None,
        on_unknown: config::OnUnknown::Resend,
    }
}
