//! What can be written but not run yet: the one list that later versions shorten.
//!
//! Invariant: a key that would promise something and do nothing is refused. What is switched off promises nothing.

use crate::config::problem::Problems;
use crate::config::raw::{AuthMode, Raw};

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
}
