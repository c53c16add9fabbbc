//! Standard Webhooks and GitHub's `X-Hub-Signature-256`: signing and verifying, as values over bytes.
//!
//! Invariant: signatures are compared in constant time; an empty key verifies nothing; whatever is absent or malformed is
//! refused, without a word on why. What is signed is `id.timestamp.body`, the body byte by byte as it came. Pure.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::base::secret::Secret;
use crate::domain::ID_BYTES_MAX;

/// How far a timestamp may be from our wall clock, both ways.
pub const TOLERANCE_S: i64 = 300;
/// Signatures of one header that are looked at: two suffice for a change of keys.
const SIGNATURES_MAX: usize = 16;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The headers of a Standard Webhooks request, each as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
}

/// A signing key.
pub struct Key(Vec<u8>);

impl Key {
    /// The key of a configured secret: the bytes behind `whsec_` in base 64, or else the text itself. `None` where that is
    /// malformed or empty.
    pub fn of(secret: &Secret) -> Option<Self> {
        let bytes = match secret.reveal().strip_prefix("whsec_") {
            Some(encoded) => LENIENT.decode(encoded).ok()?,
            None => secret.reveal().as_bytes().to_vec(),
        };
        (!bytes.is_empty()).then_some(Key(bytes))
    }

    /// The `webhook-signature` of a request.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.digest(id, &timestamp_s.to_string(), body)))
    }

    /// The verified `webhook-id`, or `None` where the request is refused.
    pub fn verify(&self, signed: Signed<'_>, body: &[u8], now_s: i64) -> Option<String> {
        let id = signed.id.filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control))?;
        let timestamp = signed.timestamp.filter(|t| (1..=12).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit()))?;
        let sent_s: i64 = timestamp.parse().ok()?;
        let expected = self.digest(id, timestamp, body);
        let genuine = signed.signature?.split(' ').take(SIGNATURES_MAX).fold(false, |any, one| {
            let given = one.strip_prefix("v1,").and_then(|encoded| LENIENT.decode(encoded).ok()).unwrap_or_default();
            any | bool::from(expected.ct_eq(given.as_slice()))
        });
        (genuine && (now_s - sent_s).abs() <= TOLERANCE_S).then(|| id.to_string())
    }

    fn digest(&self, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
        hmac(&self.0, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

/// Whether `X-Hub-Signature-256` (`sha256=` and 64 hexadecimal digits) is right. The key is the secret's text as it is written,
/// since that is what was entered at the other side.
pub fn verify_hub(secret: &Secret, header: &str, body: &[u8]) -> bool {
    let Some(given) = header.strip_prefix("sha256=").and_then(from_hex) else { return false };
    !secret.reveal().is_empty() && hmac(secret.reveal().as_bytes(), &[body]).ct_eq(&given).into()
}

#[allow(clippy::expect_used)] // HMAC is defined for keys of every length; a stand-in digest would be one to guess
fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    (text.len() == 64).then(|| pairs.map(|p| Some(digit(p[0])? * 16 + digit(p[1])?)).collect::<Option<Vec<u8>>>()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the specification's libraries publish.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_published_vector() {
        let key = Key::of(&Secret::new(SECRET)).unwrap();
        assert_eq!(key.sign(ID, AT, BODY), SIGNATURE);
    }

    #[track_caller]
    fn check(secret: &str, id: Option<&str>, timestamp: Option<&str>, signature: Option<&str>, body: &[u8], genuine: bool) {
        let signed = Signed { id, timestamp, signature };
        let verified = Key::of(&Secret::new(secret)).and_then(|key| key.verify(signed, body, AT));
        assert_eq!(verified.as_deref(), id.filter(|_| genuine), "{signed:?}");
    }

    #[test]
    fn what_is_taken_and_what_is_refused() {
        let key = Key::of(&Secret::new(SECRET)).unwrap();
        let other = Key::of(&Secret::new("whsec_b3RoZXIga2V5IG90aGVyIGtleSE=")).unwrap();
        let (id, at) = (Some(ID), AT.to_string());
        let at = Some(at.as_str());
        let both = format!("v1,bm90aGluZw== {} {SIGNATURE}", other.sign(ID, AT, BODY));
        // 1 to 12: the suite that every signed channel passes.
        check(SECRET, id, at, Some(SIGNATURE), BODY, true);
        check(SECRET, id, at, Some(SIGNATURE), b"{\"test\": 2432232315}", false);
        check("whsec_b3RoZXIga2V5IG90aGVyIGtleSE=", id, at, Some(SIGNATURE), BODY, false);
        check(SECRET, id, at, None, BODY, false);
        check(SECRET, id, None, Some(SIGNATURE), BODY, false);
        for (offset, genuine) in [(-360, false), (-301, false), (-300, true), (300, true), (301, false), (360, false)] {
            let sent = (AT + offset).to_string();
            check(SECRET, id, Some(&sent), Some(&key.sign(ID, AT + offset, BODY)), BODY, genuine);
        }
        for timestamp in ["yesterday", "", "+1614265330", "1614265330.0", " 1614265330", "-1", "99999999999999999999"] {
            check(SECRET, id, Some(timestamp), Some(SIGNATURE), BODY, false);
        }
        check(SECRET, id, at, Some(&both), BODY, true);
        for signature in ["", "v1", "v1,", "v1,!!!", "v1,bm90aGluZw==", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
            check(SECRET, id, at, Some(signature), BODY, false);
        }
        check(SECRET, id, at, Some(&key.sign(ID, AT, b"")), b"", true);
        check(SECRET, id, at, Some(&key.sign(ID, AT, b"\xff\xfe\x00")), b"\xff\xfe\x00", true);
        // And what else has been seen to open doors.
        check(SECRET, id, at, Some(&SIGNATURE.replace("v1,", "v2,")), BODY, false);
        check(SECRET, id, at, Some(SIGNATURE.trim_end_matches('=')), BODY, true);
        check(SECRET, None, at, Some(SIGNATURE), BODY, false);
        check(SECRET, Some(""), at, Some(&key.sign("", AT, BODY)), BODY, false);
        check(SECRET, Some("other"), at, Some(SIGNATURE), BODY, false);
        check(SECRET, Some("a\tb"), at, Some(&key.sign("a\tb", AT, BODY)), BODY, false);
        let long = "x".repeat(257);
        check(SECRET, Some(&long), at, Some(&key.sign(&long, AT, BODY)), BODY, false);
        let flood = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(100));
        check(SECRET, id, at, Some(&flood), BODY, false);
    }

    #[test]
    fn secrets() {
        for (secret, valid) in [
            ("", false),
            ("whsec_", false),
            ("whsec_!!!", false),
            ("plain text, as it is", true),
            ("whsec_AAAA", true),
            ("WHSEC_!!!", true),
        ] {
            assert_eq!(Key::of(&Secret::new(secret)).is_some(), valid, "{secret}");
        }
        let plain = Key::of(&Secret::new("plain")).unwrap();
        let encoded = Key::of(&Secret::new("whsec_cGxhaW4")).unwrap();
        assert_eq!(plain.sign("i", 1, b"x"), encoded.sign("i", 1, b"x"));
    }

    #[test]
    fn hub_signatures() {
        // GitHub's published example.
        let (secret, body) = (Secret::new("It's a Secret to Everybody"), b"Hello, World!");
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        for (secret, header, body, genuine) in [
            (&secret, right.to_string(), &body[..], true),
            (&secret, right.replace("757107ea", "757107EA"), body, true),
            (&secret, right.to_string(), b"Hello, World?", false),
            (&Secret::new("other"), right.to_string(), body, false),
            (&Secret::new(""), right.to_string(), body, false),
            (&secret, right.replace("sha256=", "sha1="), body, false),
            (&secret, right[..right.len() - 2].to_string(), body, false),
            (&secret, format!("{right}00"), body, false),
            (&secret, right.replace('7', "g"), body, false),
            (&secret, right.replace('7', "ü"), body, false),
            (&secret, String::new(), body, false),
            (&secret, "sha256=".to_string(), body, false),
        ] {
            assert_eq!(verify_hub(secret, &header, body), genuine, "{header}");
        }
    }
}
