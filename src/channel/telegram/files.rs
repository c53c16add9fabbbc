//! Files of Telegram: which of a message can be fetched, and how.
//!
//! Invariant: a path that the server gives is asked for only where it can be nothing else than a path below the bot's own files. Of a
//! photo, which comes in several sizes, the largest within the bound is taken. What is only described (voice, video, stickers) is no
//! attachment. Fails with the API's kinds.

use serde_json::Value;

use crate::base::error::{Error, ErrorKind, Result};
use crate::channel::telegram::api::Api;
use crate::channel::{Wanted, files};
use crate::domain::Attachment;

/// Sizes of a photo that are remembered.
const SIZES_MAX: usize = 6;

/// The photo and the document of a message. A reference is `id` or, of a photo, `id:bytes` for each size, largest first.
pub fn of(message: &Value) -> Vec<Attachment> {
    let mut found = Vec::new();
    let sizes: Vec<&Value> = message["photo"].as_array().into_iter().flatten().rev().take(SIZES_MAX).collect();
    let one = |size: &&Value| Some(format!("{}:{}", id(size)?, size["file_size"].as_u64().unwrap_or(0)));
    let reference: Vec<String> = sizes.iter().filter_map(one).collect();
    found.extend(Attachment::new(&reference.join(" "), "photo.jpg", "image/jpeg", None)); // it has several sizes
    // An animation comes as a document as well, and is a film.
    let document = &message["document"];
    if let Some(id) = id(document).filter(|_| !message["animation"].is_object()) {
        let text = |key: &str| document[key].as_str().unwrap_or_default();
        found.extend(Attachment::new(id, text("file_name"), text("mime_type"), document["file_size"].as_u64()));
    }
    found
}

fn id(file: &Value) -> Option<&str> {
    let is_plain = |id: &&str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    file["file_id"].as_str().filter(is_plain)
}

/// The bytes of a file.
pub fn fetch(api: &Api, file: &Attachment, wanted: &Wanted<'_>) -> Result<Vec<u8>> {
    let id = choose(&file.reference, wanted.bytes_max).ok_or_else(|| files::too_large(wanted))?;
    let path = api.file_path(id, wanted)?;
    if !is_below(&path) {
        let text = "the server gives a path that is none of the bot's files";
        return Err(Error::new(ErrorKind::Permanent, text).hint("a Bot API server in local mode can't be read from"));
    }
    api.file(&path, wanted)
}

/// The first of the sizes that fits; one whose size is not known does.
fn choose(reference: &str, bytes_max: usize) -> Option<&str> {
    let fits = |part: &&str| part.split_once(':').is_none_or(|(_, n)| n.parse::<u64>().is_ok_and(|n| n <= bytes_max as u64));
    reference.split(' ').find(fits).map(|part| part.split(':').next().unwrap_or(part))
}

fn is_below(path: &str) -> bool {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    path.len() <= 512 && path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_fetched() {
        let photo = json!([{"file_id": "S", "file_size": 90}, {"file_id": "M", "file_size": 900}, {"file_id": "L"}]);
        for (message, references) in [
            (json!({"photo": photo}), vec!["L:0 M:900 S:90"]),
            (json!({"photo": []}), vec![]),
            (json!({"document": {"file_id": "D", "file_name": "../x", "mime_type": "text/plain", "file_size": 3}}), vec!["D"]),
            (json!({"document": {"file_id": "D"}, "animation": {"file_id": "D"}}), vec![]),
            (json!({"document": {"file_id": "D/../.."}}), vec![]),
            (json!({"voice": {"file_id": "V"}, "sticker": {"file_id": "S"}, "video": {"file_id": "F"}}), vec![]),
            (json!({"reply_to_message": {"photo": photo}, "text": "this?"}), vec![]),
        ] {
            let found: Vec<_> = of(&message).into_iter().map(|a| a.reference).collect();
            assert_eq!(found, references, "{message}");
        }
    }

    #[test]
    fn the_largest_that_fits() {
        for (reference, max, chosen) in [
            ("L:9000 M:900 S:90", 10_000, Some("L")),
            ("L:9000 M:900 S:90", 900, Some("M")),
            ("L:9000 M:900 S:90", 89, None),
            ("L:0 S:90", 1, Some("L")),
            ("D", 1, Some("D")),
        ] {
            assert_eq!(choose(reference, max), chosen, "{reference} {max}");
        }
    }

    #[test]
    fn paths() {
        for (path, fine) in [
            ("photos/file_1.jpg", true),
            ("documents/a.b-c_1", true),
            ("/var/lib/bot/photos/file_1.jpg", false),
            ("../bot77:secret/getMe", false),
            ("photos/../../x", false),
            ("photos//x", false),
            ("photos/x?y", false),
            ("photos/%2e%2e/x", false),
            ("", false),
        ] {
            assert_eq!(is_below(path), fine, "{path}");
        }
    }
}
