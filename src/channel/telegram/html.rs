//! Markdown as models write it, in Telegram's HTML.
//!
//! Invariant: pure, and safe for any text: what is not understood stands there as it was written, escaped. Tags are always closed in
//! order. Known: code blocks, code, bold, italic, strike-through, links to web pages, headings (as bold).

use crate::channel::pieces::{closes, fence};

/// Bold within italic within a link, and no deeper.
const DEPTH_MAX: u32 = 3;

/// One of the pieces of a text as HTML.
pub fn html(part: &str) -> String {
    let mut out = String::with_capacity(part.len() + part.len() / 8);
    let mut lines = part.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((marks, language)) = fence(line) {
            let code: Vec<&str> = std::iter::from_fn(|| lines.next_if(|l| !closes(l, marks))).collect();
            lines.next(); // the closing one
            block(&mut out, language, &code.join("\n"));
        } else if let Some(title) = heading(line) {
            tagged(&mut out, "b", |out| inline(out, title, DEPTH_MAX));
        } else {
            inline(&mut out, line, 0);
        }
        if lines.peek().is_some() {
            out.push('\n');
        }
    }
    out
}

fn block(out: &mut String, language: &str, code: &str) {
    let language: String = language.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '#')).collect();
    if language.is_empty() {
        return tagged(out, "pre", |out| escape(out, code));
    }
    out.push_str(&format!("<pre><code class=\"language-{language}\">"));
    escape(out, code);
    out.push_str("</code></pre>");
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    ((1..=6).contains(&level) && title.starts_with(' ')).then(|| title.trim()).filter(|t| !t.is_empty())
}

fn tagged(out: &mut String, tag: &str, content: impl FnOnce(&mut String)) {
    out.push_str(&format!("<{tag}>"));
    content(out);
    out.push_str(&format!("</{tag}>"));
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
}

fn inline(out: &mut String, line: &str, depth: u32) {
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if let Some(used) = spanned(out, rest, before, depth) {
            before = c;
            rest = &rest[used..];
            continue;
        }
        // An escaped mark stands for itself; so does a run of marks that opens nothing.
        let literal = match rest.strip_prefix('\\').and_then(|r| r.chars().next()) {
            Some(mark) if "\\`*_~[]()#".contains(mark) => {
                rest = &rest[1..];
                mark.len_utf8()
            }
            _ if matches!(c, '*' | '_' | '`' | '~') => rest.len() - rest.trim_start_matches(c).len(),
            _ => c.len_utf8(),
        };
        escape(out, &rest[..literal]);
        before = c;
        rest = &rest[literal..];
    }
}

