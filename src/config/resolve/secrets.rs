//! Fetching secrets, and telling placeholders from secrets.
//!
//! Invariant: no problem repeats a secret, or a part of one; a problem names the variable or the file as it was written. A
//! secret that can't be fetched is a problem, never an empty secret.

use std::io::ErrorKind;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{Resolver, Site};
use crate::base::secret::{REDACTED, Secret};
use crate::config::problem::quoted;
use crate::config::section::RawSecret;

/// Characters of a token at least.
const TOKEN_CHARS_MIN: usize = 16;
/// Bytes of any secret at most.
const SECRET_BYTES_MAX: usize = 4096;
/// A text with fewer different characters than this was not drawn at random.
const DIFFERENT_CHARS_MIN: usize = 4;
/// What placeholders contain, in lower case and without `-`, `_`, `.` and blanks.
const PLACEHOLDERS: &[&str] =
    &["changeme", "changethis", "replaceme", "replacethis", "placeholder", "yourtoken", "yoursecret", "tokenhere", "secrethere"];

/// What a secret is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Use {
    /// Callers prove by it who they are: it has to withstand guessing, and to fit into a header.
    Token,
    /// Signs webhooks.
    Signing,
    /// Another server's key: whatever that server gave, as long as it fits into a header.
    Key,
    /// A password that a person chose for another server: it travels in a body, so blanks and any script are fine.
    Password,
    /// The value of a program's environment variable: any text without a NUL, an empty one too.
    Variable,
}

impl Resolver<'_> {
    /// Fetches a secret and notes its fingerprint; `None` where that was a problem.
    pub(super) fn secret(&mut self, raw: &RawSecret, path: &str, site: Site, used: Use) -> Option<Secret> {
        let fetched = match raw {
            RawSecret::Literal(secret) => Ok(secret.reveal().to_string()),
            RawSecret::Env(name) => self.variable(name),
            RawSecret::File(written) => self.file(written),
        };
        let found = match fetched {
            Ok(text) => match complaint(&text, used) {
                None => Ok(Secret::new(text)),
                Some(complaint) => Err(match raw {
                    RawSecret::Literal(_) => complaint,
                    RawSecret::Env(name) => format!("the environment variable {} holds {complaint}", quoted(name)),
                    RawSecret::File(written) => format!("the file {} holds {complaint}", quoted(written)),
                }),
            },
            Err(message) => Err(message),
        };
        match found {
            Ok(secret) => {
                self.secrets.insert(site, secret.fingerprint());
                Some(secret)
            }
            Err(message) => {
                self.out.add(path, message);
                None
            }
        }
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.len() > 128 || !name.bytes().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            // Not repeated: somebody may have put the secret itself here.
            return Err("\"env\" holds no variable's name; expected letters, digits and _".into());
        }
        match (self.env.var)(name) {
            None => Err(format!("the environment variable {} is not set; set it for the gateway's process", quoted(name))),
            Some(text) if text.trim().is_empty() => Err(format!("the environment variable {} is empty", quoted(name))),
            Some(text) => Ok(text),
        }
    }

    fn file(&self, written: &str) -> Result<String, String> {
        let name = quoted(written);
        let bytes = (self.env.read)(&self.env.data_dir.join(written)).map_err(|e| match e.kind() {
            ErrorKind::NotFound if written.starts_with('/') => format!("the file {name} does not exist"),
            ErrorKind::NotFound => format!("the file {name} does not exist in the data directory"),
            ErrorKind::PermissionDenied => format!("the file {name} cannot be read: permission denied"),
            _ => format!("the file {name} cannot be read: {e}"),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| format!("the file {name} is not UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            return Err(format!("the file {name} is empty"));
        }
        Ok(text.to_string())
    }
}

/// What is wrong with a secret, without repeating any of it.
pub(super) fn complaint(text: &str, used: Use) -> Option<String> {
    let bare: String = text.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).collect();
    let mut different: Vec<char> = text.chars().take(SECRET_BYTES_MAX).collect();
    different.sort_unstable();
    different.dedup();
    let chars = text.chars().count();
    if used == Use::Variable && text.contains('\0') {
        return Some("a NUL character, which no environment carries".into());
    }
    if used != Use::Variable && text.trim().is_empty() {
        return Some("an empty text, expected a secret".into());
    }
    if text.len() > SECRET_BYTES_MAX {
        return Some(format!("{} bytes, expected at most {SECRET_BYTES_MAX}", text.len()));
    }
    if text == REDACTED {
        return Some("\"***\", which stands for a secret and is none; write the secret itself, {\"env\"} or {\"file\"}".into());
    }
    if used == Use::Password && text.chars().any(char::is_control) {
        return Some("control characters, which no password has".into());
    }
    if matches!(used, Use::Token | Use::Key) && !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Some("blanks, control characters or characters beyond ASCII, which no header carries".into());
    }
    if text.starts_with("${") || text.starts_with("$(") || text.starts_with('<') && text.ends_with('>') {
        return Some("a placeholder that nothing filled in; variables are written {\"env\": \"NAME\"}".into());
    }
    if matches!(used, Use::Key | Use::Password | Use::Variable) {
        return None;
    }
    if PLACEHOLDERS.iter().any(|p| bare.contains(p)) || different.len() < DIFFERENT_CHARS_MIN && chars >= TOKEN_CHARS_MIN {
        return Some("a placeholder, expected a secret of its own; `openssl rand -hex 32` makes one".into());
    }
    if let (Use::Signing, Some(encoded)) = (used, text.strip_prefix("whsec_")) {
        let key = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        return match key.map(|key| key.len()) {
            Ok(24..=64) => None,
            Ok(bytes) => Some(format!("a whsec_ secret of {bytes} bytes, expected 24 to 64")),
            Err(_) => Some("a whsec_ secret that is not base64".into()),
        };
    }
    if chars < TOKEN_CHARS_MIN {
        return Some(format!("{chars} characters, expected at least {TOKEN_CHARS_MIN}; `openssl rand -hex 32` makes a good one"));
    }
    None
}
