//! The console's files as they are: complete, small, translated, and free of what could let markup in.

use std::collections::BTreeSet;

use super::*;

/// The most bytes of all files together, compressed: they are read over a slow network from a small machine.
const BYTES_MAX: usize = 80 * 1024;

/// What a file was before it was packed.
fn unpacked(packed: &[u8]) -> String {
    String::from_utf8(miniz_oxide::inflate::decompress_to_vec_zlib(packed).unwrap()).unwrap()
}

/// Name, content type and text of each file.
fn files() -> Vec<(&'static str, &'static str, String)> {
    FILES.iter().map(|(name, packed)| (*name, kind(name), unpacked(packed))).collect()
}

fn scripts() -> Vec<(&'static str, &'static str, String)> {
    files().into_iter().filter(|(_, kind, _)| *kind == SCRIPT).collect()
}

/// The texts between `open` and the next quote; `open` begins a word.
fn quoted<'a>(text: &'a str, open: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
    text.match_indices(open)
        .filter(|(at, _)| !text[..*at].ends_with(is_word))
        .filter_map(|(at, _)| text[at + open.len()..].split('"').next())
        .collect()
}

#[test]
fn the_page_and_its_files_are_kept_by_the_browser() {
    let first = page(None);
    let tag = first.header("etag").unwrap().to_string();
    assert_eq!((first.status, page(Some(&tag)).status, page(Some("\"x\"")).status), (200, 304, 200));
    assert!(page(Some(&tag)).body.is_empty() && page(Some(&tag)).header("content-security-policy").is_some());
    let digest = tag.trim_matches('"');
    for (name, _, text) in files() {
        let answer = file(digest, name, None).unwrap();
        let written = std::fs::read_to_string(format!("{}/src/console/assets/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!((answer.header("content-encoding"), &text), (Some("deflate"), &written), "{name}");
        assert_eq!(unpacked(&answer.body), written, "{name}");
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        assert_eq!(file(digest, name, Some(&format!("W/{tag}"))).unwrap().status, 304);
        assert!(file("000000000000", name, None).is_none(), "another version's {name}");
    }
    let types = |name| file(digest, name, None).unwrap().header("content-type").unwrap().to_string();
    assert_eq!([types("icon.svg"), types("base.css"), types("app.js")], [IMAGE, STYLE, SCRIPT]);
    assert!(file(digest, "mod.rs", None).is_none());
}

#[test]
fn every_file_is_there_and_used() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/console/assets");
    let written: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(written, FILES.iter().map(|(name, _)| name.to_string()).collect());
    let page = String::from_utf8(page(None).body.into_owned()).unwrap();
    let scripts = scripts();
    let mut asked: BTreeSet<&str> = quoted(&page, "/console/").iter().filter_map(|p| p.split('/').nth(1)).collect();
    for (name, _, text) in &scripts {
        for import in quoted(text, "from \"./").into_iter().chain(quoted(text, "import(\"./")) {
            assert!(FILES.iter().any(|(known, _)| *known == import), "{name} imports {import}");
            asked.insert(import);
        }
    }
    let unused: Vec<_> = written.iter().filter(|name| !asked.contains(name.as_str())).collect();
    assert!(unused.is_empty(), "nobody asks for {unused:?}");
}

#[test]
fn small_and_without_a_way_in_for_markup() {
    let bytes: usize = FILES.iter().map(|(_, packed)| packed.len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    for (name, kind, text) in files() {
        let lines = text.lines().count();
        assert!(lines <= 450, "{name} has {lines} lines");
        assert!(kind == IMAGE || text.starts_with("/*") || text.starts_with("//"), "{name} does not say what it is");
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc", "@import"]
        {
            assert!(!text.contains(word), "{name} holds {word}");
        }
        for address in text.match_indices("http").filter(|(at, _)| {
            let rest = &text[*at..];
            rest.starts_with("http://") || rest.starts_with("https://")
        }) {
            let rest: String = text[address.0..].chars().take(40).collect();
            let harmless = rest.starts_with("http://www.w3.org/") || rest.starts_with("http://127.0.0.1:");
            assert!(harmless, "{name} names an address: {rest}");
        }
    }
}

#[test]
fn every_text_is_translated() {
    let scripts = scripts();
    let chinese = &scripts.iter().find(|(name, _, _)| *name == "zh.js").unwrap().2;
    let known: BTreeSet<&str> =
        chinese.lines().filter_map(|l| l.trim_start().strip_prefix('"')?.split("\": \"").next()).collect();
    let mut used = BTreeSet::new();
    for (_, _, text) in scripts.iter().filter(|(name, _, _)| *name != "zh.js") {
        used.extend(quoted(text, "t(\""));
        used.extend(quoted(text, "T(\""));
    }
    let missing: Vec<_> = used.difference(&known).collect();
    assert!(missing.is_empty(), "not in zh.js: {missing:#?}");
    let left: Vec<_> = known.difference(&used).collect();
    assert!(left.is_empty(), "in zh.js, and nobody says it: {left:#?}");
}
