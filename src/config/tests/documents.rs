//! Texts that are no documents, merge patches, revisions.

use serde_json::{Value, json};

use super::{CANARY, EXAMPLE, complaints, read};
use crate::base::threads::{STACK, Threads};
use crate::config::{DOCUMENT_BYTES_MAX, diff, effective, forbidden_over_http, merge, parse, restore, revision};

#[test]
fn texts_that_are_no_documents() {
    let long = " ".repeat(DOCUMENT_BYTES_MAX + 1);
    let deep = format!("{}{}", "[".repeat(30), "]".repeat(30));
    let cases: &[(&[u8], &[&str])] = &[
        (b"", &["$: empty; write {} for a configuration of defaults"]),
        (b" \n\t", &["$: empty; write {} for a configuration of defaults"]),
        (b"\xef\xbb\xbf{}", &["$: begins with a byte order mark; save it as UTF-8 without one"]),
        (b"\xff\xfe{\0}\0", &["$: begins with a byte order mark; save it as UTF-8 without one"]),
        (b"{\"a\": \"\xe9\"}", &["$: not UTF-8 from byte 7 on; save it as UTF-8"]),
        (b"{\n  \"log\": {},\n}", &["$: not JSON at line 3, column 1: trailing comma"]),
        (b"{\n  // no\n}", &["$: not JSON at line 2, column 3: key must be a string; JSON has no comments"]),
        (b"{\"log\": {}", &["$: not JSON at line 1, column 10: EOF while parsing an object"]),
        (b"{} {}", &["$: not JSON at line 1, column 4: trailing characters"]),
        (b"{\"n\": 1e999}", &["$: not JSON at line 1, column 11: number out of range"]),
        (b"{\"s\": \"\\ud800\"}", &["$: not JSON at line 1, column 14: unexpected end of hex escape"]),
        (long.as_bytes(), &["$: found 1048577 bytes, expected at most 1048576"]),
        (deep.as_bytes(), &["$: not JSON at line 1, column 25: objects and lists within each other, more than 24 deep"]),
        (
            br#"{"log": {}, "gateway": {"listen": "a", "listen": "b", "auth": {"tokens": [{"name": "a", "name": "b"}]}}, "log": {}}"#,
            &[
                "$.gateway.listen: stands there twice; keep one of them",
                "$.gateway.auth.tokens[0].name: stands there twice; keep one of them",
                "$.log: stands there twice; keep one of them",
            ],
        ),
    ];
    for (bytes, expected) in cases {
        let found = super::lines(parse(bytes).unwrap_err());
        assert_eq!(found, *expected, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(99)]));
    }
    assert_eq!(complaints("[]"), ["$: found a list, expected an object; {} is a whole configuration"]);
}

/// The appendix of RFC 7396, case by case.
#[test]
fn merge_patches() {
    for (doc, patch, merged) in [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a":"b"}), json!(["c"]), json!(["c"])),
        (json!({"a":"foo"}), json!(null), json!(null)),
        (json!({"a":"foo"}), json!("bar"), json!("bar")),
        (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
        (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
        (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
    ] {
        let mut found = doc.clone();
        merge(&mut found, &patch);
        assert_eq!(found, merged, "{doc} and {patch}");
    }
}

#[test]
fn a_merge_keeps_the_order_of_keys() {
    let mut doc = json!({"a": 1, "b": 2, "c": 3});
    merge(&mut doc, &json!({"a": null, "d": 4}));
    assert_eq!(doc.to_string(), r#"{"b":2,"c":3,"d":4}"#);
}

#[test]
fn revisions() {
    let one = revision(&parse(br#"{"log":{"level":"info"}}"#).unwrap());
    assert_eq!(one, revision(&parse(b"{ \"log\" :\n{\"level\": \"info\" } }").unwrap()), "spaces count for nothing");
    assert_ne!(one, revision(&json!({"log": {"level": "warn"}})));
    assert!(one.len() == 16 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
}

/// A small generator, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// Cut and changed examples are refused or work; none of them panics, and what works can be shown and sent back.
#[test]
fn three_thousand_broken_examples() {
    let (mut dice, mut good, mut bad) = (Dice(7), 0, 0);
    for i in 0..3000 {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        match i % 3 {
            0 => bytes.truncate(dice.below(bytes.len())),
            1 => {
                for _ in 0..=dice.below(3) {
                    let at = dice.below(bytes.len());
                    bytes[at] = b"{}[]\",:0-\\\0\xffa "[dice.below(14)];
                }
            }
            _ => {
                let from = dice.below(bytes.len());
                bytes.drain(from..(from + dice.below(60)).min(EXAMPLE.len()));
            }
        }
        match parse(&bytes).and_then(|doc| Ok((super::World::default().resolve(&doc)?, doc))) {
            Ok((resolved, doc)) => {
                good += 1;
                let back = restore(&resolved.effective(), &doc).unwrap();
                assert_eq!(effective(&back), resolved.effective());
            }
            Err(problems) => {
                bad += 1;
                assert!(!problems.is_empty() && problems.iter().all(|p| p.path.starts_with('$') && !p.message.is_empty()));
            }
        }
    }
    assert!(good > 10 && bad > 1500, "{good} good, {bad} bad");
}

/// Every value of the example in turn becomes something else: never a panic, and a problem names its place.
#[test]
fn every_value_of_another_kind() {
    fn places(v: &Value, at: String, out: &mut Vec<String>) {
        for (name, v) in v.as_object().into_iter().flatten() {
            places(v, format!("{at}/{name}"), out);
        }
        v.as_array().into_iter().flatten().enumerate().for_each(|(i, v)| places(v, format!("{at}/{i}"), out));
        out.push(at);
    }
    let doc = read(EXAMPLE).unwrap().effective();
    let mut all = Vec::new();
    places(&doc, String::new(), &mut all);
    assert!(all.len() > 80, "{}", all.len());
    for at in all {
        for other in
            [json!(null), json!(true), json!(-1), json!(1.5), json!(u64::MAX), json!(CANARY), json!([1]), json!({"x": 1})]
        {
            let mut doc = doc.clone();
            *doc.pointer_mut(&at).unwrap() = other;
            let _ = restore(&doc, &doc);
            let _ = forbidden_over_http(&doc, &json!({}));
            for problem in complaints(&doc.to_string()) {
                // Names that are looked up are shown: a person has to see which one is not there.
                assert!(!problem.contains(CANARY) || problem.contains(": there is no "), "{at}: {problem}");
            }
        }
    }
}

/// Worker threads have small stacks: what `parse` lets through fits them with room to spare, and what is deeper is refused by it.
#[test]
fn depth_fits_a_workers_stack() {
    let threads = Threads::new();
    let (tx, rx) = crossbeam_channel::bounded(1);
    let work = move || {
        let deep = |n: usize| format!("{}1{}", "{\"tools\":{\"mcp\":{\"a\":".repeat(n), "}}}".repeat(n));
        let doc = parse(deep(8).as_bytes()).unwrap();
        let mut merged = doc.clone();
        merge(&mut merged, &doc);
        let _ = restore(&merged, &doc);
        let _ = effective(&merged);
        let _ = super::World::default().resolve(&merged);
        tx.send(parse(deep(40_000).as_bytes()).is_err()).unwrap();
    };
    threads.spawn_once("small", STACK, work).unwrap();
    assert_eq!(rx.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
    let same = read("{}").unwrap();
    assert!(diff(&same, &same).is_empty());
}
