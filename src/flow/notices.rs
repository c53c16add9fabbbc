//! Notices: operators who ask for it are told once when a channel has been down for a minute, and once when it is back.
//!
//! Invariant: a channel that is down is told of once, however often it tries again meanwhile; one that comes back within
//! [`DAMPED`] is not told of at all. A notice leaves by another channel than the one that it is about, where its reader was seen on
//! another one. By the monotonic clock. A notice that can't be put to the outbox is logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::base::error::shorten;
use crate::channel::ChannelState;
use crate::flow::Flow;
use crate::flow::outbound::Announcement;

/// How long a channel has to be down before anybody is told.
const DAMPED: Duration = Duration::from_secs(60);
/// Longest reason that a notice repeats, in bytes.
const WHY_BYTES_MAX: usize = 300;

struct Down {
    since: Duration,
    why: String,
    told: bool,
}

/// Channels that are down.
#[derive(Default)]
pub(super) struct Notices(Mutex<BTreeMap<String, Down>>);

impl Notices {
    /// A channel's state changed; what is to be told now.
    fn changed(&self, channel: &str, state: ChannelState, why: &str, now: Duration) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            ChannelState::Degraded | ChannelState::Misconfigured => {
                let down = all.entry(channel.to_string()).or_insert(Down { since: now, why: String::new(), told: false });
                down.why = shorten(why, WHY_BYTES_MAX);
                None
            }
            ChannelState::Connecting => None, // on its way: neither down nor back
            ChannelState::Connected => {
                let down = all.remove(channel).filter(|d| d.told)?;
                Some(format!("The channel {channel} is back; it was down for {}.", spoken(now.saturating_sub(down.since))))
            }
            ChannelState::Stopped => {
                all.remove(channel); // somebody switched it off, or the gateway stops
                None
            }
        }
    }

    /// What has been down long enough to be told, as (channel, text), and when the next one is.
    fn due(&self, now: Duration) -> (Vec<(String, String)>, Option<Duration>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (channel, down) in all.iter_mut().filter(|(_, d)| !d.told && d.since + DAMPED <= now) {
            down.told = true;
            let why = if down.why.is_empty() { String::new() } else { format!(": {}", down.why) };
            let text = format!("The channel {channel} has been down for {}{why}", spoken(now.saturating_sub(down.since)));
            due.push((channel.clone(), text));
        }
        (due, all.values().filter(|d| !d.told).map(|d| d.since + DAMPED).min())
    }
}

/// A time as people say it.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

impl Flow {
    /// A channel's state changed: operators who are connected see it, those of `gateway.notify` are told what lasts.
    pub(super) fn channel_changed(self: &Arc<Self>, channel: &str, state: ChannelState, why: &str) {
        self.hub.event("channel.changed", json!({"channel": channel, "state": state, "why": why}));
        if let Some(text) = self.notices.changed(channel, state, why, self.clock.mono()) {
            self.notify(channel, &text);
        }
        if matches!(state, ChannelState::Degraded | ChannelState::Misconfigured) {
            self.nudge_timer(); // its time runs
        }
    }

    /// Tells what is due; gives when the next notice is.
    pub(super) fn tell_of_channels(self: &Arc<Self>, now: Duration) -> Option<Duration> {
        let (due, next) = self.notices.due(now);
        due.iter().for_each(|(channel, text)| self.notify(channel, text));
        next
    }

    /// Sends a notice about `channel` to all who asked for it, on the errands' thread.
    fn notify(self: &Arc<Self>, channel: &str, text: &str) {
        log::info!(channel; "{text}");
        self.send_notices(channel, text);
    }

    fn send_notices(self: &Arc<Self>, channel: &str, text: &str) {
        for user_id in self.settings.get().notify.clone() {
            let (flow, channel, text) = (self.clone(), channel.to_string(), text.to_string());
            let told = self.errand(Box::new(move || flow.notify_one(user_id, &channel, text)));
            if told.is_err() {
                log::warn!("a notice was left out: too much waits");
            }
        }
    }

    /// Tells all who asked for it what concerns no single channel.
    pub(super) fn alert(self: &Arc<Self>, text: &str) {
        log::warn!("{text}");
        self.send_notices("", text);
    }

    fn notify_one(self: &Arc<Self>, user_id: String, about: &str, text: String) {
        let channels = self.channels.get();
        let can_send = |name: &str| name != about && channels.get(name).is_some_and(|c| c.handoff().is_some());
        let seen = self.store.seen(&user_id).unwrap_or_default();
        let by = seen.into_iter().find(|s| can_send(&s.channel)).map(|s| s.channel);
        let what = Announcement { user_id: user_id.clone(), text, channel: by, key: None };
        self.announce(what, move |result| {
            if let Err(e) = result {
                log::warn!(user_id = user_id.as_str(); "a notice could not be sent: {e}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::ChannelState::{Connected, Connecting, Degraded, Misconfigured, Stopped};
    use super::*;

    enum Step {
        Is(ChannelState),
        Tick,
    }
    use Step::{Is, Tick};

    /// Steps at seconds, and all that is told.
    #[track_caller]
    fn check(steps: &[(u64, Step)], expected: &[&str]) {
        let notices = Notices::default();
        let mut told = Vec::new();
        for (at, step) in steps {
            let now = Duration::from_secs(*at);
            match step {
                Is(state) => told.extend(notices.changed("tg", *state, "no route", now)),
                Tick => told.extend(notices.due(now).0.into_iter().map(|(_, text)| text)),
            }
        }
        assert_eq!(told, expected);
    }

    #[test]
    fn one_notice_down_and_one_back() {
        let down = "The channel tg has been down for 60 s: no route";
        // Ten minutes without a network: it tries again and again.
        let tries = (1..20).flat_map(|i| [(i * 30, Is(Connecting)), (i * 30 + 1, Is(Degraded)), (i * 30 + 1, Tick)]);
        let mut steps = vec![(0, Is(Connected)), (1, Is(Degraded))];
        steps.extend(tries);
        steps.extend([(601, Is(Connecting)), (602, Is(Connected)), (603, Tick), (900, Tick)]);
        check(&steps, &[down, "The channel tg is back; it was down for 10 min."]);
    }

    #[test]
    fn flapping_is_not_told() {
        let flaps: Vec<_> =
            (0..50).flat_map(|i| [(i * 60, Is(Degraded)), (i * 60 + 58, Tick), (i * 60 + 59, Is(Connected))]).collect();
        check(&flaps, &[]);
        check(&[(0, Is(Misconfigured)), (59, Tick)], &[]);
        check(&[(0, Is(Misconfigured)), (60, Tick), (99, Tick)], &["The channel tg has been down for 60 s: no route"]);
        check(&[(0, Is(Degraded)), (30, Is(Stopped)), (90, Tick), (95, Is(Connected))], &[]);
    }

    #[test]
    fn the_next_one_is_known() {
        let notices = Notices::default();
        let s = Duration::from_secs;
        assert_eq!(notices.due(s(0)), (vec![], None));
        notices.changed("b", Degraded, "", s(5));
        notices.changed("a", Degraded, "", s(7));
        assert_eq!(notices.due(s(8)), (vec![], Some(s(65))));
        let (due, next) = notices.due(s(65));
        assert_eq!((due, next), (vec![("b".into(), "The channel b has been down for 60 s".into())], Some(s(67))));
        assert_eq!(notices.due(s(70)).1, None);
    }
}
