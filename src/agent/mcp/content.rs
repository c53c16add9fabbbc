//! The result of a tool call, as the text that a model is given.
//!
//! Invariant: pure; bounded by [`TEXT_BYTES_MAX`]; what is no text is described, never decoded. A result that is none (it wants
//! input, it is a task to come back for) is an error that says so.

use serde_json::Value;

use crate::agent::mcp::text::clean;
use crate::base::error::{Error, ErrorKind, Result};

/// Longest text made of a result, in bytes: somewhat more than a call may give, so that the cut is made, and told, there.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest words of an error.
const ERROR_BYTES_MAX: usize = 4 * 1024;
/// Most blocks that are looked at.
const BLOCKS_MAX: usize = 1000;
/// Longest name, address or type in a description.
const LABEL_BYTES_MAX: usize = 200;

/// The text of a `tools/call` result.
///
/// # Errors
/// `Permanent`: the tool says that it failed, or the result is none.
pub fn text(result: &Value) -> Result<String> {
    let other = |what: &str| Error::new(ErrorKind::Permanent, format!("the tool {what}"));
    match result.get("resultType").and_then(Value::as_str) {
        None | Some("complete") => {}
        Some("input_required") => return Err(other("asks for further input, which it can't be given here")),
        Some("task") => return Err(other("wants to answer later, which is not waited for here")),
        Some(_) => return Err(other("answered in a way that is not known here")),
    }
    if result.get("task").is_some() && result.get("content").is_none() {
        return Err(other("wants to answer later, which is not waited for here"));
    }
    let text = shown(result);
    if result.get("isError").and_then(Value::as_bool) == Some(true) {
        let said = clean(&text, ERROR_BYTES_MAX);
        return Err(other(&if said.is_empty() { "failed and does not say why".to_string() } else { format!("failed: {said}") }));
    }
    Ok(text)
}

fn shown(result: &Value) -> String {
    let blocks = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    for block in blocks.iter().take(BLOCKS_MAX) {
        if !text.is_empty() {
            text.push('\n');
        }
        block_to(block, &mut text);
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    let has_text =
        blocks.iter().any(|b| kind(b) == "text" && b.get("text").and_then(Value::as_str).is_some_and(|t| !t.is_empty()));
    if let Some(structured) = result.get("structuredContent").filter(|s| !has_text && !s.is_null()) {
        let gap = if text.is_empty() { "" } else { "\n" };
        text = format!("{structured}{gap}{text}");
    }
    clean(&text, TEXT_BYTES_MAX)
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn block_to(block: &Value, text: &mut String) {
    let of = |at: &Value, key: &str| at.get(key).and_then(Value::as_str).map(|t| super::text::one_line(t, LABEL_BYTES_MAX));
    let mime = |at: &Value| of(at, "mimeType").unwrap_or_else(|| "of an unknown type".to_string());
    let described = match kind(block) {
        "text" => return text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default()),
        what @ ("image" | "audio") => format!("[{what} {}, {} bytes]", mime(block), decoded(block.get("data"))),
        "resource_link" => {
            let name = of(block, "name").map(|n| format!(" ({n})")).unwrap_or_default();
            format!("[resource {}{name}]", of(block, "uri").unwrap_or_default())
        }
        "resource" => {
            let resource = block.get("resource").unwrap_or(&Value::Null);
            let uri = of(resource, "uri").unwrap_or_default();
            match resource.get("text").and_then(Value::as_str) {
                Some(inner) => format!("[resource {uri}]\n{inner}"),
                None => format!("[resource {uri} {}, {} bytes]", mime(resource), decoded(resource.get("blob"))),
            }
        }
        other => format!("[content of the unknown type {:?}]", super::text::one_line(other, 40)),
    };
    text.push_str(&described);
}

/// How many bytes a base64 text stands for.
fn decoded(base64: Option<&Value>) -> usize {
    let text = base64.and_then(Value::as_str).unwrap_or_default().trim_end_matches('=');
    text.len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(result: Value, expected: Result<&str, &str>) {
        match (text(&result), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(got), Err(word)) => assert!(got.text.contains(word), "{got} says {word}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn results_become_texts() {
        let said = |t: &str| json!({"type": "text", "text": t});
        check(json!({"content": [said("a"), said("b")]}), Ok("a\nb"));
        check(json!({"resultType": "complete", "content": [said("a")], "structuredContent": {"x": 1}}), Ok("a"));
        check(json!({"content": [], "structuredContent": {"x": [1, "y"]}}), Ok(r#"{"x":[1,"y"]}"#));
        check(json!({"structuredContent": 0}), Ok("0"));
        check(json!({}), Ok(""));
        check(json!({"content": [said("a\u{202e}b\u{7}")]}), Ok("ab"));
        check(
            json!({"content": [{"type": "image", "mimeType": "image/png", "data": "AAAAAA=="}]}),
            Ok("[image image/png, 4 bytes]"),
        );
        check(json!({"content": [{"type": "audio"}]}), Ok("[audio of an unknown type, 0 bytes]"));
        check(json!({"content": [{"type": "resource_link", "uri": "file:///x", "name": "x"}]}), Ok("[resource file:///x (x)]"));
        check(json!({"content": [{"type": "resource", "resource": {"uri": "u:1", "text": "in"}}]}), Ok("[resource u:1]\nin"));
        let blob = json!({"uri": "u:1", "mimeType": "a/b", "blob": "AAAA"});
        check(json!({"content": [{"type": "resource", "resource": blob}]}), Ok("[resource u:1 a/b, 3 bytes]"));
        check(
            json!({"content": [{"type": "hologram"}, 7]}),
            Ok("[content of the unknown type \"hologram\"]\n[content of the unknown type \"\"]"),
        );
    }

    #[test]
    fn what_is_no_result() {
        check(json!({"isError": true, "content": [{"type": "text", "text": "no such file"}]}), Err("failed: no such file"));
        check(json!({"isError": true}), Err("does not say why"));
        check(json!({"resultType": "input_required", "inputRequests": {}}), Err("further input"));
        check(json!({"resultType": "task", "taskId": "1"}), Err("answer later"));
        check(json!({"task": {"taskId": "1"}}), Err("answer later"));
        check(json!({"resultType": "riddle"}), Err("not known"));
    }

    #[test]
    fn results_have_a_bound() {
        let long = json!({"content": [{"type": "text", "text": "ü".repeat(1 << 20)}]});
        assert!(text(&long).unwrap().len() <= TEXT_BYTES_MAX + 3);
        let many = json!({"content": vec![json!({"type": "image"}); 100_000]});
        assert!(text(&many).unwrap().len() <= TEXT_BYTES_MAX);
    }
}
