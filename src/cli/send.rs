//! `gatelet send USER MESSAGE`: the gateway speaks first.

use std::io::Read;

use serde_json::json;

use crate::cli::options::Options;
use crate::cli::remote::Remote;
use crate::cli::{Failure, output};

/// The longest message that is read from standard input.
const MESSAGE_MAX: u64 = 256 * 1024;

/// Runs it.
///
/// # Errors
/// `Usage` without user and message; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    let [user, message] = options.arguments.as_slice() else {
        return Err(Failure::Usage("send needs a user and a message".into()));
    };
    let message = if message == "-" { read()? } else { message.clone() };
    let mut body = json!({"userId": user, "message": message});
    for (key, value) in [("channel", options.value("channel")), ("idempotencyKey", options.value("key"))] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let answer = Remote::find(options, false)?.call("/api/message", Some(&body))?;
    if options.json {
        output::text(&answer.to_string());
    } else {
        for delivery in answer["deliveries"].as_array().into_iter().flatten() {
            let part = |key: &str| delivery[key].as_str().unwrap_or("?").to_string();
            output::text(&format!("{} by {}: {}", part("id"), part("channel"), part("state")));
        }
    }
    Ok(())
}

fn read() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(MESSAGE_MAX).read_to_string(&mut text);
    read.map_err(|e| Failure::Failed(format!("standard input could not be read: {e}")))?;
    Ok(text.trim_end().to_string())
}
