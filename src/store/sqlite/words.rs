//! The words of notes: what the index is fed with, and what a search asks it.
//!
//! Invariant: a text is cut into the same words when it is indexed and when it is sought; no sign of it is ever syntax. The
//! index forgets a note by being told its words again: whoever changes `indexed` adds a migration that fills the index anew.
//! It cannot fail.
//!
//! Scripts that set no blanks between words have no words to find without a dictionary. There each character stands alone in
//! the index, and a search asks for pairs of neighbours: a word of two or more characters is found wherever it stands.

use crate::base::error::shorten;

/// How much of a text is sought, in bytes.
const SOUGHT_BYTES: usize = 2_000;
/// How many words of it.
const SOUGHT_WORDS: usize = 64;

/// Words that stand in too many English sentences to say what one is about.
const COMMON: &str = " a about after all also am an and any are as at be been but by can could did do does for from get had has \
    have he her him his how i if in into is it its just let ll may me more my no not of on or our out please re s she should so \
    some t tell than that the their them then there these they this those to up us ve was we were what when where which who why \
    will with would you your ";

/// What a character is to the index.
enum Sign {
    /// Nothing: words go on over it.
    Nothing,
    /// It stands between words.
    Between,
    /// A part of a word.
    Letter(char),
    /// Sharp s, a part of a word that is written as two.
    SharpS,
    /// A character of a script without blanks.
    Alone(char),
    /// A picture: a word by itself.
    Picture(char),
}

fn sign(c: char) -> Sign {
    let moved = |by: i64| u32::try_from(i64::from(u32::from(c)) + by).ok().and_then(char::from_u32).unwrap_or(c);
    match u32::from(c) {
        // Case is folded by the index.
        0x30..=0x39 | 0x41..=0x5A | 0x61..=0x7A => Sign::Letter(c),
        0..=0x7F => Sign::Between,
        0xDF | 0x1E9E => Sign::SharpS,
        // Joiners, selectors, accents that stand apart from their letter, vowel points that most writers leave out.
        0xAD
        | 0x0300..=0x036F
        | 0x0591..=0x05C7
        | 0x064B..=0x0652
        | 0x200B..=0x200F
        | 0x2060
        | 0xFE00..=0xFE0F
        | 0xFEFF
        | 0x1F3FB..=0x1F3FF
        | 0xE0000..=0xE01EF => Sign::Nothing,
        0x80..=0xA9 | 0xAB..=0xB4 | 0xB6..=0xB9 | 0xBB..=0xBF | 0xD7 | 0xF7 => Sign::Between,
        // Digits and letters in the width of Han characters.
        0xFF10..=0xFF19 | 0xFF21..=0xFF3A | 0xFF41..=0xFF5A => Sign::Letter(moved(-0xFEE0)),
        // Pictures, as characters that the index takes for letters: those that are free for private use.
        0x2600..=0x27BF => Sign::Picture(moved(0xEB00 - 0x2600)),
        0x1F000..=0x1FAFF => Sign::Picture(moved(0xE000 - 0x1F000)),
        // Thai, Lao; Burmese; Korean; Khmer; Tai; Balinese; Han with its signs, kana, Korean letters; Yi; Javanese.
        0x0E01..=0x0E3A
        | 0x0E40..=0x0E4E
        | 0x0E50..=0x0E59
        | 0x0E81..=0x0EDF
        | 0x1000..=0x1049
        | 0x1050..=0x109D
        | 0x1100..=0x11FF
        | 0x1780..=0x17D3
        | 0x17E0..=0x17E9
        | 0x1950..=0x19DF
        | 0x1A20..=0x1A9F
        | 0x1B00..=0x1B4F
        | 0x2E80..=0x2FDF
        | 0x3005..=0x3007
        | 0x3041..=0x309F
        | 0x30A1..=0x30FA
        | 0x30FC..=0x31BF
        | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0xA4CF
        | 0xA960..=0xA97F
        | 0xA980..=0xA9C0
        | 0xA9E0..=0xA9FE
        | 0xAA60..=0xAA7F
        | 0xAC00..=0xD7FB
        | 0xF900..=0xFAFF
        | 0xFF66..=0xFFDC
        | 0x20000..=0x3FFFF => Sign::Alone(c),
        0x2000..=0x206F | 0x2190..=0x2BFF | 0x3000..=0x303F | 0x30A0 | 0x30FB | 0xFF00..=0xFFEF => Sign::Between,
        _ => Sign::Letter(c),
    }
}

