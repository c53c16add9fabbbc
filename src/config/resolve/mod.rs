//! What is meant by a document: defaults filled in, secrets fetched, names looked up, addresses understood.
//!
//! Invariant: all problems are told at once, and there is a configuration only where there are none. Nothing is created or
//! changed: secrets' files are read and that is all. A key that would promise something and do nothing is
//! refused, never ignored.

mod agents;
mod channels;
mod gateway;
mod jobs;
mod oauth;
mod secrets;
mod store;
mod text;
mod tools;

pub(super) use gateway::unfit_token;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::check::check;
use super::model::{Config, Log, LogFormat};
use super::problem::{Problem, Problems, join};
use super::raw::{self, Raw};
use super::redact::{effective, with_built_in};
use super::section::Kind;
use crate::base::secret::{Fingerprint, Secret};

/// What a document is resolved against.
pub struct Env<'a> {
    /// The data directory, absolute: where relative paths start.
    pub data_dir: &'a Path,
    /// Where the socket listens that a service manager passed, if it did: it takes the place of `gateway.listen`.
    pub passed: Option<SocketAddr>,
    /// The environment variable of that name, where it is set (and UTF-8).
    pub var: &'a dyn Fn(&str) -> Option<String>,
    /// The bytes of a file; the reader bounds them.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Where the admin's token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The configuration names it.
    Configured,
    /// The file `token` in the data directory, which is there.
    Kept,
    /// The file `token` in the data directory, which is not there yet: `files::ensure_token` makes it. Until then
    /// `gateway.auth.token` is `None`, and nobody is let in by it.
    ToMake,
    /// Mode `none` needs none.
    NotNeeded,
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Its path, or that of the list in which it stands.
    pub path: String,
    /// Its entry's name in that list, or empty.
    pub entry: String,
}

/// A resolved document.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What is meant.
    pub config: Config,
    written: Written,
    /// The fingerprints of the secrets, so that `diff` sees their changes.
    pub secrets: BTreeMap<Site, Fingerprint>,
    /// Where the admin's token comes from.
    pub token: TokenSource,
}

/// A document as it was written. Debug shows the effective one: no secret.
#[derive(Clone)]
struct Written(Value);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&effective(&self.0), f)
    }
}

impl Resolved {
    /// The effective document, secrets as `"***"`: what `GET /api/config` shows. Made when it is asked for: it is many times what
    /// was written, and a start has no need of it.
    pub fn effective(&self) -> Value {
        effective(&self.written.0)
    }

    /// Puts in the admin's token that was made in the data directory.
    pub fn set_token(&mut self, token: Secret) {
        let site = Site { path: gateway::TOKEN_PATH.into(), entry: String::new() };
        self.secrets.insert(site, token.fingerprint());
        self.config.gateway.auth.token = Some(token);
        self.token = TokenSource::Kept;
    }
}

/// Resolves a document.
///
/// # Errors
/// All its problems, with their paths; those of form first.
pub fn resolve(doc: &Value, env: &Env<'_>) -> Result<Resolved, Vec<Problem>> {
    let mut form = Problems::default();
    check(doc, &mut form);
    let raw = Raw::take(&with_built_in(doc));
    let mut resolver = Resolver { env, out: Problems::default(), secrets: BTreeMap::new() };
    let (config, token) = resolver.config(&raw);
    // What is wrong in form was resolved as its default: what that leads to is not the user's mistake.
    let mut all: Vec<Problem> = resolver.out.into_vec();
    all.retain(|p| !form.touch(&p.path));
    if !form.any() && all.is_empty() {
        return Ok(Resolved { config, written: Written(doc.clone()), secrets: resolver.secrets, token });
    }
    let mut problems = form.into_vec();
    problems.append(&mut all);
    Err(problems)
}

struct Resolver<'a> {
    env: &'a Env<'a>,
    out: Problems,
    secrets: BTreeMap<Site, Fingerprint>,
}

impl Resolver<'_> {
    fn config(&mut self, raw: &Raw) -> (Config, TokenSource) {
        let (mut gateway, token) = self.gateway(&raw.gateway);
        let (users, channels) = (self.users(&raw.users), self.channels(&raw.channels));
        self.link(&mut gateway.auth.oauth_providers, raw, &users);
        let config = Config {
            gateway,
            users,
            channels,
            providers: self.providers(&raw.providers),
            agents: self.agents(raw),
            bindings: self.bindings(raw),
            tools: self.tools(&raw.tools),
            jobs: self.jobs(raw),
            store: store::store(&raw.store, self.path(&raw.store.path, "$.store.path")),
            log: log(&raw.log),
        };
        (config, token)
    }

    fn users(&mut self, raw: &raw::Users) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut owners: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut users = BTreeMap::new();
        for (user, ids) in &raw.0 {
            let path = join("$.users", user);
            if user == "*" {
                self.out.add(&path, "\"*\" stands for all users and cannot be one; choose another id");
            }
            for (channel, id) in &ids.0 {
                if let Some(owner) = owners.insert((channel, id), user) {
                    let owner = join("$.users", owner);
                    self.out.add(join(&path, channel), format!("this id belongs to {owner} already; one id is one user"));
                }
            }
            users.insert(user.clone(), ids.0.iter().cloned().collect());
        }
        users
    }

    /// A path, which starts at the data directory where it is relative.
    fn path(&mut self, written: &str, path: &str) -> PathBuf {
        if written.starts_with("~/") || written == "~" {
            self.out.add(path, "begins with \"~\", which only a shell understands; write the directory out");
        }
        self.env.data_dir.join(written)
    }
}

fn log(raw: &raw::Log) -> Log {
    use ::log::LevelFilter;
    Log {
        level: match raw.level {
            raw::LogLevel::Off => LevelFilter::Off,
            raw::LogLevel::Error => LevelFilter::Error,
            raw::LogLevel::Warn => LevelFilter::Warn,
            raw::LogLevel::Info => LevelFilter::Info,
            raw::LogLevel::Debug => LevelFilter::Debug,
            raw::LogLevel::Trace => LevelFilter::Trace,
        },
        format: match raw.format {
            raw::LogFormat::Auto => LogFormat::Auto,
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        },
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A bounded number as a size: the table keeps it far below what 32 bits hold.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A bounded number in 32 bits.
fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
