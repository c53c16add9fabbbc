//! What can be written but not run yet: the one list that later versions shorten.
//!
//! Invariant: a key that would promise something and do nothing is refused. What is switched off promises nothing.

use serde_json::Value;

use crate::config::problem::{Problems, join};
use crate::config::raw::{AuthMode, ChannelOf, ProviderOf, Queue, Raw};

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
    for (name, provider) in &raw.providers.0 {
        if let Some(other @ ProviderOf::Anthropic(_)) = &provider.of {
            let path = join(&join("$.providers", name), "type");
            out.add(path, format!("providers of type {} are {NOT_YET}; use \"openai\"", other.name()));
        }
    }
    for (name, agent) in &raw.agents.0 {
        if agent.tokens_per_day.is_some() {
            out.add(join(&join("$.agents", name), "tokensPerDay"), format!("a limit of tokens is {NOT_YET}"));
        }
    }
    if !raw.tools.mcp.0.is_empty() {
        out.add("$.tools.mcp", format!("MCP servers are {NOT_YET}; leave it empty"));
    }
    if !is_empty(&raw.tools.shell) {
        out.add("$.tools.shell", format!("programs as tools are {NOT_YET}; leave it out"));
    }
    if !raw.jobs.is_empty() {
        out.add("$.jobs", format!("scheduled jobs are {NOT_YET}; leave the list empty"));
    }
}

fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
