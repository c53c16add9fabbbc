//! Printing. A reader that went away (a closed pipe) ends the command quietly.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the command line's own place to print

use std::io::{IsTerminal, Write};

/// A line to standard output.
pub fn text(line: &str) {
    write(&format!("{line}\n"));
}

/// Raw text to standard output, at once.
pub fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0); // nobody reads on: as for any filter, that is no failure
    }
}

/// What went wrong, to standard error.
pub fn error(line: &str) {
    let _ = writeln!(std::io::stderr(), "gatelet: {line}");
}

/// What is said beside the answer, to standard error.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One problem of several, to standard error.
pub fn problem(line: &str) {
    let _ = writeln!(std::io::stderr(), "  {line}");
}

/// Whether standard output is a terminal that wants colour.
pub fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// `text` in a terminal's style (`1` bold, `2` dim, `32` green, `33` yellow, `31` red), where colour is wanted.
pub fn styled(style: &str, text: &str) -> String {
    if colour() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
}

/// A document as one line for programs, or as `show` has it for people.
pub fn document(json: bool, document: &serde_json::Value, show: impl FnOnce(&serde_json::Value)) {
    if json { text(&document.to_string()) } else { show(document) }
}

/// A text field of a document from elsewhere, fit for a terminal; `-` where it is absent.
pub fn field(document: &serde_json::Value, key: &str) -> String {
    document[key].as_str().map_or("-".to_string(), harmless)
}

/// Text from elsewhere, fit for a terminal: control characters other than line ends and tabs are shown, not obeyed.
pub fn harmless(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// The time of day of an RFC 3339 time, to the second; the whole text where it is none.
pub fn time_of_day(time: &str) -> String {
    time.get(11..19).map_or_else(|| harmless(time), harmless)
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// How far something is, on a line of the terminal's that is written over; nothing where standard error is no terminal.
pub struct Progress {
    is_shown: bool,
    last: Option<u64>,
}

impl Progress {
    /// One that is shown to people alone.
    pub fn new(json: bool) -> Progress {
        Progress { is_shown: !json && std::io::stderr().is_terminal(), last: None }
    }

    /// Shows how much of how much is done.
    pub fn show(&mut self, what: &str, done: u64, of: u64) {
        let percent = (done * 100).checked_div(of).unwrap_or(100);
        if self.is_shown && self.last != Some(percent) {
            self.last = Some(percent);
            let _ = write!(std::io::stderr(), "\r{what}: {} of {} ({percent} %) ", size(done), size(of)); // only shown
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.is_shown && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K"); // only shown
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown() {
        assert_eq!(super::harmless("a\x1b[31mb\nc"), "a\\u{1b}[31mb\nc");
    }
}
