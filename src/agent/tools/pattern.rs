//! Patterns of names and texts: `*` stands for any part, every other character for itself.
//!
//! Invariant: the time is linear in pattern and text together, whatever they are: both may come from a peer. It cannot fail.

/// Whether `pattern` fits the whole of `text`. `*` may stand for nothing; there is no escape.
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(text) = text.strip_prefix(first).and_then(|t| t.strip_suffix(last)) else { return false };
    // The leftmost place of each part leaves the most for those behind it: no other needs to be tried.
    let mut left = text;
    middle.split('*').all(|part| match left.find(part) {
        Some(at) => {
            left = &left[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Whether one of `patterns` fits; `None` stands for all.
pub fn any_fits(patterns: Option<&[String]>, text: &str) -> bool {
    patterns.is_none_or(|all| all.iter().any(|p| fits(p, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The meaning, written down without a thought for its cost.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| plainly(rest, &text[n..])),
            Some((c, rest)) => text.first() == Some(c) && plainly(rest, &text[1..]),
        }
    }

    #[test]
    fn table() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "any\nthing", true),
            ("time.*", "time.now", true),
            ("time.*", "time.", true),
            ("time.*", "time", false),
            ("time.*", "mytime.now", false),
            ("*.now", "time.now", true),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a**c", "abc", true),
            ("https://example.org/*", "https://example.org.evil.net/", false),
            ("*ü*", "grün", true),
            ("A", "a", false),
            ("?", "a", false),
            (".*", "time", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn as_the_plain_meaning_on_all_short_texts() {
        let words = |letters: &[u8], longest: usize| {
            let mut all = vec![Vec::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last = last.iter().flat_map(|w: &Vec<u8>| letters.iter().map(|c| [w.as_slice(), &[*c]].concat())).collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        let texts = words(b"ab", 5);
        for pattern in words(b"ab*", 5) {
            for text in &texts {
                let (p, t) = (std::str::from_utf8(&pattern).unwrap(), std::str::from_utf8(text).unwrap());
                assert_eq!(fits(p, t), plainly(&pattern, text), "{p} on {t}");
            }
        }
    }

    #[test]
    fn hostile_ones_take_no_time() {
        // A matcher that goes back would not end within the life of the machine.
        assert!(!fits(&"*a".repeat(500), &("a".repeat(100_000) + "b")));
        assert!(!fits(&format!("{}b*", "a*".repeat(1000)), &"a".repeat(100_000)));
    }
}
