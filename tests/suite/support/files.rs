//! The files of a scripted service: given out whole, a byte a second, without end, or not at all; who asked with which credential is
//! remembered.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use serde_json::Value;

use super::pause;
use super::server::{Asked, answer};

/// A picture of one pixel.
pub const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Its bytes.
pub fn png() -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(PNG).expect("a picture")
}

/// What becomes of a question for a file.
#[derive(Clone, Debug)]
pub enum Giving {
    /// These bytes.
    Whole(Vec<u8>),
    /// One byte a second, for a long time.
    Slowly,
    /// More and more, without saying how much.
    Endlessly,
    /// A redirect to there.
    Elsewhere(String),
    /// This status.
    Refused(u16),
}

/// The files, by the last part of their path.
#[derive(Default)]
pub struct Files {
    all: Mutex<BTreeMap<String, Giving>>,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl Files {
    /// Puts a file.
    pub fn put(&self, name: &str, giving: Giving) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), giving);
    }

    /// The files that were asked for, each with the `Authorization` of the question.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives one out.
    pub fn give(&self, asked: &Asked, stream: &mut TcpStream) -> io::Result<()> {
        let path = asked.path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        let bearer = asked.header("authorization").map(str::to_string);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), bearer));
        let giving = self.all.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        match giving.unwrap_or(Giving::Refused(404)) {
            Giving::Whole(bytes) => answer(stream, 200, &[("Content-Type", "application/octet-stream")], &bytes),
            Giving::Refused(status) => answer(stream, status, &[], b"no"),
            Giving::Elsewhere(url) => answer(stream, 302, &[("Location", &url)], b""),
            Giving::Slowly => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
                for _ in 0..1000 {
                    stream.write_all(b"x")?;
                    pause(1000);
                }
                Ok(())
            }
            Giving::Endlessly => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[b'x'; 65536])?;
                }
            }
        }
    }
}

/// The images in a request to a model, as base 64, whichever format it is in.
pub fn images_in(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let parts = messages.iter().filter_map(|m| m["content"].as_array()).flatten();
    let of = |part: &Value| match part["type"].as_str()? {
        "image_url" => part["image_url"]["url"].as_str()?.split_once(";base64,").map(|(_, data)| data.to_string()),
        "image" => part["source"]["data"].as_str().map(str::to_string),
        _ => None,
    };
    parts.filter_map(of).collect()
}
