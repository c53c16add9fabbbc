//! Credentials become principals: static tokens, identity providers' tokens, or nobody is asked (mode `none`, loopback alone).
//!
//! Invariant: what is kept and compared are digests, every one of them at every try, in constant time; a credential that is
//! wrong is never better off than one that is absent. Failed tries are counted by address, in one budget for HTTP and
//! WebSocket, before their answer. It fails by saying why not ([`Login`]).

pub mod address;
mod oauth;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::oauth::{Oauth, Said};
use crate::base::clock::Clock;
use crate::base::limit::{Limiter, Verdict, address_key};
use crate::base::live::Live;
use crate::base::secret::Fingerprint;
use crate::config::{Auth, AuthMode};
use crate::domain::{Principal, Role};

/// Failed tries that an address has in a window before its wrong credentials are answered with 429.
pub const FAILURES_MAX: u32 = 10;
/// That window.
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// What a try to log in came to.
#[derive(Clone, Debug)]
pub enum Login {
    /// Who it is.
    Principal(Arc<Principal>),
    /// No credential was given.
    Missing,
    /// The credential is wrong.
    Wrong,
    /// The credential is wrong, and so were too many before from this address.
    TooMany(Verdict),
    /// No static one, and nothing is known of it here: an identity provider can tell ([`Authenticator::ask`]).
    Unknown,
    /// No static one, and no identity provider can be asked now.
    Unavailable,
}

/// The authenticator; replaced tables take effect with the next request.
#[derive(Debug)]
pub struct Authenticator {
    table: Live<Table>,
    failures: Limiter,
    clock: Clock,
}

#[derive(Debug)]
struct Table {
    mode: AuthMode,
    entries: Vec<(Fingerprint, Arc<Principal>)>,
    nobody: Arc<Principal>,
    oauth: Option<Arc<Oauth>>,
}

impl Table {
    fn new(auth: &Auth, former: Option<&Arc<Oauth>>, clock: &Clock) -> Self {
        let entry = |id: &str, role, credential: Fingerprint| {
            (credential, Arc::new(Principal { id: id.to_string(), role, email: None, credential: Some(credential), grant: None }))
        };
        let mut entries: Vec<_> = auth.token.iter().map(|t| entry("admin", Role::Admin, t.fingerprint())).collect();
        entries.extend(auth.tokens.iter().map(|t| entry(&t.name, t.role, t.token.fingerprint())));
        let oauth = Oauth::new(auth, former, clock).filter(|_| auth.mode != AuthMode::None);
        Table { mode: auth.mode, entries, nobody: Arc::new(admin("admin")), oauth }
    }

    fn find(&self, credential: &str) -> Option<Arc<Principal>> {
        let given = Fingerprint::of(credential);
        // No early end: the time taken tells nothing about which entry was near.
        self.entries.iter().fold(None, |found, (known, principal)| {
            let same = known.matches(&given);
            if same && found.is_none() { Some(principal.clone()) } else { found }
        })
    }
}

/// An admin without a credential: mode `none`, the local socket.
pub fn admin(id: &str) -> Principal {
    Principal { id: id.to_string(), role: Role::Admin, email: None, credential: None, grant: None }
}

impl Authenticator {
    /// An authenticator for that configuration.
    pub fn new(auth: &Auth, clock: Clock) -> Self {
        Authenticator { table: Live::new(Table::new(auth, None, &clock)), failures: Limiter::new(), clock }
    }

    /// Replaces the credentials.
    pub fn replace(&self, auth: &Auth) {
        let former = self.table.get();
        self.table.set(Table::new(auth, former.oauth.as_ref(), &self.clock));
    }

    /// Who comes with that credential from that address, from memory alone. A wrong one is counted.
    pub fn login(&self, credential: Option<&str>, from: IpAddr) -> Login {
        let table = self.table.get();
        if table.mode == AuthMode::None {
            return Login::Principal(table.nobody.clone());
        }
        match credential {
            None => Login::Missing,
            Some(credential) => match table.find(credential) {
                Some(principal) => Login::Principal(principal),
                None => match table.oauth.as_ref().map(|oauth| oauth.known(credential)) {
                    Some(Some(said)) => self.said(said, from),
                    Some(None) => self.unknown(from),
                    None => self.failed(from),
                },
            },
        }
    }

