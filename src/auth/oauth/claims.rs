//! What a provider said about a token, as a principal.
//!
//! Invariant: the role comes by the configured rules alone, and is `user` without one; an id can't be anybody else's whom the
//! configuration names: it is the subject where nobody else is called so and the provider is the first, else it bears the provider's
//! name, or is the one that `users` gives it. A claim of an unexpected form counts as absent, and an absent
//! one never gives more. Fails by giving nothing.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::OauthProvider;
use crate::domain::Role;

/// How far a provider's clock may be ahead of ours.
const LEEWAY_S: i64 = 60;
/// Longest id of a principal, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Longest email that is kept.
const EMAIL_BYTES_MAX: usize = 254;

/// What the claims come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The principal's id.
    pub id: String,
    /// Its role.
    pub role: Role,
    /// Its email, where the provider doesn't say that it is not verified.
    pub email: Option<String>,
    /// How long the token is good yet; `None` where it doesn't say.
    pub left: Option<Duration>,
}

/// Reads the claims about a good token; `None` where they say that it is not good now, or not whose it is.
pub fn person(claims: &Map<String, Value>, provider: &OauthProvider, now_ms: i64) -> Option<Person> {
    let now_s = now_ms.div_euclid(1000);
    for start in ["nbf", "iat"] {
        if seconds(claims, start)?.is_some_and(|at| at > now_s.saturating_add(LEEWAY_S)) {
            return None;
        }
    }
    let left = match seconds(claims, "exp")? {
        Some(end) => {
            let left_ms = end.checked_mul(1000)?.checked_sub(now_ms)?;
            Some(Duration::from_millis(u64::try_from(left_ms).ok().filter(|ms| *ms > 0)?))
        }
        None => None,
    };
    let subject = claims.get(&provider.user_id_claim)?.as_str()?;
    let id = match provider.users.get(subject) {
        Some(user) => user.clone(),
        None if provider.is_first && !subject.contains(':') && !provider.taken.contains(subject) => subject.to_string(),
        None => format!("{}:{subject}", provider.name),
    };
    if subject.trim().is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return None;
    }
    let rule = provider.roles.iter().find(|rule| claims.get(&rule.claim).is_some_and(|v| has(v, &rule.equals)));
    let email = claims.get("email").and_then(Value::as_str).filter(|_| claims.get("email_verified") != Some(&Value::Bool(false)));
    let email = email.filter(|e| e.len() <= EMAIL_BYTES_MAX && !e.chars().any(char::is_control)).map(str::to_string);
    Some(Person { id, role: rule.map_or(Role::User, |r| r.role), email, left })
}

/// Whether the claims are for `audience`.
pub fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|a| a.as_str() == Some(audience)),
        _ => false,
    }
}

/// A time claim: `None` where it is there and is no time.
fn seconds(claims: &Map<String, Value>, name: &str) -> Option<Option<i64>> {
    match claims.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(v) => {
            let whole = v.as_i64().or_else(|| v.as_f64().filter(|f| f.abs() < 1e15).map(|f| f as i64));
            whole.map(Some)
        }
    }
}

/// Whether a claim is that text, or a list that holds it. A number or a truth value is compared as JSON writes it; words of one text
/// are not taken apart.
fn has(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Array(list) => list.iter().any(|v| !v.is_array() && has(v, wanted)),
        Value::Bool(truth) => truth.to_string() == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Object(_) => false,
    }
}
