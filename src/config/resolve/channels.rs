//! `channels`: what each adapter needs.
//!
//! Invariant: the webhook `default` is always there, be it switched off. A channel that is switched off has no secrets fetched.

use std::collections::BTreeMap;

use super::secrets::Use;
use super::{Resolver, Site, text};
use crate::base::secret::Secret;
use crate::config::model::{Channel, ChannelKind, Webhook};
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
            // Of the types that are not built in, only channels that are switched off come so far: they are left out.
            if let Some(ChannelOf::Webhook(webhook)) = &channel.of {
                if channel.common.dm_policy.is_some_and(|p| p != raw::DmPolicy::Open) || !channel.common.allow_from.is_empty() {
                    let key = if channel.common.allow_from.is_empty() { "dmPolicy" } else { "allowFrom" };
                    self.out.add(
                        join(&path, key),
                        "a webhook's credential is its check, and its dmPolicy is \"open\"; leave this out, and set `secret` or `token`",
                    );
                }
                let enabled = channel.common.enabled;
                let webhook = if enabled { self.webhook(webhook, &path) } else { Webhook::default() };
                channels.insert(name.clone(), Channel { enabled, kind: ChannelKind::Webhook(webhook) });
            }
        }
        channels
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
