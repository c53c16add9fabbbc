//! Files of Matrix: which of what was said can be fetched, and how.
//!
//! Invariant: only `mxc:` addresses, and only through our own homeserver, whose business it is to ask others; it gets the token and
//! nobody else. An encrypted file is no attachment. Fails with the API's kinds.

use serde_json::Value;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::Wanted;
use crate::channel::matrix::api::{Api, encoded};
use crate::channel::matrix::wire::text;
use crate::domain::Attachment;

/// The image or file that a message is.
pub(super) fn of(content: &Value) -> Option<Attachment> {
    if !matches!(text(content, &["msgtype"]), "m.image" | "m.file") {
        return None;
    }
    let address = text(content, &["url"]);
    parts(address)?;
    let (file, body) = (text(content, &["filename"]), text(content, &["body"]));
    let name = if file.is_empty() { body } else { file };
    Attachment::new(address, name, text(content, &["info", "mimetype"]), content["info"]["size"].as_u64())
}

/// Server and id of an `mxc:` address.
fn parts(address: &str) -> Option<(&str, &str)> {
    let (server, id) = address.strip_prefix("mxc://")?.split_once('/')?;
    let is_id = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let is_server = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let is_fine = |text: &str, fits: fn(u8) -> bool| (1..=255).contains(&text.len()) && text.bytes().all(fits);
    (is_fine(server, is_server) && is_fine(id, is_id)).then_some((server, id))
}

/// The bytes of a file; by the older way where the homeserver does not know the newer one.
pub(super) fn fetch(api: &Api, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
    let Some((server, id)) = parts(&file.reference) else {
        return Err(Error::new(ErrorKind::Permanent, "the file has no address of Matrix"));
    };
    let path = format!("{}/{}", encoded(server), encoded(id));
    match api.media(&format!("/_matrix/client/v1/media/download/{path}"), wanted) {
        Err(failure) if failure.status == 404 => Ok(api.media(&format!("/_matrix/media/v3/download/{path}"), wanted)?),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_fetched() {
        let mxc = "mxc://example.org:8448/AbC_1-2";
        for (content, name) in [
            (json!({"msgtype": "m.image", "body": "a.png", "url": mxc}), Some("a.png")),
            (json!({"msgtype": "m.file", "body": "look", "filename": "../a.png", "url": mxc}), Some("../a.png")),
            (json!({"msgtype": "m.image", "body": "a.png", "file": {"url": mxc}}), None),
            (json!({"msgtype": "m.audio", "body": "a.ogg", "url": mxc}), None),
            (json!({"msgtype": "m.image", "body": "a", "url": "https://evil.example/a"}), None),
            (json!({"msgtype": "m.image", "body": "a", "url": "mxc://evil.example/../../v3/account"}), None),
            (json!({"msgtype": "m.image", "body": "a", "url": "mxc://evil.example"}), None),
            (json!({"msgtype": "m.image", "body": "a", "url": "mxc://evil@x/a"}), None),
            (json!({"msgtype": "m.image", "body": "a", "url": 5}), None),
        ] {
            assert_eq!(of(&content).map(|a| a.name).as_deref(), name, "{content}");
        }
    }
}
