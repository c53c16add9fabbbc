//! Long texts in pieces that a service takes.
//!
//! Invariant: pure, and the same text always gives the same pieces, so that a delivery goes on after its last confirmed one; no piece
//! weighs more than allowed; nothing but white space at a cut is lost, and no character is cut in two; a code block that a cut goes
//! through is closed before it and opened again behind it. Cannot fail.

/// Most marks of a fence, and most bytes of what follows them: a longer line is text.
const MARKS_MAX: usize = 16;
const INFO_MAX: usize = 64;

/// A code block that is open: its marks, and the line to open it again with.
#[derive(Clone, Copy)]
struct Block<'a> {
    marks: &'a str,
    opening: &'a str,
}

/// The mark that opens or closes a code block (three or more of one kind), if the line is one, and what follows it.
pub fn fence(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let (marks, info) = line.split_at(line.len() - line.trim_start_matches(mark).len());
    // ```one line``` opens nothing.
    let is_one = (3..=MARKS_MAX).contains(&marks.len()) && info.len() <= INFO_MAX && !(mark == '`' && info.contains('`'));
    is_one.then_some((marks, info.trim()))
}

/// Whether a line closes the block that `opening` began.
pub fn closes(line: &str, opening: &str) -> bool {
    fence(line).is_some_and(|(marks, info)| info.is_empty() && marks.starts_with(opening))
}

/// The pieces of `text`, each at most `max` by the sum of `weigh` over its characters (`max` is 200 or more). No piece is blank;
/// there is none where the text is.
pub fn pieces(text: &str, max: usize, weigh: fn(char) -> usize) -> Vec<String> {
    let scale = Scale { max, weigh };
    let mut out = Vec::new();
    let mut block: Option<Block<'_>> = None;
    let mut rest = text.trim_start_matches('\n');
    while !rest.trim().is_empty() {
        let (at, open) = scale.cut(rest, block);
        let (piece, next) = rest.split_at(at);
        if !piece.trim().is_empty() {
            let head = block.map(|b| format!("{}\n", b.opening)).unwrap_or_default();
            let closing = open.map(|b| format!("\n{}", b.marks)).unwrap_or_default();
            out.push(format!("{head}{}{closing}", piece.trim_end()));
        }
        (rest, block) = behind(next, open);
    }
    out
}

/// What is behind a cut, without the white space there; the indentation of code stays.
fn behind<'a>(next: &'a str, open: Option<Block<'a>>) -> (&'a str, Option<Block<'a>>) {
    let Some(block) = open else {
        let mark = if next.starts_with('\n') { '\n' } else { ' ' };
        return (next.trim_start_matches(mark), None);
    };
    let Some(line) = next.strip_prefix('\n') else { return (next, open) };
    let (first, others) = line.split_once('\n').unwrap_or((line, ""));
    // The block was closed at the cut.
    if closes(first, block.marks) { (others.trim_start_matches('\n'), None) } else { (line, open) }
}

/// What a piece may weigh, and how that is told.
struct Scale {
    max: usize,
    weigh: fn(char) -> usize,
}

/// Where a piece may end, and the block that is open there.
type Cut<'a> = Option<(usize, Option<Block<'a>>)>;

impl Scale {
    fn weight(&self, text: &str) -> usize {
        text.chars().map(self.weigh).sum()
    }

    /// What the closing of a block adds.
    fn closing(&self, block: Option<Block<'_>>) -> usize {
        block.map_or(0, |b| self.weight("\n") + self.weight(b.marks))
    }

    /// The block that is open behind a line.
    fn after<'a>(&self, line: &'a str, block: Option<Block<'a>>) -> Option<Block<'a>> {
        match block {
            Some(open) => block.filter(|_| !closes(line, open.marks)),
            None => fence(line).map(|(marks, _)| {
                let whole = line.trim();
                Block { marks, opening: if self.weight(whole) > self.max / 4 { marks } else { whole } }
            }),
        }
    }

