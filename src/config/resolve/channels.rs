//! `channels`: what each adapter needs.
//!
//! Invariant: the webhook `default` is always there, be it switched off. A channel that is switched off has no secrets fetched.

use std::collections::BTreeMap;

use super::secrets::Use;
use super::{Resolver, Site, ms, text};
use crate::base::secret::Secret;
use crate::config::model::{
    Channel, ChannelCommon, ChannelKind, Discord, DmPolicy, GroupPolicy, Matrix, Mqtt, OnUnknown, Queue, Slack, Telegram, Webhook,
};
use crate::config::problem::join;
use crate::config::raw::{self, ChannelOf};
use crate::config::section::{Named, RawSecret};
use crate::domain::{OPENAI_CHANNEL, WEBSOCKET_CHANNEL};

impl Resolver<'_> {
    pub(super) fn channels(&mut self, raw: &Named<raw::Channel>) -> BTreeMap<String, Channel> {
        let mut channels = BTreeMap::new();
        for (name, channel) in &raw.0 {
            let path = join("$.channels", name);
            if name == WEBSOCKET_CHANNEL {
                self.out.add(&path, "\"websocket\" is the name of the WebSocket chat; choose another one");
            }
            if name == OPENAI_CHANNEL {
                self.out.add(&path, "\"openai\" is the name of the OpenAI-compatible API; choose another one");
            }
            let enabled = channel.common.enabled;
            let common = common(&channel.common, &channel.of);
            let kind = match &channel.of {
                None => continue, // a problem already
                Some(ChannelOf::Webhook(webhook)) => {
                    self.no_policy(&channel.common, &path);
                    ChannelKind::Webhook(if enabled { self.webhook(webhook, &path) } else { Webhook::default() })
                }
                Some(other) if !enabled => ChannelKind::Off(other.name()),
                Some(other) => {
                    self.ids(&common, other.name(), &path);
                    match self.connected(other, &path) {
                        Some(kind) => kind,
                        None => continue, // a problem already
                    }
                }
            };
            channels.insert(name.clone(), Channel { enabled, common, kind });
        }
        channels
    }

    /// A webhook's credential is its check.
    fn no_policy(&mut self, common: &raw::ChannelCommon, path: &str) {
        if common.dm_policy.is_some_and(|p| p != raw::DmPolicy::Open) || !common.allow_from.is_empty() {
            let key = if common.allow_from.is_empty() { "dmPolicy" } else { "allowFrom" };
            self.out.add(
                join(path, key),
                "a webhook's credential is its check, and its dmPolicy is \"open\"; leave this out, and set `secret` or `token`",
            );
        }
    }

    /// Lists of who may speak hold immutable ids: names can be taken by others.
    fn ids(&mut self, common: &ChannelCommon, kind: &str, path: &str) {
        for (key, ids, is_group) in [("allowFrom", &common.allow_from, false), ("groups", &common.groups, true)] {
            for (i, id) in ids.iter().enumerate() {
                if let Some(wanted) = not_an_id(kind, id, is_group) {
                    self.out.add(
                        format!("{path}.{key}[{i}]"),
                        format!("not an id but perhaps a name, which anybody can take; expected {wanted}"),
                    );
                }
            }
        }
    }

    fn connected(&mut self, of: &ChannelOf, path: &str) -> Option<ChannelKind> {
        Some(match of {
            ChannelOf::Telegram(t) => ChannelKind::Telegram(Telegram {
                token: self.keyed(Some(&t.token), path, "token", Use::Key)?,
                api_root: self.api_root(t.api_root.as_deref(), "https://api.telegram.org", path)?,
                preview: t.preview,
            }),
            ChannelOf::Discord(d) => ChannelKind::Discord(Discord {
                token: self.keyed(Some(&d.token), path, "token", Use::Key)?,
                api_root: self.api_root(d.api_root.as_deref(), "https://discord.com/api/v10", path)?,
            }),
            ChannelOf::Slack(s) => ChannelKind::Slack(Slack {
                app_token: self.keyed(Some(&s.app_token), path, "appToken", Use::Key)?,
                bot_token: self.keyed(Some(&s.bot_token), path, "botToken", Use::Key)?,
                api_root: self.api_root(s.api_root.as_deref(), "https://slack.com/api", path)?,
            }),
            ChannelOf::Matrix(m) => self.matrix(m, path)?,
            ChannelOf::Mqtt(m) => self.mqtt(m, path)?,
            ChannelOf::Webhook(_) => return None,
        })
    }

    fn api_root(&mut self, written: Option<&str>, default: &str, path: &str) -> Option<String> {
        match written {
            None => Some(default.to_string()),
            Some(_) => self.formed(written, path, "apiRoot", text::url),
        }
    }

    fn matrix(&mut self, raw: &raw::Matrix, path: &str) -> Option<ChannelKind> {
        if let Some(wanted) = not_an_id("matrix", &raw.user_id, false) {
            self.out.add(join(path, "userId"), format!("not an account; expected {wanted}"));
        }
        if raw.access_token.is_none() && raw.password.is_none() {
            self.out.add(path, "needs `accessToken` or `password`");
        }
        Some(ChannelKind::Matrix(Matrix {
            homeserver: self.formed(Some(&raw.homeserver), path, "homeserver", text::url)?,
            user_id: raw.user_id.clone(),
            access_token: self.keyed(raw.access_token.as_ref(), path, "accessToken", Use::Key),
            password: self.keyed(raw.password.as_ref(), path, "password", Use::Password),
        }))
    }

    fn mqtt(&mut self, raw: &raw::Mqtt, path: &str) -> Option<ChannelKind> {
        let (tls, rest) = match raw.url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => {
                self.out.add(join(path, "url"), "not a broker's address; expected mqtt://host:1883 or mqtts://host:8883");
                return None;
            }
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains('@') {
            self.out.add(
                join(path, "url"),
                "a user and password in an address are shown wherever it is; use `username` and `password`",
            );
        }
        let Ok(host) = text::host(authority) else {
            self.out.add(join(path, "url"), "no valid host stands after ://");
            return None;
        };
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name.to_string(), port.parse().unwrap_or(default)),
            _ => (host, default),
        };
        let users = raw.subscribe.split('/').filter(|level| *level == "+").count();
        if users != 1 || raw.subscribe.matches('+').count() != 1 || raw.subscribe.contains('#') {
            self.out.add(join(path, "subscribe"), "needs exactly one level `+`, which is the user, and no `#`");
        }
        if !raw.publish.contains("{user}") || raw.publish.contains(['+', '#']) {
            self.out.add(join(path, "publish"), "needs `{user}` and neither `+` nor `#`");
        }
        Some(ChannelKind::Mqtt(Mqtt {
            tls,
            host,
            port,
            username: raw.username.clone(),
            password: self.keyed(raw.password.as_ref(), path, "password", Use::Password),
            client_id: raw.client_id.clone(),
            ca_file: raw.ca_file.as_ref().map(|file| self.path(file, &join(path, "caFile"))),
            subscribe: raw.subscribe.clone(),
            publish: raw.publish.clone(),
            home_assistant: raw.home_assistant,
        }))
    }

    fn webhook(&mut self, raw: &raw::Webhook, path: &str) -> Webhook {
        Webhook {
            secret: self.keyed(raw.secret.as_ref(), path, "secret", Use::Signing),
            token: self.keyed(raw.token.as_ref(), path, "token", Use::Token),
            reply_url: self.formed(raw.reply_url.as_deref(), path, "replyUrl", text::url),
            reply_secret: self.keyed(raw.reply_secret.as_ref(), path, "replySecret", Use::Signing),
            message_path: self.formed(raw.message_path.as_deref(), path, "messagePath", text::pointer),
            user_path: self.formed(raw.user_path.as_deref(), path, "userPath", text::pointer),
            id_path: self.formed(raw.id_path.as_deref(), path, "idPath", text::pointer),
            deliver_only: raw.deliver_only,
        }
    }

    /// The secret at a key of the object at `path`.
    pub(super) fn keyed(&mut self, raw: Option<&RawSecret>, path: &str, key: &str, used: Use) -> Option<Secret> {
        let path = join(path, key);
        raw.and_then(|raw| self.secret(raw, &path, Site { path: path.clone(), entry: String::new() }, used))
    }

    /// The text at a key of the object at `path`, as `read` understands it.
    pub(super) fn formed(
        &mut self,
        written: Option<&str>,
        path: &str,
        key: &str,
        read: fn(&str) -> Result<String, &'static str>,
    ) -> Option<String> {
        read(written?).map_err(|message| self.out.add(join(path, key), message)).ok()
    }
}

