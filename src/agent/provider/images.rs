//! Images in a prompt, and servers whose model can't see them.
//!
//! Invariant: what an image is, its own first bytes say, never its sender. A question that was refused and held images is asked once
//! more without them, and says in words that they are missing; that a model can't see is remembered only where the server says it
//! of the model: one broken image must not blind it for everybody. Pure.

use std::fmt;
use std::sync::Arc;

use base64::Engine;

use crate::agent::provider::Completion;
use crate::net::client::Refused;

/// The name under which `refusals::Refusals` remembers a model that can't see.
pub const IMAGES: &str = "images";
/// What stands in the place of images.
const UNSEEN: &str = "[Images came with this, which you can't be shown.]";

/// An image as providers take it.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub media_type: &'static str,
    /// Its bytes in base 64.
    pub base64: Arc<str>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} characters)", self.media_type, self.base64.len())
    }
}

impl Image {
    /// The image that these bytes are; `None` where they are none that models know.
    pub fn of(bytes: &[u8]) -> Option<Image> {
        let media_type = sniff(bytes)?;
        Some(Image { media_type, base64: base64::engine::general_purpose::STANDARD.encode(bytes).into() })
    }
}

fn sniff(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Whether a question holds images.
pub fn has_images(ask: &Completion) -> bool {
    ask.messages.iter().any(|m| !m.images.is_empty())
}

/// Takes the images out of a question; false where there were none.
pub fn take_out(ask: &mut Completion) -> bool {
    let mut any = false;
    for message in ask.messages.iter_mut().filter(|m| !m.images.is_empty()) {
        message.images.clear();
        let gap = if message.text.is_empty() { "" } else { "\n\n" };
        message.text.push_str(&format!("{gap}{UNSEEN}"));
        any = true;
    }
    any
}

/// What a refusal says of the images in its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was about something else.
    Unrelated,
    /// They may be why, for this once.
    Perhaps,
    /// The model can't see.
    Blind,
}

/// Reads the refusal of a question that held images.
pub fn verdict(refused: &Refused) -> Verdict {
    let text = refused.body.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    // Less history helps there, and is tried by who asks.
    if text.contains("context") && any(&["size", "length", "window", "exceed", "token"]) {
        return Verdict::Unrelated;
    }
    let names = any(&["image", "vision", "multimodal", "multi-modal", "mmproj"])
        || text.contains("content") && any(&["string", "array", "list", "sequence"]);
    let as_such = any(&[
        "support",
        "not allowed",
        "not enabled",
        "mmproj",
        "string",
        "unknown variant",
        "at most 0",
        "missing data",
        "text-only",
        "does not have",
        "no endpoints",
        "cannot read",
        "input should be",
    ]);
    let of_this_one = any(&[
        "format",
        "decod",
        "corrupt",
        "invalid image",
        "process",
        "too large",
        "too big",
        "dimension",
        "pixel",
        "maximum",
        "media_type",
        "media type",
        "could not",
        "base64",
        "truncated",
        "empty image",
    ]);
    match refused.status {
        400 | 404 | 415 | 422 | 500 | 501 if names && as_such && !of_this_one => Verdict::Blind,
        400 | 413 | 422 => Verdict::Perhaps,
        404 | 415 | 500 | 501 if names => Verdict::Perhaps,
        _ => Verdict::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{Error, ErrorKind};

    #[test]
    fn bytes_say_what_they_are() {
        for (bytes, found) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Some("image/png")),
            (b"\x89PNG\n\x1a\n", None),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"\xff\xd8", None),
            (b"GIF89a", Some("image/gif")),
            (b"GIF88a", None),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x01\x02\x03\x04WAVE", None),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
            (b"<html>", None),
            (b"", None),
        ] {
            assert_eq!(Image::of(bytes).map(|i| i.media_type), found, "{bytes:?}");
        }
        let image = Image::of(b"GIF89a").unwrap();
        assert_eq!((&*image.base64, format!("{image:?}").as_str()), ("R0lGODlh", "image/gif (8 characters)"));
    }

    #[test]
    fn what_refusals_say() {
        use Verdict::{Blind, Perhaps, Unrelated};
        for (status, body, expected) in [
            (400, "Invalid content type. image_url is only supported by certain models.", Blind),
            (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", Blind),
            (404, "No endpoints found that support image input", Blind),
            (422, "unknown variant `image_url`, expected `text`", Blind),
            (400, "messages[1].content must be a string", Blind),
            (400, "At most 0 image(s) may be provided in one request.", Blind),
            (400, "You uploaded an unsupported image. Please make sure your image has of one the following formats", Perhaps),
            (400, "Could not process image", Perhaps),
            (400, "messages.0.content.0.image.source.base64: image exceeds 5 MB maximum: supported are less", Perhaps),
            (500, "Failed to load image or audio file: not supported format", Perhaps),
            (413, "", Perhaps),
            (400, "", Perhaps),
            (400, "this model's maximum context length is 4096 tokens", Unrelated),
            (404, "model not found", Unrelated),
            (500, "internal error", Unrelated),
            (401, "images are not supported with this key", Unrelated),
            (429, "image rate limit, support tier 1", Unrelated),
            (503, "images are not supported", Unrelated),
        ] {
            let refused = Refused { status, body: body.into(), error: Error::new(ErrorKind::Permanent, "x") };
            assert_eq!(verdict(&refused), expected, "{status} {body}");
        }
    }
}
