//! Who may speak: one decision for everything that comes in by a channel that holds a connection, of whatever kind.
//!
//! Invariant: pure, and closed by default: an id that is missing, a list that is empty and a policy that says nothing let nobody in. A
//! direct chat goes by `dmPolicy` and pairings alone, a group by `groupPolicy` alone: neither gives a right in the other, and the ids
//! of one are never looked for among those of the other. What is written decides nothing. It fails only as `is_paired` does.

use crate::channel::Place;
use crate::config::{ChannelCommon, ChannelKind, DmPolicy, GroupPolicy};
use crate::domain::{ID_BYTES_MAX, Role, Standing};

/// What the configuration says of a channel's conversations.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What all channels have.
    pub common: ChannelCommon,
    /// Whether the service itself vouches for its senders' ids: only then can a link in `users` give an operator's rights.
    pub vouches: bool,
}

impl Policy {
    /// The policy of a configured channel.
    pub fn new(channel: &crate::config::Channel) -> Self {
        let vouches = matches!(
            channel.kind,
            ChannelKind::Telegram(_) | ChannelKind::Matrix(_) | ChannelKind::Discord(_) | ChannelKind::Slack(_)
        );
        Policy { common: channel.common.clone(), vouches }
    }

    /// How far a sender who was let in is known. `role` is that of the user whom `users` links the sender to; nothing else
    /// raises a sender above a user: neither the group, nor a pairing, nor an id that reads like a principal's.
    pub fn standing(&self, role: Option<Role>) -> Standing {
        match role {
            Some(role) if self.vouches => Standing::from(role),
            _ => Standing::User,
        }
    }
}

/// What becomes of something that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is taken in.
    Admit,
    /// Nothing is done; why.
    Ignore(&'static str),
    /// Its sender is unknown and may ask to be let in.
    AskToPair,
}

/// Decides about `sender` at `place`. `is_paired` tells whether an operator let them in; it is asked only where that counts.
///
/// # Errors
/// Those of `is_paired`.
pub fn decide<E>(
    common: &ChannelCommon,
    place: &Place,
    sender: &str,
    is_paired: impl FnOnce() -> Result<bool, E>,
) -> Result<Admission, E> {
    if !is_id(sender) {
        return Ok(Admission::Ignore("it has no sender"));
    }
    match place {
        Place::Group { id, mentioned } => Ok(in_group(common, id, *mentioned)),
        Place::Direct if common.dm_policy == DmPolicy::Open => Ok(Admission::Admit),
        Place::Direct if common.allow_from.iter().any(|id| id == sender) => Ok(Admission::Admit),
        Place::Direct if common.dm_policy == DmPolicy::Allowlist => Ok(Admission::Ignore("its sender is not in allowFrom")),
        Place::Direct => Ok(if is_paired()? { Admission::Admit } else { Admission::AskToPair }),
    }
}

fn in_group(common: &ChannelCommon, id: &str, mentioned: bool) -> Admission {
    let is_ours = match common.group_policy {
        GroupPolicy::Off => false,
        GroupPolicy::Open => is_id(id),
        GroupPolicy::Allowlist => is_id(id) && common.groups.iter().any(|group| group == id),
    };
    match (is_ours, common.require_mention && !mentioned) {
        (false, _) => Admission::Ignore("its group is not one of ours"),
        (true, true) => Admission::Ignore("the gateway is not named in it"),
        (true, false) => Admission::Admit,
    }
}

