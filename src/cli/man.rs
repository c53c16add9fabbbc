//! `gatelet man`: the manual page in roff, from the table.
//!
//! Invariant: a text of the table never becomes a request of roff's: backslashes, dashes, and dots and quotes at a line's beginning are
//! escaped. It cannot fail.

use crate::cli::define::{COMMANDS, EVERYWHERE, Opt};
use crate::cli::help::{ABOUT, about, called, usage};
use crate::cli::options::Options;
use crate::cli::{Failure, output};

/// Codes, variables and files, which no command has for itself.
const REST: &str = "\
.SH ENVIRONMENT
.TP
.B GATELET_CONFIG, GATELET_DATA_DIR, GATELET_URL, GATELET_TOKEN
Stand in for the options of these names.
.TP
.B STATE_DIRECTORY, XDG_STATE_HOME
Where the data directory is, if nothing else names it: set by systemd, or $XDG_STATE_HOME/gatelet, or else ~/.local/state/gatelet.
.TP
.B NO_COLOR
Not empty: no colour. There is none on a pipe anyway.
.SH FILES
The configuration is the first of: what \\-\\-config or $GATELET_CONFIG names, config/gatelet.json, /etc/gatelet/gatelet.json,
gatelet.json in the data directory.
.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
Failed.
.TP
.B 2
Wrong usage.
.TP
.B 3
Invalid configuration; every problem is listed with its path.
.TP
.B 4
The gateway can't be reached.
.TP
.B 5
Refused: no or a wrong credential, or a role that may not do that.
";

/// Runs it.
///
/// # Errors
/// None of its own.
pub fn run(_: &Options) -> Result<(), Failure> {
    output::write(&page());
    Ok(())
}

/// The page.
pub fn page() -> String {
    let mut out = format!(".TH GATELET 1 \"\" \"gatelet {}\" \"User Commands\"\n", env!("CARGO_PKG_VERSION"));
    out.push_str(&format!(".SH NAME\ngatelet \\- {}\n", text(ABOUT)));
    out.push_str(".SH SYNOPSIS\n.B gatelet\n[\\fICOMMAND\\fR] [\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n");
    out.push_str("Without a command, gatelet serves. The other commands set it up, or talk to the running one: over its local\n");
    out.push_str("socket where this user may, or else at the address of its configuration or of \\-\\-url.\n.SH COMMANDS\n");
    for command in COMMANDS {
        out.push_str(&format!(".SS {}\n", text(command.name)));
        for (i, form) in command.forms.iter().enumerate() {
            out.push_str(&format!("{}.B {}\n", if i == 0 { "" } else { ".br\n" }, text(&usage(command, form, i == 0))));
        }
        out.push_str(&format!(".PP\n{}.\n", text(&capital(command.about))));
        for form in command.forms.iter().filter(|f| !f.about.is_empty()) {
            out.push_str(&format!(".TP\n.B {}\n{}.\n", text(form.words), text(&capital(form.about))));
        }
        for paragraph in command.more.lines() {
            out.push_str(&format!(".PP\n{}\n", text(paragraph)));
        }
        command.forms.iter().flat_map(|f| f.options).chain(command.options).for_each(|o| option(&mut out, o));
    }
    out.push_str(".SH OPTIONS OF EVERY COMMAND\n");
    EVERYWHERE.iter().for_each(|o| option(&mut out, o));
    out.push_str(REST);
    out
}

fn option(out: &mut String, option: &Opt) {
    out.push_str(&format!(".TP\n.B {}\n{}.\n", text(&called(option)), text(&capital(&about(option)))));
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// A text that roff shows as it is.
fn text(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_are_no_requests() {
        for (text, expected) in [("a-b", "a\\-b"), (".TH", "\\&.TH"), ("'s", "\\&'s"), ("\\fB", "\\efB")] {
            assert_eq!(super::text(text), expected);
        }
    }

    #[test]
    fn the_page_names_every_command() {
        let page = super::page();
        for command in super::COMMANDS {
            assert!(page.contains(&format!("\n.SS {}\n", command.name)), "{}", command.name);
        }
    }
}
