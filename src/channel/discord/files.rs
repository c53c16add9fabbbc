//! Files of Discord: which of a message can be fetched, and from where.
//!
//! Invariant: only Discord's own hosts for files are asked, or exactly the origin of `apiRoot`; none of them gets the token. Pure.

use serde_json::Value;

use crate::channel::files::{https, is_at};
use crate::domain::{ATTACHMENTS_MAX, Attachment};

const HOSTS: [&str; 2] = ["cdn.discordapp.com", "media.discordapp.net"];

/// The files of a message.
pub fn of(message: &Value) -> Vec<Attachment> {
    let files = message["attachments"].as_array().into_iter().flatten();
    let one = |file: &Value| {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        Attachment::new(text("url"), text("filename"), text("content_type"), file["size"].as_u64())
    };
    files.filter_map(one).take(ATTACHMENTS_MAX).collect()
}

/// Whether a file's address is Discord's own.
pub fn is_discords(url: &str, api_root: &str) -> bool {
    is_at(url, api_root) || https(url).is_some_and(|(host, _)| HOSTS.contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_address() {
        const ROOT: &str = "https://discord.com/api/v10";
        for (url, ours) in [
            ("https://cdn.discordapp.com/attachments/1/2/a.png?ex=1&is=2&hm=3&", true),
            ("https://media.discordapp.net/attachments/1/2/a.png", true),
            ("https://cdn.discordapp.com.evil.example/a", false),
            ("https://evil.example/cdn.discordapp.com/a", false),
            ("http://cdn.discordapp.com/a", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(is_discords(url, ROOT), ours, "{url}");
        }
        let file = serde_json::json!({"url": "https://cdn.discordapp.com/a", "filename": ".bashrc", "size": 3});
        let found = of(&serde_json::json!({"attachments": vec![file; 20]}));
        assert_eq!((found.len(), found[0].name.as_str()), (ATTACHMENTS_MAX, ".bashrc"));
    }
}
