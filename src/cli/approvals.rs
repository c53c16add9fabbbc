//! `gatelet approvals`: what waits for a decision, and the decision.
//!
//! Invariant: a person sees the question as the gateway made it, with what could mislead an eye escaped; control characters that a
//! faulty gateway let through are shown, not obeyed.

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, styled, text};
use crate::cli::remote::{Remote, escaped};

/// Runs it.
///
/// # Errors
/// `Usage`; what the gateway answers (`Failed` where somebody decided before).
pub fn run(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => {
            let answer = Remote::find(options, false)?.call("/api/approvals?limit=500", None)?;
            document(options.json, &answer, list);
        }
        [decision @ ("allow" | "deny" | "always"), id] => {
            let (path, body) = (format!("/api/approvals/{}", escaped(id)), json!({"decision": decision}));
            let answer = Remote::find(options, false)?.call(&path, Some(&body))?;
            document(options.json, &answer, |a| text(&format!("{}: {}", field(a, "id"), field(a, "state"))));
        }
        _ => return Err(Failure::Usage("approvals takes list, or allow, deny or always with an id".into())),
    }
    Ok(())
}

fn list(answer: &Value) {
    let approvals = answer["approvals"].as_array().map_or(&[][..], Vec::as_slice);
    for approval in approvals {
        let (user, channel, agent) = (field(approval, "userId"), field(approval, "channel"), field(approval, "agent"));
        text(&format!("{} {user} by {channel}, agent {agent}:", styled("1", &field(approval, "id"))));
        field(approval, "question").lines().for_each(|line| text(&format!("  {line}")));
    }
    if approvals.is_empty() {
        text("nothing waits for a decision");
    }
}
