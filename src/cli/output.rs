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

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown() {
        assert_eq!(super::harmless("a\x1b[31mb\nc"), "a\\u{1b}[31mb\nc");
    }
}
