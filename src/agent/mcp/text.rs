//! Texts of a server's making, made fit for people, models and logs.
//!
//! Invariant: what comes out has no control characters, nothing that turns or hides text (bidi, zero-width, tags), and a bound. Pure
//! but for the log that [`Stderr`] writes to.

use crate::base::error::shorten;
use crate::base::secret::{REDACTED, Secret};

/// Longest line of a server's log that is kept, in bytes.
const LINE_BYTES_MAX: usize = 500;
/// A shorter secret is not blotted out: it would stand in half of all words.
const SECRET_BYTES_MIN: usize = 6;

/// Whether a character is no text but steers how text is shown, or hides in it.
fn steers(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` without what is no text, at most `max` bytes of it, line feeds and tabs kept.
pub fn clean(text: &str, max: usize) -> String {
    let kept = |c: &char| (matches!(c, '\n' | '\t') || !c.is_control()) && !steers(*c);
    shorten(text.chars().filter(kept).collect::<String>().trim(), max)
}

/// The same on one line.
pub fn one_line(text: &str, max: usize) -> String {
    clean(&text.split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// A thread's name for a server: what Linux shows of it.
pub fn thread_name(prefix: &str, server: &str) -> String {
    let room = 15 - prefix.len();
    format!("{prefix}{}", &server[..server.len().min(room)]) // the names of servers are ASCII
}

/// A server's own log, line by line to ours: under a target that names the server, so that the log's flood guard counts it apart.
pub struct Stderr {
    server: String,
    target: String,
    secrets: Vec<Secret>,
    line: Vec<u8>,
}

impl Stderr {
    /// The log of `server`; `secrets` are what it was given and must not tell.
    pub fn new(server: &str, secrets: Vec<Secret>) -> Self {
        Stderr { server: server.to_string(), target: format!("gatelet::mcp::{server}"), secrets, line: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|b| *b == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.keep(part);
            self.end_line();
        }
        self.keep(last);
    }

    /// Writes what has come of the last line.
    pub fn end_line(&mut self) {
        let line = self.shown();
        self.line.clear();
        if !line.is_empty() {
            log::info!(target: &self.target, server = self.server.as_str(); "{line}");
        }
    }

    fn keep(&mut self, part: &[u8]) {
        // Somewhat more than is shown, so that a secret at the edge is whole when it is blotted out.
        let room = (4 * LINE_BYTES_MAX).saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn shown(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.line).into_owned();
        for secret in self.secrets.iter().map(Secret::reveal).filter(|s| s.len() >= SECRET_BYTES_MIN) {
            text = text.replace(secret, REDACTED);
        }
        one_line(&text, LINE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_in_a_text() {
        for (text, cleaned) in [
            ("plain 你好 🙂", "plain 你好 🙂"),
            ("a\u{1b}[31mred\u{7}", "a[31mred"),
            ("evil\u{202e}txt\u{200b}.exe\u{feff}", "eviltxt.exe"),
            ("tag\u{e0041}\u{e0042}", "tag"),
            (" two\n\tlines\r\n", "two\n\tlines"),
        ] {
            assert_eq!(clean(text, 100), cleaned);
        }
        assert_eq!(one_line("a \n\n b\tc", 100), "a b c");
        assert_eq!(clean("äöü", 3), "ä…");
    }

    #[test]
    fn a_servers_log_tells_no_secret_and_has_a_bound() {
        let mut log = Stderr::new("s", vec![Secret::new("canary-0123456789"), Secret::new("ab")]);
        log.feed(b"token=canary-01234");
        log.feed(b"56789; about ab");
        assert_eq!(log.shown(), "token=***; about ab");
        log.feed(b"\nnext");
        assert_eq!(log.shown(), "next");
        log.feed(&vec![b'x'; 1 << 20]);
        assert_eq!(log.shown().len(), LINE_BYTES_MAX + "…".len());
        assert!(log.line.capacity() < 8 * LINE_BYTES_MAX);
    }

    #[test]
    fn thread_names_fit() {
        assert_eq!(thread_name("mcp-", "everything-else"), "mcp-everything-");
        assert_eq!(thread_name("mcp-", "a"), "mcp-a");
    }
}
