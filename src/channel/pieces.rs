//! Long texts in pieces that a service takes.
//!
//! Invariant: the same text gives the same pieces, so that a delivery goes on after its last confirmed one; no piece weighs more than
//! allowed; nothing but white space at a cut is lost; a code fence that a cut goes through is closed before it and opened again
//! behind it. Cannot fail.

/// What a fence that is closed at a cut needs: a line break and three backticks.
const CLOSING: &str = "\n```";
/// The longest opening line that is repeated behind a cut.
const OPENING_MAX: usize = 40;

/// The pieces of `text`, each at most `max` by the sum of `weigh` over its characters (`max` is 200 or more). No piece is blank;
/// there is none where the text is.
pub fn pieces(text: &str, max: usize, weigh: fn(char) -> usize) -> Vec<String> {
    let weight = |text: &str| text.chars().map(weigh).sum::<usize>();
    let mut out = Vec::new();
    let mut fence: Option<String> = None;
    let mut rest = text;
    while !rest.trim().is_empty() {
        let head = fence.as_ref().map(|f| format!("{f}\n")).unwrap_or_default();
        let room = max.saturating_sub(weight(&head));
        if weight(rest) <= room {
            out.push(format!("{head}{}", rest.trim_end()));
            break;
        }
        let mut at = cut(rest, room.saturating_sub(weight(CLOSING)), weigh);
        // A fence that opens in the last line is left to the next piece.
        let last_line = rest[..at].trim_end().rfind('\n').map_or(0, |i| i + 1);
        if fence.is_none() && last_line > 0 && is_fence(&rest[last_line..at]) && fence_after(None, &rest[..last_line]).is_none() {
            at = last_line;
        }
        let (piece, next) = rest.split_at(at);
        fence = fence_after(fence, piece);
        let closing = if fence.is_some() { CLOSING } else { "" };
        if !piece.trim().is_empty() {
            out.push(format!("{head}{}{closing}", piece.trim_end()));
        }
        rest = match &fence {
            Some(_) => next.strip_prefix('\n').unwrap_or(next), // the indentation of code stays
            None => next.trim_start_matches([' ', '\n']),
        };
    }
    out
}

/// Where to cut so that what is before weighs at most `room`: between paragraphs, lines or words if that isn't too early.
fn cut(text: &str, room: usize, weigh: fn(char) -> usize) -> usize {
    let mut weight = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        weight += weigh(c);
        if weight > room && at > 0 {
            break;
        }
        end = at + c.len_utf8();
    }
    let fitting = &text[..end];
    let late = |at: &usize| *at > end / 3;
    fitting
        .rfind("\n\n")
        .filter(late)
        .or_else(|| fitting.rfind('\n').filter(late))
        .or_else(|| fitting.rfind(' ').filter(late))
        .unwrap_or(end)
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// The opening line of the fence that is open behind `text`, if one is.
fn fence_after(mut fence: Option<String>, text: &str) -> Option<String> {
    for line in text.lines().filter(|l| is_fence(l)) {
        fence = match fence {
            Some(open) if line.trim() != "```" => Some(open),
            Some(_) => None,
            // ```one line``` opens nothing.
            None if line.trim_start()[3..].contains("```") => None,
            None if line.trim().len() > OPENING_MAX => Some("```".to_string()),
            None => Some(line.trim().to_string()),
        };
    }
    fence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(c: char) -> usize {
        c.len_utf16()
    }

    #[test]
    fn what_fits_is_one_piece_and_what_is_blank_is_none() {
        for (text, expected) in [("", vec![]), (" \n ", vec![]), ("hi\n", vec!["hi"]), ("  hi", vec!["  hi"])] {
            assert_eq!(pieces(text, 200, utf16), expected, "{text:?}");
        }
    }

    #[test]
    fn cuts_are_between_paragraphs_lines_or_words_and_lose_nothing() {
        let word = "word ".repeat(50);
        let text = format!("{word}\n\n{word}\n{word}{}", "🦀".repeat(300));
        let parts = pieces(&text, 300, utf16);
        let squeezed = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(squeezed(&parts.concat()), squeezed(&text));
        for part in &parts {
            assert!(part.encode_utf16().count() <= 300, "{}", part.len());
            assert!(!part.starts_with("ord"), "no word is cut: {part}");
        }
        assert_eq!(parts[0], word.trim_end(), "the first cut is where a paragraph ends");
    }

    #[test]
    fn a_fence_is_closed_at_a_cut_and_opened_again() {
        let code = (0..100).map(|n| format!("    line {n}\n")).collect::<String>();
        let text = format!("Look:\n```rust\n{code}```\nand so on");
        let parts = pieces(&text, 400, utf16);
        assert!(parts.len() > 3);
        for part in &parts {
            assert!(part.chars().map(utf16).sum::<usize>() <= 400);
            assert_eq!(part.matches("```").count() % 2, 0, "{part}");
        }
        assert!(parts[1].starts_with("```rust\n    line"), "language and indentation stay: {}", parts[1]);
        let lines: Vec<&str> = parts.iter().flat_map(|p| p.lines()).filter(|l| l.contains("line ")).collect();
        assert_eq!(lines, code.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_fence_that_opens_at_the_cut_is_not_left_empty() {
        let text = format!("{}\n```rust\n{}\n```", "a".repeat(180), "let x = 1;\n".repeat(20));
        for part in pieces(&text, 200, utf16) {
            assert!(!part.contains("```rust\n```"), "{part}");
            assert!(part.len() <= 200);
        }
    }

    #[test]
    fn whatever_comes_the_bound_holds_and_it_ends() {
        for text in ["`".repeat(5000), "```\n".repeat(900), "\n".repeat(900) + "x", "&".repeat(900), "```x ".repeat(500)] {
            let weigh = |c| if c == '&' { 5 } else { 1 };
            let parts = pieces(&text, 200, weigh);
            assert!(parts.iter().all(|p| p.chars().map(weigh).sum::<usize>() <= 200), "{}", &text[..10]);
        }
    }
}
