//! Who an authenticated caller is.

use std::time::Duration;

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

/// How far the sender of a message is known, as its channel vouches for it; later ones may have all done that earlier ones may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Nobody vouches for who it is (an unsigned webhook): the safe tools alone.
    #[default]
    Unverified,
    /// Known, without further rights.
    User,
    /// May decide approvals.
    Operator,
    /// May do all.
    Admin,
}

impl Standing {
    /// All of them, in the order of their numbers in the store.
    pub const ALL: [Standing; 4] = [Self::Unverified, Self::User, Self::Operator, Self::Admin];

    /// The name in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Unverified => "unverified",
            Standing::User => "user",
            Standing::Operator => "operator",
            Standing::Admin => "admin",
        }
    }
}

impl From<Role> for Standing {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Standing::User,
            Role::Operator => Standing::Operator,
            Role::Admin => Standing::Admin,
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
    /// What an identity provider's word is good for; `None` where the credential is a static one or none was needed.
    pub grant: Option<Grant>,
}

/// How long a principal is one on an identity provider's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of the provider and all that is configured of it: another configuration means another login.
    pub provider: Fingerprint,
    /// When it ends, by `Clock::mono`: with the token, or with the answer where the provider told no end.
    pub until: Duration,
}
