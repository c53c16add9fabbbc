//! `gateway`: addresses, tokens, bounds.
//!
//! Invariant: an address that is not loopback never goes with mode `none`, unless the document says `allowInsecure`; no token
//! is a placeholder.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::secrets::{Use, complaint};
use super::{Resolver, Site, TokenSource, count, ms, size, text};
use crate::base::backoff::Retry;
use crate::base::secret::{Fingerprint, Secret};
use crate::config::files::TOKEN_FILE;
use crate::config::model::{Auth, AuthMode, Cache, Gateway, Limits, NamedToken, RateLimit, Workers};
use crate::config::raw;
use crate::config::section::RawSecret;
use crate::domain::Role;

/// The admin's token.
pub(super) const TOKEN_PATH: &str = "$.gateway.auth.token";
const TOKENS_PATH: &str = "$.gateway.auth.tokens";
/// The principal of the admin's token: another name for another token.
const ADMIN: &str = "admin";
/// Longest path of a Unix socket, as Linux has it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Resolver<'_> {
    pub(super) fn gateway(&mut self, raw: &raw::Gateway) -> (Gateway, TokenSource) {
        let listen = self.listen(raw);
        let (auth, source) = self.auth(raw);
        let limits = &raw.limits;
        let gateway = Gateway {
            listen,
            auth,
            rate_limit: raw.rate_limit.enabled.then(|| RateLimit {
                window: ms(raw.rate_limit.window),
                max_requests: count(raw.rate_limit.max_requests),
                per_user: raw.rate_limit.per_user,
            }),
            notify: self.each(&raw.notify, "$.gateway.notify", text::user_id),
            heartbeat: ms(raw.heartbeat.interval),
            retry: Retry { max_retries: count(raw.retry.max_retries), delay: ms(raw.retry.delay) },
            pool_max_size: size(raw.pool.max_size),
            cache: Cache { ttl: ms(raw.cache.ttl), max_entries: size(raw.cache.max_entries) },
            limits: Limits {
                max_connections: size(limits.max_connections),
                max_websockets: size(limits.max_websockets),
                max_header_bytes: size(limits.max_header_bytes),
                max_body_bytes: size(limits.max_body_bytes),
                request_timeout: ms(limits.request_timeout),
                idle_timeout: ms(limits.idle_timeout),
                max_memory: limits.max_memory,
                max_attachment_bytes: size(limits.max_attachment_bytes),
            },
            workers: Workers {
                http: size(raw.workers.http),
                turns: size(raw.workers.turns),
                deliveries: size(raw.workers.deliveries),
            },
            drain_timeout: ms(raw.shutdown.drain_timeout),
            local_socket: raw.local_socket.as_deref().map(|written| self.socket(written)),
            mdns: raw.mdns,
            allowed_hosts: self.each(&raw.allowed_hosts, "$.gateway.allowedHosts", text::host),
            allowed_origins: self.each(&raw.allowed_origins, "$.gateway.allowedOrigins", text::origin),
            trusted_proxies: self.each(&raw.trusted_proxies, "$.gateway.trustedProxies", text::network),
        };
        (gateway, source)
    }

    fn listen(&mut self, raw: &raw::Gateway) -> SocketAddr {
        let listen = match text::listen(&raw.listen) {
            Ok(listen) => listen,
            Err(message) => {
                self.out.add("$.gateway.listen", message);
                return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            }
        };
        let open = raw.auth.mode == raw::AuthMode::None && !(raw.auth.allow_insecure || raw.allow_insecure);
        let reached = [Some(listen), self.env.passed].into_iter().flatten().find(|at| !at.ip().to_canonical().is_loopback());
        if let Some(reached) = reached.filter(|_| open) {
            self.out.add(
                "$.gateway.listen",
                format!(
                    "{reached} is reached from other machines, and auth mode \"none\" makes everybody admin; use mode \"token\", \
                     listen on 127.0.0.1, or set gateway.auth.allowInsecure to true"
                ),
            );
        }
        listen
    }

    fn auth(&mut self, gateway: &raw::Gateway) -> (Auth, TokenSource) {
        let raw = &gateway.auth;
        let cache = Cache { ttl: ms(gateway.cache.ttl), max_entries: size(gateway.cache.max_entries) };
        let oauth_providers = self.oauth_providers(raw);
        if raw.mode == raw::AuthMode::None {
            let auth = Auth { mode: AuthMode::None, token: None, tokens: Vec::new(), oauth_providers, cache };
            return (auth, TokenSource::NotNeeded);
        }
        let (token, source) = self.admin_token(raw.token.as_ref());
        let tokens = self.named_tokens(&raw.tokens, token.as_ref());
        (Auth { mode: AuthMode::Token, token, tokens, oauth_providers, cache }, source)
    }

    /// The admin's token: a configured one, or the one in the data directory, which the first start makes. `{"file": "token"}`
    /// means the latter, too.
    fn admin_token(&mut self, raw: Option<&RawSecret>) -> (Option<Secret>, TokenSource) {
        let site = Site { path: TOKEN_PATH.into(), entry: String::new() };
        let kept = self.env.data_dir.join(TOKEN_FILE);
        match raw {
            Some(RawSecret::File(written)) if self.env.data_dir.join(written) != kept => {}
            None | Some(RawSecret::File(_)) => {
                return match (self.env.read)(&kept) {
                    Err(e) if e.kind() == ErrorKind::NotFound => (None, TokenSource::ToMake),
                    _ => {
                        let token = self.secret(&RawSecret::File(TOKEN_FILE.into()), TOKEN_PATH, site, Use::Token);
                        (token, TokenSource::Kept)
                    }
                };
            }
            Some(_) => {}
        }
        (raw.and_then(|raw| self.secret(raw, TOKEN_PATH, site, Use::Token)), TokenSource::Configured)
    }

    fn named_tokens(&mut self, raw: &[raw::NamedToken], admin: Option<&Secret>) -> Vec<NamedToken> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut known: Vec<(Fingerprint, String)> = Vec::new();
        known.extend(admin.map(|token| (token.fingerprint(), TOKEN_PATH.to_string())));
        let mut tokens = Vec::new();
        for (i, entry) in raw.iter().enumerate() {
            let path = format!("{TOKENS_PATH}[{i}]");
            let role = entry.role.into();
            if entry.name.trim() != entry.name || entry.name.chars().any(char::is_control) || entry.name == "*" {
                self.out
                    .add(format!("{path}.name"), "not a name; expected no blanks around it, no control characters, not \"*\"");
            } else if entry.name == ADMIN && role != Role::Admin {
                self.out.add(format!("{path}.name"), "\"admin\" is the principal of gateway.auth.token; choose another name");
            }
            if let Some(first) = seen.insert(&entry.name, i) {
                self.out.add(format!("{path}.name"), format!("the same name as {TOKENS_PATH}[{first}]; names are unique"));
            }
            let site = Site { path: TOKENS_PATH.into(), entry: entry.name.clone() };
            let path = format!("{path}.token");
            let Some(token) = self.secret(&entry.token, &path, site, Use::Token) else { continue };
            let fingerprint = token.fingerprint();
            if let Some((_, other)) = known.iter().find(|(f, _)| f.matches(&fingerprint)) {
                self.out.add(&path, format!("the same token as {other}; each principal has its own"));
            }
            known.push((fingerprint, path));
            tokens.push(NamedToken { name: entry.name.clone(), role, token });
        }
        tokens
    }

    fn socket(&mut self, written: &str) -> PathBuf {
        let path = self.path(written, "$.gateway.localSocket");
        // Where the default alone is too long, the data directory is deep; whoever binds the socket says so.
        if written != "gatelet.sock" && path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let found = path.as_os_str().len();
            self.out.add(
                "$.gateway.localSocket",
                format!(
                    "found a path of {found} bytes in all, expected at most {SOCKET_PATH_BYTES_MAX}; write a shorter one, or null"
                ),
            );
        }
        path
    }

    /// Each entry of a list, as `read` understands it.
    fn each(&mut self, list: &[String], path: &str, read: fn(&str) -> Result<String, &'static str>) -> Vec<String> {
        let mut all = Vec::new();
        for (i, written) in list.iter().enumerate() {
            match read(written) {
                Ok(entry) => all.push(entry),
                Err(message) => self.out.add(format!("{path}[{i}]"), message),
            }
        }
        all
    }
}

impl From<raw::Role> for Role {
    fn from(role: raw::Role) -> Self {
        match role {
            raw::Role::User => Role::User,
            raw::Role::Operator => Role::Operator,
            raw::Role::Admin => Role::Admin,
        }
    }
}

/// Whether a token that the gateway finds in its data directory is fit for use; a sentence where it is not.
pub(in crate::config) fn unfit_token(token: &str) -> Option<String> {
    complaint(token, Use::Token)
}
