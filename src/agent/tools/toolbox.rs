//! The one door through which every tool call goes.
//!
//! Invariant: as in `tools`. A call is settled anew whenever it comes: an approval doesn't stand above the rules (what they deny by
//! now stays denied), and serves only the call that it was given to, with the digest that this call has now. Nothing has run
//! before `begin` has agreed. Fails only where `begin` does, and with `Stopped` where the turn is cut short.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::question::{question, quoted};
use super::{
    About, Context, Invoked, OUTPUT_BYTES_MAX, Permit, Policy, Question, Source, Tool, Verdict, Who, names, pattern, policy,
    schema,
};
use crate::agent::provider::{ARGUMENTS_BYTES_MAX, ToolSpec};
use crate::base::error::{Error, ErrorKind, Result, shorten};
use crate::config::{self, Action};
use crate::domain::{Approval, ApprovalState, CallResult, LearnedRule, ToolCall};
use crate::store::AuditEntry;

/// Most tools in all; what servers offer beyond is left out.
const TOOLS_MAX: usize = 128;
/// Bytes of the arguments that an audit entry shows.
const AUDIT_BYTES_MAX: usize = 500;
/// Longest refusal or error that the model is told, in bytes.
const ERROR_BYTES_MAX: usize = 4096;

/// The tools of one configuration.
pub struct Toolbox {
    policy: Policy,
    tools: Vec<Arc<dyn Tool>>,
    sources: Vec<Arc<dyn Source>>,
}

/// A tool, as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolInfo {
    /// Our name.
    pub name: String,
    /// What the model is told.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub schema: Value,
    /// See [`About`].
    pub idempotent: bool,
    /// See [`About`].
    pub dangerous: bool,
    /// See [`About`].
    pub safe: bool,
    /// `builtin` or `mcp.<server>`.
    pub source: String,
    /// `allow`, `ask` or `deny`: for a known user whom no rule singles out, arguments aside.
    pub policy: &'static str,
    /// The rules that name it, with their paths in the configuration.
    pub rules: Vec<String>,
}

/// A call that could be made.
struct Settled {
    tool: Arc<dyn Tool>,
    arguments: Map<String, Value>,
    /// What a person must be asked first.
    ask: Option<Question>,
}

impl Toolbox {
    /// A toolbox without sources of further tools.
    pub fn new(policy: Policy, tools: Vec<Arc<dyn Tool>>) -> Self {
        Toolbox { policy, tools, sources: Vec::new() }
    }

