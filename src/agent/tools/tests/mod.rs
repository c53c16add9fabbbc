//! Tests of the toolbox through its door, with a store, a courier and tools of the tests' own.

mod built_in;
mod door;
mod injections;
mod jobs;
mod offers;
mod policy;
mod store;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::*;
use crate::base::error::{Error, ErrorKind};
use crate::config::{Action, ToolRule, Tools};
use crate::domain::{ApprovalState, LearnedRule, ToolCall};
use store::FakeStore;

pub(super) const NOW_MS: i64 = 1_790_000_000_000;

type Does = dyn Fn(&Context<'_>) -> Result<String> + Send + Sync;

/// A tool that notes its runs and does what it is told to.
pub(super) struct Stub {
    about: About,
    pub(super) runs: Mutex<Vec<String>>,
    does: Box<Does>,
    pub(super) binding: Mutex<String>,
    wait: Duration,
}

impl Stub {
    pub(super) fn of(name: &str) -> Self {
        let about = About { dangerous: true, ..About::new(name, "A stub.", json!({"type": "object"})) };
        Stub { about, runs: Mutex::default(), does: Box::new(|_| Ok("done".into())), binding: Mutex::default(), wait: CALL_WAIT }
    }

    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self::of(name))
    }

    pub(super) fn doing(name: &str, does: impl Fn(&Context<'_>) -> Result<String> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Stub { does: Box::new(does), ..Self::of(name) })
    }

    pub(super) fn safe(name: &str) -> Arc<Self> {
        let mut stub = Self::of(name);
        stub.about.safe = true;
        Arc::new(stub)
    }

    pub(super) fn with_schema(name: &str, schema: Value) -> Arc<Self> {
        Arc::new(Stub { about: About::new(name, "A stub.", schema), ..Self::of(name) })
    }

    pub(super) fn ran(&self) -> usize {
        self.runs.lock().unwrap().len()
    }
}

impl Tool for Stub {
    fn about(&self) -> &About {
        &self.about
    }

    fn binding(&self, _: &Map<String, Value>) -> Result<String> {
        match self.binding.lock().unwrap().as_str() {
            "panic" => panic!("as it was told"),
            "none" => Err(Error::new(ErrorKind::Invalid, "there is no such program")),
            binding => Ok(binding.to_string()),
        }
    }

    fn wait(&self) -> Duration {
        self.wait
    }

    fn run(&self, arguments: &Map<String, Value>, context: &Context<'_>) -> Result<String> {
        self.runs.lock().unwrap().push(Value::Object(arguments.clone()).to_string());
        (self.does)(context)
    }
}

/// What was sent: user, channel, text, key.
pub(super) type Sent = (String, Option<String>, String, String);

/// A courier that keeps it.
#[derive(Default)]
pub(super) struct Post(pub(super) Mutex<Vec<Sent>>);

impl Courier for Post {
    fn send(&self, user_id: &str, channel: Option<&str>, text: &str, key: &str) -> Result<String> {
        if user_id == "nobody" {
            return Err(Error::new(ErrorKind::Invalid, "nobody was never seen"));
        }
        self.0.lock().unwrap().push((user_id.into(), channel.map(str::to_string), text.into(), key.into()));
        Ok("dlv_1".into())
    }
}

/// What calls run in.
pub(super) struct Desk {
    pub(super) who: Who,
    pub(super) store: FakeStore,
    pub(super) post: Post,
    pub(super) clock: Clock,
    pub(super) cancel: Cancel,
    /// How often a call was about to run.
    pub(super) begun: usize,
}

