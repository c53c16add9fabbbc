//! What in-chat commands do.
//!
//! Invariant: a command acts for its author alone, with the rights that the gateway knows of (never the text): only who may decide
//! now decides, whatever they were when they wrote. What is refused is answered in words, changes nothing and leaves a trace.
//! It fails only where the store does; the message is then tried again.

use serde_json::json;

use crate::agent::commands::{Command, Facts};
use crate::agent::tools::Who;
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::domain::{Approval, ApprovalState, Claim, Decision, Role, Standing};
use crate::flow::Flow;
use crate::store::{AuditEntry, Depths, Page, StoreError};

/// Entries that a list in a chat shows.
const SHOWN: usize = 20;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// What its author is told.
    pub text: String,
    /// Whether the session ends with it.
    pub ends_session: bool,
}

/// Does what a command says.
///
/// # Errors
/// `Transient` where the store can't be read or written.
pub fn execute(flow: &Flow, claim: &Claim, command: &Command) -> Result<Executed> {
    let text = match command {
        Command::Stop => stop(flow, claim),
        Command::Model(None) => model(flow, claim),
        Command::Model(Some(name)) => switch(flow, claim, name)?,
        Command::Tools => tools(flow, claim),
        Command::Decide { id, decision } => decide(flow, claim, id.as_deref(), *decision)?,
        Command::Memory => memory(flow, claim)?,
        Command::Forget(id) => forget(flow, claim, id)?,
        Command::Help | Command::Status | Command::New | Command::Whoami => facts(flow, claim, command),
    };
    Ok(Executed { text, ends_session: command.ends_session() })
}

fn passing(e: StoreError) -> Error {
    Error::new(ErrorKind::Transient, e.to_string())
}

fn facts(flow: &Flow, claim: &Claim, command: &Command) -> String {
    let agents = flow.agents.get();
    let (provider, model) = agents.now(&claim.agent);
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        agent: &claim.agent,
        provider: &provider,
        model: claim.model.as_deref().unwrap_or(&model),
        user_id: &claim.user_id,
        session_id: &claim.session_id,
        channel: &claim.channel,
        uptime: flow.clock.mono(),
        depths: if *command == Command::Status { flow.store.depths() } else { Depths::default() },
    };
    command.answer(&facts).unwrap_or_default()
}

fn stop(flow: &Flow, claim: &Claim) -> String {
    let stopped = flow.stop_session(&claim.session_id, &claim.message_id, "stopped by its user");
    match (stopped.running, stopped.waiting) {
        (0, 0) => "Nothing is under way here.".to_string(),
        (running, 0) => format!("Stopped: {running} running."),
        (running, waiting) => format!("Stopped: {running} running, {waiting} waiting."),
    }
}

fn model(flow: &Flow, claim: &Claim) -> String {
    let agents = flow.agents.get();
    let (provider, model) = agents.now(&claim.agent);
    let now = claim.model.clone().unwrap_or(model);
    let offered = match agents.models(&claim.agent) {
        Ok(models) if models.is_empty() => "It offers no list of models.".to_string(),
        Ok(models) => {
            let more = if models.len() > SHOWN { format!(" and {} more", models.len() - SHOWN) } else { String::new() };
            format!("It offers: {}{more}", models.iter().take(SHOWN).map(|m| shorten(m, 80)).collect::<Vec<_>>().join(", "))
        }
        Err(e) => format!("Its models could not be listed: {}", e.text),
    };
    format!("Model {now}, provider {provider}. {offered}")
}

fn switch(flow: &Flow, claim: &Claim, name: &str) -> Result<String> {
    if !may_decide(flow, claim) {
        return Ok("Only an operator can choose the model.".to_string());
    }
    if name == "auto" {
        flow.store.set_model(&claim.session_id, None).map_err(passing)?;
        return Ok("This conversation goes on with the agent's own model.".to_string());
    }
    match flow.agents.get().models(&claim.agent) {
        Ok(models) if models.iter().any(|m| m == name) => {
            flow.store.set_model(&claim.session_id, Some(name)).map_err(passing)?;
            Ok(format!("This conversation goes on with {name}. /model auto goes back."))
        }
        Ok(_) => Ok(format!("There is no model {}. /model shows what there is.", shorten(name, 80))),
        Err(e) => Ok(format!("The provider's models could not be listed, so nothing was changed: {}", e.text)),
    }
}

