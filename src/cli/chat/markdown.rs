//! Markdown on a terminal, while it comes: bold, code, headings, fenced blocks; the rest stays as it is written.
//!
//! Invariant: nothing is shown twice or lost, in whatever pieces the text comes; only what may still become a mark (three characters at most, or the
//! rest of a fence's line) waits for the next piece. Control characters are shown, not obeyed. A style ends with its line at the latest. It
//! cannot fail.

use crate::cli::output::harmless;

const BOLD: &str = "\x1b[1m";
const CODE: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A text that is being shown.
#[derive(Debug)]
pub struct Markdown {
    /// Whether marks become styles; else the text is shown as it is.
    is_styled: bool,
    /// What is not decided yet.
    held: String,
    is_line_start: bool,
    in_fence: bool,
    bold: bool,
    code: bool,
    heading: bool,
}

impl Markdown {
    /// A new text.
    pub fn new(is_styled: bool) -> Markdown {
        Markdown {
            is_styled,
            held: String::new(),
            is_line_start: true,
            in_fence: false,
            bold: false,
            code: false,
            heading: false,
        }
    }

    /// Takes a piece; gives what is to be written.
    pub fn push(&mut self, piece: &str) -> String {
        if !self.is_styled {
            return harmless(piece);
        }
        self.held.push_str(piece);
        let mut out = String::new();
        while self.step(&mut out, false) {}
        out
    }

    /// The text is over; gives what is left to be written.
    pub fn end(&mut self) -> String {
        let mut out = String::new();
        while self.step(&mut out, true) {}
        if self.bold || self.code || self.heading || self.in_fence {
            out.push_str(PLAIN);
        }
        *self = Markdown::new(self.is_styled);
        out
    }

    /// Shows the next part of what is held; false where that has to wait, or there is none.
    fn step(&mut self, out: &mut String, is_last: bool) -> bool {
        let Some(first) = self.held.chars().next() else { return false };
        if self.is_line_start {
            return self.line_start(out, is_last);
        }
        let taken = match first {
            '\n' => {
                self.close(out);
                out.push('\n');
                if self.in_fence {
                    out.push_str(CODE);
                }
                self.is_line_start = true;
                1
            }
            '*' if !self.in_fence && !self.code => {
                if self.held.len() == 1 && !is_last {
                    return false;
                }
                if self.held.starts_with("**") {
                    self.bold = !self.bold;
                    self.restyle(out);
                    2
                } else {
                    out.push('*');
                    1
                }
            }
            '`' if !self.in_fence => {
                self.code = !self.code;
                self.restyle(out);
                1
            }
            _ => {
                let is_plain = |c: char| !matches!(c, '\n' | '*' | '`');
                let end = self.held.char_indices().skip(1).find(|(_, c)| !is_plain(*c)).map_or(self.held.len(), |(i, _)| i);
                out.push_str(&harmless(&self.held[..end]));
                end
            }
        };
        self.held.drain(..taken);
        true
    }

    /// What stands at a line's beginning: a fence, a heading, or neither.
    fn line_start(&mut self, out: &mut String, is_last: bool) -> bool {
        let may_be_mark = |mark: &str| mark.starts_with(&self.held) && self.held.len() < mark.len() && !is_last;
        if may_be_mark("```") || (!self.in_fence && ["# ", "## ", "### ", "#### "].into_iter().any(may_be_mark)) {
            return false;
        }
        if let Some(rest) = self.held.strip_prefix("```") {
            let Some(end) = rest.find('\n').or(is_last.then_some(rest.len())) else { return false };
            self.in_fence = !self.in_fence;
            out.push_str(&format!("{PLAIN}{DIM}{}{PLAIN}", harmless(&self.held[..3 + end])));
            self.held.drain(..3 + end);
            self.is_line_start = false;
            return true;
        }
        self.is_line_start = false;
        let level = self.held.bytes().take_while(|b| *b == b'#').count();
        if !self.in_fence && (1..=4).contains(&level) && self.held[level..].starts_with(' ') {
            self.heading = true;
            self.restyle(out);
            self.held.drain(..=level);
        }
        true
    }

    /// Ends the styles of a line.
    fn close(&mut self, out: &mut String) {
        if self.bold || self.code || self.heading || self.in_fence {
            out.push_str(PLAIN);
        }
        (self.bold, self.code, self.heading) = (false, false, false);
    }

    fn restyle(&self, out: &mut String) {
        out.push_str(PLAIN);
        if self.bold || self.heading {
            out.push_str(BOLD);
        }
        if self.code {
            out.push_str(CODE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With marks for the styles that a person can read.
    fn shown(pieces: &[&str], is_styled: bool) -> String {
        let mut markdown = Markdown::new(is_styled);
        let mut out: String = pieces.iter().map(|piece| markdown.push(piece)).collect();
        out.push_str(&markdown.end());
        out.replace(PLAIN, "/").replace(BOLD, "B").replace(CODE, "C").replace(DIM, "D")
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(shown(&[text], true), expected, "{text:?} whole");
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
        assert_eq!(shown(&chars, true), expected, "{text:?} by characters");
        for at in (1..text.len()).filter(|&i| text.is_char_boundary(i)) {
            assert_eq!(shown(&[&text[..at], &text[at..]], true), expected, "{text:?} cut at {at}");
        }
        assert_eq!(shown(&[text], false), harmless(text), "without styles it stays as it is");
    }

    #[test]
    fn marks_become_styles_in_whatever_pieces() {
        check("plain, 2 * 3 = 6 你好", "plain, 2 * 3 = 6 你好");
        check("a **bold** word", "a /Bbold/ word");
        check("the `code **x**` and *y*", "the /Ccode **x**/ and *y*");
        check("# Head\nbody", "/BHead/\nbody");
        check("#no head", "#no head");
        check("####### no", "####### no");
        check("x\n```rust\nlet a = `b`; // **\n```\ny", "x\n/D```rust//\nClet a = `b`; // **/\nC/D```/\ny");
        check("**open\nnext", "/Bopen/\nnext");
        check("ends with *", "ends with *");
        check("ends in **bold", "ends in /Bbold/");
        check("``", "//C/".replacen("//C/", "/C/", 1).as_str());
        check("evil \u{1b}[31m", "evil \\u{1b}[31m");
        check("", "");
        check("\n\n", "\n\n");
    }
}
