//! Bearers that an identity provider vouches for.
//!
//! Invariant: what is kept is keyed by the token's digest, bounded in number and time; parallel questions about one token are one
//! question. What can't be found out lets nobody in: only who was let in before by that token goes on, until the token itself ends.
//! Fails by saying which it is ([`Said`]).

mod claims;
mod jwt;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::auth::oauth::jwt::Unverified;
use crate::auth::oauth::provider::{Answer, Asker, DOWN_PAUSE, Provider};
use crate::base::cache::Cache;
use crate::base::clock::Clock;
use crate::config::{Auth, Cache as CacheSettings};
use crate::domain::{Grant, Principal, Role};
use crate::net::client::Client;

/// How long all providers together may take about one token.
pub const ASK_WITHIN: Duration = Duration::from_secs(5);
/// How long a refusal is kept: a token that is guessed again is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Questions under way at a time; one more is not asked, and fails as if nobody had answered.
const ASKING_MAX: usize = 16;
/// Longest token that is asked about, in bytes.
const TOKEN_BYTES_MAX: usize = 12 * 1024;

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Whose it is.
    Principal(Arc<Principal>),
    /// Nobody's.
    Refused,
    /// It could not be found out.
    Down,
}

/// The providers, and what they said.
pub struct Oauth {
    providers: Vec<Provider>,
    said: Cache<Said>,
    /// Who was let in, until the token ends: for as long as nobody can be asked.
    let_in: Cache<Arc<Principal>>,
    settings: CacheSettings,
    asking: AtomicUsize,
    client: Client,
    clock: Clock,
}

impl std::fmt::Debug for Oauth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oauth").field("providers", &self.providers.len()).finish_non_exhaustive()
    }
}

impl Oauth {
    /// The providers of a configuration, if it has any; the `former` ones with all that they said, where nothing changed.
    pub fn new(auth: &Auth, former: Option<&Arc<Oauth>>, clock: &Clock) -> Option<Arc<Oauth>> {
        let providers: Vec<_> = auth.oauth_providers.iter().cloned().map(Provider::new).collect();
        let is_same = |f: &&Arc<Oauth>| {
            f.settings == auth.cache && f.providers.iter().map(|p| p.fingerprint).eq(providers.iter().map(|p| p.fingerprint))
        };
        if let Some(same) = former.filter(is_same) {
            return Some(same.clone());
        }
        let oauth = || Oauth {
            said: Cache::new(auth.cache.max_entries, clock.clone()),
            let_in: Cache::new(auth.cache.max_entries, clock.clone()),
            settings: auth.cache,
            asking: AtomicUsize::new(0),
            client: Client::new(2),
            clock: clock.clone(),
            providers,
        };
        (!auth.oauth_providers.is_empty()).then(|| Arc::new(oauth()))
    }

    /// What is known of `token` without asking: from memory alone. `None`: [`Self::ask`] can tell.
    pub fn known(&self, token: &str) -> Option<Said> {
        let can_be_one = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if can_be_one { self.said.known(&digest(token)) } else { Some(Said::Refused) }
    }

    /// What the providers say of `token`; may take [`ASK_WITHIN`].
    pub fn ask(&self, token: &str) -> Said {
        if let Some(known) = self.known(token) {
            return known;
        }
        let key = digest(token);
        let fetch = || {
            let _turn = Turn::take(&self.asking).ok_or(())?;
            Ok::<_, ()>(self.fetch(token, &key))
        };
        self.said.get(&key, fetch).unwrap_or(Said::Down)
    }

    fn fetch(&self, token: &str, key: &str) -> (Said, Duration) {
        let now = self.clock.mono();
        match self.ask_each(token) {
            Said::Principal(principal) => {
                let until = principal.grant.map_or(now, |g| g.until);
                let left = until.saturating_sub(self.clock.mono());
                self.let_in.forget(key);
                let _ = self.let_in.get(key, || Ok::<_, ()>((principal.clone(), left))); // can't fail
                (Said::Principal(principal), left.min(self.settings.ttl))
            }
            Said::Refused => {
                self.let_in.forget(key);
                (Said::Refused, REFUSED_FOR.min(self.settings.ttl))
            }
            Said::Down => match self.let_in.known(key) {
                Some(principal) => {
                    let left = principal.grant.map_or(Duration::ZERO, |g| g.until.saturating_sub(self.clock.mono()));
                    (Said::Principal(principal), left.min(REFUSED_FOR))
                }
                None => (Said::Down, DOWN_PAUSE),
            },
        }
    }

    /// Asks one after the other. A JWT is for the one who issued it alone; it is shown to nobody else.
    fn ask_each(&self, token: &str) -> Said {
        let signed = Unverified::read(token);
        let issuer = signed.as_ref().and_then(|s| self.providers.iter().find(|p| p.issued(s)));
        let asker = Asker { client: &self.client, clock: &self.clock, until: self.clock.mono() + ASK_WITHIN };
        if let Some(issuer) = issuer {
            return self.said_by(issuer, issuer.ask(token, signed, &asker), &asker);
        }
        let mut last = Said::Refused;
        for provider in self.providers.iter().filter(|p| p.tells_of(signed.is_some())) {
            match self.said_by(provider, provider.ask(token, None, &asker), &asker) {
                Said::Principal(principal) => return Said::Principal(principal),
                Said::Down => last = Said::Down,
                Said::Refused => {}
            }
        }
        // One that can't be asked could have been the one that knows it.
        if last == Said::Down { Said::Down } else { Said::Refused }
    }

    fn said_by(&self, provider: &Provider, answer: Answer, asker: &Asker<'_>) -> Said {
        match answer {
            Answer::Refused => Said::Refused,
            Answer::Down => Said::Down,
            Answer::Person(person) => {
                let until = asker.clock.mono() + person.left.unwrap_or(self.settings.ttl);
                Said::Principal(Arc::new(Principal {
                    id: person.id,
                    role: person.role,
                    email: person.email,
                    credential: None,
                    grant: Some(Grant { provider: provider.fingerprint, until }),
                }))
            }
        }
    }

    /// Whether a provider's word is still good.
    pub fn stands(&self, grant: &Grant) -> bool {
        grant.until > self.clock.mono() && self.providers.iter().any(|p| p.fingerprint.matches(&grant.provider))
    }

    /// The highest role of the principals of that id that were let in and whose tokens have not ended.
    pub fn role_of(&self, id: &str) -> Option<Role> {
        self.let_in.all().iter().filter(|p| p.id == id).map(|p| p.role).max()
    }
}

/// One of the questions that may be under way.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(asking: &'a AtomicUsize) -> Option<Self> {
        let turn = Turn(asking);
        // Dropped where it is one too many, it gives its number back.
        (asking.fetch_add(1, Ordering::AcqRel) < ASKING_MAX).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a token is kept under.
fn digest(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}
