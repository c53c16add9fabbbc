//! A receiver of webhooks, outside the gateway: what was delivered, in order, each with what it was answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::server::{self, Served};
use super::{eventually, pause};

/// One request that came to the receiver.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// `webhook-id`.
    pub id: String,
    pub headers: Vec<(String, String)>,
    /// Exactly as it came.
    pub raw: Vec<u8>,
    pub body: Value,
    /// What it was answered.
    pub status: u16,
    pub at: Instant,
}

impl Delivered {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// What was said.
    pub fn text(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// How the receiver answers one request.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Before it answers, in ms.
    pub after: u64,
}

impl From<u16> for Receipt {
    fn from(status: u16) -> Self {
        Receipt { status, ..Receipt::default() }
    }
}

/// The receiver.
pub struct Sink {
    pub url: String,
    got: Arc<Mutex<Vec<Delivered>>>,
    _served: Served,
}

impl Sink {
    /// One that takes all.
    pub fn new() -> Self {
        Sink::scripted(|_, _| 200.into())
    }

    /// One that answers the n-th request (from 0) as `script` says.
    pub fn scripted(script: impl Fn(usize, &Delivered) -> Receipt + Send + Sync + 'static) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let list = got.clone();
        let served = server::serve(move |request, stream| {
            let mut delivered = Delivered {
                id: request.header("webhook-id").unwrap_or_default().to_string(),
                headers: request.headers.clone(),
                raw: request.body.clone(),
                body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
                status: 0,
                at: Instant::now(),
            };
            let number = list.lock().unwrap_or_else(PoisonError::into_inner).len();
            let receipt = script(number, &delivered);
            pause(receipt.after);
            delivered.status = receipt.status;
            list.lock().unwrap_or_else(PoisonError::into_inner).push(delivered);
            let headers: Vec<(&str, &str)> = receipt.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            server::answer(stream, receipt.status, &headers, b"")
        });
        Sink { url: format!("http://127.0.0.1:{}/sink", served.port), got, _served: served }
    }

    /// All requests so far, the refused ones included.
    pub fn got(&self) -> Vec<Delivered> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are `n`; gives them.
    #[track_caller]
    pub fn until(&self, n: usize, seconds: u64) -> Vec<Delivered> {
        eventually(&format!("{n} requests at the receiver"), seconds, || Some(self.got()).filter(|g| g.len() >= n))
    }
}

/// Whether a request bears a valid Standard Webhooks signature of `secret` (`whsec_` and base64, or plain text).
pub fn signed_by(delivered: &Delivered, secret: &str) -> bool {
    let wanted = sign(secret, &delivered.id, delivered.header("webhook-timestamp"), &delivered.raw);
    delivered.header("webhook-signature").split(' ').any(|s| s == wanted)
}

/// The Standard Webhooks signature: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
pub fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = match secret.strip_prefix("whsec_") {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64"),
        None => secret.as_bytes().to_vec(),
    };
    let digest = hmac(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(digest))
}

/// `sha256=` and hex of HMAC-SHA256 over the body: `X-Hub-Signature-256`.
pub fn hub_signature(secret: &str, body: &[u8]) -> String {
    let digest = hmac(secret.as_bytes(), &[body]);
    digest.iter().fold("sha256=".to_string(), |text, byte| text + &format!("{byte:02x}"))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
