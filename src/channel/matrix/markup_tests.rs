//! Markdown, HTML, parts.

use super::*;

#[test]
fn a_small_set_of_marks() {
    for (text, wanted) in [
        ("hello", None),
        ("two\nlines\n\nand more", None),
        ("1 < 2 & 3", None),
        ("a snake_case_name and 2 * 3 * 4", None),
        ("**bold** and *light*", Some("<p><strong>bold</strong> and <em>light</em></p>")),
        ("**a *b* c**", Some("<p><strong>a <em>b</em> c</strong></p>")),
        ("_so_ it ~~is~~", Some("<p><em>so</em> it <del>is</del></p>")),
        ("`a<b **c**`\nnext", Some("<p><code>a&lt;b **c**</code><br>next</p>")),
        ("# Title\ntext", Some("<h1>Title</h1><p>text</p>")),
        ("- one\n- **two**", Some("<ul><li>one</li><li><strong>two</strong></li></ul>")),
        ("3. c\n4. d", Some("<ol start=\"3\"><li>c</li><li>d</li></ol>")),
        ("> said\n> so", Some("<blockquote>said<br>so</blockquote>")),
        ("---", Some("<hr>")),
        (
            "```rust\nlet a = \"<b>\";\n```\nend",
            Some("<pre><code class=\"language-rust\">let a = &quot;&lt;b&gt;&quot;;\n</code></pre><p>end</p>"),
        ),
        ("```\nopen", Some("<pre><code>open\n</code></pre>")),
        ("```\" onclick=\nx\n```", Some("<pre><code>x\n</code></pre>")),
        (
            "[site](https://a.example/?b=1&c=\"2\")",
            Some("<p><a href=\"https://a.example/?b=1&amp;c=&quot;2&quot;\">site</a></p>"),
        ),
        ("[x](javascript:alert(1))", None),
        ("[x](data:text/html,hi)", None),
        ("[x](https://a b)", None),
    ] {
        assert_eq!(html(text).as_deref(), wanted, "{text}");
    }
}

#[test]
fn nothing_of_the_text_becomes_a_tag() {
    let hostile =
        "<script>x</script> **<img src=x onerror=y>** [<b>](https://e\"onx=) `</code><i>`\n# <h1>\n- <li>\n> </blockquote>";
    let html = html(hostile).unwrap();
    for tag in ["<script", "<img", "<b>", "<i>", "\"onx", "<h1><h1>"] {
        assert!(!html.contains(tag), "{tag} in {html}");
    }
}

#[test]
fn parts_fit_and_lose_nothing() {
    let words: String = (0..20_000).map(|n| format!("word{n}{}", if n % 97 == 0 { "\n\n" } else { " " })).collect();
    let quotes = "\"\\<&".repeat(30_000);
    let control = "\u{1}".repeat(50_000);
    let wide = "你好🙂".repeat(20_000);
    for text in [words.as_str(), &quotes, &control, &wide, "short", ""] {
        let parts = parts(text);
        assert!(!parts.is_empty());
        for part in &parts {
            let json = serde_json::json!({"body": part.body, "formatted_body": part.html}).to_string();
            assert!(json.len() < 60_000, "{}", json.len());
        }
        let squeezed = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let joined: String = parts.iter().map(|p| squeezed(&p.body)).collect();
        assert_eq!(joined, squeezed(text));
    }
}

#[test]
fn a_code_fence_that_is_cut_goes_on_as_one() {
    let code: String = (0..4000).map(|n| format!("let x{n} = {n};\n")).collect();
    let text = format!("see:\n```rust\n{code}```\ndone");
    let parts = parts(&text);
    assert!(parts.len() >= 3);
    for part in &parts {
        assert_eq!(part.body.lines().filter(|l| l.starts_with("```")).count() % 2, 0, "{:?}", &part.body[..60]);
    }
    assert!(
        parts[1].body.starts_with("```rust\n")
            && parts[1].html.as_ref().unwrap().starts_with("<pre><code class=\"language-rust\">")
    );
    let lines: usize = parts.iter().map(|p| p.body.lines().filter(|l| l.starts_with("let ")).count()).sum();
    assert_eq!(lines, 4000);
}

#[test]
fn hostile_lengths_take_no_time() {
    for text in ["*a ".repeat(30_000), "[".repeat(60_000), "**".repeat(40_000), "> ".repeat(40_000), "`\n".repeat(30_000)] {
        assert!(!parts(&text).is_empty());
    }
}
