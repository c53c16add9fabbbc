//! The access token: given by the configuration, or fetched with the password and kept in memory.
//!
//! Invariant: one login at a time, and always for the same device, so that a restart leaves no trail of devices and transaction ids keep
//! their meaning. A token that was refused is asked for anew once; one that is refused right after its login is a matter for a person
//! (`Denied`). Pure, but for the login that it is handed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::secret::Secret;

/// A token that is refused this soon after its login was not outdated: something else is wrong.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Held {
    token: Option<Secret>,
    /// When it was fetched; `None`: it is the configuration's, or there is none.
    fetched: Option<Duration>,
}

/// The token.
pub(super) struct Session {
    held: Mutex<Held>,
    may_log_in: bool,
}

impl Session {
    /// With the configuration's token, if it has one; `may_log_in` where it has a password.
    pub(super) fn new(token: Option<Secret>, may_log_in: bool) -> Self {
        Session { held: Mutex::new(Held { token, fetched: None }), may_log_in }
    }

    /// The token; `login` is called where there is none yet.
    ///
    /// # Errors
    /// Those of `login`.
    pub(super) fn token(&self, now: Duration, login: impl FnOnce() -> Result<Secret>) -> Result<Secret> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &held.token {
            return Ok(token.clone());
        }
        let token = login()?;
        *held = Held { token: Some(token.clone()), fetched: Some(now) };
        Ok(token)
    }

    /// This token was refused: forgets it, unless somebody else has done so already.
    ///
    /// # Errors
    /// `Denied` where no other one can be had.
    pub(super) fn refused(&self, token: &Secret, now: Duration) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.token.as_ref().is_none_or(|t| !t.matches(token.reveal())) {
            return Ok(());
        }
        let denied = |text: &str, hint: &str| Err(Error::new(ErrorKind::Denied, text).hint(hint));
        if !self.may_log_in {
            return denied(
                "the homeserver does not know the access token any more",
                "set a new accessToken, or a password to log in with",
            );
        }
        let fresh = held.fetched.is_some_and(|at| now.saturating_sub(at) < FRESH);
        // A later try, after the supervisor's pause, logs in again.
        held.token = None;
        if fresh {
            return denied(
                "the homeserver refuses an access token that it has just given",
                "see whether another program logs in as the same device",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_token_is_fetched_once_and_again_when_it_is_refused() {
        let session = Session::new(None, true);
        let first = session.token(SECOND, || Ok(Secret::new("one"))).unwrap();
        assert_eq!(session.token(SECOND, || panic!("there is one")).unwrap().reveal(), "one");
        session.refused(&first, SECOND * 60).unwrap();
        let second = session.token(SECOND * 60, || Ok(Secret::new("two"))).unwrap();
        assert_eq!(second.reveal(), "two");
        session.refused(&first, SECOND * 61).unwrap(); // a slow caller: the new one stays
        assert_eq!(session.token(SECOND * 61, || panic!("there is one")).unwrap().reveal(), "two");
        let again = session.refused(&second, SECOND * 62).unwrap_err();
        assert_eq!(again.kind, ErrorKind::Denied, "refused as soon as given: {again}");
        assert_eq!(session.token(SECOND * 400, || Ok(Secret::new("three"))).unwrap().reveal(), "three");
    }

    #[test]
    fn a_configured_token_that_is_refused_is_for_a_person_to_mend() {
        let session = Session::new(Some(Secret::new("given")), false);
        let token = session.token(SECOND, || panic!("no login")).unwrap();
        assert_eq!(session.refused(&token, SECOND * 9999).unwrap_err().kind, ErrorKind::Denied);
        assert!(session.token(SECOND, || panic!("no login")).is_ok(), "it is kept: it may be the server that errs");
        let both = Session::new(Some(Secret::new("given")), true);
        both.refused(&Secret::new("given"), SECOND).unwrap();
        assert_eq!(both.token(SECOND, || Ok(Secret::new("by password"))).unwrap().reveal(), "by password");
    }
}