/// What the index is fed with.
pub(super) fn indexed(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + text.len() / 2);
    for c in text.chars() {
        match sign(c) {
            Sign::Nothing => {}
            Sign::Between => words.push(' '),
            Sign::Letter(c) => words.push(c),
            Sign::SharpS => words.push_str("ss"),
            Sign::Alone(c) | Sign::Picture(c) => words.extend([' ', c, ' ']),
        }
    }
    words
}

/// The word under which the index finds the notes of one user with one agent: of digits, which no stemming changes.
pub(super) fn owner(user_id: &str, agent: &str) -> String {
    super::sql::key63(&["note", user_id, agent]).to_string()
}

/// What asks the index for an owner's notes with any of the words of `text`; `None` where it has none.
pub(super) fn sought(owner: &str, text: &str) -> Option<String> {
    let mut found = Sought::default();
    for c in shorten(text, SOUGHT_BYTES).chars() {
        match sign(c) {
            Sign::Nothing => {}
            Sign::Between => found.end(),
            Sign::Letter(c) => found.letter(c),
            Sign::SharpS => "ss".chars().for_each(|c| found.letter(c)),
            Sign::Alone(c) => found.alone(c),
            Sign::Picture(c) => {
                found.end();
                found.ask(c.to_string());
            }
        }
    }
    found.end();
    let words: Vec<_> = found.words.iter().map(|word| format!("\"{word}\"")).collect();
    (!words.is_empty()).then(|| format!("owner : \"{owner}\" AND text : ({})", words.join(" OR ")))
}

#[derive(Default)]
struct Sought {
    words: Vec<String>,
    word: String,
    /// The last character of a run without blanks, and whether it was asked for in a pair.
    run: Option<(char, bool)>,
}

impl Sought {
    fn letter(&mut self, c: char) {
        self.end_run();
        self.word.push(c);
    }

    fn alone(&mut self, c: char) {
        self.end_word();
        if let Some((before, _)) = self.run {
            self.ask(format!("{before} {c}"));
        }
        self.run = Some((c, self.run.is_some()));
    }

    fn end(&mut self) {
        self.end_word();
        self.end_run();
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let common = word.is_ascii() && COMMON.contains(&format!(" {} ", word.to_ascii_lowercase()));
        if !word.is_empty() && !common {
            self.ask(word);
        }
    }

    fn end_run(&mut self) {
        if let Some((c, false)) = self.run.take() {
            self.ask(c.to_string());
        }
    }

    fn ask(&mut self, word: String) {
        if self.words.len() < SOUGHT_WORDS && !self.words.contains(&word) {
            self.words.push(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_words_and_no_syntax() {
        for (text, expected) in [
            ("Where is the blue bicycle?", r#""blue" OR "bicycle""#),
            ("东京塔在哪里", r#""东 京" OR "京 塔" OR "塔 在" OR "在 哪" OR "哪 里""#),
            ("猫 ねこ", r#""猫" OR "ね こ""#),
            ("茶tea茶", r#""茶" OR "tea""#),
            ("a\"b\" OR x* NEAR(y, 2) AND NOT -z ^q {c}:w", r#""b" OR "x" OR "NEAR" OR "y" OR "2" OR "z" OR "q" OR "c" OR "w""#),
            ("owner : 1) OR (text", r#""owner" OR "1" OR "text""#),
            ("ｗｉｄｅ Straße cafe\u{301}", r#""wide" OR "Strasse" OR "cafe""#),
            ("🍕👍🏽❤️", "\"\u{e355}\" OR \"\u{e44d}\" OR \"\u{ec64}\""),
            ("the and of \0 … — \" ' * ( )", ""),
            ("", ""),
        ] {
            let asked = sought("7", text);
            let expected = (!expected.is_empty()).then(|| format!("owner : \"7\" AND text : ({expected})"));
            assert_eq!(asked, expected, "{text:?}");
        }
    }

    #[test]
    fn a_search_is_bounded() {
        let many: String = (0..10_000).map(|n| format!("w{n} ")).collect();
        for text in [many, "京都".repeat(10_000), "x".repeat(1 << 20), "ä".repeat(5_000)] {
            let asked = sought("7", &text).unwrap();
            assert!(asked.matches(" OR ").count() < SOUGHT_WORDS && asked.len() < 3_000, "{}", asked.len());
        }
    }
}
