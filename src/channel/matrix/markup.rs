//! A reply's Markdown as Matrix's HTML, and in parts that fit into events.
//!
//! Invariant: nothing of the text becomes a tag, an attribute or a link but by the small set here; all else is escaped. Links lead to
//! `http`, `https` and `mailto` alone. The same text always gives the same parts: their numbers are in transaction ids. A code fence
//! that is cut goes on as one. Time grows with the length alone. Pure; it cannot fail.

use crate::channel::pieces::pieces;

/// How much of a text is one part at most; the event bears it twice, escaped.
const PART_BYTES_MAX: usize = 20_000;
/// What one part may come to as JSON, body and HTML together: an event has at most 65,536 bytes, and the rest is the homeserver's.
const EVENT_BYTES_MAX: usize = 58_000;
/// How far the end of an emphasis, a code span or a link is looked for.
const SPAN_BYTES_MAX: usize = 2_000;
const DEPTH_MAX: u32 = 4;

/// One part: the text, and its HTML where that says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub body: String,
    pub html: Option<String>,
}

/// A reply in parts, in order; at least one.
pub(super) fn parts(text: &str) -> Vec<Part> {
    let mut max = PART_BYTES_MAX;
    loop {
        let mut bodies = pieces(text, max, char::len_utf8);
        if bodies.is_empty() {
            bodies.push(text.to_string());
        }
        let parts: Vec<Part> = bodies.into_iter().map(|body| Part { html: html(&body), body }).collect();
        if max < 1_000 || parts.iter().all(|p| weight(p) <= EVENT_BYTES_MAX) {
            return parts;
        }
        max /= 2;
    }
}

