//! Which calls may run: the configuration's rules, and those that operators' `always` made.
//!
//! Invariant: the first rule that fits decides, else `default`. Where a part of [`Who`] is not known (an empty agent, channel or
//! user; an unverified sender for a rule on roles), a rule on it is taken to fit and not to fit, and the stricter outcome counts:
//! to know less of somebody never gives them more, but where a rule names the role `unverified` itself. A sender that nobody
//! vouches for gets the safe tools alone, whatever the rules say, and what an operator allowed for good is not for such a sender.
//! Pure; it cannot fail.

use serde_json::{Map, Value};

use super::question::canonical;
use super::{About, Who, pattern};
use crate::config::{self, Action, ToolRule};
use crate::domain::{LearnedRule, Standing};

/// The rules of one configuration.
pub struct Policy {
    default: Action,
    rules: Vec<ToolRule>,
}

/// What the rules say of a call.
#[derive(Clone, Copy, Debug)]
pub struct Ruling<'a> {
    /// What becomes of it.
    pub action: Action,
    /// The rule that decided; `None` where `default` did.
    pub rule: Option<&'a ToolRule>,
}

/// Whether a rule fits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    No,
    /// What it asks for is not known.
    Maybe,
    Yes,
}

impl Policy {
    /// The policy of a configuration.
    pub fn new(tools: &config::Tools) -> Self {
        Policy { default: tools.default, rules: tools.rules.clone() }
    }

    /// What the rules say of a call. The arguments fit the tool's schema.
    pub fn ruling(&self, about: &About, who: &Who, arguments: &Map<String, Value>) -> Ruling<'_> {
        if who.standing == Standing::Unverified && !about.safe {
            return Ruling { action: Action::Deny, rule: None };
        }
        let mut strictest = Action::Allow;
        for rule in &self.rules {
            match fits(rule, &about.spec.name, who) {
                fit if fit == Fit::No || !arguments_fit(rule, arguments) => {}
                Fit::Yes => return Ruling { action: stricter(strictest, rule.action), rule: Some(rule) },
                _ => strictest = stricter(strictest, rule.action),
            }
        }
        Ruling { action: stricter(strictest, self.default), rule: None }
    }

    /// Whether no call of the tool can run, whatever its arguments are.
    pub fn never(&self, about: &About, who: &Who) -> bool {
        if who.standing == Standing::Unverified && !about.safe {
            return true;
        }
        for rule in &self.rules {
            match fits(rule, &about.spec.name, who) {
                Fit::No => {}
                Fit::Yes if rule.arguments.is_empty() => return rule.action == Action::Deny,
                _ if rule.action != Action::Deny => return false,
                _ => {}
            }
        }
        self.default == Action::Deny
    }

    /// What becomes of the tool's calls for a known user of any channel, arguments aside, and the rules that name it.
    pub fn plainly(&self, about: &About) -> (Action, Vec<String>) {
        let naming = |(_, rule): &(usize, &ToolRule)| pattern::fits(&rule.tool, &about.spec.name);
        let everybody = |field: &Option<String>| field.as_deref().is_none_or(|p| p == "*");
        let plain = |rule: &ToolRule| {
            everybody(&rule.agent)
                && everybody(&rule.channel)
                && everybody(&rule.user)
                && rule.role.is_none_or(|role| role == Standing::User)
                && rule.arguments.is_empty()
        };
        let rules = || self.rules.iter().enumerate().filter(naming);
        let action = rules().find(|(_, rule)| plain(rule)).map_or(self.default, |(_, rule)| rule.action);
        (action, rules().map(|(i, rule)| format!("$.tools.rules[{i}]: {}", told(rule))).collect())
    }
}

/// Whether an operator allowed exactly this call for good.
pub fn is_learned(learned: &[LearnedRule], tool: &str, who: &Who, digest: &str) -> bool {
    let known = who.standing != Standing::Unverified && ![&who.agent, &who.channel, &who.user_id].iter().any(|f| f.is_empty());
    let same = |rule: &LearnedRule| {
        rule.tool == tool
            && rule.agent == who.agent
            && rule.channel == who.channel
            && rule.user_id == who.user_id
            && rule.digest == digest
    };
    known && learned.iter().any(same)
}

/// The stricter of two.
fn stricter(a: Action, b: Action) -> Action {
    match (a, b) {
        (Action::Deny, _) | (_, Action::Deny) => Action::Deny,
        (Action::Ask, _) | (_, Action::Ask) => Action::Ask,
        _ => Action::Allow,
    }
}

/// Whether a rule fits, arguments aside.
fn fits(rule: &ToolRule, tool: &str, who: &Who) -> Fit {
    let field = |pattern: &Option<String>, value: &str| match pattern {
        None => Fit::Yes,
        Some(_) if value.is_empty() => Fit::Maybe,
        Some(pattern) if pattern::fits(pattern, value) => Fit::Yes,
        Some(_) => Fit::No,
    };
    let role = match rule.role {
        None => Fit::Yes,
        Some(role) if role == who.standing => Fit::Yes,
        Some(_) if who.standing == Standing::Unverified => Fit::Maybe,
        Some(_) => Fit::No,
    };
    let tool = if pattern::fits(&rule.tool, tool) { Fit::Yes } else { Fit::No };
    tool.min(field(&rule.agent, &who.agent))
        .min(field(&rule.channel, &who.channel))
        .min(field(&rule.user, &who.user_id))
        .min(role)
}

/// Each pattern on an argument that is there. A text is matched as it is, anything else as JSON without spaces, keys in order.
fn arguments_fit(rule: &ToolRule, arguments: &Map<String, Value>) -> bool {
    rule.arguments.iter().all(|(name, wanted)| match arguments.get(name) {
        None => false,
        Some(Value::String(text)) => pattern::fits(wanted, text),
        Some(other) => pattern::fits(wanted, &canonical(other)),
    })
}

/// A rule in words: `ask where channel is door and arguments.url is http://*`.
fn told(rule: &ToolRule) -> String {
    let action = match rule.action {
        Action::Allow => "allow",
        Action::Ask => "ask",
        Action::Deny => "deny",
    };
    let fields = [("agent", &rule.agent), ("channel", &rule.channel), ("user", &rule.user)];
    let mut parts: Vec<_> = fields.iter().filter_map(|(n, p)| Some(format!("{n} is {}", p.as_deref()?))).collect();
    parts.extend(rule.role.map(|role| format!("role is {}", role.as_str())));
    parts.extend(rule.arguments.iter().map(|(name, pattern)| format!("arguments.{name} is {pattern}")));
    if parts.is_empty() {
        format!("{action} {}", rule.tool)
    } else {
        format!("{action} {} where {}", rule.tool, parts.join(" and "))
    }
}
