//! Calls whose repeat would do twice what they do: a message that is sent, say.
//!
//! Invariant: such a call goes to the wire once. Where its request left whole and no verdict came back, the error says that what became
//! of it is not known ([`ErrorKind::Unclear`]); where it did not leave whole, the peer can't have acted, and the error is the ordinary one.
//! Pure.

use crate::base::error::{Error, ErrorKind};
use crate::net::client::Call;

impl Call {
    /// The same call for what must not be done twice: the client itself never repeats it once it has left, and what then fails without
    /// the peer's verdict (also by an interrupt of ours) is `Unclear`.
    pub fn once(self) -> Self {
        Call { is_once: true, ..self }
    }
}

/// Whether a status that is no success says that the peer did not act: a server that fails, or waited for another one in vain, may have.
pub fn is_verdict(status: u16) -> bool {
    !(500..=599).contains(&status) || status == 503
}

/// The error as it is where the peer's doing is known, else as an unclear one.
pub fn clear_if(is_clear: bool, error: Error) -> Error {
    if is_clear { error } else { unclear(error) }
}

/// The error of a call of which it is not known what came of it.
pub fn unclear(error: Error) -> Error {
    Error { kind: ErrorKind::Unclear, text: format!("{}; whether it did what it was asked to is not known", error.text), ..error }
}
