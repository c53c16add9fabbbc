//! `gatelet agents [tools]`: the agents and how they are, or the tools that they have with their policy.

use serde_json::Value;

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{document, field, text};
use crate::cli::remote::Remote;
use crate::cli::table::Table;

/// Runs it.
///
/// # Errors
/// `Usage` for a word that is none; what the gateway answers.
pub fn run(options: &Options) -> Result<(), Failure> {
    match options.words().as_slice() {
        ["list"] => {
            let answer = Remote::find(options, false)?.call("/api/agents", None)?;
            document(options.json, &answer, agents);
        }
        ["tools"] => {
            let answer = Remote::find(options, false)?.call("/api/tools", None)?;
            document(options.json, &answer, tools);
        }
        _ => return Err(Failure::Usage("agents takes list or tools".into())),
    }
    Ok(())
}

fn agents(answer: &Value) {
    let mut table = Table::new(&["NAME", "PROVIDER", "MODEL", "STATE", "LAST ERROR"]);
    for agent in answer["agents"].as_array().into_iter().flatten() {
        let error = agent["lastError"].as_str().map_or(String::new(), |_| field(agent, "lastError"));
        table.row([field(agent, "name"), field(agent, "provider"), field(agent, "model"), field(agent, "state"), error]);
    }
    table.show("there are no agents");
}

fn tools(answer: &Value) {
    let mut table = Table::new(&["TOOL", "WHAT IT DOES"]);
    for tool in answer["tools"].as_array().into_iter().flatten() {
        table.row([field(tool, "name"), field(tool, "description")]);
    }
    table.show("there are no tools");
    text(&format!("what no rule names: {}", field(answer, "default")));
    for rule in answer["rules"].as_array().into_iter().flatten() {
        let arguments = crate::cli::output::harmless(&rule["arguments"].to_string());
        text(&format!(
            "{} always: {} {arguments} for {} by {}",
            field(rule, "id"),
            field(rule, "tool"),
            field(rule, "userId"),
            field(rule, "agent")
        ));
    }
}
