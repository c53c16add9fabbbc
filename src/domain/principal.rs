//! Who an authenticated caller is.

use serde::Serialize;

use crate::base::secret::Fingerprint;

/// What a principal may do; later ones may do all that earlier ones may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads and writes its own messages and sessions.
    User,
    /// Reads all, sends, decides, retries; changes no configuration.
    Operator,
    /// May do all.
    Admin,
}

impl Role {
    /// The role's name in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// For a static token its name; the userId of its own messages.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// Where the identity provider tells one.
    pub email: Option<String>,
    /// Of the credential it came with, so that revoking that credential finds its sockets. `None` where none was needed
    /// (auth mode none, the local socket).
    pub credential: Option<Fingerprint>,
}