fn weight(part: &Part) -> usize {
    let escaped = |text: &str| -> usize {
        text.bytes().map(|b| if b < 0x20 { 6 } else { 1 + usize::from(matches!(b, b'"' | b'\\')) }).sum()
    };
    escaped(&part.body) + part.html.as_deref().map_or(0, escaped)
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// The text as HTML; `None` where that says nothing more.
pub(super) fn html(text: &str) -> Option<String> {
    let (mut out, mut plain) = (String::with_capacity(text.len() + text.len() / 4), true);
    let lines: Vec<&str> = text.lines().collect();
    let mut i = 0;
    while i < lines.len() {
        let begin = i;
        let kind = Line::of(lines[i]);
        i += 1;
        if kind == Line::Fence {
            while i < lines.len() && Line::of(lines[i]) != Line::Fence {
                i += 1;
            }
            fence(lines[begin], &lines[begin + 1..i], &mut out);
            i += 1;
        } else {
            let goes_on = matches!(kind, Line::Item | Line::Numbered | Line::Quote | Line::Text);
            while goes_on && i < lines.len() && Line::of(lines[i]) == kind {
                i += 1;
            }
            block(kind, &lines[begin..i], &mut out, &mut plain);
        }
        plain &= matches!(kind, Line::Text | Line::Empty);
    }
    (!plain).then_some(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    Fence,
    Heading,
    Rule,
    Item,
    Numbered,
    Quote,
    Text,
}

impl Line {
    fn of(line: &str) -> Line {
        let line = line.trim_start();
        let hashes = line.bytes().take_while(|b| *b == b'#').count();
        let is_rule = line.len() >= 3 && line.trim_end().bytes().all(|b| b == b'-');
        match line.as_bytes() {
            [] => Line::Empty,
            _ if line.starts_with("```") => Line::Fence,
            _ if (1..=6).contains(&hashes) && line[hashes..].starts_with(' ') => Line::Heading,
            _ if is_rule => Line::Rule,
            [b'-' | b'*' | b'+', b' ', ..] => Line::Item,
            [b'>', ..] => Line::Quote,
            _ if numbered(line).is_some() => Line::Numbered,
            _ => Line::Text,
        }
    }
}

/// The number and the rest of `1. text`.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.split_once(". ").or_else(|| line.split_once(") "))?;
    let is_number = (1..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

fn fence(opening: &str, code: &[&str], out: &mut String) {
    let language = opening.trim_start().trim_start_matches('`').trim();
    let is_name = !language.is_empty()
        && language.len() <= 32
        && language.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-#_".contains(&b));
    if is_name {
        out.push_str(&format!("<pre><code class=\"language-{language}\">"));
    } else {
        out.push_str("<pre><code>");
    }
    for line in code {
        escape(line, out);
        out.push('\n');
    }
    out.push_str("</code></pre>");
}

fn block(kind: Line, lines: &[&str], out: &mut String, plain: &mut bool) {
    let trimmed = |line: &&str| line.trim().to_string();
    match kind {
        Line::Empty | Line::Fence => {}
        Line::Rule => out.push_str("<hr>"),
        Line::Heading => {
            let line = lines[0].trim();
            let level = line.bytes().take_while(|b| *b == b'#').count();
            out.push_str(&format!("<h{level}>"));
            inline(line[level..].trim(), 0, out, plain);
            out.push_str(&format!("</h{level}>"));
        }
        Line::Item => {
            out.push_str("<ul>");
            for line in lines {
                out.push_str("<li>");
                inline(line.trim()[1..].trim(), 0, out, plain);
                out.push_str("</li>");
            }
            out.push_str("</ul>");
        }
        Line::Numbered => {
            let first = numbered(lines[0].trim_start()).map_or(1, |(n, _)| n);
            out.push_str(&if first == 1 { "<ol>".to_string() } else { format!("<ol start=\"{first}\">") });
            for line in lines {
                out.push_str("<li>");
                inline(numbered(line.trim()).map_or("", |(_, rest)| rest).trim(), 0, out, plain);
                out.push_str("</li>");
            }
            out.push_str("</ol>");
        }
        Line::Quote => {
            let said: Vec<String> = lines.iter().map(|l| l.trim_start()[1..].trim().to_string()).collect();
            out.push_str("<blockquote>");
            inline(&said.join("\n"), 0, out, plain);
            out.push_str("</blockquote>");
        }
        Line::Text => {
            out.push_str("<p>");
            inline(&lines.iter().map(trimmed).collect::<Vec<_>>().join("\n"), 0, out, plain);
            out.push_str("</p>");
        }
    }
}

/// Emphasis, code and links within a block; `plain` becomes false where there was any.
fn inline(text: &str, depth: u32, out: &mut String, plain: &mut bool) {
    const MARKS: [(&str, &str); 6] = [("**", "strong"), ("__", "strong"), ("~~", "del"), ("`", "code"), ("*", "em"), ("_", "em")];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let before = text[..at].chars().next_back();
        if let Some((label, url, length)) = link(rest).filter(|_| depth < DEPTH_MAX) {
            out.push_str("<a href=\"");
            escape(url, out);
            out.push_str("\">");
            inline(label, depth + 1, out, plain);
            out.push_str("</a>");
            (at, *plain) = (at + length, false);
            continue;
        }
        let found = MARKS
            .iter()
            .filter(|_| depth < DEPTH_MAX)
            .find_map(|(mark, tag)| Some((*tag, span(rest, mark, before)?, mark.len())));
        if let Some((tag, inner, mark)) = found {
            out.push_str(&format!("<{tag}>"));
            if tag == "code" {
                escape(inner, out);
            } else {
                inline(inner, depth + 1, out, plain);
            }
            out.push_str(&format!("</{tag}>"));
            (at, *plain) = (at + inner.len() + 2 * mark, false);
            continue;
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        if rest.starts_with('\n') {
            out.push_str("<br>");
        } else {
            escape(&rest[..length], out);
        }
        at += length;
    }
}

/// What stands between `mark` at the beginning of `text` and the next one.
fn span<'a>(text: &'a str, mark: &str, before: Option<char>) -> Option<&'a str> {
    let inner = text.strip_prefix(mark)?;
    let near = &inner[..floor(inner, SPAN_BYTES_MAX)];
    let end = near.find(mark).filter(|end| *end > 0)?;
    let said = &near[..end];
    if mark == "`" {
        return Some(said).filter(|s| !s.contains('\n'));
    }
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric());
    // An underscore within a word is a part of it.
    if mark.starts_with('_') && (word(before) || word(inner[end + mark.len()..].chars().next())) {
        return None;
    }
    (!said.starts_with(char::is_whitespace) && !said.ends_with(char::is_whitespace)).then_some(said)
}

/// `[label](url)` at the beginning of `text`: label, address, length of the whole.
fn link(text: &str) -> Option<(&str, &str, usize)> {
    let near = &text[..floor(text, SPAN_BYTES_MAX)];
    let (label, rest) = near.strip_prefix('[')?.split_once("](")?;
    let (url, _) = rest.split_once(')')?;
    let scheme = url.split_once(':').map(|(s, _)| s.to_ascii_lowercase()).unwrap_or_default();
    let fits = matches!(scheme.as_str(), "http" | "https" | "mailto") && !url.contains(char::is_whitespace);
    (fits && !label.is_empty() && !label.contains(['[', '\n'])).then_some((label, url, label.len() + url.len() + 4))
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
#[path = "markup_tests.rs"]
mod tests;
