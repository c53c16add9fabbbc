//! `gatelet check`: the same reading as at start, without starting.

use serde_json::json;

use crate::cli::options::Options;
use crate::cli::{Failure, invalid, output};
use crate::config::files;

/// Runs it.
///
/// # Errors
/// `Configuration` with every problem.
pub fn run(options: &Options) -> Result<(), Failure> {
    let places = options.places()?;
    let name = super::name(&places);
    let problems = files::load_file(&places, &files::system_var).err().unwrap_or_default();
    if options.json {
        let list: Vec<_> = problems.iter().map(|p| json!({"path": p.path, "message": p.message})).collect();
        output::text(&json!({"file": name, "valid": problems.is_empty(), "errors": list}).to_string());
    }
    if !problems.is_empty() {
        return Err(invalid(&places, &problems));
    }
    if !options.json {
        output::text(&format!("{name}: valid"));
    }
    Ok(())
}
