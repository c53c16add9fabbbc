//! `gateway.auth.oauthProviders`: whom to ask about a bearer, and what its answer gives.
//!
//! Invariant: a provider is reached by https, or on this machine; none is left with a check that it can't make (an audience that
//! userinfo doesn't tell). A provider's name is no channel's, so that `NAME:SUBJECT` is nobody
//! else's id, and what the configuration calls somebody is no subject's. Fails by telling problems.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::secrets::Use;
use super::{Resolver, Site, text};
use crate::config::model::{OauthProvider, OauthRole};
use crate::config::raw::{self, AuthMode, Raw};
use crate::domain::WEBSOCKET_CHANNEL;

const PATH: &str = "$.gateway.auth.oauthProviders";

impl Resolver<'_> {
    pub(super) fn oauth_providers(&mut self, auth: &raw::Auth) -> Vec<OauthProvider> {
        let all = &auth.oauth_providers;
        if auth.mode == AuthMode::None && !all.is_empty() {
            self.out.add(PATH, "mode \"none\" asks nobody who they are; leave the list empty, or use mode \"oauth\"");
        }
        if auth.mode == AuthMode::Oauth && all.is_empty() {
            self.out
                .add("$.gateway.auth.mode", "mode \"oauth\" needs an identity provider; set oauthProviders, or use \"token\"");
        }
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, provider) in all.iter().enumerate() {
            if let Some(first) = seen.insert(&provider.name, i) {
                self.out.add(format!("{PATH}[{i}].name"), format!("the same name as {PATH}[{first}]; names are unique"));
            }
        }
        all.iter().enumerate().map(|(i, raw)| self.oauth_provider(raw, &format!("{PATH}[{i}]"))).collect()
    }

    fn oauth_provider(&mut self, raw: &raw::OauthProvider, path: &str) -> OauthProvider {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !raw.name.chars().all(plain) {
            self.out.add(format!("{path}.name"), "not a name; expected letters, digits, \"-\", \"_\" and \".\"");
        }
        let secret = raw.client_secret.as_ref().and_then(|secret| {
            let site = Site { path: PATH.into(), entry: raw.name.clone() };
            self.secret(secret, &format!("{path}.clientSecret"), site, Use::Key)
        });
        for (key, written) in
            [("issuer", &raw.issuer), ("introspectionUrl", &raw.introspection_url), ("userinfoUrl", &raw.userinfo_url)]
        {
            if let Some(Err(message)) = written.as_deref().map(reachable) {
                self.out.add(format!("{path}.{key}"), message);
            }
        }
        if let Some((at, message)) = missing(raw) {
            self.out.add(format!("{path}{at}"), message);
        }
        let role = |r: &raw::OauthRole| OauthRole { claim: r.claim.clone(), equals: r.equals.clone(), role: r.role.into() };
        OauthProvider {
            name: raw.name.clone(),
            issuer: raw.issuer.clone(),
            introspection_url: raw.introspection_url.clone(),
            userinfo_url: raw.userinfo_url.clone(),
            client_id: raw.client_id.clone(),
            client_secret: secret,
            audience: raw.audience.clone(),
            user_id_claim: raw.user_id_claim.clone(),
            roles: raw.roles.iter().map(role).collect(),
            users: BTreeMap::new(),
            taken: BTreeSet::new(),
            is_first: false,
        }
    }

    /// Puts in what `users` says of each provider's subjects, and sees that no channel is called like one.
    pub(super) fn link(
        &mut self,
        providers: &mut [OauthProvider],
        raw: &Raw,
        users: &BTreeMap<String, BTreeMap<String, String>>,
    ) {
        let channels: BTreeSet<&str> = raw.channels.0.iter().map(|(name, _)| name.as_str()).collect();
        for (i, provider) in providers.iter_mut().enumerate() {
            let name = provider.name.as_str();
            if channels.contains(name) || [WEBSOCKET_CHANNEL, "openai"].contains(&name) {
                self.out.add(format!("{PATH}[{i}].name"), "a channel is called so; choose another name");
            }
            let linked = users.iter().filter_map(|(user, ids)| Some((ids.get(name)?.clone(), user.clone())));
            provider.users = linked.collect();
            let named = raw.gateway.auth.tokens.iter().map(|token| token.name.clone());
            provider.taken = named.chain(users.keys().cloned()).chain(["admin".to_string()]).collect();
            provider.is_first = i == 0;
        }
    }
}

/// What a provider can't do its work without.
fn missing(raw: &raw::OauthProvider) -> Option<(&'static str, &'static str)> {
    if raw.issuer.is_none() && raw.introspection_url.is_none() && raw.userinfo_url.is_none() {
        return Some(("", "nobody to ask; expected issuer, introspectionUrl or userinfoUrl"));
    }
    if raw.userinfo_url.is_some() && raw.audience.is_some() {
        return Some((".userinfoUrl", "userinfo tells no audience; use introspectionUrl or issuer, or leave audience out"));
    }
    None
}

/// An address that a credential may be sent to.
fn reachable(text: &str) -> Result<(), &'static str> {
    text::url(text)?;
    if text.contains('?') {
        return Err("not the address of an endpoint; leave out what begins with ?");
    }
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if scheme.eq_ignore_ascii_case("https") || is_here {
        Ok(())
    } else {
        Err("credentials would cross the network readable; expected https://, or an address of this machine")
    }
}
