//! Files that come with messages.
//!
//! Invariant: a name is for eyes alone, it is part of no path; the reference is the service's and is shown to nobody, since it may be an
//! address that lets in whoever has it. Pure; what is beyond a bound is cut, and a reference beyond its bound is no attachment.

use serde::{Deserialize, Serialize};

use crate::base::error::shorten;

/// Most attachments of one message.
pub const ATTACHMENTS_MAX: usize = 10;
const REFERENCE_BYTES_MAX: usize = 2048;
const NAME_BYTES_MAX: usize = 200;
const TYPE_BYTES_MAX: usize = 100;

/// A file as its message names it; its bytes are still at the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The service's own handle (Telegram's `file_id`, Matrix's `mxc:`, Slack's and Discord's addresses).
    #[serde(skip)]
    pub reference: String,
    /// As the sender called it; may be empty.
    pub name: String,
    /// As the sender or the service says; may be empty, and may be wrong.
    pub media_type: String,
    /// How long it is, as the service says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Attachment {
    /// One within the bounds; `None` where the reference is none. Control characters become blanks.
    pub fn new(reference: &str, name: &str, media_type: &str, bytes: Option<u64>) -> Option<Self> {
        if reference.is_empty() || reference.len() > REFERENCE_BYTES_MAX || reference.chars().any(char::is_control) {
            return None;
        }
        let plain = |text: &str, max| {
            let text: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
            shorten(text.trim(), max)
        };
        Some(Attachment {
            reference: reference.to_string(),
            name: plain(name, NAME_BYTES_MAX),
            media_type: plain(media_type, TYPE_BYTES_MAX).to_ascii_lowercase(),
            bytes,
        })
    }
}

/// Where an attachment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// Its message's turn fetches it.
    #[default]
    Waiting,
    /// It is kept.
    Stored,
    /// It could not be had; a turn that runs again tries again.
    Failed,
    /// It was kept, and made room for newer ones.
    Removed,
}

impl AttachmentState {
    /// All of them, in the order of their numbers in the store.
    pub const ALL: [AttachmentState; 4] = [Self::Waiting, Self::Stored, Self::Failed, Self::Removed];
}

/// An attachment of a message that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// The file.
    #[serde(flatten)]
    pub file: Attachment,
    /// Where it stands.
    pub state: AttachmentState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_are_bounded() {
        let long = "n".repeat(4096);
        for (reference, name, shown) in [
            ("f", "a.png", Some("a.png")),
            ("f", "a\0b\n\u{1b}c", Some("a b  c")),
            ("f", "../../etc/passwd", Some("../../etc/passwd")),
            ("f", "", Some("")),
            ("", "a", None),
            ("a\nb", "a", None),
            (long.as_str(), "a", None),
        ] {
            assert_eq!(Attachment::new(reference, name, "", None).map(|a| a.name).as_deref(), shown, "{name:?}");
        }
        let long = Attachment::new("f", &"ñ".repeat(4096), &long, Some(1)).unwrap();
        assert!(long.name.len() <= NAME_BYTES_MAX + 3 && long.media_type.len() <= TYPE_BYTES_MAX + 3, "{long:?}");
        let shown = serde_json::to_value(Attached { file: long, state: AttachmentState::Stored }).unwrap();
        assert!(shown.get("reference").is_none() && shown["state"] == "stored" && shown["bytes"] == 1, "{shown}");
    }
}
