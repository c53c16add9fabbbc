//! A web page as readable text: tags dropped, blocks on lines of their own.
//!
//! Invariant: pure, linear in the page's length, and never longer than it but for a page of bare entities; whatever is no HTML comes
//! out as some text. It cannot fail.

/// Elements whose content is not for reading.
const DROPPED: &[&str] = &["script", "style", "noscript", "template", "svg", "iframe", "object", "select", "textarea"];
/// Elements that stand on lines of their own.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "table",
    "td",
    "th",
    "title",
    "tr",
    "ul",
];
/// Entities that pages really use.
const ENTITIES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("shy", ""),
    ("copy", "©"),
    ("reg", "®"),
    ("hellip", "…"),
    ("mdash", "—"),
    ("ndash", "–"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("middot", "·"),
    ("bull", "•"),
    ("times", "×"),
    ("deg", "°"),
    ("euro", "€"),
    ("pound", "£"),
    ("auml", "ä"),
    ("ouml", "ö"),
    ("uuml", "ü"),
    ("Auml", "Ä"),
    ("Ouml", "Ö"),
    ("Uuml", "Ü"),
    ("szlig", "ß"),
    ("eacute", "é"),
    ("egrave", "è"),
    ("agrave", "à"),
    ("ccedil", "ç"),
    ("ntilde", "ñ"),
];
/// Longest entity that is looked at, from `&` to `;`.
const ENTITY_BYTES_MAX: usize = 12;

/// The text of a page.
pub fn text(page: &str) -> String {
    let mut out = Writer::default();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        out.words(&rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let inner = &rest[1..];
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            out.words("<"); // "a < b"
            rest = inner;
            continue;
        }
        let (tag, after) = split_tag(inner);
        let closes = tag.starts_with('/');
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let name = name.to_ascii_lowercase();
        rest = after;
        if DROPPED.contains(&name.as_str()) && !closes && !tag.ends_with('/') {
            rest = behind_end_of(rest, &name);
        } else if BLOCKS.contains(&name.as_str()) {
            out.line();
            if name == "li" && !closes {
                out.words("- ");
            }
        }
    }
    out.words(rest);
    out.text.truncate(out.text.trim_end().len());
    out.text
}

/// A tag's inside and what comes after it; `>` in quotes doesn't end it, unless the quotes are never closed.
fn split_tag(inner: &str) -> (&str, &str) {
    let mut quote = None;
    for (i, b) in inner.bytes().enumerate() {
        match (quote, b) {
            (None, b'>') => return (&inner[..i], &inner[i + 1..]),
            // Quotes stand behind `=`; any other is a slip.
            (None, b'"' | b'\'') if inner[..i].trim_end().ends_with('=') && inner[i + 1..].contains(b as char) => quote = Some(b),
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
    }
    (inner, "")
}

/// What stands behind the closing tag of `name`; nothing where it never closes.
fn behind_end_of<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        let is_it = rest.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name))
            && !rest[name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        if is_it {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

/// Collects words with single blanks between them, and lines without blank ones in a row.
#[derive(Default)]
struct Writer {
    text: String,
    blank: bool,
}

impl Writer {
    fn words(&mut self, raw: &str) {
        let mut rest = raw;
        while let Some(c) = rest.chars().next() {
            if c == '&'
                && let Some((meant, after)) = entity(rest)
            {
                meant.chars().for_each(|c| self.push(c));
                rest = after;
            } else {
                self.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }

    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.blank = true;
        } else if !c.is_control() {
            if std::mem::take(&mut self.blank) && !self.text.is_empty() && !self.text.ends_with('\n') {
                self.text.push(' ');
            }
            self.text.push(c);
        }
    }

    fn line(&mut self) {
        if self.blank && (self.text == "-" || self.text.ends_with("\n-")) {
            return; // a paragraph as a list's item
        }
        self.blank = false;
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// What the entity at the beginning of a text means, and what comes after it.
fn entity(text: &str) -> Option<(String, &str)> {
    let end = text.bytes().take(ENTITY_BYTES_MAX).position(|b| b == b';')?;
    let (name, after) = (&text[1..end], &text[end + 1..]);
    let number = match name.strip_prefix('#') {
        Some(hex) if hex.starts_with(['x', 'X']) => u32::from_str_radix(&hex[1..], 16).ok(),
        Some(decimal) => decimal.parse().ok(),
        None => return ENTITIES.iter().find(|(n, _)| *n == name).map(|(_, meant)| (meant.to_string(), after)),
    };
    number.and_then(char::from_u32).map(|c| (c.to_string(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        for (page, expected) in [
            ("", ""),
            ("plain  text\n here", "plain text here"),
            ("<html><head><title>T</title><style>p{x:y}</style></head><body><p>a</p><p>b</p></body></html>", "T\na\nb"),
            ("a<script>if (a < b) { document.write('</p>') }</script>b", "ab"),
            ("a<SCRIPT type=x>x</scripty></Script >b", "ab"),
            ("a<script>never closed <p>b", "a"),
            ("a<script src=x />b", "ab"),
            ("a<!-- <p>x</p> -- > -->b<!-- open", "ab"),
            ("<!DOCTYPE html><?xml x?>a", "a"),
            ("a<b>b</b><i>c</i> <span>d</span>", "abc d"),
            ("<ul><li>a<li><p>b</p></ul>c", "- a\n- b\nc"),
            ("a<br>b<br/>c<hr>d", "a\nb\nc\nd"),
            ("<table><tr><td>1</td><td>2</td></tr></table>", "1\n2"),
            ("<a href=\"x>y\" title='a\"b>'>z</a>", "z"),
            ("<a href=\"x>y", "y"),
            ("<p title=it's>a</p>", "a"),
            ("a &lt;b&gt; &amp;amp; &#65;&#x42;&nbsp;&eacute;&unknown; & &#xd800; &;", "a <b> &amp; AB é&unknown; & &#xd800; &;"),
            ("1 < 2 <3 << 4", "1 < 2 <3 << 4"),
            ("你<b>好</b>，<p>世界", "你好，\n世界"),
            ("a\u{1b}[31m\u{0}b", "a[31mb"),
            ("a<", "a<"),
            ("a</", "a"),
            ("a<p", "a"),
        ] {
            assert_eq!(text(page), expected, "{page}");
        }
    }

    /// Every half of every tag, many times: no panic, and no more work than there is text.
    #[test]
    #[allow(clippy::disallowed_methods)]
    fn hostile_pages() {
        let begun = std::time::Instant::now();
        for piece in [
            "<",
            "<a ",
            "<a =\"",
            "<a ='",
            "<a ='\"",
            "<!--",
            "</",
            "<script>",
            "<script></",
            "&",
            "&#x",
            "<p>",
            "<li>",
            "<a =\" =' ",
            "=\"",
            "  ",
        ] {
            let page = piece.repeat(256 * 1024 / piece.len());
            assert!(text(&page).len() <= page.len() + 4, "{piece}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
        let page = "<p>ü<script>é</script>&uuml;<!--ß--><a x=\"y\">z";
        (0..page.len()).filter_map(|i| page.get(i..)).for_each(|p| drop(text(p)));
        (0..page.len()).filter_map(|i| page.get(..i)).for_each(|p| drop(text(p)));
    }
}
