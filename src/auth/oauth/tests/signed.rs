//! Signed tokens: whose signature counts, for whom, and where keys come from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::*;

/// A provider with discovery, two keys, and what it counts.
struct Issuer {
    peer: Scripted,
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::from_pkcs8(alg, EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap().as_ref(), &random).unwrap();
        let point = ec.public_key().as_ref().to_vec();
        let keys = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": part(ed.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": part(&point[1..33]), "y": part(&point[33..])},
            {"kty": "oct", "kid": "hs", "k": part("secret")},
            {"kty": "EC", "crv": "P-256", "kid": "enc", "use": "enc", "x": part(&point[1..33]), "y": part(&point[33..])},
            "junk",
        ]});
        let peer = Scripted::new(move |_, seen, stream| {
            let me = format!("http://{}", seen.header("host").unwrap());
            let body = if seen.line.contains("openid-configuration") {
                json!({"issuer": me, "jwks_uri": format!("{me}/jwks"), "introspection_endpoint": "http://evil.example/i", "userinfo_endpoint": format!("{me}/me")})
            } else if seen.line.contains("/me") {
                json!({"sub": "told"})
            } else {
                keys.clone()
            };
            stream.write_all(ok(&body).as_bytes()).is_ok()
        });
        Issuer { peer, ed, ec }
    }

    fn name(&self) -> String {
        format!("http://{}", self.peer.addr)
    }

    fn authenticator(&self, clock: &Clock) -> Authenticator {
        let config = provider(|p| (p.issuer, p.audience) = (Some(self.name()), Some("gatelet".into())));
        Authenticator::new(&auth(vec![config]), clock.clone())
    }

    fn claims(&self, changes: Value) -> Value {
        let mut claims = json!({"iss": self.name(), "sub": "1", "aud": "gatelet", "exp": NOW_S + 60});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn sign(&self, head: Value, claims: &Value) -> String {
        let signed = format!("{}.{}", part(head.to_string()), part(claims.to_string()));
        let signature = match head["kid"].as_str() {
            Some("ec" | "enc") => self.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            Some("hs") => {
                use hmac::{KeyInit, Mac};
                let mut mac = hmac::Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Some("none") => vec![],
            _ => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", part(signature))
    }
}

#[test]
fn signed_tokens() {
    let issuer = Issuer::new();
    let ed = || json!({"alg": "EdDSA", "kid": "ed"});
    let plain = issuer.claims(json!({}));
    let good = issuer.sign(ed(), &plain);
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let other = part(issuer.claims(json!({"sub": "2"})).to_string());
    let cases = [
        (good.clone(), "1 user"),
        (issuer.sign(json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}), &plain), "1 user"),
        (issuer.sign(json!({"alg": "EdDSA"}), &plain), "1 user"),
        (issuer.sign(ed(), &issuer.claims(json!({"groups": ["ops"], "aud": ["x", "gatelet"]}))), "1 operator"),
        // Not by that key, or not with that algorithm.
        (format!("{head}.{other}.{signature}"), "Wrong"),
        (format!("{head}.{body}.{}", part([0u8; 64])), "Wrong"),
        (format!("{head}.{body}."), "Wrong"),
        (issuer.sign(json!({"alg": "none"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "none", "kid": "none"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "HS256", "kid": "hs"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "EdDSA", "kid": "hs"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "ES256", "kid": "ed"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "ES256", "kid": "enc"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "EdDSA", "kid": "unknown"}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}), &plain), "Wrong"),
        (issuer.sign(json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}), &plain), "Wrong"),
        // Not for here, or not now.
        (issuer.sign(ed(), &issuer.claims(json!({"aud": "other"}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"aud": null}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"exp": NOW_S - 1}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"nbf": NOW_S + 90}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"iss": "http://127.0.0.1:1"}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"iss": format!("{}/", issuer.name())}))), "Wrong"),
        (issuer.sign(ed(), &issuer.claims(json!({"sub": null}))), "Wrong"),
    ];
    for (i, (token, expected)) in cases.iter().enumerate() {
        let authenticator = issuer.authenticator(&clock());
        assert_eq!(shown(authenticator.ask(token, HOME)), *expected, "case {i}");
    }
    let mut endless = plain.clone();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(shown(issuer.authenticator(&clock()).ask(&issuer.sign(ed(), &endless), HOME)), "Wrong");
    let asked = issuer.peer.seen();
    assert!(asked.iter().all(|s| s.header("authorization").is_none() && s.body.is_empty()), "no token leaves the gateway");
    assert_eq!(shown(issuer.authenticator(&clock()).ask("opaque", HOME)), "Wrong", "userinfo tells no audience");
    // Where nobody said whom tokens are for, a signature says too little: the provider is asked, as about an opaque one.
    let config = provider(|p| (p.issuer, p.client_id, p.client_secret) = (Some(issuer.name()), None, None));
    let authenticator = Authenticator::new(&auth(vec![config]), clock());
    assert_eq!(shown(authenticator.ask(&issuer.sign(ed(), &issuer.claims(json!({"aud": "other"}))), HOME)), "told user");
    assert_eq!(shown(authenticator.ask("opaque", HOME)), "told user");
}

#[test]
fn an_introspection_may_want_no_client() {
    let peer = Scripted::says(ok(&json!({"active": true, "sub": "1"})));
    let config = introspecting(peer.url("/i"), |p| (p.client_id, p.client_secret) = (None, None));
    assert_eq!(shown(Authenticator::new(&auth(vec![config]), clock()).ask("opaque", HOME)), "1 user");
    assert!(peer.seen()[0].header("authorization").is_none());
}

#[test]
fn keys_are_looked_for_again_once_a_minute() {
    let (issuer, clock) = (Issuer::new(), clock());
    let authenticator = issuer.authenticator(&clock);
    let token = |kid: &str, n: i64| {
        issuer.sign(json!({"alg": "EdDSA", "kid": kid}), &issuer.claims(json!({"exp": NOW_S + 9000, "n": n})))
    };
    let asked = || issuer.peer.seen().iter().filter(|s| s.line.contains("/jwks")).count();
    assert_eq!((shown(authenticator.ask(&token("ed", 0), HOME)), asked()), ("1 user".into(), 1));
    for n in 0..5 {
        authenticator.ask(&token("new", n), HOME);
    }
    assert_eq!(asked(), 1, "they are fresh");
    clock.advance(Duration::from_secs(61));
    for n in 5..9 {
        assert_eq!(shown(authenticator.ask(&token("new", n), HOME)), "Wrong");
    }
    assert_eq!(asked(), 2);
    assert_eq!((shown(authenticator.ask(&token("ed", 9), HOME)), asked()), ("1 user".into(), 2));
}

#[test]
fn another_issuers_discovery_document_is_nobodys() {
    let peer = Scripted::says(ok(&json!({"issuer": "https://id.example", "jwks_uri": "https://id.example/jwks"})));
    let config = provider(|p| (p.issuer, p.audience) = (Some(peer.url("")), Some("gatelet".into())));
    assert_eq!(shown(Authenticator::new(&auth(vec![config]), clock()).ask("opaque", HOME)), "Unavailable");
}
