//! `gatelet version`.

use serde_json::json;

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, text};

/// Runs it.
///
/// # Errors
/// None of its own.
pub fn run(options: &Options) -> Result<(), Failure> {
    document(options.json, &json!({"version": env!("CARGO_PKG_VERSION")}), |v| {
        text(&format!("gatelet {}", v["version"].as_str().unwrap_or_default()));
    });
    Ok(())
}
