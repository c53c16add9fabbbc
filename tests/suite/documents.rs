//! The documents' examples, run: what a page tells people to write works as it stands there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::{BINARY, Gateway};
use crate::support::merged;
use crate::support::model::echo_config;
use crate::support::sink::Sink;

const PAGES: [&str; 13] = [
    "../README",
    "README.zh-CN",
    "install",
    "SECURITY",
    "agents",
    "mcp",
    "channels",
    "telegram",
    "matrix",
    "mqtt",
    "discord",
    "slack",
    "webhooks",
];
/// Where systemd puts a service's credentials; here they lie in the data directory.
const CREDENTIALS: &str = "/run/credentials/gatelet.service/";
const SHOP: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn page(name: &str) -> String {
    let path = format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The fenced blocks of that language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_string()).collect()
}

/// The names under `{"env": NAME}` or `{"file": NAME}`.
fn named(value: &Value, key: &str) -> Vec<String> {
    match value {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(key) => {
            fields[key].as_str().map(str::to_string).into_iter().collect()
        }
        Value::Object(fields) => fields.values().flat_map(|v| named(v, key)).collect(),
        Value::Array(items) => items.iter().flat_map(|v| named(v, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_configuration_that_a_page_shows_is_valid() {
    for name in PAGES {
        let configurations = blocks(&page(name), "json");
        assert!(!configurations.is_empty(), "{name}.md shows a configuration");
        for text in configurations.into_iter().map(|text| text.replace(CREDENTIALS, "")) {
            let config: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}.md: {e}: {text}"));
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), &text).unwrap();
            for file in named(&config, "file") {
                std::fs::write(folder.path().join(file), "a-secret-of-some-length-0123456789").unwrap();
            }
            let mut command = Command::new(BINARY);
            command.arg("check").arg("--config").arg(folder.path().join("config.json")).arg("--data-dir").arg(folder.path());
            for variable in named(&config, "env") {
                command.env(variable, "a-secret-of-some-length-0123456789");
            }
            let output = command.output().expect("gatelet check");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}.md: {said}\n{text}");
        }
    }
}

/// The headings of a page, as links name them.
fn anchors(page: &str) -> Vec<String> {
    let mut in_code = false;
    let headings = page.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings
        .map(|h| h.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(
        std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "md")),
    );
    let (mut seen, mut astray) = (0, Vec::new());
    for path in &pages {
        let text = std::fs::read_to_string(path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let is_there =
                to.exists() && (anchor.is_empty() || anchors(&std::fs::read_to_string(&to).unwrap()).iter().any(|a| a == anchor));
            seen += 1;
            if !is_there {
                astray.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(seen > 50, "the pages link to each other: {seen}");
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

fn python(program: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new("python3").args(["-c", program]).envs(environment.iter().copied()).output().expect("python3");
    assert!(output.status.success(), "{}\n{program}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

#[test]
fn the_examples_of_the_webhooks_page_work() {
    let page = page("webhooks");
    let programs = blocks(&page, "python");
    let [send, verify] = &programs[..] else { panic!("two programs: {}", programs.len()) };
    let sink = Sink::new();
    let mut config: Value = serde_json::from_str(&blocks(&page, "json")[0]).unwrap();
    config["channels"]["shop"]["replyUrl"] = json!(sink.url);
    let gateway = Gateway::prepare(merged(echo_config(), config))
        .env("DOOR_TOKEN", "door-token-0123456789abcdef")
        .env("SHOP_SECRET", SHOP)
        .env("FORGE_SECRET", "a plain secret of some length")
        .env("ALERTS_TOKEN", "alerts-token-0123456789abcdef")
        .begin();
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let environment = [("SHOP_SECRET", SHOP), ("GATELET_URL", url.as_str())];
    for status in ["accepted", "duplicate"] {
        let answer: Value = serde_json::from_str(&python(send, &environment)).expect("JSON");
        assert_eq!(answer["status"], status, "{answer}");
    }
    let reply = &sink.until(1, 10)[0];
    assert_eq!(reply.text(), "echo: Where is my order?");
    let headers: serde_json::Map<String, Value> = reply.headers.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
    let body = String::from_utf8(reply.raw.clone()).unwrap();
    for (body, genuine) in [(body.clone(), "True"), (format!("{body} "), "False")] {
        let program = format!("{verify}\nimport json\nprint(is_genuine(json.loads(os.environ['H']), os.environ['B'].encode()))");
        let headers = Value::Object(headers.clone()).to_string();
        assert_eq!(python(&program, &[("SHOP_SECRET", SHOP), ("H", &headers), ("B", &body)]), genuine);
    }
    // The bearer, and the foreign body.
    let door = gateway.call("POST", "/webhook/door").token("door-token-0123456789abcdef");
    let door =
        door.json(&json!({"userId": "ana", "message": "Who is there?", "messageId": "4711"})).patience(Duration::from_secs(10));
    assert_eq!(door.send().expect(202).field("status"), "accepted");
    let comment =
        json!({"action": "created", "comment": {"id": 77, "body": "+1", "user": {"id": 9, "login": "eve"}}}).to_string();
    let signature = crate::support::sink::hub_signature("a plain secret of some length", comment.as_bytes());
    for status in ["accepted", "duplicate"] {
        let call = gateway.call("POST", "/webhook/forge").header("Content-Type", "application/json").body(comment.clone());
        assert_eq!(call.header("X-Hub-Signature-256", &signature).send().expect(202).field("status"), status);
    }
}