fn tools(flow: &Flow, claim: &Claim) -> String {
    let who = Who {
        agent: claim.agent.clone(),
        channel: claim.channel.clone(),
        user_id: claim.user_id.clone(),
        standing: claim.standing,
    };
    let patterns = flow.agents.get().tools_of(&claim.agent);
    let offered = flow.tools.get().offered(&who, patterns.as_deref());
    if offered.is_empty() {
        return "The agent has no tools here.".to_string();
    }
    let lines: Vec<_> = offered.iter().take(50).map(|t| format!("{}: {}", t.name, shorten(&t.description, 80))).collect();
    lines.join("\n")
}

/// Whether the author may decide approvals at this moment.
fn may_decide(flow: &Flow, claim: &Claim) -> bool {
    claim.standing >= Standing::Operator && flow.auth.role_of(&claim.user_id) >= Some(Role::Operator)
}

fn decide(flow: &Flow, claim: &Claim, id: Option<&str>, decision: Decision) -> Result<String> {
    if !may_decide(flow, claim) {
        flow.store.audit(AuditEntry {
            at_ms: flow.clock.unix_ms(),
            actor: claim.user_id.clone(),
            action: "approval.refused".into(),
            detail: json!({"id": id, "decision": decision.as_str(), "channel": claim.channel, "why": "not an operator"}),
        });
        return Ok("Only an operator can decide that.".to_string());
    }
    let id = match id {
        Some(id) => id.to_string(),
        None => {
            let page = Page { cursor: None, limit: SHOWN };
            let pending = flow.store.approvals(Some(ApprovalState::Pending), page).map_err(passing)?.items;
            let here: Vec<_> = pending.iter().filter(|a| a.session_id == claim.session_id).collect();
            match (here.as_slice(), pending.as_slice()) {
                (_, []) => return Ok("Nothing waits for a decision.".to_string()),
                ([one], _) => one.id.clone(),
                ([], [one]) => one.id.clone(),
                _ => return Ok(format!("Say which one:\n{}", pending.iter().map(line).collect::<Vec<_>>().join("\n"))),
            }
        }
    };
    match flow.decide(&id, decision, &claim.user_id) {
        Ok(approval) => Ok(format!("{}: {}", approval.state.as_str(), approval.question)),
        Err(StoreError::NotFound) => Ok("There is no such approval.".to_string()),
        Err(StoreError::Conflict(why)) => Ok(format!("That could not be decided: {why}.")),
        Err(e) => Err(passing(e)),
    }
}

fn line(approval: &Approval) -> String {
    format!("{} {}", approval.id, shorten(&approval.question, 200))
}

fn memory(flow: &Flow, claim: &Claim) -> Result<String> {
    if claim.standing < Standing::User {
        return Ok("Nothing is kept about senders that nobody vouches for.".to_string());
    }
    let page = Page { cursor: None, limit: SHOWN };
    let notes = flow.store.notes(&claim.user_id, Some(&claim.agent), page).map_err(passing)?;
    if notes.items.is_empty() {
        return Ok("Nothing is kept about you.".to_string());
    }
    let mut lines: Vec<_> = notes.items.iter().map(|n| format!("{} {}", n.id, shorten(&n.text, 300))).collect();
    lines.extend(notes.next.map(|_| format!("These are the latest {SHOWN}.")));
    Ok(lines.join("\n"))
}

fn forget(flow: &Flow, claim: &Claim, id: &str) -> Result<String> {
    let known = match flow.store.note(id) {
        Ok(note) => note.user_id == claim.user_id && note.agent == claim.agent && claim.standing >= Standing::User,
        Err(StoreError::NotFound) => false,
        Err(e) => return Err(passing(e)),
    };
    if !known {
        return Ok("There is no such note about you.".to_string());
    }
    match flow.store.forget_note(id) {
        Ok(()) | Err(StoreError::NotFound) => Ok("Forgotten.".to_string()),
        Err(e) => Err(passing(e)),
    }
}
