//! Files of Slack: which of an event can be fetched, and from where.
//!
//! Invariant: the bot's token goes to Slack's own hosts alone: the host of `apiRoot` and what is below it, by HTTPS, or exactly the
//! origin of `apiRoot`. Files that lie elsewhere (a shared drive's) are only described. Pure.

use serde_json::Value;

use crate::channel::files::{https, is_at};
use crate::domain::{ATTACHMENTS_MAX, Attachment};

/// The files of an event.
pub fn of(event: &Value) -> Vec<Attachment> {
    let files = event["files"].as_array().into_iter().flatten();
    let is_here = |file: &&Value| file["is_external"] != true && !matches!(file["mode"].as_str(), Some("tombstone" | "external"));
    let one = |file: &Value| {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        Attachment::new(text("url_private"), text("name"), text("mimetype"), file["size"].as_u64())
    };
    files.filter(is_here).filter_map(one).take(ATTACHMENTS_MAX).collect()
}

/// Whether a file's address is Slack's own.
pub fn is_slacks(url: &str, api_root: &str) -> bool {
    let below = |(host, _): (&str, &str)| {
        let root = api_root.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let is_below = host.strip_suffix(root).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        root.contains('.') && is_below
    };
    is_at(url, api_root) || https(url).is_some_and(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whose_address() {
        const ROOT: &str = "https://slack.com/api";
        for (url, root, ours) in [
            ("https://files.slack.com/files-pri/T1-F1/a.png", ROOT, true),
            ("https://slack.com/files-pri/a", ROOT, true),
            ("https://evilslack.com/a", ROOT, false),
            ("https://files.slack.com.evil.example/a", ROOT, false),
            ("https://files.slack.com@evil.example/a", ROOT, false),
            ("http://files.slack.com/a", ROOT, false),
            ("https://169.254.169.254/a", ROOT, false),
            ("http://127.0.0.1:99/files/a", "http://127.0.0.1:99/api", true),
            ("http://127.0.0.1:98/files/a", "http://127.0.0.1:99/api", false),
        ] {
            assert_eq!(is_slacks(url, root), ours, "{url}");
        }
    }

    #[test]
    fn what_can_be_fetched() {
        let file = |more: Value| {
            let mut file =
                json!({"name": "a.png", "mimetype": "image/png", "size": 3, "url_private": "https://files.slack.com/a"});
            file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            file
        };
        let files = json!([file(json!({})), file(json!({"is_external": true})), file(json!({"mode": "tombstone"})), 5]);
        assert_eq!(of(&json!({"files": files})).len(), 1);
        assert_eq!(of(&json!({"files": vec![file(json!({})); 50]})).len(), ATTACHMENTS_MAX);
    }
}