/// Writes what begins at the start of `rest`, if something does; gives how many bytes it took.
fn spanned(out: &mut String, rest: &str, before: char, depth: u32) -> Option<usize> {
    if rest.starts_with('`') {
        return code(out, rest);
    }
    if depth >= DEPTH_MAX {
        return None;
    }
    if rest.starts_with('[') {
        return link(out, rest, depth);
    }
    for (mark, tag) in [("**", "b"), ("__", "b"), ("~~", "s"), ("*", "i"), ("_", "i")] {
        if !rest.starts_with(mark) {
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        // snake_case is no italic.
        if mark.starts_with('_') && word(before) {
            return None;
        }
        let content = &rest[mark.len()..];
        if let Some(end) = closing(content, mark) {
            tagged(out, tag, |out| inline(out, &content[..end], depth + 1));
            return Some(end + 2 * mark.len());
        }
    }
    None
}

/// Where the closing `mark` stands; what it closes begins and ends with something to see.
fn closing(content: &str, mark: &str) -> Option<usize> {
    let first = content.chars().next()?;
    let own = mark.chars().next()?;
    if first.is_whitespace() || first == own {
        return None;
    }
    let mut from = 0;
    while let Some(at) = content[from..].find(own).map(|at| at + from) {
        let run = content[at..].len() - content[at..].trim_start_matches(own).len();
        let before = content[..at].chars().next_back();
        let after = content[at + run..].chars().next();
        let is_word = own == '_' && after.is_some_and(char::is_alphanumeric);
        if run == mark.len() && before.is_some_and(|c| !c.is_whitespace() && c != '\\') && !is_word {
            return Some(at);
        }
        from = at + run;
    }
    None
}

fn code(out: &mut String, rest: &str) -> Option<usize> {
    let run = rest.len() - rest.trim_start_matches('`').len();
    let content = &rest[run..];
    let mut from = 0;
    while let Some(at) = content[from..].find('`').map(|at| at + from) {
        let closes = content[at..].len() - content[at..].trim_start_matches('`').len();
        if closes == run && !content[..at].trim().is_empty() {
            tagged(out, "code", |out| escape(out, content[..at].trim()));
            return Some(run + at + run);
        }
        from = at + closes;
    }
    None
}

fn link(out: &mut String, rest: &str, depth: u32) -> Option<usize> {
    let middle = rest.find("](")?;
    let (title, tail) = (&rest[1..middle], &rest[middle + 2..]);
    let end = tail.find(')')?;
    let url = &tail[..end];
    let is_web = ["https://", "http://", "mailto:", "tg://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_web || title.trim().is_empty() || title.contains('[') || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    out.push_str("<a href=\"");
    escape(out, url);
    out.push_str("\">");
    // No link within a link: its title holds no bracket.
    inline(out, title, depth + 1);
    out.push_str("</a>");
    Some(middle + 2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_models_write() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("a < b && c > \"d\"", "a &lt; b &amp;&amp; c &gt; &quot;d&quot;"),
            ("**bold** and *it* and __b__ and _i_ ~~s~~", "<b>bold</b> and <i>it</i> and <b>b</b> and <i>i</i> <s>s</s>"),
            ("**bold *both* bold**", "<b>bold <i>both</i> bold</b>"),
            ("snake_case_name and 2*3*4 = 24", "snake_case_name and 2<i>3</i>4 = 24"),
            ("* item\n* other", "* item\n* other"),
            ("2 * 3 * 4", "2 * 3 * 4"),
            ("**open", "**open"),
            ("****", "****"),
            ("use `a<b` and ``x`y``", "use <code>a&lt;b</code> and <code>x`y</code>"),
            ("`**not bold**`", "<code>**not bold**</code>"),
            ("# Title *x*\ntext", "<b>Title *x*</b>\ntext"),
            ("#hashtag", "#hashtag"),
            ("[site](https://x.test/?a=1&b=\"2)", "<a href=\"https://x.test/?a=1&amp;b=&quot;2\">site</a>"),
            ("[**b**](https://x.test)", "<a href=\"https://x.test\"><b>b</b></a>"),
            ("[x](javascript:alert)", "[x](javascript:alert)"),
            ("[x](https://a b)", "[x](https://a b)"),
            ("\\*not\\*", "*not*"),
            ("```rust\nlet a = &b;\n```", "<pre><code class=\"language-rust\">let a = &amp;b;</code></pre>"),
            ("a\n```\n<x>\n\n**\n```\nb", "a\n<pre>&lt;x&gt;\n\n**</pre>\nb"),
            ("```x\"><script>\ny\n```", "<pre><code class=\"language-x\">y</code></pre>"),
            ("<b>own tags</b>", "&lt;b&gt;own tags&lt;/b&gt;"),
        ] {
            assert_eq!(html(text), wanted, "{text:?}");
        }
    }

    /// Whatever is written, tags are closed in order and nothing else looks like one.
    #[test]
    fn tags_are_closed_in_order() {
        let pieces =
            ["*", "**", "_", "__", "~~", "`", "```\n", "[", "](https://x.y)", "<b>", "&", "a", " ", "\n", "\\", "# ", "ß😀"];
        let mut seed = 3u64;
        for _ in 0..3000 {
            let text: String = (0..40)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    pieces[(seed >> 33) as usize % pieces.len()]
                })
                .collect();
            let made = html(&text);
            let mut open = Vec::new();
            for tag in made.split('<').skip(1) {
                let tag = tag.split_once('>').unwrap_or_else(|| panic!("{text:?}: {made:?}")).0;
                match tag.strip_prefix('/') {
                    Some(name) => assert_eq!(open.pop(), Some(name.to_string()), "{text:?}: {made:?}"),
                    None => open.push(tag.split(' ').next().unwrap_or_default().to_string()),
                }
            }
            assert!(open.is_empty(), "{text:?}: {made:?}");
        }
    }

    #[test]
    fn a_flood_of_marks_takes_no_time() {
        for mark in ["*", "_", "`", "[", "**a", "*a ", "](", "_a"] {
            html(&mark.repeat(4096 / mark.len())); // would take minutes if it were worse than quadratic
        }
    }
}
