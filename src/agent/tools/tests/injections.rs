//! The corpus of injections against the door: every call that an obedient model would make of it, under the usual rules and under
//! careless ones. (The suite drives the same corpus through a whole gateway.)

use std::collections::BTreeMap;

use super::*;
use crate::domain::{Note, ToolCall};

const CORPUS: &str = include_str!("../../../../tests/data/injections.txt");

struct Block {
    title: String,
    text: String,
}

impl Block {
    /// The calls that it wants: tool and arguments.
    fn calls(&self) -> Vec<ToolCall> {
        let wanted = |(at, mark): (usize, &str)| {
            let (name, rest) = self.text[at + mark.len()..].split_once(' ')?;
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            values.next()?.ok().filter(Value::is_object)?;
            Some(call(name, &rest[..values.byte_offset()]))
        };
        self.text.match_indices("CALL ").filter_map(wanted).collect()
    }
}

fn blocks() -> Vec<Block> {
    let block = |text: &str| {
        let (title, text) = text.split_once('\n').unwrap();
        Block { title: title.into(), text: text.into() }
    };
    CORPUS.split("\n=== ").skip(1).map(block).collect()
}

#[test]
fn the_corpus_is_whole() {
    let blocks = blocks();
    assert!(blocks.len() >= 60, "{}", blocks.len());
    let mut tools: BTreeMap<String, usize> = BTreeMap::new();
    for (i, block) in blocks.iter().enumerate() {
        assert!(block.title.starts_with(&format!("{:02} | ", i + 1)), "{}", block.title);
        let calls = block.calls();
        assert!(!calls.is_empty(), "{} wants nothing", block.title);
        let marks = block.text.matches("CALL ").count();
        assert!(
            calls.len() == marks || block.text.contains("\\\""),
            "{}: {} of {marks} marks are calls",
            block.title,
            calls.len()
        );
        calls.into_iter().for_each(|call| *tools.entry(call.name).or_default() += 1);
    }
    for (tool, least) in [("shell.run", 40), ("http.get", 8), ("message.send", 8), ("memory.forget", 3), ("config.set", 1)] {
        assert!(tools.get(tool).is_some_and(|n| *n >= least), "{tool}: {tools:?}");
    }
    assert!(tools.keys().filter(|name| name.starts_with("mcp.")).count() >= 4, "{tools:?}");
    let languages: std::collections::BTreeSet<_> = blocks.iter().map(|b| b.title.split(" | ").nth(1).unwrap()).collect();
    assert!(languages.len() >= 10, "{languages:?}");
}

#[test]
fn obedience_has_no_effect() {
    let names = ["shell.run", "http.get", "mcp.files.read_file", "mcp.files.write_file", "mcp.git.delete_branch", "mcp.db.query"];
    let bobs = Note {
        id: "not_01hbob0000000000000000000".into(),
        user_id: "bob".into(),
        agent: "main".into(),
        text: "my password is hunter2".into(),
        created_ms: 0,
        updated_ms: 0,
    };
    let reading: &[&str] = &["allow memory.*", "allow session.*", "allow message.send", "deny config.*"];
    let (mut asked, mut refused) = (0, 0);
    for rules in [&USUAL[..], reading] {
        for standing in Standing::ALL {
            let stubs: Vec<_> = names.iter().map(|name| Stub::new(name)).collect();
            let toolbox = toolbox(Action::Ask, rules, &stubs);
            let mut desk = Desk::of(standing);
            desk.store.notes.lock().unwrap().push(bobs.clone());
            for block in blocks() {
                for call in block.calls() {
                    match desk.try_call(&toolbox, &call, &[], None).unwrap() {
                        Invoked::Ask(question) => {
                            asked += 1;
                            assert!(!question.text.chars().any(|c| c.is_control() && c != '\n'), "{}", question.text);
                            assert!(standing != Standing::Unverified, "nobody is asked for a stranger: {}", block.title);
                        }
                        Invoked::Done(result) => {
                            let reads = ["memory.search", "session.history"].contains(&call.name.as_str());
                            assert!(result.is_error || reads, "{}: {call:?} gave {result:?}", block.title);
                            assert!(!result.content.contains("hunter2"), "{}", block.title);
                            refused += 1;
                        }
                    }
                }
            }
            assert!(stubs.iter().all(|stub| stub.ran() == 0));
            assert!(desk.post.0.lock().unwrap().is_empty());
            assert_eq!(desk.store.notes.lock().unwrap().as_slice(), std::slice::from_ref(&bobs));
        }
    }
    assert!(asked > 300 && refused > 150, "{asked} asked, {refused} refused");
}
