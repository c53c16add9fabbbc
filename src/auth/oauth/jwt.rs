//! Signed tokens (JWS in compact form) and the keys (JWKS) that they are checked with.
//!
//! Invariant: the algorithm is one of three that are signatures, and it is the key's own kind that decides which of them is tried: a
//! token can choose neither none nor a shared secret, and no claim is looked at before the signature holds. What isn't understood
//! (a critical header, another type of token) is refused. Fails by giving nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

/// Keys of a set that are looked at.
const KEYS_MAX: usize = 64;

/// A token as it is written, nothing of it believed yet.
pub struct Unverified<'a> {
    /// What the signature is of.
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Option<Algorithm>,
    /// The name of its key, if it says one.
    pub kid: Option<String>,
    claims: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl<'a> Unverified<'a> {
    /// Reads `token`; `None` where it isn't of that form at all.
    pub fn read(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
        let (head, claims) = (object(head)?, object(claims)?);
        let kind = head.get("typ").map(|t| t.as_str().unwrap_or("?").to_ascii_lowercase());
        let is_ours = kind.is_none_or(|k| matches!(k.trim_start_matches("application/"), "jwt" | "at+jwt"));
        let algorithm = match head.get("alg").and_then(Value::as_str) {
            Some("RS256") => Some(Algorithm::Rs256),
            Some("ES256") => Some(Algorithm::Es256),
            Some("EdDSA") => Some(Algorithm::EdDsa),
            _ => None,
        };
        let kid = head.get("kid").and_then(Value::as_str).map(str::to_string);
        let algorithm = algorithm.filter(|_| is_ours && !head.contains_key("crit"));
        Some(Unverified { signed, signature: URL_SAFE_NO_PAD.decode(signature).ok()?, algorithm, kid, claims })
    }

    /// Whose it says it is: good for choosing whom to ask, and nothing else.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whether any key could make it good.
    pub fn is_possible(&self) -> bool {
        self.algorithm.is_some()
    }

    /// Its claims, if one of `keys` signed it.
    pub fn verified(self, keys: &Keys) -> Option<Map<String, Value>> {
        let algorithm = self.algorithm?;
        let fitting = keys.0.iter().filter(|k| k.algorithm == algorithm && (self.kid.is_none() || k.kid == self.kid));
        let holds = fitting.into_iter().any(|k| k.verifies(self.signed.as_bytes(), &self.signature));
        holds.then_some(self.claims)
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// A provider's keys for signatures.
#[derive(Default)]
pub struct Keys(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    public: Public,
}

enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point(Vec<u8>),
}

impl Keys {
    /// The keys of a JWKS document that are for signatures of a known kind; others are passed over.
    pub fn read(document: &Value) -> Option<Keys> {
        Some(Keys(document.get("keys")?.as_array()?.iter().take(KEYS_MAX).filter_map(Key::read).collect()))
    }

    /// Whether a token that names `kid` could be of one of them.
    pub fn know(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.0.iter().any(|k| k.kid.as_deref() == Some(kid)))
    }
}

impl Key {
    fn read(jwk: &Value) -> Option<Key> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|u| u != "sig") {
            return None;
        }
        let (algorithm, name, public) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (Algorithm::Rs256, "RS256", Public::Rsa { n: bytes("n")?, e: bytes("e")? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                (Algorithm::Es256, "ES256", Public::Point([&[4u8][..], &x, &y].concat()))
            }
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, "EdDSA", Public::Point(bytes("x")?)),
            _ => return None,
        };
        // A key that is for another algorithm of its kind (PS256, say) is for that one alone.
        text("alg").is_none_or(|alg| alg == name).then(|| Key { kid: text("kid").map(str::to_string), algorithm, public })
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match (&self.public, self.algorithm) {
            (Public::Rsa { n, e }, _) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            (Public::Point(p), Algorithm::EdDsa) => UnparsedPublicKey::new(&ED25519, p).verify(signed, signature).is_ok(),
            (Public::Point(p), _) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p).verify(signed, signature).is_ok(),
        }
    }
}
