//! Slack's markup in both directions: `mrkdwn` from the common subset of Markdown, plain words from what Slack sends.
//!
//! Invariant: what an agent writes calls nobody: `<`, `>` and `&` are always escaped, so that no `<!channel>` comes to life. A text
//! never gets longer than [`weigh`] counts. Pure.

/// What a character weighs in a message to Slack.
pub fn weigh(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        c => c.len_utf16(),
    }
}

/// Markdown as `mrkdwn`: fences and code spans as they are; bold, italics, struck text, links, headings and bullets.
pub fn from_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_code = false;
    for (n, line) in text.lines().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        if line.trim_start().starts_with("```") {
            // Slack would show the language as the code's first line.
            let closes = line.trim_start()[3..].contains("```");
            let shown = if is_code || closes { line } else { "```" };
            out.push_str(&escaped(shown));
            is_code = is_code == closes;
        } else if is_code {
            out.push_str(&escaped(line));
        } else {
            line_into(&mut out, line);
        }
    }
    out
}

fn line_into(out: &mut String, line: &str) {
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    out.push_str(indent);
    let hashes = body.bytes().take_while(|b| *b == b'#').count();
    if (1..=6).contains(&hashes) && body[hashes..].starts_with(' ') {
        let title = body[hashes..].trim().trim_matches('*');
        out.push('*');
        out.push_str(&escaped(title));
        out.push('*');
    } else if let Some(item) = body.strip_prefix("- ").or_else(|| body.strip_prefix("* ")) {
        out.push_str("• ");
        inline(out, item);
    } else {
        inline(out, body);
    }
}

fn inline(out: &mut String, text: &str) {
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if let Some((shown, used)) = span(rest, before) {
            out.push_str(&shown);
            rest = &rest[used..];
            before = 'x';
            continue;
        }
        out.push_str(&escaped(&rest[..c.len_utf8()]));
        rest = &rest[c.len_utf8()..];
        before = c;
    }
}

/// The marked span that `text` begins with, as Slack writes it, and how many bytes of `text` it takes.
fn span(text: &str, before: char) -> Option<(String, usize)> {
    let marked = |mark: &str, shown: char| {
        let inner = text.strip_prefix(mark)?;
        let end = inner.find(mark)?;
        let inner = &inner[..end];
        let is_span = !inner.is_empty() && !inner.starts_with(' ') && !inner.ends_with(' ');
        is_span.then(|| (format!("{shown}{}{shown}", escaped(inner)), 2 * mark.len() + end))
    };
    if text.starts_with('`') {
        return marked("`", '`');
    }
    if text.starts_with('[') {
        return link(text);
    }
    marked("**", '*').or_else(|| marked("~~", '~')).or_else(|| {
        // 2*3*4 is no italics.
        if before.is_alphanumeric() || text.starts_with("**") { None } else { marked("*", '_') }
    })
}

fn link(text: &str) -> Option<(String, usize)> {
    let (label, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (url, _) = rest.split_once(')')?;
    let is_plain = !label.contains(['[', ']', '|', '\n']) && !url.contains(['|', '<', '>', ' ']);
    let is_web = url.starts_with("https://") || url.starts_with("http://") || url.starts_with("mailto:");
    (is_plain && is_web).then(|| (format!("<{}|{}>", escaped(url), escaped(label)), label.len() + url.len() + 4))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What Slack sends, as plain words; the bot's own name (`<@me>`) at the beginning is left out.
pub fn to_plain(text: &str, me: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim_start();
    if let Some(after) = rest.strip_prefix("<@").and_then(|r| r.strip_prefix(me)).filter(|_| !me.is_empty())
        && let Some((_, behind)) = after.split_once('>').filter(|(label, _)| label.is_empty() || label.starts_with('|'))
    {
        rest = behind.trim_start_matches([' ', ',', ':']);
    }
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let Some((inner, behind)) = after.split_once('>') else {
            out.push('<');
            rest = after;
            continue;
        };
        out.push_str(&entity(inner));
        rest = behind;
    }
    out.push_str(rest);
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The inside of `<…>`.
fn entity(inner: &str) -> String {
    let (target, label) = inner.split_once('|').map_or((inner, None), |(t, l)| (t, Some(l)));
    let named = |sign: &str, id: &str| format!("{sign}{}", label.unwrap_or(id).trim_start_matches(['@', '#']));
    match target.split_at_checked(1) {
        Some(("@", id)) => named("@", id),
        Some(("#", id)) => named("#", id),
        Some(("!", id)) => named("@", id.split('^').next().unwrap_or(id)),
        _ => match label {
            Some(label) if label != target && !target.ends_with(label) => format!("{label} ({target})"),
            _ => target.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_mrkdwn() {
        for (markdown, expected) in [
            ("plain", "plain"),
            ("**bold** and *italic* and ~~gone~~", "*bold* and _italic_ and ~gone~"),
            ("_italic_ stays", "_italic_ stays"),
            ("2*3*4 and 2 * 3", "2*3*4 and 2 * 3"),
            ("## Title\n- one\n  * two", "*Title*\n• one\n  • two"),
            ("[site](https://x.org/?a=1&b=2)", "<https://x.org/?a=1&amp;b=2|site>"),
            ("[bad](javascript:alert)", "[bad](javascript:alert)"),
            ("<!channel> <@U1> & co", "&lt;!channel&gt; &lt;@U1&gt; &amp; co"),
            ("[x](https://a|<!here>)", "[x](https://a|&lt;!here&gt;)"),
            ("`**code** <b>`", "`**code** &lt;b&gt;`"),
            ("```rust\nlet a = **b**;\n```\n**c**", "```\nlet a = **b**;\n```\n*c*"),
            ("**not closed", "**not closed"),
        ] {
            let got = from_markdown(markdown);
            assert_eq!(got, expected, "{markdown}");
            assert!(got.encode_utf16().count() <= markdown.chars().map(weigh).sum(), "{markdown}");
        }
    }

    #[test]
    fn what_slack_sends_becomes_plain() {
        for (text, expected) in [
            ("<@U0BOT> hi &amp; bye", "hi & bye"),
            ("<@U0BOT|gate>: hi", "hi"),
            ("hi <@U0BOT>", "hi @U0BOT"),
            ("<@U0BOTX> hi", "@U0BOTX hi"),
            ("see <#C1|general> and <!here>", "see #general and @here"),
            ("<https://a.b/c|docs> <https://a.b>", "docs (https://a.b/c) https://a.b"),
            ("a &lt;b&gt; &amp;lt;", "a <b> &lt;"),
            ("1 < 2", "1 < 2"),
        ] {
            assert_eq!(to_plain(text, "U0BOT"), expected, "{text}");
        }
    }
}
