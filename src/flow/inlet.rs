//! The way in for channels that hold a connection: who speaks is checked, and what may be taken goes to the inbox.
//!
//! Invariant: what it reports as taken is on disk, and what it reports as ignored has its cursor committed: it does not come again. A
//! stranger costs one sentence an hour at most, and no write beside the cursor's otherwise. What is told holds no secret but the
//! stranger's own code. Fails with [`NotNow`], and nothing was taken then.
//!
//! What is older than the channel's `maxAge` is not taken in: it is counted as ignored and logged, since there was a wish not to
//! see it answered. A sender who writes faster than `gateway.rateLimit` allows is told so once and what came meanwhile is not taken
//! in: waiting for them would hold everybody else on that channel.

use std::sync::Arc;

use crate::base::crash;
use crate::channel::{ChannelState, Incoming, Inlet, NotNow, Place, Taken};
use crate::domain::own_id;
use crate::flow::Flow;
use crate::flow::admission::{Admission, Policy, decide};
use crate::flow::ingress::{Arrival, Refused};
use crate::telemetry::metrics::Intake;

impl Inlet for Arc<Flow> {
    fn take(&self, channel: &str, incoming: Incoming) -> Result<Taken, NotNow> {
        if self.is_draining() {
            return Err(NotNow("the gateway is stopping".to_string()));
        }
        crash::point("channel.polled");
        let settings = self.settings.get();
        let Some(policy) = settings.channels.get(channel) else {
            return Err(NotNow(format!("the channel {channel} is no longer configured")));
        };
        let paired = || self.store.is_paired(channel, &incoming.sender).map_err(|e| NotNow(e.to_string()));
        let taken = match decide(&policy.common, &incoming.place, &incoming.sender, paired)? {
            Admission::Ignore(why) => self.ignore(channel, &incoming, why),
            Admission::AskToPair => self.ask_to_pair(channel, &incoming),
            Admission::Admit if self.is_too_old(policy, &incoming) => self.ignore(channel, &incoming, "it is older than maxAge"),
            Admission::Admit => self.admit(channel, policy, incoming),
        }?;
        crash::point("channel.taken");
        Ok(taken)
    }

    fn cursor(&self, channel: &str) -> Result<Option<String>, NotNow> {
        self.store.cursor(channel).map_err(|e| NotNow(e.to_string()))
    }

    fn set_cursor(&self, channel: &str, cursor: &str) -> Result<(), NotNow> {
        self.store.set_cursor(channel, cursor).map_err(|e| NotNow(e.to_string()))
    }

    fn changed(&self, channel: &str, state: ChannelState, why: &str) {
        self.channel_changed(channel, state, why);
    }
}

impl Flow {
    /// The user whom a channel's sender is without a link: its id there, unless the configuration calls another one so (a principal, a name
    /// under `users`), or it reads like another channel's. Over MQTT a topic's level is the user, whoever is called so: whoever may
    /// publish there is who the broker's access list says.
    pub(super) fn unlinked(&self, channel: &str, sender: &str) -> String {
        let settings = self.settings.get();
        let reads_like = |(name, _): (&str, &str)| settings.channels.contains_key(name);
        let vouches = settings.channels.get(channel).is_none_or(|policy| policy.vouches);
        let is_anothers = vouches && (settings.routes.is_user(sender) || self.auth.named_role_of(sender).is_some())
            || sender.split_once(':').is_some_and(reads_like);
        if is_anothers { own_id(channel, sender) } else { sender.to_string() }
    }

    /// Commits its cursor, and counts it.
    fn ignore(self: &Arc<Self>, channel: &str, incoming: &Incoming, why: &'static str) -> Result<Taken, NotNow> {
        self.pass_over(channel, incoming)?;
        self.metrics.message(channel, Intake::Ignored);
        log::debug!(channel, external_id = incoming.external_id.as_str(); "something that came in was ignored: {why}");
        Ok(Taken::Ignored(why))
    }

    fn pass_over(self: &Arc<Self>, channel: &str, incoming: &Incoming) -> Result<(), NotNow> {
        incoming.cursor.as_deref().map_or(Ok(()), |cursor| self.set_cursor(channel, cursor))
    }

