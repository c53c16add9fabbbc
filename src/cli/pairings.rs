//! `gatelet pairings`: unknown senders who wait to be let in, and the decision on them.
//!
//! Invariant: how a sender calls itself is shown beside the id that counts, with what could mislead an eye escaped.

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, text};
use crate::cli::remote::{Remote, escaped};
use crate::cli::table::Table;

/// Runs it.
///
/// # Errors
/// `Usage`; what the gateway answers (`Failed` for a code that nobody waits under).
pub fn run(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => {
            let answer = Remote::find(options, false)?.call("/api/pairings?limit=500", None)?;
            document(options.json, &answer, list);
        }
        [decision @ ("approve" | "reject"), code] => {
            let (path, body) = (format!("/api/pairings/{}", escaped(code)), json!({"decision": decision}));
            let answer = Remote::find(options, false)?.call(&path, Some(&body))?;
            document(options.json, &answer, |p| {
                text(&format!("{} on {}: {}", field(p, "userId"), field(p, "channel"), field(p, "state")));
            });
        }
        _ => return Err(Failure::Usage("pairings takes list, or approve or reject with a code".into())),
    }
    Ok(())
}

fn list(answer: &Value) {
    let mut table = Table::new(&["CODE", "USER", "CHANNEL", "SAYS TO BE"]);
    for p in answer["pairings"].as_array().into_iter().flatten() {
        table.row([field(p, "code"), field(p, "userId"), field(p, "channel"), format!("{:?}", field(p, "name"))]);
    }
    table.show("nobody waits to be let in");
}
