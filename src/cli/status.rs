//! `gatelet status`: how the running gateway is.

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::options::Options;
use crate::cli::output::{harmless, size, styled, text};
use crate::cli::remote::Remote;

/// Runs it.
///
/// # Errors
/// `Unreachable`, `Refused`; `Failed` where the gateway is not ready.
pub fn run(options: &Options) -> Result<(), Failure> {
    let remote = Remote::find(options, false)?;
    let health = remote.call("/health", None)?;
    let (status, ready) = remote.ask("/ready")?;
    let channels = remote.call("/api/channels", None)?;
    let agents = remote.call("/api/agents", None)?;
    let metrics = remote.call("/api/metrics", None)?;
    if options.json {
        text(&json!({"health": health, "ready": ready, "channels": channels["channels"], "agents": agents["agents"], "metrics": metrics}).to_string());
    } else {
        show(&health, &ready, &channels, &agents, &metrics);
    }
    if status == 200 { Ok(()) } else { Err(Failure::Failed("the gateway is not ready".into())) }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("?")
}

fn show(health: &Value, ready: &Value, channels: &Value, agents: &Value, metrics: &Value) {
    let state = word(ready, "status");
    let colour = if state == "ready" { "32" } else { "33" };
    text(&format!("gatelet {}: {}", word(health, "version"), styled(colour, state)));
    for (name, check) in ready["checks"].as_object().into_iter().flatten() {
        let fine = check == "ok" || check.as_array().is_some_and(Vec::is_empty);
        if !fine {
            text(&format!("  {name}: {}", harmless(&check.as_str().map_or_else(|| check.to_string(), str::to_string))));
        }
    }
    for (title, list) in [("channel", channels["channels"].as_array()), ("agent", agents["agents"].as_array())] {
        for item in list.into_iter().flatten() {
            let more = item["lastError"].as_str().map_or(String::new(), |e| format!(": {}", harmless(e)));
            let provider = item["provider"].as_str().map_or(String::new(), |p| format!(" ({p})"));
            text(&format!("{title} {}{provider}: {}{more}", word(item, "name"), word(item, "state")));
        }
    }
    let average = metrics["avgResponseTime"].as_f64().unwrap_or(0.0);
    text(&format!(
        "requests {}, errors {}, average {average:.1} ms, connections {}",
        metrics["requestCount"], metrics["errorCount"], metrics["activeConnections"]
    ));
    let of = |figure: &Value, bound: &Value| match (figure.as_u64(), bound.as_u64()) {
        (Some(bytes), Some(bound)) if bound > 0 => format!("{} of {}", size(bytes), size(bound)),
        (Some(bytes), _) => size(bytes),
        (None, _) => "unknown".to_string(),
    };
    let (store, process) = (&metrics["store"], &metrics["process"]);
    text(&format!(
        "kept {}, written in 24 h {}, memory {}",
        of(&store["bytes"], &store["bytesMax"]),
        of(&process["writtenBytesDay"], &process["writeBudget"]),
        of(&process["residentBytes"], &Value::Null),
    ));
}
