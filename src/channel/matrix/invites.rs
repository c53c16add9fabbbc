//! Which invitations are followed.
//!
//! Invariant: we enter a room only where its inviter may speak to us, directly or in that group; a name never counts, nor does what the
//! room says of itself. At most [`RATE`] answers a minute, and a bounded number waits. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::limit::Limiter;
use crate::channel::matrix::wire::{self, Invited, text};
use crate::config::{ChannelCommon, DmPolicy, GroupPolicy};

/// Answers to invitations, a minute.
const RATE: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Invitations that wait for their turn.
const WAITING_MAX: usize = 64;
/// How often one is tried whose answer fails in a way that may pass.
const TRIES: u32 = 3;

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invite {
    pub room: String,
    /// Who asked us in; empty where that is not told.
    pub inviter: String,
    /// Whether it is meant for the two alone.
    pub is_direct: bool,
    pub tries: u32,
}

/// Reads one from the state that comes with it.
pub(super) fn read(room: &str, invited: &Invited, me: &str) -> Invite {
    let own = invited.invite_state.events.iter().rev().find(|e| wire::is_membership(e, me, "invite"));
    let is_direct = own.is_some_and(|e| e["content"]["is_direct"] == true);
    let inviter = own.map(|e| text(e, &["sender"])).unwrap_or_default().to_string();
    Invite { room: room.to_string(), inviter, is_direct, tries: 0 }
}

/// Why an invitation is not followed; `None`: it is.
pub(super) fn refusal(invite: &Invite, common: &ChannelCommon) -> Option<&'static str> {
    if invite.inviter.is_empty() {
        return Some("it does not say who invites");
    }
    if invite.is_direct {
        let listed = common.allow_from.contains(&invite.inviter);
        // Under `pairing` strangers are told their code in the room.
        return (!listed && common.dm_policy == DmPolicy::Allowlist).then_some("its sender is not in allowFrom");
    }
    match common.group_policy {
        GroupPolicy::Off => Some("groupPolicy is off"),
        GroupPolicy::Open => None,
        GroupPolicy::Allowlist => (!common.groups.contains(&invite.room)).then_some("the room is not in groups"),
    }
}

/// Those that wait to be answered.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<Invite>,
    rate: Limiter,
}

impl Waiting {
    /// Adds those of a `/sync`.
    pub fn add(&mut self, invited: &BTreeMap<String, Invited>, me: &str) {
        for (room, invited) in invited {
            self.again(read(room, invited, me));
        }
    }

    /// Adds one, unless it waits already, was tried often enough, or too many wait.
    pub fn again(&mut self, invite: Invite) {
        if invite.tries >= TRIES || self.queue.len() >= WAITING_MAX {
            let Invite { room, inviter, .. } = &invite;
            return log::warn!(room = room.as_str(), inviter = inviter.as_str(); "an invitation is left unanswered: too many of them, or it fails");
        }
        if !self.queue.iter().any(|i| i.room == invite.room) {
            self.queue.push_back(invite);
        }
    }

    /// The next one, as far as the rate allows.
    pub fn next(&mut self, now: Duration) -> Option<Invite> {
        self.queue.front()?;
        if !self.rate.take("", RATE, WINDOW, now).allowed {
            return None;
        }
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::memory::common;
    use serde_json::json;

    fn invited(inviter: &str, content: serde_json::Value) -> Invited {
        let event = json!({"type": "m.room.member", "state_key": "@bot:x", "sender": inviter, "content": content});
        serde_json::from_value(json!({"invite_state": {"events": [{"type": "m.room.name"}, "garbage", event]}})).unwrap()
    }

    #[test]
    fn who_may_invite_us() {
        use {DmPolicy as D, GroupPolicy as G};
        let ana = "@ana:x";
        for (direct, dm, group, listed, follows) in [
            (true, D::Open, G::Off, false, true),
            (true, D::Pairing, G::Off, false, true),
            (true, D::Allowlist, G::Open, false, false),
            (true, D::Allowlist, G::Off, true, true),
            (false, D::Open, G::Off, true, false),
            (false, D::Open, G::Allowlist, false, false),
            (false, D::Allowlist, G::Allowlist, true, true),
            (false, D::Allowlist, G::Open, false, true),
        ] {
            let mut common = common();
            (common.dm_policy, common.group_policy) = (dm, group);
            if listed {
                (common.allow_from, common.groups) = (vec![ana.into()], vec!["!r:x".into()]);
            }
            let invite = read("!r:x", &invited(ana, json!({"membership": "invite", "is_direct": direct})), "@bot:x");
            assert_eq!((invite.inviter.as_str(), invite.is_direct), (ana, direct));
            assert_eq!(refusal(&invite, &common).is_none(), follows, "{invite:?} {dm:?} {group:?} {listed}");
        }
    }

    #[test]
    fn what_does_not_say_who_invites_is_not_followed() {
        for state in [
            invited("", json!({"membership": "invite", "is_direct": true})),
            invited("@ana:x", json!({"membership": "join", "is_direct": true})),
            invited("@ana:x", json!("garbage")),
            Invited::default(),
        ] {
            let invite = read("!r:x", &state, "@bot:x");
            assert!(refusal(&invite, &common()).is_some(), "{state:?}");
        }
        let named = invited("@ana:x", json!({"membership": "invite", "is_direct": "true"}));
        assert!(!read("!r:x", &named, "@bot:x").is_direct, "only what is true is true");
    }

    #[test]
    fn a_flood_is_answered_slowly_and_in_part() {
        let mut waiting = Waiting::default();
        for n in 0..200 {
            waiting.again(Invite { room: format!("!{n}:x"), inviter: "@m:x".into(), is_direct: true, tries: 0 });
        }
        let mut drain = |at| std::iter::from_fn(|| waiting.next(at)).count();
        assert_eq!(drain(Duration::from_secs(1)), RATE as usize);
        assert_eq!(drain(Duration::from_secs(30)), 0);
        assert_eq!(drain(Duration::from_secs(62)), RATE as usize);
        assert_eq!((3..9).map(|n| drain(Duration::from_secs(62 * n))).sum::<usize>(), WAITING_MAX - 2 * RATE as usize);
        waiting.again(Invite { room: "!a:x".into(), inviter: "@m:x".into(), is_direct: true, tries: TRIES });
        assert_eq!(waiting.next(Duration::from_secs(9999)), None);
    }
}