    /// The same for one that was [`Login::Unknown`], by asking the identity providers: may take 5 s.
    pub fn ask(&self, credential: &str, from: IpAddr) -> Login {
        match self.login(Some(credential), from) {
            Login::Unknown => {}
            known => return known,
        }
        let Some(oauth) = self.table.get().oauth.clone() else { return self.failed(from) };
        match self.said(oauth.ask(credential), from) {
            // The providers may have been others by now.
            Login::Principal(principal) if !self.still_good(&principal) => Login::Unavailable,
            login => login,
        }
    }

    fn said(&self, said: Said, from: IpAddr) -> Login {
        match said {
            Said::Principal(principal) => Login::Principal(principal),
            Said::Refused => self.failed(from),
            Said::Down => Login::Unavailable,
        }
    }

    /// Who has guessed too often is not let ask others for every guess.
    fn unknown(&self, from: IpAddr) -> Login {
        let verdict = self.failures.peek(&address_key(from), FAILURES_MAX, FAILURES_WINDOW, self.clock.mono());
        if verdict.allowed { Login::Unknown } else { Login::TooMany(verdict) }
    }

    /// Who comes with that credential, where it decides nothing: a wrong one is neither counted nor refused.
    pub fn recognise(&self, credential: Option<&str>) -> Option<Arc<Principal>> {
        let table = self.table.get();
        if table.mode == AuthMode::None {
            return Some(table.nobody.clone());
        }
        credential.and_then(|c| table.find(c))
    }

    /// The same, and also who was let in by an identity provider lately.
    pub fn recognise_all(&self, credential: Option<&str>) -> Option<Arc<Principal>> {
        self.recognise(credential).or_else(|| match self.table.get().oauth.as_ref()?.known(credential?)? {
            Said::Principal(principal) => Some(principal),
            Said::Refused | Said::Down => None,
        })
    }

    /// Counts a wrong credential of another kind (a channel's) from that address.
    pub fn failed(&self, from: IpAddr) -> Login {
        let verdict = self.failures.take(&address_key(from), FAILURES_MAX, FAILURES_WINDOW, self.clock.mono());
        if verdict.allowed { Login::Wrong } else { Login::TooMany(verdict) }
    }

    /// Whether a principal's credential is still good: asked for open sockets after a change. One that came without a
    /// credential is good as long as nobody is asked for one.
    pub fn still_good(&self, principal: &Principal) -> bool {
        let table = self.table.get();
        if let Some(grant) = &principal.grant {
            return table.mode == AuthMode::None || table.oauth.as_ref().is_some_and(|oauth| oauth.stands(grant));
        }
        match principal.credential {
            None => table.mode == AuthMode::None,
            Some(credential) => {
                table.mode == AuthMode::None
                    || table
                        .entries
                        .iter()
                        .any(|(known, now)| known.matches(&credential) && now.id == principal.id && now.role == principal.role)
            }
        }
    }

    /// The highest role that a principal of that id has now; in mode `none` everybody is admin.
    pub fn role_of(&self, id: &str) -> Option<Role> {
        let table = self.table.get();
        if table.mode == AuthMode::None {
            return Some(Role::Admin);
        }
        let granted = table.oauth.as_ref().and_then(|oauth| oauth.role_of(id));
        table.entries.iter().filter(|(_, p)| p.id == id).map(|(_, p)| p.role).max().max(granted)
    }

    /// The highest role that a credential of the configuration gives a principal of that id. Unlike [`Self::role_of`] it knows nobody in mode
    /// `none`: that everybody at this machine is admin says nothing of those who write from elsewhere.
    pub fn named_role_of(&self, id: &str) -> Option<Role> {
        self.table.get().entries.iter().filter(|(_, p)| p.id == id).map(|(_, p)| p.role).max()
    }

    /// Forgets windows that are over.
    pub fn sweep(&self) {
        self.failures.sweep(self.clock.mono());
    }
}