fn is_id(id: &str) -> bool {
    !id.trim().is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::memory;

    fn common() -> ChannelCommon {
        ChannelCommon {
            dm_policy: DmPolicy::Pairing,
            group_policy: GroupPolicy::Allowlist,
            allow_from: vec!["1".into()],
            groups: vec!["-7".into(), "9".into()],
            ..memory::common()
        }
    }

    fn group(id: &str, mentioned: bool) -> Place {
        Place::Group { id: id.into(), mentioned }
    }

    /// `A`dmitted, `P`airing, `-` ignored.
    #[track_caller]
    fn check(common: &ChannelCommon, place: &Place, sender: &str, paired: bool, expected: char) {
        let found = match decide(common, place, sender, || Ok::<_, ()>(paired)).unwrap() {
            Admission::Admit => 'A',
            Admission::AskToPair => 'P',
            Admission::Ignore(_) => '-',
        };
        assert_eq!(found, expected, "{sender:?} at {place:?}, paired {paired}: {common:?}");
    }

    #[test]
    fn direct_chats() {
        for (policy, sender, paired, expected) in [
            (DmPolicy::Pairing, "1", false, 'A'),
            (DmPolicy::Pairing, "2", false, 'P'),
            (DmPolicy::Pairing, "2", true, 'A'),
            (DmPolicy::Allowlist, "1", false, 'A'),
            (DmPolicy::Allowlist, "2", false, '-'),
            (DmPolicy::Allowlist, "2", true, '-'), // a pairing of former days counts where pairing is the policy
            (DmPolicy::Open, "2", false, 'A'),
            // Ids are compared whole and as they are.
            (DmPolicy::Allowlist, "01", false, '-'),
            (DmPolicy::Allowlist, " 1", false, '-'),
            (DmPolicy::Allowlist, "11", false, '-'),
            // The number of a group of ours is no sender's (E5).
            (DmPolicy::Allowlist, "9", false, '-'),
            (DmPolicy::Allowlist, "-7", false, '-'),
        ] {
            check(&ChannelCommon { dm_policy: policy, ..common() }, &Place::Direct, sender, paired, expected);
        }
    }

    /// E6: an empty list is nobody.
    #[test]
    fn empty_lists_let_nobody_in() {
        let empty = ChannelCommon { allow_from: vec![], groups: vec![], dm_policy: DmPolicy::Allowlist, ..common() };
        for sender in ["1", "*", "", "0"] {
            check(&empty, &Place::Direct, sender, true, '-');
            check(&empty, &group("-7", true), sender, true, '-');
            check(&empty, &group("", true), sender, true, '-');
        }
    }

    /// E3, E5: a pairing or an allowed id gives no right in a group, and a group none in a direct chat.
    #[test]
    fn groups() {
        for (policy, id, mentioned, required, expected) in [
            (GroupPolicy::Allowlist, "-7", true, true, 'A'),
            (GroupPolicy::Allowlist, "-7", false, true, '-'),
            (GroupPolicy::Allowlist, "-7", false, false, 'A'),
            (GroupPolicy::Allowlist, "-8", true, true, '-'),
            (GroupPolicy::Allowlist, "1", true, true, '-'),
            (GroupPolicy::Allowlist, "", true, false, '-'),
            (GroupPolicy::Open, "-8", true, true, 'A'),
            (GroupPolicy::Open, "-8", false, true, '-'),
            (GroupPolicy::Open, "", true, true, '-'),
            (GroupPolicy::Off, "-7", true, false, '-'),
        ] {
            let common = ChannelCommon { group_policy: policy, require_mention: required, ..common() };
            for (sender, paired) in [("1", false), ("2", true), ("2", false)] {
                check(&common, &group(id, mentioned), sender, paired, expected);
            }
        }
        let open_to_all = ChannelCommon { dm_policy: DmPolicy::Open, ..common() };
        check(&open_to_all, &group("-8", true), "1", true, '-');
        let open_groups = ChannelCommon { group_policy: GroupPolicy::Open, dm_policy: DmPolicy::Allowlist, ..common() };
        check(&open_groups, &Place::Direct, "2", true, '-');
    }

    /// E7, E10: what has no sender is nobody's, whatever the policy.
    #[test]
    fn no_sender_no_right() {
        let open = ChannelCommon { dm_policy: DmPolicy::Open, group_policy: GroupPolicy::Open, ..common() };
        for sender in ["", " ", "\u{a0}", "a\0", "a\n", &"x".repeat(1 << 20)] {
            check(&open, &Place::Direct, sender, true, '-');
            check(&open, &group("-7", true), sender, true, '-');
        }
    }

    /// A pairing is not even looked up where it doesn't count, and a store that can't tell lets nobody in.
    #[test]
    fn what_is_not_known_is_not_assumed() {
        assert_eq!(decide(&common(), &group("-7", true), "2", || Err("asked")), Ok(Admission::Admit));
        assert_eq!(decide(&common(), &Place::Direct, "1", || Err("asked")), Ok(Admission::Admit));
        assert_eq!(decide(&common(), &Place::Direct, "2", || Err("asked")), Err("asked"));
    }

    /// Rights come by the link alone, and only where the service vouches for the id (E2, E9).
    #[test]
    fn standings() {
        for (vouches, role, expected) in [
            (true, None, Standing::User),
            (true, Some(Role::User), Standing::User),
            (true, Some(Role::Operator), Standing::Operator),
            (true, Some(Role::Admin), Standing::Admin),
            (false, Some(Role::Admin), Standing::User),
            (false, None, Standing::User),
        ] {
            assert_eq!(Policy { common: common(), vouches }.standing(role), expected, "{vouches} {role:?}");
        }
    }
}
