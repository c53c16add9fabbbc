//! A text that must not be seen: it can be used, compared and digested, not printed.
//!
//! Invariant: neither Debug, Display nor JSON shows more than `***`; comparison takes the same time wherever the first
//! difference stands. It cannot fail.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What stands for a secret wherever people or programs read it.
pub const REDACTED: &str = "***";

/// SHA-256 of a credential: what is kept and compared, in place of the credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The digest of `text`.
    pub fn of(text: &str) -> Self {
        Fingerprint(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether both are of one text, in constant time.
    pub fn matches(&self, other: &Fingerprint) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// A secret text.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends or signs with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its digest.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// Whether it is `other`, in constant time.
    pub fn matches(&self, other: &str) -> bool {
        self.fingerprint().matches(&Fingerprint::of(other))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("canary-0123456789");
        let shown = format!("{secret} {secret:?} {:?} {}", secret.fingerprint(), serde_json::to_string(&secret).unwrap());
        assert_eq!(shown, "*** *** *** \"***\"");
    }

    #[test]
    fn compares_by_content() {
        assert!(Secret::new("a").matches("a"));
        for other in ["", "b", "aa", "A"] {
            assert!(!Secret::new("a").matches(other), "{other}");
        }
    }
}
