//! What can be written but not run yet: the one list that later versions shorten.
//!
//! Invariant: a key that would promise something and do nothing is refused. What is switched off promises nothing.

use crate::config::problem::{Problems, join};
use crate::config::raw::{AuthMode, ChannelOf, Queue, Raw};

const NOT_YET: &str = "not built into this version";

/// Tells all that this version cannot run.
pub(super) fn refuse(raw: &Raw, out: &mut Problems) {
    let auth = &raw.gateway.auth;
    if auth.mode == AuthMode::Oauth {
        out.add("$.gateway.auth.mode", format!("mode oauth is {NOT_YET}; use \"token\""));
    }
    if !auth.oauth_providers.is_empty() {
        out.add("$.gateway.auth.oauthProviders", format!("identity providers are {NOT_YET}; leave the list empty"));
    }
    for (name, channel) in raw.channels.0.iter().filter(|(_, channel)| channel.common.enabled) {
        let path = join("$.channels", name);
        match &channel.of {
            None => {}
            Some(ChannelOf::Webhook(webhook)) => {
                if channel.common.queue != Queue::Followup {
                    out.add(join(&path, "queue"), format!("queues other than \"followup\" are {NOT_YET}"));
                }
                if channel.common.max_age.is_some() {
                    out.add(join(&path, "maxAge"), format!("an age above which messages are not answered is {NOT_YET}"));
                }
                if webhook.deliver_only {
                    out.add(join(&path, "deliverOnly"), format!("webhooks that only deliver are {NOT_YET}"));
                }
            }
            Some(other) => {
                let hint = "leave it out, or set `enabled` to false";
                out.add(join(&path, "type"), format!("channels of type {} are {NOT_YET}; {hint}", other.name()));
            }
        }
    }
    if !raw.jobs.is_empty() {
        out.add("$.jobs", format!("scheduled jobs are {NOT_YET}; leave the list empty"));
    }
}
