//! Who a sender is and which agent answers them.
//!
//! Invariant: pure; the outcome depends on the configuration and on ids that the channel vouches for, never on a message's
//! text.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::Binding;

/// What decides the way of a message.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    bindings: Vec<Binding>,
    /// (channel, id there) → canonical user id.
    people: HashMap<(String, String), String>,
    /// The names under `users`.
    names: HashSet<String>,
}

impl Routes {
    /// The routes of a configuration.
    pub fn new(bindings: &[Binding], users: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        let people = users
            .iter()
            .flat_map(|(user, ids)| ids.iter().map(move |(channel, id)| ((channel.clone(), id.clone()), user.clone())))
            .collect();
        Routes { bindings: bindings.to_vec(), people, names: users.keys().cloned().collect() }
    }

    /// The canonical id of a channel's user.
    pub fn user(&self, channel: &str, peer: &str) -> String {
        self.linked(channel, peer).unwrap_or(peer).to_string()
    }

    /// The user whom `users` names as that id's, if it names one: what rights go by, since an id that merely reads like a user's
    /// is nobody's.
    pub fn linked(&self, channel: &str, peer: &str) -> Option<&str> {
        self.people.get(&(channel.to_string(), peer.to_string())).map(String::as_str)
    }

    /// Whether `users` has that name.
    pub fn is_user(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The agent for a user's message on a channel: the first binding that fits.
    pub fn agent(&self, channel: &str, user: &str) -> Option<&str> {
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        self.bindings.iter().find(|b| fits(&b.channel, channel) && fits(&b.user, user)).map(|b| b.agent.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_binding_that_fits_decides() {
        let binding =
            |channel: &str, user: &str, agent: &str| Binding { channel: channel.into(), user: user.into(), agent: agent.into() };
        let bindings = [binding("door", "ana", "private"), binding("door", "*", "public"), binding("*", "*", "main")];
        let users = BTreeMap::from([("ana".to_string(), BTreeMap::from([("door".to_string(), "123".to_string())]))]);
        let routes = Routes::new(&bindings, &users);
        for (channel, peer, user, agent) in
            [("door", "123", "ana", "private"), ("door", "9", "9", "public"), ("websocket", "123", "123", "main")]
        {
            assert_eq!(routes.user(channel, peer), user);
            assert_eq!(routes.agent(channel, user), Some(agent), "{channel} {peer}");
        }
        assert_eq!(Routes::default().agent("door", "ana"), None);
        assert_eq!(
            (routes.linked("door", "123"), routes.linked("door", "ana"), routes.linked("x", "123")),
            (Some("ana"), None, None)
        );
    }
}