    /// Where to cut a text in which `block` is open so that what is before fits: at its end if it can be, else between paragraphs,
    /// lines or words if that isn't too early. Never at 0.
    fn cut<'a>(&self, text: &'a str, block: Option<Block<'a>>) -> (usize, Option<Block<'a>>) {
        let room = self.max.saturating_sub(block.map_or(0, |b| self.weight(b.opening) + self.weight("\n")));
        let (mut paragraph, mut line_end, mut word, mut end): (Cut<'_>, Cut<'_>, Cut<'_>, Cut<'_>) = (None, None, None, None);
        let (mut weight, mut open, mut start) = (0, block, 0);
        let mut forced = text.chars().next().map_or(0, char::len_utf8);
        'fitting: for line in text.split_inclusive('\n') {
            let after = self.after(line, open);
            let is_fence = after.is_some() != open.is_some();
            for (at, c) in line.char_indices().map(|(at, c)| (start + at, c)) {
                let fits = |state| at > 0 && weight + self.closing(state) <= room;
                // A block is not left empty behind its opening line, and no fence is cut.
                if c == '\n' && fits(after) && !(is_fence && after.is_some()) {
                    line_end = Some((at, after));
                    if text[at + 1..].starts_with('\n') {
                        paragraph = line_end;
                    }
                } else if c == ' ' && fits(open) && !is_fence {
                    word = Some((at, open));
                }
                weight += (self.weigh)(c);
                if weight > room {
                    break 'fitting;
                }
                if weight + self.closing(open) <= room {
                    forced = forced.max(at + c.len_utf8());
                    end = if is_fence { end } else { Some((forced, open)) };
                }
            }
            (open, start) = (after, start + line.len());
        }
        if start == text.len() && weight + self.closing(open) <= room {
            return (start, open);
        }
        let end = end.unwrap_or((forced, block));
        let late = |cut: &(usize, Option<Block<'a>>)| cut.0 > end.0 / 3;
        paragraph.filter(late).or(line_end.filter(late)).or(word.filter(late)).unwrap_or(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> usize {
        text.encode_utf16().count()
    }

    /// Cuts; checks what must hold of every cut.
    #[track_caller]
    fn check(text: &str, max: usize) -> Vec<String> {
        let parts = pieces(text, max, char::len_utf16);
        for part in &parts {
            assert!(units(part) <= max, "{} units: {part}", units(part));
            assert!(!part.trim().is_empty());
            let mut open: Option<String> = None;
            for line in part.lines() {
                open = match open {
                    Some(marks) if closes(line, &marks) => None,
                    None => fence(line).map(|(marks, _)| marks.to_string()),
                    still => still,
                };
            }
            assert_eq!(open, None, "a block is left open in {part:?}");
        }
        assert_eq!(parts, pieces(text, max, char::len_utf16), "the same again");
        parts
    }

    #[test]
    fn what_fits_is_one_piece_and_what_is_blank_is_none() {
        for (text, expected) in [
            ("", vec![]),
            (" \n ", vec![]),
            (" \n\n ", vec![]),
            ("hi", vec!["hi"]),
            ("hi\n", vec!["hi"]),
            ("  hi", vec!["  hi"]),
            ("a\n\nb\n", vec!["a\n\nb"]),
            ("```\nnever closed", vec!["```\nnever closed\n```"]),
        ] {
            assert_eq!(check(text, 200), expected, "{text:?}");
        }
        assert_eq!(check(&"x".repeat(4096), 4096).len(), 1);
        assert_eq!(check(&format!("{}\n", "x".repeat(4096)), 4096).len(), 1);
        assert_eq!(check(&"x".repeat(4097), 4096).len(), 2);
    }

    #[test]
    fn cuts_are_between_paragraphs_lines_or_words_and_lose_nothing() {
        let word = "word ".repeat(50);
        let text = format!("{word}\n\n{word}\n{word}{}", "🦀".repeat(300));
        let parts = check(&text, 300);
        let squeezed = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(squeezed(&parts.concat()), squeezed(&text));
        for part in &parts {
            assert!(!part.starts_with("ord"), "no word is cut: {part}");
        }
        assert_eq!(parts[0], word.trim_end(), "the first cut is where a paragraph ends");
        assert_eq!(check("aaaaaaaaaa\nbbbbbbbbbb\ncccc", 16), ["aaaaaaaaaa", "bbbbbbbbbb\ncccc"]);
        assert_eq!(check("aaaaaaaaaa\n  - item\n  - other", 20), ["aaaaaaaaaa\n  - item", "  - other"], "an indented line");
        assert_eq!(check("one two three four", 10), ["one two", "three four"]);
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        let parts = check(&"😀".repeat(5000), 4096);
        assert_eq!(parts.iter().map(|p| units(p)).collect::<Vec<_>>(), [4096, 4096, 1808]);
        assert_eq!(check("a😀😀", 2), ["a", "😀", "😀"], "an odd place");
    }

    #[test]
    fn a_fence_is_closed_at_a_cut_and_opened_again() {
        let code = (0..100).map(|n| format!("    line {n}\n")).collect::<String>();
        let text = format!("Look:\n```rust\n{code}```\nand so on");
        let parts = check(&text, 400);
        assert!(parts.len() > 3);
        for part in &parts {
            assert_eq!(part.matches("```").count() % 2, 0, "{part}");
        }
        assert!(parts[1].starts_with("```rust\n    line"), "language and indentation stay: {}", parts[1]);
        let lines: Vec<&str> = parts.iter().flat_map(|p| p.lines()).filter(|l| l.contains("line ")).collect();
        assert_eq!(lines, code.lines().collect::<Vec<_>>());

        let parts = check("so:\n```rust\nlet a = 1;\nlet b = 2;\nlet c = 3;\n```\nend", 40);
        assert_eq!(parts, ["so:\n```rust\nlet a = 1;\nlet b = 2;\n```", "```rust\nlet c = 3;\n```\nend"]);
        let long = format!("```\n{}\n```", "y".repeat(10_000));
        let joined: String = check(&long, 4096).iter().map(|p| p.trim_matches(['`', '\n'])).collect();
        assert_eq!(joined, "y".repeat(10_000));
        check(&format!("~~~~text\n{}```\n{}", "line\n".repeat(2000), "more\n".repeat(2000)), 4096);
        check(&format!("````{}\nx", "i".repeat(5000)), 4096);
    }

    /// Neither before a cut, where a block opens, nor behind it, where one closes.
    #[test]
    fn no_block_is_left_empty() {
        let opens = format!("{}\n```rust\n{}\n```", "a".repeat(180), "let x = 1;\n".repeat(20));
        for part in check(&opens, 200) {
            assert!(!part.contains("```rust\n```"), "{part}");
        }
        for more in 0..8 {
            let code = "x".repeat(190 - more);
            let parts = check(&format!("```\n{code}\n```   \nend"), 200);
            assert_eq!(parts.iter().map(|p| p.matches("```").count()).sum::<usize>(), 2, "{parts:?}");
            assert!(parts.last().is_some_and(|p| p.ends_with("end")));
        }
    }

    #[test]
    fn whatever_comes_the_bound_holds_and_it_ends() {
        let long_info = format!("```{}\n{}", "&".repeat(60), "x\n".repeat(500));
        for text in [
            "`".repeat(5000),
            "```\n".repeat(900),
            "\n".repeat(900) + "x",
            "&".repeat(900),
            "```x ".repeat(500),
            "~~~\n\n\n".repeat(300),
            format!("{}```\nx", " ".repeat(900)),
            long_info,
        ] {
            let weigh = |c| if c == '&' { 5 } else { 1 };
            let parts = pieces(&text, 200, weigh);
            assert!(parts.iter().all(|p| p.chars().map(weigh).sum::<usize>() <= 200), "{}", &text[..10]);
        }
    }

    #[test]
    fn nothing_is_lost() {
        let mut seed = 7u64;
        for round in 0..400 {
            let text: String = (0..400)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    ['a', ' ', '\n', '`', '😀', 'b', '~', 'ß'][(seed >> 33) as usize % 8]
                })
                .collect();
            let letters = |t: &str| t.chars().filter(|c| matches!(c, 'a' | 'b' | 'ß' | '😀')).count();
            let kept: usize = pieces(&text, 60, char::len_utf16).iter().map(|p| letters(p)).sum();
            assert!(kept >= letters(&text), "round {round}: {text:?}");
        }
    }
}
