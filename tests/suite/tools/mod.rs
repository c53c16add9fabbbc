//! Agents with tools: the loop, permission, memory, budgets, cutting short, and what a crash leaves of all that.

mod approvals;
mod budgets;
mod commands;
mod crash;
mod injections;
mod life;
mod looping;
mod mcp;
mod memory;
mod size;
mod supervisor;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::merged;
use crate::support::model::{Act, Model, Question};

/// A call that a script makes: our name of the tool, and the arguments.
pub fn call(name: &str, arguments: Value) -> (String, String) {
    (wire(name), arguments.to_string())
}

/// The name of a tool on the wire.
pub fn wire(name: &str) -> String {
    name.replace('.', "_")
}

/// A model that makes these calls, an answer each, whatever it hears, and then says `done: ` and what the last one gave.
pub fn calling(rounds: Vec<Vec<(String, String)>>) -> Model {
    Model::scripted(move |q| match rounds.get(q.rounds) {
        Some(calls) => Act::Call(calls.clone()),
        None => Act::Say(format!("done: {}", q.results.last().cloned().unwrap_or_default())),
    })
}

/// A model that does what its user says: `CALL name {json}` for each line of that kind, all in one answer; else it echoes.
pub fn told() -> Model {
    Model::scripted(|q: &Question| {
        let calls: Vec<_> = if q.rounds == 0 { orders(&q.text) } else { Vec::new() };
        match (calls.is_empty(), q.results.last()) {
            (false, _) => Act::Call(calls),
            (true, Some(result)) => Act::Say(format!("done: {result}")),
            (true, None) => Act::Say(format!("echo: {}", q.text)),
        }
    })
}

/// The calls that a text orders.
pub fn orders(text: &str) -> Vec<(String, String)> {
    let order = |line: &str| {
        let rest = &line[line.find("CALL ")? + 5..];
        let (name, arguments) = rest.split_once(' ')?;
        let mut values = serde_json::Deserializer::from_str(arguments).into_iter::<Value>();
        let value = values.next()?.ok()?;
        Some(call(name, value))
    };
    text.lines().filter_map(order).collect()
}

/// A model's configuration with these `tools`.
pub fn with_tools(model: &Model, tools: Value) -> Value {
    merged(model.config(), json!({"tools": tools}))
}

/// A program of the test's own that notes each of its runs in a file: its path, and that file.
pub fn program(folder: &Path) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let (path, notes) = (folder.join("effect"), folder.join("effects"));
    let script = format!("#!/bin/sh\necho \"run $*\" >> '{}'\necho \"ran $*\"\n", notes.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (path, notes)
}

/// The `tools` of a gateway whose only program is `program`, called `mark`, with one free argument.
pub fn marking(program: &Path, default: &str) -> Value {
    json!({"default": default, "shell": {"commands": {"mark": {"path": program, "args": ["*"]}}}})
}

/// How often a program ran.
pub fn runs(notes: &Path) -> Vec<String> {
    std::fs::read_to_string(notes).unwrap_or_default().lines().map(str::to_string).collect()
}

/// The pending approvals.
pub fn pending(gateway: &Gateway) -> Vec<Value> {
    gateway.get("/api/approvals").expect(200).json()["approvals"].as_array().unwrap().clone()
}

/// Waits for one pending approval.
pub fn asked(gateway: &Gateway) -> Value {
    crate::support::eventually("a question to the operators", 15, || pending(gateway).into_iter().next())
}

/// The audit's entries of that action, newest first.
pub fn audit(gateway: &Gateway, action: &str) -> Vec<Value> {
    let all = gateway.get("/api/audit?limit=500").expect(200).json()["audit"].as_array().unwrap().clone();
    all.into_iter().filter(|e| e["action"] == action).collect()
}