fn common(raw: &raw::ChannelCommon, of: &Option<ChannelOf>) -> ChannelCommon {
    let is_webhook = matches!(of, Some(ChannelOf::Webhook(_)));
    // A topic's level is who may publish there: the broker's access list is the check.
    let open = is_webhook || matches!(of, Some(ChannelOf::Mqtt(_)));
    ChannelCommon {
        dm_policy: match raw.dm_policy {
            None if open => DmPolicy::Open,
            None | Some(raw::DmPolicy::Pairing) => DmPolicy::Pairing,
            Some(raw::DmPolicy::Allowlist) => DmPolicy::Allowlist,
            Some(raw::DmPolicy::Open) => DmPolicy::Open,
        },
        allow_from: raw.allow_from.clone(),
        group_policy: match raw.group_policy {
            None | Some(raw::GroupPolicy::Allowlist) => GroupPolicy::Allowlist,
            Some(raw::GroupPolicy::Open) => GroupPolicy::Open,
            Some(raw::GroupPolicy::Off) => GroupPolicy::Off,
        },
        groups: raw.groups.clone(),
        require_mention: raw.require_mention.unwrap_or(true),
        queue: match raw.queue {
            raw::Queue::Followup => Queue::Followup,
            raw::Queue::Collect => Queue::Collect,
            raw::Queue::Interrupt => Queue::Interrupt,
        },
        max_age: raw.max_age.map(ms),
        on_unknown: match raw.on_unknown {
            raw::OnUnknown::Resend => OnUnknown::Resend,
            raw::OnUnknown::Hold => OnUnknown::Hold,
        },
    }
}

/// What an immutable id of that service looks like, where `id` doesn't.
fn not_an_id(kind: &str, id: &str, is_group: bool) -> Option<&'static str> {
    let digits = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let (fits, wanted) = match (kind, is_group) {
        ("telegram", false) => (digits(id), "a number, as Telegram's @userinfobot tells it"),
        ("telegram", true) => (digits(id.strip_prefix('-').unwrap_or(id)), "a number, as -1001234567890"),
        ("matrix", false) => (id.starts_with('@') && id[1..].contains(':'), "a whole Matrix id, as @ana:example.org"),
        ("matrix", true) => (id.starts_with('!'), "a room's id, as !abc:example.org, not its address"),
        ("discord", _) => (digits(id), "a number, which Discord's developer mode shows"),
        ("slack", false) => (is_slack_id(id, "UW"), "a member's id, as U012AB3CD"),
        ("slack", true) => (is_slack_id(id, "CGD"), "a channel's id, as C012AB3CD"),
        _ => (!id.is_empty(), "an id"),
    };
    (!fits).then_some(wanted)
}

fn is_slack_id(id: &str, kinds: &str) -> bool {
    let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    id.len() >= 8 && id.starts_with(|c| kinds.contains(c)) && id.bytes().all(upper)
}