    /// The same with a source of tools that come and go. One that has a name that is taken already is left out.
    #[must_use]
    pub fn with(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// All tools there are now, none of them under another's name.
    fn all(&self) -> Vec<Arc<dyn Tool>> {
        let mut all = self.tools.clone();
        all.extend(self.sources.iter().flat_map(|s| s.tools()));
        let mut seen = BTreeSet::new();
        all.retain(|tool| seen.insert(tool.about().spec.name.clone()));
        all.truncate(TOOLS_MAX);
        all
    }

    /// What the model is told of: the tools of the agent (`patterns`, `None` for all) of which some call could run for this sender.
    /// Built-in ones first, always in the same order, each with a name that is unique on the wire.
    pub fn offered(&self, who: &Who, patterns: Option<&[String]>) -> Vec<Arc<ToolSpec>> {
        let all = self.all();
        let wires = names::wires(all.iter().map(|t| t.about().spec.name.as_str()));
        let offers = |about: &About| pattern::any_fits(patterns, &about.spec.name) && !self.policy.never(about, who);
        let named = |spec: &Arc<ToolSpec>| match wires.get(spec.name.as_str()) {
            Some(wire) if *wire != spec.wire => Arc::new(ToolSpec { wire: wire.clone(), ..ToolSpec::clone(spec) }),
            _ => spec.clone(),
        };
        all.iter().map(|t| t.about()).filter(|a| offers(a)).map(|a| named(&a.spec)).collect()
    }

    /// What is known of a tool of that name, if there is one now.
    pub fn about(&self, name: &str) -> Option<About> {
        self.all().into_iter().find(|t| t.about().spec.name == name).map(|t| t.about().clone())
    }

    /// All tools, for people.
    pub fn list(&self) -> Vec<ToolInfo> {
        let info = |about: &About| {
            let (action, rules) = self.policy.plainly(about);
            let mut parts = about.spec.name.split('.');
            let server = parts.next().filter(|first| *first == "mcp").and(parts.next());
            ToolInfo {
                name: about.spec.name.clone(),
                description: about.spec.description.clone(),
                schema: about.spec.schema.clone(),
                idempotent: about.idempotent,
                dangerous: about.dangerous,
                safe: about.safe,
                source: server.map_or("builtin".to_string(), |server| format!("mcp.{server}")),
                policy: match action {
                    Action::Allow => "allow",
                    Action::Ask => "ask",
                    Action::Deny => "deny",
                },
                rules,
            }
        };
        self.all().iter().map(|t| info(t.about())).collect()
    }

    /// What would become of a call. Does nothing and leaves no trace.
    pub fn judge(&self, call: &ToolCall, who: &Who, patterns: Option<&[String]>, learned: &[LearnedRule]) -> Verdict {
        match self.settle(call, who, patterns, learned) {
            Ok(Settled { ask: Some(question), .. }) => Verdict::Ask(question),
            Ok(_) => Verdict::Run,
            Err(text) => Verdict::Refuse(text),
        }
    }

    /// Makes a call, if it may be made. `begin` is called when nothing but the tool itself is left to do; where it fails, nothing
    /// has run. An approval that is still pending counts as none.
    ///
    /// # Errors
    /// What `begin` gave; `Stopped` where the call was cancelled. All else is a result that the model is told.
    pub fn invoke(
        &self,
        call: &ToolCall,
        patterns: Option<&[String]>,
        context: &Context<'_>,
        learned: &[LearnedRule],
        permit: Permit<'_>,
        begin: &mut dyn FnMut(&About) -> Result<()>,
    ) -> Result<Invoked> {
        if context.cancel.is_set() {
            return Err(Error::new(ErrorKind::Stopped, "the turn was stopped"));
        }
        let settled = match self.settle(call, context.who, patterns, learned) {
            Ok(settled) => settled,
            Err(text) => return Ok(refused(call, context, &text)),
        };
        let ours = permit.filter(|approval| is_of(approval, call, context));
        // A person's no stands, also where the rules would let the call run by now.
        if let Some(text) = ours.and_then(|approval| declined(approval.state)) {
            return Ok(refused(call, context, text));
        }
        if let Some(question) = settled.ask {
            match (permit, ours) {
                (Some(_), None) => return Ok(refused(call, context, "the approval was given to another call; nothing was done")),
                (_, Some(approval)) if approval.state == ApprovalState::Allowed => {
                    if approval.digest != question.digest {
                        return Ok(refused(call, context, "what was approved has changed since then; nothing was done"));
                    }
                }
                _ => {
                    trace(call, context, "tool.asked", "asked", Duration::ZERO);
                    return Ok(Invoked::Ask(question));
                }
            }
        }
        if context.clock.mono() >= context.deadline {
            return Ok(refused(call, context, "the time of this turn is over"));
        }
        begin(settled.tool.about())?;
        run(&*settled.tool, call, &settled.arguments, context)
    }

    /// Everything that is to be known before a call is made; else what the model is told.
    fn settle(
        &self,
        call: &ToolCall,
        who: &Who,
        patterns: Option<&[String]>,
        learned: &[LearnedRule],
    ) -> std::result::Result<Settled, String> {
        let is_it = |tool: &Arc<dyn Tool>| tool.about().spec.name == call.name && pattern::any_fits(patterns, &call.name);
        let tool = self.all().into_iter().find(is_it).ok_or_else(|| self.unknown(call, who, patterns))?;
        let arguments = parsed(&call.arguments)?;
        let about = tool.about();
        let wrong = schema::problems(&about.spec.schema, &Value::Object(arguments.clone()));
        if !wrong.is_empty() {
            return Err(format!("the arguments don't fit ($ stands for them all): {}", wrong.join("; ")));
        }
        let ruling = self.policy.ruling(about, who, &arguments);
        let must_name = tool.reaches(&arguments, who);
        let is_named = |name| ruling.rule.is_some_and(|rule| rule.arguments.iter().any(|(n, _)| n == name));
        if ruling.action == Action::Deny {
            return Err("the gateway's rules forbid this call; don't try it again".to_string());
        }
        // Also where nobody is asked: what it is bound to is then fresh, and a call that can't be made ends here.
        let binding = catch_unwind(AssertUnwindSafe(|| tool.binding(&arguments)));
        let binding = binding.unwrap_or_else(|_| Err(Error::new(ErrorKind::Bug, "the tool failed by a fault in the gateway")));
        let binding = binding.map_err(|e| shorten(&e.to_string(), ERROR_BYTES_MAX))?;
        let digest = super::question::digest(&about.spec.name, &arguments, &binding);
        let allowed = ruling.action == Action::Allow && must_name.is_none_or(is_named);
        if allowed || policy::is_learned(learned, &about.spec.name, who, &digest) {
            return Ok(Settled { tool, arguments, ask: None });
        }

        let ask = question(&about.spec.name, who, &arguments, &binding)?;
        Ok(Settled { tool, arguments, ask: Some(ask) })
    }

    fn unknown(&self, call: &ToolCall, who: &Who, patterns: Option<&[String]>) -> String {
        let offered = self.offered(who, patterns);
        let name = shorten(&call.name, 64);
        match config::nearest(&name, offered.iter().map(|spec| spec.wire.as_str())) {
            Some((nearest, _)) => format!("there is no tool {}; the nearest is {nearest}", quoted(&name)),
            None => format!("there is no tool {}, nor any other", quoted(&name)),
        }
    }
}

/// The arguments as a model wrote them.
fn parsed(text: &str) -> std::result::Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    if text.len() > ARGUMENTS_BYTES_MAX {
        return Err(format!("the arguments have {} bytes, at most {ARGUMENTS_BYTES_MAX} are taken", text.len()));
    }
    match config::parse(text.as_bytes()) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("the arguments are no JSON object; write them as {\"name\": value}".to_string()),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().take(10).map(|p| format!("{}: {}", p.path, p.message)).collect();
            Err(format!("the arguments can't be read: {}", problems.join("; ")))
        }
    }
}