    fn is_too_old(&self, policy: &Policy, incoming: &Incoming) -> bool {
        let Some(max) = policy.common.max_age.filter(|_| incoming.written_ms > 0) else { return false };
        let age_ms = self.clock.unix_ms().saturating_sub(incoming.written_ms);
        let is_old = age_ms > i64::try_from(max.as_millis()).unwrap_or(i64::MAX);
        if is_old {
            log::info!(external_id = incoming.external_id.as_str(), age_ms; "a message is older than its channel's maxAge and is not answered");
        }
        is_old
    }

    /// An unknown sender: a code to give to the operator, or nothing where they have one or too many wait.
    fn ask_to_pair(self: &Arc<Self>, channel: &str, incoming: &Incoming) -> Result<Taken, NotNow> {
        if !self.tells.is_due(channel, &incoming.sender, self.clock.mono()) {
            return self.ignore(channel, incoming, "its sender waits to be let in");
        }
        match self.pairing_for(channel, incoming)? {
            None => self.ignore(channel, incoming, "too many unknown senders wait to be let in"),
            Some(text) => self.tell(channel, incoming, text),
        }
    }

    /// Tells the sender something instead of taking what came; once an hour.
    fn tell(self: &Arc<Self>, channel: &str, incoming: &Incoming, text: String) -> Result<Taken, NotNow> {
        self.pass_over(channel, incoming)?;
        self.metrics.message(channel, Intake::Ignored);
        self.tells.told(channel, &incoming.sender, self.clock.mono());
        Ok(Taken::Tell(text))
    }

    fn admit(self: &Arc<Self>, channel: &str, policy: &Policy, incoming: Incoming) -> Result<Taken, NotNow> {
        let settings = self.settings.get();
        let linked = settings.routes.linked(channel, &incoming.sender).map(str::to_string);
        let role = linked.as_deref().and_then(|user| self.auth.named_role_of(user));
        let is_linked = linked.is_some();
        let user = linked.unwrap_or_else(|| self.unlinked(channel, &incoming.sender));
        let is_bare = !is_linked && user == incoming.sender;
        if let Some(verdict) = self.over_rate(&format!("channel:{channel}:{user}")) {
            let is_due = incoming.place == Place::Direct && self.tells.is_due(channel, &incoming.sender, self.clock.mono());
            if !is_due {
                return self.ignore(channel, &incoming, "its sender writes too fast");
            }
            let pause = verdict.reset.as_secs() + 1;
            let text =
                format!("You write faster than this gateway takes: your message was not taken. Send it again in {pause} s.");
            return self.tell(channel, &incoming, text);
        }
        let rest = Incoming { text: String::new(), metadata: None, attachments: Vec::new(), ..incoming.clone() };
        let arrival = Arrival {
            channel: channel.to_string(),
            peer: incoming.sender,
            user_id: Some(user),
            is_bare,
            conversation: incoming.conversation,
            external_id: Some(incoming.external_id),
            text: incoming.text,
            metadata: incoming.metadata,
            standing: policy.standing(role),
            cursor: incoming.cursor,
            attachments: incoming.attachments,
            ..Arrival::default()
        };
        let (told, outcome) = crossbeam_channel::bounded(1);
        self.accept(
            arrival,
            |_| {},
            move |result| {
                let _ = told.send(result); // who waits is there until it is told
            },
        );
        match outcome.recv() {
            Ok(Ok(accepted)) => Ok(Taken::Accepted(accepted)),
            // Waiting for an agent would hold everybody else on that channel.
            Ok(Err(Refused::NoAgent(why))) => {
                log::error!(channel, external_id = rest.external_id.as_str(); "a message was not taken: {why}");
                let is_due = rest.place == Place::Direct && self.tells.is_due(channel, &rest.sender, self.clock.mono());
                if is_due {
                    self.tell(channel, &rest, "Nobody answers here at the moment: your message was not taken.".into())
                } else {
                    self.ignore(channel, &rest, "no agent answers it")
                }
            }
            Ok(Err(refused)) => Err(NotNow(refused.to_string())),
            Err(_) => Err(NotNow("the gateway is stopping".to_string())),
        }
    }
}
