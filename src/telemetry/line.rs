//! Text that stays on one line and within a bound.
//!
//! Invariant: no character that ends a line, moves a terminal's cursor or turns the direction of writing passes as it is. It
//! cannot fail.

/// The longest line, its newline included, in bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Whether `c` must not reach a reader's screen as it is.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Adds `text` to `line` with JSON's escapes, at most `max` bytes; `…` ends what was cut. Quotes are escaped where `quoted`.
pub(super) fn push_escaped(line: &mut String, text: &str, max: usize, quoted: bool) {
    let mut left = max.saturating_sub('…'.len_utf8());
    let mut chars = text.chars();
    for c in &mut chars {
        let before = line.len();
        push_char(line, c, quoted);
        if line.len() - before > left {
            // It fits all the same if it is the last one and takes the place of the mark.
            if line.len() - before <= left + '…'.len_utf8() && chars.as_str().is_empty() {
                return;
            }
            line.truncate(before);
            line.push('…');
            return;
        }
        left -= line.len() - before;
    }
}

fn push_char(line: &mut String, c: char, quoted: bool) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        '"' if quoted => line.push_str("\\\""),
        '\\' if quoted => line.push_str("\\\\"),
        c if is_unsafe(c) => line.push_str(&format!("\\u{:04x}", u32::from(c))), // all of them lie below U+FFFF
        c => line.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_bounds() {
        for (text, max, quoted, expected) in [
            ("plain", 100, true, "plain"),
            ("a\nb\r\tc", 100, true, "a\\nb\\r\\tc"),
            ("say \"hi\" \\", 100, true, "say \\\"hi\\\" \\\\"),
            ("say \"hi\" \\", 100, false, "say \"hi\" \\"),
            ("\0\u{1b}[31m\u{7f}\u{9b}", 100, true, "\\u0000\\u001b[31m\\u007f\\u009b"),
            ("a\u{2028}b\u{202e}c", 100, false, "a\\u2028b\\u202ec"),
            ("ünï 你好 🦀", 100, true, "ünï 你好 🦀"),
            ("abcdef", 6, true, "abc…"),
            ("abcdef", 7, true, "abcd…"),
            ("abcd", 4, true, "a…"),
            ("a\n\n\n", 6, true, "a\\n…"),
            ("", 0, true, ""),
        ] {
            let mut line = String::new();
            push_escaped(&mut line, text, max, quoted);
            assert_eq!(line, expected, "{text:?} within {max}");
            assert!(line.len() <= max, "{text:?} within {max}");
        }
    }
}
