//! What is written to do harm in the browser of who reads it.

use serde_json::json;

use crate::console::browse;
use crate::support::gateway::Gateway;
use crate::support::merged;
use crate::support::model::{Act, Model, Question};
use crate::support::side_by_side;

/// Answers of an agent that was taken over.
fn answers() -> Vec<String> {
    let markup = r#"<img src=x onerror="window.pwned=1"> <script>window.pwned=1</script> <svg onload=window.pwned=1>
<iframe srcdoc="<script>parent.pwned=1</script>"></iframe> <base href="https://evil.example/"> <style>*{display:none}</style>"#;
    let links = "[a](javascript:window.pwned=1) [b](JaVaScRiPt:window.pwned=1) [c](java\u{9}script:window.pwned=1) \
        [d](data:text/html,<script>window.pwned=1</script>) [e](vbscript:x) [f](//evil.example/x) [g](file:///etc/passwd) \
        ![picture](https://evil.example/seen.png) ![x](javascript:alert) [fine](https://example.org/fine) \
        <javascript:window.pwned=1> [h](blob:https://x/y) [i]( javascript&#58;window.pwned=1)";
    let hidden = "\u{202e}gpj.exe\u{202c} \u{2066}x\u{2069} \u{0}\u{7}\u{1b}[31mred **\u{202e}bold** `\u{202e}code`";
    vec![
        markup.into(),
        links.into(),
        hidden.into(),
        "**a ".repeat(20_000),
        "[a](".repeat(15_000),
        format!("{}deep", "> ".repeat(3000)),
        (0..400).map(|i| format!("{}- x\n", "  ".repeat(i % 60))).collect(),
        "| a ".repeat(3000) + "|\n|" + &"---|".repeat(3000) + "\n" + &"| b ".repeat(3000),
        "large ".repeat(33_000),
    ]
}

#[test]
fn what_is_hostile_is_shown_and_does_nothing() {
    let model = Model::scripted(|q: &Question| {
        let number = q.text.strip_prefix("hostile ").and_then(|n| n.parse::<usize>().ok());
        Act::Say(number.and_then(|n| answers().get(n).cloned()).unwrap_or_else(|| q.text.clone()))
    });
    let mut gateway = Gateway::start(merged(model.config(), json!({"gateway": {"workers": {"turns": 8}}})));
    gateway.ask("<img src=x onerror=window.pwned=1>", "<script>window.pwned=1</script> \u{202e}x");
    browse("hostile.mjs", &mut gateway, |what, gateway| match what {
        "how many" => answers().len().to_string(),
        "many" => {
            side_by_side(8, |n| (0..32).for_each(|i| drop(gateway.tell(&format!("u{n}-{i}"), "one of many"))));
            String::new()
        }
        other => panic!("the script asks for {other:?}"),
    });
}