/// The bearer token of an `Authorization` header's value.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::config::NamedToken;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn auth() -> Auth {
        let named = NamedToken { name: "panel".into(), role: Role::Operator, token: Secret::new("panel-token-0123456789") };
        Auth {
            mode: AuthMode::Token,
            token: Some(Secret::new("admin-token-0123456789")),
            tokens: vec![named],
            oauth_providers: vec![],
            cache: crate::config::Cache { ttl: Duration::from_secs(300), max_entries: 8 },
        }
    }

    fn name(login: Login) -> String {
        match login {
            Login::Principal(p) => format!("{} {}", p.id, p.role.as_str()),
            Login::Missing => "missing".into(),
            Login::Wrong => "wrong".into(),
            Login::TooMany(_) => "too many".into(),
            Login::Unknown => "unknown".into(),
            Login::Unavailable => "unavailable".into(),
        }
    }

    #[test]
    fn credentials() {
        let authenticator = Authenticator::new(&auth(), Clock::manual(0));
        for (credential, expected) in [
            (None, "missing"),
            (Some("admin-token-0123456789"), "admin admin"),
            (Some("panel-token-0123456789"), "panel operator"),
            (Some(""), "wrong"),
            (Some("admin-token-012345678"), "wrong"),
            (Some("admin-token-0123456789 "), "wrong"),
        ] {
            assert_eq!(name(authenticator.login(credential, HOME)), expected, "{credential:?}");
        }
    }

    #[test]
    fn the_budget_of_wrong_tries_is_per_address_and_spares_the_right_token() {
        let clock = Clock::manual(0);
        let authenticator = Authenticator::new(&auth(), clock.clone());
        let tries: Vec<_> = (0..12).map(|_| name(authenticator.login(Some("guess"), HOME))).collect();
        assert_eq!(tries.iter().filter(|t| *t == "wrong").count(), 10);
        assert_eq!(name(authenticator.login(Some("admin-token-0123456789"), HOME)), "admin admin");
        assert_eq!(name(authenticator.login(Some("guess"), "127.0.0.2".parse().unwrap())), "wrong");
        clock.advance(FAILURES_WINDOW);
        assert_eq!(name(authenticator.login(Some("guess"), HOME)), "wrong");
    }

    #[test]
    fn recognising_decides_and_counts_nothing() {
        let authenticator = Authenticator::new(&auth(), Clock::manual(0));
        for _ in 0..20 {
            assert!(authenticator.recognise(Some("guess")).is_none());
        }
        assert_eq!(name(authenticator.login(Some("guess"), HOME)), "wrong");
        assert_eq!(authenticator.recognise(Some("panel-token-0123456789")).unwrap().id, "panel");
        authenticator.replace(&Auth { mode: AuthMode::None, token: None, tokens: vec![], ..auth() });
        assert_eq!(authenticator.recognise(None).unwrap().role, Role::Admin);
        assert_eq!((authenticator.role_of("ana"), authenticator.named_role_of("ana")), (Some(Role::Admin), None));
    }

    #[test]
    fn a_revoked_or_changed_credential_is_no_longer_good() {
        let authenticator = Authenticator::new(&auth(), Clock::manual(0));
        let Login::Principal(panel) = authenticator.login(Some("panel-token-0123456789"), HOME) else { panic!() };
        assert!(authenticator.still_good(&panel));
        let mut lesser = auth();
        lesser.tokens[0].role = Role::User;
        authenticator.replace(&lesser);
        assert!(!authenticator.still_good(&panel), "a lesser role means a new login");
        assert_eq!((authenticator.role_of("panel"), authenticator.role_of("admin")), (Some(Role::User), Some(Role::Admin)));
        assert_eq!(authenticator.role_of("ana"), None);
        assert_eq!((authenticator.named_role_of("panel"), authenticator.named_role_of("ana")), (Some(Role::User), None));
        authenticator.replace(&Auth { tokens: vec![], ..auth() });
        assert!(!authenticator.still_good(&panel));
        assert!(!authenticator.still_good(&admin("admin")), "nobody came in without a credential");
    }

    #[test]
    fn bearer_values() {
        for (value, token) in
            [("Bearer abc", Some("abc")), ("bearer  abc ", Some("abc")), ("Basic abc", None), ("Bearer", None), ("", None)]
        {
            assert_eq!(bearer(value), token, "{value}");
        }
    }
}