/// Whether an approval is the one that was asked for this call.
fn is_of(approval: &Approval, call: &ToolCall, context: &Context<'_>) -> bool {
    let who = context.who;
    approval.tool == call.name
        && approval.call_id == call.id
        && approval.message_id == context.message_id
        && approval.session_id == context.session_id
        && approval.agent == who.agent
        && approval.channel == who.channel
        && approval.user_id == who.user_id
}

/// What the model is told where the answer was no.
fn declined(state: ApprovalState) -> Option<&'static str> {
    match state {
        ApprovalState::Denied => Some("a person was asked and refused this call; don't try it again"),
        ApprovalState::Expired => Some("a person was asked and did not answer in time, which is a no"),
        ApprovalState::Cancelled => Some("the question whether this call may run was withdrawn"),
        ApprovalState::Pending | ApprovalState::Allowed => None,
    }
}

/// Runs a call that may run.
fn run(tool: &dyn Tool, call: &ToolCall, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<Invoked> {
    let begun = context.clock.mono();
    let own = Context { key: context.key.clone(), deadline: context.deadline.min(begun + tool.wait()), ..*context };
    let outcome = catch_unwind(AssertUnwindSafe(|| tool.run(arguments, &own)));
    let took = context.clock.mono().saturating_sub(begun);
    let (outcome, is_error, content) = match outcome {
        Ok(Ok(text)) if text.trim().is_empty() => ("done", false, "Done.".to_string()),
        Ok(Ok(text)) => ("done", false, capped(text)),
        Ok(Err(e)) if e.kind == ErrorKind::Stopped => {
            trace(call, context, "tool.called", "stopped", took);
            return Err(e);
        }
        Ok(Err(e)) => ("failed", true, shorten(&e.to_string(), ERROR_BYTES_MAX)),
        Err(_) => {
            log::error!(tool = call.name.as_str(), message = context.message_id; "a tool call ended by a panic");
            ("panicked", true, "the tool failed by a fault in the gateway; whether it did anything is unknown".to_string())
        }
    };
    trace(call, context, "tool.called", outcome, took);
    Ok(Invoked::Done(CallResult { call_id: call.id.clone(), is_error, content }))
}

/// At most [`OUTPUT_BYTES_MAX`] of an output, with a word on what is missing.
fn capped(mut text: String) -> String {
    if text.len() > OUTPUT_BYTES_MAX {
        let room = OUTPUT_BYTES_MAX - 64;
        let end = (0..=room).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let cut = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("\n[cut here: {cut} bytes more]"));
    }
    text
}

fn refused(call: &ToolCall, context: &Context<'_>, text: &str) -> Invoked {
    trace(call, context, "tool.refused", text, Duration::ZERO);
    let content = shorten(text, ERROR_BYTES_MAX);
    Invoked::Done(CallResult { call_id: call.id.clone(), is_error: true, content })
}

/// Leaves a trace in the audit.
fn trace(call: &ToolCall, context: &Context<'_>, action: &str, outcome: &str, took: Duration) {
    let who = context.who;
    let detail = json!({
        "tool": shorten(&call.name, 256),
        "agent": who.agent,
        "channel": who.channel,
        "userId": who.user_id,
        "messageId": context.message_id,
        "callId": shorten(&call.id, 256),
        "arguments": shorten(&call.arguments, AUDIT_BYTES_MAX),
        "outcome": shorten(outcome, AUDIT_BYTES_MAX),
        "tookMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    let (at_ms, actor) = (context.clock.unix_ms(), who.user_id.clone());
    context.store.audit(AuditEntry { at_ms, actor, action: action.to_string(), detail });
}
