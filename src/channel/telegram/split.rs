//! One reply as messages that Telegram takes.
//!
//! Invariant: pure, and the same text always gives the same parts, since a delivery goes on after its last confirmed one. No part has
//! more than 4,096 UTF-16 units, counted before the markup is read, so that it fits with and without; no character is cut in two; a code
//! block that goes on in the next part is closed in this one and opened again in that one.

/// Most UTF-16 units of one message.
pub const UNITS_MAX: usize = 4096;

/// What follows the marks of a code block is a language, and no longer than this.
const INFO_MAX: usize = 64;

/// The parts of a text, none of them blank; empty where there is nothing to say.
pub fn parts(text: &str) -> Vec<String> {
    within(text, UNITS_MAX)
}

fn within(text: &str, max: usize) -> Vec<String> {
    let mut out = Cutter { parts: Vec::new(), part: String::new(), fence: None, max };
    for line in text.split_inclusive('\n') {
        out.line(line);
    }
    out.flush();
    out.parts
}

/// UTF-16 units of a text.
pub fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The mark that opens or closes a code block (three or more of one kind), if the line is one, and what follows it.
pub fn fence(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.chars().take_while(|c| *c == mark).count();
    let (marks, rest) = line.split_at(length);
    (length >= 3 && rest.len() <= INFO_MAX && !(mark == '`' && rest.contains('`'))).then_some((marks, rest.trim()))
}

/// Whether a line closes the block that `opening` began.
pub fn closes(line: &str, opening: &str) -> bool {
    fence(line).is_some_and(|(marks, rest)| rest.is_empty() && marks.starts_with(opening))
}

struct Cutter {
    parts: Vec<String>,
    part: String,
    /// The marks of the open code block, and its opening line.
    fence: Option<(String, String)>,
    max: usize,
}

impl Cutter {
    fn line(&mut self, line: &str) {
        match &self.fence {
            Some((marks, _)) if closes(line, marks) => {
                // Its own closing line always has room: it was kept for it.
                self.part.push_str(line);
                self.fence = None;
                return;
            }
            Some(_) => {}
            None => {
                if let Some((marks, rest)) = fence(line) {
                    let opening = format!("{marks}{rest}\n");
                    if units(&self.part) + units(&opening) * 2 + units(line) > self.max {
                        self.flush();
                    }
                    self.part.push_str(line);
                    self.fence = Some((marks.to_string(), opening));
                    return;
                }
            }
        }
        let mut rest = line;
        while units(rest) > self.room() {
            let is_begun = self.part.trim_end() != self.fence.as_ref().map_or("", |(_, opening)| opening.trim_end());
            if is_begun {
                self.flush(); // a whole line is not cut where it fits the next part
                continue;
            }
            let (now, later) = rest.split_at(cut(rest, self.room()));
            self.part.push_str(now);
            self.flush();
            rest = later;
        }
        self.part.push_str(rest);
    }

    /// What still fits, the closing of an open block kept free.
    fn room(&self) -> usize {
        let closing = self.fence.as_ref().map_or(0, |(marks, _)| units(marks) + 2);
        self.max.saturating_sub(units(&self.part) + closing)
    }

    fn flush(&mut self) {
        let mut part = std::mem::take(&mut self.part);
        if let Some((marks, opening)) = &self.fence {
            if !part.ends_with('\n') {
                part.push('\n');
            }
            part.push_str(marks);
            self.part = opening.clone();
        }
        if !part.trim().is_empty() {
            self.parts.push(part.trim_end().trim_start_matches('\n').to_string());
        }
    }
}

/// Where to cut a line so that at most `max` units come first: behind its last space in the second half, else anywhere between two
/// characters. In bytes, never 0.
fn cut(line: &str, max: usize) -> usize {
    let (mut used, mut end, mut space) = (0, 0, 0);
    for (at, c) in line.char_indices() {
        used += c.len_utf16();
        if used > max && at > 0 {
            break;
        }
        end = at + c.len_utf8();
        if c == ' ' && used > max / 2 {
            space = end;
        }
    }
    if space > 0 { space } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts; checks what must hold of every cut.
    #[track_caller]
    fn check(text: &str, max: usize) -> Vec<String> {
        let parts = within(text, max);
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
        assert_eq!(parts, within(text, max), "the same again");
        parts
    }

    #[test]
    fn short_ones_are_whole_and_blank_ones_nothing() {
        for (text, wanted) in [("hi", vec!["hi"]), ("", vec![]), (" \n\n ", vec![]), ("a\n\nb\n", vec!["a\n\nb"])] {
            assert_eq!(check(text, 64), wanted, "{text:?}");
        }
        assert_eq!(parts(&"x".repeat(4096)).len(), 1);
        assert_eq!(parts(&"x".repeat(4097)).len(), 2);
    }

    #[test]
    fn lines_are_kept_whole_where_they_fit() {
        assert_eq!(check("aaaaaaaaaa\nbbbbbbbbbb\ncccc", 16), ["aaaaaaaaaa", "bbbbbbbbbb\ncccc"]);
        assert_eq!(check("one two three four", 10), ["one two", "three four"]);
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        let parts = check(&"😀".repeat(5000), UNITS_MAX);
        assert_eq!(parts.iter().map(|p| units(p)).collect::<Vec<_>>(), [4096, 4096, 1808]);
        assert_eq!(check("a😀😀", 2), ["a", "😀", "😀"], "an odd place");
    }

    #[test]
    fn code_blocks_are_closed_and_opened_again() {
        let parts = check("so:\n```rust\nlet a = 1;\nlet b = 2;\nlet c = 3;\n```\nend", 40);
        assert_eq!(parts[0], "so:\n```rust\nlet a = 1;\nlet b = 2;\n```");
        assert_eq!(parts[1], "```rust\nlet c = 3;\n```\nend");
        let long = format!("```\n{}\n```", "y".repeat(10_000));
        let joined: String = check(&long, UNITS_MAX).iter().map(|p| p.trim_matches(['`', '\n'])).collect();
        assert_eq!(joined, "y".repeat(10_000));
        check(&format!("~~~~text\n{}```\n{}", "line\n".repeat(2000), "more\n".repeat(2000)), UNITS_MAX);
        check(&format!("````{}\nx", "i".repeat(5000)), UNITS_MAX);
    }

    #[test]
    fn nothing_is_lost() {
        let mut seed = 7u64;
        for round in 0..200 {
            let text: String = (0..400)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    ['a', ' ', '\n', '`', '😀', 'b', '~', 'ß'][(seed >> 33) as usize % 8]
                })
                .collect();
            let letters = |t: &str| t.chars().filter(|c| matches!(c, 'a' | 'b' | 'ß' | '😀')).count();
            let kept: usize = within(&text, 60).iter().map(|p| letters(p)).sum();
            assert!(kept >= letters(&text), "round {round}: {text:?}");
        }
    }
}