pub(super) fn who(standing: Standing) -> Who {
    Who { agent: "main".into(), channel: "door".into(), user_id: "ana".into(), standing }
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::of(Standing::User)
    }

    pub(super) fn of(standing: Standing) -> Self {
        let clock = Clock::manual(NOW_MS);
        let store = FakeStore::default();
        Desk { who: who(standing), store, post: Post::default(), clock, cancel: Cancel::new(), begun: 0 }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            who: &self.who,
            session_id: "ses_1",
            message_id: "msg_01m5yh0000zzzzzzzzzzzzzzzz",
            key: "msg_1/call_1".into(),
            deadline: Duration::from_secs(300),
            cancel: &self.cancel,
            clock: &self.clock,
            store: &self.store,
            courier: &self.post,
        }
    }

    pub(super) fn try_call(
        &mut self,
        toolbox: &Toolbox,
        call: &ToolCall,
        learned: &[LearnedRule],
        permit: Permit<'_>,
    ) -> Result<Invoked> {
        let mut begun = 0;
        let outcome = toolbox.invoke(call, None, &self.context(), learned, permit, &mut |_| {
            begun += 1;
            Ok(())
        });
        self.begun += begun;
        outcome
    }

    /// A call's outcome: `+` and its output, `-` and its error, `?` and the question.
    pub(super) fn call(&mut self, toolbox: &Toolbox, name: &str, arguments: &str) -> String {
        match self.try_call(toolbox, &call(name, arguments), &[], None) {
            Ok(Invoked::Done(result)) => format!("{}{}", if result.is_error { '-' } else { '+' }, result.content),
            Ok(Invoked::Ask(question)) => format!("?{}", question.text),
            Err(e) => format!("!{e}"),
        }
    }
}

pub(super) fn call(name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: "call_1".into(), name: name.into(), arguments: arguments.into() }
}

/// A rule from its text: `allow time.*`, `deny x user=a* role=user arguments.url=http*`.
pub(super) fn rule(text: &str) -> ToolRule {
    let mut words = text.split(' ');
    let action = match words.next() {
        Some("allow") => Action::Allow,
        Some("ask") => Action::Ask,
        Some("deny") => Action::Deny,
        other => panic!("{other:?}"),
    };
    let tool = words.next().unwrap().to_string();
    let mut rule = ToolRule { tool, action, agent: None, channel: None, user: None, role: None, arguments: Vec::new() };
    for word in words {
        let (name, pattern) = word.split_once('=').unwrap();
        match name {
            "agent" => rule.agent = Some(pattern.into()),
            "channel" => rule.channel = Some(pattern.into()),
            "user" => rule.user = Some(pattern.into()),
            "role" => rule.role = Some(Standing::ALL.into_iter().find(|s| s.as_str() == pattern).unwrap()),
            name => rule.arguments.push((name.strip_prefix("arguments.").unwrap().into(), pattern.into())),
        }
    }
    rule
}

pub(super) fn tools(default: Action, rules: &[&str]) -> Tools {
    let rules = rules.iter().map(|text| rule(text)).collect();
    Tools { default, rules, mcp: Default::default(), shell: Default::default(), shell_dir: "/nowhere".into() }
}

/// The rules of a configuration that says nothing of tools.
pub(super) const USUAL: [&str; 4] = ["allow time.*", "allow memory.*", "allow session.*", "allow system.status"];

pub(super) fn toolbox(default: Action, rules: &[&str], with: &[Arc<Stub>]) -> Toolbox {
    let mut all = built_in();
    all.extend(with.iter().map(|stub| stub.clone() as Arc<dyn Tool>));
    Toolbox::new(Policy::new(&tools(default, rules)), all)
}

/// An approval as the flow makes one of a question.
pub(super) fn approval(desk: &Desk, tool: &str, question: &Question, state: ApprovalState) -> Approval {
    Approval {
        id: "apr_1".into(),
        state,
        tool: tool.into(),
        arguments: question.arguments.clone(),
        question: question.text.clone(),
        digest: question.digest.clone(),
        call_id: "call_1".into(),
        message_id: desk.context().message_id.into(),
        session_id: "ses_1".into(),
        agent: desk.who.agent.clone(),
        channel: desk.who.channel.clone(),
        user_id: desk.who.user_id.clone(),
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 600_000,
        decided_by: None,
        decided_ms: None,
    }
}
